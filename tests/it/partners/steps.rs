//! The random steps of the history: writes of articles within the filter and outside it.

use std::collections::BTreeSet;

use cable_client::Timestamp;
use serde_json::{Value, json};

use super::{Mirrored, Pair, SECOND, START, State, scopes::is_match};
use crate::dice::Rng;

/// Articles that match at some times, and articles that never do.
pub(super) const ARTICLES: u64 = 12;
const NEVER: u64 = 6;
pub(super) const PATHS: u64 = 8;

/// Puts the entities that articles name. The sections s2 and s3 are below s1.
pub(super) async fn put_entities(pair: &mut Pair) {
    for n in 1..=3 {
        pair.call_both("PutTag", json!({"tag": {"name": format!("tags/t{n}"), "display_name": "T"}})).await;
        let author = json!({"name": format!("authors/x{n}"), "display_name": "X"});
        pair.call_both("PutAuthor", json!({"author": author})).await;
        let parent = ["", "sections/s1", "sections/s2"][n - 1];
        let section = json!({"name": format!("sections/s{n}"), "display_name": "S", "parent": parent});
        pair.call_both("PutSection", json!({"section": section})).await;
    }
}

pub(super) async fn perform_step(pair: &mut Pair, rng: &mut Rng) {
    match rng.between(0, 11) {
        0..=6 => {
            let mut changes: Vec<Mirrored> = Vec::new();
            for _ in 0..rng.between(1, 4) {
                let change = random_change(pair, rng);
                if changes.iter().all(|other| other.name != change.name) {
                    changes.push(change);
                }
            }
            pair.commit(changes).await;
        }
        7..=8 => put_pending(pair, rng).await,
        9..=10 => put_collection(pair, rng).await,
        _ => put_entity(pair, rng).await,
    }
    pair.pass(rng.between(0, 3) as i64);
}

fn random_change(pair: &mut Pair, rng: &mut Rng) -> Mirrored {
    if rng.one_in(4) {
        return random_removal(pair, rng);
    }
    let never = rng.one_in(3);
    let name = match never {
        true => format!("articles/hidden-{}", rng.between(1, NEVER)),
        false => format!("articles/a{}", rng.between(1, ARTICLES)),
    };
    let mut article = random_article(pair, rng, &name);
    while never && is_match(&pair.filter, &article, pair.now) {
        article = random_article(pair, rng, &name);
    }
    let wanted = !never && !rng.one_in(3);
    for _ in 0..20 {
        if wanted && !is_match(&pair.filter, &article, pair.now) {
            article = random_article(pair, rng, &name);
        }
    }
    let matches = !never && is_match(&pair.filter, &article, pair.now);
    if !matches {
        make_outside(pair, &mut article);
        // A path that a name has had outside the filter is a former path of it within the filter.
        if !never {
            article.as_object_mut().unwrap().remove("path");
        }
    }
    let all = json!({"put_article": article, "allow_killed": true});
    let before = pair.names.get(&name).copied();
    let (matching, state) = match matches {
        true => (all.clone(), State::Visible),
        false if never || before == Some(State::Hidden) => (pair.padding(), State::Hidden),
        false => (pair.stub(&name, &article["publish_time"]), State::Hidden),
    };
    Mirrored { all, matching, name, state }
}

/// Marks the texts of an article that does not match.
fn make_outside(pair: &Pair, article: &mut Value) {
    article["headline"] = json!(format!("hidden-headline {}", pair.count));
    article["tags"].as_array_mut().unwrap().push(json!("tags/hidden-tag"));
}

fn random_removal(pair: &mut Pair, rng: &mut Rng) -> Mirrored {
    let visible = rng.one_in(2);
    let names: Vec<String> = pair
        .names
        .iter()
        .filter(|(_, state)| (**state == State::Visible) == visible)
        .map(|(name, _)| name.clone())
        .collect();
    let name = match names.len() {
        0 => "articles/a1".to_owned(),
        count => names[rng.between(0, count as u64 - 1) as usize].clone(),
    };
    let mut removal = json!({"name": name});
    let reason = ["MOVED", "DELETED", "WITHDRAWN", "KILLED"][rng.between(0, 3) as usize];
    removal["reason"] = json!(format!("REMOVAL_REASON_{reason}"));
    if reason == "MOVED" {
        removal["moved_to"] = json!("articles/hidden-1");
    }
    let all = json!({"remove": removal});
    match pair.names.get(&name).copied() {
        Some(State::Visible) => Mirrored { matching: all.clone(), all, name, state: State::Removed },
        Some(State::Removed) => Mirrored { matching: all.clone(), all, name, state: State::Removed },
        // A second removal may write nothing, so it removes a name that never was.
        Some(State::Hidden) if pair.removed.contains(&name) => {
            let all = json!({"remove": {"name": "articles/a0", "reason": "REMOVAL_REASON_DELETED"}});
            Mirrored { all, matching: pair.padding(), name, state: State::Hidden }
        }
        _ => Mirrored { all, matching: pair.padding(), name, state: State::Hidden },
    }
}

async fn put_pending(pair: &mut Pair, rng: &mut Rng) {
    let name = format!("articles/hidden-pending{}", rng.between(1, 3));
    let mut article = random_article(pair, rng, &name);
    article["publish_time"] = json!(rfc3339(START + 9_000_000 * SECOND));
    pair.call_hidden("PutArticle", json!({"article": article})).await;
}

async fn put_collection(pair: &mut Pair, rng: &mut Rng) {
    pair.count += 1;
    let mut articles = random_names(rng, "articles/a", 6, ARTICLES);
    articles.extend(random_names(rng, "articles/hidden-", 4, NEVER));
    let name = format!("collections/c{}", rng.between(1, 3));
    let collection = json!({"name": name, "title": format!("hidden-{}", pair.count), "articles": articles});
    pair.call_hidden("PutCollection", json!({"collection": collection})).await;
}

async fn put_entity(pair: &mut Pair, rng: &mut Rng) {
    pair.count += 1;
    let (n, text) = (rng.between(1, 3), pair.count.to_string());
    let (method, request) = match rng.one_in(2) {
        true => ("PutTag", json!({"tag": {"name": format!("tags/t{n}"), "display_name": text}})),
        false => ("PutAuthor", json!({"author": {"name": format!("authors/x{n}"), "display_name": text}})),
    };
    pair.call_both(method, request).await;
}

fn random_article(pair: &mut Pair, rng: &mut Rng, name: &str) -> Value {
    pair.count += 1;
    let mut article = json!({
        "name": name,
        "headline": format!("Storm {}", pair.count),
        "body": {"blocks": [{"paragraph": {"spans": [{"text": "The ferry did not sail."}]}}]},
        "tags": random_names(rng, "tags/t", 3, 3),
        "section": format!("sections/s{}", rng.between(1, 4)),
        "type": rng.between(1, 3),
        "language": if rng.one_in(3) { "ru" } else { "en-GB" },
    });
    if rng.one_in(2) {
        article["path"] = json!(format!("/p{}", rng.between(1, PATHS)));
    }
    if rng.one_in(3) {
        article["alias_paths"] = json!([format!("/p{}", rng.between(1, PATHS))]);
    }
    if !rng.one_in(3) {
        article["byline"] = json!({"credits": [{"author": format!("authors/x{}", rng.between(1, 3))}]});
    }
    let filters_time = pair.filter.to_string().contains("published");
    if rng.one_in(3) {
        article["publish_time"] = json!(rfc3339(START - rng.between(0, 9) as i64 * SECOND));
    } else if filters_time {
        // Without it, an article has the time of its first version.
        article["publish_time"] = json!(rfc3339(pair.now));
    }
    article
}

pub(super) fn random_names(rng: &mut Rng, prefix: &str, max: u64, of: u64) -> Vec<String> {
    let numbers: BTreeSet<u64> = (0..rng.between(0, max)).map(|_| rng.between(1, of)).collect();
    numbers.into_iter().map(|n| format!("{prefix}{n}")).collect()
}

pub(super) fn rfc3339(micros: i64) -> String {
    let nanos = (micros.rem_euclid(SECOND) * 1_000) as i32;
    Timestamp { seconds: micros.div_euclid(SECOND), nanos }.to_string()
}
