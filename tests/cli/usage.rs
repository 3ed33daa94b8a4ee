//! Help, wrong usage, completion scripts, and the errors and streams that all commands share.

use std::{io::pipe, process::Command};

use crate::support::{cable, code, run, stderr, stdout};

#[test]
fn help_documents_the_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "--help");
    assert_eq!(code(&output), 0);
    for line in ["Exit codes:", "  3  not found", "  5  the service is unavailable", "  6  access denied"] {
        assert!(stdout(&output).contains(line), "{line}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    for line in [
        "",
        "publish",
        "article",
        "article get",
        "article get a --path /b",
        "article ls --children",
        "article ls --after yesterday",
        "article ls --limit 0",
        "tag rm",
        "feed",
        "feed watch --after x",
        "feed watch --after 7 --snapshot",
        "feed watch --kind articles",
        "bench watch --watch-only --publish 3",
        "bench watch --duration 3s",
        "bench watch --prefix a/b",
        "bench watch --followers 0",
        "mirror",
        "article pending",
        "article rm a --reason expired",
        "import",
        "export --as xml",
        "status -o yaml",
        "export -o json",
        "verify --endpoint http://127.0.0.1:7190",
        "status --endpoint 127.0.0.1:7190",
        "status --endpoint ftp://127.0.0.1",
    ] {
        let output = run(dir.path(), line);
        assert_eq!(code(&output), 2, "{line}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty() && stdout(&output).is_empty(), "{line}");
    }
}

#[test]
fn an_unreachable_service_exits_with_5() {
    let dir = tempfile::tempdir().unwrap();
    // No server listens on port 1.
    for line in ["status", "article get a", "tag ls", "export"] {
        let output = run(dir.path(), &format!("{line} --endpoint http://127.0.0.1:1"));
        assert_eq!(code(&output), 5, "{line}: {}", stderr(&output));
        assert!(stderr(&output).starts_with("cable: UNAVAILABLE"), "{line}: {}", stderr(&output));
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn a_list_of_no_credentials_names_the_absent_file() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "token ls --data store");
    assert_eq!((code(&output), &*stdout(&output)), (0, ""));
    assert!(stderr(&output).contains("no credentials: store/credentials.toml does not exist"), "{output:?}");
    run(dir.path(), "token new web --role reader --data store");
    let output = run(dir.path(), "token ls --data store");
    assert!(stdout(&output).contains("web") && stderr(&output).is_empty(), "{output:?}");
}

/// A disk without room is played by a limit on the size of files.
#[test]
fn credentials_that_cannot_be_written_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_cable");
    let line = format!("trap '' XFSZ; ulimit -f 0; exec {program} token new web --role reader --data store");
    let output = Command::new("sh").args(["-c", &line]).current_dir(dir.path()).env_clear().output().unwrap();
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write store/credentials.toml"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(dir.path().join("store")).unwrap().count(), 0);
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let dir = tempfile::tempdir().unwrap();
    for line in ["config print", "completion bash"] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = cable(dir.path()).args(line.split_whitespace()).stdout(writer).output().unwrap();
        assert_eq!((code(&output), stderr(&output)), (0, String::new()), "{line}");
    }
}

#[test]
fn completion_scripts_are_printed_for_the_shells() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(dir.path(), &format!("completion {shell}"));
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("cable"), "{shell}");
    }
}
