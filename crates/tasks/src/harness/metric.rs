//! Metrics: values of one document, and how those of all become one with its standard error.

use serde_json::{Map, Value};

use super::config::{Metric, OutputType};
use super::functions::Values;
use super::random::Random;
use super::regex;

/// How values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// Their mean.
    Mean,
    /// The upper median.
    Median,
    /// The mean of those that are numbers.
    NanMean,
    /// e to the minus mean.
    Perplexity,
    /// e to the minus Σ log-likelihood / Σ weight.
    WeightedPerplexity,
    /// −Σ log-likelihood / Σ bytes / ln 2.
    BitsPerByte,
    /// F1 of the class 1.
    F1,
    /// Matthews' correlation coefficient.
    Mcc,
    /// Mean squared distance between probabilities and truth.
    Brier,
    /// The mean over the items of all lists.
    MeanOfItems,
    /// 999, for outputs that are not judged.
    Bypass,
}

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

/// The aggregation a file names.
pub fn aggregation(name: &str) -> Option<Aggregation> {
    Some(match name {
        "mean" => Aggregation::Mean,
        "median" => Aggregation::Median,
        "nanmean" => Aggregation::NanMean,
        "perplexity" => Aggregation::Perplexity,
        "weighted_perplexity" => Aggregation::WeightedPerplexity,
        "bits_per_byte" => Aggregation::BitsPerByte,
        "f1" => Aggregation::F1,
        "matthews_corrcoef" => Aggregation::Mcc,
        "brier_score" => Aggregation::Brier,
        "bypass" => Aggregation::Bypass,
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
    /// Whether the task has several right choices.
    pub several: bool,
}

/// Values of a document of a multiple-choice task.
pub fn multiple_choice(scored: &Scored, metrics: &[&str]) -> Values {
    let sums: Vec<f64> = scored.likelihoods.iter().map(|one| one.0).collect();
    let per = |length: &dyn Fn(&String) -> usize| -> Vec<f64> {
        let choices = scored.choices.iter();
        choices
            .zip(&sums)
            .map(|(choice, sum)| sum / length(choice) as f64)
            .collect()
    };
    let right = |values: &[f64]| f64::from(u8::from(scored.gold.contains(&largest(values))));
    let pair = |second: Value| {
        let gold = scored.gold.first().copied().flatten();
        Value::Array(vec![
            gold.map_or_else(|| (-100).into(), Value::from),
            second,
        ])
    };
    let numbers = |values: &[f64]| {
        values
            .iter()
            .map(|value| Value::from(*value))
            .collect::<Value>()
    };
    let greedy = scored
        .gold
        .iter()
        .flatten()
        .any(|gold| scored.likelihoods.get(*gold).is_some_and(|one| one.1));
    let value = |name: &str| -> Option<Value> {
        Some(match name {
            "acc" => right(&sums).into(),
            "f1" | "mcc" => pair(largest(&sums).into()),
            "acc_norm" => right(&per(&|choice| choice.chars().count())).into(),
            "acc_bytes" => right(&per(&|choice| choice.len())).into(),
            "exact_match" => u8::from(greedy).into(),
            "brier_score" => pair(numbers(&softmax(&sums))),
            "likelihood" => pair(numbers(&sums)),
            "acc_mutual_info" => {
                let unconditional = scored.unconditional?;
                let gain: Vec<f64> = sums
                    .iter()
                    .zip(unconditional)
                    .map(|(sum, alone)| sum - alone.0)
                    .collect();
                right(&gain).into()
            }
            _ => return None,
        })
    };
    let order = [
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
    let asked = order.into_iter().filter(|name| metrics.contains(name));
    asked
        .filter_map(|name| Some((name.to_owned(), value(name)?)))
        .collect()
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

impl Aggregation {
    /// The figure of all values; NaN of none.
    pub fn of(self, values: &[Value]) -> f64 {
        let all: Vec<&Value> = values.iter().collect();
        self.of_drawn(&all)
    }

    fn of_drawn(self, values: &[&Value]) -> f64 {
        let numbers = || {
            values
                .iter()
                .map(|value| number(value))
                .collect::<Vec<f64>>()
        };
        match self {
            Self::Mean => mean(&numbers()),
            Self::NanMean => mean(
                &numbers()
                    .into_iter()
                    .filter(|x| !x.is_nan())
                    .collect::<Vec<f64>>(),
            ),
            Self::Median => {
                let mut numbers = numbers();
                numbers.sort_by(f64::total_cmp);
                numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
            }
            Self::Perplexity => (-mean(&numbers())).exp(),
            Self::WeightedPerplexity => (-weighted_mean(values)).exp(),
            Self::BitsPerByte => -weighted_mean(values) / std::f64::consts::LN_2,
            Self::F1 => f1(&table(values)),
            Self::Mcc => mcc(&table(values)),
            Self::Brier => mean(
                &values
                    .iter()
                    .map(|value| brier(value))
                    .collect::<Vec<f64>>(),
            ),
            Self::MeanOfItems => {
                let items = values
                    .iter()
                    .flat_map(|value| value.as_array().into_iter().flatten());
                mean(&items.map(number).collect::<Vec<f64>>())
            }
            Self::Bypass => 999.0,
        }
    }

    /// Its standard error: of a mean s/√n, of what has no formula by the harness' bootstrap of `draws` draws; none where the
    /// harness gives none, or for a single value.
    pub fn standard_error(self, values: &[Value], draws: usize) -> Option<f64> {
        if values.len() < 2 || draws == 0 {
            return None;
        }
        match self {
            Self::Mean => {
                let numbers: Vec<f64> = values.iter().map(number).collect();
                Some(deviation(&numbers) / (numbers.len() as f64).sqrt())
            }
            Self::Median | Self::NanMean | Self::Perplexity | Self::F1 | Self::Mcc => {
                Some(self.bootstrap(values, draws))
            }
            _ => None,
        }
    }

    /// Deviation over resamples: thousands of them from each seed 0, 1, 2, … of Python's generator.
    fn bootstrap(self, values: &[Value], draws: usize) -> f64 {
        let chunk = draws.min(1000);
        let mut figures = Vec::with_capacity(draws);
        for seed in 0..draws / chunk {
            let mut random = Random::new(seed as u64);
            for _ in 0..chunk {
                let drawn = random.choices(values.len(), values.len());
                let drawn: Vec<&Value> = drawn.into_iter().map(|place| &values[place]).collect();
                figures.push(self.of_drawn(&drawn));
            }
        }
        deviation(&figures)
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Bool(is) => f64::from(u8::from(*is)),
        other => other.as_f64().unwrap_or(f64::NAN),
    }
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// Of a sample: divided by n − 1.
fn deviation(numbers: &[f64]) -> f64 {
    let centre = mean(numbers);
    let squares: f64 = numbers.iter().map(|x| (x - centre).powi(2)).sum();
    (squares / (numbers.len() as f64 - 1.0)).sqrt()
}

fn weighted_mean(values: &[&Value]) -> f64 {
    let sum = |place: usize| {
        values
            .iter()
            .map(|value| number(&value[place]))
            .sum::<f64>()
    };
    sum(0) / sum(1)
}

/// Counts of (gold, predicted), classes in order.
fn table(values: &[&Value]) -> Vec<(i64, i64)> {
    let whole = |value: &Value| value.as_i64().unwrap_or(-100);
    values
        .iter()
        .map(|value| (whole(&value[0]), whole(&value[1])))
        .collect()
}

fn f1(pairs: &[(i64, i64)]) -> f64 {
    let count = |wanted: (bool, bool)| {
        pairs
            .iter()
            .filter(|pair| (pair.0 == 1, pair.1 == 1) == wanted)
            .count() as f64
    };
    let (hits, missed, false_alarms) = (
        count((true, true)),
        count((true, false)),
        count((false, true)),
    );
    let all = 2.0 * hits + missed + false_alarms;
    if all > 0.0 { 2.0 * hits / all } else { 0.0 }
}

/// Of any number of classes: (c·s − Σ t_k p_k)/√((s² − Σ p_k²)(s² − Σ t_k²)), 0 where that has no value.
fn mcc(pairs: &[(i64, i64)]) -> f64 {
    let mut classes: Vec<i64> = pairs.iter().flat_map(|pair| [pair.0, pair.1]).collect();
    classes.sort_unstable();
    classes.dedup();
    let all = pairs.len() as f64;
    let right = pairs.iter().filter(|pair| pair.0 == pair.1).count() as f64;
    let (mut both, mut gold, mut predicted) = (0.0, 0.0, 0.0);
    for class in classes {
        let t = pairs.iter().filter(|pair| pair.0 == class).count() as f64;
        let p = pairs.iter().filter(|pair| pair.1 == class).count() as f64;
        (both, gold, predicted) = (both + t * p, gold + t * t, predicted + p * p);
    }
    let below = ((all * all - predicted) * (all * all - gold)).sqrt();
    if below > 0.0 {
        (right * all - both) / below
    } else {
        0.0
    }
}

fn brier(value: &Value) -> f64 {
    let gold = value[0].as_u64().map(|gold| gold as usize);
    let shares = value[1].as_array().into_iter().flatten();
    shares
        .enumerate()
        .map(|(place, share)| (number(share) - f64::from(u8::from(gold == Some(place)))).powi(2))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
    }

    fn values(value: &Value) -> Vec<Value> {
        value.as_array().unwrap().clone()
    }

    #[test]
    fn choices_are_judged_by_sum_by_character_and_by_byte() {
        let choices = ["a".to_owned(), "ééé".to_owned(), "bbbb".to_owned()];
        // Sums −2, −5, −7; per character −2, −1.67, −1.75; per byte −2, −0.83, −1.75.
        let scored = Scored {
            choices: &choices,
            likelihoods: &[(-2.0, false), (-5.0, true), (-7.0, false)],
            unconditional: Some(&[(-1.0, false), (-9.0, false), (-9.0, false)]),
            gold: &[Some(1)],
            several: false,
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

    #[test]
    fn figures_are_those_of_their_formulas() {
        near(Aggregation::Mean.of(&values(&json!([1, 0, true, 0]))), 0.5);
        near(Aggregation::Median.of(&values(&json!([3, 1, 2, 5]))), 3.0);
        near(
            Aggregation::Perplexity.of(&values(&json!([-1.0, -3.0]))),
            2_f64.exp(),
        );
        near(
            Aggregation::WeightedPerplexity.of(&values(&json!([[-2.0, 1], [-4.0, 2]]))),
            2_f64.exp(),
        );
        near(
            Aggregation::BitsPerByte.of(&values(&json!([[-std::f64::consts::LN_2, 2]]))),
            0.5,
        );
        near(
            Aggregation::F1.of(&values(&json!([[1, 1], [1, 0], [0, 1], [0, 0]]))),
            0.5,
        );
        // TP 2, TN 1, FP 1, FN 0: (2·1 − 1·0)/√(3·2·2·1).
        near(
            Aggregation::Mcc.of(&values(&json!([[1, 1], [1, 1], [0, 0], [0, 1]]))),
            2.0 / 12_f64.sqrt(),
        );
        near(
            Aggregation::Brier.of(&values(&json!([[0, [0.5, 0.5]], [1, [0.0, 1.0]]]))),
            0.25,
        );
        near(
            Aggregation::MeanOfItems.of(&values(&json!([[true, false], [true]]))),
            2.0 / 3.0,
        );
        near(
            Aggregation::Mean
                .standard_error(&values(&json!([1, 0, 1, 0])), 1)
                .unwrap(),
            (1.0_f64 / 12.0).sqrt(),
        );
        assert_eq!(
            Aggregation::Mean.standard_error(&values(&json!([1])), 1),
            None
        );
    }

    #[test]
    fn bootstrapped_errors_are_those_of_the_harness() {
        // lm_eval 0.4.13: bootstrap_stderr(perplexity, …, 2000) and bootstrap_stderr(matthews_corrcoef, …, 1000).
        let likelihoods = values(&json!([-1.0, -2.5, -0.5, -3.0, -2.0]));
        near(
            Aggregation::Perplexity
                .standard_error(&likelihoods, 2000)
                .unwrap(),
            2.789_323_408_271_113,
        );
        let pairs = values(&json!([[1, 1], [0, 1], [1, 1], [0, 0], [1, 0]]));
        near(
            Aggregation::Mcc.standard_error(&pairs, 1000).unwrap(),
            0.457_492_380_400_439_8,
        );
    }
}
