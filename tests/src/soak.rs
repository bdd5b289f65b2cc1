//! Load on a host program that is killed at random moments, whole and in parts: what is accepted is
//! not lost, and what may happen once does not happen twice.

mod ledger;
mod random;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::run::RunState;
use axon_kernel::store::Store;
use axon_store::OpenOptions;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::kill::{Order, Process, Program, Project, Said, World};

pub use ledger::Tally;
pub use random::Random;

use ledger::Ledger;

/// How many callers there are, each of whom asks one thing after the other.
const CALLERS: usize = 12;

/// How often the store is looked at.
const TICK: Duration = Duration::from_millis(20);

/// The longest time between two kills.
const PAUSE: Duration = Duration::from_millis(1200);

/// How long it may take until everything that is open has ended, after the last kill.
const DRAINED: Duration = Duration::from_secs(60);

/// For how long, and with which random moments.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For how long there is load, and somebody is killed.
    pub duration: Duration,
    /// Where the random moments begin.
    pub seed: u64,
}

/// What a caller does.
#[derive(Clone, Debug, Default)]
enum Doing {
    #[default]
    Nothing,
    /// It has asked, and was not answered yet.
    Asked(String),
    /// Its run is under way.
    Waiting(RunId),
}

/// One who asks one thing after the other.
#[derive(Clone, Debug, Default)]
struct Caller {
    doing: Doing,
    /// Its conversation; another one once a turn of it waits for a person.
    conversation: u32,
}

/// A host program under load.
#[derive(Debug)]
struct Soak {
    program: Program,
    world: World,
    project: Project,
    store: Arc<dyn Store>,
    process: Process,
    callers: Vec<Caller>,
    random: Random,
    asked: u64,
    accepted: BTreeMap<String, RunId>,
    tally: Tally,
}

/// Puts load on the program, kills it again and again, and then counts.
///
/// # Errors
///
/// If the program does not come up again, or what is open does not end.
pub async fn soak(mut program: Program, pace: Pace) -> anyhow::Result<Tally> {
    program.watched = false;
    let (world, _springs) = World::start().await?;
    let project = Project::new(&world)?;
    let store = axon_store::open(&project.store().parse()?, OpenOptions::default()).await?;
    let process = Process::start(&program, &project, &world).await?;
    let callers = vec![Caller::default(); CALLERS];
    let (random, accepted, tally) = (Random::new(pace.seed), BTreeMap::new(), Tally::default());
    let mut soak = Soak {
        program,
        world,
        project,
        store,
        process,
        callers,
        random,
        asked: 0,
        accepted,
        tally,
    };
    soak.load(pace.duration).await?;
    soak.drain().await?;
    let conversations = soak.conversations();
    let ledger =
        Ledger { store: &soak.store, world: &soak.world, accepted: &soak.accepted, conversations };
    let tally = ledger.count(soak.tally).await?;
    soak.process.order(&Order::Shutdown).await?;
    soak.process.ended().await?;
    Ok(tally)
}

impl Soak {
    async fn load(&mut self, duration: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + duration;
        let mut kill = Instant::now() + self.random.time(PAUSE);
        while Instant::now() < until {
            self.hear()?;
            if Instant::now() >= kill {
                self.kill().await?;
                kill = Instant::now() + self.random.time(PAUSE);
            }
            for number in 0..self.callers.len() {
                self.serve(number).await?;
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    fn hear(&mut self) -> anyhow::Result<()> {
        while let Some(said) = self.process.heard() {
            match said {
                Said::Accepted { prompt, run } => {
                    let name = ledger::name(&prompt).context("a prompt of ours")?;
                    self.answered(&name, Doing::Waiting(run.clone()));
                    self.accepted.insert(name, run);
                }
                Said::Refused { prompt, code } => {
                    let name = ledger::name(&prompt).context("a prompt of ours")?;
                    *self.tally.refused.entry(code).or_default() += 1;
                    self.answered(&name, Doing::Nothing);
                }
                Said::NotResumed { .. } | Said::Runner { .. } | Said::Ready => {}
                Said::Settled { .. } => {}
            }
        }
        Ok(())
    }

    fn answered(&mut self, name: &str, doing: Doing) {
        let asker =
            |caller: &&mut Caller| matches!(&caller.doing, Doing::Asked(asked) if asked == name);
        if let Some(caller) = self.callers.iter_mut().find(asker) {
            caller.doing = doing;
        }
    }

    /// Has a caller ask again once its run is over.
    async fn serve(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(caller) = self.callers.get(number).cloned() else { return Ok(()) };
        match caller.doing {
            Doing::Asked(_) => Ok(()),
            Doing::Nothing => self.ask(number).await,
            Doing::Waiting(run) => {
                let summary = self.store.run(&run).await?;
                if summary.state == RunState::Queued || summary.state == RunState::Running {
                    return Ok(());
                }
                if let Some(caller) = self.callers.get_mut(number) {
                    caller.doing = Doing::Nothing;
                    caller.conversation += u32::from(summary.state == RunState::Paused);
                }
                Ok(())
            }
        }
    }

    async fn ask(&mut self, number: usize) -> anyhow::Result<()> {
        self.asked += 1;
        let name = format!("s{}", self.asked);
        let tool = ["pure", "idempotent", "once"][self.random.below(3) as usize];
        let calls = [0, 1, 3][self.random.below(3) as usize];
        let structured = self.random.below(4) == 0;
        let prompt = json!({"cell": name, "calls": calls, "tool": tool, "structured": structured});
        // Every third caller asks without a conversation. One conversation stays with one agent.
        let conversation = (!number.is_multiple_of(3) && !structured)
            .then(|| conversation(number, self.callers[number].conversation));
        let agent = if structured { "structured" } else { "plain" }.to_owned();
        if let Some(caller) = self.callers.get_mut(number) {
            caller.doing = Doing::Asked(name);
        }
        let order = Order::Start { agent, prompt: prompt.to_string(), conversation };
        self.process.order(&order).await
    }

    /// Kills the whole program, its launcher or one of its runners.
    async fn kill(&mut self) -> anyhow::Result<()> {
        match self.random.below(10) {
            0..3 => {
                self.process.kill().await?;
                self.tally.hosts += 1;
                self.start_again().await?;
            }
            3..5 => {
                self.process.kill_launcher().await?;
                self.tally.launchers += 1;
            }
            runner => {
                let agent = if runner < 9 { "plain" } else { "structured" };
                self.process.kill_runner(agent).await?;
                self.tally.runners += 1;
            }
        }
        Ok(())
    }

    async fn start_again(&mut self) -> anyhow::Result<()> {
        // What it said before it was killed counts.
        while let Ok(said) = self.process.next().await {
            let Said::Accepted { prompt, run } = said else { continue };
            let name = ledger::name(&prompt).context("a prompt of ours")?;
            self.answered(&name, Doing::Waiting(run.clone()));
            self.accepted.insert(name, run);
        }
        for caller in &mut self.callers {
            if let Doing::Asked(_) = caller.doing {
                caller.doing = Doing::Nothing;
                // Its run may be there, and have the conversation's turn.
                caller.conversation += 1;
            }
        }
        self.process = Process::start(&self.program, &self.project, &self.world).await?;
        Ok(())
    }

    /// Waits until nothing is under way any more.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + DRAINED;
        loop {
            self.hear()?;
            let open = ledger::under_way(&self.store).await?;
            let asked =
                self.callers.iter().filter(|caller| matches!(caller.doing, Doing::Asked(_)));
            if open.is_empty() && asked.count() == 0 {
                return Ok(());
            }
            let log = self.process.log();
            ensure!(Instant::now() < until, "still under way: {open:?}\n{log}");
            sleep(TICK).await;
        }
    }

    fn conversations(&self) -> Vec<ConversationId> {
        let of = |(number, caller): (usize, &Caller)| {
            let ids = 0..=caller.conversation;
            ids.map(move |epoch| ConversationId::new(conversation(number, epoch)))
        };
        self.callers.iter().enumerate().flat_map(of).collect()
    }
}

fn conversation(caller: usize, epoch: u32) -> String {
    format!("caller-{caller}-{epoch}")
}
