//! Approvals that are given beforehand, for a whole run, with other arguments, or not in time.

use axon_test::{Reply, Script};
use serde_json::{Value, json};

use super::{AGENT, Desk};
use crate::support::until;

fn refund(amount: u32) -> Reply {
    Reply::tool_calls([("refund", json!({"amount": amount}))])
}

/// A desk whose runs wait only so long for a person.
pub(super) async fn desk_that_waits(timeout: &str, then: &str, replies: impl Into<Script>) -> Desk {
    let desk = Desk::new(replies).await;
    let limit = format!("\n[approvals]\ntimeout = \"{timeout}\"\non_timeout = \"{then}\"\n");
    desk.project.write("agents/desk/agent.toml", &format!("{AGENT}{limit}"));
    desk
}

/// Returns when the newest run's time to decide is over, once it is; nothing if nobody waits for it.
pub(super) async fn passed(desk: &Desk) -> Option<u64> {
    let at = desk.runs().await[0]["waiting"]["expires"]["at"].as_u64()?;
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    until("the time is over", async || now() > u128::from(at)).await;
    Some(at)
}

#[tokio::test]
async fn arguments_that_break_the_schema_are_refused_by_name_and_the_call_still_waits() {
    let desk = Desk::new([refund(10), Reply::text("Less than that.")]).await;
    desk.axon(7, &["run", "desk", "refund me"]).await;
    let id = desk.newest().await;
    let (_, stderr) = desk.axon(2, &["approve", &id, "--args", r#"{"amount": "much"}"#]).await;
    assert!(stderr.contains("/amount") && stderr.contains("`refund`"), "{stderr}");
    assert!(stderr.contains("still waits"), "{stderr}");
    let (_, stderr) = desk.axon(2, &["approve", &id, "--args", "3"]).await;
    assert!(stderr.contains("a JSON object"), "{stderr}");
    let approved = desk.answer(&["approve", &id, "--args", r#"{"amount": 3}"#]).await;
    assert_eq!((approved.as_str(), desk.effects("refunds")), ("Less than that.", 1));
}

#[tokio::test]
async fn an_approval_for_the_whole_run_is_asked_for_once() {
    let desk = Desk::new([refund(1), refund(2), Reply::text("Both.")]).await;
    desk.axon(7, &["run", "desk", "refund me"]).await;
    let id = desk.newest().await;
    assert_eq!(desk.answer(&["approve", &id, "--always"]).await, "Both.");
    assert_eq!(desk.effects("refunds"), 2);
    let (stdout, _) = desk.axon(0, &["runs", "show", &id]).await;
    assert!(stdout.contains("and every further call of its tool"), "{stdout}");
    assert!(stdout.contains("for every call of `refund` in this run"), "{stdout}");
}

#[tokio::test]
async fn a_tool_that_is_approved_beforehand_needs_nobody() {
    let desk = Desk::new([refund(1), Reply::text("Done.")]).await;
    let run = ["run", "desk", "refund me", "--approve", "refund"];
    assert_eq!(desk.answer(&run).await, "Done.");
    assert_eq!(desk.effects("refunds"), 1);
    let (_, stderr) = desk.axon(2, &["run", "desk", "refund me", "--approve", "refnd"]).await;
    assert!(stderr.contains("did you mean `refund`?"), "{stderr}");
}

#[tokio::test]
async fn a_list_says_what_a_run_waits_for_and_until_when() {
    let desk = desk_that_waits("1h", "fail", [refund(10)]).await;
    let (_, stderr) = desk.axon(7, &["run", "desk", "refund me"]).await;
    assert!(stderr.contains("no decision by then fails the run"), "{stderr}");
    let id = desk.newest().await;
    for arguments in [vec!["runs"], vec!["runs", "show", &id]] {
        let (stdout, _) = desk.axon(0, &arguments).await;
        assert!(stdout.contains("refund {\"amount\":10}"), "{stdout}");
        assert!(stdout.contains("in 59m; no decision by then fails the run"), "{stdout}");
    }
    let run = &desk.runs().await[0];
    assert_eq!(run["waiting"]["requests"][0]["name"], "refund");
    assert_eq!(run["waiting"]["expires"]["then"], "fail");
    assert_ne!(run["waiting"]["requests"][0]["parameters"], Value::Null);
}

#[tokio::test]
async fn a_decision_that_comes_too_late_is_refused_and_the_model_hears_that_nobody_came() {
    let desk = desk_that_waits("1ms", "deny", [refund(10), Reply::text("Another time.")]).await;
    desk.axon(7, &["run", "desk", "refund me"]).await;
    passed(&desk).await.unwrap();
    let id = desk.newest().await;
    let (_, stderr) = desk.axon(2, &["approve", &id]).await;
    assert!(stderr.contains("nobody decided about call"), "{stderr}");
    let (stdout, _) = desk.axon(0, &["runs"]).await;
    assert!(stdout.contains("which counts as denied"), "{stdout}");
    assert!(stdout.contains("axon runs resume") && !stdout.contains("axon approve"), "{stdout}");
    assert_eq!(desk.answer(&["runs", "resume", &id]).await, "Another time.");
    assert_eq!(desk.effects("refunds"), 0);
    let last = desk.model.requests().pop().unwrap().body.to_string();
    assert!(last.contains("Nobody decided about this call within 1ms."), "{last}");
}

#[tokio::test]
async fn a_run_that_nobody_decides_about_in_time_fails_where_the_agent_says_so() {
    let desk = desk_that_waits("1ms", "fail", [refund(10)]).await;
    desk.axon(7, &["run", "desk", "refund me"]).await;
    passed(&desk).await.unwrap();
    let (_, stderr) = desk.axon(1, &["runs", "resume", "--all"]).await;
    assert!(stderr.contains("Nobody decided about this call within 1ms."), "{stderr}");
    assert_eq!(desk.runs().await[0]["state"], "failed");
}
