//! What a person types, line by line.

use std::io::{self, BufRead, Read};

use axon_kernel::json::MAX_PROMPT_BYTES;
use tokio::sync::mpsc;

/// The lines of stdin. Nothing is read before the first one is asked for.
#[derive(Debug, Default)]
pub(crate) struct Lines(Option<mpsc::Receiver<String>>);

impl Lines {
    /// Returns the next line; none at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.0.get_or_insert_with(read).recv().await
    }

    /// Forgets the lines that were typed before they were asked for.
    pub(crate) fn forget(&mut self) {
        while self.0.as_mut().is_some_and(|lines| lines.try_recv().is_ok()) {}
    }
}

/// Reads stdin on a thread of its own, so that a signal never waits for a line.
fn read() -> mpsc::Receiver<String> {
    // One line ahead of the turn is as much as there is use for.
    let (tell, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while let Ok(Some(line)) = next_line(&mut stdin) {
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
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
