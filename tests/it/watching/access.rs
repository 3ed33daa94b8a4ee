//! The access log.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{connections::program::Program, raw::Raw};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn start(dir: &std::path::Path, share: &str) -> Program {
    let env = [("CABLE__LOG__ACCESS", share), ("CABLE__LOG__FORMAT", "json")];
    Program::start(dir, "true", &env)
}

async fn connect(program: &Program) -> Raw {
    Raw::at(&format!("http://{}", program.address)).await
}

/// Returns the lines of calls that were logged within a time.
fn lines(program: &Program, time: Duration) -> Vec<Value> {
    let lines = program.lines_within(time);
    let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["target"] == "access").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_describes_a_call() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), "1");
    let raw = connect(&program).await;
    let traceparent = format!("00-{TRACE}-00f0670011223344-01");
    let headers = [("x-request-id", "desk-7"), ("traceparent", &traceparent)];
    raw.call("PutTag", json!({"tag": {"name": "tags/a", "display_name": "A"}})).await.unwrap();
    raw.call_with("GetTag", json!({"name": "tags/a"}), &headers).await.unwrap();
    raw.call_with("GetTag", json!({"name": "tags/b"}), &[]).await.unwrap_err();
    raw.call_with("StreamArticles", json!({}), &[]).await.unwrap();
    let lines = lines(&program, Duration::from_secs(1));
    let find = |method: &str, code: &str| {
        let found = lines.iter().find(|line| {
            line["method"].as_str().is_some_and(|found| found.ends_with(method)) && line["code"] == code
        });
        found.unwrap_or_else(|| panic!("no line of {method} {code} in {lines:?}"))
    };
    let get = find("/GetTag", "OK");
    for (key, value) in [
        ("message", "call"),
        ("method", "cable.v1.ContentService/GetTag"),
        ("peer", "127.0.0.1"),
        ("principal", "anonymous"),
        ("request_id", "desk-7"),
        ("trace_id", TRACE),
    ] {
        assert_eq!(get[key], value, "{key}: {get}");
    }
    assert!(get["bytes"].as_u64().unwrap() > 10 && get["duration_ms"].as_f64().unwrap() > 0.0, "{get}");
    assert!(get.get("first_message_ms").is_none(), "{get}");
    let failed = find("/GetTag", "NOT_FOUND");
    assert!(
        failed["request_id"].as_str().unwrap().len() > 16 && failed.get("trace_id").is_none(),
        "{failed}"
    );
    assert!(find("/StreamArticles", "OK")["first_message_ms"].as_f64().unwrap() > 0.0);
    assert!(find("/PutTag", "OK").is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_a_fast_call_has_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let env = [("CABLE__LOG__FORMAT", "json"), ("CABLE__LOG__ACCESS_SLOW", "30s")];
    let program = Program::start(dir.path(), "true", &env);
    let raw = connect(&program).await;
    for _ in 0..20 {
        raw.call("GetTag", json!({"name": "tags/a"})).await.unwrap_err();
    }
    assert_eq!(lines(&program, Duration::from_millis(500)), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_calls_does_not_fill_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), "1");
    let raw = connect(&program).await;
    let start = Instant::now();
    let calls = (0..3_000).map(|_| async { drop(raw.call("GetTag", json!({"name": "tags/a"})).await) });
    futures_util::future::join_all(calls).await;
    let periods = start.elapsed().as_secs() as usize + 2;
    let lines = lines(&program, Duration::from_secs(2));
    let calls = lines.iter().filter(|line| line["message"] == "call").count();
    assert!(calls >= 200 && calls <= 200 * periods, "{calls} lines in {periods} periods");
}
