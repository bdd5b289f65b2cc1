//! Tools that run on when their attempt is over.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::ids::RunId;
use axon_kernel::wire::Unfinished;
use tokio::time::Instant;

use super::attempt::LiveAttempt;
use super::step::UnfinishedStep;

/// A tool that an attempt leaves behind.
#[derive(Debug)]
pub(super) struct Left {
    run: RunId,
    attempt: Arc<LiveAttempt>,
    tool: String,
    began: Instant,
    lasts: Option<Duration>,
}

impl Left {
    pub(super) fn new(run: RunId, attempt: Arc<LiveAttempt>, step: UnfinishedStep) -> Self {
        let lasts = step.for_ms.map(Duration::from_millis);
        Self { run, attempt, tool: step.tool, began: Instant::now(), lasts }
    }

    /// Returns what there is to tell of it now.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        let ran = self.began.elapsed();
        let runs_on = self.attempt.is_over() && self.lasts.is_none_or(|lasts| ran < lasts);
        runs_on.then(|| Unfinished {
            tool_call_id: None,
            run_id: Some(self.run.clone()),
            tool: self.tool.clone(),
            seconds: ran.as_secs_f64(),
        })
    }
}
