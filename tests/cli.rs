//! The program as its users meet it: what it prints, where, and how it ends.

use std::{
    fs,
    io::pipe,
    path::Path,
    process::{Command, Output},
};

/// The program in a directory of its own, without settings from outside.
fn cable(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cable"));
    command.current_dir(dir).env_clear();
    command
}

fn run(dir: &Path, line: &str) -> Output {
    cable(dir).args(line.split_whitespace()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn help_documents_the_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "--help");
    assert_eq!(code(&output), 0);
    for line in ["Exit codes:", "  3  there is nothing under that name", "  5  the service is unavailable"] {
        assert!(printed(&output).contains(line), "{line}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
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
        "import",
        "export --format xml",
        "status -o yaml",
        "status --endpoint 127.0.0.1:7190",
        "status --endpoint ftp://127.0.0.1",
    ] {
        let output = run(dir.path(), line);
        assert_eq!(code(&output), 2, "{line}: {}", told(&output));
        assert!(!told(&output).is_empty() && printed(&output).is_empty(), "{line}");
    }
}

#[test]
fn settings_come_from_the_file_in_the_directory_and_say_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cable.toml"), "[cache]\nbytes = \"1GiB\"\n").unwrap();
    let output = cable(dir.path())
        .args(["config", "print", "--origin"])
        .env("CABLE__LOG__LEVEL", "warn")
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", told(&output));
    let text = printed(&output);
    for line in [
        "bytes = \"1GiB\"  # cable.toml:2",
        "level = \"warn\"  # environment variable CABLE__LOG__LEVEL",
        "listen = \"127.0.0.1:7190\"  # default",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert_eq!(code(&run(dir.path(), "config check")), 0);
}

#[test]
fn wrong_settings_end_with_2_and_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.toml");
    for (text, want) in [
        ("[server]\nlisten = '0.0.0.0:7190'", "set `server.plaintext = true`"),
        (
            "[server]\nlissen = ''",
            "own.toml:2: there is no setting `server.lissen`; the nearest is `server.listen`",
        ),
        ("[server", "own.toml:1: "),
    ] {
        fs::write(&file, text).unwrap();
        let output = run(dir.path(), "config check --config own.toml");
        assert_eq!(code(&output), 2, "{text}");
        assert!(told(&output).contains(want), "{text}: {}", told(&output));
    }
    let output = run(dir.path(), "config check --config none.toml");
    assert_eq!(code(&output), 2);
    assert!(
        told(&output).contains("cannot read the settings file none.toml: No such file"),
        "{}",
        told(&output)
    );
    let output =
        cable(dir.path()).args(["config", "check"]).env("CABLE__SERVER__PORT", "1").output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(told(&output).contains("the nearest is `CABLE__SERVER__"), "{}", told(&output));
}

#[test]
fn a_service_that_is_not_there_ends_with_5() {
    let dir = tempfile::tempdir().unwrap();
    // Port 1 is nobody's.
    for line in ["status", "article get a", "tag ls", "export"] {
        let output = run(dir.path(), &format!("{line} --endpoint http://127.0.0.1:1"));
        assert_eq!(code(&output), 5, "{line}: {}", told(&output));
        assert!(told(&output).starts_with("cable: UNAVAILABLE"), "{line}: {}", told(&output));
        assert!(printed(&output).is_empty());
    }
}

#[test]
fn what_is_not_the_json_of_an_article_is_refused_before_any_call() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.json"), "{\"name\": \"articles/a\",\n \"headlin\": \"Storm\"}").unwrap();
    let output = run(dir.path(), "article put a.json --endpoint http://127.0.0.1:1");
    assert_eq!(code(&output), 2, "{}", told(&output));
    assert!(told(&output).contains("headlin") && told(&output).contains("line 2"), "{}", told(&output));
    let output = run(dir.path(), "article put none.json");
    assert_eq!(code(&output), 1, "{}", told(&output));
    assert!(told(&output).contains("none.json"), "{}", told(&output));
}

#[test]
fn a_failed_export_leaves_no_file_and_touches_none() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("all.jsonl"), "before\n").unwrap();
    let output = run(dir.path(), "export --output all.jsonl --endpoint http://127.0.0.1:1");
    assert_eq!(code(&output), 5);
    assert_eq!(fs::read_to_string(dir.path().join("all.jsonl")).unwrap(), "before\n");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let dir = tempfile::tempdir().unwrap();
    for line in ["config print", "completion bash"] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = cable(dir.path()).args(line.split_whitespace()).stdout(writer).output().unwrap();
        assert_eq!((code(&output), told(&output)), (0, String::new()), "{line}");
    }
}

#[test]
fn completion_scripts_are_printed_for_the_shells() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(dir.path(), &format!("completion {shell}"));
        assert_eq!(code(&output), 0);
        assert!(printed(&output).contains("cable"), "{shell}");
    }
}
