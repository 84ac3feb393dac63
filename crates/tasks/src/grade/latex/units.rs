//! Units of measure after a number: what they measure, and how they convert.

use super::exact::{self, Exact};
use super::token::Token;

/// A unit, or several multiplied and divided.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Unit {
    /// Hundredths.
    Percent,
    /// Degrees of an angle.
    Degree,
    /// What it measures (each dimension with its power) and its size in base units.
    Measure(Vec<(&'static str, i32)>, Exact),
    /// Words that are no unit known here: `apples`, `people`.
    Other,
}

/// Names of one unit, what it measures, its size as a fraction of the base unit, its power (3 for a litre).
type Entry = (&'static [&'static str], &'static str, i64, i64, i32);

const UNITS: [Entry; 51] = [
    (&["mm", "millimeter", "millimetre"], "length", 1, 1000, 1),
    (&["cm", "centimeter", "centimetre"], "length", 1, 100, 1),
    (&["dm", "decimeter", "decimetre"], "length", 1, 10, 1),
    (&["m", "meter", "metre"], "length", 1, 1, 1),
    (&["km", "kilometer", "kilometre"], "length", 1000, 1, 1),
    (&["in", "inch", "inche"], "length", 254, 10_000, 1),
    (&["ft", "foot", "feet"], "length", 3048, 10_000, 1),
    (&["yd", "yard"], "length", 9144, 10_000, 1),
    (&["mi", "mile"], "length", 1_609_344, 1000, 1),
    (&["ms", "millisecond"], "time", 1, 1000, 1),
    (&["s", "sec", "second"], "time", 1, 1, 1),
    (&["min", "minute"], "time", 60, 1, 1),
    (&["h", "hr", "hour"], "time", 3600, 1, 1),
    (&["day"], "time", 86_400, 1, 1),
    (&["week"], "time", 604_800, 1, 1),
    (&["month"], "months", 1, 1, 1),
    (&["year", "yr"], "months", 12, 1, 1),
    (&["mg", "milligram"], "mass", 1, 1_000_000, 1),
    (&["g", "gram"], "mass", 1, 1000, 1),
    (&["kg", "kilogram", "kilo"], "mass", 1, 1, 1),
    (&["ton", "tonne"], "mass", 1000, 1, 1),
    (&["lb", "pound"], "mass", 45_359_237, 100_000_000, 1),
    (&["oz", "ounce"], "mass", 45_359_237, 1_600_000_000, 1),
    (&["l", "L", "liter", "litre"], "length", 1, 1000, 3),
    (
        &["ml", "mL", "milliliter", "millilitre"],
        "length",
        1,
        1_000_000,
        3,
    ),
    (&["gallon", "gal"], "gallon", 1, 1, 1),
    (&["dollar", "usd", "USD", "buck"], "dollar", 1, 1, 1),
    (&["cent", "¢", "penny", "pennie"], "dollar", 1, 100, 1),
    (&["euro", "eur", "EUR"], "euro", 1, 1, 1),
    (&["sterling", "gbp", "GBP"], "sterling", 1, 1, 1),
    (&["yuan", "rmb", "RMB"], "yuan", 1, 1, 1),
    (&["yen"], "yen", 1, 1, 1),
    (&["rupee"], "rupee", 1, 1, 1),
    (&["ruble", "rouble"], "ruble", 1, 1, 1),
    (&["radian", "rad"], "radian", 1, 1, 1),
    (&["N", "newton"], "newton", 1, 1, 1),
    (&["J", "joule"], "joule", 1, 1, 1),
    (&["kJ", "kilojoule"], "joule", 1000, 1, 1),
    (&["W", "watt"], "watt", 1, 1, 1),
    (&["kW", "kilowatt"], "watt", 1000, 1, 1),
    (&["V", "volt"], "volt", 1, 1, 1),
    (&["A", "amp", "ampere"], "ampere", 1, 1, 1),
    (&["Hz", "hertz"], "hertz", 1, 1, 1),
    (&["K", "kelvin"], "kelvin", 1, 1, 1),
    (&["mol", "mole"], "mole", 1, 1, 1),
    (&["Pa", "pascal"], "pascal", 1, 1, 1),
    (&["acre"], "acre", 1, 1, 1),
    (&["celsius"], "celsius", 1, 1, 1),
    (&["fahrenheit"], "fahrenheit", 1, 1, 1),
    (&["am"], "before noon", 1, 1, 1),
    (&["pm"], "after noon", 1, 1, 1),
];

/// Words of a unit that are no unit by themselves.
const PARTS: [&str; 26] = [
    "square",
    "sq",
    "cubic",
    "cu",
    "per",
    "unit",
    "units",
    "squared",
    "cubed",
    "percent",
    "percentage",
    "pct",
    "degree",
    "degrees",
    "mph",
    "kph",
    "mpg",
    "th",
    "st",
    "nd",
    "rd",
    "million",
    "billion",
    "thousand",
    "trillion",
    "dozen",
];

fn find(word: &str) -> Option<&'static Entry> {
    let lower = word.to_lowercase();
    let names = |entry: &&Entry, name: &str| entry.0.contains(&name);
    let exact = UNITS.iter().find(|entry| names(entry, word));
    exact
        .or_else(|| (word.len() > 1).then(|| UNITS.iter().find(|entry| names(entry, &lower)))?)
        .or_else(|| {
            let singular = lower.strip_suffix('s').filter(|word| word.len() > 1)?;
            UNITS.iter().find(|entry| names(entry, singular))
        })
}

/// What a word multiplies the number before it by.
fn multiplier(word: &str) -> Option<i64> {
    Some(match word.to_lowercase().trim_end_matches('s') {
        "dozen" => 12,
        "thousand" => 1000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        "trillion" => 1_000_000_000_000,
        _ => return None,
    })
}

/// The words after a value that multiply it: `1.5 million dollars`.
pub(super) fn scale(tokens: &[Token]) -> Option<i64> {
    let value = tokens
        .iter()
        .position(|token| matches!(token, Token::Number { .. }))?;
    let words = tokens[value + 1..].iter().filter_map(|token| match token {
        Token::Text(text) => Some(text),
        _ => None,
    });
    words
        .flat_map(|text| text.split_whitespace())
        .find_map(multiplier)
}

/// What a unit of one word measures, and its size; none for a square or cubic one.
pub(super) fn size(word: &str) -> Option<(&'static str, Exact)> {
    let (_, dimension, numerator, denominator, power) = find(word)?;
    (*power == 1).then(|| (*dimension, exact::fraction(*numerator, *denominator)))
}

/// Whether a word of two letters or more, right after a number, is a unit.
pub(super) fn known(word: &str) -> bool {
    PARTS.contains(&word.to_lowercase().as_str()) || find(word).is_some()
}

/// Whether a text is units with a slash between: `m/s`.
pub(super) fn compound(text: &str) -> bool {
    text.contains('/') && text.split('/').all(|part| find(part.trim()).is_some())
}

/// Whether one letter in upright text after a number is a unit.
pub(super) fn letter(c: char) -> bool {
    "mgshlLNJWVAK".contains(c)
}

/// Takes the unit off the end of a value's tokens, or a currency off its beginning.
pub(super) fn split(tokens: &[Token]) -> (&[Token], Option<Unit>) {
    if let Some(at) = tokens
        .iter()
        .position(|token| matches!(token, Token::Currency(_)))
    {
        return currency(tokens, at);
    }
    let mut start = tokens.len();
    while start > 0 && belongs(&tokens[start - 1]) {
        start -= 1;
    }
    // A unit begins with words or a sign of its own; powers and slashes before that are the value's.
    while start < tokens.len() && !begins(&tokens[start]) {
        start += 1;
    }
    // The degrees of `\sin 30^\circ` are the sine's argument.
    let argument = tokens.get(start) == Some(&Token::Sign('°'))
        && tokens[..start]
            .iter()
            .any(|token| matches!(token, Token::Function(_)));
    if start == 0 || start == tokens.len() || argument || !tokens[start - 1].ends_value() {
        return (tokens, None);
    }
    (&tokens[..start], Some(read(&tokens[start..])))
}

/// `\$5`, `-\$5`, `5\$`, `\$5 \text{ million}`.
fn currency(tokens: &[Token], at: usize) -> (&[Token], Option<Unit>) {
    let dimension = match tokens[at] {
        Token::Currency('€') => "euro",
        Token::Currency('£') => "sterling",
        Token::Currency('¥') => "yuan",
        _ => "dollar",
    };
    let unit = Some(Unit::Measure(vec![(dimension, 1)], exact::whole(1)));
    if at == 0 {
        return (split(&tokens[1..]).0, unit);
    }
    if at + 1 == tokens.len() {
        return (&tokens[..at], unit);
    }
    (tokens, None)
}

fn belongs(token: &Token) -> bool {
    matches!(
        token,
        Token::Text(_)
            | Token::Sign('/' | '*' | '^' | '{' | '}' | '-' | '°' | '%' | '⏎')
            | Token::Number { places: None, .. }
            | Token::Letter('C' | 'F')
    )
}

fn begins(token: &Token) -> bool {
    matches!(token, Token::Text(_) | Token::Sign('°' | '%'))
}

/// The unit of these tokens.
fn read(tokens: &[Token]) -> Unit {
    let mut reader = Reader::default();
    for token in tokens {
        match token {
            Token::Sign('%') => return Unit::Percent,
            Token::Sign('°') => reader.degree = true,
            Token::Letter('C') if reader.degree => reader.simple("celsius"),
            Token::Letter('F') if reader.degree => reader.simple("fahrenheit"),
            Token::Letter(_) => reader.unknown = true,
            Token::Sign('/') => reader.below = true,
            Token::Sign('-') => reader.negative = true,
            Token::Number { digits, .. } => reader.power(digits),
            Token::Text(text) => {
                for word in text.split(|c: char| c.is_whitespace() || c == '.' || c == '-') {
                    reader.word(word);
                }
            }
            _ => {}
        }
    }
    reader.finish()
}

#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something a unit may say, in any mixture"
)]
struct Reader {
    parts: Vec<(&'static str, i32, Exact)>,
    below: bool,
    negative: bool,
    next_power: i32,
    percent: bool,
    degree: bool,
    unknown: bool,
    scaled: bool,
}

impl Reader {
    fn word(&mut self, word: &str) {
        for (number, word) in word.split('/').enumerate() {
            self.below |= number > 0;
            self.simple(word);
        }
    }

    fn simple(&mut self, word: &str) {
        match word.to_lowercase().as_str() {
            "" | "of" | "unit" | "units" => {}
            word if multiplier(word).is_some() => self.scaled = true,
            "per" | "a" | "an" | "each" => self.below = true,
            "square" | "sq" => self.next_power = 2,
            "cubic" | "cu" => self.next_power = 3,
            "squared" => self.power("2"),
            "cubed" => self.power("3"),
            "percent" | "percentage" | "pct" => self.percent = true,
            "degree" | "degrees" => self.degree = true,
            "mph" => self.push(("length", 1_609_344, 3_600_000, 1), true),
            "mpg" => {
                self.push(("length", 1_609_344, 1000, 1), false);
                self.parts.push(("gallon", -1, exact::whole(1)));
            }
            "kph" => self.push(("length", 1000, 3600, 1), true),
            _ => match find(word) {
                Some((_, dimension, numerator, denominator, power)) => {
                    self.push((dimension, *numerator, *denominator, *power), false);
                }
                None => self.unknown = true,
            },
        }
    }

    fn push(
        &mut self,
        (dimension, numerator, denominator, power): (&'static str, i64, i64, i32),
        speed: bool,
    ) {
        let sign = if self.below { -1 } else { 1 };
        let repeat = std::mem::take(&mut self.next_power).max(1);
        let size = exact::fraction(numerator, denominator);
        let size = exact::power(&size, &exact::whole(i64::from(sign * repeat)));
        self.parts.push((
            dimension,
            sign * repeat * power,
            size.unwrap_or_else(|| exact::whole(1)),
        ));
        if speed {
            self.parts.push(("time", -1, exact::whole(1)));
        }
        self.below = false;
    }

    /// A power after the last unit: `cm^2`, `s^{-1}`.
    fn power(&mut self, digits: &str) {
        let Ok(power @ 1..=4) = digits.parse::<i32>() else {
            return;
        };
        let power = if std::mem::take(&mut self.negative) {
            -power
        } else {
            power
        };
        if let Some((_, exponent, size)) = self.parts.last_mut() {
            *exponent *= power;
            if let Some(raised) = exact::power(size, &exact::whole(i64::from(power))) {
                *size = raised;
            }
        }
    }

    fn finish(self) -> Unit {
        if self.percent {
            return Unit::Percent;
        }
        if self.degree && self.parts.is_empty() {
            return Unit::Degree;
        }
        if self.unknown || self.parts.is_empty() {
            return Unit::Other;
        }
        let mut size = exact::whole(1);
        let mut dimensions: Vec<(&'static str, i32)> = Vec::new();
        for (dimension, power, factor) in self.parts {
            size *= factor;
            match dimensions.iter_mut().find(|(known, _)| *known == dimension) {
                Some((_, total)) => *total += power,
                None => dimensions.push((dimension, power)),
            }
        }
        dimensions.sort_unstable();
        Unit::Measure(dimensions, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Unit {
        read(&[Token::Text(text.into())])
    }

    #[test]
    fn the_same_unit_has_many_names() {
        assert_eq!(
            text("square centimeters"),
            read(&[
                Token::Text("cm".into()),
                Token::Sign('^'),
                Token::Number {
                    value: exact::whole(2),
                    places: None,
                    digits: "2".into()
                }
            ])
        );
        assert_eq!(text("miles per hour"), text("mph"));
        assert_eq!(text("km/h"), text("kph"));
        assert_eq!(text("ml"), text("cubic cm"));
        assert_eq!(
            text("dollars"),
            Unit::Measure(vec![("dollar", 1)], exact::whole(1))
        );
        assert_eq!(text("percent"), Unit::Percent);
        assert_eq!(text("red apples"), Unit::Other);
    }
}
