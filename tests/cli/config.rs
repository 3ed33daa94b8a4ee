//! `cable config`: the origin of each setting, and the remedy for an invalid one.

use std::fs;

use crate::support::{cable, code, run, stderr, stdout};

#[test]
fn settings_come_from_the_local_file_and_show_their_origin() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cable.toml"), "[cache]\nmax_bytes = \"1GiB\"\n").unwrap();
    let output = cable(dir.path())
        .args(["config", "print", "--origin"])
        .env("CABLE__LOG__LEVEL", "warn")
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    for line in [
        "max_bytes = \"1GiB\"  # cable.toml:2",
        "level = \"warn\"  # environment variable CABLE__LOG__LEVEL",
        "listen = \"127.0.0.1:7190\"  # default",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert_eq!(code(&run(dir.path(), "config check")), 0);
}

/// Settings that are valid, with which a node cannot start.
#[test]
fn files_that_settings_name_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    fs::write(dir.path().join("broken.toml"), "\n[[credential]]\nid = \n").unwrap();
    for (text, want) in [
        (
            "[auth]\ncredentials = 'none.toml'",
            "none.toml: there is no such file, but `auth.credentials` names it",
        ),
        ("[auth]\ncredentials = 'broken.toml'", "broken.toml: line 3: "),
        ("[tls]\ncertificate = 'none.pem'\nkey = 'none.key'", "`tls.certificate` (none.pem)"),
        ("[tls]\ncertificate = 'empty'\nkey = 'none.key'", "`tls.key` (none.key)"),
        ("[audit]\nfile = 'none/audit.log'", "cannot open the audit log none/audit.log"),
        ("[audit]\nfile = 'empty/audit.log'", "cannot open the audit log empty/audit.log"),
    ] {
        fs::write(dir.path().join("own.toml"), text).unwrap();
        for command in ["config check", "serve --listen 127.0.0.1:0 --ops-listen off --data data"] {
            let output = run(dir.path(), &format!("{command} --config own.toml"));
            assert_eq!(code(&output), 1, "{command} with {text}: {}", stderr(&output));
            assert!(stderr(&output).contains(want), "{command} with {text}: {}", stderr(&output));
        }
        assert!(!dir.path().join("data/cable.db").exists());
    }
    fs::write(dir.path().join("own.toml"), "[auth]\ncredentials = 'none.toml'\n[audit]\nfile = 'audit.log'")
        .unwrap();
    assert_eq!(code(&run(dir.path(), "token new web --role reader --config own.toml")), 0);
    assert_eq!(code(&run(dir.path(), "config check --config own.toml")), 0);
    assert!(!dir.path().join("audit.log").exists());
}

#[test]
fn invalid_settings_exit_with_2_and_name_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.toml");
    for (text, want) in [
        ("[server]\nlisten = '0.0.0.0:7190'", "set `server.plaintext = true`"),
        (
            "[server]\nlissen = ''",
            "own.toml:2: unknown setting `server.lissen`; did you mean `server.listen`?",
        ),
        ("[server", "own.toml:1: "),
    ] {
        fs::write(&file, text).unwrap();
        let output = run(dir.path(), "config check --config own.toml");
        assert_eq!(code(&output), 2, "{text}");
        assert!(stderr(&output).contains(want), "{text}: {}", stderr(&output));
    }
    fs::write(&file, "[server]\nlissen = ''\n[store]\nreaders = 0\n").unwrap();
    for command in ["config check --config own.toml", "serve --config own.toml"] {
        let output = run(dir.path(), command);
        assert_eq!(code(&output), 2, "{command}");
        let lines = stderr(&output).lines().filter(|line| line.contains("own.toml:")).count();
        assert_eq!(lines, 2, "all errors are reported: {}", stderr(&output));
    }
    let output = run(dir.path(), "config check --config none.toml");
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).contains("cannot read the settings file none.toml: No such file"),
        "{}",
        stderr(&output)
    );
    for (variable, hint) in [
        ("CABLE__SERVER__LISTN", "unknown setting `server.listn`; did you mean `CABLE__SERVER__LISTEN`?\n"),
        (
            "CABLE__SERVER__DRAIN",
            "unknown setting `server.drain`; did you mean `CABLE__SERVER__DRAIN_TIMEOUT`?\n",
        ),
        ("CABLE__SERVER__PORT", "unknown setting `server.port`\n"),
        ("CABLE__TLS__CERT_FILE", "unknown setting `tls.cert_file`\n"),
    ] {
        let output = cable(dir.path()).args(["config", "check"]).env(variable, "1").output().unwrap();
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).ends_with(hint), "{variable}: {}", stderr(&output));
    }
}
