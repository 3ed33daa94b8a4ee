//! The options that reads share: filter, view, body format, includes and freshness.

use prost_types::Timestamp;

use crate::v1::{self, ArticleType, ArticleView, BodyFormat, Freshness, Include, Position};

/// The filter of a listing or a stream. All set conditions must match; a filter without conditions matches every
/// article.
///
/// Ids can be bare (`storm`) or full names (`tags/storm`).
///
/// ```
/// use cable_client::Filter;
///
/// let filter = Filter::default().tag("storm").without_tag("tags/sponsored").section("weather");
/// ```
pub type Filter = v1::ArticleFilter;

impl Filter {
    /// Adds a tag: the article has all of the added tags, at most 64.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.all_tags.push(full_name("tags", tag));
        self
    }

    /// Adds an alternative tag: the article has at least one of the tags that are added in this way, at most 64.
    #[must_use]
    pub fn any_tag(mut self, tag: impl Into<String>) -> Self {
        self.any_tags.push(full_name("tags", tag));
        self
    }

    /// Adds an excluded tag: the article has none of the tags that are added in this way, at most 64.
    #[must_use]
    pub fn without_tag(mut self, tag: impl Into<String>) -> Self {
        self.none_tags.push(full_name("tags", tag));
        self
    }

    /// Sets the section: the article is in it, as its main or an additional section.
    #[must_use]
    pub fn section(mut self, section: impl Into<String>) -> Self {
        self.section = full_name("sections", section);
        self
    }

    /// Includes the sections below the section of the filter. Allowed only with [`section`](Filter::section()).
    #[must_use]
    pub fn with_child_sections(mut self) -> Self {
        self.include_child_sections = true;
        self
    }

    /// Adds an author: the article credits at least one of the added authors, at most 64.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.authors.push(full_name("authors", author));
        self
    }

    /// Adds a type: the article is of one of the added types, at most 16.
    #[must_use]
    pub fn article_type(mut self, article_type: ArticleType) -> Self {
        self.types.push(article_type.into());
        self
    }

    /// Sets the language, a BCP 47 tag of at most 128 bytes: the language of the article is equal to it, ignoring case.
    #[must_use]
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.language = language.into();
        self
    }

    /// Sets the earliest publication time, inclusive. A `SystemTime` is accepted too.
    #[must_use]
    pub fn published_after(mut self, time: impl Into<Timestamp>) -> Self {
        self.published_after = Some(time.into());
        self
    }

    /// Sets the latest publication time, exclusive. A `SystemTime` is accepted too.
    #[must_use]
    pub fn published_before(mut self, time: impl Into<Timestamp>) -> Self {
        self.published_before = Some(time.into());
        self
    }
}

impl From<&Position> for Freshness {
    /// Requires the freshness of this position in its log.
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
    /// Requires the freshness of this revision, of any log that the server has.
    fn from(revision: i64) -> Self {
        Freshness { at_least_revision: revision, ..Freshness::default() }
    }
}

/// The requested form and freshness of the articles in a response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    pub(crate) view: ArticleView,
    pub(crate) body_format: BodyFormat,
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
        /// Sets the view of articles.
        pub fn view(mut self, view: crate::View) -> Self {
            self.shape.view = view;
            self
        }

        /// Sets the format of bodies in the view FULL; other views allow only BLOCKS. If unset, BLOCKS.
        pub fn body_format(mut self, format: crate::BodyFormat) -> Self {
            self.shape.body_format = format;
            self
        }

        /// Includes entities that the articles refer to: authors, sections or tags. Further calls add more.
        pub fn include(mut self, includes: impl IntoIterator<Item = crate::Include>) -> Self {
            self.shape.include(includes);
            self
        }

        crate::shape::freshness_setters!();
    };
}

/// Setters for a builder with a `timeout` and a `shape` of which only the freshness applies.
macro_rules! freshness_setters {
    () => {
        /// Requires the response to be at least as fresh as this [`Position`](crate::Position) or revision. A read with
        /// the position of a write sees that write, on any node. If unset, the node serves its current state.
        pub fn not_older_than(mut self, position: impl Into<crate::v1::Freshness>) -> Self {
            let max_wait = self.shape.freshness.take().and_then(|freshness| freshness.max_wait);
            let mut freshness = position.into();
            freshness.max_wait = freshness.max_wait.or(max_wait);
            self.shape.freshness = Some(freshness);
            self
        }

        /// Sets how long the server waits until it is as fresh as required, at most 10 s. If unset, 1 s.
        pub fn max_wait(mut self, wait: std::time::Duration) -> Self {
            self.shape.max_wait(wait);
            self
        }

        crate::shape::timeout_setter!();
    };
}

macro_rules! timeout_setter {
    () => {
        /// Sets the timeout of each call that this builder makes, instead of the [client's](crate::Builder::timeout()).
        pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
            self.timeout = Some(timeout);
            self
        }
    };
}

pub(crate) use {freshness_setters, shape_setters, timeout_setter};

/// Converts a bare id to a name: `storm` to `tags/storm`. A value with a slash is a name already; the server checks it.
pub(crate) fn full_name(collection: &str, id: impl Into<String>) -> String {
    let id = id.into();
    if id.contains('/') || id.is_empty() { id } else { format!("{collection}/{id}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_ids_become_names() {
        assert_eq!(full_name("articles", "storm"), "articles/storm");
        assert_eq!(full_name("articles", "articles/storm"), "articles/storm");
        assert_eq!(full_name("articles", "tags/storm"), "tags/storm");
        assert_eq!(full_name("articles", ""), "");
        let filter = Filter::default().tag("a").tag("tags/b").section("news").author("x");
        assert_eq!(filter.all_tags, ["tags/a", "tags/b"]);
        assert_eq!((filter.section.as_str(), filter.authors[0].as_str()), ("sections/news", "authors/x"));
    }

    #[test]
    fn includes_have_no_duplicates() {
        let mut shape = Shape::default();
        shape.include([Include::Tags, Include::Authors]);
        shape.include([Include::Tags]);
        assert_eq!(shape.includes, [Include::Tags as i32, Include::Authors as i32]);
    }
}
