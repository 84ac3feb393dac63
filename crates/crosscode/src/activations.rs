//! `crosscode import --activations`: the activation cache of `crosscoder_learning` as a store, read where it lies.
//!
//! Beside a model's folder the cache keeps `tokens.pt` (token ids of the rows) and `sequence_ranges.pt` (first row of each
//! text, and the number of rows). Both are optional there; without them the store has no tokens.

use crate::import::{Args, tokenizer_digest, with_tokenizer};
use anyhow::{Context, ensure};
use dict::foreign::read_numbers;
use std::path::{Path, PathBuf};
use store::tables::Token;
use store::{Cache, Error, Link, Links, Provenance};

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Some(hook) = &args.hook else {
        return Err(cli::Usage(
            "--activations needs --hook: the cache does not say in our words what it holds".into(),
        )
        .into());
    };
    let caches = args
        .activations
        .iter()
        .map(|model| Cache::open(&model.path))
        .collect::<Result<Vec<_>, _>>()?;
    check_order(args, &caches)?;
    let shortest = caches.iter().map(|cache| cache.n_rows).min().unwrap_or(0);
    let ids = token_ids(args, &caches, shortest)?;
    let tokens = match ids {
        Some(ids) => tokens(args, &ids)?,
        None => None,
    };
    report(&caches, tokens.as_deref(), shortest);
    let links = args
        .activations
        .iter()
        .zip(&caches)
        .map(|(model, cache)| Link {
            label: model.label.clone(),
            width: cache.width,
            cache: model.path.display().to_string(),
        });
    let mut links = Links::new(hook, links.collect(), shortest, provenance(args)?);
    links.tokenizer_digest = tokenizer_digest(args)?.unwrap_or_default();
    Ok(links.write(&args.output, tokens.as_deref())?)
}

/// The cache's descriptions stand for it: its shards are too large to be digested.
fn provenance(args: &Args) -> anyhow::Result<Provenance> {
    let mut provenance = Provenance::new("crosscode import", args)?;
    for model in &args.activations {
        provenance = provenance.input(&model.path.join("config.json"))?;
        let tokens = beside(&model.path, "tokens.pt");
        if tokens.is_file() {
            provenance = provenance.input(&tokens)?;
        }
    }
    with_tokenizer(provenance, args)
}

/// A file of the cache beside the folder of a submodule.
fn beside(folder: &Path, name: &str) -> PathBuf {
    folder.parent().unwrap_or(Path::new("")).join(name)
}

/// Shards that were shuffled are shuffled for every model anew: their rows belong together no longer.
fn check_order(args: &Args, caches: &[Cache]) -> anyhow::Result<()> {
    let shuffled = args
        .activations
        .iter()
        .zip(caches)
        .find(|(_, cache)| cache.shuffled);
    if let Some((model, _)) = shuffled.filter(|_| caches.len() > 1) {
        anyhow::bail!(
            "cannot use {}: its rows were shuffled apart from those of the other models, so that they are not of the same tokens",
            model.path.display()
        );
    }
    Ok(())
}

/// Ids of the rows, which all models must share; none when no model has any.
fn token_ids(args: &Args, caches: &[Cache], shortest: usize) -> anyhow::Result<Option<Vec<i64>>> {
    let mut first: Option<(PathBuf, Vec<i64>)> = None;
    for (model, cache) in args.activations.iter().zip(caches) {
        let path = beside(&model.path, "tokens.pt");
        if !path.is_file() {
            ensure!(
                cache.n_rows == shortest && caches.iter().all(|cache| cache.n_rows == shortest),
                "cannot use {}: the caches differ in length, and without {} nothing says that their first rows agree",
                model.path.display(),
                path.display()
            );
            continue;
        }
        let mut ids = read_numbers(&path)?;
        ensure!(
            ids.len() == cache.n_rows,
            "cannot use {}: {} tokens for {} rows",
            path.display(),
            ids.len(),
            cache.n_rows
        );
        ids.truncate(shortest);
        match &first {
            None => first = Some((path, ids)),
            Some((other, known)) => {
                if let Some(row) = known.iter().zip(&ids).position(|(a, b)| a != b) {
                    let values = [known[row].to_string(), ids[row].to_string()];
                    let what = format!("token of row {row}");
                    return Err(
                        Error::disagree(other, &path, &what, [&values[0], &values[1]]).into(),
                    );
                }
            }
        }
    }
    Ok(first.map(|(_, ids)| ids))
}

/// What each row is. Positions count the rows kept of a text: which ones the cache left out is not known.
fn tokens(args: &Args, ids: &[i64]) -> anyhow::Result<Option<Vec<Token>>> {
    let paths = args
        .activations
        .iter()
        .map(|model| beside(&model.path, "sequence_ranges.pt"));
    let Some(path) = paths.into_iter().find(|path| path.is_file()) else {
        return Ok(None);
    };
    let starts = read_numbers(&path)?;
    let rising = starts.array_windows().all(|[a, b]| a <= b);
    ensure!(
        rising
            && starts.first() == Some(&0)
            && starts.last().is_some_and(|&end| end >= ids.len() as i64),
        "cannot use {}: it does not cut {} rows into texts",
        path.display(),
        ids.len()
    );
    let mut tokens = Vec::with_capacity(ids.len());
    let texts = starts
        .array_windows()
        .filter(|[start, end]| start < end)
        .enumerate();
    for (document, [start, end]) in texts {
        let start = ids.len().min(*start as usize);
        let text = &ids[start..ids.len().min(*end as usize)];
        for (pos, &id) in text.iter().enumerate() {
            let token_id = u32::try_from(id)
                .with_context(|| format!("cannot use {}: token {id}", path.display()))?;
            tokens.push(Token {
                row: (start + pos) as u32,
                doc_id: document.to_string(),
                doc_index: document as u32,
                pos: pos as u32,
                token_id,
                role: "text".into(),
                phase: "text".into(),
                special: args.special.contains(&token_id),
            });
        }
    }
    Ok(Some(tokens))
}

fn report(caches: &[Cache], tokens: Option<&[Token]>, n_rows: usize) {
    if caches.iter().any(|cache| cache.n_rows > n_rows) {
        cli::say(&format!(
            "the caches differ in length: the first {n_rows} rows are used"
        ));
    }
    match tokens {
        None => cli::say(
            "the cache does not say which tokens its rows are: texts are not told apart, no special token is left out",
        ),
        Some(tokens) if tokens.iter().all(|token| !token.special) => {
            cli::say("no row is a special token: name the ids of such tokens with --special");
        }
        Some(_) => {}
    }
}
