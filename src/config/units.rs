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

/// Maximum of a limit on connections and calls. A longer one would limit nothing: nodes are restarted more often.
const MAX_SECONDS: Duration = Duration::from_secs(31 * 86_400);

/// Maximum age or interval of stored data. Times within this range of today are valid everywhere.
const MAX_DAYS: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Maximum of a size. A larger one is a typing error: it exceeds the memory and the disk of any machine.
const MAX_BYTES: u64 = 64 << 40;

/// A duration that is printed in seconds or milliseconds, even if it is read in a larger unit.
pub(super) struct Seconds {
    /// The shortest duration.
    pub(super) min: Duration,
}

impl Seconds {
    const fn up_to(&self, max: Duration) -> Between {
        Between { min: self.min, max }
    }
}

impl Syntax<Duration> for Seconds {
    fn parse(&self, text: &str) -> Result<Duration, String> {
        self.up_to(MAX_SECONDS).parse(text)
    }

    fn show(&self, value: &Duration) -> String {
        self.up_to(MAX_SECONDS).show(value)
    }

    fn values(&self) -> String {
        self.up_to(MAX_SECONDS).values()
    }
}

/// A duration with a maximum of its own, printed like [`Seconds`].
pub(super) struct Between {
    /// The shortest duration.
    pub(super) min: Duration,
    /// The longest duration.
    pub(super) max: Duration,
}

impl Syntax<Duration> for Between {
    fn parse(&self, text: &str) -> Result<Duration, String> {
        within(self.min, self.max, duration(text)?, show_days)
    }

    fn show(&self, value: &Duration) -> String {
        quoted(show_unit(millis(*value), &DURATION_UNITS[..2]))
    }

    fn values(&self) -> String {
        format!("a duration from {} to {}", show_days(self.min), show_days(self.max))
    }
}

/// A duration that is printed in units of up to a day.
pub(super) struct Days {
    /// The shortest duration.
    pub(super) min: Duration,
}

impl Syntax<Duration> for Days {
    fn parse(&self, text: &str) -> Result<Duration, String> {
        within(self.min, MAX_DAYS, duration(text)?, show_days)
    }

    fn show(&self, value: &Duration) -> String {
        quoted(show_days(*value))
    }

    fn values(&self) -> String {
        format!("a duration from {} to {}", show_days(self.min), show_days(MAX_DAYS))
    }
}

/// A size in bytes.
pub(super) struct Bytes {
    /// The smallest size.
    pub(super) min: u64,
}

impl Syntax<u64> for Bytes {
    fn parse(&self, text: &str) -> Result<u64, String> {
        within(self.min, MAX_BYTES, size(text)?, show_bytes)
    }

    fn show(&self, value: &u64) -> String {
        quoted(show_bytes(*value))
    }

    fn values(&self) -> String {
        format!("a size from {} to {}", show_bytes(self.min), show_bytes(MAX_BYTES))
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

/// Parses a size in bytes: a whole number with its unit.
///
/// # Errors
/// The text is something else. The error states what is expected.
pub fn size(text: &str) -> Result<u64, String> {
    with_unit(text, &BYTE_UNITS)
        .ok_or_else(|| "expected a whole number and KiB, MiB or GiB: \"256MiB\"".to_owned())
}

fn within<T: PartialOrd>(min: T, max: T, value: T, show: fn(T) -> String) -> Result<T, String> {
    match () {
        () if value < min => Err(format!("expected at least {}", show(min))),
        () if value > max => Err(format!("expected at most {}", show(max))),
        () => Ok(value),
    }
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
    if duration.is_zero() { "0s".to_owned() } else { show_unit(millis(duration), &DURATION_UNITS) }
}

fn show_bytes(number: u64) -> String {
    // Sizes are printed with the binary units alone.
    if number == 0 { "0".to_owned() } else { show_unit(number, &BYTE_UNITS[1..6]) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
