//! Durations and sizes: a whole number with its unit.

use std::time::Duration;

use super::syntax::{Syntax, quoted};

/// The units of durations, in milliseconds.
const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The units of sizes, in bytes.
const BYTE_UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// A duration that is printed in seconds or milliseconds, even if it is read in a larger unit.
pub(super) struct Seconds {
    /// The shortest duration.
    pub(super) min: Duration,
}

impl Syntax<Duration> for Seconds {
    fn parse(&self, text: &str) -> Result<Duration, String> {
        at_least(self.min, duration(text)?, show_days)
    }

    fn show(&self, value: &Duration) -> String {
        quoted(show_unit(millis(*value), &DURATION_UNITS[..2]))
    }
}

/// A duration that is printed in units of up to a day.
pub(super) struct Days {
    /// The shortest duration.
    pub(super) min: Duration,
}

impl Syntax<Duration> for Days {
    fn parse(&self, text: &str) -> Result<Duration, String> {
        at_least(self.min, duration(text)?, show_days)
    }

    fn show(&self, value: &Duration) -> String {
        quoted(show_days(*value))
    }
}

/// A size in bytes.
pub(super) struct Bytes {
    /// The smallest size.
    pub(super) min: u64,
}

impl Syntax<u64> for Bytes {
    fn parse(&self, text: &str) -> Result<u64, String> {
        let size = with_unit(text, &BYTE_UNITS)
            .ok_or_else(|| "expected a whole number and KiB, MiB or GiB: \"256MiB\"".to_owned())?;
        at_least(self.min, size, show_bytes)
    }

    fn show(&self, value: &u64) -> String {
        quoted(show_bytes(*value))
    }
}

/// Parses a duration: a whole number with its unit, ms, s, m, h or d.
///
/// # Errors
/// The text is something else. The error states what is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let millis = with_unit(text, &DURATION_UNITS);
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a whole number and ms, s, m, h or d: \"20s\"".to_owned())
}

fn at_least<T: PartialOrd>(min: T, value: T, show: fn(T) -> String) -> Result<T, String> {
    if value >= min { Ok(value) } else { Err(format!("expected at least {}", show(min))) }
}

/// Parses a whole number with a unit. Returns the number multiplied by the factor of the unit.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Formats a number in the largest unit that leaves a whole number.
fn show_unit(number: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| number.is_multiple_of(*factor);
    let (unit, factor) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    format!("{}{unit}", number / factor)
}

fn show_days(duration: Duration) -> String {
    show_unit(millis(duration), &DURATION_UNITS)
}

fn show_bytes(number: u64) -> String {
    // Sizes are printed with the binary units alone.
    if number == 0 { "0".to_owned() } else { show_unit(number, &BYTE_UNITS[1..6]) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
