//! Gathers articles, and the entities that they name, into one bounded message.

use std::{collections::HashSet, sync::Arc};

use super::{
    Content, Selection,
    part::{Part, State},
};
use crate::{
    compose::{Composer, Shape},
    model::{Kind, Name, limit},
    refusal::Refusal,
    store::{Damage, Subject},
    wire::fields,
};

/// Articles and includes of one message, in order, up to a number of bytes.
pub(super) struct Page<'a> {
    content: &'a Content,
    selection: Selection,
    /// The maximum size of the page in bytes.
    bound: usize,
    bytes: usize,
    /// Bytes of content that were read for its articles.
    read: usize,
    pub(super) articles: Vec<Arc<Part>>,
    pub(super) includes: Includes,
    /// Articles that belong in the page and cannot be read.
    pub(super) damage: Damage,
}

/// The entities that the articles of a response name, each once, in the order of the first mention.
#[derive(Default)]
pub(super) struct Includes {
    seen: HashSet<Name>,
    parts: Vec<Arc<Part>>,
    pub(super) missing: Vec<Name>,
    /// Names of entities that cannot be read.
    pub(super) damaged: Vec<Name>,
}

impl<'a> Page<'a> {
    pub(super) fn new(content: &'a Content, selection: Selection, bound: usize) -> Page<'a> {
        Page {
            content,
            selection,
            bound,
            bytes: 0,
            read: 0,
            articles: Vec::new(),
            includes: Includes::default(),
            damage: Damage::default(),
        }
    }

    /// Adds an article with the entities that it names. Returns false, and adds nothing, if the page already has
    /// articles and this one would exceed a bound.
    pub(super) async fn add(&mut self, part: Arc<Part>) -> Result<bool, Refusal> {
        let State::Live { bytes, references, read, .. } = &part.state else { return Ok(true) };
        let wants = self.selection.wants;
        let wanted = references.iter().filter(|name| match name.kind {
            Kind::Author => wants.authors,
            Kind::Section => wants.sections,
            Kind::Tag => wants.tags,
            Kind::Article | Kind::Collection => false,
        });
        let new: Vec<Name> = wanted.filter(|name| !self.includes.seen.contains(*name)).cloned().collect();
        let new = if new.is_empty() { Vec::new() } else { self.content.parts(new, Shape::FULL_BLOCKS).await };
        if let Some(error) = new.iter().find_map(|part| part.failure()) {
            return Err(error.clone().into());
        }
        let size = |part: &Arc<Part>| match &part.state {
            State::Live { bytes, .. } => fields::bytes_len(1, bytes.len()),
            _ => part.name.id.as_str().len() + 16,
        };
        let more = fields::bytes_len(1, bytes.len()) + new.iter().map(size).sum::<usize>();
        let full = self.bytes + more > self.bound || self.read + read > limit::PAGE_READ.maximum as usize;
        if full && !self.articles.is_empty() {
            return Ok(false);
        }
        self.bytes += more;
        self.read += read;
        new.into_iter().for_each(|part| self.includes.add(part));
        self.articles.push(part);
        Ok(true)
    }

    /// Counts further bytes of the message.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
}

impl Includes {
    /// Returns the names of all of them, whether they exist or not.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.seen.iter()
    }

    /// Returns those that exist.
    pub(super) fn into_live(self) -> Vec<Arc<Part>> {
        self.parts
    }

    fn add(&mut self, part: Arc<Part>) {
        if !self.seen.insert(part.name.clone()) {
            return;
        }
        match part.state {
            State::Live { .. } => self.parts.push(part),
            State::Failed(_) => self.damaged.push(part.name.clone()),
            _ => self.missing.push(part.name.clone()),
        }
    }

    /// Adds the includes to a message as one field.
    pub(super) fn compose(&self, composer: &mut Composer, field: u32) {
        let mut out = Vec::new();
        for part in &self.parts {
            let State::Live { bytes, revision, .. } = &part.state else { continue };
            let within = match part.name.kind {
                Kind::Author => 1,
                Kind::Section => 2,
                _ => 3,
            };
            fields::put_bytes(&mut out, within, bytes);
            composer.hash_entity(&part.name, *revision);
            composer.depends_on(Subject::Name(&part.name));
        }
        for (field, names) in [(4, &self.missing), (5, &self.damaged)] {
            for name in names {
                fields::put_string(&mut out, field, &name.to_string());
                composer.hash_entity(name, if field == 4 { 0 } else { -1 });
                composer.depends_on(Subject::Name(name));
            }
        }
        if !out.is_empty() {
            composer.nested(field, &out);
        }
    }
}
