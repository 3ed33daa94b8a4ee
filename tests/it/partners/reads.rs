//! Compares the responses of both stores to every kind of read of the partner.

use bytes::Bytes;
use serde_json::{Value, json};
use tonic::Code;

use super::{
    COMPARED, Pair, SECOND, START, Store, assert_web_not_hidden, refused_methods,
    steps::{ARTICLES, PATHS, random_names, rfc3339},
};
use crate::{
    dice::Rng,
    leaks::responses::random_parameters,
    raw::{decode, field, request_bytes, values},
    web::syndication,
};

pub(super) async fn by_name(pair: &mut Pair, rng: &mut Rng) {
    let own = (1..=ARTICLES).map(|n| format!("articles/a{n}"));
    let names: Vec<String> =
        own.chain(["articles/hidden-1".to_owned(), "articles/hidden-2".to_owned()]).collect();
    for name in &names {
        let target = format!("/v1/{name}?{}", random_parameters(rng));
        let response = pair.web.expect_equal_twice(&target).await;
        if name.contains("hidden") {
            assert_eq!(response.status, 404, "{target}");
        } else {
            assert_web_not_hidden(&response);
        }
        let mut request = random_selection(rng);
        request["name"] = json!(name);
        if let Ok(response) = read(pair, "GetArticle", request.clone(), rng).await {
            let etag = decode("GetArticleResponse", response[0].clone())["meta"]["etag"].clone();
            request["if_none_match"] = etag;
            read(pair, "GetArticle", request, rng).await.unwrap();
        }
    }
    // Names that are not hidden themselves: each response repeats the name that was requested.
    let mut request = random_selection(rng);
    request["names"] = json!(names[..ARTICLES as usize]);
    read(pair, "BatchGetArticles", request, rng).await.unwrap();
    for path in 1..=PATHS {
        let target = format!("/v1/paths/p{path}?{}", random_parameters(rng));
        assert_web_not_hidden(&pair.web.expect_equal_twice(&target).await);
        let mut request = random_selection(rng);
        request["path"] = json!(format!("/p{path}"));
        let _ = read(pair, "ResolvePath", request, rng).await;
    }
}

/// Compares the responses to every other call that a partner can make.
pub(super) async fn compare(pair: &mut Pair, rng: &mut Rng) {
    for _ in 0..6 {
        let filter = random_filter(rng);
        for order in 1..=2 {
            let mut request = random_selection(rng);
            (request["filter"], request["order"]) = (filter.clone(), json!(order));
            read(pair, "StreamArticles", request.clone(), rng).await.unwrap();
            request["page_size"] = json!(rng.between(1, 4));
            pages(pair, "ListArticles", request, (3, 4)).await;
        }
    }
    for filter in ["", "tag=t1&", "tag=t1,t2&", "any_tag=t2,t3&", "section=s1&", "author=x1,x2&"] {
        let page_size = rng.between(1, 4);
        let target = format!("/v1/articles?{filter}page_size={page_size}&{}", random_parameters(rng));
        pair.web.expect_equal_pages(&target).await.iter().for_each(assert_web_not_hidden);
    }
    for kind in ["tags", "sections", "authors", "collections"] {
        let target = format!("/v1/{kind}?page_size={}", rng.between(1, 3));
        pair.web.expect_equal_pages(&target).await.iter().for_each(assert_web_not_hidden);
    }
    for target in ["tags/t1", "sections/s1", "authors/x1", "collections/c1", "tags/none"] {
        assert_web_not_hidden(&pair.web.expect_equal_twice(&format!("/v1/{target}")).await);
    }
    for target in syndication::TARGETS {
        assert_web_not_hidden(&pair.web.expect_equal_twice(target).await);
    }
    for target in syndication::months(&pair.web).await {
        assert_web_not_hidden(&pair.web.expect_equal_twice(&target).await);
    }
    for n in 1..=4 {
        for (method, name) in [
            ("GetTag", "tags/t"),
            ("GetSection", "sections/s"),
            ("GetAuthor", "authors/x"),
            ("GetCollection", "collections/c"),
        ] {
            let _ = read(pair, method, json!({"name": format!("{name}{n}")}), rng).await;
        }
    }
    for method in ["ListTags", "ListSections", "ListAuthors", "ListCollections"] {
        pages(pair, method, json!({"page_size": rng.between(1, 3)}), (2, 2)).await;
    }
    let status = async |raw: &crate::raw::Raw| {
        let mut status = raw.call("GetStatus", json!({})).await.unwrap();
        status["head"]["chain"] = json!(null);
        status
    };
    pair.compared.insert("GetStatus".to_owned());
    assert_eq!(status(&pair.all.partner).await, status(&pair.matching.partner).await);
    consumers(pair).await;
}

/// Compares the consumers of the partner, which lag, and moves or deletes one. The consumer of the other caller lags
/// too, and must not be listed.
async fn consumers(pair: &mut Pair) {
    let of_store = async |store: &Store| {
        let call = async |raw: &crate::raw::Raw, method: &str, request: Value| {
            let mut response =
                raw.call(method, request).await.map_err(|refused| (refused.code, refused.reason));
            for consumer in
                response.iter_mut().flat_map(|response| response["consumers"].as_array_mut()).flatten()
            {
                consumer["position"]["chain"] = json!(null);
            }
            if let Ok(response) = &mut response {
                response["position"]["chain"] = json!(null);
            }
            response
        };
        let head = store.admin.call("GetStatus", json!({})).await.unwrap()["head"].clone();
        let at_head = json!({"consumer": "index", "position": head});
        let (partner, admin) = (&store.partner, &store.admin);
        let mut responses = vec![call(partner, "ListConsumers", json!({})).await];
        responses.push(call(partner, "AcknowledgePosition", at_head.clone()).await);
        call(admin, "AcknowledgePosition", at_head).await.unwrap();
        responses.push(call(partner, "DeleteConsumer", json!({"consumer": "none"})).await);
        responses.push(call(partner, "ListConsumers", json!({})).await);
        responses
    };
    let responses = of_store(&pair.all).await;
    assert_eq!(responses, of_store(&pair.matching).await);
    let listed = &responses.last().unwrap().as_ref().unwrap()["consumers"];
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{responses:?}");
    let methods = ["AcknowledgePosition", "ListConsumers", "DeleteConsumer"];
    pair.compared.extend(methods.map(str::to_owned));
}

/// Sends a request of the partner to both stores. At random, the caller that may see everything sends it before, so that
/// its response is cached, and again after: neither receives the response of the other.
async fn read(pair: &mut Pair, method: &str, request: Value, rng: &mut Rng) -> Result<Vec<Bytes>, String> {
    let bytes = request_bytes(method, request.clone());
    let before = match rng.one_in(2) {
        true => Some(pair.all.admin.send_bytes(method, bytes.clone()).await),
        false => None,
    };
    let response = pair.expect_equal_json(method, request).await;
    if let Some(before) = before {
        assert_eq!(pair.all.admin.send_bytes(method, bytes.clone()).await, before);
        // Now both are cached.
        assert_eq!(pair.expect_equal(method, bytes).await, response);
    }
    response
}

/// Compares all pages of a listing. The last argument has the field numbers of the page token in the response and in
/// the request.
async fn pages(pair: &mut Pair, method: &str, request: Value, (response_field, request_field): (u32, u32)) {
    let start = request_bytes(method, request);
    let mut request = start.to_vec();
    loop {
        let page = pair.expect_equal(method, request.into()).await.unwrap();
        match values(&page[0], response_field).first() {
            Some(token) => {
                let decoded = String::from_utf8_lossy(token).into_owned();
                assert!(!decoded.contains("hidden"), "{decoded}");
                request = [&start[..], &field(request_field, token)].concat();
            }
            None => return,
        }
    }
}

/// Checks that each method is either compared or refused to a partner.
pub(super) async fn every_method(pair: &mut Pair, has_feeds: bool) {
    let compared = COMPARED.iter().filter(|method| **method != "Watch" || has_feeds);
    for method in compared {
        assert!(pair.compared.contains(*method), "{method} was not compared");
    }
    for method in refused_methods() {
        let refused = pair.all.partner.send(&method, Bytes::new()).await.unwrap_err();
        let reason = if method == "Export" { "CREDENTIAL_LIMITED" } else { "ROLE_REQUIRED" };
        assert_eq!((refused.code, &refused.reason[..]), (Code::PermissionDenied, reason), "{method}");
    }
    if !has_feeds {
        let refused = pair.all.partner.send("Watch", Bytes::new()).await.unwrap_err();
        assert_eq!((refused.code, &refused.reason[..]), (Code::PermissionDenied, "CREDENTIAL_LIMITED"));
    }
}

/// Returns a random view, body format and set of includes, as fields of a request.
pub(super) fn random_selection(rng: &mut Rng) -> Value {
    let includes: Vec<u64> = (1..=3).filter(|_| rng.one_in(2)).collect();
    let view = rng.between(0, 3);
    let format = if view == 3 { rng.between(0, 4) } else { 0 };
    json!({"view": view, "body_format": format, "includes": includes})
}

fn random_filter(rng: &mut Rng) -> Value {
    match rng.between(0, 9) {
        0 => json!({"all_tags": random_names(rng, "tags/t", 2, 3)}),
        1 => json!({"any_tags": random_names(rng, "tags/t", 3, 3)}),
        2 => json!({"excluded_tags": random_names(rng, "tags/t", 2, 3)}),
        3 => json!({"section": "sections/s2"}),
        4 => json!({"section": "sections/s2", "include_child_sections": true}),
        5 => json!({"authors": ["authors/x1", "authors/x2"]}),
        6 => json!({"types": [rng.between(1, 3)]}),
        7 => json!({"language": "en-gb"}),
        8 => {
            json!({"published_after": rfc3339(START - 5 * SECOND), "any_tags": ["tags/hidden-tag", "tags/t2"]})
        }
        _ => json!({}),
    }
}
