//! Times as people and programs write them, and those without a zone.

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    fmt::{rfc2822, strtime},
    tz::{Offset, TimeZone},
};

use crate::front_matter::parse_time;

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
    let in_utc = text.strip_suffix(" UTC").or_else(|| text.strip_suffix(" GMT")).and_then(local);
    if let Some(local) = in_utc {
        return of(TimeZone::UTC.to_timestamp(local).ok()?, true);
    }
    let hours = || parse_time(&with_whole_offset(text)?);
    let zoned = || strtime::parse("%Y-%m-%d %H:%M %z", text).ok()?.to_timestamp().ok();
    match parse_time(text).or_else(hours).or_else(zoned) {
        Some(instant) => of(instant, true),
        None => of_mail(text, offset),
    }
}

/// Parses a time of RFC 2822, with the deviations that feeds have: whole names of days and months, zones such as
/// `+01:00` or `GMT+1`, and none. The time of an unknown zone has none (section 4.3).
fn of_mail(text: &str, offset: Offset) -> Option<Time> {
    // A comment at the end can name the zone, in addition to its offset.
    let bare = text.strip_suffix(')').and_then(|text| text.rsplit_once('(')).map_or(text, |(bare, _)| bare);
    let day = bare.split_once(',').filter(|(day, _)| day.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let mut words = day.map_or(bare, |(_, rest)| rest).split_ascii_whitespace();
    let [day, month, year, time] = [words.next()?, words.next()?, words.next()?, words.next()?];
    let in_utc = format!("{day} {} {year} {time} +0000", month_of(month)?);
    let in_utc = rfc2822::DateTimeParser::new().parse_timestamp(&in_utc).ok()?;
    let zone = words.next();
    let is_half = zone.is_some_and(|zone| ["AM", "PM"].iter().any(|half| zone.eq_ignore_ascii_case(half)));
    if is_half || words.next().is_some() {
        return None;
    }
    let zone = zone.and_then(mail_offset);
    let local = Offset::UTC.to_datetime(in_utc);
    let instant = TimeZone::fixed(zone.unwrap_or(offset)).to_timestamp(local).ok()?;
    Some(Time { instant, has_zone: zone.is_some() })
}

/// Returns the name that RFC 2822 has for a month, from that name, a longer form or the whole one.
fn month_of(text: &str) -> Option<&'static str> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let text = text.trim_end_matches('.');
    let is_start =
        |name: &&&str| name.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text));
    MONTHS.iter().filter(|_| text.len() >= 3).find(is_start).map(|name| &name[..3])
}

/// Returns the offset of a zone of RFC 2822, or of one such as `GMT+1`.
fn mail_offset(zone: &str) -> Option<Offset> {
    const NAMED: [(&str, i8); 11] = [
        ("UT", 0),
        ("GMT", 0),
        ("UTC", 0),
        ("EST", -5),
        ("EDT", -4),
        ("CST", -6),
        ("CDT", -5),
        ("MST", -7),
        ("MDT", -6),
        ("PST", -8),
        ("PDT", -7),
    ];
    let zone = zone.to_ascii_uppercase();
    if let Some((_, hours)) = NAMED.iter().find(|(name, _)| *name == zone) {
        return Some(Offset::constant(*hours));
    }
    let digits = zone.strip_prefix("GMT").or_else(|| zone.strip_prefix("UTC")).unwrap_or(&zone);
    let (hours, minutes) = digits.get(1..)?.split_once(':').unwrap_or((&digits[1..], "00"));
    let is_short = matches!(hours.len(), 1 | 2);
    let whole = is_short.then(|| format!("{}{hours:0>2}:{minutes}", &digits[..1]));
    parse_offset(whole.as_deref().unwrap_or(digits))
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
            ("Fri, 01 Mar 2024 12:00:05 CET", "2024-03-01T10:00:05Z", false),
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
            "Fri, 01 Mar 2024",
            "Fri, 01 Mar 2024 12:00:05 GMT +0100",
            "Fri, 01 Mar 2024 02:00:05 PM +0000",
            "Fri, 01 Mar 2024 02:00:05 pm",
            "Fri, 01 marraskuu 2024 12:00:05 +0000",
            "Fri, 01 Ma 2024 12:00:05 +0000",
            "Fri, 01 Mar 2024 12:00:05 (x) +0100",
            &"1".repeat(100),
        ] {
            assert_eq!(parse(text, offset), None, "{text}");
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
