//! `cable serve`: the demo, and nodes that cannot start.

use std::{fs, net::TcpListener, os::fd::OwnedFd, process::Command};

use cable_client::{testing::Server, v1};

use crate::support::{Demo, cable, code, run, stderr, stdout};

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

/// An event that an operator does not notice must not open a node to every caller: a lost file, or a restore without it.
#[test]
fn a_node_whose_credentials_are_lost_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(code(&run(dir, "token new web --role admin --data store")), 0);
    assert_eq!(Demo::serve(dir, "store").stop(), 0);
    assert_eq!(code(&run(dir, "backup --data store --to backup")), 0);
    let restored = run(dir, "restore --from backup --to restored");
    assert!(stderr(&restored).contains("copy credentials.toml"), "{}", stderr(&restored));
    fs::rename(dir.join("store/credentials.toml"), dir.join("moved")).unwrap();
    for data in ["store", "restored"] {
        let refused = run(dir, &format!("serve --data {data} --listen 127.0.0.1:0 --ops-listen off"));
        assert_eq!(code(&refused), 1, "{}", stderr(&refused));
        for part in
            [&format!("{data}/credentials.toml: the file is missing"), "credentials.used", "`auth.anonymous`"]
        {
            assert!(stderr(&refused).contains(part), "{part}: {}", stderr(&refused));
        }
        fs::copy(dir.join("moved"), dir.join(data).join("credentials.toml")).unwrap();
        let node = Demo::serve(dir, data);
        assert_eq!(code(&node.run(dir, "status")), 6, "{data}");
        assert_eq!(node.stop(), 0);
    }
    for file in ["credentials.toml", "credentials.used"] {
        fs::remove_file(dir.join("store").join(file)).unwrap();
    }
    let node = Demo::serve(dir, "store");
    assert_eq!(code(&node.run(dir, "status")), 0, "the operator has opened it");
    assert_eq!(node.stop(), 0);
}

#[test]
fn the_demo_refuses_tls_before_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let line = ["serve", "--demo", "--listen", "127.0.0.1:0", "--ops-listen", "off"];
    let tls = [("CABLE__TLS__CERTIFICATE", "node.pem"), ("CABLE__TLS__KEY", "node.key")];
    let output = cable(dir.path()).args(line).envs(tls).output().unwrap();
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("the demo is served without TLS"), "{}", stderr(&output));
}

#[test]
fn a_store_is_locked_even_without_its_lock_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let node = Demo::serve(dir, "store");
    let second = || stderr(&run(dir, "serve --data store --listen 127.0.0.1:0 --ops-listen off"));
    let by_name = format!("another process has this store open (process {}): stop it", node.process.id());
    assert!(second().contains(&by_name), "{}", second());
    fs::remove_file(dir.join("store/cable.lock")).unwrap();
    assert!(second().contains("another process has this store open: stop it"), "{}", second());
    assert_eq!(code(&node.run(dir, "status")), 0);
    assert_eq!(code(&run(dir, "verify --data store")), 0);
    assert_eq!(node.stop(), 0);
}

#[test]
fn a_link_to_no_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("store")).unwrap();
    let output = run(dir.path(), "serve --data store --listen 127.0.0.1:0 --ops-listen off");
    assert!(
        stderr(&output).contains("store: a link to a directory that does not exist"),
        "{}",
        stderr(&output)
    );
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

#[test]
fn a_socket_from_systemd_must_be_the_one_of_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    for (descriptors, listen, reason) in [
        (1, "127.0.0.1:1", "but `server.listen` is 127.0.0.1:1: set both to the same address"),
        (2, "127.0.0.1:1", "expected one TCP socket from systemd, not 2"),
        (1, "0.0.0.0:0", "set `server.plaintext = true`"),
    ] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let script = "exec 3<&0 4<&0; export LISTEN_PID=$$; exec \"$0\" serve --ops-listen off";
        let output = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_cable")])
            .current_dir(dir.path())
            .env_clear()
            .env("LISTEN_FDS", descriptors.to_string())
            .env("CABLE__SERVER__LISTEN", listen)
            .stdin(OwnedFd::from(socket))
            .output()
            .unwrap();
        assert_eq!(code(&output), 2, "{listen}");
        assert!(stderr(&output).contains(reason), "{listen}: {}", stderr(&output));
    }
    assert!(!dir.path().join("cable-data").exists());
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
