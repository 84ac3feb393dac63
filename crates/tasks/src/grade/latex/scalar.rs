//! Whether two formulas of numbers and variables have the same value.

use super::eval::{Point, exact, numeric};
use super::exact::{self, Exact};
use super::node::{Function, Node};
use super::value::Value;
use num_traits::Signed;

/// Points at which formulas with variables are compared.
const POINTS: u32 = 16;
/// Digits that only a computer writes.
const PRINTED: u32 = 14;
/// Points at which both must have a value before they are called equal.
const ENOUGH: u32 = 4;

/// Whether two formulas mean the same number for every value of their variables.
///
/// Rational ones are compared exactly; others as complex doubles. Where all is constant, a decimal number with six places or
/// seven digits may stand for the number it rounds.
pub(super) fn equal(a: &Node, b: &Node) -> bool {
    if a == b {
        return true;
    }
    if !a.is_scalar() || !b.is_scalar() {
        return false;
    }
    if let (Node::Fold(a), Node::Fold(b)) = (a, b)
        && [a, b].iter().all(|fold| fold.high == Node::Infinity)
    {
        return a.product == b.product && equal(&a.low, &b.low) && equal(&a.body, &b.body);
    }
    let unbased = |node: &Node| node.any(&|node| matches!(node, Node::Apply(Function::Log, _)));
    [true, false]
        .into_iter()
        .take(if unbased(a) || unbased(b) { 2 } else { 1 })
        .any(|decimal_log| agree(a, b, decimal_log))
}

fn agree(a: &Node, b: &Node, decimal_log: bool) -> bool {
    let whole = [a, b].iter().any(|node| node.any(&counts));
    let point = |index| Point {
        index,
        decimal_log,
        whole,
    };
    if a.symbols().is_empty() && b.symbols().is_empty() {
        return constants(a, b, point(0));
    }
    let complex = [a, b]
        .iter()
        .any(|node| node.any(&|node| *node == Node::Imaginary));
    // Where roots and logarithms leave the reals, which branch is meant nobody said: such points count only if there is no
    // other, or if the formulas speak of i themselves.
    let along = |real: bool| {
        let compared = (0..POINTS).map(|index| at(a, b, point(index), real));
        compared
            .take(if real { POINTS } else { POINTS / 2 } as usize)
            .try_fold(0, |seen, same| match same {
                Some(false) => Err(seen),
                Some(true) => Ok(seen + 1),
                None => Ok(seen),
            })
    };
    match along(!complex) {
        Ok(seen) if seen >= ENOUGH => true,
        Ok(0) if !complex => along(false).is_ok_and(|seen| seen >= ENOUGH),
        _ => false,
    }
}

/// What is defined for whole numbers only.
fn counts(node: &Node) -> bool {
    matches!(
        node,
        Node::Binomial(..) | Node::Fold(_) | Node::Apply(Function::Factorial, _)
    )
}

/// Whether they agree at a point; none where one has no value there, or no real one where only such count.
fn at(a: &Node, b: &Node, point: Point, real: bool) -> Option<bool> {
    if let (Some(a), Some(b)) = (exact(a, point), exact(b, point)) {
        return Some(a == b);
    }
    let (a, b) = (numeric(a, point)?, numeric(b, point)?);
    if real && !(a.is_real() && b.is_real()) {
        return None;
    }
    Some(a.same(b))
}

fn constants(a: &Node, b: &Node, point: Point) -> bool {
    if let (Some(x), Some(y)) = (exact(a, point), exact(b, point)) {
        return x == y || rounded(a, b, &Real::Exact(y)) || rounded(b, a, &Real::Exact(x));
    }
    let (Some(x), Some(y)) = (numeric(a, point), numeric(b, point)) else {
        return infinite(a).is_some() && infinite(a) == infinite(b);
    };
    x.same(y)
        || (y.is_real() && rounded(a, b, &Real::Double(y)))
        || (x.is_real() && rounded(b, a, &Real::Double(x)))
}

/// The sign of an infinity.
fn infinite(node: &Node) -> Option<bool> {
    match node {
        Node::Infinity => Some(true),
        Node::Negative(inside) => infinite(inside).map(|sign| !sign),
        _ => None,
    }
}

enum Real {
    Exact(Exact),
    Double(Value),
}

impl Real {
    /// Whether the value is a number at so many places, rounded or cut off.
    fn rounds_to(&self, number: &Exact, places: u32) -> bool {
        match self {
            Self::Exact(value) => {
                let scale = exact::whole(10).pow(places as i32);
                let (value, number) = (value * &scale, number * &scale);
                value.round() == number || value.trunc() == number
            }
            Self::Double(value) => {
                let step = 10f64.powi(-(places as i32));
                let noise = 1e-11 * value.re.abs();
                exact::to_f64(number).is_some_and(|number| {
                    let distance = (number - value.re).abs();
                    let inside = number.abs() <= value.re.abs() + noise;
                    distance <= 0.5 * step + noise || (inside && distance < step)
                })
            }
        }
    }

    /// Whether a number differs from the value by no more than the rounding of doubles does.
    fn is_near(&self, number: &Exact) -> bool {
        let value = match self {
            Self::Exact(value) => exact::to_f64(value),
            Self::Double(value) => Some(value.re),
        };
        let near = |(value, number): (f64, f64)| (value - number).abs() <= 1e-13 * value.abs();
        value.zip(exact::to_f64(number)).is_some_and(near)
    }
}

/// Whether `literal` is a decimal number that rounds (or cuts off) a value to six places or seven digits: `1.0000001` does
/// not round 1, which at seven places is `1.0000000`. Of what computers print only the last digits of many may be off.
fn rounded(literal: &Node, other: &Node, value: &Real) -> bool {
    let Some((number, places)) = decimal(literal) else {
        return false;
    };
    if digits(&number, places) >= PRINTED && value.is_near(&number) {
        return true;
    }
    // Of two decimal numbers only the shorter one can be the rounded one.
    if decimal(other).is_some_and(|(_, others)| others <= places) {
        return false;
    }
    let digits = digits(&number, places);
    (places >= 6 || digits >= 7) && places >= 1 && value.rounds_to(&number, places)
}

fn within(number: &Exact, value: &Real, places: u32, share: f64) -> bool {
    let step = 10f64.powi(-(places as i32)) * share;
    let distance = match value {
        Real::Exact(value) => exact::to_f64(&(number - value).abs()),
        Real::Double(value) => exact::to_f64(number).map(|number| (number - value.re).abs()),
    };
    distance.is_some_and(|distance| distance <= step * (1.0 + 1e-6))
}

/// Whether a value rounds to a decimal number at that number's own last place: what `\approx` in a target says is enough.
pub(super) fn approximates(literal: &Node, other: &Node) -> bool {
    let Some((number, places)) = decimal(literal) else {
        return false;
    };
    let point = Point {
        index: 0,
        decimal_log: true,
        whole: false,
    };
    let value = exact(other, point).map(Real::Exact).or_else(|| {
        numeric(other, point)
            .filter(|value| value.is_real())
            .map(Real::Double)
    });
    value.is_some_and(|value| within(&number, &value, places, 0.5))
}

/// A decimal number and its places.
fn decimal(node: &Node) -> Option<(Exact, u32)> {
    match node {
        Node::Number {
            value,
            places: Some(places),
        } => Some((value.clone(), *places)),
        Node::Negative(inside) => decimal(inside).map(|(value, places)| (-value, places)),
        _ => None,
    }
}

/// Significant digits of a decimal number.
fn digits(number: &Exact, places: u32) -> u32 {
    let whole = number.abs().to_integer().to_string();
    let whole = if whole == "0" { 0 } else { whole.len() as u32 };
    whole + places
}

/// A real number's value, for putting things in order.
pub(super) fn order(node: &Node) -> Option<f64> {
    match infinite(node) {
        Some(true) => return Some(f64::INFINITY),
        Some(false) => return Some(f64::NEG_INFINITY),
        None => {}
    }
    if !node.symbols().is_empty() {
        return None;
    }
    let value = numeric(
        node,
        Point {
            index: 0,
            decimal_log: true,
            whole: false,
        },
    )?;
    value.is_real().then_some(value.re)
}
