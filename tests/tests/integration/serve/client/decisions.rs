//! Runs of a service that wait for a person, who decides from another process.

use axon_test::Reply;
use rustix::process::Signal;
use serde_json::json;

use super::super::service::Service;
use super::super::waiting::cashier;
use super::{answer, asked, lines, shape};
use crate::command_line::run;
use crate::store_command::terminal::{PROMPT, Terminal};
use crate::support::{Project, until};

/// Returns the id of the newest run.
async fn newest(project: &Project, service: &Service) -> String {
    let listed = lines(&answer(project, service, &["runs", "--json"]).await);
    listed[0]["run_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_decision_of_another_process_goes_on_with_a_run() {
    let (project, service) = cashier().await;
    for (verb, told) in [("approve", "approved"), ("deny", "denied")] {
        let (code, stdout, stderr) = asked(&project, &service, &["run", "talker", "pay"]).await;
        assert_eq!((code, stdout.as_str()), (7, ""), "{stderr}");
        let command = format!("axon --url {} {verb} ", service.url(""));
        let shown = stderr.lines().find(|line| line.contains(&command));
        let shown = shown.unwrap_or_else(|| panic!("{command}: {stderr}"));
        // It can be typed as it is shown.
        let words: Vec<&str> = shown.split("axon ").nth(1).unwrap().split(' ').collect();
        let (code, stdout, stderr) = run(&project, &words).await;
        assert_eq!((code, stdout.as_str()), (0, format!("{told}\n").as_str()), "{stderr}");
    }
    let id = newest(&project, &service).await;
    let (code, _, stderr) = asked(&project, &service, &["approve", &id]).await;
    assert!(code == 2 && stderr.contains("error[run_ended]"), "{code}: {stderr}");
    let shown = answer(&project, &service, &["runs", "show", &id]).await;
    assert!(shown.contains("c1 was denied"), "{shown}");
}

#[tokio::test]
async fn a_decision_there_is_told_to_programs_like_one_here() {
    let (project, service) = cashier().await;
    let mut shapes = Vec::new();
    for is_there in [false, true] {
        asked(&project, &service, &["run", "talker", "pay"]).await;
        let id = newest(&project, &service).await;
        let words = ["approve", &id, "--json"];
        let (code, stdout, stderr) = match is_there {
            true => asked(&project, &service, &words).await,
            false => run(&project, &words).await,
        };
        assert_eq!(code, 0, "{stderr}");
        shapes.push(shape(&lines(&stdout)));
    }
    assert_eq!(shapes[0], shapes[1]);
}

#[tokio::test]
async fn a_decision_for_later_is_gone_on_with_by_resume() {
    let (project, service) = cashier().await;
    asked(&project, &service, &["run", "talker", "pay"]).await;
    let id = newest(&project, &service).await;
    let (code, _, stderr) = asked(&project, &service, &["runs", "resume", &id]).await;
    assert!(code == 7 && stderr.contains("error[run_undecided]"), "{code}: {stderr}");
    let wrong = ["approve", &id, "c1", "--args", r#"{"amount":"x"}"#];
    let (code, _, stderr) = asked(&project, &service, &wrong).await;
    assert!(code == 2 && stderr.contains("error[invalid_arguments]"), "{code}: {stderr}");
    let (code, stdout, stderr) = asked(&project, &service, &["approve", &id, "--later"]).await;
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert_eq!(service.run(&id).await["state"], "paused");
    assert_eq!(answer(&project, &service, &["runs", "resume", &id]).await, "approved");
}

#[tokio::test]
async fn a_person_at_the_terminal_decides_about_a_run_of_a_service() {
    let (project, service) = cashier().await;
    let url = service.url("");
    let mut at = Terminal::start(&project, &["--url", &url, "run", "talker", "pay"]);
    let shown = at.shows(PROMPT).await;
    assert!(shown.contains("agent `talker` wants to call `pay`"), "{shown}");
    at.types("e {\"amount\": \"x\"}");
    let shown = at.shows(PROMPT).await;
    assert!(shown.contains("error[invalid_arguments]"), "{shown}");
    at.types("y");
    let (code, shown) = at.ends().await;
    assert!(code == 0 && shown.contains("approved"), "{code}: {shown}");
    let mut at = Terminal::start(&project, &["--url", &url, "run", "talker", "pay"]);
    at.shows(PROMPT).await;
    at.types("later");
    let (code, shown) = at.ends().await;
    assert!(code == 7 && shown.contains("axon --url"), "{code}: {shown}");
}

#[tokio::test]
async fn a_run_of_a_service_is_cancelled_by_ctrl_c_and_by_name() {
    let (project, service) = super::super::talking().await;
    let url = service.url("");
    let mut at = Terminal::start(&project, &["--url", &url, "run", "talker", "hang"]);
    at.shows("Hm.").await;
    at.signal(Signal::INT);
    let (code, shown) = at.ends().await;
    assert!(code == 130 && shown.contains("error[cancelled]"), "{code}: {shown}");
    let run = newest(&project, &service).await;
    assert_eq!(service.run(&run).await["state"], "cancelled");
    let run = service.begin("hang").await;
    let words = ["runs", "cancel", &run, "--reason", "enough of it"];
    assert_eq!(answer(&project, &service, &words).await, "");
    until("it ends", async || service.run(&run).await["state"] == "cancelled").await;
    let shown = answer(&project, &service, &["runs", "show", &run]).await;
    assert!(shown.contains("cancelled: enough of it"), "{shown}");
}

#[tokio::test]
async fn a_question_is_answered_through_a_service() {
    let asks = Reply::tool_calls([("ask", json!({ "question": "Which seat?" }))]);
    let desk = crate::store_command::Desk::new([asks, Reply::text("Seat 12.")]).await;
    let service = Service::start(&desk.project, &[]).await;
    let (code, _, stderr) = asked(&desk.project, &service, &["run", "desk", "book"]).await;
    assert_eq!(code, 7, "{stderr}");
    let id = newest(&desk.project, &service).await;
    assert_eq!(answer(&desk.project, &service, &["answer", &id, "window"]).await, "Seat 12.");
}
