//! Prometheus itself: its tool finds nothing wrong, and a server scrapes and answers.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::scenario::Scene;
use super::scrape::Scrape;
use crate::support::{PATIENCE, lacks, repository, until};

/// Returns a program of Prometheus's package; nothing where that is not to be had, which is said.
/// `.ci/run` sees to it.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = repository().join("target/prometheus/usr/bin");
    let mut folders = std::env::split_paths(&path).chain([unpacked]);
    let found = folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()));
    if found.is_none() {
        let why = format!("there is no `{name}`: on Debian it is in the package `prometheus`");
        lacks(&why);
    }
    found
}

/// Runs promtool, and returns what it said, if it found nothing wrong.
pub(super) async fn promtool(program: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(repository()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap();
    let Output { status, stdout, stderr } = output.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "promtool {arguments:?}: {status}\n{said}");
    said
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let Some(promtool_is) = program("promtool") else { return };
    let scene = Scene::start().await;
    // Before anything has happened, and behind.
    let fresh = Scrape::of(&scene.service).await;
    assert_eq!(promtool(&promtool_is, &["check", "metrics"], fresh.text()).await, "");
    scene.everything().await;
    let scrape = Scrape::of(&scene.service).await;
    assert_eq!(promtool(&promtool_is, &["check", "metrics"], scrape.text()).await, "");
}

/// A Prometheus that scrapes one service each second.
struct Prometheus {
    _child: Child,
    address: String,
    client: Client,
}

impl Prometheus {
    async fn scraping(program: &Path, target: &str, folder: &Path) -> Self {
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\nscrape_configs:\n- job_name: axon\n  \
             static_configs: [{{ targets: ['{target}'] }}]\n",
            repository().join("crates/axon-server/observability/alerts.yml").display()
        );
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        let mut command = Command::new(program);
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg("--web.listen-address=127.0.0.1:0").current_dir(folder).kill_on_drop(true);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let listens = line.contains("msg=\"Listening on\"");
                if let (true, Some((_, address))) = (listens, line.split_once("address=")) {
                    return address.trim().to_owned();
                }
            }
            panic!("it never listened");
        };
        let address = tokio::time::timeout(PATIENCE, address).await.unwrap();
        // It must not stop for want of a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { _child: child, address, client }
    }

    /// Returns the values of an instant query.
    async fn query(&self, query: &str) -> Vec<f64> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let url = format!("http://{}/api/v1/query?query={escaped}", self.address);
        let answer = self.client.get(url).send().await.unwrap();
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            // It is still starting.
            return Vec::new();
        }
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let results = answer["data"]["result"].as_array().unwrap();
        let value = |result: &Value| result["value"][1].as_str().unwrap().parse().unwrap();
        results.iter().map(value).collect()
    }
}

#[tokio::test]
async fn a_prometheus_scrapes_the_service_and_answers() {
    let Some(program) = program("prometheus") else { return };
    let scene = Scene::start().await;
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::scraping(&program, &scene.service.address, folder.path()).await;
    until("it has scraped", async || prometheus.query("up{job='axon'}").await == [1.0]).await;
    scene.everything().await;
    for (query, expected) in [
        ("sum(axon_runs_total{agent='clerk',outcome='completed'})", 2.0),
        ("max(axon_breaker_state)", 2.0),
        (
            "increase(axon_agent_restarts_total{agent='clerk',reason='runner_died'}[1h]) > bool 0",
            1.0,
        ),
        ("count(axon_agent_state{agent='clerk'} == 1)", 1.0),
        ("increase(gen_ai_client_cost_usd_total{agent='clerk'}[1h]) > bool 0", 1.0),
        ("histogram_quantile(0.5, sum by (le) (axon_run_duration_seconds_bucket)) > bool 0", 1.0),
    ] {
        until(query, async || prometheus.query(query).await == [expected]).await;
    }
    // One scrape is taken whole: nothing in it was refused as malformed or as a duplicate.
    let kept = prometheus.query("scrape_samples_post_metric_relabeling").await;
    let shown = Scrape::of(&scene.service).await.count();
    assert!(kept[0] > 100.0 && kept[0] <= shown as f64, "{kept:?} of {shown}");
    // The alert rules are evaluated, and one that must fire does.
    let pending = "count(ALERTS{alertname='AxonModelLeftAlone'})";
    until("the breaker's alert is on its way", async || prometheus.query(pending).await == [1.0])
        .await;
}
