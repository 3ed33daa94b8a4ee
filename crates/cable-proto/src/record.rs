//! Encoded records, as imports, exports and feeds transfer them.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field},
};

use crate::v1;

/// An encoded [`v1::Record`], the unit of imports, exports and feeds.
///
/// A record stays encoded, so that a transfer from one store to another preserves all fields, including those that this
/// client does not know. [`decode`](RawRecord::decode) returns its content.
///
/// ```
/// use cable_proto::{RawRecord, v1};
///
/// let tag = v1::Tag { name: "tags/storm".into(), ..Default::default() };
/// let record = RawRecord::from(tag);
/// assert_eq!(record.name()?, "tags/storm");
/// # Ok::<_, prost::DecodeError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RawRecord(Bytes);

impl RawRecord {
    /// Returns a record of these bytes, which must be an encoded [`v1::Record`]. The client does not check them; the
    /// server does.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        RawRecord(bytes)
    }

    /// Returns the encoded [`v1::Record`].
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Returns the encoded [`v1::Record`], for example to store it.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Returns the decoded record, without the fields that this client does not know.
    ///
    /// # Errors
    /// The bytes are not a record.
    pub fn decode(&self) -> Result<v1::Record, DecodeError> {
        v1::Record::decode(self.0.clone())
    }

    /// Returns the name of the entity or tombstone without decoding the rest.
    ///
    /// # Errors
    /// The bytes are not a record of anything with a name.
    pub fn name(&self) -> Result<String, DecodeError> {
        decode_name(self.0.clone())
    }
}

impl From<&v1::Record> for RawRecord {
    fn from(record: &v1::Record) -> Self {
        RawRecord(record.encode_to_vec().into())
    }
}

macro_rules! from_entity {
    ($($entity:ident)*) => {$(
        impl From<v1::$entity> for RawRecord {
            fn from(entity: v1::$entity) -> Self {
                let record = Some(v1::record::Record::$entity(entity));
                RawRecord::from(&v1::Record { record, ..Default::default() })
            }
        }
    )*};
}

from_entity!(Article Author Section Tag Collection Tombstone);

impl fmt::Debug for RawRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawRecord({} bytes)", self.0.len())
    }
}

impl Message for RawRecord {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    /// Appends the field in encoded form: a message is the concatenation of its fields.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut fields = match std::mem::take(&mut self.0).try_into_mut() {
            Ok(unshared) => unshared,
            Err(shared) => BytesMut::from(&shared[..]),
        };
        encode_key(tag, wire_type, &mut fields);
        let length = match wire_type {
            WireType::Varint => {
                encode_varint(decode_varint(buf)?, &mut fields);
                0
            }
            WireType::LengthDelimited => {
                let length = decode_varint(buf)?;
                encode_varint(length, &mut fields);
                length
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::StartGroup | WireType::EndGroup => {
                return Err(malformed("unsupported wire type: group"));
            }
        };
        match usize::try_from(length).ok().filter(|length| *length <= buf.remaining()) {
            Some(length) => fields.put(buf.take(length)),
            None => return Err(malformed("truncated field")),
        }
        self.0 = fields.freeze();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}

/// The name field, which is the first one of every entity and of a tombstone.
#[derive(Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

/// The article of a pending version.
#[derive(Message)]
struct PendingName {
    #[prost(message, optional, tag = "1")]
    article: Option<Name>,
}

/// The number of the field of a pending version, whose first field is the article.
const PENDING_ARTICLE: u32 = 7;

/// The number of the field `import_source`, the only text beside the entity.
const IMPORT_SOURCE: u32 = 9;

/// Returns the name of the entity in a record. The message with the lowest number is the entity, even if this client
/// does not know its kind.
fn decode_name(mut record: Bytes) -> Result<String, DecodeError> {
    let mut entity: Option<(u32, Bytes)> = None;
    while record.has_remaining() {
        let (tag, wire_type) = decode_key(&mut record)?;
        if wire_type != WireType::LengthDelimited {
            skip_field(wire_type, tag, &mut record, DecodeContext::default())?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut record)?).unwrap_or(usize::MAX);
        if length > record.remaining() {
            return Err(malformed("truncated field"));
        }
        let field = record.split_to(length);
        if tag != IMPORT_SOURCE && entity.as_ref().is_none_or(|(lowest, _)| tag <= *lowest) {
            entity = Some((tag, field));
        }
    }
    let name = match entity.ok_or_else(|| malformed("no entity"))? {
        (PENDING_ARTICLE, pending) => PendingName::decode(pending)?.article.unwrap_or_default().name,
        (_, entity) => Name::decode(entity)?.name,
    };
    match name {
        name if name.is_empty() => Err(malformed("entity without name")),
        name => Ok(name),
    }
}

fn malformed(problem: &'static str) -> DecodeError {
    #[allow(deprecated, reason = "prost offers hand-written messages no other way to report a problem")]
    DecodeError::new(problem)
}

#[cfg(test)]
mod tests {
    use prost::encoding;

    use super::*;

    fn article() -> v1::Article {
        v1::Article { name: "articles/a".into(), headline: "Storm over Norwick".into(), ..Default::default() }
    }

    #[test]
    fn unknown_fields_of_a_record_are_preserved() {
        let mut bytes = Vec::new();
        encoding::string::encode(9000, &"from a later release".to_owned(), &mut bytes);
        encoding::fixed64::encode(9001, &7, &mut bytes);
        encoding::fixed32::encode(9002, &7, &mut bytes);
        encoding::uint64::encode(9003, &u64::MAX, &mut bytes);
        bytes.extend_from_slice(RawRecord::from(article()).as_bytes());
        let record = RawRecord::from_bytes(bytes.into());
        let chunk = v1::ImportRequest {
            chunk: 1,
            records: vec![record.clone(), record.clone()],
            ..Default::default()
        };
        let decoded = v1::ImportRequest::decode(&chunk.encode_to_vec()[..]).unwrap();
        assert_eq!(decoded.records, [record.clone(), record]);
        let v1::Record { record: Some(v1::record::Record::Article(entity)), .. } =
            decoded.records[0].decode().unwrap()
        else {
            panic!("not an article")
        };
        assert_eq!(entity, article());
    }

    #[test]
    fn a_record_has_the_name_of_its_entity() {
        let mut bytes = Vec::new();
        encoding::string::encode(9000, &"from a later release".to_owned(), &mut bytes);
        bytes.extend_from_slice(RawRecord::from(article()).as_bytes());
        assert_eq!(RawRecord::from_bytes(bytes.into()).name().unwrap(), "articles/a");
        let tombstone = v1::Tombstone { name: "tags/a".into(), revision: 7, ..Default::default() };
        assert_eq!(RawRecord::from(tombstone).name().unwrap(), "tags/a");
        let pending = v1::PendingArticle { article: Some(article()), ..Default::default() };
        let record = v1::Record {
            record: Some(v1::record::Record::PendingArticle(pending)),
            import_source: "https://news.example".into(),
            mentioned: true,
            has_pending: Some(false),
        };
        assert_eq!(RawRecord::from(&record).name().unwrap(), "articles/a");
        for nameless in [RawRecord::default(), RawRecord::from(v1::Tag::default())] {
            assert!(nameless.name().is_err());
        }
    }

    #[test]
    fn a_record_that_ends_within_a_field_is_an_error() {
        let whole = RawRecord::from(article());
        for end in 1..whole.as_bytes().len() {
            let cut = RawRecord::from_bytes(whole.as_bytes().slice(..end));
            assert!(cut.decode().is_err(), "cut at {end}");
            assert!(RawRecord::decode_from(cut.as_bytes()).is_err(), "cut at {end}");
        }
    }

    impl RawRecord {
        fn decode_from(bytes: &Bytes) -> Result<Self, DecodeError> {
            Message::decode(bytes.clone())
        }
    }
}
