//! Pending versions: invisible before their time, visible from then on, and their cancellation. The tests set the time
//! instead of waiting for it.

use cable::{
    clock::{Clock, ManualClock},
    config::Config,
};
use cable_client::{Change, ErrorReason, RemovalReason, Timestamp, View, v1};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    histories::verify,
    raw::{Raw, Refusal, decode, request_bytes},
    support::{self, Node},
};

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

/// Returns a time, given in seconds after the start.
fn at(seconds: i64) -> String {
    Timestamp { seconds: START / SECOND + seconds, nanos: 0 }.to_string()
}

fn article(id: &str, headline: &str, more: Value) -> Value {
    let mut article = json!({"name": format!("articles/{id}"), "headline": headline});
    article.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    article
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

fn reason(refused: Result<Value, Refusal>) -> String {
    refused.unwrap_err().reason
}

#[tokio::test]
async fn a_scheduled_article_becomes_visible_at_its_publish_time() {
    let node = TestNode::open().await;
    let storm = article("a", "Storm", json!({"publish_time": at(60), "path": "/storm", "tags": ["tags/t"]}));
    let result = node.put(storm).await;
    assert_eq!((&result["pending"], &result["due_time"]), (&json!(true), &json!(at(60))), "{result}");
    assert_eq!((&result["changed"], &result["revision"]), (&json!(true), &json!(1)));
    assert_eq!(reason(node.get("a").await), "ARTICLE_NOT_FOUND");
    assert_eq!(node.refused("ResolvePath", json!({"path": "/storm"})).await.reason, "ARTICLE_NOT_FOUND");
    let listed = node.call("ListArticles", json!({"filter": {"all_tags": ["tags/t"]}})).await;
    assert_eq!(listed["articles"], json!(null));
    let exported = node.call("Export", json!({})).await;
    assert_eq!(exported["end"]["count"], json!(null), "{exported}");
    assert_eq!(node.call("GetStatus", json!({})).await["counts"], json!({}));

    let pending = node.pending("a").await.unwrap();
    assert_eq!(pending["due_time"], at(60));
    assert_eq!(pending["article"]["state"], "ARTICLE_STATE_PENDING");
    assert_eq!(pending["article"]["etag"], result["etag"]);
    assert_eq!(pending["article"]["first_publish_time"], json!(null));

    // Just before the time, only requested changes happen.
    node.hands.set(START + 60 * SECOND - 1);
    node.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await;
    assert_eq!(node.head().await, 2);
    assert_eq!(reason(node.get("a").await), "ARTICLE_NOT_FOUND");
    node.advance_to(60, 4).await;
    let found = node.get("a").await.unwrap();
    assert_eq!((&found["revision"], &found["state"]), (&json!(4), &json!("ARTICLE_STATE_LIVE")));
    assert_eq!(found["create_time"], at(0));
    assert_eq!((&found["update_time"], &found["first_publish_time"]), (&json!(at(60)), &json!(at(60))));
    assert_eq!(node.call("ResolvePath", json!({"path": "/storm"})).await["article"]["headline"], "Storm");
    assert_eq!(reason(node.pending("a").await), "ARTICLE_NOT_FOUND");
    let listed = node.call("ListArticles", json!({"filter": {"all_tags": ["tags/t"]}})).await;
    assert_eq!(listed["articles"].as_array().unwrap().len(), 1);
    node.close().await;
}

#[tokio::test]
async fn visibility_starts_at_the_later_of_embargo_and_publish_time() {
    let node = TestNode::open().await;
    let until = |seconds| json!({"until": at(seconds)});
    node.put(article("a", "A", json!({"publish_time": at(10), "embargo": until(20)}))).await;
    node.put(article("b", "B", json!({"publish_time": at(-90), "embargo": until(30)}))).await;
    let held =
        node.put(article("c", "C", json!({"publish_time": at(10), "embargo": {"note": "call"}}))).await;
    assert_eq!((&held["pending"], &held["due_time"]), (&json!(true), &json!(null)));
    let lifted = node.put(article("d", "D", json!({"embargo": until(0)}))).await;
    assert_eq!(lifted["pending"], json!(null), "a lifted embargo delays nothing: {lifted}");
    let listed = node.call("ListPending", json!({})).await;
    let names: Vec<&Value> =
        listed["pending"].as_array().unwrap().iter().map(|one| &one["article"]["name"]).collect();
    assert_eq!(names, ["articles/a", "articles/b", "articles/c"]);

    node.set(10);
    assert_eq!(node.head().await, 4);
    node.advance_to(20, 6).await;
    node.advance_to(30, 8).await;
    // The displayed date, if there is one; else the time at which the article became readable.
    assert_eq!(node.get("a").await.unwrap()["first_publish_time"], at(10));
    assert_eq!(node.get("b").await.unwrap()["first_publish_time"], at(-90));
    node.advance_to(100_000, 8).await;
    assert_eq!(reason(node.get("c").await), "ARTICLE_NOT_FOUND");
    let result = node.put(article("c", "C", json!({}))).await;
    assert_eq!((&result["pending"], &result["revision"]), (&json!(null), &json!(10)));
    assert_eq!(node.get("c").await.unwrap()["first_publish_time"], at(100_000));
    node.close().await;
}

#[tokio::test]
async fn a_pending_update_replaces_the_live_article_when_it_is_due() {
    let node = TestNode::open().await;
    let old = node.put(article("a", "Old", json!({"path": "/old"}))).await;
    let new = |headline: &str| article("a", headline, json!({"path": "/new", "publish_time": at(60)}));
    let waiting = node.put(new("New")).await;
    assert_eq!(node.get("a").await.unwrap()["etag"], old["etag"]);
    let again = node.put(new("New")).await;
    assert_eq!((&again["changed"], &again["etag"]), (&json!(null), &waiting["etag"]));
    assert_eq!((&again["pending"], &again["due_time"]), (&json!(true), &json!(at(60))));
    // A put with immediate effect leaves it in place; another pending version replaces it.
    node.put(article("a", "Mended", json!({"path": "/old"}))).await;
    assert_eq!(node.pending("a").await.unwrap()["article"]["headline"], "New");
    node.put(new("Newer")).await;
    assert_eq!(node.head().await, 4);
    assert_eq!(node.refused("ResolvePath", json!({"path": "/new"})).await.reason, "ARTICLE_NOT_FOUND");
    node.advance_to(60, 6).await;
    let found = node.get("a").await.unwrap();
    assert_eq!((&found["headline"], &found["create_time"]), (&json!("Newer"), &json!(at(0))));
    assert_eq!(found["first_publish_time"], at(0));
    let former = node.call("ResolvePath", json!({"path": "/old"})).await;
    assert_eq!(former["redirect_path"], "/new");
    node.close().await;
}

#[tokio::test]
async fn an_immediate_put_cancels_a_version_that_was_only_pending() {
    let node = TestNode::open().await;
    node.put(article("a", "Later", json!({"publish_time": at(60)}))).await;
    node.set(5);
    let response = node.call("PutArticle", json!({"article": article("a", "Now", json!({}))})).await;
    assert_eq!((&response["result"]["revision"], &response["position"]["revision"]), (&json!(3), &json!(3)));
    assert_eq!(reason(node.pending("a").await), "ARTICLE_NOT_FOUND");
    assert_eq!(node.get("a").await.unwrap()["create_time"], at(5), "the cancelled version leaves no trace");
    node.set(60);
    node.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await;
    assert_eq!(node.head().await, 4);
    assert_eq!(node.get("a").await.unwrap()["headline"], "Now");
    node.close().await;
}

#[tokio::test]
async fn a_patch_of_the_live_version_may_become_the_pending_one() {
    let node = TestNode::open().await;
    node.put(article("a", "Old", json!({"dek": "Dek"}))).await;
    node.put(article("a", "Waiting", json!({"publish_time": at(90)}))).await;
    let patch = json!({"article": article("a", "Patched", json!({"publish_time": at(60)}))});
    let result = node.call("PatchArticle", patch).await["result"].clone();
    assert_eq!((&result["pending"], &result["due_time"]), (&json!(true), &json!(at(60))));
    assert_eq!(node.get("a").await.unwrap()["headline"], "Old");
    let pending = node.pending("a").await.unwrap()["article"].clone();
    assert_eq!((&pending["headline"], &pending["dek"]), (&json!("Patched"), &json!("Dek")));
    node.put(article("b", "Waiting", json!({"publish_time": at(90)}))).await;
    let patch = json!({"article": {"name": "articles/b", "dek": "D"}});
    assert_eq!(node.refused("PatchArticle", patch).await.reason, "ARTICLE_NOT_FOUND");
    node.close().await;
}

#[tokio::test]
async fn preconditions_apply_to_the_version_being_replaced() {
    let node = TestNode::open().await;
    let put = |article: Value, precondition: Value| json!({"article": article, "precondition": precondition});
    let absent = json!({"must_be_absent": true});
    let later = |headline: &str| article("a", headline, json!({"publish_time": at(60)}));
    let waiting = node.call("PutArticle", put(later("1"), absent.clone())).await["result"]["etag"].clone();
    for again in [later("2"), article("a", "2", json!({}))] {
        let refused = node.refused("PutArticle", put(again, absent.clone())).await;
        assert_eq!((&*refused.reason, &json!(refused.metadata["etag"])), ("NAME_EXISTS", &waiting));
    }
    // A put with immediate effect replaces the live version, and there is none.
    let now = || article("a", "Now", json!({}));
    let refused = node.refused("PutArticle", put(now(), json!({"etag": waiting}))).await;
    assert_eq!((&*refused.reason, refused.metadata.get("etag")), ("ETAG_MISMATCH", None));
    let replaced = node.call("PutArticle", put(later("2"), json!({"etag": waiting}))).await;
    let waiting = replaced["result"]["etag"].clone();

    let live = node.put(now()).await["etag"].clone();
    assert_eq!(reason(node.pending("a").await), "ARTICLE_NOT_FOUND");
    let refused = node.refused("PutArticle", put(later("3"), json!({"etag": waiting}))).await;
    assert_eq!(json!(refused.metadata["etag"]), live, "without a pending version the live one counts");
    let put_later = node.call("PutArticle", put(later("3"), json!({"etag": live}))).await;
    let waiting = put_later["result"]["etag"].clone();
    let patch = json!({"article": later("4"), "precondition": {"etag": live}});
    assert_eq!(json!(node.refused("PatchArticle", patch).await.metadata["etag"]), waiting);

    let remove = |etag: &Value| json!({"name": "articles/a", "precondition": {"etag": etag}});
    let refused = node.refused("RemovePending", remove(&live)).await;
    assert_eq!((refused.code, json!(refused.metadata["etag"])), (Code::Aborted, waiting.clone()));
    let removed = node.call("RemovePending", remove(&waiting)).await["result"].clone();
    assert_eq!((&removed["changed"], &removed["etag"]), (&json!(true), &json!(null)));
    assert_eq!((&removed["pending"], node.get("a").await.unwrap()["etag"].clone()), (&json!(null), live));
    let refused = node.refused("RemovePending", json!({"name": "articles/a"})).await;
    assert_eq!((refused.code, &*refused.reason), (Code::NotFound, "ARTICLE_NOT_FOUND"));
    node.close().await;
}

#[tokio::test]
async fn a_removal_cancels_and_never_reveals_a_pending_version() {
    let node = TestNode::open().await;
    for reason in ["DELETED", "WITHDRAWN"] {
        let start = node.head().await;
        node.put(article("a", "Live", json!({}))).await;
        node.put(article("a", "Waiting", json!({"publish_time": at(60)}))).await;
        let removed = node.remove("a", reason).await.unwrap();
        assert_eq!((&removed["revision"], node.head().await), (&json!(start + 4), start + 4));
        assert_eq!(self::reason(node.pending("a").await), "ARTICLE_NOT_FOUND");
        assert_eq!(self::reason(node.get("a").await), "ARTICLE_GONE");
    }
    // The response does not reveal whether a version is pending.
    node.put(article("b", "Waiting", json!({"publish_time": at(60)}))).await;
    let absent = json!({"must_be_absent": true});
    for precondition in [json!(null), absent, json!({"etag": "00000000-1"})] {
        let mut responses = Vec::new();
        for id in ["b", "c"] {
            let name = format!("articles/{id}");
            let mut request = json!({"name": name, "reason": "REMOVAL_REASON_DELETED"});
            if !precondition.is_null() {
                request["precondition"] = precondition.clone();
            }
            responses.push(node.refused("RemoveArticle", request).await);
        }
        assert_eq!(responses[0], responses[1]);
    }
    assert_eq!(self::reason(node.remove("a", "DELETED").await), "ARTICLE_GONE");
    node.put(article("a", "Waiting", json!({"publish_time": at(60)}))).await;
    assert_eq!(self::reason(node.remove("a", "DELETED").await), "ARTICLE_GONE");
    assert_eq!(node.pending("a").await.unwrap()["article"]["headline"], "Waiting");
    node.close().await;
}

#[tokio::test]
async fn a_kill_erases_pending_versions_and_blocks_the_name() {
    let node = TestNode::open().await;
    let now = |id| article(id, "Now", json!({}));
    let later = |id| article(id, "Later", json!({"publish_time": at(60)}));
    assert_eq!(reason(node.remove("never", "KILLED").await), "ARTICLE_NOT_FOUND");
    // Only pending: readers continue to see that there was never anything.
    node.put(later("waiting")).await;
    let killed = node.remove("waiting", "KILLED").await.unwrap();
    assert_eq!((&killed["changed"], &killed["revision"]), (&json!(true), &json!(2)));
    assert_eq!(reason(node.get("waiting").await), "ARTICLE_NOT_FOUND");
    assert_eq!(reason(node.pending("waiting").await), "ARTICLE_NOT_FOUND");
    // Live, with a pending version.
    node.put(now("live")).await;
    node.put(later("live")).await;
    node.remove("live", "KILLED").await.unwrap();
    assert_eq!(reason(node.pending("live").await), "ARTICLE_NOT_FOUND");
    assert_eq!(node.get("live").await.unwrap_err().metadata["reason"], "KILLED");
    // Removed for another reason.
    node.put(now("gone")).await;
    node.remove("gone", "DELETED").await.unwrap();
    node.put(later("gone")).await;
    node.remove("gone", "KILLED").await.unwrap();
    assert_eq!(reason(node.pending("gone").await), "ARTICLE_NOT_FOUND");
    assert_eq!(node.get("gone").await.unwrap_err().metadata["reason"], "KILLED");

    let head = node.head().await;
    for id in ["waiting", "live", "gone"] {
        assert_eq!(
            node.remove(id, "KILLED").await.unwrap()["changed"],
            json!(null),
            "{id} is killed already"
        );
        for article in [now(id), later(id)] {
            let refused = node.refused("PutArticle", json!({"article": article})).await;
            assert_eq!((refused.code, &*refused.reason), (Code::FailedPrecondition, "NAME_KILLED"), "{id}");
            assert_eq!(refused.metadata["remove_time"], at(0));
            let commit = json!({"changes": [{"put_article": article}]});
            assert_eq!(node.refused("Commit", commit).await.reason, "NAME_KILLED");
            let report = node.call("Import", json!({"records": [{"article": article}]})).await;
            assert_eq!(report["results"][0]["error"]["reason"], "ERROR_REASON_NAME_KILLED");
        }
        let tombstone = json!({"name": format!("articles/{id}"), "reason": "REMOVAL_REASON_DELETED"});
        let report = node.call("Import", json!({"records": [{"tombstone": tombstone}]})).await;
        assert_eq!(report["results"][0]["outcome"], "IMPORT_OUTCOME_UNCHANGED", "a kill stays one");
    }
    assert_eq!(node.head().await, head);
    node.call("PutArticle", json!({"article": now("live"), "allow_killed": true})).await;
    node.call("Commit", json!({"changes": [{"put_article": later("gone"), "allow_killed": true}]})).await;
    node.call("PutArticle", json!({"article": now("waiting"), "allow_killed": true})).await;
    for id in ["live", "waiting"] {
        assert_eq!(node.get(id).await.unwrap()["headline"], "Now");
        node.put(later(id)).await;
    }
    assert_eq!(node.get("gone").await.unwrap_err().metadata["reason"], "KILLED");
    assert_eq!(node.pending("gone").await.unwrap()["article"]["headline"], "Later");
    node.remove("gone", "KILLED").await.unwrap();
    assert_eq!(reason(node.pending("gone").await), "ARTICLE_NOT_FOUND");

    let author = json!({"author": {"name": "authors/ann", "display_name": "Ann"}});
    node.call("PutAuthor", author.clone()).await;
    let kill = json!({"name": "authors/ann", "reason": "REMOVAL_REASON_KILLED"});
    node.call("RemoveAuthor", kill).await;
    assert_eq!(node.refused("PutAuthor", author).await.reason, "NAME_KILLED");
    node.close().await;
}

#[tokio::test]
async fn an_expired_article_is_removed_and_exported_as_removed() {
    let node = TestNode::open().await;
    node.put(article("a", "A", json!({"expire_time": at(30), "path": "/a"}))).await;
    node.put(article("b", "B", json!({"publish_time": at(10), "expire_time": at(20)}))).await;
    node.put(article("c", "C", json!({"expire_time": at(15)}))).await;
    node.put(article("c", "C", json!({}))).await;
    node.advance_to(10, 6).await;
    node.advance_to(20, 7).await;
    let gone = node.get("b").await.unwrap_err();
    assert_eq!((&*gone.reason, &*gone.metadata["reason"]), ("ARTICLE_GONE", "EXPIRED"));
    assert_eq!(gone.metadata["remove_time"], at(20));
    // A version that is due after the end becomes visible.
    node.put(article("a", "Again", json!({"publish_time": at(40)}))).await;
    node.advance_to(30, 9).await;
    assert_eq!(node.refused("ResolvePath", json!({"path": "/a"})).await.reason, "ARTICLE_GONE");
    assert_eq!(node.get("c").await.unwrap()["headline"], "C", "the later put has no expire_time");
    let exported = node.call("Export", json!({})).await;
    assert_eq!(exported["end"]["count"], json!(3), "{exported}");
    let records = node.raw.send("Export", bytes::Bytes::new()).await.unwrap()[0]["records"].clone();
    node.advance_to(40, 11).await;
    assert_eq!(node.get("a").await.unwrap()["headline"], "Again");
    assert_eq!(node.get("a").await.unwrap()["first_publish_time"], at(0));

    let other = TestNode::open().await;
    let report = other.call("Import", json!({"records": records})).await;
    let outcomes = report["results"].as_array().unwrap().iter().map(|result| &result["outcome"]);
    assert!(outcomes.into_iter().all(|outcome| outcome == "IMPORT_OUTCOME_WRITTEN"), "{report}");
    assert_eq!(other.get("b").await.unwrap_err().metadata["reason"], "EXPIRED");
    other.close().await;
    node.close().await;
}

#[tokio::test]
async fn changes_due_during_downtime_are_applied_in_order() {
    let node = TestNode::open().await;
    for n in 0..40 {
        // Put in one order, due in another.
        let due = 100 - n;
        node.put(article(&format!("a{n}"), "A", json!({"publish_time": at(due)}))).await;
    }
    node.put(article("end", "E", json!({"expire_time": at(80)}))).await;
    node.put(article("end", "Again", json!({"publish_time": at(80)}))).await;
    node.put(article("far", "F", json!({"publish_time": at(500)}))).await;
    let node = node.restart(200, |_| {}).await;
    node.wait_for_revision(43 + 80 + 3).await;
    let listed =
        node.call("ListArticles", json!({"order": "ARTICLE_ORDER_REVISION_DESC", "page_size": 100})).await;
    let articles = listed["articles"].as_array().unwrap();
    let mut due: Vec<&str> = articles.iter().filter_map(|article| article["publish_time"].as_str()).collect();
    assert_eq!(due.len(), 41);
    // The name that both ended and started at the same time took two passes.
    due.retain(|time| *time != at(80));
    assert!(due.is_sorted_by(|a, b| a > b), "{due:?}");
    assert_eq!(node.get("end").await.unwrap()["headline"], "Again");
    assert_eq!(reason(node.get("far").await), "ARTICLE_NOT_FOUND");
    node.advance_to(500, 128).await;
    assert_eq!(node.get("far").await.unwrap()["headline"], "F");
    node.close().await;
}

#[tokio::test]
async fn a_full_disk_delays_due_changes_until_there_is_space() {
    let node = TestNode::open().await;
    node.put(article("a", "A", json!({"publish_time": at(10)}))).await;
    let node = node.restart(10, |config| config.store.reserve_bytes = u64::MAX).await;
    assert_eq!(reason(node.get("a").await), "ARTICLE_NOT_FOUND");
    node.set(60);
    assert_eq!((node.head().await, reason(node.get("a").await)), (1, "ARTICLE_NOT_FOUND".to_owned()));
    let node = node.restart(60, |_| {}).await;
    node.wait_for_revision(3).await;
    assert_eq!(node.get("a").await.unwrap()["update_time"], at(60));
    node.close().await;
}

#[tokio::test]
async fn removals_of_every_kind_may_use_the_disk_reserve() {
    let node = TestNode::open().await;
    for id in ["a", "b", "c"] {
        node.put(article(id, "A", json!({}))).await;
    }
    node.put(article("due", "Due", json!({"publish_time": at(10)}))).await;
    node.put(article("later", "Later", json!({"publish_time": at(90)}))).await;
    node.put(article("end", "End", json!({"expire_time": at(20)}))).await;
    node.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await;
    let node = node.restart(5, |config| config.store.reserve_bytes = u64::MAX).await;

    let put = json!({"article": article("a", "B", json!({}))});
    let patch = json!({"article": article("a", "B", json!({})), "update_mask": "headline"});
    let remove = json!({"remove": {"name": "articles/a", "reason": "REMOVAL_REASON_DELETED"}});
    let mixed = json!({"changes": [remove, {"put_tag": {"name": "tags/u", "display_name": "U"}}]});
    for (method, request) in [("PutArticle", put), ("PatchArticle", patch), ("Commit", mixed)] {
        assert_eq!(node.refused(method, request).await.reason, "STORE_FULL", "{method}");
    }
    assert_eq!(node.head().await, 7);
    node.remove("a", "WITHDRAWN").await.unwrap();
    node.remove("b", "KILLED").await.unwrap();
    node.call("RemovePending", json!({"name": "articles/later"})).await;
    node.call("RemoveTag", json!({"name": "tags/t", "reason": "REMOVAL_REASON_DELETED"})).await;
    let removal = json!({"changes": [{"remove": {"name": "articles/a", "reason": "REMOVAL_REASON_KILLED"}}]});
    node.call("Commit", removal).await;
    let tombstone = json!({"tombstone": {"name": "articles/c", "reason": "REMOVAL_REASON_DELETED"}});
    let imported = node.call("Import", json!({"records": [tombstone]})).await;
    assert_eq!(imported["results"][0]["outcome"], "IMPORT_OUTCOME_WRITTEN", "{imported}");
    assert_eq!(node.head().await, 13);
    // A version that is due first and exceeds a limit does not delay an expiry.
    node.advance_to(60, 14).await;
    assert_eq!((reason(node.get("end").await), reason(node.get("due").await)), {
        ("ARTICLE_GONE".to_owned(), "ARTICLE_NOT_FOUND".to_owned())
    });
    let node = node.restart(60, |_| {}).await;
    node.wait_for_revision(16).await;
    node.close().await;
}

#[tokio::test]
async fn a_due_article_takes_its_path_from_a_live_one() {
    let node = TestNode::open().await;
    let old = node.put(article("a", "A", json!({"path": "/x"}))).await;
    let later =
        |id: &str, seconds| article(id, "Later", json!({"path": "/%78", "publish_time": at(seconds)}));
    for (id, seconds) in [("b", 60), ("c", 60), ("d", 70)] {
        assert_eq!(node.put(later(id, seconds)).await["pending"], json!(true));
        assert_eq!(node.pending(id).await.unwrap()["path_owner"], "articles/a");
    }
    let listed = node.call("ListPending", json!({})).await["pending"].clone();
    assert!(listed.as_array().unwrap().iter().all(|one| one["path_owner"] == "articles/a"), "{listed}");
    // Until then the path is the live article's, and a pending version has none.
    let put = |id: &str| json!({"article": article(id, "Now", json!({"path": "/x"})), "request_id": format!("put-{id}")});
    let refused = node.refused("PutArticle", put("e")).await;
    assert_eq!((&*refused.reason, &*refused.metadata["owner"]), ("PATH_TAKEN", "articles/a"));
    assert_eq!(node.call("ResolvePath", json!({"path": "/x"})).await["article"]["name"], "articles/a");

    // One after the other takes the path; each loss is an entry of the loser.
    node.advance_to(60, 4 + 3 + 3).await;
    let resolved = node.call("ResolvePath", json!({"path": "/x"})).await;
    assert_eq!(
        (&resolved["article"]["name"], &resolved["redirect_path"]),
        (&json!("articles/c"), &json!(null))
    );
    let lost = node.get("a").await.unwrap();
    assert_eq!((&lost["path"], &lost["revision"], &lost["headline"]), (&json!(null), &json!(5), &json!("A")));
    assert_ne!(lost["etag"], old["etag"]);
    let watch = request_bytes("Watch", json!({"after": {"revision": 4}, "view": "ARTICLE_VIEW_FULL"}));
    let message = node.raw.stream("Watch", watch).await.unwrap().message().await.unwrap().unwrap();
    let change = decode("WatchResponse", message)["changes"]["changes"][0].clone();
    assert_eq!(
        (&change["upsert"]["article"]["name"], &change["former_paths"]),
        (&json!("articles/a"), &json!(["/x"]))
    );
    assert_eq!(change["update_kind"], "UPDATE_KIND_REPUBLISH");

    // Its publisher does not see that, but the others do.
    let written = node.call("PutArticle", put("a")).await["result"].clone();
    assert_eq!((&written["changed"], &written["path_owner"]), (&json!(true), &json!("articles/c")));
    assert_eq!(node.call("PutArticle", put("a")).await["result"], written, "a retry");
    let again = node.put(article("a", "Now", json!({"path": "/%78"}))).await;
    assert_eq!((&again["changed"], &again["path_owner"]), (&json!(null), &json!("articles/c")));
    let now = node.get("a").await.unwrap();
    assert_eq!((&now["path"], &now["headline"]), (&json!(null), &json!("Now")));
    assert_eq!(node.refused("PutArticle", put("e")).await.reason, "PATH_TAKEN");
    node.put(article("b", "B", json!({"path": "/y"}))).await;
    assert_eq!(
        node.refused("PutArticle", put("b")).await.reason,
        "PATH_TAKEN",
        "its current path is another one"
    );

    let head = node.head().await;
    node.advance_to(70, head + 3).await;
    assert_eq!(node.call("ResolvePath", json!({"path": "/x"})).await["article"]["name"], "articles/d");
    // The path is free: it leads to the last article that had it, and any article may take it.
    node.remove("d", "DELETED").await.unwrap();
    let former = node.call("ResolvePath", json!({"path": "/x"})).await;
    assert_eq!((&former["article"]["name"], &former["redirect_path"]), (&json!("articles/c"), &json!(null)));
    let back = node.put(article("a", "Back", json!({"path": "/x"}))).await;
    assert_eq!(back["path_owner"], json!(null));
    assert_eq!(node.get("a").await.unwrap()["path"], "/x");
    node.close().await;
}

#[tokio::test]
async fn a_pending_version_neither_frees_nor_takes_a_path() {
    let node = TestNode::open().await;
    let later = |id, path| article(id, "Later", json!({"path": path, "publish_time": at(60)}));
    let commit =
        |first: Value, second: Value| json!({"changes": [{"put_article": first}, {"put_article": second}]});
    node.put(article("a", "A", json!({"path": "/a"}))).await;
    let gives = commit(later("a", "/z"), article("e", "Now", json!({"path": "/a"})));
    assert_eq!(node.refused("Commit", gives).await.reason, "PATH_TAKEN");
    node.call("Commit", commit(later("e", "/e"), article("f", "Now", json!({"path": "/e"})))).await;
    assert_eq!(node.call("ResolvePath", json!({"path": "/e"})).await["article"]["name"], "articles/f");
    node.advance_to(60, 3 + 3).await;
    assert_eq!(node.call("ResolvePath", json!({"path": "/e"})).await["article"]["name"], "articles/e");
    node.close().await;
}

#[tokio::test]
async fn a_scheduled_version_is_held_after_the_live_one_changes() {
    let node = TestNode::open().await;
    let scheduled = |id: &str| match id {
        "embargo" => article(id, "Later", json!({"embargo": {"until": at(60)}})),
        _ => article(id, "Later", json!({"publish_time": at(60)})),
    };
    let correct = |id: &str| {
        let notice = json!({"kind": "NOTICE_KIND_CORRECTION", "text": "The quay was wrong."});
        json!({"article": {"name": format!("articles/{id}"), "notices": [notice]}})
    };
    let held = ["time", "embargo", "etag", "expires"];
    for id in held.into_iter().chain(["same"]) {
        let more = if id == "expires" { json!({"expire_time": at(90)}) } else { json!({}) };
        let live = node.put(article(id, "Live", more)).await;
        let mut put = json!({"article": scheduled(id)});
        if id == "etag" {
            put["precondition"] = json!({"etag": live["etag"]});
        }
        node.call("PutArticle", put).await;
        let pending = node.pending(id).await.unwrap();
        assert_eq!((&pending["hold_reason"], &pending["base_revision"]), (&json!(null), &live["revision"]));
    }
    for id in held {
        node.call("PatchArticle", correct(id)).await;
    }
    let listed = node.call("ListPending", json!({})).await["pending"].clone();
    for one in listed.as_array().unwrap() {
        let reason = match one["article"]["name"].as_str().unwrap() {
            "articles/same" => json!(null),
            _ => json!("HOLD_REASON_LIVE_VERSION_CHANGED"),
        };
        assert_eq!((&one["hold_reason"], &one["due_time"]), (&reason, &json!(at(60))), "{one}");
    }
    let head = node.head().await;
    node.advance_to(60, head + 2).await;
    assert_eq!(node.get("same").await.unwrap()["headline"], "Later");
    let node = node.restart(80, |_| {}).await;
    // An article that expires meanwhile does not return in its state before the correction.
    node.advance_to(100, head + 3).await;
    assert_eq!(reason(node.get("expires").await), "ARTICLE_GONE");
    for id in ["time", "embargo", "etag"] {
        let live = node.get(id).await.unwrap();
        assert_eq!(
            (&live["headline"], &live["notices"][0]["text"]),
            (&json!("Live"), &json!("The quay was wrong."))
        );
        assert_eq!(node.pending(id).await.unwrap()["article"]["headline"], "Later");
    }
    // An editor decides: the same version once more, immediately or later, or not at all.
    let again = article("time", "Later", json!({"publish_time": at(120)}));
    node.put(again.clone()).await;
    assert_eq!(node.pending("time").await.unwrap()["hold_reason"], json!(null));
    node.call("PatchArticle", correct("time")).await;
    let unchanged = node.pending("time").await.unwrap()["hold_reason"].clone();
    assert_eq!(unchanged, json!(null), "a patch that changes nothing holds nothing up");
    node.put(article("time", "Live 2", json!({}))).await;
    assert_ne!(node.pending("time").await.unwrap()["hold_reason"], json!(null));
    assert_eq!(node.put(again).await["changed"], json!(true), "the base version is another one now");
    node.call("RemovePending", json!({"name": "articles/etag"})).await;
    let head = node.head().await;
    node.advance_to(200, head + 2).await;
    assert_eq!(node.get("time").await.unwrap()["headline"], "Later");
    assert_eq!(node.get("etag").await.unwrap()["headline"], "Live");
    node.close().await;
}

#[tokio::test]
async fn an_imported_article_that_is_not_due_stays_pending() {
    let node = TestNode::open().await;
    let times = json!({"publish_time": at(60), "create_time": at(-500), "state": "ARTICLE_STATE_LIVE"});
    let report = node.call("Import", json!({"records": [{"article": article("a", "A", times)}]})).await;
    assert_eq!(report["results"][0]["outcome"], "IMPORT_OUTCOME_WRITTEN");
    assert_eq!(reason(node.get("a").await), "ARTICLE_NOT_FOUND");
    assert_eq!(node.pending("a").await.unwrap()["due_time"], at(60));
    node.advance_to(60, 3).await;
    assert_eq!(node.get("a").await.unwrap()["create_time"], at(-500));
    let backfill = |article| json!({"article": article, "update_kind": "UPDATE_KIND_BACKFILL"});
    node.put(article("b", "B", json!({"publish_time": at(90)}))).await;
    let refused = node.refused("PutArticle", backfill(article("b", "B", json!({})))).await;
    assert_eq!((&*refused.reason, &*refused.field), ("FIELD_INVALID", "update_kind"));
    node.close().await;
}

#[tokio::test]
async fn a_repeated_pending_write_returns_its_first_result() {
    let node = TestNode::open().await;
    let later = |seconds| article("a", "Later", json!({"publish_time": at(seconds)}));
    let put = json!({"article": later(60), "request_id": "one"});
    let first = node.call("PutArticle", put.clone()).await["result"].clone();
    let commit = json!({"changes": [
        {"put_article": article("b", "Now", json!({}))},
        {"put_article": later(60)},
        {"put_article": article("c", "Held", json!({"embargo": {}}))},
    ], "request_id": "two"});
    let second = node.call("Commit", commit.clone()).await["results"].clone();
    assert_eq!((&second[1]["changed"], &second[1]["pending"]), (&json!(null), &json!(true)));
    assert_eq!((&second[2]["changed"], &second[2]["pending"]), (&json!(true), &json!(true)));
    let remove = json!({"name": "articles/c", "request_id": "three"});
    let third = node.call("RemovePending", remove.clone()).await["result"].clone();
    node.advance_to(60, 6).await;
    assert_eq!(node.call("PutArticle", put).await["result"], first);
    assert_eq!(node.call("Commit", commit).await["results"], second);
    assert_eq!(node.call("RemovePending", remove).await["result"], third);
    assert_eq!(node.head().await, 6);
    node.close().await;
}

/// The same bytes are rejected as a new request: by then they break a rule of time or content.
#[tokio::test]
async fn a_retry_repeats_the_outcome_despite_later_changes() {
    let node = TestNode::open().await;
    let ends = |id: &str| article(id, "Ends", json!({"expire_time": at(30), "path": format!("/{id}")}));
    node.put(article("there", "There", json!({}))).await;
    node.put(article("waits", "Waits", json!({"publish_time": at(20)}))).await;
    let absent = json!({"must_be_absent": true});
    let calls = [
        ("PutArticle", json!({"article": ends("a"), "precondition": absent})),
        ("PatchArticle", json!({"article": {"name": "articles/there", "expire_time": at(30)}})),
        (
            "Commit",
            json!({"changes": [{"put_article": ends("b")}, {"remove": {"name": "articles/a", "reason": 4}}]}),
        ),
        ("RemovePending", json!({"name": "articles/waits"})),
        ("RemoveArticle", json!({"name": "articles/there", "reason": 4})),
    ];
    let mut completed = Vec::new();
    for (n, (method, mut request)) in calls.into_iter().enumerate() {
        request["request_id"] = json!(format!("r{n}"));
        let response = node.call(method, request.clone()).await;
        completed.push((method, request, response));
    }
    let head = node.head().await;
    node.advance_to(60, head + 1).await;
    node.put(article("other", "Other", json!({"path": "/a"}))).await;
    let node = node.restart(61, |_| {}).await;
    for (method, mut request, response) in completed {
        let again = node.call(method, request.clone()).await;
        assert_eq!(
            (&again["result"], &again["results"]),
            (&response["result"], &response["results"]),
            "{method}"
        );
        request["request_id"] = json!("new");
        node.refused(method, request).await;
    }
    assert_eq!(node.head().await, head + 2);
    node.close().await;
}

#[tokio::test]
async fn pending_versions_are_listed_by_due_time_in_bounded_pages() {
    let node = TestNode::open().await;
    let body = |text: &str| json!({"blocks": [{"paragraph": {"spans": [{"text": text}]}}]});
    let large = "x".repeat(1_000_000);
    for (id, time) in [("d", 5), ("c", 5), ("b", 7), ("a", 9)] {
        node.put(article(id, "A", json!({"publish_time": at(time), "body": body(&large)}))).await;
    }
    for id in ["f", "e"] {
        node.put(article(id, "A", json!({"embargo": {}, "body": body("x")}))).await;
    }
    node.put(article("live", "L", json!({"expire_time": at(6)}))).await;
    let all = ["c", "d", "b", "a", "e", "f"];
    for size in 1..=7 {
        assert_eq!(pages(&node, json!({"page_size": size})).await.concat(), all);
    }
    let full = pages(&node, json!({"view": "ARTICLE_VIEW_FULL", "page_size": 1_000})).await;
    assert_eq!(full, [vec!["c", "d"], vec!["b", "a", "e", "f"]]);
    let basic = node.call("ListPending", json!({})).await["pending"][0]["article"].clone();
    assert_eq!((&basic["body"], &basic["headline"]), (&json!(null), &json!("A")));
    let request =
        json!({"name": "articles/e", "view": "ARTICLE_VIEW_FULL", "body_format": "BODY_FORMAT_PLAIN_TEXT"});
    let rendered = node.call("GetPending", request).await["pending"]["article"].clone();
    assert_eq!(rendered["rendered_body"]["text"].as_str().unwrap().trim(), "x");
    let reference = json!({"name": "articles/e", "view": "ARTICLE_VIEW_REFERENCE"});
    assert_eq!(node.call("GetPending", reference).await["pending"]["article"]["headline"], json!(null));
    let token = node.call("ListPending", json!({"page_size": 1})).await["next_page_token"].clone();
    let elsewhere = node.refused("ListTags", json!({"page_token": token})).await;
    assert_eq!(elsewhere.reason, "PAGE_TOKEN_INVALID");
    node.close().await;
}

#[tokio::test]
async fn the_client_puts_lists_gets_and_removes_pending_versions() {
    let node = TestNode::open().await;
    let cable = node.server.client();
    let due = Timestamp { seconds: START / SECOND + 60, nanos: 0 };
    let later = |id: &str| {
        let mut article = support::article(id, "Later", &["t"]);
        article.publish_time = Some(due);
        article
    };
    let put = cable.put(later("a")).await.unwrap();
    assert_eq!((put.changed, put.pending, put.due_time), (true, true, Some(due)));
    let mut held = support::article("b", "Held", &[]);
    held.embargo = Some(v1::Embargo::default());
    let held = cable.put(held).await.unwrap();
    assert_eq!((held.changed, held.pending, held.due_time), (true, true, None));

    let got = cable.pending("a").await.unwrap();
    let article = got.article.unwrap();
    assert_eq!((got.due_time, &*article.headline, article.body.is_some()), (Some(due), "Later", true));
    assert_eq!((article.state(), &article.etag), (v1::ArticleState::Pending, &put.etag));
    let reference = cable.pending("articles/a").view(View::Reference).await.unwrap().article.unwrap();
    assert_eq!((&*reference.headline, reference.body), ("", None));
    let listed: Vec<v1::PendingArticle> =
        cable.list_pending().page_size(1).items().try_collect().await.unwrap();
    let listed = listed.into_iter().map(|one| (one.article.unwrap(), one.due_time));
    let listed: Vec<_> = listed.map(|(article, due)| (article.name, article.body, due)).collect();
    assert_eq!(listed, [("articles/a".into(), None, Some(due)), ("articles/b".into(), None, None)]);

    let mismatch = cable.remove_pending("a").if_etag(held.etag).await.unwrap_err();
    assert_eq!(mismatch.reason(), Some(ErrorReason::EtagMismatch));
    let removed = cable.remove_pending("a").if_etag(put.etag).await.unwrap();
    assert_eq!((&*removed.name, removed.changed, removed.pending), ("articles/a", true, false));
    assert_eq!(cable.pending("a").optional().await.unwrap(), None);

    cable.remove("articles/b", RemovalReason::Killed).await.unwrap();
    assert_eq!(cable.pending("b").await.unwrap_err().reason(), Some(ErrorReason::ArticleNotFound));
    let killed = cable.put(later("b")).await.unwrap_err();
    assert_eq!(killed.reason(), Some(ErrorReason::NameKilled));
    assert!(cable.put(later("b")).allow_killed().await.unwrap().pending);
    cable.remove("articles/b", RemovalReason::Killed).await.unwrap();
    let change = || Change::put(later("b"));
    let refused = cable.commit().change(change()).await.unwrap_err();
    assert_eq!(refused.reason(), Some(ErrorReason::NameKilled));
    let committed = cable.commit().change(change().allow_killed()).await.unwrap();
    node.advance_to(60, committed.position.revision + 2).await;
    assert_eq!(cable.article("b").await.unwrap().headline, "Later");
    node.close().await;
}

/// Returns the ids on all pages of a listing.
async fn pages(node: &TestNode, mut request: Value) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    loop {
        let page = node.call("ListPending", request.clone()).await;
        let listed = page["pending"].as_array().cloned().unwrap_or_default();
        let id = |one: &Value| one["article"]["name"].as_str().unwrap().replace("articles/", "");
        if !listed.is_empty() {
            pages.push(listed.iter().map(id).collect());
        }
        match page["next_page_token"].as_str() {
            Some(token) => request["page_token"] = json!(token),
            None => return pages,
        }
    }
}
