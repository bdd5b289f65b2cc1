//! What `#[tool]` refuses, where, and how it says so: what the compiler tells of each file in
//! `refused/`. `//~ text` at a line expects an error at that line that says `text`, in its message
//! or in what comes with it; `//~^` means the line above. Errors that no line expects fail, too.
//!
//! The files are compiled against the library that this test was built with, by the compiler alone:
//! a project of their own would build every dependency once more.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers too")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[test]
fn what_is_no_tool_is_told_at_its_place_with_what_to_write_instead() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused");
    let compiler = Compiler::find();
    let mut files = 0;
    let mut wrong = String::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let source = std::fs::read_to_string(&path).unwrap();
        for finding in differences(&expected(&source), &compiler.errors(&path)) {
            wrong += &format!("{}:{finding}\n", path.display());
        }
        files += 1;
    }
    assert!(files > 0, "there is nothing in {}", folder.display());
    assert!(wrong.is_empty(), "{wrong}");
}

/// The texts that are expected or told, by line.
type ByLine = BTreeMap<u64, Vec<String>>;

fn expected(source: &str) -> ByLine {
    let mut expected = ByLine::new();
    for (number, line) in (1..).zip(source.lines()) {
        let Some((_, text)) = line.split_once("//~") else { continue };
        let above = text.chars().take_while(|letter| *letter == '^').count();
        let text = text.trim_start_matches('^').trim().to_owned();
        expected.entry(number - above as u64).or_default().push(text);
    }
    expected
}

fn differences(expected: &ByLine, told: &ByLine) -> Vec<String> {
    let none = Vec::new();
    let mut found = Vec::new();
    for (line, texts) in expected {
        let errors = told.get(line).unwrap_or(&none);
        for text in texts.iter().filter(|text| !errors.iter().any(|error| error.contains(*text))) {
            found.push(format!("{line}: expected `{text}`, and was told {errors:?}"));
        }
    }
    for (line, errors) in told {
        let texts = expected.get(line).unwrap_or(&none);
        for error in errors.iter().filter(|error| !texts.iter().any(|text| error.contains(text))) {
            found.push(format!("{line}: nobody expected {error:?}"));
        }
    }
    found
}

/// The compiler, with the library.
struct Compiler {
    dependencies: PathBuf,
    library: PathBuf,
    output: tempfile::TempDir,
}

impl Compiler {
    /// Finds the library beside this program. Where there are several, with other features or of
    /// other days, the newest is one of today's source.
    fn find() -> Self {
        let program = std::env::current_exe().unwrap();
        let dependencies = program.parent().unwrap().to_owned();
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let libraries = dependencies.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let library = libraries
            .filter(|path| name(path).starts_with("libaxon_runtime-"))
            .filter(|path| path.extension().is_some_and(|extension| extension == "rlib"))
            .max_by_key(|path| path.metadata().unwrap().modified().unwrap());
        let library = library.expect("this test was linked with it");
        Self { dependencies, library, output: tempfile::tempdir().unwrap() }
    }

    /// Returns what is told of `source`, and fails if it compiles.
    fn errors(&self, source: &Path) -> ByLine {
        let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(compiler)
            .args(["--edition", "2024", "--emit", "metadata", "--error-format", "json"])
            .args(["-A", "warnings", "--out-dir"])
            .arg(self.output.path())
            .arg("-L")
            .arg(format!("dependency={}", self.dependencies.display()))
            .arg("--extern")
            .arg(format!("axon_runtime={}", self.library.display()))
            .arg(source)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{} compiles", source.display());
        let mut told = ByLine::new();
        for line in String::from_utf8(output.stderr).unwrap().lines() {
            let diagnostic: Value = serde_json::from_str(line).unwrap();
            let spans = diagnostic["spans"].as_array().unwrap();
            let place = spans.iter().find(|span| span["is_primary"] == true);
            if let (Some(place), Some("error")) = (place, diagnostic["level"].as_str()) {
                let line = place["line_start"].as_u64().unwrap();
                told.entry(line).or_default().push(text_of(&diagnostic));
            }
        }
        told
    }
}

/// Returns everything that a diagnostic says in words.
fn text_of(diagnostic: &Value) -> String {
    let list = |name: &str| diagnostic[name].as_array().cloned().unwrap_or_default();
    let labels =
        list("spans").into_iter().filter_map(|span| span["label"].as_str().map(str::to_owned));
    let message = diagnostic["message"].as_str().unwrap().to_owned();
    let children: Vec<String> = list("children").iter().map(text_of).collect();
    [message].into_iter().chain(labels).chain(children).collect::<Vec<_>>().join("\n")
}
