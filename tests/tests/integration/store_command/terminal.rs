//! A terminal, with a person at it who sees what is shown and types.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use axon_test::Reply;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;
use tokio::process::Child;
use tokio::sync::mpsc;

use super::Desk;
use super::approvals::{desk_that_waits, passed};
use crate::command_line::axon;
use crate::support::{PATIENCE, Project};

/// What a person does at the prompt of an approval.
pub(crate) const PROMPT: &str = "[y/n/a/e/l] ";

/// A command at a terminal of its own.
pub(crate) struct Terminal {
    child: Child,
    keys: File,
    shown: mpsc::UnboundedReceiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Starts it where text has no styles, so that it can be read as it is.
    pub(crate) fn start(project: &Project, arguments: &[&str]) -> Self {
        Self::with(project, arguments, &[("NO_COLOR", "1")])
    }

    /// Starts it where whatever the command writes is seen.
    pub(crate) fn in_colour(project: &Project, arguments: &[&str]) -> Self {
        Self::with(project, arguments, &[("TERM", "xterm-256color")])
    }

    /// Starts it with these variables.
    pub(crate) fn with(project: &Project, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let end = File::from(rustix::fs::open(name, flags, Mode::empty()).unwrap());
        let mut command = axon(project, arguments);
        let stdio = || Stdio::from(end.try_clone().unwrap());
        command.stdin(stdio()).stdout(stdio()).stderr(stdio()).envs(variables.iter().copied());
        let child = command.spawn().unwrap();
        let keys = File::from(keys);
        let (tell, shown) = mpsc::unbounded_channel();
        let mut screen = keys.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Once nobody has the other end any more, reading fails.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if tell.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, shown, seen: String::new() }
    }

    /// Waits until `text` is shown, behind what was waited for before; returns what came before it.
    pub(crate) async fn shows(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_owned();
                self.seen = self.seen.split_off(at + text.len());
                return before;
            }
            let more = tokio::time::timeout(PATIENCE, self.shown.recv()).await;
            let Ok(Some(more)) = more else { panic!("never shown: {text}: {}", self.seen) };
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
    }

    pub(crate) fn types(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits for the end, and returns its code and what was shown since.
    pub(crate) async fn ends(mut self) -> (i32, String) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        while let Ok(Some(more)) = tokio::time::timeout(PATIENCE, self.shown.recv()).await {
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
        (status.code().unwrap_or(-1), self.seen)
    }
}

fn refund(amount: u32) -> Reply {
    Reply::tool_calls([("refund", json!({"amount": amount}))])
}

const RUN: [&str; 3] = ["run", "desk", "refund me"];

#[tokio::test]
async fn a_person_at_the_terminal_is_asked_and_the_run_goes_on_there() {
    let desk = Desk::new([refund(10), refund(20), Reply::text("Paid twice.")]).await;
    let mut at = Terminal::start(&desk.project, &RUN);
    let shown = at.shows(PROMPT).await;
    assert!(shown.contains("agent `desk` wants to call `refund`"), "{shown}");
    assert!(shown.contains("\"amount\": 10"), "{shown}");
    assert_eq!(desk.effects("refunds"), 0);
    at.types("maybe");
    at.shows(PROMPT).await;
    at.types("y");
    let shown = at.shows(PROMPT).await;
    assert!(shown.contains("\"amount\": 20"), "{shown}");
    assert_eq!(desk.effects("refunds"), 1);
    at.types("yes");
    let (code, shown) = at.ends().await;
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("Paid twice."), "{shown}");
    assert_eq!(desk.effects("refunds"), 2);
}

#[tokio::test]
async fn what_is_typed_before_the_question_is_no_consent() {
    let desk = Desk::new([refund(10), Reply::text("Sorry.")]).await;
    let mut at = Terminal::start(&desk.project, &RUN);
    at.types("y\ny");
    at.shows(PROMPT).await;
    at.types("no Let me read it first.");
    let (code, shown) = at.ends().await;
    assert_eq!((code, shown.contains(PROMPT)), (0, false), "{shown}");
    assert_eq!(desk.effects("refunds"), 0);
}

#[tokio::test]
async fn always_is_asked_once_for_the_run() {
    let desk = Desk::new([refund(1), refund(2), refund(3), Reply::text("All of it.")]).await;
    let mut at = Terminal::start(&desk.project, &RUN);
    at.shows(PROMPT).await;
    at.types("a");
    let (code, shown) = at.ends().await;
    assert_eq!((code, shown.contains(PROMPT)), (0, false), "{shown}");
    assert_eq!(desk.effects("refunds"), 3);
}

#[tokio::test]
async fn a_refusal_takes_its_reason_to_the_model() {
    for typed in [vec!["n", "Not without a receipt."], vec!["no Not without a receipt."]] {
        let desk = Desk::new([refund(10), Reply::text("Sorry.")]).await;
        let mut at = Terminal::start(&desk.project, &RUN);
        at.shows(PROMPT).await;
        at.types(typed[0]);
        if let Some(reason) = typed.get(1) {
            at.shows("why not?").await;
            at.types(reason);
        }
        let (code, shown) = at.ends().await;
        assert_eq!(code, 0, "{shown}");
        let last = desk.model.requests().pop().unwrap().body.to_string();
        assert!(last.contains("Not without a receipt."), "{last}");
        assert_eq!(desk.effects("refunds"), 0);
    }
}

#[tokio::test]
async fn edited_arguments_are_asked_for_until_the_tool_can_take_them() {
    let desk = Desk::new([refund(10), Reply::text("Less.")]).await;
    let mut at = Terminal::start(&desk.project, &RUN);
    at.shows(PROMPT).await;
    at.types("e");
    at.shows("arguments as JSON").await;
    at.types("{broken");
    at.shows("that is no JSON").await;
    at.shows("arguments as JSON").await;
    at.types(r#"{"amount": "much"}"#);
    let shown = at.shows(PROMPT).await;
    assert!(shown.contains("/amount"), "{shown}");
    at.types(r#"e {"amount": 3}"#);
    let (code, shown) = at.ends().await;
    assert_eq!(code, 0, "{shown}");
    let refunds = std::fs::read_to_string(desk.project.path().join("refunds")).unwrap();
    assert_eq!(refunds, "3\n");
}

#[tokio::test]
async fn a_question_is_answered_with_a_line() {
    let question = ("ask", json!({"question": "Both of them?"}));
    let desk = Desk::new([Reply::tool_calls([question]), Reply::text("Both.")]).await;
    let mut at = Terminal::start(&desk.project, &["run", "desk", "book"]);
    let shown = at.shows("answer (empty: decide later): ").await;
    assert!(shown.contains("Both of them?"), "{shown}");
    at.types("Yes, both.");
    let (code, shown) = at.ends().await;
    assert_eq!(code, 0, "{shown}");
    let last = desk.model.requests().pop().unwrap().body.to_string();
    assert!(last.contains("Yes, both."), "{last}");
}

#[tokio::test]
async fn what_is_not_decided_at_the_prompt_is_decided_in_another_process() {
    for leave in ["later", "ctrl-c", "ctrl-d"] {
        let desk = Desk::new([refund(10), Reply::text("Paid.")]).await;
        let mut at = Terminal::start(&desk.project, &RUN);
        at.shows(PROMPT).await;
        match leave {
            "later" => at.types("l"),
            "ctrl-c" => at.signal(Signal::INT),
            _ => at.keys.write_all(b"\x04").unwrap(),
        }
        let (code, shown) = at.ends().await;
        assert_eq!(code, 7, "{leave}: {shown}");
        assert!(shown.contains("axon approve "), "{leave}: {shown}");
        let id = desk.newest().await;
        assert_eq!(desk.answer(&["approve", &id]).await, "Paid.");
        assert_eq!(desk.effects("refunds"), 1);
    }
}

#[tokio::test]
async fn a_process_that_is_killed_at_the_prompt_leaves_the_run_to_the_next_one() {
    let desk = Desk::new([refund(10), Reply::text("Paid.")]).await;
    let mut at = Terminal::start(&desk.project, &RUN);
    at.shows(PROMPT).await;
    at.signal(Signal::KILL);
    at.ends().await;
    let id = desk.newest().await;
    assert_eq!(desk.answer(&["approve", &id]).await, "Paid.");
    assert_eq!(desk.effects("refunds"), 1);
}

#[tokio::test]
async fn a_decision_of_somebody_else_takes_the_place_of_the_one_at_the_prompt() {
    let desk = Desk::new([refund(10), Reply::text("Sorry.")]).await;
    let mut at = Terminal::start(&desk.project, &RUN);
    at.shows(PROMPT).await;
    let id = desk.newest().await;
    desk.axon(0, &["deny", &id, "--later"]).await;
    at.types("y");
    at.shows("is decided already: deny").await;
    let (code, shown) = at.ends().await;
    assert_eq!((code, desk.effects("refunds")), (0, 0), "{shown}");
    assert!(shown.contains("Sorry."), "{shown}");
}

#[tokio::test]
async fn a_run_that_went_on_elsewhere_meanwhile_is_not_gone_on_with_twice() {
    let desk = Desk::new([refund(10), Reply::text("Paid.")]).await;
    let mut at = Terminal::start(&desk.project, &RUN);
    at.shows(PROMPT).await;
    let id = desk.newest().await;
    assert_eq!(desk.answer(&["approve", &id]).await, "Paid.");
    at.types("y");
    let (code, shown) = at.ends().await;
    assert_eq!((code, desk.effects("refunds")), (2, 1), "{shown}");
    assert!(shown.contains("is completed") && shown.contains("axon runs show"), "{shown}");
}

#[tokio::test]
async fn the_time_to_decide_ends_at_the_prompt_too() {
    let desk =
        desk_that_waits("500ms", "deny", [refund(10), Reply::text("Nobody was there.")]).await;
    let mut at = Terminal::start(&desk.project, &RUN);
    at.shows(PROMPT).await;
    at.shows("the time to decide is over").await;
    let (code, shown) = at.ends().await;
    assert_eq!((code, desk.effects("refunds")), (0, 0), "{shown}");
    assert!(shown.contains("Nobody was there."), "{shown}");
    passed(&desk).await;
}

#[tokio::test]
async fn a_chat_asks_in_the_middle_of_a_turn_and_goes_on() {
    let desk = Desk::new([refund(10), Reply::text("Paid."), Reply::text("You are welcome.")]).await;
    let mut at = Terminal::start(&desk.project, &["chat", "desk"]);
    at.shows("> ").await;
    at.types("refund me");
    at.shows(PROMPT).await;
    at.types("y");
    at.shows("Paid.").await;
    at.shows("> ").await;
    at.types("thanks");
    at.shows("You are welcome.").await;
    at.shows("> ").await;
    at.types("/quit");
    let (code, shown) = at.ends().await;
    assert_eq!((code, desk.effects("refunds")), (0, 1), "{shown}");
}

#[tokio::test]
async fn programs_are_not_asked() {
    let desk = Desk::new([refund(10)]).await;
    let at = Terminal::start(&desk.project, &["run", "desk", "refund me", "--json"]);
    let (code, shown) = at.ends().await;
    assert_eq!((code, shown.contains(PROMPT)), (7, false), "{shown}");
}
