//! `examples/metrics`: the runtime in an app of somebody else's, with a recorder and a log of theirs.

use std::io::Write;
use std::sync::{Arc, Mutex};

use axon_runtime::Runtime;
use metrics_service::{recorder, serve};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support::{PATIENCE, Project, repository};

/// What the service has logged.
#[derive(Clone, Debug, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_service_shows_its_own_metrics_and_those_of_its_agents_and_keeps_its_log() {
    // Those of this thread, which everything here runs on: other tests may have others.
    let recorder = recorder().unwrap().build_recorder();
    let shown = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let logged = Logged::default();
    let writer = logged.clone();
    let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let _log = tracing::subscriber::set_default(log);

    let mut project = Project::new();
    project.set("AXON_DATA_DIR", &project.path().join("data").display().to_string());
    let agent =
        axon_runtime::load_agent(&repository().join("agents"), "bank_support", &project.host());
    let runtime: Runtime = project.runtime().agent(agent.unwrap()).start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (close, closes) = oneshot::channel::<()>();
    let closing = async { drop(closes.await) };
    let serving = tokio::spawn(serve(listener, runtime, shown, closing));

    let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let ask = async |customer: u32| {
        let question = json!({ "customer_id": customer, "question": "What is my balance?" });
        client.post(format!("http://{address}/advice")).json(&question).send().await.unwrap()
    };
    let answer: Value = ask(123).await.json().await.unwrap();
    assert!(answer["advice"].as_str().unwrap().contains("your balance is"), "{answer}");
    assert_eq!(ask(999).await.status(), StatusCode::BAD_GATEWAY);
    let get = async |path: &str| {
        let answer = client.get(format!("http://{address}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.text().await.unwrap()
    };
    let runs: Value = serde_json::from_str(&get("/axon/v1/runs").await).unwrap();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2);

    let metrics = get("/metrics").await;
    for line in [
        "bank_questions_total{service=\"bank\",outcome=\"answered\"} 1\n",
        "bank_questions_total{service=\"bank\",outcome=\"sent_away\"} 1\n",
        "axon_runs_total{service=\"bank\",agent=\"bank_support\",outcome=\"completed\"} 1\n",
        "axon_runs_total{service=\"bank\",agent=\"bank_support\",outcome=\"failed\"} 1\n",
        "axon_agent_state{service=\"bank\",agent=\"bank_support\",state=\"up\"} 1\n",
        "# TYPE axon_run_duration_seconds histogram\n",
        "# TYPE gen_ai_client_cost_usd_total counter\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    assert!(!metrics.contains("} summary"), "{metrics}");

    let log = logged.text();
    let records = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let messages: Vec<Value> = records.map(|record| record["fields"]["message"].clone()).collect();
    assert!(messages.contains(&"a customer asked".into()), "{log}");
    assert!(messages.contains(&"runner is up".into()), "{log}");
    assert!(!log.contains("What is my balance"), "{log}");
    // Whoever watches is no reason not to end.
    let watched = client.get(format!("http://{address}/axon/v1/events")).send().await.unwrap();
    close.send(()).unwrap();
    tokio::time::timeout(PATIENCE, serving).await.expect("it ends").unwrap().unwrap();
    assert_eq!(watched.status(), StatusCode::OK);
}
