//! Hard stops: a run that was called off, or is too late, really ends in its runner.

use tokio::time::Instant;

use crate::events::RuntimeEvent;

use super::driver::Driver;

impl Driver {
    /// Ends what the run still does in its runner: by asking, or with the runner's process. Only
    /// then is it told that the run has ended. What cuts this short can begin it anew: the lease is
    /// given back when it is done.
    pub(super) async fn hard_stop(&mut self) {
        let Some(lease) = self.lease.clone() else { return };
        // From the deadline on, if that is what ended it.
        let since = self.deadline().min(Instant::now());
        let killed = lease.end(since + self.launcher.spec.runner.cancel_grace).await;
        self.lease = None;
        let Some(stacks) = killed else { return };
        let (run_id, generation) = (self.log().run_id().clone(), lease.generation());
        let agent = self.agent.name().clone();
        tracing::warn!(
            run = %run_id, %agent, %generation, stacks,
            "a run did not stop when it had to: its runner was killed"
        );
        self.services().events.tell(RuntimeEvent::HardStopped { run_id, agent, generation });
    }
}
