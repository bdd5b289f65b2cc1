//! Looking after a runner: how it ends, and whether it still answers.

use std::sync::{Arc, Weak};

use ractor::ActorRef;

use super::AgentMessage;
use super::tenancy::Tenancy;

/// How many tools may run on in a runner although nobody waits for them. It has 80 threads for
/// tools in all, and none left would look like tools that hang.
const MAX_LEFT_BEHIND: usize = 16;

/// Watches a runner without holding it: one that nobody has any more is killed.
pub(super) fn watch(tenancy: &Arc<Tenancy>, myself: ActorRef<AgentMessage>) {
    let exited = tenancy.exited();
    tokio::spawn(pulse(Arc::downgrade(tenancy), myself.clone()));
    let tenancy = Arc::downgrade(tenancy);
    tokio::spawn(async move {
        let cause = exited.await.to_string();
        if let Some(tenancy) = tenancy.upgrade() {
            let _ended = myself.cast(AgentMessage::Exited { tenancy, cause });
        }
    });
}

/// Looks after a runner as long as somebody has it: one that does not answer within a heartbeat is
/// killed, and one that too many abandoned threads clog is replaced.
async fn pulse(tenancy: Weak<Tenancy>, myself: ActorRef<AgentMessage>) {
    let heartbeat = tenancy.upgrade().map(|tenancy| tenancy.launcher.spec.runner.heartbeat);
    let Some(heartbeat) = heartbeat else { return };
    loop {
        tokio::time::sleep(heartbeat).await;
        // Not held while it is asked: one that nobody has any more is killed at once.
        let Some((client, exited)) =
            tenancy.upgrade().map(|tenancy| (tenancy.client().clone(), tenancy.exited()))
        else {
            return;
        };
        let health = tokio::select! {
            health = tokio::time::timeout(heartbeat, client.health()) => health,
            _exit = exited => return,
        };
        let Some(tenancy) = tenancy.upgrade() else { return };
        match health {
            Ok(Ok(health)) if health.unfinished.len() >= MAX_LEFT_BEHIND => {
                let reason = "too many tools run on in it although nobody waits for them";
                let _ended = myself.cast(AgentMessage::Replace { tenancy, reason });
                return;
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) if tenancy.is_ending() => return,
            Ok(Err(_)) | Err(_) => {
                let stacks = tenancy.stacks().await;
                tracing::error!(
                    pid = tenancy.pid(),
                    stacks,
                    "a runner gives no sign of life: it is given up"
                );
                tenancy.condemn().await;
                return;
            }
        }
    }
}
