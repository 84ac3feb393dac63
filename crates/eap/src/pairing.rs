//! Two tables of edges side by side: the examples and truncations both have.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::edges::{Alpha, EdgeMaps};

/// Reads a table that has a row per example.
pub fn load(path: &Path) -> anyhow::Result<EdgeMaps> {
    let edges = EdgeMaps::read(&[path.to_path_buf()]).and_then(EdgeMaps::with_examples);
    edges.with_context(|| format!("cannot use {}", path.display()))
}

/// Refuses tables that say they were scored in different ways.
pub fn refuse_other_methods(paths: [&PathBuf; 2]) -> anyhow::Result<()> {
    let mut ways: BTreeMap<String, PathBuf> = BTreeMap::new();
    let files = store::expand(&paths.map(Clone::clone), "parquet")?;
    for file in files.into_iter().filter(|file| file != Path::new("-")) {
        let settings = store::table_provenance(&file)?.settings;
        let named = |key: &str| settings[key].as_str().map(String::from);
        if let Some((method, metric)) = named("method").zip(named("metric")) {
            // Tables that do not say so have the ablation their method always had.
            let ablation = named("ablation")
                .filter(|ablation| {
                    ablation
                        != if method == "eap-zero" {
                            "zero"
                        } else {
                            "corrupted"
                        }
                })
                .map_or_else(String::new, |ablation| format!(" by {ablation} ablation"));
            ways.entry(format!("{method} of {metric}{ablation}"))
                .or_insert(file);
        }
    }
    let found: Vec<String> = ways
        .iter()
        .map(|(way, file)| format!("{way} ({})", file.display()))
        .collect();
    ensure!(
        found.len() < 2,
        "cannot compare scores of different kinds: {}",
        found.join(", ")
    );
    Ok(())
}

/// The examples two models have in common under one truncation, in the same order.
#[derive(Debug, Clone)]
pub struct Pairing<'a> {
    /// The truncation.
    pub alpha: Alpha,
    /// Matrices of the model before.
    pub before: Vec<&'a Vec<f64>>,
    /// Matrices of the model after.
    pub after: Vec<&'a Vec<f64>>,
}

/// Pairs the examples under every truncation both tables have.
///
/// # Errors
/// When they have no document or no truncation in common.
pub fn pair<'a>(before: &'a EdgeMaps, after: &'a EdgeMaps) -> anyhow::Result<Vec<Pairing<'a>>> {
    let mut pairings = Vec::new();
    for (&alpha, maps) in &before.maps {
        let Some(others) = after.maps.get(&alpha) else {
            continue;
        };
        let common = maps
            .iter()
            .filter_map(|(key, map)| others.get(key).map(|other| (map, other)));
        let (before, after): (Vec<_>, Vec<_>) = common.unzip();
        ensure!(
            !before.is_empty(),
            "the two tables have no document in common"
        );
        say_what_is_left_out(alpha, before.len(), [maps, others]);
        pairings.push(Pairing {
            alpha,
            before,
            after,
        });
    }
    ensure!(
        !pairings.is_empty(),
        "the two tables have no truncation α in common"
    );
    Ok(pairings)
}

fn say_what_is_left_out(alpha: Alpha, n: usize, maps: [&BTreeMap<String, Vec<f64>>; 2]) {
    let [only_before, only_after] = maps.map(|maps| maps.len() - n);
    if only_before + only_after > 0 {
        let alpha = alpha
            .value()
            .map_or_else(String::new, |alpha| format!("α {alpha}: "));
        cli::say(&format!(
            "{alpha}{n} documents in common; left out: {only_before} only before, {only_after} only after"
        ));
    }
}
