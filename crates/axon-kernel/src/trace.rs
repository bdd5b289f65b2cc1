//! Traces: which span stands where in which trace, and whether it is told.
//!
//! The identity of a run's span follows from the run, and that of an attempt's from the attempt: so
//! whoever goes on with a run after a crash goes on with its trace, and can tell the spans that the
//! process before it could not.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{Attempt, RunId};

macro_rules! trace_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Takes the bytes as the identity, unless all of them are zero, which names nothing.
            #[must_use]
            pub fn new(bytes: [u8; $bytes]) -> Option<Self> {
                (bytes != [0; $bytes]).then_some(Self(bytes))
            }

            /// Returns the bytes.
            #[must_use]
            pub fn bytes(&self) -> [u8; $bytes] {
                self.0
            }

            /// Reads lower-case hexadecimal digits, as W3C writes them.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut bytes = [0; $bytes];
                read_hex(text.as_bytes(), &mut bytes)?;
                Self::new(bytes)
            }

            fn of(what: &str) -> Self {
                let digest = Sha256::digest(what);
                let mut bytes = [0; $bytes];
                bytes.copy_from_slice(&digest[..$bytes]);
                // No digest that anybody has seen begins with so many zeros.
                bytes[$bytes - 1] |= u8::from(bytes == [0; $bytes]);
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

trace_id! {
    /// A trace.
    TraceId, 16
}
trace_id! {
    /// A span.
    SpanId, 8
}

impl TraceId {
    /// Returns the trace that begins with `run`: its own identity, where that is a UUID.
    #[must_use]
    pub fn of_run(run: &RunId) -> Self {
        let digits: String = run.as_str().split('-').collect();
        let is_uuid = run.as_str().len() == 36;
        let own = is_uuid.then(|| Self::from_hex(&digits)).flatten();
        own.unwrap_or_else(|| Self::of(run.as_str()))
    }
}

impl SpanId {
    /// Returns the span of `run` from its beginning on, or since its `pauses`th pause.
    #[must_use]
    pub fn of_run(run: &RunId, pauses: u32) -> Self {
        Self::of(&format!("run\n{run}\n{pauses}"))
    }

    /// Returns the span of an attempt.
    #[must_use]
    pub fn of_attempt(run: &RunId, attempt: Attempt) -> Self {
        Self::of(&format!("attempt\n{run}\n{attempt}"))
    }
}

/// Where in which trace something happens, as W3C's `traceparent` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span that is under way.
    pub span: SpanId,
    /// Whether the trace is told: who comes later goes by what the first has decided.
    pub sampled: bool,
}

/// The text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a traceparent is 00-TRACE-SPAN-FLAGS in lower-case hexadecimal digits")]
pub struct NoTraceparent;

impl TraceContext {
    /// Returns the place of another span in the same trace.
    #[must_use]
    pub fn at(self, span: SpanId) -> Self {
        Self { span, ..self }
    }
}

impl FromStr for TraceContext {
    type Err = NoTraceparent;

    fn from_str(text: &str) -> Result<Self, NoTraceparent> {
        let mut parts = text.splitn(5, '-');
        let mut next = || parts.next().ok_or(NoTraceparent);
        let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
        let (mut version_byte, mut flags_byte) = ([0], [0]);
        read_hex(version.as_bytes(), &mut version_byte).ok_or(NoTraceparent)?;
        read_hex(flags.as_bytes(), &mut flags_byte).ok_or(NoTraceparent)?;
        // Later versions may say more behind it.
        if version_byte == [0xff] || (version_byte == [0] && parts.next().is_some()) {
            return Err(NoTraceparent);
        }
        let trace = TraceId::from_hex(trace).ok_or(NoTraceparent)?;
        let span = SpanId::from_hex(span).ok_or(NoTraceparent)?;
        Ok(Self { trace, span, sampled: flags_byte[0] & 1 == 1 })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, sampled } = self;
        write!(f, "00-{trace}-{span}-{:02x}", u8::from(*sampled))
    }
}

impl TryFrom<String> for TraceContext {
    type Error = NoTraceparent;

    fn try_from(text: String) -> Result<Self, NoTraceparent> {
        text.parse()
    }
}

impl From<TraceContext> for String {
    fn from(context: TraceContext) -> Self {
        context.to_string()
    }
}

impl JsonSchema for TraceContext {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TraceContext".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "W3C's traceparent.",
            "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        })
    }
}

/// Which traces are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// What becomes of traces that begin here.
    pub roots: Share,
    /// Whether the decision of whoever the trace comes from is asked first.
    pub heeds_parent: bool,
}

/// All that whoever they come from has not left out.
impl Default for Sampler {
    fn default() -> Self {
        Self { roots: Share::All, heeds_parent: true }
    }
}

/// A share of all traces.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Share {
    /// All of them.
    #[default]
    All,
    /// None.
    None,
    /// So many of one; which ones follows from their identity, so that every service takes the same.
    Ratio(f64),
}

impl Sampler {
    /// Decides whether a trace is told. `parent` is what whoever it comes from has decided.
    #[must_use]
    pub fn decides(&self, trace: TraceId, parent: Option<bool>) -> bool {
        if let (true, Some(sampled)) = (self.heeds_parent, parent) {
            return sampled;
        }
        match self.roots {
            Share::All => true,
            Share::None => false,
            Share::Ratio(ratio) => {
                let [.., a, b, c, d, e, f, g] = trace.bytes();
                let random = u64::from_be_bytes([0, a, b, c, d, e, f, g]);
                // 56 bits, which a float does not hold to the last one: nobody counts so far.
                (random as f64) < ratio * (1_u64 << 56) as f64
            }
        }
    }
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Where it stands.
    pub context: TraceContext,
    /// The span that it is a part of.
    pub parent: Option<SpanId>,
    /// What it is called.
    pub name: String,
    /// On which side of a request it stands.
    pub kind: SpanKind,
    /// When it began, in nanoseconds since 1970.
    pub start: u64,
    /// When it ended, in the same way.
    pub end: u64,
    /// What else is known.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// What takes spans that have ended, to export them.
pub trait SpanSink: Send + Sync + fmt::Debug {
    /// Takes a span. It must not wait: who has no room drops it.
    fn take(&self, span: Span);
}

/// On which side of a request a span stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// On none.
    Internal,
    /// It answers.
    Server,
    /// It asks.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// A list of texts.
    Texts(Vec<String>),
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Attribute {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Attribute {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Vec<String>> for Attribute {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

fn read_hex(digits: &[u8], bytes: &mut [u8]) -> Option<()> {
    if digits.len() != bytes.len() * 2 {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_w3c_says() {
        let context: TraceContext = PARENT.parse().unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), PARENT);
        let later = format!("{}-more", PARENT.replacen("00", "cc", 1));
        assert_eq!(later.parse::<TraceContext>(), Ok(context));
        let unsampled: TraceContext = format!("{}2", &PARENT[..54]).parse().unwrap();
        assert!(!unsampled.sampled);
        for wrong in [
            String::new(),
            PARENT.to_uppercase(),
            format!("{PARENT}-more"),
            PARENT.replacen("00", "ff", 1),
            PARENT.replace("b7ad6b7169203331", "0000000000000000"),
            PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            format!(" {PARENT}"),
            PARENT.replace('7', "é"),
        ] {
            assert_eq!(wrong.parse::<TraceContext>(), Err(NoTraceparent), "{wrong}");
        }
    }

    #[test]
    fn a_run_names_its_trace_and_every_span_is_another_one() {
        let run = RunId::new("0199aa00-1111-7222-8333-5f3a9c01d2e4");
        assert_eq!(TraceId::of_run(&run).to_string(), "0199aa001111722283335f3a9c01d2e4");
        assert_eq!(TraceId::of_run(&"r".into()), TraceId::of_run(&"r".into()));
        let spans = [
            SpanId::of_run(&run, 0),
            SpanId::of_run(&run, 1),
            SpanId::of_attempt(&run, Attempt(0)),
            SpanId::of_attempt(&run, Attempt(1)),
        ];
        let unlike: std::collections::BTreeSet<SpanId> = spans.into_iter().collect();
        assert_eq!(unlike.len(), spans.len());
    }

    #[test]
    fn a_ratio_takes_its_share_and_the_parent_decides_where_it_is_heeded() {
        let half = Sampler { roots: Share::Ratio(0.5), heeds_parent: true };
        let traces = (0..1000).map(|n| TraceId::of_run(&RunId::new(format!("run {n}"))));
        let taken = traces.filter(|trace| half.decides(*trace, None)).count();
        assert!((400..600).contains(&taken), "{taken}");
        let trace = TraceId::of_run(&"r".into());
        assert!(half.decides(trace, Some(true)) && !half.decides(trace, Some(false)));
        let all = Sampler { roots: Share::All, heeds_parent: false };
        assert!(all.decides(trace, Some(false)));
        let none = Sampler { roots: Share::None, heeds_parent: true };
        assert!(!none.decides(trace, None));
    }
}
