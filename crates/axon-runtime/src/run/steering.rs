//! What others tell a run while it is under way.

use axon_kernel::event::{RunEvent, Steered};
use axon_kernel::ids::MessageId;
use axon_kernel::wire::{MessagePriority, MessageRequest};
use axon_runner::RequestError;
use tokio::sync::mpsc;

use super::driver::{Driver, Stuck};
use super::handle::Steer;
use crate::agent::Lease;

/// What a run was told while it was under way.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Taken, and in no checkpoint yet.
    untold: Vec<Steered>,
    /// In the recorded messages.
    told: Vec<Steered>,
}

impl Messages {
    /// Goes on with what another process was told.
    pub(super) fn taken_over(told: Vec<Steered>, untold: Vec<Steered>) -> Self {
        Self { untold, told }
    }

    fn has(&self, id: &MessageId) -> bool {
        self.told.iter().chain(&self.untold).any(|message| message.message_id == *id)
    }

    /// Notes which messages a checkpoint has.
    pub(super) fn delivered(&mut self, ids: &[MessageId]) {
        let known = |message: &mut Steered| ids.contains(&message.message_id);
        self.told.extend(self.untold.extract_if(.., known));
    }

    /// Begins with the prompt anew: nothing of it was told.
    pub(super) fn begin(&mut self) {
        self.told.append(&mut self.untold);
        std::mem::swap(&mut self.told, &mut self.untold);
    }
}

impl Driver {
    /// Hands a message to the runner, which puts it before the model with the next request. It is
    /// recorded before the sender is told that the run took it; an attempt that dies before its
    /// checkpoint has the message leaves it to the next one.
    pub(super) async fn steer(&mut self, steer: Steer, lease: &Lease) -> Result<(), Stuck> {
        if steer.taken.is_closed() {
            // Its sender was told that it did not arrive, or asked no longer.
            return Ok(());
        }
        if self.messages.has(&steer.message_id) {
            // Whoever asked may have gone.
            let _gone = steer.taken.send(true);
            return Ok(());
        }
        let message = Steered { message_id: steer.message_id, content: steer.content };
        let sent = lease.client().message(self.log().run_id(), &self.message(&message)).await;
        let taken = !matches!(sent, Err(RequestError::Refused { .. }));
        if taken {
            self.messages.untold.push(message.clone());
            self.emit(RunEvent::Steered(message)).await?;
        }
        // Whoever asked may have gone.
        let _gone = steer.taken.send(taken);
        Ok(())
    }

    /// Hands the messages that no checkpoint has yet to a new attempt.
    pub(super) async fn tell_again(&self, lease: &Lease) {
        for message in &self.messages.untold {
            // Whatever prevents it ends the attempt, too.
            let sent = lease.client().message(self.log().run_id(), &self.message(message)).await;
            if let Err(error) = sent {
                tracing::debug!(run = %self.log().run_id(), %error, "a message was not taken again");
            }
        }
    }

    fn message(&self, message: &Steered) -> MessageRequest {
        MessageRequest {
            attempt: self.attempt,
            message_id: message.message_id.clone(),
            content: message.content.clone(),
            priority: MessagePriority::Asap,
        }
    }
}

/// Waits for the next message; forever before the run has begun.
pub(super) async fn next_steer(steered: &mut Option<mpsc::Receiver<Steer>>) -> Option<Steer> {
    match steered {
        Some(steered) => steered.recv().await,
        None => std::future::pending().await,
    }
}
