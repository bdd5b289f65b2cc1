//! Many open streams of slow runs.

use std::time::Duration;

use anyhow::Context;
use axon_test::scripted_runner::{Life, Step, When};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use tokio::time::Instant;

use crate::asking::{Stream, firsts};
use crate::memory::pss;
use crate::service::{Service, played};
use crate::shared::{host, say};
use crate::table::{each, mib, print, times};

/// How many requests that open something are under way at once.
const AT_ONCE: usize = 32;

/// How often a new caller asks, before and while the streams are open.
const CALLERS: usize = 100;

/// Pieces of text of a slow run.
const PIECES: usize = 60;

/// How long a slow run waits before each of them.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many streams.
    #[arg(long, default_value_t = 1000)]
    streams: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { streams: 1000 }
    }
}

fn spoken() -> String {
    (0..PIECES).map(|n| format!("{n} ")).collect()
}

fn script() -> Life {
    let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
    let pieces = (0..PIECES).flat_map(|n| [Step::SleepMs(pause), Step::text(format!("{n} "))]);
    Life::default()
        .on(When::prompt("slow"), pieces.chain([Step::complete("slow")]))
        .always([Step::text("Well."), Step::complete("{{prompt}}")])
}

pub(crate) async fn measure(options: Options) -> anyhow::Result<()> {
    let count = options.streams;
    let data = tempfile::Builder::new().prefix("axon-bench-").tempdir()?;
    played(data.path(), "talker", script().into())?;
    let service = Service::start(&host::host(data.path(), "http://127.0.0.1:9"), &[]).await?;
    service.up("talker", 1).await?;
    let quick = || service.ask("talker", "quick");
    firsts(CALLERS, quick).await?;
    let (alone, empty) = (firsts(CALLERS, quick).await?, pss(service.pid)?);

    say(&format!("streams: {count} slow runs"));
    let began = Instant::now();
    let runs: Vec<String> = stream::iter(0..count)
        .map(|_| begin(&service))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let with_runs = pss(service.pid)?;
    say(&format!("streams: {count} streams"));
    let streams: Vec<Stream> = stream::iter(&runs)
        .map(|run| Stream::open(service.get(&format!("/v1/runs/{run}/events"))))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let opened = began.elapsed();
    let readers: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(read(stream))).collect();
    let with_streams = pss(service.pid)?;
    let among = firsts(CALLERS, quick).await?;
    anyhow::ensure!(!readers.iter().any(|reader| reader.is_finished()), "the runs were too short");
    let mut whole = 0;
    for reader in readers {
        if reader.await?? {
            whole += 1;
        }
    }
    let taken = began.elapsed().as_secs_f64();
    service.end().await?;
    print(
        &format!("{count} open streams of slow runs"),
        &[
            ("the service alone", mib(empty)),
            ("with the runs", mib(with_runs)),
            ("with the runs and the streams", mib(with_streams)),
            ("a run", each(empty, with_runs, count)),
            ("a stream", each(with_runs, with_streams, count)),
            ("streams with every event", format!("{whole} of {count}")),
            ("begun and opened within", format!("{:.1} s", opened.as_secs_f64())),
            ("all over after", format!("{taken:.1} s, of which {:.0} s are pauses", pauses())),
            ("first text, without them", times(&alone)),
            ("first text, while they are open", times(&among)),
        ],
    )
}

fn pauses() -> f64 {
    PIECES as f64 * PAUSE.as_secs_f64()
}

async fn begin(service: &Service) -> anyhow::Result<String> {
    let request = service.ask("talker", "slow").header("Prefer", "respond-async");
    let begun: Value = request.send().await?.json().await?;
    Ok(begun["run_id"].as_str().with_context(|| format!("no run in {begun}"))?.to_owned())
}

/// Reads to the end, and returns whether nothing was missing and nothing came twice.
async fn read(mut stream: Stream) -> anyhow::Result<bool> {
    let (mut text, mut last, mut is_whole) = (String::new(), 0, true);
    while let Some((name, data)) = stream.next().await? {
        let seq = data["seq"].as_u64().unwrap_or_default();
        is_whole &= name != "lagged" && seq > last;
        last = seq;
        if name == "text_delta" {
            text += data["text"].as_str().unwrap_or_default();
        }
        if name == "completed" {
            return Ok(is_whole && text == spoken());
        }
    }
    Ok(false)
}
