//! Follows one run to its end, through signals and closed pipes.

use std::io;
use std::time::Duration;

use axon_kernel::event::{PauseReason, Paused};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::RunId;
use axon_kernel::run::Replay;
use axon_kernel::store::Store;
use axon_runtime::{Outcome, RunOutcome, RunUpdate};

use crate::exit::Exit;
use crate::interview::Interview;
use crate::report::Report;
use crate::session::Session;
use crate::show::Show;
use crate::signals::{Signal, Signals};
use crate::underway::UnderWay;

/// How long a cancelled run may take to write its terminal event.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Why a run was cancelled from here.
#[derive(Debug)]
enum Cut {
    Signal(Signal),
    Output(io::Error),
}

/// Follows `run`, shows what it does and how it ended. If it waits for a person, one at the terminal
/// is asked, and it goes on; otherwise it is told with what it waits.
///
/// A signal cancels the run, and so does output that nobody reads.
pub(crate) async fn follow(
    run: &mut UnderWay,
    show: &mut Show,
    session: &mut Session,
) -> Result<Exit, Report> {
    let store = session.store().await?;
    loop {
        let cut = watch(run, show, &mut session.signals).await?;
        let ended = run.outcome().await?;
        if let (Outcome::Paused(paused), None, Show::Talk(talk)) =
            (&ended.outcome, &cut, &mut *show)
            && let PauseReason::Approval { .. } = &paused.reason
            && Interview::can_be_held()
        {
            talk.end();
            if Interview::new(store.clone(), session).hold(run).await? {
                continue;
            }
        }
        return conclude(ended, cut, show, store.as_ref()).await;
    }
}

/// Shows what `run` does until it ends or pauses, or is cancelled from here.
async fn watch(
    run: &mut UnderWay,
    show: &mut Show,
    signals: &mut Signals,
) -> Result<Option<Cut>, Report> {
    let mut cut = None;
    while cut.is_none() {
        let update = tokio::select! {
            update = run.next() => update?,
            signal = signals.next() => {
                cut = Some(Cut::Signal(signal));
                continue;
            }
        };
        let Some(update) = update else { break };
        cut = show.update(&update).err().map(Cut::Output);
    }
    if let Some(cut) = &cut {
        let reason = match cut {
            Cut::Signal(signal) => signal.reason(),
            Cut::Output(_) => "nobody reads the output any more",
        };
        let rest = async {
            run.cancel(reason).await;
            rest(run, cut, show).await
        };
        match tokio::time::timeout(CANCEL_GRACE, rest).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(cut_off(cut)),
        }
    }
    Ok(cut)
}

/// Returns what a paused run waits for, and how to go on.
async fn waits(run: &RunId, paused: &Paused, store: &dyn Store) -> Report {
    let records = store.records(run, 0).await;
    let replay = records.ok().and_then(|records| Replay::read(&records).ok());
    let report = Report::paused(run, &paused.reason, replay.as_ref());
    if store.is_durable() { report } else { report.of_lost_run() }
}

/// Shows what comes after the run was cancelled, its terminal event at least.
async fn rest(run: &mut UnderWay, cut: &Cut, show: &mut Show) -> Result<(), Report> {
    while let Some(update) = run.next().await? {
        if matches!((cut, &update), (Cut::Signal(_), RunUpdate::Event(_))) {
            // If nobody reads it any more, the exit code still says it.
            let _unread = show.update(&update);
        }
    }
    Ok(())
}

async fn conclude(
    ended: RunOutcome,
    cut: Option<Cut>,
    show: &mut Show,
    store: &dyn Store,
) -> Result<Exit, Report> {
    match (ended.outcome, cut) {
        (_, Some(Cut::Output(error))) => Err(error.into()),
        (Outcome::Completed(completed), _) => {
            show.completed(&completed)?;
            Ok(Exit::OK)
        }
        (Outcome::Cancelled(cancelled), Some(Cut::Signal(signal))) => {
            // What may have been done all the same.
            let beyond = cancelled.reason.strip_prefix(signal.reason()).unwrap_or_default();
            let beyond = beyond.trim_start_matches("; ").to_owned();
            let report = Report::cancelled(signal);
            Err(if beyond.is_empty() { report } else { report.because(beyond) })
        }
        (Outcome::Failed(failed) | Outcome::Rejected(failed), _) => Err(failed.into()),
        (Outcome::Paused(paused), _) => Err(waits(&ended.run_id, &paused, store).await),
        (Outcome::Cancelled(cancelled), None) => {
            Err(Failure::new(FailureKind::Cancelled, cancelled.reason).into())
        }
    }
}

fn cut_off(cut: &Cut) -> Report {
    match cut {
        Cut::Signal(signal) => Report::cancelled(*signal),
        Cut::Output(error) => io::Error::from(error.kind()).into(),
    }
}
