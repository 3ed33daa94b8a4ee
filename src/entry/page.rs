//! The page of an article on the site. The store has it beside the entry, so that a sitemap of thousands of articles
//! reads none of their bodies.

use prost::Message as _;

use super::{Term, publish_time, read_time};
use crate::wire::{
    fields::{self, Field},
    log,
    number::article,
};

/// The page of an article, as sitemaps show it. Times are in microseconds since 1970 UTC.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct SitePage {
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// Empty if the page is the canonical one.
    #[prost(string, tag = "2")]
    pub(crate) canonical_url: String,
    #[prost(string, tag = "3")]
    pub(crate) headline: String,
    #[prost(string, tag = "4")]
    pub(crate) language: String,
    #[prost(sint64, tag = "5")]
    pub(crate) publish_time: i64,
    /// The time of the last change that readers should notice.
    #[prost(sint64, tag = "6")]
    pub(crate) change_time: i64,
    #[prost(sint64, optional, tag = "7")]
    pub(crate) expire_time: Option<i64>,
    /// The [fingerprints](Term::fingerprint) of the lists that contain the article, ascending.
    #[prost(fixed64, repeated, tag = "8")]
    pub(crate) lists: Vec<u64>,
}

impl SitePage {
    /// Returns the page of an article that readers see. `None` for an article without a path, and for a tombstone.
    pub(super) fn of(log: &log::LogEntry, terms: &[Term]) -> Option<SitePage> {
        let mut page = SitePage {
            publish_time: publish_time(&log.content).unwrap_or(log.first_publish_time),
            lists: terms.iter().map(Term::fingerprint).collect(),
            ..SitePage::default()
        };
        page.lists.sort_unstable();
        let mut modified = None;
        for Field { number, value, .. } in fields::fields(&log.content).map_while(Result::ok) {
            let text = || String::from_utf8_lossy(value).into_owned();
            match number {
                article::PATH => page.path = text(),
                article::CANONICAL_URL => page.canonical_url = text(),
                article::HEADLINE => page.headline = text(),
                article::LANGUAGE => page.language = text(),
                article::MODIFIED_TIME => modified = read_time(value),
                article::EXPIRE_TIME => page.expire_time = read_time(value),
                _ => {}
            }
        }
        page.change_time = modified.unwrap_or(log.time).max(page.publish_time);
        let is_live = log.operation() == log::Operation::Put;
        (is_live && !page.path.is_empty()).then_some(page)
    }

    /// Returns whether a list contains the article.
    pub(crate) fn is_in(&self, fingerprint: u64) -> bool {
        self.lists.binary_search(&fingerprint).is_ok()
    }

    /// Reads a page from the bytes that [`Derived::page`](super::Derived::page) has.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<SitePage> {
        SitePage::decode(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::Entry,
        model::{Name, Slot},
        wire::v1,
    };

    fn page(name: &str, slot: Slot, operation: log::Operation, article: &v1::Article) -> Option<SitePage> {
        let log = log::LogEntry {
            operation: operation as i32,
            time: 7,
            first_publish_time: 5,
            content: article.encode_to_vec().into(),
            ..Default::default()
        };
        let derived = Entry::new(Name::parse(name).unwrap(), slot, log).derived;
        derived.page.map(|bytes| SitePage::from_bytes(&bytes).unwrap())
    }

    #[test]
    fn a_live_article_with_a_path_has_a_page() {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let article = v1::Article {
            path: "/storm".into(),
            canonical_url: "https://other.example/storm".into(),
            headline: "Storm".into(),
            language: "en-GB".into(),
            body: Some(v1::Body::default()),
            ..Default::default()
        };
        let put = |article: &v1::Article| page("articles/a", Slot::Live, log::Operation::Put, article);
        let language = Term::Language("en-gb".into());
        let mut lists = [Term::All, Term::Type(1), language].map(|term| term.fingerprint()).to_vec();
        lists.sort_unstable();
        let expected = SitePage {
            lists,
            path: article.path.clone(),
            canonical_url: article.canonical_url.clone(),
            headline: article.headline.clone(),
            language: article.language.clone(),
            publish_time: 5,
            change_time: 7,
            expire_time: None,
        };
        assert_eq!(put(&article), Some(expected.clone()));
        let dated = v1::Article {
            publish_time: time(-3),
            modified_time: time(-2),
            expire_time: time(9),
            ..article.clone()
        };
        let (publish_time, change_time, expire_time) = (-3_000_000, -2_000_000, Some(9_000_000));
        assert_eq!(put(&dated), Some(SitePage { publish_time, change_time, expire_time, ..expected }));
        // A correction that is dated before the publication is none.
        let early = v1::Article { publish_time: time(4), modified_time: time(3), ..article.clone() };
        assert_eq!(put(&early).unwrap().change_time, 4_000_000);
        assert_eq!(put(&v1::Article { path: String::new(), ..article.clone() }), None);
        assert_eq!(page("articles/a", Slot::Live, log::Operation::Remove, &article), None);
        assert_eq!(page("articles/a", Slot::Pending, log::Operation::Put, &article), None);
        assert_eq!(page("collections/a", Slot::Live, log::Operation::Put, &article), None);
    }
}
