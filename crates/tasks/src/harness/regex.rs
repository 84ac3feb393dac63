//! Python's `re` on top of `fancy_regex`: find all, replace with group references.

use fancy_regex::{Captures, Regex};

/// Matching backtracks where a pattern looks around: this many steps are enough for any text a model writes.
const STEPS: usize = 10_000_000;

/// Compiles a pattern of Python's `re`; the error says what is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    fancy_regex::RegexBuilder::new(&translated(pattern))
        .backtrack_limit(STEPS)
        .build()
        .map_err(|error| format!("`{pattern}` is no regular expression: {error}"))
}

/// What Python spells otherwise: `\Z` is the very end, `$` also stands before a last line end, and a class knows no sets.
fn translated(pattern: &str) -> String {
    let multiline = pattern.contains("(?m");
    let mut translated = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, in_class) {
            ('\\', _) => match chars.next() {
                Some('Z') => translated.push_str("\\z"),
                Some(next) => translated.extend(['\\', next]),
                None => translated.push('\\'),
            },
            ('[', false) => {
                translated.push('[');
                in_class = true;
                if chars.next_if_eq(&'^').is_some() {
                    translated.push('^');
                }
                if chars.next_if_eq(&']').is_some() {
                    translated.push_str("\\]");
                }
            }
            (']', true) => {
                translated.push(']');
                in_class = false;
            }
            ('[' | '&' | '~', true) => translated.extend(['\\', c]),
            ('$', false) if !multiline => translated.push_str("(?=\\n?\\z)"),
            _ => translated.push(c),
        }
    }
    translated
}

/// `re.findall`: every match; with one group its text, with several the list of their texts. A group that took no part is
/// empty.
pub fn find_all(regex: &Regex, text: &str) -> Result<Vec<Found>, String> {
    let mut all = Vec::new();
    for captures in regex.captures_iter(text) {
        let captures = captures.map_err(|error| error.to_string())?;
        let group = |number: usize| {
            captures
                .get(number)
                .map_or("", |group| group.as_str())
                .to_owned()
        };
        all.push(match captures.len() {
            1 => Found::One(group(0)),
            2 => Found::One(group(1)),
            n => Found::Groups((1..n).map(group).collect()),
        });
    }
    Ok(all)
}

/// One match of [`find_all`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The match, or its only group.
    One(String),
    /// Its groups.
    Groups(Vec<String>),
}

/// `re.sub(pattern, replacement, text, count)`; a count of 0 replaces all.
pub fn replace(
    regex: &Regex,
    text: &str,
    replacement: &str,
    count: usize,
) -> Result<String, String> {
    let limit = if count == 0 { usize::MAX } else { count };
    let (mut replaced, mut end) = (String::new(), 0);
    for captures in regex.captures_iter(text).take(limit) {
        let captures = captures.map_err(|error| error.to_string())?;
        let whole = captures.get(0).ok_or("a match without its text")?;
        replaced.push_str(&text[end..whole.start()]);
        expand(&captures, replacement, &mut replaced);
        end = whole.end();
    }
    replaced.push_str(&text[end..]);
    Ok(replaced)
}

/// Python's replacement language: `\1`, `\g<1>`, `\g<name>`, `\n`, `\t`, `\\`.
fn expand(captures: &Captures<str>, replacement: &str, replaced: &mut String) {
    let mut rest = replacement;
    while let Some(place) = rest.find('\\') {
        replaced.push_str(&rest[..place]);
        rest = &rest[place + 1..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let digits = digits.min(2);
        if digits > 0 {
            push_group(captures, &rest[..digits], replaced);
            rest = &rest[digits..];
        } else if let Some((name, after)) = rest
            .strip_prefix("g<")
            .and_then(|rest| rest.split_once('>'))
        {
            push_group(captures, name, replaced);
            rest = after;
        } else if let Some(c) = rest.chars().next() {
            match c {
                'n' => replaced.push('\n'),
                't' => replaced.push('\t'),
                c => replaced.push(c),
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    replaced.push_str(rest);
}

fn push_group(captures: &Captures<str>, name: &str, replaced: &mut String) {
    let group = match name.parse() {
        Ok(number) => captures.get(number),
        Err(_) => captures.name(name),
    };
    replaced.push_str(group.map_or("", |group| group.as_str()));
}

/// `re.escape`.
pub fn escape(text: &str) -> String {
    fancy_regex::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pattern: &str, text: &str) -> Vec<Found> {
        find_all(&compile(pattern).unwrap(), text).unwrap()
    }

    #[test]
    fn matches_groups_and_lookarounds_are_found() {
        let one = |text: &str| Found::One(text.to_owned());
        assert_eq!(all("a.", "ab ac"), [one("ab"), one("ac")]);
        assert_eq!(
            all("#### (-?[0-9.,]+)", "#### 1,234 x #### 5"),
            [one("1,234"), one("5")]
        );
        assert_eq!(
            all("(?<=The answer is )(.*)(?=.)", "The answer is (B)."),
            [one("(B)")]
        );
        let groups = Found::Groups(vec![String::new(), "7".to_owned()]);
        assert_eq!(all("(-?[$0-9.,]{2,})|(-?[0-9]+)", "x 7"), [groups]);
        assert_eq!(all("(?s)a.b\\Z", "a\nb"), [one("a\nb")]);
    }

    #[test]
    fn replacements_are_in_pythons_language() {
        let regex = compile("(?P<a>[a-z])([0-9])").unwrap();
        assert_eq!(
            replace(&regex, "x1 y2 z", "\\2\\g<a>\\\\$1", 0).unwrap(),
            "1x\\$1 2y\\$1 z"
        );
        assert_eq!(replace(&regex, "x1 y2", "", 1).unwrap(), " y2");
        assert_eq!(
            replace(&compile("\\.$").unwrap(), "4.\n", "", 0).unwrap(),
            "4\n"
        );
        assert_eq!(
            replace(&compile("[[&$]").unwrap(), "[a&$", "", 0).unwrap(),
            "a"
        );
        assert!(compile("(").unwrap_err().contains("no regular expression"));
    }
}
