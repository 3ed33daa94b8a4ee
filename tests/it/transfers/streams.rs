//! Imports and puts whose requests arrive in pieces, or end early.

use bytes::Bytes;
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::Store;
use crate::{
    connections::speaker::{Http2Client, framed},
    raw::{decode, encode, request_bytes},
};

const IMPORT: &str = "/cable.v1.TransferService/Import";
const PUT: &str = "/cable.v1.PublishingService/PutArticle";
const WINDOW: u32 = 1 << 20;

/// Sends the pieces of an import's body, each in a frame of its own. Returns the acknowledgements and the status.
async fn send(client: &Http2Client, pieces: &[&[u8]]) -> (Vec<Value>, Status) {
    let (responses, status) = send_to(client, IMPORT, &[], pieces).await;
    (messages(&responses, "ImportResponse"), status)
}

async fn send_to(
    client: &Http2Client,
    path: &str,
    headers: &[(&str, &str)],
    pieces: &[&[u8]],
) -> (Bytes, Status) {
    let mut call = client.start_call(path, headers).await;
    let (last, before) = pieces.split_last().unwrap();
    for piece in before {
        call.request.send_data(Bytes::copy_from_slice(piece), false).unwrap();
    }
    call.request.send_data(Bytes::copy_from_slice(last), true).unwrap();
    call.response().await.finish().await
}

/// Returns the messages of a response.
fn messages(mut response: &[u8], kind: &str) -> Vec<Value> {
    let mut all = Vec::new();
    while let Some((prefix, rest)) = response.split_first_chunk::<5>() {
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
        all.push(decode(kind, Bytes::copy_from_slice(&rest[..length])));
        response = &rest[length..];
    }
    all
}

/// Returns a chunk with an article and a tag, both named with the same number of four digits.
fn chunk(number: usize, headline: usize) -> Bytes {
    let article = json!({"name": "articles/a", "headline": format!("{headline:04}"), "path": "/a"});
    let tag = json!({"name": "tags/t", "display_name": format!("{headline:04}")});
    let chunk = json!({"chunk": number, "source": "s", "records": [{"article": article}, {"tag": tag}]});
    framed(&encode("ImportRequest", chunk))
}

fn outcomes(response: &Value) -> Vec<&str> {
    let results = response["results"].as_array().unwrap();
    results.iter().map(|result| result["outcome"].as_str().unwrap()).collect()
}

const WRITTEN: [&str; 2] = ["IMPORT_OUTCOME_WRITTEN"; 2];

#[tokio::test]
async fn an_import_gives_the_same_result_however_it_is_cut() {
    let store = Store::open(0).await;
    let client = Http2Client::connect(store.server.address, WINDOW).await;
    let length = chunk(1, 0).len() + chunk(2, 1).len();
    for cut in 0..=length {
        let body = [chunk(1, 2 * cut), chunk(2, 2 * cut + 1)].concat();
        assert_eq!(body.len(), length);
        let (responses, status) = send(&client, &[&body[..cut], &body[cut..]]).await;
        assert_eq!(status.code(), Code::Ok, "{cut}: {status:?}");
        assert_eq!(responses.iter().map(|one| &one["chunk"]).collect::<Vec<_>>(), [1, 2], "{cut}");
        assert!(responses.iter().all(|one| outcomes(one) == WRITTEN), "{cut}: {responses:?}");
        let article = store.call("GetArticle", json!({"name": "articles/a"})).await["article"].clone();
        assert_eq!(article["headline"], format!("{:04}", 2 * cut + 1));
        assert_eq!(article["path"], "/a");
    }
    // One frame for each byte.
    let body = [chunk(1, 9_998), chunk(2, 9_999)].concat();
    let pieces: Vec<&[u8]> = body.chunks(1).collect();
    let (responses, status) = send(&client, &pieces).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    assert!(responses.len() == 2 && responses.iter().all(|one| outcomes(one) == WRITTEN), "{responses:?}");
    store.close().await;
}

/// The chunk before the cut is written and acknowledged. Nothing of the truncated chunk is.
#[tokio::test]
async fn an_import_that_ends_within_a_chunk_is_refused() {
    let store = Store::open(0).await;
    let client = Http2Client::connect(store.server.address, WINDOW).await;
    let length = chunk(2, 0).len();
    for cut in 0..=length {
        let (first, second) = (chunk(1, 2 * cut), chunk(2, 2 * cut + 1));
        let (responses, status) = send(&client, &[&first[..], &second[..cut]]).await;
        let is_whole = cut == 0 || cut == length;
        assert_eq!(status.code() == Code::Ok, is_whole, "{cut}: {status:?}");
        if !is_whole {
            assert_eq!(status.code(), Code::InvalidArgument, "{cut}: {status:?}");
            assert!(status.message().contains("request"), "{cut}: {status:?}");
        }
        let count = if cut == length { 2 } else { 1 };
        assert_eq!(responses.len(), count, "{cut}: {responses:?}");
        assert!(responses.iter().all(|one| outcomes(one) == WRITTEN), "{cut}: {responses:?}");
        let article = store.call("GetArticle", json!({"name": "articles/a"})).await["article"].clone();
        assert_eq!(article["headline"], format!("{:04}", 2 * cut + count - 1), "{cut}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_put_gives_the_same_result_however_it_is_cut() {
    let store = Store::open(0).await;
    let client = Http2Client::connect(store.server.address, WINDOW).await;
    let put = |number: usize| {
        let article = json!({"name": "articles/a", "headline": format!("{number:04}")});
        framed(&request_bytes("PutArticle", json!({"article": article})))
    };
    let mut revision = 0;
    for cut in 0..=put(0).len() {
        let body = put(cut);
        let (response, status) = send_to(&client, PUT, &[], &[&body[..cut], &body[cut..]]).await;
        assert_eq!(status.code(), Code::Ok, "{cut}: {status:?}");
        revision += 1;
        let response = messages(&response, "PutArticleResponse").remove(0);
        assert_eq!(response["result"]["revision"], revision, "{cut}");
        // A truncated put is refused and writes nothing.
        if cut > 0 && cut < body.len() {
            let (response, status) = send_to(&client, PUT, &[], &[&put(9_999)[..cut]]).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{cut}: {status:?}");
            assert!(response.is_empty());
        }
        assert_eq!(store.call("GetStatus", json!({})).await["head"]["revision"], revision, "{cut}");
    }
    store.close().await;
}

/// A piece of gRPC-Web in base64 can end within a group of four characters.
#[tokio::test]
async fn a_put_over_grpc_web_gives_the_same_result_however_it_is_split() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let store = Store::open(0).await;
    let client = Http2Client::connect(store.server.address, WINDOW).await;
    let put = |number: usize| {
        let article = json!({"name": "articles/a", "headline": format!("{number:04}")});
        let message = framed(&request_bytes("PutArticle", json!({"article": article})));
        STANDARD.encode(message).into_bytes()
    };
    for cut in 0..=put(0).len() {
        let body = put(cut);
        let headers = [("content-type", "application/grpc-web-text+proto")];
        let mut call = client.start_call(PUT, &headers).await;
        call.request.send_data(Bytes::copy_from_slice(&body[..cut]), false).unwrap();
        call.request.send_data(Bytes::copy_from_slice(&body[cut..]), true).unwrap();
        drop(call.response().await.finish().await);
        let article = store.call("GetArticle", json!({"name": "articles/a"})).await["article"].clone();
        assert_eq!(article["headline"], format!("{cut:04}"));
    }
    store.close().await;
}
