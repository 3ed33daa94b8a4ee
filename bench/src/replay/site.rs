//! The posts of a tree, and the changes to articles that result from a commit's changes to its files.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use cable_client::{Change, RemovalReason, Timestamp, v1};

use super::{
    git::{Blobs, File, FileChange, Step},
    post::{Label, Malformed, Post, PostPath},
};
use crate::Outcome;

/// The articles of a tree. An id belongs to the last path that claims it, in the order of bytes, even if the file there
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

    /// Returns all published posts.
    pub(super) fn posts(&self) -> impl Iterator<Item = &Post> {
        self.0.values().filter_map(|paths| paths.last_key_value()?.1.as_deref())
    }
}

/// A converter from files to posts.
#[derive(Debug)]
pub(super) struct Reader {
    blobs: Blobs,
    now: Timestamp,
}

/// The reason why a file is not a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadError {
    Malformed(Malformed),
    /// This copy of the repository lacks the file.
    Missing,
}

impl Reader {
    pub(super) fn new(blobs: Blobs, now: Timestamp) -> Reader {
        Reader { blobs, now }
    }

    /// Returns the post in a file; none if it is not published.
    fn read(&mut self, post_path: &PostPath, file: &File) -> Outcome<Result<Option<Post>, ReadError>> {
        let Some(content) = self.blobs.read(&file.blob)? else { return Ok(Err(ReadError::Missing)) };
        Ok(Post::read(post_path, &content, self.now).map_err(ReadError::Malformed))
    }

    /// Returns the site with all files of a tree.
    ///
    /// # Errors
    /// Fails if the repository cannot be read.
    pub(super) fn site(&mut self, files: &[File]) -> Outcome<Site> {
        let mut site = Site::default();
        for file in files {
            if let Some(post_path) = PostPath::of(&file.path) {
                let post = self.read(&post_path, file)?.unwrap_or_default();
                site.put(&post_path.id, &file.path, post.map(Rc::new));
            }
        }
        Ok(site)
    }
}

/// The numbers of file versions that were not read completely.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Files without front matter or with invalid YAML.
    pub(super) malformed: u64,
    /// Files that this copy of the repository lacks.
    pub(super) missing: u64,
    /// Files with more content than an article can hold.
    pub(super) cut: u64,
}

/// The site along the history, with the tags and authors named so far.
#[derive(Debug)]
pub(super) struct Publisher {
    site: Site,
    reader: Reader,
    pub(super) faults: Faults,
    pub(super) tags: BTreeSet<String>,
    pub(super) authors: BTreeSet<String>,
    /// The number of puts of an existing article with other tags.
    pub(super) retags: u64,
    /// The number of removals of an article whose file has another id now.
    pub(super) moves: u64,
}

/// The edits of a commit.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// The changes, of different names. Entities come before the articles that name them.
    pub(super) changes: Vec<Change>,
    /// The ids of tags that are named for the first time.
    pub(super) new_tags: Vec<String>,
}

/// The effect of a commit on an article.
#[derive(Debug, Default)]
struct Affected {
    before: Option<Rc<Post>>,
    /// The new id of the file that had this id before.
    renamed: Option<String>,
}

impl Publisher {
    pub(super) fn new(reader: Reader) -> Publisher {
        Publisher {
            site: Site::default(),
            reader,
            faults: Faults::default(),
            tags: BTreeSet::new(),
            authors: BTreeSet::new(),
            retags: 0,
            moves: 0,
        }
    }

    /// Applies a commit.
    ///
    /// # Errors
    /// Fails if the repository cannot be read.
    pub(super) fn edit(&mut self, step: &Step) -> Outcome<Edits> {
        let mut affected = BTreeMap::new();
        for change in &step.changes {
            self.remove_old_path(&mut affected, change);
            let Some(file) = &change.file else { continue };
            let Some(post_path) = PostPath::of(&file.path) else { continue };
            self.mark_affected(&mut affected, &post_path.id);
            let post = self.reader.read(&post_path, file)?;
            let post = self.count_fault(&file.path, post);
            self.site.put(&post_path.id, &file.path, post.map(Rc::new));
        }
        Ok(self.edits(&affected))
    }

    /// Counts and reports a file that is not a valid post.
    fn count_fault(&mut self, path: &str, read: Result<Option<Post>, ReadError>) -> Option<Post> {
        match &read {
            Ok(post) => self.faults.cut += u64::from(post.as_ref().is_some_and(|post| post.cut)),
            Err(error) => {
                eprintln!("{path}: {error:?}");
                match error {
                    ReadError::Malformed(_) => self.faults.malformed += 1,
                    ReadError::Missing => self.faults.missing += 1,
                }
            }
        }
        read.unwrap_or_default()
    }

    fn remove_old_path(&mut self, affected: &mut BTreeMap<String, Affected>, change: &FileChange) {
        let Some(path) = change.old_path.as_deref() else { return };
        let Some(post_path) = PostPath::of(path) else { return };
        let new_path = change.file.as_ref().and_then(|file| PostPath::of(&file.path));
        self.mark_affected(affected, &post_path.id).renamed =
            new_path.map(|now| now.id).filter(|id| *id != post_path.id);
        self.site.remove(&post_path.id, path);
    }

    fn mark_affected<'a>(&self, affected: &'a mut BTreeMap<String, Affected>, id: &str) -> &'a mut Affected {
        let first = || Affected { before: self.site.post(id).cloned(), renamed: None };
        affected.entry(id.to_owned()).or_insert_with(first)
    }

    fn edits(&mut self, affected: &BTreeMap<String, Affected>) -> Edits {
        let (mut edits, mut articles) = (Edits::default(), Vec::new());
        for (id, Affected { before, renamed }) in affected {
            match (before, self.site.post(id).cloned()) {
                (before, Some(post)) => {
                    let tags = |post: &Rc<Post>| post.article.tags.clone();
                    let retagged = before.as_ref().is_some_and(|before| tags(before) != tags(&post));
                    self.retags += u64::from(retagged);
                    self.put_new_entities(&post, &mut edits);
                    articles.push(Change::put(post.article.clone()));
                }
                (Some(_), None) => {
                    self.moves += u64::from(renamed.is_some());
                    articles.push(removal(id, renamed.as_deref()));
                }
                (None, None) => {}
            }
        }
        edits.changes.extend(articles);
        edits
    }

    /// Puts the tags and authors that are named for the first time.
    fn put_new_entities(&mut self, post: &Post, edits: &mut Edits) {
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

#[cfg(test)]
mod tests {
    use cable_client::v1::change::Change as ChangeKind;

    use super::{
        super::git::{Repository, tests::Scratch},
        *,
    };

    const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 0 };

    fn post(title: &str, tags: &str) -> String {
        let body = "The harbour of Norwick is closed.\n\n".repeat(20);
        format!("---\ntitle: {title}\nauthors: [ada]\ntags: [{tags}]\n---\n{body}")
    }

    fn shown(change: &Change) -> String {
        match change.change.as_ref().unwrap() {
            ChangeKind::PutArticle(article) => {
                format!("{} {:?} {}", article.name, article.headline, article.tags.join(" "))
            }
            ChangeKind::PutTag(tag) => format!("{} {:?}", tag.name, tag.display_name),
            ChangeKind::PutAuthor(author) => author.name.clone(),
            ChangeKind::Remove(removal) if removal.moved_to.is_empty() => {
                format!("{} {:?}", removal.name, removal.reason())
            }
            ChangeKind::Remove(removal) => format!("{} to {}", removal.name, removal.moved_to),
            other => panic!("{other:?}"),
        }
    }

    /// Returns the edits of each commit. After each, the site must equal the one that is built from its files alone.
    fn replayed(repository: &Repository) -> (Publisher, Vec<Vec<String>>) {
        let reader = || Reader::new(repository.blobs().unwrap(), NOW);
        let (mut publisher, mut tree_reader, mut edits) = (Publisher::new(reader()), reader(), Vec::new());
        for step in repository.history().unwrap() {
            let step = step.unwrap();
            edits.push(publisher.edit(&step).unwrap().changes.iter().map(shown).collect());
            let expected = tree_reader.site(&repository.tree(&step.commit).unwrap()).unwrap();
            assert!(publisher.site.posts().eq(expected.posts()), "{step:?}");
        }
        (publisher, edits)
    }

    #[test]
    fn commits_become_puts_retags_moves_and_removals() {
        let scratch = Scratch::new();
        let (storm, tide) = ("_posts/2020-01-02-storm.md", "_posts/2020-01-03-tide.md");
        scratch.write(storm, &post("Storm", "High Seas"));
        scratch.write(tide, &post("Tide", "land"));
        scratch.write("_posts/README.md", "How to write.");
        scratch.commit();
        scratch.write(storm, &post("Storm", "high seas, land"));
        scratch.commit();
        scratch.rename(storm, "content/posts/2020-01-02-storm.md");
        scratch.rename(tide, "_posts/2020-01-03-high-tide.md");
        scratch.commit();
        scratch.write("_posts/2020-01-03-high-tide.md", "---\ntitle: Tide\npublished: false\n---\n");
        scratch.commit();
        scratch.remove("content/posts/2020-01-02-storm.md");
        scratch.commit();
        let (publisher, edits) = replayed(&scratch.repository());
        assert_eq!(
            edits,
            [
                vec![
                    "tags/high-seas \"High Seas\"",
                    "authors/ada",
                    "tags/land \"land\"",
                    "articles/storm \"Storm\" tags/high-seas",
                    "articles/tide \"Tide\" tags/land",
                ],
                vec!["articles/storm \"Storm\" tags/high-seas tags/land"],
                vec![
                    "articles/high-tide \"Tide\" tags/land",
                    "articles/storm \"Storm\" tags/high-seas tags/land",
                    "articles/tide to articles/high-tide",
                ],
                vec!["articles/high-tide Deleted"],
                vec!["articles/storm Deleted"],
            ]
        );
        assert_eq!((publisher.retags, publisher.moves, publisher.faults), (1, 1, Faults::default()));
    }

    #[test]
    fn the_last_path_wins_an_id_of_two_files() {
        let scratch = Scratch::new();
        scratch.write("_posts/2020-01-02-storm.md", &post("Old", "sea"));
        scratch.commit();
        scratch.write("_posts/2021-01-02-storm.md", &post("New", "sea"));
        scratch.commit();
        scratch.write("_posts/2020-01-02-storm.md", &post("Older", "sea"));
        scratch.commit();
        scratch.remove("_posts/2021-01-02-storm.md");
        scratch.commit();
        let (_, edits) = replayed(&scratch.repository());
        let last: Vec<&str> = edits.iter().map(|edits| edits.last().unwrap().as_str()).collect();
        let titles = ["Old", "New", "New", "Older"].map(|title| format!("articles/storm {title:?} tags/sea"));
        assert_eq!(last, titles);
    }

    #[test]
    fn a_malformed_file_is_counted_and_removed() {
        let scratch = Scratch::new();
        scratch.write("_posts/2020-01-02-storm.md", &post("Storm", "sea"));
        scratch.commit();
        scratch.write("_posts/2020-01-02-storm.md", "---\ntitle: \"Storm\" again\n---\n");
        scratch.commit();
        let (publisher, edits) = replayed(&scratch.repository());
        assert_eq!(edits[1], ["articles/storm Deleted"]);
        assert_eq!(publisher.faults, Faults { malformed: 1, missing: 0, cut: 0 });
    }
}
