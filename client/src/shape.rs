//! What reads have in common: which articles, how much of them, in which form, and how fresh.

use prost_types::Timestamp;

use crate::v1::{self, ArticleType, ArticleView, BodyFormat, Freshness, Include, Position};

/// Which articles a list or a stream is of: all that is set must hold; nothing set means every article.
///
/// ```
/// use cable_client::Filter;
///
/// let filter = Filter::default().tag("storm").without_tag("tags/sponsored").section("weather");
/// ```
///
/// Ids may be given bare, or as the names that they belong to.
pub type Filter = v1::ArticleFilter;

impl Filter {
    /// Has this tag too.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.all_tags.push(name("tags", tag));
        self
    }

    /// Has at least one of the tags that are given like this.
    #[must_use]
    pub fn any_tag(mut self, tag: impl Into<String>) -> Self {
        self.any_tags.push(name("tags", tag));
        self
    }

    /// Does not have this tag.
    #[must_use]
    pub fn without_tag(mut self, tag: impl Into<String>) -> Self {
        self.none_tags.push(name("tags", tag));
        self
    }

    /// Belongs to this section.
    #[must_use]
    pub fn section(mut self, section: impl Into<String>) -> Self {
        self.section = name("sections", section);
        self
    }

    /// With a section: or belongs to one below it.
    #[must_use]
    pub fn with_child_sections(mut self) -> Self {
        self.include_child_sections = true;
        self
    }

    /// Has a credit of at least one of the authors that are given like this.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.authors.push(name("authors", author));
        self
    }

    /// Is of one of the types that are given like this.
    #[must_use]
    pub fn article_type(mut self, of: ArticleType) -> Self {
        self.types.push(of.into());
        self
    }

    /// Is in this language, a BCP 47 tag.
    #[must_use]
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.language = language.into();
        self
    }

    /// Was published then or later. A `SystemTime` will do.
    #[must_use]
    pub fn published_after(mut self, time: impl Into<Timestamp>) -> Self {
        self.published_after = Some(time.into());
        self
    }

    /// Was published before that. A `SystemTime` will do.
    #[must_use]
    pub fn published_before(mut self, time: impl Into<Timestamp>) -> Self {
        self.published_before = Some(time.into());
        self
    }
}

impl From<&Position> for Freshness {
    /// As fresh as that place of that log.
    fn from(position: &Position) -> Self {
        Freshness { at_least_revision: position.revision, log_id: position.log_id.clone(), max_wait: None }
    }
}

impl From<Position> for Freshness {
    fn from(position: Position) -> Self {
        Freshness::from(&position)
    }
}

impl From<i64> for Freshness {
    /// As fresh as that revision, of whichever log the server has.
    fn from(revision: i64) -> Self {
        Freshness { at_least_revision: revision, ..Freshness::default() }
    }
}

/// How much of the articles of an answer is wanted, and how fresh.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    pub(crate) view: ArticleView,
    pub(crate) format: BodyFormat,
    pub(crate) includes: Vec<i32>,
    pub(crate) freshness: Option<Freshness>,
}

impl Shape {
    pub(crate) fn include(&mut self, more: impl IntoIterator<Item = Include>) {
        for include in more {
            if !self.includes.contains(&include.into()) {
                self.includes.push(include.into());
            }
        }
    }

    pub(crate) fn max_wait(&mut self, wait: std::time::Duration) {
        let wait = prost_types::Duration::try_from(wait).ok();
        self.freshness.get_or_insert_default().max_wait = wait;
    }
}

/// Setters for a builder with a `shape` and a `timeout`.
macro_rules! shape_setters {
    () => {
        /// How much of each article.
        pub fn view(mut self, view: crate::View) -> Self {
            self.shape.view = view;
            self
        }

        /// The form of the body, in the view FULL.
        pub fn format(mut self, format: crate::BodyFormat) -> Self {
            self.shape.format = format;
            self
        }

        /// What the articles name that shall come along. May be called again for more.
        pub fn include(mut self, what: impl IntoIterator<Item = crate::Include>) -> Self {
            self.shape.include(what);
            self
        }

        crate::shape::freshness_setters!();
    };
}

/// Setters for a builder with a `shape` of which only the freshness counts, and a `timeout`.
macro_rules! freshness_setters {
    () => {
        /// The answer shall be as fresh as this [`Position`](crate::Position) or revision: a caller that hands over
        /// the position of its write sees that write, on any node.
        pub fn at_least(mut self, place: impl Into<crate::v1::Freshness>) -> Self {
            let max_wait = self.shape.freshness.take().and_then(|freshness| freshness.max_wait);
            let mut freshness = place.into();
            freshness.max_wait = freshness.max_wait.or(max_wait);
            self.shape.freshness = Some(freshness);
            self
        }

        /// How long the server may wait until it is as fresh as that: at most 10 s, and 1 s unless set.
        pub fn max_wait(mut self, wait: std::time::Duration) -> Self {
            self.shape.max_wait(wait);
            self
        }

        crate::shape::timeout_setter!();
    };
}

macro_rules! timeout_setter {
    () => {
        /// How long this call may take, instead of what the client is set to.
        pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
            self.timeout = Some(timeout);
            self
        }
    };
}

pub(crate) use {freshness_setters, shape_setters, timeout_setter};

/// `storm` is `tags/storm`; what has a slash is a name already, right or wrong: the server says.
pub(crate) fn name(collection: &str, given: impl Into<String>) -> String {
    let given = given.into();
    if given.contains('/') || given.is_empty() { given } else { format!("{collection}/{given}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_ids_become_names_and_names_stay() {
        assert_eq!(name("articles", "storm"), "articles/storm");
        assert_eq!(name("articles", "articles/storm"), "articles/storm");
        assert_eq!(name("articles", "tags/storm"), "tags/storm");
        assert_eq!(name("articles", ""), "");
        let filter = Filter::default().tag("a").tag("tags/b").section("news").author("x");
        assert_eq!(filter.all_tags, ["tags/a", "tags/b"]);
        assert_eq!((filter.section.as_str(), filter.authors[0].as_str()), ("sections/news", "authors/x"));
    }

    #[test]
    fn nothing_is_included_twice() {
        let mut shape = Shape::default();
        shape.include([Include::Tags, Include::Authors]);
        shape.include([Include::Tags]);
        assert_eq!(shape.includes, [Include::Tags as i32, Include::Authors as i32]);
    }
}
