//! Words and their case, as Python's `str` and NLTK's word tokenizer see them.

/// Runs of letters, digits and underscores.
pub(super) fn count(text: &str) -> usize {
    let mut inside = false;
    let mut words = 0;
    for c in text.chars() {
        let part = c.is_alphanumeric() || c == '_';
        words += usize::from(part && !inside);
        inside = part;
    }
    words
}

/// Whether no letter is small and one is capital.
pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// Whether no letter is capital and one is small.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

/// Words in capitals: hyphens join, punctuation separates, contractions are two words (`DON'T` is `DO` and `N'T`).
pub(super) fn capitals(text: &str) -> usize {
    text.split_whitespace()
        .flat_map(|word| word.split(|c: char| ";@#$%&?!\"()[]{}<>“”*…".contains(c)))
        .flat_map(|word| word.split("--"))
        .map(|word| {
            let word = word.trim_matches([',', ':', '.']);
            let parts = word.split([',', ':']).filter(|part| is_upper(part)).count();
            parts + usize::from(is_upper(word) && is_contraction(word))
        })
        .sum()
}

fn is_contraction(word: &str) -> bool {
    let lower = word.to_lowercase();
    ["'s", "'m", "'d", "'ll", "'re", "'ve", "n't"]
        .iter()
        .any(|end| lower.ends_with(end) && lower.len() > end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_capitals_are_counted() {
        assert_eq!(count("it's a well-known fact_1"), 6);
        assert_eq!(
            capitals("NASA, (ESA) and I saw U.S. WELL-KNOWN 3D nasa."),
            6
        );
        assert_eq!(capitals("DON'T!"), 2);
        assert!(is_upper("A1!") && !is_upper("1!") && is_lower("a1!") && !is_lower("aB"));
    }
}
