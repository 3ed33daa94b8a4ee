//! The parts of a write, built step by step: changes of a commit, removals, patches and preconditions.

use prost_types::FieldMask;

use crate::{
    full_name,
    v1::{
        self, ArticlePatch, Change, Precondition, Removal, RemovalReason, UpdateKind, change,
        precondition::Condition,
    },
};

mod sealed {
    pub trait Sealed {}
}

/// An entity that can be put: an article, author, section, tag or collection.
pub trait Entity: sealed::Sealed + Sized {
    /// The collection of the names of this kind: `articles` for `articles/storm`.
    const COLLECTION: &'static str;

    /// Returns the entity with its full name if its name is a bare id.
    #[must_use]
    fn with_full_name(self) -> Self;

    /// Returns the change that puts the entity.
    fn into_put(self) -> change::Change;
}

macro_rules! entity {
    ($($entity:ident in $collection:literal: $change:ident;)*) => {$(
        impl sealed::Sealed for v1::$entity {}

        impl Entity for v1::$entity {
            const COLLECTION: &'static str = $collection;

            fn with_full_name(mut self) -> Self {
                self.name = full_name(Self::COLLECTION, self.name);
                self
            }

            fn into_put(self) -> change::Change {
                change::Change::$change(self)
            }
        }
    )*};
}

entity! {
    Article in "articles": PutArticle;
    Author in "authors": PutAuthor;
    Section in "sections": PutSection;
    Tag in "tags": PutTag;
    Collection in "collections": PutCollection;
}

impl Change {
    /// Puts a whole entity, created or replaced. Its name can be a bare id.
    pub fn put<E: Entity>(entity: E) -> Change {
        Change::from_change(entity.with_full_name().into_put())
    }

    /// Replaces fields of an article; see [`ArticlePatch::new`].
    pub fn patch(article: v1::Article, mask: impl IntoIterator<Item = impl Into<String>>) -> Change {
        Change::from_change(change::Change::PatchArticle(ArticlePatch::new(article, mask)))
    }

    /// Removes a name of any kind; see [`Removal::new`].
    pub fn remove(name: impl Into<String>, reason: RemovalReason) -> Change {
        Change::from_change(change::Change::Remove(Removal::new(name, reason)))
    }

    /// Sets the name that replaces the removed one. Required for a removal with the reason MOVED; ignored for a change
    /// that is not a removal.
    #[must_use]
    pub fn moved_to(mut self, target: impl Into<String>) -> Change {
        if let Some(change::Change::Remove(removal)) = &mut self.change {
            *removal = std::mem::take(removal).moved_to(target);
        }
        self
    }

    /// Requires the name to have no version, live or pending.
    #[must_use]
    pub fn if_absent(mut self) -> Change {
        self.precondition = Some(Precondition::absent());
        self
    }

    /// Requires the current version to have this etag.
    #[must_use]
    pub fn if_etag(mut self, etag: impl Into<String>) -> Change {
        self.precondition = Some(Precondition::etag(etag));
        self
    }

    /// Sets the kind of update, for followers of feeds. If unset, MAJOR.
    #[must_use]
    pub fn with_update_kind(mut self, kind: UpdateKind) -> Change {
        self.update_kind = kind.into();
        self
    }

    /// Allows a put to publish a killed name again.
    #[must_use]
    pub fn allow_killed(mut self) -> Change {
        self.allow_killed = true;
        self
    }

    /// Sets the body of an article that is put as HTML or Markdown: see [`v1::Body::html`] and [`v1::Body::markdown`].
    /// The server refuses it for other changes.
    #[must_use]
    pub fn with_body_source(mut self, source: v1::BodySource) -> Change {
        self.body_source = Some(source);
        self
    }

    fn from_change(change: change::Change) -> Change {
        Change { change: Some(change), ..Change::default() }
    }
}

impl Removal {
    /// Returns the removal of a name of any kind. A bare id is that of an article.
    pub fn new(id: impl Into<String>, reason: RemovalReason) -> Removal {
        Removal { name: full_name("articles", id), reason: reason.into(), moved_to: String::new() }
    }

    /// Sets the name that replaces the removed one. A bare id is of the kind of the removed name.
    #[must_use]
    pub fn moved_to(mut self, target: impl Into<String>) -> Removal {
        let collection = self.name.split('/').next().unwrap_or_default();
        self.moved_to = full_name(collection, target);
        self
    }
}

impl ArticlePatch {
    /// Returns the replacement of top-level fields of an article. The mask names the fields; a field in the mask that is
    /// unset in `article` is cleared. With an empty mask, the fields that are set in `article` are replaced.
    pub fn new(article: v1::Article, mask: impl IntoIterator<Item = impl Into<String>>) -> ArticlePatch {
        let paths: Vec<String> = mask.into_iter().map(Into::into).collect();
        let update_mask = if paths.is_empty() { None } else { Some(FieldMask { paths }) };
        ArticlePatch { article: Some(article.with_full_name()), update_mask }
    }
}

impl Precondition {
    /// Requires the name to have no version, live or pending.
    #[must_use]
    pub fn absent() -> Precondition {
        Precondition { condition: Some(Condition::MustBeAbsent(true)) }
    }

    /// Requires the current version to have this etag.
    pub fn etag(etag: impl Into<String>) -> Precondition {
        Precondition { condition: Some(Condition::Etag(etag.into())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_target_has_the_kind_of_the_removed_name() {
        let moved = |name: &str, to: &str| {
            let removal = Removal::new(name, RemovalReason::Moved).moved_to(to);
            (removal.name, removal.moved_to)
        };
        assert_eq!(moved("a", "b"), ("articles/a".into(), "articles/b".into()));
        assert_eq!(moved("tags/a", "b"), ("tags/a".into(), "tags/b".into()));
        assert_eq!(moved("tags/a", "tags/b"), ("tags/a".into(), "tags/b".into()));
    }

    #[test]
    fn an_empty_mask_is_none() {
        assert_eq!(ArticlePatch::new(v1::Article::default(), [""; 0]).update_mask, None);
        let mask = ArticlePatch::new(v1::Article::default(), ["headline"]).update_mask.unwrap();
        assert_eq!(mask.paths, ["headline"]);
    }

    #[test]
    fn a_put_completes_a_bare_id() {
        let change = Change::put(v1::Tag { name: "storm".into(), ..Default::default() }).if_absent();
        let Some(change::Change::PutTag(tag)) = change.change else { panic!("{change:?}") };
        assert_eq!(tag.name, "tags/storm");
        assert_eq!(change.precondition, Some(Precondition::absent()));
    }
}
