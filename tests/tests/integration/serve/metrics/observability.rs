//! The dashboard and the alert rules that are shipped: everything in them is there, and works.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::prometheus::{program, promtool};
use super::scenario::Scene;
use super::scrape::Scrape;
use crate::support::repository;

fn file(name: &str) -> PathBuf {
    repository().join("crates/axon-server/observability").join(name)
}

fn dashboard() -> Value {
    serde_json::from_str(&std::fs::read_to_string(file("dashboard.json")).unwrap()).unwrap()
}

/// Returns every query of the dashboard.
fn queries(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap()).collect()
}

/// Returns every word in `text` that is the name of a metric of Axon.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("axon_") || word.starts_with("gen_ai_")).collect()
}

#[tokio::test]
async fn every_metric_in_the_dashboard_and_the_alerts_is_shown_by_the_service() {
    let scene = Scene::start().await;
    scene.everything().await;
    let scrape = Scrape::of(&scene.service).await;
    let shown = scrape.types();
    let rules = std::fs::read_to_string(file("alerts.yml")).unwrap();
    let tests = std::fs::read_to_string(file("alerts.test.yml")).unwrap();
    let dashboard = dashboard();
    let used = [rules, tests, queries(&dashboard).join("\n")].join("\n");
    let used = metrics(&used);
    assert!(used.len() > 20, "{used:?}");
    for metric in used {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end));
        let histogram = base.is_some_and(|base| shown.get(base) == Some(&"histogram"));
        assert!(shown.contains_key(metric) || histogram, "{metric} is nowhere");
    }
}

#[test]
fn the_dashboard_can_be_imported_as_it_is() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "axon");
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            assert!(
                taken.insert((place("x") + x, place("y") + y)),
                "{} lies on another",
                panel["title"]
            );
        }
        let sources = panel["targets"].as_array().into_iter().flatten().chain([panel]);
        for source in sources.filter(|source| source["datasource"].is_object()) {
            assert_eq!(source["datasource"]["uid"], "${datasource}");
        }
    }
}

#[tokio::test]
async fn the_alerts_are_rules_that_fire_when_they_have_to_and_not_else() {
    let Some(program) = program("promtool") else { return };
    let (rules, tests) = (file("alerts.yml"), file("alerts.test.yml"));
    let said = promtool(&program, &["check", "rules", rules.to_str().unwrap()], "").await;
    assert!(said.contains("SUCCESS: 16 rules found"), "{said}");
    let said = promtool(&program, &["test", "rules", tests.to_str().unwrap()], "").await;
    assert!(said.contains("SUCCESS"), "{said}");
    // Each of them is tried.
    let text = std::fs::read_to_string(rules).unwrap();
    let tried = std::fs::read_to_string(tests).unwrap();
    for alert in text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let fires = format!("alertname: {alert}\n        exp_alerts:\n");
        assert!(tried.contains(&fires), "{alert} is tried by no test");
    }
}

#[tokio::test]
async fn every_query_of_the_dashboard_can_be_read_by_prometheus() {
    let Some(program) = program("promtool") else { return };
    let dashboard = dashboard();
    let rules: String = queries(&dashboard)
        .iter()
        .enumerate()
        .map(|(number, query)| {
            let query = query.replace("$__rate_interval", "5m").replace("$agent", ".*");
            format!("  - {{ record: 'query_{number}', expr: {} }}\n", Value::from(query))
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yml");
    std::fs::write(&file, format!("groups:\n- name: dashboard\n  rules:\n{rules}")).unwrap();
    let said = promtool(&program, &["check", "rules", file.to_str().unwrap()], "").await;
    assert!(said.contains("SUCCESS"), "{said}");
}
