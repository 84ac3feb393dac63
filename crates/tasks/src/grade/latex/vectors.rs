//! Vectors by their components: `2\mathbf{i} - 3\mathbf{j}`, `2\hat{\imath} - 3\hat{\jmath}`, `2i - 3j` and `(2, -3)`.

use super::node::Node;
use super::token::Token;
use super::{matrix, scalar};

/// Names of the three directions within formulas.
const UNITS: [&str; 3] = ["unit i", "unit j", "unit k"];

/// The direction that a bold or hatted letter names.
pub(super) fn unit(content: &str) -> Option<Token> {
    let number = match content.trim_start_matches('\\') {
        "i" | "imath" => 0,
        "j" | "jmath" => 1,
        "k" => 2,
        _ => return None,
    };
    Some(Token::Name(UNITS[number].to_owned()))
}

fn symbol(number: usize) -> Node {
    Node::Symbol(UNITS[number].to_owned())
}

/// Whether a formula names a direction.
fn is_marked(node: &Node) -> bool {
    node.any(&|node| matches!(node, Node::Symbol(name) if UNITS.contains(&name.as_str())))
}

/// Whether two values are the same vector; none when neither is written by its directions.
pub(super) fn same(a: &Node, b: &Node) -> Option<bool> {
    let (a_entries, b_entries) = (entries(a), entries(b));
    // Letters that are not bold are directions only beside a vector that is one.
    let plain = |node: &Node| node.any(&|node| *node == Node::Symbol("j".into()));
    let written = is_marked(a)
        || is_marked(b)
        || (a_entries.is_some() && b.is_scalar() && plain(b))
        || (b_entries.is_some() && a.is_scalar() && plain(a));
    if !written {
        return None;
    }
    let sides = [(a, a_entries), (b, b_entries)];
    let [a, b] = sides.map(|(node, entries)| entries.or_else(|| components(node)));
    Some(a.zip(b).is_some_and(|(a, b)| {
        let length = a.len().max(b.len());
        let at = |entries: &[Node], number: usize| {
            entries.get(number).cloned().unwrap_or(Node::whole(0))
        };
        length <= 3 && (0..length).all(|number| scalar::equal(&at(&a, number), &at(&b, number)))
    }))
}

/// The entries of a tuple, or of a matrix of one row or column.
fn entries(node: &Node) -> Option<Vec<Node>> {
    match node {
        Node::Tuple(entries, (false, false)) => Some(entries.clone()),
        Node::Tuple(..) => None,
        _ if node.is_scalar() => None,
        _ => {
            let rows = matrix::rows(node)?;
            match rows.as_slice() {
                [row] => Some(row.clone()),
                rows if rows.iter().all(|row| row.len() == 1) => Some(rows.concat()),
                _ => None,
            }
        }
    }
}

/// What stands before each direction: two numbers, or three where the third direction is named.
fn components(node: &Node) -> Option<Vec<Node>> {
    if !node.is_scalar() {
        return None;
    }
    let node = if is_marked(node) {
        node.clone()
    } else {
        let letters = [
            Node::Imaginary,
            Node::Symbol("j".into()),
            Node::Symbol("k".into()),
        ];
        letters
            .iter()
            .enumerate()
            .fold(node.clone(), |node, (number, letter)| {
                node.replaced(letter, &symbol(number))
            })
    };
    let component = |number: usize| {
        (0..3).fold(node.clone(), |node, other| {
            let value = Node::whole(i64::from(other == number));
            node.replaced(&symbol(other), &value)
        })
    };
    let all: Vec<Node> = (0..3).map(component).collect();
    let terms = all.iter().enumerate();
    let terms = terms.map(|(number, value)| Node::Product(vec![value.clone(), symbol(number)]));
    let length = if node.any(&|node| *node == symbol(2)) {
        3
    } else {
        2
    };
    scalar::equal(&node, &Node::Sum(terms.collect())).then(|| all[..length].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_make_a_vector() {
        let times =
            |n: i64, direction: usize| Node::Product(vec![Node::whole(n), symbol(direction)]);
        let vector = Node::Sum(vec![times(2, 0), times(-3, 1)]);
        let tuple = |values: &[i64]| {
            let values = values.iter().map(|value| Node::whole(*value)).collect();
            Node::Tuple(values, (false, false))
        };
        assert_eq!(same(&vector, &tuple(&[2, -3])), Some(true));
        assert_eq!(same(&tuple(&[2, -3, 0]), &vector), Some(true));
        assert_eq!(same(&vector, &tuple(&[-3, 2])), Some(false));
        assert_eq!(same(&vector, &Node::whole(2)), Some(false));
        assert_eq!(same(&tuple(&[1, 2]), &tuple(&[1, 2])), None);
        // A product of directions is no vector.
        let product = Node::Product(vec![symbol(0), symbol(1)]);
        assert_eq!(same(&product, &tuple(&[1, 1])), Some(false));
    }
}
