//! Writes that are cancelled at any await, and others that request the same path.

use std::{
    pin::{Pin, pin},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Poll,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use prost::Message as _;
use tokio::sync::{Notify, oneshot, watch};

use super::*;
use crate::{
    clock::ManualClock,
    log::local::{LocalLog, Recorder},
    store::{self, fixture},
    supervise::failpoint::Kill,
    wire::{fields, v1},
};

fn origin() -> Arc<Origin> {
    Arc::new(Origin::scheduler())
}

const START: i64 = 1_900_000_000_000_000;

/// A log whose writer is busy until the gate opens. Commits that were passed in are still appended.
struct Gate {
    log: Arc<LocalLog>,
    open: watch::Receiver<bool>,
    arrived: Arc<Notify>,
    /// The content of the largest append, in bytes.
    largest: Arc<AtomicUsize>,
}

impl Log for Gate {
    fn append(&self, commits: Vec<Commit>) -> BoxFuture<'_, Result<Vec<Outcome>, store::Error>> {
        let (log, mut open) = (self.log.clone(), self.open.clone());
        let (reply, response) = oneshot::channel();
        self.arrived.notify_one();
        self.largest.fetch_max(commits.iter().map(Commit::bytes).sum(), Relaxed);
        tokio::spawn(async move {
            open.wait_for(|open| *open).await.unwrap();
            let _ = reply.send(log.append(commits).await);
        });
        Box::pin(async move { response.await.unwrap() })
    }
}

struct Publisher {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    publishing: Arc<Publishing>,
    gate: watch::Sender<bool>,
    arrived: Arc<Notify>,
    largest: Arc<AtomicUsize>,
    hands: ManualClock,
}

impl Publisher {
    fn open() -> Publisher {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = fixture::open(dir.path());
        let (gate, open) = watch::channel(true);
        let arrived = Arc::new(Notify::new());
        let largest = Arc::new(AtomicUsize::new(0));
        let log = Arc::new(LocalLog::start(writer, Arc::default(), Recorder::for_test()));
        let log = Gate { log, open, arrived: arrived.clone(), largest: largest.clone() };
        let (clock, hands) = Clock::manual(START);
        let publishing = Arc::new(Publishing::new(store.clone(), Arc::new(log), clock));
        Publisher { _dir: dir, store, publishing, gate, arrived, largest, hands }
    }

    async fn put(&self, id: &str, path: &str) -> Result<(), Refusal> {
        self.publishing.commit(vec![put(id, path, None)], None, &origin()).await.map(drop)
    }

    /// Starts a write, and drops it after `polls` polls, or when it waits for the writer.
    async fn cancel(&self, polls: usize, write: impl Future) {
        let mut write = pin!(write);
        let mut arrived = pin!(self.arrived.notified());
        let mut polls_left = polls;
        std::future::poll_fn(|context| {
            let done = write.as_mut().poll(context).is_ready();
            if done || polls_left == 0 || arrived.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            polls_left -= 1;
            Poll::Pending
        })
        .await;
    }

    async fn holders(&self, path: &'static str) -> Vec<String> {
        let holders = self.store.read(move |snapshot| snapshot.path_owners(path)).await;
        holders.unwrap().iter().map(ToString::to_string).collect()
    }
}

fn article(id: &str, path: &str, publish_time: Option<i64>) -> bytes::Bytes {
    let article = v1::Article {
        name: format!("articles/{id}"),
        headline: "H".into(),
        path: path.into(),
        publish_time: publish_time.map(fields::timestamp),
        ..Default::default()
    };
    article.encode_to_vec().into()
}

fn change(verb: Verb) -> Change {
    let update_kind = Some(UpdateKind::Major);
    Change {
        verb,
        precondition: None,
        update_kind,
        allow_killed: false,
        import: None,
        field: "article".into(),
    }
}

fn put(id: &str, path: &str, publish_time: Option<i64>) -> Change {
    change(Verb::Put { kind: Kind::Article, entity: article(id, path, publish_time) })
}

/// A way in which an article gets the path /x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteKind {
    Put,
    Patch,
    Commit,
    Import,
    Schedule,
}

fn write(publisher: &Publisher, kind: WriteKind) -> Pin<Box<dyn Future<Output = ()> + '_>> {
    let publishing = &publisher.publishing;
    let commit = |changes| async move { drop(publishing.commit(changes, None, &origin()).await) };
    match kind {
        WriteKind::Put => Box::pin(commit(vec![put("a", "/x", None)])),
        WriteKind::Patch => {
            let mask = Some(vec!["path".to_owned()]);
            Box::pin(commit(vec![change(Verb::Patch { article: article("a", "/x", None), mask })]))
        }
        WriteKind::Commit => {
            let changes = ["/y", "/x", "/z", "", ""].into_iter().enumerate();
            let id = |n| ["c", "a", "d", "e", "f"][n];
            Box::pin(commit(changes.map(|(n, path)| put(id(n), path, None)).collect()))
        }
        WriteKind::Import => Box::pin(async move {
            let checked = publishing.check(vec![Ok(put("a", "/x", None)), Ok(put("c", "/y", None))]);
            let prepared = publishing.prepare(checked.await.unwrap(), &origin()).await.unwrap();
            drop(publishing.commit_each(prepared, &origin()).await);
        }),
        WriteKind::Schedule => Box::pin(async move { drop(publishing.apply_due().await) }),
    }
}

#[tokio::test]
async fn a_path_has_one_owner_after_a_cancelled_write() {
    for kind in [WriteKind::Put, WriteKind::Patch, WriteKind::Commit, WriteKind::Import, WriteKind::Schedule]
    {
        for polls in 0..6 {
            let publisher = Publisher::open();
            if kind == WriteKind::Patch {
                publisher.put("a", "").await.unwrap();
            }
            if kind == WriteKind::Schedule {
                let scheduled = put("a", "/x", Some(START + 1));
                publisher.publishing.commit(vec![scheduled], None, &origin()).await.unwrap();
                publisher.hands.set(START + 1);
            }
            publisher.gate.send(false).unwrap();
            // Consume the arrivals of the writes before.
            publisher.arrived.notified().now_or_never();
            publisher.cancel(polls, write(&publisher, kind)).await;
            let second = tokio::spawn({
                let publishing = publisher.publishing.clone();
                async move { publishing.commit(vec![put("b", "/x", None)], None, &origin()).await }
            });
            publisher.arrived.notified().await;
            publisher.gate.send(true).unwrap();
            let second = second.await.unwrap();
            if kind == WriteKind::Schedule {
                publisher.publishing.apply_due().await.unwrap();
                assert_eq!(publisher.holders("/x").await, ["articles/a"], "{kind:?} {polls}");
                continue;
            }
            // The order of the commits that wait at the gate is not known, but one article has the path.
            publisher.put("last", "").await.unwrap();
            let owner = if second.is_ok() { "articles/b" } else { "articles/a" };
            assert_eq!(publisher.holders("/x").await, [owner], "{kind:?} {polls}");
            if let Err(refusal) = second {
                assert!(
                    matches!(&refusal, Refusal::PathTaken { owner, .. } if owner.to_string() == "articles/a"),
                    "{refusal}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_panicking_due_change_delays_no_other() {
    let publisher = Publisher::open();
    for id in ["a", "b", "c"] {
        publisher
            .publishing
            .commit(vec![put(id, &format!("/{id}"), Some(START + 1))], None, &origin())
            .await
            .unwrap();
    }
    publisher.hands.set(START + 1);
    publisher.store.health().kill.send_replace(Some(("b".into(), Kill::Panic)));
    for _ in 0..2 {
        let refusal = publisher.publishing.apply_due().await.unwrap_err();
        assert!(refusal.to_string().contains("panicked"), "{refusal}");
        let holders =
            [publisher.holders("/a").await, publisher.holders("/b").await, publisher.holders("/c").await];
        assert_eq!(holders.map(|holders| holders.len()), [1, 0, 1]);
    }
    publisher.store.health().kill.send_replace(None);
    publisher.publishing.apply_due().await.unwrap();
    assert_eq!(publisher.holders("/b").await, ["articles/b"]);
}

/// A queue with steady writes has room for small appends only.
#[tokio::test]
async fn due_changes_are_appended_in_small_slices() {
    let publisher = Publisher::open();
    let spans = |seed| vec![v1::Span { text: fixture::noise(seed, 900_000), ..Default::default() }];
    let block = |seed| v1::Block {
        kind: Some(v1::block::Kind::Paragraph(v1::Paragraph { spans: spans(seed) })),
        ..Default::default()
    };
    for n in 0..12 {
        let article = v1::Article {
            name: format!("articles/a{n}"),
            headline: "H".into(),
            path: format!("/{n}"),
            publish_time: Some(fields::timestamp(START + 1)),
            body: Some(v1::Body { blocks: vec![block(n)] }),
            ..Default::default()
        };
        let put = Verb::Put { kind: Kind::Article, entity: article.encode_to_vec().into() };
        publisher.publishing.commit(vec![change(put)], None, &origin()).await.unwrap();
    }
    publisher.hands.set(START + 1);
    publisher.largest.store(0, Relaxed);
    publisher.publishing.apply_due().await.unwrap();
    assert_eq!(publisher.store.head().live(Kind::Article), 12);
    let largest = publisher.largest.load(Relaxed);
    assert!((1 << 20..=due::MAX_APPEND_BYTES).contains(&largest), "{largest}");
}

fn planned(headline: usize) -> Single {
    let content = fixture::noise(1, headline).into_bytes().into();
    let log = LogEntry { content, ..Default::default() };
    let (expected, name) = (crate::log::Expected { live: 0, pending: 0 }, fixture::name("a"));
    let entries = vec![(crate::model::Slot::Live, log)];
    let planned = vec![Planned::Append { name, entries, expected, path_owner: None }];
    Single { planned, displaces: Vec::new(), erases: false }
}

#[test]
fn an_entry_too_large_to_read_is_refused_by_name() {
    let all = |sizes: &[usize]| encode(sizes.iter().flat_map(|size| planned(*size).planned).collect());
    assert!(all(&[(2 << 20) - 100]).is_ok());
    let refused = all(&[100, 2 << 20]).unwrap_err();
    assert!(refused.to_string().starts_with("articles/a: 20"), "{refused}");
    assert!(matches!(refused, Refusal::Limit { limit: &MAX_ENTRY, value, .. } if value > 2 << 20));
}

#[tokio::test]
async fn an_entry_that_is_too_large_delays_no_other() {
    let encoded = import::encode_singly(&Workers::new(), vec![planned(2 << 20), planned(100)], 1, &origin())
        .await
        .unwrap();
    assert!(encoded[0].is_err() && encoded[1].is_ok());
}
