//! Step histograms laid over one another, with counts that keep the tails readable.

use super::canvas::Point;
use super::frame::{self, Margins};
use super::scale::Spread;
use super::{Canvas, Scale, Style};

/// One distribution of a histogram.
pub(crate) struct Distribution {
    pub values: Vec<f64>,
    pub style: Style,
}

/// Histograms over common bins; counts on a log(1 + n) axis, so that a single feature in a tail is seen.
pub(crate) struct Histogram {
    pub title: String,
    /// Range of the bins; values outside are counted in the outermost bin.
    pub range: (f64, f64),
    pub n_bins: usize,
    /// A value marked by a vertical line: shared.
    pub reference: Option<f64>,
    pub distributions: Vec<Distribution>,
}

const WIDTH: f64 = 344.0;
const HEIGHT: f64 = 200.0;

impl Histogram {
    /// The `<svg>` element.
    pub(crate) fn draw(&self) -> String {
        let margins = Margins {
            bottom: 20.0,
            ..Margins::plain(38.0)
        };
        let mut canvas = Canvas::new(WIDTH, HEIGHT, &self.title);
        let bottom = HEIGHT - margins.bottom;
        let across = Scale::linear(self.range, (margins.left, WIDTH - margins.right));
        let tallest = self.tallest_bin() as f64;
        let up = Scale::new(Spread::Count, (0.0, tallest * 1.3), (bottom, margins.top));
        frame::title(&mut canvas, &self.title);
        frame::vertical_axis(&mut canvas, &up, (margins.left, WIDTH - margins.right));
        frame::horizontal_axis(&mut canvas, &across, (margins.top, bottom), "");
        if let Some(value) = self.reference {
            canvas.line(
                (across.at(value), margins.top),
                (across.at(value), bottom),
                "zero",
            );
        }
        for distribution in &self.distributions {
            let steps = steps(&self.bins(&distribution.values), &across, &up, self.range);
            canvas.polygon(&steps, &format!("s{} area", distribution.style.colour));
            canvas.polyline(&steps, &distribution.style.line_class());
        }
        canvas.finish()
    }

    /// The largest count of any bin of any distribution.
    fn tallest_bin(&self) -> usize {
        let tallest = self
            .distributions
            .iter()
            .filter_map(|d| self.bins(&d.values).into_iter().max());
        tallest.max().unwrap_or(1)
    }

    fn bins(&self, values: &[f64]) -> Vec<usize> {
        let (low, high) = self.range;
        let mut counts = vec![0; self.n_bins];
        for value in values.iter().filter(|value| value.is_finite()) {
            let bin = ((value - low) / (high - low) * self.n_bins as f64).floor();
            counts[bin.clamp(0.0, self.n_bins as f64 - 1.0) as usize] += 1;
        }
        counts
    }
}

/// The outline of the bars, from the baseline back to the baseline.
fn steps(counts: &[usize], across: &Scale, up: &Scale, (low, high): (f64, f64)) -> Vec<Point> {
    let edge = |bin: usize| across.at(low + (high - low) * bin as f64 / counts.len() as f64);
    let mut points = vec![(edge(0), up.at(0.0))];
    for (bin, count) in counts.iter().enumerate() {
        let y = up.at(*count as f64);
        points.extend([(edge(bin), y), (edge(bin + 1), y)]);
    }
    points.push((edge(counts.len()), up.at(0.0)));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bin() {
        let histogram = Histogram {
            title: String::new(),
            range: (0.0, 1.0),
            n_bins: 4,
            reference: None,
            distributions: Vec::new(),
        };
        // 1.0 belongs to the last bin, values outside to the outermost, NaN to none.
        assert_eq!(
            histogram.bins(&[0.0, 0.25, 0.26, 1.0, 1.5, -1.0, f64::NAN]),
            [2, 2, 0, 2]
        );
    }
}
