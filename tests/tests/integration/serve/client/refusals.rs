//! Services that are not there, or let nobody in.

use super::super::service::Service;
use super::super::{talker, write_agent};
use super::asked;
use crate::command_line::run;
use crate::support::Project;

/// Where nobody listens: a port that no service gets by chance.
const NOWHERE: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn where_there_is_no_service_the_command_says_so_and_ends_with_4() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    for words in [
        &["run", "talker", "hi"] as &[&str],
        &["chat", "talker"],
        &["agents"],
        &["agents", "restart", "talker"],
        &["tree"],
        &["tree", "--watch"],
        &["runs"],
        &["runs", "show", "abcdef"],
        &["approve", "abcdef"],
        &["answer", "abcdef", "text"],
    ] {
        let (code, stdout, stderr) = run(&project, &[&["--url", NOWHERE], words].concat()).await;
        assert_eq!((code, stdout.as_str()), (4, ""), "{words:?}: {stderr}");
        assert!(stderr.contains("error[no_service]") && stderr.contains("refused"), "{stderr}");
        assert!(stderr.contains("axon serve"), "{stderr}");
    }
    let words = ["--url", NOWHERE, "run", "talker", "hi", "--json"];
    let (code, stdout, _) = run(&project, &words).await;
    assert!(code == 4 && stdout.contains(r#""event":"rejected""#), "{stdout}");
    assert!(stdout.contains(r#""class":"no_service""#), "{stdout}");
    assert!(!project.path().join(".axon").exists(), "nothing is begun here in its place");
}

#[tokio::test]
async fn who_has_no_token_or_one_to_read_ends_with_5() {
    let mut project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    project.write("token", "all-0123456789abcdef\n");
    project.write("reader", "read-0123456789abcdef\n");
    project.write("wrong", "none-0123456789abcdef\n");
    project.write("broken", "none\r\nX-Evil: 1");
    let options = ["--token-file", "token", "--read-token-file", "reader"];
    let service = Service::start(&project, &options).await;
    for words in [&["agents"] as &[&str], &["--token-file", "wrong", "runs"]] {
        let (code, _, stderr) = asked(&project, &service, words).await;
        assert!(code == 5 && stderr.contains("error[unauthorized]"), "{code}: {stderr}");
        assert!(stderr.contains("--token-file") && !stderr.contains("0123456789"), "{stderr}");
    }
    let (code, _, stderr) = asked(&project, &service, &["--token-file", "broken", "runs"]).await;
    assert!(code == 3 && !stderr.contains("Evil"), "{code}: {stderr}");
    project.set("AXON_TOKEN_FILE", "reader");
    assert_eq!(asked(&project, &service, &["agents"]).await.0, 0);
    let (code, _, stderr) = asked(&project, &service, &["run", "talker", "hi"]).await;
    assert!(code == 5 && stderr.contains("error[read_only_token]"), "{code}: {stderr}");
    let words = ["--token-file", "token", "run", "talker", "hi"];
    assert_eq!(asked(&project, &service, &words).await.1, "hi\n");
}

#[tokio::test]
async fn what_works_on_this_machine_takes_no_service() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    for words in [
        &["validate"] as &[&str],
        &["doctor"],
        &["serve"],
        &["runs", "prune"],
        &["run", "talker", "hi", "--model", "test"],
        &["run", "talker", "hi", "--show-prompt"],
        &["run", "pkg.mod:agent", "hi"],
        &["agents", "show", "talker", "--toml"],
    ] {
        let (code, _, stderr) = run(&project, &[&["--url", NOWHERE], words].concat()).await;
        assert_eq!(code, 2, "{words:?}: {stderr}");
    }
    for url in ["nowhere", "https://127.0.0.1:1", "http://me:hunter2@127.0.0.1:1", "http://a?b=c"] {
        let (code, _, stderr) = run(&project, &["--url", url, "runs"]).await;
        assert!(code == 2 && stderr.contains("is no address of a service"), "{code}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

#[tokio::test]
async fn a_service_is_told_by_axon_toml_how_it_serves_and_flags_win() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    project.write("token", "all-0123456789abcdef\n");
    let settings = "[serve]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\ndrain = \"1s\"\n\
                    allowed_hosts = [\"axon.example\"]\n";
    project.write("agents/axon.toml", settings);
    let service = Service::typed(&project, &["serve", "--offline"]).await;
    let (code, _, _) = asked(&project, &service, &["agents"]).await;
    assert_eq!(code, 5, "the token of the file is asked for");
    let (code, stdout, stderr) =
        asked(&project, &service, &["--token-file", "token", "agents"]).await;
    assert!(code == 0 && stdout.starts_with("talker"), "{stderr}");
    let named = |host: &str| {
        service.get("/v1/agents").header("Host", host).bearer_auth("all-0123456789abcdef")
    };
    assert_eq!(named("axon.example").send().await.unwrap().status(), 200);
    assert_eq!(named("other.example").send().await.unwrap().status(), 403);
    assert_eq!(service.stop().await, 0);
    let service = Service::start(&project, &["--allowed-host", "other.example"]).await;
    let named = |host: &str| {
        service.get("/v1/agents").header("Host", host).bearer_auth("all-0123456789abcdef")
    };
    assert_eq!(named("axon.example").send().await.unwrap().status(), 403);
    assert_eq!(named("other.example").send().await.unwrap().status(), 200);
    for (line, message) in [
        ("listen = \"here\"", "axon.toml:2:10: serve.listen"),
        ("listne = \"127.0.0.1:0\"", "axon.toml:2:1: serve: unknown key `listne`; did you mean"),
        ("allowed_hosts = [\"a b\"]", "`a b` is no host"),
    ] {
        project.write("agents/axon.toml", &format!("[serve]\n{line}\n"));
        for words in [&["validate"] as &[&str], &["serve", "--offline", "--listen", "127.0.0.1:0"]]
        {
            let (code, _, stderr) = run(&project, words).await;
            assert!(code == 3 && stderr.contains(message), "{words:?} {code}: {stderr}");
        }
    }
    let (_, schema, _) = run(&project, &["schema", "config"]).await;
    assert!(schema.contains("\"metrics_listen\"") && schema.contains("\"allowed_origins\""));
}
