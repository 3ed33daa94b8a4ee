//! `cable serve`: the demo, and nodes that cannot start.

use std::fs;

use cable_client::{testing::Server, v1};

use crate::support::{Demo, code, run, stderr, stdout};

#[test]
fn a_node_that_cannot_start_never_reports_serving() {
    let dir = tempfile::tempdir().unwrap();
    let node = Demo::serve(dir.path(), "store");
    let address = node.endpoint.trim_start_matches("http://");
    for (flags, reason) in [
        (
            "--data store --listen 127.0.0.1:0 --ops-listen off".to_owned(),
            "another process has this store open",
        ),
        (format!("--data new --listen {address} --ops-listen off"), "set `server.listen` (flag --listen)"),
        (format!("--demo --listen {address} --ops-listen off"), "set `server.listen` (flag --listen)"),
        (
            format!("--data new --listen 127.0.0.1:0 --ops-listen {address}"),
            "set `server.ops_listen` (flag --ops-listen)",
        ),
    ] {
        let output = run(dir.path(), &format!("serve {flags}"));
        assert_eq!(code(&output), 1, "{flags}");
        assert!(stderr(&output).contains(reason), "{flags}: {}", stderr(&output));
        assert!(!stderr(&output).contains("serving"), "{flags}: {}", stderr(&output));
    }
    assert!(!dir.path().join("new").exists());
    assert_eq!(node.stop(), 0);
}

#[test]
fn the_commands_of_the_demo_work_and_it_leaves_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    for line in &demo.suggested {
        let output = run(dir.path(), line);
        assert_eq!(code(&output), 0, "{line}: {}", stderr(&output));
        assert!(!stdout(&output).is_empty(), "{line}");
    }
    assert_eq!(demo.stop(), 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_server_for_tests_serves_and_leaves_nothing() {
    let program = env!("CARGO_BIN_EXE_cable");
    let server = Server::builder().program(program).setting("server.drain_timeout", "1s").start().unwrap();
    let cable = server.client().unwrap();
    let mut article = v1::Article::default();
    (article.name, article.headline) = ("storm".into(), "Storm".into());
    cable.put(article).await.unwrap();
    assert_eq!(cable.article("storm").await.unwrap().headline, "Storm");
    let store = server.store();
    assert!(store.exists());
    drop(server);
    assert!(!store.exists());
    assert!(cable.status().await.is_err());
}

#[test]
fn a_server_for_tests_reports_why_it_did_not_start() {
    let program = env!("CARGO_BIN_EXE_cable");
    let error = Server::builder().program(program).setting("feed.max_open", "many").start().unwrap_err();
    assert!(error.to_string().contains("feed.max_open"), "{error}");
    let error = Server::builder().program(program).setting("no.such", "x").start().unwrap_err();
    assert!(error.to_string().contains("no.such"), "{error}");
}
