//! From the text of a formula, in LaTeX or as plain text, to its tokens.

use super::exact::{self, Exact};
use super::token::{Commas, Token};
use super::units;
use super::words::{self, Word};

/// Longest formula read, in characters; what is longer is compared as text.
const LONGEST: usize = 4000;

/// The tokens of a formula; none when it holds what no formula holds.
pub(super) fn lex(text: &str, commas: Commas) -> Option<Vec<Token>> {
    let characters: Vec<char> = text.chars().take(LONGEST + 1).collect();
    if characters.len() > LONGEST {
        return None;
    }
    let mut lexer = Lexer {
        dollars_are_money: text.replace("\\$", "").matches('$').count() % 2 == 1,
        text: characters,
        at: 0,
        commas,
        brackets: 0,
        tokens: Vec::new(),
    };
    while lexer.at < lexer.text.len() {
        lexer.next()?;
    }
    Some(words::settle(lexer.tokens))
}

struct Lexer {
    text: Vec<char>,
    at: usize,
    commas: Commas,
    /// Brackets open here, those of sets and tuples: in them a comma separates.
    brackets: usize,
    dollars_are_money: bool,
    tokens: Vec<Token>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn sign(&mut self, sign: char) {
        match sign {
            '(' | '[' | '⦃' | '⟨' => self.brackets += 1,
            ')' | ']' | '⦄' | '⟩' => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.tokens.push(Token::Sign(sign));
    }

    fn signs(&mut self, signs: &str) {
        for sign in signs.chars() {
            self.sign(sign);
        }
    }

    /// Reads one token, or passes over what means nothing.
    fn next(&mut self) -> Option<()> {
        let here = self.peek(0)?;
        if here.is_ascii_digit() || (here == '.' && self.digit(1)) {
            return self.number();
        }
        if here.is_ascii_alphabetic() {
            self.word();
            return Some(());
        }
        if here == '\\' {
            return self.command();
        }
        self.at += 1;
        match here {
            '$' if self.dollars_are_money => self.tokens.push(Token::Currency('$')),
            '€' | '£' | '¥' => self.tokens.push(Token::Currency(here)),
            '$' | ' ' | '\n' | '\t' | '\r' | '~' => {}
            '.' => self.point()?,
            '*' if self.peek(0) == Some('*') => {
                self.at += 1;
                self.sign('^');
            }
            '<' | '>' | '!' | '=' => self.comparison(here),
            '+' | '-' | '*' | '/' | '^' | '_' | '\'' | '(' | ')' | '[' | ']' | '{' | '}' | '|'
            | '&' | '%' | ',' | ';' | ':' => self.sign(here),
            other => self.unicode(other)?,
        }
        Some(())
    }

    fn digit(&self, ahead: usize) -> bool {
        self.peek(ahead).is_some_and(|c| c.is_ascii_digit())
    }

    /// A point that belongs to no number: an ellipsis, or the end of a sentence.
    fn point(&mut self) -> Option<()> {
        if self.peek(0) == Some('.') {
            while self.peek(0) == Some('.') {
                self.at += 1;
            }
            self.sign('…');
            return Some(());
        }
        self.peek(0).is_none_or(char::is_whitespace).then_some(())
    }

    fn comparison(&mut self, first: char) {
        let sign = match (first, self.peek(0)) {
            ('<', Some('=')) => '≤',
            ('>', Some('=')) => '≥',
            // `5!=120` is a factorial, `x != 5` is not.
            ('!', Some('=')) if !matches!(self.tokens.last(), Some(Token::Number { .. })) => '≠',
            ('=', Some('=')) => '=',
            _ => return self.sign(first),
        };
        self.at += 1;
        self.sign(sign);
    }

    /// A character beyond ASCII, as the sign or the letter it stands for.
    fn unicode(&mut self, c: char) -> Option<()> {
        if let Some(digit) = "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|sign| sign == c) {
            return self.script('^', "⁰¹²³⁴⁵⁶⁷⁸⁹", digit);
        }
        if let Some(digit) = "₀₁₂₃₄₅₆₇₈₉".chars().position(|sign| sign == c) {
            return self.script('_', "₀₁₂₃₄₅₆₇₈₉", digit);
        }
        if c.is_whitespace() || "\u{200b}\u{2061}\u{2062}\u{feff}".contains(c) {
            return Some(());
        }
        match words::unicode(c)? {
            Word::Signs(signs) => self.signs(signs),
            Word::Token(token) => self.tokens.push(token),
            Word::Fraction(numerator, denominator) => self.fraction(numerator, denominator),
            Word::Nothing => {}
        }
        Some(())
    }

    /// Raised or lowered digits: `x²³` is `x^{23}`.
    fn script(&mut self, sign: char, digits: &str, first: usize) -> Option<()> {
        let mut text = first.to_string();
        while let Some(digit) = self
            .peek(0)
            .and_then(|c| digits.chars().position(|sign| sign == c))
        {
            text.push_str(&digit.to_string());
            self.at += 1;
        }
        self.sign(sign);
        self.push_number(text)
    }

    /// `½` as `\frac{1}{2}`.
    fn fraction(&mut self, numerator: i64, denominator: i64) {
        self.tokens.push(Token::Command("frac".into()));
        for part in [numerator, denominator] {
            self.sign('{');
            self.tokens.push(Token::Number {
                value: exact::whole(part),
                places: None,
                digits: part.to_string(),
            });
            self.sign('}');
        }
    }

    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(|c| c.is_ascii_alphabetic()) {
            self.at += 1;
        }
        let word: String = self.text[start..self.at].iter().collect();
        let after_value = self.tokens.last().is_some_and(Token::ends_value);
        if word.len() > 1 && after_value && units::known(&word) && words::plain(&word).is_none() {
            return self.tokens.push(Token::Text(word));
        }
        match words::plain(&word) {
            Some(Word::Signs(signs)) => self.signs(signs),
            Some(Word::Token(token)) => self.tokens.push(token),
            _ if word.len() <= 3 => self.tokens.extend(word.chars().map(Token::Letter)),
            _ => self.tokens.push(Token::Text(word)),
        }
    }

    fn command(&mut self) -> Option<()> {
        self.at += 1;
        let first = self.peek(0)?;
        if !first.is_ascii_alphabetic() {
            self.at += 1;
            return self.escape(first);
        }
        let start = self.at;
        while self.peek(0).is_some_and(|c| c.is_ascii_alphabetic()) {
            self.at += 1;
        }
        let name: String = self.text[start..self.at].iter().collect();
        match name.as_str() {
            "left" | "right" | "middle" | "bigl" | "bigr" | "Bigl" | "Bigr" | "big" | "Big"
            | "bigg" | "Bigg" | "biggl" | "biggr" => self.invisible_bracket(),
            "text" | "textbf" | "textit" | "textrm" | "textnormal" | "texttt" | "textsf"
            | "mbox" | "hbox" | "mathrm" | "mathbf" | "mathit" | "mathsf" | "operatorname"
            | "emph" | "boldsymbol" | "bm" | "rm" => return self.upright(),
            "overline" | "bar" | "vec" | "overrightarrow" | "widehat" | "hat" | "dot"
            | "underline" | "tilde" => return self.accent(&name),
            "begin" | "end" => return self.environment(&name),
            "boxed" | "fbox" | "displaystyle" | "textstyle" | "scriptstyle" | "limits"
            | "mathop" => {}
            _ => match words::latex(&name)? {
                Word::Signs(signs) => self.signs(signs),
                Word::Token(token) => self.tokens.push(token),
                Word::Fraction(..) | Word::Nothing => {}
            },
        }
        Some(())
    }

    /// `\left.` draws nothing.
    fn invisible_bracket(&mut self) {
        if self.peek(0) == Some('.') {
            self.at += 1;
        }
    }

    fn escape(&mut self, sign: char) -> Option<()> {
        match sign {
            '{' => self.sign('⦃'),
            '}' => self.sign('⦄'),
            '%' => self.sign('%'),
            '$' => self.tokens.push(Token::Currency('$')),
            '|' => self.sign('|'),
            '\\' => self.sign('⏎'),
            ' ' | ',' | ';' | ':' | '!' | '>' | '(' | ')' | '[' | ']' | '&' | '#' | '/' | '\n' => {}
            _ => return None,
        }
        Some(())
    }

    /// The content of the braces that follow, which may be nested; without braces, the next character.
    fn braced(&mut self) -> Option<String> {
        while self.peek(0) == Some(' ') {
            self.at += 1;
        }
        if self.peek(0)? != '{' {
            self.at += 1;
            return Some(self.text[self.at - 1].to_string());
        }
        let start = self.at + 1;
        let mut depth = 0;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return Some(self.text[start..self.at - 1].iter().collect()),
                '}' => depth -= 1,
                _ => {}
            }
        }
        // A brace that is never closed ends with the text.
        Some(self.text[start..].iter().collect())
    }

    /// Words in a formula; numbers, single letters and names of functions among them are what they would be outside.
    fn upright(&mut self) -> Option<()> {
        let content = self.braced()?;
        let trimmed = content.trim().trim_matches(',').trim();
        let after_value = self.tokens.last().is_some_and(Token::ends_value);
        let unit = |text: &str| text.chars().all(units::letter) && text.chars().count() == 1;
        match trimmed.to_lowercase().as_str() {
            "" => self.tokens.push(if content.contains(',') {
                Token::Sign(',')
            } else {
                return Some(());
            }),
            "and" | "&" => self.tokens.push(Token::And),
            "or" => self.tokens.push(Token::Or),
            _ if words::reads_as_words(trimmed) || (after_value && unit(trimmed)) => {
                self.tokens.push(Token::Text(trimmed.to_owned()));
            }
            _ => {
                // What is inside has no more backslashes than the whole, so this comes to an end.
                let inner: Vec<char> = trimmed.chars().collect();
                self.text
                    .splice(self.at..self.at, inner.into_iter().chain([' ']));
            }
        }
        Some(())
    }

    /// A segment, a vector, or the repeating digits of a number.
    fn accent(&mut self, name: &str) -> Option<()> {
        let content: String = self.braced()?.chars().filter(|c| *c != ' ').collect();
        let repeating = matches!(name, "overline" | "bar" | "dot")
            && !content.is_empty()
            && content.chars().all(|c| c.is_ascii_digit());
        if repeating {
            return self.repeat(&content);
        }
        if content.is_empty() || !content.chars().all(|c| c.is_alphanumeric()) {
            return None;
        }
        self.tokens.push(Token::Name(content));
        Some(())
    }

    /// `0.1\overline{6}` = 1/6.
    fn repeat(&mut self, digits: &str) -> Option<()> {
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

    /// `\begin{pmatrix}`; column formats of arrays are passed over.
    fn environment(&mut self, name: &str) -> Option<()> {
        let environment = self.braced()?;
        let kind = environment.trim_end_matches('*');
        let known = matches!(
            kind,
            "matrix" | "pmatrix" | "bmatrix" | "Bmatrix" | "vmatrix" | "smallmatrix" | "array"
        );
        if !known {
            // Text around a formula: `align`, `equation`, …
            return matches!(
                kind,
                "align" | "aligned" | "equation" | "gather" | "split" | "gathered"
            )
            .then_some(());
        }
        if name == "begin" && kind == "array" && self.peek(0) == Some('{') {
            self.braced()?;
        }
        let name = if kind == "vmatrix" {
            format!("{name} determinant")
        } else {
            name.to_owned()
        };
        self.tokens.push(Token::Command(name));
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let mut digits = self.run_of_digits();
        self.thousands(&mut digits);
        let decimal_comma =
            self.commas == Commas::Decimal && self.peek(0) == Some(',') && self.digit(1);
        if decimal_comma || (self.peek(0) == Some('.') && self.digit(1)) {
            self.at += 1;
            digits.push('.');
            digits.push_str(&self.run_of_digits());
        } else if self.peek(0) == Some('.') && self.repeats_follow() {
            self.at += 1;
            digits.push('.');
        }
        self.push_number(digits)?;
        self.scientific()
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

    fn push_number(&mut self, digits: String) -> Option<()> {
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
