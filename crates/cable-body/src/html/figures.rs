//! Pictures, galleries and embedded content from other sites.

use std::collections::HashMap;

use scraper::ElementRef;

use super::{
    block,
    blocks::{Context, Flow, Walker},
    collapse, head, markup, runs, urls,
};
use cable_proto::limit;
use cable_proto::v1::{self, Block, Span, block::Kind};

/// The maximum number of pictures that share one caption. Each of them gets a full copy.
const MAX_PICTURES_PER_CAPTION: usize = 16;

/// Adds a picture outside a figure.
pub(super) fn picture(walker: &mut Walker<'_>, img: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    match media(walker, img) {
        Some(media) => {
            let href = context.style.link.as_ref().map(|link| link.href.clone()).unwrap_or_default();
            flow.blocks.push(block(Kind::Image(v1::Image { media: Some(media), href })));
        }
        None => walker.dropped += 1,
    }
}

/// Adds a figure: pictures with a caption, or the blocks within it.
pub(super) fn figure(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    if markup::has_class(element, "cable-gallery") {
        return gallery_shortcode(walker, element, flow);
    }
    if markup::has_class(element, "wp-block-embed")
        && let Some(url) = embedded_url(element)
    {
        let caption = caption_of(element).map(|c| walker.spans_of(*c, context)).unwrap_or_default();
        flow.blocks.push(embed(url, "", caption.0));
        return flow.blocks.extend(caption.1);
    }
    if has_only_pictures(element) {
        return all_pictures(walker, element, context, flow);
    }
    if markup::below(element).any(|e| matches!(e.value().name(), "video" | "audio")) {
        // The HTML includes the caption.
        return walker.raw(element, context, flow);
    }
    dissolve(walker, element, context, flow);
}

/// Adds the blocks within the figure, with the caption on the last of them.
fn dissolve(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    let pullquote = markup::has_class(element, "pullquote");
    let mut caption = None;
    let mut inner = Flow::default();
    for child in element.children() {
        match ElementRef::wrap(child) {
            Some(found) if markup::is_caption(found) && caption.is_none() => caption = Some(found),
            _ => walker.node(child, context, &mut inner),
        }
    }
    walker.flush(&mut inner, context);
    if pullquote {
        inner.blocks = inner.blocks.into_iter().map(to_pull_quote).collect();
    }
    let (spans, rest) = caption.map(|c| walker.spans_of(*c, context)).unwrap_or_default();
    flow.blocks.append(&mut inner.blocks);
    if !spans.is_empty() {
        match flow.blocks.last_mut().and_then(|last| last.kind.as_mut()) {
            Some(Kind::Table(table)) if table.caption.is_empty() => table.caption = spans,
            Some(Kind::Embed(embed)) if embed.caption.is_empty() => embed.caption = spans,
            _ => flow.blocks.push(runs::paragraph(spans)),
        }
    }
    flow.blocks.extend(rest);
}

/// Converts a quote in the figure of a pull quote.
fn to_pull_quote(quote: Block) -> Block {
    match quote.kind {
        Some(Kind::Quote(v1::Quote { blocks, attribution }))
            if blocks.iter().all(|b| matches!(b.kind, Some(Kind::Paragraph(_) | Kind::Heading(_)))) =>
        {
            block(Kind::PullQuote(v1::PullQuote { spans: runs::join(blocks).0, attribution }))
        }
        kind => Block { kind, ..quote },
    }
}

fn caption_of(element: ElementRef<'_>) -> Option<ElementRef<'_>> {
    element.child_elements().filter(|child| markup::is_caption(*child)).last()
}

/// Returns whether the element has nothing but pictures, their captions, and what browsers without scripts show.
pub(super) fn has_only_pictures(element: ElementRef<'_>) -> bool {
    let allowed = |e: ElementRef<'_>| {
        let name = e.value().name();
        matches!(
            name,
            "img" | "a" | "figure" | "ul" | "li" | "div" | "br" | "picture" | "source" | "p" | "span"
        ) || matches!(name, "ol" | "dl" | "dt" | "dd" | "section")
    };
    let mut images = 0;
    for below in markup::below(element) {
        if in_caption(below, element) || below.value().name() == "noscript" {
            continue;
        }
        if !allowed(below) {
            return false;
        }
        images += usize::from(below.value().name() == "img");
    }
    let is_beside = |e: ElementRef<'_>| markup::is_caption(e) || e.value().name() == "noscript";
    images > 0 && markup::text_without(*element, is_beside).trim().is_empty()
}

/// Returns whether the element is a gallery that is no figure, such as the lists of WordPress 5.0.
pub(super) fn is_gallery(element: ElementRef<'_>) -> bool {
    let is_one = |e: ElementRef<'_>| markup::has_class(e, "gallery");
    // The outermost element of a gallery has been examined with everything in it.
    let is_outermost = || !element.ancestors().filter_map(ElementRef::wrap).any(is_one);
    is_one(element) && is_outermost() && has_only_pictures(element)
}

/// Adds the pictures of an element, and those for browsers without scripts that are no twins of them.
pub(super) fn all_pictures(
    walker: &mut Walker<'_>,
    element: ElementRef<'_>,
    context: &Context,
    flow: &mut Flow,
) {
    pictures(walker, element, context, flow);
    for found in markup::below(element).filter(|e| e.value().name() == "noscript") {
        if !in_caption(found, element) {
            walker.noscript(found, context, flow);
        }
    }
}

fn in_caption(below: ElementRef<'_>, figure: ElementRef<'_>) -> bool {
    let own = std::iter::once(*below).chain(below.ancestors());
    own.take_while(|node| node.id() != figure.id()).filter_map(ElementRef::wrap).any(markup::is_caption)
}

/// Adds an image block or a gallery. Captions of inner figures belong to their pictures.
fn pictures(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    let mut found = Vec::new();
    let mut href = String::new();
    let mut rest = Vec::new();
    let images = markup::below(element).filter(|e| e.value().name() == "img" && !in_caption(*e, element));
    let images: Vec<_> = images.collect();
    let (mut captions, mut used) = (HashMap::new(), HashMap::new());
    for img in &images {
        let within =
            || img.ancestors().take_while(|node| node.id() != element.id()).filter_map(ElementRef::wrap);
        let mut picture = media(walker, *img);
        let caption = within().find_map(|e| *captions.entry(e.id()).or_insert_with(|| caption_of(e)));
        let shared = caption.map_or(0, |caption| {
            let uses = used.entry(caption.id()).or_insert(0);
            *uses += 1;
            *uses
        });
        if let Some(caption) = caption.filter(|_| images.len() > 1 && shared <= MAX_PICTURES_PER_CAPTION) {
            let (spans, blocks) = walker.spans_of(*caption, context);
            rest.extend(blocks);
            picture.get_or_insert_default().caption = spans;
        }
        let link = within().find(|e| e.value().name() == "a").map(|a| context.linked(a).style.link);
        href = link.unwrap_or_else(|| context.style.link.clone()).map(|link| link.href).unwrap_or_default();
        walker.dropped += usize::from(picture.is_none());
        found.extend(picture);
    }
    let mut caption = Vec::new();
    let captions = markup::below(element).filter(|e| markup::is_caption(*e));
    let own = |e: &ElementRef<'_>| images.len() == 1 || e.parent().is_some_and(|p| p.id() == element.id());
    for other in captions.filter(own).collect::<Vec<_>>() {
        let (spans, blocks) = walker.spans_of(*other, context);
        runs::append(&mut caption, spans);
        rest.extend(blocks);
    }
    push_pictures(found, caption, href, flow);
    flow.blocks.extend(rest);
}

fn push_pictures(mut found: Vec<v1::Media>, caption: Vec<Span>, href: String, flow: &mut Flow) {
    match found.len() {
        0 if caption.is_empty() => {}
        0 => flow.blocks.push(runs::paragraph(caption)),
        1 => {
            let mut media = found.remove(0);
            runs::append(&mut media.caption, caption);
            flow.blocks.push(block(Kind::Image(v1::Image { media: Some(media), href })));
        }
        _ => flow.blocks.push(block(Kind::Gallery(gallery(found, caption)))),
    }
}

fn gallery(media: Vec<v1::Media>, caption: Vec<Span>) -> v1::Gallery {
    let image = |media| v1::Image { media: Some(media), href: String::new() };
    v1::Gallery { images: media.into_iter().map(image).collect(), caption }
}

/// Adds the gallery of a `[gallery]` shortcode: the pictures with the given ids, or all pictures of the post.
fn gallery_shortcode(walker: &mut Walker<'_>, element: ElementRef<'_>, flow: &mut Flow) {
    let media: Vec<_> = match element.attr("data-ids") {
        Some(ids) => {
            let ids = ids.split(',').filter_map(|id| id.parse().ok());
            ids.filter_map(|id| walker.attachments.media(id)).collect()
        }
        None => walker.attachments.own_pictures(),
    };
    if !media.is_empty() {
        flow.blocks.push(block(Kind::Gallery(gallery(media, Vec::new()))));
        return;
    }
    let html = crate::sanitise::sanitise(&element.inner_html());
    if !walker.reserve_raw_html(&html) {
        walker.dropped += 1;
        let text = markup::text_of(*element);
        return flow.blocks.push(runs::paragraph(vec![Span { text, ..Span::default() }]));
    }
    walker.raw_html += 1;
    let reason = "shortcode [gallery]".to_owned();
    flow.blocks.push(block(Kind::RawHtml(v1::RawHtml { html, reason })));
}

/// Returns the media of an `img`, or none if neither its file nor its alternative text is known.
pub(super) fn media(walker: &Walker<'_>, img: ElementRef<'_>) -> Option<v1::Media> {
    let attached = attachment_id(img).and_then(|id| walker.attachments.media(id)).unwrap_or_default();
    // Pages with lazy loading have a placeholder in src.
    let sources = ["data-src", "data-lazy-src", "src", "data-orig-file"].map(|name| img.attr(name));
    let size = |name| markup::number(img, name);
    let rendition = sources.iter().flatten().find_map(|src| {
        let rendition = urls::rendition(src, size("width"), size("height"))?;
        (!rendition.href.starts_with('#')).then_some(rendition)
    });
    let alt_text = img.attr("alt").map_or(attached.alt_text, collapse);
    let alt_text = head(&alt_text, limit::PARAGRAPH.maximum as usize).to_owned();
    if rendition.is_none() && alt_text.is_empty() {
        return None;
    }
    let renditions = rendition.into_iter().collect();
    Some(v1::Media { renditions, alt_text, caption: Vec::new(), ..attached })
}

fn attachment_id(img: ElementRef<'_>) -> Option<u64> {
    let class = img.value().classes().find_map(|class| class.strip_prefix("wp-image-"));
    class.or_else(|| img.attr("data-id")).and_then(|id| id.parse().ok())
}

/// Adds an `iframe` as an embed if it has a usable URL.
pub(super) fn frame(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    match embed_of_player(element) {
        Some(embed) => flow.blocks.push(embed),
        None => walker.raw(element, context, flow),
    }
}

/// Returns an embed of the content that a frame or a player shows.
pub(super) fn embed_of_player(element: ElementRef<'_>) -> Option<Block> {
    let all = std::iter::once(element).chain(markup::below(element));
    let shown = all
        .filter(|e| matches!(e.value().name(), "iframe" | "video" | "audio" | "source" | "embed" | "object"));
    let url = shown
        .flat_map(|e| ["src", "data-src", "data"].map(|name| e.attr(name)))
        .flatten()
        .find_map(urls::page)?;
    let title = element.attr("title").map(collapse).unwrap_or_default();
    Some(embed(url, &title, Vec::new()))
}

/// Returns an embed if the line is nothing but a URL.
pub(super) fn embed_of_line(line: &str) -> Option<Block> {
    let line = line.trim();
    let absolute = line.starts_with("http://") || line.starts_with("https://");
    let bare = absolute && !line.contains(char::is_whitespace);
    urls::page(line).filter(|_| bare).map(|url| embed(url, "", Vec::new()))
}

fn embed(url: String, title: &str, caption: Vec<Span>) -> Block {
    let provider = urls::provider(&url).to_owned();
    block(Kind::Embed(v1::Embed { provider, url, title: title.to_owned(), caption, ..Default::default() }))
}

/// Returns the URL of an embed block: its text, or the source of its first frame if it has no text.
fn embedded_url(element: ElementRef<'_>) -> Option<String> {
    let text = collapse(&markup::text_without(*element, markup::is_caption));
    if text.is_empty() {
        let frame = markup::below(element).find(|e| e.value().name() == "iframe")?;
        return frame.attr("src").and_then(urls::page);
    }
    let nothing_else =
        !markup::below(element).any(|e| matches!(e.value().name(), "img" | "table" | "iframe"));
    urls::page(&text).filter(|_| nothing_else && text.starts_with("http") && !text.contains(' '))
}

/// Returns the block for an editor comment without HTML, as far as its attributes identify one.
pub(super) fn of_editor_block(
    walker: &mut Walker<'_>,
    name: &str,
    attributes: &serde_json::Value,
) -> Option<Block> {
    let name = name.strip_prefix("core/").unwrap_or(name);
    if name == "embed" || name.starts_with("core-embed/") {
        let url = attributes.get("url")?.as_str().and_then(urls::page)?;
        return Some(embed(url, "", Vec::new()));
    }
    let ids = match name {
        "image" => vec![attributes.get("id")?.as_u64()?],
        "gallery" => attributes.get("ids")?.as_array()?.iter().filter_map(|id| id.as_u64()).collect(),
        _ => return None,
    };
    let mut media: Vec<_> = ids.into_iter().filter_map(|id| walker.attachments.media(id)).collect();
    match (name, media.len()) {
        (_, 0) => None,
        ("image", _) => Some(block(Kind::Image(v1::Image { media: media.pop(), href: String::new() }))),
        _ => Some(block(Kind::Gallery(gallery(media, Vec::new())))),
    }
}
