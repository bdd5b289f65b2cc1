//! Whatever asks whom: no message is lost, none goes round for ever, and neither budget nor deadline
//! is exceeded.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axon_kernel::budget::Allowance;
use axon_kernel::event::{RunEvent, Sequenced};
use axon_kernel::flow::{
    Ask, Does, Edge, Expression, Flow, FlowKind, Join, OnFailure, Over, Step, StepName, Target,
};
use axon_kernel::spec::{AgentName, AgentSpec, MAX_DELEGATIONS};
use axon_kernel::store::{RunQuery, RunSummary};
use axon_runtime::{AgentDefinition, Runtime};
use axon_test::scripted_runner::{Life, RunnerScript, Step as Play, When};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::time::Instant;

use crate::scene::Played;
use crate::support::Project;

/// How much later than its deadline a run may end: whoever works gets that time to stop.
const SLACK: Duration = Duration::from_secs(3);

/// What one flow does: whom its steps ask, and how.
#[derive(Clone, Debug)]
struct Plan(Vec<(Shape, usize, usize)>);

#[derive(Clone, Copy, Debug)]
enum Shape {
    Ask,
    Retry,
    Rescued,
    Skipped,
    Both,
    Race,
    Map,
}

fn plan(flows: usize) -> impl Strategy<Value = Plan> {
    let shape = prop::sample::select(vec![
        Shape::Ask,
        Shape::Retry,
        Shape::Rescued,
        Shape::Skipped,
        Shape::Both,
        Shape::Race,
        Shape::Map,
    ]);
    // Beside the flows there are two more: one that answers, and one that fails.
    let step = (shape, 0..flows + 2, 0..flows + 2);
    prop::collection::vec(step, 1..4).prop_map(Plan)
}

#[derive(Clone, Debug)]
struct Case {
    plans: Vec<Plan>,
    requests: u64,
    timeout: Duration,
}

fn case() -> impl Strategy<Value = Case> {
    let plans = (1..4_usize).prop_flat_map(|flows| prop::collection::vec(plan(flows), flows));
    (plans, 0..8_u64, 100..1500_u64).prop_map(|(plans, requests, millis)| Case {
        plans,
        requests,
        timeout: Duration::from_millis(millis),
    })
}

/// Returns the name of the flow `number`, or of one of the two beside them.
fn name(number: usize, flows: usize) -> AgentName {
    let name = match number.checked_sub(flows) {
        None => format!("flow{number}"),
        Some(0) => "leaf".to_owned(),
        Some(_) => "bad".to_owned(),
    };
    name.parse().unwrap()
}

fn definition(number: usize, plan: &Plan, flows: usize) -> AgentDefinition {
    let mut spec = AgentSpec::new(name(number, flows));
    let mut steps: Vec<Step> = Vec::new();
    for (index, (shape, one, two)) in plan.0.iter().enumerate() {
        let mut step = shaped(*shape, name(*one, flows), name(*two, flows));
        step.name = StepName::try_from(format!("s{index}")).unwrap();
        step.after = steps.last().map(|last| last.name.clone()).into_iter().collect();
        steps.push(step);
    }
    let (kind, input, on_failure) = (FlowKind::Pipeline, None, OnFailure::Fail);
    spec.flow = Some(Flow { kind, input, steps, on_failure });
    spec.into()
}

fn shaped(shape: Shape, one: AgentName, two: AgentName) -> Step {
    let (one, two) = (Target::Agent(one), Target::Agent(two));
    let edged = |edge| Does::Ask(Ask { edge, ..Ask::of(one.clone()) });
    let branch = |name: &str, target: &Target| {
        let name = StepName::try_from(name).unwrap();
        Step::new(name, Does::Ask(Ask::of(target.clone())))
    };
    let parallel = |join| {
        let branches = vec![branch("one", &one), branch("two", &two)];
        Does::Parallel { branches, join }
    };
    let stand_in = StepName::try_from("step").unwrap();
    let does = match shape {
        Shape::Ask | Shape::Map => edged(Edge::default()),
        Shape::Retry => edged(Edge { retry: 1, ..Edge::default() }),
        // Nobody is asked in place of oneself.
        Shape::Rescued if one != two => {
            edged(Edge { on_failure: OnFailure::Ask(vec![two]), ..Edge::default() })
        }
        Shape::Rescued => edged(Edge::default()),
        Shape::Skipped => edged(Edge { on_failure: OnFailure::Skip, ..Edge::default() }),
        Shape::Both => parallel(Join::All),
        Shape::Race => parallel(Join::First),
    };
    let mut step = Step::new(stand_in, does);
    if let Shape::Map = shape {
        let list = Expression::new("[1, 2, 3]").unwrap();
        let max_concurrency = NonZeroU32::new(2).unwrap();
        step.over = Some(Over { list, max_concurrency, need: 1 });
    }
    step
}

async fn runtime(project: &Project, case: &Case) -> Runtime {
    let flows = case.plans.len();
    let plays = Life::default().on(When::default(), [Play::SleepMs(5), Play::complete("answer")]);
    let leaf = Played::new(project, "leaf", RunnerScript::from(plays));
    let mut builder = project.runtime().agent(&leaf).agent(super::failing("bad"));
    // Nothing that asks itself is let start: so they become what they are one by one.
    for number in 0..flows {
        builder = builder.agent(super::answering(name(number, flows).as_str(), |text| text));
    }
    let runtime = builder.start().await.unwrap();
    for (number, plan) in case.plans.iter().enumerate() {
        runtime.reload_agent(definition(number, plan, flows)).await.unwrap();
    }
    runtime
}

/// Returns all runs, which come in pages.
async fn summaries(runtime: &Runtime) -> Vec<RunSummary> {
    let (mut all, mut query) = (Vec::new(), RunQuery::default());
    loop {
        let page = runtime.store().runs(&query).await.unwrap();
        let Some(last) = page.last() else { return all };
        query.after = Some(last.run_id.clone());
        all.extend(page);
    }
}

/// Returns the records of all runs, once all have ended.
async fn records(runtime: &Runtime) -> Vec<Vec<Sequenced>> {
    let until = Instant::now() + SLACK;
    loop {
        let runs = summaries(runtime).await;
        if runs.iter().all(|run| !run.state.is_open()) {
            let mut all = Vec::new();
            for run in runs {
                all.push(runtime.store().records(&run.run_id, 0).await.unwrap());
            }
            return all;
        }
        assert!(Instant::now() < until, "a run was left open: {runs:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn holds(case: Case, requests: &AtomicU64) {
    let project = Project::new();
    let runtime = runtime(&project, &case).await;
    let budget =
        runtime.budget(Allowance { requests: Some(case.requests), ..Allowance::default() });
    let began = Instant::now();
    let first = runtime.named("flow0").unwrap();
    let run = first.run("message").budget(&budget).timeout(case.timeout).wait();
    let outcome = run.await.unwrap();
    assert!(began.elapsed() < case.timeout + SLACK, "{outcome:?}");
    let all = records(&runtime).await;
    let (mut asked, mut deadlines) = (0, std::collections::BTreeMap::new());
    for record in &all {
        let terminal = record.iter().filter(|event| event.event.is_terminal()).count();
        assert_eq!(terminal, 1, "{record:?}");
        let RunEvent::Accepted(accepted) = &record[0].event else { panic!("{record:?}") };
        let deadline = record[0].at.after(Duration::from_millis(accepted.terms.timeout_ms));
        deadlines.insert(record[0].run_id.clone(), deadline);
        let began = |event: &&Sequenced| matches!(event.event, RunEvent::AttemptStarted(_));
        asked += record.iter().filter(began).count() as u64;
    }
    requests.fetch_add(asked, Ordering::Relaxed);
    assert!(asked <= case.requests, "{asked} requests were made, and {} allowed", case.requests);
    for record in &all {
        let RunEvent::Accepted(accepted) = &record[0].event else { panic!("{record:?}") };
        let Some(parent) = &accepted.terms.parent else { continue };
        assert!(parent.path.depth() <= MAX_DELEGATIONS + 1, "{parent:?}");
        assert_eq!(parent.envelope.hops as usize, parent.path.depth() - 1);
        assert_eq!(parent.envelope.trace_id.as_ref(), Some(&outcome.run_id));
        let (own, above) = (deadlines[&record[0].run_id], deadlines[&parent.run_id]);
        // Both clocks are read one after the other, on a machine that may be busy. Whoever began
        // anew would have a minute.
        assert!(own.since(above) <= SLACK, "a deadline has grown");
    }
    runtime.shutdown().await;
}

#[test]
fn no_message_is_lost_or_goes_round_for_ever_and_no_limit_is_exceeded() {
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
    let requests = Arc::new(AtomicU64::new(0));
    let ran = runner.run(&case(), |case| {
        let requests = requests.clone();
        let held = executor.spawn(async move { holds(case, &requests).await });
        executor.block_on(held).map_err(|panic| TestCaseError::fail(panic.to_string()))
    });
    ran.unwrap();
    assert!(requests.load(Ordering::Relaxed) > 0, "no message came to the one that answers");
}
