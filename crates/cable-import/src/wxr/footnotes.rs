//! The footnotes of the block editor, which WordPress stores in a custom field and shows at a block of the text.

use serde::Deserialize;

use super::Element;

/// The custom field with the footnotes.
pub(super) const KEY: &str = "footnotes";

/// The block at which WordPress shows the footnotes.
const BLOCK: &str = "<!-- wp:footnotes";

#[derive(Deserialize)]
struct Footnote {
    id: String,
    content: String,
}

/// Returns the text of a post with its footnotes as a list. `None` if it has none, or does not show them.
pub(super) fn insert(item: &Element) -> Option<String> {
    let footnotes: Vec<Footnote> = serde_json::from_str(item.meta(KEY)?).ok()?;
    let content = item.raw("content:encoded");
    let start = content.find(BLOCK)?;
    let end = start + content[start..].find("-->")? + "-->".len();
    let is_id = |id: &str| {
        !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let items: String = footnotes
        .iter()
        .map(|footnote| match footnote.id.as_str() {
            id if is_id(id) => format!("<li id=\"{id}\">{}</li>", footnote.content),
            _ => format!("<li>{}</li>", footnote.content),
        })
        .collect();
    let list = format!("<!-- wp:list --><ol>{items}</ol><!-- /wp:list -->");
    (!footnotes.is_empty()).then(|| format!("{}{list}{}", &content[..start], &content[end..]))
}
