//! Numbers and words as a reader wants them: sensible digits, a real minus sign, no NaN.

use stats::Estimate;

/// Stands where a number could not be computed.
pub(crate) const NONE: &str = "–";

/// Escapes text for element content and attribute values; characters XML forbids become `\u{fffd}`.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // A percent sign never begins a line.
            '%' if out.ends_with(' ') => {
                out.pop();
                out.push_str("\u{a0}%");
            }
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Three significant digits; thousands separated; powers of ten outside 0.001 … 1,000,000.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        NONE.to_owned()
    } else if size == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&size) {
        scientific(value)
    } else if size >= 1000.0 {
        minus(grouped(size.round() as u64), value)
    } else {
        let decimals = (2 - size.log10().floor() as i32).clamp(0, 5) as usize;
        minus(trimmed(format!("{size:.decimals$}")), value)
    }
}

/// As [`number`], with a plus sign before a positive value.
pub(crate) fn signed(value: f64) -> String {
    let text = number(value);
    if value > 0.0 && value.is_finite() {
        format!("+{text}")
    } else {
        text
    }
}

/// A whole number with separated thousands.
pub(crate) fn count(value: usize) -> String {
    grouped(value as u64)
}

/// A fraction as a percentage with one decimal.
pub(crate) fn percent(fraction: f64) -> String {
    fixed(fraction * 100.0, 1)
}

/// A difference of fractions as signed percentage points with one decimal.
pub(crate) fn points(fraction: f64) -> String {
    let text = percent(fraction);
    let positive = fraction > 0.0 && text != "0.0" && text != NONE;
    if positive { format!("+{text}") } else { text }
}

/// A fixed number of decimals; what rounds to zero has no sign.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let text = format!("{:.decimals$}", value.abs());
    let is_zero = text.bytes().all(|byte| byte == b'0' || byte == b'.');
    if is_zero { text } else { minus(text, value) }
}

/// `value [low, high]`, each formatted alike; the value alone where there is no interval.
pub(crate) fn with_interval(estimate: &Estimate, format: fn(f64) -> String) -> String {
    if estimate.low.is_finite() && estimate.high.is_finite() {
        format!("{} {}", format(estimate.value), bracket(estimate, format))
    } else {
        format(estimate.value)
    }
}

/// `value [low, high]` with as many digits as the interval is wide, and one power of ten for all three.
pub(crate) fn estimate(estimate: &Estimate) -> String {
    tidy(estimate, fixed)
}

/// As [`estimate`], with plus signs.
pub(crate) fn signed_estimate(estimate: &Estimate) -> String {
    tidy(estimate, |value, decimals| {
        let text = fixed(value, decimals);
        if value > 0.0 {
            format!("+{text}")
        } else {
            text
        }
    })
}

fn tidy(estimate: &Estimate, format: impl Fn(f64, usize) -> String) -> String {
    let Estimate { value, low, high } = *estimate;
    if !(low.is_finite() && high.is_finite() && value.is_finite()) {
        return number(value);
    }
    let size = value.abs().max(low.abs()).max(high.abs());
    let exponent = if size > 0.0 && !(1e-3..1e6).contains(&size) {
        size.log10().floor() as i32
    } else {
        0
    };
    let scale = 10f64.powi(exponent);
    let half = (high - low) / 2.0 / scale;
    // Two digits of the half width; three of the value where there is no width.
    let precision = if half > 0.0 {
        1.0 - half.log10().floor()
    } else {
        2.0 - (size / scale).max(1e-9).log10().floor()
    };
    let decimals = if size == 0.0 {
        0
    } else {
        precision.clamp(0.0, 6.0) as usize
    };
    let [value, low, high] = [value, low, high].map(|part| format(part / scale, decimals));
    let power = if exponent == 0 {
        String::new()
    } else {
        format!("×10{}", superscript(exponent))
    };
    format!("{value} [{low}, {high}]{power}")
}

/// Sample sizes of a figure: `983 features each`, or `983 (sft), 412 (rl) features`.
pub(crate) fn sizes(sizes: impl IntoIterator<Item = (String, usize)>, noun: &str) -> String {
    let mut all: Vec<(String, usize)> = Vec::new();
    for size in sizes {
        if !all.contains(&size) {
            all.push(size);
        }
    }
    match all.as_slice() {
        [] => format!("0 {noun}s"),
        [(_, n)] => plural(*n, noun),
        [(_, first), rest @ ..] if rest.iter().all(|(_, n)| n == first) => {
            format!("{} each", plural(*first, noun))
        }
        all => {
            let parts: Vec<String> = all
                .iter()
                .map(|(label, n)| format!("{} ({label})", count(*n)))
                .collect();
            format!("{} {noun}s", parts.join(", "))
        }
    }
}

/// `[low, high]`.
pub(crate) fn bracket(estimate: &Estimate, format: fn(f64) -> String) -> String {
    format!("[{}, {}]", format(estimate.low), format(estimate.high))
}

/// A p- or q-value: two digits, `<0.001` below.
pub(crate) fn probability(p: f64) -> String {
    if !p.is_finite() {
        NONE.to_owned()
    } else if p < 0.001 {
        "<0.001".to_owned()
    } else if p < 0.1 {
        format!("{p:.3}")
    } else {
        format!("{p:.2}")
    }
}

/// A p- or q-value in a sentence: `p < 0.001`, `p = 0.012`.
pub(crate) fn p_words(p: f64) -> String {
    let text = probability(p);
    text.strip_prefix('<')
        .map_or_else(|| format!("p = {text}"), |bound| format!("p < {bound}"))
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [start @ .., last] => format!("{} and {last}", start.join(", ")),
    }
}

/// `1 feature`, `2 features`.
pub(crate) fn plural(n: usize, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(n))
}

fn scientific(value: f64) -> String {
    let exponent = value.abs().log10().floor() as i32;
    let mantissa = value.abs() / 10f64.powi(exponent);
    // 9.996 rounds to 10.00: carry it into the exponent.
    let (mantissa, exponent) = if mantissa >= 9.995 {
        (1.0, exponent + 1)
    } else {
        (mantissa, exponent)
    };
    let text = format!(
        "{}×10{}",
        trimmed(format!("{mantissa:.2}")),
        superscript(exponent)
    );
    minus(text, value)
}

fn superscript(exponent: i32) -> String {
    let raise = |character| match character {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
    };
    exponent.to_string().chars().map(raise).collect()
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn trimmed(text: String) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn minus(text: String, value: f64) -> String {
    if value < 0.0 {
        format!("−{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        for (value, wanted) in [
            (0.0, "0"),
            (0.123_45, "0.123"),
            (-0.5, "−0.5"),
            (12.345, "12.3"),
            (999.0, "999"),
            (12_345.0, "12,345"),
            (1.31e-4, "1.31×10⁻⁴"),
            (2.5e9, "2.5×10⁹"),
            (9.999e-12, "1×10⁻¹¹"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ] {
            assert_eq!(number(value), wanted);
        }
    }

    #[test]
    fn intervals_share_digits_and_power() {
        let of = |value, low, high| Estimate { value, low, high };
        assert_eq!(estimate(&of(0.4, 0.384, 0.416)), "0.400 [0.384, 0.416]");
        assert_eq!(estimate(&of(357.0, 343.0, 371.0)), "357 [343, 371]");
        assert_eq!(
            signed_estimate(&of(1.65e-4, 1.1e-4, 2.2e-4)),
            "+1.65 [+1.10, +2.20]×10⁻⁴"
        );
        assert_eq!(estimate(&of(0.0, 0.0, 0.0)), "0 [0, 0]");
        assert_eq!(estimate(&of(2.5, f64::NAN, f64::NAN)), "2.5");
    }

    #[test]
    fn sizes_are_said_once_where_they_agree() {
        let of = |a, b| sizes([("sft".to_owned(), a), ("rl".to_owned(), b)], "feature");
        assert_eq!(of(1200, 1200), "1,200 features each");
        assert_eq!(of(1, 2), "1 (sft), 2 (rl) features");
    }

    #[test]
    fn points_have_a_sign_unless_they_round_to_zero() {
        assert_eq!(points(0.1234), "+12.3");
        assert_eq!(points(-0.1234), "−12.3");
        assert_eq!(points(0.0001), "0.0");
        assert_eq!(points(-0.0001), "0.0");
    }

    #[test]
    fn probabilities_do_not_claim_zero() {
        assert_eq!(probability(1e-9), "<0.001");
        assert_eq!(probability(0.0123), "0.012");
        assert_eq!(probability(1.0), "1.00");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b>&\"\u{1}"), "a&lt;b&gt;&amp;&quot;\u{fffd}");
    }

    #[test]
    fn lists_read_as_sentences() {
        let items: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(list(&items), "a, b and c");
        assert_eq!(list(&items[..1]), "a");
    }
}
