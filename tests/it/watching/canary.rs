//! Secrets, texts of articles and control characters appear in no log, metric or error.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use cable::auth::Role;
use serde_json::json;
use tonic_types::StatusExt as _;

use super::create;
use crate::{connections::program::Program, raw::Raw};

const TEXT: &str = "canary-of-the-body-5150";
const CONTROL: &str = "\u{1b}]0;canary-title\u{7}";

fn scrape(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_text_or_control_character_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    fs::create_dir(&store).unwrap();
    let (publisher, reader) = (
        create(&store, "desk", Role::Publisher),
        create(&store, &format!("wire{CONTROL}").replace(CONTROL, "-1"), Role::Reader),
    );
    let audit = dir.path().join("audit.log").display().to_string();
    let ops = "127.0.0.1:17291";
    let env = [
        ("CABLE__LOG__LEVEL", "trace,h2=trace"),
        ("CABLE__LOG__ACCESS", "1"),
        ("CABLE__AUDIT__FILE", &audit),
        ("CABLE__SERVER__OPS_LISTEN", ops),
    ];
    let program = Program::start_serving_ops(&store, "true", &env);
    let raw = Raw::at(&format!("http://{}", program.address)).await;
    let bearer = |token: &str| format!("Bearer {token}");
    let [publishing, reading] = [&publisher, &reader].map(|token| bearer(token.expose()));
    let wrong = bearer(&publisher.expose().replace(['a', 'b', 'c'], "d"));
    let article = |text: &str| {
        let body = json!({"blocks": [{"paragraph": {"spans": [{"text": text}]}}]});
        json!({"article": {"name": "articles/a", "headline": "A", "body": body}})
    };
    let mut errors = Vec::new();
    for (method, request) in [
        ("PutArticle", article(TEXT)),
        ("PutArticle", article(&format!("{TEXT}{CONTROL}"))),
        ("PutArticle", json!({"article": {"name": format!("articles/{CONTROL}")}})),
        ("GetArticle", json!({"name": "articles/a"})),
        ("GetArticle", json!({"name": format!("articles/{CONTROL}")})),
        ("RemoveArticle", json!({"name": "articles/a", "reason": "REMOVAL_REASON_KILLED"})),
    ] {
        for authorization in [&publishing, &reading, &wrong, "Bearer", "Basic canary-of-basic-5150"] {
            let headers = [("authorization", authorization), ("x-request-id", "canary id 5150")];
            if let Err(status) = raw.call_with(method, request.clone(), &headers).await {
                errors.push(format!("{} {:?}", status.message(), status.get_error_details()));
            }
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let metrics = scrape(ops, "/metrics");
    let page = scrape(ops, "/");
    let logged = program.lines_within(Duration::from_secs(1)).join("\n");
    let audited = fs::read_to_string(&audit).unwrap();
    assert!(audited.contains("\"kill\"") && logged.contains("cable.v1.ContentService/GetArticle"));
    assert!(metrics.contains("cable_auth_failures_total"), "{metrics}");
    for (place, text) in [
        ("the log", &logged),
        ("the audit log", &audited),
        ("the metrics", &metrics),
        ("the operations page", &page),
        ("the errors", &errors.join("\n")),
    ] {
        let secret = |token: &cable::auth::Token| token.expose().rsplit_once('_').unwrap().1.to_owned();
        for canary in [&secret(&publisher), &secret(&reader), TEXT, "canary-of-basic-5150", "canary id 5150"]
        {
            assert!(!text.contains(canary), "{canary} is in {place}");
        }
        let controls = text.chars().filter(|c| c.is_control() && !"\r\n".contains(*c)).count();
        assert_eq!(controls, 0, "{place} has control characters");
    }
}
