//! A model provider that says what a test tells it to say.
//!
//! [`ScriptedModel`] is an OpenAI-compatible chat-completions server on a real loopback socket, so
//! the real OpenAI client and pydantic-ai run against it, failures included. Start reading at
//! [`Reply`] (what the model says), then [`Script`] (which reply a request gets). Like a real
//! provider it refuses a history with tool calls that are not answered.
//!
//! No task outlives a dropped [`ScriptedModel`]: it runs on a thread and runtime of its own, which
//! dropping it ends and joins. The paused clock of a test does therefore not pause its delays.

mod bank_support;
mod chat_request;
mod completion;
mod connection;
mod reply;
mod script;
mod server;
mod traffic;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::oneshot;

pub use bank_support::{bank_support_reply, bank_support_script};
pub use chat_request::ChatRequest;
pub use reply::{FinishReason, Reply, Usage};
pub use script::Script;
pub use traffic::{RecordedRequest, Traffic};

use traffic::TrafficLog;

/// A scripted model provider that lives until it is dropped.
///
/// # Examples
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use axon_test::scripted_model::{Reply, ScriptedModel};
///
/// let model = ScriptedModel::start(Reply::text("Hello!")).await;
/// // Give `model.base_url()` to a runner as OPENAI_BASE_URL, run an agent, then look at what it sent.
/// assert!(model.requests().is_empty());
/// # });
/// ```
#[derive(Debug)]
pub struct ScriptedModel {
    address: SocketAddr,
    traffic: TrafficLog,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedModel {
    /// Starts a provider on a free port of 127.0.0.1, which accepts requests from then on.
    ///
    /// # Panics
    ///
    /// If the machine has no thread or no loopback port left for it.
    pub async fn start(script: impl Into<Script>) -> Self {
        let traffic = TrafficLog::default();
        let (stop, stopped) = oneshot::channel();
        let (ready, bound) = oneshot::channel();
        let (script, log) = (script.into(), traffic.clone());
        let thread = std::thread::Builder::new()
            .name("scripted-model".to_owned())
            .spawn(move || run(script, log, ready, stopped))
            .expect("a test has a thread to spare for the scripted model");
        let address = bound
            .await
            .expect("the scripted model reports its port before it ends")
            .expect("loopback has a free port");
        Self { address, traffic, stop: Some(stop), thread: Some(thread) }
    }

    /// The value for `OPENAI_BASE_URL`: `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Every chat request so far, in order of arrival.
    pub fn requests(&self) -> Vec<Arc<RecordedRequest>> {
        self.traffic.current().requests().to_vec()
    }

    /// How many requests are being answered now: streams in progress, delays and hangs.
    pub fn open_streams(&self) -> usize {
        self.traffic.current().open_streams()
    }

    /// How many clients closed their connection before their answer's end.
    pub fn disconnects(&self) -> usize {
        self.traffic.current().disconnects()
    }

    /// Waits until the traffic is as `condition` says. It has no deadline: a caller brings one.
    pub async fn wait_until(&self, condition: impl FnMut(&Traffic) -> bool) {
        self.traffic.wait_until(condition).await;
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server's thread has printed itself; a second one here would abort.
            let _ = thread.join();
        }
    }
}

/// Binds `addr` and answers from `script` until the process ends: the entry for a binary.
///
/// It keeps no record of the requests, and runs on the caller's runtime.
///
/// # Errors
///
/// When `addr` cannot be bound.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use axon_test::scripted_model::{bank_support_script, serve_forever};
///
/// serve_forever("127.0.0.1:8800", bank_support_script()).await
/// # }
/// ```
pub async fn serve_forever(addr: impl ToSocketAddrs, script: impl Into<Script>) -> io::Result<()> {
    serve(TcpListener::bind(addr).await?, script).await
}

/// Like [`serve_forever`], on a listener whose port the caller knows already.
///
/// # Errors
///
/// None today: accepting goes on after failed connections.
pub async fn serve(listener: TcpListener, script: impl Into<Script>) -> io::Result<()> {
    server::serve(listener, script.into(), None).await
}

/// The body of the server's thread: dropping the runtime at its end drops every connection.
fn run(
    script: Script,
    log: TrafficLog,
    ready: oneshot::Sender<io::Result<SocketAddr>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async move {
        let listener = match TcpListener::bind(("127.0.0.1", 0)).await {
            Ok(listener) => listener,
            Err(error) => return drop(ready.send(Err(error))),
        };
        if ready.send(listener.local_addr()).is_ok() {
            tokio::select! {
                _ = server::serve(listener, script, Some(log)) => {}
                _ = stopped => {}
            }
        }
    });
}
