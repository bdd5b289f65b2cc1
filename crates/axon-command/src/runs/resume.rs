//! `axon runs resume`: goes on with runs in this process, and shows their answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::event::PauseReason;
use axon_kernel::ids::RunId;
use axon_kernel::run::{Replay, RunState};
use axon_kernel::store::{RunQuery, RunSummary, Store};
use axon_runtime::{AgentDefinition, RunRecords, Runtime};

use super::find::short;
use super::{find, now, store_with};
use crate::args::{ResumeArgs, Which};
use crate::exit::Exit;
use crate::follow::follow;
use crate::report::Report;
use crate::session::Session;
use crate::show::Show;
use crate::signals::Signal;
use crate::terminal::{self, BOLD, styled};
use crate::underway::UnderWay;

/// How many runs are gone on with by one command.
const AT_MOST: usize = 1000;

/// How runs go on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) allow_changed: bool,
    pub(crate) timeout: Option<Duration>,
}

/// Goes on with runs one after the other, and starts the agents that they are of, and no others.
#[derive(Debug)]
pub(crate) struct Resumption {
    store: Arc<dyn Store>,
    runtime: Option<Runtime>,
}

pub(super) async fn run(args: ResumeArgs, mut session: Session) -> Result<Exit, Report> {
    let terms = Terms { allow_changed: args.allow_changed, timeout: args.timeout };
    let mut show = if args.json { Show::lines() } else { Show::talk() };
    let which = &args.which;
    let runs = session.unless_signalled(async |session| chosen(which, session).await).await??;
    if runs.is_empty() {
        terminal::say(match args.which.all {
            true => "no run can go on",
            false => "no run was interrupted",
        });
        return Ok(Exit::OK);
    }
    let store = session.store().await?;
    let mut resumption = Resumption { store, runtime: None };
    let ended = Box::pin(resumption.all(&runs, terms, (&mut session, &mut show))).await;
    resumption.shutdown().await;
    ended
}

/// Returns the runs that are meant, the oldest first if none is named: they were asked in this order.
async fn chosen(which: &Which, session: &mut Session) -> Result<Vec<RunSummary>, Report> {
    if !which.runs.is_empty() {
        return named(&which.runs, session).await;
    }
    let Some(store) = session.store_to_read().await? else { return Ok(Vec::new()) };
    let mut states = vec![RunState::Queued, RunState::Running];
    states.extend(which.all.then_some(RunState::Paused));
    let query = RunQuery { states, unowned: true, limit: AT_MOST, ..RunQuery::default() };
    let mut runs = Vec::new();
    for run in store.runs(&query).await? {
        if run.state != RunState::Paused || is_decided(&run, &store).await {
            runs.push(run);
        }
    }
    runs.reverse();
    Ok(without_those_below(runs))
}

/// Leaves out the runs that answer a call of another one: that one goes on with them.
fn without_those_below(mut runs: Vec<RunSummary>) -> Vec<RunSummary> {
    let ids: BTreeSet<RunId> = runs.iter().map(|run| run.run_id.clone()).collect();
    runs.retain(|run| run.parent.as_ref().is_none_or(|parent| !ids.contains(parent)));
    runs
}

/// Returns whether a paused run waits for nobody any more. What no decision about a call settles is
/// left to whoever names the run.
async fn is_decided(run: &RunSummary, store: &Arc<dyn Store>) -> bool {
    let records = RunRecords::new(store.clone());
    let Ok(replay) = records.replay(&run.run_id).await else { return false };
    let asked = replay.pause.as_ref().is_some_and(|pause| {
        matches!(pause.reason, PauseReason::Approval { .. } | PauseReason::Ambiguous { .. })
    });
    let undecided = records.undecided(&run.run_id, &replay).await;
    let decided = undecided.is_ok_and(|undecided| undecided.is_empty());
    asked && (decided || !replay.expired(now()).is_empty())
}

async fn named(names: &[String], session: &mut Session) -> Result<Vec<RunSummary>, Report> {
    let mut runs = Vec::new();
    for name in names {
        let store = store_with(name, session).await?;
        runs.push(find(store.as_ref(), name).await?);
    }
    Ok(runs)
}

impl Resumption {
    /// Goes on in `runtime`, which has started already.
    pub(crate) fn in_runtime(store: Arc<dyn Store>, runtime: Runtime) -> Self {
        Self { store, runtime: Some(runtime) }
    }

    /// Goes on with one run and shows its answer; nothing is left running.
    pub(crate) async fn of(
        run: &RunSummary,
        terms: Terms,
        session: &mut Session,
        show: &mut Show,
    ) -> Result<Exit, Report> {
        let mut resumption = Self { store: session.store().await?, runtime: None };
        let ended = Box::pin(resumption.one(run, terms, (session, show))).await;
        resumption.shutdown().await;
        ended
    }

    /// Goes on with each of the runs. What becomes of one is told and does not keep the others; the
    /// first that did not complete gives the exit code.
    async fn all(
        &mut self,
        runs: &[RunSummary],
        terms: Terms,
        (session, show): (&mut Session, &mut Show),
    ) -> Result<Exit, Report> {
        let mut exit = Exit::OK;
        for run in runs {
            if runs.len() > 1 && matches!(show, Show::Talk(_)) {
                let heading = format!("run {} of {}", short(&run.run_id), run.agent);
                terminal::say(&styled(BOLD, &heading));
            }
            let one = Box::pin(self.one(run, terms, (session, show)));
            let Err(report) = one.await else { continue };
            show.end();
            if report.ends_all() || runs.len() == 1 {
                return Err(report);
            }
            report.show(session.verbose);
            if exit == Exit::OK {
                exit = report.exit();
            }
        }
        Ok(exit)
    }

    /// Goes on with one run and shows its answer.
    pub(crate) async fn one(
        &mut self,
        run: &RunSummary,
        terms: Terms,
        (session, show): (&mut Session, &mut Show),
    ) -> Result<Exit, Report> {
        let store = self.store.clone();
        let begun = async |session: &mut Session| begin(run, terms, (store, session)).await;
        let replay = match session.unless_signalled(begun).await {
            Ok(replay) => replay?,
            Err(signal) => return Err(called_off(signal, run)),
        };
        if let Some(service) = session.service() {
            show.of(replay.accepted.terms.kind);
            let mut goes_on = UnderWay::again(service.clone(), &run.run_id, &replay);
            return Box::pin(follow(&mut goes_on, show, session)).await;
        }
        let runtime = Box::pin(self.runtime_for(&replay, session)).await?;
        let mut resume = runtime.resume(run.run_id.clone());
        if terms.allow_changed {
            resume = resume.allow_changed();
        }
        if let Some(timeout) = terms.timeout {
            resume = resume.timeout(timeout);
        }
        let mut handle = UnderWay::Here(Box::new(resume.start().await?));
        show.of(replay.accepted.terms.kind);
        Box::pin(follow(&mut handle, show, session)).await
    }

    /// Returns a runtime in which the agent of a run can be asked.
    async fn runtime_for(
        &mut self,
        replay: &Replay,
        session: &mut Session,
    ) -> Result<Runtime, Report> {
        let definition = definition(replay, session)?;
        let Some(runtime) = &self.runtime else {
            let (runtime, _agent) = session.start(definition).await?;
            self.runtime = Some(runtime.clone());
            return Ok(runtime);
        };
        let name = definition.spec.name.clone();
        match runtime.named(name.as_str()) {
            Ok(agent) if *agent.spec() == definition.spec => {}
            Ok(_) => drop(runtime.reload_agent(definition).await?),
            Err(_) => {
                for fallback in session.others_of(&definition)? {
                    if runtime.named(fallback.spec.name.as_str()).is_err() {
                        runtime.start_agent(fallback).await?;
                    }
                }
                runtime.start_agent(definition).await?;
            }
        }
        Ok(runtime.clone())
    }

    async fn shutdown(&self) {
        if let Some(runtime) = &self.runtime {
            runtime.shutdown().await;
        }
    }
}

/// Reads a run that is to go on, which nobody has to decide about any more. The service that has it,
/// if one has, goes on with it.
async fn begin(
    run: &RunSummary,
    terms: Terms,
    (store, session): (Arc<dyn Store>, &Session),
) -> Result<Replay, Report> {
    let records = RunRecords::new(store);
    let replay = records.replay(&run.run_id).await?;
    let is_over = !replay.expired(now()).is_empty();
    let undecided = records.undecided(&run.run_id, &replay).await?;
    if replay.pause.is_some() && !undecided.is_empty() && !is_over {
        return Err(Report::undecided(&run.run_id, &replay));
    }
    if let Some(service) = session.service() {
        service.resume(&run.run_id, terms.allow_changed, terms.timeout).await?;
    }
    Ok(replay)
}

/// Says what is true of a run that a service was perhaps told to go on with.
fn called_off(signal: Signal, run: &RunSummary) -> Report {
    let id = short(&run.run_id);
    Report::cancelled(signal)
        .because(format!("run {id} may go on all the same"))
        .todo(format!("axon runs show {id}"))
}

/// Returns the definition of the agent that answers a run now, with the model that the run was
/// asked with.
fn definition(replay: &Replay, session: &Session) -> Result<AgentDefinition, Report> {
    let terms = &replay.accepted.terms;
    let is_first = replay.agent == replay.accepted.agent;
    let module = terms.module.as_ref().filter(|_| is_first);
    let mut definition = match (session.load(replay.agent.as_str()), module) {
        // It was run as MODULE:ATTR: no file describes it.
        (Err(_), Some(module)) => session.find(module.as_ref())?,
        (found, _) => found.map_err(|report| match report.exit() {
            Exit::USAGE => report.because(
                "no file here describes the agent of this run; if a Rust service defines it, \
                 that service goes on with its runs (Runtime::resume)",
            ),
            _ => report,
        })?,
    };
    if let (Some(model), true) = (&terms.model, is_first) {
        definition.spec.model = Some(model.clone());
    }
    Ok(definition)
}
