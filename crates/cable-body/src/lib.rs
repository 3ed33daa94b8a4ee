//! Bodies of articles: blocks converted to HTML, Markdown and plain text, HTML converted to blocks, and HTML made safe.
//!
//! Pure functions without I/O. Each one bounds its work by the size of its input.

pub mod html;
mod render;
pub mod sanitise;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use render::{render, word_count};
