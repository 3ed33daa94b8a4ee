//! The sample newsroom. Its content reads back as written, and includes a page that shows the purpose of Cable.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    raw::{Raw, decode, encode, request_bytes},
    support::Node,
};

const NEWSROOM: &str = include_str!("../../demo/newsroom.jsonl");

/// The fields of an entity that only the server sets.
const SERVER_FIELDS: [&str; 7] =
    ["etag", "revision", "create_time", "update_time", "first_publish_time", "state", "word_count"];

/// Returns each line as an encoded Record.
fn records() -> Vec<Bytes> {
    NEWSROOM.lines().map(|line| encode("Record", serde_json::from_str(line).unwrap())).collect()
}

/// Returns the record's kind and name, and the entity without the server's fields.
fn entity(record: &Value) -> (String, Value) {
    let (_, entity) = record.as_object().unwrap().iter().next().unwrap();
    let mut entity = entity.as_object().unwrap().clone();
    entity.retain(|field, _| !SERVER_FIELDS.contains(&field.as_str()));
    (entity["name"].as_str().unwrap().to_owned(), entity.into())
}

pub(crate) async fn import_newsroom(node: &Node) -> Raw {
    let raw = Raw::to(node).await;
    let records = records();
    let mut chunk = Vec::new();
    for record in &records {
        chunk.extend(crate::raw::field(2, record));
    }
    let responses = raw.send("Import", chunk.into()).await.unwrap();
    let results = responses[0]["results"].as_array().unwrap();
    assert_eq!(results.len(), records.len());
    assert!(results.iter().all(|result| result["outcome"] == "IMPORT_OUTCOME_WRITTEN"), "{results:#?}");
    raw
}

#[tokio::test]
async fn the_newsroom_is_exported_as_it_was_imported() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = import_newsroom(&node).await;
    let exported = raw.send("Export", Bytes::new()).await.unwrap();
    let exported =
        exported.iter().flat_map(|message| message["records"].as_array().cloned().unwrap_or_default());
    let exported: BTreeMap<String, Value> = exported.map(|record| entity(&record)).collect();
    let written: BTreeMap<String, Value> =
        records().into_iter().map(|record| entity(&decode("Record", record))).collect();
    assert_eq!(exported, written);
    node.stop().await;
}

#[tokio::test]
async fn a_realistic_page_resolves_with_all_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = import_newsroom(&node).await;
    let includes = ["INCLUDE_AUTHORS", "INCLUDE_SECTIONS", "INCLUDE_TAGS"];
    let request = json!({ "path": "/world/2026/11/murmansk-pilots-wait", "includes": includes });
    let page = raw.call("ResolvePath", request.clone()).await.unwrap();
    let article = &page["article"];
    for field in ["headline", "dek"] {
        assert!(article[field].as_str().is_some_and(|text| text.len() > 10), "{field}");
    }
    let blocks = article["body"]["blocks"].as_array().unwrap();
    assert_eq!(blocks.iter().filter(|block| block.get("paragraph").is_some()).count(), 12);
    let picture = article["lead_media"].as_object().unwrap();
    for field in ["credit", "creator", "supplier"] {
        assert!(picture[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
    assert!(!picture.contains_key("renditions"));
    assert_eq!(article["tags"], json!(["tags/russia"]));

    let section = &page["includes"]["sections"][0];
    assert!(section["tagline"].as_str().is_some_and(|text| !text.is_empty()));
    let author = &page["includes"]["authors"][0];
    assert_eq!(author["bio"].as_str().unwrap().matches(". ").count(), 1, "two sentences");
    assert_eq!(author["social_profiles"][0]["platform"], "twitter");
    assert!(author["social_profiles"][0]["handle"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(page["includes"]["tags"][0]["display_name"], "Russia");

    // As text the page has all its words; as BASIC it has everything except the body.
    let mut as_text = request.clone();
    as_text["body_format"] = "BODY_FORMAT_PLAIN_TEXT".into();
    let text = raw.call("ResolvePath", as_text).await.unwrap();
    let words = text["article"]["rendered_body"]["text"].as_str().unwrap().split_whitespace().count();
    assert_eq!(words as i64, article["word_count"].as_i64().unwrap());
    let mut basic = request_bytes("ResolvePath", request).to_vec();
    basic.extend([2 << 3, 2]);
    let basic = raw.send("ResolvePath", basic.into()).await.unwrap();
    let mut without_body = article.clone();
    without_body.as_object_mut().unwrap().remove("body");
    assert_eq!(basic[0]["article"], without_body);
    node.stop().await;
}
