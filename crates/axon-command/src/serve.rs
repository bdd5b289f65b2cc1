//! `axon serve`: the agents over HTTP, until a signal ends it.

mod descriptors;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axon_kernel::config::ServeSettings;
use axon_kernel::event::millis;
use axon_kernel::store::{Forget, Forgotten, Store};
use axon_kernel::time::Timestamp;
use axon_runtime::{AgentState, Runtime};
use axon_server::{
    ConfigError, Limits, Page, Server, ServerConfig, install_recorder, serve_metrics,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::args::ServeArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::runs::now;
use crate::session::Session;
use crate::signals::Signal;
use crate::terminal::{self, printable};

/// Where it listens where nobody says it.
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8700);

/// How often old runs are forgotten.
const TIDIED_EVERY: Duration = Duration::from_secs(60);

/// How many old runs are forgotten at a time.
const TIDIED: u64 = 1000;

/// Serves until a signal ends it.
pub(crate) async fn run(args: ServeArgs, mut session: Session) -> Result<Exit, Report> {
    let settings = session.settings()?;
    let Settled { listen: at, metrics_listen, mut config } =
        settle(&args, &settings.serve, &session)?;
    config.check()?;
    config.limits = fitting(config.limits);
    let page = page(&args, &session)?;
    let keep = settings.store.keep_runs;
    let definitions = session.definitions();
    // Before anything is started, so that what is taken is told at once.
    let (listener, address) = listen(at).await?;
    let apart = match metrics_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    // Before anything counts. Whoever embeds the command line may have a recorder already.
    let render = install_recorder().ok();
    let runtime = session.start_service(args.target.as_deref(), args.offline).await?;
    let server = Server::builder(runtime.clone()).config(config).definitions(definitions);
    let server = match page {
        Some(page) => server.page(page),
        None => server,
    };
    let (server, scraped) = match (render, apart) {
        (Some(render), None) => (server.metrics(render), None),
        (Some(render), Some(apart)) => (server, Some((render, apart))),
        (None, _) => (server, None),
    };
    let server = match server.build() {
        Ok(server) => server,
        Err(error) => {
            runtime.shutdown().await;
            return Err(error.into());
        }
    };
    if let Some((_, (_, address))) = &scraped {
        terminal::say(&format!("metrics at http://{address}/metrics"));
    }
    say_ready(address, &runtime).await;
    tokio::select! {
        ended = serve(server, listener, &mut session) => ended,
        never = tidy(runtime.store().as_ref(), keep) => match never {},
        never = give_metrics(scraped) => match never {},
    }
}

/// Gives the metrics at a listener of their own, if they have one. Their end is not the service's.
async fn give_metrics<R: Fn() -> String + Send + Sync + 'static>(
    scraped: Option<(R, (TcpListener, SocketAddr))>,
) -> Infallible {
    if let Some((render, (listener, address))) = scraped {
        let error = serve_metrics(listener, render).await;
        tracing::error!(%address, %error, "metrics cannot be given any more");
    }
    std::future::pending().await
}

/// Forgets the runs that ended long ago, a few at a time, so that others hardly wait for it.
async fn tidy(store: &dyn Store, keep: Duration) -> Infallible {
    let mut due = tokio::time::interval(TIDIED_EVERY);
    loop {
        due.tick().await;
        let before = Timestamp(now().0.saturating_sub(millis(keep)));
        let what = Forget { runs_before: Some(before), at_most: TIDIED, ..Forget::default() };
        loop {
            match store.forget(&what).await {
                Ok(gone) if gone == Forgotten::default() => break,
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::warn!(%error, "old runs could not be forgotten");
                    break;
                }
            }
        }
    }
}

async fn serve(
    server: Server,
    listener: TcpListener,
    session: &mut Session,
) -> Result<Exit, Report> {
    let (tell, told) = oneshot::channel::<Signal>();
    let signal = async {
        let signal = session.signals.next().await;
        terminal::say(&format!("{}: letting runs finish", signal.reason()));
        // Nobody listens any more only if the server has ended.
        let _ended = tell.send(signal);
    };
    let ended = server.serve(listener, signal).await.map_err(|error| {
        Report::failed("no connection can be accepted any more").because(error.to_string())
    })?;
    if ended.stopped == 0 {
        return Ok(Exit::OK);
    }
    let count = ended.stopped;
    terminal::say(&format!("{count} runs did not finish in time, and go on with the next start"));
    Ok(told.await.map_or(Exit::FAILED, Signal::exit))
}

/// Says where the agents are served, and which of them are not.
async fn say_ready(address: SocketAddr, runtime: &Runtime) {
    let entries = runtime.directory().entries().await;
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    terminal::say(&format!("http://{address} serves {}", names.join(", ")));
    for entry in &entries {
        if let AgentState::Parked { cause, .. } = &entry.state {
            let cause = printable(cause.lines().next().unwrap_or_default());
            terminal::say(&format!("agent `{}` is parked: {cause}", entry.name));
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Report> {
    let cannot = |error: std::io::Error| cannot_listen(address, &error);
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    Ok((listener, bound))
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Report {
    Report::new("environment", Exit::ENVIRONMENT, format!("cannot listen at {address}"))
        .because(error.to_string())
        .todo("choose another port with --listen; port 0 takes any")
}

/// How it is served, once everything that can say so was asked.
struct Settled {
    listen: SocketAddr,
    metrics_listen: Option<SocketAddr>,
    config: ServerConfig,
}

/// Puts together what was typed, what the environment says, and what the file says, in this order.
/// Nothing beyond this machine is served without a token.
fn settle(args: &ServeArgs, file: &ServeSettings, session: &Session) -> Result<Settled, Report> {
    let listen = args.listen.or(file.listen).unwrap_or(LISTEN);
    let (typed, configured) = (args.token_file.as_deref(), file.token_file.as_deref());
    let token = session.token(typed, "AXON_TOKEN_FILE", configured)?;
    let (typed, configured) = (args.read_token_file.as_deref(), file.read_token_file.as_deref());
    let read_only_token = session.token(typed, "AXON_READ_TOKEN_FILE", configured)?;
    if token.is_none() && !listen.ip().is_loopback() {
        let what = format!("{listen} can be reached from other machines");
        return Err(Report::config(what)
            .because("whoever reaches it could do everything: there is no token")
            .todo("openssl rand -hex 32 > token, and then --token-file token")
            .todo("or listen at 127.0.0.1, for this machine only"));
    }
    let mut config = of_file(file);
    (config.token, config.read_only_token) = (token, read_only_token);
    if !args.allowed_host.is_empty() {
        config.allowed_hosts.clone_from(&args.allowed_host);
    }
    if !args.allowed_origin.is_empty() {
        config.allowed_origins.clone_from(&args.allowed_origin);
    }
    if !listen.ip().is_unspecified() {
        // The address itself is no name that somebody else could point here.
        config.allowed_hosts.push(match listen.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
    }
    if let Some(drain) = args.drain {
        config.limits.drain = drain;
    }
    Ok(Settled { listen, metrics_listen: args.metrics_listen.or(file.metrics_listen), config })
}

/// Returns what the file says of the server, tokens aside.
fn of_file(file: &ServeSettings) -> ServerConfig {
    let mut limits = Limits::default();
    limits.drain = file.drain.unwrap_or(limits.drain);
    ServerConfig {
        allowed_hosts: file.allowed_hosts.clone(),
        allowed_origins: file.allowed_origins.clone(),
        limits,
        ..ServerConfig::default()
    }
}

/// Makes room for the connections that are taken, and takes no more than there is room for.
fn fitting(limits: Limits) -> Limits {
    let files = descriptors::raise();
    let fitting = descriptors::fit(limits, files);
    if fitting != limits {
        terminal::say(&format!(
            "at most {} connections and {} streams at once: this process may open {files} files \
             (ulimit -n)",
            fitting.connections, fitting.streams
        ));
    }
    fitting
}

/// Reads the page that is served beside the routes, if there is one.
fn page(args: &ServeArgs, session: &Session) -> Result<Option<Page>, Report> {
    let Some(folder) = &args.page else { return Ok(None) };
    Ok(Some(Page::read(&session.host.directory.join(folder))?))
}

/// Checks what the file says of the server without reading any token.
pub(crate) fn check(file: &ServeSettings) -> Result<(), Report> {
    match of_file(file).check() {
        // The token may come from elsewhere.
        Ok(()) | Err(ConfigError::Open(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl From<ConfigError> for Report {
    fn from(error: ConfigError) -> Self {
        let report = Self::config(error.to_string());
        match error {
            ConfigError::Token | ConfigError::SameToken => {
                report.todo("write another one into the file: openssl rand -hex 32")
            }
            ConfigError::ReadOnlyAlone => report.todo("give the other one: --token-file FILE"),
            ConfigError::Open(_) => {
                report.todo("openssl rand -hex 32 > token, and then --token-file token")
            }
            ConfigError::Host(_) => {
                report.todo("correct --allowed-host, or `allowed_hosts` of axon.toml")
            }
            ConfigError::Origin(_) => {
                report.todo("correct --allowed-origin, or `allowed_origins` of axon.toml")
            }
            ConfigError::Limit(_) => report,
        }
    }
}
