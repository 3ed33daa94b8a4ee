//! The audit log: a line of every write, kill, denial, start and stop.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use cable::{audit, auth::Role, clock::Clock};
use cable_proto::DESCRIPTORS;
use prost_reflect::DescriptorPool;
use serde_json::{Value, json};
use tonic::Code;

use super::create;
use crate::{
    connections::{program::Program, soon},
    raw::Raw,
    support::Node,
};

const START: i64 = 1_900_000_000_000_000;

fn log(dir: &Path) -> PathBuf {
    dir.join("audit.log")
}

/// Starts a node with an audit log in a file.
async fn node(dir: &Path) -> Node {
    Node::start_with(&dir.join("store"), |config| config.audit.file = Some(log(dir))).await
}

/// Returns the events of the log, whose chain is whole.
fn events(dir: &Path) -> Vec<Value> {
    audit::verify(&[log(dir)]).unwrap();
    let text = fs::read_to_string(log(dir)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'a>(events: &'a [Value], event: &str) -> Vec<&'a Value> {
    events.iter().filter(|found| found["event"] == event).collect()
}

/// Returns the methods that write, of the schema.
fn writes() -> BTreeSet<String> {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let services = ["cable.v1.PublishingService", "cable.v1.TransferService"];
    let methods = services.iter().flat_map(|service| {
        let service = pool.get_service_by_name(service).unwrap();
        service.methods().map(|method| method.name().to_owned()).collect::<Vec<_>>()
    });
    let reads = ["GetPending", "ListPending", "Export"];
    methods.filter(|method| !reads.contains(&&method[..])).collect()
}

/// Returns a request of a method, and the changes that its line lists as name and action.
fn request(method: &str) -> (Value, Vec<(&'static str, &'static str)>) {
    let article =
        |id: &str| json!({"name": format!("articles/{id}"), "headline": "A", "path": format!("/{id}")});
    let later = json!({"name": "articles/p", "headline": "A", "publish_time": "2999-01-01T00:00:00Z"});
    let [killed, deleted] = ["REMOVAL_REASON_KILLED", "REMOVAL_REASON_DELETED"];
    match method {
        "PutArticle" => (json!({"article": article("a")}), vec![("articles/a", "put")]),
        "PatchArticle" => {
            (json!({"article": {"name": "articles/a", "headline": "B"}}), vec![("articles/a", "put")])
        }
        "RemoveArticle" => (json!({"name": "articles/a", "reason": killed}), vec![("articles/a", "kill")]),
        "RemovePending" => (json!({"name": "articles/p"}), vec![("articles/p", "remove_pending")]),
        "Commit" => (
            json!({"changes": [{"put_article": later}, {"put_tag": {"name": "tags/x", "display_name": "X"}}]}),
            vec![("articles/p", "put_pending"), ("tags/x", "put")],
        ),
        "Import" => (
            json!({"source": "test", "records": [
                {"tag": {"name": "tags/i", "display_name": "I"}},
                {"tombstone": {"name": "tags/x", "reason": killed}},
            ], "mode": "IMPORT_MODE_OVERWRITE"}),
            vec![("tags/x", "kill")],
        ),
        "PutAuthor" => {
            (json!({"author": {"name": "authors/a", "display_name": "A"}}), vec![("authors/a", "put")])
        }
        "PutSection" => {
            (json!({"section": {"name": "sections/a", "display_name": "A"}}), vec![("sections/a", "put")])
        }
        "PutTag" => (json!({"tag": {"name": "tags/a", "display_name": "A"}}), vec![("tags/a", "put")]),
        "PutCollection" => {
            (json!({"collection": {"name": "collections/a", "title": "A"}}), vec![("collections/a", "put")])
        }
        "RemoveAuthor" => (json!({"name": "authors/a", "reason": deleted}), vec![("authors/a", "remove")]),
        "RemoveSection" => (json!({"name": "sections/a", "reason": deleted}), vec![("sections/a", "remove")]),
        "RemoveTag" => (json!({"name": "tags/a", "reason": deleted}), vec![("tags/a", "remove")]),
        "RemoveCollection" => {
            (json!({"name": "collections/a", "reason": deleted}), vec![("collections/a", "remove")])
        }
        other => panic!("{other} writes, and this test has no request for it"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_has_a_line_before_it_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let raw = Raw::to(&node).await;
    let mut methods: Vec<_> = writes().into_iter().collect();
    assert!(methods.len() >= 14, "{methods:?}");
    // Each name is put before it is removed.
    let order = |method: &String| match &method[..] {
        method if method.starts_with("Put") => 0,
        "Commit" => 1,
        "PatchArticle" => 2,
        "Import" => 4,
        _ => 3,
    };
    methods.sort_by_key(order);
    for method in methods {
        let (request, expected) = request(&method);
        raw.call(&method, request).await.unwrap_or_else(|error| panic!("{method}: {error:?}"));
        let events = events(dir.path());
        let line = events.last().unwrap();
        let changes = line["changes"].as_array().unwrap_or_else(|| panic!("{method}: {line}"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let listed: Vec<_> =
            changes.iter().map(|change| (text(&change["name"]), text(&change["action"]))).collect();
        let expected: Vec<_> =
            expected.into_iter().map(|(name, action)| (name.to_owned(), action.to_owned())).collect();
        assert_eq!(listed, expected, "{method}");
        assert!(text(&line["method"]).ends_with(&format!("/{method}")), "{line}");
        let origin = (text(&line["principal"]), text(&line["peer"]));
        assert_eq!(origin, ("anonymous".to_owned(), "127.0.0.1".to_owned()), "{method}");
        assert!(!text(&line["request_id"]).is_empty());
        match &method[..] {
            "Import" => assert_eq!((&line["event"], &line["records"]), (&json!("import"), &json!(2))),
            _ => assert_eq!((&line["event"], &line["outcome"]), (&json!("write"), &json!("committed"))),
        }
        assert_eq!(changes.last().unwrap()["revision"], line["head"], "{method}");
    }
    assert_eq!(fs::metadata(log(dir.path())).unwrap().permissions().mode() & 0o777, 0o600);
    node.stop().await;
    let events = events(dir.path());
    assert_eq!((of(&events, "start").len(), of(&events, "stop").len()), (1, 1));
    assert_eq!(events.last().unwrap()["event"], "stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_kill_has_a_line_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let raw = Raw::to(&node).await;
    raw.call("PutTag", request("PutTag").0).await.unwrap();
    let kill = json!({"name": "tags/a", "reason": "REMOVAL_REASON_KILLED", "request_id": "k1"});
    for _ in 0..2 {
        raw.call("RemoveTag", kill.clone()).await.unwrap();
    }
    let outcomes: Vec<_> = of(&events(dir.path()), "write")
        .into_iter()
        .filter(|line| line["changes"][0]["action"] == "kill")
        .map(|line| line["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["committed", "replayed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_are_due_are_those_of_the_scheduler() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, control) = Clock::manual(START);
    let node =
        Node::run(0, &dir.path().join("store"), clock, |config| config.audit.file = Some(log(dir.path())))
            .await;
    let article = json!({"name": "articles/p", "headline": "A", "publish_time": "2030-03-17T18:00:00Z"});
    Raw::to(&node).await.call("PutArticle", json!({"article": article})).await.unwrap();
    control.set(START + 86_400_000_000);
    soon(async {
        while !events(dir.path()).iter().any(|line| line["principal"] == "scheduler") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let events = events(dir.path());
    let line = events.iter().find(|line| line["principal"] == "scheduler").unwrap();
    assert_eq!((line["event"].as_str(), line.get("peer")), (Some("write"), None));
    let changes = line["changes"].as_array().unwrap();
    assert!(
        changes.iter().any(|change| change["action"] == "put" && change["name"] == "articles/p"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_are_recorded_up_to_a_number_per_minute() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    fs::create_dir(&store).unwrap();
    let token = create(&store, "desk", Role::Reader);
    let node = node(dir.path()).await;
    let raw = Raw::to(&node).await;
    let header = format!("Bearer {}", token.expose());
    let forbidden = raw.call_with("PutTag", request("PutTag").0, &[("authorization", &header)]).await;
    assert_eq!(forbidden.unwrap_err().code(), Code::PermissionDenied);
    for _ in 0..200 {
        let refused = raw.call("GetTag", json!({"name": "tags/a"})).await.unwrap_err();
        assert_eq!(refused.code, Code::Unauthenticated);
    }
    node.stop().await;
    let events = events(dir.path());
    let denials = of(&events, "denial");
    assert_eq!(denials.len(), 60);
    let first = denials[0];
    let texts = ["principal", "outcome", "method"].map(|key| first[key].as_str().unwrap());
    assert_eq!(texts, ["desk", "PERMISSION_DENIED", "cable.v1.PublishingService/PutTag"]);
    assert!(token.expose().contains(first["credential"].as_str().unwrap()));
    assert_eq!(denials[1]["principal"], "anonymous");
    let omitted: u64 =
        of(&events, "denials_omitted").iter().map(|line| line["count"].as_u64().unwrap()).sum();
    assert!(omitted > 0 && omitted <= 141, "{omitted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_the_credentials_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    fs::create_dir(&store).unwrap();
    create(&store, "desk", Role::Reader);
    let node = node(dir.path()).await;
    // Once a call has its response, the node has started.
    Raw::to(&node).await.call("GetTag", json!({"name": "tags/a"})).await.unwrap_err();
    create(&store, "wire", Role::Publisher);
    let reloads = |outcome: &str| {
        let events = events(dir.path());
        of(&events, "reload").iter().filter(|line| line["outcome"] == outcome).count()
    };
    soon(async {
        while reloads("ok") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    fs::write(store.join("credentials.toml"), "not = [valid").unwrap();
    soon(async {
        while reloads("failed") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_made_without_the_log_are_stated_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    for with_log in [true, false, true] {
        let node = match with_log {
            true => node(dir.path()).await,
            false => Node::start(&dir.path().join("store")).await,
        };
        let tag = json!({"tag": {"name": "tags/a", "display_name": with_log.to_string()}});
        Raw::to(&node).await.call("PutTag", tag).await.unwrap();
        node.stop().await;
    }
    let events = events(dir.path());
    let unrecorded = of(&events, "unrecorded");
    assert_eq!(unrecorded.len(), 1);
    assert_eq!((&unrecorded[0]["after_revision"], &unrecorded[0]["to_revision"]), (&json!(1), &json!(2)));
}

/// A process that is killed at any time leaves no change without a line.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_every_change_has_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = log(dir.path()).display().to_string();
    let env = [("CABLE__AUDIT__FILE", &file[..])];
    let mut number = 0;
    for round in 0..4_u64 {
        let program = Program::start(&dir.path().join("store"), "true", &env);
        let raw = Raw::at(&format!("http://{}", program.address)).await;
        let writers = (0..4).map(|writer| {
            let raw = raw.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let name = format!("tags/r{round}w{writer}n{n}");
                    let put = json!({"tag": {"name": name, "display_name": "A"}});
                    let kill = json!({"name": name, "reason": "REMOVAL_REASON_KILLED"});
                    if raw.call_lost("PutTag", put).await || raw.call_lost("RemoveTag", kill).await {
                        return;
                    }
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        tokio::time::sleep(Duration::from_millis(150 + 70 * round)).await;
        program.signal("KILL");
        for writer in writers {
            writer.await.unwrap();
        }
        number += 1;
    }
    let program = Program::start(&dir.path().join("store"), "true", &env);
    let raw = Raw::at(&format!("http://{}", program.address)).await;
    let head = raw.call("GetStatus", json!({})).await.unwrap();
    let head = head["head"]["revision"].as_i64().unwrap_or_else(|| panic!("{head}"));
    let events = events(dir.path());
    assert_eq!(of(&events, "start").len(), number + 1);
    assert_eq!(of(&events, "unrecorded").len(), 0);
    let mut recorded = BTreeSet::new();
    for line in &events {
        for change in line["changes"].as_array().into_iter().flatten() {
            recorded.insert(change["revision"].as_i64().unwrap());
        }
        if line["event"] == "not_committed" {
            recorded.retain(|revision| *revision <= line["after_revision"].as_i64().unwrap());
        }
    }
    assert!(head > 20, "{head}");
    assert_eq!(recorded, (1..=head).collect());
}

/// On a full disk, a chunk of an import is refused as a whole, although its removals are made.
#[tokio::test]
async fn a_kill_has_a_line_if_a_full_disk_rejects_the_puts_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = node(dir.path()).await;
    let article = json!({"name": "articles/a", "headline": "A"});
    Raw::to(&first).await.call("PutArticle", json!({"article": article})).await.unwrap();
    first.stop().await;
    let full = Node::start_with(&dir.path().join("store"), |config| {
        config.audit.file = Some(log(dir.path()));
        config.store.reserve_bytes = u64::MAX;
    })
    .await;
    let raw = Raw::to(&full).await;
    let records = json!([
        {"article": {"name": "articles/b", "headline": "B"}},
        {"tombstone": {"name": "articles/a", "reason": "REMOVAL_REASON_KILLED"}},
    ]);
    let refused = raw.call("Import", json!({"records": records})).await.unwrap_err();
    assert_eq!(refused.reason, "STORE_FULL");
    assert_eq!(
        raw.call("GetArticle", json!({"name": "articles/a"})).await.unwrap_err().metadata["reason"],
        "KILLED"
    );
    full.stop().await;
    let events = events(dir.path());
    let kills = events.iter().filter(|event| event.to_string().contains("\"kill\""));
    assert_eq!(kills.count(), 1, "{events:?}");
}
