//! Observers that never read: nobody waits for them, and what they lose is counted.

use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::spec::{Backoff, PolicyRule};
use axon_runtime::{AgentHandle, Observed, Outcome, RuntimeEvent};
use axon_test::scripted_runner::{Life, Step, When};
use futures_util::future::join_all;

use crate::support::{Project, played_agent};

const RUNS: usize = 10_000;
const AT_ONCE: usize = 64;

/// How many events are kept for one who does not read.
const KEPT: u64 = 1024;

/// How much each run says that nobody reads, in bytes.
const SAID: usize = 8 * 1024;

/// What all runs say together is a multiple of what the process may grow by, in bytes.
const GROWTH: usize = RUNS * SAID / 2;

/// Returns how much memory the process has, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

/// Each third run fails at first, which an observer of the runtime could see.
fn prompts(caller: usize) -> impl Iterator<Item = &'static str> {
    let trips = move |number: usize| (number + caller).is_multiple_of(3);
    (0..RUNS.div_ceil(AT_ONCE)).map(move |number| if trips(number) { "trip" } else { "walk" })
}

/// Runs one after another, of which nobody reads an event.
async fn call(agent: AgentHandle, caller: usize) {
    for prompt in prompts(caller) {
        let run = agent.run(prompt).start().await.unwrap();
        let ended = run.outcome().await;
        assert!(matches!(ended.outcome, Outcome::Completed(_)), "{ended:?}");
    }
}

#[tokio::test]
async fn ten_thousand_runs_complete_although_nobody_reads_their_events() {
    let trip = Failure::new(FailureKind::Busy, "tripped");
    let life = Life::default()
        .on(When::prompt("trip").and_attempt(1), [trip.into()])
        .always([Step::text("x".repeat(SAID)), Step::complete("fine")]);
    let project = Project::new();
    let mut spec = played_agent(&project, "agent", life);
    spec.limits.concurrency = u32::try_from(AT_ONCE).unwrap().try_into().unwrap();
    let millisecond = Duration::from_millis(1);
    let backoff = Some(Backoff { min: millisecond, max: millisecond });
    spec.policy.insert(FailureKind::Busy, PolicyRule { backoff, ..PolicyRule::default() });
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("agent").unwrap();
    let trips = (0..AT_ONCE).flat_map(prompts).filter(|prompt| *prompt == "trip").count() as u64;
    let (mut deaf, mut attentive) = (runtime.events(), runtime.events());
    let attentive = tokio::spawn(async move {
        let mut seen: u64 = 0;
        while let Some(observed) = attentive.next().await {
            let Observed::Event(event) = observed else { panic!("{observed:?}") };
            seen += u64::from(matches!(*event, RuntimeEvent::Decided { .. }));
            if seen == trips {
                break;
            }
        }
    });
    let before = resident();
    join_all((0..AT_ONCE).map(|caller| tokio::spawn(call(agent.clone(), caller)))).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes more");
    attentive.await.unwrap();
    let Some(Observed::Missed(missed)) = deaf.next().await else { panic!("it missed nothing") };
    assert_eq!(missed, trips - KEPT);
    assert!(matches!(deaf.next().await, Some(Observed::Event(_))));
    runtime.shutdown().await;
}
