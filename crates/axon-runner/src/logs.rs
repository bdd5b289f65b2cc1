//! What a runner prints, line by line into `tracing`, and its last words kept for error messages.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axon_kernel::wire::{Launch, LogRecord};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::dump::StackDump;

/// The longest line that is kept; the rest of it is dropped.
const LINE_BYTES: usize = 8 * 1024;

/// How many of the last lines are kept.
const KEPT_LINES: usize = 20;

/// The last lines that a runner wrote to its standard error.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastWords(Arc<Mutex<VecDeque<String>>>);

impl LastWords {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// Returns the lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// The shortest value that is looked for; shorter ones would blot out ordinary words.
const SECRET_BYTES: usize = 6;

/// Whose lines are read, and what must not be passed on from them.
#[derive(Clone)]
pub(crate) struct Source {
    agent: String,
    secrets: Arc<[String]>,
}

impl Source {
    /// The lines of the runner that is launched with `launch`.
    pub(crate) fn new(launch: &Launch) -> Self {
        let values = launch.env.values().chain([&launch.token]);
        let secrets = values.filter(|value| value.len() >= SECRET_BYTES).cloned().collect();
        Self { agent: launch.agent.clone(), secrets }
    }

    fn redact<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let mut line = Cow::Borrowed(line);
        for secret in self.secrets.iter() {
            if line.contains(secret) {
                line = Cow::Owned(line.replace(secret, "[redacted]"));
            }
        }
        line
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
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(true) = next_line(&mut reader, &mut line).await {
        let text = String::from_utf8_lossy(&line);
        let text = &*source.redact(text.trim_end());
        let agent = source.agent.as_str();
        match &output {
            Output::Stdout => tracing::info!(target: "axon::runner", agent, stdout = text),
            Output::Stderr(stderr) if stderr.dump.take(text) => {}
            Output::Stderr(stderr) => {
                stderr.last_words.push(text);
                tracing::info!(target: "axon::runner", agent, stderr = text);
            }
        }
    }
}

async fn next_line<R>(reader: &mut BufReader<R>, line: &mut Vec<u8>) -> std::io::Result<bool>
where
    R: AsyncRead + Unpin,
{
    line.clear();
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(chunk.len(), |at| at + 1);
        let room = LINE_BYTES.saturating_sub(line.len());
        line.extend_from_slice(&chunk[..taken.min(room)]);
        reader.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Hands a Python log record on to `tracing`, at its own level.
pub fn log_record(agent: &str, run: Option<&str>, record: &LogRecord) {
    let LogRecord { level, logger, message, fields } = record;
    let fields = if fields.is_empty() { None } else { serde_json::to_string(fields).ok() };
    let fields = fields.as_deref();
    macro_rules! emit {
        ($level:ident) => {
            tracing::$level!(target: "axon::python", agent, run, logger, fields, "{message}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_without_end_costs_bounded_memory() {
        let mut bytes = vec![b'x'; 1 << 20];
        bytes.extend_from_slice(b"\nnext\n");
        let mut reader = BufReader::new(bytes.as_slice());
        let mut line = Vec::new();
        assert!(next_line(&mut reader, &mut line).await.unwrap());
        assert_eq!(line.len(), LINE_BYTES);
        assert!(next_line(&mut reader, &mut line).await.unwrap());
        assert_eq!(line, b"next\n");
        assert!(!next_line(&mut reader, &mut line).await.unwrap());
    }

    fn source() -> Source {
        let secrets = ["sk-secret".to_owned(), "token-1".to_owned()];
        Source { agent: "a".to_owned(), secrets: secrets.into() }
    }

    #[tokio::test]
    async fn what_a_runner_was_given_in_secret_is_not_passed_on() {
        let stderr = Stderr::default();
        let text = "the key is sk-secret, and token-1 too\n";
        relay(text.as_bytes(), source(), Output::Stderr(stderr.clone())).await;
        assert_eq!(stderr.last_words.lines(), ["the key is [redacted], and [redacted] too"]);
    }

    #[tokio::test]
    async fn last_words_are_the_last_twenty_lines() {
        let stderr = Stderr::default();
        let text: String = (0..50).map(|n| format!("line {n}\n")).collect();
        relay(text.as_bytes(), source(), Output::Stderr(stderr.clone())).await;
        let lines = stderr.last_words.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (20, "line 30"));
    }
}
