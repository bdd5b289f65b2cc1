//! Admission: how many runs an agent has under way, how many wait, and who is next.

use std::collections::VecDeque;

use ractor::ActorRef;
use tokio::sync::oneshot;

use super::AgentMessage;

/// A place among the runs under way. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Slot {
    agent: ActorRef<AgentMessage>,
}

impl Slot {
    pub(crate) fn new(agent: ActorRef<AgentMessage>) -> Self {
        Self { agent }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // An agent that has ended counts nothing any more.
        let _ended = self.agent.cast(AgentMessage::Released);
    }
}

/// A run that was let in: its place comes at once or when its turn does.
pub(crate) type Admission = oneshot::Receiver<Slot>;

/// The agent is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) in_flight: u32,
    pub(crate) queued: usize,
}

/// Counts the runs of one agent.
#[derive(Debug)]
pub(crate) struct Gate {
    concurrency: u32,
    queue_limit: usize,
    in_flight: u32,
    queue: VecDeque<oneshot::Sender<Slot>>,
}

impl Gate {
    pub(crate) fn new(concurrency: u32, queue_limit: usize) -> Self {
        Self { concurrency, queue_limit, in_flight: 0, queue: VecDeque::new() }
    }

    /// Lets a run in, at once or into the queue.
    pub(crate) fn admit(&mut self, agent: &ActorRef<AgentMessage>) -> Result<Admission, Full> {
        let (sender, admission) = oneshot::channel();
        if self.in_flight < self.concurrency {
            self.grant(sender, agent);
            return Ok(admission);
        }
        // Runs that were cancelled while they waited take no room.
        self.queue.retain(|waiting| !waiting.is_closed());
        if self.queue.len() >= self.queue_limit {
            return Err(Full { in_flight: self.in_flight, queued: self.queue.len() });
        }
        self.queue.push_back(sender);
        Ok(admission)
    }

    /// Takes a place back and gives it to the next run that still waits.
    pub(crate) fn release(&mut self, agent: &ActorRef<AgentMessage>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        while self.in_flight < self.concurrency {
            let Some(next) = self.queue.pop_front() else { return };
            self.grant(next, agent);
        }
    }

    fn grant(&mut self, waiting: oneshot::Sender<Slot>, agent: &ActorRef<AgentMessage>) {
        if waiting.is_closed() {
            return;
        }
        self.in_flight += 1;
        // If the run left this very moment, the slot comes back to us here and its drop releases.
        drop(waiting.send(Slot::new(agent.clone())));
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.iter().filter(|waiting| !waiting.is_closed()).count()
    }
}
