//! The posts of a tree, and what a commit's changes to its files come to as changes to articles.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use cable_client::{Change, RemovalReason, Timestamp, v1};

use super::{
    git::{Blobs, File, FileChange, Step},
    post::{Label, Place, Post},
};
use crate::Outcome;

/// The articles of a tree. An id belongs to the last path that claims it, in the order of bytes, even if what lies there
/// is not published.
#[derive(Debug, Default)]
pub(super) struct Site(BTreeMap<String, BTreeMap<String, Option<Rc<Post>>>>);

impl Site {
    fn put(&mut self, id: &str, path: &str, post: Option<Rc<Post>>) {
        self.0.entry(id.to_owned()).or_default().insert(path.to_owned(), post);
    }

    fn remove(&mut self, id: &str, path: &str) {
        if let Some(paths) = self.0.get_mut(id) {
            paths.remove(path);
        }
    }

    fn post(&self, id: &str) -> Option<&Rc<Post>> {
        self.0.get(id)?.last_key_value()?.1.as_ref()
    }

    /// All that can be read.
    pub(super) fn posts(&self) -> impl Iterator<Item = &Post> {
        self.0.values().filter_map(|paths| paths.last_key_value()?.1.as_deref())
    }
}

/// Turns files into posts, and counts what is wrong with them.
#[derive(Debug)]
pub(super) struct Reader {
    blobs: Blobs,
    now: Timestamp,
    pub(super) faults: Faults,
}

/// Versions of files that were not read whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Without front matter, or with one that is no YAML.
    pub(super) malformed: u64,
    /// Not in this copy of the repository.
    pub(super) missing: u64,
    /// With more than an article holds.
    pub(super) cut: u64,
}

impl Reader {
    pub(super) fn new(blobs: Blobs, now: Timestamp) -> Reader {
        Reader { blobs, now, faults: Faults::default() }
    }

    fn read(&mut self, place: &Place, file: &File) -> Outcome<Option<Rc<Post>>> {
        let Some(content) = self.blobs.read(&file.blob)? else {
            self.faults.missing += 1;
            return Ok(None);
        };
        let post = Post::read(place, &content, self.now).unwrap_or_else(|why| {
            self.faults.malformed += 1;
            eprintln!("{}: {why:?}", file.path);
            None
        });
        self.faults.cut += u64::from(post.as_ref().is_some_and(|post| post.cut));
        Ok(post.map(Rc::new))
    }

    /// A site out of all files of a tree.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub(super) fn site(&mut self, files: &[File]) -> Outcome<Site> {
        let mut site = Site::default();
        for file in files {
            if let Some(place) = Place::of(&file.path) {
                site.put(&place.id, &file.path, self.read(&place, file)?);
            }
        }
        Ok(site)
    }
}

/// The site as the history goes along, and who has been named in it.
#[derive(Debug)]
pub(super) struct Desk {
    site: Site,
    pub(super) reader: Reader,
    pub(super) tags: BTreeSet<String>,
    pub(super) authors: BTreeSet<String>,
    /// Puts of an article that was there with other tags.
    pub(super) retags: u64,
}

/// What a commit comes to.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// Of different names; entities before the articles that name them.
    pub(super) changes: Vec<Change>,
    /// Ids of tags that were never named before.
    pub(super) new_tags: Vec<String>,
}

/// What a commit does to an article.
#[derive(Debug, Default)]
struct Touched {
    before: Option<Rc<Post>>,
    /// The id that a file has now that had this one's before.
    renamed: Option<String>,
}

impl Desk {
    pub(super) fn new(reader: Reader) -> Desk {
        Desk { site: Site::default(), reader, tags: BTreeSet::new(), authors: BTreeSet::new(), retags: 0 }
    }

    /// Takes in a commit.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub(super) fn edit(&mut self, step: &Step) -> Outcome<Edits> {
        let mut touched = BTreeMap::new();
        // All that is gone first: a path that one file leaves another may take in the same commit.
        for change in &step.changes {
            self.leave(&mut touched, change);
        }
        for file in step.changes.iter().filter_map(|change| change.file.as_ref()) {
            if let Some(place) = Place::of(&file.path) {
                self.touch(&mut touched, &place.id);
                let post = self.reader.read(&place, file)?;
                self.site.put(&place.id, &file.path, post);
            }
        }
        Ok(self.edits(&touched))
    }

    fn leave(&mut self, touched: &mut BTreeMap<String, Touched>, change: &FileChange) {
        let Some(path) = change.gone.as_deref() else { return };
        let Some(place) = Place::of(path) else { return };
        let now = change.file.as_ref().and_then(|file| Place::of(&file.path));
        self.touch(touched, &place.id).renamed = now.map(|now| now.id).filter(|id| *id != place.id);
        self.site.remove(&place.id, path);
    }

    fn touch<'a>(&self, touched: &'a mut BTreeMap<String, Touched>, id: &str) -> &'a mut Touched {
        let first = || Touched { before: self.site.post(id).cloned(), renamed: None };
        touched.entry(id.to_owned()).or_insert_with(first)
    }

    fn edits(&mut self, touched: &BTreeMap<String, Touched>) -> Edits {
        let (mut edits, mut articles) = (Edits::default(), Vec::new());
        for (id, Touched { before, renamed }) in touched {
            match (before, self.site.post(id).cloned()) {
                (before, Some(post)) => {
                    let tags = |post: &Rc<Post>| post.article.tags.clone();
                    let retagged = before.as_ref().is_some_and(|before| tags(before) != tags(&post));
                    self.retags += u64::from(retagged);
                    self.introduce(&post, &mut edits);
                    articles.push(Change::put(post.article.clone()));
                }
                (Some(_), None) => articles.push(removal(id, renamed.as_deref())),
                (None, None) => {}
            }
        }
        edits.changes.extend(articles);
        edits
    }

    /// Puts the tags and authors that are named for the first time.
    fn introduce(&mut self, post: &Post, edits: &mut Edits) {
        for label in &post.tags {
            if self.tags.insert(label.id.clone()) {
                edits.new_tags.push(label.id.clone());
                edits.changes.push(Change::put(tag(label)));
            }
        }
        for label in &post.authors {
            if self.authors.insert(label.id.clone()) {
                edits.changes.push(Change::put(author(label)));
            }
        }
    }
}

fn removal(id: &str, renamed: Option<&str>) -> Change {
    match renamed {
        Some(to) => Change::remove(id, RemovalReason::Moved).moved_to(to),
        None => Change::remove(id, RemovalReason::Deleted),
    }
}

fn tag(label: &Label) -> v1::Tag {
    let mut tag = v1::Tag::default();
    tag.name = format!("tags/{}", label.id);
    tag.display_name.clone_from(&label.display_name);
    tag
}

fn author(label: &Label) -> v1::Author {
    let mut author = v1::Author::default();
    author.name = format!("authors/{}", label.id);
    author.display_name.clone_from(&label.display_name);
    author
}
