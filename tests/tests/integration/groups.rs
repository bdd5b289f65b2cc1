//! Groups: agents that escalate to a supervisor of their own, which acts as OTP's does.

use axon_kernel::config::Config;
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::spec::{FileText, OnExhausted};
use axon_runtime::{AgentState, Outcome, Refusal, Runtime, TreeChild, TreeNode};
use axon_test::scripted_runner::{Death, Life, Start, Step};
use serde_json::json;

use crate::scene::{Played, Told, agent, pid, status, up};
use crate::support::{Project, kill_9, output, until};

/// The group `desk` of the agents `a`, `b` and `c`, which escalate when their runner has died once,
/// and the agent `other`, which is in no group.
struct Desk {
    project: Project,
    members: [Played; 3],
    runtime: Runtime,
    told: Told,
}

const MEMBERS: [&str; 3] = ["a", "b", "c"];

fn fine() -> Life {
    Life::default().always([Step::complete("fine")])
}

impl Desk {
    async fn with(settings: &str) -> Self {
        Self::of(settings, |_| fine()).await
    }

    async fn of(settings: &str, life: impl Fn(&str) -> Life) -> Self {
        let project = Project::new();
        let text = format!("[groups.desk]\nagents = [\"a\", \"b\", \"c\"]\n{settings}");
        let file = FileText { path: "axon.toml", text: &text };
        let config = Config::from_toml(file, &|_| None).unwrap();
        let members = MEMBERS.map(|name| {
            Played::new(&project, name, life(name)).with(|spec| {
                spec.supervision.intensity.max_restarts = 0;
                spec.supervision.on_exhausted = OnExhausted::Escalate;
            })
        });
        let other = Played::new(&project, "other", fine());
        let mut builder = project.runtime().config(config).agent(&other);
        for member in &members {
            builder = builder.agent(member);
        }
        let runtime = builder.start().await.unwrap();
        let told = Told::by(&runtime);
        Self { project, members, runtime, told }
    }

    async fn pids(&self) -> [u32; 4] {
        let mut pids = [0; 4];
        for (pid, name) in pids.iter_mut().zip(["a", "b", "c", "other"]) {
            *pid = up(&self.runtime, name, 1).await.pid.unwrap();
        }
        pids
    }

    async fn kill(&self, name: &str) {
        kill_9(pid(&self.runtime, name).await);
    }

    /// Kills the runner of `name`, waits until the supervisor has done this, as `child happening`,
    /// and returns which of `a`, `b` and `c` have another runner then.
    async fn restarted_with(&mut self, name: &str, done: &[&str]) -> Vec<&'static str> {
        let before = self.pids().await;
        self.kill(name).await;
        let last = done.last().unwrap();
        self.told.supervised(&format!("desk/{last}")).await;
        let seen = self.told.supervision();
        let seen: Vec<&str> = seen.iter().filter_map(|line| line.strip_prefix("desk/")).collect();
        let seen: Vec<&str> = seen.into_iter().filter(|line| !line.ends_with("restarts")).collect();
        assert_eq!(seen, done);
        let after = self.pids().await;
        assert_eq!(before[3], after[3], "who is in no group is left alone");
        let others = MEMBERS.into_iter().zip(before).zip(after);
        others.filter(|((_, before), after)| before != after).map(|((name, _), _)| name).collect()
    }

    async fn answers(&self, name: &str) {
        let ended = agent(&self.runtime, name).run("hello").wait().await.unwrap();
        assert_eq!(output(&ended.outcome), json!("fine"), "{name}");
    }

    /// Waits until `name` refuses runs, and returns why and whether it says when to come back.
    async fn refusal(&self, name: &str) -> (Failure, bool) {
        let agent = agent(&self.runtime, name);
        until("it refuses runs", async || match agent.run("hello").wait().await {
            // One that was accepted a moment before waits for nothing that does not come.
            Ok(ended) => {
                let late = matches!(&ended.outcome, Outcome::Failed(failed) if failed.failure.kind == FailureKind::RunTimeout);
                assert!(!late, "{ended:?}");
                false
            }
            Err(_) => true,
        })
        .await;
        let refused = agent.run("hello").start().await.unwrap_err();
        let Refusal::Unavailable { cause, retry_after, .. } = refused else {
            panic!("{refused:?}")
        };
        (*cause, retry_after.is_some())
    }

    async fn end(self) {
        self.runtime.shutdown().await;
        assert_eq!(self.project.sockets().len(), 0);
    }
}

/// Returns the child `id` of the supervisor of all agents.
async fn child(runtime: &Runtime, id: &str) -> TreeChild {
    let tree = runtime.tree().await;
    let agents = tree.root.children.into_iter().find(|child| child.id == "agents").unwrap();
    let TreeNode::Supervisor(agents) = agents.node else { panic!("{agents:?}") };
    agents.children.into_iter().find(|child| child.id == id).unwrap()
}

#[tokio::test]
async fn one_for_one_restarts_the_agent_that_escalated_and_nobody_else() {
    let mut desk = Desk::with("strategy = 'one_for_one'").await;
    let restarted = desk.restarted_with("b", &["b exited", "b started"]).await;
    assert_eq!(restarted, ["b"]);
    for name in MEMBERS {
        desk.answers(name).await;
    }
    desk.end().await;
}

#[tokio::test]
async fn one_for_all_stops_the_siblings_in_reverse_and_starts_all_in_order() {
    let mut desk = Desk::with("strategy = 'one_for_all'").await;
    let done = ["b exited", "c stopped", "a stopped", "a started", "b started", "c started"];
    assert_eq!(desk.restarted_with("b", &done).await, MEMBERS);
    desk.end().await;
}

#[tokio::test]
async fn rest_for_one_restarts_those_that_started_after_it() {
    let mut desk = Desk::with("strategy = 'rest_for_one'").await;
    let done = ["b exited", "c stopped", "b started", "c started"];
    assert_eq!(desk.restarted_with("b", &done).await, ["b", "c"]);
    desk.end().await;
}

#[tokio::test]
async fn a_run_outlives_the_restart_of_its_whole_group() {
    let life = |_: &str| {
        let first = Life::default()
            .on(axon_test::scripted_runner::When::attempt(1), [Step::text("hm"), Step::Hang]);
        first.always([Step::complete("fine")])
    };
    let desk = Desk::of("strategy = 'one_for_all'", life).await;
    let a = agent(&desk.runtime, "a");
    let mut waiting = a.run("hello").start().await.unwrap();
    crate::scene::shows(&mut waiting, "text_delta").await;
    desk.kill("c").await;
    assert_eq!(output(&waiting.outcome().await.outcome), json!("fine"));
    desk.end().await;
}

#[tokio::test]
async fn beyond_its_intensity_a_group_parks_and_a_restart_by_hand_brings_it_back() {
    let settings = "strategy = 'one_for_all'\nintensity = { max_restarts = 0 }\n\
                    backoff = { min = '1ms', max = '10m' }";
    let mut desk = Desk::with(settings).await;
    let other = desk.pids().await[3];
    desk.kill("b").await;
    desk.told.supervised("desk/b exhausted").await;
    for name in MEMBERS {
        let (cause, comes_back) = desk.refusal(name).await;
        let told = &cause.message;
        assert!(told.contains("group `desk`") && told.contains("SIGKILL"), "{name}: {cause}");
        assert!(comes_back, "{name}");
        let state = status(&desk.runtime, name).await.state;
        assert!(matches!(state, AgentState::Down { .. } | AgentState::Parked { .. }), "{state:?}");
    }
    let TreeNode::Group { parked, .. } = child(&desk.runtime, "desk").await.node else { panic!() };
    assert!(parked);
    desk.answers("other").await;
    agent(&desk.runtime, "c").restart().await.unwrap();
    for name in MEMBERS {
        up(&desk.runtime, name, 2).await;
        desk.answers(name).await;
    }
    assert_eq!(pid(&desk.runtime, "other").await, other);
    desk.end().await;
}

#[tokio::test]
async fn a_parked_group_is_tried_again_by_itself() {
    let settings = "intensity = { max_restarts = 0 }\nbackoff = { min = '1ms', max = '50ms' }";
    let mut desk = Desk::with(settings).await;
    desk.kill("a").await;
    desk.told.supervised("desk/a exhausted").await;
    for name in MEMBERS {
        up(&desk.runtime, name, 2).await;
        desk.answers(name).await;
    }
    let TreeNode::Group { parked, .. } = child(&desk.runtime, "desk").await.node else { panic!() };
    assert!(!parked);
    desk.end().await;
}

#[tokio::test]
async fn a_group_that_escalates_is_restarted_by_the_supervisor_of_all_agents() {
    let settings = "intensity = { max_restarts = 0 }\non_exhausted = 'escalate'";
    let mut desk = Desk::with(settings).await;
    let other = desk.pids().await[3];
    desk.kill("a").await;
    desk.told.supervised("agents/desk exited").await;
    desk.told.supervised("agents/desk started").await;
    for name in MEMBERS {
        up(&desk.runtime, name, 2).await;
        desk.answers(name).await;
    }
    assert_eq!(child(&desk.runtime, "desk").await.restarts, 1);
    assert_eq!(pid(&desk.runtime, "other").await, other);
    desk.end().await;
}

#[tokio::test]
async fn a_member_that_cannot_heal_is_given_up_and_its_siblings_wait_until_it_is_repaired() {
    let broken = || {
        let cause = Failure::new(FailureKind::Config, "no such module");
        Life::starting(Start::Failed(cause))
    };
    let life = |name: &str| if name == "b" { broken() } else { fine() };
    for (strategy, waiting, serving) in [
        ("one_for_one", vec![], vec!["a", "c"]),
        ("rest_for_one", vec!["c"], vec!["a"]),
        ("one_for_all", vec!["a", "c"], vec![]),
    ] {
        let desk = Desk::of(&format!("strategy = '{strategy}'"), life).await;
        let (cause, comes_back) = desk.refusal("b").await;
        assert!(cause.message.contains("no such module") && !comes_back, "{strategy}: {cause}");
        for name in waiting {
            let (cause, comes_back) = desk.refusal(name).await;
            assert!(cause.message.contains("waits for another"), "{strategy} {name}: {cause}");
            assert!(!comes_back, "{strategy} {name}");
        }
        for name in serving.into_iter().chain(["other"]) {
            desk.answers(name).await;
        }
        desk.members[1].repair(fine());
        agent(&desk.runtime, "b").restart().await.unwrap();
        for name in MEMBERS {
            up(&desk.runtime, name, 1).await;
            desk.answers(name).await;
        }
        desk.end().await;
    }
}

#[tokio::test]
async fn an_agent_that_escalates_outside_of_a_group_is_restarted_alone() {
    let project = Project::new();
    let script = axon_test::scripted_runner::RunnerScript::from(fine())
        .generation(1, Life::starting(Start::DieBeforeReady(Death::code(3))));
    let alone = Played::new(&project, "alone", script).with(|spec| {
        spec.supervision.intensity.max_restarts = 0;
        spec.supervision.on_exhausted = OnExhausted::Escalate;
    });
    let other = Played::new(&project, "other", fine());
    let runtime = project.runtime().agent(&alone).agent(&other).start().await.unwrap();
    up(&runtime, "alone", 2).await;
    let ended = agent(&runtime, "alone").run("hello").wait().await.unwrap();
    assert_eq!(output(&ended.outcome), json!("fine"));
    assert_eq!(status(&runtime, "other").await.generation.0, 1);
    assert_eq!(child(&runtime, "alone").await.restarts, 1, "by its supervisor");
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}
