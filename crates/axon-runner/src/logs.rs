//! What a runner prints, line by line into `tracing`, and its last words kept for error messages.
//!
//! Both outputs are read to their ends whatever comes, so that the runner never waits for a reader.
//! What that costs is bounded: a long line is cut, and of many lines some are dropped and counted.

mod flood;
mod hidden;
mod last_words;
mod line;

use std::borrow::Cow;
use std::sync::Arc;

use axon_kernel::ids::Generation;
use axon_kernel::json::excerpt;
use axon_kernel::metric;
use axon_kernel::wire::{Launch, LogLevel, LogRecord};
use tokio::io::{AsyncRead, BufReader};
use tokio::time::sleep_until;

use crate::dump::StackDump;
use flood::Flood;
use hidden::Hidden;
pub use hidden::Hiding;
pub(crate) use last_words::LastWords;
use line::Line;

/// How much of an output is read at once: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// How much of a record is passed on, in bytes: its message, its logger's name, its fields.
const MESSAGE_BYTES: usize = 16 * 1024;
const LOGGER_BYTES: usize = 256;
const FIELDS_BYTES: usize = 64 * 1024;

/// Whose lines are read, how many of them are passed on, and what must not be in them.
#[derive(Clone)]
pub(crate) struct Source {
    agent: String,
    generation: Option<Generation>,
    hidden: Arc<Hidden>,
    flood: Arc<Flood>,
}

/// On whose behalf a record of Python's was written.
#[derive(Clone, Copy, Debug)]
pub struct Speaker<'a> {
    /// The agent.
    pub agent: &'a str,
    /// The generation of its runner.
    pub generation: Option<Generation>,
    /// The run, if it belongs to one.
    pub run: Option<&'a str>,
}

/// Returns from which level on Python's records are wanted: as the subscriber of this thread says.
#[must_use]
pub fn wanted() -> LogLevel {
    if tracing::enabled!(target: "axon::python", tracing::Level::DEBUG) {
        LogLevel::Debug
    } else {
        LogLevel::Info
    }
}

impl Source {
    /// The lines of the runner that is launched with `launch`.
    pub(crate) fn new(launch: &Launch) -> Self {
        let (agent, generation) = (launch.agent.clone(), Some(launch.generation));
        let hidden = Arc::new(Hidden::of(launch));
        Self { agent, generation, hidden, flood: Arc::new(Flood::new()) }
    }

    /// The lines of a process of ours that was given no secrets.
    pub(crate) fn plain(name: &str) -> Self {
        let (agent, flood) = (name.to_owned(), Arc::new(Flood::new()));
        Self { agent, generation: None, hidden: Arc::default(), flood }
    }

    /// Keeps the secrets of a run out of all that is passed on from now on.
    pub(crate) fn hide(&self, secrets: &[String]) -> Hiding {
        self.hidden.also(secrets)
    }

    /// Returns `text` as it can be passed on.
    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.hidden.redact(text)
    }

    /// Returns whether a record of so many bytes may be passed on. One that may not is counted.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        let admits = self.flood.admits(bytes);
        if !admits {
            self.count_dropped(1);
        }
        admits
    }

    /// Counts lines that are not passed on. They are told a little later, whatever else comes.
    fn count_dropped(&self, lines: u64) {
        let Some(due) = self.flood.count(lines) else { return };
        let source = self.clone();
        tokio::spawn(async move {
            sleep_until(due).await;
            source.tell_dropped();
        });
    }

    /// Returns whether a record that came on a run's stream may be passed on. What was dropped before
    /// it is counted; the record itself tells of that, if it is passed on.
    pub(crate) fn admits_record_of_run(&self, record: &LogRecord) -> bool {
        let admits = self.admits_record(record);
        if admits {
            self.meter_dropped(record.dropped_before);
        } else {
            self.count_dropped(record.dropped_before);
        }
        admits
    }

    fn admits_record(&self, record: &LogRecord) -> bool {
        let fields = record.fields.iter().map(|(name, value)| name.len() + value.to_string().len());
        self.admits(record.message.len() + fields.sum::<usize>())
    }

    /// Passes on a record that belongs to no run, if it may be passed on.
    pub(crate) fn log(&self, record: &LogRecord) {
        self.count_dropped(record.dropped_before);
        if self.admits_record(record) {
            let (agent, generation) = (&*self.agent, self.generation);
            let speaker = Speaker { agent, generation, run: None };
            log_record(speaker, &self.hidden.redact_record(record));
        }
    }

    fn tell_dropped(&self) {
        let lines = self.flood.take();
        if lines > 0 {
            let (agent, generation) = (self.agent.as_str(), self.generation.map(|number| number.0));
            self.meter_dropped(lines);
            tracing::warn!(target: "axon::runner", agent, generation, lines, "lines of this runner were dropped: it writes too many");
        }
    }

    fn meter_dropped(&self, lines: u64) {
        metrics::counter!(metric::DROPPED_LOG_LINES.name, "agent" => self.agent.clone())
            .increment(lines);
    }
}

/// Shows the agent only.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("agent", &self.agent).finish_non_exhaustive()
    }
}

/// What is kept of a runner's standard error.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stderr {
    pub(crate) last_words: LastWords,
    pub(crate) dump: Arc<StackDump>,
}

/// Which of a runner's two outputs a line came from.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    Stdout,
    Stderr(Stderr),
}

/// Reads `pipe` to its end, so that the runner never waits for a reader.
pub(crate) async fn relay(pipe: impl AsyncRead + Unpin, source: Source, output: Output) {
    let mut reader = BufReader::with_capacity(READ_BYTES, pipe);
    let mut line = Line::default();
    if let Output::Stderr(stderr) = &output {
        stderr.last_words.hide(source.hidden.clone());
    }
    loop {
        match line.read(&mut reader).await {
            Ok(true) => pass_on(&line, &source, &output),
            Ok(false) | Err(_) => return source.tell_dropped(),
        }
    }
}

fn pass_on(line: &Line, source: &Source, output: &Output) {
    if let Output::Stderr(stderr) = output {
        let text = line.text();
        if stderr.dump.take(&text) {
            return;
        }
        stderr.last_words.push(&text);
    }
    if !source.admits(line.kept_bytes()) {
        return;
    }
    let text = line.text();
    let text = &*source.redact(&text);
    let (agent, generation) = (source.agent.as_str(), source.generation.map(|number| number.0));
    match output {
        Output::Stdout => tracing::info!(target: "axon::runner", agent, generation, stdout = text),
        Output::Stderr(_) => {
            tracing::info!(target: "axon::runner", agent, generation, stderr = text);
        }
    }
}

/// Hands a Python log record on to `tracing`, at its own level. Its fields go as one JSON object in
/// the field `fields`. Whatever the runner sends, what is passed on is bounded.
pub(crate) fn log_record(speaker: Speaker<'_>, record: &LogRecord) {
    let Speaker { agent, generation, run } = speaker;
    let generation = generation.map(|number| number.0);
    let LogRecord { level, logger, message, fields, dropped_before: _ } = record;
    let (logger, message) = (excerpt(logger, LOGGER_BYTES), excerpt(message, MESSAGE_BYTES));
    let fields = (!fields.is_empty()).then(|| bounded(fields));
    let fields = fields.as_deref();
    macro_rules! emit {
        ($level:ident) => {
            tracing::$level!(
                target: "axon::python", agent, generation, run, logger, fields, "{message}"
            )
        };
    }
    match level.as_str() {
        "trace" => emit!(trace),
        "debug" => emit!(debug),
        "warn" => emit!(warn),
        "error" => emit!(error),
        _ => emit!(info),
    }
}

/// Returns the fields as JSON; of too many only how many bytes they have.
fn bounded(fields: &serde_json::Map<String, serde_json::Value>) -> String {
    let json = serde_json::to_string(fields).unwrap_or_default();
    if json.len() <= FIELDS_BYTES {
        return json;
    }
    serde_json::json!({ "omitted_bytes": json.len() }).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn source() -> Source {
        let (token, env) = ("token-1", json!({ "KEY": "sk-secret" }));
        let limits = json!({ "attempts": 1, "body_bytes": 1, "event_bytes": 1, "json_depth": 1 });
        let launch = json!({
            "type": "launch", "protocol": 1, "generation": 1, "token": token, "agent": "a",
            "path": [], "callables": [], "env": env, "limits": limits,
        });
        Source::new(&serde_json::from_value(launch).unwrap())
    }

    #[tokio::test]
    async fn what_a_runner_was_given_in_secret_is_not_passed_on() {
        let stderr = Stderr::default();
        let text = "the key is sk-secret, and token-1 too\n";
        relay(text.as_bytes(), source(), Output::Stderr(stderr.clone())).await;
        assert_eq!(stderr.last_words.lines(), ["the key is [redacted], and [redacted] too"]);
        assert!(!format!("{stderr:?}").contains("sk-secret"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_words_of_a_flood_are_kept_although_its_lines_are_dropped() {
        let (source, stderr) = (source(), Stderr::default());
        let text: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        relay(text.as_bytes(), source.clone(), Output::Stderr(stderr.clone())).await;
        assert_eq!(stderr.last_words.lines().last().unwrap(), "line 9999");
        assert_eq!(source.flood.take(), 0, "the end of the output tells what was dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn drops_are_told_although_nothing_more_is_written() {
        let source = source();
        let record = json!({ "level": "info", "message": "a record", "dropped_before": 7 });
        let record = serde_json::from_value(record).unwrap();
        (0..2_001).for_each(|_| source.log(&record));
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        assert_eq!(source.flood.take(), 0, "all is told");
    }
}
