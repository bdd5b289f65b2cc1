//! Tools that act once, below steps that would be tried again.

use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::flow::Target;
use axon_kernel::spec::Effect;
use axon_kernel::store::RunQuery;
use axon_runtime::{Outcome, Pipeline, Runtime, named};
use axon_test::scripted_runner::{Life, Step, When};

use super::{answering, ask};
use crate::scene::Played;
use crate::support::{Project, python_tool};

/// An agent that pays, and then fails, hangs, or is too late.
fn payer(project: &Project) -> Played {
    let pays = || Step::tool_started("c1", "pay", Effect::Once);
    let paid = || Step::tool_finished("c1", "pay", "paid");
    let failure = Failure::new(FailureKind::Tool, "another tool broke");
    let life = Life::default()
        .on(When::prompt("fail"), [pays(), paid(), Step::Fail(failure.clone())])
        .on(When::prompt("fail before"), [Step::Fail(failure)])
        .always([pays(), Step::Hang]);
    Played::new(project, "payer", life).with(|spec| {
        spec.tools.push(python_tool("pay", "tools:pay", Effect::Once));
        spec.limits.timeout = Duration::from_secs(1);
    })
}

/// Returns how many runs of the payer there have been.
async fn runs(runtime: &Runtime) -> usize {
    let of_it = RunQuery { agent: Some("payer".parse().unwrap()), ..RunQuery::default() };
    runtime.store().runs(&of_it).await.unwrap().len()
}

#[tokio::test]
async fn what_may_have_acted_is_asked_again_by_nobody_but_a_person() {
    let project = Project::new();
    let other = answering("other", |_| "other".to_owned());
    let flow = |name: &str| Pipeline::new(name).then(&named::<String>("payer")).retry(2);
    let again = flow("again").fallback(other.name().clone()).build().unwrap();
    let short = flow("short").timeout(Duration::from_millis(300)).build().unwrap();
    let person = flow("person").fallback(Target::Human).build().unwrap();
    let outer = Pipeline::new("outer").then(&named::<String>("again")).retry(1).build().unwrap();
    let builder = project.runtime().agent(&payer(&project)).agent(&other).agent(&again);
    let runtime = builder.agent(&short).agent(&person).agent(&outer).start().await.unwrap();
    // Nothing was done yet, so there is no harm in it.
    assert_eq!(ask(&runtime, "again", "fail before").await.unwrap(), "other");
    assert_eq!(runs(&runtime).await, 3);
    for (before, (asked, prompt)) in
        [("outer", "fail"), ("again", "wait"), ("short", "wait")].into_iter().enumerate()
    {
        let failure = ask(&runtime, asked, prompt).await.unwrap_err();
        assert!(failure.acted, "{asked}: {failure}");
        assert!(failure.message.contains("may have acted"), "{asked}: {failure}");
        assert_eq!(runs(&runtime).await, 4 + before, "{asked}");
    }
    let run = runtime.agent(&person).run("fail").start().await.unwrap();
    assert!(matches!(run.outcome().await.outcome, Outcome::Paused(_)), "a person is asked");
    assert_eq!(runs(&runtime).await, 7);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_run_that_is_too_late_says_which_call_may_have_taken_effect() {
    let project = Project::new();
    let payer = payer(&project);
    let runtime = project.runtime().agent(&payer).start().await.unwrap();
    let failure = ask(&runtime, "payer", "wait").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::RunTimeout, "{failure}");
    let said = "call `c1` of `pay` may have taken effect (key ";
    assert!(failure.message.contains(said), "{failure}");
    runtime.shutdown().await;
}
