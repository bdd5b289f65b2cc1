//! Hosts that are killed at a random moment between their start and the middle of their runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::field::{ALL, Field, Gone, Left};

/// The longest that a round waits after what it waits for.
const LONGER: Duration = Duration::from_millis(50);

/// The longest that a host is left alone when its end is to come while it starts.
const START: Duration = Duration::from_millis(2000);

/// What is promised.
const PROMISED: Duration = Duration::from_secs(1);

/// How many rounds there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u64,
    pub(crate) at_once: usize,
    pub(crate) seed: u64,
}

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// How long it took until everything was gone, from the host's end.
    pub(crate) took: Vec<Duration>,
    /// How many processes there were below the hosts when they ended.
    pub(crate) processes: usize,
    /// What took longer than what is promised.
    pub(crate) slow: Vec<String>,
    /// What was still there after some seconds.
    pub(crate) leaks: Vec<String>,
}

impl Figures {
    /// Adds those of other rounds.
    pub(crate) fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.processes += other.processes;
        self.slow.extend(other.slow);
        self.leaks.extend(other.leaks);
    }

    fn take(&mut self, (processes, gone): (usize, Result<Gone, Left>)) {
        self.processes += processes;
        match gone {
            Ok(gone) => {
                if gone.after > PROMISED {
                    self.slow.push(format!("{} {:?}", gone.last, gone.after));
                }
                self.took.push(gone.after);
            }
            Err(left) => self.leaks.extend(left.names()),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut took = self.took.clone();
        took.sort_unstable();
        let at = |part: usize| took.get((took.len() * part / 100).min(took.len().max(1) - 1));
        let millis = |part| at(part).map_or(0.0, |took: &Duration| took.as_secs_f64() * 1e3);
        write!(f, "{} rounds, {} processes, ", took.len(), self.processes)?;
        write!(f, "{} leaks, {} late; all gone after: ", self.leaks.len(), self.slow.len())?;
        write!(f, "median {:.1} ms, ", millis(50))?;
        write!(f, "p99 {:.1} ms, max {:.1} ms", millis(99), millis(100))
    }
}

/// Makes all rounds, some of them at once.
pub(crate) async fn all(host: &'static str, plan: Plan) -> anyhow::Result<Figures> {
    let turns = Arc::new(Semaphore::new(plan.at_once));
    let mut rounds = JoinSet::new();
    for number in 0..plan.rounds {
        let turns = turns.clone();
        rounds.spawn(async move {
            let _turn = turns.acquire().await?;
            round(host, Random::new(plan.seed, number)).await
        });
    }
    let mut figures = Figures::default();
    while let Some(done) = rounds.join_next().await {
        figures.take(done??);
    }
    Ok(figures)
}

async fn round(program: &str, mut random: Random) -> anyhow::Result<(usize, Result<Gone, Left>)> {
    let field = Field::new()?;
    let mut host = field.start(program, &["agents"])?;
    // Half of the rounds end while things start, the others at or after one of them.
    if random.below(2) == 0 {
        host.told(ALL.len(), random.time(START)).await?;
    } else {
        let count = 1 + usize::try_from(random.below(ALL.len() as u64))?;
        host.busy_with(count).await?;
        host.told(usize::MAX, random.time(LONGER)).await?;
    }
    let watched = host.below()?;
    let processes = watched.len();
    let since = Instant::now();
    host.kill()?;
    let gone = tokio::task::spawn_blocking(move || {
        let gone = host.gone(watched, since);
        (host, gone)
    });
    let (mut host, gone) = gone.await?;
    host.ended().await?;
    Ok((processes, gone))
}

/// Numbers that look random and are the same for the same seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64, number: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn time(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(longest.as_micros()).unwrap_or(u64::MAX)))
    }
}
