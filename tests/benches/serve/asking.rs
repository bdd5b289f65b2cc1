//! Callers that behave: they ask, read what comes, and tell how long it took.

use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::RequestBuilder;
use serde_json::Value;
use tokio::time::Instant;

/// An event of a stream: its name and its data.
pub(crate) type Told = (String, Value);

/// A stream of events.
pub(crate) struct Stream {
    pieces: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    unread: Vec<u8>,
}

impl Stream {
    /// Opens the stream that `request` asks for.
    pub(crate) async fn open(request: RequestBuilder) -> anyhow::Result<Self> {
        let answer = request.header("Accept", "text/event-stream").send().await?;
        anyhow::ensure!(answer.status() == 200, "no stream: {}", answer.status());
        let pieces = answer.bytes_stream().map(|piece| piece.map(Vec::from)).boxed();
        Ok(Self { pieces, unread: Vec::new() })
    }

    /// Returns the next event, or nothing where the stream ends.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Told>> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                let block = String::from_utf8(block)?;
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default()
                };
                let data = field("data:").trim();
                if !data.is_empty() {
                    let name = field("event:").trim().to_owned();
                    return Ok(Some((name, serde_json::from_str(data)?)));
                }
                continue;
            }
            match self.pieces.next().await {
                Some(piece) => self.unread.extend_from_slice(&piece?),
                None => return Ok(None),
            }
        }
    }

    /// Reads up to the first event called `name`.
    pub(crate) async fn until(&mut self, name: &str) -> anyhow::Result<Told> {
        loop {
            let told = self.next().await?.context("the stream ended early")?;
            if told.0 == name {
                return Ok(told);
            }
        }
    }
}

/// Returns how long some callers, one after the other, wait for the first text of their runs.
pub(crate) async fn firsts(
    count: usize,
    ask: impl Fn() -> RequestBuilder,
) -> anyhow::Result<Vec<Duration>> {
    let mut firsts = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        let mut stream = Stream::open(ask()).await?;
        stream.until("text_delta").await?;
        firsts.push(began.elapsed());
        stream.until("completed").await?;
    }
    Ok(firsts)
}
