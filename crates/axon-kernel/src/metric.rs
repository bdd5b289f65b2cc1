//! What is measured: the one table of all metrics, with their kinds, labels, help and buckets.
//!
//! The invariant: no label carries a run, a user, or a text that a caller or a model has made up, but
//! for the first few models that callers have named. So the number of series is bounded by what is
//! defined: agents, their tools, their models.

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Its name, as Prometheus shows it.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// What it is measured in.
    pub unit: MetricUnit,
    /// The labels of its series.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    /// A count that only grows.
    Counter,
    /// A sum that only grows and is no whole number, such as money. The `metrics` facade counts in
    /// whole numbers, so it carries such a sum as a gauge; to Prometheus it is a counter.
    Sum,
    /// A state, which goes up and down.
    Gauge,
    /// How values are spread, by these upper bounds.
    Histogram(&'static [f64]),
}

/// What a metric is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricUnit {
    /// Pieces.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// From a cached answer to a long run.
const RUN_SECONDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// From a function in memory to a job elsewhere.
const TOOL_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// As OpenTelemetry's conventions for generative AI have them.
const MODEL_SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// As OpenTelemetry's conventions for generative AI have them.
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// From a fork of a warm process to a cold start on a busy machine.
const START_SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

macro_rules! metrics {
    ($($id:ident = $name:literal: $kind:expr, $unit:ident, $labels:expr, $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric {
                name: $name,
                kind: $kind,
                unit: MetricUnit::$unit,
                labels: &$labels,
                help: $help,
            };
        )+

        /// Every metric.
        pub const ALL: &[Metric] = &[$($id),+];
    };
}

use MetricKind::{Counter, Gauge, Histogram, Sum};

metrics! {
    RUNS = "axon_runs_total": Counter, Count, ["agent", "outcome"],
        "Runs that ended, by the agent that was asked and how they ended: completed, failed, cancelled, or rejected in the queue.";
    RUN_DURATION = "axon_run_duration_seconds": Histogram(RUN_SECONDS), Seconds, ["agent"],
        "Time from the acceptance of a run to its end; of one that was taken over or waited for a person, since then.";
    RUN_QUEUE = "axon_run_queue_seconds": Histogram(RUN_SECONDS), Seconds, ["agent"],
        "Time that a run waited for its turn and a place, also where that was in vain.";
    RUN_RETRIES = "axon_run_retries_total": Counter, Count, ["agent", "kind"],
        "Attempts of runs that failed and were made again, by the kind of failure.";
    RUN_DECISIONS = "axon_run_decisions_total": Counter, Count, ["agent", "decision"],
        "What was decided about attempts that failed.";
    RUN_ESCALATIONS = "axon_run_escalations_total": Counter, Count, ["agent", "reason"],
        "Failures that cannot heal by themselves and were handed to whoever asked, by their kind.";
    RUN_QUARANTINES = "axon_run_quarantines_total": Counter, Count, ["agent"],
        "Runs that killed their runners and were not tried again.";
    RUNS_IN_FLIGHT = "axon_runs_in_flight": Gauge, Count, ["agent"],
        "Runs that have a place and are under way.";
    QUEUE_DEPTH = "axon_queue_depth": Gauge, Count, ["agent"],
        "Runs that were let in and wait for their turn or a place.";
    REJECTED = "axon_rejected_total": Counter, Count, ["agent", "reason"],
        "Requests that an agent refused before they became runs, by the code that the caller got.";
    APPROVALS_PENDING = "axon_approvals_pending": Gauge, Count, ["agent"],
        "Runs in the store that wait for a person, whichever process they paused in.";
    MODEL_REQUESTS = "axon_model_requests_total": Counter, Count, ["agent", "provider", "model", "kind"],
        "Requests to models, by how they went: ok, or the kind of failure.";
    MODEL_REQUEST_DURATION = "axon_model_request_duration_seconds": Histogram(MODEL_SECONDS), Seconds, ["agent", "provider", "model"],
        "Time from a request to a model to its whole response or its failure.";
    TOKEN_USAGE = "gen_ai_client_token_usage": Histogram(TOKENS), Count, ["agent", "model", "type"],
        "Tokens that a response of a model took, by their type: input or output.";
    COST = "gen_ai_client_cost_usd_total": Sum, Count, ["agent", "model"],
        "What model requests cost in US dollars, as far as their prices are known.";
    TOOL_CALLS = "axon_tool_calls_total": Counter, Count, ["agent", "tool", "host", "outcome"],
        "Calls of tools, by where they are made (rust, python, agent) and how they ended: ok, retry, failed, deferred to a person, or lost with their attempt.";
    TOOL_DURATION = "axon_tool_duration_seconds": Histogram(TOOL_SECONDS), Seconds, ["agent", "tool"],
        "Time that calls of tools took.";
    AGENT_INFO = "axon_agent_info": Gauge, Count, ["agent", "model"],
        "The model that an agent asks: 1.";
    AGENT_STATE = "axon_agent_state": Gauge, Count, ["agent", "state"],
        "1 for the state that an agent is in: starting, up, restarting, parked, drained or down; 0 for the others.";
    AGENT_RESTARTS = "axon_agent_restarts_total": Counter, Count, ["agent", "reason"],
        "Runners that ended or did not start, by the reason: runner_died, out_of_memory, hard_stopped by the deadline of a run, unhealthy and killed, the kind of failure of a start, or replaced on purpose.";
    SUPERVISOR_ESCALATIONS = "axon_supervisor_escalations_total": Counter, Count, ["supervisor", "reason"],
        "Supervisors that had more restarts than they allow, or gave a child up.";
    RUNNER_UP = "axon_runner_up": Gauge, Count, ["agent"],
        "Runners of an agent that are up, its replicas together.";
    RUNNER_START_DURATION = "axon_runner_start_duration_seconds": Histogram(START_SECONDS), Seconds, ["agent"],
        "Time from the launch of a runner until it had built its agent.";
    RUNNER_MEMORY = "axon_runner_resident_memory_bytes": Gauge, Bytes, ["agent"],
        "Memory that the runners of an agent hold together; what they share counts for each.";
    RUNNER_CPU = "axon_runner_cpu_seconds_total": Sum, Seconds, ["agent"],
        "CPU time that the runners of an agent have used together, without the last seconds of those that died.";
    RUNNER_RECYCLED = "axon_runner_recycled_total": Counter, Count, ["agent", "reason"],
        "Runners that were well and were replaced: for their age, requests or memory, or a reload.";
    RUNNER_LEAKS = "axon_runner_leaks_total": Counter, Count, [],
        "Processes that survived their end, or were found left over from an earlier one.";
    RUNNER_STRAYS = "axon_runner_strays_total": Counter, Count, [],
        "Processes that runners had left behind, and that were killed.";
    LAUNCHER_DEATHS = "axon_launcher_deaths_total": Counter, Count, [],
        "Warm processes that runners are forked from, and that ended with their runners.";
    BREAKER_STATE = "axon_breaker_state": Gauge, Count, ["provider", "model"],
        "The breaker of a model: 0 closed, 1 half open, 2 open; of several credentials the worst.";
    ROUTED = "axon_routed_total": Counter, Count, ["router", "target"],
        "Messages that routers have sent on, by whom to.";
    DROPPED_EVENTS = "axon_dropped_events_total": Counter, Count, [],
        "Events that observers were too slow for.";
    DROPPED_LOG_LINES = "axon_dropped_log_lines_total": Counter, Count, ["agent"],
        "Lines that runners wrote too fast, and that were not logged.";
    BUILD_INFO = "axon_build_info": Gauge, Count, ["version"],
        "The version of Axon: 1.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_what_they_are() {
        let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Metric { name, kind, unit, help, .. } in ALL {
            let total = name.ends_with("_total");
            assert_eq!(total, matches!(kind, Counter | Sum), "{name}");
            let seconds = name.trim_end_matches("_total").ends_with("_seconds");
            assert_eq!(seconds, *unit == MetricUnit::Seconds, "{name}");
            assert!(help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn no_label_can_carry_a_run_or_a_user() {
        let allowed = [
            "agent",
            "outcome",
            "kind",
            "decision",
            "reason",
            "provider",
            "model",
            "type",
            "tool",
            "host",
            "state",
            "supervisor",
            "router",
            "target",
            "version",
        ];
        for label in ALL.iter().flat_map(|metric| metric.labels) {
            assert!(allowed.contains(label), "{label}");
        }
    }

    #[test]
    fn buckets_grow() {
        for Metric { name, kind, .. } in ALL {
            if let Histogram(buckets) = kind {
                assert!(buckets.is_sorted_by(|a, b| a < b) && !buckets.is_empty(), "{name}");
            }
        }
    }
}
