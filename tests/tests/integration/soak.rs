//! A short soak. The bench of the same name takes any time.

use std::time::Duration;

use axon_tests::kill::Program;
use axon_tests::soak::{Pace, soak};

#[tokio::test]
async fn under_load_and_kills_nothing_is_lost_and_nothing_is_doubled() {
    let program = Program::new(env!("CARGO_BIN_EXE_axon-cell"));
    let pace = Pace { duration: Duration::from_secs(12), seed: 5 };
    let tally = soak(program, pace).await.unwrap();
    assert!(tally.lost.is_empty() && tally.doubled.is_empty(), "{tally}");
    assert!(tally.hosts + tally.launchers + tally.runners > 0 && tally.accepted > 0, "{tally}");
}
