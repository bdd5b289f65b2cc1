//! The schemas, values and texts that Python is tested with too: both ends have to agree on each.

use axon_kernel::json::{JsonError, RawJson};
use axon_kernel::schema::Schema;
use axon_kernel::wire::RunnerEvent;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::repository;

#[derive(Deserialize)]
struct SchemaEntry {
    name: String,
    schema: Value,
    #[serde(default)]
    refused: bool,
    #[serde(default)]
    fits: Vec<Value>,
    #[serde(default)]
    breaks: Vec<Value>,
}

#[derive(Deserialize)]
struct TextEntry {
    name: String,
    refused: Option<Why>,
    #[serde(default)]
    pieces: Vec<(String, usize)>,
    hex: Option<String>,
}

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Why {
    Syntax,
    Surrogate,
    Depth,
    Number,
    Key,
}

impl From<JsonError> for Why {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Syntax(_) => Self::Syntax,
            JsonError::TooDeep { .. } => Self::Depth,
            JsonError::NotFinite { .. } => Self::Number,
            JsonError::LoneSurrogate { .. } => Self::Surrogate,
            JsonError::DuplicateKey { .. } => Self::Key,
        }
    }
}

impl TextEntry {
    fn bytes(&self) -> Vec<u8> {
        let Some(hex) = &self.hex else {
            return self
                .pieces
                .iter()
                .flat_map(|(piece, times)| piece.repeat(*times).into_bytes())
                .collect();
        };
        let digits: Vec<char> = hex.chars().collect();
        let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }
}

fn entries<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let text = std::fs::read_to_string(repository().join("tests/corpus").join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn parsed(bytes: &[u8]) -> Result<(), Why> {
    let text = std::str::from_utf8(bytes).or(Err(Why::Syntax))?;
    RawJson::parse(text).map(drop).map_err(Why::from)
}

/// Reads the text as the data of an event, on its own and inside one.
fn read_as_event(bytes: &[u8]) -> Result<(), Why> {
    let text = std::str::from_utf8(bytes).or(Err(Why::Syntax))?;
    let read = |kind, text: &str| match RunnerEvent::read(kind, text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Why::from(error.source)),
    };
    read("part_delta", text)?;
    match read("partial_output", &format!("{{\"value\":{text}}}")) {
        // It stands one level deeper there.
        Err(Why::Depth) => Ok(()),
        other => other,
    }
}

#[test]
fn values_fit_their_schema_or_break_it() {
    let entries: Vec<SchemaEntry> = entries("schemas.json");
    assert!(entries.len() >= 60);
    for SchemaEntry { name, schema, refused, fits, breaks } in entries {
        if refused {
            assert!(Schema::new(schema).is_err(), "{name}");
            continue;
        }
        let schema = Schema::new(schema).unwrap();
        for value in fits {
            assert_eq!(schema.validate(&value), Ok(()), "{name}: {value}");
        }
        for value in breaks {
            assert!(schema.validate(&value).is_err(), "{name}: {value}");
        }
    }
}

#[test]
fn texts_are_decoded_or_refused() {
    for entry in entries::<TextEntry>("texts.json") {
        let (bytes, verdict) = (entry.bytes(), entry.refused.map_or(Ok(()), Err));
        assert_eq!(parsed(&bytes), verdict, "{}", entry.name);
        assert_eq!(read_as_event(&bytes), verdict, "{}", entry.name);
    }
}

#[test]
fn ten_megabytes_take_a_bounded_amount_of_memory() {
    const SIZE: usize = 10_000_000;
    let long = format!("\"{}\"", "x".repeat(SIZE));
    let keys: String = (0..SIZE / 100).map(|n| format!("\"k{n:07}\":0,")).collect();
    for (text, verdict) in [
        (long.clone(), Ok(())),
        (format!("\"{}\"", "\\u00e9".repeat(SIZE / 6)), Ok(())),
        (format!("0.{}", "7".repeat(SIZE)), Ok(())),
        (format!("{{{keys}\"last\":1}}"), Ok(())),
        (format!("{{{keys}\"k0000007\":1}}"), Err(Why::Key)),
        ("[".repeat(SIZE), Err(Why::Depth)),
        ("7".repeat(SIZE), Err(Why::Number)),
        (long[..SIZE].to_owned(), Err(Why::Syntax)),
    ] {
        let before = peak_memory();
        assert_eq!(parsed(text.as_bytes()), verdict);
        let grown = peak_memory() - before;
        assert!(grown < 80 << 20, "{} bytes for {}…", grown, &text[..20]);
    }
}

/// Returns the most memory that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = procfs::process::Process::myself().and_then(|process| process.status()).unwrap();
    status.vmhwm.unwrap() * 1024
}
