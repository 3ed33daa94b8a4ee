//! Filters, built condition by condition. Ids can be bare (`storm`) or full names (`tags/storm`).
//!
//! ```
//! use cable_proto::v1::{ArticleFilter, EntityKind, FeedFilter};
//!
//! let articles = ArticleFilter::default().tag("storm").without_tag("tags/sponsored").section("weather");
//! let storms = FeedFilter::default().any_tag("storm").any_tag("tags/flood").section("weather");
//! let front_pages = FeedFilter::default().kind(EntityKind::Collection);
//! ```

use prost_types::Timestamp;

use crate::{
    full_name,
    v1::{ArticleFilter, ArticleType, EntityKind, FeedFilter},
};

impl ArticleFilter {
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
        self.excluded_tags.push(full_name("tags", tag));
        self
    }

    /// Sets the section: the article is in it, as its main or an additional section.
    #[must_use]
    pub fn section(mut self, section: impl Into<String>) -> Self {
        self.section = full_name("sections", section);
        self
    }

    /// Includes the sections below the section of the filter. Allowed only with [`section`](ArticleFilter::section()).
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

impl FeedFilter {
    /// Adds a tag: the article has at least one of the added tags, at most 64.
    #[must_use]
    pub fn any_tag(mut self, tag: impl Into<String>) -> Self {
        self.any_tags.push(full_name("tags", tag));
        self
    }

    /// Adds a section: the article is in at least one of the added sections, at most 64.
    #[must_use]
    pub fn section(mut self, section: impl Into<String>) -> Self {
        self.sections.push(full_name("sections", section));
        self
    }

    /// Adds an author: the article credits at least one of the added authors, at most 64.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.authors.push(full_name("authors", author));
        self
    }

    /// Adds a kind: the entity is of one of the added kinds.
    #[must_use]
    pub fn kind(mut self, kind: EntityKind) -> Self {
        self.kinds.push(kind.into());
        self
    }
}
