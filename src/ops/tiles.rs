//! The tiles of the operations page: of each figure that varies its name, its value and range in words, and its plot.

use std::{fmt::Write as _, time::Instant};

use super::{
    plot::{self, HEIGHT, Line, Point, Range, Scale, WIDTH, Window},
    words,
};
use crate::telemetry::{COVERED, INTERVAL, LARGEST_BOUND, SMALLEST_BOUND, Sample, Series};

/// The windows of the plots in seconds: all have the shortest one that shows every sample.
const WINDOWS: [f32; 4] = [60.0, 300.0, 900.0, COVERED.as_secs() as f32];

/// A line has a gap where this many samples are missing.
const GAP_SAMPLES: f32 = 3.0;

/// One or two values that a tile shows over time, each with its name. A single one needs none.
type Lines = &'static [(Series, &'static str)];

/// The description of a tile.
pub(super) struct Tile {
    title: &'static str,
    lines: Lines,
    scale: Scale,
    /// Writes a value in words.
    words: fn(f64) -> String,
    /// The words where there is no value.
    none: &'static str,
}

/// A value below the first bucket and above the last one is at the end of the axis.
const LATENCY: Scale =
    Scale::Logarithmic(SMALLEST_BOUND.as_nanos() as f32 / 4e9, LARGEST_BOUND.as_nanos() as f32 * 4e-9);

fn per_second(value: f64) -> String {
    format!("{}/s", words::number(value))
}

fn bytes_per_second(value: f64) -> String {
    format!("{}/s", words::bytes(value))
}

fn percent(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

fn whole(value: f64) -> String {
    words::whole(value as u64)
}

fn revisions(value: f64) -> String {
    words::plural(value as u64, "revision")
}

fn cores(value: f64) -> String {
    format!("{value:.2} cores")
}

fn at_most(value: f64) -> String {
    words::at_most(value, LARGEST_BOUND)
}

const fn tile(title: &'static str, lines: Lines, scale: Scale, words: fn(f64) -> String) -> Tile {
    Tile { title, lines, scale, words, none: "no sample yet" }
}

impl Tile {
    const fn or(self, none: &'static str) -> Tile {
        Tile { none, ..self }
    }
}

pub(super) const WRITES: [Tile; 2] = [
    tile("Revisions", &[(Series::Commits, "")], Scale::FromZero, per_second),
    tile(
        "Time of a commit",
        &[(Series::CommitTime, "in all"), (Series::SyncTime, "on disk")],
        Scale::FromZero,
        words::duration,
    )
    .or("no commit"),
];

pub(super) const CALLS: [Tile; 4] = [
    tile("Calls", &[(Series::Calls, "")], Scale::FromZero, per_second),
    tile("Latency", &[(Series::P99, "99 %"), (Series::Median, "median")], LATENCY, at_most).or("no call"),
    tile(
        "Failed and refused",
        &[(Series::Failures, "failed"), (Series::Refusals, "refused")],
        Scale::FromZero,
        per_second,
    ),
    tile("Wait before service", &[(Series::Delay, "")], Scale::FromZero, words::duration),
];

pub(super) const FEEDS: [Tile; 4] = [
    tile("Followers", &[(Series::Feeds, "")], Scale::FromZero, whole),
    tile("Lag of the slowest", &[(Series::Lag, "")], Scale::FromZero, revisions),
    tile("Connections", &[(Series::Connections, "")], Scale::FromZero, whole),
    tile("Sent by ended calls", &[(Series::SentBytes, "")], Scale::FromZero, bytes_per_second),
];

pub(super) const MEMORY: [Tile; 4] = [
    tile("Cache hits", &[(Series::HitRatio, "")], Scale::UpTo(1.0), percent).or("no read"),
    tile("Cache", &[(Series::CacheBytes, "")], Scale::FromZero, words::bytes),
    tile("Memory", &[(Series::ResidentBytes, "")], Scale::FromZero, words::bytes),
    tile("Processor", &[(Series::Processor, "")], Scale::FromZero, cores),
];

pub(super) const STORE: [Tile; 3] = [
    tile("Store", &[(Series::StoreBytes, "")], Scale::Around, words::bytes),
    tile("Free on its disk", &[(Series::FreeBytes, "")], Scale::Around, words::bytes),
    tile("Pending versions", &[(Series::Pending, "")], Scale::FromZero, whole),
];

/// The samples of the last hour, seen at one time.
pub(super) struct Past {
    samples: Vec<Sample>,
    now: Instant,
    window: Window,
}

impl Past {
    pub(super) fn new(samples: Vec<Sample>, now: Instant) -> Past {
        let age = |sample: &Sample| now.duration_since(sample.time).as_secs_f32();
        let oldest = samples.first().map_or(0.0, age);
        let secs = WINDOWS.into_iter().find(|secs| oldest <= *secs).unwrap_or(WINDOWS[3]);
        Past { samples, now, window: Window { secs, gap_secs: GAP_SAMPLES * INTERVAL.as_secs_f32() } }
    }

    /// Returns the time that the plots cover, in words.
    pub(super) fn words(&self) -> &'static str {
        match self.window.secs {
            60.0 => "minute",
            300.0 => "5 minutes",
            900.0 => "15 minutes",
            _ => "hour",
        }
    }

    fn points(&self, series: Series) -> Vec<Point> {
        let point = |sample: &Sample| {
            let age = self.now.duration_since(sample.time).as_secs_f32();
            Some(Point { age, value: sample.value(series)? })
        };
        let points = self.samples.iter().filter_map(point);
        points.filter(|point| point.age <= self.window.secs).collect()
    }

    fn newest(&self, series: Series) -> Option<f64> {
        self.samples.last().and_then(|sample| sample.value(series)).map(f64::from)
    }
}

/// Appends a tile.
pub(super) fn put(page: &mut String, tile: &Tile, past: &Past) {
    let points: Vec<_> = tile.lines.iter().map(|(series, _)| past.points(*series)).collect();
    *page += "<div class=\"tile\"><h3>";
    *page += tile.title;
    *page += "</h3>";
    for (i, ((series, name), points)) in tile.lines.iter().zip(&points).enumerate() {
        let now = past.newest(*series).map_or_else(|| tile.none.to_owned(), tile.words);
        let (key, range) = (key(tile, i, name), describe(tile, plot::range(points)));
        // Words that stand alone: a reader of the screen reads them in this order, and no plot.
        let _infallible = write!(page, "<p class=\"now\">{key}{now}</p><p class=\"range\">{range}</p>");
    }
    let mut lines = plot::draw(&points, past.window, tile.scale);
    for (line, (series, _)) in lines.iter_mut().zip(tile.lines) {
        // The mark is for the present value, and the newest point may be an older one.
        line.end = line.end.filter(|_| past.newest(*series).is_some());
    }
    put_plot(page, &lines);
    *page += "</div>";
}

/// Returns the name of a line with its stroke, where a tile has more than one.
fn key(tile: &Tile, i: usize, name: &str) -> String {
    match tile.lines.len() {
        1 => String::new(),
        _ => format!(
            "<svg class=\"key\" viewBox=\"0 0 24 8\" aria-hidden=\"true\"><path class=\"line {}\" d=\"M1 4H23\"/>\
             </svg><span class=\"name\">{name}</span> ",
            class(i)
        ),
    }
}

/// The stroke of a line: solid or dashed, so that no color is needed to distinguish them.
fn class(i: usize) -> &'static str {
    if i == 0 { "solid" } else { "dashed" }
}

fn describe(tile: &Tile, range: Option<Range>) -> String {
    let words = |value: f32| (tile.words)(f64::from(value));
    match range {
        None => "no value so far".to_owned(),
        Some(Range { low, high, .. }) if words(low) == words(high) => format!("always {}", words(low)),
        Some(Range { low, high, high_age }) => {
            format!("{} to {}, highest {} ago", words(low), words(high), words::long(f64::from(high_age)))
        }
    }
}

/// Appends the area of the first line, and above it the lines. The first one is on top.
fn put_plot(page: &mut String, lines: &[Line]) {
    let _infallible = write!(
        page,
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
    );
    if let Some(first) = lines.first() {
        let _infallible = write!(page, "<path class=\"area\" d=\"{}\"/>", first.area);
    }
    for (i, line) in lines.iter().enumerate().rev() {
        let _infallible = write!(page, "<path class=\"line {}\" d=\"{}\"/>", class(i), line.stroke);
        if let Some((x, y)) = line.end {
            let _infallible = write!(page, "<path class=\"end\" d=\"M{x:.1} {y:.1}h0\"/>");
        }
    }
    *page += "</svg>";
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Metrics;

    /// Returns the samples of a node whose numbers of followers were these, the last one 3 seconds ago.
    fn past(followers: &[u64]) -> Past {
        let (metrics, start) = (Metrics::new(), Instant::now());
        let mut now = start;
        for (i, followers) in followers.iter().enumerate() {
            metrics.feeds.set(*followers);
            now = start + i as u32 * INTERVAL;
            metrics.sample_at(now);
        }
        Past::new(metrics.history(), now + Duration::from_secs(3))
    }

    fn html(tile: &Tile, past: &Past) -> String {
        let mut page = String::new();
        put(&mut page, tile, past);
        page
    }

    #[test]
    fn a_tile_has_its_figure_and_its_range_in_words() {
        let tile = html(&FEEDS[0], &past(&[0, 1_200, 7]));
        assert!(tile.starts_with(
            "<div class=\"tile\"><h3>Followers</h3><p class=\"now\">7</p>\
             <p class=\"range\">0 to 1,200, highest 8 s ago</p><svg class=\"plot\" viewBox=\"0 0 300 64\""
        ));
        assert!(
            tile.contains("<path class=\"line solid\" d=\"M232.7 60.0L257.1 4.0L281.4 59.7\"/>"),
            "{tile}"
        );
        assert!(tile.contains("<path class=\"end\" d=\"M281.4 59.7h0\"/>"), "{tile}");
        let still = html(&FEEDS[0], &past(&[5, 5]));
        assert!(still.contains("<p class=\"now\">5</p><p class=\"range\">always 5</p>"), "{still}");
    }

    #[test]
    fn a_tile_without_values_has_words_and_no_line() {
        let tile = html(&CALLS[1], &past(&[0, 0]));
        for part in
            ["99 %</span> no call</p><p class=\"range\">no value so far</p>", "median</span> no call</p>"]
        {
            assert!(tile.contains(part), "{tile}");
        }
        assert!(
            tile.contains("<path class=\"line solid\" d=\"\"/>") && !tile.contains("class=\"end\""),
            "{tile}"
        );
    }

    #[test]
    fn a_second_line_is_above_the_area_of_the_first() {
        let tile = html(&CALLS[2], &past(&[0, 0, 0]));
        let at = |part: &str| tile.rfind(part).unwrap();
        assert!(at("class=\"area\"") < at("line dashed") && at("line dashed") < at("line solid"), "{tile}");
        assert_eq!(tile.matches("class=\"end\"").count(), 2, "{tile}");
    }

    #[test]
    fn all_plots_have_the_shortest_window_that_shows_every_sample() {
        for (samples, words) in [
            (0, "minute"),
            (12, "minute"),
            (13, "5 minutes"),
            (60, "5 minutes"),
            (61, "15 minutes"),
            (180, "15 minutes"),
            (181, "hour"),
            (720, "hour"),
        ] {
            assert_eq!(past(&vec![1; samples]).words(), words, "{samples}");
        }
    }

    #[test]
    fn latencies_have_places_between_the_ends_of_their_axis() {
        let Scale::Logarithmic(low, high) = LATENCY else { panic!("{LATENCY:?}") };
        assert!(
            f64::from(low) < SMALLEST_BOUND.as_secs_f64() && f64::from(high) > LARGEST_BOUND.as_secs_f64()
        );
        assert_eq!([at_most(0.000_05), at_most(f64::INFINITY)], ["≤ 50 µs", "over 13.1 s"]);
    }
}
