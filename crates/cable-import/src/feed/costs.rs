//! The processor time that the import of the worst documents of 1 MiB takes.

#![allow(clippy::print_stderr, reason = "the times, to compare them")]

use std::time::Duration;

use cable_body::testing::{Stopwatch, ordinary_html, shortest};

use super::*;
use crate::report::Report;

/// The size of a document: 1 MiB, or less without optimisation, to limit the time of the test.
const BYTES: usize = (1 << 20) / if cfg!(debug_assertions) { 8 } else { 1 };

/// The maximum time of a document, relative to that of an ordinary feed of the same size, which takes some 160 ms per
/// MiB with optimisation. The worst that is known takes ten times as long, and 24 times without optimisation. The
/// import of a feed is work of the caller's machine, not of the node.
const MAX_RATIO: u32 = if cfg!(debug_assertions) { 48 } else { 20 };

/// Imports each document, and returns those that took too long.
fn slow(documents: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let ordinary = ordinary();
    let max_time = MAX_RATIO * shortest(|| import("an ordinary feed", ordinary.clone()));
    let mut slow = Vec::new();
    for (name, document) in documents {
        let time = import(&name, document);
        if time > max_time {
            slow.push(format!("{time:?} {name}, of at most {max_time:?}"));
        }
    }
    slow
}

/// Imports a document, and returns the time.
fn import(name: &str, document: String) -> Duration {
    let address = Some("https://lantern.example/news/feed".parse().unwrap());
    let page = Page { bytes: document.into_bytes(), address, charset: None };
    let clock = Stopwatch::start();
    let mut feed = Feed::new(Options::default());
    let read = feed.add(page).is_ok();
    let (total, mut report) = (feed.total(), Report::default());
    let lines = feed.items().filter(|item| !report.add(item).is_empty()).count();
    let time = clock.elapsed();
    assert_eq!(lines as u64, total, "{name}");
    let failed = report.problems();
    eprintln!("{time:>10.1?} {total:>6} items, {failed:>6} failed, whole: {read:<5} {name}");
    time
}

/// Returns a feed of articles of 4 KB.
fn ordinary() -> String {
    let text = escaped(&ordinary_html(4_000));
    let item = |n| {
        format!(
            "<item><guid>{n}</guid><link>https://lantern.example/{n}</link><title>Ice {n}</title>\
             <pubDate>Sat, 02 May 2026 08:00:00 GMT</pubDate><category>ice</category>\
             <description>{text}</description></item>"
        )
    };
    filled(RSS, item, RSS_END)
}

/// Returns a document with as many parts as fit. `part` returns the one of a number.
fn filled(start: &str, part: impl Fn(usize) -> String, end: &str) -> String {
    let mut document = start.to_owned();
    for number in 0.. {
        let part = part(number);
        if document.len() + part.len() + end.len() > BYTES {
            break;
        }
        document += &part;
    }
    document + end
}

/// The texts whose conversion costs most.
const HTML: [&str; 27] = [
    "<p>",
    "<b>a</b>",
    "<p>a",
    "<div>",
    "<ul><li>a",
    "<table><tr><td>",
    "<tr><td>a",
    "<a href=x>a</a>",
    "<a href='?'>",
    "<p id=a>x",
    "<video src=a.mp4>",
    "<img src=a>",
    "<img srcset='a 1w, b 2w'>",
    "<br>",
    "&amp;",
    "a ",
    "<blockquote>a</blockquote>",
    "<b><p>",
    "<figure><img src=a>",
    "<svg>",
    "<!--",
    "<li>a",
    "</p>",
    "<font size=1>",
    "<x>",
    "<",
    "\u{e9}",
];

const RSS: &str = "<rss xmlns:content='http://purl.org/rss/1.0/modules/content/' \
                   xmlns:media='http://search.yahoo.com/mrss/' xmlns:dc='http://purl.org/dc/elements/1.1/'><channel>";
const RSS_END: &str = "</channel></rss>";
const ATOM: &str = "<feed xmlns='http://www.w3.org/2005/Atom'>";
const JSON: &str = "{\"version\":\"https://jsonfeed.org/version/1.1\",\"items\":[{\"id\":\"a\"}";

/// Returns documents with one text of about 1 MiB, and with many short ones.
fn with_texts(start: &str, item: impl Fn(usize, &str) -> String, end: &str) -> Vec<(String, String)> {
    let mut documents = Vec::new();
    for part in HTML {
        let room = BYTES - start.len() - end.len() - 200;
        // Escaped, a sign takes up to five bytes.
        let of_size = |bytes: usize| {
            let per_part = item(0, part).len() - item(0, "").len();
            part.repeat(bytes / per_part)
        };
        let one = format!("{start}{}{end}", item(0, &of_size(room)));
        documents.push((format!("one text of {part:?}"), one));
        let short = of_size(900);
        documents.push((format!("texts of {part:?}"), filled(start, |n| item(n, &short), end)));
    }
    documents
}

fn escaped(text: &str) -> String {
    super::xml::escaped(text)
}

#[test]
fn the_worst_rss_takes_a_bounded_time() {
    let item = |n: usize, text: &str| {
        format!("<item><guid>{n}</guid><content:encoded><![CDATA[{text}]]></content:encoded></item>")
    };
    let summary = |n: usize, text: &str| {
        format!("<item><guid>{n}</guid><description>{}</description></item>", escaped(text))
    };
    let mut documents = with_texts(RSS, item, RSS_END);
    documents
        .extend(with_texts(RSS, summary, RSS_END).into_iter().map(|(name, text)| (name + ", summary", text)));
    let title = |n: usize, text: &str| {
        let text = escaped(text);
        format!(
            "<item><guid>{n}</guid><title>{text}</title><description>{text}</description><content:encoded>a</content:encoded></item>"
        )
    };
    documents
        .extend(with_texts(RSS, title, RSS_END).into_iter().map(|(name, text)| (name + ", title", text)));
    let one_item = format!("{RSS}<item><guid>a</guid>");
    let one_end = format!("</item>{RSS_END}");
    let in_item: [(&str, &dyn Fn(usize) -> String); 19] = [
        ("people of one field", &|_| "<author>a@x (B), a@x (B), a@x (B)</author>".to_owned()),
        ("names with signs", &|n| format!("<category>&lt;a &amp;amp; {n}</category>")),
        ("sizes of one picture", &|n| format!("<media:content url='/a.jpg?{n}' width='{n}'/>")),
        ("captions", &|n| format!("<media:content url='/{n}.jpg'/><media:description>a</media:description>")),
        ("authors", &|n| format!("<author>a{n}</author>")),
        ("categories", &|n| format!("<category>a{n}</category>")),
        ("keywords", &|n| format!("<media:keywords>a{n},b{n},c,d,e,f,g</media:keywords>")),
        ("enclosures", &|n| format!("<enclosure url='/{n}.mp3'/>")),
        ("papers", &|n| format!("<enclosure url='/{n}.pdf'/>")),
        ("groups", &|n| format!("<media:group><media:content url='/{n}.mp4'/></media:group>")),
        ("thumbnails", &|n| format!("<media:thumbnail url='/{n}'/>")),
        ("pictures", &|n| format!("<media:content url='/{n}.jpg' width='9' height='9'/>")),
        ("unknown elements", &|n| format!("<x{n}/>")),
        ("one unknown element", &|_| "<x/>".to_owned()),
        ("nesting", &|_| "<x>".to_owned()),
        ("ends", &|_| "</x>".to_owned()),
        ("references", &|_| "&lt;".to_owned()),
        ("unknown references", &|_| "&a;".to_owned()),
        ("attributes", &|n| format!("<x a{n}='' b='' c='' d='' e='' f='' g='' h=''/>")),
    ];
    for (name, part) in in_item {
        documents.push((format!("{name} in one item"), filled(&one_item, part, &one_end)));
    }
    let files = filled(
        &format!("{one_item}<media:group>"),
        |n| format!("<media:content url='/{n}.mp4'/>"),
        &format!("</media:group>{one_end}"),
    );
    documents.push(("files of one group".to_owned(), files));
    let items: [(&str, &dyn Fn(usize) -> String); 15] = [
        ("empty items", &|_| "<item/>".to_owned()),
        ("items", &|n| format!("<item><guid>{n}</guid></item>")),
        ("equal items", &|_| "<item><guid>a</guid></item>".to_owned()),
        ("versions", &|n| format!("<item><guid>a</guid><title>{n}</title></item>")),
        ("links", &|n| format!("<item><link>/{n}</link></item>")),
        ("equal paths", &|n| format!("<item><guid>{n}</guid><link>https://lantern.example/a</link></item>")),
        ("tags", &|n| format!("<item><guid>{n}</guid><category>{n}</category><author>{n}</author></item>")),
        ("damaged items", &|_| "<item><br></item>".to_owned()),
        ("items that are open", &|_| "<item>".to_owned()),
        ("items without end", &|n| format!("<item><guid>{n}</guid><![CDATA[")),
        ("attributes that are open", &|_| "<item><a b='".to_owned()),
        ("comments that are open", &|_| "<item><!--".to_owned()),
        ("namespaces", &|_| "<item xmlns:a='a' xmlns:b='b'><b:x/></item>".to_owned()),
        ("bases", &|n| format!("<item xml:base='{n}/'><link>b</link></item>")),
        ("times", &|n| {
            format!("<item><guid>{n}</guid><pubDate>Sat, 02 May 2026 08:00:00 EST</pubDate></item>")
        }),
    ];
    for (name, part) in items {
        documents.push((name.to_owned(), filled(RSS, part, RSS_END)));
    }
    documents.push((
        "one author".to_owned(),
        filled(&format!("{one_item}<author>"), |_| "a@x (&lt;a,".to_owned(), &format!("</author>{one_end}")),
    ));
    documents.push(("nested bases".to_owned(), filled("<feed>", |_| "<a xml:base='a/'>".to_owned(), "")));
    documents.push(("one attribute".to_owned(), filled("<rss a='", |_| "&amp;".to_owned(), "'/>")));
    documents.push((
        "a document type".to_owned(),
        filled("<!DOCTYPE r [", |_| "<!ENTITY a '&b;'>".to_owned(), "]>"),
    ));
    documents.push(("comments".to_owned(), filled(RSS, |_| "<!---->".to_owned(), RSS_END)));
    documents.push((
        "a long next page".to_owned(),
        filled(ATOM, |_| "<link rel='next' href='a'/>".to_owned(), "</feed>"),
    ));
    let slow = slow(documents);
    assert!(slow.is_empty(), "{slow:#?}");
}

#[test]
fn the_worst_atom_takes_a_bounded_time() {
    let html = |n: usize, text: &str| {
        format!("<entry><id>{n}</id><content type='html'>{}</content></entry>", escaped(text))
    };
    let mut documents = with_texts(ATOM, html, "</feed>");
    let entry = format!("{ATOM}<entry><id>a</id>");
    let entry_end = "</entry></feed>";
    let xhtml = format!("{entry}<content type='xhtml'><div xmlns='http://www.w3.org/1999/xhtml'>");
    let xhtml_end = format!("</div></content>{entry_end}");
    for part in [
        "<p/>",
        "<b>a</b>",
        "<a href='b'>c</a>",
        "<table><tr><td/></tr></table>",
        "<img src='a'/>",
        "&amp;",
        "<!---->",
    ] {
        documents.push((format!("XHTML of {part:?}"), filled(&xhtml, |_| part.to_owned(), &xhtml_end)));
    }
    let in_entry: [(&str, &dyn Fn(usize) -> String); 6] = [
        ("authors", &|n| format!("<author><name>a{n}</name></author>")),
        ("categories", &|n| format!("<category term='a{n}'/>")),
        ("links", &|n| format!("<link href='{n}'/>")),
        ("relations", &|n| format!("<link rel='{n}' href='a'/>")),
        ("enclosures", &|n| format!("<link rel='enclosure' href='{n}.mp4' title='a'/>")),
        ("contents", &|_| "<content type='a/b'/>".to_owned()),
    ];
    for (name, part) in in_entry {
        documents.push((format!("{name} in one entry"), filled(&entry, part, entry_end)));
    }
    documents.push((
        "authors of the feed".to_owned(),
        filled(ATOM, |n| format!("<author><name>a{n}</name></author>"), "</feed>"),
    ));
    // Each entry gets these from its feed.
    for (name, of_feed) in [
        ("authors", (0..100).map(|n| format!("<author><name>a{n}</name></author>")).collect()),
        ("a long author", format!("<author><name>{}</name></author>", "a ".repeat(BYTES / 8))),
        ("long rights", format!("<rights>{}</rights>", "a ".repeat(BYTES / 8))),
        ("a long title", format!("<title>{}</title>", "a ".repeat(BYTES / 8))),
    ] {
        let start = format!("{ATOM}{of_feed}");
        let entries = filled(&start, |n| format!("<entry><id>{n}</id></entry>"), "</feed>");
        documents.push((format!("entries of a feed with {name}"), entries));
    }
    let long = format!(
        "xml:base='https://lantern.example/{}/' xml:lang='{}'",
        "a".repeat(1_900),
        "b".repeat(BYTES / 8)
    );
    let start = ATOM.replace("<feed", &format!("<feed {long}"));
    for (name, entry) in [
        ("no links", "<entry/>"),
        ("links", "<entry><link href='a'/></entry>"),
        ("files", "<entry><id>%</id><link rel='enclosure' href='a'/></entry>"),
        ("pictures", "<entry><id>%</id><link rel='enclosure' href='a.jpg'/></entry>"),
        (
            "links in texts",
            "<entry><id>%</id><content type='xhtml'><a href='a'/><a href='b'/><a href='c'/></content></entry>",
        ),
    ] {
        let part = |n: usize| entry.replace('%', &n.to_string());
        documents.push((format!("a long base, and {name}"), filled(&start, part, "</feed>")));
    }
    let slow = slow(documents);
    assert!(slow.is_empty(), "{slow:#?}");
}

#[test]
fn the_worst_json_takes_a_bounded_time() {
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let html = |n: usize, text: &str| format!(",{{\"id\":{n},\"content_html\":{}}}", quoted(text));
    let plain = |n: usize, text: &str| {
        format!(",{{\"id\":{n},\"title\":{0},\"summary\":{0},\"content_text\":{0}}}", quoted(text))
    };
    let mut documents = with_texts(JSON, html, "]}");
    documents.extend(with_texts(JSON, plain, "]}").into_iter().map(|(name, text)| (name + ", plain", text)));
    let items: [(&str, &dyn Fn(usize) -> String); 8] = [
        ("numbers", &|_| ",1".to_owned()),
        ("empty items", &|_| ",{}".to_owned()),
        ("lists", &|_| ",[]".to_owned()),
        ("items", &|n| format!(",{{\"id\":{n}}}")),
        ("equal items", &|_| ",{\"id\":1}".to_owned()),
        ("unknown members", &|n| format!(",{{\"id\":{n},\"_{n}\":1}}")),
        ("escapes", &|_| ",\"\\u00e9\\u00e9\"".to_owned()),
        ("nesting", &|_| ",[".to_owned()),
    ];
    for (name, part) in items {
        documents.push((name.to_owned(), filled(JSON, part, "]}")));
    }
    // The last word is the name of the list.
    let in_item: [(&str, &dyn Fn(usize) -> String); 5] = [
        ("authors", &|n| format!(",{{\"name\":\"a{n}\"}}")),
        ("tags", &|n| format!(",\"a{n}\"")),
        ("attachments", &|n| format!(",{{\"url\":\"/{n}.mp3\"}}")),
        ("titled attachments", &|n| format!(",{{\"url\":\"/{n}.mp3\",\"title\":\"{n}\"}}")),
        ("encodings as attachments", &|n| format!(",{{\"url\":\"/{n}.mp3\",\"title\":\"a\"}}")),
    ];
    for (name, part) in in_item {
        let key = name.rsplit(' ').next().unwrap();
        let start = format!("{JSON},{{\"id\":\"b\",\"{key}\":[0");
        documents.push((format!("{name} in one item"), filled(&start, part, "]}]}")));
    }
    documents
        .push(("damage in the last item".to_owned(), filled(JSON, |n| format!(",{{\"id\":{n}}}"), ",{]}")));
    let authors: Vec<String> = (0..100).map(|n| format!("{{\"name\":\"a{n}\"}}")).collect();
    let start = JSON.replace("\"items\"", &format!("\"authors\":[{}],\"items\"", authors.join(",")));
    documents.push((
        "items with the authors of the feed".to_owned(),
        filled(&start, |n| format!(",{{\"id\":{n}}}"), "]}"),
    ));
    let slow = slow(documents);
    assert!(slow.is_empty(), "{slow:#?}");
}
