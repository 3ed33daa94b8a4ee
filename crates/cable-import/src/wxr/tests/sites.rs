//! Exports in several files, sites with a prefix, and what is not imported.

use super::*;

fn site(url: &str) -> String {
    format!("<link>{url}</link><wp:base_blog_url>{url}</wp:base_blog_url>")
}

#[test]
fn a_prefix_is_before_every_id_of_the_site() {
    let export = channel(&format!(
        "<wp:author><wp:author_id>1</wp:author_id><wp:author_login>desk</wp:author_login></wp:author>\
         <wp:category><wp:category_nicename>ports</wp:category_nicename><wp:category_parent>coast</wp:category_parent></wp:category>{}",
        post(
            7,
            "<dc:creator>desk</dc:creator><category domain='category' nicename='ports'>Ports</category>\
             <category domain='post_tag' nicename='eel'>Eel</category>\
             <category domain='author' nicename='cap-bo'>Bo Lind</category>"
        )
    ));
    let options = Options { prefix: "gazette".into(), ..options() };
    let (all, _) = items_of(&[export.as_bytes()], &options);
    let names: Vec<String> = all
        .iter()
        .flat_map(kinds)
        .map(|kind| match kind {
            Kind::Article(article) => {
                assert_eq!(
                    (&*article.section, &*article.tags[0]),
                    ("sections/gazette-ports", "tags/gazette-eel")
                );
                assert_eq!(article.byline.unwrap().credits[0].author, "authors/gazette-bo");
                article.name
            }
            Kind::Section(section) => section.name + " in " + &section.parent,
            Kind::Author(author) => author.name,
            Kind::Tag(tag) => tag.name,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        names,
        [
            "sections/gazette-ports in sections/gazette-coast",
            "authors/gazette-desk",
            "tags/gazette-eel",
            "authors/gazette-bo",
            "articles/gazette-wp-7",
        ]
    );
}

#[test]
fn articles_name_their_site_and_number() {
    let id = |channel_fields: &str, fields: &str| {
        let all = items(&channel(&format!("{channel_fields}{}", post(7, fields))));
        let ids = article_of(&all[0]).alt_ids;
        assert_eq!((ids.len(), ids[0].role.as_str()), (1, "wordpress"));
        ids[0].value.clone()
    };
    let lantern = site("https://lantern.example/news/");
    assert_eq!(id(&lantern, ""), "https://lantern.example/news/?p=7");
    assert_eq!(id(&lantern, "<guid>http://old.example/?p=7</guid>"), "http://old.example/?p=7");
    assert_eq!(id(&lantern, "<guid>javascript:x</guid>"), "https://lantern.example/news/?p=7");
    assert_eq!(id("<link>https://lantern.example</link>", ""), "https://lantern.example/?p=7");
    assert_eq!(id("", ""), "7");
}

#[test]
fn several_files_are_one_export() {
    let lantern = site("https://lantern.example");
    let with_pictures = format!(
        "<content:encoded><![CDATA[[gallery ids=\"300,301\"]]]></content:encoded>{}",
        meta("_thumbnail_id", "300")
    );
    let picture = |id: u64| {
        post(
            id,
            &format!(
                "<wp:post_type>attachment</wp:post_type><wp:attachment_url>https://lantern.example/{id}.jpg</wp:attachment_url>"
            ),
        )
    };
    let first = channel(&[lantern.clone(), post(151, &with_pictures)].concat());
    let second = channel(&[lantern.clone(), picture(300), picture(301), post(151, &with_pictures)].concat());
    let (all, failure) = items_of(&[first.as_bytes(), second.as_bytes()], &options());
    assert!(failure.is_none());
    let article = article_of(&all[0]);
    assert!(article.lead_media.is_some());
    let blocks = article.body.unwrap().blocks;
    assert!(
        matches!(&blocks[0].kind, Some(v1::block::Kind::Gallery(gallery)) if gallery.images.len() == 2),
        "{blocks:?}"
    );
    assert_eq!(all[3].outcome, ItemOutcome::Skipped(SkipReason::Duplicate));

    let other = channel(&[site("https://gazette.example"), post(7, "")].concat());
    let error =
        read(vec![("a.xml", first.as_bytes()), ("b.xml", other.as_bytes())], &options()).err().unwrap();
    assert_eq!(error.file.as_os_str(), "b.xml");
    let message = error.to_string();
    assert!(message.contains("gazette.example") && message.contains("lantern.example"), "{message}");
    let secure = channel(&[site("http://Lantern.example/"), post(8, "")].concat());
    assert_eq!(items_of(&[first.as_bytes(), secure.as_bytes()], &options()).0.len(), 2, "the same site");
}

#[test]
fn posts_with_one_id_are_duplicates_only_if_equal() {
    let all = items(&channel(
        &[
            post(4, "<title>One</title>"),
            post(4, "<title>One</title>"),
            post(4, "<title>Two</title>"),
            post(4, &format!("<title>One</title>{}", meta("x", "y"))),
            post(4, "<title>One</title>"),
        ]
        .concat(),
    ));
    assert!(matches!(all[0].outcome, ItemOutcome::Converted(_)));
    for (at, is_duplicate) in [(1, true), (2, false), (3, false), (4, true)] {
        match &all[at].outcome {
            ItemOutcome::Skipped(SkipReason::Duplicate) => assert!(is_duplicate, "{at}"),
            ItemOutcome::Failed(problem) => {
                assert_eq!(
                    (problem.as_str(), is_duplicate),
                    ("another item with other content has the id 4", false)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let tag = |name: &str| {
        format!("<wp:tag><wp:tag_slug>x</wp:tag_slug><wp:tag_name>{name}</wp:tag_name></wp:tag>")
    };
    let all = items(&channel(&[tag("X"), tag("X"), tag("Y"), post(1, "")].concat()));
    assert_eq!(all[1].outcome, ItemOutcome::Skipped(SkipReason::Duplicate));
    assert_eq!(all[2].outcome, ItemOutcome::Failed("another item with other content became tags/x".into()));
}

#[test]
fn parts_without_a_field_are_counted() {
    let fields = [
        "<wp:is_sticky>1</wp:is_sticky><wp:post_parent>3</wp:post_parent><wp:menu_order>0</wp:menu_order>",
        "<wp:comment><wp:comment_id>1</wp:comment_id><wp:comment_content>First</wp:comment_content></wp:comment>",
        "<wp:comment><wp:comment_id>2</wp:comment_id></wp:comment>",
        &meta("_edit_last", "1"),
        &meta("_oembed_26afb00b3c55411ff47bd585cbb4a4eb", "x"),
        &meta("_oembed_29351fff85c1be1d1e9a965a0332a861", "x"),
        &meta("mood", "calm"),
        &meta("mood", "wild"),
        &meta("_thumbnail_id", "1"),
        &meta("enclosure", "https://a.example/paper.pdf"),
    ]
    .concat();
    let all = items(&channel(&post(7, &fields)));
    let counts: Vec<_> =
        converted(&all[0]).not_imported.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(
        counts,
        [
            ("comments", 2),
            ("custom field _edit_last", 1),
            ("custom field _oembed_*", 2),
            ("custom field enclosure", 1),
            ("custom field mood", 2),
            ("page parents", 1),
            ("sticky marks", 1),
        ]
    );
}

#[test]
fn descriptions_of_a_plugin_are_imported() {
    let description = meta("_yoast_wpseo_metadesc", "For search &amp; more");
    let excerpt = "<excerpt:encoded>By hand</excerpt:encoded>";
    let all =
        items(&channel(&post(7, &(description.clone() + &meta("_yoast_wpseo_title", "Storm: closed")))));
    let article = article_of(&all[0]);
    assert_eq!(article.summary, "For search & more");
    assert_eq!(
        (&*article.alternative_headlines[0].role, &*article.alternative_headlines[0].text),
        ("seo", "Storm: closed")
    );
    assert!(converted(&all[0]).not_imported.is_empty());
    let all = items(&channel(&post(
        7,
        &(description + excerpt + &meta("_yoast_wpseo_title", "%%title%% %%sep%%")),
    )));
    let article = article_of(&all[0]);
    assert_eq!((article.summary.as_str(), article.alternative_headlines.len()), ("By hand", 0));
    assert_eq!(converted(&all[0]).not_imported.len(), 2);
}

#[test]
fn enclosures_become_blocks_unless_the_body_has_them() {
    let enclosure = meta("enclosure", "https://a.example/talk.mp3\n1\naudio/mpeg\n");
    let blocks = |content: &str| {
        let content = format!("<content:encoded><![CDATA[{content}]]></content:encoded>");
        let article = article(&(content + &enclosure + &enclosure));
        article.body.unwrap().blocks
    };
    let all = blocks("<p>Listen.</p>");
    assert!(matches!(&all[..], [_, v1::Block { kind: Some(v1::block::Kind::Audio(_)), .. }]), "{all:?}");
    assert_eq!(blocks("<p>Listen.</p>[audio src=\"https://a.example/talk.mp3\"]").len(), 2);
    assert_eq!(blocks("<blockquote><audio src='https://a.example/talk.mp3'></audio></blockquote>").len(), 1);
}

#[test]
fn signs_in_titles_and_names_are_words() {
    let all = items(&channel(&[
        "<wp:tag><wp:tag_slug>x</wp:tag_slug><wp:tag_name><![CDATA[a<b]]></wp:tag_name></wp:tag>".to_owned(),
        "<wp:author><wp:author_login>a</wp:author_login><wp:author_display_name><![CDATA[List<Ana>]]></wp:author_display_name></wp:author>".to_owned(),
        post(7, &format!("<title><![CDATA[Why a<b matters]]></title>{}", meta("_thumbnail_id", "9"))),
        post(9, &format!(
            "<wp:post_type>attachment</wp:post_type><wp:attachment_url>https://a.example/9.jpg</wp:attachment_url>\
             <excerpt:encoded><![CDATA[if a<b then]]></excerpt:encoded>{}",
            meta("_wp_attachment_image_alt", "Graph of x<y")
        )),
    ].concat()));
    let text = format!("{all:?}");
    for words in ["a<b", "List<Ana>", "Why a<b matters", "if a<b then", "Graph of x<y"] {
        assert!(text.contains(words), "{words} in {text}");
    }
}
