//! What a formula is once it is read.

use super::exact::Exact;

/// A formula. Depth and size are bounded by the parser.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// A number written out; `places` digits after the point, none for a whole number.
    Number {
        /// What it is.
        value: Exact,
        /// Digits after the point.
        places: Option<u32>,
    },
    /// π.
    Pi,
    /// The base of natural logarithms.
    Euler,
    /// The imaginary unit.
    Imaginary,
    /// ∞.
    Infinity,
    /// A variable, with its subscript and primes.
    Symbol(String),
    /// A sum.
    Sum(Vec<Node>),
    /// A product.
    Product(Vec<Node>),
    /// A quotient.
    Quotient(Box<Node>, Box<Node>),
    /// The negative.
    Negative(Box<Node>),
    /// Plus or minus; `true` for minus or plus.
    PlusMinus(Box<Node>, bool),
    /// Base and exponent.
    Power(Box<Node>, Box<Node>),
    /// Radicand and degree.
    Root(Box<Node>, u32),
    /// A function of one argument.
    Apply(Function, Box<Node>),
    /// Logarithm of the second to the base of the first.
    Log(Box<Node>, Box<Node>),
    /// `n` over `k`.
    Binomial(Box<Node>, Box<Node>),
    /// A sum or product over whole numbers.
    Fold(Box<Fold>),
    /// A ratio of two or more.
    Ratio(Vec<Node>),
    /// A tuple, a point or an interval: whether it is closed on the left and on the right.
    Tuple(Vec<Node>, (bool, bool)),
    /// A set by its elements.
    Set(Vec<Node>),
    /// A matrix by rows.
    Matrix(Vec<Vec<Node>>),
    /// A union of sets.
    Union(Vec<Node>),
    /// An intersection of sets.
    Intersection(Vec<Node>),
    /// The first set without the second.
    Without(Box<Node>, Box<Node>),
    /// A set by name: `R`, `Z`, `N`, `Q`, `C`.
    Named(char),
    /// Words.
    Text(String),
}

/// `\sum_{k=1}^{n} k^2` or `\prod`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fold {
    /// Whether its terms are multiplied.
    pub(super) product: bool,
    /// First value of the variable.
    pub(super) low: Node,
    /// Last value of the variable.
    pub(super) high: Node,
    /// A term, in which the variable is [`Fold::variable`].
    pub(super) body: Node,
}

impl Fold {
    /// The name of the variable within the terms: the same whatever it is called, another one for each level of sums.
    pub(super) fn variable(&self) -> String {
        Self::variable_of(&self.body)
    }

    fn variable_of(body: &Node) -> String {
        format!("{BOUND}{}", body.levels())
    }

    /// A sum or product whose variable is called `name` in the term.
    pub(super) fn new(product: bool, name: &Node, (low, high): (Node, Node), body: &Node) -> Self {
        let variable = Node::Symbol(Self::variable_of(body));
        let body = body.replaced(name, &variable);
        Self {
            product,
            low,
            high,
            body,
        }
    }

    /// The term for one value of the variable.
    pub(super) fn term(&self, value: i64) -> Node {
        let variable = Node::Symbol(self.variable());
        self.body.replaced(&variable, &Node::whole(value))
    }
}

/// What the names of variables of sums begin with; no formula has such a name.
const BOUND: char = '∑';

/// Functions of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// Cotangent.
    Cot,
    /// Secant.
    Sec,
    /// Cosecant.
    Csc,
    /// Inverse sine.
    Arcsin,
    /// Inverse cosine.
    Arccos,
    /// Inverse tangent.
    Arctan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Hyperbolic tangent.
    Tanh,
    /// Logarithm of a base not said: 10 or e.
    Log,
    /// Natural logarithm.
    Ln,
    /// Exponential function.
    Exp,
    /// Absolute value.
    Absolute,
    /// Largest whole number not above.
    Floor,
    /// Smallest whole number not below.
    Ceiling,
    /// Factorial.
    Factorial,
    /// Cosine and i times sine.
    Cis,
}

impl Function {
    /// The function of that name, as LaTeX or a plain text writes it.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" | "tg" => Self::Tan,
            "cot" | "ctg" => Self::Cot,
            "sec" => Self::Sec,
            "csc" | "cosec" => Self::Csc,
            "arcsin" | "asin" => Self::Arcsin,
            "arccos" | "acos" => Self::Arccos,
            "arctan" | "atan" | "arctg" => Self::Arctan,
            "sinh" => Self::Sinh,
            "cosh" => Self::Cosh,
            "tanh" => Self::Tanh,
            "ln" => Self::Ln,
            "exp" => Self::Exp,
            "cis" => Self::Cis,
            "abs" => Self::Absolute,
            "floor" => Self::Floor,
            "ceil" => Self::Ceiling,
            _ => return None,
        })
    }

    /// What `f^{-1}` means, for the functions that have an inverse of their own name.
    pub(super) fn inverse(self) -> Option<Self> {
        Some(match self {
            Self::Sin => Self::Arcsin,
            Self::Cos => Self::Arccos,
            Self::Tan => Self::Arctan,
            _ => return None,
        })
    }
}

impl Node {
    /// A whole number.
    pub(super) fn whole(value: i64) -> Self {
        Self::Number {
            value: super::exact::whole(value),
            places: None,
        }
    }

    /// The formulas right inside this one.
    pub(super) fn children(&self) -> Vec<&Node> {
        match self {
            Self::Sum(nodes)
            | Self::Product(nodes)
            | Self::Ratio(nodes)
            | Self::Tuple(nodes, _)
            | Self::Set(nodes)
            | Self::Union(nodes)
            | Self::Intersection(nodes) => nodes.iter().collect(),
            Self::Matrix(rows) => rows.iter().flatten().collect(),
            Self::Quotient(a, b)
            | Self::Power(a, b)
            | Self::Log(a, b)
            | Self::Binomial(a, b)
            | Self::Without(a, b) => vec![a, b],
            Self::Fold(fold) => vec![&fold.low, &fold.high, &fold.body],
            Self::Negative(a) | Self::PlusMinus(a, _) | Self::Root(a, _) | Self::Apply(_, a) => {
                vec![a]
            }
            _ => Vec::new(),
        }
    }

    /// Whether this or something inside fulfils a condition.
    pub(super) fn any(&self, condition: &dyn Fn(&Node) -> bool) -> bool {
        condition(self) || self.children().iter().any(|child| child.any(condition))
    }

    /// The variables, each once, in order.
    pub(super) fn symbols(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_symbols(&mut found);
        found.sort();
        found.dedup();
        found
    }

    fn collect_symbols(&self, found: &mut Vec<String>) {
        if let Self::Symbol(name) = self
            && !name.starts_with(BOUND)
        {
            found.push(name.clone());
        }
        for child in self.children() {
            child.collect_symbols(found);
        }
    }

    /// Whether it is a number or a formula of numbers, not a set, a tuple, a matrix or words.
    pub(super) fn is_scalar(&self) -> bool {
        !self.any(&|node| {
            matches!(
                node,
                Self::Tuple(..)
                    | Self::Set(_)
                    | Self::Matrix(_)
                    | Self::Union(_)
                    | Self::Intersection(_)
                    | Self::Without(..)
                    | Self::Named(_)
                    | Self::Text(_)
                    | Self::Ratio(_)
            )
        })
    }

    /// The same with every ± replaced by one of its signs (∓ by the other).
    pub(super) fn with_sign(&self, minus: bool) -> Node {
        match self {
            Self::PlusMinus(node, inverted) if minus != *inverted => {
                Self::Negative(Box::new(node.with_sign(minus)))
            }
            Self::PlusMinus(node, _) => node.with_sign(minus),
            other => other.with_children(&|child| child.with_sign(minus)),
        }
    }

    /// The same with every formula right inside replaced.
    pub(super) fn with_children(&self, change: &dyn Fn(&Node) -> Node) -> Node {
        let many = |nodes: &[Node]| nodes.iter().map(change).collect();
        let one = |node: &Node| Box::new(change(node));
        match self {
            Self::Sum(nodes) => Self::Sum(many(nodes)),
            Self::Product(nodes) => Self::Product(many(nodes)),
            Self::Ratio(nodes) => Self::Ratio(many(nodes)),
            Self::Tuple(nodes, closed) => Self::Tuple(many(nodes), *closed),
            Self::Set(nodes) => Self::Set(many(nodes)),
            Self::Union(nodes) => Self::Union(many(nodes)),
            Self::Intersection(nodes) => Self::Intersection(many(nodes)),
            Self::Matrix(rows) => Self::Matrix(rows.iter().map(|row| many(row)).collect()),
            Self::Quotient(a, b) => Self::Quotient(one(a), one(b)),
            Self::Power(a, b) => Self::Power(one(a), one(b)),
            Self::Log(a, b) => Self::Log(one(a), one(b)),
            Self::Binomial(a, b) => Self::Binomial(one(a), one(b)),
            Self::Without(a, b) => Self::Without(one(a), one(b)),
            Self::Negative(a) => Self::Negative(one(a)),
            Self::PlusMinus(a, inverted) => Self::PlusMinus(one(a), *inverted),
            Self::Root(a, degree) => Self::Root(one(a), *degree),
            Self::Apply(function, a) => Self::Apply(*function, one(a)),
            Self::Fold(fold) => Self::Fold(Box::new(Fold {
                product: fold.product,
                low: change(&fold.low),
                high: change(&fold.high),
                body: change(&fold.body),
            })),
            other => other.clone(),
        }
    }

    /// The same with another formula wherever one stands.
    pub(super) fn replaced(&self, what: &Node, with: &Node) -> Node {
        if self == what {
            return with.clone();
        }
        self.with_children(&|child| child.replaced(what, with))
    }

    /// How many sums stand inside each other.
    fn levels(&self) -> usize {
        let inside = self.children().into_iter().map(Self::levels).max();
        inside.unwrap_or(0) + usize::from(matches!(self, Self::Fold(_)))
    }
}
