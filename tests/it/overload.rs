//! A node that is short of memory or time: what it refuses, and what it serves in any case.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    connections::{
        places::{free_address, metrics},
        soon,
    },
    raw::{Raw, Refusal},
    support::Node,
};

/// Starts a node that uses more memory than its limit, and waits until it has noticed.
async fn start(dir: &std::path::Path) -> (Node, Raw) {
    let node = Node::start_with(dir, |config| config.overload.max_memory_bytes = 1).await;
    let raw = Raw::to(&node).await;
    soon(async {
        // The name does not exist, so the response is never in memory.
        while raw.call("GetTag", json!({"name": "tags/none"})).await.unwrap_err().code == Code::NotFound {}
    })
    .await;
    (node, raw)
}

async fn call(raw: &Raw, method: &str, request: Value) -> Result<(), Refusal> {
    raw.call(method, request).await.map(drop)
}

#[tokio::test]
async fn a_node_without_memory_refuses_streams_and_reads_of_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (_node, raw) = start(dir.path()).await;
    for (method, request) in [
        ("GetArticle", json!({"name": "articles/a"})),
        ("BatchGetArticles", json!({"names": ["articles/a"]})),
        ("ListArticles", json!({})),
        ("ResolvePath", json!({"path": "/a"})),
        ("StreamArticles", json!({})),
        ("Watch", json!({})),
        ("Export", json!({})),
    ] {
        let refusal = call(&raw, method, request).await.unwrap_err();
        assert_eq!((refusal.code, &refusal.reason[..]), (Code::Unavailable, "OVERLOADED"), "{method}");
        assert!(refusal.retry, "{method}: RetryInfo is missing");
    }
}

#[tokio::test]
async fn a_node_without_memory_writes_kills_and_reports_its_health() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw) = start(dir.path()).await;
    let article = json!({"article": {"name": "articles/a", "headline": "A"}});
    call(&raw, "PutArticle", article).await.unwrap();
    call(&raw, "RemoveArticle", json!({"name": "articles/a", "reason": "REMOVAL_REASON_KILLED"}))
        .await
        .unwrap();
    call(&raw, "ListPending", json!({})).await.unwrap();
    call(&raw, "GetStatus", json!({})).await.unwrap();
    let channel = Endpoint::from_shared(node.endpoint()).unwrap().connect().await.unwrap();
    let health = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(health.into_inner().status, 1);
}

/// The first two queues of an overloaded node can be short, while calls wait for room for their responses until their
/// deadlines.
#[tokio::test(flavor = "multi_thread")]
async fn responses_that_take_too_long_refuse_further_reads_of_their_connection() {
    const ARTICLES: usize = 64;
    let dir = tempfile::tempdir().unwrap();
    let ops = free_address().await;
    let node = Node::start_with(dir.path(), |config| {
        config.server.ops_listen = Some(ops);
        config.overload.max_delay = Duration::from_millis(1);
        // Too small for one of the articles.
        config.cache.max_bytes = 1;
    })
    .await;
    let raw = Raw::to(&node).await;
    let body = json!({"blocks": [{"paragraph": {"spans": [{"text": "a long text ".repeat(4_000)}]}}]});
    let put = |n: usize| json!({"article": {"name": format!("articles/{n}"), "headline": "A", "body": body}});
    for n in 0..ARTICLES {
        call(&raw, "PutArticle", put(n)).await.unwrap();
    }
    soon(async {
        loop {
            let reads =
                (0..ARTICLES).map(|n| call(&raw, "GetArticle", json!({"name": format!("articles/{n}")})));
            let refusals = join_all(reads).await.into_iter().filter_map(Result::err);
            for refusal in refusals {
                assert_eq!((refusal.code, &refusal.reason[..]), (Code::Unavailable, "OVERLOADED"));
            }
            call(&raw, "PutArticle", put(0)).await.unwrap();
            let refused = "cable_calls_shed_total{reason=\"response_delay\"} ";
            if metrics(ops).await.lines().any(|line| line.starts_with(refused) && !line.ends_with(" 0")) {
                break;
            }
        }
    })
    .await;
}
