//! The rules for caches of a response: how long they may reuse it, and how they ask whether it is still current.
//!
//! The time depends on the clock, on the settings and on content that the caller sees, never on a version that is not
//! visible yet.

use tokio::sync::watch;

use crate::clock::{Clock, micros};

const SECOND: i64 = 1_000_000;

/// The rule for the time that caches may reuse a response.
#[derive(Debug)]
pub(crate) struct Caching {
    clock: Clock,
    /// The configured maximum and the step of the horizon, in microseconds.
    max_age: i64,
    step: i64,
    /// The earliest time at which a pending version is due.
    next_due: watch::Receiver<Option<i64>>,
}

/// The rule for the response to one request.
///
/// It is taken before content is read. A version that comes due later than that is beyond the horizon, and one that is
/// due already, but not committed yet, lets no cache keep the response: what was read lacks it.
#[derive(Debug)]
pub(crate) struct Freshness<'a> {
    caching: &'a Caching,
    /// The time until which a response may be reused at most, in microseconds since 1970 UTC.
    horizon: i64,
}

impl Caching {
    pub(crate) fn new(
        clock: Clock,
        settings: &crate::config::Web,
        next_due: watch::Receiver<Option<i64>>,
    ) -> Caching {
        let (max_age, step) = (micros(settings.max_age), micros(settings.horizon).max(SECOND));
        Caching { clock, max_age, step, next_due }
    }

    /// Returns the rule for the response to a request that has arrived.
    pub(crate) fn now(&self) -> Freshness<'_> {
        // The clock first: a version that is committed after this is not overdue.
        let now = self.clock.now();
        let is_overdue = self.next_due.borrow().is_some_and(|due| due <= now);
        let horizon = if is_overdue { now } else { now + self.step - now.rem_euclid(self.step) };
        Freshness { caching: self, horizon }
    }
}

impl Freshness<'_> {
    /// Returns the whole seconds for which a response may be reused: until its next change, until the horizon, and at
    /// most for the configured time.
    pub(crate) fn max_age(&self, next_change: Option<i64>) -> i64 {
        max_age(self.caching.clock.now(), self.caching.max_age, self.horizon, next_change)
    }

    /// Whether a response may be confirmed by 304. nginx reuses a response that is confirmed with `max-age=0` for as
    /// long as the old one stated, which can be beyond its next change. If the setting is 0, it never stored one.
    pub(crate) fn may_confirm(&self, next_change: Option<i64>) -> bool {
        self.caching.max_age < SECOND || self.max_age(next_change) > 0
    }
}

fn max_age(now: i64, configured: i64, horizon: i64, next_change: Option<i64>) -> i64 {
    let until = next_change.map_or(horizon, |time| time.min(horizon));
    configured.min(until.saturating_sub(now)).max(0) / SECOND
}

/// Whether a value of `if-none-match` names an etag (RFC 9110, 13.1.2): `*`, or a list of etags, weak ones among them.
/// The etags of others may contain commas. The list ends at a text that is no etag.
pub(crate) fn names_etag(value: &[u8], etag: &[u8]) -> bool {
    find_etag(value, etag, true)
}

/// Whether a value of `if-match` names an etag (RFC 9110, 13.1.1), as [`names_etag`], but weak etags name none.
pub(crate) fn names_etag_strongly(value: &[u8], etag: &[u8]) -> bool {
    find_etag(value, etag, false)
}

fn find_etag(value: &[u8], etag: &[u8], allows_weak: bool) -> bool {
    let mut rest = value.trim_ascii();
    if rest == b"*" {
        return true;
    }
    loop {
        let start = rest.iter().position(|byte| !b", \t".contains(byte)).unwrap_or(rest.len());
        let strong = rest[start..].strip_prefix(b"W/");
        let is_weak = strong.is_some();
        rest = strong.unwrap_or(&rest[start..]);
        let end = rest.strip_prefix(b"\"").and_then(|text| text.iter().position(|byte| *byte == b'"'));
        let Some(end) = end else { return false };
        let (listed, others) = rest.split_at(end + 2);
        if listed == etag && (allows_weak || !is_weak) {
            return true;
        }
        rest = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const MINUTE: i64 = 60 * SECOND;

    /// The rule on a manual clock, with the earliest due time.
    fn caching(now: i64, max_age: i64, step: i64, next_due: Option<i64>) -> (Caching, ManualClock) {
        let (clock, hand) = Clock::manual(now);
        let (_, next_due) = watch::channel(next_due);
        (Caching { clock, max_age, step, next_due }, hand)
    }

    #[test]
    fn the_shortest_of_three_times_counts_and_is_rounded_down() {
        // 40 seconds and a half after a whole minute.
        let now = 1_900_000_000 * SECOND + SECOND / 2;
        assert_eq!(now.rem_euclid(MINUTE), 40 * SECOND + SECOND / 2);
        for (configured, step, next_change, expected) in [
            (MINUTE, MINUTE, None, 19),
            (10 * SECOND, MINUTE, None, 10),
            (0, MINUTE, None, 0),
            (MINUTE, MINUTE, Some(now + 5 * SECOND), 5),
            (MINUTE, MINUTE, Some(now + 5 * SECOND - 1), 4),
            (MINUTE, MINUTE, Some(now), 0),
            (MINUTE, MINUTE, Some(now - SECOND), 0),
            (MINUTE, MINUTE, Some(i64::MIN), 0),
            (MINUTE, MINUTE, Some(i64::MAX), 19),
            (MINUTE, SECOND, None, 0),
            (3_600 * SECOND, 3_600 * SECOND, None, 799),
        ] {
            let (caching, _hand) = caching(now, configured, step, None);
            assert_eq!(caching.now().max_age(next_change), expected, "{configured} {step} {next_change:?}");
        }
        assert_eq!(
            caching(0, MINUTE, MINUTE, None).0.now().max_age(None),
            60,
            "at the horizon, the next one counts"
        );
        assert_eq!(caching(-1, MINUTE, MINUTE, None).0.now().max_age(None), 0, "before 1970");
    }

    #[test]
    fn a_version_that_is_due_and_not_committed_lets_no_cache_keep_a_response() {
        let due = 1_900_000_020 * SECOND;
        assert_eq!(due.rem_euclid(MINUTE), 0);
        for (now, expected) in [(due - 2 * SECOND, 2), (due - 1, 0), (due, 0), (due + MINUTE, 0)] {
            let (caching, _hand) = caching(now, MINUTE, MINUTE, Some(due));
            assert_eq!(caching.now().max_age(None), expected);
            assert_eq!(caching.now().may_confirm(None), expected > 0);
        }
    }

    #[test]
    fn the_horizon_is_that_of_the_request_and_not_of_its_response() {
        let horizon = 1_900_000_020 * SECOND;
        let (caching, hand) = caching(horizon - 3 * SECOND, MINUTE, MINUTE, None);
        let freshness = caching.now();
        hand.set(horizon + SECOND);
        assert_eq!(freshness.max_age(None), 0, "what was read may be older than the horizon");
        assert_eq!(caching.now().max_age(None), 59);
    }

    #[test]
    fn an_etag_is_found_in_a_list() {
        let etag = b"\"abc.json\"";
        for value in [
            "\"abc.json\"",
            "W/\"abc.json\"",
            "\"x\", \"abc.json\"",
            "\"x\",W/\"abc.json\" ",
            "*",
            " * ",
            ", ,\"abc.json\"",
            "\"\",\"a,b\",\t\"abc.json\"",
        ] {
            assert!(names_etag(value.as_bytes(), etag), "{value}");
            let is_weak = value.contains("W/");
            assert_eq!(names_etag_strongly(value.as_bytes(), etag), !is_weak, "{value}");
        }
        for value in [
            "",
            "abc.json",
            "\"abc\"",
            "w/\"abc.json\"",
            "\"abc.json",
            "\"x\", \"y\"",
            ",",
            "**",
            "\"a,*,b\"",
            "*, \"x\"",
            "\"x, \"abc.json\"",
            "W/",
            "W/W/\"abc.json\"",
        ] {
            assert!(!names_etag(value.as_bytes(), etag), "{value}");
        }
    }
}
