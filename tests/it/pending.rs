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
    raw::{Raw, Refused, decode, request_bytes},
    support::{self, Node},
};

/// The start of each test: in 2030, microseconds since 1970 UTC.
const START: i64 = 1_900_000_000_000_000;
const SECOND: i64 = 1_000_000;

/// A node with a clock that the test sets.
struct Desk {
    dir: tempfile::TempDir,
    node: Node,
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

impl Desk {
    async fn open() -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hands) = Clock::manual(START);
        let node = Node::start_at(dir.path(), clock.clone()).await;
        let raw = Raw::to(&node).await;
        Desk { dir, node, raw, clock, hands }
    }

    async fn call(&self, method: &str, request: Value) -> Value {
        self.raw.call(method, request).await.unwrap_or_else(|refused| panic!("{method}: {refused:?}"))
    }

    async fn refused(&self, method: &str, request: Value) -> Refused {
        self.raw.call(method, request).await.unwrap_err()
    }

    /// Puts an article. Returns the result of the write.
    async fn put(&self, article: Value) -> Value {
        self.call("PutArticle", json!({"article": article})).await["result"].clone()
    }

    async fn get(&self, id: &str) -> Result<Value, Refused> {
        let answer = self.raw.call("GetArticle", json!({"name": format!("articles/{id}")})).await;
        answer.map(|answer| answer["article"].clone())
    }

    async fn pending(&self, id: &str) -> Result<Value, Refused> {
        let answer = self.raw.call("GetPending", json!({"name": format!("articles/{id}")})).await;
        answer.map(|answer| answer["pending"].clone())
    }

    async fn remove(&self, id: &str, reason: &str) -> Result<Value, Refused> {
        let request = json!({"name": format!("articles/{id}"), "reason": format!("REMOVAL_REASON_{reason}")});
        self.raw.call("RemoveArticle", request).await.map(|answer| answer["result"].clone())
    }

    async fn head(&self) -> i64 {
        self.call("GetStatus", json!({})).await["head"]["revision"].as_i64().unwrap_or(0)
    }

    fn set(&self, seconds: i64) {
        self.hands.set(START + seconds * SECOND);
    }

    /// Sets the time and waits until the effects have brought the head to a revision.
    async fn pass(&self, seconds: i64, revision: i64) {
        self.set(seconds);
        self.reach(revision).await;
    }

    async fn reach(&self, revision: i64) {
        let freshness = json!({"at_least_revision": revision, "max_wait": "10s"});
        self.call("ListTags", json!({"freshness": freshness})).await;
        assert_eq!(self.head().await, revision);
    }

    /// Stops the node, lets time pass, and restarts it with other settings.
    async fn restart(self, seconds: i64, change: impl FnOnce(&mut Config)) -> Desk {
        let Desk { dir, node, clock, hands, .. } = self;
        node.stop().await;
        hands.set(START + seconds * SECOND);
        let node = Node::run(0, dir.path(), clock.clone(), change).await;
        let raw = Raw::to(&node).await;
        Desk { dir, node, raw, clock, hands }
    }

    async fn close(self) {
        self.node.stop().await;
        verify(self.dir.path());
    }
}

fn reason(refused: Result<Value, Refused>) -> String {
    refused.unwrap_err().reason
}

#[tokio::test]
async fn what_is_scheduled_is_not_seen_before_its_time_and_is_from_then_on() {
    let desk = Desk::open().await;
    let storm = article("a", "Storm", json!({"publish_time": at(60), "path": "/storm", "tags": ["tags/t"]}));
    let result = desk.put(storm).await;
    assert_eq!((&result["pending"], &result["due_time"]), (&json!(true), &json!(at(60))), "{result}");
    assert_eq!((&result["changed"], &result["revision"]), (&json!(true), &json!(1)));
    assert_eq!(reason(desk.get("a").await), "ARTICLE_NOT_FOUND");
    assert_eq!(desk.refused("ResolvePath", json!({"path": "/storm"})).await.reason, "ARTICLE_NOT_FOUND");
    let listed = desk.call("ListArticles", json!({"filter": {"all_tags": ["tags/t"]}})).await;
    assert_eq!(listed["articles"], json!(null));
    let exported = desk.call("Export", json!({})).await;
    assert_eq!(exported["end"]["count"], json!(null), "{exported}");
    assert_eq!(desk.call("GetStatus", json!({})).await["counts"], json!({}));

    let pending = desk.pending("a").await.unwrap();
    assert_eq!(pending["due_time"], at(60));
    assert_eq!(pending["article"]["state"], "ARTICLE_STATE_PENDING");
    assert_eq!(pending["article"]["etag"], result["etag"]);
    assert_eq!(pending["article"]["first_publish_time"], json!(null));

    // Just before the time, only requested changes happen.
    desk.hands.set(START + 60 * SECOND - 1);
    desk.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await;
    assert_eq!(desk.head().await, 2);
    assert_eq!(reason(desk.get("a").await), "ARTICLE_NOT_FOUND");
    desk.pass(60, 4).await;
    let found = desk.get("a").await.unwrap();
    assert_eq!((&found["revision"], &found["state"]), (&json!(4), &json!("ARTICLE_STATE_LIVE")));
    assert_eq!(found["create_time"], at(0));
    assert_eq!((&found["update_time"], &found["first_publish_time"]), (&json!(at(60)), &json!(at(60))));
    assert_eq!(desk.call("ResolvePath", json!({"path": "/storm"})).await["article"]["headline"], "Storm");
    assert_eq!(reason(desk.pending("a").await), "ARTICLE_NOT_FOUND");
    let listed = desk.call("ListArticles", json!({"filter": {"all_tags": ["tags/t"]}})).await;
    assert_eq!(listed["articles"].as_array().unwrap().len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn an_embargo_and_a_time_hold_until_the_later_of_them_and_one_without_an_end_for_good() {
    let desk = Desk::open().await;
    let until = |seconds| json!({"until": at(seconds)});
    desk.put(article("a", "A", json!({"publish_time": at(10), "embargo": until(20)}))).await;
    desk.put(article("b", "B", json!({"publish_time": at(-90), "embargo": until(30)}))).await;
    let held =
        desk.put(article("c", "C", json!({"publish_time": at(10), "embargo": {"note": "call"}}))).await;
    assert_eq!((&held["pending"], &held["due_time"]), (&json!(true), &json!(null)));
    let lifted = desk.put(article("d", "D", json!({"embargo": until(0)}))).await;
    assert_eq!(lifted["pending"], json!(null), "what is lifted holds nothing back: {lifted}");
    let listed = desk.call("ListPending", json!({})).await;
    let names: Vec<&Value> =
        listed["pending"].as_array().unwrap().iter().map(|one| &one["article"]["name"]).collect();
    assert_eq!(names, ["articles/a", "articles/b", "articles/c"]);

    desk.set(10);
    assert_eq!(desk.head().await, 4);
    desk.pass(20, 6).await;
    desk.pass(30, 8).await;
    // The displayed date, if there is one; else the time at which the article became readable.
    assert_eq!(desk.get("a").await.unwrap()["first_publish_time"], at(10));
    assert_eq!(desk.get("b").await.unwrap()["first_publish_time"], at(-90));
    desk.pass(100_000, 8).await;
    assert_eq!(reason(desk.get("c").await), "ARTICLE_NOT_FOUND");
    let result = desk.put(article("c", "C", json!({}))).await;
    assert_eq!((&result["pending"], &result["revision"]), (&json!(null), &json!(10)));
    assert_eq!(desk.get("c").await.unwrap()["first_publish_time"], at(100_000));
    desk.close().await;
}

#[tokio::test]
async fn the_pending_update_of_a_live_article_stays_beside_it_and_takes_its_place() {
    let desk = Desk::open().await;
    let old = desk.put(article("a", "Old", json!({"path": "/old"}))).await;
    let new = |headline: &str| article("a", headline, json!({"path": "/new", "publish_time": at(60)}));
    let waiting = desk.put(new("New")).await;
    assert_eq!(desk.get("a").await.unwrap()["etag"], old["etag"]);
    let again = desk.put(new("New")).await;
    assert_eq!((&again["changed"], &again["etag"]), (&json!(null), &waiting["etag"]));
    assert_eq!((&again["pending"], &again["due_time"]), (&json!(true), &json!(at(60))));
    // A put with immediate effect leaves it in place; another pending version replaces it.
    desk.put(article("a", "Mended", json!({"path": "/old"}))).await;
    assert_eq!(desk.pending("a").await.unwrap()["article"]["headline"], "New");
    desk.put(new("Newer")).await;
    assert_eq!(desk.head().await, 4);
    assert_eq!(desk.refused("ResolvePath", json!({"path": "/new"})).await.reason, "ARTICLE_NOT_FOUND");
    desk.pass(60, 6).await;
    let found = desk.get("a").await.unwrap();
    assert_eq!((&found["headline"], &found["create_time"]), (&json!("Newer"), &json!(at(0))));
    assert_eq!(found["first_publish_time"], at(0));
    let former = desk.call("ResolvePath", json!({"path": "/old"})).await;
    assert_eq!(former["redirect_path"], "/new");
    desk.close().await;
}

#[tokio::test]
async fn a_put_that_shows_at_once_takes_back_what_was_never_seen() {
    let desk = Desk::open().await;
    desk.put(article("a", "Later", json!({"publish_time": at(60)}))).await;
    desk.set(5);
    let answer = desk.call("PutArticle", json!({"article": article("a", "Now", json!({}))})).await;
    assert_eq!((&answer["result"]["revision"], &answer["position"]["revision"]), (&json!(3), &json!(3)));
    assert_eq!(reason(desk.pending("a").await), "ARTICLE_NOT_FOUND");
    assert_eq!(desk.get("a").await.unwrap()["create_time"], at(5), "nothing tells that it had waited");
    desk.set(60);
    desk.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await;
    assert_eq!(desk.head().await, 4);
    assert_eq!(desk.get("a").await.unwrap()["headline"], "Now");
    desk.close().await;
}

#[tokio::test]
async fn a_patch_acts_on_the_live_version_and_may_become_the_pending_one() {
    let desk = Desk::open().await;
    desk.put(article("a", "Old", json!({"dek": "Dek"}))).await;
    desk.put(article("a", "Waiting", json!({"publish_time": at(90)}))).await;
    let patch = json!({"article": article("a", "Patched", json!({"publish_time": at(60)}))});
    let result = desk.call("PatchArticle", patch).await["result"].clone();
    assert_eq!((&result["pending"], &result["due_time"]), (&json!(true), &json!(at(60))));
    assert_eq!(desk.get("a").await.unwrap()["headline"], "Old");
    let pending = desk.pending("a").await.unwrap()["article"].clone();
    assert_eq!((&pending["headline"], &pending["dek"]), (&json!("Patched"), &json!("Dek")));
    desk.put(article("b", "Waiting", json!({"publish_time": at(90)}))).await;
    let patch = json!({"article": {"name": "articles/b", "dek": "D"}});
    assert_eq!(desk.refused("PatchArticle", patch).await.reason, "ARTICLE_NOT_FOUND");
    desk.close().await;
}

#[tokio::test]
async fn preconditions_hold_of_the_version_that_is_replaced() {
    let desk = Desk::open().await;
    let put = |article: Value, precondition: Value| json!({"article": article, "precondition": precondition});
    let absent = json!({"must_be_absent": true});
    let later = |headline: &str| article("a", headline, json!({"publish_time": at(60)}));
    let waiting = desk.call("PutArticle", put(later("1"), absent.clone())).await["result"]["etag"].clone();
    for again in [later("2"), article("a", "2", json!({}))] {
        let refused = desk.refused("PutArticle", put(again, absent.clone())).await;
        assert_eq!((&*refused.reason, &json!(refused.metadata["etag"])), ("NAME_EXISTS", &waiting));
    }
    // A put with immediate effect replaces the live version, and there is none.
    let now = || article("a", "Now", json!({}));
    let refused = desk.refused("PutArticle", put(now(), json!({"etag": waiting}))).await;
    assert_eq!((&*refused.reason, refused.metadata.get("etag")), ("ETAG_MISMATCH", None));
    let replaced = desk.call("PutArticle", put(later("2"), json!({"etag": waiting}))).await;
    let waiting = replaced["result"]["etag"].clone();

    let live = desk.put(now()).await["etag"].clone();
    assert_eq!(reason(desk.pending("a").await), "ARTICLE_NOT_FOUND");
    let refused = desk.refused("PutArticle", put(later("3"), json!({"etag": waiting}))).await;
    assert_eq!(json!(refused.metadata["etag"]), live, "none waits: the live one is meant");
    let put_later = desk.call("PutArticle", put(later("3"), json!({"etag": live}))).await;
    let waiting = put_later["result"]["etag"].clone();
    let patch = json!({"article": later("4"), "precondition": {"etag": live}});
    assert_eq!(json!(desk.refused("PatchArticle", patch).await.metadata["etag"]), waiting);

    let remove = |etag: &Value| json!({"name": "articles/a", "precondition": {"etag": etag}});
    let refused = desk.refused("RemovePending", remove(&live)).await;
    assert_eq!((refused.code, json!(refused.metadata["etag"])), (Code::Aborted, waiting.clone()));
    let removed = desk.call("RemovePending", remove(&waiting)).await["result"].clone();
    assert_eq!((&removed["changed"], &removed["etag"]), (&json!(true), &json!(null)));
    assert_eq!((&removed["pending"], desk.get("a").await.unwrap()["etag"].clone()), (&json!(null), live));
    let refused = desk.refused("RemovePending", json!({"name": "articles/a"})).await;
    assert_eq!((refused.code, &*refused.reason), (Code::NotFound, "ARTICLE_NOT_FOUND"));
    desk.close().await;
}

#[tokio::test]
async fn a_removal_takes_what_waits_along_and_knows_nothing_of_what_only_waits() {
    let desk = Desk::open().await;
    for reason in ["DELETED", "WITHDRAWN"] {
        let start = desk.head().await;
        desk.put(article("a", "Live", json!({}))).await;
        desk.put(article("a", "Waiting", json!({"publish_time": at(60)}))).await;
        let removed = desk.remove("a", reason).await.unwrap();
        assert_eq!((&removed["revision"], desk.head().await), (&json!(start + 4), start + 4));
        assert_eq!(self::reason(desk.pending("a").await), "ARTICLE_NOT_FOUND");
        assert_eq!(self::reason(desk.get("a").await), "ARTICLE_GONE");
    }
    // The response does not reveal whether a version is pending.
    desk.put(article("b", "Waiting", json!({"publish_time": at(60)}))).await;
    let absent = json!({"must_be_absent": true});
    for precondition in [json!(null), absent, json!({"etag": "00000000-1"})] {
        let mut answers = Vec::new();
        for id in ["b", "c"] {
            let name = format!("articles/{id}");
            let mut request = json!({"name": name, "reason": "REMOVAL_REASON_DELETED"});
            if !precondition.is_null() {
                request["precondition"] = precondition.clone();
            }
            answers.push(desk.refused("RemoveArticle", request).await);
        }
        assert_eq!(answers[0], answers[1]);
    }
    assert_eq!(self::reason(desk.remove("a", "DELETED").await), "ARTICLE_GONE");
    desk.put(article("a", "Waiting", json!({"publish_time": at(60)}))).await;
    assert_eq!(self::reason(desk.remove("a", "DELETED").await), "ARTICLE_GONE");
    assert_eq!(desk.pending("a").await.unwrap()["article"]["headline"], "Waiting");
    desk.close().await;
}

#[tokio::test]
async fn a_kill_reaches_what_waits_and_the_name_comes_back_only_if_a_put_says_so() {
    let desk = Desk::open().await;
    let now = |id| article(id, "Now", json!({}));
    let later = |id| article(id, "Later", json!({"publish_time": at(60)}));
    assert_eq!(reason(desk.remove("never", "KILLED").await), "ARTICLE_NOT_FOUND");
    // Only pending: readers continue to see that there was never anything.
    desk.put(later("waiting")).await;
    let killed = desk.remove("waiting", "KILLED").await.unwrap();
    assert_eq!((&killed["changed"], &killed["revision"]), (&json!(true), &json!(2)));
    assert_eq!(reason(desk.get("waiting").await), "ARTICLE_NOT_FOUND");
    assert_eq!(reason(desk.pending("waiting").await), "ARTICLE_NOT_FOUND");
    // Live, with a pending version.
    desk.put(now("live")).await;
    desk.put(later("live")).await;
    desk.remove("live", "KILLED").await.unwrap();
    assert_eq!(reason(desk.pending("live").await), "ARTICLE_NOT_FOUND");
    assert_eq!(desk.get("live").await.unwrap_err().metadata["reason"], "KILLED");
    // Removed for another reason.
    desk.put(now("gone")).await;
    desk.remove("gone", "DELETED").await.unwrap();
    desk.put(later("gone")).await;
    desk.remove("gone", "KILLED").await.unwrap();
    assert_eq!(reason(desk.pending("gone").await), "ARTICLE_NOT_FOUND");
    assert_eq!(desk.get("gone").await.unwrap_err().metadata["reason"], "KILLED");

    let head = desk.head().await;
    for id in ["waiting", "live", "gone"] {
        assert_eq!(
            desk.remove(id, "KILLED").await.unwrap()["changed"],
            json!(null),
            "{id}: it is killed already"
        );
        for article in [now(id), later(id)] {
            let refused = desk.refused("PutArticle", json!({"article": article})).await;
            assert_eq!((refused.code, &*refused.reason), (Code::FailedPrecondition, "NAME_KILLED"), "{id}");
            assert_eq!(refused.metadata["remove_time"], at(0));
            let commit = json!({"changes": [{"put_article": article}]});
            assert_eq!(desk.refused("Commit", commit).await.reason, "NAME_KILLED");
            let report = desk.call("Import", json!({"records": [{"article": article}]})).await;
            assert_eq!(report["results"][0]["error"]["reason"], "ERROR_REASON_NAME_KILLED");
        }
        let tombstone = json!({"name": format!("articles/{id}"), "reason": "REMOVAL_REASON_DELETED"});
        let report = desk.call("Import", json!({"records": [{"tombstone": tombstone}]})).await;
        assert_eq!(report["results"][0]["outcome"], "IMPORT_OUTCOME_UNCHANGED", "a kill stays one");
    }
    assert_eq!(desk.head().await, head);
    desk.call("PutArticle", json!({"article": now("live"), "allow_killed": true})).await;
    desk.call("Commit", json!({"changes": [{"put_article": later("gone"), "allow_killed": true}]})).await;
    desk.call("PutArticle", json!({"article": now("waiting"), "allow_killed": true})).await;
    for id in ["live", "waiting"] {
        assert_eq!(desk.get(id).await.unwrap()["headline"], "Now");
        desk.put(later(id)).await;
    }
    assert_eq!(desk.get("gone").await.unwrap_err().metadata["reason"], "KILLED");
    assert_eq!(desk.pending("gone").await.unwrap()["article"]["headline"], "Later");
    desk.remove("gone", "KILLED").await.unwrap();
    assert_eq!(reason(desk.pending("gone").await), "ARTICLE_NOT_FOUND");

    let author = json!({"author": {"name": "authors/ann", "display_name": "Ann"}});
    desk.call("PutAuthor", author.clone()).await;
    let kill = json!({"name": "authors/ann", "reason": "REMOVAL_REASON_KILLED"});
    desk.call("RemoveAuthor", kill).await;
    assert_eq!(desk.refused("PutAuthor", author).await.reason, "NAME_KILLED");
    desk.close().await;
}

#[tokio::test]
async fn an_article_that_expires_is_removed_and_another_store_takes_that_over() {
    let desk = Desk::open().await;
    desk.put(article("a", "A", json!({"expire_time": at(30), "path": "/a"}))).await;
    desk.put(article("b", "B", json!({"publish_time": at(10), "expire_time": at(20)}))).await;
    desk.put(article("c", "C", json!({"expire_time": at(15)}))).await;
    desk.put(article("c", "C", json!({}))).await;
    desk.pass(10, 6).await;
    desk.pass(20, 7).await;
    let gone = desk.get("b").await.unwrap_err();
    assert_eq!((&*gone.reason, &*gone.metadata["reason"]), ("ARTICLE_GONE", "EXPIRED"));
    assert_eq!(gone.metadata["remove_time"], at(20));
    // A version that is due after the end becomes visible.
    desk.put(article("a", "Anew", json!({"publish_time": at(40)}))).await;
    desk.pass(30, 9).await;
    assert_eq!(desk.refused("ResolvePath", json!({"path": "/a"})).await.reason, "ARTICLE_GONE");
    assert_eq!(desk.get("c").await.unwrap()["headline"], "C", "a later put said nothing of an end");
    let exported = desk.call("Export", json!({})).await;
    assert_eq!(exported["end"]["count"], json!(3), "{exported}");
    let records = desk.raw.send("Export", bytes::Bytes::new()).await.unwrap()[0]["records"].clone();
    desk.pass(40, 11).await;
    assert_eq!(desk.get("a").await.unwrap()["headline"], "Anew");
    assert_eq!(desk.get("a").await.unwrap()["first_publish_time"], at(0));

    let other = Desk::open().await;
    let report = other.call("Import", json!({"records": records})).await;
    let outcomes = report["results"].as_array().unwrap().iter().map(|result| &result["outcome"]);
    assert!(outcomes.into_iter().all(|outcome| outcome == "IMPORT_OUTCOME_WRITTEN"), "{report}");
    assert_eq!(other.get("b").await.unwrap_err().metadata["reason"], "EXPIRED");
    other.close().await;
    desk.close().await;
}

#[tokio::test]
async fn what_came_due_while_the_node_was_down_happens_in_order_when_it_is_up() {
    let desk = Desk::open().await;
    for n in 0..40 {
        // Put in one order, due in another.
        let due = 100 - n;
        desk.put(article(&format!("a{n}"), "A", json!({"publish_time": at(due)}))).await;
    }
    desk.put(article("end", "E", json!({"expire_time": at(80)}))).await;
    desk.put(article("end", "Anew", json!({"publish_time": at(80)}))).await;
    desk.put(article("far", "F", json!({"publish_time": at(500)}))).await;
    let desk = desk.restart(200, |_| {}).await;
    desk.reach(43 + 80 + 3).await;
    let listed =
        desk.call("ListArticles", json!({"order": "ARTICLE_ORDER_REVISION_DESC", "page_size": 100})).await;
    let articles = listed["articles"].as_array().unwrap();
    let mut due: Vec<&str> = articles.iter().filter_map(|article| article["publish_time"].as_str()).collect();
    assert_eq!(due.len(), 41);
    // The name that both ended and started at the same time took two passes.
    due.retain(|time| *time != at(80));
    assert!(due.is_sorted_by(|a, b| a > b), "{due:?}");
    assert_eq!(desk.get("end").await.unwrap()["headline"], "Anew");
    assert_eq!(reason(desk.get("far").await), "ARTICLE_NOT_FOUND");
    desk.pass(500, 128).await;
    assert_eq!(desk.get("far").await.unwrap()["headline"], "F");
    desk.close().await;
}

#[tokio::test]
async fn a_full_disk_holds_up_what_is_due_until_there_is_room() {
    let desk = Desk::open().await;
    desk.put(article("a", "A", json!({"publish_time": at(10)}))).await;
    let desk = desk.restart(10, |config| config.store.reserve_bytes = u64::MAX).await;
    assert_eq!(reason(desk.get("a").await), "ARTICLE_NOT_FOUND");
    desk.set(60);
    assert_eq!((desk.head().await, reason(desk.get("a").await)), (1, "ARTICLE_NOT_FOUND".to_owned()));
    let desk = desk.restart(60, |_| {}).await;
    desk.reach(3).await;
    assert_eq!(desk.get("a").await.unwrap()["update_time"], at(60));
    desk.close().await;
}

#[tokio::test]
async fn removals_of_every_kind_use_the_reserve_of_the_disk() {
    let desk = Desk::open().await;
    for id in ["a", "b", "c"] {
        desk.put(article(id, "A", json!({}))).await;
    }
    desk.put(article("due", "Due", json!({"publish_time": at(10)}))).await;
    desk.put(article("later", "Later", json!({"publish_time": at(90)}))).await;
    desk.put(article("end", "End", json!({"expire_time": at(20)}))).await;
    desk.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await;
    let desk = desk.restart(5, |config| config.store.reserve_bytes = u64::MAX).await;

    let put = json!({"article": article("a", "B", json!({}))});
    let patch = json!({"article": article("a", "B", json!({})), "update_mask": "headline"});
    let remove = json!({"remove": {"name": "articles/a", "reason": "REMOVAL_REASON_DELETED"}});
    let mixed = json!({"changes": [remove, {"put_tag": {"name": "tags/u", "display_name": "U"}}]});
    for (method, request) in [("PutArticle", put), ("PatchArticle", patch), ("Commit", mixed)] {
        assert_eq!(desk.refused(method, request).await.reason, "STORE_FULL", "{method}");
    }
    assert_eq!(desk.head().await, 7);
    desk.remove("a", "WITHDRAWN").await.unwrap();
    desk.remove("b", "KILLED").await.unwrap();
    desk.call("RemovePending", json!({"name": "articles/later"})).await;
    desk.call("RemoveTag", json!({"name": "tags/t", "reason": "REMOVAL_REASON_DELETED"})).await;
    let removal = json!({"changes": [{"remove": {"name": "articles/a", "reason": "REMOVAL_REASON_KILLED"}}]});
    desk.call("Commit", removal).await;
    let tombstone = json!({"tombstone": {"name": "articles/c", "reason": "REMOVAL_REASON_DELETED"}});
    let imported = desk.call("Import", json!({"records": [tombstone]})).await;
    assert_eq!(imported["results"][0]["outcome"], "IMPORT_OUTCOME_WRITTEN", "{imported}");
    assert_eq!(desk.head().await, 13);
    // A version that is due first and exceeds a limit does not delay an expiry.
    desk.pass(60, 14).await;
    assert_eq!((reason(desk.get("end").await), reason(desk.get("due").await)), {
        ("ARTICLE_GONE".to_owned(), "ARTICLE_NOT_FOUND".to_owned())
    });
    let desk = desk.restart(60, |_| {}).await;
    desk.reach(16).await;
    desk.close().await;
}

#[tokio::test]
async fn a_scheduled_article_takes_its_path_from_a_live_one_when_it_is_due() {
    let desk = Desk::open().await;
    let old = desk.put(article("a", "A", json!({"path": "/x"}))).await;
    let later =
        |id: &str, seconds| article(id, "Later", json!({"path": "/%78", "publish_time": at(seconds)}));
    for (id, seconds) in [("b", 60), ("c", 60), ("d", 70)] {
        assert_eq!(desk.put(later(id, seconds)).await["pending"], json!(true));
        assert_eq!(desk.pending(id).await.unwrap()["path_owner"], "articles/a");
    }
    let listed = desk.call("ListPending", json!({})).await["pending"].clone();
    assert!(listed.as_array().unwrap().iter().all(|one| one["path_owner"] == "articles/a"), "{listed}");
    // Until then the path is the live article's, and a pending version has none.
    let put = |id: &str| json!({"article": article(id, "Now", json!({"path": "/x"})), "request_id": format!("put-{id}")});
    let refused = desk.refused("PutArticle", put("e")).await;
    assert_eq!((&*refused.reason, &*refused.metadata["owner"]), ("PATH_TAKEN", "articles/a"));
    assert_eq!(desk.call("ResolvePath", json!({"path": "/x"})).await["article"]["name"], "articles/a");

    // One after the other takes the path; each loss is an entry of the loser.
    desk.pass(60, 4 + 3 + 3).await;
    let resolved = desk.call("ResolvePath", json!({"path": "/x"})).await;
    assert_eq!(
        (&resolved["article"]["name"], &resolved["redirect_path"]),
        (&json!("articles/c"), &json!(null))
    );
    let lost = desk.get("a").await.unwrap();
    assert_eq!((&lost["path"], &lost["revision"], &lost["headline"]), (&json!(null), &json!(5), &json!("A")));
    assert_ne!(lost["etag"], old["etag"]);
    let watch = request_bytes("Watch", json!({"after": {"revision": 4}, "view": "ARTICLE_VIEW_FULL"}));
    let told = desk.raw.stream("Watch", watch).await.unwrap().message().await.unwrap().unwrap();
    let told = decode("WatchResponse", told)["changes"]["changes"][0].clone();
    assert_eq!(
        (&told["upsert"]["article"]["name"], &told["former_paths"]),
        (&json!("articles/a"), &json!(["/x"]))
    );
    assert_eq!(told["update_kind"], "UPDATE_KIND_REPUBLISH");

    // Its publisher does not see that, but the others do.
    let written = desk.call("PutArticle", put("a")).await["result"].clone();
    assert_eq!((&written["changed"], &written["path_owner"]), (&json!(true), &json!("articles/c")));
    assert_eq!(desk.call("PutArticle", put("a")).await["result"], written, "a retry");
    let again = desk.put(article("a", "Now", json!({"path": "/%78"}))).await;
    assert_eq!((&again["changed"], &again["path_owner"]), (&json!(null), &json!("articles/c")));
    let now = desk.get("a").await.unwrap();
    assert_eq!((&now["path"], &now["headline"]), (&json!(null), &json!("Now")));
    assert_eq!(desk.refused("PutArticle", put("e")).await.reason, "PATH_TAKEN");
    desk.put(article("b", "B", json!({"path": "/y"}))).await;
    assert_eq!(desk.refused("PutArticle", put("b")).await.reason, "PATH_TAKEN", "it has another one");

    let head = desk.head().await;
    desk.pass(70, head + 3).await;
    assert_eq!(desk.call("ResolvePath", json!({"path": "/x"})).await["article"]["name"], "articles/d");
    // The path is free: it leads to the last article that had it, and any article may take it.
    desk.remove("d", "DELETED").await.unwrap();
    let former = desk.call("ResolvePath", json!({"path": "/x"})).await;
    assert_eq!((&former["article"]["name"], &former["redirect_path"]), (&json!("articles/c"), &json!(null)));
    let back = desk.put(article("a", "Back", json!({"path": "/x"}))).await;
    assert_eq!(back["path_owner"], json!(null));
    assert_eq!(desk.get("a").await.unwrap()["path"], "/x");
    desk.close().await;
}

#[tokio::test]
async fn a_pending_version_gives_up_no_path_and_takes_none_within_a_commit() {
    let desk = Desk::open().await;
    let later = |id, path| article(id, "Later", json!({"path": path, "publish_time": at(60)}));
    let commit =
        |first: Value, second: Value| json!({"changes": [{"put_article": first}, {"put_article": second}]});
    desk.put(article("a", "A", json!({"path": "/a"}))).await;
    let gives = commit(later("a", "/z"), article("e", "Now", json!({"path": "/a"})));
    assert_eq!(desk.refused("Commit", gives).await.reason, "PATH_TAKEN");
    desk.call("Commit", commit(later("e", "/e"), article("f", "Now", json!({"path": "/e"})))).await;
    assert_eq!(desk.call("ResolvePath", json!({"path": "/e"})).await["article"]["name"], "articles/f");
    desk.pass(60, 3 + 3).await;
    assert_eq!(desk.call("ResolvePath", json!({"path": "/e"})).await["article"]["name"], "articles/e");
    desk.close().await;
}

#[tokio::test]
async fn a_scheduled_version_is_held_once_the_live_one_has_changed() {
    let desk = Desk::open().await;
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
        let live = desk.put(article(id, "Live", more)).await;
        let mut put = json!({"article": scheduled(id)});
        if id == "etag" {
            put["precondition"] = json!({"etag": live["etag"]});
        }
        desk.call("PutArticle", put).await;
        let pending = desk.pending(id).await.unwrap();
        assert_eq!((&pending["hold_reason"], &pending["base_revision"]), (&json!(null), &live["revision"]));
    }
    for id in held {
        desk.call("PatchArticle", correct(id)).await;
    }
    let listed = desk.call("ListPending", json!({})).await["pending"].clone();
    for one in listed.as_array().unwrap() {
        let reason = match one["article"]["name"].as_str().unwrap() {
            "articles/same" => json!(null),
            _ => json!("HOLD_REASON_LIVE_VERSION_CHANGED"),
        };
        assert_eq!((&one["hold_reason"], &one["due_time"]), (&reason, &json!(at(60))), "{one}");
    }
    let head = desk.head().await;
    desk.pass(60, head + 2).await;
    assert_eq!(desk.get("same").await.unwrap()["headline"], "Later");
    let desk = desk.restart(80, |_| {}).await;
    // An article that expires meanwhile does not return in its state before the correction.
    desk.pass(100, head + 3).await;
    assert_eq!(reason(desk.get("expires").await), "ARTICLE_GONE");
    for id in ["time", "embargo", "etag"] {
        let live = desk.get(id).await.unwrap();
        assert_eq!(
            (&live["headline"], &live["notices"][0]["text"]),
            (&json!("Live"), &json!("The quay was wrong."))
        );
        assert_eq!(desk.pending(id).await.unwrap()["article"]["headline"], "Later");
    }
    // An editor decides: the same version once more, immediately or later, or not at all.
    let again = article("time", "Later", json!({"publish_time": at(120)}));
    desk.put(again.clone()).await;
    assert_eq!(desk.pending("time").await.unwrap()["hold_reason"], json!(null));
    desk.call("PatchArticle", correct("time")).await;
    let unchanged = desk.pending("time").await.unwrap()["hold_reason"].clone();
    assert_eq!(unchanged, json!(null), "a patch that changes nothing holds nothing up");
    desk.put(article("time", "Live 2", json!({}))).await;
    assert_ne!(desk.pending("time").await.unwrap()["hold_reason"], json!(null));
    assert_eq!(desk.put(again).await["changed"], json!(true), "it is based on another version now");
    desk.call("RemovePending", json!({"name": "articles/etag"})).await;
    let head = desk.head().await;
    desk.pass(200, head + 2).await;
    assert_eq!(desk.get("time").await.unwrap()["headline"], "Later");
    assert_eq!(desk.get("etag").await.unwrap()["headline"], "Live");
    desk.close().await;
}

#[tokio::test]
async fn an_import_of_what_is_not_due_waits_too() {
    let desk = Desk::open().await;
    let told = json!({"publish_time": at(60), "create_time": at(-500), "state": "ARTICLE_STATE_LIVE"});
    let report = desk.call("Import", json!({"records": [{"article": article("a", "A", told)}]})).await;
    assert_eq!(report["results"][0]["outcome"], "IMPORT_OUTCOME_WRITTEN");
    assert_eq!(reason(desk.get("a").await), "ARTICLE_NOT_FOUND");
    assert_eq!(desk.pending("a").await.unwrap()["due_time"], at(60));
    desk.pass(60, 3).await;
    assert_eq!(desk.get("a").await.unwrap()["create_time"], at(-500));
    let backfill = |article| json!({"article": article, "update_kind": "UPDATE_KIND_BACKFILL"});
    desk.put(article("b", "B", json!({"publish_time": at(90)}))).await;
    let refused = desk.refused("PutArticle", backfill(article("b", "B", json!({})))).await;
    assert_eq!((&*refused.reason, &*refused.field), ("FIELD_INVALID", "update_kind"));
    desk.close().await;
}

#[tokio::test]
async fn a_repeated_request_is_told_what_the_first_one_did() {
    let desk = Desk::open().await;
    let later = |seconds| article("a", "Later", json!({"publish_time": at(seconds)}));
    let put = json!({"article": later(60), "request_id": "one"});
    let first = desk.call("PutArticle", put.clone()).await["result"].clone();
    let commit = json!({"changes": [
        {"put_article": article("b", "Now", json!({}))},
        {"put_article": later(60)},
        {"put_article": article("c", "Held", json!({"embargo": {}}))},
    ], "request_id": "two"});
    let second = desk.call("Commit", commit.clone()).await["results"].clone();
    assert_eq!((&second[1]["changed"], &second[1]["pending"]), (&json!(null), &json!(true)));
    assert_eq!((&second[2]["changed"], &second[2]["pending"]), (&json!(true), &json!(true)));
    let remove = json!({"name": "articles/c", "request_id": "three"});
    let third = desk.call("RemovePending", remove.clone()).await["result"].clone();
    desk.pass(60, 6).await;
    assert_eq!(desk.call("PutArticle", put).await["result"], first);
    assert_eq!(desk.call("Commit", commit).await["results"], second);
    assert_eq!(desk.call("RemovePending", remove).await["result"], third);
    assert_eq!(desk.head().await, 6);
    desk.close().await;
}

/// The same bytes are rejected as a new request: by then they break a rule of time or content.
#[tokio::test]
async fn a_retry_repeats_the_outcome_whatever_has_happened_since() {
    let desk = Desk::open().await;
    let ends = |id: &str| article(id, "Ends", json!({"expire_time": at(30), "path": format!("/{id}")}));
    desk.put(article("there", "There", json!({}))).await;
    desk.put(article("waits", "Waits", json!({"publish_time": at(20)}))).await;
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
    let mut made = Vec::new();
    for (n, (method, mut request)) in calls.into_iter().enumerate() {
        request["request_id"] = json!(format!("r{n}"));
        let answer = desk.call(method, request.clone()).await;
        made.push((method, request, answer));
    }
    let head = desk.head().await;
    desk.pass(60, head + 1).await;
    desk.put(article("other", "Other", json!({"path": "/a"}))).await;
    let desk = desk.restart(61, |_| {}).await;
    for (method, mut request, answer) in made {
        let again = desk.call(method, request.clone()).await;
        assert_eq!(
            (&again["result"], &again["results"]),
            (&answer["result"], &answer["results"]),
            "{method}"
        );
        request["request_id"] = json!("new");
        desk.refused(method, request).await;
    }
    assert_eq!(desk.head().await, head + 2);
    desk.close().await;
}

#[tokio::test]
async fn pending_versions_are_listed_by_due_time_in_bounded_pages() {
    let desk = Desk::open().await;
    let body = |text: &str| json!({"blocks": [{"paragraph": {"spans": [{"text": text}]}}]});
    let large = "x".repeat(1_000_000);
    for (id, time) in [("d", 5), ("c", 5), ("b", 7), ("a", 9)] {
        desk.put(article(id, "A", json!({"publish_time": at(time), "body": body(&large)}))).await;
    }
    for id in ["f", "e"] {
        desk.put(article(id, "A", json!({"embargo": {}, "body": body("x")}))).await;
    }
    desk.put(article("live", "L", json!({"expire_time": at(6)}))).await;
    let all = ["c", "d", "b", "a", "e", "f"];
    for size in 1..=7 {
        assert_eq!(pages(&desk, json!({"page_size": size})).await.concat(), all);
    }
    let full = pages(&desk, json!({"view": "ARTICLE_VIEW_FULL", "page_size": 1_000})).await;
    assert_eq!(full, [vec!["c", "d"], vec!["b", "a", "e", "f"]]);
    let basic = desk.call("ListPending", json!({})).await["pending"][0]["article"].clone();
    assert_eq!((&basic["body"], &basic["headline"]), (&json!(null), &json!("A")));
    let asked =
        json!({"name": "articles/e", "view": "ARTICLE_VIEW_FULL", "body_format": "BODY_FORMAT_PLAIN_TEXT"});
    let rendered = desk.call("GetPending", asked).await["pending"]["article"].clone();
    assert_eq!(rendered["rendered_body"]["text"].as_str().unwrap().trim(), "x");
    let reference = json!({"name": "articles/e", "view": "ARTICLE_VIEW_REFERENCE"});
    assert_eq!(desk.call("GetPending", reference).await["pending"]["article"]["headline"], json!(null));
    let token = desk.call("ListPending", json!({"page_size": 1})).await["next_page_token"].clone();
    let elsewhere = desk.refused("ListTags", json!({"page_token": token})).await;
    assert_eq!(elsewhere.reason, "PAGE_TOKEN_INVALID");
    desk.close().await;
}

#[tokio::test]
async fn the_client_puts_lists_gets_and_takes_back_what_waits() {
    let desk = Desk::open().await;
    let cable = desk.node.client();
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
    desk.pass(60, committed.position.revision + 2).await;
    assert_eq!(cable.article("b").await.unwrap().headline, "Later");
    desk.close().await;
}

/// Returns the ids on all pages of a listing.
async fn pages(desk: &Desk, mut request: Value) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    loop {
        let page = desk.call("ListPending", request.clone()).await;
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
