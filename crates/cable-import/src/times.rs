//! Times as people and programs write them, and those without a zone.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime},
    tz::{Offset, TimeZone},
};

use crate::front_matter::parse_time;

mod mail;

/// A time, and whether it states its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) instant: Timestamp,
    pub(crate) has_zone: bool,
}

/// The maximum length of a time in bytes.
const MAX_BYTES: usize = 64;

/// Parses a time. One without a zone, or a day, is taken with the given offset.
pub(crate) fn parse(text: &str, offset: Offset) -> Option<Time> {
    let text = text.trim();
    if text.len() > MAX_BYTES {
        return None;
    }
    if let Some(instant) = since_1970(text) {
        return Some(Time { instant, has_zone: true });
    }
    // The end of a day is the start of the next one.
    match without_hour_24(text) {
        Some(start) => {
            let time = parse_clock(&start, offset)?;
            Some(Time { instant: time.instant.checked_add(SignedDuration::from_hours(24)).ok()?, ..time })
        }
        None => parse_clock(text, offset),
    }
}

/// Returns the zone that a time names, if it is not known.
pub(crate) fn unknown_zone(text: &str) -> Option<&str> {
    let text = text.trim();
    mail::parse(text).filter(|_| text.len() <= MAX_BYTES)?.unknown_zone
}

/// Returns a time in seconds or milliseconds since 1970, of 10 or 13 digits: fewer could be a date.
fn since_1970(text: &str) -> Option<Timestamp> {
    let whole = text.split_once('.').filter(|(_, rest)| rest.bytes().all(|byte| byte.is_ascii_digit()));
    let whole = whole.map_or(text, |(whole, _)| whole);
    let number: i64 = whole.parse().ok().filter(|_| whole.bytes().all(|byte| byte.is_ascii_digit()))?;
    match whole.len() {
        10 => Timestamp::from_second(number).ok(),
        13 => Timestamp::from_millisecond(number).ok(),
        _ => None,
    }
}

/// Returns a time at 24:00 as that of 00:00 of its day.
fn without_hour_24(text: &str) -> Option<String> {
    let at = text.find(" 24:00").or_else(|| text.find("T24:00"))? + 1;
    let after = &text[at + 5..];
    let is_whole = !after.starts_with(':') || after.starts_with(":00");
    is_whole.then(|| format!("{}00:00{after}", &text[..at]))
}

fn parse_clock(text: &str, offset: Offset) -> Option<Time> {
    // An hour of one digit: `2016-03-23 9:00:00`.
    let is_short = text.len() > 12
        && text.is_ascii()
        && text[10..11].trim_matches(['T', ' ']).is_empty()
        && text[12..].starts_with(':');
    let padded = if is_short { format!("{}0{}", &text[..11], &text[11..]) } else { text.to_owned() };
    let text = padded.as_str();
    let of = |instant, has_zone| Some(Time { instant, has_zone });
    if let Some(local) = local(text) {
        return of(TimeZone::fixed(offset).to_timestamp(local).ok()?, false);
    }
    let named = text.rsplit_once(' ').and_then(|(time, zone)| Some((local(time)?, mail::offset_of(zone)?)));
    if let Some((local, offset)) = named {
        return of(TimeZone::fixed(offset).to_timestamp(local).ok()?, true);
    }
    let hours = || parse_time(&with_whole_offset(text)?);
    match parse_time(text).or_else(hours) {
        Some(instant) => of(instant, true),
        None => {
            let mail = mail::parse(text)?;
            let zone = TimeZone::fixed(mail.offset.unwrap_or(offset));
            of(zone.to_timestamp(mail.local).ok()?, mail.offset.is_some())
        }
    }
}

/// Returns a time whose offset has hours only, such as `2015-03-17 14:00:00 -4`, with all its digits.
fn with_whole_offset(text: &str) -> Option<String> {
    let (time, offset) = text.rsplit_once([' ', '+', '-'])?;
    let sign = text[time.len()..].chars().next()?;
    let (time, sign, hours) = match (sign, offset.split_at_checked(1)) {
        (' ', Some((sign, hours))) => (time, sign, hours),
        (' ', None) => return None,
        _ => (time.trim_end(), &text[time.len()..=time.len()], offset),
    };
    let is_short = matches!(hours.len(), 1 | 2) && hours.bytes().all(|byte| byte.is_ascii_digit());
    (is_short && matches!(sign, "+" | "-") && time.contains(':'))
        .then(|| format!("{time}{sign}{hours:0>2}:00"))
}

fn local(text: &str) -> Option<DateTime> {
    let day =
        |format: &str| Some(Date::strptime(format, text).ok()?.to_datetime(jiff::civil::Time::midnight()));
    let time = |format: &str| DateTime::strptime(format, text).ok();
    day("%Y-%m-%d")
        .or_else(|| day("%Y/%m/%d"))
        .or_else(|| day("%B %d, %Y"))
        .or_else(|| day("%d %B %Y"))
        .or_else(|| day("%d %b %Y"))
        .or_else(|| day("%b %d, %Y"))
        .or_else(|| time("%Y/%m/%d %H:%M"))
        .or_else(|| time("%Y/%m/%d %H:%M:%S"))
        .or_else(|| time("%Y-%m-%d %H:%M"))
        .or_else(|| time("%Y-%m-%dT%H:%M"))
        .or_else(|| time("%Y-%m-%d %H:%M:%S%.f"))
        .or_else(|| time("%Y-%m-%dT%H:%M:%S%.f"))
}

/// Parses an offset such as `+02:00`, `-0530` or `Z`.
#[must_use]
pub fn parse_offset(text: &str) -> Option<Offset> {
    if matches!(text, "Z" | "z" | "UTC") {
        return Some(Offset::UTC);
    }
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let digits = rest.replacen(':', "", 1);
    let number = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i32>().ok();
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = (number(0..2)?, number(2..4)?);
    (hours <= 14 && minutes < 60).then(|| Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_generators_write_them() {
        let offset = parse_offset("+02:00").unwrap();
        for (text, expected, has_zone) in [
            ("2024-03-01", "2024-02-29T22:00:00Z", false),
            ("2024/03/01", "2024-02-29T22:00:00Z", false),
            ("March 1, 2024", "2024-02-29T22:00:00Z", false),
            ("2024-03-01 12:00", "2024-03-01T10:00:00Z", false),
            ("2024-03-01T12:00:05.250", "2024-03-01T10:00:05.25Z", false),
            ("2024-03-01 12:00:05", "2024-03-01T10:00:05Z", false),
            ("2024/03/01 12:00:05", "2024-03-01T10:00:05Z", false),
            ("1 Mar 2024", "2024-02-29T22:00:00Z", false),
            ("2024-03-01 12:00:05 UTC", "2024-03-01T12:00:05Z", true),
            ("2024-03-01 12:00 GMT", "2024-03-01T12:00:00Z", true),
            ("2024-03-01T12:00:05Z", "2024-03-01T12:00:05Z", true),
            ("2024-03-01T12:00:05-05:00", "2024-03-01T17:00:05Z", true),
            ("2024-03-01 12:00:05 -0500", "2024-03-01T17:00:05Z", true),
            ("2024-03-01 9:00:05 -4", "2024-03-01T13:00:05Z", true),
            ("2024-03-01 12:00:05 -5", "2024-03-01T17:00:05Z", true),
            ("2024-03-01T12:00:05+02", "2024-03-01T10:00:05Z", true),
            ("2024-03-01 12:00 -0500", "2024-03-01T17:00:00Z", true),
            ("Fri, 01 Mar 2024 12:00:05 GMT", "2024-03-01T12:00:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05 -0000", "2024-03-01T12:00:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05 est", "2024-03-01T17:00:05Z", true),
            ("Fri, 1 Mar 24 12:00 +0100 (CET)", "2024-03-01T11:00:00Z", true),
            ("Fri, 01 Mar 2024 12:00:05 +01:00", "2024-03-01T11:00:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05 GMT+1", "2024-03-01T11:00:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05 UTC-05:30", "2024-03-01T17:30:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05 GMT+1:00", "2024-03-01T11:00:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05 +0100(CET)", "2024-03-01T11:00:05Z", true),
            ("Fri, 01 Mar. 2024 12:00:05 +0100", "2024-03-01T11:00:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05 Z", "2024-03-01T12:00:05Z", true),
            ("Friday, 01 March 2024 12:00:05 +0000", "2024-03-01T12:00:05Z", true),
            ("Sun, 01 Sept 2024 12:00:05 +0000", "2024-09-01T12:00:05Z", true),
            ("01 Mar 2024 12:00:05 +0000", "2024-03-01T12:00:05Z", true),
            // Not the day of that date.
            ("Mon, 01 Mar 2024 12:00:05 +0000", "2024-03-01T12:00:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05 CET", "2024-03-01T11:00:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05 nzdt", "2024-02-29T23:00:05Z", true),
            ("2024-03-01 12:00:05 CEST", "2024-03-01T10:00:05Z", true),
            ("Fri, 1 Mar 2024 9:00:05 +0000", "2024-03-01T09:00:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05 +0000 GMT", "2024-03-01T12:00:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05 +0200 XYZT", "2024-03-01T10:00:05Z", true),
            ("Fri, 01 Mar 2024 12:00:05.25 GMT", "2024-03-01T12:00:05.25Z", true),
            ("Fri, 01 Mar 2024 24:00:00 GMT", "2024-03-02T00:00:00Z", true),
            ("2024-03-01T24:00:00Z", "2024-03-02T00:00:00Z", true),
            ("Fri Mar  1 12:00:05 2024", "2024-03-01T10:00:05Z", false),
            ("Fri Mar  1 12:00:05 UTC 2024", "2024-03-01T12:00:05Z", true),
            ("Fri Mar 01 12:00:05 +0000 2024", "2024-03-01T12:00:05Z", true),
            ("1709294405", "2024-03-01T12:00:05Z", true),
            ("1709294405.0", "2024-03-01T12:00:05Z", true),
            ("1709294405250", "2024-03-01T12:00:05.25Z", true),
            ("Mar 1, 2024 12:00 PM", "2024-03-01T10:00:00Z", false),
            ("March 1, 2024 12:05 am GMT", "2024-03-01T00:05:00Z", true),
            ("Mar 1, 2024 3:05pm EST", "2024-03-01T20:05:00Z", true),
            ("Fri, 01 Mar 2024 02:00:05 PM +0000", "2024-03-01T14:00:05Z", true),
            ("Fri, 01 Mar 2024", "2024-02-29T22:00:00Z", false),
            ("01-Mar-2024 12:00:05", "2024-03-01T10:00:05Z", false),
            ("Friday, 01-Mar-24 12:00:05 GMT", "2024-03-01T12:00:05Z", true),
            ("Fri, 31 Dec 2016 23:59:60 GMT", "2016-12-31T23:59:59Z", true),
            ("Fri, 01 Mar 2024 12:00:05 Europe/Oslo", "2024-03-01T10:00:05Z", false),
            ("Fri, 01 Mar 2024 12:00:05 BST", "2024-03-01T10:00:05Z", false),
            ("Fri, 01 Mar 2024 12:00:05", "2024-03-01T10:00:05Z", false),
            ("Friday, 01 Mar 2024 12:00", "2024-03-01T10:00:00Z", false),
        ] {
            let expected = Time { instant: expected.parse().unwrap(), has_zone };
            assert_eq!(parse(text, offset), Some(expected), "{text}");
        }
        for text in [
            "",
            "soon",
            "2024",
            "2024-13-01",
            "2024-03-01x",
            "Fri, 01 Mär 2024 12:00:05",
            "Fri, 41 Mar 2024 12:00:05 GMT",
            "20240301",
            "Fri, 01 Mar 2024 GMT",
            "Fri, 01 Mar 2024 PM",
            "Fri, 01 Mar 2024 12:00:05 GMT +0100",
            "Fri, 01 Mar 2024 14:00:05 pm",
            "Fri, 01 Mar 2024 24:00:05 GMT",
            "Fri, 01 Mar Apr 2024 12:00:05 GMT",
            "03/01/2024 12:00",
            "Fri, 01 marraskuu 2024 12:00:05 +0000",
            "Fri, 01 Ma 2024 12:00:05 +0000",
            "Fri, 01 Mar 2024 12:00:05 (x) +0100",
            &"1".repeat(100),
        ] {
            assert_eq!(parse(text, offset), None, "{text}");
        }
    }

    #[test]
    fn an_unknown_zone_has_its_name() {
        assert_eq!(unknown_zone("Fri, 01 Mar 2024 12:00:05 BST"), Some("BST"));
        assert_eq!(unknown_zone("Fri, 01 Mar 2024 12:00:05 Europe/Oslo"), Some("Europe/Oslo"));
        for text in ["Fri, 01 Mar 2024 12:00:05 CET", "Fri, 01 Mar 2024 12:00:05", "2024-03-01 12:00", "soon"]
        {
            assert_eq!(unknown_zone(text), None, "{text}");
        }
    }

    #[test]
    fn offsets_have_hours_and_minutes() {
        for (text, seconds) in [("+02:00", 7_200), ("-0530", -19_800), ("Z", 0), ("+14:00", 50_400)] {
            assert_eq!(parse_offset(text).map(Offset::seconds), Some(seconds), "{text}");
        }
        for text in ["", "2", "+2", "02:00", "+02:60", "+15:00", "+0é0", "CET"] {
            assert_eq!(parse_offset(text), None, "{text}");
        }
    }
}
