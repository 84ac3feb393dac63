//! The figures of results files: of every task and metric with its standard error, and of groups.

use serde_json::{Map, Value, json};
use tasks::harness::aggregation::Aggregation;
use tasks::harness::functions::Values;
use tasks::harness::groups::Aggregate;
use tasks::harness::{Group, Task};

/// Resamples of a bootstrapped standard error, as the harness draws them.
pub const DRAWS: usize = 100_000;

/// The values of one metric under one filter, in the order of the documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Metric.
    pub metric: String,
    /// Pipeline of filters.
    pub filter: String,
    /// Values.
    pub values: Vec<Value>,
}

/// Adds a document's values to the columns.
pub fn add(columns: &mut Vec<Column>, filter: &str, values: &Values) {
    for (metric, value) in values {
        let known = columns
            .iter_mut()
            .find(|column| column.metric == *metric && column.filter == filter);
        match known {
            Some(column) => column.values.push(value.clone()),
            None => columns.push(Column {
                metric: metric.clone(),
                filter: filter.to_owned(),
                values: vec![value.clone()],
            }),
        }
    }
}

/// Figures by task and group, in order.
#[derive(Debug, Default)]
pub struct Figures {
    /// `results` of the file.
    pub results: Map<String, Value>,
    /// `groups` of the file.
    pub groups: Map<String, Value>,
}

impl Figures {
    /// Adds a task.
    pub fn add(&mut self, task: &Task, columns: &[Column]) {
        let alias = task.config().task_alias.as_deref().unwrap_or(task.name());
        let n = columns
            .iter()
            .map(|column| column.values.len())
            .max()
            .unwrap_or(0);
        let mut figures = Map::new();
        figures.insert("name".to_owned(), task.name().into());
        figures.insert("alias".to_owned(), alias.into());
        figures.insert("sample_len".to_owned(), n.into());
        for Column {
            metric,
            filter,
            values,
        } in columns
        {
            let measure = task.measures.iter().find(|measure| measure.name == *metric);
            let aggregation = measure.map_or(Aggregation::Mean, |measure| measure.aggregation);
            figures.insert(format!("{metric},{filter}"), number(aggregation.of(values)));
            let error = aggregation.standard_error(values, DRAWS);
            figures.insert(
                format!("{metric}_stderr,{filter}"),
                error.map_or_else(|| "N/A".into(), number),
            );
        }
        self.results
            .insert(task.name().to_owned(), Value::Object(figures));
    }

    /// Adds groups, those within others first.
    pub fn add_groups(&mut self, groups: &[Group]) {
        for group in groups {
            let figures = self.group(group);
            self.results.insert(group.name.clone(), figures.clone());
            if !group.aggregates.is_empty() {
                self.groups.insert(group.name.clone(), figures);
            }
        }
    }

    fn group(&self, group: &Group) -> Value {
        let alias = group.alias.as_deref().unwrap_or(&group.name);
        let mut figures = Map::new();
        figures.insert("alias".to_owned(), alias.into());
        figures.insert("name".to_owned(), group.name.as_str().into());
        if group.aggregates.is_empty() {
            return Value::Object(figures);
        }
        let leaves = group
            .leaves
            .iter()
            .filter_map(|name| self.results.get(name));
        let leaves: Vec<&Value> = leaves.collect();
        let n: u64 = leaves.iter().map(|leaf| size(leaf)).sum();
        figures.insert("sample_len".to_owned(), n.into());
        let mut counts = Map::new();
        for aggregate in &group.aggregates {
            for filter in filters(&aggregate.metric, aggregate.filter_list.as_ref(), &leaves) {
                aggregated(aggregate, &filter, &leaves, (&mut figures, &mut counts));
            }
        }
        if !counts.is_empty() {
            figures.insert("sample_count".to_owned(), Value::Object(counts));
        }
        Value::Object(figures)
    }
}

/// Documents of a task.
fn size(leaf: &Value) -> u64 {
    leaf["sample_len"].as_u64().unwrap_or(0)
}

/// Adds a group's figure of one metric under one filter, over the tasks that have it.
fn aggregated(
    aggregate: &Aggregate,
    filter: &str,
    leaves: &[&Value],
    (figures, counts): (&mut Map<String, Value>, &mut Map<String, Value>),
) {
    let key = format!("{},{filter}", aggregate.metric);
    let error_key = format!("{}_stderr,{filter}", aggregate.metric);
    let having = leaves.iter().filter(|leaf| leaf.get(&key).is_some());
    let having: Vec<&&Value> = having.collect();
    if having.is_empty() {
        return;
    }
    let number_of = |leaf: &&&Value| leaf[&key].as_f64().unwrap_or(f64::NAN);
    let values: Vec<f64> = having.iter().map(number_of).collect();
    let sizes: Vec<f64> = having.iter().map(|leaf| size(leaf) as f64).collect();
    let errors: Option<Vec<f64>> = having
        .iter()
        .map(|leaf| leaf[&error_key].as_f64())
        .collect();
    let (value, error) = if aggregate.weight_by_size {
        (
            weighted(&values, &sizes),
            errors.map(|errors| pooled(&errors, &sizes)),
        )
    } else {
        let ones = vec![1.0; values.len()];
        (
            weighted(&values, &ones),
            errors.map(|errors| of_mean(&errors)),
        )
    };
    let n: u64 = having.iter().map(|leaf| size(leaf)).sum();
    figures.insert(key.clone(), number(value));
    figures.insert(error_key, error.map_or_else(|| "N/A".into(), number));
    counts.insert(key, n.into());
}

fn number(value: f64) -> Value {
    // NaN is spelled so in these files, which JSON has no number for.
    serde_json::Number::from_f64(value).map_or_else(|| json!("NaN"), Value::Number)
}

/// The filters a group's metric is taken over: those listed, else all under which a task has it.
fn filters(metric: &str, listed: Option<&Value>, leaves: &[&Value]) -> Vec<String> {
    match listed {
        Some(Value::String(one)) => return vec![one.clone()],
        Some(Value::Array(several)) => {
            return several
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
        }
        _ => {}
    }
    let keys = leaves
        .iter()
        .filter_map(|leaf| leaf.as_object())
        .flat_map(Map::keys);
    let prefix = format!("{metric},");
    let mut filters: Vec<String> = keys
        .filter_map(|key| key.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect();
    filters.sort();
    filters.dedup();
    filters
}

fn weighted(values: &[f64], weights: &[f64]) -> f64 {
    let sum: f64 = values
        .iter()
        .zip(weights)
        .map(|(value, weight)| value * weight)
        .sum();
    sum / weights.iter().sum::<f64>()
}

/// Standard error of all documents together, from those of the tasks: the pooled variance over their number.
fn pooled(errors: &[f64], sizes: &[f64]) -> f64 {
    let all: f64 = sizes.iter().sum();
    let squares: f64 = errors
        .iter()
        .zip(sizes)
        .map(|(error, n)| (n - 1.0) * error * error * n)
        .sum();
    (squares / (all - sizes.len() as f64) / all).sqrt()
}

/// Of the unweighted mean of independent tasks.
fn of_mean(errors: &[f64]) -> f64 {
    errors.iter().map(|error| error * error).sum::<f64>().sqrt() / errors.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_groups_are_pooled_or_averaged() {
        // lm_eval 0.4.13: pooled_sample_stderr([.1, .2], [10, 5]) and unweighted_mean_stderr([.3, .4]).
        assert!((pooled(&[0.1, 0.2], &[10.0, 5.0]) - 0.093_369_956_184_785_26).abs() < 1e-15);
        assert!((of_mean(&[0.3, 0.4]) - 0.25).abs() < 1e-15);
        assert!((weighted(&[1.0, 0.0], &[3.0, 1.0]) - 0.75).abs() < 1e-15);
    }
}
