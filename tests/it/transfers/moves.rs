//! Stores that are moved by export and import: the copy responds to every read like the original, whatever the order of
//! the records.

use std::collections::BTreeSet;

use cable_import::jsonl::RecordJson;
use serde_json::{Value, json};

use super::{Store, generated, outcomes};
use crate::{dice::Rng, raw::request_bytes};

/// Returns the responses to every kind of read, without revisions, etags and times of the server.
async fn responses(store: &Store, names: &[String], paths: &[String]) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut ask = async |method: &str, request: Value| {
        let response = store.raw.send(method, request_bytes(method, request.clone())).await;
        let mut response = match response {
            Ok(messages) => Value::Array(messages),
            Err(refused) => {
                json!({"code": format!("{:?}", refused.code), "reason": refused.reason, "metadata": refused.metadata})
            }
        };
        without_server_values(&mut response);
        all.push((format!("{method} {request}"), response));
    };
    for name in names {
        for view in ["REFERENCE", "BASIC", "FULL"] {
            ask(
                "GetArticle",
                json!({"name": name, "view": format!("ARTICLE_VIEW_{view}"), "includes": [1, 2, 3]}),
            )
            .await;
            ask("GetPending", json!({"name": name, "view": format!("ARTICLE_VIEW_{view}")})).await;
        }
        for format in 1..=4 {
            ask("GetArticle", json!({"name": name, "body_format": format})).await;
        }
    }
    for path in paths {
        ask("ResolvePath", json!({"path": path})).await;
    }
    ask("BatchGetArticles", json!({"names": names})).await;
    for filter in generated::filters() {
        for view in [2, 3] {
            ask("ListArticles", json!({"filter": filter, "page_size": 1000, "view": view})).await;
        }
        ask("StreamArticles", json!({"filter": filter})).await;
    }
    for (kind, collection) in
        [("Author", "authors"), ("Section", "sections"), ("Tag", "tags"), ("Collection", "collections")]
    {
        ask(&format!("List{kind}s"), json!({"page_size": 1000})).await;
        for n in 0..generated::ENTITIES {
            ask(&format!("Get{kind}"), json!({"name": format!("{collection}/{n}")})).await;
        }
    }
    ask("ListPending", json!({"page_size": 1000, "view": 3})).await;
    let status = store.call("GetStatus", json!({})).await;
    all.push(("status".into(), json!([status["content_digest"], status["counts"]])));
    all
}

/// Removes the values that differ in another store.
fn without_server_values(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(without_server_values),
        Value::Object(fields) => {
            for name in ["log_id", "etag", "revision", "update_time", "meta", "remove_time", "base_revision"]
            {
                fields.remove(name);
            }
            fields.values_mut().for_each(without_server_values);
        }
        _ => {}
    }
}

fn expect_equal(original: &[(String, Value)], copy: &[(String, Value)], case: &str) {
    assert_eq!(original.len(), copy.len());
    for (original, copy) in original.iter().zip(copy) {
        assert_eq!(original, copy, "{case}");
    }
}

fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for n in (1..items.len()).rev() {
        items.swap(n, rng.between(0, n as u64) as usize);
    }
}

/// Converts records to lines and back.
fn through_lines(records: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let json = RecordJson::new();
    records.iter().map(|record| json.from_line(&json.to_line(record).unwrap().0).unwrap()).collect()
}

#[tokio::test]
async fn an_imported_export_responds_like_the_original() {
    let seed = std::env::var("CABLE_SEED").map_or(20_260_101, |seed| seed.parse().unwrap());
    println!("CABLE_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut seen = String::new();
    for round in 0..3 {
        let original = Store::open(0).await;
        let world = generated::fill(&original, &mut rng).await;
        let (names, paths) = (world.names(), world.paths());
        let expected = responses(&original, &names, &paths).await;
        expected.iter().for_each(|(_, response)| seen += &response.to_string());
        let records = original.export().await;
        let mut copies = Vec::new();
        for (case, mut records) in [
            ("binary", records.clone()),
            ("lines", through_lines(&records)),
            ("binary, shuffled", records.clone()),
            ("lines, shuffled", through_lines(&records)),
        ] {
            if case.ends_with("shuffled") {
                shuffle(&mut records, &mut rng);
            }
            let case = format!("round {round}, {case}");
            let copy = Store::open(world.now).await;
            let results = copy.import(&records, json!({})).await;
            assert_eq!(
                outcomes(&results),
                BTreeSet::from(["IMPORT_OUTCOME_WRITTEN"]),
                "{case}: {results:#?}"
            );
            expect_equal(&expected, &responses(&copy, &names, &paths).await, &case);
            let head = copy.call("GetStatus", json!({})).await["head"].clone();
            let results = copy.import(&records, json!({})).await;
            assert_eq!(
                outcomes(&results),
                BTreeSet::from(["IMPORT_OUTCOME_UNCHANGED"]),
                "{case}: {results:#?}"
            );
            assert_eq!(copy.call("GetStatus", json!({})).await["head"], head, "{case}");
            // A copy of the copy.
            assert_eq!(copy.export().await.len(), records.len(), "{case}");
            copies.push((case, copy));
        }
        // Pending versions become visible or stay held, and writes have the same effect, in all of them.
        let (later, seed) = (world.now + 1_000, rng.next());
        let continue_with = async |store: &Store| {
            store.advance(later).await;
            let mut all = responses(store, &names, &paths).await;
            let world = generated::extend(store, later, seed).await;
            all.extend(responses(store, &names, &[paths.clone(), world.paths()].concat()).await);
            all
        };
        let expected = continue_with(&original).await;
        for (case, copy) in copies {
            expect_equal(&expected, &continue_with(&copy).await, &format!("{case}, later"));
            copy.close().await;
        }
        original.close().await;
    }
    let reasons = ["MOVED", "WITHDRAWN", "DELETED", "KILLED", "EXPIRED"];
    let states =
        ["HOLD_REASON_LIVE_VERSION_CHANGED", "due_time", "former_paths", "taken_by", "redirect_path"];
    for state in reasons.into_iter().chain(states) {
        assert!(seen.contains(&format!("\"{state}\"")), "no store had {state}");
    }
}
