//! Where sentences end, by rules for English close to those of NLTK's Punkt, which the reference uses.

/// Words with a full stop that end no sentence.
const ABBREVIATIONS: [&str; 44] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "fig", "no", "gen", "col", "sgt",
    "capt", "lt", "rev", "hon", "jan", "feb", "mar", "apr", "aug", "sept", "sep", "oct", "nov",
    "dec", "mt", "ft", "cf", "approx", "dept", "est", "al", "messrs", "rep", "sen", "gov", "pres",
    "u.s", "u.k", "ph.d", "vol",
];
/// Those that may end one, when a capital follows.
const ENDING: [&str; 10] = [
    "etc", "inc", "ltd", "co", "corp", "jr", "sr", "a.m", "p.m", "bros",
];

/// Sentences of a text; what stands after the last end is one as well.
pub fn count(text: &str) -> usize {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ends =
        (0..words.len()).filter(|at| *at + 1 == words.len() || is_end(words[*at], words[*at + 1]));
    ends.count()
}

/// Whether a sentence ends between two words.
fn is_end(word: &str, next: &str) -> bool {
    let closing = |c: char| "\"')]}”’*_»".contains(c);
    let word = word.trim_end_matches(closing);
    let capital = next
        .trim_start_matches(|c: char| "\"'([{“‘*_«".contains(c))
        .starts_with(char::is_uppercase);
    if word.ends_with(['!', '?', '。', '！', '？']) {
        return true;
    }
    let Some(body) = word.strip_suffix('.') else {
        return word.ends_with('…') && capital;
    };
    if body.ends_with('.') {
        return capital;
    }
    let body = body
        .trim_start_matches(|c: char| "\"'([{“‘*_".contains(c))
        .to_lowercase();
    let initial = body.chars().count() == 1 && body.chars().all(char::is_alphabetic) && body != "i";
    if initial || ABBREVIATIONS.contains(&body.as_str()) {
        return false;
    }
    !ENDING.contains(&body.as_str()) || capital
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn sentences_end_where_a_reader_sees_it() {
        for (text, n) in [
            ("", 0),
            ("No end", 1),
            ("One. Two! Three?", 3),
            ("Dr. Smith met J. Doe at 5 p.m. today.", 1),
            ("He said \"Stop!\" Then he left.", 2),
            ("It costs 3.50 dollars, e.g. in the U.S. today. Yes.", 2),
            ("Apples, pears, etc. They are fruit.", 2),
            ("Well... perhaps. Well... Perhaps.", 3),
            ("1. First. 2. Second.", 4),
        ] {
            assert_eq!(count(text), n, "{text}");
        }
    }
}
