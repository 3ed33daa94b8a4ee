//! Mirrors, compared with the expected content over histories with every kind of broken stream.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use cable_client::{ErrorKind, ErrorReason, FeedFilter, MirrorEntity, MirrorSnapshot, RawRecord, v1};
use fastrand::Rng;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Notify;
use tonic::{Code, Status};
use v1::watch_request::Start;

use crate::{
    feeds::{broken, changes, checkpoint, open, part, removed, reset, serve_watch, snapshot_end, upsert},
    support::{Responses, Server, article, position, refusal, server_stream, unary},
};

/// Returns an entity with this name and revision, and with `text` as its text.
fn entity(name: &str, revision: i64, text: &str) -> RawRecord {
    match name.split('/').next() {
        Some("tags") => {
            let mut tag = v1::Tag::default();
            (tag.name, tag.revision, tag.display_name) = (name.into(), revision, text.into());
            tag.into()
        }
        Some("collections") => {
            let mut collection = v1::Collection::default();
            (collection.name, collection.revision, collection.title) = (name.into(), revision, text.into());
            collection.into()
        }
        _ => {
            let mut article = article(name);
            (article.revision, article.headline) = (revision, text.into());
            article.into()
        }
    }
}

fn left(revision: i64, name: &str) -> v1::FeedChange {
    let mut change = v1::FeedChange::default();
    change.revision = revision;
    change.change = Some(v1::feed_change::Change::Left(name.into()));
    change
}

fn name_of(change: &v1::FeedChange) -> String {
    match change.change.as_ref().unwrap() {
        v1::feed_change::Change::Upsert(record) => record.name().unwrap(),
        v1::feed_change::Change::Left(name) => name.clone(),
        v1::feed_change::Change::Removed(tombstone) => tombstone.name.clone(),
        other => panic!("{other:?}"),
    }
}

/// Commits in order. Each one puts the same text into the pair `articles/this` and `articles/that`, or deletes both.
#[derive(Clone)]
struct History(Arc<Vec<Vec<v1::FeedChange>>>);

impl History {
    fn random(rng: &mut Rng, commits: usize) -> History {
        let mut revision = 0;
        let mut take = |count: i64| {
            revision += count;
            revision
        };
        let mut commit = |number: usize, rng: &mut Rng| {
            let text = number.to_string();
            let mut commit = match rng.u8(..8) {
                0 => vec![removed(take(1), "articles/this"), left(take(1), "articles/that")],
                _ => ["articles/this", "articles/that"]
                    .map(|name| {
                        let revision = take(1);
                        upsert(revision, entity(name, revision, &text))
                    })
                    .to_vec(),
            };
            for _ in 0..rng.usize(..3) {
                let kind = ["articles", "tags", "collections"][rng.usize(..3)];
                let name = format!("{kind}/{}", rng.u8(..6));
                if commit.iter().any(|change| name_of(change) == name) {
                    continue;
                }
                let revision = take(1);
                commit.push(match rng.u8(..3) {
                    0 => removed(revision, &name),
                    _ => upsert(revision, entity(&name, revision, &text)),
                });
            }
            commit
        };
        let random = (0..commits).map(|number| commit(number, rng)).collect();
        History(Arc::new(random))
    }

    fn head(&self) -> i64 {
        self.0.last().and_then(|commit| commit.last()).unwrap().revision
    }

    /// Returns the newest state of each name that the commits changed, in the order of revisions.
    fn merged(commits: &[Vec<v1::FeedChange>]) -> Vec<v1::FeedChange> {
        let newest: BTreeMap<String, v1::FeedChange> =
            commits.iter().flatten().map(|change| (name_of(change), change.clone())).collect();
        let mut changes: Vec<v1::FeedChange> = newest.into_values().collect();
        changes.sort_by_key(|change| change.revision);
        changes
    }

    /// Returns the records that match after the commits.
    fn state(commits: &[Vec<v1::FeedChange>]) -> BTreeMap<String, RawRecord> {
        let upserts = Self::merged(commits).into_iter().filter_map(|change| match &change.change {
            Some(v1::feed_change::Change::Upsert(record)) => Some((name_of(&change), record.clone())),
            _ => None,
        });
        upserts.collect()
    }

    /// Returns the messages of one stream.
    fn messages(&self, rng: &mut Rng, start: Option<&Start>) -> Vec<v1::WatchResponse> {
        let all = &self.0[..];
        let last = |commits: usize| commits.checked_sub(1).map_or(0, |at| all[at].last().unwrap().revision);
        let mut messages = Vec::new();
        let mut next = match start {
            Some(Start::After(after)) => (0..=all.len()).find(|n| last(*n) >= after.revision).unwrap(),
            _ => 0,
        };
        let has_snapshot = !matches!(start, Some(Start::After(_)));
        if has_snapshot || rng.u8(..5) == 0 {
            if !has_snapshot {
                messages.push(reset(v1::FeedResetReason::Compacted));
            }
            next = rng.usize(next..=all.len());
            let state: Vec<RawRecord> = Self::state(&all[..next]).into_values().collect();
            messages.extend(state.chunks(rng.usize(1..5)).map(|records| part(records.to_vec())));
            messages.push(snapshot_end(last(next), state.len() as i64));
        }
        while next < all.len() {
            let until = (next + rng.usize(1..4)).min(all.len());
            messages.push(changes(Self::merged(&all[next..until])));
            // A repeat of changes that were delivered before, which no server sends.
            if rng.u8(..6) == 0 {
                messages.push(changes(Self::merged(&all[next..until])));
            }
            next = until;
        }
        messages.push(checkpoint(last(all.len())));
        messages
    }
}

/// Returns one stream of the history. Streams with a number below 12 break at a random message.
fn one_stream(
    history: &History,
    seed: u64,
    number: usize,
    start: Option<&Start>,
) -> Responses<v1::WatchResponse> {
    let mut rng = Rng::with_seed(seed * 1_000 + number as u64);
    let mut messages = history.messages(&mut rng, start);
    if number >= 12 {
        return open(messages);
    }
    messages.truncate(rng.usize(..messages.len().min(12)));
    let end = match rng.u8(..3) {
        0 => stream::iter(vec![]).boxed(),
        1 => stream::iter(vec![Err(Status::new(Code::Internal, "reset"))]).boxed(),
        _ => stream::iter(vec![Err(refusal(Code::Unavailable, "DRAINING"))]).boxed(),
    };
    stream::iter(messages).map(Ok).chain(end).boxed()
}

/// Asserts that both articles of the pair have the same text, or that neither exists.
fn check_pair(held: &MirrorSnapshot) {
    let text = |name: &str| match held.entities.get(name) {
        Some(MirrorEntity::Article(article)) => Some(article.headline.clone()),
        _ => None,
    };
    assert_eq!(text("articles/this"), text("articles/that"), "half a commit at {:?}", held.position);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_of_broken_streams_stays_correct_and_atomic() {
    for seed in 0..20 {
        let history = History::random(&mut Rng::with_seed(seed), 30);
        let script = history.clone();
        let (server, requests) =
            serve_watch(0, move |number, request| one_stream(&script, seed, number, request.start.as_ref()));
        let mirror = server.client().mirror(FeedFilter::default()).start();
        let done = Arc::new(AtomicBool::new(false));
        let reader = tokio::spawn({
            let (mirror, done) = (mirror.clone(), Arc::clone(&done));
            async move {
                while !done.load(SeqCst) {
                    check_pair(&mirror.snapshot());
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut changed = mirror.watch();
        mirror.ready().await.unwrap();
        while mirror.position().unwrap().revision < history.head() {
            changed.changed().await.unwrap();
        }
        done.store(true, SeqCst);
        reader.await.unwrap();
        let held = mirror.snapshot();
        let records = held.entities.iter().map(|(name, entity)| (name.clone(), entity.to_record()));
        assert_eq!(records.collect::<BTreeMap<_, _>>(), History::state(&history.0), "seed {seed}");
        assert!(mirror.len() == held.entities.len() && !mirror.is_empty());
        assert!(
            requests.lock().unwrap().iter().all(|request| request.allow_reset && request.include_backfill)
        );
    }
}

#[tokio::test]
async fn old_mirror_content_is_readable_until_a_snapshot_completes() {
    let gate = Arc::new(Notify::new());
    let (cut, complete) = (Arc::new(Notify::new()), Arc::clone(&gate));
    let cut_off = Arc::clone(&cut);
    let (server, requests) = serve_watch(0, move |number, _| {
        let (cut, gate) = (Arc::clone(&cut_off), Arc::clone(&gate));
        if number == 0 {
            let first = vec![part(vec![entity("tags/old", 1, "Old")]), snapshot_end(1, 1), checkpoint(1)];
            let end = async move {
                cut.notified().await;
                Err(refusal(Code::Unavailable, "DRAINING"))
            };
            return stream::iter(first).map(Ok).chain(stream::once(end)).boxed();
        }
        let messages = vec![reset(v1::FeedResetReason::LogChanged), part(vec![entity("tags/new", 1, "New")])];
        let end = async move {
            gate.notified().await;
            Ok(snapshot_end(2, 1))
        };
        stream::iter(messages).map(Ok).chain(stream::once(end)).chain(stream::pending()).boxed()
    });
    let mirror = server.client().mirror(FeedFilter::default()).start();
    mirror.ready().await.unwrap();
    let mut changed = mirror.watch();
    assert_eq!(mirror.tag("old").unwrap().display_name, "Old");
    assert!(mirror.is_caught_up() && mirror.article("old").is_none() && mirror.get("tags/new").is_none());
    cut.notify_one();
    while requests.lock().unwrap().len() < 2 || mirror.is_caught_up() {
        assert!(tokio::time::timeout(Duration::from_millis(1), changed.changed()).await.is_err());
    }
    for _ in 0..20 {
        assert!(tokio::time::timeout(Duration::from_millis(1), changed.changed()).await.is_err());
        assert!(mirror.tag("old").is_some() && mirror.tag("new").is_none());
        assert_eq!(mirror.position(), Some(position(1)));
    }
    complete.notify_one();
    changed.changed().await.unwrap();
    assert!(mirror.tag("old").is_none() && mirror.tag("new").is_some());
    assert_eq!((mirror.position(), mirror.len()), (Some(position(2)), 1));
}

#[tokio::test]
async fn a_mirror_names_unreadable_records_until_their_next_write() {
    let unreadable = |revision: i64, name: &str| {
        let mut change = v1::FeedChange::default();
        (change.revision, change.change) = (revision, Some(v1::feed_change::Change::Unreadable(name.into())));
        change
    };
    let step = Arc::new(Notify::new());
    let gate = Arc::clone(&step);
    let (server, _) = serve_watch(0, move |_, _| {
        let first = vec![part(vec![entity("tags/a", 1, "Old")]), snapshot_end(1, 1), checkpoint(1)];
        let later = vec![
            changes(vec![unreadable(2, "tags/a"), unreadable(3, "tags/b")]),
            changes(vec![upsert(4, entity("tags/a", 4, "New"))]),
            changes(vec![removed(5, "tags/b")]),
        ];
        let gate = Arc::clone(&gate);
        let later = stream::iter(later).then(move |message| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Ok(message)
            }
        });
        stream::iter(first).map(Ok).chain(later).chain(stream::pending()).boxed()
    });
    let mirror = server.client().mirror(FeedFilter::default()).start();
    mirror.ready().await.unwrap();
    let mut changed = mirror.watch();
    let mut seen = Vec::new();
    for _ in 0..3 {
        step.notify_one();
        changed.changed().await.unwrap();
        let damage = mirror.snapshot().damage;
        let names = damage.map(|damage| (damage.count, damage.names.join(" "))).unwrap_or_default();
        seen.push((mirror.tag("a").unwrap().display_name.clone(), names));
    }
    let expected = [("Old", (2, "tags/a tags/b")), ("New", (1, "tags/b")), ("New", (0, ""))];
    let expected = expected.map(|(text, (count, names))| (text.to_owned(), (count, names.to_owned())));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_failed_mirror_returns_its_error_to_all_waiters() {
    let (server, _) =
        serve_watch(0, |_, _| stream::iter([Err(refusal(Code::InvalidArgument, "FIELD_INVALID"))]).boxed());
    let mirror = server.client().mirror(FeedFilter::default()).start();
    let mut changed = mirror.watch();
    for error in [mirror.ready().await, mirror.ready().await, changed.changed().await] {
        assert_eq!(error.unwrap_err().reason(), Some(ErrorReason::FieldInvalid));
    }
}

#[tokio::test]
async fn dropping_the_last_clone_ends_a_mirror() {
    let ended = Arc::new(Notify::new());
    /// A guard that notifies when the stream is dropped.
    struct Held(Arc<Notify>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let held = Arc::new(Mutex::new(Some(Held(Arc::clone(&ended)))));
    let (server, _) = serve_watch(0, move |_, _| {
        let held = held.lock().unwrap().take();
        let forever = stream::once(async move {
            let _held = held;
            std::future::pending().await
        });
        stream::iter([Ok(snapshot_end(1, 0)), Ok(checkpoint(1))]).chain(forever).boxed()
    });
    let mirror = server.client().mirror(FeedFilter::default()).start();
    let clone = mirror.clone();
    clone.ready().await.unwrap();
    let mut changed = clone.watch();
    drop(mirror);
    assert!(clone.is_caught_up());
    drop(clone);
    assert_eq!(changed.changed().await.unwrap_err().kind(), ErrorKind::Cancelled);
    ended.notified().await;
}

#[tokio::test]
async fn a_mirror_with_a_longest_outage_reports_that_no_node_serves_it() {
    let (server, _) = serve_watch(0, |_, _| broken(vec![], refusal(Code::Unavailable, "DRAINING")));
    let mirror = server.client().mirror(FeedFilter::default()).max_outage(Duration::from_millis(50)).start();
    let error = mirror.ready().await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::Draining), "{error:?}");
}

#[tokio::test]
async fn a_mirror_whose_task_panics_ends_the_wait_of_its_handles() {
    let (server, _) = serve_watch(0, |_, _| {
        let messages = vec![snapshot_end(1, 0), checkpoint(1)];
        broken(messages, refusal(Code::Unavailable, "DRAINING"))
    });
    let mirror = server.client().mirror(FeedFilter::default()).on_retry(|error| panic!("{error}")).start();
    let mut changed = mirror.watch();
    let ended = async {
        while changed.changed().await.is_ok() {}
        mirror.ready().await
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(!mirror.is_caught_up());
}

#[tokio::test]
async fn a_mirror_ends_with_its_runtime() {
    let (server, _) = serve_watch(0, |_, _| open(vec![snapshot_end(1, 0), checkpoint(1)]));
    let cable = server.client();
    let mirror = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mirror = cable.mirror(FeedFilter::default()).start();
            mirror.ready().await.unwrap();
            mirror
        })
    });
    let mirror = mirror.join().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), mirror.ready()).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(!mirror.is_caught_up());
}

#[tokio::test]
async fn a_mirror_acknowledges_the_content_that_it_has_applied() {
    let (sender, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(0, move |call, request| {
        let sender = sender.clone();
        async move {
            if call == "Watch" {
                return server_stream(request, |request: v1::WatchRequest| {
                    assert_eq!((request.start, request.consumer.as_str()), (Some(Start::Snapshot(true)), ""));
                    let tag = entity("tags/a", 1, "A");
                    open(vec![part(vec![tag]), snapshot_end(3, 1), checkpoint(3)])
                })
                .await;
            }
            unary(request, move |request: v1::AcknowledgePositionRequest| {
                let sent = sender.send((request.consumer, request.position.unwrap().revision));
                async move {
                    sent.map(|()| v1::AcknowledgePositionResponse::default())
                        .map_err(|_| Status::internal(""))
                }
            })
            .await
        }
    });
    let mirror = server.client().mirror(FeedFilter::default()).consumer("front-page").start();
    let received = tokio::time::timeout(Duration::from_secs(10), acknowledged.recv()).await.unwrap();
    assert_eq!(received, Some(("front-page".to_owned(), 3)));
    assert_eq!(mirror.position(), Some(position(3)));
}
