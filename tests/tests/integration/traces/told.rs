//! Spans as a service in Rust gets them: each ends, whatever its run comes to.

use std::sync::{Arc, Mutex};

use axon_kernel::trace::{Attribute, Sampler, Share, Span, SpanSink, TraceContext};
use axon_runtime::Runtime;
use axon_runtime::trace::Tracer;
use axon_test::ScriptedModel;
use axon_test::scripted_model::{Reply, Script};

use crate::scene::agent;
use crate::support::{Project, kill_9, scripted_agent, until};

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<Span>>>);

impl SpanSink for Kept {
    fn take(&self, span: Span) {
        self.0.lock().unwrap().push(span);
    }
}

impl Kept {
    /// Returns what each span is called and why it failed, in the order of their ends.
    fn ends(&self) -> Vec<(String, Option<String>)> {
        let spans = self.0.lock().unwrap().clone();
        spans.into_iter().map(|span| (span.name, span.error)).collect()
    }
}

async fn runtime(model: &ScriptedModel, tracer: Tracer) -> (Project, Runtime) {
    let project = Project::with_model(model);
    let runtime = project.runtime().agent(scripted_agent("bank")).tracer(tracer).start();
    let runtime = runtime.await.unwrap();
    (project, runtime)
}

fn ends(ends: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    ends.iter().map(|(name, error)| ((*name).to_owned(), error.map(str::to_owned))).collect()
}

#[tokio::test]
async fn a_failure_is_told_by_its_kind_at_each_span_that_it_ends() {
    let model = ScriptedModel::start(Reply::error(401, "invalid_api_key")).await;
    let kept = Kept::default();
    let (_project, runtime) = runtime(&model, Tracer::new(Arc::new(kept.clone()))).await;
    let outcome = agent(&runtime, "bank").run("PROMPT").wait().await.unwrap();
    assert!(outcome.completed().is_err());
    let auth = Some("model_auth");
    let expected =
        ends(&[("chat scripted", auth), ("attempt bank", auth), ("invoke_agent bank", auth)]);
    assert_eq!(kept.ends(), expected);
    let spans = kept.0.lock().unwrap().clone();
    let kind = ("error.type", Attribute::from("model_auth"));
    assert!(spans.iter().all(|span| span.attributes.contains(&kind)), "{spans:?}");
    assert!(!format!("{spans:?}").contains("PROMPT"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn what_is_under_way_when_a_run_is_cancelled_or_loses_its_runner_ends_with_it() {
    let script = Script::function(|_| Reply::hang()).then(|_| Reply::hang());
    let model = ScriptedModel::start(script).await;
    let kept = Kept::default();
    let (_project, runtime) = runtime(&model, Tracer::new(Arc::new(kept.clone()))).await;
    let bank = agent(&runtime, "bank");
    let run = bank.run("PROMPT").start().await.unwrap();
    until("the model is asked", async || model.requests().len() == 1).await;
    let status = bank.status().await.unwrap();
    kill_9(status.runners[0].pid.unwrap());
    until("the model is asked again", async || model.requests().len() == 2).await;
    run.cancel("enough");
    run.outcome().await;
    let (died, off) = (Some("runner_died"), Some("cancelled"));
    let expected = ends(&[
        ("chat scripted", died),
        ("attempt bank", died),
        ("chat scripted", off),
        ("attempt bank", off),
        ("invoke_agent bank", None),
    ]);
    assert_eq!(kept.ends(), expected);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_service_names_the_trace_or_the_run_does_and_the_sampler_decides() {
    let model = ScriptedModel::start(Reply::text("Well.")).await;
    let kept = Kept::default();
    let none = Sampler { roots: Share::None, heeds_parent: true };
    let (_project, first) =
        runtime(&model, Tracer::new(Arc::new(kept.clone())).sampler(none)).await;
    let parent: TraceContext =
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let bank = agent(&first, "bank");
    bank.run("x").wait().await.unwrap();
    assert_eq!(kept.ends(), []);
    bank.run("x").traceparent(parent).wait().await.unwrap();
    let spans = kept.0.lock().unwrap().clone();
    assert!(spans.len() == 3 && spans.iter().all(|span| span.context.trace == parent.trace));
    assert_eq!(spans.last().unwrap().parent, Some(parent.span));
    first.shutdown().await;

    let kept = Kept::default();
    let (_project, second) = runtime(&model, Tracer::new(Arc::new(kept.clone()))).await;
    let outcome = agent(&second, "bank").run("x").wait().await.unwrap();
    let spans = kept.0.lock().unwrap().clone();
    let digits = outcome.run_id.as_str().replace('-', "");
    assert!(spans.iter().all(|span| span.context.trace.to_string() == digits), "{spans:?}");
    assert_eq!(spans.last().unwrap().parent, None);
    second.shutdown().await;
}
