//! One attempt: what requests have told it, and what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use axon_kernel::ids::{Attempt, MessageId, ToolCallId};
use axon_kernel::wire::{MessageRequest, ToolAnswer};
use tokio::sync::watch;

/// One attempt, shared by the task that plays it and the requests that reach it.
#[derive(Debug)]
pub(super) struct LiveAttempt {
    pub(super) number: Attempt,
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last event.
    seq: u64,
    permitted: BTreeSet<u64>,
    asked: BTreeSet<ToolCallId>,
    answered: BTreeMap<ToolCallId, ToolAnswer>,
    /// The messages that were taken, whether they are delivered or not.
    messages: BTreeSet<MessageId>,
    undelivered: Vec<MessageRequest>,
    cancelled: bool,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Running,
    /// Nothing from outside ends it.
    Frozen,
    /// It has had its terminal event, or has ended without one.
    Over,
}

impl State {
    fn can_be_ended(&self) -> bool {
        self.phase == Phase::Running
    }
}

impl LiveAttempt {
    pub(super) fn new(number: Attempt) -> Self {
        Self { number, state: watch::Sender::default() }
    }

    /// Notes that the event `seq` is on its way.
    pub(super) fn sent(&self, seq: u64) {
        self.state.send_modify(|state| state.seq = seq);
    }

    /// Permits what follows the event `seq`; says whether there was such an event.
    pub(super) fn permit(&self, seq: u64) -> bool {
        self.state.send_if_modified(|state| {
            let known = (1..=state.seq).contains(&seq);
            if known {
                state.permitted.insert(seq);
            }
            known
        })
    }

    /// Notes that `call` is about to wait for its answer.
    pub(super) fn ask(&self, call: ToolCallId) {
        self.state.send_modify(|state| {
            state.asked.insert(call);
        });
    }

    /// Hands an answer to the call that waits for it; says whether one does.
    pub(super) fn answer(&self, call: ToolCallId, answer: ToolAnswer) -> bool {
        self.state.send_if_modified(|state| {
            let waits = state.asked.remove(&call);
            if waits {
                state.answered.insert(call, answer);
            }
            waits
        })
    }

    /// Returns the calls that still wait, and forgets them.
    pub(super) fn withdraw(&self) -> BTreeSet<ToolCallId> {
        let mut waiting = BTreeSet::new();
        self.state.send_modify(|state| waiting = std::mem::take(&mut state.asked));
        waiting
    }

    /// Takes a message, once.
    pub(super) fn take_message(&self, message: MessageRequest) {
        self.state.send_modify(|state| {
            if state.messages.insert(message.message_id.clone()) {
                state.undelivered.push(message);
            }
        });
    }

    /// Returns the messages that were taken and not delivered, and forgets them.
    pub(super) fn deliver(&self) -> Vec<MessageRequest> {
        let mut messages = Vec::new();
        self.state.send_modify(|state| messages = std::mem::take(&mut state.undelivered));
        messages
    }

    pub(super) fn cancel(&self) {
        self.state.send_modify(|state| state.cancelled = true);
    }

    pub(super) fn freeze(&self) {
        self.state.send_modify(|state| state.phase = Phase::Frozen);
    }

    /// Notes that the attempt has had its terminal event, or has ended without one; says whether
    /// that is news.
    pub(super) fn end(&self) -> bool {
        self.state.send_if_modified(|state| {
            std::mem::replace(&mut state.phase, Phase::Over) != Phase::Over
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.borrow().phase == Phase::Over
    }

    pub(super) async fn permitted(&self, seq: u64) {
        self.wait(|state| state.permitted.contains(&seq)).await;
    }

    /// Waits for the answer to `call`.
    pub(super) async fn answered(&self, call: &ToolCallId) -> ToolAnswer {
        self.wait(|state| state.answered.contains_key(call)).await;
        let mut answer = None;
        self.state.send_if_modified(|state| {
            answer = state.answered.remove(call);
            false
        });
        answer.expect("only the one that waits for an answer takes it")
    }

    /// Waits until the attempt is to end because of a cancel.
    pub(super) async fn cancelled(&self) {
        self.wait(|state| state.cancelled && state.can_be_ended()).await;
    }

    /// Waits until something from outside may end the attempt.
    pub(super) async fn endable(&self) {
        self.wait(State::can_be_ended).await;
    }

    pub(super) async fn ended(&self) {
        self.wait(|state| state.phase == Phase::Over).await;
    }

    async fn wait(&self, condition: impl Fn(&State) -> bool) {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so the channel cannot close meanwhile.
        let _always_open = state.wait_for(|state| condition(state)).await;
    }
}
