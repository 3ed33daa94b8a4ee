//! The properties that the node's parsers of foreign input have for every input. The crate `cable-fuzz` runs them; no
//! program calls them.
//!
//! Each function panics if a property does not hold.

use prost::Message as _;
use prost_reflect::DynamicMessage;

use crate::{
    feed::parse_position,
    model::{Kind, LogId, path},
    page_token::{self, PageScope},
    refusal::Refusal,
    store::listing::Cursor,
    web::{live, request},
    wire::{POOL, v1},
};

const LOG: LogId = LogId(1);

/// Checks that a page token is refused or is the one that the node writes for its cursor: as it is, and with the
/// checksum that makes it the node's own, so that the checksum hides no fault of what is behind it.
pub fn page_token(data: &[u8]) {
    for scope in [PageScope::Articles(7), PageScope::Entities(Kind::Tag), PageScope::Pending] {
        let given = String::from_utf8_lossy(data).into_owned();
        for token in [given, page_token::seal(data.to_vec(), LOG, scope)] {
            match page_token::read(&token, LOG, scope) {
                Ok(None) => assert!(token.is_empty()),
                Ok(Some(cursor)) => {
                    let Cursor { key, id } = &cursor;
                    assert_eq!(page_token::write(&Cursor { key: *key, id: id.clone() }, LOG, scope), token);
                    for other in [PageScope::Articles(8), PageScope::Entities(Kind::Section)] {
                        assert!(page_token::read(&token, LOG, other).is_err(), "another listing accepts it");
                    }
                }
                Err(refusal) => assert!(matches!(refusal, Refusal::PageToken(_)), "{refusal:?}"),
            }
        }
    }
}

/// Checks that the target of a GET is a message of the call that it stands for, or that the refusal names a part of it.
/// The first line is the target, the second one the header `cable-at-least`.
pub fn target(data: &[u8]) {
    let (target, header) = split_line(data);
    let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
    let normal = path::normalise(path);
    assert_eq!(path::normalise(&normal), normal, "{path}");
    let Some(resource) = request::Resource::at(path) else { return };
    let read = match resource.request(query, header.as_deref().map(str::as_bytes)) {
        Ok(read) => read,
        Err(refusal) => return check_refusal(request::name_parameter(resource.parameters(), refusal)),
    };
    let name = format!("cable.v1.{}Request", resource.read().method());
    let values = query.map_or(0, |query| query.split([',', '&']).count() + query.matches("%2").count());
    for bytes in [Some(&read.message), read.fresh.as_ref()].into_iter().flatten() {
        let descriptor = POOL.get_message_by_name(&name).expect("each read has a request");
        let decoded = DynamicMessage::decode(descriptor, &bytes[..]).expect("a request can be decoded");
        assert_eq!(decoded.unknown_fields().count(), 0, "{target}");
        // A value costs no more than its letters, the name of its collection and its keys.
        assert!(bytes.len() <= target.len() + 64 * (values + 1), "{target}");
    }
    assert!(read.keys.len() <= values + 2, "{target}");
}

/// Checks that the query and the last event id of a feed are a WatchRequest, or that the refusal names a part of them.
/// The first line is the query, the second one the id.
pub fn feed(data: &[u8]) {
    let (query, last_event_id) = split_line(data);
    if let Some(id) = &last_event_id
        && let Ok(position) = parse_position(id, live::LAST_EVENT_ID)
    {
        assert!(position.chain.is_empty() || position.chain.len() == 32, "{id}");
    }
    match live::request(Some(&query), last_event_id.as_deref().map(str::as_bytes)) {
        Ok(bytes) => {
            let request = v1::WatchRequest::decode(bytes).expect("a request can be decoded");
            let has_id = last_event_id.is_some_and(|id| !id.is_empty());
            let starts_after = matches!(request.start, Some(v1::watch_request::Start::After(_)));
            assert!(starts_after || !has_id, "{query}");
        }
        Err(refusal) => check_refusal(live::name_fault(refusal)),
    }
}

/// Checks that a refusal of a request over HTTP names its part in words that a header and a line of a log can hold.
fn check_refusal(refusal: Refusal) {
    let Refusal::Field { field, problem } = refusal else { panic!("{refusal:?}") };
    assert!(!problem.is_empty());
    assert!(field.len() <= 4 * 64 && !field.contains(char::is_control), "{field:?}");
}

fn split_line(data: &[u8]) -> (String, Option<String>) {
    let text = String::from_utf8_lossy(data);
    match text.split_once('\n') {
        Some((first, rest)) => (first.to_owned(), Some(rest.trim_end_matches('\n').to_owned())),
        None => (text.into_owned(), None),
    }
}
