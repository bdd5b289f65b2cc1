//! What a user reads when something fails: what happened, why, and what to do.

mod failure;
mod pause;
pub(crate) use pause::wanted_there;
mod sources;
mod store;

use std::fmt::Write;

use axon_kernel::event::{Cancelled, Failed, RunEvent};
use axon_kernel::failure::{Failure, FailureKind};
use tracing::Level;

use crate::exit::Exit;
use crate::logging::Record;
use crate::signals::Signal;
use crate::suggestion::here;
use crate::terminal::{self, BOLD, DIM, RED, printable, styled};

/// How many of the last lines of a traceback are shown to who did not ask for all of it.
const LAST_LINES: usize = 4;

/// How the first line of a frame begins.
const FRAME: &str = "  File ";

/// What the frames have in common that lead to user code and are not part of it.
const MACHINERY: [&str; 3] = ["/axon_runner/", "<frozen importlib", "/importlib/__init__.py"];

/// A failure of a command.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The same name for the same failure at every door.
    code: &'static str,
    exit: Exit,
    what: String,
    why: Vec<String>,
    todo: Vec<String>,
    traceback: Option<Traceback>,
    /// The failure behind it, if it came from a run or a runner.
    failure: Option<Box<Failure>>,
    /// The signal that cancelled the command, if one did.
    signal: Option<Signal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Traceback {
    text: String,
    /// Whether it is the message: what is wrong with a module stands nowhere else.
    is_needed: bool,
}

impl Report {
    pub(crate) fn new(code: &'static str, exit: Exit, what: impl Into<String>) -> Self {
        Self {
            code,
            exit,
            what: what.into(),
            why: Vec::new(),
            todo: Vec::new(),
            traceback: None,
            failure: None,
            signal: None,
        }
    }

    /// A signal ended it.
    pub(crate) fn cancelled(signal: Signal) -> Self {
        let code = FailureKind::Cancelled.label();
        let report = Self::new(code, signal.exit(), signal.reason());
        Self { signal: Some(signal), ..report }
    }

    /// What was asked cannot be asked.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new("usage", Exit::USAGE, what)
    }

    /// A definition or a setting is wrong.
    pub(crate) fn config(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Config.label(), Exit::CONFIG, what)
    }

    /// Something failed that has no code of its own.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Internal.label(), Exit::FAILED, what)
    }

    /// Adds a reason.
    pub(crate) fn because(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    /// Says as which failure programs read it.
    pub(crate) fn with_failure(self, failure: Failure) -> Self {
        Self { failure: Some(Box::new(failure)), ..self }
    }

    /// Adds something to do about it.
    pub(crate) fn todo(mut self, todo: impl Into<String>) -> Self {
        self.todo.push(todo.into());
        self
    }

    /// Puts a sentence in front, of which the report so far is the reason.
    pub(crate) fn about(mut self, what: impl Into<String>) -> Self {
        let message = std::mem::replace(&mut self.what, what.into());
        self.why.insert(0, message);
        self
    }

    /// Returns what happened and the first reason, on one line.
    pub(crate) fn in_a_line(&self) -> String {
        let parts: Vec<&str> =
            std::iter::once(&self.what).chain(self.why.first()).map(String::as_str).collect();
        parts.join(": ").replace('\n', " ")
    }

    /// Returns the first thing to do about it.
    pub(crate) fn first_todo(&self) -> Option<&str> {
        self.todo.first().map(String::as_str)
    }

    /// Says that the caller is at fault, and not a definition.
    pub(crate) fn of_caller(self, todo: &str) -> Self {
        Self { exit: Exit::USAGE, todo: vec![todo.to_owned()], ..self }
    }

    /// Adds the errors behind `error` as reasons.
    fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let mut cause = error.source();
        while let Some(error) = cause {
            self.why.push(error.to_string());
            cause = error.source();
        }
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns whether a chat cannot go on after it.
    pub(crate) fn ends_the_process(&self) -> bool {
        self.is_silent() || self.signal == Some(Signal::Terminate)
    }

    /// Returns whether nothing else is to be tried after it: somebody called it off.
    pub(crate) fn ends_all(&self) -> bool {
        self.is_silent() || self.signal.is_some()
    }

    /// Returns whether nothing is to be said: whoever would read it has gone.
    fn is_silent(&self) -> bool {
        self.exit == Exit::CLOSED_PIPE
    }

    /// Returns the event that tells programs of a request that never became a run.
    pub(crate) fn to_event(&self) -> RunEvent {
        match self.signal {
            Some(signal) => RunEvent::Cancelled(Cancelled { reason: signal.reason().to_owned() }),
            None => RunEvent::Rejected(Failed {
                failure: self.to_failure(),
                history: Vec::new(),
                escalated: false,
            }),
        }
    }

    fn to_failure(&self) -> Failure {
        if let Some(failure) = &self.failure {
            return failure.as_ref().clone();
        }
        let kind = match self.exit {
            Exit::USAGE | Exit::CONFIG | Exit::ENVIRONMENT => FailureKind::Config,
            _ => FailureKind::Internal,
        };
        let mut failure = Failure::new(kind, self.what.clone());
        failure.class = self.code.to_owned();
        failure.help = (!self.todo.is_empty()).then(|| self.todo.join("; "));
        failure
    }

    /// Writes it to stderr.
    pub(crate) fn show(&self, verbose: bool) {
        if self.is_silent() {
            return;
        }
        if terminal::speaks_json() {
            return terminal::log(&self.record().json_line());
        }
        terminal::say(self.render(verbose).trim_end());
    }

    /// Returns the report as a record of the log.
    fn record(&self) -> Record {
        let record = Record::new(Level::ERROR, &*self.what).with("code", self.code);
        let record = record.with("why", self.why.clone());
        record.with("do", self.todo.iter().map(|todo| here(todo)).collect::<Vec<_>>())
    }

    fn render(&self, verbose: bool) -> String {
        let mut text = String::new();
        let head = styled(RED.bold(), &format!("error[{}]", self.code));
        // Writing to a String does not fail.
        let _ = writeln!(text, "{head}{BOLD}:{BOLD:#} {}", indented(&self.what));
        for why in &self.why {
            let _ = writeln!(text, "  {} {}", styled(BOLD, "why:"), indented(why));
        }
        if let Some(shown) = self.traceback.as_ref().and_then(|traceback| traceback.shown(verbose))
        {
            let _ = writeln!(text, "  {} {}", styled(BOLD, "why:"), shown);
        }
        for todo in &self.todo {
            let _ = writeln!(text, "  {}  {}", styled(BOLD, "do:"), indented(&here(todo)));
        }
        text
    }
}

impl From<Signal> for Report {
    fn from(signal: Signal) -> Self {
        Self::cancelled(signal)
    }
}

impl Traceback {
    /// Returns what is shown of it; nothing where only our own code is to be seen.
    fn shown(&self, verbose: bool) -> Option<String> {
        let lines: Vec<&str> = self.text.trim_end().lines().collect();
        if let (false, Some(thread)) = (verbose, lines.iter().rposition(|line| is_stack(line))) {
            return Some(stack(&lines[thread + 1..]));
        }
        let own = own_frames(&lines);
        let has_own = own.iter().any(|line| line.starts_with(FRAME));
        let (title, lines) = match (verbose, self.is_needed) {
            (true, _) => ("the Python traceback", lines),
            (false, true) => ("the Python traceback (all of it with -v)", own),
            (false, false) if has_own => {
                let from = own.len().saturating_sub(LAST_LINES);
                ("the end of the Python traceback (all of it with -v)", own[from..].to_vec())
            }
            (false, false) => return None,
        };
        let mut text = title.to_owned();
        for line in lines {
            let _ = write!(text, "\n    {DIM}{}{DIM:#}", printable(line));
        }
        Some(text)
    }
}

/// Returns whether a line begins the stack of a thread, as Python dumps it: innermost frame first.
fn is_stack(line: &str) -> bool {
    line.ends_with("(most recent call first):")
}

/// Returns what the main thread was doing, which stands last among the threads.
fn stack(lines: &[&str]) -> String {
    let mut text = "what its Python was doing, innermost first (all of it with -v)".to_owned();
    for line in lines.iter().filter(|line| line.starts_with(FRAME)).take(LAST_LINES) {
        let _ = write!(text, "\n    {DIM}{}{DIM:#}", printable(line));
    }
    text
}

/// Leaves out the frames of the runner and of Python's import machinery.
fn own_frames<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let mut is_ours = false;
    let mut kept = Vec::new();
    for line in lines {
        if line.starts_with(FRAME) {
            is_ours = MACHINERY.iter().any(|part| line.contains(part));
        } else if !line.starts_with("    ") {
            is_ours = false;
        }
        if !is_ours {
            kept.push(*line);
        }
    }
    kept
}

/// Returns `text` with every line but the first one set in.
fn indented(text: &str) -> String {
    printable(text.trim_end()).replace('\n', "\n        ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(report: &Report, verbose: bool) -> String {
        anstream::adapter::strip_str(&report.render(verbose)).to_string()
    }

    #[test]
    fn a_report_says_what_why_and_what_to_do() {
        let report = Report::usage("there is no agent `x`").because("a\nb").todo("axon new x");
        assert_eq!(
            plain(&report, false),
            "error[usage]: there is no agent `x`\n  why: a\n        b\n  do:  axon new x\n"
        );
    }

    #[test]
    fn a_traceback_is_cut_unless_it_is_wanted_or_needed() {
        let lines: Vec<String> = (1..=9).map(|n| format!("  File \"a.py\", line {n}")).collect();
        let mut failure = Failure::new(FailureKind::Tool, "no");
        failure.traceback = Some(lines.join("\n"));
        let report = Report::from(failure.clone());
        assert!(!plain(&report, false).contains("line 5"));
        assert!(plain(&report, false).contains("line 6"));
        assert!(plain(&report, true).contains("line 1"));
        failure.class = "ModuleNotFoundError".to_owned();
        assert!(plain(&Report::from(failure), false).contains("line 1"));
    }

    #[test]
    fn of_stacks_the_innermost_frames_of_the_main_thread_are_shown() {
        let mut failure = Failure::new(FailureKind::RunnerDied, "silent");
        let frames = (1..=9).map(|n| format!("  File \"a.py\", line {n} in f")).collect::<Vec<_>>();
        let main = frames.join("\n");
        failure.traceback = Some(format!(
            "Thread 0x1 (most recent call first):\n  File \"b.py\", line 77 in g\n\n\
             Current thread 0x2 (most recent call first):\n{main}\n"
        ));
        let shown = plain(&Report::from(failure), false);
        assert!(shown.contains("line 1 in f") && shown.contains("line 4 in f"), "{shown}");
        assert!(!shown.contains("line 5") && !shown.contains("line 77"), "{shown}");
    }

    #[test]
    fn a_needed_traceback_shows_the_frames_of_the_user() {
        let lines = [
            "Traceback (most recent call last):",
            "  File \"/c/axon_runner/registry.py\", line 1, in load",
            "    module = load()",
            "             ^^^^^^",
            "  File \"/home/me/agent.py\", line 1, in <module>",
            "    import nothing",
            "ModuleNotFoundError: No module named 'nothing'",
        ];
        assert_eq!(own_frames(&lines), [lines[0], lines[4], lines[5], lines[6]]);
    }
}
