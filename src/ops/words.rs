//! Figures in words: numbers, sizes, durations and times, and text as HTML shows it.

use std::{
    fmt::{self, Display, Write as _},
    time::Duration,
};

/// Text that a browser shows as it is.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

/// Returns a whole number in groups of three digits.
pub(super) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number, below 100 with a decimal place.
pub(super) fn number(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        number if number < 0.05 => "under 0.1".to_owned(),
        number if number < 99.95 => format!("{number:.1}"),
        number => whole(number.round() as u64),
    }
}

/// Returns a number and a noun, in the plural unless the number is 1.
pub(super) fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", whole(count), if count == 1 { "" } else { "s" })
}

/// Returns a size.
pub(super) fn bytes(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = units.iter().enumerate().rev().map(|(power, _)| power).find(|power| bytes >= size(*power));
    let power = power.unwrap_or(0);
    let decimals = usize::from(power > 0 && bytes < 100.0 * size(power));
    format!("{:.decimals$} {}", bytes / size(power), units[power])
}

fn size(power: usize) -> f64 {
    1_024_f64.powi(power as i32)
}

/// Returns a short duration, such as that of a call.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        0.0 => "0 ms".to_owned(),
        seconds if seconds < 0.000_999_5 => format!("{:.0} µs", seconds * 1e6),
        seconds if seconds < 0.099_95 => format!("{} ms", significant(seconds * 1e3)),
        seconds if seconds < 0.999_5 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{} s", significant(seconds)),
    }
}

/// Returns a number with one decimal place, unless that is zero.
fn significant(number: f64) -> String {
    format!("{number:.1}").trim_end_matches(".0").to_owned()
}

/// Returns the upper bound of a duration, infinite above the largest one that is measured.
pub(super) fn at_most(seconds: f64, largest: Duration) -> String {
    match seconds.is_infinite() {
        true => format!("over {}", duration(largest.as_secs_f64())),
        false => format!("≤ {}", duration(seconds)),
    }
}

/// Returns a long time, such as an uptime.
pub(super) fn long(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} min"),
        3_600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} {} h", plural(days, "day"), hours % 24),
    }
}

/// Returns a time in UTC, in seconds since 1970, as HTML: to the second, for people and for programs.
pub(super) fn time(seconds: u64) -> String {
    let timestamp =
        prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap_or(0), nanos: 0 }.to_string();
    let text = timestamp.replace('T', " ").replace('Z', " UTC");
    format!("<time datetime=\"{timestamp}\">{text}</time>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(whole(value), text);
        }
        for (value, text) in [
            (0.0, "0"),
            (0.01, "under 0.1"),
            (0.06, "0.1"),
            (99.94, "99.9"),
            (99.96, "100"),
            (1_234.5, "1,235"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!([plural(0, "feed"), plural(1, "feed")], ["0 feeds", "1 feed"]);
    }

    #[test]
    fn sizes_and_durations_have_their_units() {
        for (value, text) in [
            (0.0, "0 B"),
            (1_023.0, "1023 B"),
            (1_024.0, "1.0 KiB"),
            (150.0 * 1_024.0, "150 KiB"),
            (3.5 * size(3), "3.5 GiB"),
            (5_000.0 * size(4), "5000 TiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        for (value, text) in [
            (0.000_05, "50 µs"),
            (0.000_8, "800 µs"),
            (0.001, "1 ms"),
            (0.003_2, "3.2 ms"),
            (0.204_8, "205 ms"),
            (0.999_9, "1 s"),
            (13.107_2, "13.1 s"),
        ] {
            assert_eq!(duration(value), text);
        }
        let largest = Duration::from_secs(13);
        assert_eq!([at_most(0.000_2, largest), at_most(f64::INFINITY, largest)], ["≤ 200 µs", "over 13 s"]);
        for (value, text) in [
            (-1.0, "0 s"),
            (59.9, "59 s"),
            (61.0, "1 min"),
            (3_661.0, "1 h 1 min"),
            (90_000.0, "1 day 1 h"),
            (180_000.0, "2 days 2 h"),
        ] {
            assert_eq!(long(value), text);
        }
    }

    #[test]
    fn a_time_is_for_people_and_programs() {
        assert_eq!(
            time(1_700_000_000),
            "<time datetime=\"2023-11-14T22:13:20Z\">2023-11-14 22:13:20 UTC</time>"
        );
    }

    #[test]
    fn no_text_becomes_html() {
        assert_eq!(Escaped("<b>&\"'").to_string(), "&lt;b&gt;&amp;&quot;&#39;");
    }
}
