//! Compares the responses of the two stores to every kind of read, to exports and to GetStatus.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    ARTICLES, PATHS, Pair, START, UNRELATED, feeds, head,
    steps::{own_path, random_names, rfc3339},
    web_feeds,
};
use crate::{
    dice::Rng,
    raw::{Raw, decode, field, request_bytes, values},
    web::syndication,
};

/// Compares the responses to every call that a reader can make.
pub(super) async fn compare(pair: &mut Pair, rng: &mut Rng) {
    by_name(pair, rng).await;
    web_listings(pair, rng).await;
    listings(pair, rng).await;
    other_entities(pair, rng).await;
    transfers(pair, rng).await;
    status(pair).await;
    // A feed that starts now must not receive earlier changes. This waits until both stores have delivered them.
    pair.compare_live_feeds().await;
    feeds::compare(pair, rng).await;
    web_feeds::compare(pair, rng).await;
}

pub(super) async fn by_name(pair: &Pair, rng: &mut Rng) {
    let names: Vec<String> = (1..=ARTICLES).map(|n| format!("articles/a{n}")).collect();
    for name in &names {
        pair.web.expect_equal_twice(&format!("/v1/{name}?{}", random_parameters(rng))).await;
        let mut request = random_selection(rng);
        request["name"] = json!(name);
        if let Ok(response) = expect_equal_json(pair, "GetArticle", request.clone()).await {
            let etag = decode("GetArticleResponse", response[0].clone())["meta"]["etag"].clone();
            request["if_none_match"] = etag;
            expect_equal_json(pair, "GetArticle", request).await.unwrap();
        }
    }
    let mut request = random_selection(rng);
    request["names"] = json!(names);
    expect_equal_json(pair, "BatchGetArticles", request).await.unwrap();
    let own = names.iter().map(|name| own_path(name));
    for path in (1..=PATHS).map(|path| format!("/p{path}")).chain(own) {
        pair.web.expect_equal_twice(&format!("/v1/paths{path}?{}", random_parameters(rng))).await;
        let mut request = random_selection(rng);
        request["path"] = json!(path);
        let _ = expect_equal_json(pair, "ResolvePath", request).await;
    }
}

/// Compares listings and other entities over HTTP.
async fn web_listings(pair: &Pair, rng: &mut Rng) {
    for filter in
        ["", "tag=t1&", "tag=t1,t2&", "any_tag=t2,waiting,never&", "section=s1&", "author=x1,never&"]
    {
        let page_size = rng.between(1, 9);
        let target = format!("/v1/articles?{filter}page_size={page_size}&{}", random_parameters(rng));
        pair.web.expect_equal_pages(&target).await;
    }
    for kind in ["tags", "sections", "collections"] {
        pair.web.expect_equal_pages(&format!("/v1/{kind}?page_size={}", rng.between(1, 3))).await;
        for n in 1..=4 {
            let id = format!("{}{n}", &kind[..1]);
            pair.web.expect_equal_twice(&format!("/v1/{kind}/{id}")).await;
        }
    }
    for target in syndication::TARGETS {
        pair.web.expect_equal_twice(target).await;
    }
    for target in syndication::months(&pair.web).await {
        pair.web.expect_equal_twice(&target).await;
    }
    for target in
        ["/v1/tags/waiting", "/v1/tags/never", "/v1/articles/unknown", "/v1/articles?x=1", "/v1/x", "/"]
    {
        pair.web.expect_equal_twice(target).await;
    }
}

/// Returns a random view, body format and set of includes, as parameters.
pub(crate) fn random_parameters(rng: &mut Rng) -> String {
    let includes: Vec<&str> = ["authors", "sections", "tags"].into_iter().filter(|_| rng.one_in(2)).collect();
    let include = format!("include={}", includes.join(","));
    match rng.between(0, 4) {
        0 => include,
        1 => format!("view=reference&{include}"),
        2 => format!("view=basic&{include}"),
        3 => format!("view=full&{include}"),
        _ => format!("view=full&body=html&{include}"),
    }
}

async fn listings(pair: &Pair, rng: &mut Rng) {
    for _ in 0..6 {
        let filter = random_filter(rng);
        for order in 1..=2 {
            let mut request = random_selection(rng);
            (request["filter"], request["order"]) = (filter.clone(), json!(order));
            expect_equal_json(pair, "StreamArticles", request.clone()).await.unwrap();
            request["page_size"] = json!(rng.between(1, 9));
            pages(pair, "ListArticles", request, (3, 4)).await;
        }
    }
}

async fn other_entities(pair: &Pair, rng: &mut Rng) {
    for n in 1..=4 {
        for (method, name) in [("GetTag", "tags/t"), ("GetSection", "sections/s"), ("GetAuthor", "authors/x")]
        {
            let _ = expect_equal_json(pair, method, json!({"name": format!("{name}{n}")})).await;
        }
        let mut request = random_selection(rng);
        request["name"] = json!(format!("collections/c{n}"));
        let _ = expect_equal_json(pair, "GetCollection", request).await;
    }
    for method in ["ListTags", "ListSections", "ListCollections"] {
        pages(pair, method, json!({"page_size": rng.between(1, 3)}), (2, 2)).await;
    }
    // ListAuthors is the only listing with the unrelated author. Only the other authors are compared, because the
    // unrelated one also changes the etag of the response.
    let other_authors = async |raw: &Raw| {
        let response = raw.bytes("ListAuthors", Bytes::new()).await;
        let others = values(&response, 1).into_iter().filter(|author| !names_unrelated(author));
        others.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert_eq!(other_authors(&pair.holding).await, other_authors(&pair.plain).await);
}

async fn transfers(pair: &Pair, rng: &mut Rng) {
    let head = head(&pair.holding).await;
    for after in [0, rng.between(0, head as u64) as i64, head] {
        assert_eq!(exported(&pair.holding, after).await, exported(&pair.plain, after).await, "after {after}");
    }
}

pub(super) async fn status(pair: &Pair) {
    let read_status = async |raw: &Raw| {
        let mut status = raw.call("GetStatus", json!({})).await.unwrap();
        status["head"]["chain"] = json!(null);
        for key in ["log_digest", "content_digest", "store_bytes", "cache_bytes", "check_time", "free_bytes"]
        {
            status[key] = json!(null);
        }
        status
    };
    assert_eq!(read_status(&pair.holding).await, read_status(&pair.plain).await);
}

/// Compares all pages of a listing. The last argument has the field numbers of the page token in the response and in
/// the request.
async fn pages(pair: &Pair, method: &str, request: Value, (response_field, request_field): (u32, u32)) {
    let start = request_bytes(method, request);
    let mut request = start.to_vec();
    loop {
        let page = expect_equal(pair, method, request.into()).await.unwrap();
        match values(&page[0], response_field).first() {
            Some(token) => request = [&start[..], &field(request_field, token)].concat(),
            None => return,
        }
    }
}

/// Returns the records of an export without those of the unrelated author, their count as the export reports it, and
/// the revision of its position.
async fn exported(raw: &Raw, after: i64) -> (Vec<Vec<u8>>, i64, Value) {
    let messages =
        raw.send_bytes("Export", request_bytes("Export", json!({"after_revision": after}))).await.unwrap();
    let records = messages.iter().flat_map(|message| values(message, 1)).map(<[u8]>::to_vec);
    let (unrelated, records): (Vec<_>, Vec<_>) = records.partition(|record| names_unrelated(record));
    let end = decode("ExportResponse", messages.last().unwrap().clone())["end"].clone();
    let count = end["count"].as_i64().unwrap_or(0) - unrelated.len() as i64;
    (records, count, end["position"]["revision"].clone())
}

/// Sends a request to both stores. Panics unless both return the same messages or the same error.
async fn expect_equal(pair: &Pair, method: &str, request: Bytes) -> Result<Vec<Bytes>, String> {
    let holding = pair.holding.send_bytes(method, request.clone()).await;
    let plain = pair.plain.send_bytes(method, request.clone()).await;
    if holding != plain {
        let read = |result: &Result<Vec<Bytes>, String>| match result {
            Ok(responses) => responses.iter().map(|one| response_json(method, one).to_string()).collect(),
            Err(error) => vec![error.clone()],
        };
        let request = decode(&format!("{method}Request"), request);
        panic!("responses to {method} {request} differ:\n{:#?}\n{:#?}", read(&holding), read(&plain));
    }
    holding
}

async fn expect_equal_json(pair: &Pair, method: &str, request: Value) -> Result<Vec<Bytes>, String> {
    expect_equal(pair, method, request_bytes(method, request)).await
}

fn response_json(method: &str, response: &Bytes) -> Value {
    decode(&format!("{method}Response"), response.clone())
}

/// Returns a random view, body format and set of includes, as fields of a request.
fn random_selection(rng: &mut Rng) -> Value {
    let includes: Vec<u64> = (1..=3).filter(|_| rng.one_in(2)).collect();
    let view = rng.between(0, 3);
    let format = if view == 3 { rng.between(0, 4) } else { 0 };
    json!({"view": view, "body_format": format, "includes": includes})
}

fn random_filter(rng: &mut Rng) -> Value {
    match rng.between(0, 9) {
        0 => json!({"all_tags": random_names(rng, "tags/t", 2, 4)}),
        1 => json!({"any_tags": random_names(rng, "tags/t", 3, 4)}),
        2 => json!({"excluded_tags": random_names(rng, "tags/t", 2, 4)}),
        3 => json!({"section": "sections/s2"}),
        4 => json!({"section": "sections/s1", "include_child_sections": true}),
        5 => json!({"authors": ["authors/x1", "authors/x2"]}),
        6 => json!({"types": [rng.between(1, 3)]}),
        7 => json!({"language": "en-gb"}),
        8 => json!({"published_after": rfc3339(START), "types": [1, 2]}),
        _ => json!({}),
    }
}

pub(super) fn names_unrelated(bytes: &[u8]) -> bool {
    bytes.windows(UNRELATED.len()).any(|window| window == UNRELATED.as_bytes())
}
