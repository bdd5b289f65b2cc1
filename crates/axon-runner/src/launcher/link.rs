//! The socket to a launcher: records as lines of JSON, with file descriptors beside them.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::record::Told;

/// The most descriptors that come or go with one record.
const MAX_FDS: usize = 5;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// No signal where the launcher is gone, and no descriptor for programs that are started. Elsewhere
/// than on Linux there are no such flags, and no launchers.
#[cfg(target_os = "linux")]
const SEND: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_os = "linux")]
const RECEIVE: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const SEND: SendFlags = SendFlags::empty();
#[cfg(not(target_os = "linux"))]
const RECEIVE: RecvFlags = RecvFlags::empty();

/// This side of the socket.
#[derive(Debug)]
pub(super) struct Link {
    socket: UnixStream,
    received: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Link {
    pub(super) fn new(socket: StdUnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        Ok(Self { socket, received: Vec::new(), fds: VecDeque::new() })
    }

    /// Sends a line, with the descriptors at its beginning.
    pub(super) async fn send(&self, line: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut sent = 0;
        while sent < line.len() {
            let fds = if sent == 0 { fds } else { &[] };
            sent += self
                .socket
                .async_io(Interest::WRITABLE, || send(&self.socket, &line[sent..], fds))
                .await?;
        }
        Ok(())
    }

    /// Returns the next record; `None` when the launcher is gone. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> io::Result<Option<Told>> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(io::Error::other);
            }
            let Self { socket, received, fds } = self;
            let read =
                socket.async_io(Interest::READABLE, || receive(socket, received, fds)).await?;
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes the descriptor that came with a record.
    pub(super) fn take_fd(&mut self) -> io::Result<OwnedFd> {
        self.fds.pop_front().ok_or_else(|| io::Error::other("a descriptor is missing"))
    }
}

fn send(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SEND)?)
}

fn receive(
    socket: &UnixStream,
    received: &mut Vec<u8>,
    fds: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; READ_BYTES];
    let slices = &mut [IoSliceMut::new(&mut bytes)];
    let read = recvmsg(socket, slices, &mut ancillary, RECEIVE)?.bytes;
    received.extend_from_slice(&bytes[..read]);
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            fds.extend(sent);
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd;

    use super::*;

    #[tokio::test]
    async fn records_and_descriptors_arrive_together_however_they_are_cut() {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        let (mut link, other) = (Link::new(ours).unwrap(), Link::new(theirs).unwrap());
        let started = |id| format!(r#"{{"type":"started","id":{id},"pid":7,"cold":""}}"#);
        let (reader, mut writer) = io::pipe().unwrap();
        let whole = started(1) + "\n" + &started(2);
        other.send(whole.as_bytes(), &[reader.as_fd()]).await.unwrap();
        drop(reader);
        assert!(matches!(link.next().await.unwrap(), Some(Told::Started { id: 1, .. })));
        other.send(b"\n", &[]).await.unwrap();
        assert!(matches!(link.next().await.unwrap(), Some(Told::Started { id: 2, .. })));
        let kept = link.take_fd().unwrap();
        writer.write_all(b"x").unwrap();
        drop(kept);
        assert!(writer.write_all(b"x").is_err(), "the descriptor was the pipe's");
        drop(other);
        assert!(link.next().await.unwrap().is_none());
    }
}
