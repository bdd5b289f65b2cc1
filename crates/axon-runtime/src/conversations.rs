//! Conversations take one turn at a time: who has it, who waits, and how to reach who has it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axon_kernel::ids::ConversationId;
use tokio::sync::oneshot;

use crate::run::LiveRun;

/// The conversations of a runtime that have a turn under way. Turns that wait are bounded by the
/// admission of their agents.
#[derive(Debug, Default)]
pub(crate) struct Conversations {
    busy: Mutex<HashMap<ConversationId, Line>>,
}

/// Who stands in line behind the turn under way, oldest first.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<oneshot::Sender<Turn>>,
    live: Option<LiveRun>,
}

/// The right to be the one turn of a conversation. Dropping it hands it on.
#[derive(Debug)]
pub(crate) struct Turn {
    conversations: Arc<Conversations>,
    id: ConversationId,
}

/// A place in the line of a conversation.
pub(crate) type Place = oneshot::Receiver<Turn>;

impl Conversations {
    /// Stands in line; turns come in the order in which they were asked for.
    pub(crate) fn join(self: &Arc<Self>, id: &ConversationId) -> Place {
        let mut busy = self.busy();
        if let Some(line) = busy.get_mut(id) {
            let (sender, place) = oneshot::channel();
            line.waiting.push_back(sender);
            return place;
        }
        busy.insert(id.clone(), Line::default());
        drop(busy);
        self.place_of(id)
    }

    /// Returns the first place in a line that was just begun. Not under the lock: a turn that
    /// nobody takes wants it when it is dropped.
    fn place_of(self: &Arc<Self>, id: &ConversationId) -> Place {
        let (sender, place) = oneshot::channel();
        let _taken = sender.send(Turn { conversations: self.clone(), id: id.clone() });
        place
    }

    /// Takes the turn, if the conversation has none under way and none waiting.
    pub(crate) fn join_if_free(self: &Arc<Self>, id: &ConversationId) -> Option<Place> {
        let mut busy = self.busy();
        if busy.contains_key(id) {
            return None;
        }
        busy.insert(id.clone(), Line::default());
        drop(busy);
        Some(self.place_of(id))
    }

    /// Returns the run whose turn it is.
    pub(crate) fn live(&self, id: &ConversationId) -> Option<LiveRun> {
        self.busy().get(id)?.live.clone()
    }

    fn busy(&self) -> MutexGuard<'_, HashMap<ConversationId, Line>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_on(self: &Arc<Self>, id: &ConversationId) {
        let mut busy = self.busy();
        let Some(line) = busy.get_mut(id) else { return };
        line.live = None;
        // Those who gave up are passed over here, so that no turn is ever dropped under the lock.
        while let Some(next) = line.waiting.pop_front() {
            if next.is_closed() {
                continue;
            }
            drop(busy);
            let _taken = next.send(Turn { conversations: self.clone(), id: id.clone() });
            return;
        }
        busy.remove(id);
    }
}

impl Turn {
    /// Says which run has the turn, so that others can reach it.
    pub(crate) fn is_of(&self, run: LiveRun) {
        if let Some(line) = self.conversations.busy().get_mut(&self.id) {
            line.live = Some(run);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.conversations.hand_on(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_come_in_order_and_those_who_gave_up_are_passed_over() {
        let conversations = Arc::new(Conversations::default());
        let id = ConversationId::new("c");
        let first = conversations.join(&id).await.unwrap();
        let (gave_up, third) = (conversations.join(&id), conversations.join(&id));
        drop(gave_up);
        drop(first);
        drop(third.await.unwrap());
        assert!(conversations.join_if_free(&id).is_some());
    }

    #[tokio::test]
    async fn a_turn_that_nobody_takes_is_handed_on() {
        let conversations = Arc::new(Conversations::default());
        let id = ConversationId::new("c");
        drop(conversations.join(&id));
        assert!(conversations.join_if_free(&id).is_some());
    }
}
