//! The random steps of the history: writes that readers see, and writes of the pending slot.

use std::collections::BTreeSet;

use cable_client::Timestamp;
use serde_json::{Value, json};

use super::{ARTICLES, Known, PATHS, Pair, PendingVersion, SECOND, START, head, timestamp};
use crate::{
    dice::Rng,
    raw::{request_bytes, retain_fields, values},
};

pub(super) async fn perform_step(pair: &mut Pair, rng: &mut Rng) {
    match rng.between(0, 12) {
        0..=2 => put_live(pair, rng).await,
        3..=6 => put_pending(pair, rng).await,
        7..=8 => patch(pair, rng).await,
        9..=10 => remove(pair, rng).await,
        11 => remove_pending(pair, rng).await,
        _ => put_other_entity(pair, rng).await,
    }
    let passed = rng.between(0, 12) as i64 * SECOND;
    pair.pass(passed).await;
    assert_eq!(head(&pair.holding).await, head(&pair.plain).await);
}

async fn put_live(pair: &mut Pair, rng: &mut Rng) {
    let mut article = random_article(pair, rng);
    let name = name_of(&article);
    if rng.one_in(4) {
        article["expire_time"] = json!(rfc3339(pair.unique_time(rng)));
    }
    if rng.one_in(4) {
        article["path"] = json!(own_path(&name));
    }
    pair.names.entry(name.clone()).or_default();
    if pair.call_both("PutArticle", json!({"article": article, "allow_killed": true})).await {
        let now = pair.now;
        let known = pair.names.get_mut(&name).unwrap();
        known.created.get_or_insert(now);
        (known.live, known.killed) = (Some(expire_time(&article)), false);
        known.hold();
    }
}

async fn put_pending(pair: &mut Pair, rng: &mut Rng) {
    let mut article = random_article(pair, rng);
    article["path"] = json!(own_path(&name_of(&article)));
    let due = pair.unique_time(rng);
    let due = match rng.between(0, 3) {
        0 => {
            article["embargo"] = json!({"until": rfc3339(due)});
            Some(due)
        }
        1 => {
            article["embargo"] = json!({"note": "until called"});
            // Terms that no reader ever sees an article with.
            article["tags"] = json!(["tags/never", "tags/t1"]);
            article["section"] = json!("sections/never");
            article["byline"] = json!({"credits": [{"author": "authors/never"}]});
            None
        }
        _ => {
            article["publish_time"] = json!(rfc3339(due));
            article["tags"].as_array_mut().unwrap().push(json!("tags/waiting"));
            Some(due)
        }
    };
    if rng.one_in(4) {
        article["expire_time"] = json!(rfc3339(due.unwrap_or(pair.now) + 40 * SECOND));
    }
    // Some names that become due are put in a commit.
    let request = json!({"article": article, "allow_killed": true});
    let (method, request) = match rng.one_in(4) {
        true => ("Commit", json!({"changes": [{"put_article": article, "allow_killed": true}]})),
        false => ("PutArticle", request),
    };
    put_and_record(pair, method, request, &article, due).await;
}

/// Makes a call that puts a pending version, and records what matters later.
async fn put_and_record(pair: &mut Pair, method: &str, request: Value, put: &Value, due: Option<i64>) {
    let name = name_of(put);
    if !pair.call_hidden(method, request).await {
        return;
    }
    let get = request_bytes("GetPending", json!({"name": name}));
    let pending = pair.holding.bytes("GetPending", get).await;
    let content = retain_fields(values(values(&pending, 1)[0], 1)[0], |number| number >= 10);
    let (publish_time, expire_time) = (micros(&put["publish_time"]), expire_time(put));
    let now = pair.now;
    let known = pair.names.entry(name).or_default();
    let created = known.pending.as_ref().map(|pending| pending.created);
    let created = known.created.or(created).unwrap_or(now);
    known.pending = Some(PendingVersion { content, publish_time, expire_time, due, created, held: false });
}

async fn patch(pair: &mut Pair, rng: &mut Rng) {
    let name = format!("articles/a{}", rng.between(1, ARTICLES));
    pair.count += 1;
    let patched = json!({"name": name, "headline": format!("Patched {}", pair.count)});
    if pair.call_both("PatchArticle", json!({"article": patched})).await {
        pair.names.get_mut(&name).into_iter().for_each(Known::hold);
    }
    if pair.names.get(&name).is_none_or(|known| known.live.is_none()) || rng.one_in(2) {
        return;
    }
    let due = pair.unique_time(rng);
    let mut patched = json!({"name": name, "publish_time": rfc3339(due), "path": own_path(&name)});
    patched["expire_time"] = json!(rfc3339(due + 9 * SECOND));
    put_and_record(pair, "PatchArticle", json!({"article": patched}), &patched, Some(due)).await;
}

async fn remove(pair: &mut Pair, rng: &mut Rng) {
    let name = format!("articles/a{}", rng.between(1, ARTICLES));
    let reason = ["DELETED", "WITHDRAWN", "KILLED"][rng.between(0, 2) as usize];
    let request = json!({"name": name, "reason": format!("REMOVAL_REASON_{reason}")});
    let kills = reason == "KILLED";
    let known = pair.names.entry(name.clone()).or_default();
    if kills && known.live.is_none() && (known.created.is_none() || known.killed) {
        // Readers never saw the article, or saw it killed already. They see nothing of this kill.
        if pair.call_hidden("RemoveArticle", request).await {
            pair.names.get_mut(&name).unwrap().pending = None;
        }
    } else if pair.call_both("RemoveArticle", request).await {
        let known = pair.names.get_mut(&name).unwrap();
        (known.live, known.killed) = (None, kills);
    }
}

async fn remove_pending(pair: &mut Pair, rng: &mut Rng) {
    let name = format!("articles/a{}", rng.between(1, ARTICLES));
    if pair.call_hidden("RemovePending", json!({"name": name})).await {
        pair.names.get_mut(&name).unwrap().pending = None;
    }
}

async fn put_other_entity(pair: &mut Pair, rng: &mut Rng) {
    pair.count += 1;
    let (n, text) = (rng.between(1, 3), pair.count.to_string());
    let (method, request) = match rng.between(0, 3) {
        0 => ("PutTag", json!({"tag": {"name": format!("tags/t{n}"), "display_name": text}})),
        1 => ("PutAuthor", json!({"author": {"name": format!("authors/x{n}"), "display_name": text}})),
        2 => {
            let parent = if n == 1 { String::new() } else { "sections/s1".to_owned() };
            let section = json!({"name": format!("sections/s{n}"), "display_name": text, "parent": parent});
            ("PutSection", json!({"section": section}))
        }
        _ => {
            let articles = random_names(rng, "articles/a", 9, ARTICLES);
            let collection =
                json!({"name": format!("collections/c{n}"), "title": text, "articles": articles});
            ("PutCollection", json!({"collection": collection}))
        }
    };
    assert!(pair.call_both(method, request).await);
}

/// Returns an article that becomes visible at once unless its caller adds a later time.
fn random_article(pair: &mut Pair, rng: &mut Rng) -> Value {
    pair.count += 1;
    let mut article = json!({
        "name": format!("articles/a{}", rng.between(1, ARTICLES)),
        "headline": format!("Storm {}", pair.count),
        "body": {"blocks": [{"paragraph": {"spans": [{"text": "The ferry did not sail."}]}}]},
        "tags": random_names(rng, "tags/t", 3, 4),
        "section": format!("sections/s{}", rng.between(1, 3)),
        "type": rng.between(1, 3),
        "language": if rng.one_in(2) { "en-GB" } else { "ru" },
    });
    if rng.one_in(2) {
        article["path"] = json!(format!("/p{}", rng.between(1, PATHS)));
    }
    if rng.one_in(4) {
        article["alias_paths"] = json!([format!("/p{}", rng.between(1, PATHS))]);
    }
    if rng.one_in(2) {
        article["byline"] = json!({"credits": [{"author": format!("authors/x{}", rng.between(1, 3))}]});
    }
    if rng.one_in(3) {
        article["publish_time"] = json!(rfc3339(START - rng.between(0, 9) as i64 * SECOND));
    }
    article
}

pub(super) fn random_names(rng: &mut Rng, prefix: &str, max: u64, of: u64) -> Vec<String> {
    let numbers: BTreeSet<u64> = (0..rng.between(0, max)).map(|_| rng.between(1, of)).collect();
    numbers.into_iter().map(|n| format!("{prefix}{n}")).collect()
}

fn name_of(article: &Value) -> String {
    article["name"].as_str().unwrap().to_owned()
}

/// Returns a path that no other article uses. Pending versions have it: a version that becomes visible takes its path
/// from any article that got it meanwhile, which no put of the other store could do.
pub(super) fn own_path(name: &str) -> String {
    name.replace("articles/", "/own-")
}

fn micros(time: &Value) -> Option<i64> {
    let time: Timestamp = time.as_str()?.parse().unwrap();
    Some(time.seconds * SECOND + i64::from(time.nanos / 1_000))
}

fn expire_time(article: &Value) -> Option<i64> {
    micros(&article["expire_time"])
}

pub(super) fn rfc3339(micros: i64) -> String {
    timestamp(micros).to_string()
}
