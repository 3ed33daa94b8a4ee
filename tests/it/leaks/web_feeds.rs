//! The feeds of both stores over HTTP, compared event by event.

use serde_json::{Value, json};

use super::{Pair, UNRELATED};
use crate::{
    dice::Rng,
    web::feed_twins::{FeedTwins, Normalize, expect_equal},
};

/// Drops what concerns the unrelated author, and reads backfill as news, as the comparison of the feeds over gRPC does.
const NORMALIZE: Normalize = |mut item| {
    if item.to_string().contains(UNRELATED) {
        return None;
    }
    if item["updateKind"] == "UPDATE_KIND_BACKFILL" {
        item["updateKind"] = json!("UPDATE_KIND_MAJOR");
    }
    Some(item)
};

const COMMON: &str = "backfill=true&interval=300";
const NO_AUTHORS: &str = "kind=article,section,tag,collection";

/// The filters of the live followers. Each contains the marker's terms where it restricts them.
const LIVE: [&str; 6] = [
    "",
    NO_AUTHORS,
    "tag=t1,marker&view=full&body=html",
    "tag=waiting,never,marker&view=reference",
    "section=s2,never,marker&view=full&body=markdown",
    "author=x1,never,marker&tag=t1,t2,waiting,marker",
];

/// Restarts the live feeds of both.
pub(super) async fn follow(pair: &mut Pair, rng: &mut Rng) {
    pair.web_live.clear();
    for filter in LIVE {
        let start = if rng.one_in(3) { "&snapshot=true" } else { "" };
        let target = format!("/v1/feed?{COMMON}&{filter}{start}");
        pair.web_live.push(FeedTwins::open(&pair.web, target, NORMALIZE).await);
    }
}

/// Returns a filter that no feed has used before, so that the whole feed is read from the store.
fn random_filter(rng: &mut Rng, count: i64) -> String {
    match rng.between(0, 6) {
        0 => String::new(),
        1 => NO_AUTHORS.to_owned(),
        2 => format!("tag=t1,t{},unused-{count}", rng.between(2, 4)),
        3 => format!("tag=waiting,unused-{count}"),
        4 => format!("section=s2,never,unused-{count}"),
        5 => format!("author=x1,never,unused-{count}"),
        _ => format!("tag=t1,waiting,unused-{count}&section=s1,s2"),
    }
}

/// Compares each start, from several positions. The live followers must have received all changes before.
pub(super) async fn compare(pair: &mut Pair, rng: &mut Rng) {
    let status = pair.holding.call("GetStatus", json!({})).await.unwrap();
    let (head, log_id) = (status["head"]["revision"].as_u64().unwrap(), text(&status["head"]["log_id"]));
    for _ in 0..6 {
        pair.count += 1;
        let filter = random_filter(rng, pair.count);
        // Live followers of the filters that are not new have the view basic, and share what is in memory.
        let first = if filter.contains("unused") { 0 } else { 1 };
        let view =
            ["basic", "full", "full&body=html", "full&body=plain_text"][rng.between(first, 3) as usize];
        let base = format!("/v1/feed?{COMMON}&view={view}&{filter}");
        let web = &pair.web;
        expect_equal(web, &base, &[], NORMALIZE).await.unwrap();
        expect_equal(web, &format!("{base}&snapshot=true"), &[], NORMALIZE).await.unwrap();
        for after in [0, rng.between(0, head), head.saturating_sub(3), head] {
            let target = format!("{base}&after={log_id}:{after}");
            let by_query = expect_equal(web, &target, &[], NORMALIZE).await;
            // A browser that connects again repeats its query, and the header counts.
            let id = format!("{log_id}:{after}");
            let headers = [("last-event-id", &id[..])];
            let target = format!("{base}&snapshot=true");
            assert_eq!(expect_equal(web, &target, &headers, NORMALIZE).await, by_query, "{target}");
        }
        let foreign = format!("{base}&after=00000001:{}", rng.between(0, head));
        let refused = expect_equal(web, &foreign, &[], NORMALIZE).await.unwrap_err();
        assert_eq!((refused.status, &*refused.reason()), (400, "LOG_CHANGED"));
        let reset = expect_equal(web, &format!("{foreign}&reset=true"), &[], NORMALIZE).await.unwrap();
        assert_eq!(reset[0].kind, "reset");
    }
}

/// Checks the starts that are refused.
pub(super) async fn refusals(pair: &Pair, rng: &mut Rng) {
    let status = pair.holding.call("GetStatus", json!({})).await.unwrap();
    let head = status["head"]["revision"].as_u64().unwrap();
    let floor = status["oldest_revision"].as_u64().unwrap_or(0);
    let log_id = text(&status["head"]["log_id"]);
    let refused = async |query: &str, code: u16, reason: &str| {
        let target = format!("/v1/feed?{NO_AUTHORS}&{query}");
        let refused = expect_equal(&pair.web, &target, &[], NORMALIZE).await.unwrap_err();
        assert_eq!((refused.status, &*refused.reason()), (code, reason), "{target}");
    };
    refused(&format!("after={log_id}:{}", head + 1), 503, "NOT_CAUGHT_UP").await;
    // Revisions of pending versions are among them.
    for _ in 0..10 {
        let chain = format!("{:064x}", 1);
        let revision = rng.between(floor.max(1), head);
        refused(&format!("after={log_id}:{revision}:{chain}"), 400, "LOG_CHANGED").await;
    }
    if floor > 0 {
        refused(&format!("after={log_id}:{}", floor / 2), 400, "REVISION_COMPACTED").await;
    }
    for query in
        ["after=x", "tag=a%20b", "interval=0", "x=1", "after=1&snapshot=true", "tag=waiting&tag=never"]
    {
        refused(query, 400, "FIELD_INVALID").await;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
