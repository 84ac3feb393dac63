//! An answer as a whole: one or several values, equations, inequalities or words.

use super::lex::lex;
use super::node::{Function, Node};
use super::parse::parse;
use super::text;
use super::token::{Commas, RELATIONS, Token};
use super::units::{self, Unit};

/// Most items of one answer that are compared.
const ITEMS: usize = 64;

/// A whole answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// What it holds, in order.
    pub(super) items: Vec<Item>,
    /// Whether `and` stands between its items.
    pub(super) together: bool,
}

/// One value, equation, inequality, or words.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Sides of an equation or inequality; only one for a value.
    pub(super) sides: Vec<Node>,
    /// What stands between the sides.
    pub(super) relations: Vec<char>,
    /// Which sides only name something: `x`, `f(2)`, `AB`.
    pub(super) names: Vec<bool>,
    /// The unit after it.
    pub(super) unit: Option<Unit>,
}

impl Item {
    /// A value alone.
    pub(super) fn value(node: Node) -> Self {
        Self {
            sides: vec![node],
            relations: Vec::new(),
            names: vec![false],
            unit: None,
        }
    }
}

/// Every way the text of an answer can be read, the likeliest first; none when it is no formula.
pub(super) fn readings(answer: &str) -> Vec<Answer> {
    let meaning = text::is_words(answer)
        .then(|| text::meaning(answer))
        .flatten();
    let mut readings: Vec<Answer> = meaning
        .map(|node| Answer {
            items: vec![Item::value(node)],
            together: false,
        })
        .into_iter()
        .collect();
    for commas in [Commas::Thousands, Commas::List] {
        // Without a comma between digits there is only one way.
        if commas == Commas::List && (!has_comma_in_number(answer) || has_thousands(answer)) {
            break;
        }
        readings.extend(read(answer, commas));
    }
    readings
}

/// `2,74` as a decimal number, which is how half of the world writes it.
pub(super) fn decimal_comma(answer: &str) -> Option<Answer> {
    let one = answer.matches(',').count() == 1
        && has_comma_in_number(answer)
        && !has_three_places(answer)
        && !answer.contains(['(', '[', '{']);
    one.then(|| read(answer, Commas::Decimal))?
}

/// Whether a comma can only be one of thousands: nobody lists `1,000` or `2,023` without a space where the second number
/// would begin with 0.
fn has_thousands(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    text.match_indices(',').any(|(comma, _)| {
        let before = bytes[..comma].iter().rev();
        let before = before.take_while(|byte| byte.is_ascii_digit()).count();
        let starts_with_zero = bytes[comma - before] == b'0';
        let group = (1..=3).all(|n| digit(comma + n)) && !digit(comma + 4);
        (1..=3).contains(&before) && !starts_with_zero && group && bytes[comma + 1] == b'0'
    })
}

/// Whether the comma stands before three digits and not behind a single 0: those are thousands.
fn has_three_places(text: &str) -> bool {
    let Some((before, after)) = text.split_once(',') else {
        return false;
    };
    let places = after.bytes().take_while(u8::is_ascii_digit).count();
    let digits = before.bytes().rev().take_while(u8::is_ascii_digit).count();
    let zero = digits == 1 && before.ends_with('0');
    places == 3 && (1..=3).contains(&digits) && !zero
}

fn has_comma_in_number(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..bytes.len().saturating_sub(1)).any(|at| {
        bytes[at] == b',' && bytes[at - 1].is_ascii_digit() && bytes[at + 1].is_ascii_digit()
    })
}

fn read(answer: &str, commas: Commas) -> Option<Answer> {
    let tokens = without_braces(lex(answer, commas)?);
    let tokens = condition(&tokens).unwrap_or(tokens);
    let (parts, together) = split(&tokens);
    if parts.len() > ITEMS {
        return None;
    }
    let items: Option<Vec<Item>> = parts.iter().map(|part| item(part)).collect();
    let items = without_domains(items.filter(|items| !items.is_empty())?);
    Some(Answer {
        items: shared_names(items),
        together,
    })
}

/// `{1, 2}` draws no brace: it is `1, 2`.
fn without_braces(mut tokens: Vec<Token>) -> Vec<Token> {
    loop {
        let [Token::Sign('{'), inside @ .., Token::Sign('}')] = tokens.as_slice() else {
            return tokens;
        };
        let mut depth = 0;
        let closes = inside.iter().any(|token| {
            depth += token.nesting();
            depth < 0
        });
        if closes {
            return tokens;
        }
        tokens = inside.to_vec();
    }
}

/// The condition of `\{x \mid x > 3\}`, which says the same.
fn condition(tokens: &[Token]) -> Option<Vec<Token>> {
    let [Token::Sign('⦃'), inside @ .., Token::Sign('⦄')] = tokens else {
        return None;
    };
    let bar = inside
        .iter()
        .position(|token| matches!(token, Token::Sign('|' | ':')))?;
    // Before the bar stands a variable, perhaps with its domain.
    let variable = matches!(
        inside[..bar],
        [Token::Letter(_)] | [Token::Letter(_), Token::Sign('∈'), ..]
    );
    let related = inside[bar + 1..]
        .iter()
        .any(|token| matches!(token, Token::Sign(sign) if RELATIONS.contains(*sign)));
    (variable && related).then(|| inside[bar + 1..].to_vec())
}

/// The items between commas, semicolons, `and`, `or` and wide spaces outside of brackets.
fn split(tokens: &[Token]) -> (Vec<Vec<Token>>, bool) {
    let (mut parts, mut part) = (Vec::new(), Vec::new());
    let (mut depth, mut together) = (0_isize, false);
    for token in tokens {
        depth += token.nesting();
        let separates = matches!(
            token,
            Token::Sign(',' | ';' | '⏎') | Token::And | Token::Or | Token::Gap
        );
        if depth == 0 && separates {
            together |= *token == Token::And;
            parts.push(std::mem::take(&mut part));
        } else if *token != Token::Gap && (depth > 0 || *token != Token::Sign('&')) {
            part.push(token.clone());
        }
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    (parts, together)
}

fn item(tokens: &[Token]) -> Option<Item> {
    if let Some(words) = only_words(tokens) {
        return Some(Item::value(
            text::meaning(&words).unwrap_or(Node::Text(text::normal(&words))),
        ));
    }
    let near = tokens.first() == Some(&Token::Sign('≈'));
    let tokens = without_modulus(without_label(tokens));
    let (sides, mut relations) = sides(tokens);
    let last = sides.len().checked_sub(1)?;
    let mut unit = None;
    let mut nodes = Vec::with_capacity(sides.len());
    let mut names = Vec::with_capacity(sides.len());
    for (number, side) in sides.into_iter().enumerate() {
        let (value, found) = units::split(side);
        let (node, named) = one_side(value, number < last && relations[number] == '=')?;
        if number == last {
            unit = found;
        }
        nodes.push(
            match units::scale(&side[value.len().min(side.len())..]).or_else(|| units::scale(side))
            {
                Some(scale) => Node::Product(vec![Node::whole(scale), node]),
                None => node,
            },
        );
        names.push(named);
    }
    if near && relations.is_empty() {
        // `\approx 1.41` is a value that is only near.
        nodes.insert(0, Node::Text(String::new()));
        names.insert(0, true);
        relations.push('≈');
    }
    Some(Item {
        sides: nodes,
        relations,
        names,
        unit,
    })
}

/// One side of an equation or the whole of a value, and whether it only names something: words do, and so does what cannot be
/// read before an equals sign (`\int x\,dx = …`).
fn one_side(tokens: &[Token], may_name: bool) -> Option<(Node, bool)> {
    if let Some(words) = only_words(tokens) {
        return Some((Node::Text(text::normal(&words)), true));
    }
    match parse(tokens) {
        Some(node) => {
            let named = is_call(tokens) || is_name(&node);
            Some((node, named))
        }
        None if may_name && !tokens.is_empty() => Some((Node::Text(format!("{tokens:?}")), true)),
        None => None,
    }
}

/// `3 \pmod 5` without its modulus, where it is no congruence.
fn without_modulus(tokens: &[Token]) -> &[Token] {
    let modulus = tokens
        .iter()
        .position(|token| *token == Token::Name("mod".into()));
    match modulus {
        Some(at) if at > 0 && !tokens.contains(&Token::Sign('≡')) => {
            let end = if tokens[at - 1] == Token::Sign('(') {
                at - 1
            } else {
                at
            };
            if end > 0 { &tokens[..end] } else { tokens }
        }
        _ => tokens,
    }
}

/// Words before a value: `approximately 5`, `Area: 5`.
fn without_label(tokens: &[Token]) -> &[Token] {
    match tokens {
        [Token::Text(_), Token::Sign(':'), rest @ ..] if !rest.is_empty() => rest,
        [Token::Text(word), rest @ ..] if !rest.is_empty() => {
            let about = matches!(
                word.to_lowercase().as_str(),
                "approximately" | "about" | "roughly" | "exactly" | "approx"
            );
            if about { rest } else { tokens }
        }
        [Token::Sign('≈' | '='), rest @ ..] => rest,
        _ => tokens,
    }
}

fn only_words(tokens: &[Token]) -> Option<String> {
    let mut words = Vec::new();
    for token in tokens {
        match token {
            Token::Text(text) => words.push(text.clone()),
            // Short words among longer ones: `no solution`.
            Token::Letter(letter) => words.push(letter.to_string()),
            Token::Sign('-' | '\'' | '(' | ')') => {}
            _ => return None,
        }
    }
    tokens
        .iter()
        .any(|token| matches!(token, Token::Text(_)))
        .then(|| words.join(" "))
}

/// What stands between signs of relation outside of brackets.
fn sides(tokens: &[Token]) -> (Vec<&[Token]>, Vec<char>) {
    let (mut sides, mut relations) = (Vec::new(), Vec::new());
    let (mut depth, mut start) = (0_isize, 0);
    for (at, token) in tokens.iter().enumerate() {
        depth += token.nesting();
        if let Token::Sign(sign) = token
            && depth == 0
            && RELATIONS.contains(*sign)
        {
            sides.push(&tokens[start..at]);
            relations.push(*sign);
            start = at + 1;
        }
    }
    sides.push(&tokens[start..]);
    (sides, relations)
}

/// `x = k\pi, k \in \mathbb{Z}` says what k is, which is no answer of its own.
fn without_domains(items: Vec<Item>) -> Vec<Item> {
    let domain =
        |item: &Item| item.relations == ['∈'] && matches!(item.sides.last(), Some(Node::Named(_)));
    if items.len() < 2 || items.iter().all(domain) {
        return items;
    }
    items.into_iter().filter(|item| !domain(item)).collect()
}

/// `x = 1, 2` means x = 1 and x = 2; so does `n=1, 2, 3`.
fn shared_names(items: Vec<Item>) -> Vec<Item> {
    let named = |item: &Item| item.relations == ['='] && item.names[0];
    let shared = items.len() > 1
        && named(&items[0])
        && items[1..].iter().all(|item| item.relations.is_empty());
    if !shared {
        return items;
    }
    items
        .into_iter()
        .map(|mut item| {
            item.sides.drain(..item.sides.len() - 1);
            item.names = vec![false];
            item.relations.clear();
            item
        })
        .collect()
}

/// Whether a formula only names something: a variable, `f(x)`, a segment, a ratio of segments, words.
pub(super) fn is_name(node: &Node) -> bool {
    match node {
        Node::Symbol(_) | Node::Text(_) | Node::Euler | Node::Imaginary => true,
        Node::Apply(Function::Absolute, inside) => is_name(inside),
        Node::Quotient(a, b) => {
            [a, b].into_iter().all(|node| is_segment(node)) || is_derivative(a, b)
        }
        Node::Ratio(parts) => {
            let named = |part: &Node| is_segment(part) || matches!(part, Node::Symbol(_));
            parts.iter().all(named)
        }
        Node::Product(factors) => is_segment(node) || is_angle(factors),
        Node::Tuple(items, _) => items.iter().all(is_name),
        _ => false,
    }
}

/// `\frac{dy}{dx}`.
fn is_derivative(above: &Node, below: &Node) -> bool {
    let small = |node: &Node| match node {
        Node::Product(factors) => factors.first() == Some(&Node::Symbol("d".into())),
        node => *node == Node::Symbol("d".into()),
    };
    small(above) && matches!(below, Node::Product(factors) if factors.len() == 2) && small(below)
}

/// `AB`, `S_{ABC}`, `A B C`.
fn is_segment(node: &Node) -> bool {
    let capital = |node: &Node| matches!(node, Node::Symbol(name) if name.chars().next().is_some_and(char::is_uppercase));
    match node {
        Node::Product(factors) => factors.iter().all(capital),
        node => capital(node),
    }
}

/// `f(x)`, `P(A \cup B)`, `a_{n}(2)`: a letter and a bracket that ends the side.
fn is_call(tokens: &[Token]) -> bool {
    let Some((Token::Letter(_) | Token::Name(_), rest)) = tokens.split_first() else {
        return false;
    };
    // x(x + 1) is a product.
    if matches!(tokens[0], Token::Letter('x' | 'y' | 'z')) {
        return false;
    }
    let open = rest.iter().position(|token| *token == Token::Sign('('));
    let Some(open) = open.filter(|open| rest[..*open].iter().all(is_decoration)) else {
        return false;
    };
    let mut depth = 0;
    let closed = rest[open..].iter().position(|token| {
        depth += token.nesting();
        depth == 0
    });
    closed == Some(rest.len() - open - 1)
}

/// What may stand between a function's letter and its bracket: a subscript, a prime.
fn is_decoration(token: &Token) -> bool {
    matches!(
        token,
        Token::Sign('_' | '\'' | '{' | '}' | '^' | '-') | Token::Number { .. } | Token::Letter(_)
    )
}

/// `\angle ABC`, `\triangle ABC`.
fn is_angle(factors: &[Node]) -> bool {
    matches!(factors.first(), Some(Node::Symbol(name)) if name == "angle" || name == "triangle" || name == "square")
}
