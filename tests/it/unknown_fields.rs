//! Fields and enum values of a later schema pass through this release unchanged.

use bytes::Bytes;
use cable_client::RawRecord;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use serde_json::{Value, json};

use crate::{
    raw::{self, Raw, encode, field, request_bytes},
    support::Node,
};

/// The number of a field that no message of this schema has.
const UNKNOWN: u32 = 900;

/// Returns the values of a field along a path of numbers: the last number is the field, each other one a message that
/// contains the next.
fn values(message: &[u8], path: &[u32]) -> Vec<Vec<u8>> {
    let [number, rest @ ..] = path else { return vec![message.to_vec()] };
    raw::values(message, *number).into_iter().flat_map(|value| values(value, rest)).collect()
}

/// The places of unknown fields: at the top, in the body, a block, a span, the media, the byline and a credit.
const LOCATIONS: [(&[u32], &str); 7] = [
    (&[UNKNOWN], "top"),
    (&[15, UNKNOWN], "body"),
    (&[15, 1, UNKNOWN], "block"),
    (&[15, 1, 2, 1, UNKNOWN], "span"),
    (&[16, UNKNOWN], "media"),
    (&[17, UNKNOWN], "byline"),
    (&[17, 2, UNKNOWN], "credit"),
];

fn with(message: &str, known: Value, unknown: &str, nested: &[Vec<u8>]) -> Vec<u8> {
    [&encode(message, known)[..], &nested.concat(), &field(UNKNOWN, unknown.as_bytes())].concat()
}

/// Returns an article of a later schema.
fn article() -> Vec<u8> {
    let span = with("Span", json!({"text": "Rain.", "marks": [1, 77]}), "span", &[]);
    let paragraph = field(2, &field(1, &span));
    let block = with("Block", json!({"id": "b"}), "block", &[paragraph]);
    let body = with("Body", json!({}), "body", &[field(1, &block)]);
    let media = with("Media", json!({"credit": "C"}), "media", &[]);
    let credit = with("Credit", json!({"display_name": "Ann"}), "credit", &[]);
    let byline = with("Byline", json!({}), "byline", &[field(2, &credit)]);
    let known = json!({
        "name": "articles/a", "headline": "H", "type": 99, "tags": ["tags/t"],
        "notices": [{"kind": 88, "text": "N"}], "source": {"kind": 66},
    });
    with("Article", known, "top", &[field(15, &body), field(16, &media), field(17, &byline)])
}

/// Returns the article from the node's response, encoded.
async fn get(raw: &Raw, view: &str) -> Vec<u8> {
    let request = json!({"name": "articles/a", "view": view});
    values(&raw.bytes("GetArticle", request_bytes("GetArticle", request)).await, &[1]).remove(0)
}

fn check_all_present(article: &[u8]) {
    for (path, value) in LOCATIONS {
        assert_eq!(values(article, path), [value.as_bytes()], "{value}");
    }
    let known = cable_client::v1::Article::decode(article).unwrap();
    assert_eq!((known.r#type, known.notices[0].kind, known.source.unwrap().kind), (99, 88, 66));
    let marks = &values(article, &[15, 1, 2, 1])[0];
    assert_eq!(cable_client::v1::Span::decode(&marks[..]).unwrap().marks, [1, 77]);
}

async fn digest(raw: &Raw) -> Value {
    raw.call("GetStatus", json!({})).await.unwrap()["content_digest"].clone()
}

#[tokio::test]
async fn unknown_fields_survive_put_patch_export_and_import() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let node = Node::start(dirs[0].path()).await;
    let raw = Raw::to(&node).await;
    raw.send("PutArticle", field(1, &article()).into()).await.unwrap();
    check_all_present(&get(&raw, "ARTICLE_VIEW_FULL").await);
    let basic = get(&raw, "ARTICLE_VIEW_BASIC").await;
    for (path, value) in LOCATIONS {
        let wanted: &[&[u8]] = if path[0] == 15 { &[] } else { &[value.as_bytes()] };
        assert_eq!(values(&basic, path), wanted, "{value}");
    }

    let patch = json!({"article": {"name": "articles/a", "dek": "D"}, "update_mask": "dek"});
    raw.call("PatchArticle", patch).await.unwrap();
    let patched = get(&raw, "ARTICLE_VIEW_FULL").await;
    check_all_present(&patched);
    assert_eq!(values(&patched, &[12]), [b"D"]);
    for (method, kind) in [("PutAuthor", "Author"), ("PutSection", "Section"), ("PutTag", "Tag")] {
        let name = format!("{}s/a", kind.to_lowercase());
        let entity = with(kind, json!({"name": name, "display_name": "A"}), "top", &[]);
        raw.send(method, field(1, &entity).into()).await.unwrap();
    }
    let collection = with("Collection", json!({"name": "collections/a", "title": "A"}), "top", &[]);
    raw.send("PutCollection", field(1, &collection).into()).await.unwrap();

    let exported: Vec<RawRecord> = node.client().export().records().try_collect().await.unwrap();
    assert_eq!(exported.len(), 5);
    let other_node = Node::start(dirs[1].path()).await;
    let other = Raw::to(&other_node).await;
    let acks =
        other_node.client().import(stream::iter(exported)).map(Result::unwrap).collect::<Vec<_>>().await;
    assert_eq!(acks.iter().map(|ack| ack.results.len()).sum::<usize>(), 5);
    check_all_present(&get(&other, "ARTICLE_VIEW_FULL").await);
    for kind in ["Author", "Section", "Tag", "Collection"] {
        let method = format!("Get{kind}");
        let request = request_bytes(&method, json!({"name": format!("{}s/a", kind.to_lowercase())}));
        assert_eq!(values(&other.bytes(&method, request).await, &[1, UNKNOWN]), [b"top"], "{kind}");
    }
    assert_eq!(digest(&raw).await, digest(&other).await);
    assert!(digest(&raw).await.is_string());
    other_node.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn a_put_that_differs_only_in_an_unknown_field_is_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let put = async |value: &str| {
        let tag = with("Tag", json!({"name": "tags/a", "display_name": "A"}), value, &[]);
        let request: Bytes = field(1, &tag).into();
        raw.send("PutTag", request).await.unwrap()[0]["result"]["revision"].clone()
    };
    assert_eq!(put("one").await, 1);
    assert_eq!(put("one").await, 1);
    assert_eq!(put("two").await, 2);
    node.stop().await;
}
