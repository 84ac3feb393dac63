//! Values to pixels, and where the ticks stand.

use crate::text;

/// How a scale spreads its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Evenly.
    Linear,
    /// By log(1 + n): counts, with zero on the axis.
    Count,
}

/// Maps a range of values onto a range of pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    spread: Spread,
}

impl Scale {
    /// Maps `domain` onto `pixels`. An empty or unusable domain is widened so that every value has a place.
    pub(crate) fn new(spread: Spread, domain: (f64, f64), pixels: (f64, f64)) -> Self {
        let (low, high) = usable(spread, domain);
        Self {
            low,
            high,
            from: pixels.0,
            to: pixels.1,
            spread,
        }
    }

    /// A linear scale.
    pub(crate) fn linear(domain: (f64, f64), pixels: (f64, f64)) -> Self {
        Self::new(Spread::Linear, domain, pixels)
    }

    /// Pixel of a value; values outside are held at the border.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let (low, high) = (self.warp(self.low), self.warp(self.high));
        let share = ((self.warp(value) - low) / (high - low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    /// Whether a value lies inside the domain.
    pub(crate) fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// First and last pixel.
    pub(crate) fn pixels(&self) -> (f64, f64) {
        (self.from, self.to)
    }

    /// Values for about `n` ticks, inside the domain.
    pub(crate) fn ticks(&self, n: usize) -> Vec<f64> {
        match self.spread {
            Spread::Linear => linear_ticks(self.low, self.high, n),
            Spread::Count => std::iter::once(0.0)
                .chain(power_ticks(1.0, self.high, n))
                .collect(),
        }
    }

    /// The label of a tick: as many decimals as its neighbours need.
    pub(crate) fn label(&self, tick: f64, n: usize) -> String {
        let ticks = self.ticks(n);
        match (self.spread, ticks.as_slice()) {
            (Spread::Linear, [first, second, ..]) => decimal_label(tick, second - first),
            _ => text::number(tick),
        }
    }

    fn warp(&self, value: f64) -> f64 {
        match self.spread {
            Spread::Linear => value,
            Spread::Count => value.max(0.0).ln_1p(),
        }
    }
}

/// Smallest and largest finite value, with a margin; `None` when there is none.
pub(crate) fn bounds(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    (low <= high).then_some((low, high))
}

/// `bounds` widened by a twentieth on both sides.
pub(crate) fn padded(bounds: (f64, f64)) -> (f64, f64) {
    let margin = (bounds.1 - bounds.0) * 0.05;
    (bounds.0 - margin, bounds.1 + margin)
}

fn usable(spread: Spread, (low, high): (f64, f64)) -> (f64, f64) {
    match spread {
        Spread::Linear if low < high => (low, high),
        Spread::Linear if low.is_finite() => (
            low - 0.5 * low.abs().max(1.0),
            low + 0.5 * low.abs().max(1.0),
        ),
        Spread::Count => (0.0, high.max(1.0)),
        Spread::Linear => (0.5, 1.5),
    }
}

fn linear_ticks(low: f64, high: f64, n: usize) -> Vec<f64> {
    let step = nice_step((high - low) / n.max(1) as f64);
    let slack = step * 1e-9;
    let first = ((low - slack) / step).ceil() as i64;
    let last = ((high + slack) / step).floor() as i64;
    (first..=last).map(|index| index as f64 * step).collect()
}

/// 1, 2 or 5 times a power of ten, near `raw`.
fn nice_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.log10().floor());
    let share = raw / power;
    let factor = match share {
        share if share < 1.5 => 1.0,
        share if share < 3.5 => 2.0,
        share if share < 7.5 => 5.0,
        _ => 10.0,
    };
    factor * power
}

fn power_ticks(low: f64, high: f64, n: usize) -> Vec<f64> {
    let first = (low.log10() - 1e-9).ceil() as i32;
    let last = (high.log10() + 1e-9).floor() as i32;
    let stride = ((last - first) as usize / n.max(1) + 1) as i32;
    let powers: Vec<f64> = (first..=last)
        .filter(|p| (p - first) % stride == 0)
        .map(|p| 10f64.powi(p))
        .collect();
    // Less than a decade: plain steps say more than one power of ten.
    if powers.len() > 1 {
        powers
    } else {
        linear_ticks(low, high, n.min(4))
            .into_iter()
            .filter(|t| *t > 0.0)
            .collect()
    }
}

fn decimal_label(tick: f64, step: f64) -> String {
    if !(1e-4..1e6).contains(&step) {
        return text::number(tick);
    }
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
    if decimals == 0 && tick.abs() >= 1000.0 {
        text::number(tick)
    } else {
        text::fixed(tick, decimals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_the_domain_meet_ends_of_the_pixels() {
        let scale = Scale::linear((0.0, 10.0), (100.0, 0.0));
        assert_eq!(
            (scale.at(0.0), scale.at(5.0), scale.at(10.0)),
            (100.0, 50.0, 0.0)
        );
        assert!(scale.at(99.0).abs() < 1e-12);
    }

    #[test]
    fn ticks_are_round_numbers_inside() {
        let scale = Scale::linear((-0.13, 1.0), (0.0, 1.0));
        let labels: Vec<String> = scale
            .ticks(6)
            .into_iter()
            .map(|tick| scale.label(tick, 6))
            .collect();
        assert_eq!(labels, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let counts = Scale::new(Spread::Count, (0.0, 4096.0), (0.0, 1.0));
        assert_eq!(counts.ticks(5), [0.0, 1.0, 10.0, 100.0, 1000.0]);
        assert!(counts.at(0.0).abs() < 1e-12);
    }

    #[test]
    fn an_empty_domain_still_has_room() {
        for domain in [(3.0, 3.0), (f64::NAN, f64::NAN), (0.0, 0.0)] {
            for spread in [Spread::Linear, Spread::Count] {
                let scale = Scale::new(spread, domain, (0.0, 10.0));
                assert!(scale.at(3.0).is_finite(), "{spread:?} {domain:?}");
                assert!(scale.ticks(5).iter().all(|tick| tick.is_finite()));
            }
        }
    }

    #[test]
    fn bounds_skip_what_is_not_finite() {
        assert_eq!(
            bounds([f64::NAN, 2.0, 1.0, f64::INFINITY]),
            Some((1.0, 2.0))
        );
        assert_eq!(bounds([f64::NAN]), None);
    }
}
