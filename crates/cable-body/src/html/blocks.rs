//! The walk through the parsed tree: elements become blocks, and the text between them becomes paragraphs.

use std::collections::BTreeSet;

use scraper::{ElementRef, Html, Node};

use super::{
    Attachments, Dialect, block,
    brackets::Shortcodes,
    collapse,
    editor::Opening,
    figures, generated, head,
    ids::{self, Ids},
    line, lists,
    markup::{self, NodeRef},
    notes::{Notes, quoted},
    players, posts,
    runs::{self, Inline, Style},
    source, styles, tables, twins, urls,
};
use crate::sanitise::{self, sanitise};
use cable_proto::limit;
use cable_proto::v1::{self, Block, Mark, Span, block::Kind};

/// The maximum depth of recursion. No tree is that deep, but HTML within `noscript` is parsed into another tree.
const MAX_LEVEL: usize = 400;

/// The maximum number of bytes that are parsed or sanitised again for one text: elements that remain HTML, and the
/// content of `noscript`. Such elements within each other are processed once per level.
const MAX_REPARSED_BYTES: usize = 16 << 20;

/// The same for plain HTML, which is converted while a caller waits.
const MAX_REPARSED_BYTES_OF_PLAIN: usize = 1 << 20;

/// The number of bytes for which an element counts in addition to its own: each needs several parsers.
const REPARSED_ELEMENT_BYTES: usize = 1 << 10;

/// The marks with which a quotation begins.
const QUOTATION_MARKS: &str =
    "\"\u{ab}\u{bb}\u{201c}\u{201d}\u{201e}\u{2018}\u{201a}\u{2039}\u{203a}\u{300c}";

/// The text of a checkbox, such as that of a task list.
pub(crate) const CHECKED: &str = "\u{2611} ";
pub(crate) const UNCHECKED: &str = "\u{2610} ";

/// A walker that converts one text.
pub(super) struct Walker<'a> {
    pub(super) attachments: &'a dyn Attachments,
    dialect: Dialect,
    pub(super) raw_html: usize,
    pub(super) dropped: usize,
    pub(super) notes: Notes,
    /// The names of the blocks and shortcodes whose content only subscribers see.
    pub(super) restricted: BTreeSet<&'static str>,
    pub(super) ids: Ids,
    /// The properties of the live post around the current node.
    pub(super) post: Option<v1::LivePost>,
    /// The number of open blocks of the block editor. Outside of them the text is classic.
    editor_blocks: usize,
    /// The language of the open code block.
    language: String,
    /// The open block of VideoPress: the id of the video, and the number of blocks before it.
    video: Option<(String, usize)>,
    /// The number of bytes that were parsed or sanitised again.
    reparsed_bytes: usize,
    /// The size in bytes of the elements that remain HTML, and the parser steps that they cost.
    raw_bytes: usize,
    raw_steps: usize,
    pub(super) shortcodes: Shortcodes,
}

/// The context of a node in the walk.
#[derive(Debug, Clone, Default)]
pub(super) struct Context {
    pub(super) style: Style,
    /// The depth of the blocks created here, minus one.
    pub(super) depth: usize,
    level: usize,
    /// Whether the node is in preformatted text in which marks count.
    verse: bool,
    /// Whether the node is in a heading or a caption, where only spans are wanted.
    spans_only: bool,
    /// The number of quotations in running text around the node.
    quotations: usize,
    /// Whether no line of text becomes a block of its own: in headings, captions and cells.
    plain_lines: bool,
}

/// The blocks so far, and the running text that is not yet in a block.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) blocks: Vec<Block>,
    run: Vec<Inline>,
}

impl Context {
    fn marked(&self, mark: Mark) -> Self {
        let mut context = self.clone();
        if !context.style.has(mark) {
            context.style.marks.push(mark.into());
        }
        context
    }

    /// Returns the context with the marks that the style of an element gives or takes away.
    fn styled(mut self, element: ElementRef<'_>) -> Self {
        styles::apply(element, &mut self.style);
        self
    }

    pub(super) fn linked(&self, element: ElementRef<'_>) -> Self {
        let mut context = self.clone();
        if let Some(href) = element.attr("href").and_then(urls::link) {
            let title = line(&element.attr("title").map(collapse).unwrap_or_default());
            context.style.link = Some(v1::Link { href, title, article: String::new() });
        }
        context
    }

    pub(super) fn inner(&self) -> Self {
        Context { depth: self.depth + 1, ..self.clone() }
    }

    pub(super) fn in_cell(&self) -> Self {
        Context { plain_lines: true, ..self.inner() }
    }
}

impl<'a> Walker<'a> {
    pub(super) fn new(attachments: &'a dyn Attachments, dialect: Dialect) -> Self {
        Walker {
            attachments,
            dialect,
            raw_html: 0,
            dropped: 0,
            notes: Notes::default(),
            restricted: BTreeSet::new(),
            ids: Ids::default(),
            post: None,
            editor_blocks: 0,
            language: String::new(),
            video: None,
            reparsed_bytes: 0,
            raw_bytes: 0,
            raw_steps: 0,
            shortcodes: Shortcodes::default(),
        }
    }

    /// Returns the blocks of a parsed text.
    pub(super) fn fragment(&mut self, tree: &Html) -> Vec<Block> {
        let blocks = self.flow_of(tree.tree.root(), &Context::default());
        self.ids.finish(&mut self.notes);
        self.shortcodes.report(&mut self.notes);
        blocks
    }

    /// Returns the blocks below a node.
    pub(super) fn flow_of(&mut self, node: NodeRef<'_>, context: &Context) -> Vec<Block> {
        let mut flow = Flow::default();
        self.children(node, context, &mut flow);
        self.flush(&mut flow, context);
        flow.blocks
    }

    /// Returns the spans below a node, and the blocks there that cannot become spans.
    pub(super) fn spans_of(&mut self, node: NodeRef<'_>, context: &Context) -> (Vec<Span>, Vec<Block>) {
        self.spans_of_all(node.children(), context)
    }

    /// Returns the same as [`Self::spans_of`], of several nodes.
    pub(super) fn spans_of_all<'n>(
        &mut self,
        nodes: impl Iterator<Item = NodeRef<'n>>,
        context: &Context,
    ) -> (Vec<Span>, Vec<Block>) {
        let context = Context { spans_only: true, plain_lines: true, ..context.clone() };
        let mut flow = Flow::default();
        nodes.for_each(|node| self.node(node, &context, &mut flow));
        self.flush(&mut flow, &context);
        runs::join(flow.blocks)
    }

    /// Reports a part of the source of which no markup remains.
    pub(super) fn drop_markup(&mut self, line: impl FnOnce() -> String) {
        self.dropped += 1;
        self.notes.add(line);
    }

    /// Records that a part is for subscribers only, and reports the first part of each name.
    pub(super) fn restrict(&mut self, name: &'static str, line: impl FnOnce() -> String) {
        if self.restricted.insert(name) {
            self.notes.add(line);
        }
    }

    pub(super) fn children(&mut self, node: NodeRef<'_>, context: &Context, flow: &mut Flow) {
        for child in node.children() {
            self.node(child, context, flow);
        }
    }

    pub(super) fn node(&mut self, node: NodeRef<'_>, context: &Context, flow: &mut Flow) {
        match node.value() {
            Node::Text(text) if context.verse => runs::push_verse(&mut flow.run, text, &context.style),
            Node::Text(text) => runs::push_text(&mut flow.run, text, &context.style, self.is_classic()),
            Node::Comment(comment) => self.comment(comment.trim(), context, flow),
            _ => {
                if let Some(element) = ElementRef::wrap(node) {
                    self.element(element, context, flow);
                } else {
                    self.children(node, context, flow);
                }
            }
        }
    }

    fn is_classic(&self) -> bool {
        self.dialect == Dialect::WordPress && self.editor_blocks == 0
    }

    fn element(&mut self, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
        let context = &Context { level: context.level + 1, ..context.clone() };
        if context.level > MAX_LEVEL {
            let text = markup::text_of(*element);
            flow.run.push(Inline::Text(text, context.style.clone()));
            return;
        }
        if self.post.as_mut().is_some_and(|post| posts::take(post, element)) {
            return;
        }
        figures::background(self, element, context, flow);
        if self.inline(element, context, flow) {
            return;
        }
        self.flush(flow, context);
        self.named_block(element, context, flow);
    }

    /// Adds the blocks of an element. The first of them gets the element's id, unless it has one. Ids around an element
    /// with a block of its own belong to that block, not to those within it.
    fn named_block(&mut self, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
        let before = flow.blocks.len();
        self.ids.add_block(element);
        let wraps = markup::is_wrapper(element.value().name())
            && !posts::is_post(element)
            && !figures::is_pull_quote(element);
        let outer = (!wraps).then(|| self.ids.set_aside());
        self.block_element(element, context, flow);
        self.flush(flow, context);
        let later = outer.map(|outer| self.ids.put_back(outer)).unwrap_or_default();
        if let Some(block) = flow.blocks.get_mut(before).filter(|_| !context.spans_only) {
            self.ids.name(block, &mut self.notes);
            self.ids.extend(later);
            self.ids.name(block, &mut self.notes);
        } else {
            self.ids.extend(later);
        }
    }

    /// Handles an element of running text. Returns false if the element is not one.
    fn inline(&mut self, element: ElementRef<'_>, context: &Context, flow: &mut Flow) -> bool {
        if let Some(id) = ids::id_of(element).filter(|_| markup::is_inline(element.value().name())) {
            flow.run.push(Inline::Anchor(id));
        }
        let mark = match element.value().name() {
            "strong" | "b" => Mark::Strong,
            "em" | "i" | "cite" => Mark::Emphasis,
            "code" | "kbd" | "samp" | "tt" => Mark::Code,
            "s" | "strike" | "del" => Mark::Strike,
            "sub" => Mark::Sub,
            "sup" => Mark::Sup,
            "br" => {
                flow.run.push(Inline::Break(context.style.clone()));
                return true;
            }
            "a" => {
                self.check_link(element);
                self.children(*element, &context.linked(element).styled(element), flow);
                return true;
            }
            "img" if markup::has_class(element, "wp-smiley") || markup::has_class(element, "emoji") => {
                let alt = element.attr("alt").unwrap_or_default();
                flow.run.push(Inline::Text(alt.to_owned(), context.style.clone()));
                return true;
            }
            "style" => return true,
            "input" if element.attr("type").is_some_and(|kind| kind.eq_ignore_ascii_case("checkbox")) => {
                let text = if element.attr("checked").is_some() { CHECKED } else { UNCHECKED };
                flow.run.push(Inline::Text(text.to_owned(), context.style.clone()));
                return true;
            }
            "script" => {
                self.drop_markup(|| "<script>: left out".to_owned());
                return true;
            }
            "q" => {
                self.quotation(element, &context.clone().styled(element), flow);
                return true;
            }
            name if markup::is_inline(name) => {
                self.styled_children(element, context, flow);
                return true;
            }
            _ => return false,
        };
        self.children(*element, &context.marked(mark).styled(element), flow);
        true
    }

    /// Adds the content of an element with the marks of its style.
    fn styled_children(&mut self, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
        if element.attr("style").is_some() {
            self.children(*element, &context.clone().styled(element), flow);
        } else {
            self.children(*element, context, flow);
        }
    }

    /// Adds a quotation in running text with the marks that browsers show around it, unless the text has them.
    fn quotation(&mut self, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
        let (open, close) = if context.quotations.is_multiple_of(2) {
            ("\u{201c}", "\u{201d}")
        } else {
            ("\u{2018}", "\u{2019}")
        };
        let first = element.text().find_map(|text| text.trim_start().chars().next());
        let before = match flow.run.last() {
            Some(Inline::Text(text, _)) => text.chars().next_back(),
            _ => None,
        };
        let is_marked = [first, before].into_iter().flatten().any(|c| QUOTATION_MARKS.contains(c));
        let is_text = markup::below(element).all(|e| markup::is_inline(e.value().name()));
        let context = &Context { quotations: context.quotations + 1, ..context.clone() };
        if first.is_none() || !is_text || (is_marked && context.quotations == 1) {
            return self.children(*element, context, flow);
        }
        flow.run.push(Inline::Text(open.to_owned(), context.style.clone()));
        self.children(*element, context, flow);
        flow.run.push(Inline::Text(close.to_owned(), context.style.clone()));
    }

    /// Reports a link that no text can have.
    pub(super) fn check_link(&mut self, element: ElementRef<'_>) {
        if let Some(href) = element.attr("href").filter(|href| urls::link(href).is_none()) {
            self.notes.add(|| format!("link to {}: left out, its text stays", quoted(href)));
        }
    }

    fn block_element(&mut self, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
        if context.depth == 0 && posts::is_post(element) {
            return posts::post(self, element, context, flow);
        }
        match element.value().name() {
            "h1" | "h2" => self.heading(element, 2, context, flow),
            "h3" => self.heading(element, 3, context, flow),
            "h4" => self.heading(element, 4, context, flow),
            "h5" => self.heading(element, 5, context, flow),
            "h6" => self.heading(element, 6, context, flow),
            "ul" | "ol" | "div" | "section" | "dl" if figures::is_gallery(element) => {
                figures::all_pictures(self, element, context, flow);
            }
            "ul" | "ol" | "menu" | "dir" => lists::list(self, element, context, flow),
            "blockquote" => self.quote(element, context, flow),
            "pre" | "listing" | "xmp" | "plaintext" => self.preformatted(element, context, flow),
            "hr" => flow.blocks.push(block(Kind::Divider(v1::Divider {}))),
            "img" => figures::picture(self, element, context, flow),
            "figure" => figures::figure(self, element, context, flow),
            "div" if markup::has_class(element, "wp-caption") => {
                figures::figure(self, element, context, flow)
            }
            "iframe" => figures::frame(self, element, context, flow),
            "table" => tables::table(self, element, context, flow),
            "video" | "audio" => players::player(self, element, context, flow),
            "aside" if figures::is_pull_quote(element) => figures::pull_quote(self, element, context, flow),
            "noscript" => self.noscript(element, context, flow),
            "p" | "div" => self.styled_children(element, context, flow),
            name if markup::is_wrapper(name) => self.children(*element, context, flow),
            "link" | "meta" | "base" | "source" | "track" | "param" | "col" | "colgroup" => {}
            _ => self.raw(element, context, flow),
        }
    }

    /// Ends the paragraph.
    pub(super) fn flush(&mut self, flow: &mut Flow, context: &Context) {
        if flow.run.is_empty() {
            return;
        }
        for runs::Text { spans, anchors } in runs::paragraphs(std::mem::take(&mut flow.run)) {
            anchors.into_iter().for_each(|id| self.ids.add_text(id));
            let before = flow.blocks.len();
            match runs::bare_text(&spans) {
                _ if spans.is_empty() => {}
                Some(text) if self.dialect == Dialect::WordPress && !context.plain_lines => {
                    let lines = text.split('\n').collect::<Vec<_>>();
                    self.bare_paragraph(&lines, flow);
                }
                _ => flow.blocks.push(self.paragraph(spans)),
            }
            if let Some(block) = flow.blocks.get_mut(before).filter(|_| !context.spans_only) {
                self.ids.name(block, &mut self.notes);
            }
        }
    }

    /// Adds a paragraph without marks. Lines that are unknown shortcodes, or URLs in classic text, become blocks of
    /// their own.
    fn bare_paragraph(&mut self, lines: &[&str], flow: &mut Flow) {
        let mut pending: Vec<&str> = Vec::new();
        for line in lines {
            let special = match self.shortcodes.name_of(line) {
                Some(name) => self.unknown_shortcode(line, name),
                None if self.is_classic() => figures::embed_of_line(line),
                None => None,
            };
            match special {
                Some(block) => {
                    self.end_paragraph(&mut pending, flow);
                    flow.blocks.push(block);
                }
                None => pending.push(line),
            }
        }
        self.end_paragraph(&mut pending, flow);
    }

    fn end_paragraph(&mut self, lines: &mut Vec<&str>, flow: &mut Flow) {
        if !lines.is_empty() {
            let text = std::mem::take(lines).join("\n");
            flow.blocks.push(self.paragraph(vec![Span { text, ..Span::default() }]));
        }
    }

    /// Returns a paragraph, and counts the shortcodes in it.
    fn paragraph(&mut self, spans: Vec<Span>) -> Block {
        if self.dialect == Dialect::WordPress {
            let texts = spans.iter().filter(|span| !span.marks.contains(&Mark::Code.into()));
            texts.for_each(|span| self.shortcodes.count(&span.text));
        }
        runs::paragraph(spans)
    }

    fn unknown_shortcode(&mut self, line: &str, name: &str) -> Option<Block> {
        let html = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let html = sanitise(&html);
        if !self.reserve_raw_html(&html) {
            return None;
        }
        let reason = format!("shortcode [{name}]");
        self.add_raw_html(&reason);
        Some(block(Kind::RawHtml(v1::RawHtml { html, reason })))
    }

    /// Counts and reports a raw_html block.
    pub(super) fn add_raw_html(&mut self, reason: &str) {
        self.raw_html += 1;
        self.notes.add(|| format!("{reason}: stored as raw HTML, no other block fits"));
    }

    fn heading(&mut self, element: ElementRef<'_>, level: i32, context: &Context, flow: &mut Flow) {
        let (spans, rest) = self.spans_of(*element, context);
        if !spans.is_empty() {
            flow.blocks.push(block(Kind::Heading(v1::Heading { level, spans })));
        }
        flow.blocks.extend(rest);
    }

    fn quote(&mut self, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
        if context.depth + 2 > limit::BLOCK_DEPTH.maximum as usize {
            return self.raw(element, context, flow);
        }
        let inner = context.inner();
        let mut quoted = Flow::default();
        let mut attribution = Vec::new();
        let mut rest = Vec::new();
        for child in element.children() {
            let name = ElementRef::wrap(child).map_or("", |e| e.value().name());
            if matches!(name, "cite" | "footer") && attribution.is_empty() && markup::is_last(child) {
                (attribution, rest) = self.spans_of(child, &inner);
            } else {
                self.node(child, &inner, &mut quoted);
            }
        }
        self.flush(&mut quoted, &inner);
        let mut blocks = quoted.blocks;
        blocks.extend(rest);
        if blocks.is_empty() && attribution.is_empty() {
            return;
        }
        if markup::has_class(element, "pullquote") && blocks.iter().all(is_text) {
            let (spans, _) = runs::join(blocks);
            flow.blocks.push(block(Kind::PullQuote(v1::PullQuote { spans, attribution })));
        } else {
            flow.blocks.push(block(Kind::Quote(v1::Quote { blocks, attribution })));
        }
    }

    fn preformatted(&mut self, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
        let blocks = |e: ElementRef<'_>| matches!(e.value().name(), "img" | "table" | "iframe" | "figure");
        if markup::has_class(element, "verse") || markup::below(element).any(blocks) {
            let context = Context { verse: true, ..context.clone() };
            self.children(*element, &context, flow);
            return self.flush(flow, &context);
        }
        if markup::below(element).any(|e| e.attr("href").and_then(urls::link).is_some()) {
            // A code block has no links, text that is marked as code does.
            let context = Context { verse: true, ..context.marked(Mark::Code) };
            self.children(*element, &context, flow);
            return self.flush(flow, &context);
        }
        markup::below(element).for_each(|e| self.check_link(e));
        let text = markup::text_of(*element);
        let text = text.strip_prefix(' ').unwrap_or(&text);
        let text = text.trim_end().trim_start_matches('\n').to_owned();
        let language = language(element).unwrap_or_else(|| self.language.clone());
        let language = head(&language, limit::TOKEN.maximum as usize).to_owned();
        if !text.trim().is_empty() {
            flow.blocks.push(block(Kind::Code(v1::Code { text, language })));
        }
    }

    /// The parser acts as if scripts ran, so it leaves the content of `noscript` unparsed. Pictures there that the block
    /// before shows are left out.
    pub(super) fn noscript(&mut self, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
        if element.children().any(|child| child.value().is_element()) {
            return self.children(*element, context, flow);
        }
        let text = element.text().collect::<String>();
        if !self.may_reparse(&text) {
            return self.drop_markup(|| "<noscript>: left out, the text has too many".to_owned());
        }
        let (tree, flattened) = source::parse(&text);
        if flattened {
            self.drop_markup(|| format!("<noscript>: {}", source::FLATTENED));
        }
        if !twins::merge(self, &tree, flow.blocks.last_mut()) {
            self.children(tree.tree.root(), context, flow);
        }
    }

    /// Adds the blocks of a text that may hold markup, such as an attribute.
    pub(super) fn reparse(&mut self, html: &str, context: &Context, flow: &mut Flow) {
        if self.may_reparse(html) {
            let (tree, _) = source::parse(html);
            self.children(tree.tree.root(), context, flow);
        } else {
            flow.run.push(Inline::Text(html.to_owned(), context.style.clone()));
        }
        self.flush(flow, context);
    }

    /// Counts a text that is to be parsed again. Returns false if there were too many.
    fn may_reparse(&mut self, text: &str) -> bool {
        let maximum = match self.dialect {
            Dialect::WordPress => MAX_REPARSED_BYTES,
            Dialect::Plain => MAX_REPARSED_BYTES_OF_PLAIN,
        };
        self.reparsed_bytes += text.len() + REPARSED_ELEMENT_BYTES;
        self.reparsed_bytes <= maximum
    }

    /// Adds an element as HTML. If sanitising removes more than markup, the words become a paragraph and the element's
    /// player or frame becomes an embed.
    pub(super) fn raw(&mut self, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
        self.flush(flow, context);
        let text = markup::text_of(*element);
        if let Some(html) = self.stored_html(element, &text) {
            let reason = format!("element <{}>", element.value().name());
            self.add_raw_html(&reason);
            flow.blocks.push(block(Kind::RawHtml(v1::RawHtml { html, reason })));
            return;
        }
        let name = element.value().name();
        if let Some(embed) = figures::embed_of_player(element) {
            self.notes.add(|| format!("element <{name}>: became an embed"));
            flow.blocks.push(embed);
        } else {
            let words = if text.trim().is_empty() { "" } else { ", its words became a paragraph" };
            self.drop_markup(|| format!("element <{name}>: left out{words}"));
        }
        flow.run.push(Inline::Text(text, Style::default()));
        self.flush(flow, &Context { plain_lines: true, ..context.clone() });
    }

    /// Returns the element as HTML that can be stored, if all its words are in it.
    fn stored_html(&mut self, element: ElementRef<'_>, text: &str) -> Option<String> {
        let source = element.html();
        if !self.may_reparse(&source) {
            return None;
        }
        let html = sanitise(&source::separated(&source));
        let (tree, _) = source::parse(&html);
        let has_all_words = same_words(text, &markup::text_of(tree.tree.root()));
        let shows = ["src=", "<hr", "<img"].iter().any(|attribute| html.contains(attribute));
        let empty = text.trim().is_empty() && !shows;
        if !has_all_words || empty || !self.reserve_raw_html(&html) {
            return None;
        }
        let lost = urls::count(element).saturating_sub(urls::count(tree.root_element()));
        if lost > 0 {
            let name = element.value().name();
            self.notes.add(|| format!("element <{name}>: {lost} links or files left out"));
        }
        Some(html)
    }

    /// Reserves room for a block with the HTML. Returns false if the body has no room for it beside its other HTML.
    pub(super) fn reserve_raw_html(&mut self, html: &str) -> bool {
        let Ok(steps) = sanitise::check(html) else { return false };
        let bytes = self.raw_bytes + html.len();
        let fits = html.len() as u64 <= limit::RAW_HTML.maximum
            && bytes as u64 <= limit::RAW_HTML_BODY.maximum
            && (self.raw_steps + steps) as u64 <= limit::RAW_HTML_STEPS.maximum;
        if fits {
            self.raw_bytes = bytes;
            self.raw_steps += steps;
        }
        fits
    }

    fn comment(&mut self, comment: &str, context: &Context, flow: &mut Flow) {
        if comment == "nextpage" {
            self.flush(flow, context);
            flow.blocks.push(block(Kind::Divider(v1::Divider {})));
        } else if comment == "more" || comment.starts_with("more ") {
            flow.run.push(Inline::Gap);
        } else if let Some(opening) = Opening::parse(comment) {
            self.flush(flow, context);
            self.open_editor_block(&opening, context, flow);
        } else if comment.starts_with("/wp:") {
            self.flush(flow, context);
            self.editor_blocks = self.editor_blocks.saturating_sub(1);
            self.language.clear();
            self.close_video(flow);
        }
    }

    /// Adds the embed of a block of VideoPress whose HTML does not show the video.
    fn close_video(&mut self, flow: &mut Flow) {
        let Some((guid, before)) = self.video.take() else { return };
        let before = before.min(flow.blocks.len());
        if !flow.blocks[before..]
            .iter()
            .any(|block| matches!(block.kind, Some(Kind::Embed(_) | Kind::Video(_))))
        {
            flow.blocks.insert(before, figures::videopress(&guid));
        }
    }

    /// Opens a block of the editor. One without HTML is complete.
    fn open_editor_block(&mut self, opening: &Opening<'_>, context: &Context, flow: &mut Flow) {
        if opening.is_void {
            return generated::block(self, opening, context, flow);
        }
        self.editor_blocks += usize::from(opening.name != "freeform");
        let attributes = opening.values();
        if opening.name == "videopress/video" {
            self.video = figures::videopress_id(&attributes).map(|guid| (guid.to_owned(), flow.blocks.len()));
        }
        let language = attributes.get("language").and_then(serde_json::Value::as_str);
        self.language = language.unwrap_or_default().to_lowercase();
    }
}

fn is_text(block: &Block) -> bool {
    matches!(block.kind, Some(Kind::Paragraph(_) | Kind::Heading(_)))
}

fn same_words(text: &str, other: &str) -> bool {
    let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    letters(text) == letters(other)
}

/// Returns the language of a code block, which highlighters put into a class: `language-rust`, `lang-rust`,
/// `lang:rust`.
fn language(element: ElementRef<'_>) -> Option<String> {
    let all = std::iter::once(element).chain(markup::below(element).take(1));
    let mut classes = all.flat_map(|e| e.value().classes());
    classes.find_map(|class| {
        let language = ["language-", "lang-", "lang:"].iter().find_map(|start| class.strip_prefix(start))?;
        Some(language.to_lowercase())
    })
}
