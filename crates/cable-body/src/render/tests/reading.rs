//! Parsers of other projects, which read the words, marks and links of HTML and Markdown back.

use std::collections::BTreeSet;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use scraper::ElementRef;

use super::*;

/// Adds the text of an element, as a browser shows it.
pub(super) fn html_text(element: ElementRef<'_>, text: &mut String) {
    const INLINE: [&str; 10] = ["a", "strong", "em", "s", "code", "sub", "sup", "b", "small", "span"];
    let part = if INLINE.contains(&element.value().name()) { "" } else { " " };
    text.push_str(part);
    let alternative = ["alt", "aria-label"].iter().find_map(|name| element.attr(name));
    text.push_str(alternative.unwrap_or_default());
    for child in element.children() {
        match ElementRef::wrap(child) {
            Some(element) => html_text(element, text),
            None => text.push_str(child.value().as_text().map_or("", |text| text)),
        }
    }
    text.push_str(part);
}

fn parse(markdown: &str) -> Parser<'_> {
    Parser::new_ext(markdown, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH)
}

fn is_inline(tag: &TagEnd) -> bool {
    matches!(tag, TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image)
}

/// Returns the text of Markdown.
pub(super) fn markdown_text(markdown: &str) -> String {
    let mut text = String::new();
    for event in parse(markdown) {
        match event {
            Event::Text(part) | Event::Code(part) => text.push_str(&part),
            Event::InlineHtml(tag) if &*tag != "<br>" => {}
            Event::Start(tag) if is_inline(&tag.to_end()) => {}
            Event::End(tag) if is_inline(&tag) => {}
            Event::Html(tag) if tag.starts_with("<article") || tag.trim() == "</article>" => text.push(' '),
            Event::Html(html) => panic!("unexpected {html:?}"),
            _ => text.push(' '),
        }
    }
    text
}

/// A character with its marks and link. White space is one blank without either.
pub(super) type Look = (char, BTreeSet<i32>, Option<String>);

fn add(looks: &mut Vec<Look>, text: &str, marks: &BTreeSet<i32>, link: Option<&str>) {
    for c in text.chars() {
        if !c.is_whitespace() {
            looks.push((c, marks.clone(), link.map(str::to_owned)));
        } else if looks.last().is_some_and(|last| last.0 != ' ') {
            looks.push((' ', BTreeSet::new(), None));
        }
    }
}

fn trimmed(mut looks: Vec<Look>) -> Vec<Look> {
    if looks.last().is_some_and(|last| last.0 == ' ') {
        looks.pop();
    }
    looks
}

/// Returns the characters of spans.
pub(super) fn looks_of(spans: &[Span]) -> Vec<Look> {
    let mut looks = Vec::new();
    for span in spans {
        let marks = Marks::of(span).as_slice().iter().map(|&mark| mark as i32).collect();
        let target = link(span).map(|(_, target)| target.replace(' ', "%20"));
        add(&mut looks, &clean(&span.text), &marks, target.as_deref());
    }
    trimmed(looks)
}

/// Returns the characters that Markdown shows.
pub(super) fn looks_of_markdown(markdown: &str) -> Vec<Look> {
    let (mut looks, mut marks, mut link) = (Vec::new(), Vec::new(), None);
    for event in parse(markdown) {
        let set = || marks.iter().copied().collect::<BTreeSet<i32>>();
        match event {
            Event::Text(text) => add(&mut looks, &text, &set(), link.as_deref()),
            Event::Code(text) => {
                let marks = set().into_iter().chain([Mark::Code as i32]).collect();
                add(&mut looks, &text, &marks, link.as_deref());
            }
            Event::Start(Tag::Link { dest_url, .. }) => link = Some(dest_url.to_string()),
            Event::End(TagEnd::Link) => link = None,
            Event::Start(Tag::Strong) => marks.push(Mark::Strong as i32),
            Event::Start(Tag::Emphasis) => marks.push(Mark::Emphasis as i32),
            Event::Start(Tag::Strikethrough) => marks.push(Mark::Strike as i32),
            Event::End(TagEnd::Strong | TagEnd::Emphasis | TagEnd::Strikethrough) => drop(marks.pop()),
            Event::InlineHtml(tag) => match (&*tag, element_mark(&tag)) {
                ("<br>", _) => add(&mut looks, " ", &BTreeSet::new(), None),
                (_, Some(mark)) => marks.push(mark as i32),
                _ => drop(marks.pop()),
            },
            Event::SoftBreak | Event::HardBreak | Event::End(_) => {
                add(&mut looks, " ", &BTreeSet::new(), None)
            }
            _ => {}
        }
    }
    trimmed(looks)
}

fn element_mark(tag: &str) -> Option<Mark> {
    match tag {
        "<strong>" => Some(Mark::Strong),
        "<em>" => Some(Mark::Emphasis),
        "<s>" => Some(Mark::Strike),
        "<sub>" => Some(Mark::Sub),
        "<sup>" => Some(Mark::Sup),
        "<code>" => Some(Mark::Code),
        _ => None,
    }
}
