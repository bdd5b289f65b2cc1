//! A process that is killed, and another one that goes on.

use axon_test::Reply;
use serde_json::json;

use super::Desk;
use crate::support::until;

#[tokio::test]
async fn a_killed_run_is_gone_on_with_and_only_the_request_in_flight_is_made_twice() {
    let desk = Desk::new([
        Reply::tool_calls([("balance", json!({}))]),
        Reply::text("one two three four").chunks(4).hang_after(2),
        Reply::text("all of it"),
        Reply::text("the next one"),
    ])
    .await;
    let child = desk.spawn(&["run", "desk", "talk", "--conversation", "c1"]);
    until("the answer begins", async || desk.model.requests().len() == 2).await;
    desk.kill(child).await;

    let listed = desk.runs().await;
    let id = listed[0]["run_id"].as_str().unwrap();
    assert_eq!((&listed[0]["interrupted"], &listed[0]["state"]), (&json!(true), &json!("running")));
    let (stdout, _) = desk.axon(0, &["runs"]).await;
    assert!(stdout.contains("interrupted") && stdout.contains("axon runs resume"), "{stdout}");

    // Its conversation is not lost, and takes no other turn before this one ends.
    let (_, stderr) = desk.axon(1, &["run", "desk", "more", "--conversation", "c1"]).await;
    assert!(
        stderr.contains("axon runs resume") && stderr.contains("conversation_busy"),
        "{stderr}"
    );

    assert_eq!(desk.answer(&["runs", "resume"]).await, "all of it");
    let requests = desk.model.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[1].body["messages"], requests[2].body["messages"]);
    assert_eq!(desk.effects("lookups"), 1);

    let (stdout, _) = desk.axon(0, &["runs", "show", id]).await;
    assert!(stdout.contains("another process took it over"), "{stdout}");
    let next = ["run", "desk", "more", "--conversation", "c1"];
    assert_eq!(desk.answer(&next).await, "the next one");
    let last = desk.model.requests().pop().unwrap().body.to_string();
    assert!(last.contains("talk") && last.contains("all of it"), "{last}");
}

#[tokio::test]
async fn every_interrupted_run_is_gone_on_with_and_the_next_run_tells_of_them() {
    let hang = || Reply::text("one two").chunks(2).hang_after(1);
    let desk = Desk::new([
        hang(),
        hang(),
        Reply::text("meanwhile"),
        Reply::text("first"),
        Reply::text("second"),
    ])
    .await;
    for count in 1..=2 {
        let child = desk.spawn(&["run", "desk", "talk"]);
        until("the model is asked", async || desk.model.requests().len() == count).await;
        desk.kill(child).await;
    }
    let (_, stderr) = desk.axon(0, &["run", "desk", "another"]).await;
    assert!(stderr.contains("2 runs were interrupted: axon runs"), "{stderr}");
    let (stdout, stderr) = desk.axon(0, &["runs", "resume"]).await;
    assert_eq!(stdout.lines().collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(stderr.matches("of desk").count(), 2, "each has a heading: {stderr}");
    let (_, stderr) = desk.axon(0, &["runs", "resume"]).await;
    assert!(stderr.contains("no run was interrupted"), "{stderr}");
}

#[tokio::test]
async fn a_call_that_may_have_taken_effect_is_decided_by_a_person() {
    for (verdict, payments) in [(vec!["--skip", "\"paid\""], 1), (vec!["--retry"], 2)] {
        let desk = Desk::new([
            Reply::tool_calls([("pay", json!({"amount": 5}))]),
            Reply::text("It is paid."),
        ])
        .await;
        let child = desk.spawn(&["run", "desk", "pay"]);
        until("it takes effect", async || desk.effects("payments") == 1).await;
        desk.kill(child).await;
        desk.project.write("go", "");

        let id = desk.newest().await;
        let (_, stderr) = desk.axon(8, &["runs", "resume", &id]).await;
        assert!(stderr.contains("`pay`") && stderr.contains("--skip"), "{stderr}");
        let (stdout, _) = desk.axon(0, &["runs"]).await;
        assert!(stdout.contains("ambiguous") && stdout.contains("axon runs resolve"), "{stdout}");
        let (stdout, _) = desk.axon(0, &["runs", "show", &id]).await;
        assert!(stdout.contains(&format!("{id}:")), "the idempotency key is shown: {stdout}");

        let resolve = [vec!["runs", "resolve", &id], verdict].concat();
        assert_eq!(desk.answer(&resolve).await, "It is paid.");
        assert_eq!(desk.effects("payments"), payments);
    }
}

#[tokio::test]
async fn a_call_of_a_flows_agent_that_may_have_taken_effect_is_decided_by_what_is_typed() {
    let desk =
        Desk::new([Reply::tool_calls([("pay", json!({"amount": 5}))]), Reply::text("It is paid.")])
            .await;
    desk.project.write("agents/flow/pipeline.toml", "[[steps]]\nname = \"a\"\nagent = \"desk\"\n");
    let child = desk.spawn(&["run", "flow", "pay"]);
    until("it takes effect", async || desk.effects("payments") == 1).await;
    desk.kill(child).await;
    desk.project.write("go", "");

    let (_, stderr) = desk.axon(8, &["runs", "resume"]).await;
    assert!(stderr.contains("error[ambiguous]"), "{stderr}");
    let mut typed = String::new();
    for said in [stderr, desk.axon(0, &["runs"]).await.0] {
        let command = said.lines().find_map(|line| line.split_once("axon runs resolve "));
        let (_, words) = command.unwrap_or_else(|| panic!("no command: {said}"));
        assert!(words.ends_with(" a --skip"), "{said}");
        assert!(!said.contains("axon approve"), "{said}");
        words.clone_into(&mut typed);
    }
    let words: Vec<&str> = typed.split(' ').collect();
    assert_eq!(desk.answer(&[&["runs", "resolve"], &words[..]].concat()).await, "It is paid.");
    assert_eq!(desk.effects("payments"), 1);
}

#[tokio::test]
async fn a_changed_agent_goes_on_only_if_that_is_allowed() {
    let desk = Desk::new([
        Reply::text("one two").chunks(2).hang_after(1),
        Reply::text("with the new one"),
    ])
    .await;
    let child = desk.spawn(&["run", "desk", "talk"]);
    until("the model is asked", async || desk.model.requests().len() == 1).await;
    desk.kill(child).await;
    let changed = super::AGENT.replace("at the desk", "in the field");
    desk.project.write("agents/desk/agent.toml", &changed);
    let id = desk.newest().await;
    let (_, stderr) = desk.axon(3, &["runs", "resume", &id]).await;
    assert!(
        stderr.contains("definition_changed") && stderr.contains("--allow-changed"),
        "{stderr}"
    );
    let allowed = ["runs", "resume", &id, "--allow-changed"];
    assert_eq!(desk.answer(&allowed).await, "with the new one");
}

#[tokio::test]
async fn an_agent_without_any_file_goes_on_too() {
    let desk =
        Desk::new([Reply::text("one two").chunks(2).hang_after(1), Reply::text("all of it")]).await;
    let module = "from pydantic_ai import Agent\n\nhelper = Agent('openai-chat:scripted')\n";
    desk.project.write("mine.py", module);
    let child = desk.spawn(&["run", "mine:helper", "talk"]);
    until("the model is asked", async || desk.model.requests().len() == 1).await;
    desk.kill(child).await;
    assert_eq!(desk.answer(&["runs", "resume"]).await, "all of it");
}

#[tokio::test]
async fn a_run_that_another_process_drives_is_followed_and_not_taken() {
    let desk =
        Desk::new([Reply::tool_calls([("pay", json!({"amount": 5}))]), Reply::text("Paid.")]).await;
    let mut child = desk.spawn(&["run", "desk", "pay"]);
    until("it takes effect", async || desk.effects("payments") == 1).await;
    let id = desk.newest().await;
    let (stdout, _) = desk.axon(0, &["runs"]).await;
    assert!(stdout.contains(&format!("in process {}", child.id().unwrap())), "{stdout}");
    for arguments in [vec!["runs", "resume", &id], vec!["runs", "cancel", &id]] {
        let (_, stderr) = desk.axon(1, &arguments).await;
        assert!(stderr.contains("run_owned"), "{stderr}");
    }
    let arguments = ["runs", "events", &id];
    let following = desk.axon(0, &arguments);
    let going = async {
        desk.project.write("go", "");
        child.wait().await.unwrap()
    };
    let ((stdout, _), status) = tokio::join!(following, going);
    assert!(status.success());
    assert!(stdout.lines().last().unwrap().contains("\"completed\""), "{stdout}");
}
