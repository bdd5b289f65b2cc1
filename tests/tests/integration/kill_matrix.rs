//! A small selection of the kill matrix. The bench of the same name carries out all of it.

use axon_tests::kill::{Fault, Plan, Program, Report, Table, carry_out, smallest};

/// Carries out the cells of one fault, one after the other.
async fn keeps_every_promise(fault: Fault) {
    let mut cells = smallest();
    cells.retain(|cell| cell.fault == fault);
    let program = Program::new(env!("CARGO_BIN_EXE_axon-cell"));
    let reports = carry_out(Plan { cells, lanes: 1, program }, |_| {}).await.unwrap();
    let broken: Vec<&Report> = reports.iter().filter(|report| !report.verdict.is_good()).collect();
    assert!(broken.is_empty(), "{broken:#?}\n{}", Table(&reports));
}

#[tokio::test]
async fn no_promise_is_broken_when_the_whole_process_aborts() {
    keeps_every_promise(Fault::Abort).await;
}

#[tokio::test]
async fn no_promise_is_broken_when_a_runner_is_killed() {
    keeps_every_promise(Fault::Runner).await;
}

#[tokio::test]
async fn no_promise_is_broken_when_the_launcher_is_killed() {
    keeps_every_promise(Fault::Launcher).await;
}

#[tokio::test]
async fn no_promise_is_broken_when_the_disk_is_full_for_a_while() {
    keeps_every_promise(Fault::Full).await;
}

#[tokio::test]
async fn no_promise_is_broken_when_the_disk_fails_to_sync() {
    keeps_every_promise(Fault::Sync).await;
}
