//! Whether two answers are the same.

use super::answer::{Answer, Item};
use super::exact;
use super::node::Node;
use super::relation;
use super::units::Unit;
use super::{matrix, scalar, sets, vectors};

/// Whether an answer, read one way, is the target, read one way.
pub(super) fn same(target: &Answer, answer: &Answer) -> bool {
    if let Some(same) = sets::same(target, answer)
        && same
    {
        return true;
    }
    let (targets, target_is_set) = elements(target);
    let (answers, answer_is_set) = elements(answer);
    if lists(&targets, &answers, target_is_set || answer_is_set) {
        return true;
    }
    let swapped = |compare: fn(&[Item], &[Item]) -> bool| {
        compare(&targets, &answers) || compare(&answers, &targets)
    };
    swapped(coordinates) || (!target_is_set && !answer_is_set && swapped(bare_point))
}

/// `1, 2` and `(1, 2)`: a point without its brackets.
fn bare_point(list: &[Item], point: &[Item]) -> bool {
    let [point] = point else {
        return false;
    };
    let Some(Node::Tuple(values, (false, false))) = relation::value(point) else {
        return false;
    };
    let plain = list.iter().all(|item| item.relations.is_empty());
    plain
        && list.len() == values.len()
        && list
            .iter()
            .zip(values)
            .all(|(item, value)| items(item, &Item::value(value)))
}

/// The items, those of a set written out among them, with every ± replaced by both signs; and whether it was such a set.
fn elements(answer: &Answer) -> (Vec<Item>, bool) {
    let mut set = false;
    let mut items = Vec::new();
    for item in &answer.items {
        let value = relation::value(item);
        match value {
            Some(Node::Set(members)) if answer.items.len() == 1 => {
                set = true;
                items.extend(members.into_iter().map(Item::value));
            }
            _ => items.push(item.clone()),
        }
    }
    let items = items.into_iter().flat_map(|item| {
        let both = item
            .sides
            .iter()
            .any(|side| side.any(&|node| matches!(node, Node::PlusMinus(..))));
        set |= both;
        if both {
            vec![signed(&item, false), signed(&item, true)]
        } else {
            vec![item]
        }
    });
    let items = items.collect();
    (items, set)
}

fn signed(item: &Item, minus: bool) -> Item {
    Item {
        sides: item
            .sides
            .iter()
            .map(|side| side.with_sign(minus))
            .collect(),
        ..item.clone()
    }
}

/// Whether two lists hold the same items in any order. Where names differ, so that only the order tells which is which, the
/// order counts; where one is a set, repetitions do not.
fn lists(targets: &[Item], answers: &[Item], set: bool) -> bool {
    if targets.is_empty() || answers.is_empty() {
        return targets.is_empty() && answers.is_empty();
    }
    if targets.len() > 1 && relation::distinct_names(targets) && !relation::distinct_names(answers)
    {
        return targets.len() == answers.len()
            && targets.iter().zip(answers).all(|(a, b)| items(a, b));
    }
    if set {
        let found = |a: &Item, others: &[Item]| others.iter().any(|b| items(a, b));
        return targets.iter().all(|target| found(target, answers))
            && answers
                .iter()
                .all(|answer| targets.iter().any(|target| items(target, answer)));
    }
    let named = targets.len() > 1 && relation::same_names(targets, answers);
    let answers = &if targets.len() < answers.len() && targets.len() > 1 {
        distinct(answers)
    } else {
        answers.to_vec()
    };
    let mut free: Vec<&Item> = answers.iter().collect();
    targets.len() == answers.len()
        && targets.iter().all(|target| {
            let found = free.iter().position(|answer| {
                (!named || relation::same_name(target, answer)) && items(target, answer)
            });
            found.map(|at| free.remove(at)).is_some()
        })
}

/// Items without those that were there before.
fn distinct(all: &[Item]) -> Vec<Item> {
    let mut kept: Vec<Item> = Vec::new();
    for item in all {
        if !kept.iter().any(|known| items(known, item)) {
            kept.push(item.clone());
        }
    }
    kept
}

/// `x = 1, y = 2` and `(1, 2)`.
fn coordinates(named: &[Item], point: &[Item]) -> bool {
    let [point] = point else {
        return false;
    };
    let Some(Node::Tuple(values, _)) = relation::value(point) else {
        return false;
    };
    if named.len() < 2 || named.len() != values.len() || !relation::distinct_names(named) {
        return false;
    }
    let matches = |named: &[&Item]| {
        named
            .iter()
            .zip(&values)
            .all(|(item, value)| items(item, &Item::value(value.clone())))
    };
    let mut sorted: Vec<&Item> = named.iter().collect();
    if matches(&sorted) {
        return true;
    }
    sorted.sort_by_key(|item| relation::name(item));
    matches(&sorted)
}

/// Whether two items are the same, with their units.
fn items(target: &Item, answer: &Item) -> bool {
    match (&target.unit, &answer.unit) {
        (Some(Unit::Measure(a, a_size)), Some(Unit::Measure(b, b_size))) => {
            let scaled = |item: &Item, size: &exact::Exact| relation::scaled(item, size);
            a == b
                && (relation::same(&scaled(target, a_size), &scaled(answer, b_size))
                    || a_size == b_size && relation::same(target, answer))
        }
        (Some(Unit::Percent), Some(Unit::Percent)) | (Some(Unit::Degree), Some(Unit::Degree)) => {
            relation::same(target, answer)
        }
        // Money is no share, and neither is an angle.
        (Some(Unit::Percent), Some(Unit::Measure(..) | Unit::Degree))
        | (Some(Unit::Measure(..) | Unit::Degree), Some(Unit::Percent)) => false,
        (Some(Unit::Percent), _) => {
            relation::same(target, answer)
                || relation::same(&relation::scaled(target, &exact::fraction(1, 100)), answer)
        }
        (_, Some(Unit::Percent)) => {
            relation::same(target, answer)
                || relation::same(target, &relation::scaled(answer, &exact::fraction(1, 100)))
        }
        (Some(Unit::Degree), None) => {
            relation::same(target, answer) || relation::same(&in_radians(target), answer)
        }
        (None, Some(Unit::Degree)) => {
            relation::same(target, answer) || relation::same(target, &in_radians(answer))
        }
        (Some(Unit::Degree), Some(Unit::Measure(measure, _))) => {
            measure.as_slice() == [("radian", 1)] && relation::same(&in_radians(target), answer)
                || is_temperature(measure) && relation::same(target, answer)
        }
        (Some(Unit::Measure(measure, _)), Some(Unit::Degree)) => {
            measure.as_slice() == [("radian", 1)] && relation::same(target, &in_radians(answer))
                || is_temperature(measure) && relation::same(target, answer)
        }
        _ => relation::same(target, answer),
    }
}

fn is_temperature(measure: &[(&str, i32)]) -> bool {
    matches!(measure, [("celsius" | "fahrenheit", 1)])
}

fn in_radians(item: &Item) -> Item {
    relation::mapped(item, |node| {
        let radians = Node::Quotient(Box::new(Node::Pi), Box::new(Node::whole(180)));
        Node::Product(vec![node, radians])
    })
}

/// Whether two values are the same.
pub(super) fn nodes(target: &Node, answer: &Node) -> bool {
    let all =
        |a: &[Node], b: &[Node]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| nodes(a, b));
    if let Some(same) = vectors::same(target, answer) {
        return same;
    }
    let nested = |node: &Node, other: &Node| {
        let is_matrix = matches!(other, Node::Matrix(_));
        is_matrix.then(|| matrix::nested(node)).flatten()
    };
    if let Some(rows) = nested(target, answer) {
        return nodes(&rows, answer);
    }
    if let Some(rows) = nested(answer, target) {
        return nodes(target, &rows);
    }
    match (target, answer) {
        (Node::Tuple(a, closed_a), Node::Tuple(b, closed_b)) => {
            // Only an interval has two ends that may be closed; of longer ones brackets are taste.
            all(a, b) && (closed_a == closed_b || a.len() != 2)
        }
        (Node::Tuple(values, _), other) | (other, Node::Tuple(values, _)) => {
            vector(other).is_some_and(|vector| all(values, &vector))
        }
        (Node::Set(_), Node::Set(_)) => {
            let elements = |node: &Node| {
                elements(&Answer {
                    items: vec![Item::value(node.clone())],
                    together: false,
                })
                .0
            };
            lists(&elements(target), &elements(answer), true)
        }
        (Node::Ratio(a), Node::Ratio(b)) => ratios(a, b),
        (Node::Union(a), Node::Union(b)) => {
            a.len() == b.len() && a.iter().all(|a| b.iter().any(|b| nodes(a, b)))
        }
        (Node::Text(a), Node::Text(b)) => a == b,
        // A ratio of two is a fraction as well.
        (Node::Ratio(a), other) | (other, Node::Ratio(a)) if a.len() == 2 => scalar::equal(
            &Node::Quotient(Box::new(a[0].clone()), Box::new(a[1].clone())),
            other,
        ),
        _ if target.is_scalar() && answer.is_scalar() => {
            scalar::equal(target, answer) || same_period(target, answer)
        }
        _ => match (matrix::rows(target), matrix::rows(answer)) {
            (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| all(a, b)),
            _ => target == answer,
        },
    }
}

/// `\frac{\pi}{4} + k\pi` for whole k, whatever k is called.
fn same_period(target: &Node, answer: &Node) -> bool {
    let counter = |node: &Node| match node.symbols().as_slice() {
        [only] if matches!(only.as_str(), "k" | "n" | "m") => Some(Node::Symbol(only.clone())),
        _ => None,
    };
    let (Some(ours), Some(theirs)) = (counter(target), counter(answer)) else {
        return false;
    };
    let periodic = target.any(&|node| *node == Node::Pi);
    periodic && ours != theirs && scalar::equal(target, &answer.replaced(&theirs, &ours))
}

/// The entries of a matrix of one row or column.
fn vector(node: &Node) -> Option<Vec<Node>> {
    let rows = matrix::rows(node)?;
    if rows.len() == 1 {
        return rows.into_iter().next();
    }
    rows.iter().all(|row| row.len() == 1).then(|| rows.concat())
}

/// `2:4` is `1:2`; a time of day with zeros is only itself.
fn ratios(a: &[Node], b: &[Node]) -> bool {
    let zero = |nodes: &[Node]| {
        nodes
            .iter()
            .any(|node| scalar::equal(node, &Node::whole(0)))
    };
    if a.len() != b.len() {
        return false;
    }
    if zero(a) || zero(b) {
        return a.iter().zip(b).all(|(a, b)| scalar::equal(a, b));
    }
    let times = |x: &Node, y: &Node| Node::Product(vec![x.clone(), y.clone()]);
    a.iter()
        .zip(b)
        .all(|(x, y)| scalar::equal(&times(x, &b[0]), &times(y, &a[0])))
}
