//! Operations on encoded messages: reads, cuts and appends top-level fields without decoding their values.
//!
//! They rely on one property of protobuf: a message is the concatenation of its fields.

use bytes::{Buf, BufMut};
use prost::{
    DecodeError,
    encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint},
};
use prost_types::Timestamp;

/// One field of an encoded message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// The number of the field.
    pub(crate) number: u32,
    /// The key and the value, as they are encoded in the message.
    pub(crate) encoded: &'a [u8],
    /// The value, without the key and, if it is length-delimited, without the length.
    pub(crate) value: &'a [u8],
}

/// Returns the fields of an encoded message, in their order.
///
/// # Errors
/// Fails if the bytes end within a field, or if a key is malformed.
pub(crate) fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, DecodeError>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, DecodeError> {
    let start = *rest;
    let (number, wire_type) = decode_key(rest)?;
    let length = match wire_type {
        WireType::Varint => {
            let value = *rest;
            decode_varint(rest)?;
            let used = value.len() - rest.len();
            *rest = value;
            used
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(rest)?).unwrap_or(usize::MAX),
        WireType::StartGroup | WireType::EndGroup => {
            return Err(super::malformed("groups are not supported"));
        }
    };
    if length > rest.len() {
        return Err(super::malformed("ends within a field"));
    }
    let value = &rest[..length];
    rest.advance(length);
    Ok(Field { number, encoded: &start[..start.len() - rest.len()], value })
}

/// Copies the fields whose number `filter` accepts. The message must have been decoded before: a malformed rest is
/// dropped.
pub(crate) fn copy_if(message: &[u8], out: &mut Vec<u8>, mut filter: impl FnMut(u32) -> bool) {
    for field in fields(message).map_while(Result::ok) {
        if filter(field.number) {
            out.extend_from_slice(field.encoded);
        }
    }
}

/// Returns the last value of a field, by its number.
#[must_use]
pub(crate) fn last(message: &[u8], number: u32) -> Option<&[u8]> {
    fields(message).map_while(Result::ok).filter(|f| f.number == number).last().map(|f| f.value)
}

/// Appends a length-delimited field: a string, bytes or an encoded message.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_key(out, number, value.len());
    out.put_slice(value);
}

/// Appends the key and length of a length-delimited field whose value follows.
pub(crate) fn put_key(out: &mut Vec<u8>, number: u32, length: usize) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// Appends a string field, unless it is empty: an empty string is encoded as an unset field.
pub(crate) fn put_string(out: &mut Vec<u8>, number: u32, value: &str) {
    if !value.is_empty() {
        put_bytes(out, number, value.as_bytes());
    }
}

/// Appends an integer, enum or bool field, unless it is 0.
pub(crate) fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        encode_key(number, WireType::Varint, out);
        encode_varint(value, out);
    }
}

/// Appends a message field.
pub(crate) fn put_message(out: &mut Vec<u8>, number: u32, value: &impl prost::Message) {
    encode_key(number, WireType::LengthDelimited, out);
    let length = value.encoded_len();
    encode_varint(length as u64, out);
    out.reserve(length);
    value.encode_raw(out);
}

/// Appends a Timestamp field from microseconds since 1970 UTC, unless that is 0.
pub(crate) fn put_time(out: &mut Vec<u8>, number: u32, micros: i64) {
    if micros != 0 {
        put_message(out, number, &timestamp(micros));
    }
}

/// Converts microseconds since 1970 UTC to a Timestamp.
#[must_use]
pub(crate) fn timestamp(micros: i64) -> Timestamp {
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos: (micros.rem_euclid(1_000_000) * 1_000) as i32 }
}

/// Converts a Timestamp to microseconds since 1970 UTC. Finer fractions are truncated.
#[must_use]
pub(crate) fn micros(time: &Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1_000))
}

/// Returns the encoded length of a length-delimited field.
#[must_use]
pub(crate) fn bytes_len(number: u32, value: usize) -> usize {
    prost::encoding::key_len(number) + encoded_len_varint(value as u64) + value
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::wire::v1;

    #[test]
    fn the_concatenated_fields_are_the_message() {
        let article = v1::Article {
            name: "articles/a".into(),
            revision: 300,
            headline: "Storm".into(),
            tags: vec!["tags/x".into(), "tags/y".into()],
            ..Default::default()
        };
        let bytes = article.encode_to_vec();
        let encoded: Vec<u8> = fields(&bytes).flat_map(|f| f.unwrap().encoded.to_vec()).collect();
        assert_eq!(encoded, bytes);
        let mut cut = Vec::new();
        copy_if(&bytes, &mut cut, |n| n != 20);
        assert_eq!(v1::Article::decode(&cut[..]).unwrap(), v1::Article { tags: vec![], ..article });
    }

    #[test]
    fn a_message_that_ends_within_a_field_is_an_error() {
        let bytes = v1::Tag { display_name: "Weather".into(), ..Default::default() }.encode_to_vec();
        for end in 1..bytes.len() {
            assert!(fields(&bytes[..end]).any(|f| f.is_err()), "cut at {end}");
        }
    }

    #[test]
    fn times_before_1970_keep_their_microseconds() {
        for t in [-1, -1_000_000, -1_500_001, 0, 1, 1_700_000_000_123_456] {
            assert_eq!(micros(&timestamp(t)), t);
        }
    }
}
