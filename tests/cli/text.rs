//! `cable article put`, `diff` and `edit`: conditions, several documents, Markdown and HTML.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use serde_json::{Value, json};

use crate::support::{Demo, cable, check_lines, code, stderr, stdout, write_article};

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

fn get(demo: &Demo, dir: &Path, line: &str) -> Value {
    let output = demo.run(dir, &format!("{line} -o json"));
    serde_json::from_str(&stdout(&output))
        .unwrap_or_else(|error| panic!("{line}: {error}: {}", stderr(&output)))
}

#[test]
fn the_etag_in_a_file_is_the_condition_of_its_put() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    for (kind, id, field) in [
        ("article", "station-lamp-23", "headline"),
        ("author", "leila-haddow", "displayName"),
        ("section", "world", "displayName"),
        ("tag", "russia", "displayName"),
        ("collection", "front", "title"),
    ] {
        let mut entity = get(&demo, dir.path(), &format!("{kind} get {id}"));
        let mut put = |title: &str, as_line: bool, flags: &str| {
            entity[field] = title.into();
            let json = if as_line { json!({kind: entity}) } else { entity.clone() };
            write(dir.path(), "file.json", &json.to_string());
            demo.run(dir.path(), &format!("{kind} put file.json {flags}"))
        };
        let (first, second) = (put("First editor", false, ""), put("Second editor", false, ""));
        assert_eq!((code(&first), code(&second)), (0, 4), "{kind}: {}", stderr(&second));
        let refusal = stderr(&second);
        assert!(
            refusal.starts_with("cable: ABORTED ETAG_MISMATCH: ") && refusal.contains("--ignore-etag"),
            "{refusal}"
        );
        assert_eq!(code(&put("Second editor", true, "")), 4, "{kind}: a line of an export");
        assert_eq!(get(&demo, dir.path(), &format!("{kind} get {id}"))[field], "First editor");
        assert_eq!(code(&put("Second editor", true, "--ignore-etag")), 0, "{kind}");
        let etag = get(&demo, dir.path(), &format!("{kind} get {id}"))["etag"].as_str().unwrap().to_owned();
        assert_eq!(code(&put("Third editor", false, &format!("--etag {etag}"))), 0, "{kind}");
        for flags in ["--ignore-etag --if-absent", "--ignore-etag --etag x"] {
            assert_eq!(code(&put("Fourth editor", false, flags)), 2, "{kind} {flags}");
        }
    }
}

#[test]
fn the_etag_on_standard_input_is_a_condition_too() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let tag = get(&demo, dir.path(), "tag get russia").to_string();
    let put = |tag: &str| {
        write(dir.path(), "stdin", tag);
        let stdin = fs::File::open(dir.path().join("stdin")).unwrap();
        let mut command = cable(dir.path());
        command.args(["tag", "put", "-"]).env("CABLE_ENDPOINTS", &demo.endpoint).stdin(stdin);
        command.output().unwrap()
    };
    assert_eq!(code(&put(&tag.replace("\"Russia\"", "\"First\""))), 0);
    assert_eq!(code(&put(&tag.replace("\"Russia\"", "\"Second\""))), 4);
    assert_eq!(code(&put("\u{feff}{\"name\": \"t\", \"displayName\": \"T\", \"parent\": \"russia\"}")), 0);
    assert_eq!(get(&demo, dir.path(), "tag get t")["parent"], "tags/russia");
}

#[test]
fn bare_ids_are_accepted_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let more = json!({"name": "quay", "section": "world", "tags": ["russia"], "related": [{"article": "station-lamp-23"}],
        "byline": {"credits": [{"author": "ada"}]}});
    write_article(dir.path(), "quay", "Quay reopens", more);
    check_lines(&demo, dir.path(), &[("article put quay.json", 0, "")]);
    let article = get(&demo, dir.path(), "article get quay");
    assert_eq!((&article["section"], &article["tags"]), (&json!("sections/world"), &json!(["tags/russia"])));
    assert_eq!(article["related"][0]["article"], "articles/station-lamp-23");
    assert_eq!(article["byline"]["credits"][0]["author"], "authors/ada");
}

#[test]
fn several_ids_are_printed_in_order_and_the_missing_ones_reported() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    check_lines(
        &demo,
        dir.path(),
        &[
            ("tag get russia port-averil -o id", 0, "russia\nport-averil\n"),
            (
                "article get station-lamp-23 murmansk-pilots-wait -o id",
                0,
                "station-lamp-23\nmurmansk-pilots-wait\n",
            ),
            ("tag get none russia -o id", 3, "russia\ncable: NOT_FOUND NAME_NOT_FOUND: tags/none"),
            ("collection get front none -o id", 3, "front\ncable: NOT_FOUND "),
            (
                "article get a b",
                3,
                "cable: NOT_FOUND ARTICLE_NOT_FOUND: articles/a: not found\ncable: NOT_FOUND",
            ),
        ],
    );
    let tags = get(&demo, dir.path(), "tag get russia port-averil");
    assert_eq!((&tags[0]["name"], &tags[1]["name"]), (&json!("tags/russia"), &json!("tags/port-averil")));
    let bodies =
        stdout(&demo.run(dir.path(), "article get station-lamp-23 murmansk-pilots-wait --body html"));
    assert!(bodies.starts_with("<p>") && bodies.contains("\n\n<p>"), "{bodies}");
}

#[test]
fn several_documents_are_put_and_a_refused_one_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    write(
        dir.path(),
        "a.json",
        r#"{"name": "a", "displayName": "A"} {"tag": {"name": "b", "displayName": "B"}}"#,
    );
    write(
        dir.path(),
        "c.json",
        r#"[{"name": "c", "displayName": "C"}, {"name": "d"}, {"name": "e", "displayName": "E"}]"#,
    );
    let output = demo.run(dir.path(), "tag put a.json c.json -o id");
    assert_eq!((code(&output), &*stdout(&output)), (2, "a\nb\nc\ne\n"), "{}", stderr(&output));
    let errors = stderr(&output);
    assert!(
        errors.contains("display_name")
            && errors.ends_with("cable: 1 of 5 documents failed or were refused\n"),
        "{errors}"
    );
    let results = get(&demo, dir.path(), "tag put a.json");
    assert_eq!((&results[0]["name"], &results[1]["name"]), (&json!("tags/a"), &json!("tags/b")));
    write(dir.path(), "bad.json", r#"{"name": "f", "displayName": "F"} {"nam": "g"}"#);
    check_lines(
        &demo,
        dir.path(),
        &[
            ("tag put bad.json", 2, "cable: bad.json: not a valid tag: "),
            ("tag get f", 3, "cable: NOT_FOUND"),
            ("tag put a.json --request-id x", 2, "cable: --request-id and --etag are for a single document"),
            ("tag put a.json none.json", 1, "cable: cannot read none.json"),
        ],
    );
}

#[test]
fn a_dry_run_checks_and_compares_without_writing() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let mut article = get(&demo, dir.path(), "article get station-lamp-23");
    write(dir.path(), "same.json", &article.to_string());
    article["headline"] = "Another".into();
    article["dek"] = Value::Null;
    write(dir.path(), "changed.json", &article.to_string());
    article["etag"] = "00000000-1".into();
    write(dir.path(), "stale.json", &article.to_string());
    write_article(dir.path(), "new", "New", json!({}));
    write_article(dir.path(), "bad", "", json!({}));
    let revision = stdout(&demo.run(dir.path(), "status -o json"));
    check_lines(
        &demo,
        dir.path(),
        &[
            ("article put same.json --dry-run -o table", 0, "articles/station-lamp-23 would not change\n"),
            (
                "article put changed.json --dry-run -o table",
                0,
                "articles/station-lamp-23 would change: headline",
            ),
            (
                "article put stale.json --dry-run",
                4,
                "cable: articles/station-lamp-23: etag mismatch: current etag is ",
            ),
            (
                "article put changed.json --dry-run --if-absent",
                4,
                "cable: articles/station-lamp-23: already exists",
            ),
            ("article put stale.json --dry-run --ignore-etag -o id", 0, "station-lamp-23\n"),
            ("article put new.json --dry-run -o table", 0, "articles/new would be created\n"),
            (
                "article put bad.json --dry-run",
                2,
                "cable: INVALID_ARGUMENT FIELD_INVALID: article.headline: ",
            ),
            ("article get new", 3, ""),
        ],
    );
    assert_eq!(get(&demo, dir.path(), "article put changed.json --dry-run")["changed"], true);
    assert_eq!(get(&demo, dir.path(), "article put same.json --dry-run")["changed"], Value::Null);
    let head = |status: &str| serde_json::from_str::<Value>(status).unwrap()["head"].clone();
    assert_eq!(
        head(&stdout(&demo.run(dir.path(), "status -o json"))),
        head(&revision),
        "nothing was written"
    );
}

#[test]
fn a_diff_shows_the_changes_of_a_put() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let mut tag = get(&demo, dir.path(), "tag get russia");
    write(dir.path(), "tag.json", &tag.to_string());
    check_lines(
        &demo,
        dir.path(),
        &[("tag diff tag.json", 0, ""), ("tag diff tag.json -o json", 2, "cable: --output")],
    );
    assert_eq!(stdout(&demo.run(dir.path(), "tag diff tag.json")), "");
    tag["displayName"] = "Russland".into();
    write(dir.path(), "tag.json", &tag.to_string());
    let diff = stdout(&demo.run(dir.path(), "tag diff tag.json"));
    assert!(diff.starts_with("--- tags/russia ") && diff.contains("\n+++ tags/russia\n"), "{diff}");
    assert!(
        diff.contains("\n-  \"displayName\": \"Russia\"")
            && diff.contains("\n+  \"displayName\": \"Russland\"")
    );

    let markdown = stdout(&demo.run(dir.path(), "article get station-lamp-23 --body markdown"));
    let story = format!("---\nid: station-lamp-23\nheadline: Lamps\n---\n{markdown}\nOne more.\n");
    write(dir.path(), "story.md", &story);
    let diff = stdout(&demo.run(dir.path(), "article diff story.md"));
    assert!(diff.contains("\n+headline: Lamps\n") && diff.contains("\n+One more.\n"), "{diff}");
    write(dir.path(), "new.md", "---\nheadline: New\n---\nx\n");
    let diff = stdout(&demo.run(dir.path(), "article diff new.md"));
    assert!(diff.starts_with("--- /dev/null\n+++ articles/new\n") && diff.contains("\n+x\n"), "{diff}");
}

const STORY: &str = "---
title: Quay reopens
dek: \"After a year: boats\"
tags: [port-averil]
authors: [leila-haddow, Nessa Voss]
path: /local/quay
---

## Boats

The quay **opened** again.

<script>alert(1)</script>
";

#[test]
fn markdown_and_html_are_put_as_blocks_and_the_losses_reported() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    write(dir.path(), "story.md", STORY);
    let html = "+++\nid = 'page'\nheadline = 'Page'\n+++\n<h2>Boats</h2><p>The quay <b>opened</b> again.</p><script>x</script>";
    write(dir.path(), "story.html", html);
    write(dir.path(), "note.txt", html);
    let losses = "articles/story: body: <script>: left out\n";
    let put = demo.run(dir.path(), "article put story.md -o table");
    assert_eq!((code(&put), &*stderr(&put)), (0, losses));
    assert!(stdout(&put).starts_with("articles/story put: revision "), "{}", stdout(&put));
    let result = get(&demo, dir.path(), "article put story.md");
    assert_eq!(result["bodyConversion"]["notes"], json!(["<script>: left out"]));
    assert_eq!(result["changed"], Value::Null, "the second put changes nothing");

    let article = get(&demo, dir.path(), "article get story");
    assert_eq!(
        (&article["dek"], &article["tags"]),
        (&json!("After a year: boats"), &json!(["tags/port-averil"]))
    );
    assert_eq!(
        article["byline"]["credits"],
        json!([{"author": "authors/leila-haddow"}, {"displayName": "Nessa Voss"}])
    );
    assert_eq!(article["body"]["blocks"][0]["heading"]["level"], 2);
    for line in ["article put story.html", "article put note.txt --as html --ignore-etag"] {
        assert_eq!(code(&demo.run(dir.path(), line)), 0, "{line}");
        let page = get(&demo, dir.path(), "article get page");
        assert_eq!(page["body"], article["body"], "{line}");
    }
    check_lines(
        &demo,
        dir.path(),
        &[
            ("article put story.md --dry-run -o table", 0, "articles/story would not change\n"),
            ("article put story.md --if-absent", 4, "cable: ALREADY_EXISTS NAME_EXISTS"),
            ("article get --path /local/quay -o id", 0, "story\n"),
        ],
    );
    assert_eq!(stdout(&demo.run(dir.path(), "article diff story.md")), "");
    let etag = article["etag"].as_str().unwrap();
    write(
        dir.path(),
        "story.md",
        &STORY.replace("title:", &format!("etag: {etag}\ntitle:")).replace("again", "at last"),
    );
    let (first, second) =
        (demo.run(dir.path(), "article put story.md"), demo.run(dir.path(), "article put story.md"));
    assert_eq!((code(&first), code(&second)), (0, 4), "{}", stderr(&second));
}

#[test]
fn an_edited_body_is_written_unless_blocks_would_be_lost() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    write(dir.path(), "story.md", STORY);
    check_lines(&demo, dir.path(), &[("article put story.md", 0, "")]);
    let output = edit(&demo, dir.path(), &["story"], r#"sed -i 's/again/at last/' "$2""#);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let body = stdout(&demo.run(dir.path(), "article get story --body markdown"));
    assert_eq!(body.trim(), "## Boats\n\nThe quay **opened** at last.");

    let script = r#"sed -i 's/fog/mist/' "$2""#;
    let output = edit(&demo, dir.path(), &["station-lamp-23"], script);
    assert_eq!(code(&output), 2, "a paragraph links to another article by name");
    assert!(
        stderr(&output).contains("paragraph \"It brings to 23 the")
            && stderr(&output).contains("--allow-loss"),
        "{}",
        stderr(&output)
    );
    let output = edit(&demo, dir.path(), &["station-lamp-23", "--allow-loss"], script);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let body = stdout(&demo.run(dir.path(), "article get station-lamp-23 --body markdown"));
    assert!(body.contains("reported mist."), "{body}");
}

/// Runs `cable article edit` with an editor that is a shell script.
fn edit(demo: &Demo, dir: &Path, arguments: &[&str], script: &str) -> Output {
    let editor = dir.join("the editor");
    fs::write(&editor, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = cable(dir);
    command.args(["article", "edit"]).args(arguments);
    command.env("CABLE_ENDPOINTS", &demo.endpoint).env("TMPDIR", dir).env("PATH", "/usr/bin:/bin");
    command
        .env("EDITOR", "false")
        .env("VISUAL", format!("'{}' -w", editor.display()))
        .env("CABLE", env!("CARGO_BIN_EXE_cable"));
    command.output().unwrap()
}

/// Returns the texts that edits have left.
fn left_files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("cable-") && name.ends_with(".md")).collect()
}

#[test]
fn an_edited_field_is_patched_and_the_body_keeps_its_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let before = get(&demo, dir.path(), "article get station-lamp-23");
    let output = edit(
        &demo,
        dir.path(),
        &["station-lamp-23"],
        r#"test "$1" = -w && sed -i 's/^headline: .*/headline: "Lamps: 24"/' "$2""#,
    );
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let after = get(&demo, dir.path(), "article get station-lamp-23");
    assert_eq!(after["headline"], "Lamps: 24");
    for field in ["body", "tags", "byline", "leadMedia", "path", "publishTime", "annotations"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let output = edit(&demo, dir.path(), &["station-lamp-23"], "true");
    assert_eq!((code(&output), &*stderr(&output)), (0, "articles/station-lamp-23: not changed\n"));
    assert_eq!(get(&demo, dir.path(), "article get station-lamp-23")["etag"], after["etag"]);
    assert!(left_files(dir.path()).is_empty());
}

#[test]
fn an_edit_that_cannot_be_written_leaves_its_text_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    write(dir.path(), "patch.json", r#"{"name": "station-lamp-23", "headline": "Meanwhile"}"#);
    for (script, exit_code, expected) in [
        (r#"echo lost >>"$2"; exit 3"#, 1, "failed: exit status: 3; nothing was written"),
        (r#"sed -i 's/^headline: .*/headline:/' "$2""#, 2, "FIELD_INVALID: article.headline"),
        (r#"sed -i 's/^headline:/hedline:/' "$2""#, 2, "unknown field `hedline`; did you mean `headline`?"),
        (r#"sed -i 's/^name: .*/name: other/' "$2""#, 2, "the name has changed"),
        (
            r#""$CABLE" article put patch.json >/dev/null; sed -i 's/^headline: .*/headline: Mine/' "$2""#,
            4,
            "ABORTED ETAG_MISMATCH",
        ),
    ] {
        let output = edit(&demo, dir.path(), &["station-lamp-23"], script);
        assert_eq!(code(&output), exit_code, "{script}: {}", stderr(&output));
        let (files, errors) = (left_files(dir.path()), stderr(&output));
        let [file] = &files[..] else { panic!("{script}: {files:?}") };
        assert!(errors.contains(expected) && errors.contains(file), "{script}: {errors}");
        if exit_code == 4 {
            let diff = stdout(&demo.run(dir.path(), &format!("article diff {file}")));
            assert!(
                diff.contains("\n-headline: Meanwhile\n") && diff.contains("\n+headline: Mine\n"),
                "{diff}"
            );
            let put = demo.run(dir.path(), &format!("article put {file}"));
            assert_eq!(code(&put), 4, "{}", stderr(&put));
        }
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    assert_eq!(get(&demo, dir.path(), "article get station-lamp-23")["headline"], "Meanwhile");
    assert_eq!(code(&edit(&demo, dir.path(), &["none"], "true")), 3);
    assert!(left_files(dir.path()).is_empty());
}

#[test]
fn files_in_other_encodings_are_refused_with_one_message() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let wide: Vec<u8> = "\u{feff}{\"name\": \"a\"}\n{}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for name in ["a.json", "a.md", "a.jsonl"] {
        fs::write(dir.path().join(name), &wide).unwrap();
    }
    for line in ["tag put a.json", "article put a.md", "import jsonl a.jsonl"] {
        let output = demo.run(dir.path(), line);
        assert_ne!(code(&output), 0, "{line}");
        assert_eq!(stderr(&output).matches("UTF-16").count(), 2, "{line}: {}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1, "{line}: {}", stderr(&output));
    }
}
