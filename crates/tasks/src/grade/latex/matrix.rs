//! Sums, multiples and products of matrices, entry by entry.

use super::node::Node;

/// Largest number of rows or columns.
const SIDE: usize = 8;

/// The rows of a matrix, or of what is computed from matrices; none for what is no matrix.
pub(super) fn rows(node: &Node) -> Option<Vec<Vec<Node>>> {
    match node {
        Node::Matrix(rows) => (rows.len() <= SIDE && rows[0].len() <= SIDE).then(|| rows.clone()),
        Node::Negative(inside) => Some(scaled(&rows(inside)?, &Node::whole(-1))),
        Node::Quotient(matrix, divisor) if divisor.is_scalar() => {
            let inverse = Node::Quotient(Box::new(Node::whole(1)), divisor.clone());
            Some(scaled(&rows(matrix)?, &inverse))
        }
        Node::Sum(terms) => {
            let mut terms = terms.iter().map(rows);
            let first = terms.next()??;
            terms.try_fold(first, |sum, term| add(&sum, &term?))
        }
        Node::Product(factors) => product(factors),
        Node::Power(matrix, exponent) if **exponent == Node::Symbol("T".into()) => {
            let rows = rows(matrix)?;
            let column = |number: usize| rows.iter().map(|row| row[number].clone()).collect();
            Some((0..rows[0].len()).map(column).collect())
        }
        _ => None,
    }
}

/// The rows of `[[1, 2], [3, 4]]`, as programs write a matrix.
pub(super) fn nested(node: &Node) -> Option<Node> {
    let Node::Tuple(rows, (true, true)) = node else {
        return None;
    };
    let row = |row: &Node| match row {
        Node::Tuple(entries, (true, true)) => Some(entries.clone()),
        _ => None,
    };
    let rows: Vec<Vec<Node>> = rows.iter().map(row).collect::<Option<_>>()?;
    let even = rows.iter().all(|row| row.len() == rows[0].len());
    even.then_some(Node::Matrix(rows))
}

fn scaled(rows: &[Vec<Node>], factor: &Node) -> Vec<Vec<Node>> {
    let times = |entry: &Node| Node::Product(vec![factor.clone(), entry.clone()]);
    rows.iter()
        .map(|row| row.iter().map(times).collect())
        .collect()
}

fn add(a: &[Vec<Node>], b: &[Vec<Node>]) -> Option<Vec<Vec<Node>>> {
    let fits = a.len() == b.len() && a[0].len() == b[0].len();
    let plus = |(a, b): (&Node, &Node)| Node::Sum(vec![a.clone(), b.clone()]);
    fits.then(|| {
        a.iter()
            .zip(b)
            .map(|(a, b)| a.iter().zip(b).map(plus).collect())
            .collect()
    })
}

fn product(factors: &[Node]) -> Option<Vec<Vec<Node>>> {
    let mut matrix: Option<Vec<Vec<Node>>> = None;
    let mut factor = Vec::new();
    for node in factors {
        match (rows(node), &matrix) {
            (Some(right), Some(left)) => matrix = Some(multiply(left, &right)?),
            (Some(right), None) => matrix = Some(right),
            (None, _) if node.is_scalar() => factor.push(node.clone()),
            (None, _) => return None,
        }
        // Entries grow with every factor; more than a few are no answer.
        if factors.len() > 4 {
            return None;
        }
    }
    let matrix = matrix?;
    Some(if factor.is_empty() {
        matrix
    } else {
        scaled(&matrix, &Node::Product(factor))
    })
}

fn multiply(a: &[Vec<Node>], b: &[Vec<Node>]) -> Option<Vec<Vec<Node>>> {
    if a[0].len() != b.len() {
        return None;
    }
    let entry = |row: &[Node], column: usize| {
        let terms = row
            .iter()
            .zip(b)
            .map(|(x, y)| Node::Product(vec![x.clone(), y[column].clone()]));
        Node::Sum(terms.collect())
    };
    Some(
        a.iter()
            .map(|row| (0..b[0].len()).map(|column| entry(row, column)).collect())
            .collect(),
    )
}
