//! Fields that plug-ins and the block editor add: languages, texts for search engines, live blogs, patterns.

use super::*;

fn site(inner: &str) -> String {
    channel(&format!("<wp:base_blog_url>https://harbour.example</wp:base_blog_url>{inner}"))
}

fn content(html: &str) -> String {
    format!("<content:encoded><![CDATA[{html}]]></content:encoded>")
}

#[test]
fn languages_and_translations_of_polylang_are_fields() {
    let locale = "a:2:{s:6:\"locale\";s:5:\"fr_FR\";s:3:\"rtl\";i:0;}";
    let term = format!(
        "<wp:term><wp:term_taxonomy>language</wp:term_taxonomy><wp:term_slug>fr</wp:term_slug>\
         <wp:term_description><![CDATA[{locale}]]></wp:term_description></wp:term>"
    );
    for (terms, language, fields) in [
        ("", "en-GB", ""),
        ("", "fr", "<category domain='language' nicename='fr'>Français</category>"),
        (&*term, "fr-FR", "<category domain='language' nicename='fr'>Français</category>"),
        (&*term, "de", "<category domain='language' nicename='de'>Deutsch</category>"),
    ] {
        let group = "<category domain='post_translations' nicename='pll_65f'>pll_65f</category>";
        let all = items(&site(&format!("{terms}{}", post(7, &format!("{fields}{group}")))));
        let article = article_of(all.last().unwrap());
        assert_eq!((&*article.language, &*article.translation_group), (language, "pll_65f"), "{fields}");
        assert!(article.annotations.is_empty(), "{:?}", article.annotations);
    }
}

#[test]
fn the_main_category_is_the_section() {
    let category = |id: u32, slug: &str| {
        format!(
            "<wp:category><wp:term_id>{id}</wp:term_id><wp:category_nicename>{slug}</wp:category_nicename>\
             <wp:cat_name>{slug}</wp:cat_name></wp:category>"
        )
    };
    let categories = ["a", "b", "c"].iter().zip(1..).map(|(slug, id)| category(id, slug)).collect::<String>();
    let named = |slug: &str| format!("<category domain='category' nicename='{slug}'>{slug}</category>");
    for (key, main, expected) in [
        ("_yoast_wpseo_primary_category", "3", ["c", "a", "b"]),
        ("rank_math_primary_category", "2", ["b", "a", "c"]),
        ("_yoast_wpseo_primary_category", "9", ["a", "b", "c"]),
        ("_yoast_wpseo_primary_category", "", ["a", "b", "c"]),
    ] {
        let fields = format!("{}{}{}{}", named("a"), named("b"), named("c"), meta(key, main));
        let all = items(&site(&format!("{categories}{}", post(7, &fields))));
        let article = article_of(all.last().unwrap());
        let sections = std::iter::once(&article.section).chain(&article.additional_sections);
        assert_eq!(sections.collect::<Vec<_>>(), expected.map(|slug| format!("sections/{slug}")).each_ref());
    }
}

#[test]
fn texts_for_search_engines_come_from_any_plugin() {
    for (key, title) in
        [("_yoast_wpseo_title", "rank_math_title"), ("_seopress_titles_title", "_genesis_title")]
    {
        let fields = [
            meta(key, "%%title%% %%sep%%"),
            meta(title, "Harbour shut"),
            meta("rank_math_description", "Why."),
        ];
        let article = article(&fields.concat());
        assert_eq!(article.summary, "Why.");
        // The first plug-in whose field is set counts, also if it has a template only.
        assert!(article.alternative_headlines.is_empty(), "{key}");
    }
    let article = article(&meta("rank_math_title", "Harbour shut"));
    assert_eq!(article.alternative_headlines[0].text, "Harbour shut");
}

#[test]
fn a_canonical_url_is_that_of_the_plugin_or_of_a_link_to_another_site() {
    let elsewhere = "https://times.example/storm/";
    let own = "https://harbour.example/2024/05/storm/";
    for (fields, path, canonical) in [
        (meta("_yoast_wpseo_canonical", elsewhere), "/2024/05/storm/", elsewhere),
        (meta("rank_math_canonical_url", own), "/2024/05/storm/", ""),
        (meta("_yoast_wpseo_canonical", "nonsense"), "/2024/05/storm/", ""),
        (format!("<link>{elsewhere}</link>"), "", elsewhere),
        ("<link>https://www.harbour.example/a/</link>".into(), "/a/", ""),
        ("<link>https://news.harbour.example/a/</link>".into(), "/a/", ""),
        ("<link>/a/</link>".into(), "/a/", ""),
        ("<link>https://times.example/a/</link><guid>https://times.example/?p=7</guid>".into(), "/a/", ""),
    ] {
        let all =
            items(&site(&[post(7, &fields), post(8, "<link>https://harbour.example/b/</link>")].concat()));
        let article = article_of(&all[0]);
        assert_eq!((&*article.path, &*article.canonical_url), (path, canonical), "{fields}");
    }
}

#[test]
fn a_link_to_another_site_takes_no_path_from_a_post() {
    let at = |id, link: &str| post(id, &format!("<link>{link}</link>"));
    let all = items(&site(
        &[
            at(1, "https://times.example/a/"),
            at(2, "https://harbour.example/a/"),
            at(3, "https://harbour.example/b/"),
        ]
        .concat(),
    ));
    let paths: Vec<_> = articles(&all).into_values().map(|article| article.path).collect();
    assert_eq!(paths, ["", "/a/", "/b/"]);
    // The channel of a copy states the address of the copy, its posts have that of the site.
    let all = items(&site(&[at(1, "https://live.example/a/"), at(2, "https://live.example/b/")].concat()));
    let paths: Vec<_> = articles(&all).into_values().map(|article| article.path).collect();
    assert_eq!(paths, ["/a/", "/b/"]);
}

fn comment(id: u32, kind: &str, approved: &str, text: &str, replaces: &str) -> String {
    let field = |key: &str, value: &str| {
        format!(
            "<wp:commentmeta><wp:meta_key>{key}</wp:meta_key><wp:meta_value>{value}</wp:meta_value></wp:commentmeta>"
        )
    };
    let meta = if replaces.is_empty() { String::new() } else { field("liveblog_replaces", replaces) };
    format!(
        "<wp:comment><wp:comment_id>{id}</wp:comment_id><wp:comment_author><![CDATA[Ana & Bo]]></wp:comment_author>\
         <wp:comment_date_gmt>2024-05-06 07:0{id}:00</wp:comment_date_gmt>\
         <wp:comment_content><![CDATA[{text}]]></wp:comment_content><wp:comment_approved>{approved}</wp:comment_approved>\
         <wp:comment_type>{kind}</wp:comment_type>{meta}</wp:comment>"
    )
}

#[test]
fn entries_of_a_live_blog_are_live_posts() {
    let fields = [
        content("<p>Intro</p>"),
        comment(1, "liveblog", "liveblog", "First.\n\nSecond <b>line</b>.", ""),
        comment(2, "comment", "1", "A reader", ""),
        comment(3, "liveblog", "liveblog", "Wrong", ""),
        comment(4, "liveblog", "liveblog", "Right", "3"),
        comment(5, "liveblog", "liveblog", "Deleted", ""),
        comment(6, "liveblog", "liveblog", "", "5"),
        comment(7, "liveblog", "trash", "In the bin", ""),
    ];
    let all = items(&site(&post(7, &fields.concat())));
    let article = article_of(&all[0]);
    assert_eq!(article.r#type(), v1::ArticleType::Liveblog);
    let blocks = article.body.unwrap().blocks;
    let posts: Vec<_> = blocks[1..]
        .iter()
        .map(|block| match &block.kind {
            Some(v1::block::Kind::LivePost(post)) => (block.id.as_str(), post),
            other => panic!("{other:?}"),
        })
        .collect();
    let texts: Vec<_> = posts
        .iter()
        .map(|(_, post)| text_of_body(&v1::Body { blocks: post.blocks.clone() }).trim().to_owned())
        .collect();
    assert_eq!(posts.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["liveblog-entry-3", "liveblog-entry-1"]);
    assert!(texts[0].contains("Right") && texts[1].contains("First"), "{texts:?}");
    assert_eq!(posts[1].1.blocks.len(), 2);
    assert_eq!(posts[0].1.credits[0].display_name, "Ana & Bo");
    let seconds =
        |time: &Option<prost_types::Timestamp>| time.as_ref().map(|time| time.seconds - 1_714_978_800);
    assert_eq!((seconds(&posts[0].1.publish_time), seconds(&posts[0].1.update_time)), (Some(180), Some(240)));
    assert_eq!((seconds(&posts[1].1.publish_time), seconds(&posts[1].1.update_time)), (Some(60), None));
    assert_eq!(converted(&all[0]).not_imported["comments"], 1);
}

#[test]
fn synced_patterns_of_the_export_are_in_their_posts() {
    let pattern = |id, status: &str, text: &str| {
        let fields = "<wp:post_type>wp_block</wp:post_type>";
        post(id, &format!("{fields}<wp:status>{status}</wp:status>{}", content(text)))
    };
    let shown = "<!-- wp:block {\"ref\":77} /-->";
    for (status, text) in [("publish", "Before Pattern words After"), ("draft", "Before After")] {
        let all = items(&site(
            &[
                post(7, &content(&format!("<p>Before</p>{shown}<p>After</p>"))),
                pattern(77, status, "<!-- wp:paragraph --><p>Pattern words</p><!-- /wp:paragraph -->"),
            ]
            .concat(),
        ));
        let body = text_of_body(article_of(&all[0]).body.as_ref().unwrap());
        assert_eq!(body.split_whitespace().collect::<Vec<_>>().join(" "), text);
        assert_eq!(
            converted(&all[0]).notes.is_empty(),
            status == "publish",
            "{:?}",
            converted(&all[0]).notes
        );
    }
}

#[test]
fn an_item_that_the_site_does_not_show_names_its_article() {
    for (fields, expected) in [
        ("<wp:status>private</wp:status>", "articles/wp-7"),
        ("<wp:status>trash</wp:status>", "articles/wp-7"),
        ("<wp:post_password>x</wp:post_password>", "articles/wp-7"),
        ("<wp:post_type>attachment</wp:post_type><wp:status>inherit</wp:status>", ""),
        ("", ""),
    ] {
        assert_eq!(items(&site(&post(7, fields)))[0].hidden_article, expected, "{fields}");
    }
}

#[test]
fn articles_without_text_or_title_have_a_note() {
    let notes = |fields: &str| converted(&items(&site(&post(7, fields)))[0]).notes.join("\n");
    assert!(notes(&meta("quote", "Words of a field")).contains("custom fields"));
    assert!(notes(&format!("<title></title>{}", content("Words"))).contains("first words"));
    assert!(notes("<title></title>").contains("Untitled"));
    for id in ["0", "-1"] {
        assert!(!notes(&meta("_thumbnail_id", id)).contains("featured image"), "{id}");
    }
}
