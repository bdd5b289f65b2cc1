//! `examples/bank-support`: an agent wholly in Rust, over a database of the service's own.

use std::path::Path;

use axon_kernel::event::PauseReason;
use axon_kernel::failure::FailureKind;
use axon_runtime::{Agent, Answer, Outcome, Runtime, ToolContext, ToolError, tool};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use bank_support::approval::{Approver, end_of};
use bank_support::bank::{Bank, Cents, NEW_CARD};
use bank_support::support::{Support, SupportDeps, SupportOutput, block_card, support};
use serde_json::json;

use crate::support::Project;

const OFFLINE: &str = "python:offline_bank:model";
const SCRIPTED: &str = "openai-chat:scripted";

/// What the customer has before anything happens, pending payments aside.
const SETTLED: Cents = Cents(12_345);

async fn bank(folder: &Path) -> Bank {
    Bank::open(&folder.join("bank.sqlite3")).await.unwrap()
}

/// The service of the example in a project of its own.
struct Service {
    _project: Project,
    bank: Bank,
    runtime: Runtime,
    agent: Support,
}

impl Service {
    async fn start(project: Project, model: &str) -> Self {
        let bank = bank(project.path()).await;
        let agent = support(bank.clone(), model).unwrap();
        let runtime = project.runtime().agent(&agent).start().await.unwrap();
        Self { _project: project, bank, runtime, agent }
    }

    async fn ask(&self, question: &str, approver: Approver) -> Answer<SupportOutput> {
        let run = self.runtime.agent(&self.agent).run(question);
        let mut run = run.deps(&SupportDeps { customer_id: 123 }).start().await.unwrap();
        end_of(&mut run, approver).await.unwrap().answer().unwrap()
    }

    async fn card(&self) -> (bool, Cents) {
        let balance = self.bank.balance(123, false).await.unwrap();
        (self.bank.is_blocked(123).await.unwrap(), balance)
    }
}

#[tokio::test]
async fn a_card_is_blocked_once_it_is_approved_and_not_before() {
    let service = Service::start(Project::new(), OFFLINE).await;
    let deps = SupportDeps { customer_id: 123 };
    let run = service.runtime.agent(&service.agent).run("I just lost my card!").deps(&deps);
    let mut run = run.start().await.unwrap();
    let Outcome::Paused(paused) = run.outcome().await.outcome else { panic!("it asks nobody") };
    let PauseReason::Approval { requests } = paused.reason else { panic!("{:?}", paused.reason) };
    assert!(requests.get().contains("block a card at risk 8"), "{}", requests.get());
    assert_eq!(service.card().await, (false, SETTLED));

    let answer = end_of(&mut run, Approver::Everything).await.unwrap();
    let answer: Answer<SupportOutput> = answer.answer().unwrap();
    assert!(answer.output.block_card && answer.output.support_advice.contains("is blocked"));
    assert_eq!(answer.output.risk, 8);
    assert_eq!(service.card().await, (true, Cents(SETTLED.0 - NEW_CARD.0)));
    service.runtime.shutdown().await;
}

#[tokio::test]
async fn a_card_that_a_person_does_not_want_blocked_is_not() {
    let service = Service::start(Project::new(), OFFLINE).await;
    let answer = service.ask("My card was stolen", Approver::Nothing).await;
    assert!(!answer.output.block_card && answer.output.support_advice.contains("call us"));
    assert_eq!(service.card().await, (false, SETTLED));
    service.runtime.shutdown().await;
}

#[tokio::test]
async fn a_balance_is_read_and_a_stranger_has_none() {
    let service = Service::start(Project::new(), OFFLINE).await;
    let answer = service.ask("What is my balance?", Approver::Nothing).await;
    assert!(answer.output.support_advice.contains("$100.00"), "{:?}", answer.output);
    let answer = service.ask("What is my balance without pending?", Approver::Nothing).await;
    assert!(answer.output.support_advice.contains("$123.45"), "{:?}", answer.output);

    let run = service.runtime.agent(&service.agent).run("What is my balance?");
    let failure = run.deps(&SupportDeps { customer_id: 9 }).await.unwrap_err().into_failure();
    assert_eq!(failure.kind, FailureKind::Tool);
    assert!(failure.message.contains("the bank has no customer 9"), "{}", failure.message);
    service.runtime.shutdown().await;
}

#[tokio::test]
async fn the_same_agent_asks_an_openai_compatible_server() {
    let script = Script::function(|body| {
        let request = ChatRequest::new(body);
        match request.tool_return("block_card") {
            None => Reply::tool_calls([("block_card", json!({ "risk": 9 }))]),
            Some(returned) => Reply::final_result(json!({
                "support_advice": format!("Blocked: {returned}."), "block_card": true, "risk": 9,
            })),
        }
    });
    let model = ScriptedModel::start(script).await;
    let service = Service::start(Project::with_model(&model), SCRIPTED).await;
    let answer = service.ask("I just lost my card!", Approver::Everything).await;
    assert_eq!(answer.output.support_advice, "Blocked: true.");
    assert!(!answer.offline);

    let tools = model.requests()[0].body["tools"].to_string();
    for said in
        ["Returns the customer's current account balance.", "for good, and orders a new one"]
    {
        assert!(tools.contains(said), "{tools}");
    }
    service.runtime.shutdown().await;
}

/// Books money.
#[tool(effect = "once")]
async fn deposit(
    ctx: ToolContext<SupportDeps>,
    #[schemars(range(min = 1))] cents: i64,
) -> Result<String, ToolError> {
    let balance = ctx.service::<Bank>()?.book(ctx.deps().customer_id, Cents(cents)).await?;
    Ok(balance.to_string())
}

#[tokio::test]
async fn two_agents_that_write_one_row_at_once_lose_nothing() {
    const RUNS: i64 = 8;
    const DEPOSITS: i64 = 6;
    let script = Script::function(|body| {
        if ChatRequest::new(body).tool_return("deposit").is_some() {
            return Reply::text("done");
        }
        let deposits = (0..DEPOSITS).map(|_| ("deposit", json!({ "cents": 7 })));
        Reply::tool_calls(deposits.chain([("block_card", json!({ "risk": 1 }))]))
    });
    let model = ScriptedModel::start(script).await;
    let project = Project::with_model(&model);
    let bank = bank(project.path()).await;
    let agents = ["desk", "counter"].map(|name| {
        let agent = Agent::<SupportDeps>::builder(name).model(SCRIPTED);
        agent.tool(deposit).tool(block_card).build().unwrap()
    });
    // One bank for both.
    let [desk, counter] = &agents;
    let runtime = project.runtime().service(bank.clone()).agent(desk).agent(counter);
    let runtime = runtime.start().await.unwrap();
    let deps = SupportDeps { customer_id: 123 };
    let runs = (0..RUNS).flat_map(|_| &agents).map(|agent| {
        let run = runtime.agent(agent).run("Book it").deps(&deps);
        async { run.await.unwrap().output }
    });
    let answers = futures_util::future::join_all(runs).await;
    assert!(answers.iter().all(|answer| answer == "done"), "{answers:?}");
    let booked = Cents(SETTLED.0 + 2 * RUNS * DEPOSITS * 7 - NEW_CARD.0);
    assert_eq!(bank.balance(123, false).await.unwrap(), booked);
    runtime.shutdown().await;
}
