//! The metrics of a task: those its file lists, or those of its kind.

use serde_json::{Map, Value};

use super::aggregation::{Aggregation, aggregation};
use super::config::{Config, Metric};
use super::functions::{Native, native};
use super::metric;
use super::task::Part;

/// A metric of a task, ready for use.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Its name in results.
    pub name: String,
    /// How values become one.
    pub aggregation: Aggregation,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// What it is told.
    pub options: Map<String, Value>,
}

/// The metrics of a task.
pub(super) fn measures(config: &Config) -> Part<Vec<Measure>> {
    let Some(list) = &config.metric_list else {
        let names = metric::defaults(config.output_type).iter();
        return Ok(names
            .filter_map(|name| measure(&(*name).into(), None, config).ok())
            .collect());
    };
    list.iter()
        .map(|metric| measure(&metric.metric, Some(metric), config))
        .collect()
}

fn measure(name: &Value, listed: Option<&Metric>, config: &Config) -> Part<Measure> {
    let name = name
        .as_str()
        .ok_or_else(|| format!("the metric {name} needs Python"))?;
    let known = metric::known(name);
    if known.is_none() && config.process_results.is_none() {
        return Err(format!("the metric {name} is not known"));
    }
    if config.process_results.is_none()
        && let Some(listed) = listed
    {
        metric::check_options(listed)?;
    }
    let (usual, higher_is_better) = known.unwrap_or((Aggregation::Mean, true));
    let aggregation = match listed.and_then(|listed| listed.aggregation.as_ref()) {
        None => usual,
        Some(Value::String(name)) => {
            aggregation(name).ok_or_else(|| format!("the aggregation {name} is not known"))?
        }
        Some(function) => match function.get(super::yaml::FUNCTION).and_then(Value::as_str) {
            Some(name) => match native(name, config)? {
                Native::MeanOfItems => Aggregation::MeanOfItems,
                _ => return Err(format!("the function {name} does not aggregate")),
            },
            None => return Err(format!("the aggregation {function} is not known")),
        },
    };
    Ok(Measure {
        name: name.to_owned(),
        aggregation,
        higher_is_better: listed
            .and_then(|listed| listed.higher_is_better)
            .unwrap_or(higher_is_better),
        options: listed
            .map(|listed| listed.options.clone())
            .unwrap_or_default(),
    })
}
