//! RSS 2.0 with the modules that aggregators read: Atom, content, Dublin Core and Media RSS.

use super::{
    MAX_FEED_BYTES,
    entry::{Entry, Feed, rfc2822, rfc3339},
    media::Lead,
    xml::Xml,
};

pub(super) const MEDIA_TYPE: &str = "application/rss+xml";

pub(super) fn write(feed: &Feed<'_>) -> Vec<u8> {
    let mut xml = Xml::new();
    xml.open(
        "rss",
        &[
            ("version", "2.0"),
            ("xmlns:atom", "http://www.w3.org/2005/Atom"),
            ("xmlns:content", "http://purl.org/rss/1.0/modules/content/"),
            ("xmlns:dc", "http://purl.org/dc/elements/1.1/"),
            ("xmlns:media", "http://search.yahoo.com/mrss/"),
        ],
    );
    xml.open("channel", &[]);
    xml.text("title", &feed.title);
    xml.text("link", &feed.page);
    xml.text("description", &feed.description);
    xml.text("language", &feed.site.language);
    xml.text("lastBuildDate", &rfc2822(feed.change_time));
    xml.empty("atom:link", &[("href", &feed.address), ("rel", "self"), ("type", MEDIA_TYPE)]);
    for entry in feed.entries() {
        put_item(&mut xml, &entry);
        if xml.len() > MAX_FEED_BYTES {
            break;
        }
    }
    xml.close("channel");
    xml.close("rss");
    xml.finish()
}

fn put_item(xml: &mut Xml, entry: &Entry) {
    xml.open("item", &[]);
    xml.text("title", &entry.title);
    entry.page.iter().for_each(|page| xml.text("link", page));
    xml.text_with("guid", &[("isPermaLink", "false")], &entry.name);
    xml.text("pubDate", &rfc2822(entry.publish_time));
    xml.text("atom:updated", &rfc3339(entry.change_time));
    entry.authors.iter().for_each(|author| xml.text("dc:creator", author));
    entry.categories.iter().for_each(|(_, label)| xml.text("category", label));
    if !entry.language.is_empty() {
        xml.text("dc:language", &entry.language);
    }
    if !entry.copyright.is_empty() {
        xml.text("dc:rights", &entry.copyright);
    }
    // Readers of feeds expect HTML here, and take the text of the summary for it.
    if !entry.summary.is_empty() {
        xml.text("description", &as_html(&entry.summary));
    }
    if let Some(content) = &entry.content {
        xml.text("content:encoded", content);
    }
    entry.lead.iter().for_each(|lead| put_lead(xml, lead));
    xml.close("item");
}

fn put_lead(xml: &mut Xml, lead: &Lead) {
    let (width, height) = (lead.width.to_string(), lead.height.to_string());
    let mut attributes = vec![("url", &lead.url[..]), ("medium", lead.medium())];
    attributes.extend((!lead.media_type.is_empty()).then_some(("type", &lead.media_type[..])));
    attributes.extend((lead.width > 0).then_some(("width", &width[..])));
    attributes.extend((lead.height > 0).then_some(("height", &height[..])));
    xml.open("media:content", &attributes);
    if !lead.description.is_empty() {
        xml.text_with("media:description", &[("type", "plain")], &lead.description);
    }
    if !lead.credit.is_empty() {
        xml.text("media:credit", &lead.credit);
    }
    xml.close("media:content");
}

/// Returns a text as HTML that shows it.
fn as_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
