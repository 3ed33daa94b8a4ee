//! The partner's feeds of both stores over HTTP, compared event by event.

use serde_json::json;

use super::{Pair, assert_not_hidden};
use crate::{
    dice::Rng,
    web::feed_twins::{FeedTwins, Normalize, expect_equal},
};

/// Changes nothing, and checks that no text is of a hidden article.
const NORMALIZE: Normalize = |item| {
    assert_not_hidden(item.to_string().as_bytes());
    Some(item)
};

/// The filters of the live followers. Each matches the marker.
const LIVE: [&str; 5] = [
    "",
    "kind=article&view=full&body=html",
    "tag=t3,marker&backfill=true",
    "tag=hidden-tag,marker&view=reference",
    "section=s2,marker&tag=t1,t2",
];

/// Restarts the live feeds of both stores.
pub(super) async fn follow(pair: &mut Pair, rng: &mut Rng) {
    pair.web_live.clear();
    for filter in LIVE {
        let start = if rng.one_in(3) { "&snapshot=true" } else { "" };
        let target = format!("/v1/feed?interval=300&{filter}{start}");
        pair.web_live.push(FeedTwins::open(&pair.web, target, NORMALIZE).await);
    }
}

/// Returns a filter that no feed has used before, so that the whole feed is read from the store.
fn random_filter(rng: &mut Rng, count: i64) -> String {
    match rng.between(0, 5) {
        0 => String::new(),
        1 => "kind=article,author,section,tag,collection".to_owned(),
        2 => format!("tag=t{},unused-{count}", rng.between(1, 3)),
        3 => format!("tag=hidden-tag,unused-{count}"),
        4 => format!("section=s1,s2,unused-{count}"),
        _ => format!("author=x2,unused-{count}&tag=t1,t3"),
    }
}

/// Compares each start, from several positions.
pub(super) async fn compare(pair: &mut Pair, rng: &mut Rng) {
    let head = pair.head().await;
    let status = pair.all.partner.call("GetStatus", json!({})).await.unwrap();
    let log_id = status["head"]["log_id"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        pair.count += 1;
        // No live feed has this form, so everything is read from the store.
        let filter = random_filter(rng, pair.count);
        let backfill = rng.one_in(2);
        let base = format!("/v1/feed?view=full&body=markdown&backfill={backfill}&{filter}");
        let web = &pair.web;
        expect_equal(web, &format!("{base}&snapshot=true"), &[], NORMALIZE).await.unwrap();
        for after in [0, rng.between(0, head), head.saturating_sub(3), head] {
            let target = format!("{base}&after={log_id}:{after}");
            let by_query = expect_equal(web, &target, &[], NORMALIZE).await;
            let id = format!("{log_id}:{after}");
            let by_header = expect_equal(web, &base, &[("last-event-id", &id)], NORMALIZE).await;
            assert_eq!(by_header.is_ok(), by_query.is_ok(), "{target}");
        }
        let foreign = format!("{base}&after=00000001:{}", rng.between(0, head));
        let refused = expect_equal(web, &foreign, &[], NORMALIZE).await.unwrap_err();
        assert_eq!((refused.status, &*refused.reason()), (400, "LOG_CHANGED"));
        let reset = expect_equal(web, &format!("{foreign}&reset=true"), &[], NORMALIZE).await.unwrap();
        assert_eq!(reset[0].kind, "reset");
    }
}

/// Checks that a position of the future, for which the node waits, is refused alike at both.
pub(super) async fn not_caught_up(pair: &Pair) {
    let target = format!("/v1/feed?after={}", pair.head().await + 1);
    let refused = expect_equal(&pair.web, &target, &[], NORMALIZE).await.unwrap_err();
    assert_eq!((refused.status, &*refused.reason()), (503, "NOT_CAUGHT_UP"));
}

/// Checks that a partner whose filter allows no feeds is refused alike at both.
pub(super) async fn refused(pair: &Pair) {
    for query in ["", "snapshot=true", "tag=hidden-tag", "after=1"] {
        let target = format!("/v1/feed?{query}");
        let refused = expect_equal(&pair.web, &target, &[], NORMALIZE).await.unwrap_err();
        assert_eq!((refused.status, &*refused.reason()), (403, "CREDENTIAL_LIMITED"), "{target}");
    }
}
