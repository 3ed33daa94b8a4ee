//! Logs and metrics of a node: events to standard error, and metrics for a scraper.
//!
//! Only this module has the names of the metrics. A registry is a value: two nodes in one process count separately.

use std::{fmt, io::IsTerminal as _, str::FromStr};

use tracing_subscriber::{
    EnvFilter, Layer as _, filter::LevelFilter, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

mod calls;
mod describe;
mod exposition;
mod history;
mod metrics;
mod panics;
mod process;
mod random;
mod rates;
mod reasons;
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "without an exporter, nothing reads a span"))]
mod spans;
mod timings;

pub(crate) use calls::RpcMetrics;
pub use describe::{Description, describe};
pub(crate) use exposition::Exposition;
pub(crate) use history::{COVERED, INTERVAL, Sample, Series};
pub(crate) use metrics::{ConsumerName, LogHead, Metrics, Outcome, Queue, set_counter};
pub use metrics::{Declaration, declarations};
pub(crate) use panics::{count as panic_count, start_counting as start_counting_panics};
pub(crate) use process::{private_bytes, resident_bytes, start_time};
pub(crate) use random::random;
pub(crate) use rates::{LARGEST_BOUND, Rate, SMALLEST_BOUND};
pub(crate) use reasons::Reasons;
pub(crate) use spans::{Attribute, Span, SpanContext, SpanKind, Spans};
pub(crate) use timings::Timings;

/// The format of log events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err("expected text or json".to_owned()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Text => "text",
            Format::Json => "json",
        })
    }
}

/// The levels that [`init`] understands.
pub(crate) const LEVELS: &str =
    "error, warn, info, debug, trace, off, or directives as in \"info,cable=debug\"";

/// Checks that [`init`] understands `level`.
///
/// # Errors
/// [`init`] does not understand the level. The text describes the expected syntax.
pub(crate) fn check_level(level: &str) -> Result<(), String> {
    if level.is_empty() {
        return Err(format!("expected {LEVELS}"));
    }
    // The syntax of filters takes a word that is no level, such as "warning", for a target, and hides all others.
    let mut levels = level.split(',').map(str::trim).filter(|word| !word.contains(['=', '[']));
    if let Some(word) = levels.clone().find(|word| word.is_empty() || word.parse::<LevelFilter>().is_err()) {
        return Err(format!("expected {LEVELS} ({word:?} is not a level)"));
    }
    if levels.next().is_none() {
        return Err(format!("expected {LEVELS} (start with the level of everything else)"));
    }
    EnvFilter::try_new(level).map(drop).map_err(|error| format!("expected {LEVELS} ({error})"))
}

/// Returns the level with `h2` limited to errors, because it warns of each stream that a peer breaks, so a peer could
/// fill the log; and with the lines of the audit log, which no level hides. If the level names one of them, the
/// operator's choice applies.
fn complete(level: &str) -> String {
    let defaults = [("h2", "h2=error"), ("audit", "audit=info")];
    let missing = defaults.iter().filter(|(target, _)| !level.contains(target));
    missing.fold(level.to_owned(), |level, (_, directive)| format!("{level},{directive}"))
}

/// The level of this process's events, which can change while it runs.
#[derive(Debug)]
pub struct LogLevel(reload::Handle<EnvFilter, tracing_subscriber::Registry>);

impl LogLevel {
    /// Changes the level.
    ///
    /// # Errors
    /// The level is invalid, or this process sends its events elsewhere. The text states which.
    pub fn set(&self, level: &str) -> Result<(), String> {
        check_level(level)?;
        let filter = EnvFilter::try_new(complete(level)).map_err(|error| error.to_string())?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Sends this process's events to standard error, and returns their level. Only the first call has an effect.
pub fn init(level: &str, format: Format) -> LogLevel {
    let filter = EnvFilter::try_new(complete(level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    // A second server in one process, as in tests, logs to the same place as the first one.
    let _already_set = tracing_subscriber::registry().with(filter).with(lines).try_init();
    LogLevel(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_levels_and_directives_are_accepted() {
        for level in ["info", "off", "TRACE", "info,cable=debug", "warn,cable::store=trace"] {
            assert_eq!(check_level(level), Ok(()), "{level}");
        }
        for level in ["", "info,=,", "info,,debug", "info,cable=loud"] {
            assert!(check_level(level).is_err(), "{level}");
        }
        // Each would hide all events but those of one target, which often does not exist.
        for level in ["warning", "inof", "NaN", "info,loud", "cable", "cabel=debug", "[span]=debug"] {
            let error = check_level(level).unwrap_err();
            assert!(
                error.contains("not a level") || error.contains("start with the level"),
                "{level}: {error}"
            );
        }
    }

    #[test]
    fn a_level_limits_h2_and_keeps_the_audit_log() {
        for (level, complete_level) in [
            ("info", "info,h2=error,audit=info"),
            ("off", "off,h2=error,audit=info"),
            ("info,h2=trace", "info,h2=trace,audit=info"),
            ("warn,audit=off", "warn,audit=off,h2=error"),
        ] {
            assert_eq!(complete(level), complete_level);
            assert_eq!(check_level(complete_level), Ok(()), "{level}");
        }
    }
}
