//! Numbers, variables, and commands with their arguments.

use super::{Parser, is_minus_one, one_or};
use crate::grade::latex::exact::{self, Exact};
use crate::grade::latex::node::{Fold, Function, Node};
use crate::grade::latex::text;
use crate::grade::latex::token::Token;

impl Parser {
    /// `1011_2`: a number by its digits in a base.
    pub(super) fn based(&mut self, node: &Node) -> Option<Node> {
        let Node::Number {
            value,
            places: None,
        } = node
        else {
            return None;
        };
        self.expect('_')?;
        let base = self.subscript()?;
        let base: u32 = match text::counting_word(&base) {
            Some(base) => u32::try_from(base).ok()?,
            None => base.parse().ok()?,
        };
        if !(2..=36).contains(&base) || !value.is_integer() {
            return None;
        }
        let digits = value.numer().to_string();
        let value = num_bigint::BigInt::parse_bytes(digits.as_bytes(), base)?;
        Some(Node::Number {
            value: Exact::from_integer(value),
            places: None,
        })
    }

    /// The text of a subscript.
    fn subscript(&mut self) -> Option<String> {
        let mut text = String::new();
        let braced = self.take('{');
        loop {
            match self.peek()? {
                Token::Number { digits, .. } => text.push_str(digits),
                Token::Letter(letter) => text.push(*letter),
                Token::Name(name) | Token::Text(name) => text.push_str(name),
                Token::Sign('}') if braced => {
                    self.at += 1;
                    return Some(text);
                }
                Token::Sign(sign) if braced && "+-*,".contains(*sign) => text.push(*sign),
                _ => return None,
            }
            self.at += 1;
            if !braced {
                return Some(text);
            }
        }
    }

    /// A number, or a mixed number: `1\frac{1}{2}`, `1 1/2`.
    pub(super) fn number(&mut self, value: Exact, places: Option<u32>) -> Option<Node> {
        let start = self.at;
        if places.is_none() && value.is_integer() {
            if let Some(part) = self.proper_fraction() {
                let value = exact::add(&value, &part)?;
                return Some(Node::Number {
                    value,
                    places: None,
                });
            }
            self.at = start;
        }
        Some(Node::Number { value, places })
    }

    /// The proper fraction of whole numbers that stands here, if one does.
    fn proper_fraction(&mut self) -> Option<Exact> {
        let whole = |node: Option<Node>| match node {
            Some(Node::Number {
                value,
                places: None,
            }) if value.is_integer() => Some(value),
            _ => None,
        };
        let (numerator, denominator) = if self.peek() == Some(&Token::Command("frac".into())) {
            self.at += 1;
            (whole(self.argument())?, whole(self.argument())?)
        } else {
            let number = |token: Option<&Token>| match token {
                Some(Token::Number {
                    value,
                    places: None,
                    ..
                }) if value.is_integer() => Some(value.clone()),
                _ => None,
            };
            let numerator = number(self.tokens.get(self.at))?;
            (self.tokens.get(self.at + 1) == Some(&Token::Sign('/'))).then_some(())?;
            let denominator = number(self.tokens.get(self.at + 2))?;
            self.at += 3;
            (numerator, denominator)
        };
        // 3\frac{4}{2} is a product; so is 0\frac{1}{2}, which nobody writes.
        (numerator < denominator && numerator > exact::whole(0))
            .then(|| exact::divide(&numerator, &denominator))?
    }

    pub(super) fn letter(&mut self, letter: char) -> Option<Node> {
        let bare = !self.sees('_') && !self.sees('\'');
        match letter {
            'e' if bare => Some(Node::Euler),
            'i' if bare => Some(Node::Imaginary),
            _ => self.symbol(letter.to_string()),
        }
    }

    pub(super) fn name(&mut self, name: &str) -> Option<Node> {
        match name
            .strip_prefix("set ")
            .and_then(|name| name.chars().next())
        {
            Some(set) => self.named_set(set),
            None => self.symbol(name.to_owned()),
        }
    }

    /// ℝ, ℤ, …, or their positive or negative part.
    fn named_set(&mut self, set: char) -> Option<Node> {
        if set == 'R' && (self.sees('^') || self.sees('_')) {
            let start = self.at;
            self.at += 1;
            let braced = self.take('{');
            let sign = ['+', '-'].into_iter().find(|sign| self.take(*sign));
            if braced {
                self.expect('}')?;
            }
            let ends = |low: Node, high: Node| Node::Tuple(vec![low, high], (false, false));
            match sign {
                Some('+') => return Some(ends(Node::whole(0), Node::Infinity)),
                Some(_) => {
                    return Some(ends(
                        Node::Negative(Box::new(Node::Infinity)),
                        Node::whole(0),
                    ));
                }
                None => self.at = start,
            }
        }
        Some(Node::Named(set))
    }

    fn symbol(&mut self, mut name: String) -> Option<Node> {
        loop {
            if self.take('\'') {
                name.push('\'');
            } else if self.take('_') {
                name.push('_');
                name.push_str(&self.subscript()?);
            } else {
                return Some(Node::Symbol(name));
            }
        }
    }

    /// `\sin x`, `\sin^2 x`, `\sin^{-1} x`, `\ln(2x)`.
    pub(super) fn application(&mut self, function: Function) -> Option<Node> {
        let exponent = if self.take('^') {
            Some(self.deeper(Self::exponent)?)
        } else {
            None
        };
        let argument = self.deeper(Self::function_argument)?;
        let apply = |function| Node::Apply(function, Box::new(argument.clone()));
        match exponent {
            None => Some(apply(function)),
            Some(exponent) if is_minus_one(&exponent) => function.inverse().map(apply),
            Some(exponent) => Some(Node::Power(Box::new(apply(function)), Box::new(exponent))),
        }
    }

    /// A bracket, or the factors up to the next sign or function.
    fn function_argument(&mut self) -> Option<Node> {
        if self.sees('(') || self.sees('{') || self.sees('[') {
            let inside = self.primary()?;
            return Some(inside);
        }
        if self.sees('-') {
            self.at += 1;
            return Some(Node::Negative(Box::new(
                self.deeper(Self::function_argument)?,
            )));
        }
        let mut factors = vec![self.power()?];
        while self.begins_factor()
            && !matches!(
                self.peek(),
                Some(Token::Function(_) | Token::Sign('(' | '['))
            )
            && !matches!(self.peek(), Some(Token::Command(name)) if name == "log")
        {
            factors.push(self.power()?);
        }
        // `\sin \pi/6` means the sine of a sixth of π.
        if self.sees('/') && matches!(self.tokens.get(self.at + 1), Some(Token::Number { .. })) {
            self.at += 1;
            let divisor = self.power()?;
            let dividend = one_or(factors, Node::Product);
            return Some(Node::Quotient(Box::new(dividend), Box::new(divisor)));
        }
        Some(one_or(factors, Node::Product))
    }

    pub(super) fn command(&mut self, name: &str) -> Option<Node> {
        match name {
            "frac" => {
                let (numerator, denominator) = (self.argument()?, self.argument()?);
                Some(Node::Quotient(Box::new(numerator), Box::new(denominator)))
            }
            "binom" => Some(Node::Binomial(
                Box::new(self.argument()?),
                Box::new(self.argument()?),
            )),
            "sqrt" => self.root(),
            "log" => self.logarithm(),
            "sum" | "prod" => self.fold(name == "prod"),
            "det" => self.determinant(),
            "begin" => self.matrix(),
            "mathbb" => {
                let Node::Symbol(name) = self.letter_argument()? else {
                    return None;
                };
                self.named_set(name.chars().next()?)
            }
            _ => None,
        }
    }

    /// The letter after `\mathbb`, with or without braces.
    fn letter_argument(&mut self) -> Option<Node> {
        let braced = self.take('{');
        let Some(Token::Letter(letter)) = self.peek().cloned() else {
            return None;
        };
        self.at += 1;
        if braced {
            self.expect('}')?;
        }
        "RZNQC"
            .contains(letter)
            .then(|| Node::Symbol(letter.to_string()))
    }

    fn root(&mut self) -> Option<Node> {
        let mut degree = Node::whole(2);
        if self.take('[') {
            degree = self.deeper(Self::set)?;
            self.expect(']')?;
        }
        let radicand = if self.sees('{') || self.sees('(') {
            self.deeper(Self::primary)?
        } else {
            self.single()?
        };
        let number = match &degree {
            Node::Number {
                value,
                places: None,
            } => exact::small(value).and_then(|degree| u32::try_from(degree).ok()),
            _ => None,
        };
        Some(match number {
            Some(0) => return None,
            Some(degree) => Node::Root(Box::new(radicand), degree),
            None => {
                let exponent = Node::Quotient(Box::new(Node::whole(1)), Box::new(degree));
                Node::Power(Box::new(radicand), Box::new(exponent))
            }
        })
    }

    fn logarithm(&mut self) -> Option<Node> {
        let mut exponent = None;
        let mut base = None;
        loop {
            if self.take('^') {
                exponent = Some(self.deeper(Self::exponent)?);
            } else if self.take('_') {
                base = Some(self.argument()?);
            } else {
                break;
            }
        }
        let argument = Box::new(self.deeper(Self::function_argument)?);
        let node = match base {
            Some(base) => Node::Log(Box::new(base), argument),
            None => Node::Apply(Function::Log, argument),
        };
        Some(match exponent {
            Some(exponent) => Node::Power(Box::new(node), Box::new(exponent)),
            None => node,
        })
    }

    /// `\sum_{k=1}^{10} k^2`: a variable with its first and last value, and the term up to the next sign.
    fn fold(&mut self, product: bool) -> Option<Node> {
        let (mut from, mut high) = (None, None);
        loop {
            if self.take('_') {
                self.expect('{')?;
                let Some(Token::Letter(letter)) = self.peek().cloned() else {
                    return None;
                };
                self.at += 1;
                self.expect('=')?;
                from = Some((letter, self.sum()?));
                self.expect('}')?;
            } else if self.take('^') {
                high = Some(self.deeper(Self::exponent)?);
            } else {
                break;
            }
        }
        let ((letter, low), high) = from.zip(high)?;
        let body = self.deeper(Self::product)?;
        // `a_k` is another number for each k.
        let indexed = |node: &Node| matches!(node, Node::Symbol(name) if name.split_once('_').is_some_and(|(_, index)| index.contains(letter)));
        let name = match letter {
            'i' => Node::Imaginary,
            'e' => Node::Euler,
            _ => Node::Symbol(letter.to_string()),
        };
        (!body.any(&indexed)).then(|| {
            let fold = Fold::new(product, &name, (low, high), &body);
            Node::Fold(Box::new(fold))
        })
    }

    /// `\begin{vmatrix}` and `\det\begin{pmatrix}`, written out.
    fn determinant(&mut self) -> Option<Node> {
        if self.peek() != Some(&Token::Command("begin".into())) {
            return None;
        }
        self.at += 1;
        match self.matrix()? {
            Node::Matrix(rows) if rows.len() == rows[0].len() && rows.len() <= 4 => {
                Some(expanded(&rows))
            }
            _ => None,
        }
    }

    /// What follows `\frac`: a group, or one digit, letter or command.
    fn argument(&mut self) -> Option<Node> {
        if self.sees('{') {
            return self.deeper(Self::group);
        }
        self.split_number();
        self.single()
    }

    /// One token, or a command with its arguments.
    fn single(&mut self) -> Option<Node> {
        let token = self.peek()?.clone();
        match token {
            Token::Number { value, places, .. } => {
                self.at += 1;
                Some(Node::Number { value, places })
            }
            Token::Letter(_) | Token::Name(_) | Token::Command(_) | Token::Sign('π' | '(') => {
                self.deeper(Self::primary)
            }
            _ => None,
        }
    }

    /// `\frac12` is 1/2: only the first digit belongs to the numerator.
    fn split_number(&mut self) {
        let Some(Token::Number {
            places: None,
            digits,
            ..
        }) = self.peek().cloned()
        else {
            return;
        };
        if digits.len() < 2 || !digits.chars().all(|c| c.is_ascii_digit()) {
            return;
        }
        let number = |digits: &str| Token::Number {
            value: Exact::from_integer(digits.parse().unwrap_or_default()),
            places: None,
            digits: digits.to_owned(),
        };
        let parts = [number(&digits[..1]), number(&digits[1..])];
        self.tokens.splice(self.at..=self.at, parts);
    }
}

/// The determinant of a small square matrix along its first row.
fn expanded(rows: &[Vec<Node>]) -> Node {
    if let [only] = rows {
        return only[0].clone();
    }
    let minor = |column: usize| -> Vec<Vec<Node>> {
        let others = rows[1..].iter();
        let without = |row: &Vec<Node>| [&row[..column], &row[column + 1..]].concat();
        others.map(without).collect()
    };
    let term = |(column, entry): (usize, &Node)| {
        let term = Node::Product(vec![entry.clone(), expanded(&minor(column))]);
        if column % 2 == 0 {
            term
        } else {
            Node::Negative(Box::new(term))
        }
    };
    Node::Sum(rows[0].iter().enumerate().map(term).collect())
}
