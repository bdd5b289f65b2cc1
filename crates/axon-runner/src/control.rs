//! The control socket of a runner: launch data out, ready and log records in.

use std::os::unix::net::UnixStream as StdUnixStream;

use axon_kernel::failure::Failure;
use axon_kernel::json::excerpt;
use axon_kernel::wire::{ControlRecord, Launch, ReadyRecord};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Take};
use tokio::net::UnixStream;

use crate::logs;

/// The longest record, in bytes; a traceback fits.
const RECORD_BYTES: u64 = 1024 * 1024;

/// The control socket, read line by line.
pub(crate) type Control = Take<BufReader<UnixStream>>;

/// What a runner said first.
pub(crate) enum First {
    Ready(ReadyRecord, Control),
    Failed(Box<Failure>),
    Garbage(String),
    Closed,
    Silence,
}

/// Writes the launch data and reads up to the first record that is no log record.
pub(crate) async fn handshake(
    control: StdUnixStream,
    launch: &Launch,
    source: logs::Source,
) -> std::io::Result<First> {
    control.set_nonblocking(true)?;
    let mut control = UnixStream::from_std(control)?;
    let mut line = serde_json::to_vec(launch)?;
    line.push(b'\n');
    if control.write_all(&line).await.is_err() {
        // The process is gone; how it ended says more than this does.
        return Ok(First::Closed);
    }
    let mut control = BufReader::new(control).take(RECORD_BYTES);
    loop {
        match next_record(&mut control).await {
            None => return Ok(First::Closed),
            Some(Err(garbage)) => return Ok(First::Garbage(garbage)),
            Some(Ok(ControlRecord::Ready(ready))) => return Ok(First::Ready(ready, control)),
            Some(Ok(ControlRecord::Failed { error })) => return Ok(First::Failed(error)),
            Some(Ok(ControlRecord::Log(record))) => source.log(&record),
        }
    }
}

/// Reads log records until the runner closes its end, and passes on as many as `source` admits.
pub(crate) async fn relay_logs(mut control: Control, agent: String, source: logs::Source) {
    while let Some(record) = next_record(&mut control).await {
        match record {
            Ok(ControlRecord::Log(record)) => source.log(&record),
            Ok(ControlRecord::Ready(_) | ControlRecord::Failed { .. }) => {
                tracing::warn!(agent, "the runner repeated its ready record");
            }
            Err(garbage) => {
                let garbage = &*source.redact(&garbage);
                tracing::warn!(agent, garbage, "the runner wrote no control record");
            }
        }
    }
}

async fn next_record(control: &mut Control) -> Option<Result<ControlRecord, String>> {
    control.set_limit(RECORD_BYTES);
    let mut line = Vec::new();
    match control.read_until(b'\n', &mut line).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(
            serde_json::from_slice(&line)
                .map_err(|_error| excerpt(String::from_utf8_lossy(&line).trim_end(), 200)),
        ),
    }
}
