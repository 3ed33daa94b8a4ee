//! Bodies of articles: blocks converted to HTML, Markdown and plain text, HTML and Markdown converted to blocks, and HTML
//! made safe.
//!
//! Pure functions without I/O. Each one bounds its work by the size of its input.

mod convert;
#[cfg(test)]
mod costs;
pub mod html;
mod markdown;
mod render;
#[cfg(test)]
mod round_trips;
pub mod sanitise;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod worst;

pub use convert::{Conversion, ConvertError, convert, convert_foreign};
pub use render::{render, word_count};
