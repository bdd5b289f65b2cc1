//! Python programs that a test or a bench drives Axon with, in environments of their own.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// Returns the interpreter of an environment that has exactly what `lock` names, below `room`. It
/// is made once for each lock, with the uv beside `python` or else with pip.
///
/// # Errors
///
/// Whatever keeps it from being made: most of the time, no package index.
pub fn venv(python: &Path, lock: &Path, room: &Path) -> anyhow::Result<PathBuf> {
    let text = std::fs::read(lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let mut hasher = DefaultHasher::new();
    (text, python).hash(&mut hasher);
    let place = room.join(format!("venv-{:016x}", hasher.finish()));
    if !place.exists() {
        std::fs::create_dir_all(room)?;
        let staged = tempfile::Builder::new().prefix(".venv-").tempdir_in(room)?;
        build(python, lock, staged.path())?;
        // Another process may have been quicker, and then its one is as good.
        if let Err(error) = std::fs::rename(staged.path(), &place)
            && !place.exists()
        {
            return Err(error.into());
        }
    }
    Ok(place.join("bin/python"))
}

fn build(python: &Path, lock: &Path, place: &Path) -> anyhow::Result<()> {
    let uv = python.with_file_name("uv");
    let made = place.join("bin/python");
    let exact = ["--no-deps", "--require-hashes", "-r"].map(OsStr::new);
    if uv.is_file() {
        run(Command::new(&uv)
            .args(["venv", "--quiet", "--clear", "--python"])
            .arg(python)
            .arg(place))?;
        let mut install = Command::new(&uv);
        install.args(["pip", "install", "--quiet", "--python"]).arg(&made);
        return run(install.args(exact).arg(lock));
    }
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(place))?;
    let mut install = Command::new(&made);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    run(install.args(exact).arg(lock))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}
