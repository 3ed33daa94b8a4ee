//! Conversion of a text that people write into a body.

use std::{error::Error, fmt};

use cable_proto::{
    limit,
    text::remove_forbidden,
    v1::{Body, BodyConversion, BodyFormat},
};

use crate::{
    html::{self, Converted, Notes},
    markdown,
};

/// A text converted into a body.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversion {
    /// The body.
    pub body: Body,
    /// The number of raw_html blocks in the body.
    pub raw_html_blocks: usize,
    /// A line for each part of the text that was stored as raw HTML, changed or left out, with the reason. At most
    /// [`html::MAX_NOTES`].
    pub notes: Vec<String>,
    /// The number of further lines.
    pub omitted_notes: usize,
}

impl Conversion {
    /// Returns the report without the body, as a message of the schema.
    pub fn report(&self) -> BodyConversion {
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        BodyConversion {
            raw_html_blocks: count(self.raw_html_blocks),
            notes: self.notes.clone(),
            omitted_notes: count(self.omitted_notes),
        }
    }
}

/// The reason why a text cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvertError {
    /// The format is neither HTML nor Markdown.
    Format,
    /// The text exceeds [`limit::BODY_SOURCE`].
    TooLarge,
    /// The text would occupy a parser for too long.
    TooCostly,
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConvertError::Format => f.write_str("must be HTML or MARKDOWN"),
            ConvertError::TooLarge => write!(f, "must be at most {} bytes", limit::BODY_SOURCE.maximum),
            ConvertError::TooCostly => f.write_str(
                "takes too long to parse: send a text with less markup, fewer lines, or fewer `<`, `&` and `[`",
            ),
        }
    }
}

impl Error for ConvertError {}

/// Converts HTML or Markdown into a body. The conversion loses no word: what no block fits stays as raw HTML or becomes
/// text, and the notes list it. The body can still exceed the limits of an article.
///
/// # Errors
/// The format is another one, or the text is too large or too costly.
pub fn convert(format: BodyFormat, text: &str) -> Result<Conversion, ConvertError> {
    if text.len() as u64 > limit::BODY_SOURCE.maximum {
        return Err(ConvertError::TooLarge);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let (text, omitted) = remove_forbidden(&text);
    let converted = match format {
        BodyFormat::Html => html::plain_body(&text).ok_or(ConvertError::TooCostly)?,
        BodyFormat::Markdown => markdown::body(&text).ok_or(ConvertError::TooCostly)?,
        _ => return Err(ConvertError::Format),
    };
    Ok(finished(converted, omitted))
}

/// Converts HTML of another site into a body, as [`convert`] does. `resolve` returns the URL that replaces one of the
/// text, if it is another. `steps` is the work that the parser may still do for this text and others, of which this
/// text's part is subtracted; a typical text takes a step or two for each byte.
///
/// # Errors
/// The text is too large, or takes too many steps.
pub fn convert_foreign(
    text: &str,
    resolve: &dyn Fn(&str) -> Option<String>,
    steps: &mut usize,
) -> Result<Conversion, ConvertError> {
    if text.len() as u64 > limit::BODY_SOURCE.maximum {
        return Err(ConvertError::TooLarge);
    }
    let text = text.replace("\r\n", "\n");
    let (text, omitted) = remove_forbidden(&text);
    let Some((converted, taken, in_references)) = html::foreign_body(&text, resolve, *steps) else {
        // The steps up to the bound were taken in vain.
        *steps = steps.saturating_sub(html::MAX_STEPS);
        return Err(ConvertError::TooCostly);
    };
    *steps = steps.saturating_sub(taken);
    Ok(finished(converted, omitted + in_references))
}

fn finished(converted: Converted, omitted: usize) -> Conversion {
    let Converted { body, raw_html, mut notes, .. } = converted;
    if omitted > 0 {
        notes.add(|| format!("{omitted} control or invisible characters: left out"));
    }
    let Notes { lines, omitted } = notes;
    Conversion { body, raw_html_blocks: raw_html, notes: lines, omitted_notes: omitted }
}
