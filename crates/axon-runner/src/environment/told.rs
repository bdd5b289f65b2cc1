//! What interpreters have said, remembered for as long as nothing has changed that it came from: an
//! interpreter takes longer to start than a runner, and a runtime asks for each of its agents.

use std::collections::BTreeMap;
use std::fs::metadata;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// More interpreters than a process ever asks; beyond it, all is forgotten.
const MOST: usize = 64;

/// Clocks of file systems are this coarse.
const TICK: Duration = Duration::from_millis(20);

/// Answers by interpreter.
#[derive(Debug)]
pub(super) struct Told<T>(Mutex<BTreeMap<PathBuf, Answer<T>>>);

#[derive(Debug)]
struct Answer<T> {
    said: T,
    sources: Vec<(PathBuf, Option<SystemTime>)>,
}

impl<T: Clone> Told<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Returns what `python` has said, if it would say the same now.
    pub(super) fn by(&self, python: &Path) -> Option<T> {
        let answers = self.answers();
        let Answer { said, sources } = answers.get(python)?;
        sources.iter().all(|(path, then)| changed(path) == *then).then(|| said.clone())
    }

    /// Remembers what `python`, which was asked at `asked`, has said out of these files and folders.
    /// What has changed just before may change once more in the same tick, and is not remembered.
    pub(super) fn remember(
        &self,
        python: &Path,
        asked: SystemTime,
        (said, sources): (T, impl IntoIterator<Item = PathBuf>),
    ) {
        let sources: Vec<_> = sources
            .into_iter()
            .map(|path| {
                let then = changed(&path);
                (path, then)
            })
            .collect();
        if sources.iter().all(|(_, then)| then.is_none_or(|then| then + TICK < asked)) {
            let mut answers = self.answers();
            if answers.len() >= MOST {
                answers.clear();
            }
            answers.insert(python.to_owned(), Answer { said, sources });
        }
    }

    fn answers(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Answer<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    metadata(path).and_then(|found| found.modified()).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{File, write};

    use super::*;

    #[test]
    fn what_was_said_holds_until_a_source_of_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (python, site) = (folder.path().join("python"), folder.path().join("site"));
        let missing = folder.path().join("missing");
        let (told, now) = (Told::new(), SystemTime::now());
        for path in [&python, &site] {
            write(path, "").unwrap();
            File::open(path).unwrap().set_modified(now - Duration::from_secs(60)).unwrap();
        }
        let sources = || [python.clone(), site.clone(), missing.clone()];
        assert_eq!(told.by(&python), None);
        told.remember(&python, now, ("one", sources()));
        assert_eq!(told.by(&python), Some("one"));
        write(&site, "another").unwrap();
        assert_eq!(told.by(&python), None);
        told.remember(&python, now, ("two", sources()));
        assert_eq!(told.by(&python), None, "it may have been asked before the change");
        told.remember(&python, SystemTime::now() + 2 * TICK, ("two", sources()));
        assert_eq!(told.by(&python), Some("two"));
        write(&missing, "").unwrap();
        assert_eq!(told.by(&python), None);
    }
}
