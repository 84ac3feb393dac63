//! From the text of a formula, in LaTeX or as plain text, to its tokens.

mod commands;
mod numbers;

use super::exact;
use super::token::{Commas, Token};
use super::units;
use super::words::{self, Word};

/// Longest formula read, in characters; what is longer is compared as text.
const LONGEST: usize = 4000;

/// The tokens of a formula; none when it holds what no formula holds.
pub(super) fn lex(text: &str, commas: Commas) -> Option<Vec<Token>> {
    let text = &text.replace("{:}", ":");
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
    Some(words::settle(&lexer.tokens))
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

    /// Whether the single letter just read is a unit: after a number and a space, `5 m`, or after a unit, `m/s`.
    fn is_unit(&self, start: usize) -> bool {
        let spaced = start > 0 && self.text[start - 1] == ' ';
        let after = match self.tokens.as_slice() {
            [.., Token::Text(_), Token::Sign('/')] => true,
            [Token::Number { .. }] | [Token::Sign('-' | '='), Token::Number { .. }] => spaced,
            _ => false,
        };
        let ends = self.peek(0).is_none_or(|c| c == '/' || c == '^');
        after && ends && units::letter(self.text[start])
    }

    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(|c| c.is_ascii_alphabetic()) {
            self.at += 1;
        }
        let word: String = self.text[start..self.at].iter().collect();
        if word.len() == 1 && self.is_unit(start) {
            return self.tokens.push(Token::Text(word));
        }
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
}
