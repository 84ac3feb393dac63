//! The names and characters a formula may hold, and what each stands for.

use super::node::Function;
use super::token::Token;

/// What a name or a character stands for.
pub(super) enum Word {
    /// Signs, one after the other.
    Signs(&'static str),
    /// A token.
    Token(Token),
    /// A fraction of one character.
    Fraction(i64, i64),
    /// Nothing.
    Nothing,
}

const GREEK: [(&str, char); 30] = [
    ("alpha", 'α'),
    ("beta", 'β'),
    ("gamma", 'γ'),
    ("delta", 'δ'),
    ("epsilon", 'ε'),
    ("zeta", 'ζ'),
    ("eta", 'η'),
    ("theta", 'θ'),
    ("iota", 'ι'),
    ("kappa", 'κ'),
    ("lambda", 'λ'),
    ("mu", 'μ'),
    ("nu", 'ν'),
    ("xi", 'ξ'),
    ("rho", 'ρ'),
    ("sigma", 'σ'),
    ("tau", 'τ'),
    ("phi", 'φ'),
    ("chi", 'χ'),
    ("psi", 'ψ'),
    ("omega", 'ω'),
    ("Gamma", 'Γ'),
    ("Delta", 'Δ'),
    ("Theta", 'Θ'),
    ("Lambda", 'Λ'),
    ("Sigma", 'Σ'),
    ("Phi", 'Φ'),
    ("Psi", 'Ψ'),
    ("Omega", 'Ω'),
    ("ell", 'ℓ'),
];

fn greek(name: &str) -> Option<Word> {
    let name = match name {
        "varepsilon" => "epsilon",
        "vartheta" => "theta",
        "varphi" => "phi",
        "varrho" => "rho",
        other => other,
    };
    let found = GREEK.iter().find(|(known, _)| *known == name)?;
    Some(Word::Token(Token::Name(found.0.to_owned())))
}

/// What a command of LaTeX stands for; none when it is unknown here.
pub(super) fn latex(name: &str) -> Option<Word> {
    if let Some(function) = Function::named(name) {
        return Some(Word::Token(Token::Function(function)));
    }
    let signs = match name {
        "times" | "cdot" | "ast" | "cdotp" | "bullet" | "star" => "*",
        "div" => "/",
        "le" | "leq" | "leqslant" | "leqq" => "≤",
        "ge" | "geq" | "geqslant" | "geqq" => "≥",
        "lt" => "<",
        "gt" => ">",
        "ne" | "neq" => "≠",
        "approx" | "simeq" | "thickapprox" | "doteq" | "cong" => "≈",
        "in" => "∈",
        "equiv" => "≡",
        "cup" | "bigcup" => "∪",
        "cap" | "bigcap" => "∩",
        "setminus" | "backslash" | "smallsetminus" => "∖",
        "pm" => "±",
        "mp" => "∓",
        "circ" => "∘",
        "degree" | "degrees" => "°",
        "infty" => "∞",
        "emptyset" | "varnothing" => "∅",
        "pi" => "π",
        "mid" | "vert" | "lvert" | "rvert" | "Vert" | "lVert" | "rVert" | "vline" => "|",
        "colon" => ":",
        "lbrace" => "⦃",
        "rbrace" => "⦄",
        "lbrack" => "[",
        "rbrack" => "]",
        "langle" => "⟨",
        "rangle" => "⟩",
        "lfloor" => "⌊",
        "rfloor" => "⌋",
        "lceil" => "⌈",
        "rceil" => "⌉",
        "dots" | "ldots" | "cdots" | "dotsc" | "dotsb" | "vdots" | "ddots" => "…",
        "implies" | "Rightarrow" | "Longrightarrow" | "iff" | "Leftrightarrow"
        | "Longleftrightarrow" => "⇒",
        "prime" => "'",
        "cr" | "newline" => "⏎",
        _ => return command(name),
    };
    Some(Word::Signs(signs))
}

fn command(name: &str) -> Option<Word> {
    let token = match name {
        "frac" | "dfrac" | "tfrac" | "cfrac" | "sfrac" | "nicefrac" => {
            Token::Command("frac".into())
        }
        "sqrt" | "log" | "sum" | "prod" | "det" => Token::Command(name.into()),
        "top" | "intercal" => Token::Letter('T'),
        "lg" => Token::Command("log".into()),
        "binom" | "dbinom" | "tbinom" => Token::Command("binom".into()),
        "mathbb" | "mathcal" => Token::Command("mathbb".into()),
        "land" | "wedge" => Token::And,
        "lor" | "vee" => Token::Or,
        "pmod" | "bmod" | "mod" | "pod" => Token::Name("mod".into()),
        "choose" => Token::Command("choose".into()),
        "quad" | "qquad" => Token::Gap,
        "bf" | "it" | "tt" | "sf" | "nonumber" | "notag" | "hline" | "hfill" | "phantom"
        | "ensuremath" | "strut" | "centering" | "checkmark" | "ldotp" | "blacksquare" | "qed"
        | "thinspace" | "medspace" | "space" | "nobreak" | "mathstrut" | "displaylimits"
        | "nolimits" | "normalsize" | "large" | "Large" | "small" | "color" | "lbr" => {
            return Some(Word::Nothing);
        }
        "angle" | "triangle" | "square" | "odot" => Token::Name(name.into()),
        _ => return greek(name),
    };
    Some(Word::Token(token))
}

/// What a word of a plain text stands for; none for a word that is only a word.
pub(super) fn plain(word: &str) -> Option<Word> {
    if let Some(function) = Function::named(word) {
        return Some(Word::Token(Token::Function(function)));
    }
    match word {
        "pi" | "Pi" => Some(Word::Signs("π")),
        "infinity" | "Infinity" | "inf" | "infty" | "oo" => Some(Word::Signs("∞")),
        "and" | "And" | "AND" => Some(Word::Token(Token::And)),
        "or" | "Or" | "OR" => Some(Word::Token(Token::Or)),
        "union" => Some(Word::Signs("∪")),
        "to" => Some(Word::Signs(":")),
        "emptyset" => Some(Word::Signs("∅")),
        "sqrt" | "log" | "lg" | "binom" | "frac" | "mod" => command(word),
        _ if word.len() > 2 => greek(word),
        _ => None,
    }
}

/// What a character beyond ASCII stands for; none for one no formula holds.
pub(super) fn unicode(c: char) -> Option<Word> {
    let signs = match c {
        '−' | '–' | '—' | '‐' | '‑' | '﹣' | '－' => "-",
        '＋' => "+",
        '×' | '·' | '⋅' | '∙' | '•' | '∗' | '✕' => "*",
        '÷' | '∕' | '⁄' | '／' => "/",
        '≤' | '⩽' | '≦' => "≤",
        '≥' | '⩾' | '≧' => "≥",
        '≠' => "≠",
        '≈' | '≃' | '≅' => "≈",
        '∈' => "∈",
        '≡' => "≡",
        '⇒' | '⟹' | '⇔' | '⟺' => "⇒",
        '∪' | '⋃' => "∪",
        '∩' | '⋂' => "∩",
        '∖' => "∖",
        '±' => "±",
        '∓' => "∓",
        '∞' => "∞",
        '∅' | '⌀' => "∅",
        'π' => "π",
        '°' | 'º' | '˚' => "°",
        '∘' => "∘",
        '⟨' | '〈' => "⟨",
        '⟩' | '〉' => "⟩",
        '⌊' => "⌊",
        '⌋' => "⌋",
        '⌈' => "⌈",
        '⌉' => "⌉",
        '…' | '⋯' => "…",
        '′' | '’' => "'",
        '，' | '、' => ",",
        '；' => ";",
        '：' | '∶' => ":",
        '（' => "(",
        '）' => ")",
        '％' => "%",
        '＝' => "=",
        '∣' | '｜' => "|",
        '⁻' => "^-",
        _ => return beyond(c),
    };
    Some(Word::Signs(signs))
}

fn beyond(c: char) -> Option<Word> {
    const FRACTIONS: [(char, i64, i64); 15] = [
        ('½', 1, 2),
        ('⅓', 1, 3),
        ('⅔', 2, 3),
        ('¼', 1, 4),
        ('¾', 3, 4),
        ('⅕', 1, 5),
        ('⅖', 2, 5),
        ('⅗', 3, 5),
        ('⅘', 4, 5),
        ('⅙', 1, 6),
        ('⅚', 5, 6),
        ('⅛', 1, 8),
        ('⅜', 3, 8),
        ('⅝', 5, 8),
        ('⅞', 7, 8),
    ];
    if let Some((_, numerator, denominator)) = FRACTIONS.iter().find(|(sign, ..)| *sign == c) {
        return Some(Word::Fraction(*numerator, *denominator));
    }
    if let Some((name, _)) = GREEK.iter().find(|(_, sign)| *sign == c) {
        return Some(Word::Token(Token::Name((*name).to_owned())));
    }
    match c {
        '√' => Some(Word::Token(Token::Command("sqrt".into()))),
        'ℝ' | 'ℤ' | 'ℕ' | 'ℚ' | 'ℂ' => {
            Some(Word::Token(Token::Name(format!("set {}", plain_letter(c)))))
        }
        '∠' => Some(Word::Token(Token::Name("angle".into()))),
        '△' | '▲' => Some(Word::Token(Token::Name("triangle".into()))),
        'ⁿ' => None,
        c if c.is_alphabetic() => Some(Word::Token(Token::Letter(c))),
        _ => None,
    }
}

fn plain_letter(c: char) -> char {
    match c {
        'ℝ' => 'R',
        'ℤ' => 'Z',
        'ℕ' => 'N',
        'ℚ' => 'Q',
        _ => 'C',
    }
}

/// Whether upright text is words, not a number, a letter or a formula.
pub(super) fn reads_as_words(text: &str) -> bool {
    let formula = |c: char| c.is_ascii_digit() || "\\=<>+*^_{}()".contains(c);
    let word = |word: &str| {
        word.chars().count() > 1 && word.chars().any(char::is_lowercase) && plain(word).is_none()
    };
    !text.contains(formula) && text.split(|c: char| !c.is_alphabetic()).any(word)
}

/// Signs that depend on what stands beside them: degrees, `x` for times, `U` for a union.
pub(super) fn settle(tokens: &[Token]) -> Vec<Token> {
    let mut settled: Vec<Token> = Vec::with_capacity(tokens.len());
    let sign = |token: Option<&Token>, sign: char| token == Some(&Token::Sign(sign));
    let mut at = 0;
    while at < tokens.len() {
        let (before, next) = (settled.last().cloned(), tokens.get(at + 1));
        let mut width = 1;
        let token = match &tokens[at] {
            Token::Sign('^') if sign(next, '∘') || sign(next, '°') => {
                width = 2;
                Token::Sign('°')
            }
            Token::Sign('^')
                if sign(next, '{')
                    && (sign(tokens.get(at + 2), '∘') || sign(tokens.get(at + 2), '°'))
                    && sign(tokens.get(at + 3), '}') =>
            {
                width = 4;
                Token::Sign('°')
            }
            Token::Sign('∘') => Token::Sign('°'),
            Token::Letter('x' | 'X')
                if matches!(before, Some(Token::Number { .. }))
                    && matches!(next, Some(Token::Number { .. })) =>
            {
                Token::Sign('*')
            }
            Token::Letter('U' | 'u')
                if (sign(before.as_ref(), ')')
                    || sign(before.as_ref(), ']')
                    || sign(before.as_ref(), '⦄'))
                    && (sign(next, '(') || sign(next, '[') || sign(next, '⦃')) =>
            {
                Token::Sign('∪')
            }
            // `-\$5` is \$-5.
            Token::Currency(_) if sign(before.as_ref(), '-') => {
                settled.pop();
                settled.push(tokens[at].clone());
                Token::Sign('-')
            }
            other => other.clone(),
        };
        settled.push(token);
        at += width;
    }
    settled
}
