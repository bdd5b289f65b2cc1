//! What the lane does while the disk fails, and what a person does for a run that waits.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axon_kernel::event::Resolution;
use axon_kernel::ids::RunId;
use axon_kernel::store::Store;
use axon_runtime::RunRecords;
use serde_json::json;
use tokio::time::timeout;

use super::cell::{Boundary, Cell, Fault, When};
use super::lane::{Course, Lane};
use super::said::{Order, Said};

/// How long it may take until the failure is noticed.
const NOTICED: Duration = Duration::from_secs(15);

/// Returns whether the world itself is that boundary: who waits there is a runner.
pub(super) fn is_outside(boundary: Boundary) -> bool {
    matches!(boundary, Boundary::Effect | Boundary::Permit)
}

/// Returns whether the run has to write something before it waits or ends.
fn writes_more(cell: Cell) -> bool {
    match cell.boundary {
        Boundary::Accepted => cell.when == When::After,
        Boundary::Pause | Boundary::Reply => cell.when == When::Before,
        Boundary::Intent
        | Boundary::Effect
        | Boundary::Result
        | Boundary::Checkpoint
        | Boundary::Permit => true,
    }
}

/// Waits until the run and a new one have noticed that the disk fails, and mends it: by space for a
/// full one, by another process for one that does not keep what was written.
pub(super) async fn disk(lane: &mut Lane, course: &mut Course) -> anyhow::Result<()> {
    let cell = course.cell;
    if cell.boundary == Boundary::Accepted && cell.when == When::Before {
        until(lane, course, |course| course.refused.is_some())
            .await
            .context("it is not refused")?;
    }
    if writes_more(cell) && !course.has_ended() {
        until(lane, course, |course| course.run.is_some()).await.context("it is not there")?;
        let run = course.run.clone();
        let failed = lane.world.failed_append(|failed| Some(failed) == run.as_ref());
        timeout(NOTICED, failed).await.context("no append of the run has failed")?;
    }
    let prompt = json!({"cell": course.probe(), "calls": 0}).to_string();
    let probe = Order::Start { agent: "plain".to_owned(), prompt, conversation: None };
    lane.process()?.order(&probe).await?;
    until(lane, course, |course| course.probed.is_some())
        .await
        .context("no answer to a new run")?;
    if cell.fault == Fault::Full {
        return lane.shim.fill(false);
    }
    lane.process()?.kill().await?;
    lane.shim.fail_syncs(false)?;
    lane.start_again(course).await
}

async fn until(
    lane: &mut Lane,
    course: &mut Course,
    mut holds: impl FnMut(&Course) -> bool,
) -> anyhow::Result<()> {
    let heard = async {
        while !holds(course) {
            let said: Said = lane.process()?.next().await?;
            course.hear(said)?;
        }
        Ok(())
    };
    timeout(NOTICED, heard).await.context("not in time")?
}

/// Approves everything that a run waits for.
pub(super) async fn approve(store: &Arc<dyn Store>, run: &RunId) -> anyhow::Result<()> {
    let records = RunRecords::new(store.clone());
    for call in records.replay(run).await?.undecided() {
        let approved = Resolution::approve();
        records.resolve(run, &call, approved, "the kill matrix").await?;
    }
    Ok(())
}
