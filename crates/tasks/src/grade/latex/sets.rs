//! Sets of real numbers as intervals: `[2,5)`, `2 \le x < 5` and `\{x : 2 \le x < 5\}` are the same.

use super::answer::{Answer, Item};
use super::exact::Exact;
use super::node::{Function, Node};
use super::{relation, scalar};
use num_traits::Signed;

/// Most intervals of one set.
const PIECES: usize = 256;

/// An interval; a point is closed on both sides with equal ends.
#[derive(Debug, Clone)]
struct Interval {
    low: Node,
    high: Node,
    closed: (bool, bool),
}

impl Interval {
    fn new(low: Node, high: Node, closed: (bool, bool)) -> Option<Self> {
        let (from, to) = (scalar::order(&low)?, scalar::order(&high)?);
        let point = closed == (true, true) && scalar::equal(&low, &high);
        (from < to || point).then_some(Self { low, high, closed })
    }

    fn point(node: &Node) -> Option<Self> {
        Self::new(node.clone(), node.clone(), (true, true))
    }

    fn all() -> Self {
        Self {
            low: Node::Negative(Box::new(Node::Infinity)),
            high: Node::Infinity,
            closed: (false, false),
        }
    }

    /// Ends as numbers; [`Self::new`] has seen that they have an order.
    fn ends(&self) -> (f64, f64) {
        let end = |node| scalar::order(node).unwrap_or(f64::NAN);
        (end(&self.low), end(&self.high))
    }

    fn same(&self, other: &Self) -> bool {
        let end = |a: &Node, b: &Node, a_closed: bool, b_closed: bool| {
            // Whether an interval is said to hold infinity changes nothing.
            let infinite = scalar::order(a).is_some_and(f64::is_infinite);
            scalar::equal(a, b) && (a_closed == b_closed || infinite)
        };
        end(&self.low, &other.low, self.closed.0, other.closed.0)
            && end(&self.high, &other.high, self.closed.1, other.closed.1)
    }
}

/// Whether two answers are the same set of real numbers; none when either is no such set, or neither says that it is one.
pub(super) fn same(target: &Answer, answer: &Answer) -> Option<bool> {
    let said = [target, answer]
        .iter()
        .any(|answer| answer.items.iter().any(says_set));
    if !said {
        return None;
    }
    let (target, answer) = (of_answer(target)?, of_answer(answer)?);
    Some(target.len() == answer.len() && target.iter().zip(&answer).all(|(a, b)| a.same(b)))
}

/// Whether an item is an inequality, or a set that is not just a list or a pair.
fn says_set(item: &Item) -> bool {
    item.relations.iter().any(|relation| "<>≤≥≠∈".contains(*relation))
        || item.sides.iter().any(|side| {
            matches!(side, Node::Union(_) | Node::Intersection(_) | Node::Without(..) | Node::Named(_))
                || matches!(side, Node::Tuple(ends, closed) if ends.len() == 2 && *closed != (false, false))
        })
}

fn of_answer(answer: &Answer) -> Option<Vec<Interval>> {
    // Pairs side by side are points, not a union.
    if answer.items.len() > 1 && answer.items.iter().any(|item| item.relations.is_empty()) {
        return None;
    }
    let mut sets = answer.items.iter().map(of_item);
    let mut set = sets.next()??;
    for next in sets {
        let next = next?;
        let common = if answer.together {
            intersection(&set, &next)?
        } else {
            Vec::new()
        };
        // `x < -2 and x > 2` is said by people who mean `or`.
        set = if common.is_empty() {
            set.into_iter().chain(next).collect()
        } else {
            common
        };
    }
    Some(merged(set))
}

fn of_item(item: &Item) -> Option<Vec<Interval>> {
    let negative_infinity = || Node::Negative(Box::new(Node::Infinity));
    let between = |low: &Node, high: &Node, closed| {
        Some(vec![Interval::new(low.clone(), high.clone(), closed)?])
    };
    if let ([Node::Apply(Function::Absolute, inside), end], [relation]) =
        (item.sides.as_slice(), item.relations.as_slice())
        && let Some(set) = of_absolute(inside, end, *relation)
    {
        return Some(set);
    }
    match (item.sides.as_slice(), item.relations.as_slice()) {
        ([set], []) => of_node(set),
        ([_, set], ['∈' | '=']) if item.names[0] && !set.is_scalar() => of_node(set),
        ([_, value], ['=']) if item.names[0] => Some(vec![Interval::point(value)?]),
        ([_, value], ['≠']) if item.names[0] => {
            without(&[Interval::all()], &[Interval::point(value)?])
        }
        ([_, end], [relation]) if item.names[0] => match relation {
            '<' | '≤' => between(&negative_infinity(), end, (false, *relation == '≤')),
            '>' | '≥' => between(end, &Node::Infinity, (*relation == '≥', false)),
            _ => None,
        },
        ([end, _], [relation]) if item.names[1] => match relation {
            '<' | '≤' => between(end, &Node::Infinity, (*relation == '≤', false)),
            '>' | '≥' => between(&negative_infinity(), end, (false, *relation == '≥')),
            _ => None,
        },
        ([low, _, high], [first @ ('<' | '≤'), second @ ('<' | '≤')]) if item.names[1] => {
            between(low, high, (*first == '≤', *second == '≤'))
        }
        ([high, _, low], [first @ ('>' | '≥'), second @ ('>' | '≥')]) if item.names[1] => {
            between(low, high, (*second == '≥', *first == '≥'))
        }
        _ => None,
    }
}

/// `|x - 1| \le 2` is `[-1, 3]`; the content must be linear in one variable.
fn of_absolute(inside: &Node, end: &Node, relation: char) -> Option<Vec<Interval>> {
    let [symbol] = inside.symbols().try_into().ok()?;
    let (slope, zero) = relation::line(inside, &symbol)?;
    // |m (x − z)| < r where z is the zero: z ± r/|m|.
    let reach = Node::Quotient(Box::new(end.clone()), Box::new(number(slope.abs())));
    let low = Node::Sum(vec![
        number(zero.clone()),
        Node::Negative(Box::new(reach.clone())),
    ]);
    let high = Node::Sum(vec![number(zero), reach]);
    let closed = matches!(relation, '≤' | '≥');
    match relation {
        '<' | '≤' => Some(vec![Interval::new(low, high, (closed, closed))?]),
        '>' | '≥' => {
            let below = Interval::new(
                Node::Negative(Box::new(Node::Infinity)),
                low,
                (false, closed),
            )?;
            let above = Interval::new(high, Node::Infinity, (closed, false))?;
            Some(vec![below, above])
        }
        _ => None,
    }
}

fn number(value: Exact) -> Node {
    Node::Number {
        value,
        places: None,
    }
}

fn of_node(node: &Node) -> Option<Vec<Interval>> {
    match node {
        Node::Named('R') => Some(vec![Interval::all()]),
        Node::Tuple(ends, closed) if ends.len() == 2 => Some(vec![Interval::new(
            ends[0].clone(),
            ends[1].clone(),
            *closed,
        )?]),
        Node::Set(points) => points.iter().map(Interval::point).collect(),
        Node::Union(sets) => {
            let sets: Option<Vec<_>> = sets.iter().map(of_node).collect();
            Some(sets?.concat())
        }
        Node::Intersection(sets) => match sets.as_slice() {
            [a, b] => intersection(&of_node(a)?, &of_node(b)?),
            _ => None,
        },
        Node::Without(a, b) => without(&of_node(a)?, &of_node(b)?),
        _ => None,
    }
}

fn intersection(a: &[Interval], b: &[Interval]) -> Option<Vec<Interval>> {
    let mut common = Vec::new();
    for a in a {
        for b in b {
            let ((a_low, a_high), (b_low, b_high)) = (a.ends(), b.ends());
            let (low, low_closed) = if a_low > b_low || (a_low >= b_low && !a.closed.0) {
                (&a.low, a.closed.0)
            } else {
                (&b.low, b.closed.0)
            };
            let (high, high_closed) = if a_high < b_high || (a_high <= b_high && !a.closed.1) {
                (&a.high, a.closed.1)
            } else {
                (&b.high, b.closed.1)
            };
            common.extend(Interval::new(
                low.clone(),
                high.clone(),
                (low_closed, high_closed),
            ));
        }
    }
    (common.len() <= PIECES).then_some(common)
}

fn without(a: &[Interval], b: &[Interval]) -> Option<Vec<Interval>> {
    let mut left = a.to_vec();
    for hole in b {
        let below = Interval::new(
            Node::Negative(Box::new(Node::Infinity)),
            hole.low.clone(),
            (false, !hole.closed.0),
        );
        let above = Interval::new(hole.high.clone(), Node::Infinity, (!hole.closed.1, false));
        let outside: Vec<Interval> = below.into_iter().chain(above).collect();
        left = intersection(&left, &outside)?;
    }
    Some(left)
}

/// In order, with what touches joined.
fn merged(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_by(|a, b| {
        a.ends()
            .0
            .total_cmp(&b.ends().0)
            .then(b.closed.0.cmp(&a.closed.0))
    });
    let mut merged: Vec<Interval> = Vec::new();
    for next in intervals {
        let Some(last) = merged.last_mut() else {
            merged.push(next);
            continue;
        };
        let ((_, end), (start, next_end)) = (last.ends(), next.ends());
        let same_place = scalar::equal(&last.high, &next.low);
        let touches = start < end && !same_place || same_place && (last.closed.1 || next.closed.0);
        if !touches {
            merged.push(next);
        } else if next_end > end || scalar::equal(&last.high, &next.high) {
            last.closed.1 =
                next.closed.1 || (last.closed.1 && scalar::equal(&last.high, &next.high));
            last.high = next.high;
        }
    }
    merged
}
