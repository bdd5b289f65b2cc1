//! Answers that Rust validators look at before anybody gets them.

use axon_kernel::json::RawJson;
use axon_kernel::wire::{OutputCheck, ToolAnswer};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::attempt::AttemptError;
use super::calls::{Begun, By, Called, Ended};
use super::driver::Driver;
use super::rust_tools::broken;
use crate::agent::Lease;
use crate::define::Known;
use crate::tools::ToolError;

impl Driver {
    /// Has the validators look at an answer. Each is asked in a task of its own, so that the run
    /// goes on to listen meanwhile.
    pub(super) fn check_answer(&mut self, check: OutputCheck) {
        let known = Known {
            run_id: self.log().run_id().clone(),
            agent: self.agent.name().clone(),
            deps: self.request.deps.clone(),
            retry: check.retry,
            max_retries: check.max_retries,
        };
        let validators = self.launcher.code.validators.clone();
        let spec = self.launcher.spec.output.clone();
        let begun = Begun {
            call: check.check_id,
            name: "the validators".to_owned(),
            by: By::Validators,
            deadline: self.deadline(),
            cancelled: CancellationToken::new(),
        };
        self.calls_here.begin(begun, async move {
            let read = |said: &RawJson| -> Result<Value, ToolError> {
                Ok(match &spec {
                    Some(spec) => spec.unwrap(said)?.read()?,
                    None => said.decode()?,
                })
            };
            let checked = read(&check.output).and_then(|output| validators.check(&output, &known));
            (checked.map(|()| Value::Null).map_err(Ended::Tool), None)
        });
    }

    /// Tells the runner what the validators said.
    pub(super) async fn output_checked(
        &mut self,
        called: Called,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        let answer = match called.end {
            Ok(content) => ToolAnswer::Ok { content },
            Err(Ended::Tool(ToolError::Retry(message) | ToolError::Failed(message))) => {
                ToolAnswer::Retry { message }
            }
            Err(Ended::Tool(error)) => broken(error.chain()),
            Err(Ended::Waits(_) | Ended::Other { .. }) => {
                broken("a validator asks nobody, and waits for nobody".to_owned())
            }
        };
        self.answer(called.call, answer, lease).await
    }
}
