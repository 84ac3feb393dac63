//! Documents that belong together, such as questions on one passage: they are no independent evidence.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::pairing::Pair;

/// Cluster by document, and by task and document where lines name a task.
#[derive(Debug, Default)]
pub struct Clusters {
    by_document: BTreeMap<String, String>,
    by_task: BTreeMap<(String, String), String>,
}

#[derive(Deserialize)]
struct Line {
    task: Option<String>,
    doc_id: Value,
    cluster: Value,
}

/// Reads JSON lines with `doc_id`, `cluster` and, where document ids of several tasks are the same, `task`.
pub fn read(path: &Path) -> Result<Clusters> {
    let text = store::read_text(path)?;
    let mut clusters = Clusters::default();
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    for (number, line) in lines {
        let context = || format!("cannot read {} line {number}", path.display());
        let line: Line = serde_json::from_str(line).with_context(context)?;
        let [document, cluster] = [line.doc_id, line.cluster].map(|value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        });
        match line.task {
            Some(task) => clusters.by_task.insert((task, document), cluster),
            None => clusters.by_document.insert(document, cluster),
        };
    }
    Ok(clusters)
}

/// Places of the documents of each cluster; every document by itself where there are none.
pub fn groups(clusters: Option<&Clusters>, task: &str, pairs: &[Pair]) -> Result<Vec<Vec<usize>>> {
    let Some(clusters) = clusters else {
        return Ok((0..pairs.len()).map(|place| vec![place]).collect());
    };
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, pair) in pairs.iter().enumerate() {
        let named = clusters
            .by_task
            .get(&(task.to_owned(), pair.doc_id.to_owned()));
        let cluster = named.or_else(|| clusters.by_document.get(pair.doc_id));
        let cluster = cluster
            .with_context(|| format!("cannot cluster {task}/{}: no line names it", pair.doc_id))?;
        groups.entry(cluster).or_default().push(place);
    }
    Ok(groups.into_values().collect())
}

/// Two-sided test that the mean change is 0: the signs of whole clusters flipped at random.
pub fn sign_test(changes: &[f64], groups: &[Vec<usize>], draws: usize, seed: u64) -> f64 {
    let sums: Vec<f64> = groups
        .iter()
        .map(|group| group.iter().map(|place| changes[*place]).sum())
        .collect();
    let opposite: Vec<f64> = sums.iter().map(|sum| -sum).collect();
    let [above, below] = [sums, opposite].map(|sums| stats::permutation_sign(&sums, draws, seed));
    (2.0 * above.min(below)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_read_by_task_or_by_document_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"doc_id\": 1, \"cluster\": \"p\"}\n{\"task\": \"t\", \"doc_id\": \"2\", \"cluster\": 7}\n").unwrap();
        let clusters = read(file.path()).unwrap();
        let pair = |doc_id| Pair {
            doc_id,
            a: Vec::new(),
            b: Vec::new(),
        };
        assert_eq!(
            groups(Some(&clusters), "t", &[pair("1"), pair("2"), pair("1")]).unwrap(),
            [vec![1], vec![0, 2]]
        );
        assert_eq!(
            groups(None, "t", &[pair("1"), pair("2")]).unwrap(),
            [vec![0], vec![1]]
        );
        let error = groups(Some(&clusters), "u", &[pair("2")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("u/2"), "{error}");
    }

    #[test]
    fn clusters_count_as_one() {
        // Eight changes of one sign are evidence, unless they come from two clusters: then each sign has chance ½.
        let changes = [1.0; 8];
        let alone: Vec<Vec<usize>> = (0..8).map(|place| vec![place]).collect();
        assert!(sign_test(&changes, &alone, 4000, 0) < 0.02);
        let two = [vec![0, 1, 2, 3], vec![4, 5, 6, 7]];
        assert!(sign_test(&changes, &two, 4000, 0) > 0.4);
        assert!((sign_test(&[1.0, -1.0], &alone[..2], 4000, 0) - 1.0).abs() < 1e-9);
    }
}
