//! The stack dump that a runner writes to its standard error when it is asked by SIGUSR1.
//!
//! No mark says where a dump ends, so it ends with the first pause. Its lines stay out of the last
//! words: they would push the others out.

use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

/// The most of a dump that is kept, in bytes. The oldest lines go first: the main thread is last.
const DUMP_BYTES: usize = 64 * 1024;

/// After how much silence a dump that has begun is whole.
const PAUSE: Duration = Duration::from_millis(100);

/// What every block of a dump begins with.
const HEAD: &str = "(most recent call first):";

/// Where the lines of a dump are kept while somebody waits for it.
#[derive(Debug, Default)]
pub(crate) struct StackDump {
    /// The lines so far; nothing while nobody waits.
    lines: watch::Sender<Option<String>>,
    /// One dump at a time: two would get half of it each.
    turn: Mutex<()>,
}

impl StackDump {
    /// Takes a line if it belongs to a dump that somebody waits for; says whether it does.
    pub(crate) fn take(&self, line: &str) -> bool {
        self.lines.send_if_modified(|lines| {
            let Some(lines) = lines else { return false };
            let taken = line.ends_with(HEAD) || (!lines.is_empty() && continues(line));
            if taken {
                lines.push_str(line);
                lines.push('\n');
                shorten(lines);
            }
            taken
        })
    }

    /// Calls `ask` and waits for the dump that comes then, or until `over`. What does not come in
    /// time is missing: all of it, when the process ignores the signal or is stopped.
    pub(crate) async fn collect(
        &self,
        ask: impl FnOnce(),
        (over, within): (impl Future, Duration),
    ) -> String {
        let Ok(_turn) = timeout(within, self.turn.lock()).await else { return String::new() };
        let waiting = Waiting::begin(self);
        let mut lines = self.lines.subscribe();
        ask();
        let whole = async {
            let mut came = lines.changed().await;
            while came.is_ok() {
                came = match timeout(PAUSE, lines.changed()).await {
                    Ok(came) => came,
                    Err(_pause) => break,
                };
            }
        };
        tokio::select! {
            _in_time = timeout(within, whole) => {}
            _ = over => {}
        }
        waiting.end()
    }
}

fn continues(line: &str) -> bool {
    line.is_empty() || line.starts_with("  ") || line == "..."
}

fn shorten(lines: &mut String) {
    if lines.len() > DUMP_BYTES {
        let over = lines.len() - DUMP_BYTES;
        let line_end = lines.bytes().skip(over).position(|byte| byte == b'\n');
        lines.drain(..line_end.map_or(lines.len(), |at| over + at + 1));
    }
}

/// Somebody waits for a dump; dropped, nobody does.
struct Waiting<'a>(&'a StackDump);

impl<'a> Waiting<'a> {
    fn begin(dump: &'a StackDump) -> Self {
        dump.lines.send_replace(Some(String::new()));
        Self(dump)
    }

    fn end(self) -> String {
        self.0.lines.send_replace(None).unwrap_or_default()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lines.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(2);

    const DUMP: &str = "Thread 0x1 (most recent call first):\n  File \"a.py\", line 1 in a\n\n\
                        Current thread 0x2 (most recent call first):\n  <no Python frame>\n";

    async fn collect(dump: &StackDump, text: &str) -> (String, Vec<bool>) {
        let mut taken = Vec::new();
        let write = || taken.extend(text.lines().map(|line| dump.take(line)));
        let collected = dump.collect(write, (std::future::pending::<()>(), WITHIN)).await;
        (collected, taken)
    }

    #[tokio::test(start_paused = true)]
    async fn a_dump_is_whole_and_what_is_written_beside_it_is_no_part_of_it() {
        let dump = StackDump::default();
        let text = format!("  indented\n{DUMP}a word\n");
        let (collected, taken) = collect(&dump, &text).await;
        assert_eq!(collected, DUMP);
        assert_eq!(taken, [false, true, true, true, true, true, false]);
        assert!(!dump.take("Thread 0x1 (most recent call first):"), "nobody waits any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_writes_no_dump_is_waited_for_for_a_while_only() {
        let dump = StackDump::default();
        let began = tokio::time::Instant::now();
        assert_eq!(collect(&dump, "what do you mean?\n").await.0, "");
        assert_eq!(began.elapsed(), WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dump_that_never_pauses_is_cut() {
        let dump = StackDump::default();
        let endless = async {
            for line in std::iter::repeat(DUMP.lines()).flatten() {
                tokio::time::sleep(PAUSE / 2).await;
                dump.take(line);
            }
        };
        let began = tokio::time::Instant::now();
        assert!(!dump.collect(|| (), (endless, WITHIN)).await.is_empty());
        assert_eq!(began.elapsed(), WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_large_dump_is_kept() {
        let dump = StackDump::default();
        let many = format!("{}{}", DUMP.repeat(2000), "Thread 0x9 (most recent call first):\n");
        let (collected, _) = collect(&dump, &many).await;
        assert!(collected.len() <= DUMP_BYTES && collected.len() > DUMP_BYTES - 100);
        assert!(many.ends_with(&collected));
    }
}
