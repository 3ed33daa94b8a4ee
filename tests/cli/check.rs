//! `cable check` and `cable version`.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::support::{Demo, cable, code, run, stderr, stdout};

#[test]
fn a_monitor_learns_the_state_from_one_line_and_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    for (line, exit_code, expected) in [
        ("check", 0, "CABLE OK - version 0.1.0, 41 articles, revision "),
        ("check --warn-free 60TiB", 1, "CABLE WARNING - "),
        ("check --crit-time 0s", 2, "CABLE CRITICAL - response after "),
        ("check --warn-overdue 0 --crit-overdue 0", 2, "CABLE CRITICAL - 0 scheduled changes overdue"),
    ] {
        let output = demo.run(dir.path(), line);
        assert_eq!(code(&output), exit_code, "{line}: {}{}", stdout(&output), stderr(&output));
        assert!(stdout(&output).starts_with(expected), "{line}: {}", stdout(&output));
        assert!(stdout(&output).contains(" | time=0.") && stdout(&output).lines().count() == 1);
        assert_eq!(stderr(&output), "");
    }
    let output = demo.run(dir.path(), "version");
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).starts_with("client  0.1.0 ("), "{}", stdout(&output));
    assert!(stdout(&output).ends_with("\nserver  0.1.0\n"), "{}", stdout(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn without_a_service_the_state_is_critical_and_invalid_usage_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = cable(dir.path()).args(["check", "--endpoint", &format!("http://{free}")]).output().unwrap();
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stdout(&output).starts_with("CABLE CRITICAL - UNAVAILABLE"), "{}", stdout(&output));
    for line in [
        "check --warn-free much",
        "check --no-such-option",
        "check --endpoint nowhere:x",
        "check --ops 17364",
        "check --ops localhost:0",
        "check --ops localhost:1 --warn-free 1GiB",
        "check --ops localhost:1 --crit-time 1s",
        "check --ready",
    ] {
        assert_eq!(code(&run(dir.path(), line)), 3, "{line}");
    }
    assert_eq!(code(&run(dir.path(), "check --help")), 0);
    let output =
        cable(dir.path()).args(["version", "--endpoint", &format!("http://{free}")]).output().unwrap();
    assert_eq!(code(&output), 5);
    assert!(stdout(&output).starts_with("client  "), "the client's version needs no service");
}

/// The health check of the container image.
#[test]
fn the_operations_address_alone_reports_readiness() {
    // No other test uses this loopback address.
    const OPS: &str = "127.71.9.1:7191";
    let dir = tempfile::tempdir().unwrap();
    let expect = |state: &str, exit_code: i32| {
        for attempt in 0.. {
            let output = cable(dir.path()).args(["check", "--ops", OPS]).output().unwrap();
            if stdout(&output).starts_with(state) && code(&output) == exit_code {
                assert_eq!((stdout(&output).lines().count(), stderr(&output).as_str()), (1, ""));
                break;
            }
            assert!(attempt < 600, "expected {state}, not {}{}", stdout(&output), stderr(&output));
            thread::sleep(Duration::from_millis(50));
        }
    };
    for (reserve, serving, exit_code, draining) in [
        ("0", "CABLE OK - ready\n", 0, "CABLE CRITICAL - not ready; draining\n"),
        (
            "60TiB",
            "CABLE WARNING - ready; disk_full\n",
            1,
            "CABLE CRITICAL - not ready; draining; disk_full\n",
        ),
    ] {
        let mut node = cable(dir.path())
            .args(["serve", "--data", "data", "--listen", "127.71.9.1:0", "--ops-listen", OPS])
            .env("CABLE__STORE__RESERVE_BYTES", reserve)
            .env("CABLE__SERVER__LAME_DUCK", "60s")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        expect(serving, exit_code);
        let ready = cable(dir.path()).args(["check", "--ops", OPS, "--ready"]).output().unwrap();
        assert!(code(&ready) == 0 && stdout(&ready).starts_with("CABLE OK - ready"), "{}", stdout(&ready));
        let signal = || Command::new("kill").args(["-TERM", &node.id().to_string()]).status().unwrap();
        assert!(signal().success());
        expect(draining, 2);
        assert!(signal().success(), "the second signal ends the process");
        node.wait().unwrap();
    }
    expect("CABLE CRITICAL - 127.71.9.1:7191: ", 2);
}
