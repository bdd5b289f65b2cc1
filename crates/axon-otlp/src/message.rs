//! OTLP's messages, as far as spans need them. Field numbers are those of opentelemetry-proto 1.x;
//! JSON names and forms are its JSON encoding's: identities in hexadecimal digits, 64-bit numbers as
//! text.

use std::fmt::Display;

use axon_kernel::trace::{Attribute, Span as Ended, SpanKind};
use serde::{Serialize, Serializer};

/// The code of a status that says that something failed.
const ERROR: i32 = 2;

/// W3C's flag of a trace that is told.
const SAMPLED: u32 = 1;

#[derive(Clone, PartialEq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    #[serde(serialize_with = "hex")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    #[serde(serialize_with = "hex")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    #[serde(serialize_with = "hex", skip_serializing_if = "Vec::is_empty")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    #[serde(serialize_with = "text")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    #[serde(serialize_with = "text")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 5")]
    #[serde(flatten)]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::enum_variant_names, reason = "they are OTLP's names, which JSON has")]
enum Value {
    #[prost(string, tag = "1")]
    StringValue(String),
    #[prost(bool, tag = "2")]
    BoolValue(bool),
    #[prost(int64, tag = "3")]
    IntValue(#[serde(serialize_with = "text")] i64),
    #[prost(message, tag = "5")]
    ArrayValue(ArrayValue),
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

impl ExportRequest {
    /// Puts spans of one service into a request.
    pub(crate) fn new(resource: &[(String, String)], spans: Vec<Ended>) -> Self {
        let attributes = resource.iter().map(|(key, value)| pair(key, value.as_str().into()));
        let resource = Some(Resource { attributes: attributes.collect() });
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let scope = Some(Scope { name: "axon".to_owned(), version });
        let spans = spans.into_iter().map(Span::from).collect();
        let scope_spans = vec![ScopeSpans { scope, spans }];
        Self { resource_spans: vec![ResourceSpans { resource, scope_spans }] }
    }
}

impl From<Ended> for Span {
    fn from(span: Ended) -> Self {
        let attributes = span.attributes.into_iter().map(|(key, value)| pair(key, value));
        Self {
            trace_id: span.context.trace.bytes().to_vec(),
            span_id: span.context.span.bytes().to_vec(),
            parent_span_id: span.parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default(),
            name: span.name,
            kind: match span.kind {
                SpanKind::Internal => 1,
                SpanKind::Server => 2,
                SpanKind::Client => 3,
            },
            start_time_unix_nano: span.start,
            end_time_unix_nano: span.end,
            attributes: attributes.collect(),
            status: span.error.map(|message| Status { message, code: ERROR }),
            flags: SAMPLED,
        }
    }
}

fn pair(key: &str, value: Attribute) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value.into()) }
}

impl From<Attribute> for AnyValue {
    fn from(value: Attribute) -> Self {
        let value = match value {
            Attribute::Text(text) => Value::StringValue(text),
            Attribute::Number(number) => Value::IntValue(number),
            Attribute::Flag(flag) => Value::BoolValue(flag),
            Attribute::Texts(texts) => {
                let values = texts.into_iter().map(|text| Attribute::Text(text).into());
                Value::ArrayValue(ArrayValue { values: values.collect() })
            }
        };
        Self { value: Some(value) }
    }
}

fn text<T: Display, S: Serializer>(number: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&digits.concat())
}

#[cfg(test)]
mod tests {
    use axon_kernel::trace::{SpanId, TraceContext};
    use prost::Message;
    use serde_json::json;

    use super::*;

    fn request() -> ExportRequest {
        let context: TraceContext =
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
        let span = Ended {
            context,
            parent: SpanId::from_hex("00f067aa0ba902b7"),
            name: "chat m".to_owned(),
            kind: SpanKind::Client,
            start: 1_700_000_000_000_000_001,
            end: 1_700_000_000_000_000_002,
            attributes: vec![
                ("n", Attribute::Number(-7)),
                ("f", Attribute::Flag(true)),
                ("l", Attribute::Texts(vec!["stop".to_owned()])),
            ],
            error: Some("late".to_owned()),
        };
        ExportRequest::new(&[("service.name".to_owned(), "s".to_owned())], vec![span])
    }

    #[test]
    fn json_is_otlps() {
        let span = json!({
            "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331",
            "parentSpanId": "00f067aa0ba902b7", "name": "chat m", "kind": 3, "flags": 1,
            "startTimeUnixNano": "1700000000000000001", "endTimeUnixNano": "1700000000000000002",
            "attributes": [
                {"key": "n", "value": {"intValue": "-7"}},
                {"key": "f", "value": {"boolValue": true}},
                {"key": "l", "value": {"arrayValue": {"values": [{"stringValue": "stop"}]}}},
            ],
            "status": {"message": "late", "code": 2},
        });
        let service = json!({"key": "service.name", "value": {"stringValue": "s"}});
        let scope = json!({"name": "axon", "version": env!("CARGO_PKG_VERSION")});
        let expected = json!({"resourceSpans": [{
            "resource": {"attributes": [service]},
            "scopeSpans": [{"scope": scope, "spans": [span]}],
        }]});
        assert_eq!(serde_json::to_value(request()).unwrap(), expected);
    }

    #[test]
    fn protobuf_reads_as_what_was_written() {
        let bytes = request().encode_to_vec();
        assert_eq!(ExportRequest::decode(bytes.as_slice()).unwrap(), request());
        // Field 1 of ResourceSpans, of ScopeSpans, of a span: its trace, 16 bytes.
        let trace = [0x0a, 0x10, 0x0a, 0xf7, 0x65, 0x19];
        assert!(bytes.windows(trace.len()).any(|window| window == trace));
    }
}
