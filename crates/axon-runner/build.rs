//! Writes the table of the runner's Python sources and its lock that `embedded.rs` includes.
//!
//! The sources are reached through `python/`, a symlink to the workspace's `python` folder that
//! `cargo package` follows, so the table is the same from a checkout, a path dependency and a
//! packaged crate.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Folders under the sources that are never part of the runner.
const SKIPPED_FOLDERS: [&str; 2] = ["__pycache__", "tests"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let python = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("python");
    let sources = python.join("src");
    let lock = python.join("requirements.lock");
    for needed in [&sources.join("__main__.py"), &lock] {
        if !needed.is_file() {
            let message = "is missing; in a checkout without symlinks, make \
                           crates/axon-runner/python a copy of the workspace's python folder";
            return Err(format!("{} {message}", needed.display()).into());
        }
    }
    let mut files = Vec::new();
    collect(&sources, &mut files)?;
    files.sort();
    let table = table(&sources, &files, &lock)?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("embedded_table.rs"), table)?;
    Ok(())
}

/// Adds the Python sources below `folder`.
///
/// Each file is watched by itself, and no folder is: a watched folder includes the `__pycache__`
/// that running the sources writes, and would rebuild the crate after every run. A new file is
/// seen with the change that first imports it.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name)
                && !name.starts_with('.')
                && !name.ends_with(".egg-info")
            {
                collect(&path, files)?;
            }
        } else if name.ends_with(".py") || name == "py.typed" {
            files.push(path);
        }
    }
    Ok(())
}

/// The Rust source of the table.
fn table(sources: &Path, files: &[PathBuf], lock: &Path) -> Result<String, Box<dyn Error>> {
    let mut table = String::from("const FILES: &[(&str, &[u8])] = &[\n");
    for file in files {
        println!("cargo:rerun-if-changed={}", file.display());
        let relative =
            file.strip_prefix(sources)?.to_str().ok_or("a source's name is not UTF-8")?;
        writeln!(table, "    ({relative:?}, include_bytes!({file:?})),")?;
    }
    println!("cargo:rerun-if-changed={}", lock.display());
    writeln!(table, "];\nconst LOCK: &[u8] = include_bytes!({lock:?});")?;
    Ok(table)
}
