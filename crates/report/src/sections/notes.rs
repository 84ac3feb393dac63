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
    page.folded(&provenance(report), "Every file found and what it says about its making. Inputs as they were named when the file was made.");
    page.folded(
        &digests(report),
        "Digests (SHA-256; of a model over its files, of an activation store its manifest).",
    );
}

fn definitions(report: &Report, page: &mut Page) {
    let tables = &report.tables;
    let intervened = report.answers.sets.iter().any(|set| !set.arm.is_none());
    let groups: [(bool, &[[&str; 3]]); 7] = [
        (
            !tables.samples.is_empty() || !tables.comparisons.is_empty(),
            &ACCURACY,
        ),
        (!tables.crosscoder_evals.is_empty(), &QUALITY),
        (!tables.drift.is_empty(), &DRIFT),
        (!tables.dynamics.is_empty(), &DYNAMICS),
        (
            !tables.edge_metrics.is_empty() || !tables.edges.is_empty(),
            &EDGES,
        ),
        (
            !tables.selections.is_empty() || !tables.scores.is_empty(),
            &SELECTION,
        ),
        (intervened, &EFFECTS),
    ];
    let shown = groups.iter().filter(|(exists, _)| *exists);
    page.definitions(
        &shown
            .flat_map(|(_, definitions)| definitions.iter().copied())
            .collect::<Vec<_>>(),
    );
}

const ACCURACY: [[&str; 3]; 2] = [
    [
        "Accuracy",
        "right answers / documents",
        "Wilson interval. Where a document was answered more than once: mean over its answers, bootstrap over documents; it counts as right \
         when at least half of its answers are.",
    ],
    [
        "McNemar's test",
        "p = 2·P(X ≤ min(b, c)),  X ~ Binomial(b + c, ½)",
        "b documents turned right, c turned wrong. Corrected by Holm's method over the tasks of a pair.",
    ],
];

const QUALITY: [[&str; 3]; 1] = [[
    "Explained variance",
    "1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²",
    "Per model; a constant error lowers it.",
]];

const DRIFT: [[&str; 3]; 4] = [
    [
        "NRN",
        "‖d_k^T‖₁ / (‖d_k^O‖₁ + ‖d_k^T‖₁)",
        "Of the decoder rows of base (O) and tuned model (T). 1 = tuned only, 0 = base only, 0.5 = shared; norms divided by √(width) when the \
         widths differ. arXiv 2604.25011.",
    ],
    [
        "MAS",
        "‖d_k^m‖₁ / Σ_{m′} ‖d_k^{m′}‖₁",
        "A model's share of a feature's decoder norms; sums to 1 over the models.",
    ],
    [
        "Δnorm",
        "½ (1 + (‖d^T‖₂ − ‖d^O‖₂) / max)",
        "Direction: 1 = tuned only, 0 = base only (below 0.1 base, 0.4 to 0.6 shared, above 0.9 tuned). Other tools print 1 − Δnorm.",
    ],
    [
        "Latent scaling",
        "ν = β_O/β_T,  β_m = ⟨d_k^T, Yᵀf_k⟩ / (‖f_k‖² ‖d_k^T‖²)",
        "Y is the error or the reconstruction. A feature is tuned-specific if ν(reconstruction) < 0.5 and ν(error) < 0.2. arXiv 2504.02922.",
    ],
];

const DYNAMICS: [[&str; 3]; 2] = [
    [
        "Swap readout",
        "z_s = enc(h_s in every student slot)",
        "One checkpoint in both student slots cancels the part of the code that cannot tell the models apart; valid only where the \
         reconstruction keeps its explained variance. arXiv 2609.35210.",
    ],
    [
        "Overlap",
        "|A ∩ B| / top;  Jaccard |A ∩ B| / |A ∪ B|",
        "Of the sets of most specific features of two checkpoints.",
    ],
];

const EDGES: [[&str; 3]; 5] = [
    [
        "Edge score W",
        "−⟨output of the source, ∂L/∂(input of the target)⟩",
        "Summed over positions; L is the mean negative log-likelihood of the model's own first tokens. Positive: ablating the edge raises the \
         loss. arXiv 2509.21044.",
    ],
    [
        "Activation intensity",
        "mean |W|",
        "Over examples and entries.",
    ],
    [
        "Information complexity",
        "−Σ_b p_b ln(p_b + ε)",
        "p: histogram of |W| over examples and entries; in nats.",
    ],
    [
        "Distribution kurtosis",
        "mean of m₄/m₂² − 3",
        "Of the signed W of one example, then over examples.",
    ],
    [
        "Diversity",
        "1 − mean pairwise correlation",
        "Of the examples' edge matrices.",
    ],
];

const SELECTION: [[&str; 3]; 1] = [[
    "Score",
    "E_x[f_k^{after}(x) − f_k^{base}(x)] > threshold · max_k",
    "Over key samples x (base wrong, model after right); a selected feature passes in every selection task. arXiv 2604.25011. Where lowered \
     features count too (ours), |E_x[…]| stands on both sides and the sign σ_k = ±1 must agree in every task.",
]];

const EFFECTS: [[&str; 3]; 2] = [
    [
        "Intervention",
        "h^m ← h^m + Σ_{k∈G} σ_k (α − 1) f_k d_k^m",
        "α = 0 disables, α > 1 amplifies the set G (σ_k = 1; −1 for a feature that training lowered: the reverse); what the crosscoder does not explain stays as it is.",
    ],
    [
        "Selected − random",
        "mean over documents of (right under the set − mean right under random sets)",
        "Paired bootstrap over documents with the random sets as they are; the strokes in the figures show how far the sets vary.",
    ],
];

/// Points on which the two papers say nothing, and where to find what was done here.
fn choices(report: &Report, page: &mut Page) {
    let tables = &report.tables;
    let mut sentences = Vec::new();
    if !tables.drift.is_empty() || !tables.dynamics.is_empty() {
        sentences.push("arXiv 2604.25011 does not say whether overlap is |A∩B|/50 or Jaccard, nor how checkpoints outside the training triple are read: both overlaps are given, and the readout is a setting (swap by default).");
    }
    if !tables.selections.is_empty() {
        sentences.push("It does not say how the two models' activations are told apart when one code serves all models, nor which tokens are averaged: settings of `select` (swap readout, answer tokens by default).");
    }
    if report.answers.sets.iter().any(|set| !set.arm.is_none()) {
        sentences.push("It gives no factor for amplifying, no form of the edit and no random control: α is swept and chosen on documents that are not reported, the edit keeps the crosscoder's error, and matched random sets (firing rate × decoder norm × mean activation) stand beside every effect.");
    }
    if !tables.edge_metrics.is_empty() {
        sentences.push("arXiv 2509.21044 does not give the bins, range, ε or logarithm of the complexity, nor whether structural zeros count: settings of `eap metrics` (100 equal bins on [0, max], natural logarithm, ε = 10⁻¹² by default), with and without the zeros.");
    }
    if sentences.is_empty() {
        return;
    }
    page.heading("Where the papers are silent");
    for sentence in sentences {
        page.text(sentence);
    }
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
