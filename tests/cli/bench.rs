//! `cable bench`: its reports, its checks and its limits.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

use crate::support::{
    Demo, cable, code, follow, interrupt, put_article, run, stderr, stdout, wait_for_signal_handler,
};

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

/// Returns a report of `cable bench`, printed into a pipe.
fn report(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{} {}", stdout(output), stderr(output)))
}

fn number(report: &serde_json::Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"))
}
