//! The clock of one run: it stands while nothing can be recorded.

use std::time::SystemTime;

use axon_kernel::time::Timestamp;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

/// Returns the moment that the wall clock shows.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().after(since)
}

/// When a run has to have ended.
#[derive(Debug)]
pub(crate) struct Clock(watch::Sender<Hands>);

#[derive(Clone, Copy, Debug)]
struct Hands {
    deadline: Instant,
    stands_since: Option<Instant>,
    /// For how long it has stood, until it went on last.
    stood: Duration,
}

impl Hands {
    fn deadline(self) -> Instant {
        let stood = self.stands_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.deadline + stood
    }
}

impl Clock {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self(watch::Sender::new(Hands { deadline, stands_since: None, stood: Duration::ZERO }))
    }

    /// Returns when the run has to have ended, as far as that is known while the clock stands.
    pub(crate) fn deadline(&self) -> Instant {
        self.0.borrow().deadline()
    }

    /// Stops the clock until [`Clock::go_on`].
    pub(crate) fn stand_still(&self) {
        self.0.send_modify(|hands| {
            hands.stands_since.get_or_insert_with(Instant::now);
        });
    }

    pub(crate) fn go_on(&self) {
        self.0.send_if_modified(|hands| {
            let Some(since) = hands.stands_since.take() else { return false };
            hands.deadline += since.elapsed();
            hands.stood += since.elapsed();
            true
        });
    }

    /// Returns whether it has ever stood.
    pub(crate) fn has_stood(&self) -> bool {
        !self.0.borrow().stood.is_zero()
    }

    /// Waits until the deadline is over by `slack`.
    pub(crate) async fn over(&self, slack: Duration) {
        let mut hands = self.0.subscribe();
        loop {
            let Hands { deadline, stands_since, .. } = *hands.borrow_and_update();
            let over = async {
                match stands_since {
                    None => tokio::time::sleep_until(deadline + slack).await,
                    Some(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => return,
                // The sender lives in `self`, so the channel cannot close.
                _changed = hands.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_it_stands_does_not_count() {
        let began = Instant::now();
        let clock = Clock::until(began + Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(9)).await;
        clock.stand_still();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.deadline() - Instant::now(), Duration::from_secs(1));
        clock.go_on();
        clock.over(Duration::ZERO).await;
        assert_eq!(began.elapsed(), Duration::from_secs(70));
    }
}
