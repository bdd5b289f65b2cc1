//! Whoever approves what the agent may not do by itself.

use std::io::{BufRead, IsTerminal, Write};

use axon_runtime::kernel::event::PauseReason;
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
/// An error if the terminal cannot be read, or the run cannot go on.
pub async fn end_of(run: &mut RunHandle, approver: Approver) -> anyhow::Result<RunOutcome> {
    loop {
        let outcome = run.outcome().await;
        let Outcome::Paused(paused) = &outcome.outcome else { return Ok(outcome) };
        let PauseReason::Approval { requests } = &paused.reason else { return Ok(outcome) };
        let requests: Vec<DeferredRequest> = requests.decode()?;
        for request in requests {
            let call = &request.tool_call_id;
            match approver.refuses(&request)? {
                None => run.approve(call).await?,
                Some(why) => run.deny(call, why).await?,
            };
        }
    }
}

impl Approver {
    /// Returns why a call is refused; nothing if it may be made.
    fn refuses(self, request: &DeferredRequest) -> std::io::Result<Option<&'static str>> {
        let mut terminal = std::io::stderr();
        let (name, args) = (&request.name, request.args.get());
        match self {
            Self::Everything => Ok(None),
            Self::Nothing => Ok(Some("a clerk refused it")),
            Self::Terminal if !std::io::stdin().is_terminal() => {
                writeln!(
                    terminal,
                    "{name}({args}) is refused: nobody is there to approve it (--yes does)"
                )?;
                Ok(Some("nobody is there to approve it"))
            }
            Self::Terminal => {
                write!(terminal, "Let it call {name}({args})? [y/N] ")?;
                terminal.flush()?;
                let mut answer = String::new();
                std::io::stdin().lock().read_line(&mut answer)?;
                let is_yes = matches!(answer.trim(), "y" | "Y" | "yes");
                Ok((!is_yes).then_some("a clerk refused it"))
            }
        }
    }
}
