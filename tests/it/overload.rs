//! A node that is short of memory: what it refuses, and what it serves in any case.

use serde_json::{Value, json};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    connections::soon,
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
