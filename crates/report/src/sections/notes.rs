//! How to read the numbers: definitions, choices where the sources are silent, and every file with its digest.

use super::{Report, is_null};
use crate::html::{Page, Table};
use crate::text;
use std::collections::BTreeMap;

/// Definitions, choices and files.
pub(crate) fn write(report: &Report, page: &mut Page) {
    page.section("notes", "Methods and files");
    page.headline(&format!(
        "definitions, choices, and {} with their digests",
        text::plural(report.tables.files.len(), "file")
    ));
    definitions(report, page);
    choices(report, page);
    page.table(&provenance(report), "Every file found and what it says about its making. Inputs as they were named when the file was made.");
    page.table(
        &digests(report),
        "Digests (SHA-256; of a model over its files, of an activation store its manifest).",
    );
}

fn definitions(report: &Report, page: &mut Page) {
    let tables = &report.tables;
    if !tables.samples.is_empty() || !tables.comparisons.is_empty() {
        page.definition("Accuracy", "right answers / documents", "Wilson 95 % interval. Repeated answers to a document: mean of the document, bootstrap over documents; a document counts as right when at least half of its answers are.");
        page.definition(
            "McNemar's test",
            "p = 2·P(X ≤ min(b, c)), X ~ Binomial(b + c, ½)",
            "b documents turned right, c turned wrong; Holm's correction over the tasks of a pair.",
        );
    }
    if !tables.crosscoder_evals.is_empty() {
        page.definition(
            "Explained variance",
            "1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²",
            "Per model; a constant error lowers it.",
        );
    }
    if !tables.drift.is_empty() {
        page.definition("NRN", "‖d_k^T‖₁ / (‖d_k^O‖₁ + ‖d_k^T‖₁)", "1 = tuned only, 0 = base only, 0.5 = shared; divided by √d_model when the widths differ.");
        page.definition(
            "MAS",
            "‖d_k^m‖₁ / Σ_m′ ‖d_k^m′‖₁",
            "Share of a model in a feature's decoder norms; sums to 1 over the models.",
        );
        page.definition("Δnorm", "½ (1 + (‖d^T‖₂ − ‖d^O‖₂) / max)", "Direction: 1 = tuned only, 0 = base only (below 0.1 base, 0.4 to 0.6 shared, above 0.9 tuned). Other tools print 1 − Δnorm.");
        page.definition("Latent scaling", "ν = β_O/β_T, β_m = ⟨d_k^T, Yᵀf_k⟩ / (‖f_k‖² ‖d_k^T‖²)", "Y the error (ν^ε) or the reconstruction (ν^r); a feature is tuned-specific if ν^r < 0.5 and ν^ε < 0.2. arXiv 2504.02922.");
    }
    if !tables.dynamics.is_empty() {
        page.definition("Swap readout", "z_s = enc(h_s in every student slot)", "One checkpoint's activation in both student slots cancels what cannot tell the models apart (arXiv 2609.35210); valid only where the reconstruction keeps its explained variance.");
        page.definition(
            "Overlap",
            "|A ∩ B| / top; Jaccard |A ∩ B| / |A ∪ B|",
            "Of the sets of most specific features of two checkpoints.",
        );
    }
    if !tables.edge_metrics.is_empty() || !tables.edges.is_empty() {
        page.definition("Edge score", "−⟨output of the source, ∂L/∂ input of the target⟩", "Summed over positions; L the mean negative log-likelihood of the model's own first tokens. Positive: ablating the edge raises the loss.");
        page.definition(
            "Activation intensity",
            "mean |W|",
            "Over examples and entries.",
        );
        page.definition(
            "Information complexity",
            "−Σ_b p_b ln(p_b + ε)",
            "p the histogram of |W|, in nats.",
        );
        page.definition(
            "Distribution kurtosis",
            "mean over examples of m₄/m₂² − 3",
            "Of the signed W of one example.",
        );
        page.definition(
            "Diversity",
            "1 − mean pairwise correlation of the examples' edge matrices",
            "",
        );
    }
    if !tables.selections.is_empty() || !tables.scores.is_empty() {
        page.definition("Score", "Score_k(task) = E_x[f_k^after(x) − f_k^before(x)]; kept if > threshold · max_k Score_k(task)", "Over key samples (base wrong, after right); the selected set passes in every selection task.");
    }
    if report.answers.sets.iter().any(|set| !set.arm.is_none()) {
        page.definition(
            "Intervention",
            "h^m ← h^m + Σ_{k∈G} (α − 1) · f_k · d_k^m",
            "α = 0 disables, α > 1 amplifies; what the crosscoder does not explain stays as it is.",
        );
        page.definition("Selected − random", "mean over documents of (right under the selected set − mean right under the random sets)", "Paired bootstrap over documents, the random sets as they are; the strokes in the figures show how much they vary.");
    }
}

/// Points on which the two papers say nothing, and where to find what was done here.
fn choices(report: &Report, page: &mut Page) {
    let tables = &report.tables;
    let mut sentences = Vec::new();
    if !tables.drift.is_empty() || !tables.dynamics.is_empty() {
        sentences.push("arXiv 2604.25011 does not say whether overlap is |A∩B|/50 or Jaccard, nor how checkpoints outside the training triple are read: both overlaps are given, and the readout is a setting (swap by default).");
    }
    if !tables.selections.is_empty() {
        sentences.push("It does not say how f^after and f^before are told apart when one code serves all models, nor which tokens are averaged: settings of `select` (swap readout, answer tokens by default).");
    }
    if report.answers.sets.iter().any(|set| !set.arm.is_none()) {
        sentences.push("It gives no factor for amplifying, no form of the edit and no random control: α is swept and chosen on documents that are not reported, the edit keeps the crosscoder's error, and matched random sets (firing rate × decoder norm × mean activation) stand beside every effect.");
    }
    if !tables.edge_metrics.is_empty() {
        sentences.push("arXiv 2509.21044 does not give the bins, range, ε or logarithm of the complexity, nor whether structural zeros count: settings of `eap metrics` (100 equal bins on [0, max], natural logarithm, ε = 1e-12 by default), with and without the zeros.");
    }
    if sentences.is_empty() {
        return;
    }
    page.heading("Where the papers are silent");
    sentences.iter().for_each(|sentence| page.text(sentence));
    page.text("The settings actually used stand below each section, as the files record them.");
}

fn provenance(report: &Report) -> Table {
    let mut table = Table::new(&["file#", "holds", "made by", "seed>", "from~"]);
    let names: BTreeMap<String, &str> = report
        .tables
        .files
        .iter()
        .filter_map(|file| Some((file.provenance.as_ref()?.id(), file.name.as_str())))
        .collect();
    for file in &report.tables.files {
        let made = file.provenance.as_ref();
        let inputs = made.map_or_else(Vec::new, |made| {
            made.inputs
                .iter()
                .map(|input| shown_input(input, &names))
                .collect()
        });
        let null = if is_null(&file.name) { " (null)" } else { "" };
        table.row(&[
            file.name.clone(),
            format!("{}{null}", file.kind),
            made.map_or_else(
                || text::NONE.to_owned(),
                |made| format!("{} {}", made.program, made.version),
            ),
            made.and_then(|made| made.seed)
                .map_or_else(String::new, |seed| seed.to_string()),
            shortened(&inputs),
        ]);
    }
    table
}

/// An input by the name of the file found here when it is one of them, else as it was given.
fn shown_input(input: &store::Input, names: &BTreeMap<String, &str>) -> String {
    let found = input.provenance_id.as_ref().and_then(|id| names.get(id));
    let given = || {
        input
            .path
            .rsplit('/')
            .take(2)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("/")
    };
    found.map_or_else(given, |name| (*name).to_owned())
}

/// The first few of many inputs.
fn shortened(inputs: &[String]) -> String {
    const SHOWN: usize = 6;
    let more = inputs.len().saturating_sub(SHOWN);
    let shown = inputs[..inputs.len() - more].join(", ");
    if more > 0 {
        format!("{shown} and {more} more")
    } else {
        shown
    }
}

fn digests(report: &Report) -> Table {
    let mut table = Table::new(&["file#", "bytes>", "sha256#"]);
    for file in &report.tables.files {
        table.row(&[
            file.name.clone(),
            text::count(file.input.bytes as usize),
            file.input.sha256.clone(),
        ]);
    }
    table
}
