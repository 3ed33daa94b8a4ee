//! The rules for caches of a response: how long they may reuse it, and how they ask whether it is still current.
//!
//! The time depends on the clock, on the settings and on content that the caller sees, never on a version that is not
//! visible yet.

use crate::clock::Clock;

const SECOND: i64 = 1_000_000;

/// The rule for the time that caches may reuse a response.
#[derive(Debug)]
pub(crate) struct Caching {
    clock: Clock,
    /// The configured maximum and the step of the horizon, in microseconds.
    max_age: i64,
    step: i64,
}

impl Caching {
    pub(crate) fn new(clock: Clock, settings: &crate::config::Web) -> Caching {
        let micros = |time: std::time::Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Caching { clock, max_age: micros(settings.max_age), step: micros(settings.horizon).max(SECOND) }
    }

    /// Returns the whole seconds for which a response may be reused: until its next change, until the horizon, and at
    /// most for the configured time.
    pub(crate) fn max_age(&self, next_change: Option<i64>) -> i64 {
        max_age(self.clock.now(), self.max_age, self.step, next_change)
    }

    /// Whether a response may be confirmed by 304. nginx reuses a response that is confirmed with `max-age=0` for as
    /// long as the old one stated, which can be beyond its next change. If the setting is 0, it never stored one.
    pub(crate) fn may_confirm(&self, next_change: Option<i64>) -> bool {
        self.max_age < SECOND || self.max_age(next_change) > 0
    }
}

fn max_age(now: i64, configured: i64, step: i64, next_change: Option<i64>) -> i64 {
    let to_horizon = step - now.rem_euclid(step);
    let to_change = next_change.map(|time| time.saturating_sub(now));
    let shortest = [Some(configured), Some(to_horizon), to_change].into_iter().flatten().min();
    shortest.unwrap_or(0).max(0) / SECOND
}

/// Whether a value of `if-none-match` names an etag: a list of etags, weak ones among them, or `*`. No etag of a node
/// contains a comma.
pub(crate) fn names_etag(value: &[u8], etag: &[u8]) -> bool {
    let mut listed = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    listed.any(|listed| listed == b"*" || listed.strip_prefix(b"W/").unwrap_or(listed) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_of_three_times_counts_and_is_rounded_down() {
        let minute = 60 * SECOND;
        // 40 seconds and a half after a whole minute.
        let now = 1_900_000_000 * SECOND + SECOND / 2;
        assert_eq!(now.rem_euclid(minute), 40 * SECOND + SECOND / 2);
        for (configured, step, next_change, expected) in [
            (minute, minute, None, 19),
            (10 * SECOND, minute, None, 10),
            (0, minute, None, 0),
            (minute, minute, Some(now + 5 * SECOND), 5),
            (minute, minute, Some(now + 5 * SECOND - 1), 4),
            (minute, minute, Some(now), 0),
            (minute, minute, Some(now - SECOND), 0),
            (minute, minute, Some(i64::MIN), 0),
            (minute, minute, Some(i64::MAX), 19),
            (minute, SECOND, None, 0),
            (3_600 * SECOND, 3_600 * SECOND, None, 799),
        ] {
            assert_eq!(
                max_age(now, configured, step, next_change),
                expected,
                "{configured} {step} {next_change:?}"
            );
        }
        assert_eq!(max_age(0, minute, minute, None), 60, "at the horizon itself, the next one counts");
        assert_eq!(max_age(-1, minute, minute, None), 0, "before 1970");
    }

    #[test]
    fn an_etag_is_found_in_a_list() {
        let etag = b"\"abc.json\"";
        for value in
            ["\"abc.json\"", "W/\"abc.json\"", "\"x\", \"abc.json\"", "\"x\",W/\"abc.json\" ", "*", " * "]
        {
            assert!(names_etag(value.as_bytes(), etag), "{value}");
        }
        for value in ["", "abc.json", "\"abc\"", "w/\"abc.json\"", "\"abc.json", "\"x\", \"y\"", ",", "**"] {
            assert!(!names_etag(value.as_bytes(), etag), "{value}");
        }
    }
}
