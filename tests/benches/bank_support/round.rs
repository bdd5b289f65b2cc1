//! What is asked of both sides, and what they took for it.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What every run asks.
pub(crate) const PROMPT: &str = "What is my balance?";

/// Whom every run is about.
pub(crate) const CUSTOMER: u32 = 123;

/// What every answer must contain.
pub(crate) const EXPECTED: &str = "$123.45";

/// How many runs are under way at once where that is what is measured.
pub(crate) const CROWD: u32 = 32;

/// The kinds of work in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Unstreamed, one after the other.
    Whole,
    /// Streamed, one after the other.
    Streamed,
    /// Streamed from a model that takes its time, one after the other.
    Paced,
    /// Unstreamed, many at once.
    WholeCrowd,
    /// Streamed, many at once.
    StreamedCrowd,
    /// Unstreamed, many at once, in two runners.
    Replicas,
}

/// What one side does at a stretch, before it is the other's turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) runs: u32,
    pub(crate) concurrency: u32,
    pub(crate) stream: bool,
    pub(crate) model: &'static str,
}

impl Workload {
    /// All of them, in the order of a round.
    pub(crate) const ALL: [Self; 6] = [
        Self::Whole,
        Self::Streamed,
        Self::Paced,
        Self::WholeCrowd,
        Self::StreamedCrowd,
        Self::Replicas,
    ];

    /// Returns how often each side takes its turn in a round.
    pub(crate) fn turns(self) -> u32 {
        match self {
            Self::Whole | Self::Streamed => 10,
            Self::Paced => 8,
            Self::WholeCrowd | Self::StreamedCrowd | Self::Replicas => 3,
        }
    }

    /// Returns what a side does when it is its turn: little, so that what disturbs the machine
    /// disturbs both sides.
    pub(crate) fn job(self) -> Job {
        let (runs, concurrency) = match self {
            Self::Whole | Self::Streamed | Self::Paced => (4, 1),
            Self::WholeCrowd | Self::StreamedCrowd => (2 * CROWD, CROWD),
            // Longer: at the end of each job, one runner may have nothing left to do.
            Self::Replicas => (6 * CROWD, CROWD),
        };
        let model = match self {
            Self::Paced => "openai-chat:paced",
            Self::Whole
            | Self::Streamed
            | Self::WholeCrowd
            | Self::StreamedCrowd
            | Self::Replicas => "openai-chat:scripted",
        };
        let stream = matches!(self, Self::Streamed | Self::Paced | Self::StreamedCrowd);
        Job { runs, concurrency, stream, model }
    }
}

/// What one side took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// How long each run took.
    pub(crate) latencies: Vec<Duration>,
    /// How long each streamed run took to its model's first event.
    pub(crate) firsts: Vec<Duration>,
    /// The longest silence between two events of each run, where they are streamed.
    pub(crate) pauses: Vec<Duration>,
    /// How many events were streamed.
    pub(crate) events: u64,
    /// The CPU of the Python process.
    pub(crate) python: Duration,
    /// The CPU of this process; none for bare pydantic-ai.
    pub(crate) rust: Duration,
    /// The CPU of the scripted model meanwhile, which is nobody's.
    pub(crate) model: Duration,
    /// How long the whole job took.
    pub(crate) wall: Duration,
}

impl Sample {
    /// Adds what the same side took at another time.
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.firsts.extend(other.firsts);
        self.pauses.extend(other.pauses);
        self.events += other.events;
        self.python += other.python;
        self.rust += other.rust;
        self.model += other.model;
        self.wall += other.wall;
    }
}

/// The lines to and from `bare.py`.
#[derive(Debug, Serialize)]
pub(crate) struct BareJob {
    pub(crate) runs: u32,
    pub(crate) concurrency: u32,
    pub(crate) model: &'static str,
    pub(crate) stream: bool,
    pub(crate) prompt: &'static str,
    pub(crate) request: serde_json::Value,
    pub(crate) expected: &'static str,
}

/// What `bare.py` answers; in seconds.
#[derive(Debug, Deserialize)]
pub(crate) struct BareSample {
    pub(crate) latencies: Vec<f64>,
    pub(crate) firsts: Vec<f64>,
    pub(crate) pauses: Vec<f64>,
    pub(crate) events: u64,
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
}

/// What both sides took for the same work, in turns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pair {
    pub(crate) bare: Sample,
    pub(crate) axon: Sample,
}

/// Every workload once, on both sides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    pairs: [Pair; Workload::ALL.len()],
}

impl Round {
    /// Keeps what a workload took.
    pub(crate) fn set(&mut self, workload: Workload, pair: Pair) {
        self.pairs[workload as usize] = pair;
    }

    /// Returns what a workload took.
    pub(crate) fn get(&self, workload: Workload) -> &Pair {
        &self.pairs[workload as usize]
    }
}
