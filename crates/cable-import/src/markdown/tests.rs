//! The bodies, headlines and paths of pages.

use std::fs;

use cable_body::{
    render,
    testing::{Stopwatch, shortest},
};
use cable_proto::v1::record::Record;

use super::*;

/// A directory without other files.
struct NoPages;

impl Pages for NoPages {
    fn page(&self, _file: &str) -> Option<String> {
        None
    }

    fn file(&self, url: &str) -> String {
        url.to_owned()
    }
}

fn converted(text: &str, has_title: bool) -> (String, body::Converted) {
    let converted = body::convert_body(text, BodyFormat::Markdown, has_title, &NoPages).unwrap();
    let mark = shortcodes::extract(text).mark;
    assert!(!format!("{converted:?}").contains(&mark), "{text}: {converted:?}");
    (render(&converted.body, BodyFormat::Html).replace('\n', ""), converted)
}

/// Checks the HTML of texts, and that no note is needed.
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let (html, converted) = converted(text, true);
        assert_eq!(html, *expected, "{text}");
        let notes = converted.notes.iter().filter(|note| !note.contains("stored as raw HTML"));
        assert_eq!(notes.count(), 0, "{text}: {:?}", converted.notes);
        assert!(converted.counts.is_empty(), "{text}: {:?}", converted.counts);
    }
}

#[test]
fn a_closing_tag_can_have_spaces() {
    let code = "<pre><code class=\"language-go\">a := *b* + *c*</code></pre>";
    for (open, close) in [
        ("{{< highlight go >}}", "{{< /highlight >}}"),
        ("{{< highlight go >}}", "{{</ highlight >}}"),
        ("{{< highlight go >}}", "{{< / highlight >}}"),
        ("{{< highlight go >}}", "{{</highlight>}}"),
        ("{{< highlight go >}}", "{{< /highlight>}}"),
        ("{{% highlight go %}}", "{{%/ highlight %}}"),
        ("{% highlight go %}", "{%endhighlight%}"),
        ("{% highlight go %}", "{%-  endhighlight  -%}"),
    ] {
        check(&[(&format!("{open}\na := *b* + *c*\n{close}\n"), code)]);
    }
    for tag in ["{{</ x >}}", "{{%/ x %}}", "{{< / x >}}", "{{</x>}}"] {
        let (_, converted) = converted(&format!("a {tag} b"), true);
        assert_eq!(converted.counts.keys().collect::<Vec<_>>(), ["shortcode x"], "{tag}");
    }
}

#[test]
fn captions_are_markdown_with_quotation_marks() {
    for (arguments, expected) in [
        (r#"caption="He said \"yes\" to all""#, r#"He said "yes" to all"#),
        (r#"caption="a \"b >}} c\" d""#, r#"a "b &gt;}} c" d"#),
        (r#"caption='It\'s here'"#, "It's here"),
        (r#"caption=`The "yes" of all`"#, r#"The "yes" of all"#),
        (
            r#"caption="By *Marta* at [port](https://x.example/p)""#,
            r#"By <em>Marta</em> at <a href="https://x.example/p">port</a>"#,
        ),
        (r#"attr="[port](https://x.example/p)""#, r#"<a href="https://x.example/p">port</a>"#),
        (r#"caption="Nets" attr="*Jo*""#, "Nets <small>Jo</small>"),
        (
            r#"caption="Nets" attr="*Jo* R" attrlink="https://x.example/""#,
            r#"Nets <a href="https://x.example/"><em>Jo</em> R</a>"#,
        ),
        (r#"caption="https://x.example/""#, r#"<a href="https://x.example/">https://x.example/</a>"#),
        (r#"caption="1. The *boat*""#, "1. The *boat*"),
        (r#"title="A *b*" caption="*c*""#, "A *b* <em>c</em>"),
    ] {
        let text = format!("{{{{< figure src=\"/a.jpg\" {arguments} >}}}}");
        let (html, _) = converted(&text, true);
        let expected =
            format!("<figure><img src=\"/a.jpg\" alt=\"\"><figcaption>{expected}</figcaption></figure>");
        assert_eq!(html.replace("&quot;", "\""), expected, "{text}");
    }
    for (arguments, expected) in [
        (r#"alt=`C:\"x`"#, r#"alt="C:\&quot;x""#),
        (r#"caption="C:\\" alt="x""#, r#"alt="x"><figcaption>C:\</figcaption>"#),
        (r#"alt="a\b\\\"c""#, r#"alt="a\b\&quot;c""#),
    ] {
        let (html, _) = converted(&format!("{{{{< figure src=\"/a.jpg\" {arguments} >}}}}"), true);
        assert!(html.contains(expected), "{html}");
    }
}

#[test]
fn pictures_stay_in_their_places() {
    let picture = "<figure><img src=\"/x.jpg\" alt=\"\"></figure>";
    let linked = "<figure><a href=\"https://x.example/t\"><img src=\"/x.jpg\" alt=\"\"></a></figure>";
    let table = "<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>";
    for (text, expected) in [
        ("| a |\n|---|\n| PICTURE |", format!("{table}{picture}</td></tr></tbody></table>")),
        (
            "| a |\n|---|\n| t PICTURE u |",
            format!("{table}<p>t</p>{picture}<p>u</p></td></tr></tbody></table>"),
        ),
        ("## T PICTURE u", format!("<h2>T u</h2>{picture}")),
        ("## PICTURE", picture.to_owned()),
        ("- PICTURE\n- b", format!("<ul><li>{picture}</li><li>b</li></ul>")),
        (
            "> q\n>\n> \u{2014} me PICTURE",
            format!("<blockquote><p>q</p><footer>me</footer></blockquote>{picture}"),
        ),
        (
            "<details><summary>S</summary>\n\nPICTURE\n\n</details>",
            format!("<details><summary>S</summary>{picture}</details>"),
        ),
        (
            "<details><summary>S</summary>PICTURE</details>",
            format!("<details><summary>S</summary>{picture}</details>"),
        ),
        ("[PICTURE](https://x.example/t)", linked.to_owned()),
        ("## [PICTURE](https://x.example/t)", linked.to_owned()),
        ("[a PICTURE](https://x.example/t)", format!("<p><a href=\"https://x.example/t\">a</a></p>{linked}")),
    ] {
        check(&[(&text.replace("PICTURE", "{{< figure src=\"/x.jpg\" >}}"), &expected)]);
    }
    for (text, note) in [
        ("[{{< youtube abc >}}](https://x.example/t)", "link to https://x.example/t omitted"),
        ("{{< figure src=\"javascript:x\" >}}", "picture omitted"),
        ("<details title=\"{{< figure src='/x.jpg' >}}\">a</details>", "within a tag of HTML"),
    ] {
        let (_, converted) = converted(text, true);
        assert!(converted.notes.iter().any(|other| other.contains(note)), "{text}: {:?}", converted.notes);
    }
}

#[test]
fn the_file_of_a_picture_comes_after_its_classes() {
    for (arguments, expected) in [
        ("img /p.jpg", "<img src=\"/p.jpg\" alt=\"\">"),
        (
            "img left /im/p.jpg 300 200 \"The title\" \"The alt\"",
            "<img src=\"/im/p.jpg\" alt=\"The alt\" width=\"300\" height=\"200\"><figcaption>The title</figcaption>",
        ),
        (
            "img class1 class2 http://h.example/p.png 300 \"t\" \"a\"",
            "<img src=\"http://h.example/p.png\" alt=\"a\" width=\"300\"><figcaption>t</figcaption>",
        ),
        ("img /p.jpg 300 Photo: Marta Ruiz", "<img src=\"/p.jpg\" alt=\"Photo: Marta Ruiz\" width=\"300\">"),
        ("img /p.jpg At 12:30 Photo:", "<img src=\"/p.jpg\" alt=\"At 12:30 Photo:\">"),
        ("img src: \"/p.jpg\" alt: \"a\"", "<img src=\"/p.jpg\" alt=\"a\">"),
        ("img src:/p.jpg alt:a", "<img src=\"/p.jpg\" alt=\"a\">"),
        ("img /p.jpg The words of it", "<img src=\"/p.jpg\" alt=\"The words of it\">"),
        ("img right p.jpg \"The alt\"", "<img src=\"p.jpg\" alt=\"The alt\">"),
        ("img left /photos/42", "<img src=\"/photos/42\" alt=\"\">"),
        ("img src=\"/p.jpg\" alt=\"a\"", "<img src=\"/p.jpg\" alt=\"a\">"),
        ("picture gallery p.jpg --alt The boat", "<img src=\"p.jpg\" alt=\"The boat\">"),
        ("figure /p.jpg \"a\" \"c\"", "<img src=\"/p.jpg\" alt=\"a\"><figcaption>c</figcaption>"),
    ] {
        let (html, _) = converted(&format!("{{% {arguments} %}}"), true);
        assert_eq!(html, format!("<figure>{expected}</figure>"), "{arguments}");
    }
}

#[test]
fn comments_are_not_shown() {
    check(&[
        ("A\n\n{::comment}\nhidden *block*\n\nand more\n{:/comment}\n\nB", "<p>A</p><p>B</p>"),
        ("A\n\n{::comment}\nhidden\n{:/}\n\nB", "<p>A</p><p>B</p>"),
        ("A {::comment}secret{:/comment} b.", "<p>A b.</p>"),
        ("A {::comment}secret{: / comment } b.", "<p>A b.</p>"),
        ("A {::comment secret /}b.", "<p>A b.</p>"),
        ("A {% comment %}secret{% endcomment %} b.", "<p>A b.</p>"),
        ("A {::nomarkdown}<b>x</b>{:/} b.", "<p>A <strong>x</strong> b.</p>"),
        ("A {::nomarkdown type=\"latex\"}\\LaTeX{:/} b.", "<p>A b.</p>"),
        ("{::options parse_block_html=\"true\" /}\n\nA", "<p>A</p>"),
        ("```\n{::comment}\nx\n{:/comment}\n```", "<pre><code>{::comment}x{:/comment}</code></pre>"),
    ]);
}

#[test]
fn comments_and_code_do_not_overlap() {
    check(&[
        (
            "Write `{::comment}` before and `{:/comment}` after it.",
            "<p>Write <code>{::comment}</code> before and <code>{:/comment}</code> after it.</p>",
        ),
        (
            "```\n{::comment}\n```\n\nText\n\n```\n{:/comment}\n```",
            "<pre><code>{::comment}</code></pre><p>Text</p><pre><code>{:/comment}</code></pre>",
        ),
        (
            "Write `{::comment}` first.\n\n{::comment}\nsecret\n{:/comment}",
            "<p>Write <code>{::comment}</code> first.</p>",
        ),
        (
            "Write `{:/comment}` last. {::comment}secret{:/comment}",
            "<p>Write <code>{:/comment}</code> last.</p>",
        ),
        ("{::comment}\n```\n{:/comment}\n\nA {::comment}secret{:/comment} b.", "<p>A b.</p>"),
        ("A ` {::comment}secret{:/comment} b.", "<p>A ` b.</p>"),
        ("A\n\n{::comment}\nEnd it with `{:/comment}`, secret\n{:/comment}\n\nB", "<p>A</p><p>B</p>"),
        ("A\n\n> {::comment}\n> a {:/comment} secret\n> {:/comment}\n\nB", "<p>A</p><p>B</p>"),
        ("A\n\n{::comment}\nsecret {:/comment}\n\nB", "<p>A</p><p>B</p>"),
    ]);
}

#[test]
fn code_within_html_has_no_shortcodes() {
    let figure = "{{< figure src=\"/x.jpg\" >}}";
    let details = "<details><summary>S</summary>";
    for (text, expected) in [
        ("```\n{::comment}\nx\n{:/comment}\n```", "<pre><code>{::comment}x{:/comment}</code></pre>"),
        (
            "```\n{% comment %}\nx\n{% endcomment %}\n```",
            "<pre><code>{% comment %}x{% endcomment %}</code></pre>",
        ),
        (
            "```\nFIGURE\n```\n\nFIGURE",
            "<pre><code>{{&lt; figure src=\"/x.jpg\" &gt;}}</code></pre><figure><img src=\"/x.jpg\" alt=\"\"></figure>",
        ),
        ("a `FIGURE` b", "<p>a <code>{{&lt; figure src=\"/x.jpg\" &gt;}}</code> b</p>"),
        (
            "<p title=\"<pre>\">a</p>\n\n`FIGURE`\n\nFIGURE",
            "<p title=\"&lt;pre&gt;\">a</p><p><code>{{&lt; figure src=\"/x.jpg\" &gt;}}</code></p><figure><img src=\"/x.jpg\" alt=\"\"></figure>",
        ),
    ] {
        let text = format!("{details}\n\n{}\n\n</details>", text.replace("FIGURE", figure));
        let (html, converted) = converted(&text, true);
        assert_eq!(html.replace("&quot;", "\""), format!("{details}{expected}</details>"), "{text}");
        assert!(converted.counts.is_empty(), "{text}: {:?}", converted.counts);
    }
}

#[test]
fn tags_of_liquid_end_at_the_first_delimiter() {
    check(&[
        (
            "{% img /a.jpg 5\" screen %} text {% img /b.jpg 6\" screen %}",
            "<figure><img src=\"/a.jpg\" alt=\"5&quot; screen\"></figure><p>text</p>\
             <figure><img src=\"/b.jpg\" alt=\"6&quot; screen\"></figure>",
        ),
        ("a {{ \"x\" }} \" b {{ \"y\" }}", "<p>a x \" b y</p>"),
    ]);
}

#[test]
fn each_field_of_a_block_has_its_shortcodes_resolved() {
    for (text, expected) in [
        ("```{: .language-ruby}\nx\n```", "<pre><code class=\"language-ruby\">x</code></pre>"),
        ("```go{: .wide}\nx\n```", "<pre><code class=\"language-go\">x</code></pre>"),
        ("<p id=\"{{ page.id }}\">x</p>", "<p>x</p>"),
    ] {
        assert_eq!(converted(text, true).0, expected, "{text}");
    }
    let post = "<div itemprop=\"liveBlogUpdate\">\n\n## A {{ \"b\" }}\n\nc {{ \"d\" }}\n\nPICTURE\n\n</div>";
    let (html, _) = converted(&post.replace("PICTURE", "{{< figure src=\"/x.jpg\" >}}"), true);
    for part in ["A b", "c d", "<img src=\"/x.jpg\""] {
        assert!(html.contains(part), "{html}");
    }
    let picture =
        |n| format!("<a href=\"{{{{ site.url }}}}/{n}\"><img src=\"{{{{ site.url }}}}/{n}.jpg\"></a>");
    let gallery = format!("<div class=\"gallery\">{}{}</div>", picture(1), picture(2));
    let (html, _) = converted(&gallery, true);
    assert!(html.contains("href=\"/1\"") && html.contains("src=\"/2.jpg\""), "{html}");
}

#[test]
fn long_attributes_of_headings_are_text() {
    for (bytes, is_text) in
        [(shortcodes::MAX_ATTRIBUTES_BYTES, false), (shortcodes::MAX_ATTRIBUTES_BYTES + 1, true)]
    {
        let attributes = format!("{{#a .{}}}", "x".repeat(bytes - "{#a .}".len()));
        let (html, _) = converted(&format!("## T {attributes}\n\nText"), true);
        assert_eq!(html.contains(&attributes), is_text, "{bytes}");
    }
}

#[test]
fn shortcodes_after_a_limit_have_a_note() {
    let comment = "{% comment %}secret{% endcomment %}";
    for (opening, limit) in [
        ("{{ \"x\" }}", shortcodes::MAX_SHORTCODES),
        ("{:x}", shortcodes::MAX_UNCLOSED),
        ("{#", shortcodes::MAX_UNCLOSED),
        ("{{ a\n\n}}", shortcodes::MAX_UNCLOSED),
    ] {
        for (count, is_complete) in [(limit - 1, true), (limit, false)] {
            let text = shortcodes::extract(&format!("{}{comment}", opening.repeat(count)));
            assert_eq!(text.unread, if is_complete { 0 } else { 2 }, "{opening} {count}");
        }
    }
    let text = shortcodes::extract(&format!("{}{{{{% x %}}}}", "{#".repeat(shortcodes::MAX_UNCLOSED)));
    assert_eq!(text.unread, 1);
    let braces = "{a} ".repeat(2 * shortcodes::MAX_SHORTCODES);
    assert_eq!(shortcodes::extract(&format!("{braces}{comment}")).unread, 0);
    let (_, converted) = converted(&format!("{}{comment}", "{#".repeat(shortcodes::MAX_UNCLOSED)), true);
    assert!(
        converted.notes.iter().any(|note| note.starts_with("the last 2 openings")),
        "{:?}",
        converted.notes
    );
    assert_eq!(converted.counts["shortcodes after the limit"], 2);
}

/// The maximum time for a text of openings, as a multiple of the time for a text of the same size with 5,000 shortcodes.
const MAX_RATIO: u32 = 20;

#[test]
fn openings_that_start_no_shortcode_cost_little() {
    let time = |text: &str| {
        let clock = Stopwatch::start();
        shortcodes::extract(text);
        clock.elapsed()
    };
    let words = "word ".repeat(90);
    let ordinary = format!("{{{{< note kind=\"a\" >}}}} {words}\n").repeat(5_000);
    let max_time = MAX_RATIO * shortest(|| time(&ordinary));
    let long = "x".repeat(1_200_000);
    for (name, line) in [
        ("braces", "{a}".repeat(250_000)),
        ("attributes", "{#a}".repeat(180_000)),
        ("attributes at ends of lines", "a {#a}\n".repeat(100_000)),
        ("attributes without an end", "{.".repeat(350_000)),
        ("outputs of two paragraphs", "{{\n\n".repeat(150_000) + "}}"),
        ("lists", format!("{{:{}", " a".repeat(4_000)).repeat(80) + "}"),
        ("comments", "{::comment}`{:/comment}`".repeat(30_000)),
        ("comments without a last line", "{::comment}\nx {:/comment} x\n".repeat(25_000)),
        ("comments in code", "`` `{::comment}` ``".repeat(40_000)),
        ("tags", "{% x %} ".repeat(90_000)),
    ] {
        for text in [format!("{line}\n{long}"), format!("{long}{line}")] {
            let time = time(&text);
            assert!(time < max_time, "{name}: {time:?}, at most {max_time:?}");
        }
    }
}

#[test]
fn the_first_heading_is_the_headline() {
    for (text, headline, html) in [
        ("# Using `foo` well\nBody starts.", "Using foo well", "<p>Body starts.</p>"),
        ("Setext title\n===\nBody", "Setext title", "<p>Body</p>"),
        ("Setext {#s}\n======\nBody", "Setext", "<p>Body</p>"),
        ("<!-- c -->\n# Second\nBody", "Second", "<p>Body</p>"),
        ("# Big {#top}\nBody", "Big", "<p>Body</p>"),
        ("# A [link](x) title #\n\nBody", "A link title", "<p>Body</p>"),
        (
            "# _A_ **b** `<em>` & c[^1]\n\nBody\n\n[^1]: Foot",
            "A b <em> & c",
            "<p>Body</p><p id=\"fn-1\"><sup>1</sup> Foot</p>",
        ),
        ("  # Far\nBody", "Far", "<p>Body</p>"),
        ("![a](/b.jpg)\n\n# A\n\nBody", "A", "<figure><img src=\"/b.jpg\" alt=\"a\"></figure><p>Body</p>"),
        (
            "# {{< figure src=\"/b.jpg\" >}} A\n\nBody",
            "A",
            "<figure><img src=\"/b.jpg\" alt=\"\"></figure><p>Body</p>",
        ),
        (
            "1. Install:\n\n   ```sh\n   # first\n   ```\n\n## Usage\n\nBody.",
            "",
            "<ol><li>Install:<pre><code class=\"language-sh\"># first</code></pre></li></ol><h2>Usage</h2>\
             <p>Body.</p>",
        ),
        ("- a\n\n  # Sub\n\n## Two", "", "<ul><li>a<h2>Sub</h2></li></ul><h2>Two</h2>"),
        ("# <a name=\"top\"></a>\n\n## Two\n\nText", "", "<h2 id=\"top\">Two</h2><p>Text</p>"),
        (
            "# ![logo](/l.png)\n\n# Title\n\nText",
            "Title",
            "<figure><img src=\"/l.png\" alt=\"logo\"></figure><p>Text</p>",
        ),
        (
            "# {{< figure src=\"/l.png\" >}}\n\n# Title\n\nText",
            "Title",
            "<figure><img src=\"/l.png\" alt=\"\"></figure><p>Text</p>",
        ),
        (
            "```\na\n```\n====\n\n# Title\n\nText",
            "Title",
            "<pre><code>a</code></pre><p>====</p><h2>Title</h2><p>Text</p>",
        ),
        ("Intro\n\n# A\n\nBody", "A", "<p>Intro</p><h2>A</h2><p>Body</p>"),
        ("## Two\n\nBody", "", "<h2>Two</h2><p>Body</p>"),
        ("## Two {{< ref \"x\" >}}\n\n# One", "One", "<h2>Two {{&lt; ref \"x\" &gt;}}</h2><h2>One</h2>"),
        ("```\n# no\n```\nBody", "", "<pre><code># no</code></pre><p>Body</p>"),
        ("> # no\n\nBody", "", "<blockquote><h2>no</h2></blockquote><p>Body</p>"),
    ] {
        let (found, converted) = converted(text, false);
        assert_eq!((&*converted.headline, &*found.replace("&quot;", "\"")), (headline, html), "{text}");
    }
    let (html, converted) = converted("# Title {#t}\n\nBody", true);
    assert_eq!((&*converted.headline, &*html), ("", "<h2 id=\"t\">Title</h2><p>Body</p>"));
    let article = article("headline", "a.md", "# Using `<em>` & [x](/y)\nBody.");
    assert_eq!(article.0.headline, "Using <em> & x");
    assert!(article.1.iter().any(|note| note.starts_with("link to /y omitted")), "{:?}", article.1);
}

/// Imports a file, and returns its article and the notes.
fn article(name: &str, file: &str, text: &str) -> (v1::Article, Vec<String>) {
    let root = std::env::temp_dir().join(format!("cable-pages-{}-{name}", std::process::id()));
    let _absent = fs::remove_dir_all(&root);
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    let options = Options { now: "2026-06-01T00:00:00Z".parse().unwrap(), ..Options::default() };
    let item = read(&root, &options).unwrap().next().unwrap();
    fs::remove_dir_all(&root).unwrap();
    let ItemOutcome::Converted(mut converted) = item.outcome else { panic!("{item:?}") };
    let Some(Record::Article(article)) = converted.records.remove(0).record else { panic!("no article") };
    (article, converted.notes)
}

#[test]
fn pages_have_their_paths() {
    for (file, fields, path, aliases) in [
        ("a.md", "url: /wiki/Talk:Foo", "/wiki/Talk:Foo", &[][..]),
        ("a.md", "url: /Some Path/x", "/Some%20Path/x", &[]),
        ("a.md", "permalink: /:title/", "/a/", &[]),
        ("My Posts/Hello World.MD", "draft: false", "/my-posts/hello-world/", &[]),
        ("posts/a.md", "aliases: [../up/, old, /x/../y z]", "/posts/a/", &["/up/", "/posts/old", "/y%20z"]),
    ] {
        let (article, notes) = article("paths", file, &format!("---\ntitle: A\n{fields}\n---\nText."));
        assert_eq!(
            (&*article.path, &article.alias_paths[..]),
            (path, &aliases.iter().map(|alias| (*alias).to_owned()).collect::<Vec<_>>()[..]),
            "{fields}"
        );
        assert!(notes.is_empty(), "{fields}: {notes:?}");
    }
}

#[test]
fn a_former_address_with_a_query_is_no_path() {
    for (alias, paths, is_noted) in [
        ("https://old.example/?p=123", &[][..], true),
        ("https://old.example?p=123", &[], true),
        ("https://old.example/a#b", &["/a"], false),
        ("https://old.example", &["/"], false),
    ] {
        let text = format!("---\ntitle: A\naliases: [\"{alias}\"]\n---\nText.");
        let (article, notes) = article("queries", "a.md", &text);
        assert_eq!(article.alias_paths, paths, "{alias}");
        assert_eq!(notes.iter().any(|note| note.starts_with("former path omitted")), is_noted, "{notes:?}");
    }
}
