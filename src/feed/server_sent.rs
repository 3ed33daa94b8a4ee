//! Messages as server-sent events (WHATWG HTML, 9.2): the type is the name of the event in WatchResponse, the data its
//! JSON, and the id, on messages from which a feed can resume, the position.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;

use super::message;
use crate::{
    model::{LogId, number},
    refusal::Refusal,
    store::history::ChainPosition,
    wire::{framed, json, v1},
};

/// More than any message grows by its JSON. The most is that of an enum, two bytes that become two names; the limit on the
/// elements of an article bounds their number.
const MAX_GROWTH: usize = 64;

/// The event in place of one that has no JSON, which the limits exclude. It has no id: no feed resumes after it.
const UNWRITABLE: &[u8] =
    b"event: failed\ndata: {\"code\":13,\"message\":\"a change cannot be written as JSON\"}\n\n";

/// The comment in place of a part of a snapshot without records, which shows that the node is still reading.
const WAITING: &[u8] = b": reading\n\n";

/// Returns an event. It has no line feed but those of the format, because JSON escapes them.
pub(super) fn event(log_id: LogId, at: Option<&ChainPosition>, field: u32, event: &[u8]) -> Bytes {
    let (kind, message) = match field {
        message::SNAPSHOT if event.is_empty() => return Bytes::from_static(WAITING),
        message::CHANGES => ("changes", "FeedChanges"),
        message::SNAPSHOT => ("snapshot", "FeedSnapshot"),
        message::SNAPSHOT_END => ("snapshot_end", "FeedSnapshotEnd"),
        message::RESET => ("reset", "FeedReset"),
        _ => ("checkpoint", "FeedCheckpoint"),
    };
    let Some(data) = json::message(message, event, MAX_GROWTH * event.len() + 64) else {
        return Bytes::from_static(UNWRITABLE);
    };
    let mut out = Vec::with_capacity(data.len() + 160);
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    if let Some(at) = at {
        out.extend_from_slice(b"\nid: ");
        out.extend_from_slice(position(log_id, at).as_bytes());
    }
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(&data);
    out.extend_from_slice(b"\n\n");
    framed::shrink(out)
}

/// Returns a position as text: log id, revision and chain, as the command line prints it.
fn position(log_id: LogId, at: &ChainPosition) -> String {
    let mut text = format!("{log_id}:{}", at.revision);
    if let Some(chain) = at.chain {
        text.push(':');
        for byte in chain {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

/// Reads a position: `7190`, `fe49a3a5:7190`, or with the chain in hex or base64 after another colon. The values of
/// the parts are checked with the request.
///
/// # Errors
/// The text has another form.
pub(crate) fn parse_position(text: &str, field: &str) -> Result<v1::Position, Refusal> {
    let refusal = || Refusal::field(field, "must be a position as the feed sent it: LOG:REVISION:CHAIN");
    let mut parts = text.split(':');
    let (first, second, chain) = (parts.next(), parts.next(), parts.next());
    let (log_id, revision) = match (first, second) {
        (Some(log_id), Some(revision)) if LogId::parse(log_id).is_some() => (log_id, revision),
        (Some(revision), None) => ("", revision),
        _ => return Err(refusal()),
    };
    let revision = number::decimal(revision).ok_or_else(refusal)?;
    let chain = chain.map_or(Some(Vec::new()), parse_chain).filter(|_| parts.next().is_none());
    let chain = chain.ok_or_else(refusal)?.into();
    Ok(v1::Position { log_id: log_id.to_owned(), revision, chain })
}

fn parse_chain(text: &str) -> Option<Vec<u8>> {
    let chain = if text.len() == 64 { number::hex(text) } else { BASE64_STANDARD.decode(text).ok() };
    chain.filter(|chain| chain.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: i64, chain: Option<[u8; 32]>) -> ChainPosition {
        ChainPosition { revision, chain }
    }

    fn text(event: &Bytes) -> &str {
        std::str::from_utf8(event).unwrap()
    }

    #[test]
    fn an_event_has_the_position_as_its_id_only_where_a_feed_can_resume() {
        let checkpoint = event(LogId(7), Some(&at(12, None)), message::CHECKPOINT, &[8, 1]);
        assert_eq!(text(&checkpoint), "event: checkpoint\nid: 00000007:12\ndata: {\"behind\":true}\n\n");
        let waiting = event(LogId(7), None, message::SNAPSHOT, &[]);
        assert!(text(&waiting).starts_with(':') && text(&waiting).ends_with("\n\n"), "{waiting:?}");
        let part = event(LogId(7), None, message::CHANGES, &[2 << 3, 1]);
        assert_eq!(text(&part), "event: changes\ndata: {\"moreFollows\":true}\n\n");
    }

    #[test]
    fn an_event_keeps_its_content_however_much_its_json_grows() {
        let span = v1::Span { text: "a".into(), marks: vec![1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6], link: None };
        let kind = v1::block::Kind::Paragraph(v1::Paragraph { spans: vec![span; 2_000] });
        let divider =
            v1::Block { kind: Some(v1::block::Kind::Divider(v1::Divider {})), ..Default::default() };
        let paragraph = v1::Block { kind: Some(kind), ..Default::default() };
        let blocks = [vec![paragraph], vec![divider; 2_000]].concat();
        let article = v1::Article { body: Some(v1::Body { blocks }), ..Default::default() };
        let record = v1::Record { record: Some(v1::record::Record::Article(article)), ..Default::default() };
        let record = cable_proto::RawRecord::from_bytes(prost::Message::encode_to_vec(&record).into());
        let change =
            v1::FeedChange { change: Some(v1::feed_change::Change::Upsert(record)), ..Default::default() };
        let changes = v1::FeedChanges { changes: vec![change], ..Default::default() };
        let encoded = prost::Message::encode_to_vec(&changes);
        let event = event(LogId(7), None, message::CHANGES, &encoded);
        assert!(event.len() > 8 * encoded.len(), "{} of {}", event.len(), encoded.len());
        assert_eq!(text(&event).matches("MARK_EMPHASIS").count(), 4_000);
        let reset = super::event(LogId(7), None, message::RESET, &[8, 2]);
        assert_eq!(text(&reset), "event: reset\ndata: {\"reason\":\"FEED_RESET_REASON_LOG_CHANGED\"}\n\n");
    }

    #[test]
    fn no_text_ends_an_event() {
        let hostile = "a\n\ndata: {}\r\u{2028}\u{1}\"\\";
        let change = v1::FeedChange {
            change: Some(v1::feed_change::Change::Left(hostile.to_owned())),
            ..Default::default()
        };
        let changes = v1::FeedChanges { changes: vec![change], ..Default::default() };
        let event = event(LogId(7), None, message::CHANGES, &prost::Message::encode_to_vec(&changes));
        let text = text(&event);
        assert_eq!(text.matches('\n').count(), 3);
        assert!(!text.contains('\r') && text.ends_with("}\n\n"), "{text}");
    }

    #[test]
    fn a_position_reads_back_as_written() {
        let chain = std::array::from_fn(|index| index as u8 * 8);
        for at in [at(0, None), at(7190, None), at(i64::MAX, Some(chain))] {
            let read = parse_position(&position(LogId(7), &at), "after").unwrap();
            assert_eq!((read.log_id.as_str(), read.revision), ("00000007", at.revision));
            assert_eq!(read.chain, at.chain.map(|chain| chain.to_vec()).unwrap_or_default());
        }
        assert_eq!(parse_position("7190", "after").unwrap().revision, 7190);
        let base64 = format!("00000007:1:{}", BASE64_STANDARD.encode(chain));
        assert_eq!(parse_position(&base64, "after").unwrap().chain, chain.to_vec());
        let long = format!("00000007:1:{}:", "00".repeat(32));
        for bad in ["", "x", ":7", "00000007:", "00000007:x", "00000007:1:", "00000007:1:zz", &long] {
            assert!(parse_position(bad, "after").is_err(), "{bad}");
        }
        let signs = format!("00000007:1:{}", "+f".repeat(32));
        for bad in ["+1", "-1", "00000007:+1", "00000007:-0", &signs] {
            assert!(parse_position(bad, "after").is_err(), "{bad}");
        }
        let split = format!("00000007:1:{}", "é".repeat(32));
        assert!(parse_position(&split, "after").is_err());
    }
}
