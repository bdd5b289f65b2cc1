//! A bank's own service with an agent in it: `cargo run -p metrics-service`, from the root of the
//! repository, and then
//!
//! ```sh
//! curl -s 127.0.0.1:8080/advice --json '{"customer_id": 123, "question": "What is my balance?"}'
//! curl -s 127.0.0.1:8080/metrics
//! curl -s 127.0.0.1:8080/axon/v1/runs
//! ```
//!
//! Without `AXON_MODEL` the model only plays one.

use axon_runtime::Runtime;
use metrics_service::{recorder, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| "info".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    // Before the runtime starts: what is counted without a recorder goes nowhere.
    let recorder = recorder()?.install_recorder()?;
    tokio::spawn(axon_server::upkeep(recorder.clone()));
    let runtime = Runtime::builder().agents_dir("agents").allow_offline().start().await?;
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    tracing::info!(address = %listener.local_addr()?, "the bank is open");
    let mut terminated = signal(SignalKind::terminate())?;
    let closing = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
    };
    serve(listener, runtime, recorder, closing).await
}
