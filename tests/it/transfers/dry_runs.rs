//! Dry runs of imports: their results are those of the import.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Store, at};
use crate::{
    connections::speaker::{Http2Client, framed},
    dice::Rng,
    raw::{decode, encode},
};

const IMPORT: &str = "/cable.v1.TransferService/Import";

/// Imports chunks in one call. Returns the results of all records.
async fn import(client: &Http2Client, chunks: &[Vec<Value>], options: &Value) -> Vec<Value> {
    let mut call = client.start_call(IMPORT, &[]).await;
    for (number, chunk) in chunks.iter().enumerate() {
        let mut request = options.clone();
        (request["chunk"], request["records"]) = (json!(number), json!(chunk));
        let message = framed(&encode("ImportRequest", request));
        call.request.send_data(message, number + 1 == chunks.len()).unwrap();
    }
    let (response, status) = call.response().await.finish().await;
    assert_eq!(status.code(), tonic::Code::Ok, "{status:?}");
    let (mut rest, mut results) = (&response[..], Vec::new());
    while let Some((prefix, message)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
        let decoded = decode("ImportResponse", Bytes::copy_from_slice(&message[..length]));
        results.extend(decoded["results"].as_array().unwrap().clone());
        rest = &message[length..];
    }
    results
}

/// Returns one record. Names, paths and contents are few, so that records clash.
fn random_record(rng: &mut Rng) -> Value {
    let name = format!("articles/a{}", rng.between(1, 6));
    match rng.between(0, 11) {
        0 | 1 => {
            let reasons = ["MOVED", "WITHDRAWN", "DELETED", "KILLED"];
            let reason = reasons[if rng.one_in(4) { 3 } else { rng.between(0, 2) as usize }];
            let moved_to = if reason == "MOVED" { "articles/elsewhere" } else { "" };
            json!({"tombstone": {"name": name, "reason": format!("REMOVAL_REASON_{reason}"), "moved_to": moved_to}})
        }
        2 | 3 => {
            let name = format!("tags/t{}", rng.between(1, 3));
            let tag = json!({"name": name, "display_name": rng.between(1, 3).to_string()});
            json!({"tag": tag, "mentioned": rng.one_in(2)})
        }
        4 => json!({"article": {"name": name, "headline": ""}}),
        kind => {
            let mut article = json!({"name": name, "headline": rng.between(1, 2).to_string()});
            if !rng.one_in(4) {
                article["path"] =
                    json!(format!("/{}", ["p1", "p2", "p3", "%701"][rng.between(0, 3) as usize]));
            }
            match kind {
                5 => article["publish_time"] = json!(at(1_000)),
                6 => article["expire_time"] = json!(at(-1)),
                _ => {}
            }
            let mut record = json!({"article": article});
            if rng.one_in(6) {
                record["has_pending"] = json!(rng.one_in(2));
            }
            record
        }
    }
}

/// Makes a change as an editor would. Some are refused.
async fn edit(store: &Store, rng: &mut Rng) {
    let name = format!("articles/a{}", rng.between(1, 6));
    let (method, request) = match rng.between(0, 3) {
        0 => ("RemoveArticle", json!({"name": name, "reason": "REMOVAL_REASON_DELETED"})),
        1 => ("RemovePending", json!({"name": name})),
        _ => {
            let path = format!("/p{}", rng.between(1, 3));
            let article = json!({"name": name, "headline": rng.between(1, 3).to_string(), "path": path});
            ("PutArticle", json!({"article": article}))
        }
    };
    let _may_be_refused = store.raw.call(method, request).await;
}

#[tokio::test]
async fn a_dry_run_reports_what_the_import_does() {
    let seed = std::env::var("CABLE_SEED").map_or(20_261_127, |seed| seed.parse().unwrap());
    println!("dry runs: CABLE_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..25 {
        let store = Store::open(0).await;
        let client = Http2Client::connect(store.server.address, 1 << 20).await;
        for _ in 0..6 {
            for _ in 0..rng.between(0, 3) {
                edit(&store, &mut rng).await;
            }
            let chunk = |rng: &mut Rng| (0..rng.between(1, 12)).map(|_| random_record(rng)).collect();
            let chunks: Vec<Vec<Value>> = (0..rng.between(1, 5)).map(|_| chunk(&mut rng)).collect();
            let source = ["", "one", "two"][rng.between(0, 2) as usize];
            let options = json!({"source": source, "mode": u8::from(rng.one_in(3))});
            let mut rehearsed = options.clone();
            rehearsed["dry_run"] = json!(true);
            let before = store.call("GetStatus", json!({})).await["head"].clone();
            let dry = import(&client, &chunks, &rehearsed).await;
            assert_eq!(store.call("GetStatus", json!({})).await["head"], before);
            let real = import(&client, &chunks, &options).await;
            for ((dry, real), record) in dry.iter().zip(&real).zip(chunks.iter().flatten()) {
                assert_eq!(dry, real, "{record} of {options}: {chunks:#?}");
                let reason = real["keep_reason"].as_str().or(real["error"]["reason"].as_str());
                let omits = if real["omitted_path"].is_string() { " without path" } else { "" };
                let outcome = format!("{} {}{omits}", real["outcome"], reason.unwrap_or_default());
                *seen.entry(outcome).or_default() += 1;
            }
            assert_eq!(dry.len(), real.len());
        }
        store.close().await;
    }
    // The imports contained enough of the tested cases.
    assert!(seen.len() >= 10 && seen.values().all(|count| *count >= 2), "{seen:#?}");
}

#[tokio::test]
async fn records_of_one_import_that_clash_are_judged_in_order() {
    let store = Store::open(0).await;
    let client = Http2Client::connect(store.server.address, 1 << 20).await;
    let article = |id: &str, headline: &str, path: &str| json!({"article": {"name": format!("articles/{id}"), "headline": headline, "path": path}});
    let summary = |results: &[Value]| -> Vec<String> {
        let one = |result: &Value| {
            let outcome = result["outcome"].as_str().unwrap().replace("IMPORT_OUTCOME_", "");
            format!("{outcome} {}", result["path_owner"].as_str().unwrap_or_default()).trim().to_owned()
        };
        results.iter().map(one).collect()
    };
    // Two names at one path, and one name twice, in one chunk and in two.
    let first = vec![article("a", "One", "/x"), article("b", "One", "/x"), article("c", "One", "/y")];
    let second = vec![article("c", "One", "/y"), article("c", "Two", "/y"), article("d", "One", "/y")];
    let chunks = [first, second];
    for dry_run in [true, false] {
        let results = import(&client, &chunks, &json!({"dry_run": dry_run})).await;
        let expected =
            ["WRITTEN", "WRITTEN articles/a", "WRITTEN", "UNCHANGED", "WRITTEN", "WRITTEN articles/c"];
        assert_eq!(summary(&results), expected, "{dry_run}");
    }
    // Articles that exchange their paths, and one that gets a path that another one releases.
    let exchange = vec![article("a", "One", "/y"), article("c", "Two", "/x")];
    let rotation = vec![article("b", "One", "/x"), article("c", "Two", "/z"), article("a", "One", "/y")];
    for records in [exchange, rotation] {
        for dry_run in [true, false] {
            let results = import(&client, std::slice::from_ref(&records), &json!({"dry_run": dry_run})).await;
            assert!(results.iter().all(|result| result["omitted_path"].is_null()), "{results:?}");
        }
        for record in &records {
            let name = record["article"]["name"].clone();
            let stored = store.call("GetArticle", json!({"name": name})).await["article"].clone();
            assert_eq!(stored["path"], record["article"]["path"], "{name}");
        }
        let again = import(&client, std::slice::from_ref(&records), &json!({})).await;
        assert!(again.iter().all(|result| result["outcome"] == "IMPORT_OUTCOME_UNCHANGED"), "{again:?}");
    }
    // In two chunks, the path is free only when the first one is acknowledged; the next import sets it.
    let exchange = [vec![article("a", "One", "/z")], vec![article("c", "Two", "/y")]];
    for dry_run in [true, false] {
        let results = import(&client, &exchange, &json!({"dry_run": dry_run})).await;
        assert_eq!(summary(&results), ["WRITTEN articles/c", "WRITTEN"], "{dry_run}");
    }
    for (dry_run, expected) in [(true, "WRITTEN"), (false, "WRITTEN"), (false, "UNCHANGED")] {
        let results = import(&client, &exchange, &json!({"dry_run": dry_run})).await;
        assert_eq!(summary(&results), [expected, "UNCHANGED"], "{dry_run}");
    }
    store.close().await;
}

/// A new article that gets the path of another one is not news: its feed event is that of a backfill, once.
#[tokio::test]
async fn an_article_that_waits_for_its_path_is_still_a_backfill() {
    let store = Store::open(0).await;
    let client = Http2Client::connect(store.server.address, 1 << 20).await;
    let article = |id: &str, path: &str| json!({"article": {"name": format!("articles/{id}"), "headline": "H", "path": path}});
    import(&client, &[vec![article("old", "/x")]], &json!({})).await;
    let results = import(&client, &[vec![article("new", "/x"), article("old", "/y")]], &json!({})).await;
    assert!(results.iter().all(|result| result["omitted_path"].is_null()), "{results:?}");
    let request = json!({"filter": {"kinds": [1]}, "after": {"revision": 1}});
    let bytes = crate::raw::request_bytes("Watch", request);
    let mut feed = store.raw.stream("Watch", bytes).await.unwrap();
    let mut names = Vec::new();
    loop {
        let message = decode("WatchResponse", feed.message().await.unwrap().unwrap());
        for change in message["changes"]["changes"].as_array().into_iter().flatten() {
            names.push(change["upsert"]["article"]["name"].as_str().unwrap().to_owned());
        }
        if message["checkpoint"].is_object() {
            break;
        }
    }
    assert_eq!(names, ["articles/old"]);
    store.close().await;
}
