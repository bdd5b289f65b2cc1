//! What is seen of a run while it lasts, and of its answer.

mod talk;

use std::io::{self, Write};

use axon_kernel::event::{Completed, Sequenced};
use axon_kernel::ids::{Attempt, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::spec::Kind;
use axon_runtime::RunUpdate;
use serde::Serialize;
use serde_json::Value;

use crate::report::Report;
use crate::runs::now;
use crate::terminal;
use talk::Talk;

pub(crate) use talk::usage;

/// How a run is shown.
#[derive(Debug)]
pub(crate) enum Show {
    /// To a person: talk on stderr, the answer on stdout.
    Talk(Talk),
    /// To a program: every event as a line of JSON on stdout.
    Lines(Lines),
}

/// Events as lines of JSON.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Whether a run was accepted, whose own terminal event ends the lines.
    begun: bool,
}

/// A line that is no event of the run's own: some are gone.
#[derive(Serialize)]
struct Lagged<'a> {
    event: &'static str,
    missed: u64,
    text: &'a str,
}

impl Show {
    pub(crate) fn talk() -> Self {
        Self::Talk(Talk::new())
    }

    /// Says what answers the run that is shown, where its first event, which says it, is not shown.
    pub(crate) fn of(&mut self, kind: Kind) {
        if let Self::Talk(talk) = self {
            talk.of(kind);
        }
    }

    pub(crate) fn lines() -> Self {
        Self::Lines(Lines::default())
    }

    /// Shows what happened.
    pub(crate) fn update(&mut self, update: &RunUpdate) -> io::Result<()> {
        match self {
            Self::Talk(talk) => {
                talk.update(update);
                Ok(())
            }
            Self::Lines(lines) => lines.update(update),
        }
    }

    /// Shows the answer.
    pub(crate) fn completed(&mut self, completed: &Completed) -> io::Result<()> {
        match self {
            Self::Talk(talk) => talk.completed(completed),
            // Its event was the last line.
            Self::Lines(_) => Ok(()),
        }
    }

    /// Ends what is open, before something else is told.
    pub(crate) fn end(&mut self) {
        if let Self::Talk(talk) = self {
            talk.end();
        }
    }

    /// Ends what is open, before an error is told; programs are told that no run came of it.
    pub(crate) fn failed(&mut self, report: &Report) {
        match self {
            Self::Talk(talk) => talk.end(),
            Self::Lines(lines) => lines.failed(report),
        }
    }
}

impl Lines {
    fn update(&mut self, update: &RunUpdate) -> io::Result<()> {
        self.begun = true;
        match update {
            RunUpdate::Event(event) => line(event.as_ref()),
            RunUpdate::Lagged { missed, text } => {
                line(&Lagged { event: "lagged", missed: *missed, text })
            }
        }
    }

    /// Tells of a request that never became a run, so that there is always a terminal event.
    fn failed(&mut self, report: &Report) {
        if !self.begun {
            self.begun = true;
            let event = Sequenced {
                run_id: RunId::new(""),
                seq: 1,
                attempt: Attempt(0),
                at: now(),
                event: report.to_event(),
            };
            // If nobody reads it, the exit code still says it.
            let _unread = line(&event);
        }
    }
}

/// Writes a value to stdout as a line of JSON.
pub(crate) fn line<T: Serialize>(value: &T) -> io::Result<()> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&text)?;
    stdout.flush()
}

/// Returns an answer as a person reads it: text as it is, everything else as indented JSON.
pub(crate) fn readable(json: &RawJson) -> String {
    let Ok(value) = json.decode::<Value>() else { return json.to_string() };
    if let Value::String(text) = value {
        return text;
    }
    // Numbers that no float holds would come out changed.
    let is_exact = serde_json::to_string(&value).is_ok_and(|again| again == json.get());
    if is_exact { format!("{value:#}") } else { json.to_string() }
}

/// Writes an answer to stdout.
pub(crate) fn answer(json: &RawJson) -> io::Result<()> {
    terminal::answer(&readable(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_text_and_json_indented_but_never_changed() {
        let shown = |text: &str| readable(&RawJson::parse(text).unwrap());
        assert_eq!(shown(r#""a\nb""#), "a\nb");
        assert_eq!(shown(r#"{"b":1,"a":0.5}"#), "{\n  \"b\": 1,\n  \"a\": 0.5\n}");
        let big = r#"{"n":123456789012345678901234567890}"#;
        assert_eq!(shown(big), big);
    }
}
