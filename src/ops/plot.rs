//! The geometry of a small plot: from values over time to the paths of an SVG. Nothing here knows what is plotted.

use std::fmt::Write as _;

/// The size of a plot in its own units. A browser stretches it to the width that there is.
pub(super) const WIDTH: f32 = 300.0;
pub(super) const HEIGHT: f32 = 64.0;

/// The room for the width of a line and for the mark at its end.
const MARGIN: f32 = 4.0;

/// The number of columns of a plot. Each has its lowest and its highest value, so that no peak is lost and no line has
/// more than [`MAX_POINTS`] points.
const COLUMNS: usize = 150;
const MAX_POINTS: usize = 2 * COLUMNS + 1;

/// A value at a time before now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// The age in seconds.
    pub(super) age: f32,
    pub(super) value: f32,
}

/// The vertical axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// From zero to the highest value.
    FromZero,
    /// Around the values, for a level that changes by little of its size. It spans at least a twentieth of the highest
    /// value, so that noise stays small.
    Around,
    /// From zero to a fixed value.
    UpTo(f32),
    /// Logarithmic, between two values above zero.
    Logarithmic(f32, f32),
}

/// The horizontal axis, which ends now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    /// The length in seconds.
    pub(super) secs: f32,
    /// A line has a gap where two points are further apart than this, in seconds.
    pub(super) gap_secs: f32,
}

/// The paths of a line.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Line {
    pub(super) stroke: String,
    /// The area between the line and the bottom.
    pub(super) area: String,
    /// The position of the newest point.
    pub(super) end: Option<(f32, f32)>,
}

/// The lowest and the highest value, and the age of the latter in seconds, of its last time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    pub(super) low: f32,
    pub(super) high: f32,
    pub(super) high_age: f32,
}

/// Draws lines that share their axes. The points of each are in the order of time.
pub(super) fn draw(lines: &[Vec<Point>], window: Window, scale: Scale) -> Vec<Line> {
    let lines: Vec<Vec<Point>> = lines.iter().map(|points| thin_out(points, window)).collect();
    let axis = Axis::new(range(lines.iter().flatten()), scale);
    lines.iter().map(|points| draw_line(points, window, axis)).collect()
}

/// Returns the range of values, `None` without a point.
pub(super) fn range<'a>(points: impl IntoIterator<Item = &'a Point>) -> Option<Range> {
    points.into_iter().fold(None, |range, Point { age, value }| {
        let Some(Range { low, high, high_age }) = range else {
            return Some(Range { low: *value, high: *value, high_age: *age });
        };
        let (high, high_age) = if *value >= high { (*value, *age) } else { (high, high_age) };
        Some(Range { low: low.min(*value), high, high_age })
    })
}

/// Returns the points within the window, of each column the lowest and the highest one, and the newest of all.
fn thin_out(points: &[Point], window: Window) -> Vec<Point> {
    let column = |point: &Point| ((1.0 - point.age / window.secs) * COLUMNS as f32) as usize;
    let inside: Vec<Point> =
        points.iter().copied().filter(|point| (0.0..=window.secs).contains(&point.age)).collect();
    let mut thinned = Vec::with_capacity(inside.len().min(MAX_POINTS));
    for points in inside.chunk_by(|a, b| column(a) == column(b)) {
        let lowest = points.iter().copied().min_by(|a, b| a.value.total_cmp(&b.value));
        let highest = points.iter().copied().max_by(|a, b| a.value.total_cmp(&b.value));
        let (Some(lowest), Some(highest)) = (lowest, highest) else { continue };
        thinned.push(if lowest.age >= highest.age { lowest } else { highest });
        if lowest != highest {
            thinned.push(if lowest.age >= highest.age { highest } else { lowest });
        }
    }
    let newest = inside.last().copied().filter(|newest| thinned.last() != Some(newest));
    thinned.extend(newest);
    thinned
}

/// The vertical axis with its bounds.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f32,
    high: f32,
    is_logarithmic: bool,
}

impl Axis {
    fn new(range: Option<Range>, scale: Scale) -> Axis {
        let (low, high) = range.map_or((0.0, 0.0), |range| (range.low, range.high));
        let (low, high) = match scale {
            Scale::FromZero => (0.0, high),
            Scale::UpTo(high) => (0.0, high),
            Scale::Logarithmic(low, high) => (low, high),
            Scale::Around => {
                let missing = (high / 20.0 - (high - low)).max(0.0);
                ((low - missing / 2.0).max(0.0), high + missing / 2.0)
            }
        };
        Axis { low, high, is_logarithmic: matches!(scale, Scale::Logarithmic(..)) }
    }

    /// Returns the distance of a value from the top. A value above or below the axis is at its end.
    fn y(self, value: f32) -> f32 {
        let part = match self.is_logarithmic {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        // Without any height, 0 divided by 0: all is at the bottom.
        let part = if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) };
        HEIGHT - MARGIN - part * (HEIGHT - 2.0 * MARGIN)
    }
}

fn draw_line(points: &[Point], window: Window, axis: Axis) -> Line {
    let position = |point: &Point| {
        let x = MARGIN + (1.0 - point.age / window.secs) * (WIDTH - 2.0 * MARGIN);
        (x, axis.y(point.value))
    };
    // A column that has a value may be further from the next one than two samples are.
    let gap = window.gap_secs.max(2.5 * window.secs / COLUMNS as f32);
    let mut line = Line { end: points.last().map(position), ..Line::default() };
    for run in points.chunk_by(|a, b| a.age - b.age <= gap) {
        let positions: Vec<_> = run.iter().map(position).collect();
        put_run(&mut line, &positions);
    }
    line
}

/// Adds points that a line connects. A single one becomes a dot, which has a length of zero and round ends.
fn put_run(line: &mut Line, positions: &[(f32, f32)]) {
    let ([(first, _), ..], [.., (last, _)]) = (positions, positions) else { return };
    for (i, (x, y)) in positions.iter().enumerate() {
        // Writing to a String cannot fail.
        let _infallible = write!(line.stroke, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
        let _infallible = write!(line.area, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
    }
    if positions.len() == 1 {
        line.stroke += "h0";
    }
    let bottom = HEIGHT - MARGIN;
    let _infallible = write!(line.area, "L{last:.1} {bottom:.1}L{first:.1} {bottom:.1}Z");
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { secs: 300.0, gap_secs: 15.0 };

    fn points(values: &[(f32, f32)]) -> Vec<Point> {
        values.iter().map(|(age, value)| Point { age: *age, value: *value }).collect()
    }

    fn stroke(values: &[(f32, f32)], scale: Scale) -> String {
        draw(&[points(values)], WINDOW, scale).remove(0).stroke
    }

    /// Returns the coordinates of a path.
    fn coordinates(path: &str) -> Vec<(f32, f32)> {
        let parts = path.split(['M', 'L', 'Z']).filter(|part| !part.is_empty());
        let numbers = parts.map(|part| part.trim_end_matches("h0").split_once(' ').unwrap());
        numbers.map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).collect()
    }

    #[test]
    fn time_runs_from_left_to_right_and_values_from_the_bottom_up() {
        let values = [(300.0, 0.0), (290.0, 5.0), (280.0, 10.0)];
        // 292 units for 300 seconds, 56 units for 10; the margins are 4.
        assert_eq!(stroke(&values, Scale::FromZero), "M4.0 60.0L13.7 32.0L23.5 4.0");
        let line = draw(&[points(&values)], WINDOW, Scale::FromZero).remove(0);
        assert_eq!(line.area, "M4.0 60.0L13.7 32.0L23.5 4.0L23.5 60.0L4.0 60.0Z");
        let now = draw(&[points(&[(5.0, 1.0), (0.0, 10.0)])], WINDOW, Scale::FromZero).remove(0);
        assert_eq!(now.end, Some((WIDTH - MARGIN, MARGIN)));
    }

    #[test]
    fn a_scale_places_its_bounds_at_the_ends() {
        let y = |value, scale| coordinates(&stroke(&[(10.0, value)], scale))[0].1;
        assert_eq!((y(0.25, Scale::UpTo(1.0)), y(3.0, Scale::UpTo(1.0))), (46.0, 4.0));
        let scale = Scale::Logarithmic(0.001, 10.0);
        for (value, expected) in [(0.001, 60.0), (0.1, 32.0), (10.0, 4.0), (0.0, 60.0), (f32::INFINITY, 4.0)]
        {
            assert_eq!(y(value, scale), expected, "{value}");
        }
        // 1 of 1,000 is a fiftieth of the height, since the axis spans 50.
        let around = coordinates(&stroke(&[(10.0, 999.0), (5.0, 1_000.0)], Scale::Around));
        assert!((around[0].1 - around[1].1 - 56.0 / 50.0).abs() < 0.11, "{around:?}");
        let wide = coordinates(&stroke(&[(10.0, 500.0), (5.0, 1_000.0)], Scale::Around));
        assert_eq!((wide[0].1, wide[1].1), (60.0, 4.0));
    }

    #[test]
    fn values_without_a_height_are_at_the_bottom() {
        for scale in [Scale::FromZero, Scale::Around] {
            assert_eq!(stroke(&[(10.0, 0.0), (5.0, 0.0)], scale), "M286.3 60.0L291.1 60.0", "{scale:?}");
        }
        assert_eq!(draw(&[Vec::new()], WINDOW, Scale::FromZero), [Line::default()]);
    }

    #[test]
    fn lines_share_their_axis() {
        let lines = draw(&[points(&[(0.0, 10.0)]), points(&[(0.0, 5.0)])], WINDOW, Scale::FromZero);
        assert_eq!([lines[0].end, lines[1].end], [Some((296.0, 4.0)), Some((296.0, 32.0))]);
    }

    #[test]
    fn a_line_has_a_gap_where_points_are_missing() {
        let values = [(100.0, 1.0), (95.0, 1.0), (60.0, 1.0), (20.0, 1.0), (15.0, 1.0)];
        let line = draw(&[points(&values)], WINDOW, Scale::FromZero).remove(0);
        assert_eq!(line.stroke.matches('M').count(), 3, "{}", line.stroke);
        assert!(line.stroke.contains("M237.6 4.0h0M"), "a single point is a dot: {}", line.stroke);
        assert_eq!(line.area.matches('Z').count(), 3, "{}", line.area);
    }

    #[test]
    fn an_hour_keeps_its_peaks_in_a_bounded_path() {
        let window = Window { secs: 3_600.0, gap_secs: 15.0 };
        let mut values: Vec<_> = (0..720).rev().map(|i| (i as f32 * 5.0, 100.0 + (i % 7) as f32)).collect();
        (values[100].1, values[500].1, values[719].1) = (900.0, 0.0, 450.0);
        let line = draw(&[points(&values)], window, Scale::FromZero).remove(0);
        let drawn = coordinates(&line.stroke);
        assert!(drawn.len() <= MAX_POINTS && drawn.len() > COLUMNS, "{}", drawn.len());
        assert_eq!(line.stroke.matches('M').count(), 1, "columns are no gaps: {}", line.stroke);
        let at = |y| drawn.iter().filter(|point| point.1 == y).count();
        assert_eq!((at(4.0), at(60.0), line.end), (1, 1, Some((296.0, 32.0))));
        assert!(drawn.is_sorted_by(|a, b| a.0 <= b.0), "{drawn:?}");
        assert!(drawn.iter().all(|(x, y)| (4.0..=296.0).contains(x) && (4.0..=60.0).contains(y)));
    }

    #[test]
    fn points_before_the_window_are_left_out() {
        assert_eq!(stroke(&[(301.0, 9.0), (300.0, 1.0)], Scale::FromZero), "M4.0 4.0h0");
    }

    #[test]
    fn a_range_has_the_last_time_of_the_highest_value() {
        let values = points(&[(30.0, 2.0), (20.0, 7.0), (10.0, 7.0), (5.0, 1.0)]);
        assert_eq!(range(&values), Some(Range { low: 1.0, high: 7.0, high_age: 10.0 }));
        assert_eq!(range(&[]), None);
    }
}
