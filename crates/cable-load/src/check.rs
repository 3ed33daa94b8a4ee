//! The outcome of a call, and the checks of a response: it has the requested article, complete in its view, and the
//! same content whenever the revision is the same; lists are in order and have only articles that match.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use cable_client::{
    Timestamp,
    v1::{Article, ArticleFilter, ArticleOrder, ArticleView, BodyFormat},
};
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

/// The outcome of a call.
pub(crate) type Outcome = Result<Response, Failure>;

/// The content of a correct response.
#[derive(Debug, Default)]
pub(crate) struct Response {
    pub(crate) articles: u64,
    /// Size of the encoded articles.
    pub(crate) bytes: u64,
    /// The time at which the first article of a stream arrived.
    pub(crate) first: Option<Instant>,
}

/// The reason why there is no correct response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The call failed.
    Call(cable_client::Error),
    /// The stream did not end in time.
    Deadline,
    /// The response is wrong.
    Wrong(Fault),
}

impl From<cable_client::Error> for Failure {
    fn from(error: cable_client::Error) -> Self {
        Failure::Call(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Wrong(fault)
    }
}

/// Maximum number of articles whose content is remembered. The content of further articles is not compared.
const MAX_SEEN: usize = 1_000_000;

/// A fault of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The article is not the requested one.
    OtherArticle,
    /// The article lacks something that its view requires, or has something that its view excludes.
    View,
    /// The article had other content at the same revision before.
    Content,
    /// The article differs from the published one.
    Published,
    /// Articles are not in the requested order.
    Order,
    /// An article does not match the filter.
    Filter,
    /// There are more articles than requested, or another number than the service reports.
    Count,
}

impl Fault {
    /// Returns the name of the fault in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::OtherArticle => "other_article",
            Fault::View => "view",
            Fault::Content => "content_differs_at_same_revision",
            Fault::Published => "not_as_published",
            Fault::Order => "order",
            Fault::Filter => "filter",
            Fault::Count => "count",
        }
    }
}

/// The request that all calls of a run make, and the content seen so far.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) view: ArticleView,
    pub(crate) format: BodyFormat,
    pub(crate) filter: ArticleFilter,
    pub(crate) order: ArticleOrder,
    /// The newest revision of each name, and a hash of its content.
    seen: Mutex<HashMap<String, (i64, u64)>>,
    listing: Mutex<KnownListing>,
}

/// The listing at the newest revision.
#[derive(Debug, Default)]
struct KnownListing {
    revision: i64,
    hash: u64,
    differing: u64,
}

impl Expected {
    pub(crate) fn new(
        view: ArticleView,
        format: BodyFormat,
        filter: ArticleFilter,
        order: ArticleOrder,
    ) -> Expected {
        let (seen, listing) = (Mutex::default(), Mutex::default());
        Expected { view, format, filter, order, seen, listing }
    }

    /// Checks one article alone. Returns its encoded size.
    pub(crate) fn check_article(&self, article: &Article) -> Result<u64, Fault> {
        if !has_view(article, self.view, self.format) {
            return Err(Fault::View);
        }
        let bytes = article.encode_to_vec();
        self.check_unchanged(article, xxh3_64(&bytes))?;
        Ok(bytes.len() as u64)
    }

    fn check_unchanged(&self, article: &Article, hash: u64) -> Result<(), Fault> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(&article.name) {
            // This response was in flight when a newer one arrived.
            Some((revision, _)) if article.revision < *revision => Ok(()),
            Some((revision, known)) if article.revision == *revision => {
                if hash == *known {
                    Ok(())
                } else {
                    Err(Fault::Content)
                }
            }
            Some(known) => {
                *known = (article.revision, hash);
                Ok(())
            }
            None => {
                if seen.len() < MAX_SEEN {
                    seen.insert(article.name.clone(), (article.revision, hash));
                }
                Ok(())
            }
        }
    }

    /// Returns the number of responses that differ from another one at the same revision, if that revision is the
    /// newest: at an older one, a write in flight explains the difference.
    pub(crate) fn unsteady(&self) -> u64 {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner).differing
    }

    fn compare_listing(&self, revision: i64, hash: u64) {
        let mut known = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        if revision > known.revision {
            *known = KnownListing { revision, hash, differing: 0 };
        } else if revision == known.revision && hash != known.hash {
            known.differing += 1;
        }
    }
}

/// The articles of one response, in the order of their arrival.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    expected: &'a Expected,
    response: Response,
    last: Option<(i64, (i64, String))>,
    hash: u64,
    /// The worst fault so far, with the revision from which on it is a fault: an article that changed after the listing
    /// was made may be returned in its newer state.
    fault: Option<(i64, Fault)>,
}

impl<'a> Listing<'a> {
    pub(crate) fn new(expected: &'a Expected) -> Listing<'a> {
        Listing { expected, response: Response::default(), last: None, hash: 0, fault: None }
    }

    /// Checks the next article.
    pub(crate) fn push(&mut self, article: &Article) {
        self.response.articles += 1;
        match self.expected.check_article(article) {
            Ok(bytes) => self.response.bytes += bytes,
            Err(fault) => self.record_fault(i64::MIN, fault),
        }
        let revision = article.revision;
        let with_terms = self.expected.view != ArticleView::Reference;
        if with_terms && !matches(&self.expected.filter, article) {
            self.record_fault(revision, Fault::Filter);
        }
        let sort_key = sort_key(self.expected.order, article);
        if let Some((before, last)) = self.last.take()
            && last <= sort_key
        {
            self.record_fault(revision.max(before), Fault::Order);
        }
        self.hash = xxh3_64(format!("{} {} {revision}", self.hash, article.name).as_bytes());
        self.last = Some((revision, sort_key));
    }

    pub(crate) fn response_mut(&mut self) -> &mut Response {
        &mut self.response
    }

    /// Ends a listing made at `revision`. `more` is whether another page follows.
    pub(crate) fn finish(self, revision: i64, more: bool) -> Result<Response, Fault> {
        match self.fault {
            Some((since, fault)) if since <= revision => return Err(fault),
            _ => {}
        }
        self.expected.compare_listing(revision, self.hash ^ u64::from(more));
        Ok(self.response)
    }

    fn record_fault(&mut self, since: i64, fault: Fault) {
        if self.fault.is_none_or(|(known, _)| since < known) {
            self.fault = Some((since, fault));
        }
    }
}

pub(super) fn has_view(article: &Article, view: ArticleView, format: BodyFormat) -> bool {
    let named = !article.name.is_empty() && !article.etag.is_empty() && article.revision > 0;
    let (blocks, rendered) = (article.body.is_some(), article.rendered_body.is_some());
    let headline = !article.headline.is_empty();
    named
        && match view {
            ArticleView::Reference => !headline && !blocks && !rendered,
            ArticleView::Basic => headline && !blocks && !rendered,
            _ if format == BodyFormat::Blocks => headline && !rendered,
            _ => headline && !blocks,
        }
}

/// Returns the sort key of an article; lists are in descending order. The order compares times in microseconds.
fn sort_key(order: ArticleOrder, article: &Article) -> (i64, String) {
    match order {
        ArticleOrder::RevisionDesc => (article.revision, String::new()),
        _ => (publish_micros(article), article.name.clone()),
    }
}

fn publish_micros(article: &Article) -> i64 {
    article.publish_time.or(article.first_publish_time).map_or(0, |time| to_micros(&time))
}

fn to_micros(time: &Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000)
}

/// Returns whether an article matches the filter. With child sections, the section is not checked: the hierarchy is not
/// known here.
fn matches(filter: &ArticleFilter, article: &Article) -> bool {
    let tagged = |tag: &String| article.tags.contains(tag);
    let within = |section: &String| {
        article.section == *section
            || article.additional_sections.contains(section)
            || filter.include_child_sections
    };
    let credits = article.byline.iter().flat_map(|byline| &byline.credits);
    let time = publish_micros(article);
    filter.all_tags.iter().all(tagged)
        && (filter.any_tags.is_empty() || filter.any_tags.iter().any(tagged))
        && !filter.excluded_tags.iter().any(tagged)
        && (filter.section.is_empty() || within(&filter.section))
        && (filter.authors.is_empty()
            || credits.clone().any(|credit| filter.authors.contains(&credit.author)))
        && (filter.language.is_empty() || filter.language.eq_ignore_ascii_case(&article.language))
        && filter.published_after.is_none_or(|after| time >= to_micros(&after))
        && filter.published_before.is_none_or(|before| time < to_micros(&before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn article(id: &str, revision: i64, seconds: i64) -> Article {
        let mut article = Article::default();
        article.name = format!("articles/{id}");
        article.etag = format!("00000000-{revision}");
        article.revision = revision;
        article.headline = "Storm".into();
        article.tags = vec!["tags/sea".into()];
        article.publish_time = Some(Timestamp { seconds, nanos: 0 });
        article
    }

    fn expected(tag: &str) -> Expected {
        let filter = ArticleFilter::default().tag(tag);
        Expected::new(ArticleView::Basic, BodyFormat::Blocks, filter, ArticleOrder::PublishTimeDesc)
    }

    fn check_listing(expected: &Expected, revision: i64, articles: &[Article]) -> Result<u64, Fault> {
        let mut listing = Listing::new(expected);
        articles.iter().for_each(|article| listing.push(article));
        listing.finish(revision, false).map(|response| response.articles)
    }

    #[test]
    fn content_may_change_only_with_the_revision() {
        let expected = expected("sea");
        let mut changed = article("a", 5, 1);
        assert!(expected.check_article(&changed).is_ok());
        changed.headline = "Calm".into();
        assert_eq!(expected.check_article(&changed), Err(Fault::Content));
        changed.revision = 6;
        assert!(expected.check_article(&changed).is_ok());
        assert!(expected.check_article(&article("a", 5, 1)).is_ok(), "an older response may arrive late");
    }

    #[test]
    fn a_view_has_exactly_its_fields() {
        let mut full = article("a", 1, 1);
        full.body = Some(Default::default());
        assert!(has_view(&full, ArticleView::Full, BodyFormat::Blocks));
        assert!(!has_view(&full, ArticleView::Full, BodyFormat::Html));
        assert!(!has_view(&full, ArticleView::Basic, BodyFormat::Blocks));
        assert!(!has_view(&full, ArticleView::Reference, BodyFormat::Blocks));
        full.headline.clear();
        assert!(!has_view(&full, ArticleView::Full, BodyFormat::Blocks));
    }

    #[test]
    fn lists_are_descending_and_match_the_filter() {
        let (new, old) = (article("a", 1, 20), article("b", 2, 10));
        assert_eq!(check_listing(&expected("sea"), 2, &[new.clone(), old.clone()]), Ok(2));
        assert_eq!(check_listing(&expected("sea"), 2, &[old.clone(), new.clone()]), Err(Fault::Order));
        assert_eq!(check_listing(&expected("sea"), 2, &[new.clone(), new.clone()]), Err(Fault::Order));
        assert_eq!(check_listing(&expected("land"), 2, &[new, old]), Err(Fault::Filter));
    }

    #[test]
    fn a_later_change_may_break_filter_and_order() {
        assert_eq!(check_listing(&expected("land"), 6, &[article("a", 7, 1)]), Ok(1));
        assert_eq!(check_listing(&expected("sea"), 6, &[article("a", 1, 1), article("b", 7, 2)]), Ok(2));
    }

    #[test]
    fn listings_at_one_revision_must_be_equal() {
        let expected = expected("sea");
        let all = [article("a", 1, 20), article("b", 2, 10)];
        assert_eq!(check_listing(&expected, 2, &all), Ok(2));
        assert_eq!(check_listing(&expected, 2, &all[..1]), Ok(1));
        assert_eq!(expected.unsteady(), 1);
        assert_eq!(check_listing(&expected, 3, &all[..1]), Ok(1));
        assert_eq!(expected.unsteady(), 0);
    }
}
