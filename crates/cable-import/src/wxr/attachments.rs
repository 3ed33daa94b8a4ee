//! The attachments of a WordPress export: the media of each one by id, and the attachments of each post.

use std::collections::HashMap;

use super::Element;
use cable_body::html::{self, Attachments, rendition};
use cable_proto::limit;
use cable_proto::v1;

/// Custom fields in which themes and plug-ins store a credit line, in order of preference.
const CREDIT_KEYS: [&str; 10] = [
    "_media_credit",
    "media_credit",
    "_credit",
    "credit",
    "_image_credit",
    "image_credit",
    "photo_credit",
    "_photo_credit",
    "source_credit",
    "_wp_attachment_source_name",
];
/// Custom fields that name the photographer.
const CREATOR_KEYS: [&str; 3] = ["photographer", "_photographer", "photographer_name"];

/// All attachments of an export.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The media of each attachment by id.
    media: HashMap<u64, v1::Media>,
    /// The ids of the attachments of each post, in the order of the export.
    children: HashMap<u64, Vec<u64>>,
}

impl Index {
    /// Adds an attachment. The first one of an id counts.
    pub(super) fn add(&mut self, item: &Element) {
        let Ok(id) = item.get("wp:post_id").parse() else { return };
        if let Ok(parent @ 1..) = item.get("wp:post_parent").parse() {
            self.children.entry(parent).or_default().push(id);
        }
        self.media.entry(id).or_insert_with(|| media(item));
    }

    pub(super) fn get(&self, id: u64) -> Option<&v1::Media> {
        self.media.get(&id)
    }
}

/// The attachments of an export as seen from one post.
pub(super) struct OfPost<'a> {
    pub(super) index: &'a Index,
    pub(super) post: u64,
}

impl Attachments for OfPost<'_> {
    fn media(&self, id: u64) -> Option<v1::Media> {
        self.index.get(id).cloned()
    }

    fn own_pictures(&self) -> Vec<v1::Media> {
        let children = self.index.children.get(&self.post).into_iter().flatten();
        let media = children.filter_map(|id| self.index.get(*id));
        media.filter(|m| m.renditions.iter().any(|r| r.r#type.starts_with("image/"))).cloned().collect()
    }
}

fn media(item: &Element) -> v1::Media {
    let url = match item.get("wp:attachment_url") {
        "" => item.get("guid"),
        url => url,
    };
    // A serialised PHP array in which WordPress stores the width, height and IPTC data of the file.
    let file = item.meta("_wp_attachment_metadata").unwrap_or_default();
    let first_of = |keys: &[&str]| keys.iter().find_map(|key| item.meta(key)).map(html::text);
    let creator = first_of(&CREATOR_KEYS).unwrap_or_default();
    let credit = first_of(&CREDIT_KEYS).or_else(|| php_string(file, "credit"));
    let rendition = rendition(url, php_int(file, "width"), php_int(file, "height"));
    let mut alt_text = html::text(item.meta("_wp_attachment_image_alt").unwrap_or_default());
    let is_played = rendition
        .as_ref()
        .is_some_and(|file| file.r#type.starts_with("audio/") || file.r#type.starts_with("video/"));
    if alt_text.is_empty() && is_played {
        // Players show the title of the file.
        alt_text = html::text(item.raw("title"));
    }
    v1::Media {
        renditions: rendition.into_iter().collect(),
        alt_text: html::head(&alt_text, limit::PARAGRAPH.maximum as usize).to_owned(),
        caption: html::spans(item.raw("excerpt:encoded")),
        credit: html::line(&credit.unwrap_or_else(|| creator.clone())),
        creator: html::line(&creator),
        copyright_notice: html::line(&php_string(file, "copyright").unwrap_or_default()),
        ..Default::default()
    }
}

/// Returns the integer under a key, such as 580 for `width` in `s:5:"width";i:580;`; none if it is not positive.
fn php_int(serialised: &str, key: &str) -> Option<i32> {
    let value = serialised.split_once(&php_key(key))?.1.strip_prefix("i:")?;
    value.split_once(';')?.0.parse().ok().filter(|n| *n > 0)
}

/// Returns the string under a key, as in `s:6:"credit";s:9:"Ana Moyer";`. PHP writes the length of a string in bytes
/// before it.
fn php_string(serialised: &str, key: &str) -> Option<String> {
    let value = serialised.split_once(&php_key(key))?.1.strip_prefix("s:")?;
    let (length, text) = value.split_once(":\"")?;
    let text = text.get(..length.parse().ok()?)?.trim();
    (!text.is_empty()).then(|| html::text(text))
}

/// Returns a key as PHP serialises it.
fn php_key(key: &str) -> String {
    format!("s:{}:\"{key}\";", key.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"a:3:{s:5:"width";i:580;s:6:"height";i:300;s:10:"image_meta";a:2:{s:6:"credit";s:10:"Ana Möyer";s:9:"copyright";s:0:"";}}"#;

    #[test]
    fn sizes_and_credits_are_found_in_serialised_php() {
        assert_eq!(php_int(FILE, "width"), Some(580));
        assert_eq!(php_int(FILE, "height"), Some(300));
        assert_eq!(php_string(FILE, "credit").as_deref(), Some("Ana Möyer"));
        assert_eq!(php_string(FILE, "copyright"), None);
    }

    #[test]
    fn damaged_php_values_are_ignored_or_truncated() {
        assert_eq!(php_string(r#"s:6:"credit";s:99:"x";"#, "credit"), None);
        assert_eq!(php_string(r#"s:6:"credit";s:2:"éé";"#, "credit").as_deref(), Some("é"));
        assert_eq!(php_string(r#"s:6:"credit";s:1:"é";"#, "credit"), None);
        assert_eq!(php_int(r#"s:5:"width";i:-4;"#, "width"), None);
    }
}
