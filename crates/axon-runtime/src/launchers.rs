//! Owns the launchers: one Python process for each environment, from which runners are forked. It
//! absorbs their deaths, and is hardly ever restarted itself.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use axon_runner::{Launcher, LauncherPlan, orphans, sweep_folders, usage};
use futures_util::future::join_all;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// How long the actor may take to be there, where it is being restarted, and to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long launchers may take to end, with everything that is left below them.
const END: Duration = Duration::from_secs(7);

/// How many deaths of a launcher are too many in which time: for the rest of it, runners are started
/// without one.
const TOO_MANY_DEATHS: (usize, Duration) = (5, Duration::from_secs(60));

/// Speaks to the actor that owns the launchers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launchers {
    actor: Arc<watch::Sender<Option<ActorRef<LaunchersMessage>>>>,
}

#[derive(Debug)]
pub(crate) enum LaunchersMessage {
    /// Somebody has a runner to start.
    Get { plan: LauncherPlan, reply: oneshot::Sender<Option<Launcher>> },
    /// Somebody wants to know.
    Status(oneshot::Sender<Vec<LauncherStatus>>),
    /// A launcher has ended.
    Ended { command: Vec<String>, pid: u32 },
}

/// How a launcher is: the Python process that runners of one environment are forked from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LauncherStatus {
    /// Its process id.
    pub pid: u32,
    /// The interpreter.
    pub python: String,
    /// How much memory it holds, in bytes; its runners share most of it with it.
    pub resident_bytes: Option<u64>,
}

impl Launchers {
    /// How long the actor may take to stop.
    pub(crate) const SHUTDOWN: Duration = END.saturating_add(Duration::from_secs(1));

    /// Starts the actor; launchers are started when somebody needs them.
    pub(crate) async fn start(
        &self,
    ) -> Result<(ActorRef<LaunchersMessage>, JoinHandle<()>), ractor::SpawnErr> {
        let (actor, task) = Actor::spawn(None, LaunchersActor, ()).await?;
        self.actor.send_replace(Some(actor.clone()));
        Ok((actor, task))
    }

    /// Returns the launcher that `plan` describes; `None` if there can be none now.
    pub(crate) async fn get(&self, plan: LauncherPlan) -> Option<Launcher> {
        timeout(ANSWER, self.ask(plan)).await.ok().flatten()
    }

    /// Returns how the launchers are.
    pub(crate) async fn status(&self) -> Vec<LauncherStatus> {
        let (reply, answer) = oneshot::channel();
        let actor = self.actor.borrow().clone();
        // An actor that is not there has no launchers either.
        let _asked = actor.map(|actor| actor.cast(LaunchersMessage::Status(reply)));
        timeout(ANSWER, answer).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    async fn ask(&self, plan: LauncherPlan) -> Option<Launcher> {
        let mut actors = self.actor.subscribe();
        loop {
            let actor = actors.borrow_and_update().clone();
            let (reply, answer) = oneshot::channel();
            let message = LaunchersMessage::Get { plan: plan.clone(), reply };
            if actor.is_some_and(|actor| actor.cast(message).is_ok())
                && let Ok(launcher) = answer.await
            {
                return launcher;
            }
            actors.changed().await.ok()?;
        }
    }
}

/// Removes, in the background, what Axon processes that crashed have left behind: processes, once for
/// this process, and folders of sockets below `sockets`.
pub(crate) fn sweep(sockets: PathBuf) {
    static PROCESSES: Once = Once::new();
    tokio::task::spawn_blocking(move || {
        PROCESSES.call_once(|| drop(orphans::sweep()));
        sweep_folders(&sockets);
    });
}

struct LaunchersActor;

/// The launchers by their command, which names their environment.
#[derive(Debug, Default)]
struct State {
    launchers: HashMap<Vec<String>, Launcher>,
    /// Those that were replaced and have not ended yet.
    ending: Vec<Launcher>,
    deaths: VecDeque<Instant>,
}

impl Actor for LaunchersActor {
    type Msg = LaunchersMessage;
    type State = State;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<LaunchersMessage>,
        (): (),
    ) -> Result<State, ActorProcessingErr> {
        Ok(State::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<LaunchersMessage>,
        message: LaunchersMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            // Whoever asked may have gone: the launcher is there for the next.
            LaunchersMessage::Get { plan, reply } => drop(reply.send(state.get(plan, &myself))),
            LaunchersMessage::Status(reply) => drop(reply.send(state.status())),
            LaunchersMessage::Ended { command, pid } => state.ended(&command, pid),
        }
        Ok(())
    }

    /// Ends the launchers, and with them whatever is left below. Agents have ended before.
    async fn post_stop(
        &self,
        _myself: ActorRef<LaunchersMessage>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let all = state.launchers.drain().map(|(_, launcher)| launcher);
        let ending = all.chain(state.ending.drain(..)).map(|launcher| {
            launcher.close();
            launcher.exited()
        });
        let _in_time = timeout(END, join_all(ending)).await;
        Ok(())
    }
}

impl State {
    fn get(&mut self, plan: LauncherPlan, myself: &ActorRef<LaunchersMessage>) -> Option<Launcher> {
        if let Some(launcher) = self.launchers.get(&plan.command).filter(|found| !found.is_gone()) {
            return Some(launcher.clone());
        }
        let (most, within) = TOO_MANY_DEATHS;
        self.deaths.retain(|death| death.elapsed() < within);
        if self.deaths.len() >= most {
            return None;
        }
        let launcher = Launcher::start(&plan)
            .inspect_err(|error| tracing::error!(%error, "a launcher did not start"))
            .ok()?;
        let (exited, pid, command) = (launcher.exited(), launcher.pid(), plan.command);
        tracing::debug!(pid, "a launcher is up");
        let (myself, key) = (myself.clone(), command.clone());
        tokio::spawn(async move {
            exited.await;
            let _ended = myself.cast(LaunchersMessage::Ended { command: key, pid });
        });
        self.ending.extend(self.launchers.insert(command, launcher.clone()));
        Some(launcher)
    }

    fn status(&self) -> Vec<LauncherStatus> {
        let status = |(command, launcher): (&Vec<String>, &Launcher)| LauncherStatus {
            pid: launcher.pid(),
            python: command.first().cloned().unwrap_or_default(),
            resident_bytes: usage::of(launcher.pid()).map(|usage| usage.resident_bytes),
        };
        self.launchers.iter().map(status).collect()
    }

    fn ended(&mut self, command: &[String], pid: u32) {
        if self.launchers.get(command).is_some_and(|launcher| launcher.pid() == pid) {
            self.launchers.remove(command);
        }
        self.ending.retain(|launcher| launcher.pid() != pid);
        tracing::error!(pid, "a launcher has ended, and its runners with it; it is replaced");
        crate::meters::count(&axon_kernel::metric::LAUNCHER_DEATHS, 1);
        self.deaths.push_back(Instant::now());
    }
}
