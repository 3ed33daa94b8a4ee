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
fn an_import_without_a_record_prints_only_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "import jsonl none.jsonl --endpoint http://127.0.0.1:1");
    assert_ne!(code(&output), 0);
    assert_eq!(stdout(&output), "", "{}", stderr(&output));
    assert!(!stderr(&output).is_empty());
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

/// As after a copy that was interrupted. The last line is cut within its last string, or by its last brace only.
#[test]
fn json_lines_that_were_cut_off_are_imported_up_to_the_last_line() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    let tag = |id: &str| format!("{{\"tag\":{{\"name\":\"tags/{id}\",\"displayName\":\"{id}\"}}}}\n");
    for (id, cut) in [("a", 1), ("b", 2), ("c", 6), ("d", 30)] {
        let whole = tag(&format!("{id}1")) + &tag(&format!("{id}2")) + &tag(&format!("{id}3"));
        // Without the line feed at the end, the file is complete.
        let file = whole.trim_end();
        fs::write(dir.path().join("cut.jsonl"), &file[..file.len() - cut]).unwrap();
        let output = demo.run(dir.path(), "import jsonl cut.jsonl --report report.jsonl");
        assert_eq!(code(&output), 1, "{id}: {}", stderr(&output));
        assert_eq!(stderr(&output), "cable: 1 items failed or were refused\n");
        let summary = stdout(&output);
        assert!(summary.contains("line 3: INVALID_ARGUMENT"), "{id}: {summary}");
        let report = fs::read_to_string(dir.path().join("report.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> =
            report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{report}");
        assert!(report.contains("\"line 3\"") && report.contains("EOF while parsing"), "{id}: {report}");
        for (number, exit_code) in [(1, 0), (2, 0), (3, 3)] {
            assert_eq!(
                code(&demo.run(dir.path(), &format!("tag get {id}{number}"))),
                exit_code,
                "{id}{number}"
            );
        }
        // The complete file needs no other command, and changes nothing twice.
        fs::write(dir.path().join("cut.jsonl"), file).unwrap();
        let output = demo.run(dir.path(), "import jsonl cut.jsonl");
        assert_eq!(code(&output), 0, "{id}: {}", stderr(&output));
        assert_eq!(code(&demo.run(dir.path(), &format!("tag get {id}3"))), 0);
    }
}

/// Returns a WordPress export with one post, in the form of one of its files.
fn export(site: &str, id: u32, title: &str, more: &str) -> String {
    format!(
        "<rss xmlns:wp='http://wordpress.org/export/1.2/' xmlns:dc='http://purl.org/dc/elements/1.1/'><channel>\
         <wp:base_blog_url>https://{site}</wp:base_blog_url><item><title>{title}</title>\
         <link>https://{site}/{title}/</link><wp:post_id>{id}</wp:post_id><wp:post_type>post</wp:post_type>\
         <wp:status>publish</wp:status><dc:creator>desk</dc:creator>{more}</item></channel></rss>"
    )
}

#[test]
fn wordpress_files_of_two_sites_live_under_two_prefixes() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    let later = "<wp:post_date_gmt>2999-01-01 00:00:00</wp:post_date_gmt>";
    for (file, content) in [
        ("a1.xml", export("lantern.example", 7, "Eels", "")),
        ("a2.xml", export("lantern.example", 8, "Later", later)),
        (
            "b.xml",
            export(
                "gazette.example",
                7,
                "Cranes",
                "<category domain='category' nicename='sea'>Sea</category>",
            ),
        ),
    ] {
        fs::write(dir.path().join(file), content).unwrap();
    }
    let output = demo.run(dir.path(), "import wxr a1.xml a2.xml --report report.jsonl");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(fs::read_to_string(dir.path().join("report.jsonl")).unwrap().lines().count(), 2);
    let output = demo.run(dir.path(), "import wxr b.xml --prefix gazette");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for (command, expected) in [
        ("article get wp-7 -o json", "\"Eels\""),
        ("article pending get wp-8 -o json", "\"Later\""),
        ("article get gazette-wp-7 -o json", "\"authors/gazette-desk\""),
        ("section get gazette-sea -o json", "\"Sea\""),
    ] {
        let output = demo.run(dir.path(), command);
        assert!(stdout(&output).contains(expected), "{command}: {}{}", stdout(&output), stderr(&output));
    }
    let output = demo.run(dir.path(), "import wxr a1.xml b.xml");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("b.xml: the file comes from gazette.example"), "{}", stderr(&output));
    for prefix in ["", "a/b", "caf\u{e9}", &"x".repeat(33)] {
        let output = demo.run(dir.path(), &format!("import wxr a1.xml --prefix={prefix}"));
        assert_eq!(code(&output), 2, "{prefix}");
    }
}

#[test]
fn an_article_that_its_source_hides_is_reported_while_it_is_live() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    let live = export("lantern.example", 7, "Eels", "");
    fs::write(dir.path().join("live.xml"), &live).unwrap();
    fs::write(dir.path().join("private.xml"), live.replace(">publish<", ">private<")).unwrap();
    assert_eq!(code(&demo.run(dir.path(), "import wxr live.xml")), 0);
    let hidden = demo.run(dir.path(), "import wxr private.xml --report report.jsonl");
    assert_eq!(code(&hidden), 0, "{}", stderr(&hidden));
    let command = "cable article rm wp-7";
    assert!(stdout(&hidden).contains(command), "{}", stdout(&hidden));
    assert!(
        fs::read_to_string(dir.path().join("report.jsonl")).unwrap().contains("\"outcome\":\"still live\"")
    );
    let removed = demo.run(dir.path(), command.trim_start_matches("cable "));
    assert_eq!(code(&removed), 0, "{}", stderr(&removed));
    let hidden = demo.run(dir.path(), "import wxr private.xml");
    assert!(!stdout(&hidden).contains(command), "{}", stdout(&hidden));
}

#[test]
fn a_wordpress_file_that_was_cut_off_is_imported_up_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    let whole = export("lantern.example", 7, "Eels", "");
    fs::write(dir.path().join("cut.xml"), &whole[..whole.len() - "</rss>".len()]).unwrap();
    let output = demo.run(dir.path(), "import wxr cut.xml");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("cut.xml: the file was cut off at byte"), "{}", stderr(&output));
    assert_eq!(code(&demo.run(dir.path(), "article get wp-7")), 0);
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

fn tag_line(id: &str, title: &str) -> String {
    format!("{{\"tag\":{{\"name\":\"tags/{id}\",\"displayName\":\"{title}\"}}}}\n")
}

/// A file that was joined from two exports, with one damaged byte.
#[test]
fn a_damaged_record_of_a_binary_file_does_not_cost_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    assert_eq!(code(&demo.run(dir.path(), "export --as binary --to all")), 0);
    let whole = fs::read(dir.path().join("all")).unwrap();
    let at = whole.windows(8).position(|bytes| bytes == b"articles").unwrap();
    let mut damaged = whole.clone();
    damaged[at] = 0xff;
    fs::write(dir.path().join("joined"), [&damaged[..], &whole].concat()).unwrap();
    let other = Demo::serve(dir.path(), "store");
    let output = other.run(dir.path(), "import binary joined");
    assert_eq!(code(&output), 1);
    assert_eq!(stderr(&output), "cable: 1 items failed or were refused\n");
    let table = stdout(&output);
    assert!(table.contains(" at byte ") && table.contains("invalid string value"), "{table}");
    let output = other.run(dir.path(), "import binary all");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let list = |demo: &Demo| stdout(&demo.run(dir.path(), "article ls -o json"));
    assert_eq!(list(&other).matches("\"name\"").count(), list(&demo).matches("\"name\"").count());
}

#[test]
fn a_file_of_another_kind_is_an_error_with_its_command() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    assert_eq!(code(&demo.run(dir.path(), "export --as binary --to all.bin")), 0);
    assert_eq!(code(&demo.run(dir.path(), "export --to all.jsonl")), 0);
    for (file, command) in [("article.json", "article get eel-survey"), ("list.json", "tag ls")] {
        let output = demo.run(dir.path(), &format!("{command} -o json"));
        fs::write(dir.path().join(file), stdout(&output)).unwrap();
    }
    fs::write(dir.path().join("tag.json"), "{\"name\":\"tags/a\",\"displayName\":\"A\"}\n").unwrap();
    for (line, remedy) in [
        ("import jsonl all.bin", "use `cable import binary`"),
        ("import jsonl article.json", "jq -c . FILE"),
        ("import jsonl list.json", "jq -c"),
        ("import jsonl tag.json", "use `cable tag put`"),
        ("import binary all.jsonl", "use `cable import jsonl`"),
    ] {
        let output = demo.run(dir.path(), line);
        assert_eq!((code(&output), stdout(&output)), (1, String::new()), "{line}");
        let error = stderr(&output);
        assert!(error.contains(remedy) && error.lines().count() == 1, "{line}: {error}");
    }
}

/// Otherwise followers would see both versions in each run.
#[test]
fn a_name_with_two_contents_is_refused_the_second_time() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    let lines = [tag_line("a", "One"), tag_line("b", "B"), tag_line("a", "Two"), tag_line("b", "B")];
    fs::write(dir.path().join("tags.jsonl"), lines.concat()).unwrap();
    for counts in
        ["         2          1          0          0", "         0          3          0          0"]
    {
        let output = demo.run(dir.path(), "import jsonl tags.jsonl");
        assert_eq!(code(&output), 1);
        let table = stdout(&output);
        assert!(table.contains(counts), "{table}");
        let problem = "line 3: INVALID_ARGUMENT: tags/a: another record of the file, line 1, has this name";
        assert!(table.contains(problem), "{table}");
    }
    assert!(stdout(&demo.run(dir.path(), "tag get a -o json")).contains("One"));
}

#[test]
fn lines_of_an_import_with_a_source_can_be_put() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    fs::write(dir.path().join("tags.jsonl"), tag_line("a", "A")).unwrap();
    let output = demo.run(dir.path(), "import jsonl tags.jsonl --source desk");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let lines = stdout(&demo.run(dir.path(), "export"));
    assert!(lines.contains("\"importSource\":\"desk\""), "{lines}");
    fs::write(dir.path().join("again.jsonl"), lines).unwrap();
    let output = demo.run(dir.path(), "tag put again.jsonl");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    // The advice of the refusal is an option of the command.
    fs::write(dir.path().join("tags.jsonl"), tag_line("b", "B")).unwrap();
    demo.run(dir.path(), "import jsonl tags.jsonl --source desk");
    fs::write(dir.path().join("tags.jsonl"), tag_line("b", "C")).unwrap();
    let output = demo.run(dir.path(), "import jsonl tags.jsonl --source https://desk.example");
    assert!(stdout(&output).contains("`--source 'desk'`"), "{}", stdout(&output));
    assert_eq!(code(&demo.run(dir.path(), "import jsonl tags.jsonl --source desk")), 0);
}
