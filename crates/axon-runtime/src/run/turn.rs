//! A run as a turn of its conversation: when it comes to it, and what was said before.

use axon_kernel::event::Continues;
use axon_kernel::ids::ConversationId;
use axon_kernel::json::RawJson;
use axon_kernel::run::RunState;
use axon_kernel::store::{StoreError, TurnTaken};
use tokio::time::Duration;

use super::driver::{Driver, Stuck};
use super::transcript::Transcript;
use super::{Refusal, Request};

/// How long a turn waits before it asks again whether another process has ended its own: at first,
/// and at most.
const TURN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

impl Driver {
    /// Waits until no other process has the turn of the conversation.
    pub(super) async fn take_turn(&self) -> Result<(), Refusal> {
        let Some(conversation) = &self.request.conversation else { return Ok(()) };
        let mut wait = TURN.0;
        loop {
            match self.store().take_turn(conversation, self.log().run_id()).await {
                Ok(TurnTaken::Yes) => return Ok(()),
                Ok(TurnTaken::Busy(holder)) => {
                    // Nobody waits for a person; what was interrupted goes on somewhere.
                    if holder.state == RunState::Paused {
                        let (conversation, by) = (conversation.clone(), Some(Box::new(holder)));
                        return Err(Refusal::ConversationBusy { conversation, by });
                    }
                }
                Err(error) if error.may_heal() => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(TURN.1);
        }
    }

    /// Reads the history that the run continues, and puts what it has recorded itself behind it.
    pub(super) async fn load_history(&mut self) -> Result<(), Stuck> {
        let Request { history, continues, conversation, .. } = &self.request;
        let (history, held) = match (history, conversation) {
            (Some(history), _) => (history.clone(), 0),
            (None, Some(conversation)) => {
                let history = self.history_of(conversation).await?;
                let held = history.len();
                (history, held)
            }
            (None, None) => match continues {
                Some(Continues { conversation_id, messages }) => {
                    let mut history = self.history_of(conversation_id).await?;
                    history.truncate(*messages);
                    (history, 0)
                }
                None => (Vec::new(), 0),
            },
        };
        let recorded = std::mem::take(&mut self.transcript.recorded);
        self.transcript = Transcript::after(history, held);
        for checkpoint in &recorded {
            self.transcript.apply(checkpoint);
        }
        self.spending.begin(self.transcript.usage.as_ref());
        if recorded.is_empty() {
            self.messages.begin();
        }
        Ok(())
    }

    /// Reads a conversation; the clock stands while that cannot be had.
    async fn history_of(&self, conversation: &ConversationId) -> Result<Vec<RawJson>, StoreError> {
        let mut wait = TURN.0;
        loop {
            match self.store().history(conversation).await {
                Err(error) if error.may_heal() => self.clock.stand_still(),
                read => {
                    self.clock.go_on();
                    return read;
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(TURN.1);
        }
    }
}
