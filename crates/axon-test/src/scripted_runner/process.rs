//! The life of the process: launch, ready, serve, exit.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::wire::{ControlRecord, Launch, PROTOCOL, ReadyRecord};
use axum::Router;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::app::App;
use super::descriptors::{self, Descriptors};
use super::script::{Life, OnDump, OnTerm, RunnerScript, Start};
use super::server;

/// How long connections may stay open when the process is about to exit.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// Runs a scripted runner: the whole `main` of a binary, called before anything else. Ends the
/// process instead of returning.
///
/// The first argument names the file with the [`RunnerScript`].
pub fn main() -> ! {
    // The control socket closes with the process and not before: who sees it closed sees the end.
    let (_control, outcome) = match descriptors::take() {
        Ok(Descriptors { control, listener, lifeline }) => {
            let outcome =
                descriptors::arm(lifeline).and_then(|()| run(Control(&control), listener));
            (Some(control), outcome)
        }
        Err(error) => (None, Err(error)),
    };
    let code = outcome.unwrap_or_else(|error| {
        let _nobody_listens = writeln!(io::stderr(), "scripted runner: {error}");
        1
    });
    std::process::exit(code)
}

fn run(mut control: Control<'_>, listener: StdUnixListener) -> io::Result<i32> {
    let script = read_script()?;
    let launch = match control.read_launch()? {
        Ok(launch) => launch,
        Err(error) => return control.fail(error),
    };
    let life = script.life(launch.generation);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(live(control, listener, launch, life))?;
    // Whatever still waits has no say in the exit.
    runtime.shutdown_background();
    Ok(code)
}

fn read_script() -> io::Result<RunnerScript> {
    let path = std::env::args_os().nth(1);
    let path = path.ok_or_else(|| io::Error::other("the first argument names no script"))?;
    let wrong = |error: &dyn std::fmt::Display| {
        io::Error::other(format!("{}: {error}", Path::new(&path).display()))
    };
    let text = std::fs::read(&path).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&text).map_err(|error| wrong(&error))
}

async fn live(
    mut control: Control<'_>,
    listener: StdUnixListener,
    launch: Launch,
    life: Life,
) -> io::Result<i32> {
    let mut ready = ReadyRecord {
        protocol: PROTOCOL,
        generation: launch.generation,
        pid: std::process::id(),
        versions: [("scripted_runner".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
    };
    answer_dumps(life.on_dump)?;
    match &life.start {
        Start::Ready => {}
        Start::ReadyAfterMs(millis) => tokio::time::sleep(Duration::from_millis(*millis)).await,
        Start::ReadyThenDie { after_ms, death } => {
            let (after, death) = (Duration::from_millis(*after_ms), death.clone());
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                death.die();
            });
        }
        Start::NeverReady => std::future::pending().await,
        Start::DieBeforeReady(death) => death.die(),
        Start::GarbageInsteadOfReady(line) => {
            control.write_line(line.as_bytes())?;
            std::future::pending::<()>().await;
        }
        Start::Failed(error) => return control.fail(error.clone()),
        Start::WrongProtocol => ready.protocol += 1,
        Start::WrongGeneration => ready.generation = ready.generation.next(),
    }
    let app = Arc::new(App::new(launch, life));
    let stop = stopped(app.clone())?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    control.write(&ControlRecord::Ready(ready))?;
    serve(listener, app, stop).await
}

/// Serves until `stop`, and then until every connection is closed or has had its time.
async fn serve(
    listener: UnixListener,
    app: Arc<App>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<i32> {
    let router = Router::new().fallback(server::handle).with_state(app);
    let (stopping, stopped) = oneshot::channel();
    let shutdown = async move {
        stop.await;
        let _serving_has_ended = stopping.send(());
    };
    let late = async {
        let _serving_has_ended = stopped.await;
        tokio::time::sleep(LAST_WRITES).await;
    };
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(shutdown) => served?,
        () = late => {}
    }
    Ok(0)
}

/// Returns a future that resolves when the process is to exit: drained, or told to by SIGTERM.
fn stopped(app: Arc<App>) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut term = signal(SignalKind::terminate())?;
    Ok(async move {
        let told = async {
            loop {
                term.recv().await;
                if app.life().on_term == OnTerm::Exit {
                    return;
                }
            }
        };
        tokio::select! {
            () = app.runs().drained() => {}
            () = told => {
                app.runs().drain();
                app.runs().cancel_all();
                // A frozen attempt never ends.
                let _in_time = tokio::time::timeout(LAST_WRITES, app.runs().drained()).await;
            }
        }
    })
}

/// A stack dump as a Python runner writes it.
const DUMP: &str = "Thread 0x0000000000000001 (most recent call first):\n  \
                    File \"runner-script.json\", line 1 in scripted\n";

fn answer_dumps(on_dump: OnDump) -> io::Result<()> {
    if on_dump == OnDump::Die {
        return Ok(());
    }
    let mut asked = signal(SignalKind::user_defined1())?;
    tokio::spawn(async move {
        while asked.recv().await.is_some() {
            if on_dump == OnDump::Write {
                let _nobody_listens = io::stderr().write_all(DUMP.as_bytes());
            }
        }
    });
    Ok(())
}

/// The control socket.
struct Control<'a>(&'a UnixStream);

impl Control<'_> {
    fn read_launch(&self) -> io::Result<Result<Launch, Failure>> {
        let mut line = Vec::new();
        BufReader::new(self.0).read_until(b'\n', &mut line)?;
        let refused = |message: String| Ok(Err(Failure::new(FailureKind::Config, message)));
        match serde_json::from_slice::<Launch>(&line) {
            Ok(launch) if launch.protocol == PROTOCOL => Ok(Ok(launch)),
            Ok(launch) => refused(format!("protocol {} is not {PROTOCOL}", launch.protocol)),
            Err(error) => refused(format!("the launch record cannot be used: {error}")),
        }
    }

    fn write(&mut self, record: &ControlRecord) -> io::Result<()> {
        self.write_line(&serde_json::to_vec(record)?)
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.0.write_all(&[line, b"\n"].concat())
    }

    fn fail(&mut self, error: Failure) -> io::Result<i32> {
        self.write(&ControlRecord::Failed { error: Box::new(error) })?;
        Ok(1)
    }
}
