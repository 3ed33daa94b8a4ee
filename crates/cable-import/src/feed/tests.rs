//! The items and records that feeds become, and the check that each item is accounted for.

use cable_body::render;
use cable_proto::v1::{self, BodyFormat, block::Kind as Block, record::Record as Kind};
use proptest::prelude::*;

use super::*;
use crate::{ConvertedItem, report::Report};

mod files;

fn options() -> Options {
    Options { now: "2026-06-01T00:00:00Z".parse().unwrap(), ..Options::default() }
}

fn page(text: &str) -> Page {
    let address = Some("https://lantern.example/feeds/all".parse().unwrap());
    Page { bytes: text.as_bytes().to_vec(), address, charset: None }
}

fn feed_of(page: Page, options: Options) -> Feed {
    let mut feed = Feed::new(options);
    feed.add(page).unwrap();
    feed
}

fn all(feed: Feed) -> Vec<Item> {
    let total = feed.total();
    let items: Vec<Item> = feed.items().collect();
    assert_eq!(items.len() as u64, total);
    items
}

fn items(text: &str) -> Vec<Item> {
    all(feed_of(page(text), options()))
}

fn converted(item: &Item) -> &ConvertedItem {
    match &item.outcome {
        ItemOutcome::Converted(converted) => converted,
        other => panic!("{}: {other:?}", item.label),
    }
}

fn article(item: &Item) -> &v1::Article {
    match &converted(item).records[0].record {
        Some(Kind::Article(article)) => article,
        other => panic!("{other:?}"),
    }
}

fn text(article: &v1::Article) -> String {
    render(article.body.as_ref().unwrap(), BodyFormat::PlainText)
}

fn html(article: &v1::Article) -> String {
    render(article.body.as_ref().unwrap(), BodyFormat::Html)
}

fn failure(item: &Item) -> &str {
    match &item.outcome {
        ItemOutcome::Failed(problem) => problem,
        other => panic!("{}: {other:?}", item.label),
    }
}

fn credits(article: &v1::Article) -> Vec<&str> {
    article.byline.iter().flat_map(|byline| &byline.credits).map(|credit| &*credit.display_name).collect()
}

const RSS: &str = r#"<?xml version="1.0"?>
<!DOCTYPE rss [<!ENTITY big "xxxxxxxxxx"><!ENTITY bigger "&big;&big;">]>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:d="http://purl.org/dc/elements/1.1/"
  xmlns:m="http://search.yahoo.com/mrss/" xmlns:i="http://www.itunes.com/dtds/podcast-1.0.dtd" xmlns:slash="http://purl.org/rss/1.0/modules/slash/">
<channel><title>Lantern</title><link>https://www.lantern.example/</link><language>en-gb</language><copyright>Lantern Ltd</copyright>
<item><title>Nets &amp;amp; lines</title><link>https://lantern.example/2026/nets/?utm_source=rss</link>
  <guid isPermaLink="false">lantern-7</guid><pubDate>Sat, 02 May 2026 08:00:00 +0200</pubDate>
  <author>desk@lantern.example (Marta Fenn)</author><d:creator>Jo Reed</d:creator><d:creator>ana@lantern.example</d:creator>
  <category domain="x">Port news</category><category>eel</category>
  <description>What the fleet wants.</description>
  <content:encoded><![CDATA[<p>The <a href="/fleet">fleet</a> waits. &bigger;</p><p><img src="pier.jpg" alt="The pier"></p>]]></content:encoded>
  <enclosure url="/sound/nets.mp3" length="9" type="audio/mpeg"/><i:duration>1:01:35</i:duration>
  <enclosure url="/papers/nets.pdf" length="9" type="application/pdf"/>
  <m:group><m:content url="https://cdn.example/n.webm" type="video/webm"/><m:content url="https://cdn.example/n.mp4" type="video/mp4" isDefault="true" duration="20"/>
    <m:credit>R. Gale</m:credit><m:thumbnail url="https://cdn.example/n.jpg"/></m:group>
  <m:content url="https://cdn.example/quay.jpg" medium="image" width="640" height="480"><m:title>The quay</m:title></m:content>
  <slash:comments>4</slash:comments></item>
<item><title>Teaser</title><guid>https://lantern.example/2026/teaser/</guid><description>The first words of it […]</description>
  <content:encoded>&lt;p&gt;The first words of it and more.&lt;/p&gt;</content:encoded></item>
<item><title>Only a link</title><link>https://other.example/a?b=c</link><description>Short.</description><pubDate>soon</pubDate></item>
<item><title>Nothing names this</title><description>Text.</description></item>
<item><guid>lantern-7</guid><title>Again</title></item>
</channel></rss>"#;

#[test]
fn an_item_of_rss_has_all_its_fields() {
    let items = items(RSS);
    let first = article(&items[0]);
    assert!(first.name.starts_with("articles/feed-lantern-7-"), "{}", first.name);
    assert_eq!((&*first.headline, &*first.dek), ("Nets & lines", "What the fleet wants."));
    assert_eq!((&*first.path, &*first.canonical_url), ("/2026/nets/", ""));
    assert_eq!(first.publish_time.unwrap().seconds, 1_777_701_600);
    assert_eq!((&*first.language, first.modified_time), ("en-gb", None));
    assert_eq!(first.rights.as_ref().unwrap().copyright_notice, "Lantern Ltd");
    assert_eq!(credits(first), ["Marta Fenn", "Jo Reed"]);
    assert_eq!(first.tags, ["tags/port-news", "tags/eel"]);
    let ids: Vec<_> = first.alt_ids.iter().map(|id| (&*id.role, &*id.value)).collect();
    assert_eq!(ids[0], ("feed", "lantern-7"));
    assert_eq!(ids[1].0, "url");
    let html = html(first);
    assert!(html.contains("https://www.lantern.example/fleet"), "{html}");
    assert!(html.contains("https://www.lantern.example/pier.jpg"), "{html}");
    assert!(!html.contains("xxxxxxxxxx"), "no entity is expanded: {html}");
    assert!(html.contains("papers/nets.pdf"), "{html}");
    let blocks = &first.body.as_ref().unwrap().blocks;
    let sound = blocks.iter().find_map(|block| match &block.kind {
        Some(Block::Audio(audio)) => audio.media.clone(),
        _ => None,
    });
    let sound = sound.unwrap();
    assert_eq!(sound.duration.unwrap().seconds, 3_695);
    assert_eq!(sound.renditions[0].href, "https://www.lantern.example/sound/nets.mp3");
    let video = blocks.iter().find_map(|block| match &block.kind {
        Some(Block::Video(video)) => video.media.clone(),
        _ => None,
    });
    let video = video.unwrap();
    assert_eq!(
        video.renditions.iter().map(|one| &*one.r#type).collect::<Vec<_>>(),
        ["video/mp4", "video/webm"]
    );
    assert_eq!((&*video.poster, &*video.credit), ("https://cdn.example/n.jpg", "R. Gale"));
    let lead = first.lead_media.as_ref().unwrap();
    assert_eq!((lead.renditions[0].width, &*lead.caption[0].text), (640, "The quay"));
    assert_eq!(converted(&items[0]).not_imported["slash:comments"], 1);
    assert_eq!(items[4].outcome, ItemOutcome::Skipped(SkipReason::OtherVersion));
}

#[test]
fn what_is_missing_follows_a_rule_and_is_reported() {
    let items = items(RSS);
    let teaser = article(&items[1]);
    assert_eq!((&*teaser.dek, &*teaser.summary), ("", "The first words of it …"));
    assert_eq!((&*teaser.path, teaser.publish_time), ("/2026/teaser/", None));
    assert!(converted(&items[1]).notes.iter().any(|note| note.contains("time of the first import")));
    let linked = article(&items[2]);
    assert_eq!((&*linked.path, &*linked.canonical_url), ("", "https://other.example/a?b=c"));
    assert_eq!((text(linked).as_str(), &*linked.summary), ("Short.", ""));
    assert!(converted(&items[2]).notes.iter().any(|note| note.contains("\"soon\" is not a time")));
    assert!(failure(&items[3]).contains("nothing identifies it"), "{}", failure(&items[3]));
    let mut report = Report::default();
    assert!(items.iter().all(|item| !report.add(item).is_empty()));
    let table = report.to_string();
    assert!(table.contains("all 5 items") && table.contains("1 skipped: other version"), "{table}");
}

#[test]
fn rss_of_rdf_is_read() {
    let items = items(
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns='http://purl.org/rss/1.0/' \
         xmlns:dc='http://purl.org/dc/elements/1.1/'><channel rdf:about='x'><title>Lantern</title>\
         <link>https://lantern.example/</link><items><rdf:Seq><rdf:li rdf:resource='https://lantern.example/a'/>\
         </rdf:Seq></items></channel><item rdf:about='https://lantern.example/a'><title>A &lt; B</title>\
         <link>https://lantern.example/a</link><dc:date>2026-01-02T03:04:05Z</dc:date><dc:creator>Jo</dc:creator>\
         <dc:subject>Sea</dc:subject><description>Words.</description></item></rdf:RDF>",
    );
    let one = article(&items[0]);
    assert_eq!((&*one.headline, &*one.path, credits(one)), ("A < B", "/a", vec!["Jo"]));
    assert_eq!(
        (one.publish_time.unwrap().seconds, &one.tags[..]),
        (1_767_323_045, &["tags/sea".to_owned()][..])
    );
}

#[test]
fn atom_has_text_html_and_xhtml_and_inherits_from_its_feed() {
    let items = items(
        "<feed xmlns='http://www.w3.org/2005/Atom' xml:lang='de' xml:base='https://lantern.example/blog/'>\
         <id>tag:lantern.example,2026:blog</id><title>L</title><link href='https://lantern.example/'/>\
         <author><name>Marta Fenn</name></author><rights>All rights</rights>\
         <entry><id>tag:lantern.example,2026:post-7</id><title type='text'>a &lt;b> c</title>\
         <link rel='alternate' type='application/json' href='7.json'/><link href='7'/>\
         <published>2026-01-02T03:04:05Z</published><updated>2026-01-03T03:04:05Z</updated>\
         <category term='sea' label='Das Meer' scheme='x'/>\
         <content type='xhtml' xml:base='/c/'><x:div xmlns:x='http://www.w3.org/1999/xhtml'><x:p>one &lt; <x:a href='d'>two</x:a><x:br/></x:p></x:div></content></entry>\
         <entry xml:lang='en'><id>urn:uuid:60a76c80-d399-11d9-b91C-0003939e0af6</id><title type='html'>&lt;i>T&lt;/i></title>\
         <updated>2026-01-03T03:04:05Z</updated><author><name>Jo</name></author><author><name>Ana</name></author>\
         <summary>Line one\n\nLine two</summary><content src='https://cdn.example/a.mp4' type='video/mp4'/></entry></feed>",
    );
    let first = article(&items[0]);
    assert!(first.name.starts_with("articles/feed-post-7-"), "{}", first.name);
    assert_eq!((&*first.headline, &*first.language, &*first.path), ("a <b> c", "de", "/blog/7"));
    assert_eq!((credits(first), &first.tags[..]), (vec!["Marta Fenn"], &["tags/sea".to_owned()][..]));
    assert_eq!(first.modified_time.unwrap().seconds - first.publish_time.unwrap().seconds, 86_400);
    assert!(html(first).contains("href=\"https://lantern.example/c/d\""), "{}", html(first));
    assert!(text(first).contains("one < two"), "{}", text(first));
    let second = article(&items[1]);
    assert_eq!((&*second.headline, &*second.language, credits(second)), ("T", "en", vec!["Jo", "Ana"]));
    assert_eq!(second.publish_time, second.modified_time);
    let blocks = &second.body.as_ref().unwrap().blocks;
    assert!(matches!(blocks.last().unwrap().kind, Some(Block::Video(_))), "{blocks:?}");
    assert!(text(second).starts_with("Line one\n\nLine two"), "{}", text(second));
}

#[test]
fn atom_0_3_is_read() {
    let items = items(
        "<feed version='0.3' xmlns='http://purl.org/atom/ns#'><title>L</title><entry><id>a:1</id><title>T</title>\
         <issued>2026-01-02T03:04:05Z</issued><modified>2026-01-03T03:04:05Z</modified>\
         <content type='text/html' mode='escaped'>&lt;p>Words.&lt;/p></content></entry></feed>",
    );
    let one = article(&items[0]);
    assert_eq!((text(one).as_str(), one.publish_time.unwrap().seconds), ("Words.", 1_767_323_045));
}

const JSON: &str = r##"{"version": "https://jsonfeed.org/version/1.1", "title": "L", "home_page_url": "https://lantern.example/",
  "feed_url": "https://lantern.example/feed.json", "language": "en", "next_url": "https://lantern.example/feed.json?page=2",
  "authors": [{"name": "Marta Fenn", "url": "https://lantern.example/marta"}],
  "items": [
    {"id": 7, "url": "/a/", "title": "<b> & co", "content_html": "<p>Hi <a href=\"/x\">x</a> <a href=\"#n\">n</a></p>", "summary": "Sum.",
     "image": "https://cdn.example/a.jpg", "date_published": "2026-01-02T03:04:05Z", "date_modified": "2026-01-01T00:00:00Z",
     "tags": ["Sea", "Sea"], "attachments": [{"url": "/a.mp3", "mime_type": "audio/mpeg", "title": "Cast", "duration_in_seconds": 60.5},
     {"url": "/a.ogg", "mime_type": "audio/ogg", "title": "Cast"}], "_x": {"y": 1}},
    {"id": "b", "external_url": "https://other.example/", "content_text": "One <two>.\n\nThree."},
    {"content_text": "nameless"}, 5]}"##;

#[test]
fn json_feed_has_all_its_fields() {
    let items = items(JSON);
    let first = article(&items[0]);
    assert_eq!((&*first.headline, &*first.path, &*first.dek), ("<b> & co", "/a/", "Sum."));
    assert_eq!(
        (credits(first), first.tags.len(), first.alt_ids[0].value.as_str()),
        (vec!["Marta Fenn"], 1, "7")
    );
    assert!(
        html(first).contains("href=\"https://lantern.example/x\"") && html(first).contains("href=\"#n\"")
    );
    assert_eq!(first.lead_media.as_ref().unwrap().renditions[0].href, "https://cdn.example/a.jpg");
    let blocks = &first.body.as_ref().unwrap().blocks;
    let Some(Block::Audio(sound)) = &blocks.last().unwrap().kind else { panic!("{blocks:?}") };
    assert_eq!(sound.media.as_ref().unwrap().renditions.len(), 2);
    assert_eq!(converted(&items[0]).not_imported["_x"], 1);
    let second = article(&items[1]);
    assert_eq!(
        (text(second).as_str(), second.annotations["external_url"].as_str()),
        ("One <two>.\n\nThree.", "https://other.example/")
    );
    assert!(
        failure(&items[2]).contains("nothing identifies it")
            && failure(&items[3]).contains("not a JSON object")
    );
}

#[test]
fn no_record_has_an_address_and_plain_fields_have_no_markup() {
    let feed = r#"<rss xmlns:media="http://search.yahoo.com/mrss/" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel>
      <item><guid>mailto:desk@x.example</guid><link>https://lantern.example/a</link><title>A</title><author>ann&amp;#64;x.example (Ann Lee)</author>
        <dc:creator>Reed &amp;amp; Co</dc:creator><dc:rights>Photo desk@x.example, AT&amp;amp;T</dc:rights><source>desk@x.example</source>
        <category>&lt;b&gt;Sea&lt;/b&gt; &amp;amp; air</category><category>desk@x.example</category><itunes:subtitle>Low &amp;#8211; high</itunes:subtitle>
        <media:content url="/a.jpg" medium="image"><media:credit>Bo bo@x.example</media:credit></media:content>
        <media:content url="/b.jpg" medium="image"><media:credit>mailto:bo@x.example</media:credit></media:content></item></channel></rss>"#;
    let items = items(feed);
    let first = article(&items[0]);
    assert!(!format!("{:?}", converted(&items[0])).contains("@x.example"), "{first:?}");
    assert_eq!(credits(first), ["Ann Lee", "Reed & Co"]);
    assert_eq!(first.rights.as_ref().unwrap().copyright_notice, "Photo AT&T");
    assert_eq!((first.tags.len(), &*first.dek, first.source.as_ref()), (1, "Low – high", None));
    assert_eq!(first.lead_media.as_ref().unwrap().credit, "Bo");
    assert_eq!(first.alt_ids.len(), 1);
    assert!(converted(&items[0]).notes.iter().any(|note| note.contains("id of the other system omitted")));
}

#[test]
fn files_that_differ_in_their_query_are_two_unless_they_are_pictures() {
    let items = items(
        "<rss><channel><item><guid>a</guid><enclosure url='/play?id=1' type='audio/mpeg'/><enclosure url='/play?id=2' type='audio/mpeg'/>\
         <enclosure url='/a.JPG?w=1' type='image/jpeg'/><enclosure url='/a.JPG?w=2' type='image/jpeg'/></item></channel></rss>",
    );
    let first = article(&items[0]);
    assert_eq!(first.body.as_ref().unwrap().blocks.len(), 2);
    assert!(first.lead_media.is_some());
    assert_eq!(converted(&items[0]).not_imported["files that the article has already"], 1);
}

#[test]
fn the_note_on_a_time_names_its_zone() {
    let items = items(
        "<rss><channel><item><guid>a</guid><pubDate>Fri, 01 Mar 2024 12:00:05 BST</pubDate></item></channel></rss>",
    );
    assert!(converted(&items[0]).notes.iter().any(|note| note.contains("unknown zone BST")));
}

#[test]
fn boilerplate_of_summaries_is_no_dek() {
    let items = items(
        "<rss xmlns:content='http://purl.org/rss/1.0/modules/content/'><channel><item><guid>a</guid>\
         <description>&lt;p&gt;Ice on the quay [&amp;#8230;]&lt;/p&gt;&lt;p&gt;The post &lt;a href='/'&gt;Ice&lt;/a&gt; appeared first on Lantern.&lt;/p&gt;</description>\
         <content:encoded>Ice on the quay and more.</content:encoded></item></channel></rss>",
    );
    let first = article(&items[0]);
    assert_eq!((&*first.dek, &*first.summary), ("", "Ice on the quay \u{2026}"));
}

#[test]
fn text_without_markup_has_its_paragraphs_and_lines() {
    let items = items(
        "<rss><channel><item><guid>a</guid><description>One &amp;amp; two\nThree\n\nFour</description></item></channel></rss>",
    );
    assert_eq!(html(article(&items[0])).matches("<p>").count(), 2);
    assert_eq!(text(article(&items[0])), "One & two\nThree\n\nFour");
}

#[test]
fn content_without_text_is_replaced_by_the_summary() {
    let items = items(
        "<rss xmlns:content='http://purl.org/rss/1.0/modules/content/'><channel><item><guid>a</guid>\
         <description>Ice.</description><content:encoded>&lt;!-- x --&gt;</content:encoded></item></channel></rss>",
    );
    assert_eq!(text(article(&items[0])), "Ice.");
}

#[test]
fn deleted_entries_are_skipped_with_their_reason() {
    let items = items(
        "<feed xmlns='http://www.w3.org/2005/Atom' xmlns:t='http://purl.org/atompub/tombstones/1.0'>\
         <t:deleted-entry ref='a' when='2026-01-01T00:00:00Z'/><t:deleted-entry ref='b'/><entry><id>a</id><title>A</title></entry></feed>",
    );
    assert_eq!(article(&items[0]).headline, "A");
    assert_eq!(items[1].outcome, ItemOutcome::Skipped(SkipReason::OtherVersion));
    assert_eq!(items[2].outcome, ItemOutcome::Skipped(SkipReason::Deleted));
    assert!(items[2].hidden_article.starts_with("articles/feed-b-"), "{:?}", items[2]);
}

#[test]
fn damage_costs_only_its_item() {
    let items = items(
        "<rss><channel><item><guid>a</guid><title>One</title></item><item><guid>b</guid><title>Two<br></title></item>\
         <item><guid>c</guid><description><![CDATA[x</description></item><item><guid>d</guid><title>]]>Four</title></item></channel></rss>",
    );
    assert_eq!(items.len(), 4, "{items:#?}");
    assert_eq!(article(&items[0]).headline, "One");
    assert!(items[1].label.contains("b") && failure(&items[1]).contains("not well-formed"));
    assert!(failure(&items[2]).contains("not well-formed"), "{:?}", items[2]);
    let mut feed = Feed::new(options());
    let error = feed.add(page("<rss><channel><item><guid>a</guid></item><item><guid>b</guid>")).unwrap_err();
    assert!(error.to_string().contains("cut off"), "{error}");
    let items = all(feed);
    assert_eq!((items.len(), article(&items[0]).headline.as_str()), (2, "Untitled"));
    assert!(failure(&items[1]).contains("cut off"));
}

#[test]
fn the_encoding_is_that_of_mark_transport_or_declaration() {
    let rss = |declared: &str| {
        format!(
            "<?xml version='1.0' encoding='{declared}'?><rss><channel><item><guid>a</guid><title>Küste</title></item></channel></rss>"
        )
    };
    let headline = |bytes: Vec<u8>, charset: Option<&str>| {
        let page = Page { bytes, address: None, charset: charset.map(str::to_owned) };
        article(&all(feed_of(page, options()))[0]).headline.clone()
    };
    let latin = |text: &str| encoding_rs::WINDOWS_1252.encode(text).0.into_owned();
    assert_eq!(headline(latin(&rss("iso-8859-1")), None), "Küste");
    assert_eq!(headline(latin(&rss("utf-8")), Some("iso-8859-1")), "Küste");
    assert_eq!(headline(rss("iso-8859-1").into_bytes(), Some("utf-8")), "Küste");
    assert_eq!(headline(format!("\u{feff}{}", rss("iso-8859-1")).into_bytes(), Some("iso-8859-1")), "Küste");
    let wide: Vec<u8> = rss("utf-16").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(headline(wide, None), "Küste");
    let bad = all(feed_of(Page { bytes: latin(&rss("utf-8")), ..Page::default() }, options()));
    assert!(failure(&bad[0]).contains("bytes that are not valid"));
    let unknown = Page { bytes: rss("utf-8").into_bytes(), address: None, charset: Some("klingon".into()) };
    assert!(matches!(Feed::new(options()).add(unknown), Err(Error::Encoding(_))));
}

#[test]
fn other_documents_are_no_feeds() {
    for (document, expected) in [
        ("", "empty"),
        ("hello", "neither XML nor JSON"),
        ("<html><body/></html>", "a page of HTML"),
        ("<!DOCTYPE html><html><p>", "a page of HTML"),
        ("<opml/>", "first element is <opml>"),
        ("{}", "without `version`"),
        ("{", "not JSON"),
        ("{\"version\":\"https://jsonfeed.org/version/1\"}", "field `items`"),
        (
            "<rss xmlns:wp='w'><channel><wp:wxr_version>1.2</wp:wxr_version></channel></rss>",
            "cable import wxr",
        ),
    ] {
        let error = Feed::new(options()).add(page(document)).unwrap_err();
        assert!(error.to_string().contains(expected), "{document}: {error}");
    }
}

#[test]
fn the_newest_version_of_an_id_counts() {
    let entry = |updated: &str, title: &str| {
        format!("<entry><id>a</id><title>{title}</title><updated>{updated}</updated></entry>")
    };
    let feed = format!(
        "<feed xmlns='http://www.w3.org/2005/Atom'>{}{}{}</feed>",
        entry("2026-01-01T00:00:00Z", "old"),
        entry("2026-01-02T00:00:00Z", "new"),
        entry("2026-01-02T00:00:00Z", "new")
    );
    let items = items(&feed);
    assert_eq!(items[0].outcome, ItemOutcome::Skipped(SkipReason::OtherVersion));
    assert_eq!(article(&items[1]).headline, "new");
    assert_eq!(items[2].outcome, ItemOutcome::Skipped(SkipReason::Duplicate));
}

#[test]
fn pages_are_followed_on_one_host_and_once() {
    let mut feed = Feed::new(options());
    let next = feed.add(page(JSON)).unwrap();
    assert_eq!(next, Next::Page("https://lantern.example/feed.json?page=2".parse().unwrap()));
    assert_eq!(feed.source(), "feed:lantern.example");
    for (next, expected) in [
        ("https://lantern.example/feeds/all#x", "read already"),
        ("http://lantern.example/2", "not encrypted"),
        ("https://other.example/2", "another host"),
        ("file:///etc/passwd", "another host"),
    ] {
        let atom =
            format!("<feed xmlns='http://www.w3.org/2005/Atom'><link rel='next' href='{next}'/></feed>");
        let Next::NotFollowed(_, reason) = feed.add(page(&atom)).unwrap() else { panic!("{next}") };
        assert!(reason.contains(expected), "{next}: {reason}");
    }
    let file = Page { bytes: JSON.as_bytes().to_vec(), ..Page::default() };
    assert!(matches!(Feed::new(options()).add(file), Ok(Next::NotFollowed(..))));
}

#[test]
fn prefix_and_canonical_change_names_and_links() {
    let options = Options { prefix: "lantern".into(), canonical: true, ..options() };
    let items = all(feed_of(page(RSS), options));
    let first = article(&items[0]);
    assert!(first.name.starts_with("articles/lantern-feed-lantern-7-"), "{}", first.name);
    assert_eq!((&*first.path, first.source.as_ref().unwrap().name.as_str()), ("", "Lantern"));
    assert!(first.canonical_url.starts_with("https://lantern.example/2026/nets/"));
}

#[test]
fn what_is_above_the_limits_of_an_item_is_counted() {
    let parts = |start: &str, end: &str| (0..1_100).map(|n| format!("{start}{n}{end}")).collect::<String>();
    let authors = parts("<author>a", "</author>");
    let categories = parts("<category>a", "</category>");
    let files = parts("<enclosure url='/", ".jpg'/>");
    let items = items(&format!(
        "<rss><channel><item><guid>a</guid>{authors}{categories}{files}</item></channel></rss>"
    ));
    for kind in ["authors", "categories", "files"] {
        let count = converted(&items[0]).not_imported[&format!("{kind} above the limit")];
        assert_eq!(count, 100, "{kind}");
    }
    let atom = |authors: usize, name: &str| {
        let authors = format!("<author><name>{name}</name></author>").repeat(authors);
        format!("<feed xmlns='http://www.w3.org/2005/Atom'>{authors}<entry><id>a</id></entry></feed>")
    };
    for (feed, omitted) in
        [(atom(8, "Jo"), None), (atom(10, "Jo"), Some("2 more")), (atom(1, &"a".repeat(600)), Some("1 more"))]
    {
        let items = self::items(&feed);
        let note =
            converted(&items[0]).notes.iter().find(|note| note.contains("authors of the feed omitted"));
        assert_eq!(note.is_some(), omitted.is_some(), "{omitted:?}");
        assert!(note.is_none_or(|note| note.starts_with(omitted.unwrap())), "{note:?}");
    }
}

#[test]
fn each_bound_has_its_error() {
    let rss = |inner: &str| format!("<rss><channel><item><guid>a</guid>{inner}</item></channel></rss>");
    let deep = rss(&("<x>".repeat(MAX_DEPTH) + &"</x>".repeat(MAX_DEPTH)));
    assert!(failure(&items(&deep)[0]).contains("levels deep"));
    let attributes: String = (0..=MAX_ATTRIBUTES).map(|n| format!(" a{n}=''")).collect();
    assert!(failure(&items(&rss(&format!("<x{attributes}></x>")))[0]).contains("attributes of <x>"));
    let namespaces: String = (0..=MAX_NAMESPACES).map(|n| format!(" xmlns:a{n}='u'")).collect();
    assert!(failure(&items(&rss(&format!("<x{namespaces}></x>")))[0]).contains("more than 64 namespaces"));
    let mut feed = Feed::new(options());
    let error = feed.add(page(&rss(&"<x/>".repeat(MAX_ELEMENTS)))).unwrap_err();
    assert!(error.to_string().contains("1000000 elements"), "{error}");
    let many = "<item/>".repeat(MAX_ITEMS + 1);
    let mut feed = Feed::new(options());
    let error = feed.add(page(&format!("<rss><channel>{many}</channel></rss>"))).unwrap_err();
    assert!(error.to_string().contains("more than 100000 items"), "{error}");
    assert_eq!(feed.total(), MAX_ITEMS as u64);
    let values = format!(
        "{{\"version\":\"https://jsonfeed.org/version/1\",\"items\":[{}0]}}",
        "0,".repeat(MAX_VALUES)
    );
    let error = Feed::new(options()).add(page(&values)).unwrap_err();
    assert!(error.to_string().contains("1000000 values"), "{error}");
    let large = Page { bytes: vec![b' '; 1 + (MAX_BYTES as usize)], ..Page::default() };
    assert!(matches!(Feed::new(options()).add(large), Err(Error::TooLarge)));
    let mut feed = Feed::new(options());
    for n in 0..MAX_PAGES {
        let address = format!("https://lantern.example/{n}").parse().ok();
        let json = format!(
            "{{\"version\":\"https://jsonfeed.org/version/1\",\"next_url\":\"/{}\",\"items\":[]}}",
            n + 1
        );
        let next = feed.add(Page { bytes: json.into_bytes(), address, charset: None }).unwrap();
        assert_eq!(matches!(next, Next::Page(_)), n + 1 < MAX_PAGES, "{n}: {next:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_document_loses_an_item_or_changes_in_a_second_run(
        parts in prop::collection::vec(prop::sample::select(vec![
            "<rss>", "<channel>", "<item>", "</item>", "<guid>", "a", "</guid>", "<title>", "</title>", "<![CDATA[", "]]>",
            "<!--", "-->", "&", "&amp;", "<link>", "https://a.example/", "<feed xmlns='http://www.w3.org/2005/Atom'>",
            "<entry>", "</entry>", "<id>", "</id>", "</", "<x y='", "'>", "\u{fdd0}", "</channel></rss>",
        ]), 0..40)
    ) {
        let text = format!("<rss><channel>{}", parts.concat());
        let run = || {
            let mut feed = Feed::new(options());
            let _may_fail = feed.add(page(&text));
            all(feed)
        };
        prop_assert_eq!(run(), run());
    }
}
