//! Pictures, galleries and embedded content from other sites.

use std::collections::HashMap;

use scraper::ElementRef;

use super::{
    block,
    blocks::{Context, Flow, Walker},
    collapse, head, markup,
    notes::quoted,
    runs, urls,
};
use crate::render::FOCAL_POINT;
use cable_proto::limit;
use cable_proto::v1::{self, Block, Span, block::Kind};

/// The maximum number of pictures that share one caption. Each of them gets a full copy.
const MAX_PICTURES_PER_CAPTION: usize = 16;

/// The maximum number of elements within one with a background that are searched for the same picture.
const MAX_CHECKED_FOR_BACKGROUND: usize = 32;

/// The maximum number of files that are read from a `srcset`.
const MAX_FILES: usize = 16;

/// Adds a picture outside a figure.
pub(super) fn picture(walker: &mut Walker<'_>, img: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    match media(walker, img) {
        Some(media) => {
            let href = context.style.link.as_ref().map(|link| link.href.clone()).unwrap_or_default();
            flow.blocks.push(block(Kind::Image(v1::Image { media: Some(media), href })));
        }
        None => drop_picture(walker, img),
    }
}

fn drop_picture(walker: &mut Walker<'_>, img: ElementRef<'_>) {
    let source = img.attr("src").unwrap_or_default();
    walker.drop_markup(|| {
        format!("picture {}: left out, it has neither a usable file nor a text", quoted(source))
    });
}

/// Adds a figure: pictures with a caption, or the blocks within it.
pub(super) fn figure(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    if markup::has_class(element, "cable-gallery") {
        return gallery_shortcode(walker, element, flow);
    }
    if markup::has_class(element, "cable-playlist") {
        return playlist_shortcode(walker, element, flow);
    }
    if (markup::has_class(element, "wp-block-embed") || markup::has_class(element, "videopress"))
        && let Some(url) = embedded_url(element)
    {
        let caption = caption_of(element).map(|c| walker.spans_of(*c, context)).unwrap_or_default();
        flow.blocks.push(embed(url, "", caption.0));
        return flow.blocks.extend(caption.1);
    }
    if has_only_pictures(element) {
        return all_pictures(walker, element, context, flow);
    }
    if let Some(found) = linked_embed(element) {
        let caption = caption_of(element).map(|c| walker.spans_of(*c, context)).unwrap_or_default();
        flow.blocks.push(block(Kind::Embed(v1::Embed { caption: caption.0, ..found })));
        return flow.blocks.extend(caption.1);
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
    let rest =
        caption.map(|found| add_caption(walker, found, context, &mut inner.blocks)).unwrap_or_default();
    flow.blocks.append(&mut inner.blocks);
    flow.blocks.extend(rest);
}

/// Adds a caption to the last of the blocks of its figure, or a paragraph if that block has none. Returns the blocks in
/// the caption.
fn add_caption(
    walker: &mut Walker<'_>,
    found: ElementRef<'_>,
    context: &Context,
    blocks: &mut Vec<Block>,
) -> Vec<Block> {
    let media = match blocks.last_mut().and_then(|last| last.kind.as_mut()) {
        Some(Kind::Video(v1::Video { media })) | Some(Kind::Audio(v1::Audio { media })) => media.as_mut(),
        _ => None,
    };
    if let Some(media) = media.filter(|media| media.caption.is_empty()) {
        return caption_media(walker, found, context, media);
    }
    let (spans, rest) = walker.spans_of(*found, context);
    match blocks.last_mut().and_then(|last| last.kind.as_mut()) {
        _ if spans.is_empty() => {}
        Some(Kind::Table(table)) if table.caption.is_empty() => table.caption = spans,
        Some(Kind::Embed(embed)) if embed.caption.is_empty() => embed.caption = spans,
        _ => blocks.push(runs::paragraph(spans)),
    }
    rest
}

/// Adds the text of a caption to a picture or a player. Small print at its end is the credit, if none is known from
/// elsewhere. Returns the blocks in the caption.
fn caption_media(
    walker: &mut Walker<'_>,
    found: ElementRef<'_>,
    context: &Context,
    media: &mut v1::Media,
) -> Vec<Block> {
    let is_credit = |e: &ElementRef<'_>| e.value().name() == "small" && markup::is_last(**e);
    let credit = found.child_elements().find(is_credit).filter(|_| media.credit.is_empty());
    let credit = credit.map(|small| (small.id(), collapse(&markup::text_of(*small))));
    let credit = credit.filter(|(_, text)| !text.is_empty() && text.len() as u64 <= limit::LINE.maximum);
    let (id, text) = credit.unzip();
    media.credit = text.unwrap_or_else(|| std::mem::take(&mut media.credit));
    let others = found.children().filter(|child| Some(child.id()) != id);
    let (spans, rest) = walker.spans_of_all(others, context);
    runs::append(&mut media.caption, spans);
    rest
}

/// Returns the embed of a figure in the form in which this crate renders one: a link with the title, a paragraph with
/// other text, and a caption.
fn linked_embed(element: ElementRef<'_>) -> Option<v1::Embed> {
    let has_only_elements = element.children().all(|child| match child.value() {
        scraper::Node::Text(text) => text.trim().is_empty(),
        _ => true,
    });
    let mut parts = element.child_elements().filter(|part| !markup::is_caption(*part));
    let link = parts.next().filter(|link| has_only_elements && link.value().name() == "a")?;
    let fallback = parts.next();
    let is_text = |part: ElementRef<'_>| markup::below(part).all(|e| e.value().name() == "br");
    let fits = is_text(link)
        && fallback.is_none_or(|text| text.value().name() == "p" && is_text(text))
        && parts.next().is_none();
    let url = link.attr("href").filter(|_| fits).and_then(urls::page)?;
    let text = collapse(&markup::text_of(*link));
    let title = if text == url { String::new() } else { text };
    let fallback_text = fallback.map(|text| collapse(&markup::text_of(*text))).unwrap_or_default();
    let provider = urls::provider(&url).to_owned();
    Some(v1::Embed { provider, url, title, fallback_text, caption: Vec::new() })
}

/// Returns whether the element is a pull quote in the form in which this crate renders one.
pub(super) fn is_pull_quote(element: ElementRef<'_>) -> bool {
    let mut parts = element.child_elements();
    let is_quote = parts.next().is_some_and(|only| only.value().name() == "blockquote");
    element.value().name() == "aside" && is_quote && parts.next().is_none()
}

/// Adds the quotes of an `aside` as pull quotes.
pub(super) fn pull_quote(
    walker: &mut Walker<'_>,
    element: ElementRef<'_>,
    context: &Context,
    flow: &mut Flow,
) {
    let mut inner = Flow::default();
    walker.children(*element, context, &mut inner);
    walker.flush(&mut inner, context);
    flow.blocks.extend(inner.blocks.into_iter().map(to_pull_quote));
}

/// Converts a quote in the figure of a pull quote.
fn to_pull_quote(quote: Block) -> Block {
    match quote.kind {
        Some(Kind::Quote(v1::Quote { blocks, attribution }))
            if blocks.iter().all(|b| matches!(b.kind, Some(Kind::Paragraph(_) | Kind::Heading(_)))) =>
        {
            let kind = Kind::PullQuote(v1::PullQuote { spans: runs::join(blocks).0, attribution });
            Block { id: quote.id, kind: Some(kind) }
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
        if in_caption(below, element) || below.value().name() == "noscript" || is_in_icon(below, element) {
            continue;
        }
        if !allowed(below) {
            return false;
        }
        images += usize::from(below.value().name() == "img");
    }
    let is_beside = |e: ElementRef<'_>| markup::is_caption(e) || e.value().name() == "noscript" || is_icon(e);
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

/// The maximum number of nodes in a button that has nothing but an icon: the icon, and white space beside it.
const MAX_ICON_NODES: usize = 3;

/// Returns whether an element is an icon, or a button with nothing but an icon.
fn is_icon(element: ElementRef<'_>) -> bool {
    let is_part = |node: markup::NodeRef<'_>| match node.value() {
        scraper::Node::Text(text) => text.trim().is_empty(),
        scraper::Node::Element(part) => part.name() == "svg",
        _ => true,
    };
    match element.value().name() {
        "svg" => true,
        "button" => {
            let mut parts = element.children();
            parts.by_ref().take(MAX_ICON_NODES).all(is_part) && parts.next().is_none()
        }
        _ => false,
    }
}

fn is_in_icon(below: ElementRef<'_>, figure: ElementRef<'_>) -> bool {
    let own = std::iter::once(*below).chain(below.ancestors());
    own.take_while(|node| node.id() != figure.id()).filter_map(ElementRef::wrap).any(is_icon)
}

fn in_caption(below: ElementRef<'_>, figure: ElementRef<'_>) -> bool {
    let own = std::iter::once(*below).chain(below.ancestors());
    own.take_while(|node| node.id() != figure.id()).filter_map(ElementRef::wrap).any(markup::is_caption)
}

/// Adds an image block or a gallery. Captions of inner figures belong to their pictures.
fn pictures(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    let images = markup::below(element).filter(|e| e.value().name() == "img" && !in_caption(*e, element));
    let images: Vec<_> = images.collect();
    let (mut captions, mut uses) = (HashMap::new(), HashMap::new());
    let (mut found, mut rest) = (Vec::new(), Vec::new());
    for img in &images {
        let within =
            || img.ancestors().take_while(|node| node.id() != element.id()).filter_map(ElementRef::wrap);
        let mut picture = media(walker, *img);
        if let Some(caption) = within().find_map(|e| *captions.entry(e.id()).or_insert_with(|| caption_of(e)))
        {
            let uses = uses.entry(caption.id()).or_insert(0);
            *uses += 1;
            if *uses <= MAX_PICTURES_PER_CAPTION {
                rest.extend(caption_media(walker, caption, context, picture.get_or_insert_default()));
            }
        }
        let link = within().find(|e| e.value().name() == "a").map(|a| {
            walker.check_link(a);
            context.linked(a).style.link
        });
        let link = link.unwrap_or_else(|| context.style.link.clone());
        let href = link.map(|link| link.href).unwrap_or_default();
        match picture {
            Some(media) => found.push(v1::Image { media: Some(media), href }),
            None => drop_picture(walker, *img),
        }
    }
    let mut caption = Vec::new();
    let captions = markup::below(element).filter(|e| markup::is_caption(*e) && !uses.contains_key(&e.id()));
    for other in captions.collect::<Vec<_>>() {
        if let [v1::Image { media: Some(media), .. }] = &mut found[..] {
            rest.extend(caption_media(walker, other, context, media));
        } else {
            let (spans, blocks) = walker.spans_of(*other, context);
            runs::append(&mut caption, spans);
            rest.extend(blocks);
        }
    }
    push_pictures(found, caption, flow);
    flow.blocks.extend(rest);
}

fn push_pictures(mut found: Vec<v1::Image>, caption: Vec<Span>, flow: &mut Flow) {
    match found.len() {
        0 if caption.is_empty() => {}
        0 => flow.blocks.push(runs::paragraph(caption)),
        1 => flow.blocks.push(block(Kind::Image(found.remove(0)))),
        _ => flow.blocks.push(block(Kind::Gallery(v1::Gallery { images: found, caption }))),
    }
}

fn gallery(media: Vec<v1::Media>, caption: Vec<Span>) -> v1::Gallery {
    let image = |media| v1::Image { media: Some(media), href: String::new() };
    v1::Gallery { images: media.into_iter().map(image).collect(), caption }
}

/// Adds the gallery of a `[gallery]` shortcode: the pictures with the given ids, or all pictures of the post.
fn gallery_shortcode(walker: &mut Walker<'_>, element: ElementRef<'_>, flow: &mut Flow) {
    let media = match element.attr("data-ids") {
        Some(ids) => attachments(walker, "gallery", ids.split(',').filter_map(|id| id.parse().ok())),
        None => walker.attachments.own_pictures(),
    };
    if media.is_empty() {
        return unfilled_shortcode(walker, element, "gallery", flow);
    }
    flow.blocks.push(block(Kind::Gallery(gallery(media, Vec::new()))));
}

/// Adds the sounds and videos of a `[playlist]` shortcode.
fn playlist_shortcode(walker: &mut Walker<'_>, element: ElementRef<'_>, flow: &mut Flow) {
    let ids = element.attr("data-ids").unwrap_or_default();
    let media = attachments(walker, "playlist", ids.split(',').filter_map(|id| id.parse().ok()));
    let before = flow.blocks.len();
    for media in media {
        let file = media.renditions.first().cloned().unwrap_or_default();
        match player_of(media, &file.r#type) {
            Some(player) => flow.blocks.push(player),
            None => walker
                .notes
                .add(|| format!("playlist: {}: left out, it is neither sound nor video", quoted(&file.href))),
        }
    }
    if flow.blocks.len() == before {
        unfilled_shortcode(walker, element, "playlist", flow);
    }
}

/// Returns the block of a file that is sound or video.
fn player_of(media: v1::Media, media_type: &str) -> Option<Block> {
    if media_type.starts_with("audio/") {
        let media = v1::Media { kind: v1::MediaKind::Audio.into(), ..media };
        Some(block(Kind::Audio(v1::Audio { media: Some(media) })))
    } else if media_type.starts_with("video/") {
        let media = v1::Media { kind: v1::MediaKind::Video.into(), ..media };
        Some(block(Kind::Video(v1::Video { media: Some(media) })))
    } else {
        None
    }
}

/// Returns the attachments with the given ids, and reports those that are not known.
fn attachments(walker: &mut Walker<'_>, user: &str, ids: impl Iterator<Item = u64>) -> Vec<v1::Media> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for id in ids {
        match walker.attachments.media(id) {
            Some(media) => found.push(media),
            None => missing.push(id.to_string()),
        }
    }
    if !missing.is_empty() {
        walker.notes.add(|| format!("{user}: attachments not in the file: {}", quoted(&missing.join(", "))));
    }
    found
}

/// Adds a shortcode without a known attachment as raw HTML.
fn unfilled_shortcode(walker: &mut Walker<'_>, element: ElementRef<'_>, name: &str, flow: &mut Flow) {
    let html = crate::sanitise::sanitise(&element.inner_html());
    if !walker.reserve_raw_html(&html) {
        walker.drop_markup(|| format!("shortcode [{name}]: its words became a paragraph"));
        let text = markup::text_of(*element);
        return flow.blocks.push(runs::paragraph(vec![Span { text, ..Span::default() }]));
    }
    let reason = format!("shortcode [{name}]");
    walker.add_raw_html(&reason);
    flow.blocks.push(block(Kind::RawHtml(v1::RawHtml { html, reason })));
}

/// Adds the picture that a cover has as its background, and reports the backgrounds of other elements.
pub(super) fn background(
    walker: &mut Walker<'_>,
    element: ElementRef<'_>,
    context: &Context,
    flow: &mut Flow,
) {
    let Some(url) = element.attr("style").and_then(background_url) else { return };
    let is_shown = markup::below(element)
        .take(MAX_CHECKED_FOR_BACKGROUND)
        .any(|e| e.value().name() == "img" && e.attr("src") == Some(url));
    if is_shown {
        return;
    }
    let is_cover = element.value().classes().any(|class| class.starts_with("wp-block-cover"));
    match urls::rendition(url, None, None).filter(|_| is_cover) {
        Some(rendition) => {
            walker.flush(flow, context);
            let alt_text = element.attr("aria-label").map(collapse).unwrap_or_default();
            let alt_text = head(&alt_text, limit::PARAGRAPH.maximum as usize).to_owned();
            let media = v1::Media { renditions: vec![rendition], alt_text, ..Default::default() };
            flow.blocks.push(block(Kind::Image(v1::Image { media: Some(media), href: String::new() })));
        }
        None => walker.notes.add(|| format!("background picture {}: left out", quoted(url))),
    }
}

/// Returns the URL of the background in a style: `background-image:url(/a.jpg)`.
fn background_url(style: &str) -> Option<&str> {
    let (_, background) = style.split_once("background")?;
    let (_, rest) = background.split_once("url(")?;
    let rest = rest.trim_start();
    let url = match rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        Some(quote) => rest[1..].split(quote).next()?,
        None => rest.split(')').next()?,
    };
    Some(url.trim()).filter(|url| !url.is_empty())
}

/// Returns the media of an `img`, or none if neither its file nor its alternative text is known.
pub(super) fn media(walker: &mut Walker<'_>, img: ElementRef<'_>) -> Option<v1::Media> {
    let attached = attachment_id(img).and_then(|id| walker.attachments.media(id)).unwrap_or_default();
    // Pages with lazy loading have a placeholder in src.
    let sources = ["data-src", "data-lazy-src", "src", "data-orig-file"].map(|name| img.attr(name));
    let size = |name| markup::number(img, name);
    let file = |src: &str| {
        let rendition = urls::rendition(src, size("width"), size("height"))?;
        (!rendition.href.starts_with('#')).then_some(rendition)
    };
    let rendition = sources.into_iter().flatten().find_map(file).or_else(|| first_of_set(img).and_then(file));
    let full_alt_text = img.attr("alt").map_or(attached.alt_text, collapse);
    let alt_text = head(&full_alt_text, limit::PARAGRAPH.maximum as usize).to_owned();
    if alt_text.len() < full_alt_text.len() {
        walker.notes.add(|| format!("text alternative {}: truncated", quoted(&alt_text)));
    }
    if let (None, Some(source), false) = (&rendition, sources.iter().flatten().next(), alt_text.is_empty()) {
        walker.notes.add(|| format!("file {} of a picture: left out, its text stays", quoted(source)));
    }
    if rendition.is_none() && alt_text.is_empty() {
        return None;
    }
    let title = img.attr("title").map(collapse).filter(|title| !title.is_empty() && *title != alt_text);
    if let Some(title) = title {
        walker.notes.add(|| format!("title {} of a picture: left out", quoted(&title)));
    }
    let mut renditions: Vec<_> = rendition.into_iter().collect();
    for file in img.attr("srcset").map(files_of_set).unwrap_or_default() {
        if renditions.iter().all(|other| other.href != file.href) {
            renditions.push(file);
        }
    }
    let focal_point = focal_point(img).or(attached.focal_point);
    Some(v1::Media { renditions, alt_text, caption: Vec::new(), focal_point, ..attached })
}

/// Returns the focal point of a picture that Cable rendered.
fn focal_point(img: ElementRef<'_>) -> Option<v1::FocalPoint> {
    let (x, y) = img.attr(FOCAL_POINT)?.trim().split_once(' ')?;
    let fraction = |text: &str| text.parse().ok().filter(|part: &f32| (0.0..=1.0).contains(part));
    Some(v1::FocalPoint { x: fraction(x)?, y: fraction(y)? })
}

/// Returns the first file of a set, of the picture itself or of the sources beside it.
fn first_of_set(img: ElementRef<'_>) -> Option<&str> {
    let own = ["srcset", "data-srcset", "data-lazy-srcset"].into_iter().find_map(|name| img.attr(name));
    let picture = img.parent().and_then(ElementRef::wrap).filter(|e| e.value().name() == "picture");
    let of_sources = || picture?.child_elements().take(MAX_FILES).find_map(|source| source.attr("srcset"));
    let set = own.filter(|set| !set.trim().is_empty()).or_else(of_sources)?;
    Some(set.split_whitespace().next()?.trim_end_matches(','))
}

/// Returns the files of a `srcset` whose width is known.
fn files_of_set(set: &str) -> Vec<v1::Rendition> {
    let file = |candidate: &str| {
        let (url, width) = candidate.trim().split_once(char::is_whitespace)?;
        let width = width.trim().strip_suffix('w')?.parse().ok().filter(|width| *width > 0)?;
        urls::rendition(url, Some(width), None)
    };
    set.split(", ").filter_map(file).take(MAX_FILES).collect()
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

/// Returns an embed of a video of VideoPress.
pub(super) fn videopress(guid: &str) -> Block {
    embed(format!("https://videopress.com/v/{guid}"), "", Vec::new())
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

/// Returns the id of a video of VideoPress from the attributes of its block.
pub(super) fn videopress_id(attributes: &serde_json::Value) -> Option<&str> {
    let guid = attributes.get("guid")?.as_str()?;
    (!guid.is_empty() && guid.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(guid)
}

/// Returns the block for an editor comment without HTML, as far as its attributes identify one.
pub(super) fn of_editor_block(
    walker: &mut Walker<'_>,
    name: &str,
    attributes: &serde_json::Value,
) -> Option<Block> {
    if name == "embed" || name.starts_with("core-embed/") {
        let url = attributes.get("url")?.as_str().and_then(urls::page)?;
        return Some(embed(url, "", Vec::new()));
    }
    if name == "videopress/video" {
        return videopress_id(attributes).map(videopress);
    }
    let ids = match name {
        "image" => vec![attributes.get("id")?.as_u64()?],
        "gallery" => attributes.get("ids")?.as_array()?.iter().filter_map(|id| id.as_u64()).collect(),
        _ => return None,
    };
    let mut media = attachments(walker, &format!("wp:{name}"), ids.into_iter());
    match (name, media.len()) {
        (_, 0) => None,
        ("image", _) => Some(block(Kind::Image(v1::Image { media: media.pop(), href: String::new() }))),
        _ => Some(block(Kind::Gallery(gallery(media, Vec::new())))),
    }
}
