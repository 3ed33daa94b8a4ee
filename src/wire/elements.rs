//! The number of elements in the lists of an encoded message, at any depth, determined without decoding it.
//!
//! An element can take two bytes encoded and a hundred or more bytes decoded: a request of 4 MiB would take several
//! hundred MiB. So the elements are counted first, in one pass over the encoded fields. An entity within a request
//! remains encoded, and is counted when it is decoded itself.

use std::{
    collections::HashMap,
    sync::{LazyLock, OnceLock},
};

use prost::DecodeError;
use prost_reflect::{Kind, MessageDescriptor};

use super::{POOL, fields};

/// The deepest nesting of messages, which is that of the decoder.
const MAX_DEPTH: usize = 100;

/// The lists of each message of the schema.
static SHAPES: LazyLock<Shapes> = LazyLock::new(Shapes::new);

/// The properties of a field of a known number.
#[derive(Debug, Clone, Copy, Default)]
struct FieldInfo {
    is_list: bool,
    /// The index of the message that the field holds.
    message: Option<usize>,
}

struct Shapes {
    by_name: HashMap<String, usize>,
    messages: Vec<Vec<FieldInfo>>,
}

impl Shapes {
    fn new() -> Shapes {
        let all: Vec<MessageDescriptor> = POOL.all_messages().collect();
        let by_name: HashMap<String, usize> =
            all.iter().enumerate().map(|(i, message)| (message.full_name().to_owned(), i)).collect();
        let info = |message: &MessageDescriptor| {
            let mut info = Vec::new();
            for field in message.fields() {
                let number = field.number() as usize;
                info.resize(info.len().max(number + 1), FieldInfo::default());
                let kind = field.kind();
                let message = match &kind {
                    Kind::Message(message) if !is_entity(message) => {
                        by_name.get(message.full_name()).copied()
                    }
                    _ => None,
                };
                // Numbers are packed: their decoded size is at most a few times their encoded size.
                let grows = matches!(kind, Kind::Message(_) | Kind::String | Kind::Bytes);
                info[number] = FieldInfo {
                    is_list: field.cardinality() == prost_reflect::Cardinality::Repeated && grows,
                    message,
                };
            }
            info
        };
        let messages = all.iter().map(info).collect();
        Shapes { by_name, messages }
    }

    fn count(&self, message: usize, bytes: &[u8], limit: usize, depth: usize) -> Result<usize, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(super::malformed("nested too deeply"));
        }
        let mut count = 0;
        for field in fields::fields(bytes) {
            let field = match field {
                Ok(field) => field,
                Err(error) if error.to_string().contains("groups") => return Err(error),
                // Decoding stops here, too, and its error names the field.
                Err(_) => break,
            };
            let info = self.messages[message].get(field.number as usize).copied().unwrap_or_default();
            count += usize::from(info.is_list);
            if let Some(inner) = info.message {
                count += self.count(inner, field.value, limit.saturating_sub(count), depth + 1)?;
            }
            if count > limit {
                break;
            }
        }
        Ok(count)
    }
}

fn is_entity(message: &MessageDescriptor) -> bool {
    ["Article", "Author", "Section", "Tag", "Collection"].contains(&message.name())
}

/// The shape of a message of the schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape(usize);

impl Shape {
    /// Returns the shape of the message with this name in `cable.v1`.
    pub(crate) fn named(name: &str) -> Option<Shape> {
        SHAPES.by_name.get(&format!("cable.v1.{name}")).copied().map(Shape)
    }

    /// Returns the number of elements in the lists of the message. Counting stops at one above `limit`.
    ///
    /// # Errors
    /// Fails if the message contains a group or is nested too deeply: elements could be hidden there.
    pub(crate) fn elements(self, bytes: &[u8], limit: usize) -> Result<usize, DecodeError> {
        SHAPES.count(self.0, bytes, limit, 0)
    }
}

/// Returns the shape of an article, the most frequent one.
pub(crate) fn article() -> Shape {
    static ARTICLE: OnceLock<Shape> = OnceLock::new();
    *ARTICLE.get_or_init(|| Shape::named("Article").expect("the schema has articles"))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::wire::v1::{self, block::Kind as Block};

    fn elements(article: &v1::Article) -> usize {
        super::article().elements(&article.encode_to_vec(), usize::MAX).unwrap()
    }

    fn with_body(block: Block) -> v1::Article {
        let block = v1::Block { kind: Some(block), ..Default::default() };
        v1::Article { body: Some(v1::Body { blocks: vec![block] }), ..Default::default() }
    }

    #[test]
    fn elements_are_counted_at_every_depth() {
        assert_eq!(elements(&v1::Article { headline: "H".into(), ..Default::default() }), 0);
        let tags = v1::Article { tags: vec![String::new(); 3], ..Default::default() };
        assert_eq!(elements(&tags), 3);
        let spans = vec![v1::Span { text: "x".into(), marks: vec![1, 2], link: None }; 4];
        assert_eq!(elements(&with_body(Block::Paragraph(v1::Paragraph { spans: spans.clone() }))), 5);
        let row = v1::TableRow { cells: vec![v1::TableCell { spans, ..Default::default() }; 2] };
        assert_eq!(
            elements(&with_body(Block::Table(v1::Table { rows: vec![row], caption: vec![] }))),
            1 + 1 + 2 + 8
        );
    }

    #[test]
    fn counting_stops_above_the_limit() {
        let many = v1::Article { tags: vec![String::new(); 10_000], ..Default::default() }.encode_to_vec();
        assert_eq!(super::article().elements(&many, 10).unwrap(), 11);
    }

    #[test]
    fn groups_and_deep_nesting_are_refused() {
        let group = [(1000 << 3 | 3_u32) as u8 | 0x80, (1000 << 3 >> 7) as u8];
        assert!(super::article().elements(&group, 10).is_err());
        let mut deep = Vec::new();
        for _ in 0..MAX_DEPTH {
            // A list in a block of an item of a list.
            for number in [4, 1, 3] {
                let mut outer = Vec::new();
                fields::put_bytes(&mut outer, number, &deep);
                deep = outer;
            }
        }
        let list = Shape::named("List").unwrap();
        assert!(list.elements(&deep, 1_000).is_err());
    }

    #[test]
    fn an_entity_within_a_request_is_one_element() {
        let article = v1::Article { tags: vec![String::new(); 3], ..Default::default() };
        let request =
            v1::ImportRequest { records: vec![article.clone().into(), article.into()], ..Default::default() };
        let shape = Shape::named("ImportRequest").unwrap();
        assert_eq!(shape.elements(&request.encode_to_vec(), 100).unwrap(), 2);
    }

    #[test]
    fn every_request_of_a_write_has_a_shape() {
        for service in POOL.services().filter(|service| service.full_name().starts_with("cable.v1.")) {
            for method in service.methods() {
                assert!(Shape::named(method.input().name()).is_some(), "{}", method.full_name());
            }
        }
    }
}
