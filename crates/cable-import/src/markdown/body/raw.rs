//! Raw HTML, in which a shortcode becomes text, or the HTML of its picture or code.

use std::ops::Range;

use cable_body::{html, render, sanitise};
use cable_proto::v1::{self, BodyFormat};

use super::{super::shortcodes::Meaning, Resolver};

impl Resolver<'_> {
    pub(super) fn raw_html(&mut self, raw: &mut v1::RawHtml) {
        if self.text.find(&raw.html).is_none() {
            return;
        }
        let code = code_of_html(&raw.html);
        let (mut html, mut rest) = (String::new(), raw.html.as_str());
        while let Some((start, end, index)) = self.text.find(rest) {
            let at = raw.html.len() - rest.len() + start;
            let is_code =
                code.get(code.partition_point(|part| part.end <= at)).is_some_and(|part| part.contains(&at));
            html.push_str(&rest[..start]);
            rest = &rest[end..];
            if is_code {
                html.push_str(&escaped(&self.text.shortcodes[index].source));
                continue;
            }
            match self.html_of_block(index, &html) {
                Some(picture) => {
                    // A paragraph cannot have a figure in it.
                    let is_alone = html.ends_with("<p>") && rest.starts_with("</p>");
                    if is_alone {
                        html.truncate(html.len() - "<p>".len());
                        rest = &rest["</p>".len()..];
                    }
                    html.push_str(&picture);
                }
                None => html.push_str(&escaped(&self.inline_text(index))),
            }
        }
        html.push_str(rest);
        // A resolved shortcode can be an address that no page may have.
        raw.html = sanitise::sanitise(&html);
        raw.reason = self.source(&raw.reason);
    }

    /// Returns the HTML of a picture or of code after other HTML. `None` within a tag.
    fn html_of_block(&mut self, index: usize, before: &str) -> Option<String> {
        let is_block =
            matches!(self.text.shortcodes[index].meaning, Meaning::Picture(_) | Meaning::Code { .. });
        if !is_block {
            return None;
        }
        if before.rfind('<') > before.rfind('>') {
            let source = html::head(&self.text.shortcodes[index].source, 200);
            self.notes.push(format!("{source} within a tag of HTML became text"));
            return None;
        }
        let blocks = self.own_block(index)?;
        Some(render(&v1::Body { blocks }, BodyFormat::Html).trim().to_owned())
    }
}

/// Returns the parts of well-formed HTML that are within `pre` or `code`.
fn code_of_html(html: &str) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, _) in html.match_indices('<') {
        let tag = &html[at + 1..];
        let name = tag.strip_prefix('/').unwrap_or(tag);
        let is_code = ["pre", "code"]
            .iter()
            .any(|code| name.strip_prefix(code).is_some_and(|rest| rest.starts_with(['>', ' ', '\n'])));
        match (is_code, tag.starts_with('/')) {
            (true, false) => {
                if depth == 0 {
                    start = at + tag.find('>').map_or(tag.len(), |end| end + 1);
                }
                depth += 1;
            }
            (true, true) => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    parts.push(start..at);
                }
            }
            _ => {}
        }
    }
    parts
}

/// Returns a text as HTML.
pub(in crate::markdown) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
