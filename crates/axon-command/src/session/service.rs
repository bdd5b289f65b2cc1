//! Starts the agents to serve: with the store, going on with what is open in it, and without models
//! that only play one.

use std::sync::Arc;

use axon_runtime::{Runtime, RuntimeBuilder};

use super::{HALF_STARTED, Session, cancelled, say_progress};
use crate::report::Report;

impl Session {
    /// Starts the agent that `target` names, or every agent that is found.
    pub(crate) async fn start_service(
        &mut self,
        target: Option<&str>,
        offline: bool,
    ) -> Result<Runtime, Report> {
        let mut settings = self.settings()?;
        let only = target.map(|target| self.find(target)).transpose()?;
        let others = only.as_ref().map(|agent| self.others_of(agent)).transpose()?;
        let store = self.store().await?;
        let builder = self.builder.take().unwrap_or_else(Runtime::builder);
        let builder = match (only, others) {
            (Some(agent), others) => {
                // One agent is no group.
                settings.groups.clear();
                let builder = builder.only(agent);
                others.unwrap_or_default().into_iter().fold(builder, RuntimeBuilder::agent)
            }
            (None, _) => self.with_all(builder)?,
        };
        let builder = if offline { builder.allow_offline() } else { builder };
        let mut start = self
            .telemetry
            .start(builder, &self.host)
            .config(settings)
            .store(store)
            .host(self.host.clone())
            .on_progress(Arc::new(say_progress));
        let ended = start.ended();
        let start = Box::pin(start.start());
        let signal = tokio::select! {
            started = start => match started {
                Ok(runtime) => return Ok(runtime),
                Err(error) => {
                    // One agent is refused, and the others have started by then.
                    let _in_time = tokio::time::timeout(HALF_STARTED, ended).await;
                    return Err(error.into());
                }
            },
            signal = self.signals.next() => signal,
        };
        Err(cancelled(signal, ended).await)
    }

    /// Has the builder start every agent that is found.
    fn with_all(&self, builder: RuntimeBuilder) -> Result<RuntimeBuilder, Report> {
        self.names_or_complain()?;
        Ok(match builder.folders().is_empty() && builder.agents().is_empty() {
            true => self.folders.iter().fold(builder, RuntimeBuilder::agents_dir),
            false => builder,
        })
    }
}
