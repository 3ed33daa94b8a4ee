//! Foreign, damaged and truncated files, namespaces and encodings.

use super::*;

#[test]
fn files_that_are_no_exports_are_errors() {
    let feed = "<rss version='2.0'><channel><title>Feed</title><item><title>One</title>\
                <link>https://a.example/one/</link></item></channel></rss>";
    for (file, problem) in [
        ("<feed/>", "first element is <feed>, not <rss>"),
        ("<html><body>Sign in</body></html>", "first element is <html>"),
        ("{}", "no elements"),
        ("", "no elements"),
        ("<rss", "a tag, comment or CDATA section without an end"),
        (feed, "no element is in a namespace of WordPress"),
        ("<rss/>", "no element is in a namespace of WordPress"),
    ] {
        let error = error_of(file.as_bytes());
        assert!(error.starts_with("a.xml: not a WordPress export: ") && error.contains(problem), "{error}");
    }
    let without_posts =
        channel("<wp:wxr_version>1.2</wp:wxr_version><wp:tag><wp:tag_slug>x</wp:tag_slug></wp:tag>");
    assert_eq!(error_of(without_posts.as_bytes()), "a.xml: no post in the export");
}

/// Returns an export whose elements have the given names and declarations.
fn with_prefixes(declarations: &str, prefix: &str, content: &str) -> String {
    let export = format!(
        "<rss {declarations}><channel><item><title>Storm</title><{prefix}post_id>7</{prefix}post_id>\
         <{prefix}post_type>post</{prefix}post_type><{prefix}status>publish</{prefix}status>\
         <{content}encoded>Text.</{content}encoded></item></channel></rss>"
    );
    export
}

#[test]
fn a_namespace_is_its_uri() {
    let content = "xmlns:c='http://purl.org/rss/1.0/modules/content/'";
    for (declarations, prefix, content) in [
        (format!("xmlns:wordpress='http://wordpress.org/export/1.2/' {content}"), "wordpress:", "c:"),
        (format!("xmlns:x='https://wordpress.org/export/1.0/' {content}"), "x:", "c:"),
        (
            format!(
                "xmlns='http://backend.userland.com/rss2' xmlns:wp='http://wordpress.org/export/1.1/' {content}"
            ),
            "wp:",
            "c:",
        ),
        (String::new(), "wp:", "content:"),
    ] {
        let all = items(&with_prefixes(&declarations, prefix, content));
        let article = article_of(&all[0]);
        assert_eq!(
            (article.name.as_str(), article.body.unwrap().blocks.len()),
            ("articles/wp-7", 1),
            "{declarations}"
        );
    }
    let on_elements = "<rss><channel><item><post_id xmlns='http://wordpress.org/export/1.2/'>7</post_id>\
        <a:post_type xmlns:a='http://wordpress.org/export/1.2/'>post</a:post_type>\
        <status xmlns='http://wordpress.org/export/1.2/'>publish</status></item></channel></rss>";
    assert_eq!(article_of(&items(on_elements)[0]).name, "articles/wp-7");
    let foreign = with_prefixes(
        "xmlns:wp='https://other.example/' xmlns:content='https://other.example/'",
        "wp:",
        "content:",
    );
    assert!(error_of(foreign.as_bytes()).contains("no element is in a namespace of WordPress"));
}

fn text(content: &str) -> String {
    format!("<content:encoded>{content}</content:encoded>")
}

#[test]
fn a_damaged_item_does_not_end_the_import() {
    let many: String = (0..200).map(|n| format!(" xmlns:n{n}='x'")).collect();
    for damage in [
        "<![CDATA[<script>//<![CDATA[\nx\n//]]></script><p>a <br> b</p>]]>",
        "<![CDATA[One ]]> <p> and <br> two]]>",
        "<![CDATA[One",
        "<![CDATA[One <![CDATA[ two",
        "One <!-- two",
        "One <? two",
        "One <b>two",
        "One </b>two",
        "One <b two",
        "One <b x=\"two",
        "One < two",
        "One <! two",
        &format!("One <b{many}>two</b>"),
        &"<b>".repeat(70_000),
    ] {
        let export =
            channel(&[post(1, &text(damage)), post(2, &text("<![CDATA[Two.]]>")), post(3, "")].concat());
        let (all, failure) = items_of(&[export.as_bytes()], &options());
        assert!(failure.is_none(), "{damage}: {failure:?}");
        let [first, second, third] = &all[..] else { panic!("{damage}: {all:#?}") };
        assert!(matches!(first.outcome, ItemOutcome::Failed(_)), "{damage}: {first:?}");
        assert_eq!(first.label, "post 1 'Storm closes the harbour'", "{damage}");
        assert_eq!(
            (second.label.as_str(), article_of(second).body.unwrap().blocks.len()),
            ("post 2 'Storm closes the harbour'", 1)
        );
        assert_eq!(article_of(third).name, "articles/wp-3");
    }
}

#[test]
fn texts_about_exports_are_not_damage() {
    for content in [
        "<![CDATA[Write <code><item>x</item> <item>y</item></code>.]]>",
        "<![CDATA[<item><![CDATA[ x ]]]]><![CDATA[></item> <item>]]>",
        "&lt;item&gt;x&lt;/item&gt; &lt;item&gt;",
    ] {
        let all = items(&channel(&[post(1, &text(content)), post(2, "")].concat()));
        assert_eq!(articles(&all).len(), 2, "{content}: {all:?}");
    }
}

#[test]
fn damage_outside_items_costs_its_element_only() {
    let (tag, rest) = ("<wp:tag><wp:tag_slug>a</wp:tag_slug>", [post(1, ""), post(2, "")].concat());
    for (damage, failed) in [
        (format!("{tag}<wp:tag_name>A</wp:tag></wp:tag>"), 1),
        ("<description><![CDATA[One</description>".to_owned(), 1),
        ("</stray>]]>&stray <!-- item -->".to_owned(), 0),
        ("<!-- open".to_owned(), 1),
    ] {
        let (all, failure) = items_of(&[channel(&format!("{damage}{rest}")).as_bytes()], &options());
        assert!(failure.is_none(), "{damage}");
        let failures = all.iter().filter(|item| matches!(item.outcome, ItemOutcome::Failed(_))).count();
        assert_eq!((failures, articles(&all).len()), (failed, 2), "{damage}: {all:?}");
    }
}

#[test]
fn a_file_that_was_cut_off_says_so() {
    let export = channel(&[post(1, &text("<![CDATA[Küste]]>")), post(2, &meta("mood", "x"))].concat());
    let after_first = export.find("</item>").unwrap() + "</item>".len();
    let start = export.find("<channel>").unwrap() + "<channel>".len();
    for length in start..export.len() {
        let cut = &export.as_bytes()[..length];
        let options = options();
        let Ok(items) = read(vec![("a.xml", cut)], &options) else {
            let error = error_of(cut);
            assert!(length < after_first && error.contains("was cut off at byte"), "{length}: {error}");
            continue;
        };
        let items: Vec<_> = items.collect();
        let Some(Err(error)) = items.last() else { panic!("{length}: {items:?}") };
        assert!(error.to_string().contains("was cut off at byte"), "{length}: {error}");
        let found: Vec<_> = items.into_iter().filter_map(Result::ok).collect();
        assert_eq!(!articles(&found).is_empty(), length >= after_first, "{length}");
        let within = length > after_first + "<item>".len() && length < export.rfind("</item>").unwrap();
        let is_named =
            found.iter().any(|item| matches!(&item.outcome, ItemOutcome::Failed(p) if p.contains("cut off")));
        assert!(is_named || !within, "{length}: {found:?}");
    }
}

#[test]
fn a_truncated_file_does_not_end_the_others() {
    let first = channel(&[post(1, ""), post(2, "")].concat());
    let cut = &first.as_bytes()[..first.len() - 30];
    let second = channel(&post(3, ""));
    let (all, failure) = items_of(&[cut, second.as_bytes()], &options());
    assert_eq!(articles(&all).keys().collect::<Vec<_>>(), ["articles/wp-1", "articles/wp-3"]);
    let failure = failure.unwrap();
    assert_eq!(failure.file.as_os_str(), "0.xml");
    assert!(failure.to_string().contains("was cut off"), "{failure}");
}

#[test]
fn exports_in_other_encodings_are_read() {
    let export =
        channel(&[post(1, "<title>Café am Kai</title>"), post(2, &text("<![CDATA[Küste]]>"))].concat());
    let declared = |label: &str| {
        export.replace("<?xml version='1.0'?>", &format!("<?xml version='1.0' encoding='{label}'?>"))
    };
    let latin = |label: &str| {
        declared(label).chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<_>>()
    };
    let utf16: Vec<u8> = declared("UTF-16").encode_utf16().flat_map(u16::to_be_bytes).collect();
    for file in [latin("ISO-8859-1"), latin("windows-1252"), [b"\xfe\xff", &utf16[..]].concat(), utf16] {
        let (all, failure) = items_of(&[&file], &options());
        assert!(failure.is_none(), "{failure:?}");
        assert_eq!(article_of(&all[0]).headline, "Café am Kai");
        assert_eq!(text_of_body(article_of(&all[1]).body.as_ref().unwrap()).trim(), "Küste");
    }
    let error = error_of(&latin("klingon"));
    assert!(error.contains("cannot read the file"), "{error}");
}

#[test]
fn an_element_that_is_too_long_fails_alone() {
    let long = "x".repeat(source::MAX_ELEMENT_BYTES);
    let export = channel(&[post(1, &text(&long)), post(2, "")].concat());
    let (all, failure) = items_of(&[export.as_bytes()], &options());
    assert!(failure.is_none() && all.len() == 2, "{failure:?}");
    assert!(
        matches!(&all[0].outcome, ItemOutcome::Failed(problem) if problem.contains("longer than 32 MiB")),
        "{:?}",
        all[0].outcome
    );
    assert_eq!(articles(&all).len(), 1);
}

#[test]
fn damage_costs_no_quadratic_time() {
    let declarations: String = (0..120).map(|n| format!(" xmlns:n{n}='x'")).collect();
    for (start, piece) in [
        ("", "<item><![CDATA[</item>"),
        ("", "<item><!--</item>"),
        ("", "<item><b></item>"),
        ("", "<item>"),
        ("", "<!-- "),
        ("", "</x>"),
        ("", "<item></item>"),
        ("<item>", "<b a='x'/>"),
        ("<item>", "<b>"),
        ("<item><b ", "a='x' "),
        (&format!("<item {declarations}>"), "<z:b/>"),
        ("<item><title>", "a&#1;&#&#1;1;"),
        ("<item><category domain='author' nicename='", "x@y "),
    ] {
        let filler = piece.repeat((1 << 20) / piece.len());
        let export = channel(&format!("{}{start}{filler}", post(1, "")));
        let clock = cable_body::testing::Stopwatch::start();
        let items = read(vec![("a.xml", export.as_bytes())], &options()).unwrap();
        assert!(items.filter(Result::is_ok).count() > 0);
        // A debug build takes some twenty times as long as a release build.
        assert!(clock.elapsed().as_secs() < 10, "{start}{piece}: {:?}", clock.elapsed());
    }
}

#[test]
fn an_export_after_the_first_one_is_an_error() {
    let first = channel(&post(7, ""));
    let second = channel(&post(8, ""));
    let (all, failure) = items_of(&[format!("{first}\n{second}").as_bytes()], &options());
    assert_eq!(all.len(), 1);
    let failure = failure.unwrap().to_string();
    assert!(failure.contains("another export begins") && failure.contains("split the file"), "{failure}");
    // The warnings that web servers write after the document.
    for rest in ["<br />\n<b>Warning</b>: x", "<br", "text", "<!-- cached -->"] {
        let (all, failure) = items_of(&[format!("{first}\n{rest}").as_bytes()], &options());
        assert!(all.len() == 1 && failure.is_none(), "{rest}: {failure:?}");
    }
}
