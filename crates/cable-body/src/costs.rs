//! The processor time that the conversion of the worst texts of 1 MiB takes.

#![allow(clippy::print_stdout, reason = "the times, to compare them")]

use std::time::Duration;

use cable_proto::{limit, v1::BodyFormat};

use crate::{
    ConvertError, convert,
    testing::{Stopwatch, ordinary_html, shortest},
    worst,
};

/// The size of a text: the largest, or less without optimisation, to limit the time of the test.
const BYTES: usize = limit::BODY_SOURCE.maximum as usize / if cfg!(debug_assertions) { 8 } else { 1 };

/// The maximum time of a conversion of the largest text in an optimised build.
const MAX_TIME: Duration = Duration::from_millis(250);

/// The maximum time without optimisation, relative to that of ordinary HTML of the same size. The worst text that is
/// known takes seven times as long.
const MAX_RATIO: u32 = 16;

/// Returns the maximum time of a conversion.
fn max_time() -> Duration {
    if !cfg!(debug_assertions) {
        return MAX_TIME;
    }
    let text = ordinary_html(BYTES);
    let convert = || {
        let clock = Stopwatch::start();
        assert!(convert(BodyFormat::Html, &text).is_ok());
        clock.elapsed()
    };
    MAX_RATIO * shortest(convert)
}

/// Converts each text, and returns those that took too long, and the number of those that were refused.
fn measure(format: BodyFormat, texts: &[String]) -> (Vec<String>, usize) {
    let (max_time, mut slow, mut refused) = (max_time(), Vec::new(), 0);
    for text in texts {
        let clock = Stopwatch::start();
        let converted = convert(format, text);
        let time = clock.elapsed();
        refused += usize::from(converted == Err(ConvertError::TooCostly));
        let head: String = text.chars().take(24).collect();
        eprintln!("{time:>10.1?} {} {head:?}", if converted.is_ok() { "converted" } else { "refused  " });
        if time > max_time {
            slow.push(format!("{time:?} {head:?}"));
        }
    }
    (slow, refused)
}

#[test]
fn the_worst_html_takes_a_bounded_time() {
    let texts = worst::html(BYTES);
    let (slow, _) = measure(BodyFormat::Html, &texts);
    assert!(slow.is_empty(), "{slow:#?}");
}

#[test]
fn the_worst_markdown_takes_a_bounded_time() {
    let texts = worst::markdown(BYTES);
    let (slow, _) = measure(BodyFormat::Markdown, &texts);
    assert!(slow.is_empty(), "{slow:#?}");
}
