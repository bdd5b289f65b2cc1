//! `axon tree --here` as a user types it: the agents of the folder, started to be shown.

use serde_json::{Value, json};

use axon_test::{Reply, ScriptedModel};

use crate::command_line::run;
use crate::support::Project;

/// A project with an agent that is up, one that is parked, and a group of two.
async fn project() -> (Project, ScriptedModel) {
    let model = ScriptedModel::start(Reply::text("fine")).await;
    let project = Project::with_model(&model);
    let scripted = "model = \"openai-chat:scripted\"\n";
    for name in ["sound", "triage", "fraud"] {
        project.write(&format!("agents/{name}/agent.toml"), scripted);
    }
    let broken = format!("{scripted}[runner]\nmodule = \"broken.bot:agent\"\n");
    project.write("agents/broken/agent.toml", &broken);
    project.write("agents/broken/__init__.py", "");
    project.write("agents/broken/bot.py", "import nowhere_to_be_found\n");
    let groups = "[groups.desk]\nagents = [\"triage\", \"fraud\"]\nstrategy = \"one_for_all\"\n\
                  intensity = { max_restarts = 2, within = \"30s\" }\n";
    project.write("agents/axon.toml", groups);
    (project, model)
}

#[tokio::test]
async fn the_tree_shows_strategies_groups_and_why_an_agent_is_parked() {
    let (project, model) = project().await;
    let (code, stdout, stderr) = run(&project, &["tree", "--here"]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(!stdout.contains('\u{1b}'), "what is no terminal gets no styles: {stdout:?}");
    let line = |name: &str| {
        let of = |line: &&str| line.trim_start_matches(['│', '├', '└', '─', ' ']).starts_with(name);
        stdout.lines().find(of).unwrap_or_else(|| panic!("{name} is missing:\n{stdout}"))
    };
    assert!(line("root").contains("rest_for_one, 3 of 3 restarts in 60 s left"), "{stdout}");
    assert!(line("agents").contains("one_for_one"), "{stdout}");
    assert!(line("desk").contains("group, one_for_all, 2 of 2 restarts in 30 s left"), "{stdout}");
    for name in ["sound", "triage", "fraud"] {
        let line = line(name);
        assert!(line.contains("up, openai") && line.contains("generation 1, pid "), "{line}");
        assert!(line.contains("0 in flight, 0 queued, 3 restarts left"), "{line}");
    }
    let broken = line("broken");
    assert!(broken.contains("parked") && broken.contains("nowhere_to_be_found"), "{broken}");
    assert!(broken.contains("until it is reloaded or restarted"), "{broken}");
    // Its members stand below the group, and in their order.
    let order: Vec<usize> =
        ["desk", "triage", "fraud"].map(|name| stdout.find(line(name)).unwrap()).into();
    assert!(order.is_sorted(), "{stdout}");
    assert_eq!((project.sockets().len(), model.requests().len()), (0, 0));
}

#[tokio::test]
async fn the_tree_has_a_line_for_each_runner_where_there_are_several() {
    let model = ScriptedModel::start(Reply::text("fine")).await;
    let project = Project::with_model(&model);
    let text = "model = \"openai-chat:scripted\"\n[runner]\nreplicas = 2\n";
    project.write("agents/desk/agent.toml", text);
    let (code, stdout, stderr) = run(&project, &["tree", "--here"]).await;
    assert_eq!(code, 0, "{stderr}");
    let under = stdout.lines().skip_while(|line| !line.contains("desk")).skip(1);
    let runners: Vec<&str> = under.filter(|line| line.contains("generation")).collect();
    assert_eq!(runners.len(), 2, "{stdout}");
    let up = runners.iter().find(|line| line.contains("up, pid")).unwrap();
    assert!(up.contains(" MiB, ") && up.contains(" s of CPU time"), "{stdout}");
    let (code, stdout, _) = run(&project, &["agents", "show", "desk"]).await;
    assert!(code == 0 && stdout.contains(", 2 runners"), "{stdout}");
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn the_tree_is_the_same_as_data() {
    let (project, _model) = project().await;
    let (code, stdout, stderr) = run(&project, &["tree", "--here", "--json"]).await;
    assert_eq!(code, 0, "{stderr}");
    let tree: Value = serde_json::from_str(&stdout).expect("one line of JSON");
    assert_eq!(tree["root"]["strategy"], json!("rest_for_one"));
    let below = |branch: &Value, id: &str| {
        let children = branch["children"].as_array().unwrap();
        children
            .iter()
            .find(|child| child["id"] == id)
            .cloned()
            .unwrap_or_else(|| panic!("{id}: {branch}"))
    };
    let agents = below(&tree["root"], "agents")["supervisor"].clone();
    let broken = below(&agents, "broken")["agent"].clone();
    assert_eq!((&broken["state"], broken.get("retry_in_ms")), (&json!("parked"), None));
    assert!(broken["cause"].as_str().unwrap().contains("nowhere_to_be_found"), "{broken}");
    let desk = below(&agents, "desk")["group"].clone();
    assert_eq!(desk["parked"], json!(false));
    assert_eq!(desk["members"]["strategy"], json!("one_for_all"));
    assert_eq!(desk["members"]["restarts_left"], json!(2));
    for name in ["triage", "fraud"] {
        let member = below(&desk["members"], name);
        let agent = &member["agent"];
        assert_eq!((&member["state"], &agent["state"]), (&json!("running"), &json!("up")));
        assert!(
            agent["pid"]
                .as_u64()
                .is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()),
            "{agent}"
        );
        assert_eq!((&agent["generation"], &agent["restarts_left"]), (&json!(1), &json!(3)));
    }
    assert_eq!(project.sockets().len(), 0);
}
