//! What begins with a backslash.

use super::Lexer;
use crate::grade::latex::token::Token;
use crate::grade::latex::units;
use crate::grade::latex::vectors;
use crate::grade::latex::words::{self, Word};

impl Lexer {
    pub(super) fn command(&mut self) -> Option<()> {
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
            | "emph" | "boldsymbol" | "bm" | "rm" => return self.upright(&name),
            "overline" | "bar" | "vec" | "overrightarrow" | "widehat" | "hat" | "dot"
            | "underline" | "tilde" => return self.accent(&name),
            "color" | "textcolor" => {
                self.braced()?;
            }
            "begin" | "end" => return self.environment(&name),
            "boxed" | "fbox" | "displaystyle" | "textstyle" | "scriptstyle" | "limits"
            | "mathop" => {}
            _ => match words::latex(&name).unwrap_or(Word::Token(Token::Command(name))) {
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
    fn upright(&mut self, name: &str) -> Option<()> {
        let content = self.braced()?;
        let trimmed = content.trim().trim_matches(',').trim();
        if matches!(name, "mathbf" | "textbf" | "boldsymbol" | "bm")
            && let Some(unit) = vectors::unit(trimmed)
        {
            self.tokens.push(unit);
            return Some(());
        }
        let after_value = self.tokens.last().is_some_and(Token::ends_value);
        let unit = |text: &str| {
            text.chars().all(units::letter) && text.chars().count() == 1 || units::compound(text)
        };
        match trimmed.to_lowercase().as_str() {
            "" => self.tokens.push(if content.contains(',') {
                Token::Sign(',')
            } else {
                return Some(());
            }),
            "am" | "a.m." | "pm" | "p.m." => {
                let half = trimmed.replace('.', "").to_lowercase();
                self.tokens.push(Token::Text(half));
            }
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
        if matches!(name, "hat" | "widehat" | "vec" | "overrightarrow")
            && let Some(unit) = vectors::unit(&content)
        {
            self.tokens.push(unit);
            return Some(());
        }
        if name == "underline" {
            let inner: Vec<char> = content.chars().collect();
            self.text
                .splice(self.at..self.at, inner.into_iter().chain([' ']));
            return Some(());
        }
        if content.is_empty() || !content.chars().all(char::is_alphanumeric) {
            return None;
        }
        // A segment or a vector is what it is without its line.
        if content.chars().count() <= 4 && content.chars().all(char::is_alphabetic) {
            self.tokens.extend(content.chars().map(Token::Letter));
        } else {
            self.tokens.push(Token::Name(content));
        }
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
                "cases" | "align" | "aligned" | "equation" | "gather" | "split" | "gathered"
            )
            .then_some(());
        }
        if name == "begin" && kind == "array" && self.peek(0) == Some('{') {
            self.braced()?;
        }
        if kind == "vmatrix" && name == "begin" {
            self.tokens.push(Token::Command("det".into()));
        }
        self.tokens.push(Token::Command(name.to_owned()));
        Some(())
    }
}
