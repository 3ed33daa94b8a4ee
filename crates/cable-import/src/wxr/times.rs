//! The times of posts. WordPress writes UTC, local time without its zone, and the date of the feed, and zeros for a time
//! that it does not know.

use std::collections::BTreeMap;

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime},
    fmt::rfc2822::DateTimeParser,
    tz::{Offset, TimeZone},
};

use cable_body::html;

use super::Element;

/// The largest distance of a local time from UTC, in hours.
const MAX_OFFSET_HOURS: i64 = 15;

/// The distances of a site's local time from UTC, by day, as the posts show them that have both.
#[derive(Debug, Default)]
pub(super) struct LocalTime {
    offsets: BTreeMap<Date, Offset>,
}

/// A time and, if something had to be assumed, a note on it.
#[derive(Debug, PartialEq)]
pub(super) struct Time {
    pub(super) instant: Timestamp,
    pub(super) note: Option<String>,
}

impl LocalTime {
    /// Learns from a post that has its date in both forms.
    pub(super) fn add(&mut self, item: &Element) {
        let (Some(instant), Some(local)) = (stated_instant(item), local(item.get("wp:post_date"))) else {
            return;
        };
        let Ok(as_utc) = TimeZone::UTC.to_timestamp(local) else { return };
        let distance = as_utc.duration_since(instant);
        if distance.abs() <= SignedDuration::from_hours(MAX_OFFSET_HOURS)
            && let Ok(offset) = i32::try_from(distance.as_secs())
                .map_err(drop)
                .and_then(|secs| Offset::from_seconds(secs).map_err(drop))
        {
            self.offsets.insert(local.date(), offset);
        }
    }

    /// Returns the publication time of a post.
    pub(super) fn published(&self, item: &Element) -> Option<Time> {
        if let Some(instant) = stated_instant(item) {
            return Some(Time { instant, note: None });
        }
        self.resolve("publication time", item.get("wp:post_date"))
    }

    /// Returns a note on publication times of which none can be read. Zeros stand for an unknown one.
    pub(super) fn note_on_unusable(item: &Element) -> Option<String> {
        let stated = ["wp:post_date_gmt", "wp:post_date", "pubDate"].map(|name| item.get(name));
        let is_unknown = |text: &str| text.starts_with("0000-00-00") || text.contains("-0001");
        let mut stated = stated.into_iter().filter(|text| !text.is_empty()).peekable();
        stated.peek()?;
        Some(match stated.find(|text| !is_unknown(text)) {
            Some(text) => format!("publication time omitted: {:?} is not a time", html::head(text, 64)),
            None => "the publication time is zero: that of the first import is used".to_owned(),
        })
    }

    /// Returns the time of a post's last change.
    pub(super) fn modified(&self, item: &Element) -> Option<Time> {
        if let Some(instant) = utc(item.get("wp:post_modified_gmt")) {
            return Some(Time { instant, note: None });
        }
        self.resolve("time of the last change", item.get("wp:post_modified"))
    }

    /// Resolves a local time with the offset of the nearest day.
    fn resolve(&self, field: &str, text: &str) -> Option<Time> {
        let local = local(text)?;
        let day = local.date();
        let distance = |other: &Date| (*other - day).get_days().abs();
        let before = self.offsets.range(..=day).next_back();
        let nearest =
            before.into_iter().chain(self.offsets.range(day..).next()).min_by_key(|(d, _)| distance(d));
        let (offset, reason) = match nearest {
            Some((_, offset)) => (*offset, format!("UTC{offset}, as the other posts show")),
            None => (Offset::UTC, "UTC".to_owned()),
        };
        let instant = in_range(offset.to_timestamp(local).ok()?)?;
        Some(Time { instant, note: Some(format!("{field} {text} has no time zone: taken as {reason}")) })
    }
}

/// Returns the publication time if the post states it with its zone.
fn stated_instant(item: &Element) -> Option<Timestamp> {
    let post_date = item.get("wp:post_date");
    let zoned = || in_range(post_date.parse().ok()?);
    let feed = || DateTimeParser::new().relaxed_weekday(true).parse_timestamp(item.get("pubDate")).ok();
    // Other programs write the time of the export, or the start of the epoch.
    let is_plausible = |feed: &Timestamp| {
        let as_utc = local(post_date).and_then(|local| TimeZone::UTC.to_timestamp(local).ok());
        let distance = |local: Timestamp| local.duration_since(*feed).abs();
        match as_utc {
            Some(local) => distance(local) <= SignedDuration::from_hours(MAX_OFFSET_HOURS),
            None => distance(Timestamp::UNIX_EPOCH) > SignedDuration::from_hours(2 * MAX_OFFSET_HOURS),
        }
    };
    utc(item.get("wp:post_date_gmt")).or_else(zoned).or_else(|| in_range(feed().filter(is_plausible)?))
}

/// Parses a time in UTC.
pub(super) fn utc(text: &str) -> Option<Timestamp> {
    let as_utc = || TimeZone::UTC.to_timestamp(local(text)?).ok();
    in_range(text.parse().ok().or_else(as_utc)?)
}

/// Parses a time as WordPress writes it, or in another form of ISO 8601, as other programs do.
fn local(text: &str) -> Option<DateTime> {
    DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok().or_else(|| text.parse().ok())
}

/// Returns the time if the schema has it: its timestamps start with the year 1.
fn in_range(time: Timestamp) -> Option<Timestamp> {
    (time.as_second() >= -62_135_596_800).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::{super::element::Field, *};

    fn item(fields: &[(&str, &str)]) -> Element {
        let field = |(name, text): &(&str, &str)| Field {
            name: (*name).into(),
            text: (*text).into(),
            ..Field::default()
        };
        Element { fields: fields.iter().map(field).collect(), ..Element::default() }
    }

    fn published(times: &LocalTime, fields: &[(&str, &str)]) -> Option<(String, bool)> {
        times.published(&item(fields)).map(|time| (time.instant.to_string(), time.note.is_some()))
    }

    const ZERO: (&str, &str) = ("wp:post_date_gmt", "0000-00-00 00:00:00");

    #[test]
    fn an_instant_comes_from_utc_or_the_feed() {
        let times = LocalTime::default();
        let local = ("wp:post_date", "2024-03-01 12:00:00");
        let at = |text: &str| Some((text.to_owned(), false));
        let utc = ("wp:post_date_gmt", "2024-03-01 16:00:00");
        assert_eq!(published(&times, &[local, utc]), at("2024-03-01T16:00:00Z"));
        for (date, expected) in [
            ("Fri, 01 Mar 2024 17:00:00 +0000", "2024-03-01T17:00:00Z"),
            ("Fri, 01 Mar 2024 12:00:00 -0500", "2024-03-01T17:00:00Z"),
            ("Fri, 01 Mar 2024 22:30:00 +0530", "2024-03-01T17:00:00Z"),
            ("Mon, 01 Mar 2024 17:00:00 GMT", "2024-03-01T17:00:00Z"),
            ("01 Mar 2024 12:00:00 EST", "2024-03-01T17:00:00Z"),
            ("Thu, 01 Jan 1970 00:00:00 +0000", "2024-03-01T12:00:00Z"),
        ] {
            let found = published(&times, &[ZERO, local, ("pubDate", date)]);
            assert_eq!(found.map(|(time, _)| time), Some(expected.to_owned()), "{date}");
        }
        for date in [
            "2024-03-01T16:00:00Z",
            "2024-03-01T18:00:00+02:00",
            "2024-03-01T16:00:00",
            "2024-03-01 16:00:00.0",
        ] {
            assert_eq!(
                published(&times, &[("wp:post_date_gmt", date)]),
                at("2024-03-01T16:00:00Z"),
                "{date}"
            );
        }
        assert_eq!(
            published(&times, &[ZERO, ("wp:post_date", "2024-03-01T18:00:00+02:00")]),
            at("2024-03-01T16:00:00Z")
        );
    }

    #[test]
    fn local_time_has_the_offset_of_the_nearest_day() {
        let mut times = LocalTime::default();
        let wrong = ("pubDate", "Wed, 30 Nov -0001 00:00:00 +0000");
        let at = |times: &LocalTime, local| published(times, &[ZERO, wrong, ("wp:post_date", local)]);
        assert_eq!(at(&times, "2024-07-03 12:00:00"), Some(("2024-07-03T12:00:00Z".into(), true)));
        times.add(&item(&[
            ("wp:post_date", "2024-01-10 12:00:00"),
            ("wp:post_date_gmt", "2024-01-10 11:00:00"),
        ]));
        times.add(&item(&[
            ("wp:post_date", "2024-07-01 12:00:00"),
            ("wp:post_date_gmt", "2024-07-01 10:00:00"),
        ]));
        times.add(&item(&[
            ("wp:post_date", "2024-07-02 12:00:00"),
            ("wp:post_date_gmt", "2024-07-09 10:00:00"),
        ]));
        assert_eq!(at(&times, "2024-07-03 12:00:00"), Some(("2024-07-03T10:00:00Z".into(), true)));
        assert_eq!(at(&times, "2024-01-03 00:30:00"), Some(("2024-01-02T23:30:00Z".into(), true)));
        assert_eq!(at(&times, "0000-00-00 00:00:00"), None);
    }

    #[test]
    fn a_time_that_cannot_be_read_is_reported() {
        let note = |fields: &[(&str, &str)]| LocalTime::note_on_unusable(&item(fields)).unwrap_or_default();
        let zeros = note(&[ZERO, ("wp:post_date", "0000-00-00 00:00:00")]);
        assert_eq!(zeros, "the publication time is zero: that of the first import is used");
        assert_eq!(note(&[]), "");
        let bad = note(&[ZERO, ("wp:post_date", "2024-02-31 25:61:00")]);
        assert_eq!(bad, "publication time omitted: \"2024-02-31 25:61:00\" is not a time");
    }
}
