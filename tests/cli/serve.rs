//! `cable serve`: the demo, and nodes that cannot start.

use std::fs;

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
