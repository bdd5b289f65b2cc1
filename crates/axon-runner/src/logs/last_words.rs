//! The last lines that a runner wrote to its standard error.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::hidden::Hidden;

/// How many of the last lines are kept.
const KEPT_LINES: usize = 20;

/// How many bytes of them are kept: several times what a traceback needs.
const KEPT_BYTES: usize = 16 * 1024;

/// The last lines that a runner wrote to its standard error, bounded in number and in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastWords(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
    /// What is hidden. What the runner was launched with only when somebody reads the lines: most of
    /// them nobody ever does.
    hidden: Arc<Hidden>,
}

impl LastWords {
    /// Hides this from whoever reads the lines.
    pub(super) fn hide(&self, hidden: Arc<Hidden>) {
        self.kept().hidden = hidden;
    }

    pub(super) fn push(&self, line: &str) {
        let mut kept = self.kept();
        let hidden = kept.hidden.clone();
        let line = &*hidden.redact_given(line);
        // The room of a line that goes is used again: a flood allocates nothing.
        let mut reused = String::new();
        while kept.lines.len() == KEPT_LINES
            || (kept.bytes + line.len() > KEPT_BYTES && !kept.lines.is_empty())
        {
            reused = kept.lines.pop_front().unwrap_or_default();
            kept.bytes -= reused.len();
        }
        reused.clear();
        reused.push_str(line);
        kept.bytes += line.len();
        kept.lines.push_back(reused);
    }

    /// Returns the lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let kept = self.kept();
        kept.lines.iter().map(|line| kept.hidden.redact(line).into_owned()).collect()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows how much there is only: secrets are hidden when the lines are read.
impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_lines_are_kept() {
        let words = LastWords::default();
        (0..50).for_each(|n| words.push(&format!("line {n}")));
        let lines = words.lines();
        assert_eq!(
            (lines.len(), lines[0].as_str(), lines[19].as_str()),
            (20, "line 30", "line 49")
        );
    }

    #[test]
    fn long_lines_are_fewer() {
        let words = LastWords::default();
        (0..9).for_each(|n| words.push(&n.to_string().repeat(KEPT_BYTES / 4)));
        let lines = words.lines();
        assert_eq!(lines.len(), 4);
        assert!(lines[3].starts_with('8'));
        words.push("short");
        assert_eq!((words.lines().len(), words.lines()[3].as_str()), (4, "short"));
    }
}
