//! `cable backup`, `restore`, `verify` and `rebuild`: the commands for the store of a node.

use std::{
    fs,
    io::{self, Read as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
};

use rusqlite::Connection;

use crate::support::{
    Demo, FAR, check_lines, code, put_article, read_feed, run, stderr, stdout, write_article,
};

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
    let output = run(dir.path(), "serve --data copy/cable.db --listen 127.0.0.1:0 --ops-listen off");
    assert_ne!(code(&output), 0);
    let problem = "copy/cable.db: not a directory; name the directory of a store (`--data` or `store.dir`)";
    assert!(stderr(&output).contains(problem), "{}", stderr(&output));
    let output = run(dir.path(), "rebuild --from none --to new");
    assert_eq!(code(&output), 1);
    assert_eq!(stderr(&output), "cable: none: there is no store here (no cable.db)\n");
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
    // The newest commits are in the write-ahead log alone, which a copy of the database lacks.
    fs::copy(dir.join("store/cable.db"), dir.join("copied.db")).unwrap();
    for (line, problem) in [
        ("restore --from none --to new", "none: no backup found"),
        ("restore --from store --to new", "store: not a file; name the file that cable backup wrote"),
        ("restore --from backup --to store", "store: directory not empty"),
        ("restore --from store/cable.db --to new", "cable.db: the database of a store, not a backup"),
        ("restore --from copied.db --to new", "copied.db: the database of a store, not a backup"),
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

    fs::write(dir.join("text"), "not a database").unwrap();
    let whole = fs::read(dir.join("backup")).unwrap();
    fs::write(dir.join("half"), &whole[..whole.len() / 2]).unwrap();
    fs::write(dir.join("void"), "").unwrap();
    for name in ["text", "half", "void"] {
        let output = run(dir, &format!("restore --from {name} --to new"));
        assert!(code(&output) != 0 && !dir.join("new").exists(), "{name}");
        let problem = stderr(&output);
        assert!(problem.contains(&format!("cable: {name}: ")), "{problem}");
        assert!(!problem.contains("cable.db") && !problem.contains("restore a backup"), "{problem}");
        assert!(problem.contains("not a complete backup"), "{problem}");
    }

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
    for (target, problem) in [
        ("notes", "notes: not a backup"),
        (".", ".: is a directory"),
        ("-", "name a file"),
        ("/dev/null", "not a regular file"),
        ("/dev/stdout", "not a regular file"),
    ] {
        let output = run(dir, &format!("backup --data store --to {target}"));
        assert_eq!(code(&output), 2, "{target}: {}", stderr(&output));
        assert!(stderr(&output).contains(problem), "{target}: {}", stderr(&output));
    }
    std::os::unix::fs::symlink("elsewhere", dir.join("leads")).unwrap();
    for _ in 0..2 {
        assert_eq!(code(&run(dir, "backup --data store --to leads")), 0);
        assert!(dir.join("leads").is_symlink() && dir.join("elsewhere").metadata().unwrap().len() > 0);
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

#[test]
fn a_backup_over_grpc_restores_to_the_same_content() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let tokens = ["admin", "publisher"].map(|role| {
        let output = run(dir, &format!("token new {role} --role {role} --data store"));
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        fs::write(dir.join(role), stdout(&output)).unwrap();
        role
    });
    let node = Demo::serve(dir, "store");
    let remote = |token: &str, to: &str| {
        run(dir, &format!("backup --endpoint {} --token-file {token} --to {to}", node.endpoint))
    };
    let refused = remote(tokens[1], "backup");
    assert_eq!(code(&refused), 6, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("ROLE_REQUIRED") && !dir.join("backup").exists());
    for _ in 0..2 {
        let output = remote(tokens[0], "backup");
        assert_eq!(code(&output), 0, "an older backup is replaced: {}", stderr(&output));
        assert!(stdout(&output).starts_with("backup: verified: "), "{}", stdout(&output));
    }
    let (local, remote_backup) = (run(dir, "backup --data store --to local"), remote(tokens[0], "backup"));
    let verified = |output: &Output| stdout(output).split_once(": ").unwrap().1.to_owned();
    assert_eq!(verified(&local), verified(&remote_backup));
    fs::write(dir.join("notes"), "not a backup").unwrap();
    for (target, problem) in [("notes", "not a backup"), (".", "is a directory"), ("store/x", "a store")] {
        let output = remote(tokens[0], target);
        assert_eq!(code(&output), 2, "{target}: {}", stderr(&output));
        assert!(stderr(&output).contains(problem), "{target}: {}", stderr(&output));
    }
    let endpoint = &node.endpoint;
    for options in [format!("--endpoint {endpoint} --data store"), "--token-file admin".to_owned()] {
        let output = run(dir, &format!("backup {options} --to other"));
        assert_eq!(code(&output), 2, "{options}: {}", stderr(&output));
        assert!(stderr(&output).contains("--endpoint"), "{options}: {}", stderr(&output));
    }
    assert_eq!(node.stop(), 0);
    assert_eq!(code(&run(dir, "restore --from backup --to restored")), 0);
    assert_eq!(code(&run(dir, "verify --data restored")), 0);
    assert_eq!(temporary_files(dir), 0);
}

/// A disk without room is played by a limit on the size of files, and a lost connection by a proxy that closes.
#[test]
fn an_incomplete_backup_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let demo = Demo::start(dir);
    let endpoint = &demo.endpoint;
    let program = env!("CARGO_BIN_EXE_cable");
    let line = format!("trap '' XFSZ; ulimit -f 64; exec {program} backup --endpoint {endpoint} --to full");
    let output = Command::new("sh").args(["-c", &line]).current_dir(dir).env_clear().output().unwrap();
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(stderr(&output).starts_with("cable: write full: "), "{}", stderr(&output));

    let proxy = proxy(endpoint.trim_start_matches("http://").to_owned(), 60_000);
    let output = run(dir, &format!("backup --endpoint http://{proxy} --to broken"));
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    for name in ["full", "broken"] {
        assert!(!dir.join(name).exists(), "{name}");
    }
    assert_eq!(temporary_files(dir), 0);
    assert_eq!(code(&run(dir, &format!("backup --endpoint {endpoint} --to whole"))), 0);
    assert_eq!(demo.stop(), 0);
}

/// Starts a proxy that passes on so many bytes of the server, and then closes the connection.
fn proxy(server: String, bytes: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || io::copy(&mut from_client, &mut to_server));
            let _closed = io::copy(&mut server.take(bytes), &mut &client);
            let _closed = client.shutdown(Shutdown::Both);
        }
    });
    address
}

/// Returns the number of temporary files and directories.
fn temporary_files(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".cable-")).count()
}

/// Returns the log id of a node.
fn log_id(node: &Demo, dir: &Path) -> String {
    stdout(&node.run(dir, "status -o id")).trim_end().to_owned()
}
