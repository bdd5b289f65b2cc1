//! Clients that ask for a stream and read nothing of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axon_test::scripted_runner::{Life, Step, When};
use clap::Args;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::asking::firsts;
use crate::memory::pss;
use crate::service::{Service, played};
use crate::shared::{host, say};
use crate::table::{mib, print, times};

/// How many others ask meanwhile, before and after.
const CALLERS: usize = 200;

/// What a deaf client's system keeps of what it is sent, in bytes: as little as can be asked for.
const UNREAD: u32 = 2048;

/// How large a piece of text is that it is sent, in bytes.
const PIECE: usize = 4096;

/// Pieces, and the pause before each: more than any buffer of the system holds, and for longer than
/// a client that takes nothing is borne.
const PIECES: usize = 300;
const PAUSE_MS: u64 = 250;

/// When a run is over for so long, the service keeps nothing of it in memory.
const FORGOTTEN: Duration = Duration::from_secs(35);

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many clients.
    #[arg(long, default_value_t = 500)]
    clients: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { clients: 500 }
    }
}

fn script() -> Life {
    let piece = "x".repeat(PIECE);
    let pieces = (0..PIECES).flat_map(|_| [Step::SleepMs(PAUSE_MS), Step::text(piece.as_str())]);
    Life::default()
        .on(When::prompt("flood"), pieces.chain([Step::complete("flood")]))
        .always([Step::text("Well."), Step::complete("{{prompt}}")])
}

pub(crate) async fn measure(options: Options) -> anyhow::Result<()> {
    let count = options.clients;
    let data = tempfile::Builder::new().prefix("axon-bench-").tempdir()?;
    played(data.path(), "flood", script().into())?;
    played(data.path(), "talker", script().into())?;
    let service = Service::start(&host::host(data.path(), "http://127.0.0.1:9"), &[]).await?;
    for agent in ["flood", "talker"] {
        service.up(agent, 1).await?;
    }
    let quick = || service.ask("talker", "quick");
    firsts(CALLERS, quick).await?;
    let (alone, empty) = (firsts(CALLERS, quick).await?, pss(service.pid)?);

    say(&format!("deaf: {count} clients that never read"));
    let began = Instant::now();
    let mut deaf = Vec::new();
    for _ in 0..count {
        deaf.push(ask_and_never_read(&service.address).await?);
    }
    let watch = Watch::begin(service.pid);
    let among = firsts(CALLERS, quick).await?;
    // Until the service has given all of them up, and their runs with them.
    let mut open = count;
    let mut gone = None;
    while open > 0 && began.elapsed() < Duration::from_secs(180) {
        open = running(&service).await?;
        tokio::time::sleep(Duration::from_millis(250)).await;
        if open == 0 {
            gone = Some(began.elapsed());
        }
    }
    let most = watch.end();
    let later = firsts(CALLERS, quick).await?;
    let after = pss(service.pid)?;
    tokio::time::sleep(FORGOTTEN).await;
    let forgotten = pss(service.pid)?;
    drop(deaf);
    service.end().await?;
    let gone = gone.map_or("never".to_owned(), |after| format!("{:.1} s", after.as_secs_f64()));
    print(
        &format!("{count} clients that never read"),
        &[
            ("the service without them", mib(empty)),
            ("at most", mib(most)),
            ("afterwards", mib(after)),
            ("35 s later", mib(forgotten)),
            ("all given up, runs cancelled, after", gone),
            ("first text of others, before", times(&alone)),
            ("first text of others, meanwhile", times(&among)),
            ("first text of others, afterwards", times(&later)),
        ],
    )
}

async fn running(service: &Service) -> anyhow::Result<usize> {
    let path = "/v1/runs?state=queued,running&agent=flood&limit=1000";
    let page: serde_json::Value = service.get(path).send().await?.json().await?;
    Ok(page["runs"].as_array().map_or(0, Vec::len))
}

async fn ask_and_never_read(address: &str) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(UNREAD)?;
    let mut stream = socket.connect(address.parse()?).await?;
    let body = r#"{"prompt":"flood"}"#;
    let length = body.len();
    let request = format!(
        "POST /v1/agents/flood/runs HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Watches the memory of a process.
struct Watch {
    ends: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
}

impl Watch {
    fn begin(pid: u32) -> Self {
        let watch = Self { ends: Arc::default(), most: Arc::default() };
        let (ends, most) = (watch.ends.clone(), watch.most.clone());
        tokio::spawn(async move {
            while !ends.load(Ordering::Relaxed) {
                most.fetch_max(pss(pid).unwrap_or_default(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        watch
    }

    fn end(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.most.load(Ordering::Relaxed)
    }
}
