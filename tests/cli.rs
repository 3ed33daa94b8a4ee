//! The program from the user's side: its output, the stream that it uses, and its exit code.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::{
    fs,
    io::{BufRead as _, BufReader, pipe},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use rusqlite::Connection;

/// Returns the program in a directory of its own, without settings from outside.
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

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn help_documents_the_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "--help");
    assert_eq!(code(&output), 0);
    for line in ["Exit codes:", "  3  not found", "  5  the service is unavailable"] {
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
    let output = run(dir.path(), "config check --config none.toml");
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).contains("cannot read the settings file none.toml: No such file"),
        "{}",
        stderr(&output)
    );
    let output =
        cable(dir.path()).args(["config", "check"]).env("CABLE__SERVER__PORT", "1").output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("did you mean `CABLE__SERVER__"), "{}", stderr(&output));
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
fn invalid_article_json_is_refused_before_any_call() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.json"), "{\"name\": \"articles/a\",\n \"headlin\": \"Storm\"}").unwrap();
    let output = run(dir.path(), "article put a.json --endpoint http://127.0.0.1:1");
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("headlin") && stderr(&output).contains("line 2"), "{}", stderr(&output));
    let output = run(dir.path(), "article put none.json");
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("none.json"), "{}", stderr(&output));
}

#[test]
fn a_failed_export_neither_creates_nor_changes_a_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("all.jsonl"), "before\n").unwrap();
    let output = run(dir.path(), "export --to all.jsonl --endpoint http://127.0.0.1:1");
    assert_eq!(code(&output), 5);
    assert_eq!(fs::read_to_string(dir.path().join("all.jsonl")).unwrap(), "before\n");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
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

/// A `cable serve --demo` in a directory of its own. If a test fails, it is killed at the end.
struct Demo {
    process: Child,
    endpoint: String,
    /// The commands that the demo suggests, without the program's name.
    suggested: Vec<String>,
}

impl Demo {
    fn start(dir: &Path) -> Self {
        let line = "serve --demo --listen 127.0.0.1:0 --ops-listen off";
        let mut command = cable(dir);
        let command = command.args(line.split_whitespace()).env("TMPDIR", dir).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let suggested: Vec<String> = lines.filter_map(suggested_command).take(3).collect();
        let endpoint = suggested[0].rsplit(' ').next().unwrap().to_owned();
        Demo { process, endpoint, suggested }
    }

    /// Starts a node on an existing store.
    fn serve(dir: &Path, data: &str) -> Self {
        let line = format!("serve --data {data} --listen 127.0.0.1:0 --ops-listen off");
        let mut process = cable(dir).args(line.split_whitespace()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address = |line: String| {
            let (_, address) = line.split_once("address=")?;
            Some(address.split_whitespace().next()?.to_owned())
        };
        let endpoint = format!("http://{}", log.find_map(address).unwrap());
        // The rest of its log is not used, and must not block it.
        std::thread::spawn(move || log.for_each(drop));
        Demo { process, endpoint, suggested: Vec::new() }
    }

    fn run(&self, dir: &Path, line: &str) -> Output {
        cable(dir).args(line.split_whitespace()).env("CABLE_ENDPOINTS", &self.endpoint).output().unwrap()
    }

    fn stop(mut self) -> i32 {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _already_exited = self.process.kill();
    }
}

fn suggested_command(line: String) -> Option<String> {
    let command = line.strip_prefix("  ")?;
    Some(command.split_once(' ')?.1.to_owned())
}

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

#[test]
fn a_missing_name_exits_with_3_and_a_conflict_with_4() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let tag = demo.run(dir.path(), "tag get russia -o json");
    fs::write(dir.path().join("tag.json"), &tag.stdout).unwrap();
    let article = stdout(&demo.run(dir.path(), "article get station-lamp-23 -o json"));
    fs::write(dir.path().join("copy.json"), article.replace("articles/station-lamp-23", "articles/copy"))
        .unwrap();
    for (line, exit_code, prefix) in [
        ("tag put tag.json", 0, ""),
        ("tag put tag.json --if-absent", 4, "cable: ALREADY_EXISTS NAME_EXISTS: "),
        ("tag put tag.json --etag 00000000-1", 4, "cable: ABORTED ETAG_MISMATCH: "),
        ("article put copy.json", 4, "cable: ALREADY_EXISTS PATH_TAKEN: "),
        ("article rm station-lamp-23 --moved-to murmansk-pilots-wait", 0, ""),
        ("article get station-lamp-23", 3, "cable: NOT_FOUND ARTICLE_MOVED: "),
        ("article put copy.json", 0, ""),
        ("article get none", 3, "cable: NOT_FOUND ARTICLE_NOT_FOUND: "),
        ("article get --path /none", 3, "cable: NOT_FOUND ARTICLE_NOT_FOUND: "),
        ("tag rm none", 3, "cable: NOT_FOUND NAME_NOT_FOUND: "),
        ("article get a!b", 1, "cable: INVALID_ARGUMENT FIELD_INVALID: "),
    ] {
        let output = demo.run(dir.path(), line);
        assert_eq!(code(&output), exit_code, "{line}: {}", stderr(&output));
        assert!(stderr(&output).starts_with(prefix), "{line}: {}", stderr(&output));
    }
}

#[test]
fn articles_are_listed_by_filter_and_printed_in_each_format() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let ids = |line: &str| stdout(&demo.run(dir.path(), line)).lines().map(str::to_owned).collect::<Vec<_>>();
    let russia = ids("article stream --tag russia -o id");
    assert!(russia.len() > 5 && russia.contains(&"station-lamp-23".to_owned()), "{russia:?}");
    assert_eq!(ids("article ls --tag russia -o id --limit 3"), russia[..3]);
    let without = ids("article stream --tag russia --no-tag shipping -o id");
    assert!(!without.is_empty() && without.len() < russia.len());
    let html = stdout(&demo.run(dir.path(), "article get station-lamp-23 --body html"));
    assert!(html.starts_with("<p>"), "{html}");
    let json = stdout(&demo.run(dir.path(), "article get station-lamp-23 --body text -o json"));
    assert!(json.contains("\"renderedBody\"") && !json.contains("<p>"), "{json}");
    let path = "article get --path /world/2026/11/station-lamp-23 -o id";
    assert_eq!(ids(path), ["station-lamp-23"]);
}

#[test]
fn an_export_imported_elsewhere_has_the_same_digest() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let digest = |demo: &Demo| {
        let status = stdout(&demo.run(dir.path(), "status -o json"));
        status.lines().find(|line| line.contains("contentDigest")).unwrap().to_owned()
    };
    demo.run(dir.path(), "article rm eel-survey");
    for (format, extra) in [("jsonl", ""), ("binary", " --as binary")] {
        let output = demo.run(dir.path(), &format!("export --to all{extra}"));
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let other = Demo::start(dir.path());
        assert_ne!(digest(&other), digest(&demo));
        let output = other.run(dir.path(), &format!("import {format} all"));
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(digest(&other), digest(&demo), "{format}");
    }
}

#[test]
fn an_import_reports_refused_records_and_writes_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let lines = "{\"tag\":{\"name\":\"tags/new\",\"displayName\":\"New\"}}\n{\"tag\":{\"name\":\"tags/bad\"}}\n{\"tug\":1}\n";
    fs::write(dir.path().join("tags.jsonl"), lines).unwrap();
    let output = demo.run(dir.path(), "import jsonl tags.jsonl --report report.jsonl");
    assert_eq!(code(&output), 1);
    assert_eq!(stderr(&output), "cable: 2 items failed or were refused\n");
    let report = fs::read_to_string(dir.path().join("report.jsonl")).unwrap();
    assert_eq!(report.lines().count(), 2);
    assert!(report.contains("\"tags/bad\"") && report.contains("\"line 3\""), "{report}");
    assert_eq!(code(&demo.run(dir.path(), "tag get new")), 0);
}

#[test]
fn a_backup_opens_as_a_store_and_verify_finds_damage() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let store = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path().join("store");
    let output = run(dir.path(), &format!("backup --data {} --to copy/cable.db", store.display()));
    assert_eq!(code(&output), 1, "the directory does not exist");
    fs::create_dir(dir.path().join("copy")).unwrap();
    let output = run(dir.path(), &format!("backup --data {} --to copy/cable.db", store.display()));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(demo.stop(), 0);
    assert_eq!(code(&run(dir.path(), "verify --data copy")), 0);
    let file = dir.path().join("copy/cable.db");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    // Two pages: damage to a page that no row uses could remain unnoticed.
    bytes[middle..middle + 16_384].fill(0x5a);
    fs::write(&file, bytes).unwrap();
    let output = run(dir.path(), "verify --data copy");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("cable: "), "{}", stderr(&output));
    let output = run(dir.path(), "verify --data none");
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("none: there is no store here (no cable.db)"), "{}", stderr(&output));
    let output = run(dir.path(), "rebuild --from none --to new");
    assert_eq!(code(&output), 1);
    assert_eq!(stderr(&output), "cable: none: there is no store here (no cable.db)\n");
}

/// Returns the log id of a node.
fn log_id(node: &Demo, dir: &Path) -> String {
    stdout(&node.run(dir, "status -o id")).trim_end().to_owned()
}

#[test]
fn a_restore_assigns_a_new_log_id_by_default() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let node = Demo::serve(dir, "store");
    put_article(&node, dir, "quay", "Quay reopens");
    assert_eq!(code(&run(dir, "backup --data store --to backup")), 0);
    let original = log_id(&node, dir);
    let position = read_feed(&node, dir, "")[0]["position"].to_string();
    let after = |node: &Demo| node.run(dir, &format!("feed watch --until-caught-up --after {position}"));
    assert_eq!(code(&after(&node)), 0);
    for (line, problem) in [
        ("restore --from none --to new", "none: no backup found"),
        ("restore --from backup --to store", "store: directory not empty"),
        ("restore --from store/cable.db --to new", "cable.db: database of a store"),
    ] {
        let output = run(dir, line);
        assert_eq!(code(&output), 2, "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(problem), "{line}: {}", stderr(&output));
        assert!(!dir.join("new").exists(), "{line}");
    }
    assert_eq!(node.stop(), 0);

    fs::create_dir(dir.join("other")).unwrap();
    let output = run(dir, "restore --from backup --to other");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let node = Demo::serve(dir, "other");
    let other = log_id(&node, dir);
    assert_ne!(other, original);
    assert!(stdout(&output).contains(&format!("the new log id is {other}")), "{}", stdout(&output));
    let refused = after(&node);
    assert_eq!(code(&refused), 1);
    for text in ["LOG_CHANGED", &format!("log_id mismatch: this is log {other}, not {original}")] {
        assert!(stderr(&refused).contains(text), "{text}: {}", stderr(&refused));
    }
    assert!(stderr(&refused).lines().nth(1).unwrap().contains("--allow-reset"), "{}", stderr(&refused));
    assert_eq!(node.stop(), 0);
    assert_eq!(code(&run(dir, "verify --data other")), 0);

    let output = run(dir, "restore --from backup --to same --keep-log-id");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let node = Demo::serve(dir, "same");
    assert_eq!(log_id(&node, dir), original);
    assert_eq!(code(&after(&node)), 0);
    assert_eq!(node.stop(), 0);

    let damaged = Connection::open(dir.join("backup")).unwrap();
    assert_eq!(damaged.execute("UPDATE doc SET entry = zeroblob(9)", []).unwrap(), 1);
    damaged.close().unwrap();
    assert_eq!(code(&run(dir, "restore --from backup --to new")), 1);
    assert!(!dir.join("new").exists());
}

#[test]
fn no_command_replaces_the_database_of_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let node = Demo::serve(dir, "store");
    put_article(&node, dir, "quay", "Quay reopens");
    assert_eq!(Demo::serve(dir, "stopped").stop(), 0);
    std::os::unix::fs::symlink("store/cable.db", dir.join("symbolic")).unwrap();
    std::os::unix::fs::symlink("store", dir.join("directory")).unwrap();
    fs::hard_link(dir.join("stopped/cable.db"), dir.join("hard")).unwrap();
    fs::write(dir.join("notes"), "not a backup").unwrap();
    let targets = [
        "store/cable.db",
        "store/new",
        "stopped/cable.db",
        "stopped/cable.db-wal",
        "symbolic",
        "directory/cable.db",
        "hard",
    ];
    let before = fs::read(dir.join("stopped/cable.db")).unwrap();
    for target in targets {
        for line in [
            "backup --data store --to",
            "export --to",
            "mirror --once",
            "feed watch --until-caught-up --position-file",
        ] {
            let output = node.run(dir, &format!("{line} {target}"));
            assert_eq!(code(&output), 2, "{line} {target}: {}", stderr(&output));
            assert!(stderr(&output).contains("store"), "{line} {target}: {}", stderr(&output));
        }
    }
    for (target, problem) in [("notes", "notes: not a backup"), (".", ".: is a directory")] {
        let output = run(dir, &format!("backup --data store --to {target}"));
        assert_eq!(code(&output), 2, "{target}: {}", stderr(&output));
        assert!(stderr(&output).contains(problem), "{target}: {}", stderr(&output));
    }
    assert_eq!(fs::read(dir.join("stopped/cable.db")).unwrap(), before);
    assert_eq!(fs::read_to_string(dir.join("notes")).unwrap(), "not a backup");
    for _ in 0..2 {
        assert_eq!(code(&run(dir, "backup --data store --to backup")), 0, "an older backup is replaced");
    }
    assert_eq!(node.stop(), 0);
    assert_eq!(code(&run(dir, "verify --data store")), 0);
}

#[test]
fn a_served_store_is_rebuilt_and_a_damaged_one_needs_a_flag() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let store = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path().join("store");
    let output = run(dir.path(), &format!("rebuild --from {} --to rebuilt", store.display()));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("match the old store"), "{}", stdout(&output));
    assert_eq!(demo.stop(), 0);
    assert_eq!(code(&run(dir.path(), "verify --data rebuilt")), 0);
    assert_eq!(code(&run(dir.path(), "rebuild --from rebuilt --to rebuilt")), 2, "the store exists already");

    let database = Connection::open(dir.path().join("rebuilt/cable.db")).unwrap();
    let damage = "UPDATE doc SET entry = zeroblob(9) WHERE id = 'station-lamp-23'";
    assert_eq!(database.execute(damage, []).unwrap(), 1);
    database.close().unwrap();
    let output = run(dir.path(), "rebuild --from rebuilt --to repaired");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("(station-lamp-23): the entry is damaged"), "{}", stderr(&output));
    assert!(!dir.path().join("repaired").exists());
    assert_eq!(code(&run(dir.path(), "rebuild --from rebuilt --to repaired --skip-damaged")), 0);
    assert_eq!(code(&run(dir.path(), "verify --data repaired")), 0);
}

/// A year in which no test runs.
const FAR: &str = "2999-01-01T00:00:00Z";

fn write_article(dir: &Path, id: &str, headline: &str, more: serde_json::Value) {
    let mut article = serde_json::json!({"name": format!("articles/{id}"), "headline": headline});
    article.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fs::write(dir.join(format!("{id}.json")), article.to_string()).unwrap();
}

/// Runs lines one after the other. Each has an exit code and the start of its output, on stdout or stderr.
fn check_lines(demo: &Demo, dir: &Path, lines: &[(&str, i32, &str)]) {
    for (line, exit_code, prefix) in lines {
        let output = demo.run(dir, line);
        assert_eq!(code(&output), *exit_code, "{line}: {}", stderr(&output));
        let text = stdout(&output) + &stderr(&output);
        assert!(text.starts_with(prefix), "{line}: {text}");
    }
}

#[test]
fn pending_versions_are_put_listed_printed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let body = serde_json::json!({"blocks": [{"paragraph": {"spans": [{"text": "It opens."}]}}]});
    write_article(dir.path(), "quay", "Quay reopens", serde_json::json!({"publishTime": FAR, "body": body}));
    write_article(dir.path(), "vote", "Vote held", serde_json::json!({"embargo": {}}));
    let put = demo.run(dir.path(), "article put quay.json -o table");
    let until = format!("pending until {FAR}\n");
    assert!(stdout(&put).starts_with("articles/quay put: ") && stdout(&put).ends_with(&until), "{put:?}");
    let put: serde_json::Value =
        serde_json::from_str(&stdout(&demo.run(dir.path(), "article put vote.json -o json"))).unwrap();
    assert_eq!((&put["pending"], &put["dueTime"]), (&true.into(), &serde_json::Value::Null));
    let etag = put["etag"].as_str().unwrap();

    let table = stdout(&demo.run(dir.path(), "article pending ls -o table"));
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..2], ["quay", "2999-01-01"], "{table}");
    assert_eq!(rows[2], ["vote", "Vote", "held"], "{table}");
    check_lines(
        &demo,
        dir.path(),
        &[
            ("article pending ls -o id", 0, "quay\nvote\n"),
            ("article get quay", 3, "cable: NOT_FOUND ARTICLE_NOT_FOUND: "),
            ("article pending get quay --body markdown", 0, "It opens."),
            ("article pending get quay -o id", 0, "quay\n"),
            ("article pending get murmansk-pilots-wait", 3, "cable: NOT_FOUND ARTICLE_NOT_FOUND: "),
            ("article pending rm quay --etag 00000000-1", 4, "cable: ABORTED ETAG_MISMATCH: "),
            ("article pending rm quay -o table", 0, "articles/quay cancelled: revision "),
            ("article pending rm quay", 3, "cable: NOT_FOUND ARTICLE_NOT_FOUND: "),
            (&format!("article pending rm vote --etag {etag} --request-id one"), 0, ""),
            (&format!("article pending rm vote --etag {etag} --request-id one"), 0, ""),
            ("article pending ls -o id", 0, ""),
        ],
    );
}

#[test]
fn a_killed_name_returns_only_with_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    write_article(dir.path(), "quay", "Quay reopens", serde_json::json!({}));
    check_lines(
        &demo,
        dir.path(),
        &[
            ("article put quay.json", 0, ""),
            ("article rm quay --reason killed -o table", 0, "articles/quay removed: revision "),
            ("article get quay", 3, "cable: NOT_FOUND ARTICLE_GONE: "),
            ("article put quay.json", 1, "cable: FAILED_PRECONDITION NAME_KILLED: "),
            ("article put quay.json --allow-killed", 0, ""),
            ("article get quay -o id", 0, "quay\n"),
        ],
    );
    let output = demo.run(dir.path(), "article put quay.json --allow-killed --if-absent");
    assert!(stderr(&output).contains("NAME_EXISTS"), "{}", stderr(&output));
}

#[test]
fn a_rebuilt_store_serves_live_and_pending_versions() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let store = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path().join("store");
    write_article(dir.path(), "quay", "Quay reopens", serde_json::json!({"publishTime": FAR}));
    let next = serde_json::json!({"publishTime": FAR, "path": "/next"});
    write_article(dir.path(), "station-lamp-23", "A twenty-fourth lamp", next);
    write_article(dir.path(), "vote", "Vote held", serde_json::json!({"embargo": {}}));
    let puts = ["quay", "station-lamp-23", "vote"].map(|id| format!("article put {id}.json"));
    check_lines(&demo, dir.path(), &puts.each_ref().map(|put| (&**put, 0, "")));
    check_lines(&demo, dir.path(), &[("article pending rm vote", 0, "")]);

    let commands = ["article pending ls -o json", "article pending get station-lamp-23 -o json", "export"];
    let outputs = |demo: &Demo| commands.map(|line| stdout(&demo.run(dir.path(), line)));
    let digests = |demo: &Demo| {
        let status: serde_json::Value =
            serde_json::from_str(&stdout(&demo.run(dir.path(), "status -o json"))).unwrap();
        ["head", "logDigest", "contentDigest", "counts"].map(|part| status[part].clone())
    };
    let (outputs_before, digests_before) = (outputs(&demo), digests(&demo));
    assert!(
        outputs_before[0].contains("quay") && outputs_before[1].contains("A twenty-fourth lamp"),
        "{outputs_before:?}"
    );
    let rebuilt = run(dir.path(), &format!("rebuild --from {} --to rebuilt --keep-log-id", store.display()));
    assert!(stdout(&rebuilt).contains("match the old store"), "{} {}", stdout(&rebuilt), stderr(&rebuilt));
    assert_eq!(demo.stop(), 0);
    assert_eq!(code(&run(dir.path(), "verify --data rebuilt")), 0);
    let rebuilt = Demo::serve(dir.path(), "rebuilt");
    assert_eq!(outputs(&rebuilt), outputs_before);
    assert_eq!(digests(&rebuilt), digests_before);
    assert_eq!(rebuilt.stop(), 0);
}

/// Returns a report of `cable bench`, printed into a pipe.
fn report(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{} {}", stdout(output), stderr(output)))
}

fn number(report: &serde_json::Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn a_measurement_with_a_call_count_reports_consistent_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    for line in [
        "bench get --calls 200 --rate 1000",
        "bench get --calls 200 --workers 3 --zipf 1 --seed 7 --view basic --tag russia",
        "bench get --calls 200 --name station-lamp-23 --body html",
        "bench list --calls 200 --rate 1000 --in-flight 2 --tag russia --page-size 5",
        "bench list --calls 200 --view reference --order changed --section world --children",
        "bench stream --calls 20 --workers 2 --tag russia --view full",
        "bench stream --calls 20 --rate 200",
    ] {
        let output = demo.run(dir.path(), &format!("{line} --warm-up 50ms --connections 2"));
        assert_eq!(code(&output), 0, "{line}: {} {}", stderr(&output), stdout(&output));
        let report = report(&output);
        let calls = if line.contains("stream") { 20 } else { 200 };
        assert_eq!((number(&report, "calls"), number(&report, "calls_ok")), (calls, calls), "{line}");
        for none in ["calls_failed", "calls_wrong", "calls_unanswered", "calls_not_started"] {
            assert_eq!(number(&report, none), 0, "{none} of {line}");
        }
        assert_eq!(report["loop"], if line.contains("--rate") { "open" } else { "closed" });
        let latency = &report["latency_us"];
        assert!(number(latency, "p50") <= number(latency, "p99_9"), "{latency}");
        assert!(
            number(latency, "p99_9") <= number(latency, "max") && number(latency, "max") > 0,
            "{latency}"
        );
        assert!(number(&report, "bytes") > number(&report, "articles"), "{report}");
        assert!(report["client_cpu_us_per_call"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_measurement_counts_the_received_articles() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let russia = stdout(&demo.run(dir.path(), "article stream --tag russia -o id")).lines().count() as u64;
    for (line, each) in [
        ("bench stream --tag russia", russia),
        ("bench stream --tag russia --limit 3", 3),
        ("bench list --tag russia --page-size 4", 4),
        ("bench get --tag russia --newest 2", 1),
    ] {
        let report = report(&demo.run(dir.path(), &format!("{line} --calls 10 --warm-up 0ms")));
        assert_eq!(number(&report, "articles"), 10 * each, "{line}");
        assert_eq!(report["first_article_us"].is_object(), line.contains("stream"), "{line}");
    }
    let report = report(&demo.run(dir.path(), "bench get --tag russia --newest 2 --calls 1"));
    assert_eq!(number(&report, "names"), 2);
}

#[test]
fn failed_calls_are_counted_by_reason_and_exit_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    fs::write(dir.path().join("names"), "station-lamp-23\nnone\n").unwrap();
    for line in ["--names-file names", "--name none --name station-lamp-23"] {
        let output = demo.run(dir.path(), &format!("bench get {line} --calls 200 --rate 2000 --warm-up 0s"));
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let report = report(&output);
        let failed = number(&report["failed_by_reason"], "NOT_FOUND ARTICLE_NOT_FOUND");
        assert!(failed > 0 && failed < 200, "{report}");
        assert_eq!(number(&report, "calls_failed"), failed);
        assert_eq!(number(&report, "calls_ok"), 200 - failed);
        assert_eq!(stderr(&output), format!("cable: of 200 calls, {failed} failed\n"));
    }
    let output = demo.run(dir.path(), "bench get --tag nobody-has-it --calls 1");
    assert_eq!((code(&output), stderr(&output)), (2, "cable: no articles to get\n".to_owned()));
}

/// Before the handler is installed, a signal would end the process silently.
fn wait_for_signal_handler(pid: &str) {
    for _ in 0..600 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() & 2 != 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the process never installed its handler");
}

#[test]
fn an_interrupted_measurement_reports_its_results_so_far() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    for mode in ["--rate 20", "--workers 1"] {
        let mut bench = cable(dir.path())
            .args(format!("bench get --duration 10m --warm-up 0s {mode}").split_whitespace())
            .env("CABLE_ENDPOINTS", &demo.endpoint)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = bench.id().to_string();
        wait_for_signal_handler(&pid);
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let line = BufReader::new(bench.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let report: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(bench.wait().unwrap().code(), Some(0), "{report}");
        assert_eq!(report["interrupted"], true);
        assert_eq!(number(&report, "calls"), number(&report, "calls_ok"));
    }
}

#[test]
fn an_invalid_load_is_refused_with_the_name_of_its_flag() {
    let dir = tempfile::tempdir().unwrap();
    for (line, flag) in [
        ("get --rate 0", "--rate"),
        ("get --rate fast", "--rate"),
        ("get --rate 2000000", "--rate"),
        ("get --rate 1 --workers 2", "--workers"),
        ("get --rate 1000000 --duration 1h", "--rate"),
        ("get --workers 0", "--workers"),
        ("get --duration 10", "--duration"),
        ("get --duration 48h", "--duration"),
        ("get --duration 1s --calls 5", "--calls"),
        ("get --calls 0", "--calls"),
        ("get --warm-up soon", "--warm-up"),
        ("get --in-flight 5", "--rate"),
        ("get --rate 1 --in-flight 0", "--in-flight"),
        ("get --connections 0", "--connections"),
        ("get --connections 1001", "--connections"),
        ("get --timeout 0s", "--timeout"),
        ("get --name a --tag b", "--tag"),
        ("get --name a --names-file b", "--name"),
        ("get --newest 0", "--newest"),
        ("get --zipf 11", "--zipf"),
        ("get --zipf NaN", "--zipf"),
        ("get --seed x", "--seed"),
        ("get -o id", "--output"),
        ("list --page-size 1001", "--page-size"),
        ("stream --limit 0", "--limit"),
    ] {
        let output = run(dir.path(), &format!("bench {line} --endpoint http://127.0.0.1:1"));
        assert_eq!(code(&output), 2, "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(flag), "{line}: {}", stderr(&output));
    }
    let output = run(dir.path(), "bench get --endpoint http://127.0.0.1:1");
    assert_eq!(code(&output), 5, "{}", stderr(&output));
}

#[test]
fn bench_followers_receive_every_publish_and_clean_up() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let names = || stdout(&demo.run(dir.path(), "article stream -o id"));
    let before = names();
    for line in [
        "--any-tag fan-out",
        "--any-tag russia --section world --author ada --view full --size 1200",
        "--any-tag russia --view full --body html",
        "--view reference --size 0",
    ] {
        let line = format!("bench watch --followers 7 --connections 3 --publish 20 --rate 200 {line}");
        let output = demo.run(dir.path(), &line);
        assert_eq!(code(&output), 0, "{line}: {} {}", stderr(&output), stdout(&output));
        let report = report(&output);
        for (name, n) in [("publishes", 20), ("changes", 20), ("deliveries", 140), ("connections", 3)] {
            assert_eq!(number(&report, name), n, "{name} of {line}");
        }
        for none in [
            "lost",
            "twice",
            "out_of_order",
            "wrong",
            "reconnects",
            "streams_broken",
            "feeds_ended",
            "articles_left",
        ] {
            assert_eq!(number(&report, none), 0, "{none} of {line}");
        }
        let [each, last] = ["latency_us", "last_follower_us"].map(|name| number(&report[name], "max"));
        assert!(each == last && number(&report["latency_us"], "p50") > 0, "{report}");
        assert!(number(&report, "messages") <= 140 && number(&report, "bytes") > 0, "{report}");
        assert_eq!(names(), before, "{line}");
    }
    let line = "bench watch --any-tag fan-out --followers 2 --publish 3 --keep --prefix kept-";
    assert_eq!(code(&demo.run(dir.path(), line)), 0);
    let retained = stdout(&demo.run(dir.path(), "article stream --tag fan-out -o id"));
    assert!(
        retained.lines().count() == 3 && retained.lines().all(|id| id.starts_with("kept-")),
        "{retained}"
    );
}

#[test]
fn too_many_followers_per_connection_name_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let output = demo.run(dir.path(), "bench watch --followers 101 --connections 1");
    assert_eq!(code(&output), 2, "{}", stdout(&output));
    for text in ["RESOURCE_EXHAUSTED TOO_MANY_FEEDS", "more --connections", "`connections.max_feeds`"] {
        assert!(stderr(&output).contains(text), "{text} in {}", stderr(&output));
    }
    let output = demo.run(dir.path(), "bench watch --kind tag");
    assert_eq!((code(&output), stderr(&output).contains("--kind")), (2, true), "{}", stderr(&output));
}

#[test]
fn publishes_of_others_are_measured_until_an_interrupt() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let watch =
        follow(&demo, dir.path(), "bench watch --watch-only --duration 10m --any-tag russia --followers 3");
    wait_for_signal_handler(&watch.id().to_string());
    put_article(&demo, dir.path(), "quay", "Quay reopens");
    demo.run(dir.path(), "article rm king-crab-border");
    put_article(&demo, dir.path(), "pier", "Pier reopens");
    let output = interrupt(watch);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report = report(&output);
    assert_eq!(report["interrupted"], true);
    assert!(report["publishes"].is_null(), "{report}");
    // The last change may not have reached any follower yet.
    let changes = number(&report, "changes");
    assert!((2..=3).contains(&changes), "{report}");
    assert_eq!((number(&report, "deliveries"), number(&report, "lost")), (3 * changes, 0), "{report}");
}

/// Returns the lines of a feed that ends when it has caught up.
fn read_feed(demo: &Demo, dir: &Path, line: &str) -> Vec<serde_json::Value> {
    let output = demo.run(dir, &format!("feed watch --until-caught-up {line}"));
    assert_eq!(code(&output), 0, "{line}: {}", stderr(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn put_article(demo: &Demo, dir: &Path, id: &str, headline: &str) {
    let json =
        serde_json::json!({"name": format!("articles/{id}"), "headline": headline, "tags": ["tags/russia"]});
    fs::write(dir.join("article.json"), json.to_string()).unwrap();
    let output = demo.run(dir, "article put article.json");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn a_feed_prints_one_line_per_change_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let held = read_feed(&demo, dir.path(), "--any-tag russia --snapshot");
    let (parts, rest) = held.split_at(held.len() - 2);
    assert!(parts.iter().all(|part| part["snapshot"]["article"]["headline"].is_string()), "{held:?}");
    assert_eq!(rest[0]["snapshotEnd"]["count"], parts.len().to_string());
    assert!(rest[1]["checkpoint"].is_object(), "{rest:?}");
    let position = &rest[1]["position"];
    let after = position.to_string();
    put_article(&demo, dir.path(), "quay", "Quay reopens");
    demo.run(dir.path(), "article rm king-crab-border --reason withdrawn");
    let changes = read_feed(&demo, dir.path(), &format!("--any-tag russia --view full --after {after}"));
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert_eq!(changes[0]["change"]["upsert"]["article"]["headline"], "Quay reopens");
    assert_eq!(changes[0]["change"]["updateKind"], "UPDATE_KIND_MAJOR");
    let removed = &changes[1]["change"]["removed"];
    assert_eq!(
        (&removed["name"], &removed["reason"]),
        (&"articles/king-crab-border".into(), &"REMOVAL_REASON_WITHDRAWN".into())
    );
    assert_eq!(changes[1]["position"]["revision"], changes[1]["change"]["revision"]);
    assert_eq!(read_feed(&demo, dir.path(), &format!("--kind tag --after {after}")).len(), 1);
    let names = demo.run(dir.path(), &format!("feed watch --until-caught-up --after {after} -o id"));
    assert_eq!(stdout(&names), "articles/quay\narticles/king-crab-border\n");
    let table =
        stdout(&demo.run(dir.path(), &format!("feed watch --until-caught-up --after {after} -o table")));
    for text in ["put       articles/quay  Quay reopens", "removed   articles/king-crab-border  (withdrawn)"]
    {
        assert!(table.contains(text), "{text} in\n{table}");
    }
}

#[test]
fn a_feed_resumes_after_the_position_in_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    assert_eq!(read_feed(&demo, dir.path(), "--position-file position").len(), 1);
    put_article(&demo, dir.path(), "quay", "Quay reopens");
    let changes = read_feed(&demo, dir.path(), "--position-file position");
    assert_eq!(changes[0]["change"]["upsert"]["article"]["name"], "articles/quay");
    assert_eq!(
        read_feed(&demo, dir.path(), "--position-file position").len(),
        1,
        "the change was delivered before"
    );
    fs::write(dir.path().join("position"), "damaged").unwrap();
    let output = demo.run(dir.path(), "feed watch --until-caught-up --position-file position");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).starts_with("cable: POSITION_STORE"), "{}", stderr(&output));
}

#[test]
fn a_foreign_position_ends_a_feed_unless_reset_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let output = demo.run(dir.path(), "feed watch --after 00000000:5");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).starts_with("cable: FAILED_PRECONDITION LOG_CHANGED"), "{}", stderr(&output));
    assert!(stderr(&output).contains("--allow-reset"), "{}", stderr(&output));
    let position = &read_feed(&demo, dir.path(), "")[0]["position"];
    let after = format!("{}:{}", position["logId"].as_str().unwrap(), position["revision"].as_str().unwrap());
    let output = demo.run(dir.path(), &format!("feed watch --after {after}:{}", "07".repeat(32)));
    assert_eq!(code(&output), 1);
    let problem = format!("chain mismatch at revision {}", position["revision"].as_str().unwrap());
    assert!(
        stderr(&output).contains(&problem) && stderr(&output).contains("--allow-reset"),
        "{}",
        stderr(&output)
    );
    let restarted = read_feed(&demo, dir.path(), "--any-tag russia --after 00000000:5 --allow-reset");
    assert_eq!(restarted[0]["reset"]["reason"], "LOG_CHANGED");
    assert!(restarted[1]["snapshot"].is_object() && restarted.last().unwrap()["checkpoint"].is_object());
}

/// Starts a command that runs until it is interrupted.
fn follow(demo: &Demo, dir: &Path, line: &str) -> Child {
    let mut command = cable(dir);
    command.args(line.split_whitespace()).env("CABLE_ENDPOINTS", &demo.endpoint);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn interrupt(follower: Child) -> Output {
    let pid = follower.id().to_string();
    wait_for_signal_handler(&pid);
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    follower.wait_with_output().unwrap()
}

#[test]
fn a_feed_prints_immediately_and_ends_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    for interrupted in [true, false] {
        let mut follower = follow(&demo, dir.path(), "feed watch --any-tag russia");
        let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().starts_with("{\"checkpoint\":{}"));
        put_article(&demo, dir.path(), "quay", &format!("Quay reopens {interrupted}"));
        assert!(lines.next().unwrap().unwrap().contains("Quay reopens"));
        let output = if interrupted {
            interrupt(follower)
        } else {
            drop(lines);
            put_article(&demo, dir.path(), "quay", "Quay closes");
            follower.wait_with_output().unwrap()
        };
        assert_eq!((code(&output), stderr(&output)), (0, String::new()), "interrupted: {interrupted}");
    }
}

#[test]
fn a_mirror_file_stays_equal_to_an_export() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let file = dir.path().join("russia.jsonl");
    let exported = || {
        let lines = stdout(&demo.run(dir.path(), "export"));
        let mut lines: Vec<String> = lines
            .lines()
            .filter(|line| line.contains("\"tags/russia\"") && line.starts_with("{\"article\""))
            .map(str::to_owned)
            .collect();
        lines.sort_by_key(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["article"]["name"].to_string()
        });
        lines
    };
    let mirrored = || fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    let output = demo.run(dir.path(), "mirror --any-tag russia --once russia.jsonl");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).starts_with("11 records as of revision "), "{}", stderr(&output));
    assert_eq!(mirrored(), exported());
    let follower = follow(&demo, dir.path(), "mirror --any-tag russia russia.jsonl");
    put_article(&demo, dir.path(), "quay", "Quay reopens");
    demo.run(dir.path(), "article rm king-crab-border");
    for _ in 0..600 {
        if mirrored() == exported() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(mirrored(), exported());
    let output = interrupt(follower);
    assert_eq!((code(&output), stderr(&output)), (0, String::new()));
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(files.iter().all(|name| !name.to_str().unwrap().contains(".cable-")), "{files:?}");
    let output = demo.run(dir.path(), "mirror --once none/russia.jsonl");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("write none/russia.jsonl"), "{}", stderr(&output));
}
