//! Atom (RFC 4287).

use super::{
    MAX_FEED_BYTES,
    entry::{Entry, Feed, rfc3339},
    xml::Xml,
};

pub(super) const MEDIA_TYPE: &str = "application/atom+xml";

pub(super) fn write(feed: &Feed<'_>) -> Vec<u8> {
    let mut xml = Xml::new();
    let site = feed.site;
    xml.open("feed", &[("xmlns", "http://www.w3.org/2005/Atom"), ("xml:lang", &site.language)]);
    xml.text("id", &feed.address);
    xml.text("title", &feed.title);
    xml.text("subtitle", &feed.description);
    xml.text("updated", &rfc3339(feed.change_time));
    xml.empty("link", &[("rel", "self"), ("type", MEDIA_TYPE), ("href", &feed.address)]);
    xml.empty("link", &[("rel", "alternate"), ("type", "text/html"), ("href", &feed.page)]);
    // The author of entries that have none.
    put_author(&mut xml, &site.name);
    for entry in feed.entries() {
        put_entry(&mut xml, &site.url, &entry);
        if xml.len() > MAX_FEED_BYTES {
            break;
        }
    }
    xml.close("feed");
    xml.finish()
}

fn put_entry(xml: &mut Xml, site: &str, entry: &Entry) {
    let language = [("xml:lang", &entry.language[..])];
    xml.open("entry", if entry.language.is_empty() { &[] } else { &language });
    // Atom requires an address here. This one follows from the name alone.
    xml.text("id", &format!("{site}/v1/{}", entry.name));
    xml.text("title", &entry.title);
    if let Some(page) = &entry.page {
        xml.empty("link", &[("rel", "alternate"), ("type", "text/html"), ("href", page)]);
    }
    xml.text("published", &rfc3339(entry.publish_time));
    xml.text("updated", &rfc3339(entry.change_time));
    entry.authors.iter().for_each(|author| put_author(xml, author));
    for (id, label) in &entry.categories {
        xml.empty("category", &[("term", id), ("label", label)]);
    }
    if !entry.copyright.is_empty() {
        xml.text("rights", &entry.copyright);
    }
    if !entry.summary.is_empty() {
        xml.text("summary", &entry.summary);
    }
    match (&entry.content, &entry.page) {
        (Some(content), Some(page)) => {
            xml.text_with("content", &[("type", "html"), ("xml:base", page)], content);
        }
        (Some(content), None) => xml.text_with("content", &[("type", "html")], content),
        // An entry without an address must have content.
        (None, None) => xml.text("content", entry.text()),
        (None, Some(_)) => {}
    }
    if let Some(lead) = &entry.lead {
        let mut attributes = vec![("rel", "enclosure"), ("href", &lead.url[..])];
        attributes.extend((!lead.media_type.is_empty()).then_some(("type", &lead.media_type[..])));
        attributes.extend((!lead.description.is_empty()).then_some(("title", &lead.description[..])));
        xml.empty("link", &attributes);
    }
    xml.close("entry");
}

fn put_author(xml: &mut Xml, name: &str) {
    xml.open("author", &[]);
    xml.text("name", name);
    xml.close("author");
}
