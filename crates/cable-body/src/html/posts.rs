//! Posts of a live blog: elements that are marked as the updates of a schema.org `LiveBlogPosting`, such as those that
//! this crate renders.

use scraper::ElementRef;

use super::{
    block,
    blocks::{Context, Flow, Walker},
    collapse, markup,
};
use crate::render::{AUTHOR, HEADLINE, KEY_EVENT, MODIFIED, PINNED, POST, PUBLISHED};
use cable_proto::limit;
use cable_proto::v1::{self, Block, block::Kind};

/// Returns whether the element is marked as a post.
pub(super) fn is_post(element: ElementRef<'_>) -> bool {
    has_property(element, POST)
}

fn has_property(element: ElementRef<'_>, property: &str) -> bool {
    element.attr("itemprop").is_some_and(|all| all.split_ascii_whitespace().any(|one| one == property))
}

/// Adds a post with the blocks in it.
pub(super) fn post(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    walker.post = Some(v1::LivePost {
        key_event: element.attr(KEY_EVENT).is_some(),
        pinned: element.attr(PINNED).is_some(),
        ..Default::default()
    });
    let blocks = walker.flow_of(*element, &context.inner());
    let mut post = v1::LivePost { blocks, ..walker.post.take().unwrap_or_default() };
    let has_header = element.child_elements().any(|child| child.value().name() == "header");
    if post.title.is_empty() && !has_header {
        take_title(&mut post);
    }
    // A mark alone shows nothing.
    let marks = v1::LivePost { key_event: post.key_event, pinned: post.pinned, ..Default::default() };
    if post != marks {
        flow.blocks.push(block(Kind::LivePost(post)));
    }
}

/// Makes a heading at the start of the post its title.
fn take_title(post: &mut v1::LivePost) {
    let Some(Block { id, kind: Some(Kind::Heading(heading)) }) = post.blocks.first() else { return };
    let is_plain = heading.spans.iter().all(|span| span.link.is_none() && span.marks.is_empty());
    let title = collapse(&heading.spans.iter().map(|span| span.text.as_str()).collect::<String>());
    if id.is_empty() && is_plain && fits(&title) {
        post.title = title;
        post.blocks.remove(0);
    }
}

fn fits(line: &str) -> bool {
    !line.is_empty() && line.len() as u64 <= limit::LINE.maximum
}

/// Adds an element to the post around it if it is one of the post's properties, or a line of nothing else.
pub(super) fn take(post: &mut v1::LivePost, element: ElementRef<'_>) -> bool {
    match element.value().name() {
        "p" => take_line(post, element),
        _ => take_property(post, element),
    }
}

fn take_line(post: &mut v1::LivePost, line: ElementRef<'_>) -> bool {
    let is_property = |e: ElementRef<'_>| [AUTHOR, PUBLISHED, MODIFIED].iter().any(|p| has_property(e, p));
    let fields: Vec<_> = line.child_elements().filter(|child| is_property(*child)).collect();
    let between = markup::text_without(*line, is_property);
    let is_line = !fields.is_empty()
        && !between.contains(char::is_alphanumeric)
        && line.child_elements().all(is_property);
    let mut taken = post.clone();
    let is_taken = is_line && fields.into_iter().all(|field| take_property(&mut taken, field));
    if is_taken {
        *post = taken;
    }
    is_taken
}

fn take_property(post: &mut v1::LivePost, element: ElementRef<'_>) -> bool {
    let time = |property| {
        let value = element.attr("datetime").filter(|_| has_property(element, property));
        value.and_then(|time| time.trim().parse().ok())
    };
    let holds_text = markup::below(element).all(|e| markup::is_inline(e.value().name()));
    if has_property(element, HEADLINE) {
        let title = collapse(&markup::text_of(*element));
        let is_taken = post.title.is_empty() && holds_text && fits(&title);
        if is_taken {
            post.title = title;
        }
        is_taken
    } else if let (Some(time), None) = (time(PUBLISHED), post.publish_time) {
        post.publish_time = Some(time);
        true
    } else if let (Some(time), None) = (time(MODIFIED), post.update_time) {
        post.update_time = Some(time);
        true
    } else if has_property(element, AUTHOR) && holds_text {
        take_author(post, element)
    } else {
        false
    }
}

/// Adds a credit: the name, and the role in `small` and parentheses.
fn take_author(post: &mut v1::LivePost, element: ElementRef<'_>) -> bool {
    let is_role = |e: ElementRef<'_>| e.value().name() == "small";
    let display_name = collapse(&markup::text_without(*element, is_role));
    let role: String = markup::below(element).filter(|e| is_role(*e)).map(|e| markup::text_of(*e)).collect();
    let role = collapse(&role);
    let role =
        role.strip_prefix('(').and_then(|role| role.strip_suffix(')')).unwrap_or(&role).trim().to_owned();
    let is_taken = fits(&display_name)
        && role.len() as u64 <= limit::LINE.maximum
        && (post.credits.len() as u64) < limit::CREDITS.maximum;
    if is_taken {
        post.credits.push(v1::Credit { display_name, role, ..Default::default() });
    }
    is_taken
}
