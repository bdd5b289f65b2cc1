//! A run that waits in one process, and a person who decides in another.

use axon_test::Reply;
use serde_json::json;

use super::Desk;

fn refund() -> Reply {
    Reply::tool_calls([("refund", json!({"amount": 10}))])
}

/// Asks for a refund, which waits for an approval, and returns the run's id.
async fn paused(desk: &Desk) -> String {
    let (_, stderr) = desk.axon(7, &["run", "desk", "refund me"]).await;
    let id = desk.newest().await;
    let short = id.rsplit('-').next().unwrap();
    assert!(stderr.contains(&format!("axon approve {short} ")), "{stderr}");
    assert!(stderr.contains("`refund`"), "{stderr}");
    assert_eq!(desk.effects("refunds"), 0);
    id
}

#[tokio::test]
async fn an_approved_call_is_made_once_by_another_process() {
    let desk = Desk::new([refund(), Reply::text("It is on its way.")]).await;
    let id = paused(&desk).await;
    let (_, stderr) = desk.axon(7, &["runs", "resume", &id]).await;
    assert!(stderr.contains("axon approve"), "{stderr}");
    let end = &id[24..];
    assert_eq!(desk.answer(&["approve", end]).await, "It is on its way.");
    assert_eq!(desk.effects("refunds"), 1);
    assert_eq!(desk.model.requests().len(), 2);
    let (stdout, _) = desk.axon(0, &["runs", "show", end]).await;
    assert!(stdout.contains("was approved"), "{stdout}");
    let (_, stderr) = desk.axon(2, &["approve", end]).await;
    assert!(stderr.contains("the run is completed"), "{stderr}");
}

#[tokio::test]
async fn other_arguments_can_be_approved_and_the_run_go_on_later() {
    let desk = Desk::new([refund(), Reply::text("Less than that.")]).await;
    let id = paused(&desk).await;
    let later = ["approve", &id, "--args", "{\"amount\": 3}", "--later"];
    let (stdout, stderr) = desk.axon(0, &later).await;
    assert_eq!((stdout.as_str(), desk.effects("refunds")), ("", 0));
    assert!(stderr.contains("axon runs resume"), "{stderr}");
    let (stdout, _) = desk.axon(0, &["runs", "resume"]).await;
    assert_eq!(stdout, "", "it was not interrupted");
    assert_eq!(desk.answer(&["runs", "resume", "--all"]).await, "Less than that.");
    let refunds = std::fs::read_to_string(desk.project.path().join("refunds")).unwrap();
    assert_eq!(refunds, "3\n");
}

#[tokio::test]
async fn a_denied_call_is_not_made_and_the_model_is_told_why() {
    let desk = Desk::new([refund(), Reply::text("Sorry.")]).await;
    let id = paused(&desk).await;
    let deny = ["deny", &id, "--message", "Not without a receipt."];
    assert_eq!(desk.answer(&deny).await, "Sorry.");
    assert_eq!(desk.effects("refunds"), 0);
    let last = desk.model.requests().pop().unwrap().body.to_string();
    assert!(last.contains("Not without a receipt."), "{last}");
}

#[tokio::test]
async fn a_question_is_answered_by_a_person() {
    let question = ("ask", json!({"question": "Both of them?"}));
    let desk = Desk::new([Reply::tool_calls([question]), Reply::text("Both.")]).await;
    let (_, stderr) = desk.axon(7, &["run", "desk", "book"]).await;
    assert!(stderr.contains("axon answer") && stderr.contains("Both of them?"), "{stderr}");
    let id = desk.newest().await;
    let (_, stderr) = desk.axon(2, &["approve", &id]).await;
    assert!(stderr.contains("waits for no approval"), "{stderr}");
    assert_eq!(desk.answer(&["answer", &id, "Yes, both."]).await, "Both.");
    let last = desk.model.requests().pop().unwrap().body.to_string();
    assert!(last.contains("Yes, both."), "{last}");
}

#[tokio::test]
async fn several_calls_are_decided_one_by_one_and_the_last_decision_goes_on() {
    let both = [("refund", json!({"amount": 1})), ("refund", json!({"amount": 2}))];
    let desk = Desk::new([Reply::tool_calls(both), Reply::text("One of them.")]).await;
    let id = paused(&desk).await;
    let (_, stderr) = desk.axon(2, &["approve", &id]).await;
    assert!(stderr.contains("several calls"), "{stderr}");
    let commands = desk.runs().await[0]["next"].clone();
    let approvals: Vec<String> = commands
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|command| command.as_str()?.strip_prefix("axon approve "))
        .map(|rest| rest.split(' ').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(approvals.len(), 2, "{commands}");
    let (_, stderr) = desk.axon(0, &["approve", &id, &approvals[0]]).await;
    assert!(stderr.contains("still waits") && stderr.contains(&approvals[1]), "{stderr}");
    assert_eq!(desk.effects("refunds"), 0);
    assert_eq!(desk.answer(&["deny", &id, &approvals[1]]).await, "One of them.");
    assert_eq!(desk.effects("refunds"), 1);
}

#[tokio::test]
async fn a_paused_run_can_be_cancelled_and_frees_its_conversation() {
    let desk = Desk::new([refund(), Reply::text("Something else.")]).await;
    let turn = |prompt: &'static str| ["run", "desk", prompt, "--conversation", "c1"];
    desk.axon(7, &turn("refund me")).await;
    let (_, stderr) = desk.axon(1, &turn("hello?")).await;
    assert!(
        stderr.contains("waits for a person") && stderr.contains("axon runs cancel"),
        "{stderr}"
    );
    let id = desk.newest().await;
    desk.axon(0, &["runs", "cancel", &id]).await;
    assert_eq!(desk.answer(&turn("hello?")).await, "Something else.");
}

#[tokio::test]
async fn without_a_store_a_paused_run_is_lost_and_says_so() {
    let desk = Desk::new([refund()]).await;
    let (_, stderr) = desk.axon(7, &["--store", "memory", "run", "desk", "refund me"]).await;
    assert!(stderr.contains("in memory") && !stderr.contains("axon approve"), "{stderr}");
    assert!(!desk.project.path().join(".axon").exists());
}
