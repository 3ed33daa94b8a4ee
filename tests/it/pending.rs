//! Pending versions: invisible before their time, visible from then on, and their cancellation. The tests set the time
//! instead of waiting for it.

use cable::{
    clock::{Clock, ManualClock},
    config::Config,
};
use cable_client::Timestamp;
use serde_json::{Value, json};

use crate::{
    histories::verify,
    raw::{Raw, Refusal},
    support::Node,
};

mod paths;
mod reads;
mod removals;
mod visibility;
mod writes;

/// The start of each test: in 2030, microseconds since 1970 UTC.
const START: i64 = 1_900_000_000_000_000;

const SECOND: i64 = 1_000_000;

/// A node with a clock that the test sets.
struct TestNode {
    dir: tempfile::TempDir,
    server: Node,
    raw: Raw,
    clock: Clock,
    hands: ManualClock,
}

impl TestNode {
    async fn open() -> TestNode {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hands) = Clock::manual(START);
        let server = Node::start_at(dir.path(), clock.clone()).await;
        let raw = Raw::to(&server).await;
        TestNode { dir, server, raw, clock, hands }
    }

    async fn call(&self, method: &str, request: Value) -> Value {
        self.raw.call(method, request).await.unwrap_or_else(|refused| panic!("{method}: {refused:?}"))
    }

    async fn refused(&self, method: &str, request: Value) -> Refusal {
        self.raw.call(method, request).await.unwrap_err()
    }

    /// Puts an article. Returns the result of the write.
    async fn put(&self, article: Value) -> Value {
        self.call("PutArticle", json!({"article": article})).await["result"].clone()
    }

    async fn get(&self, id: &str) -> Result<Value, Refusal> {
        let response = self.raw.call("GetArticle", json!({"name": format!("articles/{id}")})).await;
        response.map(|response| response["article"].clone())
    }

    async fn pending(&self, id: &str) -> Result<Value, Refusal> {
        let response = self.raw.call("GetPending", json!({"name": format!("articles/{id}")})).await;
        response.map(|response| response["pending"].clone())
    }

    async fn remove(&self, id: &str, reason: &str) -> Result<Value, Refusal> {
        let request = json!({"name": format!("articles/{id}"), "reason": format!("REMOVAL_REASON_{reason}")});
        self.raw.call("RemoveArticle", request).await.map(|response| response["result"].clone())
    }

    async fn head(&self) -> i64 {
        self.call("GetStatus", json!({})).await["head"]["revision"].as_i64().unwrap_or(0)
    }

    fn set(&self, seconds: i64) {
        self.hands.set(START + seconds * SECOND);
    }

    /// Sets the time and waits until the effects have brought the head to a revision.
    async fn advance_to(&self, seconds: i64, revision: i64) {
        self.set(seconds);
        self.wait_for_revision(revision).await;
    }

    async fn wait_for_revision(&self, revision: i64) {
        let freshness = json!({"at_least_revision": revision, "max_wait": "10s"});
        self.call("ListTags", json!({"freshness": freshness})).await;
        assert_eq!(self.head().await, revision);
    }

    /// Stops the node, lets time pass, and restarts it with other settings.
    async fn restart(self, seconds: i64, change: impl FnOnce(&mut Config)) -> TestNode {
        let TestNode { dir, server, clock, hands, .. } = self;
        server.stop().await;
        hands.set(START + seconds * SECOND);
        let server = Node::run(0, dir.path(), clock.clone(), change).await;
        let raw = Raw::to(&server).await;
        TestNode { dir, server, raw, clock, hands }
    }

    async fn close(self) {
        self.server.stop().await;
        verify(self.dir.path());
    }
}

/// Returns a time, given in seconds after the start.
fn at(seconds: i64) -> String {
    Timestamp { seconds: START / SECOND + seconds, nanos: 0 }.to_string()
}

fn article(id: &str, headline: &str, more: Value) -> Value {
    let mut article = json!({"name": format!("articles/{id}"), "headline": headline});
    article.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    article
}

fn reason(refused: Result<Value, Refusal>) -> String {
    refused.unwrap_err().reason
}
