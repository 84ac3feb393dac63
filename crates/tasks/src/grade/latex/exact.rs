//! Rational numbers of bounded size: every operation gives up (`None`) rather than grow without end.

use num_bigint::BigInt;
use num_rational::Ratio;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};
use std::cell::Cell;

/// A rational number.
pub(super) type Exact = Ratio<BigInt>;

/// Work one comparison may take, in about nanoseconds.
const FUEL: u64 = 400_000_000;

thread_local! {
    /// What is left of it on this thread.
    static LEFT: Cell<u64> = const { Cell::new(FUEL) };
}

/// Starts a comparison: what it may take is counted from here.
pub(super) fn refuel() {
    LEFT.set(FUEL);
}

/// Counts work; none when there is none left.
pub(super) fn spend(work: u64) -> Option<()> {
    let left = LEFT.get().checked_sub(work);
    LEFT.set(left.unwrap_or(0));
    left.map(|_| ())
}

/// The work of an operation on two numbers: mostly their greatest common divisor, which takes the square of their length.
fn work(a: &Exact, b: &Exact) -> Option<()> {
    let bits = |value: &Exact| value.numer().bits() + value.denom().bits();
    let bits = bits(a) + bits(b);
    spend(100 + bits * bits / 64)
}

/// Largest numerator or denominator in bits: 2004! has 19,000.
const BITS: u64 = 1 << 15;
/// Largest n of n!.
const FACTORIAL: u64 = 3000;
/// Largest root taken exactly.
const ROOT: u32 = 64;

/// A whole number.
pub(super) fn whole(value: i64) -> Exact {
    Exact::from_integer(BigInt::from(value))
}

/// `numerator / denominator`; the denominator is not 0.
pub(super) fn fraction(numerator: i64, denominator: i64) -> Exact {
    Exact::new(BigInt::from(numerator), BigInt::from(denominator))
}

fn bounded(value: Exact) -> Option<Exact> {
    let bits = value.numer().bits().max(value.denom().bits());
    (bits <= BITS).then_some(value)
}

/// `a + b`.
pub(super) fn add(a: &Exact, b: &Exact) -> Option<Exact> {
    work(a, b)?;
    bounded(a + b)
}

/// `a · b`.
pub(super) fn multiply(a: &Exact, b: &Exact) -> Option<Exact> {
    work(a, b)?;
    bounded(a * b)
}

/// `a / b`; none when `b` is 0.
pub(super) fn divide(a: &Exact, b: &Exact) -> Option<Exact> {
    work(a, b)?;
    (!b.is_zero()).then(|| bounded(a / b))?
}

/// `base ^ exponent` where the result is rational and of bounded size.
pub(super) fn power(base: &Exact, exponent: &Exact) -> Option<Exact> {
    let root = exponent.denom().to_u32()?;
    let base = if root == 1 {
        base.clone()
    } else {
        take_root(base, root)?
    };
    whole_power(&base, &exponent.numer().clone())
}

fn whole_power(base: &Exact, exponent: &BigInt) -> Option<Exact> {
    let count = exponent.abs().to_u64()?;
    if base.is_zero() {
        // 0^0 and 0^-1 are no numbers.
        return (exponent.is_positive()).then(Exact::zero);
    }
    let bits = base.numer().bits().max(base.denom().bits());
    if !(base.numer().abs().is_one() && base.denom().is_one()) && bits.checked_mul(count)? > BITS {
        return None;
    }
    // Only ±1 comes here with a large exponent: its parity is all that matters.
    let count = if bits.saturating_mul(count) > BITS {
        (count % 2) as u32
    } else {
        count as u32
    };
    // Powers of a reduced fraction are reduced; only the sign may have to move.
    let raised = Exact::new_raw(base.numer().pow(count), base.denom().pow(count));
    Some(if exponent.is_negative() {
        raised.recip()
    } else {
        raised
    })
}

/// The root that is a rational number, if it is one; of negative numbers only odd roots.
pub(super) fn take_root(value: &Exact, degree: u32) -> Option<Exact> {
    if degree == 0 || degree > ROOT || (value.is_negative() && degree.is_multiple_of(2)) {
        return None;
    }
    spend(value.numer().bits() * u64::from(degree) * 10)?;
    Some(Exact::new(
        integer_root(value.numer(), degree)?,
        integer_root(value.denom(), degree)?,
    ))
}

fn integer_root(value: &BigInt, degree: u32) -> Option<BigInt> {
    let root = value.nth_root(degree);
    (Pow::pow(&root, degree) == *value).then_some(root)
}

/// `n!` of a whole number.
pub(super) fn factorial(n: &Exact) -> Option<Exact> {
    let n = small(n).filter(|n| *n <= FACTORIAL)?;
    spend(n * n)?;
    let product = (2..=n).fold(BigInt::one(), |product, factor| product * factor);
    bounded(Exact::from_integer(product))
}

/// `n` over `k`, for whole `k`; 0 where `k > n` for whole `n`.
pub(super) fn binomial(n: &Exact, k: &Exact) -> Option<Exact> {
    let k = small(k)?;
    let Some(n) = small(n) else {
        return generalised(n, k);
    };
    if k > n {
        return Some(Exact::zero());
    }
    let k = k.min(n - k);
    if k > FACTORIAL {
        return None;
    }
    let mut result = BigInt::one();
    spend(k * 1000)?;
    for step in 0..k {
        result = result * (n - step) / (step + 1);
        if result.bits() > BITS {
            return None;
        }
    }
    Some(Exact::from_integer(result))
}

/// `n (n−1) … (n−k+1) / k!` for any `n`.
fn generalised(n: &Exact, k: u64) -> Option<Exact> {
    if k > 40 {
        return None;
    }
    let mut result = Exact::one();
    for step in 0..k as i64 {
        let factor = divide(&(n - whole(step)), &whole(step + 1))?;
        result = multiply(&result, &factor)?;
    }
    Some(result)
}

/// A whole number from 0 to 2^32.
pub(super) fn small(value: &Exact) -> Option<u64> {
    let whole = value.is_integer().then(|| value.numer().to_u64())??;
    u32::try_from(whole).is_ok().then_some(whole)
}

/// The nearest double; none when it is too large for one.
pub(super) fn to_f64(value: &Exact) -> Option<f64> {
    if value.is_zero() {
        return Some(0.0);
    }
    // Both parts may be beyond a double although the quotient is not.
    let shift = value
        .numer()
        .bits()
        .max(value.denom().bits())
        .saturating_sub(1000);
    let scaled = |part: &BigInt| (part >> shift).to_f64();
    let (numerator, denominator) = (scaled(value.numer())?, scaled(value.denom())?);
    let quotient = numerator / denominator;
    (quotient.is_finite() && numerator != 0.0).then_some(quotient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_and_roots_stay_exact_where_they_are_rational() {
        assert_eq!(power(&whole(2), &whole(-3)), Some(fraction(1, 8)));
        assert_eq!(
            power(&fraction(4, 9), &fraction(3, 2)),
            Some(fraction(8, 27))
        );
        assert_eq!(power(&whole(-8), &fraction(1, 3)), Some(whole(-2)));
        assert_eq!(power(&whole(2), &fraction(1, 2)), None);
        assert_eq!(power(&whole(-4), &fraction(1, 2)), None);
        assert_eq!(power(&whole(-1), &whole(1_000_000_001)), Some(whole(-1)));
    }

    #[test]
    fn what_would_grow_too_large_is_given_up() {
        assert_eq!(power(&whole(10), &whole(1_000_000)), None);
        assert_eq!(factorial(&whole(1_000_000)), None);
        assert_eq!(power(&whole(0), &whole(0)), None);
        assert_eq!(divide(&whole(1), &whole(0)), None);
        assert_eq!(binomial(&whole(52), &whole(5)), Some(whole(2_598_960)));
        assert_eq!(factorial(&whole(5)), Some(whole(120)));
    }

    #[test]
    fn doubles_of_large_parts_are_right() {
        let large = Exact::new(
            BigInt::from(3).pow(2000_u32),
            BigInt::from(3).pow(2000_u32) * 2,
        );
        assert_eq!(to_f64(&large), Some(0.5));
        assert_eq!(to_f64(&whole(-7)), Some(-7.0));
        assert_eq!(
            to_f64(&Exact::from_integer(BigInt::from(10).pow(2000_u32))),
            None
        );
    }
}
