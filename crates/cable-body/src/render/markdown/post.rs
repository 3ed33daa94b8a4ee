//! Posts of a live blog as Markdown between the tags of an `article`, which other programs render as HTML. The tags are
//! followed by empty lines, so that a parser reads the lines between them as Markdown.

use super::{
    super::{AUTHOR, authors, html, is_blank},
    Markdown,
    inline::Piece,
};
use cable_proto::v1::LivePost;

impl Markdown {
    pub(super) fn live_post(&mut self, id: &str, post: &LivePost) {
        let saved = self.lines.save();
        self.lines.push_str(&html::post_start_tag(id, post));
        self.lines.break_line(2);
        let begin = self.lines.len();
        if !is_blank(&post.title) {
            self.lines.push_str("## ");
            self.inline(vec![Piece::plain(&post.title)], true);
            self.lines.break_line(2);
        }
        self.post_line(post);
        self.blocks(&post.blocks);
        if self.lines.len() == begin {
            return self.lines.restore(&saved);
        }
        self.lines.break_line(2);
        self.lines.push_str("</article>");
    }

    /// Writes the times and the authors.
    fn post_line(&mut self, post: &LivePost) {
        let begin = self.lines.len();
        let times = html::time_elements(post);
        if !times.is_empty() {
            self.lines.push_str(&times);
        }
        for (at, (name, role)) in authors(post).enumerate() {
            if self.lines.len() > begin {
                self.lines.push_str(if at > 0 { ", " } else { " " });
            }
            self.lines.push_str(&format!("<span itemprop=\"{AUTHOR}\">"));
            self.inline(vec![Piece::plain(name)], true);
            if !role.is_empty() {
                self.lines.push_str(" <small>(");
                self.inline(vec![Piece::plain(role)], true);
                self.lines.push_str(")</small>");
            }
            self.lines.push_str("</span>");
        }
        if self.lines.len() > begin {
            self.lines.break_line(2);
        }
    }
}
