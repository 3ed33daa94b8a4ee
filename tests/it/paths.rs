//! The resolution of paths, in every spelling and in every order of writes and removals.

use serde_json::{Value, json};
use tonic::Code;

use crate::{
    raw::{Raw, Refusal},
    support::Node,
};

fn article(id: &str, path: &str, aliases: &[&str]) -> Value {
    json!({"name": format!("articles/{id}"), "headline": id, "path": path, "alias_paths": aliases})
}

async fn put(raw: &Raw, article: Value) -> Value {
    raw.call("PutArticle", json!({"article": article})).await.unwrap()["result"].clone()
}

async fn remove(raw: &Raw, id: &str, reason: &str) {
    let moved_to = if reason == "MOVED" { "articles/new" } else { "" };
    let request = json!({"name": format!("articles/{id}"), "reason": format!("REMOVAL_REASON_{reason}"), "moved_to": moved_to});
    raw.call("RemoveArticle", request).await.unwrap();
}

/// Returns the article that a path leads to, and the path to which the visitor is redirected.
async fn resolve(raw: &Raw, path: &str) -> Result<(String, String), Refusal> {
    let response = raw.call("ResolvePath", json!({"path": path})).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok((text(&response["article"]["name"]).replace("articles/", ""), text(&response["redirect_path"])))
}

/// Two articles are merged: the one that remains takes the other's path as an alias, or had it before.
#[tokio::test]
async fn a_path_resolves_to_a_live_article_before_a_removed_one() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    for reason in ["DELETED", "WITHDRAWN", "MOVED", "KILLED"] {
        for alias_first in [true, false] {
            let (old, new) = (format!("/{reason}-{alias_first}"), "/new");
            let id = old.trim_start_matches('/').to_owned();
            put(&raw, article("new", new, &[])).await;
            put(&raw, article(&id, &old, &[])).await;
            if alias_first {
                put(&raw, article("new", new, &[&old])).await;
                assert_eq!(resolve(&raw, &old).await.unwrap(), (id.clone(), String::new()));
            }
            remove(&raw, &id, reason).await;
            if !alias_first {
                assert_eq!(resolve(&raw, &old).await.unwrap_err().code, Code::NotFound);
                let written = put(&raw, article("new", new, &[&old])).await;
                assert_eq!(written["changed"], json!(true));
            }
            assert_eq!(resolve(&raw, &old).await.unwrap(), ("new".into(), new.into()), "{old}");
            // A removed article remains the last choice when an import from elsewhere brings another tombstone.
            let tombstone =
                json!({"name": format!("articles/{id}"), "reason": "REMOVAL_REASON_DELETED", "paths": [old]});
            raw.call("Import", json!({"records": [{"tombstone": tombstone}]})).await.unwrap();
            assert_eq!(resolve(&raw, &old).await.unwrap(), ("new".into(), new.into()), "{old}");
            put(&raw, article("new", new, &[])).await;
            assert!(resolve(&raw, &old).await.is_err(), "{old}");
        }
    }
    // A former path of a live article that is also the former path of an article removed since.
    put(&raw, article("first", "/shared", &[])).await;
    put(&raw, article("first", "/first", &[])).await;
    put(&raw, article("second", "/shared", &[])).await;
    assert_eq!(resolve(&raw, "/shared").await.unwrap(), ("second".into(), String::new()));
    remove(&raw, "second", "DELETED").await;
    assert_eq!(resolve(&raw, "/shared").await.unwrap(), ("first".into(), "/first".into()));
    remove(&raw, "first", "WITHDRAWN").await;
    let refused = resolve(&raw, "/shared").await.unwrap_err();
    assert_eq!((&*refused.reason, &*refused.metadata["reason"]), ("ARTICLE_GONE", "DELETED"));
    node.stop().await;
}

#[tokio::test]
async fn spellings_of_a_path_resolve_to_the_same_article() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let spellings = ["/%d1%82/caf%c3%a9", "/%D1%82/cafe%CC%81", "/т/caf\u{e9}", "/т/cafe\u{301}"];
    put(&raw, article("own", spellings[0], &[])).await;
    put(&raw, article("alias", "/alias", &["/%61lias-%e2%82%ac"])).await;
    for spelling in spellings {
        assert_eq!(resolve(&raw, spelling).await.unwrap(), ("own".into(), String::new()), "{spelling}");
        let taken = raw.call("PutArticle", json!({"article": article("other", spelling, &[])})).await;
        assert_eq!(taken.unwrap_err().reason, "PATH_TAKEN", "{spelling}");
    }
    for spelling in ["/alias-€", "/alias-%E2%82%AC", "/%61%6C%69as-%e2%82%AC"] {
        assert_eq!(resolve(&raw, spelling).await.unwrap(), ("alias".into(), "/alias".into()), "{spelling}");
    }
    // The path is served as it was put; another spelling of it is not a former path.
    let name = json!({"name": "articles/own"});
    assert_eq!(raw.call("GetArticle", name.clone()).await.unwrap()["article"]["path"], spellings[0]);
    assert_eq!(put(&raw, article("own", spellings[3], &[])).await["changed"], json!(true));
    assert_eq!(raw.call("GetArticle", name).await.unwrap()["article"]["path"], spellings[3]);
    assert_eq!(resolve(&raw, spellings[0]).await.unwrap(), ("own".into(), String::new()));
    put(&raw, article("own", "/own", &[])).await;
    for spelling in spellings {
        assert_eq!(resolve(&raw, spelling).await.unwrap(), ("own".into(), "/own".into()), "{spelling}");
    }
    put(&raw, article("other", spellings[1], &[])).await;
    remove(&raw, "other", "DELETED").await;
    remove(&raw, "own", "DELETED").await;
    for spelling in spellings {
        assert_eq!(resolve(&raw, spelling).await.unwrap_err().reason, "ARTICLE_GONE", "{spelling}");
    }
    for path in ["/a%2Fb", "/a/b/", "/A/b", "/a%26b"] {
        put(&raw, article("exact", path, &[])).await;
        let other = ["/a/b", "/a/b", "/a/b", "/a&b"];
        for other in other.into_iter().filter(|other| *other != path) {
            let found = resolve(&raw, other).await.map(|(id, _)| id);
            assert_ne!(found.ok().as_deref(), Some("exact"), "{other} is not {path}");
        }
        raw.call("RemoveArticle", json!({"name": "articles/exact", "reason": 5})).await.unwrap();
        let back = json!({"article": article("exact", "", &[]), "allow_killed": true});
        raw.call("PutArticle", back).await.unwrap();
        remove(&raw, "exact", "DELETED").await;
    }
    node.stop().await;
}

#[tokio::test]
async fn dot_segments_are_refused_in_every_path_field() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    for path in ["/../etc", "/a/..", "/a/./b", "/%2e%2E/etc", "/.%2e"] {
        let section = json!({"name": "sections/s", "display_name": "S", "path": path});
        for (method, request, field) in [
            ("PutArticle", json!({"article": article("a", path, &[])}), "article.path"),
            ("PutArticle", json!({"article": article("a", "/a", &["/b", path])}), "article.alias_paths[1]"),
            ("PutSection", json!({"section": section}), "section.path"),
            ("ResolvePath", json!({"path": path}), "path"),
        ] {
            let refused = raw.call(method, request).await.unwrap_err();
            let found = (refused.code, &*refused.reason, &*refused.field);
            assert_eq!(found, (Code::InvalidArgument, "FIELD_INVALID", field), "{path}");
        }
    }
    put(&raw, article("a", "/...", &["/.well-known/a", "/..."])).await;
    node.stop().await;
}
