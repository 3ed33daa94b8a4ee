//! A store with a generated history: articles that move, merge, expire, are removed for every reason and scheduled, and
//! the other kinds of entity.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Store, at};
use crate::dice::Rng;

/// The number of names of each kind beside articles.
pub(super) const ENTITIES: u64 = 4;

const ARTICLES: u64 = 14;
const PATHS: u64 = 12;
const STEPS: u64 = 220;

const REASONS: [&str; 4] = ["MOVED", "WITHDRAWN", "DELETED", "KILLED"];

/// The names, paths and times that the history of a store leaves behind.
pub(super) struct World {
    /// The time at the end of the history, in seconds after the start.
    pub(super) now: i64,
    paths: BTreeSet<String>,
    /// Whether every put may publish a killed name again.
    revives: bool,
}

impl World {
    /// Returns the names of all articles that ever existed, and one that never did.
    pub(super) fn names(&self) -> Vec<String> {
        (0..=ARTICLES).map(|n| format!("articles/a{n}")).collect()
    }

    /// Returns all paths that ever existed, and one that never did.
    pub(super) fn paths(&self) -> Vec<String> {
        self.paths.iter().cloned().chain(["/never".to_owned()]).collect()
    }

    fn path(&mut self, rng: &mut Rng) -> String {
        let n = rng.between(0, PATHS - 1);
        let path = if rng.one_in(4) { format!("/%70{n}") } else { format!("/p{n}") };
        self.paths.insert(path.clone());
        path
    }
}

/// Returns filters that select by every kind of list.
pub(super) fn filters() -> Vec<Value> {
    vec![
        json!({}),
        json!({"any_tags": ["tags/0", "tags/1"]}),
        json!({"section": "sections/0", "include_child_sections": true}),
        json!({"authors": ["authors/1"]}),
        json!({"types": [2]}),
        json!({"language": "en-GB"}),
    ]
}

/// Makes a history. Some of its writes are refused, for example because a path is taken.
pub(super) async fn fill(store: &Store, rng: &mut Rng) -> World {
    let mut world = World { now: 0, paths: BTreeSet::new(), revives: false };
    make_steps(store, &mut world, rng, STEPS).await;
    world
}

/// Continues the history of a store. The same seed makes the same writes.
pub(super) async fn extend(store: &Store, now: i64, seed: u64) -> World {
    let mut world = World { now, paths: BTreeSet::new(), revives: true };
    make_steps(store, &mut world, &mut Rng::new(seed), STEPS / 4).await;
    world
}

async fn make_steps(store: &Store, world: &mut World, rng: &mut Rng, count: u64) {
    for _ in 0..count {
        let id = rng.between(0, ARTICLES - 1);
        match rng.between(0, 19) {
            0..=8 => put(store, world, rng, id, false).await,
            9..=11 => put(store, world, rng, id, true).await,
            12 => patch(store, world, rng, id).await,
            13 | 14 => remove(store, rng, "articles", &format!("a{id}"), "a0").await,
            15 => drop(store.raw.call("RemovePending", json!({"name": format!("articles/a{id}")})).await),
            16 | 17 => entity(store, rng).await,
            18 => {
                let n = rng.between(0, ENTITIES - 1).to_string();
                let collections = ["authors", "sections", "tags", "collections"];
                let collection = collections[rng.between(0, 3) as usize];
                remove(store, rng, collection, &n, "elsewhere").await;
            }
            _ => {
                world.now += rng.between(1, 20) as i64;
                store.advance(world.now).await;
            }
        }
    }
}

async fn put(store: &Store, world: &mut World, rng: &mut Rng, id: u64, later: bool) {
    let mut article = json!({
        "name": format!("articles/a{id}"),
        "headline": format!("Headline {}", rng.between(0, 99)),
        "editorial_note": "Check the names",
        "tags": [format!("tags/{}", rng.between(0, ENTITIES))],
        "section": format!("sections/{}", rng.between(0, ENTITIES)),
        "byline": {"credits": [{"author": format!("authors/{}", rng.between(0, ENTITIES))}]},
        "type": rng.between(1, 3),
        "language": if rng.one_in(2) { "en-GB" } else { "de" },
        "body": {"blocks": [{"paragraph": {"spans": [{"text": "The harbour is closed."}]}}]},
    });
    if !rng.one_in(5) {
        article["path"] = json!(world.path(rng));
    }
    if rng.one_in(4) {
        article["alias_paths"] = json!([world.path(rng), world.path(rng)]);
    }
    let now = world.now;
    if later {
        match rng.between(0, 2) {
            0 => article["publish_time"] = json!(at(now + rng.between(1, 60) as i64)),
            1 => article["embargo"] = json!({"until": at(now + rng.between(1, 60) as i64)}),
            _ => article["embargo"] = json!({"note": "until the family agrees"}),
        }
    } else if rng.one_in(3) {
        article["publish_time"] = json!(at(now - rng.between(0, 100) as i64));
    }
    if rng.one_in(4) {
        let soonest = if later { 61 } else { 1 };
        article["expire_time"] = json!(at(now + soonest + rng.between(0, 15) as i64));
    }
    let request = json!({"article": article, "allow_killed": world.revives || (!later && rng.one_in(2))});
    let _refused = store.raw.call("PutArticle", request).await;
}

async fn patch(store: &Store, world: &World, rng: &mut Rng, id: u64) {
    let notice = json!({"kind": 1, "text": "Corrected.", "time": at(world.now)});
    let article = json!({"name": format!("articles/a{id}"), "notices": [notice]});
    let headline = if rng.one_in(2) { "notices" } else { "notices,headline" };
    let request = json!({"article": article, "update_mask": headline});
    let _refused = store.raw.call("PatchArticle", request).await;
}

async fn remove(store: &Store, rng: &mut Rng, collection: &str, id: &str, target: &str) {
    let reason = REASONS[rng.between(0, 3) as usize];
    let moved_to = if reason == "MOVED" { format!("{collection}/{target}") } else { String::new() };
    let method = match collection {
        "articles" => "RemoveArticle",
        "authors" => "RemoveAuthor",
        "sections" => "RemoveSection",
        "tags" => "RemoveTag",
        _ => "RemoveCollection",
    };
    let name = format!("{collection}/{id}");
    let request = json!({"name": name, "reason": format!("REMOVAL_REASON_{reason}"), "moved_to": moved_to});
    let _refused = store.raw.call(method, request).await;
}

async fn entity(store: &Store, rng: &mut Rng) {
    let n = rng.between(0, ENTITIES - 1);
    let display_name = format!("Name {}", rng.between(0, 99));
    let parent = if rng.one_in(2) { rng.between(0, ENTITIES - 1) } else { n };
    let parent =
        |collection: &str| if parent == n { String::new() } else { format!("{collection}/{parent}") };
    let (method, request) = match rng.between(0, 3) {
        0 => ("PutAuthor", json!({"author": {"name": format!("authors/{n}"), "display_name": display_name}})),
        1 => {
            let section = json!({"name": format!("sections/{n}"), "display_name": display_name, "parent": parent("sections")});
            ("PutSection", json!({"section": section}))
        }
        2 => {
            let tag =
                json!({"name": format!("tags/{n}"), "display_name": display_name, "parent": parent("tags")});
            ("PutTag", json!({"tag": tag}))
        }
        _ => {
            let articles: BTreeSet<String> =
                (0..3).map(|_| format!("articles/a{}", rng.between(0, ARTICLES))).collect();
            let collection =
                json!({"name": format!("collections/{n}"), "title": display_name, "articles": articles});
            ("PutCollection", json!({"collection": collection}))
        }
    };
    let _refused = store.raw.call(method, request).await;
}
