//! Elements on a drawing.

use crate::text::escape;
use std::fmt::Write as _;

/// A position in pixels from the top left corner.
pub(crate) type Point = (f64, f64);

/// Which end of a text its position names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// Shape of a data point: series differ by shape as well as by colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Circle,
    Square,
    Diamond,
    Triangle,
}

/// How a series looks, in plots and legends alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Index into the palette of the style sheet (`.s0` … `.s7`).
    pub colour: usize,
    /// Shape of its points.
    pub mark: Mark,
    /// Outlined instead of filled: a control, or a value before a change.
    pub hollow: bool,
    /// Lines are dashed: a null.
    pub dashed: bool,
}

impl Style {
    /// Style number `index`: colours and shapes go round together.
    pub(crate) fn nth(index: usize) -> Self {
        let mark = [Mark::Circle, Mark::Square, Mark::Diamond, Mark::Triangle][index % 4];
        Self {
            colour: index % 8,
            mark,
            hollow: false,
            dashed: false,
        }
    }

    /// The same style, outlined.
    pub(crate) fn hollow(self) -> Self {
        Self {
            hollow: true,
            ..self
        }
    }

    /// The same style with dashed lines.
    pub(crate) fn dashed(self) -> Self {
        Self {
            dashed: true,
            ..self
        }
    }

    /// Classes for a stroke in this style.
    pub(crate) fn line_class(self) -> String {
        let dash = if self.dashed { " dash" } else { "" };
        format!("s{} line{dash}", self.colour)
    }
}

/// A drawing being made; `finish` gives the `<svg>` element.
pub(crate) struct Canvas {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

impl Canvas {
    /// An empty drawing of `width` × `height` pixels; `label` is read aloud in its place.
    pub(crate) fn new(width: f64, height: f64, label: &str) -> Self {
        Self {
            width,
            height,
            label: label.to_owned(),
            body: String::new(),
        }
    }

    /// A straight line.
    pub(crate) fn line(&mut self, from: Point, to: Point, class: &str) {
        self.push(format_args!(
            r#"<line x1="{}" y1="{}" x2="{}" y2="{}" class="{class}"/>"#,
            px(from.0),
            px(from.1),
            px(to.0),
            px(to.1)
        ));
    }

    /// A rectangle with its top left corner at `at`.
    pub(crate) fn rect(&mut self, at: Point, size: Point, class: &str) {
        self.push(format_args!(
            r#"<rect x="{}" y="{}" width="{}" height="{}" class="{class}"/>"#,
            px(at.0),
            px(at.1),
            px(size.0.max(0.0)),
            px(size.1.max(0.0))
        ));
    }

    /// A rectangle of a shade between 0 (paper) and 1 (full colour), with a title on hover.
    pub(crate) fn shade(&mut self, at: Point, size: Point, class: &str, shade: f64, title: &str) {
        self.push(format_args!(
            r#"<rect x="{}" y="{}" width="{}" height="{}" class="{class}" fill-opacity="{}">{}</rect>"#,
            px(at.0),
            px(at.1),
            px(size.0),
            px(size.1),
            trim(&format!("{:.2}", shade.clamp(0.0, 1.0))),
            title_element(title)
        ));
    }

    /// A path through points; empty for fewer than two.
    pub(crate) fn polyline(&mut self, points: &[Point], class: &str) {
        if points.len() > 1 {
            self.push(format_args!(
                r#"<path d="{}" class="{class}"/>"#,
                through(points)
            ));
        }
    }

    /// A closed area.
    pub(crate) fn polygon(&mut self, points: &[Point], class: &str) {
        if points.len() > 2 {
            self.push(format_args!(
                r#"<path d="{}Z" class="{class}"/>"#,
                through(points)
            ));
        }
    }

    /// A line that leaves and arrives horizontally.
    pub(crate) fn curve(&mut self, from: Point, to: Point, class: &str) {
        let middle = px(f64::midpoint(from.0, to.0));
        let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
        self.push(format_args!(
            r#"<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}" class="{class}"/>"#
        ));
    }

    /// Text with its baseline at `at`; nothing for an empty one.
    pub(crate) fn text(&mut self, at: Point, anchor: Anchor, class: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        self.push(format_args!(
            r#"<text x="{}" y="{}" class="{class}{}">{}</text>"#,
            px(at.0),
            px(at.1),
            anchor_class(anchor),
            escape(text)
        ));
    }

    /// Text turned by `degrees` around `at`.
    pub(crate) fn turned(
        &mut self,
        at: Point,
        degrees: i32,
        anchor: Anchor,
        class: &str,
        text: &str,
    ) {
        let (x, y) = (px(at.0), px(at.1));
        self.push(format_args!(
            r#"<text x="{x}" y="{y}" transform="rotate({degrees} {x} {y})" class="{class}{}">{}</text>"#,
            anchor_class(anchor),
            escape(text)
        ));
    }

    /// A data point, with its title on hover.
    pub(crate) fn mark(&mut self, at: Point, style: Style, title: &str) {
        let body = mark_element(at, style, title);
        self.body.push_str(&body);
    }

    /// The finished element, which keeps its size on a narrow screen: it is scrolled, not shrunk.
    pub(crate) fn finish_fixed(self) -> String {
        self.finish().replacen("<svg ", r#"<svg class="fixed" "#, 1)
    }

    /// The finished element.
    pub(crate) fn finish(self) -> String {
        let (width, height) = (px(self.width), px(self.height));
        format!(
            r#"<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{}">{}</svg>"#,
            escape(&self.label),
            self.body
        )
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.body
            .write_fmt(arguments)
            .expect("writing to a string cannot fail");
    }
}

/// A mark alone, for legends: 12 × 12 pixels.
pub(crate) fn key(style: Style) -> String {
    let line = format!(
        r#"<line x1="0" y1="6" x2="18" y2="6" class="{}"/>"#,
        style.line_class()
    );
    let mark = mark_element((9.0, 6.0), style, "");
    format!(
        r#"<svg width="18" height="12" viewBox="0 0 18 12" aria-hidden="true">{line}{mark}</svg>"#
    )
}

fn mark_element(at: Point, style: Style, title: &str) -> String {
    let (x, y) = at;
    let fill = if style.hollow { "hollow" } else { "fill" };
    let class = format!("s{} {fill}", style.colour);
    let title = title_element(title);
    let shape = |points: [Point; 4]| {
        format!(
            r#"<path d="{}Z" class="{class}">{title}</path>"#,
            through(&points)
        )
    };
    match style.mark {
        Mark::Circle => {
            format!(
                r#"<circle cx="{}" cy="{}" r="3.3" class="{class}">{title}</circle>"#,
                px(x),
                px(y)
            )
        }
        Mark::Square => shape([
            (x - 3.0, y - 3.0),
            (x + 3.0, y - 3.0),
            (x + 3.0, y + 3.0),
            (x - 3.0, y + 3.0),
        ]),
        Mark::Diamond => shape([(x - 4.0, y), (x, y - 4.0), (x + 4.0, y), (x, y + 4.0)]),
        Mark::Triangle => shape([
            (x - 3.6, y + 3.0),
            (x, y - 3.8),
            (x, y - 3.8),
            (x + 3.6, y + 3.0),
        ]),
    }
}

fn title_element(title: &str) -> String {
    if title.is_empty() {
        String::new()
    } else {
        format!("<title>{}</title>", escape(title))
    }
}

fn anchor_class(anchor: Anchor) -> &'static str {
    match anchor {
        Anchor::Start => "",
        Anchor::Middle => " mid",
        Anchor::End => " end",
    }
}

fn through(points: &[Point]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        write!(path, "{command}{} {}", px(*x), px(*y)).expect("writing to a string cannot fail");
    }
    path
}

/// A pixel coordinate with at most one decimal; a value that is not a number must never reach a file.
fn px(value: f64) -> String {
    trim(&format!(
        "{:.1}",
        if value.is_finite() { value } else { 0.0 }
    ))
}

fn trim(text: &str) -> String {
    let short = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    };
    if short == "-0" {
        "0".to_owned()
    } else {
        short.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_short_and_closed() {
        let mut canvas = Canvas::new(10.0, 5.0, "a < b");
        canvas.line((0.0, 1.25), (2.0, 3.0), "grid");
        canvas.text((1.0, 2.0), Anchor::End, "tick", "x & y");
        let svg = canvas.finish();
        assert!(svg.starts_with(
            r#"<svg width="10" height="5" viewBox="0 0 10 5" role="img" aria-label="a &lt; b">"#
        ));
        assert!(svg.contains(r#"<line x1="0" y1="1.2" x2="2" y2="3" class="grid"/>"#));
        assert!(svg.contains(r#"<text x="1" y="2" class="tick end">x &amp; y</text></svg>"#));
    }

    #[test]
    fn what_is_not_a_number_is_drawn_at_zero() {
        assert_eq!(px(f64::NAN), "0");
        assert_eq!(px(-0.01), "0");
        assert_eq!(px(1.05), "1.1");
    }
}
