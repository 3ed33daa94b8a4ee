//! `cable article` and `cable tag`: reads, writes and pending versions.

use std::fs;

use crate::support::{Demo, FAR, check_lines, code, run, stderr, stdout, write_article};

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
fn json_of_several_ids_is_an_array_however_many_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    for (line, exit_code, count) in [
        ("article get station-lamp-23 nope -o json", 3, 1),
        ("tag get russia nope -o json", 3, 1),
        ("tag get no nope -o json", 3, 0),
        ("article get station-lamp-23 murmansk-pilots-wait -o json", 0, 2),
    ] {
        let output = demo.run(dir.path(), line);
        assert_eq!(code(&output), exit_code, "{line}: {}", stderr(&output));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found.as_array().map(Vec::len), Some(count), "{line}");
    }
    let one = demo.run(dir.path(), "tag get russia -o json");
    assert!(serde_json::from_slice::<serde_json::Value>(&one.stdout).unwrap().is_object());
    let none = demo.run(dir.path(), "tag get nope -o json");
    assert!(none.stdout.is_empty(), "{none:?}");
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
        ("article put copy.json --ignore-etag", 4, "cable: ALREADY_EXISTS PATH_TAKEN: "),
        ("article rm station-lamp-23 --moved-to murmansk-pilots-wait", 0, ""),
        ("article get station-lamp-23", 3, "cable: NOT_FOUND ARTICLE_MOVED: "),
        ("article put copy.json --ignore-etag", 0, ""),
        ("article get none", 3, "cable: NOT_FOUND ARTICLE_NOT_FOUND: "),
        ("article get --path /none", 3, "cable: NOT_FOUND ARTICLE_NOT_FOUND: "),
        ("tag rm none", 3, "cable: NOT_FOUND NAME_NOT_FOUND: "),
        ("article get a!b", 2, "cable: INVALID_ARGUMENT FIELD_INVALID: "),
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
