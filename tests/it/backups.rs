//! Backups of a running node: what they contain, how they end early, and who may make them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use cable::{
    admin::{self, Incoming},
    auth::{CredentialFile, NewCredential, Role},
    clock::Clock,
};
use cable_client::{Cable, Retry, Token, v1};
use futures_util::TryStreamExt as _;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Streaming};

use crate::{
    connections::soon,
    raw::{Raw, request_bytes},
    support::{Node, article},
};

/// Articles of incompressible text: together more than all windows and buffers between a node and its client.
const ARTICLES: usize = 300;

/// Returns text that no compression shortens much.
fn noise(seed: usize) -> String {
    let word = |n: usize| xxhash_rust::xxh3::xxh3_64(format!("{seed} {n}").as_bytes());
    (0..600).map(|n| format!("{:016x}", word(n))).collect()
}

async fn fill(cable: &Cable) {
    for n in 0..ARTICLES {
        let mut article = article(&format!("a{n}"), "Ferry timetable", &["sea"]);
        article.body = Some(crate::support::body(&noise(n)));
        cable.put(article).await.unwrap();
    }
}

/// Starts a node with an audit log.
async fn start(dir: &Path) -> Node {
    let audit = dir.join("audit.log");
    Node::start_with(&dir.join("store"), |config| config.audit.file = Some(audit)).await
}

/// Returns what the audit log has on backups.
fn audited(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("audit.log")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "backup").collect()
}

/// Waits until the audit log has a line on the end of a backup.
async fn ended(dir: &Path, outcome: &str) -> Value {
    soon(async {
        loop {
            let lines = audited(dir);
            match lines.last().filter(|line| line["outcome"] != "started") {
                Some(line) => {
                    assert_eq!(line["outcome"], outcome, "{lines:?}");
                    return line.clone();
                }
                None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    })
    .await
}

/// Returns the files of the store's copies that exist or that this process has open without a name.
fn copies(store: &Path) -> Vec<PathBuf> {
    let named = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let open = open.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let is_copy =
        |path: &PathBuf| path.starts_with(store) && path.to_string_lossy().contains("/.cable-copy-");
    named.chain(open).filter(is_copy).collect()
}

/// Opens a backup and reads its manifest. The rest does not fit into the windows.
async fn open(node: &Node) -> Streaming<Bytes> {
    let raw = Raw::narrow(node).await;
    let mut messages = raw.stream("Backup", request_bytes("Backup", json!({}))).await.unwrap();
    let first = v1::BackupResponse::decode(messages.message().await.unwrap().unwrap()).unwrap();
    let Some(v1::backup_response::Part::Manifest(manifest)) = first.part else { panic!("{first:?}") };
    assert!(manifest.bytes > 2 << 20, "{} bytes", manifest.bytes);
    messages
}

/// Reads a stream to its end. Returns the error that it ends with.
async fn drain(mut messages: Streaming<Bytes>) -> tonic::Status {
    loop {
        match soon(messages.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the backup is complete"),
            Err(status) => return status,
        }
    }
}

/// Returns the reason of an error.
fn reason(status: &tonic::Status) -> (Code, String) {
    use tonic_types::StatusExt as _;
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    (status.code(), info.reason)
}

/// Writes until the flag is set. Counts the writes.
async fn write_until(cable: Cable, done: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    while !done.load(Relaxed) {
        let n = written.fetch_add(1, Relaxed);
        cable.put(article(&format!("w{}", n % 50), &format!("Edition {n}"), &["sea"])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_writes_restores_to_its_own_digests() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let cable = node.client();
    fill(&cable).await;
    let (done, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = tokio::spawn(write_until(cable.clone(), done.clone(), written.clone()));
    soon(async {
        while written.load(Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let mut backup = cable.backup().await.unwrap();
    let manifest = backup.manifest().clone();
    let at_manifest = written.load(Relaxed);
    let to = dir.path().join("newsroom.cable");
    let mut incoming = Incoming::create(&to).unwrap();
    while let Some(bytes) = backup.try_next().await.unwrap() {
        assert!(bytes.len() <= 256 << 10);
        incoming.write(&bytes).unwrap();
        if written.load(Relaxed) == at_manifest {
            // The client is slow, and the writes continue.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    done.store(true, Relaxed);
    writer.await.unwrap();
    assert!(written.load(Relaxed) > at_manifest, "no write while the backup was sent");
    incoming.finish(&backup.end().unwrap().sha256, |_| {}).unwrap();
    assert_eq!(fs::metadata(&to).unwrap().len() as i64, manifest.bytes);

    let position = manifest.position.clone().unwrap();
    let end = ended(dir.path(), "sent").await;
    for line in [&audited(dir.path())[0], &end] {
        assert_eq!(
            (&line["revision"], &line["log_id"]),
            (&json!(position.revision), &json!(position.log_id))
        );
        assert_eq!(line["method"], "cable.v1.AdminService/Backup");
        assert_eq!((&line["principal"], &line["peer"]), (&json!("anonymous"), &json!("127.0.0.1")));
    }
    assert_eq!(end["bytes"], manifest.bytes);
    assert!(fs::exists(dir.path().join("store/last-backup")).unwrap());
    let head = cable.status().await.unwrap().head.unwrap();
    assert!(head.revision > position.revision);
    assert_eq!(copies(&dir.path().join("store")), Vec::<PathBuf>::new());
    node.stop().await;

    let restored = dir.path().join("restored");
    admin::restore(&to, &restored, true, |_| {}).unwrap();
    let node = Node::start(&restored).await;
    let status = node.client().status().await.unwrap();
    assert_eq!(status.head, Some(position));
    assert_eq!((status.log_digest, status.content_digest), (manifest.log_digest, manifest.content_digest));
    assert_eq!(node.client().article("a7").await.unwrap().headline, "Ferry timetable");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_leaves_nothing_and_a_second_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    fill(&node.client()).await;
    let first = open(&node).await;
    let refused = Raw::to(&node).await.call("Backup", json!({})).await.unwrap_err();
    assert_eq!((refused.code, &*refused.reason), (Code::ResourceExhausted, "BACKUP_RUNNING"));
    assert!(refused.retry);
    assert_eq!(copies(&dir.path().join("store")).len(), 1, "the copy has no name and is open");
    drop(first);
    let end = ended(dir.path(), "cancelled").await;
    let bytes = end["bytes"].as_u64().unwrap();
    assert!(bytes < 2 << 20, "{bytes} bytes were sent to a client that did not read them");
    assert_eq!(copies(&dir.path().join("store")), Vec::<PathBuf>::new());
    assert!(!fs::exists(dir.path().join("store/last-backup")).unwrap());
    drop(open(&node).await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_does_not_wait_for_a_backup_and_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let cable = node.client();
    fill(&cable).await;
    let backup = open(&node).await;
    cable.remove("articles/a3", v1::RemovalReason::Killed).await.unwrap();
    let status = drain(backup).await;
    assert_eq!(reason(&status), (Code::Unavailable, "BACKUP_INTERRUPTED".to_owned()));
    ended(dir.path(), "failed").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_ends_with_its_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    fill(&node.client()).await;
    let backup = open(&node).await;
    let reading = tokio::spawn(drain(backup));
    node.stop().await;
    assert_eq!(reason(&reading.await.unwrap()), (Code::Unavailable, "DRAINING".to_owned()));
    assert_eq!(copies(&dir.path().join("store")), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_for_a_copy_refuses_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.store.reserve_bytes = u64::MAX).await;
    let refused = Raw::to(&node).await.call("Backup", json!({})).await.unwrap_err();
    assert_eq!((refused.code, &*refused.reason), (Code::ResourceExhausted, "STORE_FULL"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admin_makes_a_backup_and_it_has_no_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let file = CredentialFile::new(dir.path().join("credentials.toml"));
    let token = |name: &str, role| {
        let new =
            NewCredential { name: name.to_owned(), role, filter: None, lifetime: None, certificate: None };
        file.create(new, Clock::system().now()).unwrap().unwrap().expose().to_owned()
    };
    let [publisher, admin] = [token("desk", Role::Publisher), token("operator", Role::Admin)];
    let node = Node::start(dir.path()).await;
    let refused = Raw::to(&node).await.with_token(&publisher).call("Backup", json!({})).await.unwrap_err();
    assert_eq!((refused.code, &*refused.reason), (Code::PermissionDenied, "ROLE_REQUIRED"));
    assert_eq!(refused.metadata["required_role"], "admin");

    let cable = Cable::builder(node.endpoint()).token(Token::new(&admin)).retry(Retry::none());
    let backup = cable.build().unwrap().backup().await.unwrap();
    let chunks: Vec<Bytes> = backup.try_collect().await.unwrap();
    let bytes = chunks.concat();
    let stored = fs::read_to_string(file.path()).unwrap();
    let hashes = stored.lines().filter_map(|line| line.strip_prefix("token_sha256 = "));
    let hashes: Vec<&str> = hashes.map(|hash| hash.trim_matches('"')).collect();
    assert_eq!(hashes.len(), 2, "{stored}");
    for secret in hashes.into_iter().chain([&publisher[..], &admin, "operator"]) {
        assert!(!bytes.windows(secret.len()).any(|found| found == secret.as_bytes()), "{secret}");
    }
    node.stop().await;
}
