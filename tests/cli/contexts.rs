//! Endpoints, TLS, tokens and contexts of commands, with a service that records calls.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use crate::{
    recorder::{Certificates, Recorder},
    support::{cable, code, stderr, stdout},
};

const CANARY: &str = "cable_7f3a_canary-of-the-token";

/// The codes of gRPC.
const NOT_FOUND: u8 = 5;
const PERMISSION_DENIED: u8 = 7;
const UNAUTHENTICATED: u8 = 16;

/// Runs a line with these variables, and the file of contexts in `dir`. No output may contain the token.
fn run(dir: &Path, line: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = cable(dir);
    command.args(line.split_whitespace()).env("HOME", dir).envs(variables.iter().copied());
    let output = command.output().unwrap();
    assert!(!(stdout(&output) + &stderr(&output)).contains("canary"), "{line}: {output:?}");
    output
}

fn succeed(dir: &Path, line: &str) -> String {
    let output = run(dir, line, &[]);
    assert_eq!(code(&output), 0, "{line}: {}", stderr(&output));
    stdout(&output)
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

/// Every command that calls a service, by its kind of call.
const COMMANDS: [&str; 14] = [
    "status",
    "article get a",
    "article ls",
    "article put a.json",
    "article rm a --reason deleted",
    "article pending ls",
    "tag get a",
    "tag ls",
    "tag put b.json",
    "collection get a",
    "feed watch",
    "mirror --once mirror.jsonl",
    "export",
    "bench get",
];

#[test]
fn every_command_sends_the_token_and_exits_with_6_if_denied() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "token", &format!("{CANARY}\n"));
    write(dir.path(), "a.json", r#"{"name": "a", "headline": "A"}"#);
    write(dir.path(), "b.json", r#"{"name": "b", "displayName": "B"}"#);
    for status in [UNAUTHENTICATED, PERMISSION_DENIED] {
        let service = Recorder::start(Some(status), None);
        let endpoint = service.url("http");
        for line in COMMANDS {
            let output = run(dir.path(), &format!("{line} --endpoint {endpoint} --token-file token"), &[]);
            let text = stderr(&output);
            assert_eq!(code(&output), 6, "{line}: {text}");
            let name = if status == UNAUTHENTICATED { "UNAUTHENTICATED" } else { "PERMISSION_DENIED" };
            assert!(text.contains(name), "{line}: {text}");
            let calls = service.take();
            assert!(!calls.is_empty(), "{line}");
            for call in calls {
                assert_eq!(call.token.as_deref(), Some(&*format!("Bearer {CANARY}")), "{line}");
            }
        }
        let output = run(dir.path(), &format!("status --endpoint {endpoint}"), &[("CABLE_TOKEN", CANARY)]);
        assert_eq!(
            stderr(&output).contains("--token-file"),
            status == UNAUTHENTICATED,
            "{}",
            stderr(&output)
        );
        assert_eq!(service.take()[0].token.as_deref(), Some(&*format!("Bearer {CANARY}")));
    }
}

#[test]
fn a_token_as_an_argument_is_refused_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let lines = COMMANDS.map(|line| format!("{line} --token {CANARY}"));
    let more = [
        format!("status --token={CANARY}"),
        format!("--token {CANARY} status"),
        "status --token".to_owned(),
        format!("context add a --endpoint http://127.0.0.1:1 --token {CANARY}"),
        format!("article --token {CANARY} get a"),
    ];
    for line in lines.into_iter().chain(more) {
        let output = run(dir.path(), &line, &[("CABLE_ENDPOINTS", "http://127.0.0.1:1")]);
        assert_eq!(code(&output), 2, "{line}: {}", stderr(&output));
        if !line.starts_with("--token") {
            assert!(stderr(&output).contains("CABLE_TOKEN_FILE"), "{line}: {}", stderr(&output));
        }
    }
}

#[test]
fn a_token_is_not_sent_over_plaintext_to_another_machine() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "token", CANARY);
    let line = "status --endpoint http://192.0.2.1:1 --token-file token";
    let output = run(dir.path(), line, &[]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("without TLS"), "{}", stderr(&output));
    let output = run(dir.path(), &format!("{line} --allow-plaintext-token --timeout 100ms"), &[]);
    assert_eq!(code(&output), 5, "{}", stderr(&output));
}

#[test]
fn a_timeout_applies_to_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let service = Recorder::start(None, None);
    let endpoint = service.url("http");
    for (line, variables) in [
        ("status --timeout 200ms", &[][..]),
        ("status", &[("CABLE_TIMEOUT", "200ms")]),
        ("article get a --timeout 200ms", &[("CABLE_TIMEOUT", "1h")]),
        ("article ls --timeout 200ms", &[]),
    ] {
        let started = Instant::now();
        let output = run(dir.path(), &format!("{line} --endpoint {endpoint}"), variables);
        assert_eq!(code(&output), 5, "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains("DEADLINE_EXCEEDED"), "{line}: {}", stderr(&output));
        assert!(started.elapsed() < Duration::from_secs(8), "{line}: {:?}", started.elapsed());
        assert!(service.take()[0].has_deadline, "{line}");
    }
    for timeout in ["0s", "2h", "soon", "-1s"] {
        let output = run(dir.path(), &format!("status --timeout={timeout} --endpoint {endpoint}"), &[]);
        assert_eq!(code(&output), 2, "{timeout}");
    }
}

#[test]
fn commands_use_tls_with_a_ca_and_a_client_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::new();
    write(dir.path(), "ca.pem", &certificates.ca);
    write(dir.path(), "client.pem", &certificates.certificate);
    write(dir.path(), "client.key", &certificates.key);
    write(dir.path(), "token", CANARY);
    let files = "--ca ca.pem --client-cert client.pem --client-key client.key";
    let variables =
        [("CABLE_CA", "ca.pem"), ("CABLE_CLIENT_CERT", "client.pem"), ("CABLE_CLIENT_KEY", "client.key")];
    for requires_client in [false, true] {
        let service = Recorder::start(Some(NOT_FOUND), Some(certificates.server(requires_client)));
        let line = format!("article get a --endpoint {} --token-file token", service.url("https"));
        let by_option = run(dir.path(), &format!("{line} {files}"), &[]);
        assert_eq!(code(&by_option), 3, "{}", stderr(&by_option));
        assert_eq!(code(&run(dir.path(), &line, &variables)), 3);
        succeed(
            dir.path(),
            &format!(
                "context add a --replace --endpoint {} {files} --token-file token",
                service.url("https")
            ),
        );
        assert_eq!(code(&run(dir.path(), "article get a --context a", &[])), 3);
        assert_eq!(service.take().len(), 3);
        let untrusted = run(dir.path(), &line, &[("SSL_CERT_FILE", "ca.pem")]);
        assert_eq!(code(&untrusted), if requires_client { 5 } else { 3 }, "{}", stderr(&untrusted));
        let by_address = line.replace("localhost", "127.0.0.1");
        let other_name = run(dir.path(), &format!("{by_address} {files}"), &[]);
        assert!(
            stderr(&other_name).contains("certificate is for localhost, not for 127.0.0.1"),
            "{}",
            stderr(&other_name)
        );
        assert_eq!(code(&run(dir.path(), &format!("{by_address} {files} --domain-name localhost"), &[])), 3);
    }
    for (line, problem) in [
        ("--client-cert client.pem", "--client-cert and --client-key: set both or neither"),
        ("--client-key client.key", "--client-cert and --client-key: set both or neither"),
        ("--ca none.pem", "ca none.pem: No such file"),
        ("--ca client.key", "ca client.key: no certificate in PEM form"),
        ("--token-file none", "token file none: No such file"),
        ("--token-file /dev/null", "token file /dev/null: empty"),
        ("--token-file /dev/zero", "token file /dev/zero: longer than 4096 bytes"),
    ] {
        let output = run(dir.path(), &format!("status --endpoint https://localhost:1 {line}"), &[]);
        assert_eq!(code(&output), 2, "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(problem), "{line}: {}", stderr(&output));
    }
}

#[test]
fn contexts_are_added_selected_printed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "token", CANARY);
    let one = Recorder::start(Some(NOT_FOUND), None);
    let two = Recorder::start(Some(NOT_FOUND), None);
    assert_eq!(succeed(dir, "context ls"), "");
    succeed(dir, &format!("context add one --endpoint {} --token-file token --use", one.url("http")));
    succeed(dir, &format!("context add two --endpoint {}", two.url("http")));
    let reached = |line: &str, variables: &[(&str, &str)]| {
        assert_eq!(code(&run(dir, line, variables)), 3, "{line}");
        let calls = (one.take(), two.take());
        match (&calls.0[..], &calls.1[..]) {
            ([call], []) => ("one", call.token.is_some()),
            ([], [call]) => ("two", call.token.is_some()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reached("article get a", &[]), ("one", true));
    assert_eq!(reached("article get a --context two", &[]), ("two", false));
    assert_eq!(reached("article get a", &[("CABLE_CONTEXT", "two")]), ("two", false));
    // The token of the current context belongs to its own service.
    let endpoint = two.url("http");
    assert_eq!(reached(&format!("article get a --endpoint {endpoint}"), &[]), ("two", false));
    assert_eq!(reached("article get a", &[("CABLE_ENDPOINTS", &endpoint)]), ("two", false));
    succeed(dir, "context use two");
    assert_eq!(reached("article get a", &[]), ("two", false));

    let lines = succeed(dir, "context ls");
    let all: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((all[0]["name"].as_str(), all[0]["current"].as_bool()), (Some("one"), Some(false)));
    assert_eq!((all[1]["name"].as_str(), all[1]["current"].as_bool()), (Some("two"), Some(true)));
    let shown: serde_json::Value = serde_json::from_str(&succeed(dir, "context show one -o json")).unwrap();
    assert_eq!(shown["token_file"].as_str(), dir.join("token").to_str(), "a relative path is made absolute");
    let table = succeed(dir, "context ls -o table");
    assert!(table.lines().next().unwrap().starts_with("CURRENT") && table.lines().count() == 3, "{table}");
    assert_eq!(succeed(dir, "context ls -o id"), "one\ntwo\n");
    assert!(succeed(dir, "context show -o table").contains("two"));

    succeed(dir, "context rm two");
    assert_eq!(code(&run(dir, "context show", &[])), 2);
    succeed(dir, "context use one");
    succeed(dir, "context use --none");
    for (line, exit_code, problem) in [
        ("context show elsewhere", 2, "no context elsewhere: there are one"),
        ("context use ones", 2, "no context ones: did you mean one?"),
        ("context rm two", 2, "no context two"),
        ("status --context two", 2, "no context two"),
        ("context add one --endpoint http://127.0.0.1:1", 4, "add --replace"),
        ("context add b --endpoint 127.0.0.1:1", 2, "must start with"),
        ("context add b --endpoint http://me:canary@a:1", 2, "user information"),
        ("context add a/b --endpoint http://127.0.0.1:1", 2, "name of a context"),
        ("context add b --endpoint http://127.0.0.1:1 --token-file none", 2, "token file"),
        ("context add b --endpoint http://192.0.2.1:1 --token-file token", 2, "without TLS"),
    ] {
        let output = run(dir, line, &[]);
        assert_eq!(code(&output), exit_code, "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(problem), "{line}: {}", stderr(&output));
    }
    let file = dir.join(".config/cable/config.toml");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert!(!fs::read_to_string(&file).unwrap().contains("canary"));
}

#[test]
fn a_broken_file_of_contexts_names_its_line_where_it_matters() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "own.toml", "[contexts.a]\nendpoint = \"http://127.0.0.1:1\"\ntokenfile = \"x\"\n");
    let own = [("CABLE_CLIENT_CONFIG", "own.toml")];
    for line in ["status", "context ls", "context use a", "status --context a", "context rm a"] {
        let output = run(dir, line, &own);
        assert_eq!(code(&output), 2, "{line}");
        let expected = "own.toml:3: unknown key `tokenfile`; did you mean `token_file`?";
        assert!(stderr(&output).contains(expected), "{line}: {}", stderr(&output));
    }
    let output = run(dir, "status --endpoint http://127.0.0.1:1", &own);
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert!(fs::read_to_string(dir.join("own.toml")).unwrap().contains("tokenfile"), "the file is unchanged");
}

#[test]
fn commands_that_change_contexts_at_once_lose_none() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // A link to the file stays one.
    fs::create_dir(dir.join("dotfiles")).unwrap();
    write(dir, "dotfiles/contexts.toml", "");
    std::os::unix::fs::symlink("dotfiles/contexts.toml", dir.join("own.toml")).unwrap();
    let own = [("CABLE_CLIENT_CONFIG", "own.toml")];
    thread::scope(|scope| {
        for number in 0..12 {
            scope.spawn(move || {
                let line = format!("context add c{number} --endpoint http://127.0.0.1:{} --use", number + 1);
                let output = run(dir, &line, &own);
                assert_eq!(code(&output), 0, "{}", stderr(&output));
            });
        }
    });
    assert_eq!(stdout(&run(dir, "context ls -o id", &own)).lines().count(), 12);
    assert!(fs::symlink_metadata(dir.join("own.toml")).unwrap().is_symlink());
    assert_eq!(fs::read_dir(dir.join("dotfiles")).unwrap().count(), 1);
}
