//! Heat maps: one hue from paper to full for sizes, two hues around zero for differences.

use super::frame::{self, text_width};
use super::{Anchor, Canvas};
use crate::text;

/// A matrix of values drawn as shades.
pub(crate) struct Heat {
    pub title: String,
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// `[rows][columns]`; `None` where there is nothing (an edge that does not exist).
    pub cells: Vec<Vec<Option<f64>>>,
    /// Differences around zero instead of sizes from zero.
    pub diverging: bool,
    /// Value of the fullest shade; the largest absolute value when `None`.
    pub full: Option<f64>,
    /// Writes the values of a legend and, where cells are large enough, into the cells.
    pub format: fn(f64) -> String,
    /// Width to fill, in pixels.
    pub width: f64,
}

const TOP: f64 = 24.0;
const LEGEND: f64 = 34.0;

impl Heat {
    /// The `<svg>` element.
    pub(crate) fn draw(&self) -> String {
        let left = self
            .rows
            .iter()
            .map(|label| text_width(label))
            .fold(24.0, f64::max)
            + 8.0;
        let room = self.width - left - 4.0;
        let cell = (room / self.columns.len().max(1) as f64).min(58.0);
        let tall = (if self.columns.len() > 14 { cell } else { 21.0 }).min(21.0);
        let heads = self.head_height(cell);
        let top = TOP + heads;
        let height = top + tall * self.rows.len() as f64 + LEGEND;
        let mut canvas = Canvas::new(self.width, height, &self.title);
        frame::title(&mut canvas, &self.title);
        self.draw_heads(&mut canvas, (left, top), cell);
        self.draw_row_labels(&mut canvas, (left, top), tall);
        self.draw_cells(&mut canvas, (left, top), (cell, tall));
        self.draw_legend(&mut canvas, left, height - LEGEND + 10.0);
        canvas.finish()
    }

    fn is_turned(&self, cell: f64) -> bool {
        self.columns
            .iter()
            .any(|label| text_width(label) > cell - 3.0)
    }

    fn head_height(&self, cell: f64) -> f64 {
        let widest = self
            .columns
            .iter()
            .map(|label| text_width(label))
            .fold(0.0, f64::max);
        if self.is_turned(cell) {
            widest.min(90.0) + 8.0
        } else {
            15.0
        }
    }

    fn draw_heads(&self, canvas: &mut Canvas, (left, top): (f64, f64), cell: f64) {
        let turned = self.is_turned(cell);
        let stride = if turned {
            (11.0 / cell).ceil().max(1.0) as usize
        } else {
            1
        };
        for (index, label) in self.columns.iter().enumerate().step_by(stride) {
            let x = left + (index as f64 + 0.5) * cell;
            let label = frame::clip(label, 90.0);
            if turned {
                canvas.turned((x + 4.0, top - 4.0), -90, Anchor::Start, "tick", &label);
            } else {
                canvas.text((x, top - 4.0), Anchor::Middle, "tick", &label);
            }
        }
    }

    fn draw_row_labels(&self, canvas: &mut Canvas, (left, top): (f64, f64), tall: f64) {
        let stride = (10.0 / tall).ceil().max(1.0) as usize;
        for (index, label) in self.rows.iter().enumerate().step_by(stride) {
            let y = top + (index as f64 + 0.5) * tall + 3.8;
            canvas.text((left - 5.0, y), Anchor::End, "tick", label);
        }
    }

    fn draw_cells(&self, canvas: &mut Canvas, (left, top): (f64, f64), (cell, tall): (f64, f64)) {
        let full = self.full();
        let gap = if tall > 8.0 { 1.0 } else { 0.3 };
        let shows_values = self.shows_values(cell, tall);
        for (row, values) in self.cells.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                let at = (left + column as f64 * cell, top + row as f64 * tall);
                let Some(value) = value.filter(|value| value.is_finite()) else {
                    continue;
                };
                let shade = (value.abs() / full).min(1.0);
                let title = format!(
                    "{} · {}: {}",
                    self.rows[row],
                    self.columns[column],
                    (self.format)(value)
                );
                canvas.shade(at, (cell - gap, tall - gap), self.hue(value), shade, &title);
                if shows_values {
                    let class = if shade > 0.55 { "cell on" } else { "cell" };
                    let middle = (at.0 + cell / 2.0, at.1 + tall / 2.0 + 3.6);
                    canvas.text(middle, Anchor::Middle, class, &(self.format)(value));
                }
            }
        }
    }

    fn draw_legend(&self, canvas: &mut Canvas, left: f64, y: f64) {
        let full = self.full();
        let low = if self.diverging { -full } else { 0.0 };
        let steps = 24;
        for step in 0..steps {
            let value = low + (full - low) * (f64::from(step) + 0.5) / f64::from(steps);
            let at = (left + f64::from(step) * 6.0, y);
            canvas.shade(at, (6.0, 8.0), self.hue(value), value.abs() / full, "");
        }
        canvas.text((left, y + 19.0), Anchor::Start, "tick", &(self.format)(low));
        canvas.text(
            (left + 144.0, y + 19.0),
            Anchor::End,
            "tick",
            &(self.format)(full),
        );
        if self.diverging {
            canvas.text((left + 72.0, y + 19.0), Anchor::Middle, "tick", "0");
        }
    }

    fn shows_values(&self, cell: f64, tall: f64) -> bool {
        let widest = self
            .cells
            .iter()
            .flatten()
            .flatten()
            .map(|value| text_width(&(self.format)(*value)));
        tall > 14.0 && widest.fold(0.0, f64::max) < cell - 2.0
    }

    fn hue(&self, value: f64) -> &'static str {
        match (self.diverging, value < 0.0) {
            (false, _) => "seq",
            (true, true) => "neg",
            (true, false) => "pos",
        }
    }

    fn full(&self) -> f64 {
        let sizes = self
            .cells
            .iter()
            .flatten()
            .flatten()
            .filter(|v| v.is_finite())
            .map(|value| value.abs());
        let largest = self.full.unwrap_or_else(|| sizes.fold(0.0, f64::max));
        if largest > 0.0 { largest } else { 1.0 }
    }
}

/// Formats shares for cells: two decimals.
pub(crate) fn two_decimals(value: f64) -> String {
    text::fixed(value, 2)
}
