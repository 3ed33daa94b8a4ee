//! Mutated requests: valid ones of every method, with changes that a fuzzer makes. Each receives a response, none of
//! them an error that a request cannot cause, and the node serves as before.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    connections::{places::metrics, program::Program},
    dice::Rng,
    raw::{Raw, method_names, request_bytes},
};

/// The number of calls at once, and of their connections.
const IN_FLIGHT: usize = 100;
const CONNECTIONS: usize = 4;

/// The maximum time of a call. It is far longer than any takes; only a feed lasts.
const TIMEOUT: Duration = Duration::from_secs(60);
const FEED_TIMEOUT: Duration = Duration::from_millis(200);

/// The maximum growth of the node in kilobytes after the first fifth of the calls.
const GROWTH: u64 = 32 << 10;

/// Returns the number of mutated requests: 5,000, or that of the environment.
fn count() -> usize {
    std::env::var("CABLE_MUTATIONS").map_or(5_000, |count| count.parse().unwrap())
}

/// Returns a valid request of each method that has many of its fields.
fn requests() -> Vec<(&'static str, Value)> {
    let selection = json!({"view": 3, "body_format": 2, "includes": [1, 2, 3], "if_none_match": "x"});
    let with = |more: Value| {
        let mut request = selection.clone();
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let filter = json!({
        "all_tags": ["tags/t"], "any_tags": ["tags/t", "tags/u"], "excluded_tags": ["tags/v"],
        "section": "sections/s", "include_child_sections": true, "authors": ["authors/a"], "types": [1, 2],
        "language": "en", "published_after": "2024-01-01T00:00:00Z",
    });
    let article = json!({
        "name": "articles/a", "headline": "Quay", "dek": "The ferry", "type": 1, "language": "en",
        "section": "sections/s", "tags": ["tags/t"], "path": "/quay", "annotations": {"desk": "harbour"},
        "byline": {"credits": [{"author": "authors/a"}]},
        "body": {"blocks": [{"paragraph": {"spans": [{"text": "The ferry did not sail."}]}}]},
    });
    let entity =
        |kind: &str, title: &str| json!({kind: {"name": format!("{kind}s/{}", &kind[..1]), title: "E"}});
    let removal = |name: &str| json!({"name": name, "reason": "REMOVAL_REASON_DELETED"});
    let put = json!({"article": article, "allow_killed": true});
    vec![
        ("GetArticle", with(json!({"name": "articles/a"}))),
        ("BatchGetArticles", with(json!({"names": ["articles/a", "articles/b"]}))),
        ("ListArticles", with(json!({"filter": filter, "order": 1, "page_size": 3}))),
        (
            "StreamArticles",
            json!({"filter": filter, "order": 2, "view": 3, "includes": [1], "max_articles": 9}),
        ),
        ("ResolvePath", with(json!({"path": "/quay"}))),
        ("GetAuthor", json!({"name": "authors/a"})),
        ("ListAuthors", json!({"page_size": 3})),
        ("GetSection", json!({"name": "sections/s"})),
        ("ListSections", json!({"page_size": 3})),
        ("GetTag", json!({"name": "tags/t"})),
        ("ListTags", json!({"page_size": 3})),
        ("GetCollection", with(json!({"name": "collections/c"}))),
        ("ListCollections", json!({"page_size": 3})),
        ("GetStatus", json!({})),
        ("Backup", json!({})),
        ("PutArticle", put.clone()),
        ("PatchArticle", json!({"article": {"name": "articles/a", "headline": "Pier"}})),
        ("RemoveArticle", removal("articles/a")),
        ("PutAuthor", entity("author", "display_name")),
        ("RemoveAuthor", removal("authors/a")),
        ("PutSection", entity("section", "display_name")),
        ("RemoveSection", removal("sections/s")),
        ("PutTag", entity("tag", "display_name")),
        ("RemoveTag", removal("tags/t")),
        ("PutCollection", entity("collection", "title")),
        ("RemoveCollection", removal("collections/c")),
        (
            "Commit",
            json!({"changes": [{"put_article": article}, {"put_tag": {"name": "tags/u", "display_name": "U"}}]}),
        ),
        ("GetPending", json!({"name": "articles/a"})),
        ("ListPending", json!({"page_size": 3})),
        ("RemovePending", json!({"name": "articles/a"})),
        (
            "Import",
            json!({"records": [{"article": article}, {"tag": {"name": "tags/t", "display_name": "T"}}]}),
        ),
        ("Export", json!({"after_revision": 1, "include_pending": true})),
        (
            "Watch",
            json!({
                "snapshot": true, "view": 3, "filter": {"any_tags": ["tags/t"]}, "allow_reset": true,
                "consumer": "index",
            }),
        ),
        (
            "AcknowledgePosition",
            json!({
                "consumer": "index", "allow_rewind": true,
                "position": {"log_id": "00000001", "revision": 1, "chain": format!("{}=", "A".repeat(43))},
            }),
        ),
        ("ListConsumers", json!({"all_owners": true})),
        ("DeleteConsumer", json!({"consumer": "index", "owner": "desk"})),
    ]
}

/// Changes a message once.
fn mutate(message: &mut Vec<u8>, others: &[(&str, Bytes)], rng: &mut Rng) {
    let at = rng.between(0, message.len() as u64) as usize;
    let length = rng.between(0, 12) as usize;
    let range = at..(at + length).min(message.len());
    match rng.between(0, 10) {
        0 | 1 if at < message.len() => message[at] ^= 1 << rng.between(0, 7),
        2 if at < message.len() => message[at] = rng.next() as u8,
        // Another wire type, if this byte is a key.
        3 if at < message.len() => message[at] = message[at] & !7 | rng.between(0, 7) as u8,
        4 => message.truncate(at),
        5 => drop(message.drain(range)),
        6 => {
            let copied = message[range].to_vec();
            message.splice(at..at, copied);
        }
        7 => drop(message.splice(at..at, (0..length).map(|_| rng.next() as u8).collect::<Vec<_>>())),
        // A varint that is too long, or groups in groups.
        8 => drop(message.splice(at..at, [&[0x08][..], &[0xff; 11]].concat())),
        9 => drop(message.splice(at..at, vec![0x0b; length * 20])),
        _ => {
            let (_, other) = &others[rng.between(0, others.len() as u64 - 1) as usize];
            let from = rng.between(0, other.len() as u64) as usize;
            message.splice(range, other[from..].to_vec());
        }
    }
}

/// Whether a status can be the result of a request. A feed may last until its deadline, which its client may notice
/// first. A request may ask for a revision of the future, and a mutated removal may be a kill, which ends a backup.
fn is_answer(status: &Status, method: &str) -> bool {
    match status.code() {
        Code::Unavailable => {
            let reasons = ["NOT_CAUGHT_UP", "BACKUP_INTERRUPTED"];
            status.get_error_details().error_info().is_some_and(|info| reasons.contains(&&*info.reason))
        }
        Code::Unknown | Code::Internal | Code::DataLoss => false,
        Code::DeadlineExceeded | Code::Cancelled => method == "Watch",
        _ => true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_requests_are_answered_and_harm_nothing() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed =
        std::env::var("CABLE_SEED").map_or(u64::from(now.subsec_nanos()), |seed| seed.parse().unwrap());
    println!("mutations: CABLE_SEED={seed}");
    let mut rng = Rng::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let env = [("CABLE__SERVER__OPS_LISTEN", "127.0.0.1:0"), ("CABLE__CACHE__MAX_BYTES", "8MiB")];
    let program = Program::start_serving_ops(dir.path(), "true", &env);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Raw::at(&format!("http://{}", program.address)).await);
    }
    let valid: Vec<_> =
        requests().into_iter().map(|(method, request)| (method, request_bytes(method, request))).collect();
    let methods: BTreeSet<_> = valid.iter().map(|(method, _)| (*method).to_owned()).collect();
    assert_eq!(methods, method_names().into_iter().collect());
    for (method, request) in &valid {
        let timeout = if *method == "Watch" { FEED_TIMEOUT } else { TIMEOUT };
        let (_, status) = connections[0].send_within(timeout, method, request.clone()).await;
        assert_ne!(status.code(), Code::InvalidArgument, "{method}: {status:?}");
    }
    let (mut accepted, mut refused, mut grown_from) = (0, 0, 0);
    let total = count();
    let calls = (0..total).map(|at| {
        let (method, request) = &valid[at % valid.len()];
        let mut request = request.to_vec();
        for _ in 0..rng.between(1, 3) {
            mutate(&mut request, &valid, &mut rng);
        }
        let (raw, request) = (connections[at % CONNECTIONS].clone(), Bytes::from(request));
        async move {
            let timeout = if *method == "Watch" { FEED_TIMEOUT } else { TIMEOUT };
            let (_, status) = raw.send_within(timeout, method, request.clone()).await;
            assert!(is_answer(&status, method), "{method} {}: {status:?}", request.escape_ascii());
            status.code() == Code::Ok
        }
    });
    let mut results = stream::iter(calls).buffer_unordered(IN_FLIGHT);
    while let Some(was_accepted) = results.next().await {
        *(if was_accepted { &mut accepted } else { &mut refused }) += 1;
        if accepted + refused == total / 5 {
            grown_from = program.memory("VmRSS");
        }
    }
    let grown = program.memory("VmRSS").saturating_sub(grown_from);
    println!("{total} mutated requests: {accepted} accepted, {refused} refused, {grown} KB more memory");
    assert!(accepted > total / 50 && refused > total / 50, "the mutations are neither harmless nor noise");
    assert!(grown < GROWTH, "{grown} KB");
    let metrics = metrics(program.ops_address.unwrap()).await;
    assert!(metrics.lines().any(|line| line == "cable_panics_total 0"), "{metrics}");
    let put = json!({"article": {"name": "articles/after", "headline": "After"}});
    connections[0].call("PutArticle", put).await.unwrap();
    connections[0].call("GetArticle", json!({"name": "articles/after"})).await.unwrap();
}
