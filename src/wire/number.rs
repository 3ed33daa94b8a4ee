//! The numbers of the schema's fields that the server reads or cuts without decoding the message around them. A test
//! checks them against the schema.

use crate::model::Kind;

/// The first number of content. In every entity, the fields below it belong to the server.
const FIRST_CONTENT: u32 = 10;

/// Returns whether a field of an entity belongs to the server: it is not part of the stored content.
pub(crate) fn is_server_field(kind: Kind, number: u32) -> bool {
    number < FIRST_CONTENT || (kind == Kind::Article && number == article::FORMER_PATHS)
}

/// The field `name` of every entity.
pub(crate) const NAME: u32 = 1;

/// Fields of an article.
pub(crate) mod article {
    pub(crate) const RENDERED_BODY: u32 = 9;
    pub(crate) const TYPE: u32 = 10;
    pub(crate) const HEADLINE: u32 = 11;
    pub(crate) const BODY: u32 = 15;
    pub(crate) const BYLINE: u32 = 17;
    pub(crate) const SECTION: u32 = 18;
    pub(crate) const ADDITIONAL_SECTIONS: u32 = 19;
    pub(crate) const TAGS: u32 = 20;
    pub(crate) const PATH: u32 = 21;
    pub(crate) const ALIAS_PATHS: u32 = 22;
    pub(crate) const CANONICAL_URL: u32 = 23;
    pub(crate) const LANGUAGE: u32 = 24;
    pub(crate) const PUBLISH_TIME: u32 = 25;
    pub(crate) const EMBARGO: u32 = 26;
    pub(crate) const EXPIRE_TIME: u32 = 27;
    pub(crate) const ALT_IDS: u32 = 32;
    pub(crate) const FORMER_PATHS: u32 = 34;
    pub(crate) const MODIFIED_TIME: u32 = 35;
    pub(crate) const EDITORIAL_NOTE: u32 = 41;
}

/// The field `parent` of a section.
pub(crate) const SECTION_PARENT: u32 = 13;

/// The field `articles` of a collection.
pub(crate) const COLLECTION_ARTICLES: u32 = 12;

/// The field `meta` of every response to a read.
pub(crate) const META: u32 = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::POOL;

    #[test]
    fn the_numbers_are_those_of_the_schema() {
        let number = |message: &str, field: &str| {
            let message = POOL.get_message_by_name(&format!("cable.v1.{message}")).unwrap();
            message.get_field_by_name(field).unwrap().number()
        };
        for (field, expected) in [
            ("name", NAME),
            ("rendered_body", article::RENDERED_BODY),
            ("type", article::TYPE),
            ("headline", article::HEADLINE),
            ("canonical_url", article::CANONICAL_URL),
            ("modified_time", article::MODIFIED_TIME),
            ("body", article::BODY),
            ("byline", article::BYLINE),
            ("section", article::SECTION),
            ("additional_sections", article::ADDITIONAL_SECTIONS),
            ("tags", article::TAGS),
            ("path", article::PATH),
            ("alias_paths", article::ALIAS_PATHS),
            ("language", article::LANGUAGE),
            ("publish_time", article::PUBLISH_TIME),
            ("embargo", article::EMBARGO),
            ("expire_time", article::EXPIRE_TIME),
            ("alt_ids", article::ALT_IDS),
            ("former_paths", article::FORMER_PATHS),
            ("editorial_note", article::EDITORIAL_NOTE),
        ] {
            assert_eq!(number("Article", field), expected, "{field}");
        }
        assert_eq!(number("Section", "parent"), SECTION_PARENT);
        assert_eq!(number("Collection", "articles"), COLLECTION_ARTICLES);
        assert_eq!(number("GetArticleResponse", "meta"), META);
        assert_eq!(number("Author", "display_name"), FIRST_CONTENT);
    }
}
