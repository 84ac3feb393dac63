//! Dots with intervals, one row per item: accuracies, differences, before and after.

use super::canvas::Point;
use super::frame::{self, text_width};
use super::{Anchor, Canvas, Scale, Style, scale};
use crate::text;
use stats::Estimate;

/// One dot with its interval.
pub(crate) struct Dot {
    pub estimate: Estimate,
    pub style: Style,
    /// Shown on hover.
    pub title: String,
    /// Small strokes on the same line: the members behind a mean (each random set, say).
    pub members: Vec<f64>,
}

/// A line of the plot.
pub(crate) enum Row {
    /// A heading over the rows that follow.
    Group(String),
    /// An item with its dots.
    Item { label: String, dots: Vec<Dot> },
}

/// A horizontal dot-and-interval plot.
pub(crate) struct DotPlot {
    pub title: String,
    /// Range shown; found from the data when `None`.
    pub domain: Option<(f64, f64)>,
    /// A value marked by a vertical line: no change, chance.
    pub reference: Option<f64>,
    /// An arrow from each row's first dot to its second: before → after.
    pub arrows: bool,
    /// Dots every row has room for, so that plots side by side keep their rows level.
    pub slots: usize,
    /// In pixels: [`WIDE`] or [`NARROW`].
    pub width: f64,
    pub rows: Vec<Row>,
}

/// Two such plots stand side by side.
pub(crate) const WIDE: f64 = 520.0;
/// Three such plots stand side by side.
pub(crate) const NARROW: f64 = 344.0;

const DOT_GAP: f64 = 10.0;
const ROW_PADDING: f64 = 9.0;
const GROUP_HEIGHT: f64 = 21.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 20.0;

impl DotPlot {
    /// The `<svg>` element.
    pub(crate) fn draw(&self) -> String {
        let left = self.label_width();
        let height: f64 = self.rows.iter().map(|row| self.height(row)).sum();
        let mut canvas = Canvas::new(self.width, TOP + height + BOTTOM, &self.title);
        let scale = Scale::linear(self.domain(), (left, self.width - 14.0));
        frame::title(&mut canvas, &self.title);
        frame::horizontal_axis(&mut canvas, &scale, (TOP, TOP + height), "");
        if let Some(value) = self.reference.filter(|value| scale.contains(*value)) {
            let x = scale.at(value);
            canvas.line((x, TOP), (x, TOP + height), "zero");
        }
        self.draw_rows(&mut canvas, &scale, left);
        canvas.finish()
    }

    fn draw_rows(&self, canvas: &mut Canvas, scale: &Scale, left: f64) {
        let mut y = TOP;
        for row in &self.rows {
            match row {
                Row::Group(label) => canvas.text((0.0, y + 15.0), Anchor::Start, "group", label),
                Row::Item { label, dots } => {
                    let middle = y + self.height(row) / 2.0;
                    let label = frame::clip(label, left - 8.0);
                    canvas.text((left - 8.0, middle + 4.0), Anchor::End, "rlabel", &label);
                    self.draw_dots(canvas, scale, dots, y);
                }
            }
            y += self.height(row);
        }
    }

    fn draw_dots(&self, canvas: &mut Canvas, scale: &Scale, dots: &[Dot], top: f64) {
        // Fewer dots than slots: centred.
        let spare = (self.slots.max(dots.len()) - dots.len()) as f64 / 2.0;
        let places: Vec<Point> = (0..dots.len())
            .map(|index| {
                let y = top + ROW_PADDING / 2.0 + (spare + index as f64 + 0.5) * DOT_GAP;
                (scale.at(dots[index].estimate.value), y)
            })
            .collect();
        if let (true, [before, after, ..]) = (self.arrows, places.as_slice()) {
            canvas.line(*before, *after, "arrow");
        }
        for (dot, at) in dots.iter().zip(places) {
            draw_dot(canvas, scale, dot, at);
        }
    }

    fn height(&self, row: &Row) -> f64 {
        match row {
            Row::Group(_) => GROUP_HEIGHT,
            Row::Item { dots, .. } => {
                ROW_PADDING + DOT_GAP * dots.len().max(self.slots).max(1) as f64
            }
        }
    }

    fn label_width(&self) -> f64 {
        let widest = self.rows.iter().map(|row| match row {
            Row::Group(_) => 0.0,
            Row::Item { label, .. } => text_width(label),
        });
        (widest.fold(30.0, f64::max) + 10.0).min(self.width * 0.4)
    }

    fn domain(&self) -> (f64, f64) {
        let values = self.rows.iter().flat_map(Row::values).chain(self.reference);
        self.domain
            .unwrap_or_else(|| scale::padded(scale::bounds(values).unwrap_or((0.0, 1.0))))
    }
}

impl Row {
    fn values(&self) -> Vec<f64> {
        let Self::Item { dots, .. } = self else {
            return Vec::new();
        };
        let ends = |dot: &Dot| [dot.estimate.value, dot.estimate.low, dot.estimate.high];
        dots.iter()
            .flat_map(|dot| ends(dot).into_iter().chain(dot.members.iter().copied()))
            .collect()
    }
}

fn draw_dot(canvas: &mut Canvas, scale: &Scale, dot: &Dot, at: Point) {
    let Estimate { value, low, high } = dot.estimate;
    for member in dot.members.iter().filter(|member| member.is_finite()) {
        let x = scale.at(*member);
        canvas.line((x, at.1 - 3.5), (x, at.1 + 3.5), "member");
    }
    if low.is_finite() && high.is_finite() {
        canvas.line(
            (scale.at(low), at.1),
            (scale.at(high), at.1),
            &dot.style.line_class(),
        );
    }
    if value.is_finite() {
        canvas.mark(at, dot.style, &dot.title);
    } else {
        canvas.text(
            (scale.pixels().0 + 4.0, at.1 + 3.5),
            Anchor::Start,
            "tick",
            text::NONE,
        );
    }
}
