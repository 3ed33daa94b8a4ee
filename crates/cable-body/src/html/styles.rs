//! Marks that a `style` gives to a text: `<span style="font-weight: bold">`, and marks that it takes away. Google Docs
//! writes `<b style="font-weight:normal">` around whole texts.

use scraper::ElementRef;

use super::runs::Style;
use cable_proto::v1::Mark;

/// The lightest weight of bold text.
const BOLD: u16 = 600;

/// Changes the marks of a text as the style of its element demands.
pub(super) fn apply(element: ElementRef<'_>, text: &mut Style) {
    for declaration in element.attr("style").unwrap_or_default().split(';') {
        let Some((property, value)) = declaration.split_once(':') else { continue };
        let value = value.to_ascii_lowercase();
        let value = value.trim().trim_end_matches("!important").trim_end();
        let change = match property.trim().to_ascii_lowercase().as_str() {
            "font-weight" => is_bold(value).map(|is_set| (Mark::Strong, is_set)),
            "font-style" => is_slanted(value).map(|is_set| (Mark::Emphasis, is_set)),
            "text-decoration" | "text-decoration-line" => {
                value.contains("line-through").then_some((Mark::Strike, true))
            }
            _ => None,
        };
        if let Some((mark, is_set)) = change {
            set(text, mark, is_set);
        }
    }
}

fn set(text: &mut Style, mark: Mark, is_set: bool) {
    let has = text.has(mark);
    if is_set && !has {
        text.marks.push(mark.into());
    } else if !is_set && has {
        text.marks.retain(|other| *other != i32::from(mark));
    }
}

fn is_bold(value: &str) -> Option<bool> {
    match value {
        "bold" | "bolder" => Some(true),
        "normal" | "lighter" => Some(false),
        _ => value.parse().ok().map(|weight: u16| weight >= BOLD),
    }
}

fn is_slanted(value: &str) -> Option<bool> {
    match value {
        "normal" => Some(false),
        _ => (value == "italic" || value.starts_with("oblique")).then_some(true),
    }
}
