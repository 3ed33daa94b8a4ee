//! Errors: the status and the body of each, and what pages of other origins may do.

use serde_json::json;

use super::client::{Http2, get, get_with, request};
use crate::{raw::Raw, support::Node};

async fn put(raw: &Raw, id: &str) {
    let article = json!({"name": format!("articles/{id}"), "headline": id, "path": format!("/{id}")});
    raw.call("PutArticle", json!({"article": article})).await.unwrap();
}

async fn remove(raw: &Raw, id: &str, fields: serde_json::Value) {
    let mut request = fields;
    request["name"] = json!(format!("articles/{id}"));
    raw.call("RemoveArticle", request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_article_redirects_or_is_gone_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    put(&raw, "new").await;
    put(&raw, "old").await;
    remove(&raw, "old", json!({"reason": "REMOVAL_REASON_MOVED", "moved_to": "articles/new"})).await;
    for (target, location) in [
        ("/v1/articles/old", "/v1/articles/new"),
        ("/v1/articles/old?view=basic&include=tags", "/v1/articles/new?view=basic&include=tags"),
        ("/v1/paths/old", "/v1/articles/new"),
    ] {
        let moved = get(node.address, target).await;
        assert_eq!((moved.status, moved.header("location")), (308, location), "{target}");
        assert_eq!((moved.reason(), moved.json()["code"].as_i64()), ("ARTICLE_MOVED".to_owned(), Some(5)));
        assert!(moved.header("cache-control").starts_with("public, max-age="));
    }
    for reason in ["DELETED", "WITHDRAWN", "KILLED"] {
        let id = reason.to_lowercase();
        put(&raw, &id).await;
        remove(&raw, &id, json!({"reason": format!("REMOVAL_REASON_{reason}")})).await;
        let gone = get(node.address, &format!("/v1/articles/{id}")).await;
        assert_eq!((gone.status, &gone.reason()[..]), (410, "ARTICLE_GONE"), "{reason}");
        assert_eq!(gone.json()["details"][0]["metadata"]["reason"], reason);
        assert_eq!(gone.header("surrogate-key"), format!("article:{id}"));
        assert!(!gone.headers.contains_key("location"));
    }
    raw.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await.unwrap();
    raw.call("RemoveTag", json!({"name": "tags/t", "reason": "REMOVAL_REASON_DELETED"})).await.unwrap();
    assert_eq!(get(node.address, "/v1/tags/t").await.status, 410);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_the_status_of_the_call_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let http2 = Http2::connect(node.address).await;
    let unknown = get(node.address, "/v1/articles/none").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(
        unknown.json(),
        json!({
            "code": 5,
            "message": "articles/none: not found",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "ARTICLE_NOT_FOUND", "domain": "cable.v1"},
                {
                    "@type": "type.googleapis.com/google.rpc.ResourceInfo",
                    "resourceType": "article",
                    "resourceName": "articles/none",
                    "description": "articles/none: not found",
                },
            ],
        })
    );
    for (target, field) in [
        ("/v1/articles?colour=red", "colour"),
        ("/v1/articles?tag=a&tag=b", "tag"),
        ("/v1/articles?tag=a%20b", "tag"),
        ("/v1/articles?any_tag=/", "any_tag"),
        ("/v1/articles?author=tags/x", "author"),
        ("/v1/articles?section=%20", "section"),
        ("/v1/articles?include=tags,tags", "include"),
        ("/v1/articles?body=html", "body"),
        ("/v1/articles?page_size=x", "page_size"),
        ("/v1/articles?page_token=x", "page_token"),
        ("/v1/articles/a%20b", "name"),
        ("/v1/tags/a?view=full", "view"),
        ("/v1/paths/a/../b", "path"),
        ("/v1/articles/a?at_least_revision=-1", "at_least_revision"),
    ] {
        let refused = get(node.address, target).await;
        assert_eq!(refused.status, 400, "{target} {}", refused.text());
        assert!(!refused.headers.contains_key("surrogate-key"), "{refused:?}");
        let body = refused.json();
        let violation = &body["details"][1]["fieldViolations"][0];
        assert!(violation["field"].as_str().unwrap().starts_with(field), "{target} {body}");
        assert!(!violation["description"].as_str().unwrap().is_empty());
        assert_eq!(http2.request("GET", target, &[]).await.body, refused.body, "{target}");
        let head = request(node.address, "HEAD", target, &[]).await;
        assert_eq!((head.status, head.body.len()), (400, 0));
    }
    let many: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
    let refused = get(node.address, &format!("/v1/articles?tag={}", many.join(","))).await;
    assert_eq!((refused.status, &refused.reason()[..]), (400, "LIMIT_EXCEEDED"));
    let named = get_with(node.address, "/v1/articles/none", &[("x-request-id", "r-1")]).await;
    assert_eq!((named.header("x-request-id"), &named.body), ("r-1", &unknown.body));
    assert!(!unknown.headers.contains_key("x-request-id"), "a cached response is not that of one call");
    node.stop().await;
}

/// The key of a cache is the address. An error that another part of the request causes must not be found under it.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_a_header_causes_is_not_cached() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let http2 = Http2::connect(node.address).await;
    for target in ["/v1/articles", "/v1/tags/none", "/v1/paths/none", "/feeds/all.rss", "/sitemap.xml"] {
        for headers in [
            &[("cable-at-least", "x")][..],
            &[("cable-at-least", "-1")],
            &[("cable-at-least", "")],
            &[("cable-at-least", "0"), ("cable-at-least", "0")],
        ] {
            for refused in
                [get_with(node.address, target, headers).await, http2.request("GET", target, headers).await]
            {
                assert_eq!((refused.status, refused.header("cache-control")), (400, "no-store"), "{target}");
                assert_eq!(refused.json()["details"][1]["fieldViolations"][0]["field"], "cable-at-least");
            }
        }
        let lasting = get(node.address, &format!("{target}?at_least_revision=x")).await;
        assert_eq!(lasting.status, 400, "{target}");
        assert!(lasting.header("cache-control").starts_with("public, max-age="), "{target}");
        let fresh = get_with(node.address, target, &[("cable-at-least", "0")]).await;
        assert!(fresh.header("cache-control").starts_with("public, max-age="), "{target}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_has_the_headers_of_errors() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    put(&raw, "new").await;
    for (id, fields) in [
        ("old", json!({"reason": "REMOVAL_REASON_MOVED", "moved_to": "articles/new"})),
        ("gone", json!({"reason": "REMOVAL_REASON_DELETED"})),
    ] {
        put(&raw, id).await;
        remove(&raw, id, fields).await;
    }
    let description = get(node.address, "/v1/openapi.json").await.json();
    let described = |template: &str, status: u16| -> Vec<String> {
        let response = &description["paths"][template]["get"]["responses"][status.to_string()];
        let shared =
            response["$ref"].as_str().and_then(|target| description.pointer(target.trim_start_matches('#')));
        let response = shared.unwrap_or(response);
        let headers = response["headers"].as_object().unwrap_or_else(|| panic!("{template} {status}"));
        headers.keys().map(|name| name.to_lowercase()).collect()
    };
    let bad_token = [("authorization", "Bearer x")];
    for (template, target, headers, status) in [
        ("/v1/articles/{id}", "/v1/articles/old", &[][..], 308),
        ("/v1/articles/{id}", "/v1/articles/gone", &[], 410),
        ("/v1/articles/{id}", "/v1/articles/none", &[], 404),
        ("/v1/articles/{id}", "/v1/articles/none?x=1", &[], 400),
        ("/v1/articles/{id}", "/v1/articles/none", &bad_token, 401),
        ("/v1/articles/{id}", "/v1/articles/none?at_least_revision=99", &[], 503),
        ("/feeds/tag/{id}.rss", "/feeds/tag/none.rss", &[], 404),
        ("/v1/articles", "/v1/articles", &[("host", "evil.example")], 421),
        ("/v1/articles", "/v1/articles", &[("origin", "http://evil.example")], 403),
        ("/v1/articles/{id}", "/v1/articles/new", &[("if-match", "\"x\"")], 412),
        ("/v1/openapi.json", "/v1/openapi.json?x=1", &[], 400),
        ("/v1/openapi.json", "/v1/openapi.json", &[("if-match", "\"x\"")], 412),
        ("/v1/openapi.json", "/v1/openapi.json", &[("origin", "null")], 403),
        ("/v1/feed", "/v1/feed", &[("host", "evil.example")], 421),
        ("/v1/feed", "/v1/feed?x=1", &[], 400),
        ("/v1/feed", "/v1/feed?after=99", &[], 503),
        ("/v1/feed", "/v1/feed", &bad_token, 401),
    ] {
        let error = get_with(node.address, target, headers).await;
        assert_eq!(error.status, status, "{target}");
        assert!(!error.reason().is_empty() && error.json()["message"].is_string(), "{target}");
        let described = described(template, status);
        // Headers that every HTTP response may have are not described, and `x-request-id` is the caller's own.
        let common =
            ["content-type", "content-length", "vary", "x-content-type-options", "x-request-id", "date"];
        let own: Vec<_> = error.headers.keys().filter(|name| !common.contains(&&name[..])).collect();
        assert!(own.contains(&&"cache-control".to_owned()), "{target}: {own:?}");
        assert!(own.iter().all(|name| described.contains(name)), "{target}: {own:?} of {described:?}");
    }
    node.stop().await;
}

/// RFC 9110, 13.1.1: the comparison is strong, and comes before that of `if-none-match`.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_may_require_an_etag() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    put(&raw, "a").await;
    for target in ["/v1/articles/a", "/v1/articles", "/v1/openapi.json"] {
        let etag = get(node.address, target).await.header("etag").to_owned();
        let (weak, both) = (format!("W/{etag}"), format!("\"x\", {etag}"));
        for (value, status) in [(&etag[..], 200), ("*", 200), (&both, 200), ("\"x\"", 412), (&weak, 412)] {
            for method in ["GET", "HEAD"] {
                let read = request(node.address, method, target, &[("if-match", value)]).await;
                assert_eq!(read.status, status, "{method} {target} {value}");
                if status == 412 && method == "GET" {
                    assert_eq!(
                        (&read.reason()[..], read.header("cache-control")),
                        ("FIELD_INVALID", "no-store")
                    );
                    assert!(read.json()["message"].as_str().unwrap().contains(&etag), "{}", read.text());
                }
            }
        }
        let two = [("if-match", "\"x\""), ("if-none-match", &etag[..])];
        assert_eq!(get_with(node.address, target, &two).await.status, 412, "{target}");
        let two = [("if-match", &etag[..]), ("if-none-match", &etag)];
        assert_eq!(get_with(node.address, target, &two).await.status, 304, "{target}");
    }
    let absent = get_with(node.address, "/v1/articles/none", &[("if-match", "\"x\"")]).await;
    assert_eq!(absent.status, 404, "a condition applies only to a response without an error");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_of_one_segment_is_found_with_more_escapes_than_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let at = async |id: &str, path: &str| {
        let article = json!({"name": format!("articles/{id}"), "headline": id, "path": path});
        raw.call("PutArticle", json!({"article": article})).await.unwrap();
    };
    at("live", "/storm:live").await;
    let target = "/v1/paths/storm%3Alive";
    for _ in 0..2 {
        let found = get(node.address, target).await;
        assert_eq!((found.status, &found.json()["article"]["name"]), (200, &json!("articles/live")));
        assert_eq!(found.header("surrogate-key"), "article:live path:/storm%3Alive path:/storm:live");
        let plain = get(node.address, "/v1/paths/storm:live").await;
        assert_eq!((plain.status, plain.header("surrogate-key")), (200, "article:live path:/storm:live"));
    }
    at("escaped", "/storm%3Alive").await;
    assert_eq!(get(node.address, target).await.json()["article"]["name"], "articles/escaped", "as written");
    let unknown = get(node.address, "/v1/paths/none%3A").await;
    assert_eq!((unknown.status, unknown.header("surrogate-key")), (404, "path:/none%3A path:/none:"));
    at("umlaut", "/st\u{f6}rm").await;
    for target in ["/v1/paths/st%C3%B6rm", "/v1/paths/sto%CC%88rm"] {
        let found = get(node.address, target).await;
        assert_eq!((found.status, found.header("surrogate-key")), (200, "article:umlaut path:/st%C3%B6rm"));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_resource_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let http2 = Http2::connect(node.address).await;
    for target in ["/v1", "/v1/", "/v1/pages", "/v1/articles/a/b"] {
        let unknown = get(node.address, target).await;
        assert_eq!(unknown.status, 404, "{target}");
        assert!(unknown.json()["message"].as_str().unwrap().contains("articles"), "{target}");
        assert_eq!(unknown.reason(), "FIELD_INVALID", "{target}");
        assert_eq!(unknown.json()["details"][1]["fieldViolations"][0]["field"], "request target");
    }
    for target in ["/favicon.ico", "/index.html", "/room.jsx"] {
        let text = get(node.address, target).await;
        assert_eq!(
            (text.status, text.header("content-type")),
            (404, "text/plain; charset=utf-8"),
            "{target}"
        );
        assert!(text.text().contains("/v1/articles") && text.text().lines().count() == 1, "{}", text.text());
        assert_eq!(text.header("cache-control"), "no-cache", "another version may have a file there");
        let head = request(node.address, "HEAD", target, &[]).await;
        assert_eq!((head.status, head.body.len()), (404, 0));
    }
    for (target, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/room.js", "text/javascript; charset=utf-8"),
        ("/room.css", "text/css; charset=utf-8"),
    ] {
        let page = get(node.address, target).await;
        assert_eq!((page.status, page.header("content-type")), (200, content_type));
        assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
        let current = get_with(node.address, target, &[("if-none-match", page.header("etag"))]).await;
        assert_eq!((current.status, current.body.len()), (304, 0), "{target}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        for target in ["/v1/articles", "/v1/articles/a", "/v1/nothing", "/v1/openapi.json", "/", "/room.js"] {
            let refused = request(node.address, method, target, &[]).await;
            assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"), "{method} {target}");
            assert_eq!(refused.header("cache-control"), "no-store", "{method} {target}");
            assert_eq!(refused.json()["code"], 12, "{method} {target}");
            assert_eq!(refused.json()["details"][1]["fieldViolations"][0]["field"], "method");
        }
        let refused = http2.request(method, "/v1/articles", &[]).await;
        assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"), "{method}");
    }
    let method = get(node.address, "/cable.v1.ContentService/GetTag").await;
    assert_eq!((method.status, method.header("allow")), (405, "POST"));
    assert_eq!(method.header("cache-control"), "no-store");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_removes_the_web_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.web.enabled = false).await;
    for target in ["/", "/v1/articles", "/v1/articles/a", "/v1/openapi.json"] {
        let refused = get(node.address, target).await;
        assert_eq!((refused.status, refused.header("allow")), (405, "POST"), "{target}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_origin_may_read_if_the_operator_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let desk = "https://desk.example";
    let node = Node::start_with(dir.path(), |config| {
        config.web.origins = vec!["*".to_owned(), desk.to_owned()];
    })
    .await;
    let evil = [("origin", "https://evil.example")];
    for (target, status) in [("/v1/tags", 200), ("/v1/articles/none", 404), ("/", 200)] {
        let read = get_with(node.address, target, &evil).await;
        assert_eq!((read.status, read.header("access-control-allow-origin")), (status, "*"), "{target}");
        assert!(read.header("access-control-expose-headers").contains("etag"));
        assert!(read.header("vary").contains("origin"));
        let shared = get(node.address, target).await;
        assert_eq!(shared.header("access-control-allow-origin"), "*", "a cache may pass it on to any page");
        let read = get_with(node.address, target, &[("origin", desk)]).await;
        assert_eq!(read.header("access-control-allow-origin"), desk);
    }
    let web = ("content-type", "application/grpc-web+proto");
    for (method, status) in [
        ("cable.v1.ContentService/ListTags", 200),
        ("cable.v1.FeedService/Watch", 200),
        ("cable.v1.PublishingService/PutTag", 403),
        ("cable.v1.PublishingService/ListPending", 403),
        ("cable.v1.AdminService/Backup", 403),
    ] {
        let called = request(node.address, "POST", &format!("/{method}"), &[evil[0], web]).await;
        assert_eq!(called.status, status, "{method}");
    }
    let preflight = ("access-control-request-method", "GET");
    let allowed = request(node.address, "OPTIONS", "/v1/tags", &[evil[0], preflight]).await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-methods")), (204, "GET, HEAD, POST"));
    let rebound = get_with(node.address, "/v1/tags", &[("host", "evil.example"), evil[0]]).await;
    assert_eq!((rebound.status, rebound.header("cache-control")), (421, "no-store"));
    node.stop().await;

    let node = Node::start(dir.path()).await;
    let refused = get_with(node.address, "/v1/tags", &evil).await;
    assert_eq!((refused.status, refused.header("cache-control")), (403, "no-store"));
    let own = get(node.address, "/v1/tags").await;
    assert!(own.headers.keys().all(|name| !name.starts_with("access-control")), "{own:?}");
    node.stop().await;
}
