//! The entries of a live blog, which the plug-in Liveblog stores as comments of their post.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Element, addresses::without_addresses, element::Comment, html, times};

/// The type of comments that are entries, and their state while they are public.
pub(super) const TYPE: &str = "liveblog";

/// The field of a comment that replaces an entry: the number of that entry.
const REPLACES: &str = "liveblog_replaces";

/// An entry of a live blog.
#[derive(Debug)]
struct Entry<'a> {
    author: &'a str,
    published: Option<Timestamp>,
    updated: Option<Timestamp>,
    text: &'a str,
}

/// Returns the HTML of each entry that readers see, the newest first, as the plug-in shows them. Each is marked as an
/// update of a live blog of schema.org.
pub(super) fn entries(item: &Element) -> Vec<String> {
    let mut entries: BTreeMap<u64, Entry<'_>> = BTreeMap::new();
    let comments =
        item.comments.iter().filter(|comment| matches!(comment.get("wp:comment_approved"), TYPE | "1"));
    let numbered = comments.filter_map(|comment| Some((comment.get("wp:comment_id").parse().ok()?, comment)));
    let (changes, originals): (Vec<_>, Vec<_>) =
        numbered.partition(|(_, comment): &(u64, &Comment)| !comment.meta(REPLACES).is_empty());
    for (number, comment) in originals {
        entries.insert(number, Entry::of(comment));
    }
    for (_, change) in changes {
        let Ok(number) = change.meta(REPLACES).parse() else { continue };
        let Some(entry) = entries.get_mut(&number) else { continue };
        let Entry { published, text, .. } = Entry::of(change);
        if published >= entry.updated {
            *entry = Entry { updated: published, text, author: entry.author, published: entry.published };
        }
    }
    // The plug-in deletes an entry by a replacement without text.
    entries.retain(|_, entry| !entry.text.trim().is_empty());
    entries.iter().rev().map(|(number, entry)| entry.html(*number)).collect()
}

impl<'a> Entry<'a> {
    fn of(comment: &'a Comment) -> Self {
        Entry {
            author: comment.get("wp:comment_author"),
            published: times::utc(comment.get("wp:comment_date_gmt")),
            updated: None,
            text: comment.get("wp:comment_content"),
        }
    }

    fn html(&self, number: u64) -> String {
        let time = |property: &str, time: Option<Timestamp>| {
            time.map(|time| format!("<time itemprop=\"{property}\" datetime=\"{time}\"></time> "))
                .unwrap_or_default()
        };
        let times = time("datePublished", self.published) + &time("dateModified", self.updated);
        let name = without_addresses(&html::text(self.author));
        let name = name.replace('&', "&amp;").replace('<', "&lt;");
        let author = if name.is_empty() { name } else { format!("<span itemprop=\"author\">{name}</span>") };
        format!(
            "<article itemprop=\"liveBlogUpdate\" id=\"liveblog-entry-{number}\"><p>{times}{author}</p>\n\n{}</article>",
            self.text
        )
    }
}
