//! `cable feed watch` and `cable mirror`.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::support::{Demo, cable, code, follow, interrupt, put_article, read_feed, run, stderr, stdout};

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
fn a_feed_of_a_consumer_resumes_after_what_was_printed() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let watch = "--any-tag russia --consumer desk";
    assert_eq!(read_feed(&demo, dir.path(), watch).len(), 1);
    put_article(&demo, dir.path(), "quay", "Quay reopens");
    let table = stdout(&demo.run(dir.path(), "consumer ls -o table"));
    assert!(table.contains("desk") && table.contains(" 1 "), "{table}");
    let status = stdout(&demo.run(dir.path(), "status -o table"));
    assert!(status.contains("desk is 1 revisions"), "{status}");
    let changes = read_feed(&demo, dir.path(), watch);
    assert_eq!(changes[0]["change"]["upsert"]["article"]["name"], "articles/quay");
    assert_eq!(read_feed(&demo, dir.path(), watch).len(), 1, "the change was printed before");
    assert_eq!(stdout(&demo.run(dir.path(), "consumer ls -o id")), "desk\n");
    let listed = stdout(&demo.run(dir.path(), "consumer ls --all -o json"));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed[0]["consumer"], listed[0].get("lagRevisions")), (&"desk".into(), None));
    assert_eq!(code(&demo.run(dir.path(), "consumer rm desk")), 0);
    let again = demo.run(dir.path(), "consumer rm desk");
    assert_eq!(code(&again), 3, "{}", stderr(&again));
    let both = demo.run(dir.path(), "feed watch --consumer a --position-file b");
    assert_eq!(code(&both), 2);
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

/// Commands that end once they have everything.
const ENDING: [&str; 2] = ["feed watch --until-caught-up", "mirror --once copy.jsonl"];

#[test]
fn a_command_that_ends_by_itself_also_ends_if_no_node_serves_it() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for command in ENDING {
        let refused = (closed, "UNAVAILABLE", "Connection refused");
        // Connections are accepted by the system, and no program responds.
        let unanswered = (silent.local_addr().unwrap(), "DEADLINE_EXCEEDED", "no response from");
        for (address, status, cause) in [refused, unanswered] {
            let started = Instant::now();
            let line = format!("{command} --timeout 300ms --endpoint http://{address}");
            let output = run(dir.path(), &line);
            assert_eq!((code(&output), stdout(&output)), (5, String::new()), "{line}: {}", stderr(&output));
            let text = stderr(&output);
            let last = text.lines().last().unwrap();
            assert!(last.starts_with(&format!("cable: {status}: ")), "{line}: {text}");
            for part in [&address.to_string(), cause, "no node has served the feed for 300ms"] {
                assert!(last.contains(part), "{line}: {part} in {text}");
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{line}: {:?}", started.elapsed());
        }
    }
    assert!(!dir.path().join("copy.jsonl").exists());
}

/// The limit is that of commands that end by themselves.
#[test]
fn a_follower_waits_for_a_node_without_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let first = Demo::serve(dir.path(), "store");
    let endpoint = first.endpoint.clone();
    assert_eq!(first.stop(), 0);
    let mut command = cable(dir.path());
    let line = format!("feed watch --timeout 100ms --endpoint {endpoint}");
    command.args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut follower = command.spawn().unwrap();
    let mut errors = BufReader::new(follower.stderr.take().unwrap()).lines();
    let retrying = errors.next().unwrap().unwrap();
    assert!(retrying.starts_with("cable: UNAVAILABLE: ") && retrying.ends_with("; retrying"), "{retrying}");
    // Many times the timeout.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(follower.try_wait().unwrap(), None);
    let again = serve_at(dir.path(), "store", &endpoint);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("{\"checkpoint\":{}"));
    assert_eq!(code(&interrupt(follower)), 0);
    drop(again);
}

/// Starts a node on an existing store, at the address of an endpoint.
fn serve_at(dir: &Path, data: &str, endpoint: &str) -> Demo {
    let address = endpoint.strip_prefix("http://").unwrap();
    let line = format!("serve --data {data} --listen {address} --ops-listen off");
    let process = cable(dir).args(line.split_whitespace()).stderr(Stdio::null()).spawn().unwrap();
    Demo { process, endpoint: endpoint.to_owned(), suggested: Vec::new() }
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
