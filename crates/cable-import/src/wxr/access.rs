//! The readers that a site shows a whole post to.

use super::{Element, html};
use cable_proto::v1::Access;

/// The custom field with the readers that Jetpack shows a post to.
pub(super) const NEWSLETTER: &str = "_jetpack_newsletter_access";

/// Returns the access of a post. `restricted` is whether only subscribers may read a part of its text.
pub(super) fn of_post(item: &Element, restricted: bool, notes: &mut Vec<String>) -> Access {
    let readers = item.meta(NEWSLETTER).filter(|readers| *readers != "everybody");
    if let Some(readers) = readers {
        notes.push(format!("{NEWSLETTER} is {:?}", html::head(readers, 64)));
    }
    if readers.is_none() && !restricted {
        return Access::Unspecified;
    }
    notes.push("access set to SUBSCRIBER: the whole text is imported".to_owned());
    Access::Subscriber
}
