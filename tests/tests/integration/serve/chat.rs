//! The chat of `examples/chat`, in a browser.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axon_kernel::schema::Schema;
use axon_kernel::spec::Effect;
use axon_test::scripted_runner::{Life, Step, When};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::browser::Browser;
use super::client::head;
use super::link::Link;
use super::service::{Service, ok, refused, sent};
use super::{talker, write_agent};
use crate::command_line::axon;
use crate::support::{Project, python_tool, repository, until};

/// What a model may say, and no page may do.
const MARKUP: &str = "tell <img src=x onerror=\"window.hurt=1\"><script>window.hurt=1</script>&lt;";

fn page() -> String {
    repository().join("examples/chat").display().to_string()
}

async fn served(project: &Project, more: &[&str]) -> Service {
    let page = page();
    Service::start(project, &[&["--page", page.as_str()], more].concat()).await
}

/// Text in so many pieces that a connection can be cut in the middle of it.
fn long() -> Life {
    let pieces = (0..60).flat_map(|n| [Step::text(format!("{n} ")), Step::SleepMs(80)]);
    Life::default().always(pieces.chain([Step::complete(spoken())]))
}

fn spoken() -> String {
    (0..60).map(|n| format!("{n} ")).collect()
}

#[tokio::test]
async fn a_person_asks_in_a_browser_and_reads_the_answer_as_it_comes() {
    let project = Project::new();
    let deps = json!({
        "type": "object", "properties": { "customer_id": { "type": "integer" } },
        "required": ["customer_id"], "additionalProperties": false,
    });
    write_agent(&project, "talker", talker(), |spec| {
        spec.deps.schema = Some(Schema::new(deps).unwrap());
    });
    let service = served(&project, &[]).await;
    let Some(browser) = Browser::open().await else { return };
    browser.go(&service.url("/")).await;
    browser.write("#deps input", "123").await;
    browser.write("#prompt", "slow\n").await;
    browser.read(".turn[data-state=completed] .text", "0 1 2 3 4 ").await;
    browser.write("#prompt", MARKUP).await;
    browser.click("#send").await;
    browser.read(".turn:nth-child(2)[data-state=completed] .text", MARKUP).await;
    browser.write("#prompt", "fail\n").await;
    browser.read(".turn[data-state=failed] .error", "nothing that can be said").await;
    browser.write("#prompt", "hang\n").await;
    // It is shown as it comes, not at the end.
    browser.read(".turn[data-state=running] .text", "Hm.").await;
    browser.click("#cancel").await;
    browser.read(".turn[data-state=cancelled] .error", "cancelled").await;
    assert_eq!(browser.texts("#turns img, #turns script").await, [""; 0]);
    assert_eq!(browser.run("return window.hurt ?? null").await, json!(null));
    assert_eq!(browser.complaints().await, [json!(null); 0]);
    browser.close().await;
    assert_eq!(service.stop().await, 0);
}

#[tokio::test]
async fn a_person_decides_about_calls_in_a_browser() {
    let project = Project::new();
    let request = |kind: &str| {
        json!([{ "tool_call_id": "c1", "name": "pay", "args": { "amount": "<b>7</b>" },
                 "kind": kind, "parameters": { "type": "object" } }])
    };
    let life = Life::default()
        .on(When::resumed().and_decided("tool-approved"), [Step::complete("paid")])
        .on(When::resumed().and_decided("tool-denied"), [Step::complete("kept")])
        .on(When::resumed(), [Step::complete("answered")])
        .on(When::prompt("ask"), [Step::pause(request("question"))])
        .always([Step::text("May I?"), Step::pause(request("approval"))]);
    write_agent(&project, "talker", life, |spec| {
        spec.tools.push(python_tool("pay", "tools:pay", Effect::Idempotent));
    });
    let service = served(&project, &[]).await;
    let Some(browser) = Browser::open().await else { return };
    browser.go(&service.url("/")).await;
    for (button, answer) in [(1, "paid"), (2, "kept")] {
        browser.write("#prompt", "pay\n").await;
        browser.read(".turn:last-child[data-state=paused] .args", "<b>7</b>").await;
        browser.click(&format!(".asked button:nth-of-type({button})")).await;
        browser.read(".turn:last-child[data-state=completed] .text", answer).await;
    }
    browser.write("#prompt", "ask\n").await;
    browser.write(".asked input", "seven").await;
    browser.click(".asked button").await;
    browser.read(".turn:last-child[data-state=completed] .text", "answered").await;
    assert_eq!(browser.complaints().await, [json!(null); 0]);
    browser.close().await;
}

#[tokio::test]
async fn a_browser_whose_connection_breaks_reads_on_without_a_gap_or_a_repetition() {
    let project = Project::new();
    write_agent(&project, "talker", long(), |_| ());
    let service = served(&project, &[]).await;
    let link = Link::to(&service.address).await;
    let Some(browser) = Browser::open().await else { return };
    browser.go(&link.url("/")).await;
    browser.write("#prompt", "go\n").await;
    for seen in ["5 ", "25 "] {
        browser.read(".turn .text", seen).await;
        link.cut();
    }
    browser.see(".turn[data-state=completed]").await;
    // What streamed gave way to the answer at the end, but for a piece too many.
    assert_eq!(browser.texts(".turn .text").await, [spoken()]);
    // The browser itself said where it was.
    assert!(link.heads().iter().any(|head| head.contains("last-event-id: ")), "{:?}", link.heads());
    browser.close().await;
}

#[tokio::test]
async fn a_browser_with_a_token_opens_each_stream_with_a_ticket_of_its_own() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let project = Project::new();
    project.write("token", TOKEN);
    write_agent(&project, "talker", long(), |_| ());
    let service = served(&project, &["--token-file", "token"]).await;
    let link = Link::to(&service.address).await;
    let Some(browser) = Browser::open().await else { return };
    browser.go(&link.url("/")).await;
    browser.write("#access:not([hidden]) input", TOKEN).await;
    browser.click("#access button").await;
    browser.see("#access[hidden]").await;
    browser.write("#prompt", "go\n").await;
    browser.read(".turn .text", "5 ").await;
    link.cut();
    browser.see(".turn[data-state=completed]").await;
    assert_eq!(browser.texts(".turn .text").await, [spoken()]);
    let heads = link.heads();
    let opened = heads.iter().filter(|head| head.contains("ticket=")).collect::<Vec<_>>();
    assert!(opened.iter().any(|head| !head.contains("after=0 ")), "{opened:?}");
    assert!(heads.iter().all(|head| !head.lines().next().unwrap().contains(TOKEN)), "{heads:?}");
    browser.close().await;
}

#[tokio::test]
async fn a_page_opens_itself_to_everybody_and_nothing_else() {
    let project = Project::new();
    project.write("token", "0123456789abcdef");
    write_agent(&project, "talker", talker(), |_| ());
    let service = served(&project, &["--token-file", "token"]).await;
    let (status, headers, body) = sent(service.get("/")).await;
    assert!(status == 200 && body.as_str().unwrap().contains("<!doctype html>"), "{body}");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(
        sent(service.get("/chat.js")).await.1["content-type"],
        "text/javascript; charset=utf-8"
    );
    for hidden in ["/v1/agents", "/openapi.json", "/README.md", "/..%2fdeploy/Dockerfile"] {
        assert_eq!(
            refused(service.get(hidden)).await,
            (401, "unauthorized".to_owned()),
            "{hidden}"
        );
    }
    let foreign = refused(service.get("/").header("Host", "evil.example")).await;
    assert_eq!(foreign, (403, "host_not_allowed".to_owned()));
    assert_eq!(refused(service.post("/", &json!({}))).await.0, 401);
    project.write("empty/notes.txt", "");
    let told = axon(&project, &["serve", "--offline", "--page", "empty"]).output().await.unwrap();
    assert_eq!(told.status.code(), Some(3));
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(said.contains("has no index.html"), "{said}");
    until("the service is still there", async || sent(service.get("/healthz")).await.0 == 200)
        .await;
}

#[tokio::test]
async fn boxes_begin_as_their_defaults_and_say_nothing_until_they_are_touched() {
    let project = Project::new();
    let deps = json!({
        "type": "object", "required": ["sure"], "properties": {
            "loud": { "type": "boolean", "default": true }, "slow": { "type": "boolean" },
            "sure": { "type": "boolean" }, "name": { "type": "string", "default": "Ada" },
        },
    });
    write_agent(&project, "talker", talker(), |spec| {
        spec.deps.schema = Some(Schema::new(deps).unwrap());
    });
    let service = served(&project, &[]).await;
    let Some(browser) = Browser::open().await else { return };
    browser.go(&service.url("/")).await;
    browser.see("#deps [name=loud]:checked").await;
    let untouched = json!({ "sure": false, "name": "Ada" });
    let touched = json!({ "loud": false, "slow": true, "sure": false, "name": "Ada" });
    for (turn, deps) in [untouched, touched].into_iter().enumerate() {
        browser.write("#prompt", "hi\n").await;
        browser.see(&format!(".turn:nth-child({})[data-state=completed]", turn + 1)).await;
        let run = browser.run("return document.querySelector('.turn:last-child').dataset.run");
        let path = format!("/v1/runs/{}/events", run.await.as_str().unwrap());
        let record = ok(service.get(&path).header("Accept", "application/json")).await;
        assert_eq!(record["events"][0]["deps"], deps);
        browser.click("#deps [name=loud]").await;
        browser.click("#deps [name=slow]").await;
    }
    browser.close().await;
}

/// Passes on what goes to a service, which then can read no run. Returns its URL, and how often it
/// was asked for events.
async fn unreadable(service: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = opened.clone();
    let told = json!({ "event": "unreadable", "code": "storage_failed", "detail": "no disk" });
    let stream = format!(
        "HTTP/1.1 200 OK\r\naxon-api: 1\r\ncontent-type: text/event-stream\r\n\
         connection: close\r\n\r\nevent: unreadable\ndata: {told}\n\n"
    );
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (service, counted, stream) = (service.clone(), counted.clone(), stream.clone());
            tokio::spawn(async move {
                let asked = head(&mut client).await;
                if asked.contains("/events?") {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let _gone = client.write_all(stream.as_bytes()).await;
                } else {
                    let asked = asked.replacen("\r\n", "\r\nconnection: close\r\n", 1);
                    let asked = asked.replace("\r\nConnection: keep-alive", "");
                    let mut server = TcpStream::connect(service).await.unwrap();
                    server.write_all(asked.as_bytes()).await.unwrap();
                    let _gone = tokio::io::copy(&mut server, &mut client).await;
                }
                let _gone = client.shutdown().await;
            });
        }
    });
    (url, opened)
}

#[tokio::test]
async fn a_run_that_cannot_be_read_is_not_opened_for_ever() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    let service = served(&project, &[]).await;
    let (url, opened) = unreadable(service.address.clone()).await;
    let Some(browser) = Browser::open().await else { return };
    browser.go(&url).await;
    browser.see("#agent option").await;
    // A minute passes in a second.
    browser.run("const wait = setTimeout; window.setTimeout = (f, ms) => wait(f, ms / 60)").await;
    browser.write("#prompt", "hi\n").await;
    browser.read(".turn[data-state=refused] .error", "storage_failed: no disk").await;
    assert_eq!(opened.load(Ordering::SeqCst), 11);
    browser.close().await;
}
