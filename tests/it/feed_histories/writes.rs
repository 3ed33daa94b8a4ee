//! Random writes to a small set of names, none of which is rejected.

use std::collections::BTreeSet;

use cable_client::{
    RemovalReason, UpdateKind,
    v1::{self, record::Record as Entity},
};

use super::world::{World, Write, timestamp};
use crate::{dice::Rng, support::body};

const ARTICLES: u64 = 20;
const TAGS: u64 = 6;
const SECTIONS: u64 = 4;
const AUTHORS: u64 = 3;

/// The number of old articles that are loaded.
const LOADED: u64 = 24;

/// The size in bytes of the articles that fill a feed.
const LARGE: usize = 50_000;

/// The size in bytes of the largest articles. Five of these are close to the limit of a commit.
const LARGEST: usize = 550_000;

pub(super) const SECOND: i64 = 1_000_000;

/// A generator of writes. Each of its articles has a unique headline.
#[derive(Debug)]
pub(super) struct Writes {
    pub(super) rng: Rng,
    count: i64,
    loaded: u64,
}

impl Writes {
    pub(super) fn new(rng: Rng) -> Writes {
        Writes { rng, count: 0, loaded: 0 }
    }

    pub(super) fn names(rng: &mut Rng, kind: &str, max: u64) -> Vec<String> {
        let of = match kind {
            "tags" => TAGS,
            "sections" => SECTIONS,
            _ => AUTHORS,
        };
        let count = rng.between(0, max);
        let ids: BTreeSet<u64> = (0..count).map(|_| rng.between(1, of)).collect();
        ids.into_iter().map(|n| format!("{kind}/x{n}")).collect()
    }

    /// Returns an article that becomes visible at once and remains.
    pub(super) fn article(&mut self, id: &str) -> v1::Article {
        self.count += 1;
        let (rng, mut article) = (&mut self.rng, v1::Article::default());
        article.name = format!("articles/{id}");
        article.headline = format!("Storm {}", self.count);
        article.tags = Writes::names(rng, "tags", 3);
        article.section = Writes::names(rng, "sections", 1).pop().unwrap_or_default();
        article.additional_sections = Writes::names(rng, "sections", 1);
        let authors = Writes::names(rng, "authors", 2);
        article.byline = (!authors.is_empty()).then(|| byline(authors));
        article
    }

    /// Returns an article that every filter for articles matches.
    pub(super) fn for_all(&mut self, id: &str) -> v1::Article {
        let all = |kind: &str, of| (1..=of).map(|n| format!("{kind}/x{n}")).collect::<Vec<String>>();
        let mut article = self.article(id);
        article.tags = all("tags", TAGS);
        article.section = String::new();
        article.additional_sections = all("sections", SECTIONS);
        article.byline = Some(byline(all("authors", AUTHORS)));
        article
    }

    /// Returns one of the articles that do not all fit in memory.
    pub(super) fn large(&mut self, id: &str) -> Entity {
        let mut article = self.for_all(id);
        article.body = Some(body(&"The ferry did not sail. ".repeat(LARGEST / 24)));
        Entity::Article(article)
    }

    /// Returns an article that is in no usual list. A few versions of it leave more lists than an entry may name.
    pub(super) fn retagged_article(&mut self, id: &str) -> v1::Article {
        let mut article = self.article(id);
        let count = self.count;
        let names = |kind: &str, of: u64| -> Vec<String> {
            (1..=of).map(|n| format!("{kind}/{count}-{n:0>100}")).collect()
        };
        article.tags = names("tags", 128);
        article.section = String::new();
        article.additional_sections = Vec::new();
        article.byline = Some(byline(names("authors", 64)));
        article
    }

    fn random_article(&mut self) -> v1::Article {
        let known = ARTICLES + self.loaded;
        let number = self.rng.between(1, known);
        let mut article = self.article(&format!("a{number}"));
        let size = if self.rng.one_in(6) { LARGE } else { 40 };
        article.body = Some(body(&"The ferry did not sail. ".repeat(size / 24)));
        article
    }

    /// Returns a future time that no other article has, at most `seconds` seconds after another.
    fn later(&mut self, than: i64, seconds: u64) -> i64 {
        (than / SECOND + self.rng.between(1, seconds) as i64) * SECOND + self.count % SECOND
    }

    fn put_article(&mut self, world: &World) -> Write {
        let mut article = self.random_article();
        let mut visible = world.now;
        match self.rng.between(0, 9) {
            0 => {
                visible = self.later(world.now, 40);
                article.publish_time = Some(timestamp(visible));
            }
            1 => {
                let mut embargo = v1::Embargo::default();
                visible = self.later(world.now, 40);
                embargo.until = (!self.rng.one_in(4)).then(|| timestamp(visible));
                article.embargo = Some(embargo);
            }
            _ => {}
        }
        if self.rng.one_in(6) {
            article.expire_time = Some(timestamp(self.later(visible + SECOND, 60)));
        }
        let kinds = [UpdateKind::Major, UpdateKind::Major, UpdateKind::Minor, UpdateKind::Republish];
        let kind = kinds[self.rng.between(0, 3) as usize];
        Write::Put(Entity::Article(article).into(), kind)
    }

    /// Loads old content under a name that never had any.
    fn load(&mut self) -> Write {
        self.loaded = (self.loaded + 1).min(LOADED);
        let mut article = self.article(&format!("a{}", ARTICLES + self.loaded));
        article.body = Some(body(&article.headline));
        Write::Put(Entity::Article(article).into(), UpdateKind::Backfill)
    }

    fn load_or_put(&mut self, world: &World) -> Write {
        let write = self.load();
        if world.is_new(write.name()) {
            let Write::Put(mut entity, kind) = write else { return write };
            if let Entity::Article(article) = &mut *entity
                && self.rng.one_in(3)
            {
                article.expire_time = Some(timestamp(self.later(world.now + SECOND, 60)));
            }
            return Write::Put(entity, kind);
        }
        self.put_article(world)
    }

    fn patch(&mut self, world: &World) -> Write {
        let article = self.random_article();
        if world.live(&article.name).is_none() {
            return self.put_article(world);
        }
        let mask = ["tags", "section", "byline"].into_iter().filter(|_| self.rng.one_in(2));
        let mask = mask.chain(["headline"]).collect();
        Write::Patch(article.into(), mask)
    }

    fn remove(&mut self, world: &World) -> Write {
        let article = self.random_article();
        if world.live(&article.name).is_none() {
            return Write::Put(Entity::Article(article).into(), UpdateKind::Major);
        }
        let (reason, target) = match self.rng.between(0, 6) {
            0..=1 => (RemovalReason::Withdrawn, ""),
            2 => (RemovalReason::Moved, "articles/elsewhere"),
            3..=4 => (RemovalReason::Deleted, ""),
            _ => (RemovalReason::Killed, ""),
        };
        Write::Remove(article.name, reason, target.to_owned())
    }

    /// Writes an entity other than an article, or removes it.
    fn write_other_entity(&mut self, world: &World) -> Write {
        self.count += 1;
        let text = format!("Harbour {}", self.count);
        macro_rules! entity {
            ($kind:ident, $collection:literal, $of:expr, $field:ident) => {{
                let mut entity = v1::$kind::default();
                entity.name = format!("{}/x{}", $collection, self.rng.between(1, $of));
                entity.$field = text;
                Entity::$kind(entity)
            }};
        }
        let entity = match self.rng.between(0, 3) {
            0 => entity!(Author, "authors", AUTHORS, display_name),
            1 => entity!(Section, "sections", SECTIONS, display_name),
            2 => entity!(Tag, "tags", TAGS, display_name),
            _ => entity!(Collection, "collections", 3, title),
        };
        let name = super::world::name(&entity);
        if world.live(name).is_some() && self.rng.one_in(3) {
            return Write::Remove(name.to_owned(), RemovalReason::Deleted, String::new());
        }
        Write::Put(entity.into(), UpdateKind::Major)
    }

    /// Repeats existing content, or makes any other write.
    pub(super) fn random_write(&mut self, world: &World) -> Write {
        match self.rng.between(0, 19) {
            0..=7 => self.put_article(world),
            8..=11 => self.patch(world),
            12..=14 => self.remove(world),
            15 => self.load_or_put(world),
            16 => {
                let Write::Put(entity, kind) = self.put_article(world) else { panic!("a put") };
                let live = world.live(super::world::name(&entity)).cloned();
                Write::Put(live.map_or(entity, Box::new), kind)
            }
            _ => self.write_other_entity(world),
        }
    }

    /// Returns writes of different names.
    pub(super) fn distinct_writes(&mut self, world: &World, max: u64) -> Vec<Write> {
        let mut names = BTreeSet::new();
        let count = self.rng.between(2, max);
        let writes: Vec<Write> = (0..count).map(|_| self.random_write(world)).collect();
        writes.into_iter().filter(|write| names.insert(write.name().to_owned())).collect()
    }
}

fn byline(authors: Vec<String>) -> v1::Byline {
    let mut byline = v1::Byline::default();
    for author in authors {
        let mut credit = v1::Credit::default();
        credit.author = author;
        byline.credits.push(credit);
    }
    byline
}
