//! Several activation stores seen as one: the rows of the first, then those of the second, and so on.

use crate::crosscoder::Crosscoder;
use std::ops::Range;
use std::path::{Path, PathBuf};
use store::tables::Token;
use store::{ActivationStore, Error, Result};

/// Activations of some models at one hook.
#[derive(Debug)]
pub struct Acts {
    stores: Vec<ActivationStore>,
    labels: Vec<String>,
    /// For each store, where each model is among its labels.
    places: Vec<Vec<usize>>,
    widths: Vec<usize>,
    hook: String,
    /// First row of each store, then the number of rows.
    starts: Vec<usize>,
}

impl Acts {
    /// Opens stores that must agree. `models` chooses and orders the models (all of the first store when empty), `hook` the
    /// hook (the only one when not given).
    pub fn open(paths: &[PathBuf], models: &[String], hook: Option<&str>) -> Result<Self> {
        Self::of(open_all(paths)?, models, hook)
    }

    /// The activations of a dictionary's models at its hook; refuses what contradicts the dictionary and names both files.
    ///
    /// `models` says what the stores call the dictionary's models, when the labels differ. A bare file that names no models
    /// holds them in order.
    pub fn of_dictionary(
        dictionary: &Crosscoder,
        path: &Path,
        acts: &[PathBuf],
        models: &[String],
    ) -> Result<Self> {
        let stores = open_all(acts)?;
        let labels = if models.is_empty() {
            dictionary.labels.as_slice()
        } else {
            models
        };
        let nameless = |store: &ActivationStore| {
            let unnamed = |label: &String| label.starts_with("model-");
            store.manifest().is_none() && store.labels().iter().all(unnamed)
        };
        let in_order = models.is_empty() && stores.iter().all(nameless);
        let hook = stores
            .iter()
            .all(|store| store.hooks().contains(&dictionary.hook))
            .then_some(dictionary.hook.as_str());
        let labels: &[String] = if in_order { &[] } else { labels };
        let acts = Self::of(stores, labels, hook)?;
        acts.check_dictionary(dictionary, path)?;
        Ok(acts)
    }

    fn of(stores: Vec<ActivationStore>, models: &[String], hook: Option<&str>) -> Result<Self> {
        let first = &stores[0];
        let labels = if models.is_empty() {
            first.labels().to_vec()
        } else {
            models.to_vec()
        };
        let hook = choose_hook(first, hook)?;
        let places = stores
            .iter()
            .map(|store| places(store, &labels))
            .collect::<Result<Vec<_>>>()?;
        let widths = places[0].iter().map(|&place| first.width(place)).collect();
        let mut starts = vec![0];
        for store in &stores {
            starts.push(starts[starts.len() - 1] + store.n_rows());
        }
        let acts = Self {
            stores,
            labels,
            places,
            widths,
            hook,
            starts,
        };
        acts.check_agreement()?;
        match u32::try_from(acts.n_rows()) {
            Ok(0) => Err(invalid(acts.path(), "it holds no rows".into())),
            Ok(_) => Ok(acts),
            Err(_) => Err(invalid(
                acts.path(),
                format!("{} rows are more than 2³²", acts.n_rows()),
            )),
        }
    }

    /// The first store, for messages.
    pub fn path(&self) -> &Path {
        self.stores[0].path()
    }

    /// Labels of the models chosen.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Width of each model chosen.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// Number of models chosen.
    pub fn n_models(&self) -> usize {
        self.labels.len()
    }

    /// The hook; `unknown` for a bare file that does not name it.
    pub fn hook(&self) -> &str {
        &self.hook
    }

    /// Rows of all stores.
    pub fn n_rows(&self) -> usize {
        self.starts[self.stores.len()]
    }

    /// Digest of the tokenizer; empty when unknown.
    pub fn tokenizer_digest(&self) -> &str {
        self.stores[0].tokenizer_digest()
    }

    /// Digest of the tokens; of several stores, their digests joined by `+`; empty when unknown.
    pub fn token_digest(&self) -> String {
        let digests: Vec<&str> = self
            .stores
            .iter()
            .map(ActivationStore::token_digest)
            .collect();
        if digests.contains(&"") {
            String::new()
        } else {
            digests.join("+")
        }
    }

    /// What each row is, rows and documents numbered through; `None` when one of the stores does not know.
    pub fn tokens(&self) -> Result<Option<Vec<Token>>> {
        if !self.stores.iter().all(ActivationStore::has_tokens) {
            return Ok(None);
        }
        let mut all: Vec<Token> = Vec::with_capacity(self.n_rows());
        for (store, start) in self.stores.iter().zip(&self.starts) {
            let documents = all.last().map_or(0, |token| token.doc_index + 1);
            all.extend(store.tokens()?.into_iter().map(|token| Token {
                row: token.row + *start as u32,
                doc_index: token.doc_index + documents,
                ..token
            }));
        }
        Ok(Some(all))
    }

    /// Appends consecutive rows of a model `[rows, d_model]`.
    fn append(&self, model: usize, rows: &Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        for (number, store) in self.stores.iter().enumerate() {
            let (first, end) = (self.starts[number], self.starts[number + 1]);
            let part = rows.start.max(first)..rows.end.min(end);
            if !part.is_empty() {
                let part = part.start - first..part.end - first;
                store.append(self.places[number][model], &self.hook, part, out)?;
            }
        }
        Ok(())
    }

    /// Replaces `out` by consecutive rows of a model `[rows, d_model]`.
    pub fn read(&self, model: usize, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        self.append(model, &rows, out)
    }

    /// Consecutive rows of every model.
    pub fn read_all(&self, rows: &Range<usize>) -> Result<Vec<Vec<f32>>> {
        let mut x = vec![Vec::new(); self.n_models()];
        for (model, x) in x.iter_mut().enumerate() {
            self.append(model, rows, x)?;
        }
        Ok(x)
    }

    /// Chosen rows of every model, ascending.
    pub fn pick(&self, rows: &[u32]) -> Result<Vec<Vec<f32>>> {
        let mut x = vec![Vec::new(); self.n_models()];
        self.append_rows(rows, &mut x)?;
        Ok(x)
    }

    /// Appends chosen rows of every model, ascending: neighbours are read in one piece.
    pub fn append_rows(&self, rows: &[u32], x: &mut [Vec<f32>]) -> Result<()> {
        for run in rows.chunk_by(|a, b| a + 1 == *b) {
            let range = run[0] as usize..run[0] as usize + run.len();
            for (model, x) in x.iter_mut().enumerate() {
                self.append(model, &range, x)?;
            }
        }
        Ok(())
    }

    /// Ranges of at most `n` rows that cover all rows in order.
    pub fn chunks(&self, n: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let n_rows = self.n_rows();
        (0..n_rows)
            .step_by(n)
            .map(move |start| start..n_rows.min(start + n))
    }

    /// Every store has the hook, the widths and the tokenizer of the first.
    fn check_agreement(&self) -> Result<()> {
        let first = &self.stores[0];
        for (store, places) in self.stores.iter().zip(&self.places).skip(1) {
            let differ = |what: &str, ours: &str, theirs: &str| {
                Err(Error::disagree(
                    first.path(),
                    store.path(),
                    what,
                    [ours, theirs],
                ))
            };
            if !store.hooks().contains(&self.hook) {
                return differ("hook", &self.hook, &store.hooks().join(", "));
            }
            if store.tokenizer_digest() != first.tokenizer_digest() {
                return differ(
                    "tokenizer",
                    first.tokenizer_digest(),
                    store.tokenizer_digest(),
                );
            }
            for ((place, width), label) in places.iter().zip(&self.widths).zip(&self.labels) {
                let theirs = store.width(*place);
                if theirs != *width {
                    return differ(
                        &format!("width of {label}"),
                        &width.to_string(),
                        &theirs.to_string(),
                    );
                }
            }
        }
        Ok(())
    }

    /// The dictionary at `path` was trained on this hook and tokenizer, as far as both sides know.
    pub fn check_origin(&self, dictionary: &Crosscoder, path: &Path) -> Result<()> {
        let differ = |what: &str, ours: &str, theirs: &str| {
            Err(Error::disagree(path, self.path(), what, [ours, theirs]))
        };
        if contradict(&dictionary.hook, &self.hook) {
            return differ("hook", &dictionary.hook, &self.hook);
        }
        if contradict(&dictionary.tokenizer_digest, self.tokenizer_digest()) {
            return differ(
                "tokenizer",
                &dictionary.tokenizer_digest,
                self.tokenizer_digest(),
            );
        }
        Ok(())
    }

    /// The dictionary at `path` has the same origin, as many models, and their widths.
    fn check_dictionary(&self, dictionary: &Crosscoder, path: &Path) -> Result<()> {
        let differ = |what: &str, ours: &str, theirs: &str| {
            Err(Error::disagree(path, self.path(), what, [ours, theirs]))
        };
        if self.n_models() != dictionary.n_models() {
            return differ(
                "number of models",
                &dictionary.n_models().to_string(),
                &self.n_models().to_string(),
            );
        }
        self.check_origin(dictionary, path)?;
        for ((label, ours), theirs) in dictionary
            .labels
            .iter()
            .zip(&dictionary.widths)
            .zip(&self.widths)
        {
            if ours != theirs {
                return differ(
                    &format!("width of {label}"),
                    &ours.to_string(),
                    &theirs.to_string(),
                );
            }
        }
        Ok(())
    }
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<ActivationStore>> {
    if paths.is_empty() {
        return Err(invalid(Path::new("-"), "no activations were given".into()));
    }
    paths
        .iter()
        .map(|path| ActivationStore::open(path))
        .collect()
}

fn invalid(path: &Path, cause: String) -> Error {
    Error::Invalid {
        path: path.to_owned(),
        cause,
    }
}

/// Whether two files both say something, and not the same.
fn contradict(ours: &str, theirs: &str) -> bool {
    let known = |value: &str| !value.is_empty() && value != "unknown";
    known(ours) && known(theirs) && ours != theirs
}

/// The hook asked for, or the only one there is.
fn choose_hook(store: &ActivationStore, hook: Option<&str>) -> Result<String> {
    let hooks = store.hooks();
    let listed = hooks.join(", ");
    match (hook, hooks) {
        (Some(hook), _) if hooks.iter().any(|known| known == hook) => Ok(hook.to_owned()),
        (Some(hook), _) => Err(invalid(
            store.path(),
            format!("there is no hook {hook}, it holds {listed}"),
        )),
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(invalid(
            store.path(),
            format!("it holds the hooks {listed}: one must be chosen"),
        )),
    }
}

/// Where each label is in a store.
fn places(store: &ActivationStore, labels: &[String]) -> Result<Vec<usize>> {
    let place = |label: &String| {
        let found = store.labels().iter().position(|known| known == label);
        let listed = store.labels().join(", ");
        found.ok_or_else(|| {
            invalid(
                store.path(),
                format!("there is no model {label}, it holds {listed}"),
            )
        })
    };
    labels.iter().map(place).collect()
}
