//! The box, grid and labels around a plot.

use super::{Anchor, Canvas, Scale};

/// Space around the plotting area, in pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Margins {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Margins {
    /// Room for a title above, tick labels left and below, and an axis label below.
    pub(crate) fn plain(left: f64) -> Self {
        Self {
            left,
            right: 12.0,
            top: 24.0,
            bottom: 36.0,
        }
    }
}

/// Approximate width of `text` in the tick font, in pixels: SVG cannot measure, so labels get room by count.
pub(crate) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 6.1
}

/// Shortens a label to about `pixels`, with an ellipsis.
pub(crate) fn clip(text: &str, pixels: f64) -> String {
    let room = (pixels / 6.1).floor().max(2.0) as usize;
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars()
        .take(room - 1)
        .chain(std::iter::once('…'))
        .collect()
}

/// Title at the top left, in the panel's own words.
pub(crate) fn title(canvas: &mut Canvas, text: &str) {
    canvas.text((0.0, 12.0), Anchor::Start, "ptitle", text);
}

/// Vertical grid lines and tick labels of a horizontal axis between the heights `top` and `bottom`.
pub(crate) fn horizontal_axis(
    canvas: &mut Canvas,
    scale: &Scale,
    (top, bottom): (f64, f64),
    label: &str,
) {
    let (from, to) = scale.pixels();
    let n = ((to - from) / 62.0) as usize;
    for tick in scale.ticks(n) {
        let x = scale.at(tick);
        canvas.line((x, top), (x, bottom), "grid");
        canvas.text(
            (x, bottom + 13.0),
            Anchor::Middle,
            "tick",
            &scale.label(tick, n),
        );
    }
    canvas.line((from, bottom), (to, bottom), "axis");
    canvas.text(
        (f64::midpoint(from, to), bottom + 28.0),
        Anchor::Middle,
        "alabel",
        label,
    );
}

/// Horizontal grid lines and tick labels of a vertical axis between `left` and `right`.
pub(crate) fn vertical_axis(canvas: &mut Canvas, scale: &Scale, (left, right): (f64, f64)) {
    let (from, to) = scale.pixels();
    let n = ((to - from).abs() / 26.0) as usize;
    for tick in scale.ticks(n) {
        let y = scale.at(tick);
        canvas.line((left, y), (right, y), "grid");
        canvas.text(
            (left - 5.0, y + 3.5),
            Anchor::End,
            "tick",
            &scale.label(tick, n),
        );
    }
    canvas.line((left, from), (left, to), "axis");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_labels_are_clipped_with_an_ellipsis() {
        assert_eq!(clip("short", 100.0), "short");
        assert_eq!(clip("a very long label", 61.0), "a very lo…");
    }
}
