//! A line of output, cut where it is too long to be kept.

use std::borrow::Cow;
use std::io::BufRead;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The longest line that is kept, in bytes; the rest of it is dropped.
pub(super) const LINE_BYTES: usize = 8 * 1024;

/// A line, and how long it really was.
#[derive(Debug, Default)]
pub(super) struct Line {
    kept: Vec<u8>,
    length: u64,
    is_whole: bool,
}

impl Line {
    /// Reads the next line, or what is there before the end of the output; says whether there was
    /// any. When dropped meanwhile, the next call goes on in the same line.
    pub(super) async fn read<R>(&mut self, reader: &mut BufReader<R>) -> std::io::Result<bool>
    where
        R: AsyncRead + Unpin,
    {
        if self.is_whole {
            *self = Self { kept: std::mem::take(&mut self.kept), ..Self::default() };
            self.kept.clear();
        }
        while !self.is_whole {
            let chunk = reader.fill_buf().await?;
            if chunk.is_empty() {
                self.is_whole = true;
                return Ok(self.length > 0);
            }
            // Searches many bytes at a time, and cannot fail in memory.
            let taken = (&mut &*chunk).skip_until(b'\n')?;
            self.is_whole = chunk[..taken].ends_with(b"\n");
            let room = LINE_BYTES.saturating_sub(self.kept.len());
            self.kept.extend_from_slice(&chunk[..taken.min(room)]);
            self.length = self.length.saturating_add(taken as u64);
            reader.consume(taken);
        }
        Ok(true)
    }

    /// Returns how many bytes of it are kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    /// Returns the text without the space at its end; a cut one says so, and how long it was.
    pub(super) fn text(&self) -> Cow<'_, str> {
        let text = String::from_utf8_lossy(&self.kept);
        if self.length > self.kept.len() as u64 {
            return Cow::Owned(format!("{text} [cut: the line has {} bytes]", self.length));
        }
        match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_end()),
            Cow::Owned(text) => Cow::Owned(text.trim_end().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_without_end_costs_bounded_memory_and_is_told_once_with_its_length() {
        let mut bytes = vec![b'x'; 1 << 20];
        bytes.extend_from_slice(b"\nnext\n");
        let mut reader = BufReader::new(bytes.as_slice());
        let mut line = Line::default();
        assert!(line.read(&mut reader).await.unwrap());
        assert!(line.kept.capacity() <= 2 * LINE_BYTES);
        assert!(line.text().ends_with("xxx [cut: the line has 1048577 bytes]"));
        assert!(line.read(&mut reader).await.unwrap());
        assert_eq!(line.text(), "next");
        assert!(!line.read(&mut reader).await.unwrap());
    }

    #[tokio::test]
    async fn the_last_line_needs_no_end_and_an_empty_one_is_a_line() {
        let mut reader = BufReader::new(b"\n\xffa".as_slice());
        let mut line = Line::default();
        assert!(line.read(&mut reader).await.unwrap());
        assert_eq!(line.text(), "");
        assert!(line.read(&mut reader).await.unwrap());
        assert_eq!(line.text(), "\u{fffd}a");
        assert!(!line.read(&mut reader).await.unwrap());
    }

    #[tokio::test]
    async fn a_read_that_was_given_up_goes_on_in_the_same_line() {
        let (mut end, pipe) = tokio::io::duplex(64);
        let mut reader = BufReader::new(pipe);
        let mut line = Line::default();
        tokio::io::AsyncWriteExt::write_all(&mut end, b"be").await.unwrap();
        tokio::select! {
            biased;
            _ = line.read(&mut reader) => unreachable!("the line has no end yet"),
            () = std::future::ready(()) => {}
        }
        tokio::io::AsyncWriteExt::write_all(&mut end, b"gun\n").await.unwrap();
        assert!(line.read(&mut reader).await.unwrap());
        assert_eq!(line.text(), "begun");
    }
}
