//! Times with the name of a month: those of RFC 2822 and RFC 850, of C's `asctime`, and as people write them.

use jiff::{
    civil::{Date, DateTime, Time as Clock},
    tz::Offset,
};

use super::parse_offset;

/// Zones with one meaning, and their offsets in minutes. `BST`, `IST` and others mean several zones.
const ZONES: [(&str, i32); 35] = [
    ("UT", 0),
    ("GMT", 0),
    ("UTC", 0),
    ("EST", -300),
    ("EDT", -240),
    ("CST", -360),
    ("CDT", -300),
    ("MST", -420),
    ("MDT", -360),
    ("PST", -480),
    ("PDT", -420),
    ("AKST", -540),
    ("AKDT", -480),
    ("HST", -600),
    ("WET", 0),
    ("WEST", 60),
    ("CET", 60),
    ("CEST", 120),
    ("MEZ", 60),
    ("MESZ", 120),
    ("EET", 120),
    ("EEST", 180),
    ("MSK", 180),
    ("SAST", 120),
    ("HKT", 480),
    ("SGT", 480),
    ("JST", 540),
    ("KST", 540),
    ("AWST", 480),
    ("ACST", 570),
    ("ACDT", 630),
    ("AEST", 600),
    ("AEDT", 660),
    ("NZST", 720),
    ("NZDT", 780),
];

/// A time with its parts, and its zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mail<'a> {
    pub(super) local: DateTime,
    pub(super) offset: Option<Offset>,
    /// A zone whose offset is not known.
    pub(super) unknown_zone: Option<&'a str>,
}

/// The words of a time, by their form.
#[derive(Default)]
struct Words<'a> {
    day: Option<i8>,
    month: Option<i8>,
    year: Option<i16>,
    clock: Option<Clock>,
    /// Whether the clock is that of the afternoon.
    half: Option<bool>,
    zones: Vec<&'a str>,
}

/// Parses a time with the name of a month. `None` if a part is missing, or occurs twice.
pub(super) fn parse(text: &str) -> Option<Mail<'_>> {
    // A comment at the end can name the zone, in addition to its offset.
    let bare = text.strip_suffix(')').and_then(|text| text.rsplit_once('(')).map_or(text, |(bare, _)| bare);
    let mut words = Words::default();
    let all = bare.split([' ', '\t', '\n']).filter(|word| !word.is_empty());
    for (index, word) in all.enumerate() {
        if index > 0 || !is_weekday(word) {
            words.add(word)?;
        }
    }
    words.finish()
}

/// Returns whether the first word names a day of the week, in any language if a comma follows it.
fn is_weekday(word: &str) -> bool {
    const DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    if let Some(name) = word.strip_suffix(',') {
        return name.bytes().all(|byte| byte.is_ascii_alphabetic());
    }
    let word = word.to_ascii_lowercase();
    word.len() >= 3 && DAYS.iter().any(|day| day.starts_with(&word))
}

fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.is_none().then(|| *place = Some(value))
}

impl<'a> Words<'a> {
    fn add(&mut self, word: &'a str) -> Option<()> {
        let word = word.trim_end_matches(',');
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        if word.eq_ignore_ascii_case("AM") || word.eq_ignore_ascii_case("PM") {
            set(&mut self.half, word.eq_ignore_ascii_case("PM"))
        } else if digits > 0 && word.contains(':') {
            self.add_clock(word)
        } else if digits > 0 && digits == word.len() {
            self.add_number(word)
        } else if digits > 0 {
            // RFC 850: `01-Mar-2024`.
            let (day, rest) = word.split_once('-')?;
            let (month, year) = rest.split_once('-')?;
            self.add_number(day)?;
            set(&mut self.month, month_of(month)?)?;
            self.add_number(year)
        } else if let Some(month) = month_of(word) {
            set(&mut self.month, month)
        } else {
            self.add_zone(word)
        }
    }

    /// Adds the day, or the year, which has four digits or follows the day. Years of two digits are those of RFC 2822.
    fn add_number(&mut self, word: &str) -> Option<()> {
        let number: i16 = word.parse().ok()?;
        match word.len() {
            4 => set(&mut self.year, number),
            1 | 2 if self.day.is_none() => set(&mut self.day, i8::try_from(number).ok()?),
            2 => set(&mut self.year, number + if number < 50 { 2_000 } else { 1_900 }),
            _ => None,
        }
    }

    fn add_clock(&mut self, word: &str) -> Option<()> {
        let end = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
        let (clock, half) = word.split_at(end);
        if !half.is_empty() {
            let is_half = half.eq_ignore_ascii_case("AM") || half.eq_ignore_ascii_case("PM");
            is_half.then_some(())?;
            set(&mut self.half, half.eq_ignore_ascii_case("PM"))?;
        }
        set(&mut self.clock, clock_of(clock)?)
    }

    fn add_zone(&mut self, word: &'a str) -> Option<()> {
        let is_name = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '+' || c == '-')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-:/_".contains(&byte));
        (is_name && self.zones.len() < 2).then(|| self.zones.push(word))
    }

    fn finish(self) -> Option<Mail<'a>> {
        let date = Date::new(self.year?, self.month?, self.day?).ok()?;
        let clock = match (self.clock, self.half) {
            (Some(clock), Some(is_afternoon)) => in_half(clock, is_afternoon)?,
            (Some(clock), None) => clock,
            (None, None) if self.zones.is_empty() => Clock::midnight(),
            _ => return None,
        };
        let offsets: Vec<Offset> = self.zones.iter().filter_map(|zone| offset_of(zone)).collect();
        let is_one = offsets.iter().all(|offset| Some(offset) == offsets.first());
        let has_unknown_sign =
            self.zones.iter().any(|zone| zone.starts_with(['+', '-']) && offset_of(zone).is_none());
        let unknown_zone = self.zones.into_iter().find(|_| offsets.is_empty());
        (is_one && !has_unknown_sign).then_some(Mail {
            local: date.to_datetime(clock),
            offset: offsets.first().copied(),
            unknown_zone,
        })
    }
}

/// Returns a time of day: `9:00`, `09:00:05`, `09:00:05.25`. A leap second is the second before.
fn clock_of(text: &str) -> Option<Clock> {
    let mut parts = text.split(':');
    let [hour, minute] = [parts.next()?, parts.next()?];
    let second = parts.next().unwrap_or("0");
    let (second, fraction) = second.split_once('.').unwrap_or((second, ""));
    let number = |text: &str| {
        let is_number = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i8>().ok().filter(|_| is_number)
    };
    let is_fraction = fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nanoseconds: i32 = format!("{fraction:0<9}").parse().ok().filter(|_| is_fraction)?;
    if parts.next().is_some() {
        return None;
    }
    Clock::new(number(hour)?, number(minute)?, if second == "60" { 59 } else { number(second)? }, nanoseconds)
        .ok()
}

/// Returns a time of the twelve-hour clock.
fn in_half(clock: Clock, is_afternoon: bool) -> Option<Clock> {
    let hour = match clock.hour() {
        12 => 0,
        hour @ 1..12 => hour,
        _ => return None,
    };
    let hour = hour + if is_afternoon { 12 } else { 0 };
    clock.with().hour(hour).build().ok()
}

/// Returns the number of a month, from its name, or three or more letters of it.
fn month_of(text: &str) -> Option<i8> {
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
    let is_start = |name: &&str| name.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text));
    (1..).zip(MONTHS).filter(|_| text.len() >= 3).find(|(_, name)| is_start(name)).map(|(number, _)| number)
}

/// Returns the offset of a zone: a name, an offset, or one such as `GMT+1`.
pub(super) fn offset_of(zone: &str) -> Option<Offset> {
    let zone = zone.to_ascii_uppercase();
    if let Some((_, minutes)) = ZONES.iter().find(|(name, _)| *name == zone) {
        return Offset::from_seconds(minutes * 60).ok();
    }
    let digits = zone.strip_prefix("GMT").or_else(|| zone.strip_prefix("UTC")).unwrap_or(&zone);
    let (hours, minutes) = digits.get(1..)?.split_once(':').unwrap_or((&digits[1..], "00"));
    let is_short = matches!(hours.len(), 1 | 2);
    let whole = is_short.then(|| format!("{}{hours:0>2}:{minutes}", &digits[..1]));
    parse_offset(whole.as_deref().unwrap_or(digits))
}
