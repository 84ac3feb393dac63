//! What a formula's text is made of.

use super::exact::Exact;
use super::node::Function;

/// A piece of a formula.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A number without a sign, with its digits as they would be written without separators.
    Number {
        /// What it is.
        value: Exact,
        /// Digits after the point; none for a whole number.
        places: Option<u32>,
        /// The digits, with the point.
        digits: String,
    },
    /// A variable of one letter.
    Letter(char),
    /// A variable with a name: `alpha`, `overline AB`.
    Name(String),
    /// A function of one argument.
    Function(Function),
    /// What has arguments of its own: `frac`, `sqrt`, `binom`, `log`, `begin`, `end`, `mathbb`.
    Command(String),
    /// Words.
    Text(String),
    /// `\$`, `€`, …
    Currency(char),
    /// Operators, brackets, relations: ASCII where there is a sign, else the Unicode one. Braces of sets are `⦃`, `⦄`, the end
    /// of a matrix row is `⏎`.
    Sign(char),
    /// Between items that hold together.
    And,
    /// Between items of which any holds.
    Or,
    /// A wide space, which may separate items.
    Gap,
}

/// A reading of `1,234`: a number, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commas {
    /// `1,234` is one thousand two hundred and thirty-four.
    Thousands,
    /// `1,234` is 1 and 234.
    List,
    /// `1,5` is one and a half.
    Decimal,
}

/// Signs that compare, which split an equation or inequality.
pub(super) const RELATIONS: &str = "=<>≤≥≠≈∈≡⇒";

impl Token {
    /// Whether a value may end here.
    pub(super) fn ends_value(&self) -> bool {
        match self {
            Self::Number { .. } | Self::Letter(_) | Self::Name(_) | Self::Text(_) => true,
            Self::Sign(sign) => ")]}⦄⟩|!'πe∞∅°%⌋⌉".contains(*sign),
            Self::Command(name) => name == "end",
            _ => false,
        }
    }

    /// How many brackets it opens (1), closes (−1), or neither (0).
    pub(super) fn nesting(&self) -> isize {
        match self {
            Self::Sign('(' | '[' | '{' | '⦃' | '⟨' | '⌊' | '⌈') => 1,
            Self::Sign(')' | ']' | '}' | '⦄' | '⟩' | '⌋' | '⌉') => -1,
            Self::Command(name) if name == "begin" => 1,
            Self::Command(name) if name == "end" => -1,
            _ => 0,
        }
    }
}
