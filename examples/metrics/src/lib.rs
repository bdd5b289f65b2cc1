//! The app of a bank that has an agent in it: its own routes, and Axon's below `/axon`; one page of
//! metrics for both, and one log.

use axon_runtime::{Refusal, Runtime};
use axon_server::{BuildError, PrometheusBuilder, PrometheusHandle, Server};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics::{counter, describe_counter};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How often customers asked for advice, and whether they got any.
const QUESTIONS: &str = "bank_questions_total";

/// Returns the bank's recorder: with Axon's buckets, and a label of its own on every series.
///
/// # Errors
///
/// [`BuildError`], which these settings never give.
pub fn recorder() -> Result<PrometheusBuilder, BuildError> {
    Ok(axon_server::prometheus()?.add_global_label("service", "bank"))
}

/// Serves the bank's app until `closing` resolves and what is under way then has ended.
///
/// # Errors
///
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    runtime: Runtime,
    recorder: PrometheusHandle,
    closing: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    describe_counter!(QUESTIONS, "Questions of customers, by what came of them.");
    let axon = Server::builder(runtime.clone()).build()?;
    let scraped = get(async move || axon_server::render(&recorder));
    let own = Router::new().route("/advice", post(advise)).route("/metrics", scraped);
    let app = own.with_state(runtime).nest("/axon", axon.router());
    let ending = async move {
        closing.await;
        axon.end().await;
    };
    Ok(axum::serve(listener, app).with_graceful_shutdown(ending).await?)
}

/// What a customer asks.
#[derive(Debug, Deserialize)]
struct Question {
    customer_id: u32,
    question: String,
}

/// Has the agent answer, in the bank's own words where it cannot.
async fn advise(
    State(runtime): State<Runtime>,
    Json(asked): Json<Question>,
) -> Result<Json<Value>, (StatusCode, &'static str)> {
    let came = answer(&runtime, &asked).await;
    let outcome = if came.is_ok() { "answered" } else { "sent_away" };
    counter!(QUESTIONS, "outcome" => outcome).increment(1);
    tracing::info!(asked.customer_id, outcome, "a customer asked");
    came
}

async fn answer(
    runtime: &Runtime,
    Question { customer_id, question }: &Question,
) -> Result<Json<Value>, (StatusCode, &'static str)> {
    let busy = |_: Refusal| (StatusCode::SERVICE_UNAVAILABLE, "Please ask again in a moment.");
    let desk = runtime.named("bank_support").map_err(busy)?;
    let run = desk.run(question.as_str()).deps(&json!({ "customer_id": customer_id }));
    let ended = run.wait().await.map_err(busy)?;
    let completed =
        ended.completed().map_err(|_why| (StatusCode::BAD_GATEWAY, "Please call us."))?;
    let advice: Value = completed.output.decode().unwrap_or_default();
    Ok(Json(json!({ "advice": advice["support_advice"], "model": completed.model })))
}
