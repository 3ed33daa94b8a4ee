//! The options that reads share: filter, view, body format, includes and freshness.
//!
//! The setters are macros because each read has its own builder type: an option that a method lacks, such as the view
//! of a tag, then does not compile.

use std::time::Duration;

use crate::v1::{self, ArticleView, BodyFormat, Freshness, Include};

/// The filter of a listing or a stream.
///
/// All set conditions must match. Values of [`tag`](v1::ArticleFilter::tag) must all match, those of
/// [`any_tag`](v1::ArticleFilter::any_tag) at least once, and those of [`without_tag`](v1::ArticleFilter::without_tag)
/// never.
///
/// ```
/// use cable_client::Filter;
///
/// // Everything about storms in the section and its child sections, except opinion.
/// let filter = Filter::default()
///     .section("world")
///     .with_child_sections()
///     .tag("storm")
///     .without_tag("opinion")
///     .language("en");
/// assert_eq!(filter.all_tags, ["tags/storm"]);
/// ```
pub type Filter = v1::ArticleFilter;

/// The requested form and freshness of the articles in a response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    pub(crate) view: ArticleView,
    pub(crate) body_format: BodyFormat,
    pub(crate) includes: Vec<i32>,
    pub(crate) freshness: Option<Freshness>,
}

impl Shape {
    /// Adds included kinds of entity, each at most once: the server refuses duplicates.
    pub(crate) fn include(&mut self, more: impl IntoIterator<Item = Include>) {
        for include in more {
            if !self.includes.contains(&include.into()) {
                self.includes.push(include.into());
            }
        }
    }

    /// Sets the longest wait for freshness, whether or not a freshness is set yet.
    pub(crate) fn max_wait(&mut self, wait: Duration) {
        self.freshness.get_or_insert_default().max_wait = Some(proto_duration(wait));
    }
}

/// The longest duration of a message, in seconds: some 10,000 years.
const MAX_PROTO_SECS: u64 = 315_576_000_000;

/// Returns a duration as the schema encodes it. A longer one than it can encode is the longest, which servers refuse with
/// the name of the field.
pub(crate) fn proto_duration(duration: Duration) -> prost_types::Duration {
    let secs = duration.as_secs().min(MAX_PROTO_SECS);
    let nanos = if secs < MAX_PROTO_SECS { duration.subsec_nanos() } else { 0 };
    prost_types::Duration { seconds: secs.cast_signed(), nanos: nanos.cast_signed() }
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

pub(crate) use cable_proto::full_name;
pub(crate) use {freshness_setters, shape_setters, timeout_setter};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_have_no_duplicates() {
        let mut shape = Shape::default();
        shape.include([Include::Tags, Include::Authors]);
        shape.include([Include::Tags]);
        assert_eq!(shape.includes, [Include::Tags as i32, Include::Authors as i32]);
    }
}
