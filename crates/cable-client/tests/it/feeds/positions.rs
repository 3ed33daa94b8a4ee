//! The saved position of a feed: when it is written, and where a later feed resumes.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use cable_client::{ErrorKind, FeedFilter, FilePosition, Position, PositionStore, v1};
use futures_util::{StreamExt as _, stream};
use tonic::Code;
use v1::watch_request::Start;

use super::{after, broken, checkpoint, one, open, receive, serve_watch, starts};
use crate::support::{Server, position, refusal};

/// A position store in memory that records every saved position.
#[derive(Clone, Default)]
struct Memory {
    saved: Arc<Mutex<Vec<i64>>>,
    full: Arc<AtomicBool>,
}

impl PositionStore for Memory {
    fn load(&self) -> io::Result<Option<Position>> {
        Ok(self.saved.lock().unwrap().last().copied().map(position))
    }

    fn save(&self, position: &Position) -> io::Result<()> {
        if self.full.load(SeqCst) {
            return Err(io::Error::other("no room"));
        }
        self.saved.lock().unwrap().push(position.revision);
        Ok(())
    }
}

impl Memory {
    fn last(&self) -> Option<i64> {
        self.saved.lock().unwrap().last().copied()
    }
}

#[tokio::test]
async fn a_position_is_saved_when_the_next_delivery_is_requested() {
    let (server, requests) = three();
    let memory = Memory::default();
    let feed = || server.client().feed(FeedFilter::default()).save_to(memory.clone()).open();
    let mut dropped = feed();
    assert_eq!(receive(&mut dropped, 1).await, ["upsert 1"]);
    drop(dropped);
    assert_eq!(memory.last(), None, "the delivery may not have been handled");
    let mut dropped = feed();
    assert_eq!(receive(&mut dropped, 2).await, ["upsert 1", "upsert 2"]);
    drop(dropped);
    assert_eq!(memory.last(), Some(1));
    let mut closed = feed();
    assert_eq!(receive(&mut closed, 2).await, ["upsert 2", "upsert 3"]);
    closed.close().await.unwrap();
    assert_eq!(memory.last(), Some(3));
    let mut last = feed();
    assert!(tokio::time::timeout(Duration::from_millis(100), last.next()).await.is_err());
    assert_eq!(starts(&requests), [None, None, after(1), after(3)]);
}

#[tokio::test]
async fn a_waiting_feed_saves_its_position_at_a_limited_rate() {
    let (server, _) = serve_watch(0, |_, _| {
        let paced = stream::iter(1..=200).then(|revision| async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(one(revision))
        });
        paced.chain(stream::pending()).boxed()
    });
    let memory = Memory::default();
    let mut feed = server.client().feed(FeedFilter::default()).save_to(memory.clone()).open();
    let start = std::time::Instant::now();
    receive(&mut feed, 200).await;
    while memory.last() != Some(200) {
        let _nothing_new = tokio::time::timeout(Duration::from_millis(10), feed.next()).await;
    }
    let writes = memory.saved.lock().unwrap().len();
    let max = start.elapsed().as_millis() / 200 + 1;
    assert!(writes as u128 <= max, "{writes} writes, more than {max}");
}

#[tokio::test]
async fn an_unchanged_position_is_saved_once() {
    let (server, _) = serve_watch(0, |number, _| match number {
        0..10 => broken(vec![checkpoint(7)], refusal(Code::Unavailable, "DRAINING")),
        _ => open(vec![checkpoint(7)]),
    });
    let memory = Memory::default();
    let feed =
        || server.client().feed(FeedFilter::default()).after(position(6)).save_to(memory.clone()).open();
    let mut checked = feed();
    receive(&mut checked, 11).await;
    checked.close().await.unwrap();
    assert_eq!(*memory.saved.lock().unwrap(), [7]);
    feed().close().await.unwrap();
    assert_eq!(*memory.saved.lock().unwrap(), [7], "a feed that was never polled has handled nothing");
}

#[tokio::test]
async fn a_position_that_cannot_be_saved_ends_the_feed() {
    let (server, _) = three();
    let memory = Memory::default();
    memory.full.store(true, SeqCst);
    let feed = || server.client().feed(FeedFilter::default()).save_to(memory.clone()).open();
    let mut closed = feed();
    receive(&mut closed, 3).await;
    assert_eq!(closed.close().await.unwrap_err().kind(), ErrorKind::PositionStore);
    let (endless, _) = serve_watch(0, |_, _| stream::iter(1..).map(|revision| Ok(one(revision))).boxed());
    let mut ended = endless.client().feed(FeedFilter::default()).save_to(memory).open();
    let error = loop {
        match ended.next().await.unwrap() {
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::PositionStore);
    assert!(ended.next().await.is_none());
}

#[tokio::test]
async fn a_feed_resumes_after_the_position_in_its_file() {
    let directory = std::env::temp_dir().join(format!("cable-feed-{:032x}", fastrand::u128(..)));
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("position");
    let (server, requests) = three();
    let feed = || {
        server.client().feed(FeedFilter::default()).with_snapshot().save_to(FilePosition::new(&file)).open()
    };
    let mut first = feed();
    receive(&mut first, 3).await;
    first.close().await.unwrap();
    let mut second = feed();
    assert!(tokio::time::timeout(Duration::from_millis(100), second.next()).await.is_err());
    assert_eq!(starts(&requests), [Some(Start::Snapshot(true)), after(3)]);
    std::fs::write(&file, "damaged").unwrap();
    let error = feed().next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PositionStore);
    assert_eq!(requests.lock().unwrap().len(), 2, "the feed starts from no other position");
    std::fs::remove_dir_all(directory).unwrap();
}

fn three() -> (Server, Arc<Mutex<Vec<v1::WatchRequest>>>) {
    serve_watch(0, |_, _| open(vec![one(1), one(2), one(3)]))
}

/// A test that fails to compile if a feed cannot be shared, or a store cannot be chosen at run time.
#[tokio::test]
async fn a_feed_saves_to_a_store_behind_a_pointer() {
    fn is_sync<T: Sync>(value: T) -> T {
        value
    }
    let store = Arc::new(Memory::default());
    let (server, _) = three();
    let feed = server.client().feed(FeedFilter::default());
    let mut feed = is_sync(feed.save_to(Arc::clone(&store) as Arc<dyn PositionStore>).open());
    receive(&mut feed, 3).await;
    feed.close().await.unwrap();
    assert_eq!(store.last(), Some(3));
    let _boxed = server
        .client()
        .feed(FeedFilter::default())
        .save_to(Box::new(Memory::default()) as Box<dyn PositionStore>);
}
