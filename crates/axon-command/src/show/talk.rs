//! A run told to a person.

use std::collections::BTreeSet;
use std::io;

use axon_kernel::event::{
    AttemptBegun, Completed, Decided, RunEvent, Started, ToolOutcome, ToolReturned,
};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::Attempt;
use axon_kernel::json::{RawJson, excerpt};
use axon_kernel::policy::Decision;
use axon_kernel::spec::Kind;
use axon_runtime::RunUpdate;
use clap::builder::styling::Style;
use serde::Deserialize;
use serde_json::Value;

use super::readable;
use crate::terminal::{self, CYAN, DIM, GREEN, RED, YELLOW, printable, styled};

/// How much of a tool's arguments and result is shown, in bytes.
const SHOWN_BYTES: usize = 400;

/// How much of a growing output is shown, in characters.
const SHOWN_TAIL: usize = 100;

/// A wait for a place that is worth a word, in milliseconds.
const LONG_WAIT_MS: u64 = 1000;

/// How much of a question is shown, in bytes.
const SHOWN_QUESTION: usize = 100;

/// Tells a person what a run does.
#[derive(Debug)]
pub(crate) struct Talk {
    /// Whether a line on stderr can be written over.
    can_redraw: bool,
    /// Whether the line that can be written over is there.
    is_live: bool,
    /// The text that was shown since anything else was.
    streamed: String,
    /// The failure of the last attempt, told only if the run goes on after it.
    failure: Option<String>,
    /// The routers and pipelines whose runs are seen, by their path below the run's own agent.
    flows: BTreeSet<String>,
}

/// What an event looks like.
#[derive(Debug, PartialEq)]
enum Look {
    Nothing,
    /// A piece of the answer.
    Text(String),
    /// A piece of the model's thinking.
    Thinking(String),
    /// What the next such line takes the place of.
    Live(String),
    Line(Style, String),
}

/// What a run used; names as pydantic-ai writes them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Usage {
    requests: u64,
    input_tokens: u64,
    output_tokens: u64,
}

impl Talk {
    pub(crate) fn new() -> Self {
        Self {
            can_redraw: terminal::can_redraw(),
            is_live: false,
            streamed: String::new(),
            failure: None,
            flows: BTreeSet::new(),
        }
    }

    pub(crate) fn update(&mut self, update: &RunUpdate) {
        match update {
            RunUpdate::Event(event) => {
                self.remember(&event.event);
                self.look(self.seen(&event.event, event.attempt));
            }
            RunUpdate::Lagged { text, .. } => {
                self.end();
                self.look(Look::Text(text.clone()));
            }
        }
    }

    /// Says what answers the run itself.
    pub(crate) fn of(&mut self, kind: Kind) {
        match kind {
            Kind::Agent => self.flows.remove(""),
            Kind::Router | Kind::Pipeline => self.flows.insert(String::new()),
        };
    }

    /// Returns what an event looks like: of whom it is, and what was asked of whom.
    fn seen(&self, event: &RunEvent, attempt: Attempt) -> Look {
        let (path, inner) = happened(event);
        let by_step = self.flows.contains(path).then(|| step_look(inner)).flatten();
        let look = by_step.unwrap_or_else(|| look(inner, attempt));
        if path.is_empty() { look } else { below(path, look) }
    }

    /// Keeps a failure back until it is known whether the run ends with it, which then says it.
    fn remember(&mut self, event: &RunEvent) {
        let (path, inner) = happened(event);
        if let RunEvent::Accepted(accepted) = inner
            && accepted.terms.kind != Kind::Agent
        {
            self.flows.insert(path.to_owned());
        }
        if let RunEvent::AttemptFailed(failed) = event {
            let failure = failed.failure.to_string();
            self.failure = failure.lines().next().map(|first| excerpt(first, SHOWN_BYTES));
        }
        if let RunEvent::Decided(Decided { decision: Decision::Retry { .. }, .. }) = event
            && let Some(failure) = self.failure.take()
        {
            self.look(Look::Line(RED, format!("! {failure}")));
        }
    }

    fn look(&mut self, look: Look) {
        match look {
            Look::Nothing => {}
            Look::Live(text) if self.can_redraw => {
                terminal::say_over(&styled(DIM, &printable(&text)));
                self.is_live = true;
            }
            Look::Live(_) => {}
            Look::Text(text) => {
                self.wipe();
                self.streamed.push_str(&text);
                terminal::say_part(&printable(&text));
            }
            Look::Thinking(text) => {
                self.wipe();
                terminal::say_part(&styled(DIM, &printable(&text)));
            }
            Look::Line(style, text) => {
                self.end();
                terminal::say(&styled(style, &printable(&text)));
            }
        }
    }

    fn wipe(&mut self) {
        if std::mem::take(&mut self.is_live) {
            terminal::wipe();
        }
    }

    /// Ends what is open.
    pub(crate) fn end(&mut self) {
        self.wipe();
        terminal::close_line();
        self.streamed.clear();
    }

    /// Shows the answer on stdout, and what it took on stderr.
    pub(crate) fn completed(&mut self, completed: &Completed) -> io::Result<()> {
        let text = readable(&completed.output);
        let was_seen = terminal::is_one_screen() && self.streamed.trim() == text.trim();
        self.end();
        if !was_seen {
            terminal::answer(&text)?;
        }
        let style = if completed.offline { YELLOW } else { DIM };
        terminal::say(&styled(style, &printable(&summary(completed))));
        Ok(())
    }
}

/// Returns what happened, and to whom: the path below the run's own agent, if it was not that one.
fn happened(event: &RunEvent) -> (&str, &RunEvent) {
    if let RunEvent::Delegated(delegated) = event {
        return (delegated.path.as_str(), &delegated.inner);
    }
    ("", event)
}

fn look(event: &RunEvent, attempt: Attempt) -> Look {
    match event {
        RunEvent::TextDelta(delta) => Look::Text(delta.text.clone()),
        RunEvent::ThinkingDelta(delta) => Look::Thinking(delta.text.clone()),
        RunEvent::PartialOutput(partial) => Look::Live(tail(partial.value.get())),
        RunEvent::ToolCalled(called) => {
            Look::Line(CYAN, format!("→ {} {}", called.name, short(&called.args)))
        }
        RunEvent::ToolReturned(returned) => returned_look(returned),
        RunEvent::Started(Started { queued_ms }) if *queued_ms >= LONG_WAIT_MS => {
            Look::Line(DIM, format!("waited {} for its turn", seconds(*queued_ms)))
        }
        RunEvent::AttemptStarted(AttemptBegun { model, .. }) if attempt.0 > 1 => {
            Look::Line(DIM, format!("attempt {attempt}, with {model}"))
        }
        RunEvent::Decided(Decided {
            decision: Decision::Retry { .. } | Decision::Fallback { .. },
            reason,
        }) => {
            Look::Line(YELLOW, format!("  {reason}"))
        }
        RunEvent::Retracted(_) => {
            Look::Line(YELLOW, "  forget what that attempt said: it does not count".to_owned())
        }
        RunEvent::HandedOff(handed) => {
            let reason = excerpt(&handed.reason, SHOWN_BYTES);
            Look::Line(CYAN, format!("⇒ {} goes on: {reason}", handed.to))
        }
        RunEvent::Steered(_) => Look::Line(DIM, "the run was told something more".to_owned()),
        RunEvent::Resumed(_) => Look::Line(DIM, "the run goes on".to_owned()),
        RunEvent::Recovered(_) => Look::Line(DIM, "the run is taken over here".to_owned()),
        RunEvent::ToolProgress(progress) => {
            Look::Live(format!("  {} {}", progress.name, short(&progress.data)))
        }
        RunEvent::Accepted(_)
        | RunEvent::Started(_)
        | RunEvent::StateChanged(_)
        | RunEvent::AttemptStarted(_)
        | RunEvent::AttemptFailed(_)
        | RunEvent::Decided(_)
        | RunEvent::Checkpoint(_)
        | RunEvent::Model(_)
        // The log shows it.
        | RunEvent::Log(_)
        // Whoever decided knows it.
        | RunEvent::Resolved(_)
        // How it ended is told at the end.
        | RunEvent::Paused(_)
        | RunEvent::Completed(_)
        | RunEvent::Failed(_)
        | RunEvent::Cancelled(_)
        | RunEvent::Rejected(_)
        // It is looked at with its path.
        | RunEvent::Delegated(_) => Look::Nothing,
    }
}

/// Shows what a router or a pipeline does: which of its steps asks whom, and that it is done.
fn step_look(event: &RunEvent) -> Option<Look> {
    if let RunEvent::ToolCalled(called) = event {
        let Asked { prompt } = called.args.decode().ok()?;
        let prompt = excerpt(&first_line(&prompt), SHOWN_QUESTION);
        let text = format!("→ {} asks {}: {prompt}", called.tool_call_id, called.name);
        return Some(Look::Line(CYAN, text));
    }
    let RunEvent::ToolReturned(returned) = event else { return None };
    let ToolReturned { tool_call_id: step, name, outcome, result } = returned;
    Some(match outcome {
        ToolOutcome::Ok => Look::Line(GREEN, format!("← {step} {name} is done")),
        ToolOutcome::Failed | ToolOutcome::Retry => {
            let failure: Option<Failure> = result.decode().ok();
            if failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Cancelled) {
                return Some(Look::Line(DIM, format!("← {step} {name} was called off")));
            }
            let why = failure.map_or_else(|| short(result), |failure| failure.to_string());
            Look::Line(RED, format!("← {step} {name} failed: {}", excerpt(&why, SHOWN_BYTES)))
        }
        ToolOutcome::Deferred => Look::Line(YELLOW, format!("← {step} {name} waits for a person")),
    })
}

/// What one is asked by a router or a pipeline.
#[derive(Deserialize)]
struct Asked {
    prompt: Value,
}

fn first_line(prompt: &Value) -> String {
    let text = prompt.as_str().map_or_else(|| prompt.to_string(), str::to_owned);
    text.lines().next().unwrap_or_default().to_owned()
}

/// Shows what another agent does on the run's behalf, as far as that is a line.
fn below(path: &str, inner: Look) -> Look {
    // The run's own agent is known.
    let agent = path.split_once('/').map_or(path, |(_, below)| below);
    match inner {
        Look::Line(style, text) => Look::Line(style, format!("  [{agent}] {text}")),
        Look::Live(text) => Look::Live(format!("  [{agent}] {text}")),
        // Its text is no part of this run's answer.
        Look::Nothing | Look::Text(_) | Look::Thinking(_) => Look::Nothing,
    }
}

fn returned_look(returned: &ToolReturned) -> Look {
    let (name, result) = (&returned.name, short(&returned.result));
    match returned.outcome {
        ToolOutcome::Ok => Look::Line(GREEN, format!("← {name} {result}")),
        ToolOutcome::Retry => {
            Look::Line(YELLOW, format!("← {name} asks to be called again: {result}"))
        }
        ToolOutcome::Failed => Look::Line(RED, format!("← {name} failed: {result}")),
        ToolOutcome::Deferred => Look::Line(YELLOW, format!("← {name} waits for a decision")),
    }
}

/// Returns arguments or a result on one line. Arguments may come as the text of their JSON.
fn short(json: &RawJson) -> String {
    let text = match json.decode() {
        Ok(Value::String(inner)) if RawJson::parse(&inner).is_ok() => inner,
        _ => json.to_string(),
    };
    excerpt(&text, SHOWN_BYTES)
}

/// Returns the end of a text that grows.
fn tail(text: &str) -> String {
    match text.chars().count().checked_sub(SHOWN_TAIL) {
        Some(more @ 1..) => format!("…{}", text.chars().skip(more).collect::<String>()),
        Some(0) | None => text.to_owned(),
    }
}

fn summary(completed: &Completed) -> String {
    let mut parts = vec![completed.model.clone()];
    if completed.offline {
        parts.push("offline model: this is no real advice".to_owned());
    }
    parts.push(usage(&completed.usage));
    if completed.attempts > 1 {
        parts.push(format!("{} attempts", completed.attempts));
    }
    parts.push(seconds(completed.duration_ms));
    parts.join(" · ")
}

/// Returns what a run used, in words.
pub(crate) fn usage(usage: &RawJson) -> String {
    let usage: Usage = usage.decode().unwrap_or_default();
    let (input, output, requests) = (usage.input_tokens, usage.output_tokens, usage.requests);
    let s = if requests == 1 { "" } else { "s" };
    format!("{input} + {output} tokens · {requests} request{s}")
}

fn seconds(millis: u64) -> String {
    format!("{}.{:02} s", millis / 1000, millis % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use axon_kernel::event::{Retracted, TextDelta, ToolCalled};
    use axon_kernel::ids::ToolCallId;
    use axon_kernel::spec::Effect;

    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text).unwrap()
    }

    #[test]
    fn tool_calls_show_their_arguments_and_results() {
        let called = RunEvent::ToolCalled(ToolCalled {
            tool_call_id: ToolCallId::new("c"),
            name: "balance".to_owned(),
            args: raw(r#""{\"a\":1}""#),
            effect: Effect::Pure,
            step: 0,
        });
        assert_eq!(look(&called, Attempt(1)), Look::Line(CYAN, r#"→ balance {"a":1}"#.to_owned()));
        let returned = RunEvent::ToolReturned(ToolReturned {
            tool_call_id: ToolCallId::new("c"),
            name: "balance".to_owned(),
            outcome: ToolOutcome::Ok,
            result: raw(r#""$123.45""#),
        });
        assert_eq!(
            look(&returned, Attempt(1)),
            Look::Line(GREEN, r#"← balance "$123.45""#.to_owned())
        );
    }

    #[test]
    fn a_retraction_is_said() {
        let Look::Line(_, text) = look(&RunEvent::Retracted(Retracted {}), Attempt(1)) else {
            panic!("it must be a line");
        };
        assert!(text.contains("does not count"));
        let delta = RunEvent::TextDelta(TextDelta { text: "hi".to_owned() });
        assert_eq!(look(&delta, Attempt(1)), Look::Text("hi".to_owned()));
    }

    #[test]
    fn the_summary_names_the_offline_model() {
        let completed = Completed {
            output: raw("1"),
            usage: raw(r#"{"requests":2,"input_tokens":50,"output_tokens":7}"#),
            model: "offline".to_owned(),
            offline: true,
            attempts: 1,
            duration_ms: 1234,
        };
        assert_eq!(
            summary(&completed),
            "offline · offline model: this is no real advice · 50 + 7 tokens · 2 requests · 1.23 s"
        );
    }

    #[test]
    fn a_growing_text_shows_its_end() {
        assert_eq!(tail("ab"), "ab");
        let long = tail(&"x".repeat(SHOWN_TAIL + 5));
        assert_eq!(long.chars().count(), SHOWN_TAIL + 1);
    }
}
