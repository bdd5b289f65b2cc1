//! How many files the service may have open: each connection is one, and so is much else.

use axon_server::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many are enough for whatever the limits of the server let in.
const ENOUGH: u64 = 65_536;

/// How many are none of a client's: the store's, the runners' and their sockets'.
const OWN: u64 = 192;

/// The fewest connections that are taken, however few files may be open.
const FEWEST: u64 = 16;

/// Raises the limit of open files as far as is of use and this process may, and returns it.
pub(super) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(ENOUGH);
    let wanted = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    if current < wanted && setrlimit(Resource::Nofile, raised).is_ok() { wanted } else { current }
}

/// Lowers the limits to what `files` open files are enough for. A connection may have a run, which has
/// one to its runner; and streams leave room for other requests.
pub(super) fn fit(limits: Limits, files: u64) -> Limits {
    let fitting = (files.saturating_sub(OWN) / 2).max(FEWEST);
    let connections = limits.connections.min(usize::try_from(fitting).unwrap_or(usize::MAX));
    let streams = limits.streams.min(connections.div_ceil(2));
    Limits { connections, streams, ..limits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        let limits = Limits::default();
        assert_eq!(fit(limits, ENOUGH), limits);
        let few = fit(limits, 1024);
        assert_eq!((few.connections, few.streams), (416, 208));
        assert_eq!(fit(limits, 64).connections, 16);
        let own = Limits { connections: 3, streams: 2, ..limits };
        assert_eq!(fit(own, 1024), own);
    }
}
