//! Patches of an encoded article: top-level fields are replaced, all others keep their bytes.

use std::collections::BTreeSet;

use crate::{
    model::{Kind, limit},
    refusal::{Refusal, at_most},
    wire::{POOL, fields, number},
};

/// Returns the article with the fields that the mask names taken from `patch`. Without a mask, the fields that are set
/// in `patch` are taken.
///
/// # Errors
/// Fails if the mask names something other than a top-level field of an article's content.
pub(super) fn apply(article: &[u8], patch: &[u8], mask: Option<&[String]>) -> Result<Vec<u8>, Refusal> {
    let replaced = match mask {
        None => Mask::Fields(fields::fields(patch).map_while(Result::ok).map(|field| field.number).collect()),
        Some(paths) => Mask::parse(paths)?,
    };
    let replaces = |number: u32| is_server_field(number) || replaced.contains(number);
    let mut patched = Vec::with_capacity(article.len() + patch.len());
    fields::copy_if(article, &mut patched, |number| !replaces(number));
    fields::copy_if(patch, &mut patched, replaces);
    Ok(patched)
}

/// Checks a mask before anything is read.
///
/// # Errors
/// Fails like [`apply`].
pub(crate) fn check(mask: &[String]) -> Result<(), Refusal> {
    at_most(&limit::MASK, mask.len(), "update_mask")?;
    Mask::parse(mask).map(drop)
}

/// Returns the value that the patch gives a field: `None` if the field is unchanged, empty if it is cleared.
pub(super) fn value<'a>(patch: &'a [u8], mask: Option<&[String]>, number: u32) -> Option<&'a [u8]> {
    let value = fields::last(patch, number);
    match mask.map(Mask::parse) {
        None => value,
        Some(Ok(named)) if named.contains(number) => Some(value.unwrap_or_default()),
        Some(_) => None,
    }
}

fn is_server_field(number: u32) -> bool {
    number::is_server_field(Kind::Article, number)
}

/// The fields that a patch replaces.
enum Mask {
    /// All fields of the content, also those that this version does not know.
    All,
    /// The fields with these numbers.
    Fields(BTreeSet<u32>),
}

impl Mask {
    fn contains(&self, number: u32) -> bool {
        match self {
            Mask::All => !is_server_field(number),
            Mask::Fields(numbers) => numbers.contains(&number),
        }
    }

    fn parse(paths: &[String]) -> Result<Mask, Refusal> {
        let article =
            POOL.get_message_by_name("cable.v1.Article").expect("the schema contains cable.v1.Article");
        let mut numbers = BTreeSet::new();
        for path in paths {
            if path == "*" {
                if paths.len() > 1 {
                    return Err(Refusal::field("update_mask", "`*` must be the only path"));
                }
                return Ok(Mask::All);
            }
            let field = article.get_field_by_name(path).map(|field| field.number());
            match field {
                Some(number) if !is_server_field(number) => numbers.insert(number),
                Some(_) => return Err(Refusal::field("update_mask", format!("set by the server: {path}"))),
                None => {
                    let problem = format!("not a top-level field of an article: {path}");
                    return Err(Refusal::field("update_mask", problem));
                }
            };
        }
        Ok(Mask::Fields(numbers))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::wire::v1::Article;

    fn patched(mask: Option<&[&str]>) -> Article {
        let before = Article {
            headline: "Old".into(),
            dek: "Dek".into(),
            kicker: "Kick".into(),
            ..Default::default()
        };
        let patch = Article { headline: "New".into(), ..Default::default() };
        let mask = mask.map(|paths| paths.iter().map(ToString::to_string).collect::<Vec<_>>());
        let bytes = apply(&before.encode_to_vec(), &patch.encode_to_vec(), mask.as_deref()).unwrap();
        Article::decode(&bytes[..]).unwrap()
    }

    #[test]
    fn a_mask_selects_the_fields_to_replace_or_clear() {
        let article = patched(Some(&["headline", "dek"]));
        assert_eq!((&*article.headline, &*article.dek, &*article.kicker), ("New", "", "Kick"));
        let article = patched(None);
        assert_eq!((&*article.headline, &*article.dek, &*article.kicker), ("New", "Dek", "Kick"));
        let article = patched(Some(&["*"]));
        assert_eq!((&*article.headline, &*article.dek, &*article.kicker), ("New", "", ""));
    }

    #[test]
    fn a_mask_of_all_fields_replaces_those_of_newer_versions_too() {
        // Fields 536,870,911 and 70,000, each a string of one letter.
        let high = |letter: u8| {
            [&[0xfa, 0xff, 0xff, 0xff, 0x0f, 1, letter][..], &[0x82, 0x97, 0x22, 1, letter]].concat()
        };
        let patched = apply(&high(b'a'), &high(b'b'), Some(&["*".to_owned()])).unwrap();
        assert_eq!(patched, high(b'b'));
        assert_eq!(apply(&high(b'a'), &[], Some(&["*".to_owned()])).unwrap(), b"");
        assert_eq!(apply(&high(b'a'), &high(b'b'), Some(&["dek".to_owned()])).unwrap(), high(b'a'));
    }

    #[test]
    fn a_mask_of_other_fields_is_refused() {
        for path in ["revision", "name", "former_paths", "byline.text", "colour", "", "Headline"] {
            let refused = apply(&[], &[], Some(&[path.to_owned()]));
            assert!(matches!(refused, Err(Refusal::Field { field, .. }) if field == "update_mask"), "{path}");
        }
    }
}
