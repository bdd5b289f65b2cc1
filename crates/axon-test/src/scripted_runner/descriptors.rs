//! The three descriptors that a runner inherits. The one module that needs `unsafe`.

use std::io::{self, PipeReader, Read};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};

use axon_kernel::wire::{CONTROL_FD, LIFELINE_FD, LISTEN_FD};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{Signal, getpid, kill_process};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// What a runner is started with.
pub(super) struct Descriptors {
    pub(super) control: UnixStream,
    pub(super) listener: UnixListener,
    pub(super) lifeline: PipeReader,
}

/// Takes the descriptors over, once in a process and before it opens any of its own.
pub(super) fn take() -> io::Result<Descriptors> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::other("the runner's descriptors are already taken"));
    }
    Ok(Descriptors {
        control: inherited(CONTROL_FD)?.into(),
        listener: inherited(LISTEN_FD)?.into(),
        lifeline: inherited(LIFELINE_FD)?.into(),
    })
}

#[expect(
    unsafe_code,
    reason = "nothing in std or rustix takes over an inherited descriptor without it on every Unix"
)]
fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `take` asks for each number once in the life of the process, so nothing else that
    // came through it owns the descriptor. One that is not open is given up again below.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    if let Err(error) = fcntl_getfd(&descriptor) {
        let _never_open = descriptor.into_raw_fd();
        return Err(io::Error::other(format!("no descriptor {number} was inherited: {error}")));
    }
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// Kills this process as soon as the one that launched it is gone.
pub(super) fn arm(mut lifeline: PipeReader) -> io::Result<()> {
    let watch = move || {
        let mut byte = [0];
        while lifeline.read_exact(&mut byte).is_ok() {}
        let _cannot_fail = kill_process(getpid(), Signal::KILL);
    };
    std::thread::Builder::new().name("lifeline".to_owned()).spawn(watch).map(drop)
}
