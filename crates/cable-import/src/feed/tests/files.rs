//! The files and descriptions of items.

use super::*;

/// Returns the only item of a feed with Media RSS.
fn item(inner: &str) -> Item {
    let feed = format!(
        "<rss xmlns:media='http://search.yahoo.com/mrss/' xmlns:itunes='http://www.itunes.com/dtds/podcast-1.0.dtd' \
         xmlns:dc='http://purl.org/dc/elements/1.1/'><channel><item><guid>a</guid>{inner}</item></channel></rss>"
    );
    items(&feed).remove(0)
}

fn embeds(article: &v1::Article) -> Vec<&str> {
    let blocks = &article.body.as_ref().unwrap().blocks;
    let urls = blocks.iter().filter_map(|block| match &block.kind {
        Some(Block::Embed(embed)) => Some(&*embed.url),
        _ => None,
    });
    urls.collect()
}

fn caption(media: &v1::Media) -> String {
    media.caption.iter().map(|span| &*span.text).collect()
}

#[test]
fn players_become_embeds() {
    let item = item(
        "<media:group><media:content url='https://www.youtube.com/v/dQw4?version=3' type='application/x-shockwave-flash'/>\
         <media:thumbnail url='https://i.ytimg.com/vi/dQw4/hqdefault.jpg'/><media:description>Ice.</media:description></media:group>\
         <media:content><media:player url='https://player.vimeo.com/video/7'/></media:content><media:player url='https://x.example/p'/>",
    );
    let first = article(&item);
    assert_eq!(
        embeds(first),
        ["https://www.youtube.com/watch?v=dQw4", "https://player.vimeo.com/video/7", "https://x.example/p"]
    );
    assert!(first.lead_media.is_some() && !html(first).contains("/v/dQw4"));
    assert_eq!(converted(&item).not_imported["players of Flash"], 1);
}

#[test]
fn sizes_of_one_picture_are_its_renditions() {
    let sizes: String = [140, 700, 460]
        .iter()
        .map(|width| format!("<media:content url='https://i.example/5000.jpg?width={width}' width='{width}' medium='image'/>"))
        .collect();
    let item = item(&sizes);
    let widths: Vec<i32> =
        article(&item).lead_media.as_ref().unwrap().renditions.iter().map(|one| one.width).collect();
    assert_eq!(widths, [700, 460, 140]);
}

#[test]
fn trackers_and_pictures_of_authors_are_left_out() {
    let item = item(
        "<media:content url='https://0.gravatar.com/avatar/1?s=96' medium='image'/>\
         <media:content url='https://t.example/p.gif' medium='image' width='1' height='1'/>",
    );
    assert_eq!(article(&item).lead_media, None);
    let counts = &converted(&item).not_imported;
    assert_eq!((counts["pictures of authors"], counts["pictures of one pixel"]), (1, 1));
}

#[test]
fn descriptions_of_files_are_captions_or_alternative_texts() {
    let mastodon = item(
        "<description>Text.</description><media:content url='/a.jpg' medium='image'><media:rating scheme='urn:simple'>nonadult</media:rating>\
         <media:description type='plain'>A boat.</media:description></media:content>",
    );
    let lead = article(&mastodon).lead_media.as_ref().unwrap();
    assert_eq!((&*lead.alt_text, caption(lead).as_str()), ("A boat.", ""));
    let item = item(
        "<media:content url='/a.jpg' medium='image'/><media:description>At noon.</media:description><description>Text.</description>",
    );
    assert_eq!(caption(article(&item).lead_media.as_ref().unwrap()), "At noon.");
    assert_eq!(text(article(&item)), "Text.");
}

#[test]
fn the_longest_description_is_the_text_and_the_others_are_counted() {
    let item = item(
        "<description>Short.</description><itunes:summary>The long text of the episode.</itunes:summary><dc:description>Other.</dc:description>",
    );
    assert_eq!(
        (text(article(&item)).as_str(), &*article(&item).dek),
        ("The long text of the episode.", "Short.")
    );
    assert_eq!(converted(&item).not_imported["further descriptions"], 1);
}
