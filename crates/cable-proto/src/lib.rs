#![doc = include_str!("../README.md")]

mod body;
pub mod change;
mod filter;
pub mod limit;
pub mod number;
#[cfg(feature = "path")]
pub mod path;
mod position;
mod record;
mod status;
pub mod text;

pub use body::Text;
pub use position::ParsePositionError;
pub use record::RawRecord;
pub use status::code_name;

/// Returns the name of a bare id: `tags/storm` for `storm`. A value with a slash is a name already, and is returned as it
/// is.
pub fn full_name(collection: &str, id: impl Into<String>) -> String {
    let id = id.into();
    if id.contains('/') || id.is_empty() { id } else { format!("{collection}/{id}") }
}

/// The messages of the package `cable.v1`.
///
/// They are plain structs. A later release can add fields and variants: create messages with
/// `..Default::default()`, and match enums with a wildcard arm.
///
/// ```
/// use cable_proto::v1;
///
/// let article = v1::Article {
///     name: "articles/storm".into(),
///     headline: "Storm over Norwick".into(),
///     ..Default::default()
/// };
/// # assert!(article.body.is_none());
/// ```
#[allow(
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    missing_docs,
    rustdoc::all,
    reason = "generated from the commented schema"
)]
pub mod v1 {
    include!("gen/cable.v1.rs");
}

/// The compiled schema, an encoded `google.protobuf.FileDescriptorSet`, for reflection and JSON. It also describes the
/// entries of the log, `cable.log.v1`.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptors.binpb");

/// The compiled schema as descriptors that can be searched.
#[cfg(feature = "reflect")]
pub static POOL: std::sync::LazyLock<prost_reflect::DescriptorPool> = std::sync::LazyLock::new(|| {
    prost_reflect::DescriptorPool::decode(DESCRIPTORS).expect("the checked-in descriptors are valid")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_ids_become_names() {
        assert_eq!(full_name("articles", "storm"), "articles/storm");
        assert_eq!(full_name("articles", "articles/storm"), "articles/storm");
        assert_eq!(full_name("articles", "tags/storm"), "tags/storm");
        assert_eq!(full_name("articles", ""), "");
        let filter = v1::ArticleFilter::default().tag("a").tag("tags/b").section("news").author("x");
        assert_eq!(filter.all_tags, ["tags/a", "tags/b"]);
        assert_eq!((filter.section.as_str(), filter.authors[0].as_str()), ("sections/news", "authors/x"));
    }
}
