//! A small SVG layer: text stays text, colours are classes that the style sheet turns light or dark.
//!
//! # Layout
//! - [`canvas`] — elements on a drawing
//! - [`scale`] — values to pixels, ticks
//! - [`frame`] — the box, grid and labels around a plot
//! - [`dots`], [`histogram`], [`heat`], [`lines`] — the four kinds of plot

pub(crate) mod canvas;
pub(crate) mod dots;
pub(crate) mod frame;
pub(crate) mod heat;
pub(crate) mod histogram;
pub(crate) mod lines;
pub(crate) mod scale;

pub(crate) use canvas::{Anchor, Canvas, Style};
pub(crate) use scale::Scale;
