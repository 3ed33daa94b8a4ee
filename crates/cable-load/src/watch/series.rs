//! The published articles: each has a name of its own, and its number alone determines it.

use std::{
    future::IntoFuture as _,
    pin::pin,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use cable_client::{
    Cable, ErrorKind, FeedChange, FeedFilter, NameState, RemovalReason,
    v1::{self, ArticleView, BodyFormat},
};
use futures_util::{StreamExt as _, stream};
use prost::Message as _;
use serde_json::Value;
use tokio::signal::ctrl_c;

use super::crowd::Recorder;
use crate::{
    check::{Fault, Outcome, Response, has_view},
    pace,
};

/// Bytes of text in a paragraph of the body.
const PARAGRAPH_BYTES: usize = 500;
const MAX_REMOVALS_IN_FLIGHT: usize = 16;

/// The articles of one run.
#[derive(Debug)]
pub(super) struct Series {
    /// Prefix of all names, and of no other run's names.
    stem: String,
    /// The fields that all articles share.
    template: v1::Article,
    view: ArticleView,
    format: BodyFormat,
    /// Articles per second.
    rate: f64,
    start: OnceLock<Instant>,
}

impl Series {
    /// Creates a series of articles that the filter matches, each with `bytes` bytes of text.
    pub(super) fn new(
        stem: String,
        filter: &FeedFilter,
        bytes: usize,
        (view, format): (ArticleView, BodyFormat),
        rate: f64,
    ) -> Series {
        let template = v1::Article {
            tags: filter.any_tags.first().cloned().into_iter().collect(),
            section: filter.sections.first().cloned().unwrap_or_default(),
            byline: filter.authors.first().map(|author| byline(author)),
            body: (bytes > 0).then(|| body(bytes)),
            ..Default::default()
        };
        Series { stem: format!("articles/{stem}-"), template, view, format, rate, start: OnceLock::new() }
    }

    /// Sets the time from which on articles are due.
    pub(super) fn set_start(&self, start: Instant) {
        self.start.get_or_init(|| start);
    }

    /// Returns the time between when the article of this name was due and `received`, or `None` if it is not of this
    /// run.
    pub(super) fn latency(&self, name: &str, received: Instant) -> Option<Duration> {
        let due = *self.start.get()? + Duration::from_secs_f64(self.number(name)? as f64 / self.rate);
        Some(received.saturating_duration_since(due))
    }

    /// # Errors
    /// The follower received something other than the published article.
    pub(super) fn check(&self, change: &FeedChange) -> Result<(), Fault> {
        let NameState::Upsert(record) = &change.state else { return Err(Fault::Published) };
        let record = record.decode().ok().and_then(|record| record.record);
        let Some(v1::record::Record::Article(received)) = record else { return Err(Fault::Published) };
        if !has_view(&received, self.view, self.format) {
            return Err(Fault::View);
        }
        let published = self.number(&change.name).map(|number| self.article(number));
        let same = published.is_some_and(|published| {
            let text = received.headline == published.headline && received.tags == published.tags;
            (self.view == ArticleView::Reference || text)
                && (received.body.is_none() || received.body == published.body)
        });
        if same { Ok(()) } else { Err(Fault::Published) }
    }

    fn article(&self, number: u64) -> v1::Article {
        let mut article = self.template.clone();
        article.name = self.name(number);
        article.headline = format!("Measured publish {number}");
        article
    }

    fn name(&self, number: u64) -> String {
        format!("{}{number}", self.stem)
    }

    fn number(&self, name: &str) -> Option<u64> {
        name.strip_prefix(&self.stem)?.parse().ok()
    }

    /// Removes the first `articles` articles, as far as they exist, until interrupted. Returns the number that may be
    /// left.
    pub(super) async fn remove(&self, cable: &Cable, articles: u64) -> u64 {
        let removals = stream::iter(0..articles)
            .map(|number| cable.remove(self.name(number), RemovalReason::Deleted).into_future());
        let mut removals = removals.buffer_unordered(MAX_REMOVALS_IN_FLIGHT);
        let mut interrupt = pin!(ctrl_c());
        let mut remaining = articles;
        loop {
            let removed = tokio::select! {
                _ = &mut interrupt => return remaining,
                removed = removals.next() => removed,
            };
            match removed {
                Some(Ok(_)) => remaining -= 1,
                Some(Err(error)) if error.kind() == ErrorKind::NotFound => remaining -= 1,
                Some(Err(_)) => {}
                None => return remaining,
            }
        }
    }
}

/// A publisher of a series to its followers.
#[derive(Debug)]
pub(super) struct Publisher(pub(super) Arc<Recorder>);

impl pace::Work for Publisher {
    const NAME: &'static str = "watch";

    fn facts(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    async fn call(&self, cable: &Cable, number: u64) -> Outcome {
        let Some(series) = self.0.series() else { return Ok(Response::default()) };
        let article = series.article(number);
        let bytes = article.encoded_len() as u64;
        let written = cable.put(article).if_absent().await?;
        self.0.ledger().expect(written.revision, &written.name);
        Ok(Response { articles: 1, bytes, first: None })
    }
}

fn byline(author: &str) -> v1::Byline {
    let credit = v1::Credit { author: author.to_owned(), ..Default::default() };
    v1::Byline { credits: vec![credit], ..Default::default() }
}

/// Returns paragraphs with `bytes` bytes of text in total.
fn body(bytes: usize) -> v1::Body {
    let text: String = "It was measured how long this takes. ".chars().cycle().take(bytes).collect();
    v1::Body { blocks: text.as_bytes().chunks(PARAGRAPH_BYTES).map(paragraph).collect() }
}

fn paragraph(text: &[u8]) -> v1::Block {
    let span = v1::Span { text: String::from_utf8_lossy(text).into_owned(), ..Default::default() };
    let paragraph = v1::Paragraph { spans: vec![span] };
    v1::Block { kind: Some(v1::block::Kind::Paragraph(paragraph)), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use cable_client::RawRecord;

    use super::*;

    const VIEW: (ArticleView, BodyFormat) = (ArticleView::Full, BodyFormat::Blocks);

    fn series() -> Series {
        let filter = FeedFilter::default().any_tag("sea").any_tag("ice").section("world").author("ann");
        Series::new("run".to_owned(), &filter, 1_200, VIEW, 10.0)
    }

    /// Returns the change that a server sends for an article.
    fn upsert(mut article: v1::Article) -> FeedChange {
        article.etag = "00000000-7".into();
        article.revision = 7;
        let mut record = v1::Record::default();
        record.record = Some(v1::record::Record::Article(article));
        let mut change = v1::FeedChange::default();
        change.change = Some(v1::feed_change::Change::Upsert(RawRecord::from(&record)));
        change.try_into().unwrap()
    }

    #[test]
    fn generated_articles_match_the_filter() {
        let article = series().article(3);
        assert_eq!(article.name, "articles/run-3");
        assert_eq!(
            (&article.tags[..], &article.section[..]),
            (&["tags/sea".to_owned()][..], "sections/world")
        );
        assert_eq!(article.byline.unwrap().credits[0].author, "authors/ann");
        let blocks = article.body.unwrap().blocks;
        assert_eq!(blocks.len(), 3);
        assert!((1_200..1_300).contains(&blocks.iter().map(v1::Block::encoded_len).sum::<usize>()));
    }

    #[test]
    fn latency_counts_from_when_an_article_was_due() {
        let (series, start) = (series(), Instant::now());
        let received = start + Duration::from_millis(450);
        assert_eq!(series.latency("articles/run-4", received), None, "nothing is due yet");
        series.set_start(start);
        assert_eq!(series.latency("articles/run-4", received), Some(Duration::from_millis(50)));
        for other in ["articles/run-", "articles/run-x", "articles/other-4", "tags/run-4"] {
            assert_eq!(series.latency(other, received), None, "{other}");
        }
    }

    #[test]
    fn only_the_published_article_passes() {
        let series = series();
        assert_eq!(series.check(&upsert(series.article(3))), Ok(()));
        let mut other = series.article(3);
        other.headline = "Calm".into();
        assert_eq!(series.check(&upsert(other)), Err(Fault::Published));
        let mut other = series.article(3);
        other.body = Some(body(7));
        assert_eq!(series.check(&upsert(other)), Err(Fault::Published));
        let mut reference = series.article(3);
        reference.headline.clear();
        assert_eq!(series.check(&upsert(reference)), Err(Fault::View));
        let mut departed = upsert(series.article(3));
        departed.state = NameState::Left;
        assert_eq!(series.check(&departed), Err(Fault::Published));
    }
}
