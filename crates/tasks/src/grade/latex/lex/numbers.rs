//! Numbers as people write them: with separators, decimals, repeating digits, exponents.

use super::Lexer;
use crate::grade::latex::exact::{self, Exact};
use crate::grade::latex::token::{Commas, Token};

impl Lexer {
    /// `0.1\overline{6}` = 1/6.
    pub(super) fn repeat(&mut self, digits: &str) -> Option<()> {
        let Some(Token::Number {
            value,
            places,
            digits: written,
        }) = self.tokens.pop()
        else {
            return None;
        };
        let places = places.or_else(|| written.ends_with('.').then_some(0))?;
        if digits.len() > 30 {
            return None;
        }
        let ten = exact::whole(10);
        let block: Exact = Exact::from_integer(digits.parse().ok()?);
        let nines = exact::power(&ten, &exact::whole(digits.len() as i64))? - exact::whole(1);
        let scale = exact::power(&ten, &exact::whole(i64::from(places)))?;
        let value = value + block / nines / scale;
        // A repeating number is exact, so it has no last place.
        self.tokens.push(Token::Number {
            value,
            places: None,
            digits: format!("{written}({digits})"),
        });
        Some(())
    }

    pub(super) fn number(&mut self) -> Option<()> {
        let mut digits = self.run_of_digits();
        self.thousands(&mut digits);
        self.dotted_thousands(&mut digits);
        if let Some(width) = self.decimal_point() {
            self.at += width;
            digits.push('.');
            digits.push_str(&self.run_of_digits());
            if let Some(block) = self.goes_on(&digits) {
                digits.truncate(digits.len() - block.len());
                self.push_number(digits)?;
                return self.repeat(&block);
            }
        } else if self.peek(0) == Some('.')
            && let Some(block) = self.bracketed_repeat()
        {
            digits.push('.');
            self.push_number(digits)?;
            return self.repeat(&block);
        } else if self.peek(0) == Some('.') && self.repeats_follow() {
            self.at += 1;
            digits.push('.');
        }
        self.push_number(digits)?;
        self.scientific()
    }

    /// How wide the sign is that begins the decimals here: a point, a comma where it is one, `{,}` before other than three
    /// digits.
    fn decimal_point(&self) -> Option<usize> {
        let braced = self.text[self.at..].starts_with(&['{', ',', '}']);
        let run = |from: usize| (from..from + 4).take_while(|at| self.digit(*at)).count();
        match self.peek(0)? {
            '.' if self.digit(1) => Some(1),
            ',' if self.commas == Commas::Decimal && self.digit(1) => Some(1),
            '{' if braced && !matches!(run(3), 0 | 3) => Some(3),
            _ => None,
        }
    }

    /// Joins `1.234.567`, which has a point too many for a decimal number.
    fn dotted_thousands(&mut self, digits: &mut String) {
        let group = |at: usize| {
            let group: String = self.text.get(at + 1..)?.iter().take(3).collect();
            let digits = group.len() == 3 && group.bytes().all(|byte| byte.is_ascii_digit());
            let ends = self.text.get(at + 4).is_none_or(|c| !c.is_ascii_digit());
            (self.text.get(at) == Some(&'.') && digits && ends).then_some(group)
        };
        let groups: Vec<String> = (0..).map_while(|n| group(self.at + 4 * n)).collect();
        if groups.len() > 1 && (1..=3).contains(&digits.len()) && !digits.starts_with('0') {
            digits.push_str(&groups.concat());
            self.at += 4 * groups.len();
        }
    }

    /// The digits of `0.(3)` that repeat, passed over; the point is here.
    fn bracketed_repeat(&mut self) -> Option<String> {
        let rest: String = self.text[self.at + 1..].iter().take(32).collect();
        let block = rest.strip_prefix('(')?.split_once(')')?.0;
        let digits = !block.is_empty() && block.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| {
            self.at += block.len() + 3;
            block.to_owned()
        })
    }

    /// The digits that `0.1666...` goes on with, where they have come often enough to tell; the dots are passed over.
    fn goes_on(&mut self, digits: &str) -> Option<String> {
        let rest: String = self.text[self.at..].iter().take(8).collect();
        let dots = ["...", "…", "\\ldots", "\\dots", "\\cdots"];
        let dots = dots.into_iter().find(|dots| rest.starts_with(dots))?;
        let decimals = digits.split_once('.')?.1;
        let block = (1..=decimals.len() / 2).find_map(|length| {
            let (before, block) = decimals.split_at(decimals.len() - length);
            let times = if length == 1 { 2 } else { 1 };
            before.ends_with(&block.repeat(times)).then_some(block)
        })?;
        self.at += dots.chars().count();
        Some(block.to_owned())
    }

    /// Whether `\overline` or the like stands right after the point.
    fn repeats_follow(&self) -> bool {
        let rest: String = self.text[self.at + 1..].iter().take(10).collect();
        ["\\overline", "\\bar", "\\dot"]
            .iter()
            .any(|name| rest.starts_with(name))
    }

    fn run_of_digits(&mut self) -> String {
        let start = self.at;
        while self.digit(0) {
            self.at += 1;
        }
        self.text[start..self.at].iter().collect()
    }

    /// Joins `1,234`, `1{,}234`, `1\,234` and `1 234` where the groups are of three digits.
    fn thousands(&mut self, digits: &mut String) {
        if digits.is_empty() || digits.len() > 3 || (digits.len() > 1 && digits.starts_with('0')) {
            return;
        }
        let mut groups = Vec::new();
        let mut at = self.at;
        let mut separator = None;
        while let Some((found, width)) = self.separator(at) {
            let group: String = self.text[at + width..].iter().take(3).collect();
            let ends = self
                .text
                .get(at + width + 3)
                .is_none_or(|c| !c.is_ascii_digit());
            let whole = group.len() == 3 && group.chars().all(|c| c.is_ascii_digit());
            if !whole || !ends || separator.is_some_and(|separator| separator != found) {
                break;
            }
            separator = Some(found);
            groups.push(group);
            at += width + 3;
        }
        let joined = match separator {
            None => false,
            Some(',') => {
                let list = self.brackets > 0 && groups.len() == 1 && !groups[0].starts_with('0');
                self.commas == Commas::Thousands && digits != "0" && !list
            }
            Some(_) => digits != "0",
        };
        if joined {
            digits.push_str(&groups.concat());
            self.at = at;
        }
    }

    /// What may separate groups of digits here, and how many characters it takes.
    fn separator(&self, at: usize) -> Option<(char, usize)> {
        let rest: String = self.text[at..].iter().take(12).collect();
        [
            (',', "{,}"),
            (',', ",\\!\\!"),
            (',', ",\\! "),
            (',', ",\\!"),
            (',', "\\!,"),
            ('.', "{.}"),
            (' ', "\\,"),
            (' ', "\\ "),
            (' ', "\\:"),
            (' ', "\\;"),
            (' ', "~"),
            (' ', "\u{202f}"),
            (' ', "\u{2009}"),
            (' ', "\u{a0}"),
            (' ', " "),
            (',', ","),
        ]
        .into_iter()
        .find(|(_, text)| rest.starts_with(text) && *text != "{.}")
        .map(|(kind, text)| (kind, text.chars().count()))
    }

    pub(super) fn push_number(&mut self, digits: String) -> Option<()> {
        let (whole, part) = digits.split_once('.').unwrap_or((&digits, ""));
        let mantissa: num_bigint::BigInt = format!("0{whole}{part}").parse().ok()?;
        let places = part.len() as u32;
        let scale = exact::power(&exact::whole(10), &exact::whole(i64::from(places)))?;
        let value = exact::divide(&Exact::from_integer(mantissa), &scale)?;
        let places = digits.contains('.').then_some(places);
        self.tokens.push(Token::Number {
            value,
            places,
            digits,
        });
        Some(())
    }

    /// `1.5e3`, `2E-4`.
    fn scientific(&mut self) -> Option<()> {
        let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
        if !matches!(self.peek(0), Some('e' | 'E')) || !self.digit(1 + sign) {
            return Some(());
        }
        let negative = self.peek(1) == Some('-');
        self.at += 1 + sign;
        let exponent: i64 = self.run_of_digits().parse().ok()?;
        let exponent = exact::whole(if negative { -exponent } else { exponent });
        let factor = exact::power(&exact::whole(10), &exponent)?;
        if let Some(Token::Number {
            value,
            places,
            digits,
        }) = self.tokens.last_mut()
        {
            *value = exact::multiply(value, &factor)?;
            // The last place moves with the exponent; a whole number has none.
            *places = None;
            digits.push('e');
        }
        Some(())
    }
}
