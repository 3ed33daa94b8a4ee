//! `cable check` and `cable version`.

use std::net::TcpListener;

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
    for line in ["check --warn-free much", "check --no-such-option", "check --endpoint nowhere:x"] {
        assert_eq!(code(&run(dir.path(), line)), 3, "{line}");
    }
    assert_eq!(code(&run(dir.path(), "check --help")), 0);
    let output =
        cable(dir.path()).args(["version", "--endpoint", &format!("http://{free}")]).output().unwrap();
    assert_eq!(code(&output), 5);
    assert!(stdout(&output).starts_with("client  "), "the client's version needs no service");
}
