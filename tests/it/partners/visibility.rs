//! The rules of visibility for a partner, one at a time.

use cable::auth::{CredentialFile, NewCredential, Role};
use cable_client::v1::ArticleFilter;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    raw::{Raw, describe, encode, request_bytes, values},
    support::Node,
};

/// A node with a caller that may do everything, and readers with a filter.
struct Partners {
    node: Node,
    dir: tempfile::TempDir,
    admin: Raw,
}

impl Partners {
    /// Starts a node with readers that have these filters.
    async fn start<const N: usize>(filters: [Value; N]) -> (Partners, [Raw; N]) {
        let dir = tempfile::tempdir().unwrap();
        let admin = token(&dir, "admin", Role::Admin, None);
        let mut number = 0;
        let tokens = filters.map(|filter| {
            number += 1;
            token(&dir, &format!("partner {number}"), Role::Reader, Some(filter))
        });
        let node = Node::start(dir.path()).await;
        let raw = Raw::to(&node).await;
        (Partners { node, dir, admin: raw.with_token(&admin) }, tokens.map(|token| raw.with_token(&token)))
    }

    async fn put(&self, article: Value) {
        self.admin.call("PutArticle", json!({"article": article})).await.unwrap();
    }
}

fn token(dir: &tempfile::TempDir, name: &str, role: Role, filter: Option<Value>) -> String {
    let file = CredentialFile::new(dir.path().join("credentials.toml"));
    let filter = filter.map(|filter| ArticleFilter::decode(encode("ArticleFilter", filter)).unwrap());
    let new = NewCredential { name: name.to_owned(), role, filter, lifetime: None, certificate: None };
    file.create(new, 1_800_000_000_000_000).unwrap().unwrap().expose().to_owned()
}

fn article(id: &str, tags: &[&str]) -> Value {
    let tags: Vec<String> = tags.iter().map(|tag| format!("tags/{tag}")).collect();
    json!({"name": format!("articles/{id}"), "headline": "Storm", "tags": tags, "path": format!("/{id}")})
}

/// Returns the names of the articles that a listing has.
async fn listed(reader: &Raw, request: Value) -> Vec<String> {
    let page = reader.call("ListArticles", request).await.unwrap();
    let articles = page["articles"].as_array().cloned().unwrap_or_default();
    articles.iter().map(|article| article["name"].as_str().unwrap().to_owned()).collect()
}

/// Returns the reason of the error of GetArticle, or none.
async fn reason(reader: &Raw, id: &str) -> Option<String> {
    let name = json!({"name": format!("articles/{id}")});
    reader.call("GetArticle", name).await.err().map(|refusal| refusal.reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_tokens_and_caches_belong_to_one_filter() {
    let (sea, odd) = (json!({"all_tags": ["tags/sea"]}), json!({"all_tags": ["tags/odd"]}));
    let (partners, [sea, odd, same]) = Partners::start([sea, odd.clone(), odd]).await;
    for n in 1..=6 {
        partners.put(article(&format!("a{n}"), &["sea", if n % 2 == 0 { "even" } else { "odd" }])).await;
    }
    for order in 1..=2 {
        let request = json!({"page_size": 2, "order": order});
        let readers = [&partners.admin, &sea, &odd, &same];
        let mut tokens = Vec::new();
        for reader in readers {
            let page = reader.call("ListArticles", request.clone()).await.unwrap();
            tokens.push(page["next_page_token"].clone());
        }
        for (of, token) in tokens.iter().enumerate() {
            for (by, reader) in readers.into_iter().enumerate() {
                let mut request = request.clone();
                request["page_token"] = token.clone();
                let next = reader.call("ListArticles", request).await.map_err(|refusal| refusal.reason);
                // The third and the fourth have the same filter.
                match of == by || of + by == 5 {
                    true => assert!(next.is_ok(), "{of} {by}"),
                    false => assert_eq!(next.unwrap_err(), "PAGE_TOKEN_INVALID", "{of} {by}"),
                }
            }
        }
    }
    for _ in 0..2 {
        for (reader, count) in [(&partners.admin, 6), (&odd, 3), (&sea, 6), (&same, 3)] {
            assert_eq!(listed(reader, json!({})).await.len(), count);
        }
    }
    partners.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_article_enters_and_leaves_a_filter_at_once() {
    let (partners, [reader]) = Partners::start([json!({"any_tags": ["tags/open"]})]).await;
    for round in 0..3 {
        partners.put(article("a", &["closed"])).await;
        assert_eq!(reason(&reader, "a").await.as_deref(), Some("ARTICLE_NOT_FOUND"), "{round}");
        assert_eq!(reason(&reader, "never").await.as_deref(), Some("ARTICLE_NOT_FOUND"));
        let path = reader.call("ResolvePath", json!({"path": "/a"})).await.unwrap_err();
        assert_eq!(path.reason, "ARTICLE_NOT_FOUND");
        assert!(listed(&reader, json!({})).await.is_empty());
        partners.put(article("a", &["open"])).await;
        assert_eq!(reason(&reader, "a").await, None);
        reader.call("ResolvePath", json!({"path": "/a"})).await.unwrap();
        assert_eq!(listed(&reader, json!({})).await, ["articles/a"]);
    }
    partners.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_section_that_moves_takes_its_articles_with_it() {
    let filter = json!({"section": "sections/sport", "include_child_sections": true});
    let (partners, [reader]) = Partners::start([filter]).await;
    partners.put(json!({"name": "articles/a", "headline": "Storm", "section": "sections/football"})).await;
    for (parent, expected) in [("", None), ("sections/sport", Some("articles/a")), ("sections/world", None)] {
        let section = json!({"name": "sections/football", "display_name": "F", "parent": parent});
        partners.admin.call("PutSection", json!({"section": section})).await.unwrap();
        assert_eq!(reason(&reader, "a").await.is_none(), expected.is_some(), "{parent}");
        assert_eq!(listed(&reader, json!({})).await.first().map(String::as_str), expected, "{parent}");
    }
    // Sections below each other.
    for (id, parent) in [("football", "sections/cup"), ("cup", "sections/football")] {
        let section = json!({"name": format!("sections/{id}"), "display_name": "F", "parent": parent});
        partners.admin.call("PutSection", json!({"section": section})).await.unwrap();
    }
    assert_eq!(reason(&reader, "a").await.as_deref(), Some("ARTICLE_NOT_FOUND"));
    partners.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_feeds_cannot_follow_is_refused_only_there() {
    let filters = [
        (json!({"all_tags": ["tags/sea"]}), true),
        (json!({"all_tags": ["tags/sea", "tags/sea"]}), true),
        (json!({"any_tags": ["tags/sea", "tags/land"]}), true),
        (json!({"section": "sections/world"}), true),
        (json!({"authors": ["authors/ann", "authors/bob"]}), true),
        (json!({"all_tags": ["tags/sea", "tags/ice"]}), false),
        (json!({"all_tags": ["tags/sea"], "section": "sections/world"}), false),
        (json!({"all_tags": ["tags/sea"], "excluded_tags": ["tags/land"]}), false),
        (json!({"excluded_tags": ["tags/land"]}), false),
        (json!({"section": "sections/world", "include_child_sections": true}), false),
        (json!({"types": [1]}), false),
        (json!({"language": "en"}), false),
        (json!({"all_tags": ["tags/sea"], "published_before": "2030-01-01T00:00:00Z"}), false),
    ];
    let (partners, readers) = Partners::start(filters.clone().map(|(filter, _)| filter)).await;
    partners.put(article("a", &["sea", "ice"])).await;
    for ((filter, is_followed), reader) in filters.into_iter().zip(readers) {
        listed(&reader, json!({})).await;
        let watch = request_bytes("Watch", json!({"snapshot": true}));
        match reader.stream("Watch", watch).await {
            Ok(mut feed) if is_followed => {
                feed.message().await.unwrap().unwrap();
            }
            Err(status) if !is_followed => assert_eq!(status.code(), Code::PermissionDenied, "{filter}"),
            other => panic!("{filter}: {other:?}"),
        }
    }
    partners.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_follows_what_enters_leaves_and_is_removed() {
    let (partners, [reader]) = Partners::start([json!({"any_tags": ["tags/open"]})]).await;
    let mut feed = reader.stream("Watch", request_bytes("Watch", json!({"view": 2}))).await.unwrap();
    partners.put(article("a", &["closed"])).await;
    partners.put(article("a", &["open", "sea"])).await;
    partners.put(article("a", &["open"])).await;
    partners.put(article("a", &["closed"])).await;
    partners.put(article("a", &["closed", "sea"])).await;
    partners.put(article("b", &["open"])).await;
    let remove = |id: &str| json!({"name": format!("articles/{id}"), "reason": "REMOVAL_REASON_KILLED"});
    partners.admin.call("RemoveArticle", remove("a")).await.unwrap();
    partners.admin.call("RemoveArticle", remove("b")).await.unwrap();
    let mut changes = Vec::new();
    while changes.len() < 5 {
        let message = feed.message().await.unwrap().unwrap();
        for event in values(&message, 2) {
            for change in values(event, 1) {
                assert!(values(change, 7).is_empty() && values(change, 8).is_empty());
                changes.push([4, 5, 6].into_iter().find(|field| !values(change, *field).is_empty()).unwrap());
            }
        }
    }
    // Twice UPSERT and once LEFT of a, UPSERT and REMOVED of b; the first follower may see only the newest.
    assert_eq!(changes, [4, 4, 5, 4, 6]);
    assert_eq!(reason(&reader, "a").await.as_deref(), Some("ARTICLE_NOT_FOUND"));
    assert_eq!(reason(&reader, "b").await.as_deref(), Some("ARTICLE_GONE"));
    partners.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_changes_in_the_file_ends_the_credential() {
    let (partners, [reader]) = Partners::start([json!({"any_tags": ["tags/open"]})]).await;
    partners.put(article("a", &["closed"])).await;
    let mut feed = reader.stream("Watch", request_bytes("Watch", json!({}))).await.unwrap();
    feed.message().await.unwrap().unwrap();
    let path = partners.dir.path().join("credentials.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("filter = { any_tags = [\"tags/open\"] }"), "{text}");
    std::fs::write(&path, text.replace("tags/open", "tags/closed")).unwrap();
    let ended = loop {
        match feed.message().await {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert!(describe(&ended).contains("UNAUTHENTICATED"));
    assert_eq!(reason(&reader, "a").await, None);
    partners.node.stop().await;
}
