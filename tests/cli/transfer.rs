//! `cable export` and `cable import`.

use std::fs;

use crate::support::{Demo, FAR, code, run, stderr, stdout, write_article};

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
fn an_export_has_pending_versions_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    write_article(dir.path(), "later", "Later", serde_json::json!({"publishTime": FAR}));
    demo.run(dir.path(), "article put later.json");
    let plain = demo.run(dir.path(), "export --to plain.jsonl");
    assert_eq!(code(&plain), 0, "{}", stderr(&plain));
    assert!(stderr(&plain).contains("pending version"), "{}", stderr(&plain));
    assert!(!fs::read_to_string(dir.path().join("plain.jsonl")).unwrap().contains("articles/later"));
    let whole = demo.run(dir.path(), "export --pending --to whole.jsonl");
    assert!(!stderr(&whole).contains("left out"), "{}", stderr(&whole));
    let other = Demo::start(dir.path());
    let output = other.run(dir.path(), "import jsonl whole.jsonl");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let pending = other.run(dir.path(), "article pending get later -o json");
    assert!(stdout(&pending).contains("Later"), "{}", stderr(&pending));
}

#[test]
fn a_repeated_import_reports_the_versions_that_it_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let line = |title: &str| format!("{{\"tag\":{{\"name\":\"tags/a\",\"displayName\":\"{title}\"}}}}\n");
    let import = |title: &str, options: &str| {
        fs::write(dir.path().join("tags.jsonl"), line(title)).unwrap();
        let output =
            demo.run(dir.path(), &format!("import jsonl tags.jsonl --report report.jsonl {options}"));
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        (stdout(&output) + &stderr(&output), fs::read_to_string(dir.path().join("report.jsonl")).unwrap())
    };
    let title = || stdout(&demo.run(dir.path(), "tag get a -o json"));
    import("One", "");
    let (table, _) = import("Two", "--dry-run");
    assert!(table.contains("dry run: nothing was written") && title().contains("One"), "{table}");
    import("Two", "");
    fs::write(dir.path().join("tag.json"), r#"{"name":"tags/a","displayName":"Edited"}"#).unwrap();
    assert_eq!(code(&demo.run(dir.path(), "tag put tag.json")), 0);
    let (table, report) = import("Three", "");
    assert!(table.contains("1 kept: changed since its import") && title().contains("Edited"), "{table}");
    assert!(report.contains(r#""outcome":"kept","label":"tags/a""#), "{report}");
    import("Three", "--overwrite");
    assert!(title().contains("Three"));
}
