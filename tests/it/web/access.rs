//! Tokens, roles and the scope of a partner over HTTP.

use std::time::Duration;

use cable::{
    auth::{Anonymous, CredentialFile, NewCredential, Role},
    clock::Clock,
};
use cable_client::v1::ArticleFilter;
use serde_json::json;

use super::client::{Http2, get, get_with};
use crate::{raw::Raw, support::Node};

const TARGETS: [&str; 17] = [
    "/v1/articles",
    "/v1/articles/a",
    "/v1/articles/none",
    "/v1/articles?colour=red",
    "/v1/paths/a",
    "/v1/authors",
    "/v1/authors/x",
    "/v1/sections",
    "/v1/sections/x",
    "/v1/tags",
    "/v1/tags/t",
    "/v1/collections",
    "/feeds/all.rss",
    "/feeds/tag/t.json",
    "/feeds/all.atom?colour=red",
    "/sitemap.xml",
    "/sitemap-news.xml",
];

fn token(file: &CredentialFile, name: &str, role: Role, filter: Option<ArticleFilter>) -> String {
    let new = NewCredential { name: name.to_owned(), role, filter, lifetime: None, certificate: None };
    let secret = file.create(new, Clock::system().now()).unwrap().unwrap();
    format!("Bearer {}", secret.expose())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_resource_needs_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let file = CredentialFile::new(dir.path().join("credentials.toml"));
    let roles = [Role::Reader, Role::Editor, Role::Publisher, Role::Admin];
    let tokens = roles.map(|role| token(&file, role.name(), role, None));
    let revoked = token(&file, "gone", Role::Admin, None);
    file.revoke("gone").unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.auth.anonymous = Anonymous::Nothing;
        config.rate.failures_per_minute = 0;
    })
    .await;
    let http2 = Http2::connect(node.address).await;
    for target in TARGETS {
        for wrong in [None, Some("Bearer wrong"), Some(&revoked[..]), Some("Basic eA=="), Some("")] {
            let headers: Vec<_> = wrong.iter().map(|value| ("authorization", *value)).collect();
            for refused in
                [get_with(node.address, target, &headers).await, http2.request("GET", target, &headers).await]
            {
                assert_eq!(
                    (refused.status, &refused.reason()[..]),
                    (401, "UNAUTHENTICATED"),
                    "{target} {wrong:?}"
                );
                assert_eq!(refused.header("www-authenticate"), "Bearer");
                assert_eq!(refused.header("cache-control"), "no-store");
                assert!(!refused.headers.contains_key("surrogate-key"), "{refused:?}");
            }
        }
        for token in &tokens {
            let admitted = get_with(node.address, target, &[("authorization", token)]).await;
            assert!([200, 404, 400].contains(&admitted.status), "{target} {admitted:?}");
            assert!(admitted.header("cache-control").starts_with("private, max-age="), "{admitted:?}");
            let other = http2.request("GET", target, &[("authorization", token)]).await;
            assert_eq!((other.status, other.body), (admitted.status, admitted.body), "{target}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_nothing_that_is_pending_and_a_partner_nothing_outside_its_filter() {
    let dir = tempfile::tempdir().unwrap();
    let file = CredentialFile::new(dir.path().join("credentials.toml"));
    let admin = token(&file, "admin", Role::Admin, None);
    let filter = ArticleFilter::default().tag("sport");
    let partner = token(&file, "partner", Role::Reader, Some(filter));
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await.with_authorization(&admin);
    for (id, tags) in [("match", json!(["tags/sport"])), ("vote", json!(["tags/politics"]))] {
        let article =
            json!({"name": format!("articles/{id}"), "headline": id, "tags": tags, "path": format!("/{id}")});
        raw.call("PutArticle", json!({"article": article})).await.unwrap();
    }
    let pending = json!({"name": "articles/pending", "headline": "p", "embargo": {"note": "until called"}});
    raw.call("PutArticle", json!({"article": pending})).await.unwrap();
    let collection = json!({"name": "collections/front", "title": "F", "articles": ["articles/match"]});
    raw.call("PutCollection", json!({"collection": collection})).await.unwrap();
    let ask =
        async |caller: &str, target: &str| get_with(node.address, target, &[("authorization", caller)]).await;
    for (target, of_admin, of_partner) in [
        ("/v1/articles/match", 200, 200),
        ("/v1/articles/vote", 200, 404),
        ("/v1/articles/pending", 404, 404),
        ("/v1/paths/match", 200, 200),
        ("/v1/paths/vote", 200, 404),
        ("/v1/collections/front", 200, 404),
    ] {
        // Twice: neither receives what was cached for the other.
        for _ in 0..2 {
            assert_eq!(ask(&admin, target).await.status, of_admin, "{target}");
            assert_eq!(ask(&partner, target).await.status, of_partner, "{target}");
        }
    }
    let listed = async |caller: &str| {
        let page = ask(caller, "/v1/articles").await.json();
        page["articles"].as_array().unwrap().len()
    };
    assert_eq!((listed(&admin).await, listed(&partner).await), (2, 1));
    assert!(!ask(&partner, "/v1/articles").await.text().contains("vote"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_http_count_against_the_rates() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.rate.address_calls = 5).await;
    let mut limited = None;
    for _ in 0..100 {
        let response = get(node.address, "/v1/tags").await;
        if response.status != 200 {
            limited = Some(response);
            break;
        }
    }
    let limited = limited.expect("the rate is limited");
    assert_eq!((limited.status, &limited.reason()[..]), (429, "RATE_LIMITED"));
    assert_eq!(limited.header("cache-control"), "no-store");
    assert!(limited.header("retry-after").parse::<u32>().unwrap() >= 1);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(get(node.address, "/v1/tags").await.status, 200);
    node.stop().await;
}
