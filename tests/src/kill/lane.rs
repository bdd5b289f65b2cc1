//! Carries cells out one after the other, on one store and with one host program at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axon_kernel::event::Sequenced;
use axon_kernel::ids::RunId;
use axon_kernel::run::RunState;
use axon_kernel::store::{RunQuery, RunSummary, Store};
use axon_store::OpenOptions;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::cell::{Cell, Fault, Shape};
use super::heal;
use super::judge::{AtFault, Evidence, Verdict, judge};
use super::process::{Process, Program};
use super::project::Project;
use super::said::{Order, Said};
use super::shim::Shim;
use super::world::{Passage, Sprung, Trap, World};

/// No cell takes longer, from its order to its end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the store is looked at.
const TICK: Duration = Duration::from_millis(20);

/// What came out of one cell.
#[derive(Clone, Debug)]
pub struct Report {
    /// The cell.
    pub cell: Cell,
    /// What was judged.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// Carries cells out one after the other, on one store and with one host program at a time.
#[derive(Debug)]
pub struct Lane {
    pub(super) program: Program,
    pub(super) world: World,
    pub(super) shim: Shim,
    pub(super) process: Option<Process>,
    springs: mpsc::Receiver<Sprung>,
    store: Arc<dyn Store>,
    number: u32,
    project: Project,
}

/// One cell under way.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) cell: Cell,
    pub(super) name: String,
    /// The runs that were there before.
    known: BTreeSet<RunId>,
    pub(super) run: Option<RunId>,
    /// Whether the caller was told that the run is accepted.
    accepted: bool,
    pub(super) refused: Option<String>,
    /// Why a run was refused that came while the disk failed.
    pub(super) probed: Option<String>,
    settled: Option<String>,
    at_fault: Option<AtFault>,
    resumed: bool,
}

impl Course {
    /// Returns what the probe calls itself.
    pub(super) fn probe(&self) -> String {
        format!("probe-{}", self.name)
    }

    /// Returns whether the end of the run was recorded when the fault struck: what comes last may be
    /// recorded in one append with the end.
    pub(super) fn has_ended(&self) -> bool {
        let last = self.at_fault.as_ref().and_then(|at_fault| at_fault.records.last());
        last.is_some_and(|last| last.event.is_terminal())
    }

    pub(super) fn hear(&mut self, said: Said) -> anyhow::Result<()> {
        let own = prompt(&self.name, self.cell);
        match said {
            Said::Accepted { prompt, run } if prompt == own => {
                self.accepted = true;
                self.run = Some(run);
            }
            Said::Accepted { run, .. } => {
                self.known.insert(run);
                self.probed = Some("accepted".to_owned());
            }
            Said::Refused { prompt, code } if prompt == own => self.refused = Some(code),
            Said::Refused { code, .. } => self.probed = Some(code),
            Said::Settled { run, how } if self.run.as_ref() == Some(&run) => {
                self.settled = Some(how);
            }
            Said::NotResumed { code, .. } => bail!("the run was not resumed: {code}"),
            Said::Runner { .. } | Said::Ready | Said::Settled { .. } => {}
        }
        Ok(())
    }
}

/// Returns the prompt by which the model knows what to do.
fn prompt(name: &str, cell: Cell) -> String {
    let structured = cell.shape == Shape::Structured;
    json!({"cell": name, "calls": cell.calls(), "tool": cell.tool(), "structured": structured})
        .to_string()
}

impl Lane {
    /// Prepares a project, a store and a world of their own; the program starts with the first cell.
    ///
    /// # Errors
    ///
    /// If one of them cannot be had.
    pub async fn new(mut program: Program) -> anyhow::Result<Self> {
        let (world, springs) = World::start().await?;
        let project = Project::new(&world)?;
        let shim = Shim::new(&project.store_folder())?;
        program.variables.extend(shim.variables());
        program.watched = true;
        let store = axon_store::open(&project.store().parse()?, OpenOptions::default()).await?;
        let (process, number) = (None, 0);
        Ok(Self { program, world, shim, process, springs, store, number, project })
    }

    /// Carries one cell out and judges it. After a violation the lane is not to be used again.
    pub async fn carry_out(&mut self, cell: Cell) -> Report {
        let began = Instant::now();
        let verdict = match self.evidence(cell).await {
            Ok(evidence) => judge(&evidence),
            Err(error) => Verdict::Violated(vec![format!("{error:#}")]),
        };
        Report { cell, verdict, took: began.elapsed() }
    }

    /// Ends the program in order.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub async fn end(mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.order(&Order::Shutdown).await?;
            process.ended().await?;
        }
        Ok(())
    }

    /// Returns the last lines that the program has written.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map_or_else(String::new, Process::log)
    }

    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        self.process = Some(Process::start(&self.program, &self.project, &self.world).await?);
        Ok(())
    }

    pub(super) fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("the program is not there")
    }

    async fn evidence(&mut self, cell: Cell) -> anyhow::Result<Evidence> {
        let without = self.process.as_ref().is_some_and(|process| !process.has_launcher());
        if without && cell.fault == Fault::Launcher {
            self.process()?.kill().await?;
            self.process = None;
        }
        if self.process.is_none() {
            self.start().await?;
        }
        self.number += 1;
        let name = format!("c{}", self.number);
        let known = self.runs().await?.into_iter().map(|run| run.run_id).collect();
        let (run, accepted, refused, probed, settled) = (None, false, None, None, None);
        let (at_fault, resumed) = (None, false);
        let mut course = Course {
            cell,
            name,
            known,
            run,
            accepted,
            refused,
            probed,
            settled,
            at_fault,
            resumed,
        };
        self.world.set(Some(Trap::new(&course.name, cell).sparing(&course.known)));
        let prompt = prompt(&course.name, cell);
        let order = Order::Start { agent: cell.agent().to_owned(), prompt, conversation: None };
        self.process()?.order(&order).await?;
        let over = timeout(PATIENCE, self.follow(&mut course)).await;
        self.world.set(None);
        match over {
            Ok(over) => over?,
            Err(_late) => bail!("it is not over: {}", self.stands(&course).await?),
        }
        self.gather(course).await
    }

    /// Says how far a cell has come that does not end.
    async fn stands(&self, course: &Course) -> anyhow::Result<String> {
        let Course { accepted, refused, settled, resumed, .. } = course;
        let records = self.records(course).await?;
        let names: Vec<&str> = records.iter().map(|record| record.event.name()).collect();
        let struck = course.at_fault.is_some();
        Ok(format!(
            "struck {struck}, accepted {accepted}, refused {refused:?}, settled {settled:?}, \
             resumed {resumed}, {:?}: {}",
            course.run,
            names.join(" ")
        ))
    }

    async fn gather(&self, course: Course) -> anyhow::Result<Evidence> {
        let records = match &course.run {
            Some(run) => self.store.records(run, 0).await?,
            None => Vec::new(),
        };
        let summary = match &course.run {
            Some(run) => Some(self.store.run(run).await?),
            None => None,
        };
        let Course { cell, name, accepted, refused, probed, settled, at_fault, .. } = course;
        let counts = self.world.counts(&name);
        let at_fault = at_fault.context("the boundary was never reached")?;
        Ok(Evidence {
            cell,
            name,
            accepted,
            refused,
            probed,
            settled,
            at_fault,
            counts,
            records,
            summary,
        })
    }

    async fn follow(&mut self, course: &mut Course) -> anyhow::Result<()> {
        loop {
            let process = self.process.as_mut().context("the program is not there")?;
            tokio::select! {
                Some(sprung) = self.springs.recv() => self.strike(course, sprung).await?,
                said = process.next() => course.hear(said?)?,
                () = sleep(TICK) => {}
            }
            if self.is_over(course).await? {
                return Ok(());
            }
        }
    }

    async fn strike(&mut self, course: &mut Course, sprung: Sprung) -> anyhow::Result<()> {
        let (agent, fault) = (course.cell.agent(), course.cell.fault);
        match fault {
            Fault::Abort => self.process()?.abort().await?,
            Fault::Runner => self.process()?.kill_runner(agent).await?,
            Fault::Launcher => self.process()?.kill_launcher().await?,
            Fault::Full => self.shim.fill(true)?,
            Fault::Sync => self.shim.fail_syncs(true)?,
        }
        self.look_for(course).await?;
        let records = self.records(course).await?;
        course.at_fault = Some(AtFault { counts: self.world.counts(&course.name), records });
        // Who waits at a boundary outside of the process is dead now, unless the disk is to blame.
        let from_outside = heal::is_outside(course.cell.boundary);
        let cut = match fault {
            Fault::Abort => true,
            Fault::Runner | Fault::Launcher => from_outside,
            Fault::Full | Fault::Sync => false,
        };
        sprung.release(if cut { Passage::Cut } else { Passage::Go });
        match fault {
            Fault::Abort => self.start_again(course).await,
            Fault::Runner | Fault::Launcher => Ok(()),
            Fault::Full | Fault::Sync => heal::disk(self, course).await,
        }
    }

    /// Starts the program again, on what the last one has left.
    pub(super) async fn start_again(&mut self, course: &mut Course) -> anyhow::Result<()> {
        while let Some(said) = self.process()?.heard() {
            course.hear(said)?;
        }
        self.process = None;
        self.look_for(course).await?;
        let records = self.records(course).await?;
        if let Some(at_fault) = &mut course.at_fault {
            at_fault.records = records;
        }
        course.resumed = false;
        self.start().await
    }

    async fn runs(&self) -> anyhow::Result<Vec<RunSummary>> {
        Ok(self.store.runs(&RunQuery::default()).await?)
    }

    async fn records(&self, course: &Course) -> anyhow::Result<Vec<Sequenced>> {
        match &course.run {
            Some(run) => Ok(self.store.records(run, 0).await?),
            None => Ok(Vec::new()),
        }
    }

    /// Finds the run, if it is recorded: the one that was not there before and is not the probe.
    pub(super) async fn look_for(&self, course: &mut Course) -> anyhow::Result<()> {
        if course.run.is_some() {
            return Ok(());
        }
        let own = prompt(&course.name, course.cell);
        for run in self.runs().await? {
            if course.known.contains(&run.run_id) {
                continue;
            }
            let records = self.store.records(&run.run_id, 0).await?;
            if first_prompt(&records).as_deref() == Some(&own) {
                course.run = Some(run.run_id);
            } else {
                course.known.insert(run.run_id);
            }
        }
        Ok(())
    }

    async fn is_over(&mut self, course: &mut Course) -> anyhow::Result<bool> {
        self.look_for(course).await?;
        let struck = course.at_fault.is_some();
        let Some(run) = course.run.clone() else {
            return Ok(struck && (course.refused.is_some() || course.cell.fault == Fault::Abort));
        };
        let summary = match self.store.run(&run).await {
            // It is not recorded yet: the caller of a refused run got its id before.
            Err(error) if error.code() == "unknown_run" => return Ok(false),
            summary => summary?,
        };
        if summary.state == RunState::Paused && summary.waits_for.as_deref() == Some("approval") {
            self.approve(course, &run).await?;
            return Ok(false);
        }
        if summary.state.is_open() && summary.state != RunState::Paused {
            return Ok(false);
        }
        if !struck {
            // What the store says can be seen before the store's watcher has told of it.
            return Ok(false);
        }
        let told = course.settled.as_deref() == Some(summary.state.label());
        Ok(told || !course.accepted || course.cell.ends_process())
    }

    /// Approves what the run waits for, in this process, and has the program go on with it.
    async fn approve(&mut self, course: &mut Course, run: &RunId) -> anyhow::Result<()> {
        if course.resumed
            || course.cell.boundary == super::Boundary::Pause && course.at_fault.is_none()
        {
            return Ok(());
        }
        heal::approve(&self.store, run).await?;
        course.resumed = true;
        course.accepted = true;
        self.process()?.order(&Order::Resume { run: run.clone() }).await
    }
}

fn first_prompt(records: &[Sequenced]) -> Option<String> {
    let first = records.first()?;
    if let axon_kernel::event::RunEvent::Accepted(accepted) = &first.event {
        accepted.prompt.decode().ok()
    } else {
        None
    }
}
