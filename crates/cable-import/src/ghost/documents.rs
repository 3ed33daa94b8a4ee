//! The texts of Ghost's editors as HTML, for posts without one: Lexical, and Mobiledoc before it. A card without a
//! counterpart is counted, and its words remain.

use std::collections::BTreeMap;

use serde_json::Value;

use super::gates::Audience;

/// The name by which parts that the site does not show are counted.
pub(super) const NOT_ON_SITE: &str = "blocks that the site does not show";

/// The fields of cards without a counterpart that have words, as HTML.
const WORDS: [&str; 14] = [
    "sponsorLabel",
    "heading",
    "header",
    "subheader",
    "title",
    "productTitle",
    "productDescription",
    "text",
    "textValue",
    "description",
    "content",
    "disclaimer",
    "html",
    "caption",
];

/// Text as HTML, and the cards that were not converted, by kind.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Document {
    pub(super) html: String,
    pub(super) counts: BTreeMap<String, u64>,
    /// Whether some of the text is for members only.
    pub(super) has_gates: bool,
}

/// Converts a document of Lexical. `None` if the text is not one.
pub(super) fn lexical(source: &str) -> Option<Document> {
    let document: Value = serde_json::from_str(source).ok()?;
    let root = document.get("root").filter(|root| root.is_object())?;
    let mut out = Document::default();
    out.children(root);
    Some(out)
}

/// Returns plain text as HTML: a paragraph for each group of lines.
pub(super) fn paragraphs(plain: &str) -> String {
    let lines = plain.replace("\r\n", "\n");
    let groups = lines.split("\n\n").map(str::trim).filter(|group| !group.is_empty());
    groups.map(|group| format!("<p>{}</p>", escaped(group).replace('\n', "<br>"))).collect()
}

fn text<'a>(node: &'a Value, key: &str) -> &'a str {
    node.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(node: &'a Value, key: &str) -> &'a [Value] {
    node.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns a text as HTML that shows it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Document {
    fn children(&mut self, node: &Value) {
        list(node, "children").iter().for_each(|child| self.node(child));
    }

    fn element(&mut self, name: &str, node: &Value) {
        self.html += &format!("<{name}>");
        self.children(node);
        self.html += &format!("</{name}>");
    }

    fn node(&mut self, node: &Value) {
        match text(node, "type") {
            "paragraph" => self.element("p", node),
            "heading" | "extended-heading" => {
                let tag = text(node, "tag");
                let is_level = matches!(tag, "h1" | "h2" | "h3" | "h4" | "h5" | "h6");
                self.element(if is_level { tag } else { "h2" }, node);
            }
            "list" => self.list(node),
            "listitem" => self.element("li", node),
            "quote" | "extended-quote" | "aside" => self.element("blockquote", node),
            "link" | "autolink" => {
                self.html += &format!("<a href=\"{}\">", escaped(text(node, "url")));
                self.children(node);
                self.html += "</a>";
            }
            "text" | "extended-text" | "code-highlight" => self.run(node),
            "linebreak" => self.html += "<br>",
            "tab" => self.html += "\t",
            card => self.card(card, node),
        }
    }

    /// Adds a list. A nested list is an item of its own in Lexical, and part of the item before it in HTML.
    fn list(&mut self, node: &Value) {
        const END: &str = "</li>";
        let name = if text(node, "listType") == "number" { "ol" } else { "ul" };
        self.html += &format!("<{name}>");
        for item in list(node, "children") {
            let children = list(item, "children");
            let is_nested =
                !children.is_empty() && children.iter().all(|child| text(child, "type") == "list");
            if is_nested && self.html.ends_with(END) {
                self.html.truncate(self.html.len() - END.len());
                self.children(item);
                self.html += END;
            } else {
                self.node(item);
            }
        }
        self.html += &format!("</{name}>");
    }

    /// Adds a run of text with its marks, a bit for each.
    fn run(&mut self, node: &Value) {
        const MARKS: [(u64, &str); 6] =
            [(1, "strong"), (2, "em"), (4, "s"), (16, "code"), (32, "sub"), (64, "sup")];
        let format = node.get("format").and_then(Value::as_u64).unwrap_or_default();
        let marks = MARKS.iter().filter(|(bit, _)| format & bit != 0);
        marks.clone().for_each(|(_, name)| self.html += &format!("<{name}>"));
        self.html += &escaped(text(node, "text"));
        marks.rev().for_each(|(_, name)| self.html += &format!("</{name}>"));
    }

    fn count(&mut self, kind: &str) {
        *self.counts.entry(kind.to_owned()).or_default() += 1;
    }

    /// Adds a card, unless it is for newsletters only.
    fn card(&mut self, kind: &str, card: &Value) {
        let audience = Audience::of_card(card);
        match kind {
            "email" | "email-cta" => self.count(&format!("card {kind}, for newsletters only")),
            _ if audience == Audience::NotOnSite => self.count(NOT_ON_SITE),
            _ => {
                self.has_gates |= audience == Audience::Members;
                self.shown_card(kind, card);
            }
        }
    }

    /// Adds a card: those of both editors have the same names and fields, apart from a few.
    fn shown_card(&mut self, kind: &str, card: &Value) {
        match kind {
            "image" => self.picture(card),
            "gallery" => {
                self.html += "<figure>";
                list(card, "images").iter().for_each(|image| self.file(image));
                self.html += &format!("<figcaption>{}</figcaption></figure>", text(card, "caption"));
            }
            "html" => self.html += text(card, "html"),
            "markdown" | "card-markdown" => self.markdown(text(card, "markdown")),
            "codeblock" | "code" => {
                let language = escaped(text(card, "language"));
                self.html += &format!(
                    "<pre><code class=\"language-{language}\">{}</code></pre>",
                    escaped(text(card, "code"))
                );
                self.paragraph(text(card, "caption"));
            }
            "horizontalrule" | "hr" => self.html += "<hr>",
            "bookmark" | "embed" => {
                let url = escaped(text(card, "url"));
                let metadata = card.get("metadata").unwrap_or(&Value::Null);
                if kind == "embed" {
                    self.html += &format!("<figure><a href=\"{url}\">{url}</a>");
                } else {
                    let title = match text(metadata, "title") {
                        "" => text(card, "url"),
                        title => title,
                    };
                    self.html += &format!("<figure><a href=\"{url}\">{}</a>", escaped(title));
                    for key in ["description", "author", "publisher"] {
                        self.paragraph(&escaped(text(metadata, key)));
                    }
                }
                self.html += &format!("<figcaption>{}</figcaption></figure>", text(card, "caption"));
            }
            "video" | "audio" => {
                let src = escaped(text(card, "src"));
                let title = escaped(text(card, "title"));
                let poster = match (text(card, "customThumbnailSrc"), text(card, "thumbnailSrc")) {
                    _ if kind == "audio" => String::new(),
                    ("", "") => String::new(),
                    ("", url) | (url, _) => format!(" poster=\"{}\"", escaped(url)),
                };
                self.html +=
                    &format!("<figure><{kind} src=\"{src}\"{poster} aria-label=\"{title}\"></{kind}>");
                self.html += &format!("<figcaption>{}</figcaption></figure>", text(card, "caption"));
            }
            "button" => self.link(text(card, "buttonUrl"), text(card, "buttonText")),
            "file" => {
                let label = match text(card, "fileTitle") {
                    "" => text(card, "fileName"),
                    title => title,
                };
                self.link(text(card, "src"), label);
                self.paragraph(text(card, "fileCaption"));
            }
            "callout" => {
                self.html += &format!("<blockquote><p>{}</p></blockquote>", text(card, "calloutText"))
            }
            "toggle" => {
                self.html += &format!("<h4>{}</h4>{}", text(card, "heading"), text(card, "content"));
            }
            "paywall" => {}
            _ => {
                self.count(&format!("card {}", cable_body::html::head(kind, 64)));
                for key in ["backgroundImageSrc", "productImageSrc", "imageUrl"] {
                    match text(card, key) {
                        "" => {}
                        url => self.html += &format!("<figure><img src=\"{}\"></figure>", escaped(url)),
                    }
                }
                for key in ["beforeImage", "afterImage"] {
                    card.get(key)
                        .filter(|image| image.is_object())
                        .into_iter()
                        .for_each(|image| self.picture(image));
                }
                for key in WORDS {
                    self.paragraph(text(card, key));
                }
                for (url, label) in [("buttonUrl", "buttonText"), ("productUrl", "productButton")] {
                    match (text(card, url), text(card, label)) {
                        ("", words) => self.paragraph(&escaped(words)),
                        (url, "") => self.link(url, url),
                        (url, words) => self.link(url, words),
                    }
                }
                self.children(card);
            }
        }
    }

    /// Adds a paragraph of HTML, unless it is empty.
    fn paragraph(&mut self, html: &str) {
        if !html.is_empty() {
            self.html += &format!("<p>{html}</p>");
        }
    }

    fn link(&mut self, url: &str, label: &str) {
        self.html += &format!("<p><a href=\"{}\">{}</a></p>", escaped(url), escaped(label));
    }

    fn picture(&mut self, image: &Value) {
        self.html += "<figure>";
        self.file(image);
        self.html += &format!("<figcaption>{}</figcaption></figure>", text(image, "caption"));
    }

    /// Adds the file of a picture, with its link.
    fn file(&mut self, image: &Value) {
        let (src, alt) = (escaped(text(image, "src")), escaped(text(image, "alt")));
        let file = format!("<img src=\"{src}\" alt=\"{alt}\">");
        self.html += &match text(image, "href") {
            "" => file,
            href => format!("<a href=\"{}\">{file}</a>", escaped(href)),
        };
    }

    fn markdown(&mut self, source: &str) {
        let converted = cable_body::convert(cable_proto::v1::BodyFormat::Markdown, source);
        match converted {
            Ok(converted) => {
                self.html += &cable_body::render(&converted.body, cable_proto::v1::BodyFormat::Html);
            }
            Err(_) => self.html += &format!("<p>{}</p>", escaped(source)),
        }
    }
}

/// Converts a document of Mobiledoc. `None` if the text is not one.
pub(super) fn mobiledoc(source: &str) -> Option<Document> {
    let document: Value = serde_json::from_str(source).ok()?;
    let sections = document.get("sections")?.as_array()?;
    let mut out = Document::default();
    for section in sections {
        let item = |index: usize| section.get(index).unwrap_or(&Value::Null);
        match item(0).as_u64() {
            Some(1) => {
                let tag = item(1).as_str().filter(|tag| is_block(tag)).unwrap_or("p");
                out.html += &format!("<{tag}>");
                out.markers(&document, item(2));
                out.html += &format!("</{tag}>");
            }
            Some(2) => {
                out.html += &format!("<img src=\"{}\">", escaped(item(1).as_str().unwrap_or_default()))
            }
            Some(3) => {
                let tag = if item(1) == "ol" { "ol" } else { "ul" };
                out.html += &format!("<{tag}>");
                for markers in item(2).as_array().into_iter().flatten() {
                    out.html += "<li>";
                    out.markers(&document, markers);
                    out.html += "</li>";
                }
                out.html += &format!("</{tag}>");
            }
            Some(10) => {
                let index = item(1).as_u64().and_then(|index| usize::try_from(index).ok());
                let card =
                    index.and_then(|index| list(&document, "cards").get(index)).unwrap_or(&Value::Null);
                let kind = card.get(0).and_then(Value::as_str).unwrap_or("unknown");
                out.card(kind, card.get(1).unwrap_or(&Value::Null));
            }
            _ => out.count("section of an unknown type"),
        }
    }
    Some(out)
}

fn is_block(tag: &str) -> bool {
    matches!(tag, "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "blockquote" | "aside")
}

impl Document {
    /// Adds markers: `[kind, opened markups, number of closed markups, text or atom]`.
    fn markers(&mut self, document: &Value, markers: &Value) {
        let mut open: Vec<&str> = Vec::new();
        for marker in markers.as_array().into_iter().flatten() {
            for index in marker.get(1).and_then(Value::as_array).into_iter().flatten() {
                let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
                let markup =
                    index.and_then(|index| list(document, "markups").get(index)).unwrap_or(&Value::Null);
                let name =
                    markup.get(0).and_then(Value::as_str).filter(|name| is_inline(name)).unwrap_or("span");
                let href =
                    markup.get(1).and_then(Value::as_array).filter(|_| name == "a").and_then(|pairs| {
                        let at = pairs.iter().position(|key| key == "href")?;
                        pairs.get(at + 1)?.as_str()
                    });
                self.html += &match href {
                    Some(href) => format!("<a href=\"{}\">", escaped(href)),
                    None => format!("<{name}>"),
                };
                open.push(name);
            }
            let value = marker.get(3).unwrap_or(&Value::Null);
            if marker.get(0).and_then(Value::as_u64) == Some(1) {
                let index = value.as_u64().and_then(|index| usize::try_from(index).ok());
                let atom = index.and_then(|index| list(document, "atoms").get(index)).unwrap_or(&Value::Null);
                match atom.get(0).and_then(Value::as_str) {
                    Some("soft-return") => self.html += "<br>",
                    _ => self.html += &escaped(atom.get(1).and_then(Value::as_str).unwrap_or_default()),
                }
            } else {
                self.html += &escaped(value.as_str().unwrap_or_default());
            }
            let closed = marker.get(2).and_then(Value::as_u64).unwrap_or_default();
            for _ in 0..closed.min(open.len() as u64) {
                let name = open.pop().unwrap_or("span");
                self.html += &format!("</{name}>");
            }
        }
        while let Some(name) = open.pop() {
            self.html += &format!("</{name}>");
        }
    }
}

fn is_inline(name: &str) -> bool {
    matches!(name, "a" | "strong" | "em" | "b" | "i" | "code" | "s" | "sub" | "sup" | "u")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lexical_becomes_html() {
        let source = r#"{"root":{"children":[
            {"type":"heading","tag":"h3","children":[{"type":"text","text":"Nets & lines"}]},
            {"type":"paragraph","children":[{"type":"text","text":"bold","format":3},{"type":"linebreak"},
              {"type":"link","url":"/a?b=\"c","children":[{"type":"text","text":"here"}]}]},
            {"type":"list","listType":"number","children":[{"type":"listitem","children":[{"type":"text","text":"one"}]}]},
            {"type":"codeblock","code":"a < b","language":"c"},
            {"type":"signup","header":"Join us"},
            {"type":"horizontalrule"}]}}"#;
        let document = lexical(source).unwrap();
        assert_eq!(
            document.html,
            "<h3>Nets &amp; lines</h3><p><strong><em>bold</em></strong><br><a href=\"/a?b=&quot;c\">here</a></p>\
             <ol><li>one</li></ol><pre><code class=\"language-c\">a &lt; b</code></pre><p>Join us</p><hr>"
        );
        assert_eq!(document.counts, BTreeMap::from([("card signup".to_owned(), 1)]));
        assert_eq!(lexical("{}"), None);
        assert_eq!(lexical("nonsense"), None);
    }

    #[test]
    fn cards_keep_their_words_links_and_pictures() {
        let source = r#"{"root":{"children":[
            {"type":"image","src":"/a.jpg","alt":"A","caption":"At <b>noon</b>","href":"/big"},
            {"type":"gallery","images":[{"src":"/1.jpg"},{"src":"/2.jpg"}],"caption":"Two"},
            {"type":"codeblock","code":"x","caption":"Listing"},
            {"type":"bookmark","url":"https://b.example","metadata":{"title":"T","description":"D & E"}},
            {"type":"video","src":"/v.mp4","thumbnailSrc":"/t.jpg"},
            {"type":"file","src":"/f.pdf","fileName":"f.pdf","fileCaption":"The plan"},
            {"type":"product","productTitle":"Lamp","productImageSrc":"/l.jpg","productButton":"Buy","productUrl":"/lamp"},
            {"type":"header","header":"H","buttonText":"Go","buttonUrl":"/go"}]}}"#;
        let html = lexical(source).unwrap().html;
        for part in [
            "<a href=\"/big\"><img src=\"/a.jpg\" alt=\"A\"></a><figcaption>At <b>noon</b></figcaption>",
            "<img src=\"/1.jpg\" alt=\"\"><img src=\"/2.jpg\" alt=\"\"><figcaption>Two</figcaption>",
            "<p>Listing</p>",
            "<p>D &amp; E</p>",
            "poster=\"/t.jpg\"",
            "<a href=\"/f.pdf\">f.pdf</a></p><p>The plan</p>",
            "<img src=\"/l.jpg\"></figure><p>Lamp</p><p><a href=\"/lamp\">Buy</a></p>",
            "<p>H</p><p><a href=\"/go\">Go</a></p>",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert_eq!(lexical(r#"{"root":5}"#), None);
        assert_eq!(paragraphs("a < b\nc\r\n\r\nd"), "<p>a &lt; b<br>c</p><p>d</p>");
    }

    #[test]
    fn cards_for_newsletters_are_counted_and_not_shown() {
        let source = r#"{"root":{"children":[
            {"type":"email","html":"<p>Hey</p>"},{"type":"email-cta","html":"<p>Pay</p>","buttonText":"Go"},
            {"type":"html","html":"<p>Mail</p>","visibility":{"showOnWeb":false}},
            {"type":"html","html":"<p>Shown</p>"}]}}"#;
        let document = lexical(source).unwrap();
        assert_eq!(document.html, "<p>Shown</p>");
        assert_eq!(document.counts.values().sum::<u64>(), 3);
        let source = r#"{"cards":[["email",{"html":"<p>Hey</p>"}],["email-cta",{"html":"<p>Pay</p>"}]],
            "sections":[[10,0],[10,1]]}"#;
        let document = mobiledoc(source).unwrap();
        assert_eq!((document.html.as_str(), document.counts.len()), ("", 2));
    }

    #[test]
    fn nested_lists_are_part_of_the_item_before_them() {
        let source = r#"{"root":{"children":[{"type":"list","children":[
            {"type":"listitem","children":[{"type":"text","text":"one"}]},
            {"type":"listitem","children":[{"type":"list","listType":"number","children":[{"type":"listitem","children":[{"type":"text","text":"two"}]}]}]}]},
            {"type":"before-after","beforeImage":{"src":"/b.jpg"},"afterImage":{"src":"/a.jpg"}},
            {"type":"call-to-action","sponsorLabel":"<p>Ad</p>","textValue":"Buy"},
            {"type":"bookmark","url":"/x","metadata":{"title":"T","author":"Ann","publisher":"Lantern"}}]}}"#;
        let html = lexical(source).unwrap().html;
        for part in [
            "<ul><li>one<ol><li>two</li></ol></li></ul>",
            "src=\"/b.jpg\"",
            "src=\"/a.jpg\"",
            "Ad",
            "<p>Ann</p><p>Lantern</p>",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
    }

    #[test]
    fn mobiledoc_becomes_html() {
        let source = r#"{"version":"0.3.1","atoms":[["soft-return","",{}]],
            "cards":[["markdown",{"markdown":"*rain*"}],["poll",{"text":"Who?"}]],
            "markups":[["strong"],["a",["href","/x"]]],
            "sections":[[1,"h2",[[0,[],0,"Title"]]],[1,"p",[[0,[0],0,"a"],[0,[1],2,"b"],[1,[],0,0],[0,[],0,"c<"]]],
              [3,"ul",[[[0,[],0,"item"]]]],[10,0],[10,1],[10,9]]}"#;
        let document = mobiledoc(source).unwrap();
        assert_eq!(
            document.html,
            "<h2>Title</h2><p><strong>a<a href=\"/x\">b</a></strong><br>c&lt;</p><ul><li>item</li></ul>\
             <p><em>rain</em></p><p>Who?</p>"
        );
        assert_eq!(document.counts.values().sum::<u64>(), 2);
        assert_eq!(mobiledoc("[]"), None);
    }
}
