//! The world outside: the model provider and what tools act on. It counts, and it can stop whoever
//! arrives until somebody lets go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axon_kernel::ids::RunId;
use axon_test::scripted_model::{ChatRequest, Reply, Script, ScriptedModel};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::cell::{Boundary, Cell, When};

/// Whoever is stopped goes on by itself after this long: the lane has failed.
const STOPPED: Duration = Duration::from_secs(60);

/// One trap springs once.
const SPRUNG: usize = 1;

/// What the world is told over the socket, one line of JSON each; it answers with a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum Arrival {
    /// The store is about to append, or has appended.
    Append {
        /// The run.
        run: RunId,
        /// Whether the append is done.
        done: bool,
        /// The names of the events.
        events: Vec<String>,
    },
    /// The store could not append.
    Failed {
        /// The run.
        run: RunId,
        /// Why, in a word.
        code: String,
    },
    /// A tool acts.
    Effect {
        /// Whose.
        cell: String,
        /// Which of its calls.
        call: u32,
        /// Its idempotency key.
        key: String,
    },
}

/// Where the world stops whoever arrives first.
#[derive(Clone, Debug, PartialEq)]
pub struct Trap {
    name: String,
    cell: Cell,
    /// How many have passed there.
    passed: usize,
    /// Whether a result of a tool has been recorded.
    returned: bool,
    /// Runs that were there before: those of earlier cells may still go on.
    others: BTreeSet<RunId>,
}

impl Trap {
    /// Makes the trap of `cell`, whose run calls itself `name`.
    #[must_use]
    pub fn new(name: &str, cell: Cell) -> Self {
        Self { name: name.to_owned(), cell, passed: 0, returned: false, others: BTreeSet::new() }
    }

    /// Lets these runs pass.
    #[must_use]
    pub fn sparing(mut self, others: &BTreeSet<RunId>) -> Self {
        self.others.clone_from(others);
        self
    }

    fn is_at(&self, boundary: Boundary, when: When) -> bool {
        self.cell.boundary == boundary && self.cell.when == when
    }

    fn springs_at_append(&mut self, run: &RunId, done: bool, events: &[String]) -> bool {
        if self.others.contains(run) {
            return false;
        }
        let has = |name: &str| events.iter().any(|event| event == name);
        self.returned |= has("tool_returned");
        let wanted = match self.cell.boundary {
            Boundary::Accepted => "accepted",
            Boundary::Intent => "tool_called",
            Boundary::Result => "tool_returned",
            Boundary::Checkpoint => "checkpoint",
            Boundary::Pause => "paused",
            Boundary::Reply => "completed",
            Boundary::Effect | Boundary::Permit => return false,
        };
        let late = self.cell.boundary == Boundary::Checkpoint && self.cell.calls() > 0;
        let when = if done { When::After } else { When::Before };
        has(wanted) && self.cell.when == when && (self.returned || !late)
    }

    fn springs_at_effect(&mut self, cell: &str, when: When) -> bool {
        if self.name != cell || !self.is_at(Boundary::Effect, when) {
            return false;
        }
        self.passed += 1;
        self.passed == self.cell.calls().min(2)
    }

    fn springs_at_request(&self, cell: &str, step: usize, when: When) -> bool {
        let first = usize::from(self.cell.calls() > 0);
        self.name == cell && self.is_at(Boundary::Permit, when) && step == first
    }
}

/// How somebody who was stopped goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// As if nothing had been.
    Go,
    /// Not at all: what it wanted does not happen.
    Cut,
}

/// Somebody stands still at the boundary.
#[derive(Debug)]
pub struct Sprung(SyncSender<Passage>);

impl Sprung {
    /// Lets go.
    pub fn release(self, passage: Passage) {
        // Whoever waited may be dead.
        let _gone = self.0.send(passage);
    }
}

/// What the world has counted for one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// The messages of every request, by the number of answers that the model had given before.
    pub requests: BTreeMap<usize, Vec<String>>,
    /// The idempotency key of every call that took effect, by the number of the call.
    pub calls: BTreeMap<u32, Vec<String>>,
}

#[derive(Debug, Default)]
struct State {
    trap: Option<Trap>,
    counts: BTreeMap<String, Counts>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    sprung: mpsc::Sender<Sprung>,
    /// How often appends have failed, by run.
    failed: watch::Sender<BTreeMap<RunId, u64>>,
    address: String,
}

/// The world outside of a host program. It ends when it is dropped.
#[derive(Debug)]
pub struct World {
    shared: Arc<Shared>,
    model: ScriptedModel,
    server: JoinHandle<()>,
}

impl World {
    /// Starts it, and returns where it tells that somebody stands still.
    ///
    /// # Errors
    ///
    /// If no port is left.
    pub async fn start() -> anyhow::Result<(Self, mpsc::Receiver<Sprung>)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port is left")?;
        let (sprung, springs) = mpsc::channel(SPRUNG);
        let address = listener.local_addr()?.to_string();
        let (state, failed) = (Mutex::default(), watch::Sender::default());
        let shared = Arc::new(Shared { state, sprung, failed, address });
        let asked = shared.clone();
        let model = ScriptedModel::start(Script::function(move |body| asked.answer(body))).await;
        let server = tokio::spawn(serve(listener, shared.clone()));
        Ok((Self { shared, model, server }, springs))
    }

    /// Returns the address of the model provider.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.model.base_url()
    }

    /// Returns where tools and stores tell what they do.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Sets the trap, or takes it away.
    pub fn set(&self, trap: Option<Trap>) {
        self.shared.state().trap = trap;
    }

    /// Returns what was counted for the run that calls itself `name`.
    #[must_use]
    pub fn counts(&self, name: &str) -> Counts {
        self.shared.state().counts.get(name).cloned().unwrap_or_default()
    }

    /// Returns what was counted for every run.
    #[must_use]
    pub fn all_counts(&self) -> BTreeMap<String, Counts> {
        self.shared.state().counts.clone()
    }

    /// Waits until an append has failed that `wanted` fits. It has no deadline: a caller brings one.
    pub async fn failed_append(&self, wanted: impl Fn(&RunId) -> bool) {
        let mut failed = self.shared.failed.subscribe();
        // The sender lives in `self`.
        let _open = failed.wait_for(|failed| failed.keys().any(&wanted)).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops here if `springs` says so of the trap, until the lane lets go. Blocks the thread.
    fn pass(&self, springs: impl FnOnce(&mut Trap) -> bool) -> Passage {
        let mut state = self.state();
        if !state.trap.as_mut().is_some_and(springs) {
            return Passage::Go;
        }
        state.trap = None;
        drop(state);
        let (go, gone) = sync_channel(1);
        if self.sprung.try_send(Sprung(go)).is_err() {
            return Passage::Go;
        }
        gone.recv_timeout(STOPPED).unwrap_or(Passage::Go)
    }

    fn take(&self, arrival: Arrival) -> Passage {
        match arrival {
            Arrival::Append { run, done, events } => {
                self.pass(|trap| trap.springs_at_append(&run, done, &events))
            }
            Arrival::Failed { run, .. } => {
                self.failed.send_modify(|failed| *failed.entry(run).or_default() += 1);
                Passage::Go
            }
            Arrival::Effect { cell, call, key } => {
                if self.pass(|trap| trap.springs_at_effect(&cell, When::Before)) == Passage::Cut {
                    return Passage::Cut;
                }
                let mut state = self.state();
                let counts = state.counts.entry(cell.clone()).or_default();
                counts.calls.entry(call).or_default().push(key);
                drop(state);
                self.pass(|trap| trap.springs_at_effect(&cell, When::After))
            }
        }
    }

    /// Answers a request of the model as its prompt says.
    fn answer(&self, body: &Value) -> Reply {
        let request = ChatRequest::new(body);
        let Ok(prompt) = serde_json::from_str::<Value>(&request.user_prompt()) else {
            return Reply::error(400, "no_prompt_of_ours");
        };
        let cell = prompt["cell"].as_str().unwrap_or_default().to_owned();
        let turn = request.messages().iter().rposition(|message| message["role"] == "user");
        let since = &request.messages()[turn.unwrap_or(0)..];
        let step = since.iter().filter(|message| message["role"] == "assistant").count();
        if self.pass(|trap| trap.springs_at_request(&cell, step, When::Before)) == Passage::Cut {
            return Reply::disconnect();
        }
        let messages = body["messages"].to_string();
        let mut state = self.state();
        let counts = state.counts.entry(cell.clone()).or_default();
        counts.requests.entry(step).or_default().push(messages);
        drop(state);
        if self.pass(|trap| trap.springs_at_request(&cell, step, When::After)) == Passage::Cut {
            return Reply::disconnect();
        }
        self.reply(&prompt, &cell, step)
    }

    fn reply(&self, prompt: &Value, cell: &str, step: usize) -> Reply {
        let calls = prompt["calls"].as_u64().unwrap_or_default();
        let done = format!("done {cell}");
        if step == 0 && calls > 0 {
            let tool = prompt["tool"].as_str().unwrap_or_default();
            let arguments = |call| json!({"cell": cell, "call": call, "world": self.address});
            return Reply::tool_calls((1..=calls).map(|call| (tool, arguments(call))));
        }
        if prompt["structured"] == true {
            return Reply::final_result(json!({"answer": done}));
        }
        Reply::text(done)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _peer)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            // Whoever arrives may be killed while it does.
            let _gone = attend(stream, &shared).await;
        });
    }
}

async fn attend(stream: TcpStream, shared: &Arc<Shared>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let arrival: Arrival = serde_json::from_str(&line)?;
        let shared = shared.clone();
        let passage = tokio::task::spawn_blocking(move || shared.take(arrival)).await?;
        if passage == Passage::Cut {
            return Ok(());
        }
        write.write_all(b"go\n").await?;
    }
    Ok(())
}
