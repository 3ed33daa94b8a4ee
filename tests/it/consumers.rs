//! Consumers: followers with a name, whose acknowledged positions the node stores.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use cable::{
    auth::{Anonymous, CredentialFile, NewCredential, Role},
    clock::Clock,
    config::Config,
};
use cable_client::{
    Cable, Event, FeedFilter, Position,
    v1::{self, WatchRequest, watch_request::Start},
};
use futures_util::{TryStreamExt as _, future::join_all};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    connections::{
        places::{free_address, metrics_contain_soon},
        soon,
    },
    follow::{Changed, FeedEvent, WatchStream, request},
    raw::{Raw, encode},
    restores::{files, put, stop},
    support::{Node, article},
};

const MINUTE: i64 = 60_000_000;

/// Returns the request of a consumer that follows everything.
fn named(consumer: &str, start: Option<Start>) -> WatchRequest {
    WatchRequest { consumer: consumer.to_owned(), ..request(&[], start) }
}

fn upsert(name: &str, revision: i64) -> Changed {
    Changed::Upsert(format!("articles/{name}"), revision)
}

/// Puts an article. Returns the position after it.
async fn write(cable: &Cable, id: &str) -> Position {
    cable.put(article(id, "Storm", &["sea"])).await.unwrap().position
}

/// Returns the head, the log digest and the counts of a node.
async fn log_state(cable: &Cable) -> (Option<Position>, Vec<u8>, Option<v1::Counts>) {
    let status = cable.status().await.unwrap();
    (status.head, status.log_digest.to_vec(), status.counts)
}

/// Returns the code, reason and field of a refused acknowledgement.
async fn refused(raw: &Raw, request: Value) -> (Code, String, String) {
    let refused = raw.call("AcknowledgePosition", request).await.unwrap_err();
    (refused.code, refused.reason, refused.field)
}

fn refusal(code: Code, reason: &str, field: &str) -> (Code, String, String) {
    (code, reason.to_owned(), field.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_resumes_after_its_acknowledged_position() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    write(&cable, "old").await;
    let before = log_state(&cable).await;

    // The first feed starts now. It fails before it acknowledges anything.
    let mut feed = WatchStream::open(&node, named("index", None)).await.unwrap();
    assert_eq!(feed.next().await, (FeedEvent::Checkpoint, Some(1)));
    drop(feed);
    assert_eq!(log_state(&cable).await, before, "a consumer makes no revision");
    write(&cable, "a").await;
    write(&cable, "b").await;
    for _ in 0..2 {
        let mut feed = WatchStream::open(&node, named("index", None)).await.unwrap();
        assert_eq!(feed.changes().await, [upsert("a", 2), upsert("b", 3)], "nothing is missed or skipped");
    }

    let reached = write(&cable, "c").await;
    let before = log_state(&cable).await;
    assert_eq!(cable.acknowledge("index", &reached).await.unwrap(), reached);
    assert_eq!(log_state(&cable).await, before, "an acknowledgement makes no revision");
    write(&cable, "d").await;
    node.stop().await;
    let node = Node::start(dir.path()).await;
    for start in [None, Some(Start::Snapshot(true))] {
        let mut feed = WatchStream::open(&node, named("index", start)).await.unwrap();
        assert_eq!(feed.changes().await, [upsert("d", 5)], "a snapshot is for a new consumer");
    }

    // An explicit position is used as it is, and leaves the acknowledged one as it was.
    let explicit = Position { revision: 2, ..Position::default() };
    let mut feed = WatchStream::open(&node, named("index", Some(Start::After(explicit)))).await.unwrap();
    assert_eq!(feed.changes().await.len(), 3);
    assert_eq!(node.client().consumers().await.unwrap()[0].position.as_ref(), Some(&reached));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_starts_with_a_snapshot_exists_from_its_first_acknowledgement_on() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    write(&cable, "a").await;
    for _ in 0..2 {
        let start = Some(Start::Snapshot(true));
        let mut feed = WatchStream::open(&node, named("index", start)).await.unwrap();
        assert!(matches!(feed.next().await.0, FeedEvent::Snapshot(_)));
        let end = feed.message().await.unwrap();
        assert!(cable.consumers().await.unwrap().is_empty());
        drop(end);
    }
    let mut feed = WatchStream::open(&node, named("index", Some(Start::Snapshot(true)))).await.unwrap();
    assert!(matches!(feed.next().await.0, FeedEvent::Snapshot(_)));
    let end = feed.message().await.unwrap().position.unwrap();
    cable.acknowledge("index", &end).await.unwrap();
    write(&cable, "b").await;
    let mut feed = WatchStream::open(&node, named("index", Some(Start::Snapshot(true)))).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("b", 2)]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_moves_back_only_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    let (first, second) = (write(&cable, "a").await, write(&cable, "b").await);
    cable.acknowledge("index", &second).await.unwrap();
    assert_eq!(cable.acknowledge("index", &first).await.unwrap(), second, "a late acknowledgement");
    let mut position = serde_json::Map::new();
    position.insert("revision".into(), json!(first.revision));
    position.insert("log_id".into(), json!(first.log_id));
    position.insert("chain".into(), json!(base64(&first.chain)));
    let rewind = json!({"consumer": "index", "position": position, "allow_rewind": true});
    let raw = Raw::to(&node).await;
    let rewound = raw.call("AcknowledgePosition", rewind).await.unwrap();
    assert_eq!(rewound["position"]["revision"], 1);
    let mut feed = WatchStream::open(&node, named("index", None)).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("b", 2)]);
    node.stop().await;
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_positions_are_refused_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(0);
    let short_history = |config: &mut Config| {
        (config.feed.history_retention, config.feed.history_min_entries) = (Duration::from_secs(1), 3);
    };
    let node = Node::run(0, dir.path(), clock, short_history).await;
    let (cable, raw) = (node.client(), Raw::to(&node).await);
    let mut positions = Vec::new();
    for n in 0..10 {
        positions.push(write(&cable, &format!("a{n}")).await);
    }
    hands.set(MINUTE);
    soon(async { while cable.status().await.unwrap().oldest_revision == 0 {} }).await;
    assert_eq!(cable.status().await.unwrap().oldest_revision, 7);
    cable.acknowledge("index", &positions[8]).await.unwrap();
    let json_of = |position: &Position| json!({"log_id": position.log_id, "revision": position.revision, "chain": base64(&position.chain)});
    let good = json_of(&positions[8]);
    let with = |field: &str, value: Value| {
        let mut position = good.clone();
        position[field] = value;
        json!({"consumer": "index", "position": position})
    };
    let invalid = |field: &str| refusal(Code::InvalidArgument, "FIELD_INVALID", field);
    for (request, expected) in [
        (with("log_id", json!("00000001")), refusal(Code::FailedPrecondition, "LOG_CHANGED", "")),
        (with("chain", json!(base64(&[7; 32]))), refusal(Code::FailedPrecondition, "LOG_CHANGED", "")),
        // The chain of another revision: the revision is no position that a feed delivered.
        (with("revision", json!(8)), refusal(Code::FailedPrecondition, "LOG_CHANGED", "")),
        (with("revision", json!(11)), refusal(Code::Unavailable, "NOT_CAUGHT_UP", "")),
        (with("revision", json!(-1)), invalid("position.revision")),
        (with("chain", json!("")), invalid("position.chain")),
        (with("chain", json!("AAAA")), invalid("position.chain")),
        (with("log_id", json!("")), invalid("position.log_id")),
        (with("log_id", json!("x")), invalid("position.log_id")),
        (json!({"consumer": "index"}), invalid("position.log_id")),
        (
            json!({"consumer": "index", "position": json_of(&positions[2])}),
            refusal(Code::OutOfRange, "REVISION_COMPACTED", "position"),
        ),
        (json!({"consumer": "", "position": good}), invalid("consumer")),
        (json!({"consumer": "a/b", "position": good}), invalid("consumer")),
        (json!({"consumer": "a".repeat(129), "position": good}), invalid("consumer")),
        (json!({"consumer": "ä", "position": good}), invalid("consumer")),
    ] {
        assert_eq!(refused(&raw, request.clone()).await, expected, "{request}");
    }
    let watch = raw.call("Watch", json!({"consumer": "a b"})).await.unwrap_err();
    assert_eq!((watch.code, &watch.field[..]), (Code::InvalidArgument, "consumer"));
    let consumers = cable.consumers().await.unwrap();
    assert_eq!(consumers.len(), 1);
    assert_eq!(consumers[0].position.as_ref(), Some(&positions[8]));
    node.stop().await;
}

/// A position that was good becomes one of a compacted history.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_a_compacted_position_is_reset() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(0);
    let ops = free_address().await;
    let node = Node::run(0, dir.path(), clock, |config: &mut Config| {
        (config.feed.history_retention, config.feed.history_min_entries) = (Duration::from_secs(1), 3);
        config.server.ops_listen = Some(ops);
    })
    .await;
    let cable = node.client();
    let position = write(&cable, "a").await;
    cable.acknowledge("index", &position).await.unwrap();
    for n in 0..10 {
        write(&cable, &format!("b{n}")).await;
    }
    hands.set(MINUTE);
    soon(async { while cable.status().await.unwrap().oldest_revision < 2 {} }).await;
    let lost = cable.consumers().await.unwrap().remove(0);
    assert_eq!((lost.reset_reason(), lost.lag_revisions), (v1::FeedResetReason::Compacted, 10));
    soon(metrics_contain_soon(ops, "cable_consumers_lost 1".to_owned())).await;
    let refused = WatchStream::open(&node, named("index", None)).await.err().unwrap();
    assert_eq!(refused.code(), Code::OutOfRange);
    let allowed = WatchRequest { allow_reset: true, ..named("index", None) };
    let mut feed = WatchStream::open(&node, allowed).await.unwrap();
    assert_eq!(feed.next().await.0, FeedEvent::Reset(v1::FeedResetReason::Compacted));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_resets_consumers_until_they_acknowledge_its_own_positions() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, restored) = (temp.path().join("store"), temp.path().join("restored"));
    let node = Node::start(&dir).await;
    let cable = node.client();
    let position = write(&cable, "a").await;
    cable.acknowledge("index", &position).await.unwrap();
    write(&cable, "b").await;
    stop(node, &dir).await;
    fs::create_dir(&restored).unwrap();
    put(&restored, &files(&dir));

    let node = Node::start(&restored).await;
    let (cable, raw) = (node.client(), Raw::to(&node).await);
    let consumer = cable.consumers().await.unwrap().remove(0);
    let state = (consumer.reset_reason(), consumer.lag_revisions, consumer.lag);
    assert_eq!(state, (v1::FeedResetReason::LogChanged, 0, None));
    let summary = cable.status().await.unwrap().consumers.unwrap();
    assert_eq!((summary.count, summary.lost, summary.furthest_behind), (1, 1, None));
    let refused = raw.call("Watch", json!({"consumer": "index"})).await.unwrap_err();
    assert_eq!((refused.code, &refused.reason[..]), (Code::FailedPrecondition, "LOG_CHANGED"));
    let allowed = WatchRequest { allow_reset: true, ..named("index", None) };
    let mut feed = WatchStream::open(&node, allowed).await.unwrap();
    assert_eq!(feed.next().await.0, FeedEvent::Reset(v1::FeedResetReason::LogChanged));
    assert!(matches!(feed.next().await.0, FeedEvent::Snapshot(_)));
    let end = feed.message().await.unwrap().position.unwrap();
    let error = cable.acknowledge("index", &position).await.unwrap_err();
    assert_eq!(error.reason(), Some(cable_client::ErrorReason::LogChanged));
    // The position replaces the one of the other history, although its revision is not larger.
    assert_eq!(cable.acknowledge("index", &end).await.unwrap(), end);
    write(&cable, "c").await;
    let mut feed = WatchStream::open(&node, named("index", None)).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("c", 3)]);
    node.stop().await;
}

/// Creates a credential. Returns its token.
fn create(dir: &Path, name: &str, role: Role, filter: Option<Value>) -> String {
    let filter = filter.map(|filter| prost::Message::decode(encode("ArticleFilter", filter)).unwrap());
    let new = NewCredential { name: name.to_owned(), role, filter, lifetime: None, certificate: None };
    let file = CredentialFile::new(dir.join("credentials.toml"));
    file.create(new, Clock::system().now()).unwrap().unwrap().expose().to_owned()
}

/// Returns the owners and names of listed consumers.
async fn listed(raw: &Raw, request: Value) -> Vec<String> {
    let response = raw.call("ListConsumers", request).await.unwrap();
    let consumers = response["consumers"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    consumers.iter().map(|found| format!("{}/{}", text(&found["owner"]), text(&found["consumer"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_belongs_to_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let partner = Some(json!({"any_tags": ["tags/sea"]}));
    let tokens = [
        ("search", Role::Reader, None),
        ("mail", Role::Publisher, None),
        ("ops", Role::Admin, None),
        ("partner", Role::Reader, partner),
    ]
    .map(|(name, role, filter)| (name, create(dir.path(), name, role, filter)));
    let anonymous = |config: &mut Config| config.auth.anonymous = Anonymous::Role(Role::Reader);
    let node = Node::start_with(dir.path(), anonymous).await;
    let raw = Raw::to(&node).await;
    let mut callers: BTreeMap<_, _> =
        tokens.into_iter().map(|(name, token)| (name, raw.with_token(&token))).collect();
    callers.insert("", raw);
    let (search, mail, ops) = (&callers["search"], &callers["mail"], &callers["ops"]);
    mail.call("PutTag", json!({"tag": {"name": "tags/a", "display_name": "A"}})).await.unwrap();
    let head = search.call("GetStatus", json!({})).await.unwrap()["head"].clone();
    for raw in callers.values() {
        let request = json!({"consumer": "index", "position": head});
        raw.call("AcknowledgePosition", request).await.unwrap();
    }
    mail.call("PutTag", json!({"tag": {"name": "tags/a", "display_name": "B"}})).await.unwrap();
    let revised = search.call("GetStatus", json!({})).await.unwrap()["head"].clone();
    mail.call("AcknowledgePosition", json!({"consumer": "index", "position": revised})).await.unwrap();

    // Each caller has one consumer of the name, and sees no other.
    for (name, raw) in &callers {
        assert_eq!(listed(raw, json!({})).await, [format!("{name}/index")]);
        let mine = raw.call("ListConsumers", json!({})).await.unwrap()["consumers"][0].clone();
        let lag = mine["lag_revisions"].as_i64().unwrap_or_default();
        assert_eq!(lag, i64::from(*name != "mail"), "{name}: {mine}");
        let shows_time = !mine["lag"].is_null();
        assert_eq!(shows_time, *name != "mail" && *name != "partner", "{name}: {mine}");
        let status = raw.call("GetStatus", json!({})).await.unwrap();
        assert_eq!(status["consumers"]["count"].as_i64(), (*name == "ops").then_some(5), "{name}");
        for (method, request) in [
            ("ListConsumers", json!({"all_owners": true})),
            ("DeleteConsumer", json!({"consumer": "index", "owner": "mail"})),
        ] {
            if ["ops", "mail"].contains(name) {
                continue;
            }
            let refused = raw.call(method, request).await.unwrap_err();
            assert_eq!((refused.code, &refused.reason[..]), (Code::PermissionDenied, "ROLE_REQUIRED"));
        }
    }
    let all = ["/index", "mail/index", "ops/index", "partner/index", "search/index"];
    assert_eq!(listed(ops, json!({"all_owners": true})).await, all);

    // A caller deletes its own, an administrator any.
    search.call("DeleteConsumer", json!({"consumer": "index"})).await.unwrap();
    let again = search.call("DeleteConsumer", json!({"consumer": "index"})).await.unwrap_err();
    assert_eq!((again.code, &again.reason[..]), (Code::NotFound, "CONSUMER_NOT_FOUND"));
    for owner in ["", "mail"] {
        ops.call("DeleteConsumer", json!({"consumer": "index", "owner": owner})).await.unwrap();
    }
    assert_eq!(listed(ops, json!({"all_owners": true})).await, ["ops/index", "partner/index"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_bounded_and_expire() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(0);
    let limits = |config: &mut Config| {
        config.feed.max_consumers = 3;
        config.feed.max_consumers_per_caller = 2;
        config.feed.consumer_retention = Duration::from_secs(3_600);
        config.auth.anonymous = Anonymous::Role(Role::Admin);
    };
    let node = Node::run(0, dir.path(), clock.clone(), limits).await;
    let cable = node.client();
    let position = write(&cable, "a").await;
    for name in ["a", "b"] {
        cable.acknowledge(name, &position).await.unwrap();
    }
    let error = cable.acknowledge("c", &position).await.unwrap_err();
    assert_eq!(error.reason(), Some(cable_client::ErrorReason::TooManyConsumers));
    assert_eq!((&error.metadata()["scope"][..], &error.metadata()["maximum"][..]), ("caller", "2"));
    let refused = WatchStream::open(&node, named("c", None)).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // A consumer that exists is not refused, and a deleted one makes room.
    cable.acknowledge("a", &position).await.unwrap();
    cable.delete_consumer("b", None).await.unwrap();
    cable.acknowledge("c", &position).await.unwrap();

    // One of them is used, the other expires.
    for minutes in [30, 60, 90] {
        hands.set(minutes * MINUTE);
        cable.acknowledge("a", &position).await.unwrap();
    }
    let names = |found: Vec<v1::Consumer>| found.into_iter().map(|found| found.consumer).collect::<Vec<_>>();
    assert_eq!(names(cable.consumers().await.unwrap()), ["a"]);
    cable.acknowledge("d", &position).await.unwrap();
    node.stop().await;
    // The use of a consumer is on disk.
    let node = Node::run(0, dir.path(), clock, limits).await;
    assert_eq!(names(node.client().consumers().await.unwrap()), ["a", "d"]);
    hands.set(200 * MINUTE);
    assert!(node.client().consumers().await.unwrap().is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lags_are_shown_in_lists_status_and_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(1_000_000);
    let ops = free_address().await;
    let node = Node::run(0, dir.path(), clock, |config| config.server.ops_listen = Some(ops)).await;
    let cable = node.client();
    let position = write(&cable, "a").await;
    cable.acknowledge("index", &position).await.unwrap();
    cable.acknowledge("mail", &position).await.unwrap();
    for line in [
        "cable_consumers 2",
        "cable_consumers_lost 0",
        "cable_consumer_lag_revisions{owner=\"\",consumer=\"index\"} 0",
        "cable_consumer_lag_seconds{owner=\"\",consumer=\"index\"} 0.0",
    ] {
        soon(metrics_contain_soon(ops, line.to_owned())).await;
    }
    hands.set(11_000_000);
    let second = write(&cable, "b").await;
    hands.set(21_000_000);
    write(&cable, "c").await;
    hands.set(31_000_000);
    cable.acknowledge("mail", &second).await.unwrap();
    let lags =
        |found: &v1::Consumer| (found.consumer.clone(), found.lag_revisions, found.lag.unwrap().seconds);
    let consumers = cable.consumers().await.unwrap();
    let expected = [("index".to_owned(), 2, 20), ("mail".to_owned(), 1, 10)];
    assert_eq!(consumers.iter().map(lags).collect::<Vec<_>>(), expected);
    let summary = cable.status().await.unwrap().consumers.unwrap();
    assert_eq!((summary.count, summary.lost), (2, 0));
    assert_eq!(lags(&summary.furthest_behind.unwrap()), expected[0]);
    for line in [
        "cable_consumer_lag_revisions{owner=\"\",consumer=\"index\"} 2",
        "cable_consumer_lag_seconds{owner=\"\",consumer=\"index\"} 20.0",
        "cable_consumer_lag_seconds{owner=\"\",consumer=\"mail\"} 10.0",
    ] {
        soon(metrics_contain_soon(ops, line.to_owned())).await;
    }
    node.stop().await;
}

/// Returns the content of the write-ahead log.
fn wal(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("cable.db-wal")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_acknowledgement_writes_nothing_and_many_share_a_few_writes() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.feed.max_consumers_per_caller = 200).await;
    let cable = node.client();
    let mut positions = Vec::new();
    for n in 0..100 {
        positions.push(write(&cable, &format!("a{n}")).await);
    }
    cable.acknowledge("index", &positions[50]).await.unwrap();
    let before = wal(dir.path());
    for position in &positions[..=50] {
        assert_eq!(cable.acknowledge("index", position).await.unwrap().revision, 51);
    }
    let feed = WatchStream::open(&node, named("index", None)).await.unwrap();
    cable.consumers().await.unwrap();
    assert!(wal(dir.path()) == before, "an idle consumer writes nothing");
    drop(feed);
    // One transaction per acknowledgement would add a page for each.
    let all: Vec<_> = positions.iter().map(|position| cable.acknowledge("mail", position)).collect();
    let reached = join_all(all).await.into_iter().map(|reached| reached.unwrap().revision).max();
    assert_eq!(reached, Some(100));
    let pages = (wal(dir.path()).len().saturating_sub(before.len())) / (8 << 10);
    assert!(pages <= 20, "{pages} pages");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_feed_acknowledges_handled_deliveries() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    let open = || cable.feed(FeedFilter::default().any_tag("sea")).consumer("index").open();
    let mut feed = open();
    assert!(matches!(feed.try_next().await.unwrap().unwrap().event, Event::Checkpoint { .. }));
    write(&cable, "a").await;
    write(&cable, "b").await;
    for n in 0..2 {
        let delivery = feed.try_next().await.unwrap().unwrap();
        assert!(matches!(delivery.event, Event::Changes(_)), "{n}: {delivery:?}");
    }
    // The second delivery was not handled: the feed is dropped.
    soon(async { while cable.consumers().await.unwrap()[0].position.as_ref().unwrap().revision < 1 {} })
        .await;
    drop(feed);
    let mut feed = open();
    let Event::Changes(changes) = feed.try_next().await.unwrap().unwrap().event else { panic!("no changes") };
    assert_eq!(changes[0].name, "articles/b");
    feed.close().await.unwrap();
    let mut feed = open();
    assert!(matches!(feed.try_next().await.unwrap().unwrap().event, Event::Checkpoint { .. }));
    feed.close().await.unwrap();
    node.stop().await;
}

/// The node is down while the follower acknowledges. The feed acknowledges again after the restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_of_the_client_acknowledges_after_the_node_has_returned() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let port = node.address.port();
    let cable = node.client();
    let mut feed = cable.feed(FeedFilter::default()).consumer("index").open();
    feed.try_next().await.unwrap().unwrap();
    write(&cable, "a").await;
    let mut events = Vec::new();
    while !events.iter().any(|event| matches!(event, Event::Changes(_))) {
        events.push(feed.try_next().await.unwrap().unwrap().event);
    }
    node.stop().await;
    // The delivery is handled now, while no node can accept its position.
    let next = tokio::spawn(async move {
        let next = feed.try_next().await;
        (feed, next)
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    let node = Node::start_on(port, dir.path(), |_| {}).await;
    let (feed, next) = next.await.unwrap();
    next.unwrap().unwrap();
    soon(async { while node.client().consumers().await.unwrap()[0].lag_revisions > 0 {} }).await;
    feed.close().await.unwrap();
    node.stop().await;
}
