//! Requests for each method and each field of the schema, made from its descriptors: the field with its largest values,
//! of which the node accepts some and refuses others. A field or a method that the schema gains has its requests without
//! a change here.

use std::collections::{BTreeSet, VecDeque};

use cable_proto::{
    POOL,
    limit::{READ_REQUEST, WRITE_REQUEST},
};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use super::{
    Case, MIB, Variant,
    encoding::{f, id, many, n, x},
    group,
};

/// The room for the messages around a field and for their other fields.
const AROUND: usize = 1_024;

/// A row for each message of each request: the request itself, and each message below it that no request before had.
pub(super) fn cases() -> Vec<Case> {
    cases_within(|method| max_bytes(method) - AROUND)
}

/// Returns the cases whose fields have this room.
fn cases_within(room: impl Fn(&MethodDescriptor) -> usize) -> Vec<Case> {
    let (mut cases, mut seen) = (Vec::new(), BTreeSet::new());
    for method in methods() {
        let path = format!("{}/{}", method.parent_service().name(), method.name());
        let room = room(&method);
        let mut open = VecDeque::from([(method.input(), Vec::new())]);
        while let Some((message, around)) = open.pop_front() {
            if !around.is_empty() && !seen.insert(message.full_name().to_owned()) {
                continue;
            }
            for field in message.fields().filter(|field| !field.is_map()) {
                if let Kind::Message(inner) = field.kind() {
                    let enclosing =
                        Enclosing { message: message.full_name().to_owned(), number: field.number() };
                    open.push_back((inner, [&around[..], &[enclosing]].concat()));
                }
            }
            let variants = variants(&message, &around, room);
            let label = format!(
                "{}: {} requests of {} fields",
                message.name(),
                variants.len(),
                message.fields().len()
            );
            cases.push(group(path.clone(), label, variants));
        }
    }
    cases
}

fn methods() -> impl Iterator<Item = MethodDescriptor> {
    let own = POOL.services().filter(|service| service.package_name() == "cable.v1");
    own.flat_map(|service| service.methods().collect::<Vec<_>>())
}

fn max_bytes(method: &MethodDescriptor) -> usize {
    let limit = match method.parent_service().name() {
        "PublishingService" | "TransferService" => &WRITE_REQUEST,
        _ => &READ_REQUEST,
    };
    limit.maximum as usize
}

/// A message around a field, and the number of the field that leads to it.
#[derive(Debug, Clone)]
struct Enclosing {
    message: String,
    number: u32,
}

fn variants(message: &MessageDescriptor, around: &[Enclosing], room: usize) -> Vec<Variant> {
    let request = |label: String, field: Option<(u32, Value)>| {
        let (message, around) = (message.full_name().to_owned(), around.to_vec());
        Variant::new(label, move |i| {
            let own = field.as_ref().map(|(number, value)| value.encode(*number)).unwrap_or_default();
            let innermost = [base(&message, i, true), own].concat();
            around.iter().rev().fold(innermost, |inner, enclosing| {
                [base(&enclosing.message, i, false), f(enclosing.number, inner)].concat()
            })
        })
    };
    let unknown = [("nothing else", Value::Empty), ("unknown fields", Value::Unknown(room / 4))];
    let unknown = unknown.map(|(label, value)| request(label.to_owned(), Some((0, value))));
    let of_field = |field: FieldDescriptor| {
        let all = values(&field, room).into_iter();
        let name = field.name().to_owned();
        all.map(move |value| (format!("{name}: {}", value.describe()), field.number(), value))
            .collect::<Vec<_>>()
    };
    let own = message.fields().flat_map(of_field);
    unknown
        .into_iter()
        .chain(own.map(|(label, number, value)| request(label, Some((number, value)))))
        .collect()
}

/// Values of a field.
#[derive(Debug, Clone)]
enum Value {
    Empty,
    /// So many unknown fields.
    Unknown(usize),
    Text(usize),
    Path(usize),
    Url(usize),
    /// So many texts of this length, each of them another one.
    Texts(usize, usize),
    /// So many empty texts or messages.
    Empties(usize),
    /// So many numbers, and whether each is a field of its own.
    Numbers(usize),
    Packed(usize),
    /// So many numbers of four or of eight bytes.
    Fixed(usize, usize),
    /// So many entries of a map with keys and values of these lengths.
    Entries(usize, usize, usize),
}

fn values(field: &FieldDescriptor, room: usize) -> Vec<Value> {
    let fits = |size: &usize| *size <= room;
    if field.is_map() {
        return vec![
            Value::Entries(room / 16, 6, 0),
            Value::Entries(64, 100, 100),
            Value::Entries(64, 8, 8),
            Value::Entries(1, 8, room - 64),
        ];
    }
    let numbers = |width: usize| match width {
        0 if field.is_list() => {
            vec![Value::Numbers(room / 8), Value::Packed(room), Value::Numbers(64), Value::Numbers(1)]
        }
        0 => vec![Value::Numbers(1), Value::Numbers(room / 8)],
        width => vec![Value::Fixed(1, width), Value::Fixed(room / (width + 4), width)],
    };
    match field.kind() {
        Kind::Message(_) if field.is_list() => {
            vec![Value::Empties(room / 3), Value::Empties(500), Value::Empties(1)]
        }
        Kind::Message(_) => vec![Value::Empties(1), Value::Empties(room / 3)],
        Kind::String | Kind::Bytes if field.is_list() => vec![
            Value::Empties(room / 3),
            Value::Texts(room / 12, 8),
            Value::Texts(60, 120),
            Value::Texts(1, 8),
            Value::Text(room),
        ],
        Kind::String | Kind::Bytes => {
            let texts = [room, MIB - 2 * AROUND, 64 << 10, 8 << 10, 4 << 10, 2 << 10, 1 << 10, 128, 8];
            let texts = texts.into_iter().filter(fits).map(Value::Text);
            texts.chain([Value::Path(1 << 10), Value::Url(2 << 10)]).collect()
        }
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => numbers(4),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => numbers(8),
        _ => numbers(0),
    }
}

impl Value {
    fn encode(&self, number: u32) -> Vec<u8> {
        match *self {
            Value::Empty => Vec::new(),
            Value::Unknown(count) => many(count, |i| n(15_000, i as u64 % 100)),
            Value::Text(length) => f(number, x(length)),
            Value::Path(length) => f(number, format!("/{}", x(length - 1))),
            Value::Url(length) => f(number, format!("https://news.example/{}", x(length - 21))),
            Value::Texts(count, length) => many(count, |i| f(number, id(i, length))),
            Value::Empties(count) => many(count, |_| f(number, [])),
            Value::Numbers(count) => many(count, |_| n(number, i32::MAX as u64)),
            Value::Packed(count) => f(number, vec![1; count]),
            Value::Fixed(count, width) => many(count, |_| {
                let wire_type = if width == 4 { 5 } else { 1 };
                let mut field = n(number, 0);
                field.pop();
                if let Some(key) = field.first_mut() {
                    *key |= wire_type;
                }
                [field, vec![0x3f; width]].concat()
            }),
            Value::Entries(count, key, value) => {
                many(count, |i| f(number, [f(1, id(i, key)), f(2, x(value))].concat()))
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Value::Empty => "nothing".to_owned(),
            Value::Unknown(count) => format!("{count} unknown fields"),
            Value::Text(length) => format!("{length} bytes"),
            Value::Path(length) => format!("a path of {length} bytes"),
            Value::Url(length) => format!("a URL of {length} bytes"),
            Value::Texts(count, length) => format!("{count} of {length} bytes"),
            Value::Empties(count) => format!("{count} empty"),
            Value::Numbers(count) => format!("{count} numbers"),
            Value::Packed(count) => format!("{count} packed numbers"),
            Value::Fixed(count, width) => format!("{count} numbers of {width} bytes"),
            Value::Entries(count, key, value) => format!("{count} entries of {} bytes", key + value),
        }
    }
}

/// Returns the fields without which the node refuses a message for another reason than its largest field. `is_own` is
/// whether the largest field is one of the message itself.
fn base(message: &str, i: usize, is_own: bool) -> Vec<u8> {
    let entity = |kind: &str, title: u32| [f(1, format!("{kind}/g{i}")), f(title, "G")].concat();
    let name = message.strip_prefix("cable.v1.").unwrap_or_default();
    let of_kind = |name: &str| match name {
        "Article" => entity("articles", 11),
        "Author" => entity("authors", 10),
        "Section" => entity("sections", 10),
        "Tag" => entity("tags", 10),
        "Collection" => entity("collections", 10),
        _ => Vec::new(),
    };
    let collection = |kind: &str| format!("{}s/probe", kind.to_ascii_lowercase());
    if let Some(kind) = name.strip_suffix("Request").filter(|_| is_own) {
        return match kind {
            "GetPending" | "RemovePending" => f(1, "articles/probe"),
            "PatchArticle" => f(1, f(1, "articles/probe")),
            "ResolvePath" => f(1, "/probe"),
            "Commit" => f(1, f(1, entity("articles", 11))),
            "Import" => f(2, f(1, entity("articles", 11))),
            kind => match (kind.strip_prefix("Put"), kind.strip_prefix("Get"), kind.strip_prefix("Remove")) {
                (Some(kind), ..) => f(1, of_kind(kind)),
                (_, Some(kind), _) => f(1, collection(kind)),
                (.., Some(kind)) => [f(1, collection(kind)), n(2, 4)].concat(),
                _ => Vec::new(),
            },
        };
    }
    match name {
        "Tombstone" | "Removal" => [f(1, format!("articles/g{i}")), n(2, 4)].concat(),
        "ArticlePatch" => f(1, f(1, "articles/probe")),
        "Change" | "Record" if is_own => f(1, entity("articles", 11)),
        name => of_kind(name),
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DynamicMessage;

    use super::*;

    /// Adds all fields that are set in a message, at any depth.
    fn add_fields(message: &DynamicMessage, found: &mut BTreeSet<String>) {
        for (field, value) in message.fields() {
            found.insert(field.full_name().to_owned());
            let values = value.as_list().map_or(std::slice::from_ref(value), |list| list);
            values.iter().filter_map(|value| value.as_message()).for_each(|inner| add_fields(inner, found));
        }
    }

    /// Adds all fields that a request can have.
    fn add_all(message: &MessageDescriptor, all: &mut BTreeSet<String>) {
        for field in message.fields() {
            let is_new = all.insert(field.full_name().to_owned());
            if let (Kind::Message(inner), true, false) = (field.kind(), is_new, field.is_map()) {
                add_all(&inner, all);
            }
        }
    }

    #[test]
    fn each_field_of_each_request_has_requests() {
        let (mut all, mut found) = (BTreeSet::new(), BTreeSet::new());
        methods().for_each(|method| add_all(&method.input(), &mut all));
        // Large ones take long to decode. They are made alike.
        let room = 16 << 10;
        let cases = cases_within(|_| room);
        for method in methods() {
            let path = format!("{}/{}", method.parent_service().name(), method.name());
            let own: Vec<_> = cases.iter().filter(|case| case.method == path).collect();
            assert!(!own.is_empty(), "{path}");
            for variant in own.iter().flat_map(|case| &case.variants) {
                let request = (variant.request)(0);
                assert!(request.len() <= room + AROUND, "{path} {}: {}", variant.label, request.len());
                let decoded = DynamicMessage::decode(method.input(), request);
                let decoded = decoded.unwrap_or_else(|error| panic!("{path} {}: {error}", variant.label));
                add_fields(&decoded, &mut found);
            }
        }
        let missing: Vec<_> = all.difference(&found).collect();
        assert!(missing.is_empty(), "{missing:#?}");
        assert!(all.len() > 300, "{}", all.len());
    }
}
