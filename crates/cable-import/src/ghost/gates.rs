//! The parts of a post that Ghost shows only to some readers.

use serde_json::Value;

/// The comments around a block of HTML with an audience.
const BEGIN: &str = "<!--kg-gated-block:begin";
const END: &str = "<!--kg-gated-block:end-->";

/// The readers of a part of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    Everyone,
    Members,
    /// The site does not show it: it is for newsletters, or hidden.
    NotOnSite,
}

impl Audience {
    /// Returns the audience of a part on the site. An empty segment has no member.
    fn on_site(is_public: bool, segment: Option<&str>) -> Self {
        match segment {
            _ if is_public => Audience::Everyone,
            Some("") => Audience::NotOnSite,
            _ => Audience::Members,
        }
    }

    /// Returns the audience of a card. In its older form, a segment limits the newsletter alone.
    pub(super) fn of_card(card: &Value) -> Self {
        let Some(visibility) = card.get("visibility") else { return Audience::Everyone };
        let has = |key: &str, value: bool| visibility.get(key).and_then(Value::as_bool) == Some(value);
        match visibility.get("web") {
            Some(web) => {
                let is_public = web.get("nonMember").and_then(Value::as_bool) != Some(false);
                Audience::on_site(is_public, web.get("memberSegment").and_then(Value::as_str))
            }
            None if has("showOnWeb", false) || has("emailOnly", true) => Audience::NotOnSite,
            None => Audience::Everyone,
        }
    }

    /// Returns the audience that a comment states: `nonMember:false memberSegment:"status:-free"`.
    fn of_comment(comment: &str) -> Self {
        let is_public = !comment.contains("nonMember:false");
        let segment = comment.split_once("memberSegment:\"").map(|(_, rest)| rest.split('"').next());
        Audience::on_site(is_public, segment.map(Option::unwrap_or_default))
    }
}

/// HTML that readers of the site see, and what was found in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ungated {
    pub(super) html: String,
    /// Whether some of it is for members only.
    pub(super) has_gates: bool,
    /// The number of blocks that were left out because the site does not show them.
    pub(super) omitted: u64,
}

/// Returns HTML without the blocks that the site does not show. A block without an end is for members at most.
pub(super) fn ungated(html: &str) -> Ungated {
    let mut out = Ungated::default();
    let mut rest = html;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        out.html += before;
        let (comment, after) = after.split_once("-->").unwrap_or((after, ""));
        let audience = Audience::of_comment(comment);
        rest = match (audience, after.split_once(END)) {
            (Audience::NotOnSite, Some((_, after))) => {
                out.omitted += 1;
                after
            }
            _ => {
                out.has_gates |= audience != Audience::Everyone;
                after
            }
        };
    }
    out.html += rest;
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_have_the_readers_that_their_comments_state() {
        let block = |gate: &str| format!("<p>a</p>{BEGIN} {gate} --><p>b</p>{END}<p>c</p>");
        for (gate, shown, has_gates) in [
            ("nonMember:true memberSegment:\"status:free,status:-free\"", true, false),
            ("nonMember:true memberSegment:\"\"", true, false),
            ("nonMember:false memberSegment:\"status:-free\"", true, true),
            ("nonMember:false", true, true),
            ("nonMember:false memberSegment:\"\"", false, false),
        ] {
            let found = ungated(&block(gate));
            assert_eq!(found.html.contains("<p>b</p>"), shown, "{gate}");
            assert_eq!((found.has_gates, found.omitted), (has_gates, u64::from(!shown)), "{gate}");
            assert!(found.html.contains("<p>a</p>") && found.html.contains("<p>c</p>"), "{gate}");
        }
        let open = ungated(&format!("<p>a</p>{BEGIN} nonMember:false memberSegment:\"\" --><p>b</p>"));
        assert_eq!((open.html.as_str(), open.has_gates), ("<p>a</p><p>b</p>", true));
    }

    #[test]
    fn cards_have_the_readers_that_both_forms_state() {
        for (visibility, expected) in [
            (json!({}), Audience::Everyone),
            (json!({"web": {"nonMember": true, "memberSegment": ""}}), Audience::Everyone),
            (json!({"web": {"nonMember": false, "memberSegment": "status:free"}}), Audience::Members),
            (json!({"web": {"nonMember": false}}), Audience::Members),
            (json!({"web": {"nonMember": false, "memberSegment": ""}}), Audience::NotOnSite),
            (json!({"showOnWeb": false, "showOnEmail": true}), Audience::NotOnSite),
            (json!({"emailOnly": true, "segment": ""}), Audience::NotOnSite),
            (json!({"emailOnly": false, "segment": "status:-free"}), Audience::Everyone),
        ] {
            assert_eq!(Audience::of_card(&json!({"visibility": visibility})), expected, "{visibility}");
        }
        assert_eq!(Audience::of_card(&json!({})), Audience::Everyone);
    }
}
