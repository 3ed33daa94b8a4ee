//! A lost history leaves etags, page tokens and positions in clients. These meet the history that replaced it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use cable_client::{Cable, ErrorReason, Filter, Position, v1::watch_request::Start};
use futures_util::StreamExt as _;

use crate::{
    connections::soon,
    follow::{FeedEvent, WatchStream, request},
    support::{Node, article},
};

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Returns the files of a stopped store, except those that belong to a process. An empty write-ahead log may disappear
/// at any time, so it is never among them.
pub(crate) fn files(dir: &Path) -> Files {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let names = fs::read_dir(dir).unwrap().map(|entry| name(entry.unwrap()));
    let names = names.filter(|name| name != "cable.lock" && !name.ends_with("-shm"));
    let read = |name: String| match fs::read(dir.join(&name)) {
        Ok(bytes) => Some((name, bytes)),
        Err(gone) if gone.kind() == io::ErrorKind::NotFound && name.ends_with("-wal") => None,
        Err(error) => panic!("{name}: {error}"),
    };
    names.filter_map(read).filter(|(name, bytes)| !(name.ends_with("-wal") && bytes.is_empty())).collect()
}

/// Overwrites the files of a store.
pub(crate) fn put(dir: &Path, files: &Files) {
    files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
}

/// Stops a node and waits until its threads have closed the files of its store. The last one would remove a write-ahead
/// log that a test puts there.
pub(crate) async fn stop(node: Node, dir: &Path) {
    node.stop().await;
    let is_open = |entry: io::Result<fs::DirEntry>| {
        let file = fs::read_link(entry.unwrap().path());
        file.is_ok_and(|file| file.starts_with(dir))
    };
    let closed = async {
        while fs::read_dir("/proc/self/fd").unwrap().any(is_open) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    soon(closed).await;
}

/// A client's state for the article `a`.
struct Tokens {
    article_etag: String,
    response_etag: String,
    position: Position,
    page_token: String,
}

/// Publishes a version of the article `a`, which is in a list of two.
async fn publish(cable: &Cable, headline: &str) -> Tokens {
    let written = cable.put(article("a", headline, &["sea"])).await.unwrap();
    let read = cable.article("a").await.unwrap();
    assert_eq!(read.etag, written.etag);
    let pages = &mut cable.list(Filter::default().tag("sea")).page_size(1).pages();
    let page = pages.next().await.unwrap().unwrap();
    Tokens {
        article_etag: written.etag,
        response_etag: read.meta.etag.clone(),
        position: written.position,
        page_token: page.next_page_token.clone().unwrap(),
    }
}

/// Asserts that the etags of a version that does not exist match nothing, and that no feed can resume from its
/// position.
async fn expect_unknown(node: &Node, lost: &Tokens) {
    let cable = node.client();
    let read = cable.article("a").if_none_match(&lost.response_etag).await.unwrap();
    assert!(read.is_some(), "the response is another one");
    let error = cable.put(article("a", "Third", &["sea"])).if_etag(&lost.article_etag).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::EtagMismatch));
    let error = cable.remove("articles/a", cable_client::RemovalReason::Deleted);
    let error = error.if_etag(&lost.article_etag).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::EtagMismatch));
    let mut watch = request(&["sea"], Some(Start::After(lost.position.clone())));
    let refused = WatchStream::open(node, watch.clone()).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(
        refused.message().contains("restored") && refused.message().contains("`allow_reset`"),
        "{refused}"
    );
    watch.allow_reset = true;
    let mut feed = WatchStream::open(node, watch).await.unwrap();
    assert!(matches!(feed.next().await.0, FeedEvent::Reset(_)));
}

#[tokio::test]
async fn tokens_of_a_lost_history_are_refused_by_a_restored_store() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, restored) = (temp.path().join("store"), temp.path().join("restored"));
    let node = Node::start(&dir).await;
    node.client().put(article("b", "Calm", &["sea"])).await.unwrap();
    stop(node, &dir).await;
    fs::create_dir(&restored).unwrap();
    put(&restored, &files(&dir));

    let node = Node::start(&dir).await;
    let lost = publish(&node.client(), "Lost").await;
    stop(node, &dir).await;
    let node = Node::start(&restored).await;
    let cable = node.client();
    let current = publish(&cable, "There").await;
    assert_eq!(current.position.revision, lost.position.revision);
    assert_ne!(current.position.log_id, lost.position.log_id);
    assert!(
        current.article_etag.starts_with(&format!("{}-2-", current.position.log_id)),
        "{}",
        current.article_etag
    );
    expect_unknown(&node, &lost).await;

    // A position without a chain has the log id.
    let mut position = lost.position.clone();
    position.chain.clear();
    let refused =
        WatchStream::open(&node, request(&["sea"], Some(Start::After(position)))).await.err().unwrap();
    assert!(refused.message().contains("log_id mismatch"), "{refused}");
    let error = cable.article("a").not_older_than(&lost.position).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::LogChanged));
    let list = cable.list(Filter::default().tag("sea")).page_size(1).page_token(lost.page_token);
    let error = list.pages().next().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::PageTokenInvalid));
    stop(node, &restored).await;

    let node = Node::start(&restored).await;
    let cable = node.client();
    let read = cable
        .article("a")
        .not_older_than(&current.position)
        .if_none_match(&current.response_etag)
        .await
        .unwrap();
    assert!(read.is_none(), "a restart changes no token");
    cable.put(article("a", "Next", &["sea"])).if_etag(&current.article_etag).await.unwrap();
    node.stop().await;
}

/// This is like a volume that is rolled back to a snapshot: nothing in the directory shows the node that a history was
/// lost.
#[tokio::test]
async fn etags_and_positions_of_lost_content_match_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let node = Node::start(dir).await;
    node.client().put(article("b", "Calm", &["sea"])).await.unwrap();
    let before = files(dir);
    let lost = publish(&node.client(), "Lost").await;
    stop(node, dir).await;
    put(dir, &before);
    let node = Node::start(dir).await;
    let current = publish(&node.client(), "There").await;
    let log_and_revision = |position: &Position| (position.log_id.clone(), position.revision);
    assert_eq!(log_and_revision(&current.position), log_and_revision(&lost.position));
    assert_ne!(current.article_etag, lost.article_etag);
    expect_unknown(&node, &lost).await;
    let watch = request(&["sea"], Some(Start::After(lost.position)));
    let refused = WatchStream::open(&node, watch).await.err().unwrap();
    assert!(refused.message().contains("chain mismatch at revision 2"), "{refused}");
    node.stop().await;
}

/// Puts articles, one after the other, until it is stopped. Returns the content digest of each revision.
async fn put_until(cable: Cable, stop: Arc<AtomicBool>) -> BTreeMap<i64, Vec<u8>> {
    let mut digests = BTreeMap::new();
    for number in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let name = format!("n{}", number % 40);
        cable.put(article(&name, &format!("Version {number}"), &["sea"])).await.unwrap();
        let status = cable.status().await.unwrap();
        digests.insert(status.head.unwrap().revision, status.content_digest.to_vec());
    }
    digests
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_during_writes_is_one_state() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    let node = Node::start(&dir).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(put_until(node.client(), stop.clone()));
    let (mut restored, mut revisions) = (Vec::new(), BTreeSet::new());
    for number in 0..5 {
        let before = node.client().status().await.unwrap().head.unwrap().revision;
        soon(async { while node.client().status().await.unwrap().head.unwrap().revision < before + 5 {} })
            .await;
        let (dir, backup) = (dir.clone(), root.path().join(format!("backup-{number}")));
        let copy = root.path().join(format!("restored-{number}"));
        let to = copy.clone();
        let done = tokio::task::spawn_blocking(move || {
            cable::admin::backup(&dir, &backup, |_| {}).unwrap();
            cable::admin::restore(&backup, &to, true, |_| {}).unwrap();
        });
        done.await.unwrap();
        restored.push(copy);
    }
    stop.store(true, Relaxed);
    let digests = writer.await.unwrap();
    node.stop().await;
    for copy in restored {
        let node = Node::start(&copy).await;
        let status = node.client().status().await.unwrap();
        let revision = status.head.unwrap().revision;
        assert_eq!(digests.get(&revision), Some(&status.content_digest.to_vec()), "revision {revision}");
        assert!(revisions.insert(revision), "writes continued between the backups");
        node.stop().await;
    }
}
