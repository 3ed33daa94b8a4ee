//! Directories of Markdown as records: the files of `tests/markdown`, and an archive that `CABLE_MARKDOWN_ARCHIVE` names.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use cable_body::render;
use cable_import::{
    Item, ItemOutcome, SkipReason,
    markdown::{self, Options},
    report::Report,
};
use cable_proto::v1::{self, BodyFormat, block::Kind, record::Record};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/markdown")
}

fn options() -> Options {
    Options { now: "2026-06-01T00:00:00Z".parse().unwrap(), ..Options::default() }
}

fn import(root: &Path, options: &Options) -> Vec<Item> {
    let items = markdown::read(root, options).unwrap();
    let total = items.total();
    let items = Vec::from_iter(items);
    assert_eq!(items.len() as u64, total);
    items
}

fn articles(items: &[Item]) -> BTreeMap<String, v1::Article> {
    let converted = items.iter().filter_map(|item| match &item.outcome {
        ItemOutcome::Converted(converted) => Some(converted),
        _ => None,
    });
    let records = converted.flat_map(|converted| &converted.records);
    let articles = records.filter_map(|record| match &record.record {
        Some(Record::Article(article)) => Some((article.name.clone(), article.clone())),
        _ => None,
    });
    articles.collect()
}

fn item<'a>(items: &'a [Item], path: &str) -> &'a Item {
    items.iter().find(|item| item.label.contains(path)).unwrap_or_else(|| panic!("no item {path}"))
}

fn text(article: &v1::Article) -> String {
    render(article.body.as_ref().unwrap(), BodyFormat::PlainText)
}

#[test]
fn a_page_of_hugo_has_its_fields_and_shortcodes() {
    let items = import(&fixture(), &options());
    let article = &articles(&items)["articles/posts.quay"];
    assert_eq!(article.headline, "Quay *reopens* after the storm");
    assert_eq!(article.path, "/posts/quay/");
    assert_eq!(article.alias_paths, ["/old/quay/", "/posts/quay-2026"]);
    assert_eq!(article.summary, "The east quay is open again.");
    assert_eq!(
        (article.section.as_str(), &article.tags[..]),
        ("sections/port", &["tags/eel".to_owned(), "tags/harbour-works".to_owned()][..])
    );
    let credits = &article.byline.as_ref().unwrap().credits;
    let names: Vec<_> = credits.iter().map(|credit| (&*credit.author, &*credit.display_name)).collect();
    assert_eq!(names, [("authors/marta-fenn", "Marta Fenn"), ("authors/jo-reed", "Jo Reed")]);
    assert_eq!(article.publish_time.unwrap().seconds, 1_772_341_200);
    assert_eq!(article.modified_time.unwrap().seconds, 1_772_431_200);
    let lead = article.lead_media.as_ref().unwrap();
    assert_eq!(
        (&*lead.renditions[0].href, &*lead.alt_text),
        ("/posts/quay/quay.jpg", "Two boats at the quay.")
    );
    let blocks = &article.body.as_ref().unwrap().blocks;
    let hrefs: Vec<String> = match &blocks[0].kind {
        Some(Kind::Paragraph(paragraph)) => {
            paragraph.spans.iter().filter_map(|span| Some(span.link.as_ref()?.href.clone())).collect()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(hrefs, ["/plans/quay/", "/news/tide/#table"]);
    let embed = blocks.iter().find_map(|block| match &block.kind {
        Some(Kind::Embed(embed)) => Some(embed),
        _ => None,
    });
    assert_eq!(
        embed.map(|embed| (&*embed.provider, &*embed.url)),
        Some(("youtube", "https://www.youtube.com/watch?v=dQw4w9WgXcQ"))
    );
    let pictures: Vec<&str> = blocks
        .iter()
        .filter_map(|block| match &block.kind {
            Some(Kind::Image(image)) => Some(&*image.media.as_ref()?.renditions[0].href),
            _ => None,
        })
        .collect();
    assert_eq!(pictures, ["/posts/quay/crane.jpg", "/posts/quay/nets.jpg"]);
    let raw: Vec<&str> = blocks
        .iter()
        .filter_map(|block| match &block.kind {
            Some(Kind::RawHtml(raw)) => Some(&*raw.reason),
            _ => None,
        })
        .collect();
    assert_eq!(raw, ["shortcode tide-table", "shortcode notice", "shortcode notice"]);
    let text = text(article);
    for part in [
        "opened again on Sunday {{< badge \"new\" >}}, see the plan and the tide.",
        "{{< tide-table harbour=\"Norwick\" >}}",
        "\nWorks\n",
        "The north stair stays closed.",
        "{{< youtube inside-code >}}",
        "Use {{< ref \"x\" >}} for links. {{< youtube literal >}}",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let ItemOutcome::Converted(converted) = &item(&items, "quay/index.md").outcome else { panic!() };
    assert_eq!(converted.raw_html, 3);
    let counted = |kind: &str| converted.not_imported.get(kind).copied();
    assert_eq!(counted("shortcode notice"), Some(2));
    assert_eq!(counted("shortcode badge"), Some(1));
    assert_eq!(counted("front matter field layout"), Some(1));
    assert_eq!(counted("front matter field title"), None);
}

#[test]
fn a_post_of_jekyll_has_its_path_and_tags() {
    let items = import(&fixture(), &options());
    let article = &articles(&items)["articles/_posts.2026-01-05-eels"];
    assert_eq!(article.path, "/nature/2026/01/05/eels.html");
    assert_eq!(article.alias_paths, ["/eels.html"]);
    assert_eq!(article.tags, ["tags/eel", "tags/river"]);
    assert_eq!(article.publish_time.unwrap().seconds, 1_767_571_200);
    assert_eq!(article.lead_media.as_ref().unwrap().alt_text, "Eels in a weir.");
    let html = render(article.body.as_ref().unwrap(), BodyFormat::Html);
    assert!(html.contains("href=\"/posts/quay/\"") && html.contains("href=\"/\""), "{html}");
    let text = text(article);
    for part in [
        "let weir = \"{{ not an output }}\";",
        "Write {{ page.title }} for the title.",
        "{% include map.html place=\"weir\" %}",
        "2025\t12",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for part in ["lead", "Nobody", "raw", "highlight"] {
        assert!(!text.contains(part), "{part}: {text}");
    }
}

#[test]
fn each_file_has_an_outcome_with_its_reason() {
    let items = import(&fixture(), &options());
    let reason = |path: &str| match &item(&items, path).outcome {
        ItemOutcome::Skipped(reason) => reason.to_string(),
        ItemOutcome::Failed(problem) => problem.clone(),
        ItemOutcome::Converted(_) => "converted".to_owned(),
    };
    assert_eq!(reason("_drafts/ghost-ship.md"), SkipReason::Status("draft".into()).to_string());
    assert_eq!(reason("news/_index.md"), SkipReason::ListPage.to_string());
    assert_eq!(reason("news/expired.md"), SkipReason::Expired.to_string());
    assert_eq!(reason("quay.jpg"), SkipReason::NotMarkdown("jpg".into()).to_string());
    assert_eq!(reason("news/part.html"), SkipReason::PlainHtml.to_string());
    let broken = reason("news/broken.md");
    assert!(broken.contains("field `date`") && broken.contains("2026-03-01T06:00:00Z"), "{broken}");
    let tide = &articles(&items)["articles/news.tide"];
    assert_eq!((&*tide.headline, &*text(tide)), ("Tide tables", "High water at Norwick is at six."));
    let mut report = Report::default();
    let lines = Vec::from_iter(items.iter().map(|item| report.add(item)));
    assert_eq!(lines.len(), 11);
    assert_eq!(report.problems(), 1);
}

#[test]
fn scheduled_pages_and_drafts_are_pending() {
    let options = Options { drafts: true, prefix: "lantern".into(), ..options() };
    let articles = articles(&import(&fixture(), &options));
    let later = &articles["articles/lantern-posts.later"];
    assert_eq!((later.create_time, later.publish_time.map(|time| time.seconds)), (None, Some(1_935_381_600)));
    assert_eq!(later.tags, ["tags/lantern-ferry"]);
    let draft = &articles["articles/lantern-_drafts.ghost-ship"];
    assert!(draft.embargo.as_ref().unwrap().until.is_none());
}

#[test]
fn a_second_run_gives_the_same_items() {
    assert_eq!(import(&fixture(), &options()), import(&fixture(), &options()));
}

#[test]
fn damage_and_links_cost_one_file_each() {
    let root = std::env::temp_dir().join(format!("cable-markdown-{}", std::process::id()));
    let _absent = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("in/b")).unwrap();
    let secret = root.join("secret.md");
    fs::write(&secret, "secret").unwrap();
    let write = |name: &str, content: &[u8]| fs::write(root.join("in").join(name), content).unwrap();
    write("a.md", b"---\ntitle: A\n---\nText.");
    write("b.md", b"---\ntitle: B\n---\nText.");
    write("b/index.md", b"---\ntitle: Other B\n---\nText.");
    write("latin.md", b"caf\xe9");
    write("open.md", b"---\ntitle: A\nText.");
    write("large.md", &vec![b'x'; markdown::MAX_FILE_BYTES as usize + 1]);
    write("hostile.md", "{{<".repeat(300_000).as_bytes());
    write("same.md", b"---\ntitle: Same\nurl: /a/\n---\nText.");
    std::os::unix::fs::symlink(&secret, root.join("in/link.md")).unwrap();
    std::os::unix::fs::symlink(&root, root.join("in/loop")).unwrap();
    let items = import(&root.join("in"), &options());
    fs::remove_dir_all(&root).unwrap();
    let outcome = |path: &str| match &item(&items, path).outcome {
        ItemOutcome::Skipped(reason) => reason.to_string(),
        ItemOutcome::Failed(problem) => problem.clone(),
        ItemOutcome::Converted(converted) => converted.notes.join("; "),
    };
    for (path, expected) in [
        ("latin.md", "not UTF-8"),
        ("open.md", "front matter without an end"),
        ("large.md", "larger than 2 MiB"),
        ("page b.md", "another file has the id b"),
        ("b/index.md", "another file has the id b"),
        ("link.md", "symbolic link"),
        ("loop", "symbolic link"),
        ("same.md", "without its path: /a/ is the path of articles/a"),
    ] {
        assert!(outcome(path).contains(expected), "{path}: {}", outcome(path));
    }
    assert!(!items.iter().any(|item| item.label.contains("secret")));
}

/// Imports one file.
fn import_text(name: &str, text: &str) -> Item {
    let root = std::env::temp_dir().join(format!("cable-markdown-{}-{name}", std::process::id()));
    let _absent = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("a.md"), text).unwrap();
    let mut items = import(&root, &options());
    fs::remove_dir_all(&root).unwrap();
    items.remove(0)
}

#[test]
fn links_within_a_page_lead_to_its_headings() {
    let text = "---\ntitle: A\n---\n[one](#low-water) [two](#own) [three](#para) [four](#none)\n\n## Low water!\n\n\
        ## High water {#own .wide}\n\nText.\n{: #para }\n\n## No link\n\n## Low water\n\n### Twice {#own}\n";
    let item = import_text("anchors", text);
    let article = &articles(std::slice::from_ref(&item))["articles/a"];
    let blocks = &article.body.as_ref().unwrap().blocks;
    let ids: Vec<_> = blocks.iter().map(|block| block.id.as_str()).collect();
    assert_eq!(ids, ["", "low-water", "own", "para", "", "", ""]);
    let Some(Kind::Heading(heading)) = &blocks[2].kind else { panic!("{blocks:#?}") };
    assert_eq!(heading.spans.iter().map(|span| &*span.text).collect::<String>(), "High water");
    let ItemOutcome::Converted(converted) = &item.outcome else { panic!("{item:?}") };
    assert_eq!(converted.notes, ["id `own` omitted: not usable here"]);
}

#[test]
fn what_a_picture_of_a_page_loses_is_in_its_notes() {
    let item = import_text(
        "pictures",
        "---\ntitle: A\nheader: {image: h.jpg, teaser: t.jpg}\n---\nText.\n\n\
         {{< figure src=\"b.jpg\" caption=\"Nets\" attr=\"Jo\" attrlink=\"https://jo.example/\" >}}\n",
    );
    let ItemOutcome::Converted(converted) = &item.outcome else { panic!("{item:?}") };
    assert_eq!(converted.notes, ["field `header.teaser` omitted"]);
    let article = &articles(std::slice::from_ref(&item))["articles/a"];
    let html = render(article.body.as_ref().unwrap(), BodyFormat::Html);
    assert!(html.contains("Nets <a href=\"https://jo.example/\">Jo</a>"), "{html}");
    let ItemOutcome::Converted(several) =
        import_text("several", "---\ntitle: A\nimages: [a.jpg, b.jpg, c.jpg]\n---\nText.").outcome
    else {
        panic!("not converted")
    };
    assert_eq!(several.notes, ["field `images`: 2 pictures after the first omitted"]);
}

#[test]
fn a_divider_is_no_headline() {
    let item = import_text("divider", "***\n\nLow water at six.\n");
    assert_eq!(articles(&[item])["articles/a"].headline, "Low water at six.");
}

/// Returns the words of Markdown that readers of the page see, by rules of their own: no front matter, no scripts and
/// markup of HTML, no shortcodes, no targets of links, no texts for readers who cannot see a picture, no marks of lists,
/// footnotes and code.
fn words_of_source(source: &str) -> Vec<String> {
    let mut lines = source.lines();
    let mut body = String::new();
    if lines.next().is_some_and(|line| line.trim() == "---") {
        lines.by_ref().find(|line| line.trim() == "---");
    }
    for line in lines {
        let trimmed = line.trim_start().trim_start_matches("> ");
        let is_definition = trimmed.starts_with('[') && !trimmed.starts_with("[^") && trimmed.contains("]: ");
        let is_attribute = trimmed.starts_with("{:") && trimmed.trim_end().ends_with('}');
        if is_definition || is_attribute || trimmed.starts_with("```") {
            continue;
        }
        let digits = trimmed.trim_start_matches(|c: char| c.is_ascii_digit());
        body += if digits.len() < trimmed.len() && digits.starts_with(". ") { digits } else { line };
        body += "\n";
    }
    let removed = [
        ("{% comment", "{% endcomment %}"),
        ("<!--", "-->"),
        ("<script", "</script>"),
        ("<style", "</style>"),
        ("{%", "%}"),
        ("{{", "}}"),
        ("{:", "}"),
        ("][", "]"),
        ("![", "]"),
        ("[^", "]"),
        ("](", ")"),
    ];
    for (open, close) in removed {
        let mut out = String::new();
        let mut rest = body.as_str();
        while let Some((before, after)) = rest.split_once(open) {
            // Words on both sides stay apart.
            out = out + before + if open == "{:" { "" } else { " " };
            rest = balanced(after, close).map_or(after, |end| &after[end..]);
            if open == "![" {
                // The target of the picture follows.
                out += "](";
                rest = rest.strip_prefix('(').unwrap_or(rest);
            }
        }
        body = out + rest;
    }
    let mut out = String::new();
    let mut rest = body.as_str();
    while let Some(at) = rest.find('<') {
        out += &rest[..at];
        let is_tag = rest[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
        let is_link = rest[at + 1..].starts_with("http");
        rest = match rest[at..].find('>').filter(|_| is_tag && !is_link) {
            Some(end) => &rest[at + end + 1..],
            None => &rest[at + 1..],
        };
    }
    words(&without_references(&(out + rest)))
}

/// Returns a text with a space for each reference of HTML to a character, such as `&mdash;` and `&#8212;`.
fn without_references(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        let end = after
            .find(';')
            .filter(|end| *end < 10 && after[..*end].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'#'));
        out = out + before + " ";
        rest = end.map_or(after, |end| &after[end + 1..]);
    }
    out + rest
}

/// Returns the end of a closing delimiter. Brackets within are balanced.
fn balanced(text: &str, close: &str) -> Option<usize> {
    if close != ")" {
        return text.find(close).map(|at| at + close.len());
    }
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return Some(at + 1),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Returns the runs of letters and digits. Marks of emphasis and escapes within a word are no part of it.
fn words(text: &str) -> Vec<String> {
    let text = text.replace(['*', '_', '~', '`', '\\'], "");
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Returns the numbers of words of a source and of those that its article lacks, and the first of the latter.
fn missing(source: &str, article: &v1::Article) -> (usize, Vec<String>) {
    let mut found: HashMap<String, usize> = HashMap::new();
    for word in words(&text(article)).into_iter().chain(words(&article.headline)) {
        // The mark of a footnote directly follows its word.
        let without_mark = word.trim_end_matches(|c: char| c.is_numeric());
        if without_mark != word {
            *found.entry(without_mark.to_owned()).or_default() += 1;
        }
        *found.entry(word).or_default() += 1;
    }
    let wanted = words_of_source(source);
    let missing = wanted.iter().filter(|word| match found.get_mut(*word) {
        Some(count @ 1..) => {
            *count -= 1;
            false
        }
        _ => true,
    });
    let missing = missing.cloned().collect();
    (wanted.len(), missing)
}

/// Checks that at least 99.5 % of the words of each file are in its article. Returns the numbers of articles, words and
/// missing words.
fn check_words(root: &Path, items: &[Item]) -> (usize, usize, usize) {
    let articles = articles(items);
    let mut sums = (0, 0, 0);
    let mut failures = Vec::new();
    for article in articles.values() {
        let file = &article.alt_ids[0].value;
        let source = fs::read_to_string(root.join(file)).unwrap();
        let (count, missing) = missing(&source, article);
        sums = (sums.0 + 1, sums.1 + count, sums.2 + missing.len());
        if missing.len() * 1_000 > count * 5 {
            failures.push(format!(
                "{file}: {} of {count}: {:?}",
                missing.len(),
                &missing[..missing.len().min(20)]
            ));
        }
    }
    assert!(failures.is_empty(), "{} files lack words:\n{}", failures.len(), failures.join("\n"));
    sums
}

#[test]
fn no_article_lacks_words_of_its_file() {
    let root = fixture().join("_posts");
    let (articles, words, missing) = check_words(&root, &import(&root, &options()));
    assert_eq!((articles, missing), (1, 0));
    assert!(words > 20);
}

#[test]
fn an_archive_keeps_its_words() {
    let Some(root) = std::env::var_os("CABLE_MARKDOWN_ARCHIVE").map(PathBuf::from) else { return };
    let options = Options {
        now: "2026-06-01T00:00:00Z".parse().unwrap(),
        permalink: Some("/:year/:month/:day/:slug/".into()),
        ..Options::default()
    };
    let items = import(&root, &options);
    let mut report = Report::default();
    items.iter().for_each(|item| drop(report.add(item)));
    eprintln!("{report}");
    assert_eq!(report.problems(), 0, "{report}");
    let (articles, words, missing) = check_words(&root, &items);
    eprintln!(
        "{articles} articles, {words} words, {missing} missing: {:.3} %",
        100.0 - 100.0 * missing as f64 / words as f64
    );
    assert!(articles > 0);
}
