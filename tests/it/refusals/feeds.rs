//! Errors of the feed service: positions from which no feed can resume, and the limit on feeds.

use std::time::Duration;

use cable::{clock::Clock, config::Config};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    raw::{Raw, request_bytes},
    support::Node,
};

#[tokio::test]
async fn a_feed_that_cannot_resume_returns_the_known_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(0);
    let short_history = |config: &mut Config| {
        (config.feed.history_retention, config.feed.history_min_entries) = (Duration::from_secs(1), 3);
    };
    let node = Node::run(0, dir.path(), clock, short_history).await;
    let raw = Raw::to(&node).await;
    for n in 1..=10 {
        let tag = json!({"name": "tags/a", "display_name": n.to_string()});
        raw.call("PutTag", json!({"tag": tag})).await.unwrap();
    }
    // The node drops history once a minute.
    hands.set(60_000_000);
    while raw.call("GetStatus", json!({})).await.unwrap()["oldest_revision"].is_null() {
        tokio::task::yield_now().await;
    }
    let refused = async |after: Value| raw.call("Watch", json!({"after": after})).await.unwrap_err();
    let compacted = refused(json!({"revision": 6})).await;
    let actual = (compacted.code, &*compacted.reason, &*compacted.field, compacted.retry);
    assert_eq!(actual, (Code::OutOfRange, "REVISION_COMPACTED", "after", false));
    let metadata = [("head_revision", "10"), ("oldest_revision", "7")];
    assert_eq!(compacted.metadata, metadata.map(|(key, value)| (key.into(), value.into())).into());

    let log_id = raw.call("GetStatus", json!({})).await.unwrap()["head"]["log_id"].clone();
    // A chain of 32 bytes that belongs to no log.
    let chain = format!("{}=", "A".repeat(43));
    for position in [json!({"revision": 8, "log_id": "00000001"}), json!({"revision": 8, "chain": chain})] {
        let changed = refused(position.clone()).await;
        let actual = (changed.code, &*changed.reason, &*changed.field, changed.retry);
        assert_eq!(actual, (Code::FailedPrecondition, "LOG_CHANGED", "", false), "{position}");
        assert_eq!(changed.metadata["log_id"], log_id.as_str().unwrap());
    }
    let ahead = refused(json!({"revision": 11})).await;
    assert_eq!((ahead.code, &*ahead.reason, ahead.retry), (Code::Unavailable, "NOT_CAUGHT_UP", true));
    assert_eq!(ahead.metadata["revision"], "10");
    node.stop().await;
}

#[tokio::test]
async fn a_feed_above_the_connection_limit_is_refused_as_retryable() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.max_feeds = 1).await;
    let raw = Raw::to(&node).await;
    let _open = raw.stream("Watch", request_bytes("Watch", json!({}))).await.unwrap();
    let refused = raw.call("Watch", json!({})).await.unwrap_err();
    let actual = (refused.code, &*refused.reason, &*refused.field, refused.retry);
    assert_eq!(actual, (Code::ResourceExhausted, "TOO_MANY_FEEDS", "", true));
    assert!(refused.metadata.is_empty(), "{refused:?}");
    node.stop().await;
}
