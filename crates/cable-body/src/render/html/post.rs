//! Posts of a live blog: an `article` whose parts are marked as those of a schema.org `LiveBlogPosting`.

use super::{
    super::{AUTHOR, HEADLINE, KEY_EVENT, PINNED, POST, authors, is_blank, is_token, times},
    Html,
};
use cable_proto::v1::LivePost;

/// Returns the start tag of a post.
pub(in crate::render) fn start_tag(id: &str, post: &LivePost) -> String {
    let mut html = Html { out: "<article".to_owned() };
    if is_token(id) {
        html.attribute("id", id);
    }
    html.attribute("itemprop", POST);
    html.attribute("itemscope", "");
    html.attribute("itemtype", "https://schema.org/BlogPosting");
    for (name, is_set) in [(KEY_EVENT, post.key_event), (PINNED, post.pinned)] {
        if is_set {
            html.attribute(name, "");
        }
    }
    html.out.push('>');
    html.out
}

/// Returns the times of a post as elements, separated by spaces.
pub(in crate::render) fn time_elements(post: &LivePost) -> String {
    let element = |time: super::super::PostTime| {
        let mut html = Html { out: "<time".to_owned() };
        html.attribute("itemprop", time.property);
        html.attribute("datetime", &time.exact);
        html.out.push('>');
        html.text(&time.shown);
        html.close("time");
        html.out
    };
    times(post).map(element).collect::<Vec<_>>().join(" ")
}

impl Html {
    pub(super) fn live_post(&mut self, id: &str, post: &LivePost) {
        let before = self.out.len();
        self.out.push_str(&start_tag(id, post));
        let inner = self.out.len();
        self.wrapped("header", "", |html| html.post_header(post));
        let part = if self.out.len() > inner { "\n" } else { "" };
        self.parted(part, |html| html.blocks(&post.blocks));
        if self.out.len() == inner { self.out.truncate(before) } else { self.close("article") }
    }

    fn post_header(&mut self, post: &LivePost) {
        if !is_blank(&post.title) {
            self.marked("h2", HEADLINE, |html| html.text(&post.title));
        }
        self.wrapped("p", "", |html| {
            let begin = html.out.len();
            html.out.push_str(&time_elements(post));
            for (at, (name, role)) in authors(post).enumerate() {
                if html.out.len() > begin {
                    html.out.push_str(if at > 0 { ", " } else { " " });
                }
                html.marked("span", AUTHOR, |html| html.author(name, role));
            }
        });
    }

    fn author(&mut self, name: &str, role: &str) {
        self.text(name);
        if !role.is_empty() {
            self.out.push(' ');
            self.wrapped("small", "", |html| html.text(&format!("({role})")));
        }
    }

    /// Writes an element that is marked as a property of the post.
    fn marked(&mut self, tag: &str, property: &str, content: impl FnOnce(&mut Self)) {
        self.out.push('<');
        self.out.push_str(tag);
        self.attribute("itemprop", property);
        self.out.push('>');
        content(self);
        self.close(tag);
    }
}
