//! Metrics: the values of one document.

use serde_json::{Map, Value};

use super::aggregation::Aggregation;
use super::config::{Metric, OutputType};
use super::functions::Values;
use super::regex;

/// Metrics of a kind of task when its file names none.
pub fn defaults(output_type: OutputType) -> &'static [&'static str] {
    match output_type {
        OutputType::GenerateUntil => &["exact_match"],
        OutputType::MultipleChoice => &["acc", "acc_norm"],
        OutputType::Loglikelihood => &["perplexity", "acc"],
        OutputType::LoglikelihoodRolling => {
            &["word_perplexity", "byte_perplexity", "bits_per_byte"]
        }
    }
}

/// How a metric is aggregated when its file does not say, and whether more is better; none for an unknown metric.
pub fn known(name: &str) -> Option<(Aggregation, bool)> {
    Some(match name {
        "acc" | "acc_norm" | "acc_bytes" | "acc_mutual_info" | "exact_match" | "likelihood" => {
            (Aggregation::Mean, true)
        }
        "perplexity" => (Aggregation::Perplexity, false),
        "word_perplexity" | "byte_perplexity" => (Aggregation::WeightedPerplexity, false),
        "bits_per_byte" => (Aggregation::BitsPerByte, false),
        "brier_score" => (Aggregation::Brier, false),
        "f1" => (Aggregation::F1, true),
        "mcc" => (Aggregation::Mcc, true),
        "bypass" => (Aggregation::Bypass, true),
        _ => return None,
    })
}

/// What the choices of one document came to.
#[derive(Debug, Clone)]
pub struct Scored<'a> {
    /// Choices.
    pub choices: &'a [String],
    /// Log-likelihood of each, in nats, and whether it is what greedy decoding would write.
    pub likelihoods: &'a [(f64, bool)],
    /// Log-likelihoods without the question, for mutual information.
    pub unconditional: Option<&'a [(f64, bool)]>,
    /// Numbers of the right choices; one that is out of range is none.
    pub gold: &'a [Option<usize>],
}

/// Metrics of multiple-choice tasks, in the order in which their values are listed.
const ORDER: [&str; 9] = [
    "acc",
    "f1",
    "mcc",
    "acc_norm",
    "acc_bytes",
    "exact_match",
    "brier_score",
    "likelihood",
    "acc_mutual_info",
];

/// Values of a document of a multiple-choice task.
pub fn multiple_choice(scored: &Scored, metrics: &[&str]) -> Values {
    let asked = ORDER.into_iter().filter(|name| metrics.contains(name));
    asked
        .filter_map(|name| Some((name.to_owned(), scored.value(name)?)))
        .collect()
}

impl Scored<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        let sums: Vec<f64> = self.likelihoods.iter().map(|one| one.0).collect();
        Some(match name {
            "acc" => self.right(&sums).into(),
            "f1" | "mcc" => self.beside_gold(largest(&sums).into()),
            "acc_norm" => self
                .right(&self.per(&sums, |choice| choice.chars().count()))
                .into(),
            "acc_bytes" => self.right(&self.per(&sums, str::len)).into(),
            "exact_match" => u8::from(self.greedy()).into(),
            "brier_score" => self.beside_gold(softmax(&sums).into()),
            "likelihood" => self.beside_gold(sums.into()),
            "acc_mutual_info" => {
                let alone = self.unconditional?.iter().map(|one| one.0);
                let gain: Vec<f64> = sums
                    .iter()
                    .zip(alone)
                    .map(|(sum, alone)| sum - alone)
                    .collect();
                self.right(&gain).into()
            }
            _ => return None,
        })
    }

    /// 1 where the largest value is that of a right choice.
    fn right(&self, values: &[f64]) -> f64 {
        f64::from(u8::from(self.gold.contains(&largest(values))))
    }

    fn per(&self, sums: &[f64], length: impl Fn(&str) -> usize) -> Vec<f64> {
        let choices = self.choices.iter().zip(sums);
        choices
            .map(|(choice, sum)| sum / length(choice) as f64)
            .collect()
    }

    /// Whether greedy decoding would write a right choice.
    fn greedy(&self) -> bool {
        let is_greedy = |gold: &usize| self.likelihoods.get(*gold).is_some_and(|one| one.1);
        self.gold.iter().flatten().any(is_greedy)
    }

    /// The number of the right choice, −100 where it is out of range, beside what was found.
    fn beside_gold(&self, found: Value) -> Value {
        let gold = self.gold.first().copied().flatten();
        Value::Array(vec![gold.map_or_else(|| (-100).into(), Value::from), found])
    }
}

/// Number of the largest value, the first of several; none of nothing.
pub fn largest(values: &[f64]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (place, value) in values.iter().enumerate() {
        if best.is_none_or(|best| *value > values[best]) {
            best = Some(place);
        }
    }
    best
}

fn softmax(values: &[f64]) -> Vec<f64> {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shares: Vec<f64> = values.iter().map(|value| (value - most).exp()).collect();
    let all: f64 = shares.iter().sum();
    shares.into_iter().map(|share| share / all).collect()
}

/// `exact_match`: equal texts after the rewritings the file asks for.
pub fn exact_match(
    prediction: &str,
    reference: &str,
    options: &Map<String, Value>,
) -> Result<bool, String> {
    let is_set = |name: &str| options.get(name).and_then(Value::as_bool).unwrap_or(false);
    let plain = |text: &str| -> Result<String, String> {
        let mut text = text.to_owned();
        for pattern in options
            .get("regexes_to_ignore")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let regex = regex::compile(pattern.as_str().unwrap_or_default())?;
            text = regex::replace(&regex, &text, "", 0)?;
        }
        if is_set("ignore_case") {
            text = text.to_lowercase();
        }
        text.retain(|c| {
            !(is_set("ignore_punctuation") && c.is_ascii_punctuation()
                || is_set("ignore_numbers") && c.is_ascii_digit())
        });
        Ok(text)
    };
    Ok(plain(prediction)? == plain(reference)?)
}

/// Whether the options of a metric are understood.
pub fn check_options(metric: &Metric) -> Result<(), String> {
    const KNOWN: [&str; 5] = [
        "ignore_case",
        "ignore_punctuation",
        "ignore_numbers",
        "regexes_to_ignore",
        "hf_evaluate",
    ];
    if let Some(name) = metric
        .options
        .keys()
        .find(|name| !KNOWN.contains(&name.as_str()))
    {
        return Err(format!(
            "the option `{name}` of metric {} is not known",
            super::python::text(&metric.metric)
        ));
    }
    exact_match("", "", &metric.options).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn choices_are_judged_by_sum_by_character_and_by_byte() {
        let choices = ["a".to_owned(), "ééé".to_owned(), "bbbb".to_owned()];
        // Sums −2, −5, −7; per character −2, −1.67, −1.75; per byte −2, −0.83, −1.75.
        let scored = Scored {
            choices: &choices,
            likelihoods: &[(-2.0, false), (-5.0, true), (-7.0, false)],
            unconditional: Some(&[(-1.0, false), (-9.0, false), (-9.0, false)]),
            gold: &[Some(1)],
        };
        let names = [
            "acc",
            "acc_norm",
            "acc_bytes",
            "acc_mutual_info",
            "exact_match",
            "mcc",
        ];
        let found: Vec<String> = multiple_choice(&scored, &names)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            found,
            [
                "acc=0.0",
                "mcc=[1,0]",
                "acc_norm=1.0",
                "acc_bytes=1.0",
                "exact_match=1",
                "acc_mutual_info=1.0"
            ]
        );
        let nowhere = Scored {
            gold: &[None],
            ..scored
        };
        assert_eq!(
            multiple_choice(&nowhere, &["acc"]),
            [("acc".to_owned(), json!(0.0))]
        );
    }

    #[test]
    fn exact_match_ignores_what_it_is_told_to() {
        let options =
            json!({"ignore_case": true, "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"]});
        let options = options.as_object().unwrap();
        assert!(exact_match("1,234.", "so\n#### 1234", options).unwrap());
        assert!(!exact_match("1234.0", "#### 1234", options).unwrap());
        let options = json!({"ignore_punctuation": true, "ignore_numbers": true});
        assert!(exact_match("(B) 2", "B ", options.as_object().unwrap()).unwrap());
    }
}
