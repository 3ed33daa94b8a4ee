//! The canonical encoding of a message: the same bytes for all encodings that mean the same, whichever library wrote
//! them. `publishing.proto` describes it, because the identity of stored requests depends on it.
//!
//! The encoding is written backwards, from its end to its beginning. The length of an embedded message is then known
//! when it is written, and nothing is copied twice, however deep messages are nested.

use prost::encoding::decode_varint;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};

use crate::wire::fields;

/// The maximum nesting depth, which is that of the decoder. Deeper messages are copied as they are; the decoder rejects
/// them.
const MAX_DEPTH: usize = 100;

/// The maximum number of entries of a map that are sorted. A larger map is copied in the order of arrival, to bound the
/// memory of sorting. Every limit on a map is far below.
const MAX_ENTRIES: usize = 10_000;

/// Returns the canonical encoding of a message.
#[must_use]
pub(crate) fn canonical(descriptor: &MessageDescriptor, message: &[u8]) -> Vec<u8> {
    let mut encoder = ReverseEncoder(Vec::with_capacity(message.len()));
    encoder.message(descriptor, &[message], 0);
    encoder.0.reverse();
    encoder.0
}

/// The wire type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

impl Wire {
    fn of(kind: &Kind) -> Wire {
        match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Wire::Fixed64,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Wire::Fixed32,
            Kind::String | Kind::Bytes | Kind::Message(_) => Wire::Bytes,
            _ => Wire::Varint,
        }
    }

    fn number(self) -> u64 {
        match self {
            Wire::Varint => 0,
            Wire::Fixed64 => 1,
            Wire::Bytes => 2,
            Wire::Fixed32 => 5,
        }
    }
}

/// The start of a field. Its message may consist of several parts, which decoding merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FieldOffset {
    part: u32,
    start: u32,
}

/// One occurrence of a field.
#[derive(Debug, Clone, Copy)]
struct Occurrence<'a> {
    wire: Wire,
    value: &'a [u8],
}

/// The occurrences of fields in a message, sorted by number. Occurrences of one number are in the order of arrival.
struct Fields<'a> {
    parts: &'a [&'a [u8]],
    offsets: Vec<(u32, FieldOffset)>,
}

impl<'a> Fields<'a> {
    /// Returns `None` if the bytes are not a message.
    fn read(parts: &'a [&'a [u8]]) -> Option<Fields<'a>> {
        let mut offsets = Vec::new();
        for (part, message) in parts.iter().enumerate() {
            let mut start = 0;
            for field in fields::fields(message) {
                let field = field.ok()?;
                let offset =
                    FieldOffset { part: u32::try_from(part).ok()?, start: u32::try_from(start).ok()? };
                offsets.push((field.number, offset));
                start += field.encoded.len();
            }
        }
        offsets.sort_by_key(|(number, _)| *number);
        Some(Fields { parts, offsets })
    }

    /// Returns the groups of occurrences of one number, the largest number first.
    fn groups(&self) -> impl Iterator<Item = (u32, &[(u32, FieldOffset)])> {
        self.offsets.chunk_by(|a, b| a.0 == b.0).rev().filter_map(|group| Some((group.first()?.0, group)))
    }

    fn at(&self, offset: FieldOffset) -> Option<Occurrence<'a>> {
        let rest = self.parts.get(offset.part as usize)?.get(offset.start as usize..)?;
        let field = fields::fields(rest).next()?.ok()?;
        let wire = match field.encoded.first()? & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            5 => Wire::Fixed32,
            _ => Wire::Bytes,
        };
        Some(Occurrence { wire, value: field.value })
    }

    /// Returns the occurrences of a oneof's member that count: none if another member came last, otherwise those after
    /// the last occurrence of another member.
    fn of_oneof<'b>(
        &self,
        oneof: &OneofDescriptor,
        number: u32,
        group: &'b [(u32, FieldOffset)],
    ) -> &'b [(u32, FieldOffset)] {
        let members: Vec<u32> = oneof.fields().map(|field| field.number()).collect();
        let others = self.offsets.iter().filter(|(other, _)| *other != number && members.contains(other));
        let last_other = others.map(|(_, offset)| *offset).max();
        let counted = group.partition_point(|(_, offset)| Some(*offset) < last_other);
        &group[counted..]
    }
}

/// An encoding under construction, its last byte first.
struct ReverseEncoder(Vec<u8>);

impl ReverseEncoder {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(bytes.iter().rev());
    }

    fn varint(&mut self, number: u64) {
        let mut buffer = [0; 10];
        let mut rest = &mut buffer[..];
        prost::encoding::encode_varint(number, &mut rest);
        let length = 10 - rest.len();
        self.bytes(&buffer[..length]);
    }

    fn key(&mut self, number: u32, wire: Wire) {
        self.varint(u64::from(number) << 3 | wire.number());
    }

    /// Writes the length of the bytes written since `from`, and the key before it.
    fn close(&mut self, number: u32, from: usize) {
        self.varint((self.0.len() - from) as u64);
        self.key(number, Wire::Bytes);
    }

    fn number(&mut self, wire: Wire, number: u64) {
        match wire {
            Wire::Fixed64 => self.bytes(&number.to_le_bytes()),
            Wire::Fixed32 => self.bytes(&number.to_le_bytes()[..4]),
            Wire::Varint | Wire::Bytes => self.varint(number),
        }
    }

    fn message(&mut self, descriptor: &MessageDescriptor, parts: &[&[u8]], depth: usize) {
        let Some(fields) = Fields::read(parts).filter(|_| depth < MAX_DEPTH) else {
            parts.iter().rev().for_each(|part| self.bytes(part));
            return;
        };
        for (number, group) in fields.groups() {
            match descriptor.get_field(number) {
                Some(field) => self.known(&field, &fields, group, depth),
                None => self.unknown(number, &fields, group),
            }
        }
    }

    fn unknown(&mut self, number: u32, fields: &Fields<'_>, group: &[(u32, FieldOffset)]) {
        for occurrence in group.iter().rev().filter_map(|(_, offset)| fields.at(*offset)) {
            self.opaque(number, occurrence);
        }
    }

    fn opaque(&mut self, number: u32, Occurrence { wire, value }: Occurrence<'_>) {
        match wire {
            Wire::Varint => self.varint(decode_varint(&mut &value[..]).unwrap_or_default()),
            Wire::Fixed32 | Wire::Fixed64 => self.bytes(value),
            Wire::Bytes => {
                self.bytes(value);
                self.varint(value.len() as u64);
            }
        }
        self.key(number, wire);
    }

    fn known(
        &mut self,
        field: &FieldDescriptor,
        fields: &Fields<'_>,
        group: &[(u32, FieldOffset)],
        depth: usize,
    ) {
        let number = field.number();
        let group = match field.containing_oneof() {
            Some(oneof) => fields.of_oneof(&oneof, number, group),
            None => group,
        };
        let found = || group.iter().filter_map(|(_, offset)| fields.at(*offset));
        let kind = field.kind();
        let wire = Wire::of(&kind);
        let packable = field.is_list() && wire != Wire::Bytes;
        if !found().all(|one| one.wire == wire || (packable && one.wire == Wire::Bytes)) {
            // The decoder rejects it.
            return self.unknown(number, fields, group);
        }
        match kind {
            Kind::Message(entry) if field.is_map() && group.len() <= MAX_ENTRIES => {
                self.map(number, &entry, found().map(|one| one.value), depth);
            }
            Kind::Message(inner) if field.is_list() || field.is_map() => {
                for one in found().rev() {
                    self.embedded(number, &inner, &[one.value], depth);
                }
            }
            Kind::Message(inner) if !group.is_empty() => {
                self.embedded(number, &inner, &found().map(|one| one.value).collect::<Vec<_>>(), depth);
            }
            kind if packable => self.packed(number, &kind, found()),
            _ if field.is_list() => self.unknown(number, fields, group),
            kind => {
                if let Some(last) = found().next_back()
                    && (field.supports_presence() || !is_default(&kind, last))
                {
                    self.scalar(number, &kind, last);
                }
            }
        }
    }

    fn embedded(&mut self, number: u32, inner: &MessageDescriptor, parts: &[&[u8]], depth: usize) {
        let from = self.0.len();
        self.message(inner, parts, depth + 1);
        self.close(number, from);
    }

    fn scalar(&mut self, number: u32, kind: &Kind, one: Occurrence<'_>) {
        match read(kind, &mut &one.value[..]) {
            Some(value) if one.wire != Wire::Bytes => {
                self.number(one.wire, value);
                self.key(number, one.wire);
            }
            _ => self.opaque(number, one),
        }
    }

    /// Writes a list of numbers as packed, whether it was received packed or not.
    fn packed<'a>(&mut self, number: u32, kind: &Kind, found: impl Iterator<Item = Occurrence<'a>>) {
        let mut numbers = Vec::new();
        for one in found {
            let mut rest = one.value;
            while !rest.is_empty() {
                let Some(value) = read(kind, &mut rest) else { break };
                numbers.push(value);
            }
        }
        if numbers.is_empty() {
            return;
        }
        let from = self.0.len();
        for value in numbers.iter().rev() {
            self.number(Wire::of(kind), *value);
        }
        self.close(number, from);
    }

    /// Writes the entries of a map in the order of their keys. Of entries with the same key, the last counts. Each
    /// entry has its key and its value.
    fn map<'a>(
        &mut self,
        number: u32,
        entry: &MessageDescriptor,
        values: impl Iterator<Item = &'a [u8]>,
        depth: usize,
    ) {
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let mut entries: Vec<(Vec<u8>, &[u8])> = values.map(|one| (self.key_of(&key, one), one)).collect();
        // The sort is stable: the last of equal keys is the one that arrived last.
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let last = entries.chunk_by(|a, b| a.0 == b.0).rev().filter_map(|equal| equal.last());
        for (key_bytes, one) in last {
            let from = self.0.len();
            let parts = [*one];
            if let Some(fields) = Fields::read(&parts) {
                let group =
                    fields.groups().find(|(number, _)| *number == 2).map_or(&[][..], |(_, group)| group);
                let before = self.0.len();
                self.known(&value, &fields, group, depth + 1);
                if self.0.len() == before {
                    self.default(&value);
                }
                self.bytes(key_bytes);
            } else {
                self.bytes(one);
            }
            self.close(number, from);
        }
    }

    /// Returns the encoded key of a map's entry.
    fn key_of(&self, key: &FieldDescriptor, entry: &[u8]) -> Vec<u8> {
        let mut encoded = ReverseEncoder(Vec::new());
        let parts = [entry];
        if let Some(fields) = Fields::read(&parts) {
            let group = fields.groups().find(|(number, _)| *number == 1).map_or(&[][..], |(_, group)| group);
            encoded.known(key, &fields, group, MAX_DEPTH);
        }
        if encoded.0.is_empty() {
            encoded.default(key);
        }
        encoded.0.reverse();
        encoded.0
    }

    fn default(&mut self, field: &FieldDescriptor) {
        let wire = Wire::of(&field.kind());
        self.number(wire, 0);
        self.key(field.number(), wire);
    }
}

/// Reads one number of a kind as every decoder reads it.
fn read(kind: &Kind, rest: &mut &[u8]) -> Option<u64> {
    let number = match Wire::of(kind) {
        Wire::Varint => decode_varint(rest).ok()?,
        Wire::Fixed64 => u64::from_le_bytes(*take(rest)?),
        Wire::Fixed32 => u64::from(u32::from_le_bytes(*take(rest)?)),
        Wire::Bytes => return None,
    };
    Some(match kind {
        Kind::Bool => u64::from(number != 0),
        Kind::Int32 | Kind::Enum(_) => i64::from(number as i32) as u64,
        Kind::Uint32 | Kind::Sint32 => u64::from(number as u32),
        _ => number,
    })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (value, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(value)
}

fn is_default(kind: &Kind, one: Occurrence<'_>) -> bool {
    match (kind, read(kind, &mut &one.value[..])) {
        (Kind::Double, Some(bits)) => f64::from_bits(bits) == 0.0,
        (Kind::Float, Some(bits)) => f32::from_bits(bits as u32) == 0.0,
        (_, Some(number)) => number == 0,
        (_, None) => one.value.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_reflect::DynamicMessage;

    use super::*;
    use crate::wire::{POOL, fields, v1};

    fn descriptor(name: &str) -> MessageDescriptor {
        POOL.get_message_by_name(&format!("cable.v1.{name}")).unwrap()
    }

    fn field(number: u32, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        fields::put_bytes(&mut out, number, value);
        out
    }

    fn article() -> Vec<u8> {
        let paragraph = |text: &str| v1::Block {
            kind: Some(v1::block::Kind::Paragraph(v1::Paragraph {
                spans: vec![v1::Span { text: text.into(), ..Default::default() }],
            })),
            ..Default::default()
        };
        let annotations = ["desk", "", "slug"].map(|key| (key.to_owned(), format!("of {key}")));
        let article = v1::Article {
            name: "articles/a".into(),
            headline: "Storm".into(),
            r#type: 3,
            tags: vec!["tags/b".into(), "tags/a".into()],
            body: Some(v1::Body { blocks: vec![paragraph("one"), paragraph("two")] }),
            publish_time: Some(prost_types::Timestamp { seconds: -5, nanos: 7 }),
            embargo: Some(v1::Embargo::default()),
            annotations: annotations.into(),
            ..Default::default()
        };
        article.encode_to_vec()
    }

    /// Returns the same message in another legal encoding.
    fn scrambled(descriptor: &MessageDescriptor, message: &[u8]) -> Vec<u8> {
        let mut all: Vec<Vec<u8>> = Vec::new();
        for one in fields::fields(message).map(Result::unwrap) {
            let kind = descriptor.get_field(one.number).map(|field| (field.kind(), field.is_map(), field));
            all.push(match kind {
                Some((Kind::Message(inner), false, _)) => field(one.number, &scrambled(&inner, one.value)),
                Some((Kind::String, _, known)) if !known.is_list() => {
                    // An earlier value that the later one replaces.
                    [field(one.number, b"before"), one.encoded.to_vec()].concat()
                }
                _ => one.encoded.to_vec(),
            });
        }
        // Values of one repeated field stay in order; everything else is reversed.
        let number = |bytes: &Vec<u8>| fields::fields(bytes).next().unwrap().unwrap().number;
        let is_list =
            |bytes: &Vec<u8>| descriptor.get_field(number(bytes)).is_some_and(|field| field.is_list());
        let (lists, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_list);
        others.into_iter().rev().chain(lists).flatten().collect()
    }

    #[test]
    fn the_order_of_fields_and_entries_does_not_matter() {
        let descriptor = descriptor("Article");
        let plain = canonical(&descriptor, &article());
        let other = scrambled(&descriptor, &article());
        assert_ne!(other, article());
        assert_eq!(
            DynamicMessage::decode(descriptor.clone(), &other[..]).unwrap(),
            DynamicMessage::decode(descriptor.clone(), &article()[..]).unwrap()
        );
        assert_eq!(canonical(&descriptor, &other), plain);
        assert_eq!(canonical(&descriptor, &plain), plain);
        let decoded = v1::Article::decode(&plain[..]).unwrap();
        assert_eq!(decoded, v1::Article::decode(&article()[..]).unwrap());
    }

    #[test]
    fn equal_values_in_other_encodings_give_the_same_encoding() {
        let descriptor = descriptor("Article");
        let plain = canonical(&descriptor, &article());
        let with = |more: &[u8]| canonical(&descriptor, &[more, &article()].concat());
        assert_eq!(with(&field(12, b"")), plain, "an empty dek");
        // type, 10: 0 in two bytes, which the 3 that follows replaces.
        assert_eq!(with(&[80, 0x80, 0x00]), plain);
        // publish_time, 25: seconds alone first, merged with the value that follows.
        assert_eq!(with(&field(25, &[8, 9])), plain);
        // annotations, 33: an entry that a later one of the same key replaces, and an entry without a key.
        let replaced = [field(1, b"desk"), field(2, b"old")].concat();
        assert_eq!(with(&field(33, &replaced)), plain);
        assert_eq!(with(&field(33, &field(2, b"of nothing"))), plain);
        assert_ne!(with(&field(33, &field(1, b"other"))), plain);
    }

    #[test]
    fn a_change_of_meaning_changes_the_encoding() {
        let descriptor = descriptor("Article");
        let plain = canonical(&descriptor, &article());
        let with = |more: &[u8]| canonical(&descriptor, &[&article()[..], more].concat());
        for (case, more) in [
            ("another headline", field(11, b"Calm")),
            ("a tag more", field(20, b"tags/c")),
            ("an empty tag more", field(20, b"")),
            ("an empty message", field(17, b"")),
            ("another value of a key", field(33, &[field(1, b"desk"), field(2, b"x")].concat())),
            ("an unknown field", field(900, b"x")),
            ("an unknown empty field", field(900, b"")),
        ] {
            assert_ne!(with(&more), plain, "{case}");
        }
        let unknown = |fields: &[Vec<u8>]| with(&fields.concat());
        let (a, b, c) = (field(900, b"a"), field(900, b"b"), field(901, b"c"));
        assert_eq!(unknown(&[a.clone(), b.clone(), c.clone()]), unknown(&[c, a.clone(), b.clone()]));
        assert_ne!(unknown(&[a.clone(), b.clone()]), unknown(&[b, a]));
    }

    #[test]
    fn the_last_member_of_a_oneof_counts() {
        let descriptor = descriptor("Precondition");
        let (absent, etag) = ([8, 1].to_vec(), field(2, b"x"));
        let canonical = |fields: [&Vec<u8>; 2]| canonical(&descriptor, &fields.map(Clone::clone).concat());
        assert_eq!(canonical([&absent, &etag]), etag);
        assert_eq!(canonical([&etag, &absent]), absent);
        assert_eq!(canonical([&etag, &field(2, b"")]), field(2, b""), "a oneof's member may be empty");
    }

    #[test]
    fn lists_of_numbers_are_packed() {
        let descriptor = descriptor("FeedFilter");
        let kinds = v1::FeedFilter { kinds: vec![1, 300, 2], ..Default::default() }.encode_to_vec();
        let loose = [&[32, 1, 32, 0xac, 0x82, 0x00][..], &field(4, &[2])].concat();
        assert_eq!(canonical(&descriptor, &loose), kinds);
        assert_eq!(canonical(&descriptor, &kinds), kinds);
        assert_eq!(canonical(&descriptor, &field(4, &[])), b"");
    }

    #[test]
    fn arbitrary_bytes_are_encoded_without_a_panic() {
        let article = descriptor("Article");
        let mut seed = 7u64;
        for length in 0..400 {
            let noise: Vec<u8> = (0..length)
                .map(|_| {
                    seed =
                        seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (seed >> 33) as u8
                })
                .collect();
            for input in [noise.clone(), [super::tests::article(), noise].concat()] {
                let once = canonical(&article, &input);
                assert!(once.len() <= 4 * input.len() + 16);
            }
        }
        let entry = |n: usize| field(33, &[field(1, n.to_string().as_bytes()), field(2, b"v")].concat());
        let many: Vec<u8> = (0..100_000).rev().flat_map(entry).collect();
        assert_eq!(canonical(&article, &many).len(), many.len());
        // Messages nested in each other, far deeper than any decoder goes.
        let mut deep = Vec::new();
        for _ in 0..3_000 {
            deep = field(15, &field(1, &field(7, &deep)));
        }
        assert!(canonical(&article, &deep).len() <= deep.len());
    }
}
