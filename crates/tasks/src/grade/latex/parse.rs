//! From tokens to a formula, within limits of depth and size.

use super::exact::{self, Exact};
use super::node::{Function, Node};
use super::token::Token;

/// Deepest nesting of brackets, fractions, exponents and signs.
const DEPTH: usize = 64;
/// Most parts of a formula.
const PARTS: usize = 3000;

/// The formula these tokens are, all of them; none when they are none, or one beyond the limits.
pub(super) fn parse(tokens: &[Token]) -> Option<Node> {
    if tokens.is_empty() {
        return None;
    }
    let mut parser = Parser {
        tokens: tokens.to_vec(),
        at: 0,
        depth: 0,
        parts: 0,
        bars: 0,
    };
    let node = parser.set()?;
    (parser.at == parser.tokens.len()).then_some(node)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    parts: usize,
    /// Absolute values open here: in them a bar closes.
    bars: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn sees(&self, sign: char) -> bool {
        self.peek() == Some(&Token::Sign(sign))
    }

    fn take(&mut self, sign: char) -> bool {
        let found = self.sees(sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: char) -> Option<()> {
        self.take(sign).then_some(())
    }

    /// Goes one level down, unless that is too deep.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.parts += 1;
        if self.depth >= DEPTH || self.parts > PARTS {
            return None;
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// Unions, intersections and differences, from left to right.
    fn set(&mut self) -> Option<Node> {
        let mut left = self.ratio()?;
        loop {
            left = if self.take('∪') {
                let right = self.ratio()?;
                match left {
                    Node::Union(mut sets) => {
                        sets.push(right);
                        Node::Union(sets)
                    }
                    left => Node::Union(vec![left, right]),
                }
            } else if self.take('∩') {
                Node::Intersection(vec![left, self.ratio()?])
            } else if self.take('∖') {
                Node::Without(Box::new(left), Box::new(self.ratio()?))
            } else {
                return Some(left);
            };
        }
    }

    fn ratio(&mut self) -> Option<Node> {
        let first = self.sum()?;
        if !self.sees(':') {
            return Some(first);
        }
        let mut parts = vec![first];
        while self.take(':') {
            parts.push(self.sum()?);
        }
        Some(Node::Ratio(parts))
    }

    fn sum(&mut self) -> Option<Node> {
        self.deeper(|parser| {
            let mut terms = vec![parser.product()?];
            loop {
                let term = if parser.take('+') {
                    parser.product()?
                } else if parser.take('-') {
                    Node::Negative(Box::new(parser.product()?))
                } else if parser.take('±') {
                    Node::PlusMinus(Box::new(parser.product()?), false)
                } else if parser.take('∓') {
                    Node::PlusMinus(Box::new(parser.product()?), true)
                } else {
                    break;
                };
                terms.push(term);
            }
            Some(one_or(terms, Node::Sum))
        })
    }

    fn product(&mut self) -> Option<Node> {
        let mut factors = vec![self.signed()?];
        loop {
            if self.take('*') {
                factors.push(self.signed()?);
            } else if self.take('/') {
                let divisor = self.signed()?;
                let dividend = one_or(std::mem::take(&mut factors), Node::Product);
                factors.push(Node::Quotient(Box::new(dividend), Box::new(divisor)));
            } else if self.begins_factor() {
                factors.push(self.power()?);
            } else {
                break;
            }
        }
        Some(one_or(factors, Node::Product))
    }

    /// Whether what follows is multiplied without a sign. Two numbers side by side are no product.
    fn begins_factor(&self) -> bool {
        match self.peek() {
            Some(Token::Number { .. }) => !matches!(
                self.tokens.get(self.at.wrapping_sub(1)),
                Some(Token::Number { .. })
            ),
            Some(Token::Letter(_) | Token::Name(_) | Token::Function(_)) => true,
            Some(Token::Command(name)) => name != "end",
            Some(Token::Sign(sign)) => {
                "([{⦃⟨⌊⌈π∞∅".contains(*sign) || (*sign == '|' && self.bars == 0)
            }
            _ => false,
        }
    }

    fn signed(&mut self) -> Option<Node> {
        if self.take('-') {
            return self.deeper(|parser| Some(Node::Negative(Box::new(parser.signed()?))));
        }
        if self.take('+') {
            return self.deeper(Self::signed);
        }
        for (sign, inverted) in [('±', false), ('∓', true)] {
            if self.take(sign) {
                return self
                    .deeper(|parser| Some(Node::PlusMinus(Box::new(parser.signed()?), inverted)));
            }
        }
        self.power()
    }

    fn power(&mut self) -> Option<Node> {
        let base = self.postfix()?;
        if !self.take('^') {
            return Some(base);
        }
        let exponent = self.deeper(Self::exponent)?;
        let raised = Node::Power(Box::new(base), Box::new(exponent));
        // `x^2!` and `x^{2}'` are left to fail.
        Some(raised)
    }

    /// A group, a signed number or a single factor; `2^3^2` is 2^(3^2).
    fn exponent(&mut self) -> Option<Node> {
        if self.sees('{') {
            return self.group();
        }
        if self.take('-') {
            return Some(Node::Negative(Box::new(self.deeper(Self::exponent)?)));
        }
        self.power()
    }

    fn postfix(&mut self) -> Option<Node> {
        let mut node = self.deeper(Self::primary)?;
        loop {
            self.parts += 1;
            if self.parts > PARTS {
                return None;
            }
            node = if self.take('!') {
                Node::Apply(Function::Factorial, Box::new(node))
            } else if self.take('°') {
                let radians = Node::Quotient(Box::new(Node::Pi), Box::new(Node::whole(180)));
                Node::Product(vec![node, radians])
            } else if self.take('%') {
                Node::Quotient(Box::new(node), Box::new(Node::whole(100)))
            } else if self.sees('_') {
                self.based(&node)?
            } else {
                return Some(node);
            };
        }
    }

    /// `1011_2`: a number by its digits in a base.
    fn based(&mut self, node: &Node) -> Option<Node> {
        let Node::Number {
            value,
            places: None,
        } = node
        else {
            return None;
        };
        self.expect('_')?;
        let base: u32 = self.subscript()?.parse().ok()?;
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

    fn primary(&mut self) -> Option<Node> {
        let token = self.peek()?.clone();
        self.at += 1;
        match token {
            Token::Number { value, places, .. } => self.number(value, places),
            Token::Letter(letter) => Some(self.letter(letter)?),
            Token::Name(name) => self.name(&name),
            Token::Function(function) => self.application(function),
            Token::Command(name) => self.command(&name),
            Token::Sign(sign) => self.bracket(sign),
            _ => None,
        }
    }

    /// A number, or a mixed number: `1\frac{1}{2}`, `1 1/2`.
    fn number(&mut self, value: Exact, places: Option<u32>) -> Option<Node> {
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

    fn letter(&mut self, letter: char) -> Option<Node> {
        let bare = !self.sees('_') && !self.sees('\'');
        match letter {
            'e' if bare => Some(Node::Euler),
            'i' if bare => Some(Node::Imaginary),
            _ => self.symbol(letter.to_string()),
        }
    }

    fn name(&mut self, name: &str) -> Option<Node> {
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
    fn application(&mut self, function: Function) -> Option<Node> {
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

    fn command(&mut self, name: &str) -> Option<Node> {
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
        let mut degree = 2;
        if self.take('[') {
            let Some(Token::Number {
                value,
                places: None,
                ..
            }) = self.peek().cloned()
            else {
                return None;
            };
            self.at += 1;
            self.expect(']')?;
            degree = u32::try_from(exact::small(&value)?)
                .ok()
                .filter(|degree| *degree > 0)?;
        }
        let radicand = if self.sees('{') || self.sees('(') {
            self.deeper(Self::primary)?
        } else {
            self.single()?
        };
        Some(Node::Root(Box::new(radicand), degree))
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

    fn group(&mut self) -> Option<Node> {
        self.expect('{')?;
        let bars = std::mem::take(&mut self.bars);
        let node = self.set()?;
        self.expect('}')?;
        self.bars = bars;
        Some(node)
    }

    fn bracket(&mut self, sign: char) -> Option<Node> {
        match sign {
            'π' => Some(Node::Pi),
            '∞' => Some(Node::Infinity),
            '∅' => Some(Node::Set(Vec::new())),
            '|' => {
                self.bars += 1;
                let inside = self.sum()?;
                self.bars -= 1;
                self.expect('|')?;
                Some(Node::Apply(Function::Absolute, Box::new(inside)))
            }
            '⌊' => self.enclosed('⌋', Function::Floor),
            '⌈' => self.enclosed('⌉', Function::Ceiling),
            '(' | '[' | '{' | '⦃' | '⟨' => self.list(sign),
            _ => None,
        }
    }

    fn enclosed(&mut self, close: char, function: Function) -> Option<Node> {
        let inside = self.sum()?;
        self.expect(close)?;
        Some(Node::Apply(function, Box::new(inside)))
    }

    /// What stands between brackets: one formula, or several with commas.
    fn list(&mut self, open: char) -> Option<Node> {
        let bars = std::mem::take(&mut self.bars);
        let mut items = Vec::new();
        if !self.sees('⦄') {
            items.push(self.set()?);
        }
        while self.take(',') || self.take(';') {
            items.push(self.set()?);
        }
        self.bars = bars;
        let close = match self.peek()? {
            Token::Sign(close) => *close,
            _ => return None,
        };
        self.at += 1;
        match (open, close) {
            ('⦃', '⦄') => Some(Node::Set(items)),
            ('{', '}') if items.len() > 1 => Some(Node::Set(items)),
            ('(', ')') | ('[', ']') | ('{', '}') if items.len() == 1 => {
                let only = items.pop()?;
                // `[{…}]` around a matrix is its bracket; `[5]` is 5 in brackets.
                Some(only)
            }
            ('⟨', '⟩') | ('(' | '[', ')' | ']') if items.len() > 1 => {
                Some(Node::Tuple(items, (open == '[', close == ']')))
            }
            _ => None,
        }
    }

    /// Rows of a matrix up to its end.
    fn matrix(&mut self) -> Option<Node> {
        let mut rows: Vec<Vec<Node>> = Vec::new();
        let mut row = Vec::new();
        loop {
            match self.peek()? {
                Token::Command(name) if name == "end" => break,
                Token::Sign('⏎') => {
                    self.at += 1;
                    rows.push(std::mem::take(&mut row));
                }
                Token::Sign('&') => self.at += 1,
                _ => row.push(self.set()?),
            }
        }
        self.at += 1;
        if !row.is_empty() {
            rows.push(row);
        }
        let width = rows.first()?.len();
        (width > 0 && rows.iter().all(|row| row.len() == width)).then_some(Node::Matrix(rows))
    }
}

fn is_minus_one(node: &Node) -> bool {
    *node == Node::Negative(Box::new(Node::whole(1)))
}

/// The only one of these, or all of them together.
fn one_or(mut nodes: Vec<Node>, together: impl FnOnce(Vec<Node>) -> Node) -> Node {
    match (nodes.len(), nodes.pop()) {
        (1, Some(only)) => only,
        (_, Some(last)) => {
            nodes.push(last);
            together(nodes)
        }
        (_, None) => together(nodes),
    }
}
