//! A disk that fails under the program: the writes that succeed, the writes that fail, and the health status.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    connections::{program::Program, soon},
    operations::page_with,
    raw::Raw,
};

mod full;

const PUBLISHING: &str = "cable.v1.PublishingService";

/// The program on a disk whose faults are triggered by files.
struct Faulty {
    dir: tempfile::TempDir,
    program: Option<Program>,
}

impl Faulty {
    fn start() -> Faulty {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faulty_disk.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(dir.path().join("disk.so")).arg(source);
        assert!(compiler.status().unwrap().success());
        let mut faulty = Faulty { dir, program: None };
        faulty.restart();
        faulty
    }

    fn restart(&mut self) {
        self.program = None;
        let (library, faults) = (self.dir.path().join("disk.so"), self.dir.path());
        let before = format!("export LD_PRELOAD={} FAULTS={}", library.display(), faults.display());
        let audit = self.audit().display().to_string();
        let env = [("CABLE__AUDIT__FILE", &audit[..]), ("CABLE__SERVER__OPS_LISTEN", "127.0.0.1:0")];
        self.program = Some(Program::start_serving_ops(&self.dir.path().join("store"), &before, &env));
    }

    /// Stops the program and starts it again, which it refuses. Returns its last line.
    fn refused_restart(&mut self) -> String {
        self.program = None;
        let mut command = Command::new(env!("CARGO_BIN_EXE_cable"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "off", "--data"]);
        command.arg(self.dir.path().join("store")).env("FAULTS", self.dir.path());
        let output = command.env("LD_PRELOAD", self.dir.path().join("disk.so")).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        text.lines().last().unwrap().to_owned()
    }

    fn audit(&self) -> PathBuf {
        self.dir.path().join("audit.log")
    }

    /// Returns the events of the audit log, whose chain is whole.
    fn audited(&self) -> Vec<Value> {
        cable::audit::verify(&[self.audit()]).unwrap();
        let text = fs::read_to_string(self.audit()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn inject(&self, fault: &str) {
        fs::write(self.dir.path().join(fault), "").unwrap();
    }

    fn clear(&self, fault: &str) {
        fs::remove_file(self.dir.path().join(fault)).unwrap();
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.program.as_ref().unwrap().address)
    }

    async fn put(&self, id: &str, characters: usize) -> Result<(), (Code, String)> {
        let text = "x".repeat(characters);
        let tag = json!({"tag": {"name": format!("tags/{id}"), "display_name": "A", "description": text}});
        let raw = Raw::at(&self.endpoint()).await;
        raw.call("PutTag", tag).await.map(drop).map_err(|refused| (refused.code, refused.reason))
    }

    async fn get(&self, id: &str) -> Result<Value, (Code, String)> {
        let tag = json!({"name": format!("tags/{id}")});
        let found = Raw::at(&self.endpoint()).await.call("GetTag", tag).await;
        found.map_err(|refused| (refused.code, refused.reason))
    }

    async fn has_tag(&self, id: &str) -> bool {
        self.get(id).await.is_ok()
    }

    async fn is_serving(&self, service: &str) -> bool {
        is_serving(&self.endpoint(), service).await
    }

    async fn wait_for_health(&self, service: &str, serving: bool) {
        wait_for_health(&self.endpoint(), service, serving).await;
    }
}

async fn is_serving(endpoint: &str, service: &str) -> bool {
    let channel = Endpoint::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
    let request = HealthCheckRequest { service: service.into() };
    HealthClient::new(channel).check(request).await.unwrap().into_inner().status == 1
}

/// Waits until a service of a node has the given health.
async fn wait_for_health(endpoint: &str, service: &str, serving: bool) {
    soon(async { while is_serving(endpoint, service).await != serving {} }).await;
}

fn refusal(code: Code, reason: &str) -> Result<(), (Code, String)> {
    Err((code, reason.into()))
}

/// Acknowledges the position of the head.
async fn acknowledge(node: &Faulty, consumer: &str) -> Result<(), (Code, String)> {
    let raw = Raw::at(&node.endpoint()).await;
    let head = raw.call("GetStatus", json!({})).await.unwrap()["head"].clone();
    let request = json!({"consumer": consumer, "position": head});
    let done = raw.call("AcknowledgePosition", request).await;
    done.map(drop).map_err(|refused| (refused.code, refused.reason))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_is_not_on_disk_is_an_error() {
    let mut node = Faulty::start();
    node.put("a", 1).await.unwrap();
    acknowledge(&node, "index").await.unwrap();
    node.put("b", 1).await.unwrap();
    node.inject("space");
    assert_eq!(acknowledge(&node, "index").await, refusal(Code::ResourceExhausted, "STORE_FULL"));
    let revision = async |node: &Faulty| {
        let listed = Raw::at(&node.endpoint()).await.call("ListConsumers", json!({})).await.unwrap();
        listed["consumers"][0]["position"]["revision"].as_i64().unwrap()
    };
    assert_eq!(revision(&node).await, 1);
    node.clear("space");
    acknowledge(&node, "index").await.unwrap();
    assert_eq!(revision(&node).await, 2);
    node.put("c", 1).await.unwrap();
    node.inject("sync-log");
    assert_eq!(acknowledge(&node, "index").await, refusal(Code::Unavailable, "OUTCOME_UNKNOWN"));
    node.clear("sync-log");
    assert_eq!(acknowledge(&node, "index").await, refusal(Code::Unavailable, "STORE_FAILED"));
    node.restart();
    assert!(revision(&node).await >= 2);
    acknowledge(&node, "index").await.unwrap();
    assert_eq!(revision(&node).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_log_sync_stops_writes_until_a_restart() {
    let mut node = Faulty::start();
    node.put("a", 1).await.unwrap();
    assert!(node.is_serving(PUBLISHING).await);
    node.inject("sync-log");
    assert_eq!(node.put("b", 1).await, refusal(Code::Unavailable, "OUTCOME_UNKNOWN"));
    node.clear("sync-log");
    assert_eq!(node.put("c", 1).await, refusal(Code::Unavailable, "STORE_FAILED"));
    node.wait_for_health(PUBLISHING, false).await;
    for service in ["", "cable.v1.ContentService", "cable.v1.FeedService", "cable.v1.TransferService"] {
        assert!(node.is_serving(service).await, "{service}");
    }
    assert!(node.has_tag("a").await && !node.has_tag("c").await);

    node.restart();
    node.put("c", 1).await.unwrap();
    assert!(node.has_tag("a").await && node.is_serving(PUBLISHING).await);
}

/// SQLite's own automatic checkpoint would not report the failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_database_sync_stops_writes() {
    let node = Faulty::start();
    node.inject("sync-database");
    let mut number = 0;
    soon(async {
        while node.put(&format!("t{number}"), 2_000).await.is_ok() {
            number += 1;
        }
    })
    .await;
    assert_eq!(node.put("a", 1).await, refusal(Code::Unavailable, "STORE_FAILED"));
    node.wait_for_health(PUBLISHING, false).await;
    for written in 0..number {
        assert!(node.has_tag(&format!("t{written}")).await, "t{written} was acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_until_space_is_freed() {
    let node = Faulty::start();
    node.put("a", 1).await.unwrap();
    node.inject("space");
    assert_eq!(node.put("b", 1).await, refusal(Code::ResourceExhausted, "STORE_FULL"));
    assert!(node.has_tag("a").await && !node.has_tag("b").await);
    let ops = node.program.as_ref().unwrap().ops_address.unwrap();
    let shown = page_with(ops, |page| page.contains("<td>STORE_FULL</td>")).await;
    assert!(
        shown.contains("<h1>Refusing writes</h1>") && shown.contains("<code>disk_full</code>"),
        "{shown}"
    );
    node.clear("space");
    node.wait_for_health(PUBLISHING, true).await;
    page_with(ops, |page| page.contains("<h1>Serving</h1>")).await;
    node.put("b", 1).await.unwrap();
    assert!(node.has_tag("b").await);
}

/// As after the kernel has remounted a disk with errors.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_directory_refuses_writes_and_a_start_and_loses_nothing() {
    let mut node = Faulty::start();
    node.put("a", 1).await.unwrap();
    node.inject("read-only");
    assert_eq!(node.put("b", 1).await, refusal(Code::Unavailable, "OUTCOME_UNKNOWN"));
    assert!(node.has_tag("a").await, "reads continue");
    let refused = node.refused_restart();
    for part in ["cannot open the store", "/store/cable.lock", "Read-only file system"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    node.clear("read-only");
    node.restart();
    node.put("c", 1).await.unwrap();
    assert!(node.has_tag("a").await && node.has_tag("c").await && !node.has_tag("b").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_disk_fails_is_refused_and_the_next_one_is_not() {
    let mut node = Faulty::start();
    node.put("a", 1).await.unwrap();
    node.inject("write");
    assert_eq!(node.put("b", 1).await, refusal(Code::Unavailable, "OUTCOME_UNKNOWN"));
    assert!(node.has_tag("a").await && !node.has_tag("b").await);
    node.clear("write");
    node.put("c", 1).await.unwrap();
    node.restart();
    assert!(node.has_tag("a").await && node.has_tag("c").await && !node.has_tag("b").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_be_read_is_an_error_and_never_an_empty_response() {
    let mut node = Faulty::start();
    node.put("a", 1).await.unwrap();
    node.restart();
    node.inject("read");
    let damaged = (Code::DataLoss, "STORE_DAMAGED".to_owned());
    for id in ["a", "absent"] {
        assert_eq!(node.get(id).await.unwrap_err(), damaged, "{id}");
    }
    assert_eq!(node.put("b", 1).await, Err(damaged));
    node.wait_for_health(PUBLISHING, false).await;
    let refused = node.refused_restart();
    for part in ["cannot open the store", "/store/cable.db", "disk I/O error"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    node.clear("read");
    node.restart();
    assert!(node.has_tag("a").await && node.is_serving(PUBLISHING).await);
    node.put("b", 1).await.unwrap();
}

fn count(events: &[Value], event: &str) -> usize {
    events.iter().filter(|found| found["event"] == event).count()
}

/// A kill is refused as well: no kill is without a line.
#[tokio::test(flavor = "multi_thread")]
async fn without_space_for_audit_lines_writes_are_refused_until_there_is() {
    let mut node = Faulty::start();
    node.put("a", 1).await.unwrap();
    node.inject("space-audit");
    assert_eq!(node.put("b", 1).await, refusal(Code::Unavailable, "STORE_FAILED"));
    let kill = json!({"name": "tags/a", "reason": "REMOVAL_REASON_KILLED"});
    let refused = Raw::at(&node.endpoint()).await.call("RemoveTag", kill.clone()).await.unwrap_err();
    assert_eq!((refused.code, &refused.reason[..]), (Code::Unavailable, "STORE_FAILED"));
    assert!(node.has_tag("a").await && !node.has_tag("b").await);
    node.wait_for_health(PUBLISHING, false).await;
    assert!(node.is_serving("cable.v1.ContentService").await);

    node.clear("space-audit");
    node.wait_for_health(PUBLISHING, true).await;
    Raw::at(&node.endpoint()).await.call("RemoveTag", kill).await.unwrap();
    assert!(!node.has_tag("a").await);
    let events = node.audited();
    assert_eq!((count(&events, "write"), count(&events, "resumed")), (2, 1));
    let killed = json!([{"name": "tags/a", "action": "kill", "revision": 2}]);
    assert!(events.iter().any(|event| event["changes"] == killed), "{events:?}");
    node.restart();
    assert_eq!(count(&node.audited(), "not_committed"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_of_the_audit_log_stops_writes_until_a_restart() {
    let mut node = Faulty::start();
    node.put("a", 1).await.unwrap();
    node.inject("sync-audit");
    assert_eq!(node.put("b", 1).await, refusal(Code::Unavailable, "STORE_FAILED"));
    node.clear("sync-audit");
    assert_eq!(node.put("c", 1).await, refusal(Code::Unavailable, "STORE_FAILED"));
    node.wait_for_health(PUBLISHING, false).await;
    assert!(node.has_tag("a").await && !node.has_tag("b").await);

    node.restart();
    node.put("c", 1).await.unwrap();
    // The line of the write that was refused may be in the file. Another one then states that nothing came of it.
    let events = node.audited();
    let lines = events.iter().filter(|event| event["changes"][0]["name"] == "tags/b").count();
    assert_eq!(lines, count(&events, "not_committed"), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_commit_after_its_audit_line_is_recorded() {
    let mut node = Faulty::start();
    node.put("a", 1).await.unwrap();
    node.inject("space");
    assert_eq!(node.put("b", 1).await, refusal(Code::ResourceExhausted, "STORE_FULL"));
    node.clear("space");
    node.restart();
    node.put("b", 1).await.unwrap();
    let events = node.audited();
    let tries = events.iter().filter(|event| event["changes"][0]["name"] == "tags/b").count();
    assert_eq!(tries - 1, count(&events, "not_committed"), "{events:?}");
    assert_eq!(count(&events, "unrecorded"), 0, "{events:?}");
}

/// The line that corrects the one of a failed commit has no space either. No line comes between the two.
#[tokio::test(flavor = "multi_thread")]
async fn a_correction_without_space_precedes_the_next_line() {
    for restarts in [false, true] {
        let mut node = Faulty::start();
        node.put("a", 1).await.unwrap();
        // The line of the write is written, then neither the store nor the audit log has space.
        node.inject("space");
        node.inject("space-audit-after-write");
        assert_eq!(node.put("b", 1).await, refusal(Code::ResourceExhausted, "STORE_FULL"));
        node.wait_for_health(PUBLISHING, false).await;
        node.clear("space");
        assert_eq!(node.put("c", 1).await, refusal(Code::Unavailable, "STORE_FAILED"));
        node.clear("space-audit-after-write");
        if restarts {
            node.restart();
        }
        node.wait_for_health(PUBLISHING, true).await;
        node.put("d", 1).await.unwrap();
        let events = node.audited();
        let at = |event: &str| events.iter().position(|found| found["event"] == event);
        let written = events.iter().position(|event| event["changes"][0]["name"] == "tags/b").unwrap();
        assert_eq!(at("not_committed"), Some(written + 1), "{events:?}");
        assert_eq!(count(&events, "not_committed"), 1, "{events:?}");
    }
}

/// A node whose audit log has no space at the start serves reads, refuses writes, and recovers.
#[tokio::test(flavor = "multi_thread")]
async fn without_space_for_audit_lines_a_node_starts_and_serves_reads() {
    for fault in ["space-audit", "create-audit"] {
        let mut node = Faulty::start();
        node.put("a", 1).await.unwrap();
        node.program = None;
        let earlier = fs::read(node.audit()).unwrap();
        if fault == "create-audit" {
            // As after a crash between the two steps of a rotation.
            fs::rename(node.audit(), node.audit().with_extension("log.000001")).unwrap();
        }
        node.inject(fault);
        node.restart();
        assert!(node.has_tag("a").await && !node.is_serving(PUBLISHING).await, "{fault}");
        assert_eq!(node.put("b", 1).await, refusal(Code::Unavailable, "STORE_FAILED"), "{fault}");
        node.clear(fault);
        node.wait_for_health(PUBLISHING, true).await;
        node.put("b", 1).await.unwrap();
        let added = fs::read_to_string(node.audit()).unwrap();
        let added = added.strip_prefix(std::str::from_utf8(&earlier).unwrap()).unwrap_or(&added);
        let events: Vec<Value> = added.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events[0]["event"], "start", "{fault}: {events:?}");
        assert_eq!(count(&events, "unrecorded"), 0, "{fault}: {events:?}");
    }
}

/// A person or another program removes, renames or cuts short the file while the node runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_audit_file_is_noticed_without_a_write() {
    let node = Faulty::start();
    node.put("a", 1).await.unwrap();
    fs::remove_file(node.audit()).unwrap();
    soon(async { while !node.audit().exists() {} }).await;
    soon(async { while fs::read(node.audit()).unwrap().is_empty() {} }).await;
    node.put("b", 1).await.unwrap();
    let events = node.audited();
    assert_eq!((&events[0]["event"], &events[1]["event"]), (&json!("file_lost"), &json!("write")));
    assert!(events[0]["line"].as_i64() > Some(2), "the chain continues: {events:?}");
}
