//! Whoever approves what the agent may not do by itself.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::bail;
use axon_runtime::kernel::event::{PauseReason, Resolution};
use axon_runtime::kernel::wire::DeferredRequest;
use axon_runtime::{Outcome, RunHandle, RunOutcome};

/// Who approves what the agent may not do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approver {
    /// Whoever sits at the terminal, if there is one.
    Terminal,
    /// Nobody: everything is approved.
    Everything,
    /// Nobody: everything is denied.
    Nothing,
}

/// Waits for the end of `run`, and has `approver` decide what it asks on the way.
///
/// # Errors
///
/// An error if there is nobody who could decide, or the run cannot go on. It is called off then.
pub async fn end_of(run: &mut RunHandle, approver: Approver) -> anyhow::Result<RunOutcome> {
    loop {
        let outcome = run.outcome().await;
        let Outcome::Paused(paused) = &outcome.outcome else { return Ok(outcome) };
        let PauseReason::Approval { requests } = &paused.reason else { return Ok(outcome) };
        let requests: Vec<DeferredRequest> = requests.decode()?;
        for request in requests {
            let Some(approved) = approver.approves(&request)? else {
                run.cancel("nobody was there to approve");
                bail!("{} needs an approval: ask at a terminal, or with --yes", request.name);
            };
            let resolution = if approved {
                Resolution::Approve { args: None, always: false }
            } else {
                Resolution::Deny { message: Some("a clerk refused it".to_owned()) }
            };
            run.resolve(&request.tool_call_id, resolution).await?;
        }
    }
}

impl Approver {
    fn approves(self, request: &DeferredRequest) -> std::io::Result<Option<bool>> {
        match self {
            Self::Everything => Ok(Some(true)),
            Self::Nothing => Ok(Some(false)),
            Self::Terminal if !std::io::stdin().is_terminal() => Ok(None),
            Self::Terminal => {
                let mut terminal = std::io::stderr();
                write!(terminal, "Let it call {}({})? [y/N] ", request.name, request.args.get())?;
                terminal.flush()?;
                let mut answer = String::new();
                std::io::stdin().lock().read_line(&mut answer)?;
                Ok(Some(matches!(answer.trim(), "y" | "Y" | "yes")))
            }
        }
    }
}
