//! The work that the HTML parser would have with a text, determined before it runs.
//!
//! An HTML parser never stops with an error, and its work is not linear: it walks the open elements for each tag, and
//! it reopens unclosed formatting elements in each further paragraph. Here the same parser counts its steps instead of
//! building a tree. It gets the text in pieces and is stopped at the bound. The count is therefore valid for any mix of
//! elements: adoption, tables with content beside their cells, templates, foreign elements.

use std::{borrow::Cow, cell::Cell, rc::Rc};

use html5ever::{
    Attribute, LocalName, ParseOpts, QualName,
    driver::parse_fragment,
    interface::{ElementFlags, NodeOrText, QuirksMode, Tracer, TreeSink},
    local_name, ns,
    tendril::{StrTendril, TendrilSink as _},
};

/// Bounds on the cost of parsing a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The length in bytes. It also bounds each of the steps below.
    pub(crate) bytes: usize,
    /// The number of tags that open an element, at each place where one could be read.
    pub(crate) tags: usize,
    /// The number of attributes of one tag. The parser compares each of them with all others.
    pub(crate) attributes: usize,
    /// The number of open elements and of formatting elements to reopen, in total.
    pub(crate) open: usize,
    /// The total number of steps: see [`CREATE`].
    pub(crate) steps: usize,
}

/// The steps to create an element. One step is one look at an element's name; creating an element takes about as long
/// as 50 of them. Each of its attributes, which are copied on every reopening, takes [`COPY`] steps.
const CREATE: usize = 50;
const COPY: usize = 20;

/// The approximate steps for a tag of a text whose markup was reduced to paragraphs and pictures.
pub(crate) const STEPS_OF_FLAT_TAG: usize = CREATE + 10;

/// The number of bytes that the parser gets at a time. The bounds are checked between pieces, so one piece can exceed
/// them by the work that its bytes cause: about eighty tags.
const PIECE: usize = 256;

/// Returns the steps that the parser takes, or none if the text exceeds a bound.
pub(crate) fn steps(html: &str, bounds: Bounds) -> Option<usize> {
    if html.len() > bounds.bytes || tags(html) > bounds.tags || attributes(html) > bounds.attributes {
        return None;
    }
    let context = QualName::new(None, ns!(html), local_name!("div"));
    let mut parser = parse_fragment(Counter::default(), ParseOpts::default(), context, Vec::new(), false);
    let mut rest = html;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(piece(rest));
        parser.process(StrTendril::from(piece));
        rest = more;
        let builder = &parser.tokenizer.sink;
        let open = Open::default();
        builder.trace_handles(&open);
        if open.0.get() > bounds.open || builder.sink.steps.get() > bounds.steps {
            return None;
        }
    }
    let steps = parser.finish();
    (steps <= bounds.steps).then_some(steps)
}

fn piece(rest: &str) -> usize {
    (PIECE..=rest.len()).find(|&end| rest.is_char_boundary(end)).unwrap_or(rest.len())
}

/// Returns the number of places where a tag that opens an element could start, including those in comments and quotes.
pub fn tags(html: &str) -> usize {
    html.as_bytes().windows(2).filter(|pair| pair[0] == b'<' && pair[1].is_ascii_alphabetic()).count()
}

/// The states of the parser within a tag.
#[derive(Clone, Copy)]
enum Within {
    TagName,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Quoted(u8),
    Unquoted,
    AfterQuoted,
}

/// Returns the maximum number of attributes that a tag can have, wherever one is taken to start. Whether a `<` starts a
/// tag depends on everything before it, so all possible readings are followed in parallel. The time is linear: two
/// readings that reach the same state continue as one.
pub(crate) fn attributes(html: &str) -> usize {
    let mut readings: [Option<usize>; 9] = [None; 9];
    let mut maximum = 0;
    let mut before = [0_u8; 2];
    for &byte in html.as_bytes() {
        let mut next = [None; 9];
        let opens = before[1] == b'<' || before == [b'<', b'/'];
        if opens && byte.is_ascii_alphabetic() {
            next[Within::TagName.index()] = Some(0);
        }
        for (state, count) in Within::ALL.into_iter().zip(readings) {
            let Some(count) = count else { continue };
            let Some((state, starts)) = state.after(byte) else { continue };
            let count = count + usize::from(starts);
            maximum = maximum.max(count);
            let reading = &mut next[state.index()];
            *reading = (*reading).max(Some(count));
        }
        readings = next;
        before = [before[1], byte];
    }
    maximum
}

impl Within {
    const ALL: [Within; 9] = [
        Within::TagName,
        Within::BeforeName,
        Within::Name,
        Within::AfterName,
        Within::BeforeValue,
        Within::Quoted(b'"'),
        Within::Quoted(b'\''),
        Within::Unquoted,
        Within::AfterQuoted,
    ];

    fn index(self) -> usize {
        match self {
            Within::TagName => 0,
            Within::BeforeName => 1,
            Within::Name => 2,
            Within::AfterName => 3,
            Within::BeforeValue => 4,
            Within::Quoted(b'"') => 5,
            Within::Quoted(_) => 6,
            Within::Unquoted => 7,
            Within::AfterQuoted => 8,
        }
    }

    /// Returns the state after a byte, and whether an attribute starts with it; none where the tag ends.
    fn after(self, byte: u8) -> Option<(Within, bool)> {
        let space = byte.is_ascii_whitespace();
        let state = match (self, byte) {
            (Within::Quoted(quote), byte) if quote == byte => Within::AfterQuoted,
            (Within::Quoted(_), _) => self,
            (_, b'>') => return None,
            (Within::BeforeValue, b'"' | b'\'') => Within::Quoted(byte),
            (Within::BeforeValue, _) if space => self,
            (Within::BeforeValue, _) => Within::Unquoted,
            (Within::Unquoted, _) if !space => self,
            (Within::TagName, _) if !space && byte != b'/' => self,
            (Within::Name | Within::AfterName, b'=') => Within::BeforeValue,
            (Within::Name | Within::AfterName, _) if space => Within::AfterName,
            (Within::Name, _) if byte != b'/' => self,
            (_, _) if space || byte == b'/' => Within::BeforeName,
            _ => return Some((Within::Name, true)),
        };
        Some((state, false))
    }
}

/// A counter of the elements that the parser refers to: the open ones, and those to be reopened.
#[derive(Default)]
struct Open(Cell<usize>);

impl Tracer for Open {
    type Handle = Handle;

    fn trace_handle(&self, _node: &Handle) {
        self.0.set(self.0.get() + 1);
    }
}

/// An element with only the data that the parser queries: its name, and whether it holds foreign markup as HTML.
type Handle = Rc<Element>;

struct Element {
    name: QualName,
    holds_html: bool,
}

/// A sink that counts steps and builds no tree.
#[derive(Default)]
struct Counter {
    steps: Cell<usize>,
}

impl Counter {
    fn count(&self, steps: usize) {
        self.steps.set(self.steps.get().saturating_add(steps));
    }

    fn node(&self, name: QualName, holds_html: bool) -> Handle {
        self.count(CREATE);
        Rc::new(Element { name, holds_html })
    }

    fn nameless(&self) -> Handle {
        self.node(QualName::new(None, ns!(), LocalName::from("")), false)
    }
}

impl TreeSink for Counter {
    type Handle = Handle;
    type Output = usize;
    type ElemName<'a> = &'a QualName;

    fn finish(self) -> usize {
        self.steps.get()
    }

    fn parse_error(&self, _: Cow<'static, str>) {
        self.count(1);
    }

    fn get_document(&self) -> Handle {
        self.nameless()
    }

    fn elem_name<'a>(&'a self, target: &'a Handle) -> &'a QualName {
        self.count(1);
        &target.name
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, flags: ElementFlags) -> Handle {
        self.count(COPY * attributes.len());
        self.node(name, flags.mathml_annotation_xml_integration_point)
    }

    fn create_comment(&self, _: StrTendril) -> Handle {
        self.nameless()
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> Handle {
        self.nameless()
    }

    fn append(&self, _: &Handle, _: NodeOrText<Handle>) {
        self.count(1);
    }

    fn append_based_on_parent_node(&self, _: &Handle, _: &Handle, _: NodeOrText<Handle>) {
        self.count(1);
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, _: &Handle) -> Handle {
        self.nameless()
    }

    fn same_node(&self, one: &Handle, other: &Handle) -> bool {
        self.count(1);
        Rc::ptr_eq(one, other)
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, _: &Handle, _: NodeOrText<Handle>) {
        self.count(1);
    }

    fn add_attrs_if_missing(&self, _: &Handle, attributes: Vec<Attribute>) {
        self.count(COPY * attributes.len());
    }

    fn remove_from_parent(&self, _: &Handle) {
        self.count(1);
    }

    fn reparent_children(&self, _: &Handle, _: &Handle) {
        self.count(1);
    }

    fn is_mathml_annotation_xml_integration_point(&self, element: &Handle) -> bool {
        element.holds_html
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds =
        Bounds { bytes: 64 << 10, tags: 2_000, attributes: 50, open: 256, steps: 1_000_000 };

    /// Returns the most expensive texts for their length, with a name for the cause of each.
    fn costly(pieces: usize) -> Vec<(&'static str, String)> {
        let marks = |with: &dyn Fn(usize) -> String| (0..250).map(with).collect::<String>();
        let bold = marks(&|i| format!("<b title={i}>"));
        let mixed =
            marks(&|i| format!("<{} lang={i}>", ["b", "i", "a", "u", "tt", "font", "nobr", "s"][i % 8]));
        vec![
            ("paragraphs", format!("<p>{bold}{}", "<p>x".repeat(pieces))),
            ("a mix of marks", format!("<p>{mixed}{}", "<p>x".repeat(pieces))),
            ("list items", format!("<p>{bold}{}", "<li><p>x".repeat(pieces))),
            ("cells beside a table", format!("<table>{bold}{}", "<tr><p>x".repeat(pieces))),
            ("tables in tables", format!("<p>{bold}{}", "<p><table>x".repeat(pieces))),
            ("options", format!("<p>{bold}{}", "<p><select><option>x</select>".repeat(pieces))),
            ("templates", format!("<p>{bold}{}", "<p>x<template><p>x</template>".repeat(pieces))),
            ("foreign elements", format!("<p>{bold}{}", "<svg><desc><p>x</svg>".repeat(pieces))),
            (
                "annotations",
                format!(
                    "{}<p>{bold}{}",
                    "<math><annotation-xml encoding='text/html'>",
                    "<p>x".repeat(pieces)
                ),
            ),
            ("anchors in anchors", "<a href=x><div>".repeat(pieces)),
            ("depth", "<div>".repeat(pieces) + &"<p>x".repeat(pieces)),
            ("adoption", format!("{bold}{}{}", "<div>".repeat(pieces / 2), "</b>".repeat(pieces))),
            ("many attributes", "<b a b c d e f g h i j k l m n o p q r s t u v w x y z><p>x".repeat(pieces)),
        ]
    }

    #[test]
    fn superlinear_work_is_refused() {
        for (case, html) in costly(1_900) {
            let refused = steps(&html, BOUNDS);
            assert_eq!(refused, None, "{case}: {} bytes", html.len());
        }
    }

    #[test]
    fn steps_and_open_elements_are_bounded_separately() {
        let unbounded = Bounds { bytes: usize::MAX, tags: usize::MAX, open: usize::MAX, ..BOUNDS };
        let html = |marks: usize, pieces: usize| {
            let marks: String = (0..marks).map(|i| format!("<b title={i}>")).collect();
            format!("<p>{marks}{}", "<p>x".repeat(pieces))
        };
        assert_eq!(steps(&html(100, 1_000), unbounded), None);
        assert!(steps(&html(0, 1_000), unbounded).is_some());
        assert_eq!(steps(&html(300, 0), BOUNDS), None);
        assert!(steps(&html(100, 0), BOUNDS).is_some());
    }

    #[test]
    fn ordinary_markup_is_far_below_the_bounds() {
        let cell = "<td><b>1</b> <a href='/x' title='y'>2</a></td>";
        let row = format!("<tr>{}</tr>", cell.repeat(10));
        let table = format!("<table><tbody>{}</tbody></table>", row.repeat(60));
        let steps = steps(&table, BOUNDS).unwrap();
        assert!(steps < BOUNDS.steps / 2, "{steps}");
    }

    #[test]
    fn attributes_are_counted_wherever_a_tag_may_start() {
        for (html, maximum) in [
            ("a b c=d e", 0),
            ("< a b c>", 0),
            ("<p>it's a = 'b c</p>", 0),
            ("<p a b=c d='>' e=\"x y\"f/g>h i", 6),
            ("</p a b>", 2),
            ("<p a=\"<p b c d>\">", 3),
            ("<!-- <p a b> -->", 2),
            ("<p =a>", 1),
            ("<p a = b>", 1),
        ] {
            assert_eq!(attributes(html), maximum, "{html}");
        }
        let many = format!("<p {}>", "x ".repeat(51));
        assert_eq!(steps(&many, BOUNDS), None);
    }

    /// Returns the number of nodes in the tree that a parser without bounds builds from the text.
    fn nodes(html: &str) -> usize {
        scraper::Html::parse_fragment(html).tree.values().count()
    }

    fn markup() -> impl Strategy<Value = String> {
        const NAMES: [&str; 24] = [
            "a", "b", "i", "u", "font", "nobr", "p", "div", "li", "dd", "h2", "table", "tr", "td", "caption",
            "select", "option", "template", "svg", "math", "desc", "button", "pre", "span",
        ];
        let tag = (any::<bool>(), proptest::sample::select(&NAMES[..]), 0..200_u8);
        let tag = tag.prop_map(
            |(opens, name, i)| if opens { format!("<{name} title={i}>x") } else { format!("</{name}>") },
        );
        let block = proptest::collection::vec(tag, 1..12).prop_map(|tags| tags.concat());
        proptest::collection::vec((block, 1..120_usize), 1..6)
            .prop_map(|blocks| blocks.into_iter().map(|(block, times)| block.repeat(times)).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_text_within_the_bounds_makes_a_bounded_tree(html in markup()) {
            let Some(steps) = steps(&html, BOUNDS) else { return Ok(()) };
            let nodes = nodes(&html);
            // Steps count each element, but not text and the root.
            prop_assert!(nodes <= 2 * (steps / CREATE) + html.len() + 3, "{nodes} nodes, {steps} steps");
            prop_assert!(steps / CREATE <= BOUNDS.steps / CREATE);
        }

        #[test]
        fn attributes_are_never_fewer_than_the_parser_finds(html in "[<>/a-c='\"! \n-]{0,60}") {
            let tree = scraper::Html::parse_fragment(&html);
            let found = tree.tree.values().filter_map(|node| Some(node.as_element()?.attrs.len())).max();
            prop_assert!(found.unwrap_or_default() <= attributes(&html));
        }
    }
}
