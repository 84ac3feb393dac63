//! Which features each tuned model made its own: NRN, MAS and Δnorm beside the identical-pair null.

use super::drift_reading::{headline, reading};
use super::{Report, is_null, options};
use crate::html::{Page, Table};
use crate::paired::SEED;
use crate::svg::Style;
use crate::svg::histogram::{Distribution, Histogram};
use crate::text;
use stats::Estimate;
use std::collections::BTreeMap;
use store::tables::Drift;

/// A feature counts as in the tail when its NRN is at least this far from 0.5.
pub(super) const TAIL: f64 = 0.1;

/// Live features of one dictionary seen from one tuned model.
pub(super) struct Family<'a> {
    pub file: &'a str,
    pub tuned: &'a str,
    /// Whether another dictionary has the same pair: then the file is named with it.
    is_repeated: bool,
    pub is_null: bool,
    pub is_pair: bool,
    pub live: Vec<&'a Drift>,
    pub n_dead: usize,
}

/// Distributions, tails and classes.
pub(crate) fn write(report: &Report, page: &mut Page) {
    let families = families(report);
    if families.is_empty() {
        return;
    }
    page.section("drift", "Features: shared or specific");
    page.headline(&headline(&families));
    page.reading(&reading(&families));
    figures(report, page, &families);
    page.table(
        &tails(&families),
        &format!(
            "Spread of NRN over live features. Tails: share of features with NRN below {} or above {}, with Wilson intervals; standard \
             deviation with bootstrap interval. 0 = base only, 0.5 = shared, 1 = tuned only.",
            text::fixed(0.5 - TAIL, 1),
            text::fixed(0.5 + TAIL, 1)
        ),
    );
    page.table(
        &classes(&families),
        "Features by class. Share of all features of the dictionary in brackets, %.",
    );
    scaling(page, &families);
    options::print(report, page, families.iter().map(|family| family.file));
}

fn families(report: &Report) -> Vec<Family<'_>> {
    let mut all = Vec::new();
    for table in &report.tables.drift {
        let mut by_tuned: BTreeMap<&str, Vec<&Drift>> = BTreeMap::new();
        for row in &table.rows {
            by_tuned.entry(&row.tuned).or_default().push(row);
        }
        let is_pair = by_tuned.len() == 1;
        for (tuned, rows) in by_tuned {
            let (live, dead): (Vec<&Drift>, Vec<&Drift>) =
                rows.into_iter().partition(|row| row.class != "dead");
            all.push(Family {
                file: &table.file,
                tuned,
                is_repeated: false,
                is_null: is_null(&table.file),
                is_pair,
                live,
                n_dead: dead.len(),
            });
        }
    }
    all.sort_by_key(|family| {
        (
            family.is_null,
            !family.is_pair,
            report.cast.rank(family.tuned),
            family.file,
        )
    });
    let titles: Vec<String> = all.iter().map(legend_title).collect();
    for (family, title) in all.iter_mut().zip(&titles) {
        family.is_repeated = titles.iter().filter(|other| *other == title).count() > 1;
    }
    all
}

impl Family<'_> {
    fn base(&self) -> &str {
        self.live.first().map_or("base", |row| &row.base)
    }

    fn title(&self) -> String {
        let joint = if self.is_pair { "" } else { ", joint" };
        let file = if self.is_repeated {
            format!(" ({})", self.file)
        } else {
            String::new()
        };
        format!("{} → {}{joint}{file}", self.base(), self.tuned)
    }

    /// One quantity of every live feature.
    pub(super) fn values(&self, of: fn(&Drift) -> f64) -> Vec<f64> {
        self.live.iter().map(|row| of(row)).collect()
    }

    /// Share of live features whose NRN passes a test.
    fn share(&self, test: impl Fn(f64) -> bool) -> Estimate {
        let n = self.live.iter().filter(|row| test(row.nrn)).count();
        stats::wilson(n as u64, self.live.len() as u64)
    }

    /// Right tail: share of live features with NRN above 0.5 + [`TAIL`].
    pub(super) fn above(&self) -> Estimate {
        self.share(|nrn| nrn > 0.5 + TAIL)
    }

    /// Left tail.
    pub(super) fn below(&self) -> Estimate {
        self.share(|nrn| nrn < 0.5 - TAIL)
    }

    /// Standard deviation of NRN.
    pub(super) fn deviation(&self) -> Estimate {
        let nrn = self.values(|row| row.nrn);
        stats::bootstrap(nrn.len(), stats::DRAWS, SEED, |draw| {
            let mean = draw.iter().map(|i| nrn[*i]).sum::<f64>() / draw.len() as f64;
            (draw.iter().map(|i| (nrn[*i] - mean).powi(2)).sum::<f64>() / draw.len() as f64).sqrt()
        })
    }
}

fn style(report: &Report, family: &Family) -> Style {
    if family.is_null {
        Style::nth(3).dashed()
    } else {
        report.cast.style(family.tuned)
    }
}

fn figures(report: &Report, page: &mut Page, families: &[Family]) {
    let of = |is_pair: bool| {
        families
            .iter()
            .filter(move |family| !family.is_null && family.is_pair == is_pair)
    };
    let nulls = families.iter().filter(|family| family.is_null);
    let (pairs, joint): (Vec<&Family>, Vec<&Family>) = (of(true).collect(), of(false).collect());
    let has_pairs = !pairs.is_empty();
    let mut groups = [
        (pairs, "pairwise crosscoders", PAIRWISE),
        (joint, "the crosscoder of all models", JOINT),
    ];
    // The null stands beside the first figure there is.
    groups[usize::from(!has_pairs)].0.extend(nulls);
    for (group, what, how) in groups.into_iter().filter(|(group, ..)| !group.is_empty()) {
        let n = group
            .iter()
            .map(|family| (legend_title(family), family.live.len()));
        let null = if group.iter().any(|family| family.is_null) {
            " Dashed: an identical pair, the null."
        } else {
            ""
        };
        let caption = format!(
            "Live features of {what}: counts per bin on a log(1 + n) axis, so that single features in the tails are seen. {how}{null} n = {}.",
            text::sizes(n, "feature")
        );
        let legend: Vec<_> = group
            .iter()
            .map(|family| (legend_title(family), style(report, family)))
            .collect();
        page.figure(&panels(report, &group), &legend, &caption);
    }
}

const PAIRWISE: &str =
    "NRN (L1 norms) and Δnorm (L2 norms): 0 = base only, 0.5 = shared, 1 = tuned only.";
const JOINT: &str = "NRN: 0 = base only, 0.5 = shared, 1 = tuned only. MAS: share of the tuned model over all models; dotted: an equal share.";

/// The pair's title, marked when it is the null.
pub(super) fn legend_title(family: &Family) -> String {
    if family.is_null {
        format!("null: {}", family.title())
    } else {
        family.title()
    }
}

/// NRN, then Δnorm of pairs or MAS of more models, then the cosine.
fn panels(report: &Report, group: &[&Family]) -> Vec<String> {
    let real = group.iter().filter(|family| !family.is_null);
    let nrn = histogram(report, group, "NRN", |row| row.nrn);
    let second = if real.clone().all(|family| family.is_pair) {
        histogram(report, group, "Δnorm", |row| row.delta_norm)
    } else {
        let mut mas = histogram(report, group, "MAS of the tuned model", |row| row.mas_tuned);
        let in_file = |file: &str| real.clone().filter(|family| family.file == file).count();
        let n_models = real
            .clone()
            .map(|family| in_file(family.file))
            .max()
            .unwrap_or(1)
            + 1;
        mas.reference = Some(1.0 / n_models as f64);
        mas
    };
    let mut cosine = histogram(report, group, "cosine of the two decoder rows", |row| {
        row.cosine
    });
    (cosine.range, cosine.reference) = ((-1.0, 1.0), None);
    [nrn, second, cosine].iter().map(Histogram::draw).collect()
}

fn histogram(
    report: &Report,
    families: &[&Family],
    title: &str,
    value: fn(&Drift) -> f64,
) -> Histogram {
    let distributions = families.iter().map(|family| Distribution {
        values: family.values(value),
        style: style(report, family),
    });
    Histogram {
        title: title.to_owned(),
        range: (0.0, 1.0),
        n_bins: 50,
        reference: Some(0.5),
        distributions: distributions.collect(),
    }
}

fn tails(families: &[Family]) -> Table {
    let columns = [
        "pair",
        "file",
        "live>",
        "dead>",
        "median>",
        "1 %>",
        "99 %>",
        "largest>",
        "standard deviation>",
        "left tail, %>",
        "right tail, %>",
    ];
    let mut table = Table::new(&columns);
    for family in families {
        let nrn = family.values(|row| row.nrn);
        if nrn.is_empty() {
            continue;
        }
        let place = |share: f64| text::fixed(stats::quantile(&nrn, share), 3);
        table.row(&[
            legend_title(family),
            family.file.to_owned(),
            text::count(family.live.len()),
            text::count(family.n_dead),
            place(0.5),
            place(0.01),
            place(0.99),
            place(1.0),
            text::with_interval(&family.deviation(), |value| text::fixed(value, 4)),
            text::with_interval(&family.below(), text::percent),
            text::with_interval(&family.above(), text::percent),
        ]);
    }
    table
}

const CLASSES: [&str; 6] = [
    "base-only",
    "tuned-only",
    "shared",
    "rotated",
    "other",
    "dead",
];

fn classes(families: &[Family]) -> Table {
    let columns: Vec<String> = ["pair".to_owned()]
        .into_iter()
        .chain(CLASSES.map(|class| format!("{class}>")))
        .collect();
    let mut table = Table::new(&columns.iter().map(String::as_str).collect::<Vec<_>>());
    for family in families {
        let total = (family.live.len() + family.n_dead).max(1);
        let number = |class: &str| match class {
            "dead" => family.n_dead,
            class => family.live.iter().filter(|row| row.class == class).count(),
        };
        let cell = |class: &str| {
            format!(
                "{} ({})",
                text::count(number(class)),
                text::percent(number(class) as f64 / total as f64)
            )
        };
        table.row(
            &[legend_title(family)]
                .into_iter()
                .chain(CLASSES.map(cell))
                .collect::<Vec<_>>(),
        );
    }
    table
}

/// Latent scaling: how many features look tuned-only by norm and still are once the error is asked.
fn scaling(page: &mut Page, families: &[Family]) {
    let mut table = Table::new(&[
        "pair",
        "features with ν>",
        "median ν(error)>",
        "median ν(reconstruction)>",
        "tuned-only by norm>",
        "of these confirmed>",
    ]);
    for family in families {
        let scaled: Vec<(&Drift, f64, f64)> = family
            .live
            .iter()
            .filter_map(|row| Some((*row, row.nu_error?, row.nu_reconstruction?)))
            .collect();
        if scaled.is_empty() {
            continue;
        }
        let median = |values: Vec<f64>| text::fixed(stats::median(&values), 3);
        let by_norm: Vec<_> = scaled
            .iter()
            .filter(|(row, ..)| row.delta_norm > 0.9)
            .collect();
        let confirmed = by_norm
            .iter()
            .filter(|(_, error, reconstruction)| *reconstruction < 0.5 && *error < 0.2)
            .count();
        table.row(&[
            legend_title(family),
            text::count(scaled.len()),
            median(scaled.iter().map(|row| row.1).collect()),
            median(scaled.iter().map(|row| row.2).collect()),
            text::count(by_norm.len()),
            text::count(confirmed),
        ]);
    }
    if !table.is_empty() {
        page.table(
            &table,
            "Latent scaling: ν = β_base/β_tuned on the error (high: the feature exists in the base after all) and on the \
             reconstruction (high: one concept split into several features). By norm: Δnorm > 0.9; confirmed: ν(reconstruction) < 0.5 and \
             ν(error) < 0.2.",
        );
    }
}
