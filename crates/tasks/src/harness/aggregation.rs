//! How the values of all documents become one, with its standard error.

use serde_json::Value;

use super::random::Random;

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

/// Of any number of classes: `(c·s − Σ t_k p_k)/√((s² − Σ p_k²)(s² − Σ t_k²))`, 0 where that has no value.
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
