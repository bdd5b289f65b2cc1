use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use axon_kernel::trace::TraceContext;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::time::Instant;

use super::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn span(text: usize) -> Span {
    let context: TraceContext =
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let attributes = vec![
        ("text", Attribute::Text("x".repeat(text))),
        ("list", Attribute::Texts(vec!["stop".to_owned()])),
        ("number", Attribute::Number(-7)),
    ];
    let parent = axon_kernel::trace::SpanId::from_hex("00f067aa0ba902b7");
    let (name, kind, error) = ("s".to_owned(), SpanKind::Client, Some("late".to_owned()));
    Span { context, parent, name, kind, start: 1, end: 2, attributes, error }
}

fn start(collector: &TcpListener, queue: &str) -> Exporter {
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let variables = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        "OTEL_EXPORTER_OTLP_HEADERS" => Some("api-key=secret".to_owned()),
        "OTEL_BSP_MAX_QUEUE_SIZE" => Some(queue.to_owned()),
        _ => None,
    };
    Exporter::start(Settings::from_variables(&variables).unwrap().unwrap()).unwrap()
}

/// A collector that takes connections and never answers.
fn black_hole() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Reads one request of a collector, and answers that all is well.
fn request(collector: &TcpListener) -> (String, Vec<u8>) {
    let mut stream = BufReader::new(collector.accept().unwrap().0);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.get_mut().write_all(answer).unwrap();
    (head, body)
}

#[tokio::test]
async fn large_spans_arrive_in_pieces_that_say_what_was_said() {
    let collector = black_hole();
    let exporter = start(&collector, "100");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..2 {
            tell.send(request(&collector)).unwrap();
        }
    });
    exporter.take(span(BATCH_BYTES));
    exporter.take(span(1));
    exporter.flush(LONG).await;
    let (head, body) = told.recv_timeout(LONG).unwrap();
    assert!(head.starts_with("POST /v1/traces "), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    assert!(head.contains("api-key: secret"), "{head}");
    assert!(body.len() > BATCH_BYTES);
    let (_, body) = told.recv_timeout(LONG).unwrap();
    let read = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    let scopes = &read.resource_spans[0].scope_spans;
    let span = &scopes[0].spans[0];
    assert_eq!(scopes[0].spans.len(), 1);
    assert_eq!(span.trace_id[..4], [0x0a, 0xf7, 0x65, 0x19]);
    assert_eq!((span.span_id[0], &span.parent_span_id[..2]), (0xb7, [0x00, 0xf0].as_slice()));
    assert_eq!((span.kind, span.start_time_unix_nano, span.end_time_unix_nano), (3, 1, 2));
    let status = span.status.as_ref().unwrap();
    assert_eq!((status.code, &*status.message), (2, "late"));
    let attributes = format!("{:?}", span.attributes);
    for said in ["StringValue(\"x\")", "StringValue(\"stop\")", "IntValue(-7)"] {
        assert!(attributes.contains(said), "{attributes}");
    }
    assert_eq!(exporter.waiting.spans.load(Ordering::Relaxed), 0);
    assert_eq!(exporter.waiting.bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn what_waits_is_bounded_in_number_and_in_bytes() {
    let collector = black_hole();
    let exporter = start(&collector, "100");
    for _ in 0..1000 {
        exporter.take(span(10));
    }
    assert_eq!(exporter.waiting.spans.load(Ordering::Relaxed), 100);
    let exporter = start(&collector, "65536");
    for _ in 0..100 {
        exporter.take(span(1024 * 1024));
    }
    assert_eq!(exporter.waiting.spans.load(Ordering::Relaxed), 31);
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    let collector = black_hole();
    let exporter = start(&collector, "100");
    exporter.take(span(1));
    let began = Instant::now();
    exporter.flush(Duration::from_millis(200)).await;
    assert!(began.elapsed() < Duration::from_secs(5));
}
