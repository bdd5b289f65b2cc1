//! The listening sockets of a runtime. This side makes and holds them, and lends one to each runner:
//! a connection waits in its queue until a runner takes it, whichever generation that is.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::address::Address;
use crate::folders::{OwnedFolder, SOCKET};

/// The sockets of one agent. Cheap to clone.
///
/// Each lies in a folder that only this user can enter.
#[derive(Clone, Debug)]
pub struct Sockets(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    /// Where more of them are made, if they may be.
    parent: Option<PathBuf>,
    free: Mutex<Free>,
}

/// Sockets that no runner has.
#[derive(Debug)]
struct Free {
    sockets: Vec<Socket>,
    /// How many runners have one.
    lent: usize,
    /// How many there are to be, lent ones included; more are made and not kept.
    kept: usize,
}

#[derive(Debug)]
struct Socket {
    address: Address,
    listener: OwnedFd,
    /// One that was made has a folder of its own, which goes with it.
    _folder: Option<OwnedFolder>,
}

/// A socket that one runner has. Dropping it, when the runner is gone, makes it free for the next.
#[derive(Debug)]
pub(crate) struct Seat {
    socket: Option<Socket>,
    pool: Weak<Pool>,
}

impl Sockets {
    /// Makes sockets in folders below `parent`, when they are needed, and keeps `kept` of them.
    #[must_use]
    pub fn below(parent: &Path, kept: usize) -> Self {
        let free = Mutex::new(Free { sockets: Vec::new(), lent: 0, kept });
        Self(Arc::new(Pool { parent: Some(parent.to_owned()), free }))
    }

    /// Takes a socket that is there already, for one runner at a time.
    ///
    /// # Errors
    ///
    /// [`std::io::Error`] if it does not listen at an address.
    pub fn given(listener: TcpListener) -> std::io::Result<Self> {
        let address = Address::of_listener(listener.local_addr()?);
        let address = address.map_err(std::io::Error::other)?;
        let socket = Socket { address, listener: listener.into(), _folder: None };
        let free = Mutex::new(Free { sockets: vec![socket], lent: 0, kept: 1 });
        Ok(Self(Arc::new(Pool { parent: None, free })))
    }

    /// Keeps so many from now on.
    pub fn keep(&self, kept: usize) {
        lock(&self.0.free).kept = kept;
    }

    /// Lets go of the free ones.
    pub fn close(&self) {
        lock(&self.0.free).sockets.clear();
    }

    /// Takes a free socket, or makes one.
    pub(crate) fn seat(&self) -> std::io::Result<Seat> {
        let mut free = lock(&self.0.free);
        // Somebody may have tidied up the folder of temporary files.
        free.sockets.retain(Socket::is_there);
        let socket = match free.sockets.pop() {
            Some(socket) => socket,
            None => {
                let taken = || std::io::Error::other("the socket that was given is taken");
                Socket::make(self.0.parent.as_deref().ok_or_else(taken)?)?
            }
        };
        free.lent += 1;
        Ok(Seat { socket: Some(socket), pool: Arc::downgrade(&self.0) })
    }
}

impl Socket {
    fn is_there(&self) -> bool {
        if let Address::Unix(path) = &self.address { path.exists() } else { true }
    }

    fn make(parent: &Path) -> std::io::Result<Self> {
        let folder = OwnedFolder::make(parent)?;
        let path = folder.path().join(SOCKET);
        let listener = UnixListener::bind(&path)?.into();
        Ok(Self { address: Address::Unix(path), listener, _folder: Some(folder) })
    }
}

impl Seat {
    /// Returns where the socket is.
    pub(crate) fn address(&self) -> Address {
        let nowhere = || Address::Unix(PathBuf::new());
        self.socket.as_ref().map_or_else(nowhere, |socket| socket.address.clone())
    }

    /// Returns the socket once more, for the runner.
    pub(crate) fn listener(&self) -> std::io::Result<OwnedFd> {
        let gone = || std::io::Error::other("the socket is gone");
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        socket.listener.as_fd().try_clone_to_owned()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let (Some(socket), Some(pool)) = (self.socket.take(), self.pool.upgrade()) {
            let mut free = lock(&pool.free);
            free.lent -= 1;
            if free.lent + free.sockets.len() < free.kept {
                free.sockets.push(socket);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_next_runner_gets_the_socket_and_who_waits_at_it() {
        let parent = tempfile::tempdir().unwrap();
        let sockets = Sockets::below(parent.path(), 1);
        let seat = sockets.seat().unwrap();
        let address = seat.address();
        let Address::Unix(path) = &address else { panic!("{address}") };
        drop(UnixListener::from(seat.listener().unwrap()));
        drop(seat);
        let _waits = UnixStream::connect(path).unwrap();
        let seat = sockets.seat().unwrap();
        assert_eq!(seat.address(), address);
        UnixListener::from(seat.listener().unwrap()).accept().unwrap();
    }

    #[test]
    fn two_runners_never_share_a_socket_and_nothing_is_left_of_the_last() {
        let parent = tempfile::tempdir().unwrap();
        let sockets = Sockets::below(parent.path(), 1);
        let (one, two) = (sockets.seat().unwrap(), sockets.seat().unwrap());
        assert_ne!(one.address(), two.address());
        drop((one, two));
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1, "one is kept");
        drop(sockets);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_that_was_given_is_one_runners_at_a_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::of_listener(listener.local_addr().unwrap()).unwrap();
        let sockets = Sockets::given(listener).unwrap();
        let seat = sockets.seat().unwrap();
        assert_eq!(seat.address(), address);
        assert!(sockets.seat().is_err());
        drop(seat);
        assert_eq!(sockets.seat().unwrap().address(), address);
    }
}
