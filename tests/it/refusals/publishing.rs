//! Errors of the publishing service: options of writes, commits, times and pending versions.

use serde_json::{Value, json};
use tonic::Code;

use super::{Invalid, all_invalid, refusal, start, summary};

#[tokio::test]
async fn the_options_of_a_write_are_checked_by_every_method() {
    let (_dir, node, raw) = start().await;
    raw.call("PutArticle", json!({"article": {"name": "articles/a", "headline": "H"}})).await.unwrap();
    let deleted = "REMOVAL_REASON_DELETED";
    let writes = [
        ("PutArticle", json!({"article": {"name": "articles/a", "headline": "H"}})),
        ("PatchArticle", json!({"article": {"name": "articles/a", "headline": "H"}})),
        ("RemoveArticle", json!({"name": "articles/a", "reason": deleted})),
        ("PutAuthor", json!({"author": {"name": "authors/a", "display_name": "A"}})),
        ("RemoveAuthor", json!({"name": "authors/a", "reason": deleted})),
        ("PutSection", json!({"section": {"name": "sections/a", "display_name": "A"}})),
        ("RemoveSection", json!({"name": "sections/a", "reason": deleted})),
        ("PutTag", json!({"tag": {"name": "tags/a", "display_name": "A"}})),
        ("RemoveTag", json!({"name": "tags/a", "reason": deleted})),
        ("PutCollection", json!({"collection": {"name": "collections/a", "title": "A"}})),
        ("RemoveCollection", json!({"name": "collections/a", "reason": deleted})),
    ];
    let mut table: Vec<Invalid> = Vec::new();
    for (method, request) in writes {
        let with = |field: &str, value: Value| {
            let mut request = request.clone();
            request[field] = value;
            request
        };
        table.push((method, with("request_id", json!("a b")), "request_id"));
        table.push((method, with("precondition", json!({"etag": ""})), "precondition.etag"));
        let absent = with("precondition", json!({"must_be_absent": false}));
        table.push((method, absent, "precondition.must_be_absent"));
        if method.starts_with("Remove") {
            table.push((method, with("reason", json!(0)), "reason"));
            table.push((method, with("reason", json!(99)), "reason"));
            table.push((method, with("reason", json!("REMOVAL_REASON_EXPIRED")), "reason"));
            table.push((method, with("reason", json!("REMOVAL_REASON_MOVED")), "moved_to"));
            table.push((method, with("moved_to", request["name"].clone()), "moved_to"));
            table.push((method, with("moved_to", json!("elsewhere/x")), "moved_to"));
        }
        if method.ends_with("Article") && method != "RemoveArticle" {
            table.push((method, with("update_kind", json!(99)), "update_kind"));
        }
    }
    for mask in ["colour", "revision", "name", "byline.text", "*,headline"] {
        let request = json!({"article": {"name": "articles/a", "headline": "H"}, "update_mask": mask});
        table.push(("PatchArticle", request, "update_mask"));
    }
    table.push(("PatchArticle", json!({}), "article"));
    let patch = json!({"article": {"name": "articles/a"}, "update_mask": "headline"});
    table.push(("PatchArticle", patch, "article.headline"));
    let backfill =
        json!({"article": {"name": "articles/a", "headline": "I"}, "update_kind": "UPDATE_KIND_BACKFILL"});
    table.push(("PutArticle", backfill, "update_kind"));
    all_invalid(&raw, table).await;
    node.stop().await;
}

#[tokio::test]
async fn an_invalid_change_of_a_commit_is_refused_with_its_index() {
    let (_dir, node, raw) = start().await;
    let valid = json!({"put_tag": {"name": "tags/a", "display_name": "A"}});
    let commit = |change: Value| json!({"changes": [valid.clone(), change]});
    let article = json!({"name": "articles/a", "headline": "H"});
    let deleted = "REMOVAL_REASON_DELETED";
    let table: Vec<Invalid> = vec![
        ("Commit", json!({}), "changes"),
        ("Commit", commit(json!({})), "changes[1].change"),
        ("Commit", commit(json!({"put_article": {"name": "articles/a"}})), "changes[1].put_article.headline"),
        ("Commit", commit(json!({"put_author": {"name": "x"}})), "changes[1].put_author.display_name"),
        (
            "Commit",
            commit(json!({"put_section": {"name": "x", "display_name": "A"}})),
            "changes[1].put_section.name",
        ),
        ("Commit", commit(json!({"put_tag": {"name": "tags/b"}})), "changes[1].put_tag.display_name"),
        (
            "Commit",
            commit(json!({"put_collection": {"name": "collections/b"}})),
            "changes[1].put_collection.title",
        ),
        ("Commit", commit(json!({"patch_article": {}})), "changes[1].patch_article.article"),
        (
            "Commit",
            commit(json!({"patch_article": {"article": {"name": "x"}}})),
            "changes[1].patch_article.article.name",
        ),
        (
            "Commit",
            commit(json!({"patch_article": {"article": article, "update_mask": "colour"}})),
            "changes[1].patch_article.update_mask",
        ),
        ("Commit", commit(json!({"remove": {"name": "x", "reason": deleted}})), "changes[1].remove.name"),
        ("Commit", commit(json!({"remove": {"name": "tags/b"}})), "changes[1].remove.reason"),
        (
            "Commit",
            commit(json!({"remove": {"name": "tags/b", "reason": "REMOVAL_REASON_MOVED"}})),
            "changes[1].remove.moved_to",
        ),
        (
            "Commit",
            commit(json!({"remove": {"name": "tags/b", "reason": deleted}, "precondition": {"etag": ""}})),
            "changes[1].precondition.etag",
        ),
        (
            "Commit",
            commit(json!({"put_article": article, "precondition": {"must_be_absent": false}})),
            "changes[1].precondition.must_be_absent",
        ),
        ("Commit", commit(json!({"put_article": article, "update_kind": 99})), "changes[1].update_kind"),
        ("Commit", commit(valid.clone()), "changes[1].put_tag.name"),
        ("Commit", json!({"changes": [valid], "request_id": "a b"}), "request_id"),
    ];
    all_invalid(&raw, table).await;
    assert_eq!(raw.call("ListTags", json!({})).await.unwrap()["tags"], Value::Null, "no change was applied");
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_that_depends_on_the_store_or_on_all_changes_has_their_fields() {
    let (_dir, node, raw) = start().await;
    let article = |id: &str| json!({"name": format!("articles/{id}"), "headline": "H"});
    let tag = json!({"name": "tags/a", "display_name": "A"});
    raw.call("PutArticle", json!({"article": article("a")})).await.unwrap();
    raw.call("PutTag", json!({"tag": tag})).await.unwrap();
    let mut later = article("later");
    later["publish_time"] = json!("2998-01-01T00:00:00Z");
    let backfills = [
        json!({"put_article": {"name": "articles/a", "headline": "I"}}),
        json!({"put_article": later}),
        json!({"put_tag": {"name": "tags/a", "display_name": "B"}}),
        json!({"patch_article": {"article": {"name": "articles/a", "headline": "I"}}}),
        json!({"remove": {"name": "articles/a", "reason": "REMOVAL_REASON_DELETED"}}),
    ];
    let mut table: Vec<Invalid> = Vec::new();
    for mut change in backfills {
        change["update_kind"] = json!("UPDATE_KIND_BACKFILL");
        let valid = json!({"put_article": article("valid")});
        table.push(("Commit", json!({"changes": [valid, change]}), "changes[1].update_kind"));
    }
    let source = |id: &str, bytes: usize| json!({"put_article": article(id), "body_source": {"format": "BODY_FORMAT_HTML", "text": "x".repeat(bytes)}});
    let (half, over) = (1 << 19, (1 << 20) + 1);
    all_invalid(&raw, table).await;
    let sources = [
        ([source("b", half), source("c", half + 1)], "changes"),
        ([source("b", 1), source("c", over)], "changes[1].body_source.text"),
    ];
    for (changes, field) in sources {
        let refused = summary(raw.call("Commit", json!({"changes": changes})).await);
        assert_eq!(refused, refusal(Code::InvalidArgument, "LIMIT_EXCEEDED", field));
    }
    node.stop().await;
}

#[tokio::test]
async fn contradictory_times_are_refused_with_their_field() {
    let (_dir, node, raw) = start().await;
    let (past, later, latest) = ("2001-01-01T00:00:00Z", "2998-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
    let article = |times: Value| {
        let mut article = json!({"name": "articles/a", "headline": "H"});
        article.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        article
    };
    let ended = [
        json!({"expire_time": past}),
        json!({"expire_time": later, "publish_time": latest}),
        json!({"expire_time": later, "publish_time": later}),
        json!({"expire_time": later, "embargo": {"until": latest}}),
        json!({"expire_time": past, "embargo": {}}),
        json!({"expire_time": later, "publish_time": latest, "embargo": {}}),
    ];
    let mut table: Vec<Invalid> = Vec::new();
    for times in ended {
        table.push(("PutArticle", json!({"article": article(times.clone())}), "article.expire_time"));
        let commit = json!({"changes": [{"put_article": article(times)}]});
        table.push(("Commit", commit, "changes[0].put_article.expire_time"));
    }
    let later = article(json!({"publish_time": later}));
    table.push((
        "PutArticle",
        json!({"article": later, "update_kind": "UPDATE_KIND_BACKFILL"}),
        "update_kind",
    ));
    all_invalid(&raw, table).await;
    let status = raw.call("GetStatus", json!({})).await.unwrap();
    assert_eq!(status["head"]["revision"], Value::Null, "{status}");
    node.stop().await;
}

#[tokio::test]
async fn invalid_pending_requests_are_refused_with_their_field() {
    let (_dir, node, raw) = start().await;
    let mut table: Vec<Invalid> = vec![
        ("GetPending", json!({"name": "tags/a"}), "name"),
        ("GetPending", json!({"name": "articles/a", "view": 9}), "view"),
        ("GetPending", json!({"name": "articles/a", "body_format": 9}), "body_format"),
        ("ListPending", json!({"page_size": -1}), "page_size"),
        ("ListPending", json!({"view": 9}), "view"),
        ("ListPending", json!({"body_format": "BODY_FORMAT_HTML"}), "body_format"),
        ("RemovePending", json!({"name": "articles/"}), "name"),
    ];
    let with = |field: &str, value: Value| {
        let mut request = json!({"name": "articles/a"});
        request[field] = value;
        request
    };
    table.push(("RemovePending", with("request_id", json!("a b")), "request_id"));
    table.push(("RemovePending", with("precondition", json!({"etag": ""})), "precondition.etag"));
    all_invalid(&raw, table).await;
    let token = raw.call("ListPending", json!({"page_token": "garbage"})).await;
    assert_eq!(summary(token), refusal(Code::InvalidArgument, "PAGE_TOKEN_INVALID", "page_token"));
    for method in ["GetPending", "RemovePending"] {
        let refused = raw.call(method, json!({"name": "articles/a"})).await.unwrap_err();
        assert_eq!((refused.code, &*refused.reason), (Code::NotFound, "ARTICLE_NOT_FOUND"), "{method}");
    }
    node.stop().await;
}
