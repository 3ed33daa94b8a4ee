//! The live feed, `/v1/feed`: from the parameters of a request to the request of the Watch call that it stands for.

use bytes::Bytes;
use prost::Message as _;

use super::request::{
    Parameter::{After, Author, Backfill, Body, Interval, Kind, Reset, Section, Snapshot, Tag, View},
    Values, name_parameter,
};
use crate::{
    feed::parse_position,
    model,
    refusal::Refusal,
    wire::v1::{EntityKind, FeedFilter, WatchRequest, watch_request::Start},
};

/// The path of the feed, and the method whose call it is.
pub(crate) const PATH: &str = "/v1/feed";
pub(crate) const METHOD: &str = "/cable.v1.FeedService/Watch";

/// The header in which a browser states the id of the last event that it has received.
pub(crate) const LAST_EVENT_ID: &str = "last-event-id";

/// The parameters of the feed.
pub(crate) const PARAMETERS: [super::request::Parameter; 11] =
    [Tag, Section, Author, Kind, View, Body, After, Snapshot, Reset, Backfill, Interval];

/// Returns the encoded WatchRequest of a request. `last_event_id` is the header of that name. It is newer than the start
/// that the query names, which a browser repeats when it connects again.
///
/// # Errors
/// A parameter is unknown, repeated, or has a value that is not valid; the refusal names it.
pub(crate) fn request(query: Option<&str>, last_event_id: Option<&[u8]>) -> Result<Bytes, Refusal> {
    let values = Values::parse(&PARAMETERS, query.unwrap_or_default())?;
    let last = last_event_id.map(std::str::from_utf8).transpose();
    let last = last.map_err(|_| Refusal::field(LAST_EVENT_ID, "must be UTF-8"))?;
    let (after, snapshot) = (values.get(After), values.flag(Snapshot)?);
    let start = match (last.filter(|id| !id.is_empty()), after) {
        (Some(id), _) => Some(Start::After(parse_position(id, LAST_EVENT_ID)?)),
        (None, Some(_)) if snapshot => {
            return Err(Refusal::field(Snapshot.name(), "excludes `after`: a feed has one start"));
        }
        (None, Some(after)) => Some(Start::After(parse_position(after, After.name())?)),
        (None, None) => snapshot.then_some(Start::Snapshot(true)),
    };
    let filter = FeedFilter {
        any_tags: values.names(Tag, model::Kind::Tag),
        sections: values.names(Section, model::Kind::Section),
        authors: values.names(Author, model::Kind::Author),
        kinds: values.words(Kind, "ENTITY_KIND_", EntityKind::from_str_name, KINDS)?,
    };
    let request = WatchRequest {
        consumer: String::new(),
        filter: (filter != FeedFilter::default()).then_some(filter),
        view: values.view()?,
        body_format: values.body()?,
        start,
        allow_reset: values.flag(Reset)?,
        include_backfill: values.flag(Backfill)?,
        checkpoint_interval: values.seconds(Interval)?,
    };
    Ok(request.encode_to_vec().into())
}

/// Returns the one value of the header of the last event.
///
/// # Errors
/// It has several. Any of them could be meant.
pub(crate) fn last_event_id<'a>(
    mut values: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<&'a [u8]>, Refusal> {
    let first = values.next();
    if values.any(|other| Some(other) != first) {
        return Err(Refusal::field(LAST_EVENT_ID, "repeated with another value: send it once"));
    }
    Ok(first)
}

const KINDS: &str = "one or more of article, author, section, tag and collection, separated by commas";

/// Returns a refusal with the parameter at fault in place of the field that it sets.
pub(crate) fn name_fault(refusal: Refusal) -> Refusal {
    name_parameter(&PARAMETERS, refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, last: Option<&str>) -> Result<WatchRequest, Refusal> {
        let bytes = request(Some(query), last.map(str::as_bytes))?;
        Ok(WatchRequest::decode(bytes).unwrap())
    }

    #[test]
    fn parameters_become_the_fields_of_the_call() {
        let all = "tag=a,b&section=s&author=x&kind=article&view=full&body=html&after=0000000a:7&reset=true&\
                   backfill=true&interval=5";
        let request = read(all, None).unwrap();
        let filter = request.filter.unwrap();
        assert_eq!(filter.any_tags, ["tags/a", "tags/b"]);
        assert_eq!((filter.sections, filter.authors), (vec!["sections/s".into()], vec!["authors/x".into()]));
        assert_eq!(filter.kinds, [EntityKind::Article as i32]);
        let Some(Start::After(position)) = request.start else { panic!("{:?}", request.start) };
        assert_eq!((&position.log_id[..], position.revision), ("0000000a", 7));
        assert!(request.allow_reset && request.include_backfill);
        assert_eq!(request.checkpoint_interval.unwrap().seconds, 5);
        assert_eq!(read("", None).unwrap(), WatchRequest::default());
        assert_eq!(read("snapshot=true", None).unwrap().start, Some(Start::Snapshot(true)));
    }

    #[test]
    fn the_last_event_of_a_browser_replaces_the_start_of_its_query() {
        for query in ["snapshot=true", "after=0000000a:1", ""] {
            let Some(Start::After(position)) = read(query, Some("0000000a:9")).unwrap().start else {
                panic!("{query}");
            };
            assert_eq!(position.revision, 9, "{query}");
        }
        assert_eq!(read("snapshot=true", Some("")).unwrap().start, Some(Start::Snapshot(true)));
    }

    #[test]
    fn a_request_names_one_last_event() {
        let one = |values: &[&'static str]| {
            last_event_id(values.iter().map(|value| value.as_bytes())).map_err(|refusal| refusal.to_string())
        };
        assert_eq!(one(&[]), Ok(None));
        assert_eq!(one(&["0000000a:1", "0000000a:1"]), Ok(Some(&b"0000000a:1"[..])));
        let refused = one(&["0000000a:1", "0000000a:2"]).unwrap_err();
        assert!(refused.starts_with("last-event-id: repeated"), "{refused}");
    }

    #[test]
    fn a_parameter_that_is_not_valid_is_named() {
        for (query, last, field) in [
            ("tags=a", None, "tags"),
            ("tag=a&tag=b", None, "tag"),
            ("tag=", None, "tag"),
            ("kind=article,", None, "kind"),
            ("page_size=1", None, "page_size"),
            ("after=x", None, "after"),
            ("after=7&snapshot=true", None, "snapshot"),
            ("snapshot=1", None, "snapshot"),
            ("reset=yes", None, "reset"),
            ("backfill=", None, "backfill"),
            ("interval=1s", None, "interval"),
            ("interval=-1", None, "interval"),
            ("interval=%2B1", None, "interval"),
            ("after=%2B1", None, "after"),
            ("", Some("0000000a:+1"), "last-event-id"),
            ("", Some("0000000A:1"), "last-event-id"),
            ("after=news:1", None, "after"),
            ("kind=articles", None, "kind"),
            ("kind=tag,tag", None, "kind"),
            ("=x", None, "query"),
            ("kind=unspecified", None, "kind"),
            ("view=FULL", None, "view"),
            ("", Some("x"), "last-event-id"),
        ] {
            let refusal = read(query, last).unwrap_err();
            assert!(matches!(&refusal, Refusal::Field { field: named, .. } if named == field), "{refusal:?}");
        }
        for (field, named) in
            [("filter.any_tags[3]", "tag"), ("filter.kinds", "kind"), ("checkpoint_interval", "interval")]
        {
            let refusal = name_fault(Refusal::field(field, "x"));
            assert!(matches!(&refusal, Refusal::Field { field, .. } if field == named), "{refusal:?}");
        }
    }
}
