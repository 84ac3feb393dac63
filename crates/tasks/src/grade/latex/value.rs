//! Complex numbers that carry a bound of their rounding error, so that cancellation is not taken for equality.

/// A complex number and how far off it may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Value {
    /// Real part.
    pub(super) re: f64,
    /// Imaginary part.
    pub(super) im: f64,
    /// Bound of the absolute error.
    pub(super) error: f64,
}

const EPSILON: f64 = f64::EPSILON;
/// Relative difference below which two numbers are the same.
const TOLERANCE: f64 = 1e-11;

impl Value {
    /// A real number that is known to the last bit.
    pub(super) fn real(re: f64) -> Self {
        Self {
            re,
            im: 0.0,
            error: re.abs() * EPSILON,
        }
    }

    fn new(re: f64, im: f64, error: f64) -> Option<Self> {
        let error = error + re.hypot(im) * EPSILON;
        (re.is_finite() && im.is_finite() && error.is_finite()).then_some(Self { re, im, error })
    }

    /// Distance from 0.
    pub(super) fn size(self) -> f64 {
        self.re.hypot(self.im)
    }

    /// Whether it is a real number as far as one can tell.
    pub(super) fn is_real(self) -> bool {
        self.im.abs() <= 16.0 * self.error + TOLERANCE * self.re.abs()
    }

    /// Whether the two are the same number as far as one can tell.
    pub(super) fn same(self, other: Self) -> bool {
        let distance = (self.re - other.re).hypot(self.im - other.im);
        distance <= TOLERANCE * self.size().max(other.size()) + 16.0 * (self.error + other.error)
    }

    /// Whether it cannot be told from 0.
    pub(super) fn is_zero(self) -> bool {
        self.size() <= 16.0 * self.error
    }

    pub(super) fn add(self, other: Self) -> Option<Self> {
        let error = self.error + other.error + EPSILON * self.size().max(other.size());
        Self::new(self.re + other.re, self.im + other.im, error)
    }

    pub(super) fn negative(self) -> Self {
        Self {
            re: -self.re,
            im: -self.im,
            ..self
        }
    }

    pub(super) fn multiply(self, other: Self) -> Option<Self> {
        let error =
            self.size() * other.error + other.size() * self.error + self.error * other.error;
        Self::new(
            self.re * other.re - self.im * other.im,
            self.re * other.im + self.im * other.re,
            error + 2.0 * EPSILON * self.size() * other.size(),
        )
    }

    pub(super) fn divide(self, other: Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        let square = other.re * other.re + other.im * other.im;
        let inverse_error = other.error / square + 4.0 * EPSILON / other.size();
        let inverse = Self::new(other.re / square, -other.im / square, inverse_error)?;
        self.multiply(inverse)
    }

    pub(super) fn exp(self) -> Option<Self> {
        let size = self.re.exp();
        let error = size * (self.error + EPSILON * (1.0 + self.re.abs() + self.im.abs()));
        Self::new(size * self.im.cos(), size * self.im.sin(), error)
    }

    /// The principal logarithm.
    pub(super) fn ln(self) -> Option<Self> {
        if self.is_zero() {
            return None;
        }
        // What is real but for rounding lies on the axis: the branch cut must not be crossed by accident.
        let im = if self.is_real() { 0.0 } else { self.im };
        let error = self.error / self.size() + 2.0 * EPSILON;
        Self::new(self.size().ln(), im.atan2(self.re), error)
    }

    /// The principal power; of 0 only with a positive exponent.
    pub(super) fn power(self, exponent: Self) -> Option<Self> {
        if self.is_zero() {
            return (exponent.is_real() && exponent.re > 0.0).then_some(Self::real(0.0));
        }
        self.ln()?.multiply(exponent)?.exp()
    }

    pub(super) fn sin(self) -> Option<Self> {
        let error = self.im.cosh() * (self.error + EPSILON * self.size());
        Self::new(
            self.re.sin() * self.im.cosh(),
            self.re.cos() * self.im.sinh(),
            error,
        )
    }

    pub(super) fn cos(self) -> Option<Self> {
        let error = self.im.cosh() * (self.error + EPSILON * self.size());
        Self::new(
            self.re.cos() * self.im.cosh(),
            -self.re.sin() * self.im.sinh(),
            error,
        )
    }

    /// A function of real numbers with its derivative's size at the point.
    pub(super) fn real_function(self, f: impl Fn(f64) -> f64, slope: f64) -> Option<Self> {
        self.is_real()
            .then(|| Self::new(f(self.re), 0.0, self.error * slope.abs() + 4.0 * EPSILON))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancellation_is_not_equality() {
        let pi = Value::real(std::f64::consts::PI);
        assert!(pi.sin().unwrap().is_zero());
        let tiny = Value::real(-100.0).exp().unwrap();
        assert!(!tiny.is_zero() && !tiny.same(Value::real(0.0)));
        assert!(!Value::real(2.828).same(Value::real(8f64.sqrt())));
    }

    #[test]
    fn eulers_identity_holds() {
        let exponent = Value {
            re: 0.0,
            im: std::f64::consts::PI,
            error: 4e-16,
        };
        assert!(exponent.exp().unwrap().same(Value::real(-1.0)));
    }
}
