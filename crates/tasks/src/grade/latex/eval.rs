//! The value of a formula at a point: exactly where it is rational, as complex doubles where it is not.

use super::exact::{self, Exact};
use super::node::{Fold, Function, Node};
use super::value::Value;
use num_traits::{Signed, Zero};
use std::f64::consts::{E, LN_10, PI};

/// Most terms of a sum or product.
const TERMS: i64 = 3000;

/// What the variables are, and how signs and logarithms without a base are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// Which of the points.
    pub(super) index: u32,
    /// Whether `log` is the decimal logarithm.
    pub(super) decimal_log: bool,
    /// Whether variables are whole numbers from 6 on.
    pub(super) whole: bool,
}

impl Point {
    /// The value of a variable: the same for the same name at the same point, positive at the first eight points, below 1
    /// at every other, negative now and then after that.
    pub(super) fn value(self, name: &str) -> Exact {
        // FNV-1a, so that values depend on nothing but the name.
        let seed = name.bytes().fold(
            0xcbf2_9ce4_8422_2325_u64 ^ u64::from(self.index).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3),
        );
        let mixed = (seed ^ (seed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let (a, b) = ((mixed >> 40) % 89, (mixed >> 20) % 13);
        if self.whole {
            return exact::whole(6 + a as i64 % 30);
        }
        let (numerator, denominator) = if self.index.is_multiple_of(2) {
            (a + 3, 97)
        } else {
            (a + 19, b + 5)
        };
        let negative = self.index >= 8 && mixed & 1 == 1;
        let numerator = numerator as i64;
        exact::fraction(
            if negative { -numerator } else { numerator },
            denominator as i64,
        )
    }
}

/// The exact value, where the formula has one that is rational.
pub(super) fn exact(node: &Node, point: Point) -> Option<Exact> {
    let go = |node: &Node| exact(node, point);
    match node {
        Node::Number { value, .. } => Some(value.clone()),
        Node::Symbol(name) => Some(point.value(name)),
        Node::Sum(terms) => terms
            .iter()
            .try_fold(Exact::zero(), |sum, term| exact::add(&sum, &go(term)?)),
        Node::Product(factors) => factors.iter().try_fold(exact::whole(1), |product, factor| {
            exact::multiply(&product, &go(factor)?)
        }),
        Node::Quotient(a, b) => exact::divide(&go(a)?, &go(b)?),
        Node::Negative(a) => Some(-go(a)?),
        Node::Power(a, b) => exact::power(&go(a)?, &go(b)?),
        Node::Root(a, degree) => exact::take_root(&go(a)?, *degree),
        Node::Binomial(n, k) => exact::binomial(&go(n)?, &go(k)?),
        Node::Fold(fold) => {
            terms(fold, point)?.try_fold(exact::whole(i64::from(fold.product)), |all, term| {
                let term = exact(&term?, point)?;
                if fold.product {
                    exact::multiply(&all, &term)
                } else {
                    exact::add(&all, &term)
                }
            })
        }
        Node::Ratio(parts) if parts.len() == 2 => exact::divide(&go(&parts[0])?, &go(&parts[1])?),
        Node::Apply(function, a) => {
            let a = go(a)?;
            match function {
                Function::Absolute => Some(a.abs()),
                Function::Floor => Some(a.floor()),
                Function::Ceiling => Some(a.ceil()),
                Function::Factorial => exact::factorial(&a),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The value as a complex double, where the formula has one.
pub(super) fn numeric(node: &Node, point: Point) -> Option<Value> {
    let go = |node: &Node| numeric(node, point);
    exact::spend(50)?;
    match node {
        Node::Number { value, .. } => exact::to_f64(value).map(Value::real),
        Node::Symbol(name) => exact::to_f64(&point.value(name)).map(Value::real),
        Node::Pi => Some(Value::real(PI)),
        Node::Euler => Some(Value::real(E)),
        Node::Imaginary => Some(Value {
            re: 0.0,
            im: 1.0,
            error: 0.0,
        }),
        Node::Sum(terms) => terms
            .iter()
            .try_fold(Value::real(0.0), |sum, term| sum.add(go(term)?)),
        Node::Product(factors) => factors
            .iter()
            .try_fold(Value::real(1.0), |product, factor| {
                product.multiply(go(factor)?)
            }),
        Node::Quotient(a, b) => match (exact(a, point), exact(b, point)) {
            // Parts too large for a double may have a quotient that is not.
            (Some(a), Some(b)) => exact::to_f64(&exact::divide(&a, &b)?).map(Value::real),
            _ => go(a)?.divide(go(b)?),
        },
        Node::Negative(a) => Some(go(a)?.negative()),
        Node::Power(a, b) => power(a, b, point),
        Node::Root(a, degree) => root(go(a)?, *degree),
        Node::Log(base, a) => go(a)?.ln()?.divide(go(base)?.ln()?),
        Node::Binomial(..) => exact::to_f64(&exact(node, point)?).map(Value::real),
        Node::Fold(fold) => {
            let start = Value::real(f64::from(u8::from(fold.product)));
            terms(fold, point)?.try_fold(start, |all, term| {
                let term = numeric(&term?, point)?;
                if fold.product {
                    all.multiply(term)
                } else {
                    all.add(term)
                }
            })
        }
        Node::Ratio(parts) if parts.len() == 2 => go(&parts[0])?.divide(go(&parts[1])?),
        Node::Apply(function, a) => apply(*function, a, point),
        _ => None,
    }
}

/// The terms of a finite sum or product, as long as there is work left.
fn terms(fold: &Fold, point: Point) -> Option<impl Iterator<Item = Option<Node>>> {
    let end = |node: &Node| -> Option<i64> {
        let value = exact(node, point)?;
        value.is_integer().then(|| value.numer().try_into().ok())?
    };
    let (low, high) = (end(&fold.low)?, end(&fold.high)?);
    (high.checked_sub(low)? < TERMS).then(|| {
        (low..=high).map(|value| {
            exact::spend(2000)?;
            Some(fold.term(value))
        })
    })
}

fn power(base: &Node, exponent: &Node, point: Point) -> Option<Value> {
    let raised = numeric(base, point)?;
    if let Some(exponent) = exact(exponent, point) {
        let degree = exponent.denom().try_into().ok();
        // Odd roots of negative numbers are the real ones, as with \sqrt[3]{-8}.
        if let Some(degree @ 3..=63) = degree
            && degree % 2 == 1
            && raised.is_real()
            && raised.re < 0.0
        {
            let numerator = Value::real(exact::to_f64(&Exact::from_integer(
                exponent.numer().clone(),
            ))?);
            return whole_power(root(raised, degree)?, numerator);
        }
        if exponent.is_integer() {
            return whole_power(raised, Value::real(exact::to_f64(&exponent)?));
        }
    }
    raised.power(numeric(exponent, point)?)
}

/// A power whose exponent is whole, so that negative bases stay real.
fn whole_power(base: Value, exponent: Value) -> Option<Value> {
    if !base.is_real() || exponent.re.abs() > 1e6 {
        return base.power(exponent);
    }
    let re = base.re.powf(exponent.re);
    let relative = if base.is_zero() {
        0.0
    } else {
        base.error / base.size()
    };
    let error = re.abs() * (relative * exponent.re.abs() + 4.0 * f64::EPSILON);
    (re.is_finite() && !(base.is_zero() && exponent.re <= 0.0)).then_some(Value {
        re,
        im: 0.0,
        error,
    })
}

fn root(value: Value, degree: u32) -> Option<Value> {
    if degree % 2 == 1 && value.is_real() && value.re < 0.0 {
        return Some(root(value.negative(), degree)?.negative());
    }
    value.power(Value::real(1.0 / f64::from(degree)))
}

fn apply(function: Function, argument: &Node, point: Point) -> Option<Value> {
    let whole = || {
        exact::to_f64(&exact(
            &Node::Apply(function, Box::new(argument.clone())),
            point,
        )?)
        .map(Value::real)
    };
    let x = numeric(argument, point)?;
    let inside = |x: Value| x.re.abs() <= 1.0;
    match function {
        Function::Sin => x.sin(),
        Function::Cos => x.cos(),
        Function::Tan => x.sin()?.divide(x.cos()?),
        Function::Cot => x.cos()?.divide(x.sin()?),
        Function::Sec => Value::real(1.0).divide(x.cos()?),
        Function::Csc => Value::real(1.0).divide(x.sin()?),
        Function::Arcsin if inside(x) => {
            x.real_function(f64::asin, 1.0 / (1.0 - x.re * x.re).sqrt().max(1e-8))
        }
        Function::Arccos if inside(x) => {
            x.real_function(f64::acos, 1.0 / (1.0 - x.re * x.re).sqrt().max(1e-8))
        }
        Function::Arctan => x.real_function(f64::atan, 1.0),
        Function::Sinh => x.real_function(f64::sinh, x.re.cosh()),
        Function::Cosh => x.real_function(f64::cosh, x.re.cosh()),
        Function::Tanh => x.real_function(f64::tanh, 1.0),
        Function::Log if point.decimal_log => x.ln()?.divide(Value::real(LN_10)),
        Function::Ln | Function::Log => x.ln(),
        Function::Exp => x.exp(),
        Function::Cis => {
            let i = Value {
                re: 0.0,
                im: 1.0,
                error: 0.0,
            };
            x.cos()?.add(x.sin()?.multiply(i)?)
        }
        Function::Absolute => Some(Value {
            re: x.size(),
            im: 0.0,
            error: x.error,
        }),
        Function::Floor => whole().or_else(|| step(x, f64::floor)),
        Function::Ceiling => whole().or_else(|| step(x, f64::ceil)),
        Function::Factorial => whole(),
        Function::Arcsin | Function::Arccos => None,
    }
}

/// A step function, away from its steps.
fn step(x: Value, f: impl Fn(f64) -> f64) -> Option<Value> {
    let far = (x.re - x.re.round()).abs() > 1e-9;
    (x.is_real() && far).then(|| Value::real(f(x.re)))
}
