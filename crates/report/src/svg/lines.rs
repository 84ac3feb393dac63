//! Lines over an ordered quantity: training steps, checkpoints, α.

use super::canvas::Point;
use super::frame::{self, Margins};
use super::scale;
use super::{Anchor, Canvas, Scale, Style};
use stats::Estimate;

/// One line.
pub(crate) struct Series {
    /// `(x, y with its interval)` by rising x.
    pub points: Vec<(f64, Estimate)>,
    pub style: Style,
    /// Pixels by which marks and intervals are moved sideways, so that series do not hide one another.
    pub aside: f64,
    /// Draws each point with its interval; otherwise the interval is a band behind the line.
    pub marks: bool,
}

/// Sideways places for `n` series next to one another.
pub(crate) fn asides(n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(move |index| (index as f64 - (n as f64 - 1.0) / 2.0) * 4.0)
}

/// A plot of lines.
pub(crate) struct Lines {
    pub title: String,
    pub axis: String,
    /// Vertical range; found from the data when `None`.
    pub domain: Option<(f64, f64)>,
    /// A horizontal line: no change.
    pub reference: Option<f64>,
    /// A vertical line with its label: the chosen α.
    pub chosen: Option<(f64, String)>,
    /// Ticks only at the points' x, labelled so: checkpoints, α values.
    pub at_points: bool,
    pub series: Vec<Series>,
}

const WIDTH: f64 = 344.0;
const HEIGHT: f64 = 204.0;

impl Lines {
    /// The `<svg>` element.
    pub(crate) fn draw(&self) -> String {
        let margins = Margins::plain(48.0);
        let (right, bottom) = (WIDTH - margins.right, HEIGHT - margins.bottom);
        let across = Scale::linear(self.reach(), (margins.left, right));
        let up = Scale::linear(self.domain(), (bottom, margins.top));
        let mut canvas = Canvas::new(WIDTH, HEIGHT, &self.title);
        frame::title(&mut canvas, &self.title);
        frame::vertical_axis(&mut canvas, &up, (margins.left, right));
        self.draw_x_axis(&mut canvas, &across, (margins.top, bottom));
        if let Some(value) = self.reference.filter(|value| up.contains(*value)) {
            canvas.line((margins.left, up.at(value)), (right, up.at(value)), "zero");
        }
        if let Some((value, label)) = &self.chosen {
            let x = across.at(*value);
            canvas.line((x, margins.top), (x, bottom), "chosen");
            let (aside, anchor) = if x > right - 60.0 {
                (-4.0, Anchor::End)
            } else {
                (4.0, Anchor::Start)
            };
            canvas.text((x + aside, margins.top + 9.0), anchor, "tick", label);
        }
        for series in &self.series {
            series.draw(&mut canvas, &across, &up);
        }
        canvas.finish()
    }

    fn draw_x_axis(&self, canvas: &mut Canvas, across: &Scale, (top, bottom): (f64, f64)) {
        if !self.at_points {
            frame::horizontal_axis(canvas, across, (top, bottom), &self.axis);
            return;
        }
        let (from, to) = across.pixels();
        for x in self.positions() {
            canvas.text(
                (across.at(x), bottom + 13.0),
                Anchor::Middle,
                "tick",
                &crate::text::number(x),
            );
        }
        canvas.line((from, bottom), (to, bottom), "axis");
        canvas.text(
            (f64::midpoint(from, to), bottom + 28.0),
            Anchor::Middle,
            "alabel",
            &self.axis,
        );
    }

    /// Every x of every series, once, rising.
    fn positions(&self) -> Vec<f64> {
        let mut all: Vec<f64> = self
            .series
            .iter()
            .flat_map(|s| s.points.iter().map(|point| point.0))
            .collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        all
    }

    fn reach(&self) -> (f64, f64) {
        let (low, high) = scale::bounds(self.positions()).unwrap_or((0.0, 1.0));
        let margin = if self.at_points {
            (high - low).max(0.1) * 0.06
        } else {
            0.0
        };
        (low - margin, high + margin)
    }

    fn domain(&self) -> (f64, f64) {
        let ends = |y: &Estimate| [y.value, y.low, y.high];
        let values = self
            .series
            .iter()
            .flat_map(|s| s.points.iter().flat_map(move |(_, y)| ends(y)));
        let found = scale::bounds(values.chain(self.reference)).unwrap_or((0.0, 1.0));
        self.domain.unwrap_or_else(|| scale::padded(found))
    }
}

impl Series {
    fn draw(&self, canvas: &mut Canvas, across: &Scale, up: &Scale) {
        let finite: Vec<_> = self
            .points
            .iter()
            .filter(|(x, y)| x.is_finite() && y.value.is_finite())
            .collect();
        let has_interval = |y: &Estimate| y.low.is_finite() && y.high.is_finite() && y.low < y.high;
        let banded: Vec<_> = finite.iter().filter(|(_, y)| has_interval(y)).collect();
        if self.marks {
            for (x, y) in &banded {
                let x = across.at(*x) + self.aside;
                canvas.line((x, up.at(y.low)), (x, up.at(y.high)), &self.whisker_class());
            }
        } else {
            let low = banded.iter().map(|(x, y)| (across.at(*x), up.at(y.low)));
            let high = banded
                .iter()
                .rev()
                .map(|(x, y)| (across.at(*x), up.at(y.high)));
            let outline: Vec<Point> = low.chain(high).collect();
            canvas.polygon(&outline, &format!("s{} band", self.style.colour));
        }
        let line: Vec<Point> = finite
            .iter()
            .map(|(x, y)| (across.at(*x) + self.aside, up.at(y.value)))
            .collect();
        canvas.polyline(&line, &self.style.line_class());
        if self.marks {
            for ((x, y), at) in finite.iter().zip(&line) {
                let title = format!(
                    "{}: {}",
                    crate::text::number(*x),
                    crate::text::with_interval(y, crate::text::number)
                );
                canvas.mark(*at, self.style, &title);
            }
        }
    }

    /// Intervals are solid also where the line is dashed.
    fn whisker_class(&self) -> String {
        format!("s{} line", self.style.colour)
    }
}
