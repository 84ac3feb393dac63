//! From tokens to a formula, within limits of depth and size.

mod atoms;
mod brackets;

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
        links: 0,
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
    /// Divisions, factorials and the like: each puts what is there already one level down.
    links: usize,
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

    /// Puts what was read one level down, unless that happened too often.
    fn link(&mut self) -> Option<()> {
        self.links += 1;
        (self.links <= DEPTH).then_some(())
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
                self.link()?;
                Node::Intersection(vec![left, self.ratio()?])
            } else if self.take('∖') {
                self.link()?;
                Node::Without(Box::new(left), Box::new(self.ratio()?))
            } else if self.peek() == Some(&Token::Command("choose".into())) {
                self.link()?;
                self.at += 1;
                Node::Binomial(Box::new(left), Box::new(self.ratio()?))
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
                self.link()?;
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
            Some(Token::Command(name)) => name != "end" && name != "choose",
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
            if self
                .peek()
                .is_some_and(|token| matches!(token, Token::Sign('!' | '°' | '%')))
            {
                self.link()?;
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

    fn group(&mut self) -> Option<Node> {
        self.expect('{')?;
        let bars = std::mem::take(&mut self.bars);
        let node = self.set()?;
        self.expect('}')?;
        self.bars = bars;
        Some(node)
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
