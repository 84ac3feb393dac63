//! Whether two items, each a value, an equation or an inequality, say the same.

use super::answer::Item;
use super::compare::nodes;
use super::eval::{Point, exact, numeric};
use super::exact::Exact;
use super::node::Node;
use super::scalar;

/// What an item says.
enum Shape {
    /// A value; with what it is about, if that has digits to spare (`\sqrt{2} \approx 1.41`), and whether it is only near.
    Value {
        name: Option<String>,
        value: Node,
        near: Option<Node>,
    },
    /// Two sides that are equal, neither of them a name; the last one.
    Equation(Node),
    /// Sides with signs of order between them.
    Order(Vec<Node>, Vec<char>),
}

fn shape(item: &Item) -> Shape {
    // What follows from the rest is the answer.
    let start = item
        .relations
        .iter()
        .rposition(|relation| *relation == '⇒')
        .map_or(0, |at| at + 1);
    let (sides, relations, names) = (
        &item.sides[start..],
        &item.relations[start..],
        &item.names[start..],
    );
    if relations
        .iter()
        .any(|relation| "<>≤≥≠∈≡".contains(*relation))
    {
        return Shape::Order(sides.to_vec(), relations.to_vec());
    }
    let equal = relations
        .iter()
        .take_while(|relation| **relation == '=')
        .count();
    let near = sides.get(equal + 1).cloned();
    let sides = &sides[..=equal];
    let value = |name: Option<&Node>, value: &Node| Shape::Value {
        name: name.map(written),
        value: value.clone(),
        near: near.clone(),
    };
    match sides {
        [only] => match &near {
            // `x \approx 3.14`
            Some(near) if names[0] => Shape::Value {
                name: Some(written(only)),
                value: near.clone(),
                near: Some(near.clone()),
            },
            _ => value(None, only),
        },
        [first, .., last] if names[0] => value(Some(first), last),
        [first, last] if names[1] => value(Some(last), first),
        [first, last] if !first.symbols().is_empty() || !last.symbols().is_empty() => {
            Shape::Equation(last.clone())
        }
        [.., last] => value(None, last),
        [] => Shape::Order(Vec::new(), Vec::new()),
    }
}

fn written(node: &Node) -> String {
    match node {
        Node::Symbol(name) | Node::Text(name) => name.clone(),
        other => format!("{other:?}"),
    }
}

/// The value of an item that has one.
pub(super) fn value(item: &Item) -> Option<Node> {
    match shape(item) {
        Shape::Value { value, .. } => Some(value),
        _ if item.relations == ['∈'] => item.sides.last().cloned(),
        _ => None,
    }
}

/// What an item's value is the value of.
pub(super) fn name(item: &Item) -> Option<String> {
    match shape(item) {
        Shape::Value { name, .. } => name,
        _ => None,
    }
}

/// A name without its subscript: `x_1` and `x_2` are values of x.
fn base_name(item: &Item) -> Option<String> {
    let name = name(item)?;
    Some(name.split('_').next().unwrap_or_default().to_owned())
}

/// Whether every item has a name of its own.
pub(super) fn distinct_names(items: &[Item]) -> bool {
    let mut names: Vec<String> = items.iter().filter_map(base_name).collect();
    names.sort();
    names.dedup();
    names.len() == items.len()
}

/// Whether two lists name the same things, so that names tell what belongs together.
pub(super) fn same_names(a: &[Item], b: &[Item]) -> bool {
    let names = |items: &[Item]| {
        let mut names: Vec<_> = items.iter().map(name).collect();
        names.sort();
        names
    };
    let names = (names(a), names(b));
    names.0 == names.1 && names.0.iter().all(Option::is_some)
}

/// Whether two items name the same thing.
pub(super) fn same_name(a: &Item, b: &Item) -> bool {
    name(a) == name(b)
}

/// An item with every side that is no name changed.
pub(super) fn mapped(item: &Item, change: impl Fn(Node) -> Node) -> Item {
    let sides = item.sides.iter().zip(&item.names);
    let sides = sides.map(|(side, named)| {
        if *named {
            side.clone()
        } else {
            change(side.clone())
        }
    });
    Item {
        sides: sides.collect(),
        ..item.clone()
    }
}

/// An item with its values multiplied.
pub(super) fn scaled(item: &Item, factor: &Exact) -> Item {
    mapped(item, |node| {
        let factor = Node::Number {
            value: factor.clone(),
            places: None,
        };
        Node::Product(vec![factor, node])
    })
}

/// Whether two items say the same.
pub(super) fn same(target: &Item, answer: &Item) -> bool {
    match (shape(target), shape(answer)) {
        (
            Shape::Value {
                name: a_name,
                value: a,
                near: a_near,
            },
            Shape::Value {
                name: b_name,
                value: b,
                near: b_near,
            },
        ) => {
            if let Some(renamed) = with_argument_of(target, answer) {
                return same(target, &renamed);
            }
            let both = a_name.zip(b_name);
            if both
                .as_ref()
                .is_some_and(|(a, b)| a != b && coordinate(a) && coordinate(b))
            {
                return equations(as_equation(target), as_equation(answer));
            }
            nodes(&a, &b)
                || b_near.is_some_and(|near| nodes(&a, &near))
                || a_near.is_some_and(|near| nodes(&near, &b) || scalar::approximates(&near, &b))
                || (both.is_some() && equations(as_equation(target), as_equation(answer)))
        }
        // `a + b = 36` answers what a + b is.
        (
            Shape::Value {
                name: None, value, ..
            },
            Shape::Equation(last),
        ) => nodes(&value, &last),
        (Shape::Value { name: Some(_), .. } | Shape::Equation(..), Shape::Equation(..))
        | (Shape::Equation(..), Shape::Value { name: Some(_), .. }) => {
            equations(as_equation(target), as_equation(answer))
        }
        (Shape::Order(a, a_signs), Shape::Order(b, b_signs)) => {
            orders((&a, &a_signs), (&b, &b_signs))
        }
        _ => false,
    }
}

/// `f(t) = 2t` beside `f(x) = 2x` with x for t; none where it is the same already, or no such pair.
fn with_argument_of(target: &Item, answer: &Item) -> Option<Item> {
    let call = |item: &Item| match item.sides.first() {
        Some(Node::Product(parts)) if item.names[0] && item.relations == ['='] => {
            match parts.as_slice() {
                [f @ Node::Symbol(name), x @ Node::Symbol(argument)]
                    if "fghpqFGHPQ".contains(name.as_str())
                        && argument.to_lowercase() == *argument =>
                {
                    Some((f.clone(), x.clone()))
                }
                _ => None,
            }
        }
        _ => None,
    };
    let ((f, x), (g, t)) = (call(target)?, call(answer)?);
    let mut sides = answer.sides.iter();
    let taken = sides.any(|side| side.any(&|node| *node == x));
    let sides = answer.sides.iter();
    (f == g && x != t && !taken).then(|| Item {
        sides: sides.map(|side| side.replaced(&t, &x)).collect(),
        ..answer.clone()
    })
}

/// Variables whose names tell things apart: x = 5 is another line than y = 5.
fn coordinate(name: &str) -> bool {
    matches!(name, "x" | "y" | "z")
}

/// The first and the last side.
fn as_equation(item: &Item) -> Option<(Node, Node)> {
    Some((item.sides.first()?.clone(), item.sides.last()?.clone()))
}

fn difference(left: &Node, right: &Node) -> Node {
    Node::Sum(vec![left.clone(), Node::Negative(Box::new(right.clone()))])
}

/// Whether two equations have the same solutions: sides whose differences are multiples of each other, or the same solution
/// for a variable that both are linear in.
fn equations(a: Option<(Node, Node)>, b: Option<(Node, Node)>) -> bool {
    let (Some((a_left, a_right)), Some((b_left, b_right))) = (a, b) else {
        return false;
    };
    let sides = [&a_left, &a_right, &b_left, &b_right];
    if nodes(&a_left, &b_left) && nodes(&a_right, &b_right)
        || nodes(&a_left, &b_right) && nodes(&a_right, &b_left)
    {
        return true;
    }
    if !sides.iter().all(|node| node.is_scalar()) {
        return false;
    }
    let (a, b) = (difference(&a_left, &a_right), difference(&b_left, &b_right));
    if a.symbols() != b.symbols() || a.symbols().is_empty() {
        return false;
    }
    proportional(&a, &b).is_some()
        || a.symbols()
            .iter()
            .any(|symbol| same_solution(&a, &b, symbol))
}

/// The sign of the constant c in a = c·b, if there is one.
fn proportional(a: &Node, b: &Node) -> Option<f64> {
    let ratio = Node::Quotient(Box::new(a.clone()), Box::new(b.clone()));
    let mut constant: Option<f64> = None;
    let mut exactly: Option<Exact> = None;
    let mut seen = 0;
    for index in 0..12 {
        let point = Point {
            index,
            decimal_log: true,
            whole: false,
        };
        if let Some(value) = exact(&ratio, point)
            && exactly.get_or_insert_with(|| value.clone()) != &value
        {
            return None;
        }
        let Some(value) = numeric(&ratio, point).filter(|value| value.is_real()) else {
            continue;
        };
        let constant = *constant.get_or_insert(value.re);
        if (value.re - constant).abs() > 1e-9 * constant.abs() + 16.0 * value.error {
            return None;
        }
        seen += 1;
    }
    constant.filter(|constant| seen >= 4 && *constant != 0.0)
}

/// Whether both are linear in a variable and vanish for the same value of it, whatever the others are.
fn same_solution(a: &Node, b: &Node, symbol: &str) -> bool {
    let mut seen = 0;
    for index in 0..8 {
        let point = Point {
            index,
            decimal_log: true,
            whole: false,
        };
        match (solution(a, symbol, point), solution(b, symbol, point)) {
            (Some(a), Some(b)) if a == b => seen += 1,
            (Some(_), Some(_)) => return false,
            _ => {}
        }
    }
    seen >= 4
}

/// Where a formula that is linear in a variable vanishes.
fn solution(node: &Node, symbol: &str, point: Point) -> Option<Exact> {
    let at = |value: i64| {
        exact(
            &node.replaced(&Node::Symbol(symbol.to_owned()), &Node::whole(value)),
            point,
        )
    };
    let (zero, one, three) = (at(2)?, at(3)?, at(7)?);
    let slope = &one - &zero;
    let linear = three == &zero + &slope * super::exact::whole(5);
    let root = super::exact::divide(&zero, &slope)?;
    linear.then(|| super::exact::whole(2) - root)
}

/// Slope and zero of a formula that is linear in its only variable, with rational numbers.
pub(super) fn line(node: &Node, symbol: &str) -> Option<(Exact, Exact)> {
    let point = Point {
        index: 0,
        decimal_log: true,
        whole: false,
    };
    let zero = solution(node, symbol, point)?;
    let at = |value: i64| {
        exact(
            &node.replaced(&Node::Symbol(symbol.to_owned()), &Node::whole(value)),
            point,
        )
    };
    Some((at(1)? - at(0)?, zero))
}

/// Whether two chains of inequalities are the same, forwards or backwards, or the same up to a factor.
fn orders((a, a_signs): (&[Node], &[char]), (b, b_signs): (&[Node], &[char])) -> bool {
    let all =
        |a: &[Node], b: &mut dyn Iterator<Item = &Node>| a.iter().zip(b).all(|(a, b)| nodes(a, b));
    if a.len() != b.len() || a_signs.len() != b_signs.len() {
        return false;
    }
    if a_signs == b_signs && all(a, &mut b.iter()) {
        return true;
    }
    let backwards: Vec<char> = b_signs.iter().rev().map(|sign| flipped(*sign)).collect();
    if a_signs == backwards && all(a, &mut b.iter().rev()) {
        return true;
    }
    let ([a_left, a_right], [b_left, b_right]) = (a, b) else {
        return false;
    };
    if ![a_left, a_right, b_left, b_right]
        .iter()
        .all(|node| node.is_scalar())
        || "∈≡".contains(a_signs[0])
    {
        return false;
    }
    let (a, b) = (difference(a_left, a_right), difference(b_left, b_right));
    a.symbols() == b.symbols()
        && proportional(&a, &b).is_some_and(|factor| {
            let sign = if factor < 0.0 {
                flipped(b_signs[0])
            } else {
                b_signs[0]
            };
            a_signs[0] == sign
        })
}

fn flipped(sign: char) -> char {
    match sign {
        '<' => '>',
        '>' => '<',
        '≤' => '≥',
        '≥' => '≤',
        other => other,
    }
}
