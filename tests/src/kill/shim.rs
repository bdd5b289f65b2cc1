//! A disk that fails on demand, by a library that is loaded before the C library.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// The library's source.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/faults.c");

/// A disk that fails on demand, for the files below one folder of one process.
#[derive(Debug)]
pub struct Shim {
    folder: TempDir,
    under: PathBuf,
}

impl Shim {
    /// Compiles the library. Only files below `under` are struck.
    ///
    /// # Errors
    ///
    /// If there is no C compiler.
    pub fn new(under: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("axon-faults-").tempdir()?;
        let library = folder.path().join("faults.so");
        let compiled = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(SOURCE)
            .output()
            .context("no C compiler")?;
        ensure!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Ok(Self { folder, under: under.canonicalize()? })
    }

    /// Returns the variables that a process needs to be struck.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let text = |path: &Path| path.display().to_string();
        BTreeMap::from([
            ("LD_PRELOAD".to_owned(), text(&self.folder.path().join("faults.so"))),
            ("AXON_FAULTS".to_owned(), text(self.folder.path())),
            ("AXON_FAULTS_UNDER".to_owned(), text(&self.under)),
        ])
    }

    /// Has every write fail for want of space, or not any more.
    ///
    /// # Errors
    ///
    /// If the file that says so cannot be written.
    pub fn fill(&self, full: bool) -> anyhow::Result<()> {
        self.set("full", full)
    }

    /// Has every sync fail, or not any more.
    ///
    /// # Errors
    ///
    /// If the file that says so cannot be written.
    pub fn fail_syncs(&self, fail: bool) -> anyhow::Result<()> {
        self.set("sync", fail)
    }

    fn set(&self, fault: &str, there: bool) -> anyhow::Result<()> {
        let flag = self.folder.path().join(fault);
        if there {
            std::fs::write(flag, "")?;
        } else if flag.exists() {
            std::fs::remove_file(flag)?;
        }
        Ok(())
    }
}
