//! How well a dictionary describes activations, model by model.

use dict::{Acts, Codes, Crosscoder, Kept, Moments, Selection};
use stats::{Estimate, bootstrap};
use store::tables::CrosscoderEval;

/// Rows measured at a time.
const CHUNK: usize = 1024;

/// What to measure on.
pub struct Data<'a> {
    /// Dictionary.
    pub dictionary: &'a Crosscoder,
    /// Activations of its models.
    pub acts: &'a Acts,
    /// Rows that take part.
    pub kept: &'a Kept,
    /// Which features count as active.
    pub selection: Selection,
}

/// Sums over rows of one model, in the model's own units.
struct Sums {
    mean: Vec<f64>,
    /// Σ‖e‖² and Σ‖x−x̄‖² of each document.
    documents: Vec<[f64; 2]>,
    /// Σ e.
    error: Vec<f64>,
    /// Σ 1 − ‖e‖²/‖x−x̄‖².
    per_row: f64,
    /// Σ cos(x, x̂).
    cosine: f64,
}

/// One row of the table per model.
pub fn measure(data: &Data<'_>, seed: u64) -> anyhow::Result<Vec<CrosscoderEval>> {
    let Kept {
        rows, documents, ..
    } = data.kept;
    let new = |mean: Vec<f64>| Sums {
        error: vec![0.0; mean.len()],
        mean,
        documents: vec![[0.0; 2]; data.kept.n_documents()],
        per_row: 0.0,
        cosine: 0.0,
    };
    let mut sums: Vec<Sums> = means(data)?.into_iter().map(new).collect();
    let mut fired = vec![false; data.dictionary.n_features];
    let mut active = vec![0; data.dictionary.n_models()];
    let progress = cli::Progress::start("eval", rows.len() as u64, "rows");
    for (rows, documents) in rows.chunks(CHUNK).zip(documents.chunks(CHUNK)) {
        let x = data.acts.pick(rows)?;
        let slices: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
        let codes = data
            .dictionary
            .encode_decoupled(&slices, rows.len(), data.selection);
        for (codes, active) in codes.iter().zip(&mut active) {
            codes
                .features
                .iter()
                .for_each(|&feature| fired[feature as usize] = true);
            *active += codes.len();
        }
        add(&mut sums, data.dictionary, &codes, &x, documents);
        progress.advance(rows.len() as u64);
    }
    progress.finish();
    let dead = fired.iter().filter(|&&fired| !fired).count() as f64 / fired.len() as f64;
    let models = sums.iter().zip(&data.dictionary.labels).zip(active);
    Ok(models
        .map(|((sums, label), active)| CrosscoderEval {
            l0: active as f64 / rows.len() as f64,
            dead,
            ..sums.row(label, rows.len(), seed)
        })
        .collect())
}

/// Mean activation of each model over the rows.
fn means(data: &Data<'_>) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut moments: Vec<Moments> = data
        .acts
        .widths()
        .iter()
        .map(|&width| Moments::new(width))
        .collect();
    for rows in data.kept.rows.chunks(CHUNK) {
        let x = data.acts.pick(rows)?;
        moments
            .iter_mut()
            .zip(x)
            .for_each(|(moments, x)| moments.add(&x));
    }
    Ok(moments.iter().map(Moments::mean).collect())
}

/// Adds a chunk of rows to the sums of every model.
fn add(
    sums: &mut [Sums],
    dictionary: &Crosscoder,
    codes: &[Codes],
    x: &[Vec<f32>],
    documents: &[u32],
) {
    for (model, (sums, x)) in sums.iter_mut().zip(x).enumerate() {
        let width = dictionary.widths[model];
        let reconstruction = dictionary.decode(model, &codes[model]);
        let rows = x
            .chunks(width)
            .zip(reconstruction.chunks(width))
            .zip(documents);
        rows.for_each(|((x, decoded), &document)| sums.add(x, decoded, document as usize));
    }
}

impl Sums {
    fn add(&mut self, x: &[f32], decoded: &[f32], document: usize) {
        let [
            mut square_error,
            mut spread,
            mut product,
            mut length,
            mut decoded_length,
        ] = [0f64; 5];
        for (place, (&x, &decoded)) in x.iter().zip(decoded).enumerate() {
            let (x, decoded) = (f64::from(x), f64::from(decoded));
            let error = decoded - x;
            self.error[place] += error;
            square_error += error * error;
            spread += (x - self.mean[place]).powi(2);
            product += x * decoded;
            length += x * x;
            decoded_length += decoded * decoded;
        }
        self.documents[document][0] += square_error;
        self.documents[document][1] += spread;
        self.per_row += 1.0 - square_error / spread.max(f64::MIN_POSITIVE);
        self.cosine += product / (length * decoded_length).sqrt().max(f64::MIN_POSITIVE);
    }

    fn row(&self, label: &str, n_rows: usize, seed: u64) -> CrosscoderEval {
        let n = n_rows as f64;
        let total = |part: usize| self.documents.iter().map(|sums| sums[part]).sum::<f64>();
        let (error, spread) = (total(0), total(1));
        let offset: f64 = self.error.iter().map(|sum| (sum / n).powi(2)).sum();
        let Estimate { value, low, high } = self.explained_variance(seed);
        CrosscoderEval {
            model: label.to_owned(),
            n_rows: n_rows as u32,
            explained_variance: value,
            explained_variance_low: low,
            explained_variance_high: high,
            explained_variance_centred: 1.0 - (error - n * offset) / spread.max(f64::MIN_POSITIVE),
            explained_variance_per_row: self.per_row / n,
            mse: error / n,
            cosine: self.cosine / n,
            l0: 0.0,
            dead: 0.0,
            ce_clean_nats: None,
            ce_spliced_nats: None,
            ce_zero_nats: None,
            ce_recovered: None,
            ce_recovered_low: None,
            ce_recovered_high: None,
            kl_nats: None,
            kl_nats_low: None,
            kl_nats_high: None,
        }
    }

    /// 1 − Σ‖e‖²/Σ‖x−x̄‖², documents resampled.
    fn explained_variance(&self, seed: u64) -> Estimate {
        bootstrap(self.documents.len(), stats::DRAWS, seed, |drawn| {
            let sum = |part: usize| {
                drawn
                    .iter()
                    .map(|&document| self.documents[document][part])
                    .sum::<f64>()
            };
            1.0 - sum(0) / sum(1).max(f64::MIN_POSITIVE)
        })
    }
}
