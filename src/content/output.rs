//! Feeds and sitemaps: the content that each is made from, read in bounded steps. They are written on a reader thread, once, and
//! cached beside the other responses.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    CachedResponse, Content, Document, Encoding, RequestKey, Selection, Viewer,
    composing::depend_on_query,
    depend_on_scope,
    document::surrogate_keys,
    page,
    part::{Part, State},
};
use crate::{
    auth::Scope,
    compose::{Composer, Shape, Wants},
    entry::{SitePage, Term},
    model::{Kind, Name, Revision},
    refusal::Refusal,
    store::{
        self, Snapshot, Subject,
        listing::{Cursor, Month, MonthWalk, Query, Slice},
    },
    wire::{
        elements, fields,
        number::article,
        v1::{self, TagKind},
    },
};

/// The maximum number of articles that one job of a reader thread finds and whose pages it reads, some 10 ms.
const MAX_FOUND: usize = 1_000;

/// The number of elements of the articles in an output, together. Usual articles have some hundreds each. Few bytes can
/// contain many, each of which takes some 0.2 µs to decode and render.
const MAX_ELEMENTS: usize = 500_000;

/// A feed or a sitemap.
#[derive(Clone)]
pub(crate) struct Output {
    pub(crate) source: Source,
    /// The surrogate keys of what is requested, whether it exists or not.
    pub(crate) keys: Arc<[String]>,
    pub(crate) content_type: &'static str,
    /// Writes the text. It runs on a reader thread.
    pub(crate) write: Write,
}

/// Writes the text of an output.
pub(crate) type Write = Arc<dyn Fn(Collected) -> Vec<u8> + Send + Sync>;

/// The content that an output is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The newest articles, all or those of a tag, section or author: at most a number, and fewer if they take more than
    /// a number of bytes.
    Newest { of: Option<Name>, articles: usize, bytes: usize },
    /// The pages of articles that were published less than `age` microseconds ago: at most a number, from at most a
    /// number of articles.
    Recent { age: i64, pages: usize, articles: usize },
    /// The pages of a number of articles of a month, after a number of newer ones.
    Month { month: Month, skip: usize, articles: usize },
    /// The months that have articles.
    Months,
}

/// The content of an output.
#[derive(Debug)]
pub(crate) enum Collected {
    Articles {
        topic: Option<Topic>,
        articles: Articles,
        /// The authors, sections and tags that the articles name, by their names.
        topics: HashMap<String, Topic>,
    },
    Pages(Vec<SitePage>),
    /// The months, the newest first, and the number of articles in each.
    Months(Vec<(Month, usize)>),
}

/// Articles that are decoded one at a time: decoded, one can take forty times the memory of its bytes.
#[derive(Debug)]
pub(crate) struct Articles(Vec<Arc<Part>>);

impl Articles {
    /// Returns the first ones, up to the bound on their elements.
    fn bounded(mut parts: Vec<Arc<Part>>) -> Articles {
        let mut left = MAX_ELEMENTS;
        let fitting = parts.iter().take_while(|part| {
            let State::Live { bytes, .. } = &part.state else { return true };
            let count = elements::article().elements(bytes, left).unwrap_or(usize::MAX);
            let rest = left.checked_sub(count);
            left = rest.unwrap_or_default();
            rest.is_some()
        });
        let fitting = fitting.count();
        parts.truncate(fitting);
        Articles(parts)
    }

    pub(crate) fn decoded(&self) -> impl Iterator<Item = v1::Article> {
        self.0.iter().filter_map(|part| decode(part))
    }

    /// Returns the articles without their bodies.
    pub(crate) fn heads(&self) -> impl Iterator<Item = v1::Article> {
        self.0.iter().filter_map(|part| {
            let State::Live { bytes, .. } = &part.state else { return None };
            let mut head = Vec::new();
            fields::copy_if(bytes, &mut head, |number| number != article::BODY);
            v1::Article::decode(&head[..]).ok()
        })
    }
}

/// An entity that articles are listed under.
#[derive(Debug)]
pub(crate) enum Topic {
    Author(Box<v1::Author>),
    Section(Box<v1::Section>),
    Tag(Box<v1::Tag>),
}

/// The records of an output, before they are decoded.
enum Gathered {
    Articles {
        topic: Option<Arc<Part>>,
        articles: Vec<Arc<Part>>,
        topics: Vec<Arc<Part>>,
        /// The names of the topics, and of those that are missing.
        named: Vec<Name>,
    },
    Pages(Vec<SitePage>),
    Months(Vec<(Month, usize)>),
}

impl Content {
    /// Returns an output, from the cache or written.
    ///
    /// # Errors
    /// The tag, section or author does not exist; the month has no such articles; or the store cannot be read now.
    pub(crate) async fn output(
        &self,
        key: RequestKey,
        output: &Output,
        viewer: &Viewer,
    ) -> Result<Arc<Document>, Refusal> {
        let load = || self.load_output(output, viewer);
        self.responses.get(key, |found| self.is_fresh(found), load).await.document()
    }

    async fn load_output(&self, output: &Output, viewer: &Viewer) -> Arc<CachedResponse> {
        let as_of = self.store.revision();
        // It records what the output depends on; its message remains empty.
        let mut composer = Composer::new(self.log_id, "", Shape::Basic, Wants::default());
        let mut until = None;
        depend_on_scope(&mut composer, viewer);
        let written = match self.gather_output(&mut composer, &mut until, &output.source, viewer).await {
            Ok(gathered) => self.write_output(gathered, output, composer.next_change()).await,
            Err(refusal) => Err(refusal),
        };
        // The result of a failed read is unknown: it is never fresh.
        let as_of = if matches!(written, Err(Refusal::Store(_))) { Revision::MIN } else { as_of };
        let result = written.map(|document| Encoding::Document(Arc::new(document)));
        Arc::new(CachedResponse { as_of, stripes: composer.take_stripes(), until, result })
    }

    /// Writes an output on a reader thread: bodies of several megabytes would occupy a serving thread for too long.
    async fn write_output(
        &self,
        gathered: Gathered,
        output: &Output,
        next_change: Option<i64>,
    ) -> Result<Document, Refusal> {
        let (write, keys, content_type) = (output.write.clone(), output.keys.clone(), output.content_type);
        let job = self.store.read(move |_| {
            let surrogate_keys = surrogate_keys(gathered.names(), &keys);
            let body = write(gathered.decode());
            let etag = format!("\"{:032x}\"", xxh3_128(&body));
            Ok(Document::new((body, content_type), etag, surrogate_keys, next_change))
        });
        job.await.map_err(Refusal::Store).flatten()
    }

    async fn gather_output(
        &self,
        composer: &mut Composer,
        until: &mut Option<i64>,
        source: &Source,
        viewer: &Viewer,
    ) -> Result<Gathered, Refusal> {
        let narrowed = |mut query: Query| {
            viewer.iter().for_each(|scope| query.narrow(scope.query()));
            Arc::new(query)
        };
        match source {
            Source::Newest { of, articles, bytes } => {
                let topic = match of {
                    Some(name) => Some(self.topic(composer, name).await?),
                    None => None,
                };
                let query = narrowed(Query { groups: of.iter().map(list_of).collect(), ..Query::default() });
                depend_on_query(composer, &query);
                self.newest(composer, topic, (&query, viewer), (*articles, *bytes)).await
            }
            Source::Recent { age, pages, articles } => {
                let now = self.clock.now();
                let query = narrowed(Query { not_before: Some(now - age + 1), ..Query::default() });
                depend_on_query(composer, &query);
                let found = self.pages((&query, viewer), None, (*articles, *pages)).await?.0;
                *until = found.iter().map(|page| page.publish_time.saturating_add(*age)).min();
                composer.changes_at(*until);
                found.iter().for_each(|page| composer.changes_at(page.expire_time));
                Ok(Gathered::Pages(found))
            }
            Source::Month { month, skip, articles } => {
                let (start, end) = month.bounds();
                let query = Query { not_before: Some(start), before: Some(end), ..Query::default() };
                let query = narrowed(query);
                depend_on_query(composer, &query);
                let first = self.skip(&query, *skip).await?;
                if *skip > 0 && first.is_none() {
                    return Err(Refusal::PathNotFound);
                }
                let (found, listed) = self.pages((&query, viewer), first, (*articles, *articles)).await?;
                if listed == 0 {
                    return Err(Refusal::PathNotFound);
                }
                found.iter().for_each(|page| composer.changes_at(page.expire_time));
                Ok(Gathered::Pages(found))
            }
            Source::Months => {
                let query = narrowed(Query::default());
                depend_on_query(composer, &query);
                let mut walk = MonthWalk::default();
                while !walk.is_done {
                    let query = query.clone();
                    walk = self.store.read(move |snapshot| snapshot.walk_months(&query, walk)).await?;
                }
                Ok(Gathered::Months(walk.months))
            }
        }
    }

    /// Returns the entity of a feed. To the callers of feeds, marks of the newsroom do not exist.
    async fn topic(&self, composer: &mut Composer, name: &Name) -> Result<Arc<Part>, Refusal> {
        composer.depends_on(Subject::Name(name));
        let part = self.part(name.clone(), Shape::FULL_BLOCKS).await;
        match part.refusal() {
            Some(refusal) => Err(refusal),
            None if part.topic().is_some_and(|topic| topic.is_internal()) => {
                Err(Refusal::NotFound(name.clone()))
            }
            None => Ok(part),
        }
    }

    async fn newest(
        &self,
        composer: &mut Composer,
        topic: Option<Arc<Part>>,
        (query, viewer): (&Arc<Query>, &Viewer),
        (articles, bytes): (usize, usize),
    ) -> Result<Gathered, Refusal> {
        let wants = Wants { authors: true, sections: true, tags: true };
        let selection = Selection { shape: Shape::FULL_BLOCKS, wants };
        // A record that is damaged is left out: a feed has no field for it.
        let (page, _) = self.gather((query, viewer), None, articles, selection, bytes).await?;
        let page::Page { articles, includes, .. } = page;
        for part in &articles {
            if let State::Live { expire_time, .. } = &part.state {
                composer.changes_at(*expire_time);
            }
        }
        // With the names that are missing, which may be put later.
        includes.names().for_each(|name| composer.depends_on(Subject::Name(name)));
        let named = includes.names().cloned().collect();
        Ok(Gathered::Articles { topic, articles, topics: includes.into_live(), named })
    }

    /// Returns the pages of at most `count` articles after a cursor, until there are enough of them, and the number of
    /// articles that were found there.
    async fn pages(
        &self,
        (query, viewer): (&Arc<Query>, &Viewer),
        mut after: Option<Cursor>,
        (count, enough): (usize, usize),
    ) -> Result<(Vec<SitePage>, usize), Refusal> {
        let (mut pages, mut listed) = (Vec::new(), 0);
        while listed < count && pages.len() < enough {
            let limit = MAX_FOUND.min(count - listed);
            let (query, viewer) = (query.clone(), viewer.clone());
            let read = move |snapshot: Snapshot<'_>| {
                let Slice { found, next, .. } = snapshot.articles(&query, after.as_ref(), limit)?;
                let names = found.iter().map(|(name, _)| name);
                Ok((found.len(), pages_of(snapshot, names, viewer.as_deref())?, next))
            };
            let (found, read_pages, next) = self.store.read(read).await?;
            listed += found;
            pages.extend(read_pages);
            after = next;
            if after.is_none() {
                break;
            }
        }
        pages.truncate(enough);
        Ok((pages, listed))
    }

    /// Returns the cursor after `count` articles. `None` if there are no articles after them.
    async fn skip(&self, query: &Arc<Query>, mut count: usize) -> Result<Option<Cursor>, Refusal> {
        let mut after = None;
        while count > 0 {
            let query = query.clone();
            let read = move |snapshot: Snapshot<'_>| snapshot.skip(&query, after.as_ref(), count);
            let skipped = self.store.read(read).await?;
            if skipped.next.is_none() {
                return Ok(None);
            }
            count -= skipped.articles;
            after = skipped.next;
        }
        Ok(after)
    }
}

/// Returns the list of a tag, section or author.
fn list_of(name: &Name) -> Vec<Term> {
    Term::from_name(&name.to_string()).into_iter().collect()
}

/// Returns the pages of articles that have one and are within a scope. One that cannot be read has none.
fn pages_of<'a>(
    snapshot: Snapshot<'_>,
    names: impl Iterator<Item = &'a Name>,
    scope: Option<&Scope>,
) -> Result<Vec<SitePage>, store::Error> {
    let reader = snapshot.pages(scope.map(Scope::query))?;
    let mut pages = Vec::new();
    for name in names {
        match reader.read(name) {
            Ok(page) => pages.extend(page),
            Err(store::Error::Corrupt(_) | store::Error::Malformed(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pages)
}

impl Gathered {
    /// Returns the names of the entities that it contains.
    fn names(&self) -> BTreeSet<Name> {
        let Gathered::Articles { topic, articles, named, .. } = self else { return BTreeSet::new() };
        topic.iter().chain(articles).map(|part| &part.name).chain(named).cloned().collect()
    }

    fn decode(self) -> Collected {
        match self {
            Gathered::Articles { topic, articles, topics, .. } => Collected::Articles {
                topic: topic.and_then(|part| part.topic()),
                articles: Articles::bounded(articles),
                topics: topics
                    .iter()
                    .filter_map(|part| Some((part.name.to_string(), part.topic()?)))
                    .collect(),
            },
            Gathered::Pages(pages) => Collected::Pages(pages),
            Gathered::Months(months) => Collected::Months(months),
        }
    }
}

impl Part {
    fn topic(&self) -> Option<Topic> {
        match self.name.kind {
            Kind::Author => decode(self).map(Box::new).map(Topic::Author),
            Kind::Section => decode(self).map(Box::new).map(Topic::Section),
            Kind::Tag => decode(self).map(Box::new).map(Topic::Tag),
            Kind::Article | Kind::Collection => None,
        }
    }
}

fn decode<M: Message + Default>(part: &Part) -> Option<M> {
    match &part.state {
        State::Live { bytes, .. } => M::decode(&bytes[..]).ok(),
        _ => None,
    }
}

impl Topic {
    /// Whether it is a mark of the newsroom, which readers do not see.
    pub(crate) fn is_internal(&self) -> bool {
        matches!(self, Topic::Tag(tag) if tag.kind() == TagKind::Internal)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("source", &self.source).finish_non_exhaustive()
    }
}
