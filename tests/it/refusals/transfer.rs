//! Errors of the transfer service: one for each refused record of an import.

use serde_json::{Value, json};
use tonic::Code;

use super::{refusal, start, summary};
use crate::raw::field;

#[tokio::test]
async fn an_invalid_import_record_is_refused_with_its_field() {
    let (_dir, node, raw) = start().await;
    let empty = raw.call("Import", json!({"chunk": 7})).await;
    assert_eq!(summary(empty), refusal(Code::InvalidArgument, "FIELD_INVALID", "records"));
    let moved = "REMOVAL_REASON_MOVED";
    let table = [
        (json!({}), ""),
        (json!({"article": {"name": "articles/a"}}), "headline"),
        (json!({"author": {"name": "tags/a", "display_name": "A"}}), "name"),
        (json!({"tombstone": {"name": "x", "reason": moved}}), "name"),
        (json!({"tombstone": {"name": "tags/x", "reason": 99}}), "reason"),
        (json!({"tombstone": {"name": "tags/x", "reason": moved}}), "moved_to"),
        (json!({"tombstone": {"name": "tags/x", "reason": moved, "moved_to": "articles/x"}}), "moved_to"),
        (json!({"tombstone": {"name": "articles/x", "reason": 4, "paths": ["/a", "b"]}}), "paths[1]"),
        (
            json!({"tombstone": {"name": "articles/x", "reason": 4, "former_paths": [{"path": "b"}]}}),
            "former_paths[0].path",
        ),
        (
            json!({"article": {"name": "articles/a", "headline": "H", "former_paths": [{"path": "/a"}, {"path": "//b"}]}}),
            "former_paths[1].path",
        ),
        (
            json!({"article": {"name": "articles/a", "headline": "H", "former_paths": [{"path": "/a", "taken_by": "b"}]}}),
            "former_paths[0].taken_by",
        ),
        (json!({"pending_article": {}}), "article"),
        (json!({"pending_article": {"article": {"name": "articles/a"}}}), "headline"),
        (json!({"tag": {"name": "tags/x", "display_name": "X"}, "import_source": "a\nb"}), "import_source"),
        (
            json!({"article": {"name": "articles/a", "headline": "H", "create_time": "9999-12-31T23:59:59Z"}}),
            "WRITTEN",
        ),
    ];
    let records: Vec<Value> = table.iter().map(|(record, _)| record.clone()).collect();
    let ack = raw.call("Import", json!({"chunk": 7, "records": records})).await.unwrap();
    assert_eq!(ack["chunk"], 7);
    for (i, (record, wanted)) in table.iter().enumerate() {
        let result = &ack["results"][i];
        if *wanted == "WRITTEN" {
            assert_eq!(result["outcome"], "IMPORT_OUTCOME_WRITTEN", "{record}");
            continue;
        }
        assert_eq!(result["error"]["reason"], "ERROR_REASON_FIELD_INVALID", "{record}: {result}");
        assert_eq!(result["error"]["field"].as_str().unwrap_or_default(), *wanted, "{record}: {result}");
    }
    // An invalid time that no JSON can hold: year 300,000.
    let time = field(4, &[0x08, 0x80, 0xc0, 0xca, 0xf3, 0x84, 0xa3, 0x02]);
    let tag = [field(1, b"tags/late"), field(10, b"Late"), time].concat();
    let chunk = field(2, &field(4, &tag));
    let ack = raw.send("Import", chunk.into()).await.unwrap().remove(0);
    assert_eq!(ack["results"][0]["error"]["field"], "create_time", "{ack}");
    for (options, field) in [
        (json!({"source": "a\nb"}), "source"),
        (json!({"source": "x".repeat(2_049)}), "source"),
        (json!({"mode": 2}), "mode"),
    ] {
        let mut chunk = options;
        chunk["records"] = json!([{"tag": {"name": "tags/x", "display_name": "X"}}]);
        let refused = raw.call("Import", chunk).await.unwrap_err();
        assert_eq!(refused.field, field);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_record_of_another_source_is_refused_with_the_source() {
    let (_dir, node, raw) = start().await;
    let import = async |source: &str, name: &str| {
        let record = json!({"tag": {"name": "tags/a", "display_name": name}});
        raw.call("Import", json!({"source": source, "records": [record]})).await.unwrap()["results"][0]
            .clone()
    };
    assert_eq!(import("https://a.example", "A").await["outcome"], "IMPORT_OUTCOME_WRITTEN");
    let error = import("https://b.example", "B").await["error"].clone();
    let reason = error["reason"].as_str().unwrap().trim_start_matches("ERROR_REASON_");
    assert_eq!((&error["code"], reason), (&json!(6), "SOURCE_CONFLICT"));
    assert_eq!(error["metadata"]["source"], "https://a.example");
    node.stop().await;
}
