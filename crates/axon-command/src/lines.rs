//! What a person types, line by line.

use std::io::{self, BufRead, Read};
use std::sync::mpsc as std_mpsc;

use axon_kernel::json::MAX_PROMPT_BYTES;
use rustix::termios::{QueueSelector, tcflush};
use tokio::sync::mpsc;

/// The lines of stdin. None is read before it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Lines(Option<Reader>);

/// The thread that reads, so that a signal never waits for a line.
#[derive(Debug)]
struct Reader {
    ask: std_mpsc::Sender<()>,
    lines: mpsc::Receiver<String>,
    /// Whether a line that was asked for is still to come.
    is_asked: bool,
}

impl Lines {
    /// Returns the next line; none at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let reader = self.0.get_or_insert_with(Reader::start);
        if !reader.is_asked {
            reader.is_asked = reader.ask.send(()).is_ok();
        }
        let line = reader.lines.recv().await;
        reader.is_asked = false;
        line
    }

    /// Forgets what was typed at the terminal before it was asked for.
    pub(crate) fn forget(&mut self) {
        // What is no terminal has nothing that a person typed too early.
        let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        if let Some(reader) = &mut self.0
            && reader.lines.try_recv().is_ok()
        {
            reader.is_asked = false;
        }
    }
}

impl Reader {
    fn start() -> Self {
        let (ask, asked) = std_mpsc::channel();
        let (tell, lines) = mpsc::channel(1);
        std::thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            while asked.recv().is_ok()
                && let Ok(Some(line)) = next_line(&mut stdin)
                && tell.blocking_send(line).is_ok()
            {}
        });
        Self { ask, lines, is_asked: false }
    }
}

/// Reads one line. One that is longer than any prompt is cut just beyond that, and refused.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let limit = MAX_PROMPT_BYTES as u64 + 1;
    let read = input.by_ref().take(limit).read_until(b'\n', &mut line)?;
    if line.len() > MAX_PROMPT_BYTES && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok((read > 0).then(|| String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_to_the_end_and_long_ones_are_cut() {
        let long = "x".repeat(MAX_PROMPT_BYTES + 10);
        let text = format!("a\n{long}\nb");
        let mut input = text.as_bytes();
        assert_eq!(next_line(&mut input).unwrap().unwrap(), "a\n");
        assert_eq!(next_line(&mut input).unwrap().unwrap().len(), MAX_PROMPT_BYTES + 1);
        assert_eq!(next_line(&mut input).unwrap().unwrap(), "b");
        assert_eq!(next_line(&mut input).unwrap(), None);
    }
}
