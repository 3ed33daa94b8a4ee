//! Concurrent writers, repeated requests, and removed names.

use std::future::IntoFuture as _;

use cable_client::{Cable, Change, Error, ErrorKind, ErrorReason, Filter, RawRecord, RemovalReason, v1};
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    raw::{Raw, request_bytes, reverse_fields},
    support::{Node, article, author},
};

const WRITERS: usize = 16;

async fn start() -> (tempfile::TempDir, Node, Cable) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    (dir, node, cable)
}

fn at_path(id: &str, path: &str) -> v1::Article {
    let mut article = article(id, id, &["t"]);
    article.path = path.to_owned();
    article
}

/// Asserts that exactly one write succeeded and that all others failed for this reason.
fn one_wins<T>(results: Vec<Result<T, Error>>, kind: ErrorKind, reason: ErrorReason) -> T {
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, WRITERS - 1));
    for error in lost.into_iter().filter_map(Result::err) {
        assert_eq!((error.kind(), error.reason()), (kind, Some(reason)), "{error}");
    }
    won.into_iter().next().unwrap().unwrap_or_else(|_| unreachable!())
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_writer_with_the_same_etag_succeeds() {
    let (_dir, node, cable) = start().await;
    let mut etag = cable.put(article("a", "0", &[])).await.unwrap().etag;
    for round in 1..=10 {
        let writer = |i| {
            let put = cable.put(article("a", &format!("{round} {i}"), &[])).if_etag(&etag);
            async move { put.await.map(|written| (i, written)) }
        };
        let results = join_all((0..WRITERS).map(writer)).await;
        let current = cable.article("a").await.unwrap().into_inner();
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(error.metadata()["etag"], current.etag);
        }
        let (i, won) = one_wins(results, ErrorKind::Aborted, ErrorReason::EtagMismatch);
        assert_eq!((current.headline, &current.etag), (format!("{round} {i}"), &won.etag));
        etag = won.etag;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_writer_creates_a_name_that_must_be_absent() {
    let (_dir, node, cable) = start().await;
    for round in 0..10 {
        let name = format!("a{round}");
        let writer = |i: usize| cable.put(article(&name, &i.to_string(), &[])).if_absent().into_future();
        let results = join_all((0..WRITERS).map(writer)).await;
        let won = one_wins(results, ErrorKind::AlreadyExists, ErrorReason::NameExists);
        assert_eq!(cable.article(&*name).await.unwrap().into_inner().etag, won.etag);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_article_gets_a_contested_path() {
    let (_dir, node, cable) = start().await;
    for round in 0..10 {
        let path = format!("/p{round}");
        let writer = |i: usize| cable.put(at_path(&format!("r{round}-{i}"), &path)).into_future();
        let results = join_all((0..WRITERS).map(writer)).await;
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(error.violations()[0].field, "article.path");
            assert_eq!(error.metadata()["path"], path);
        }
        let won = one_wins(results, ErrorKind::AlreadyExists, ErrorReason::PathTaken);
        assert_eq!(cable.resolve(&*path).await.unwrap().article.name, won.name);
    }
    assert_eq!(cable.status().await.unwrap().counts.unwrap().articles, 10);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_writers_without_a_precondition_succeed() {
    let (_dir, node, cable) = start().await;
    let writer = |i: usize| cable.put(article("a", &i.to_string(), &[])).into_future();
    let mut revisions: Vec<i64> = join_all((0..WRITERS).map(writer))
        .await
        .into_iter()
        .map(|written| written.unwrap().revision)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=WRITERS as i64).collect::<Vec<_>>());
    let patch = |i: usize| {
        let mut article = v1::Article::default();
        article.name = "articles/a".into();
        match i % 2 {
            0 => article.dek = i.to_string(),
            _ => article.kicker = i.to_string(),
        }
        cable.patch(article, [["dek", "kicker"][i % 2]]).into_future()
    };
    for written in join_all((0..WRITERS).map(patch)).await {
        written.unwrap();
    }
    let read = cable.article("a").await.unwrap().into_inner();
    assert!(!read.dek.is_empty() && !read.kicker.is_empty(), "no patch undid another");
    node.stop().await;
}

#[tokio::test]
async fn a_path_can_move_between_articles_within_a_commit() {
    let (_dir, node, cable) = start().await;
    let owner = |path: &'static str| {
        let cable = &cable;
        async move { cable.resolve(path).await.unwrap().into_inner().article.name }
    };
    cable.put(at_path("a", "/x")).await.unwrap();
    cable.put(at_path("b", "/y")).await.unwrap();
    let swap = [Change::put(at_path("a", "/y")), Change::put(at_path("b", "/x"))];
    cable.commit().changes(swap).await.unwrap();
    assert_eq!((owner("/x").await, owner("/y").await), ("articles/b".into(), "articles/a".into()));

    let deleted = RemovalReason::Deleted;
    let taken_over = [Change::remove("articles/b", deleted), Change::put(at_path("c", "/x"))];
    cable.commit().changes(taken_over).await.unwrap();
    assert_eq!(owner("/x").await, "articles/c");

    let cleared = Change::patch(at_path("c", ""), ["path"]);
    cable.commit().changes([Change::put(at_path("d", "/x")), cleared]).await.unwrap();
    assert_eq!(owner("/x").await, "articles/d");

    let both = [Change::put(at_path("e", "/z")), Change::put(at_path("f", "/z"))];
    let error = cable.commit().changes(both).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::PathTaken));
    assert_eq!(error.violations()[0].field, "changes[1].put_article.path");
    assert_eq!(error.metadata()["owner"], "articles/e");
    node.stop().await;
}

#[tokio::test]
async fn a_patch_without_the_path_field_does_not_claim_the_path() {
    let (_dir, node, cable) = start().await;
    cable.put(at_path("a", "/x")).await.unwrap();
    cable.put(at_path("b", "/y")).await.unwrap();
    let mut other = at_path("b", "/x");
    other.headline = "New".into();
    cable.patch(other.clone(), ["headline"]).await.unwrap();
    let error = cable.patch(other, ["path"]).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::PathTaken));
    let read = cable.article("b").await.unwrap().into_inner();
    assert_eq!((&*read.headline, &*read.path), ("New", "/y"));
    node.stop().await;
}

/// An import applies one record after the other, even if one releases a path that the next one takes.
#[tokio::test]
async fn a_path_can_move_between_records_of_an_import() {
    let (_dir, node, cable) = start().await;
    cable.put(at_path("a", "/x")).await.unwrap();
    let records = [at_path("a", "/y"), at_path("b", "/x"), at_path("a", "/z"), at_path("c", "/y")];
    let records = stream::iter(records.map(RawRecord::from));
    let acks: Vec<_> = cable.import(records).overwrite().try_collect().await.unwrap();
    for result in acks.iter().flat_map(|ack| &ack.results) {
        assert_eq!(result.outcome(), v1::ImportOutcome::Written, "{result:?}");
    }
    let record = RawRecord::from(at_path("e", "/z"));
    let acks: Vec<_> = cable.import(stream::iter([record])).try_collect().await.unwrap();
    let result = &acks[0].results[0];
    assert_eq!((&*result.omitted_path, &*result.path_owner), ("/z", "articles/a"));
    node.stop().await;
}

#[tokio::test]
async fn a_repeated_request_returns_its_first_result() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let put = json!({"article": {"name": "articles/a", "headline": "H"}, "request_id": "put"});
    let first = raw.call("PutArticle", put.clone()).await.unwrap();
    let conditional = json!({
        "article": {"name": "articles/a", "headline": "I"},
        "precondition": {"etag": first["result"]["etag"]},
        "request_id": "conditional",
    });
    let absent = json!({
        "tag": {"name": "tags/a", "display_name": "A"},
        "precondition": {"must_be_absent": true},
        "request_id": "absent",
    });
    let patch = json!({"article": {"name": "articles/a", "dek": "D"}, "request_id": "patch"});
    let commit = json!({"changes": [
        {"put_author": {"name": "authors/a", "display_name": "A"}},
        {"put_author": {"name": "authors/b", "display_name": "B"}},
    ], "request_id": "commit"});
    let unchanged = json!({"tag": {"name": "tags/a", "display_name": "A"}, "request_id": "unchanged"});
    let remove = json!({"name": "articles/a", "reason": "REMOVAL_REASON_DELETED", "request_id": "remove"});
    let calls = [
        ("PutArticle", conditional),
        ("PutTag", absent),
        ("PatchArticle", patch),
        ("Commit", commit),
        ("PutTag", unchanged),
        ("RemoveArticle", remove),
    ];
    let mut completed = vec![("PutArticle", put, first)];
    for (method, request) in calls {
        let response = raw.call(method, request.clone()).await.unwrap();
        completed.push((method, request, response));
    }
    let result = |response: &Value| (response["result"].clone(), response["results"].clone());
    let repeat = async |raw: &Raw| {
        let before = raw.call("GetStatus", json!({})).await.unwrap()["head"].clone();
        for (method, request, response) in &completed {
            let again = raw.call(method, request.clone()).await.unwrap();
            assert_eq!(result(&again), result(response), "{method} {request}");
        }
        assert_eq!(raw.call("GetStatus", json!({})).await.unwrap()["head"], before);
    };
    repeat(&raw).await;
    node.stop().await;
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    repeat(&raw).await;

    for (method, request) in [
        ("PutArticle", json!({"article": {"name": "articles/a", "headline": "Other"}, "request_id": "put"})),
        ("PutTag", json!({"tag": {"name": "tags/a", "display_name": "A"}, "request_id": "put"})),
        ("PatchArticle", json!({"article": {"name": "articles/a", "headline": "H"}, "request_id": "put"})),
        ("RemoveArticle", json!({"name": "articles/a", "reason": 2, "request_id": "remove"})),
        (
            "Commit",
            json!({"changes": [{"put_author": {"name": "authors/a", "display_name": "A"}}], "request_id": "commit"}),
        ),
    ] {
        let refused = raw.call(method, request.clone()).await.unwrap_err();
        let wanted = (Code::InvalidArgument, "REQUEST_ID_REUSED", "request_id");
        assert_eq!((refused.code, &*refused.reason, &*refused.field), wanted, "{method} {request}");
    }
    node.stop().await;
}

/// A retry may come from another process or library. These order fields and maps freely.
#[tokio::test]
async fn a_retry_in_another_encoding_repeats_the_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let notes = json!({"a": "1", "b": "2", "c": "3", "": "none"});
    let article = |id: &str| json!({"name": format!("articles/{id}"), "headline": "H", "dek": "D", "annotations": notes});
    let entity = |kind: &str, field: &str| json!({"name": format!("{kind}s/x"), field: "X"});
    let author = json!({"name": "authors/x", "display_name": "X", "alt_ids": notes});
    let gone = |kind: &str| json!({"name": format!("{kind}s/x"), "reason": "REMOVAL_REASON_DELETED"});
    let later = json!({"name": "articles/later", "headline": "L", "embargo": {"note": "call"}});
    let calls: Vec<(&str, Value, &[u32])> = vec![
        ("PutArticle", json!({"article": article("x"), "update_kind": 2}), &[1]),
        ("PatchArticle", json!({"article": article("x"), "update_mask": "annotations,kicker"}), &[1]),
        ("PutAuthor", json!({"author": author}), &[1]),
        ("PutSection", json!({"section": entity("section", "display_name")}), &[1]),
        ("PutTag", json!({"tag": entity("tag", "display_name")}), &[1]),
        ("PutCollection", json!({"collection": entity("collection", "title")}), &[1]),
        ("Commit", json!({"changes": [{"put_article": article("y"), "update_kind": 2}]}), &[1, 1]),
        ("RemoveArticle", gone("article"), &[]),
        ("RemoveAuthor", gone("author"), &[]),
        ("RemoveSection", gone("section"), &[]),
        ("RemoveTag", gone("tag"), &[]),
        ("RemoveCollection", gone("collection"), &[]),
        ("PutArticle", json!({"article": later}), &[1]),
        ("RemovePending", json!({"name": "articles/later"}), &[]),
    ];
    let mut completed = Vec::new();
    for (n, (method, mut request, nested)) in calls.into_iter().enumerate() {
        request["request_id"] = json!(format!("r{n}"));
        let bytes = request_bytes(method, request);
        let response = raw.send(method, bytes.clone()).await.unwrap().remove(0);
        let other = reverse_fields(&bytes, nested);
        assert_ne!(other, bytes, "{method}");
        completed.push((method, other, response));
    }
    let head = raw.call("GetStatus", json!({})).await.unwrap()["head"].clone();
    let again = async |raw: &Raw| {
        for (method, other, response) in &completed {
            let again = raw.send(method, other.clone().into()).await.unwrap().remove(0);
            let results = |response: &Value| (response["result"].clone(), response["results"].clone());
            assert_eq!(results(&again), results(response), "{method}");
        }
        assert_eq!(raw.call("GetStatus", json!({})).await.unwrap()["head"], head);
    };
    again(&raw).await;
    node.stop().await;
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    again(&raw).await;

    // A field that this release does not know is part of the request, wherever it is.
    for (method, other, _) in &completed {
        for changed in [
            [&other[..], &crate::raw::field(900, b"x")].concat(),
            [&crate::raw::field(900, b""), &other[..]].concat(),
        ] {
            let refused = raw.send(method, changed.into()).await.unwrap_err();
            assert_eq!(refused.reason, "REQUEST_ID_REUSED", "{method}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_with_one_id_are_applied_once() {
    let (_dir, node, cable) = start().await;
    let sent = (0..WRITERS).map(|_| cable.put(article("a", "H", &[])).request_id("once").into_future());
    let results: Vec<_> = join_all(sent).await.into_iter().map(Result::unwrap).collect();
    assert!(results.iter().all(|written| written.revision == 1 && written.changed), "{results:?}");
    let mut etag = results[0].etag.clone();
    for round in 2..=20 {
        let again = |_| {
            let put = cable.put(article("a", &round.to_string(), &[]));
            put.if_etag(&etag).request_id(format!("r{round}")).into_future()
        };
        let results = join_all((0..WRITERS).map(again)).await.into_iter().collect::<Result<Vec<_>, _>>();
        let results = results.unwrap();
        assert!(results.iter().all(|written| written.revision == round && written.changed), "{results:?}");
        etag = results[0].etag.clone();
    }
    node.stop().await;
}

async fn listed(cable: &Cable) -> usize {
    let items = cable.list(Filter::default().tag("t")).items();
    items.map(Result::unwrap).count().await
}

#[tokio::test]
async fn every_read_of_a_removed_article_returns_the_reason() {
    let (_dir, node, cable) = start().await;
    for (reason, name, moved_to) in [
        (RemovalReason::Moved, "MOVED", Some("articles/new")),
        (RemovalReason::Withdrawn, "WITHDRAWN", None),
        (RemovalReason::Deleted, "DELETED", None),
    ] {
        let wanted = match moved_to {
            Some(_) => ErrorReason::ArticleMoved,
            None => ErrorReason::ArticleGone,
        };
        let put = cable.put(at_path("old", "/old")).await.unwrap();
        assert_eq!(listed(&cable).await, 1);
        let remove = || {
            let remove = cable.remove("articles/old", reason);
            moved_to.map_or(remove.clone(), |target| remove.clone().moved_to(target))
        };
        let removed = remove().await.unwrap();
        assert!(removed.changed && removed.etag.is_empty() && removed.revision > put.revision);

        let check_error = |error: &Error| {
            assert_eq!((error.kind(), error.reason()), (ErrorKind::NotFound, Some(wanted)), "{error}");
            assert_eq!(error.metadata()["reason"], name);
            assert_eq!(error.metadata().get("moved_to").map(String::as_str), moved_to);
            assert!(error.metadata()["remove_time"].starts_with("20"), "{error:?}");
        };
        check_error(&cable.article("old").await.unwrap_err());
        check_error(&cable.resolve("/old").await.unwrap_err());
        check_error(&remove().await.unwrap_err());
        let mut patch = v1::Article::default();
        patch.name = "articles/old".into();
        check_error(&cable.patch(patch, ["dek"]).await.unwrap_err());
        let batch = cable.articles(["old", "never"]).await.unwrap();
        check_error(batch.items[0].article.as_ref().unwrap_err());
        let never = batch.items[1].article.as_ref().unwrap_err();
        assert_eq!(never.reason(), Some(ErrorReason::ArticleNotFound));
        assert_eq!(listed(&cable).await, 0);
        assert_eq!(cable.status().await.unwrap().counts.unwrap().articles, 0);
        let error = cable.put(article("old", "H", &[])).if_etag(put.etag).await.unwrap_err();
        assert_eq!(error.reason(), Some(ErrorReason::EtagMismatch));
        assert_eq!(error.metadata().get("etag"), None, "no etag is current");

        let again = cable.put(at_path("old", "/old")).if_absent().await.unwrap();
        assert!(again.revision > removed.revision);
        assert_eq!(cable.article("old").await.unwrap().into_inner().path, "/old");
        assert_eq!(listed(&cable).await, 1);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_removed_author_is_gone_and_not_listed() {
    let (_dir, node, cable) = start().await;
    cable.put(author("ann", "Ann")).await.unwrap();
    cable.remove("authors/ann", RemovalReason::Moved).moved_to("authors/ann-2").await.unwrap();
    let error = cable.author("ann").await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::NotFound, Some(ErrorReason::NameGone)));
    assert_eq!((&*error.metadata()["reason"], &*error.metadata()["moved_to"]), ("MOVED", "authors/ann-2"));
    let authors: Vec<_> = cable.authors().items().try_collect().await.unwrap();
    assert!(authors.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_name_does_not_move_to_one_that_leads_back() {
    let (_dir, node, cable) = start().await;
    let tag = |id: &str| {
        let mut tag = v1::Tag::default();
        (tag.name, tag.display_name) = (format!("tags/{id}"), id.to_owned());
        tag
    };
    for id in ["a", "b", "c", "d", "e"] {
        cable.put(tag(id)).await.unwrap();
    }
    let moved = |from: &str, to: &str| {
        cable.remove(format!("tags/{from}"), RemovalReason::Moved).moved_to(format!("tags/{to}"))
    };
    moved("a", "b").await.unwrap();
    moved("b", "c").await.unwrap();
    let refused = moved("c", "a").await.unwrap_err();
    assert_eq!(refused.reason(), Some(ErrorReason::FieldInvalid));
    assert_eq!(refused.violations()[0].field, "moved_to");
    assert!(refused.message().contains("tags/a leads back"), "{refused}");
    let change = |from: &str, to: &str| {
        Change::remove(format!("tags/{from}"), RemovalReason::Moved).moved_to(format!("tags/{to}"))
    };
    let both = cable.commit().change(change("d", "e")).change(change("e", "d")).await.unwrap_err();
    assert!(
        both.violations()[0].field.ends_with("moved_to") && both.message().contains("leads back"),
        "{both}"
    );
    cable.tag("c").await.expect("nothing was written");

    // A name on the way that is put again is the end of the moves.
    cable.put(tag("b")).await.unwrap();
    moved("c", "a").await.unwrap();
    let back = moved("b", "c").await.unwrap_err();
    assert!(back.message().contains("tags/c leads back"), "{back}");
    cable.commit().put(tag("a")).change(change("b", "c")).await.expect("the commit ends the moves at a");

    // Moves that never end, or not soon enough, are not followed.
    for number in 0..22 {
        cable.put(tag(&format!("n{number}"))).await.unwrap();
    }
    for number in (0..21).rev() {
        let step = moved(&format!("n{number}"), &format!("n{}", number + 1)).await;
        match step {
            Ok(_) => assert!(number > 0, "{number}"),
            Err(error) => {
                assert!(number == 0 && error.message().contains("too many other moves"), "{number} {error}");
            }
        }
    }
    node.stop().await;
}

/// Many clients send an empty mask instead of none.
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_with_an_empty_mask_replaces_the_fields_that_are_set() {
    let (_dir, node, cable) = start().await;
    let raw = Raw::to(&node).await;
    cable.put(article("a", "Old", &["t"])).await.unwrap();
    let patch =
        |headline: &str| json!({"article": {"name": "articles/a", "headline": headline}, "update_mask": ""});
    let has_mask = |bytes: &[u8]| bytes.windows(2).any(|pair| pair == [2 << 3 | 2, 0]);
    assert!(has_mask(&request_bytes("PatchArticle", patch("New"))), "the mask is there, without paths");
    raw.call("PatchArticle", patch("New")).await.unwrap();
    let read = cable.article("a").await.unwrap().into_inner();
    assert_eq!((&*read.headline, read.tags), ("New", vec!["tags/t".to_owned()]));
    raw.call("Commit", json!({"changes": [{"patch_article": patch("Newer")}]})).await.unwrap();
    assert_eq!(cable.article("a").await.unwrap().headline, "Newer");
    node.stop().await;
}
