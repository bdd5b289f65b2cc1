//! The guard in front of the event parser: whole frames only, capped, no byte-order mark.
//!
//! `eventsource-stream` is right about the format, but it panics on a byte-order mark, takes time
//! quadratic in a large event that arrives in pieces, and caps nothing. Fed through this guard it
//! sees only complete frames of a bounded size.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::{Duration, Instant, Sleep};

/// Why a stream of frames was refused.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// One frame is larger than the cap.
    #[error("an event is larger than {cap} bytes")]
    TooLarge {
        /// The cap, in bytes.
        cap: usize,
    },
    /// The stream starts with a byte-order mark.
    #[error("the event stream starts with a byte-order mark")]
    ByteOrderMark,
    /// Nothing came, not even a ping.
    #[error("the runner stayed silent for {} s", after.as_secs())]
    Silent {
        /// For how long.
        after: Duration,
    },
    /// The connection broke.
    #[error("the connection to the runner broke")]
    Link(#[source] reqwest::Error),
}

/// Joins chunks to whole frames, ended by an empty line. Line ends become line feeds.
#[derive(Debug)]
pub struct FrameBuffer {
    buffer: BytesMut,
    scanned: usize,
    cap: usize,
    after_cr: bool,
    fresh: bool,
}

impl FrameBuffer {
    /// Makes a buffer for frames of at most `cap` bytes.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, cap, after_cr: false, fresh: true }
    }

    /// Takes a chunk, and returns the frames that it completes, joined.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if a frame outgrows the cap or the stream starts with a byte-order mark.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Option<Bytes>, FrameError> {
        self.append(chunk);
        let whole = self.end_of_last_frame();
        let (frames, open) = self.buffer.split_at(whole);
        let too_large =
            open.len() > self.cap || (frames.len() > self.cap && largest_frame(frames) > self.cap);
        if too_large {
            return Err(FrameError::TooLarge { cap: self.cap });
        }
        if whole == 0 {
            return Ok(None);
        }
        let frames = self.buffer.split_to(whole).freeze();
        self.scanned = self.buffer.len();
        if std::mem::take(&mut self.fresh) && frames.starts_with(b"\xEF\xBB\xBF") {
            return Err(FrameError::ByteOrderMark);
        }
        Ok(Some(frames))
    }

    fn append(&mut self, chunk: &[u8]) {
        if !self.after_cr && !chunk.contains(&b'\r') {
            self.buffer.extend_from_slice(chunk);
            return;
        }
        for &byte in chunk {
            match byte {
                b'\n' if self.after_cr => {}
                b'\r' => self.buffer.extend_from_slice(b"\n"),
                _ => self.buffer.extend_from_slice(&[byte]),
            }
            self.after_cr = byte == b'\r';
        }
    }

    fn end_of_last_frame(&mut self) -> usize {
        let from = self.scanned.saturating_sub(1);
        let found = self.buffer[from..].windows(2).rposition(|pair| pair == b"\n\n");
        self.scanned = self.buffer.len();
        found.map_or(0, |at| from + at + 2)
    }
}

fn largest_frame(frames: &[u8]) -> usize {
    let mut largest = 0;
    let mut start = 0;
    for (at, pair) in frames.windows(2).enumerate() {
        if pair == b"\n\n" {
            largest = largest.max((at + 2).saturating_sub(start));
            start = at + 2;
        }
    }
    largest
}

/// A stream of whole frames over a stream of chunks.
#[derive(Debug)]
pub struct Frames<S> {
    chunks: S,
    buffer: FrameBuffer,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
    ended: bool,
}

impl<S> Frames<S> {
    /// Guards `chunks`; a frame may have `cap` bytes, and something must come every `patience`.
    pub fn new(chunks: S, cap: usize, patience: Duration) -> Self {
        let silence = Box::pin(tokio::time::sleep(patience));
        Self { chunks, buffer: FrameBuffer::new(cap), patience, silence, ended: false }
    }
}

impl<S> Stream for Frames<S>
where
    S: Stream<Item = Result<Bytes, reqwest::Error>> + Unpin,
{
    type Item = Result<Bytes, FrameError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            let outcome = match Pin::new(&mut self.chunks).poll_next(context) {
                Poll::Ready(None) => break,
                Poll::Ready(Some(Ok(chunk))) => {
                    let until = Instant::now() + self.patience;
                    self.silence.as_mut().reset(until);
                    self.buffer.push(&chunk)
                }
                Poll::Ready(Some(Err(error))) => Err(FrameError::Link(error)),
                Poll::Pending => {
                    std::task::ready!(self.silence.as_mut().poll(context));
                    Err(FrameError::Silent { after: self.patience })
                }
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(frames)) => return Poll::Ready(Some(Ok(frames))),
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        self.ended = true;
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use eventsource_stream::Eventsource;
    use futures_util::{FutureExt, StreamExt, stream};
    use proptest::prelude::*;

    use super::*;

    const CAP: usize = 256;

    fn events(chunks: Vec<Vec<u8>>) -> Vec<Result<(String, String), String>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let _guard = runtime.as_ref().expect("a runtime can be made").enter();
        let chunks = chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk)));
        Frames::new(stream::iter(chunks), CAP, Duration::from_secs(60))
            .eventsource()
            .map(|event| match event {
                Ok(event) => Ok((event.event, event.data)),
                Err(error) => Err(error.to_string()),
            })
            .take(100_000)
            .collect::<Vec<_>>()
            .now_or_never()
            .expect("an in-memory stream never waits")
    }

    fn split(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn arbitrary_bytes_in_arbitrary_pieces_never_panic(
            bytes in prop::collection::vec(prop_oneof![
                3 => any::<u8>(), 2 => Just(b'\n'), 1 => Just(b'\r'), 1 => Just(b':'),
                1 => Just(0xEF_u8), 1 => Just(0xBB_u8), 1 => Just(0xBF_u8),
            ], 0..512),
            cuts in prop::collection::vec(any::<usize>(), 0..16),
        ) {
            events(split(&bytes, &cuts));
        }

        #[test]
        fn events_do_not_depend_on_how_they_are_cut(
            texts in prop::collection::vec("[a-zäß€😀 {}\":]{1,20}", 1..8),
            line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
            cuts in prop::collection::vec(any::<usize>(), 0..32),
        ) {
            let wire: String = texts
                .iter()
                .map(|text| format!(": ping{line_end}event: e{line_end}data: {text}x{line_end}{line_end}"))
                .collect();
            let expected: Vec<_> =
                texts.iter().map(|text| Ok(("e".to_owned(), format!("{text}x")))).collect();
            prop_assert_eq!(events(split(wire.as_bytes(), &cuts)), expected);
        }
    }

    #[test]
    fn a_byte_order_mark_is_an_error_and_no_panic() {
        let found = events(vec![b"\xEF".to_vec(), b"\xBB\xBFdata: x\n\n".to_vec()]);
        assert_eq!(found.len(), 1);
        assert!(found[0].as_ref().is_err_and(|error| error.contains("byte-order mark")));
    }

    #[test]
    fn a_frame_over_the_cap_is_an_error_however_it_arrives() {
        let large = format!("data: {}\n\n", "x".repeat(CAP));
        for chunks in [vec![large.clone().into_bytes()], split(large.as_bytes(), &[9, 99, 200])] {
            let found = events(chunks);
            assert!(found[0].as_ref().is_err_and(|error| error.contains("256 bytes")), "{found:?}");
        }
        let small = "data: x\n\n".repeat(1000);
        assert_eq!(events(vec![small.into_bytes()]).len(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_the_stream_and_a_ping_does_not() {
        let pings = stream::iter(0..3).then(|_| async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            Ok(Bytes::from_static(b": ping\n\n"))
        });
        let chunks = Box::pin(pings.chain(stream::pending()));
        let mut frames = Frames::new(chunks, CAP, Duration::from_secs(60));
        for _ in 0..3 {
            assert!(frames.next().await.unwrap().is_ok());
        }
        let silent = frames.next().await.unwrap().unwrap_err();
        assert!(matches!(silent, FrameError::Silent { .. }), "{silent}");
    }

    #[test]
    fn a_large_event_in_many_pieces_is_joined_in_linear_time() {
        let mut buffer = FrameBuffer::new(8 << 20);
        let piece = vec![b'x'; 1460];
        for _ in 0..4000 {
            assert!(buffer.push(&piece).unwrap().is_none());
        }
        let frames = buffer.push(b"\n\n").unwrap().unwrap();
        assert_eq!(frames.len(), 4000 * 1460 + 2);
    }
}
