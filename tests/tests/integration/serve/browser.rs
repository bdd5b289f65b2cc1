//! A browser, driven as WebDriver says: a real Chromium without a window.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Client, Method};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::support::{PATIENCE, lacks, program};

/// By this WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// What Chromium is started with beside its folder: no window, and nobody to talk to but the page.
const ARGUMENTS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with one tab. Dropped, it is killed.
pub(super) struct Browser {
    driver: Child,
    client: Client,
    session: String,
    _data: TempDir,
}

impl Browser {
    /// Opens it; nothing if this machine has none.
    pub(super) async fn open() -> Option<Self> {
        let programs = program("chromium").zip(program("chromedriver"));
        let Some((chromium, driver)) = programs else {
            lacks("there is no chromium with its chromedriver (Debian: chromium-driver)");
            return None;
        };
        let data = tempfile::Builder::new().prefix("axon-browser-").tempdir().unwrap();
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .env("HOME", data.path())
            .env("TMPDIR", data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let port = port(&mut driver).await;
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let session = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { driver, client, session, _data: data };
        browser.begin(&chromium).await;
        Some(browser)
    }

    async fn begin(&mut self, chromium: &Path) {
        let folder = format!("--user-data-dir={}", self._data.path().join("profile").display());
        let arguments = ARGUMENTS.iter().copied().chain([folder.as_str()]).collect::<Vec<_>>();
        let options = json!({ "binary": chromium, "args": arguments });
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let begun =
            self.ask(Method::POST, "", json!({ "capabilities": { "alwaysMatch": wanted } }));
        let id = begun.await["sessionId"].as_str().unwrap().to_owned();
        self.session = format!("{}/{id}", self.session);
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self.client.request(method.clone(), format!("{}{path}", self.session));
        let request = if method == Method::GET { request } else { request.json(&body) };
        let answer = request.send().await.expect("the browser answers");
        let status = answer.status();
        let said: Value = answer.json().await.expect("WebDriver speaks JSON");
        assert!(status.is_success(), "{path}: {said}");
        said["value"].clone()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, path, body).await
    }

    /// Opens a page.
    pub(super) async fn go(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// Runs a script in the page, and returns what it returns.
    pub(super) async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Returns the texts of all elements that fit.
    pub(super) async fn texts(&self, selector: &str) -> Vec<String> {
        let script = format!(
            "return [...document.querySelectorAll({selector:?})].map((found) => found.textContent)"
        );
        let texts = self.run(&script).await;
        texts.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    /// Waits until some element fits.
    pub(super) async fn see(&self, selector: &str) {
        self.until(selector, async || !self.texts(selector).await.is_empty()).await;
    }

    /// Waits until an element that fits shows `text`.
    pub(super) async fn read(&self, selector: &str, text: &str) {
        self.until(&format!("{selector} with {text:?}"), async || {
            self.texts(selector).await.iter().any(|shown| shown.contains(text))
        })
        .await;
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !holds().await {
            if began.elapsed() > PATIENCE / 2 {
                let shown = self.run("return document.body.innerHTML").await;
                panic!("{what} was never there: {shown}\n{:?}", self.complaints().await);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn find(&self, selector: &str) -> String {
        self.see(selector).await;
        let found = json!({ "using": "css selector", "value": selector });
        let element = self.post("/element", found).await;
        element[ELEMENT].as_str().unwrap().to_owned()
    }

    /// Clicks an element, as a person does.
    pub(super) async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
    }

    /// Types into an element; `\n` is the Enter key.
    pub(super) async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        let text = text.replace('\n', "\u{e007}");
        self.post(&format!("/element/{element}/value"), json!({ "text": text })).await;
    }

    /// Returns what the browser complains of: scripts that break, and what the page may not do.
    pub(super) async fn complaints(&self) -> Vec<Value> {
        let log = self.post("/se/log", json!({ "type": "browser" })).await;
        let is_bad = |entry: &&Value| entry["level"] == "SEVERE" || entry["source"] == "security";
        log.as_array().unwrap().iter().filter(is_bad).cloned().collect()
    }

    pub(super) async fn close(mut self) {
        self.ask(Method::DELETE, "", json!({})).await;
        self.driver.kill().await.expect("the driver can be killed");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let pid = self.driver.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        if let Some(pid) = pid {
            // The browser is of the driver's group, and goes with it.
            let _gone = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Returns the port at which the driver says that it listens.
async fn port(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                return port.trim_end_matches('.').parse().unwrap();
            }
        }
        panic!("the driver did not start");
    };
    let port = tokio::time::timeout(PATIENCE, port).await.expect("the driver starts in time");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    port
}
