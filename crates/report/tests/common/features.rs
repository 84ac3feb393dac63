//! Crosscoders, their features, and the selected set.

use super::{Fixture, SELECTION};
use rand::RngExt;
use serde_json::json;
use store::tables::*;

impl Fixture {
    pub(super) fn crosscoders(&mut self) {
        for (name, labels) in [
            ("pair-sft", vec!["base", "sft"]),
            ("pair-rl", vec!["base", "rl"]),
            ("joint", vec!["base", "sft", "rl"]),
            ("null/pair", vec!["a", "b"]),
        ] {
            let rows: Vec<CrosscoderEval> =
                labels.iter().map(|label| self.eval_row(label)).collect();
            self.table(
                &format!("{name}.eval.parquet"),
                "crosscode eval",
                &json!({"rule": "batch-topk"}),
                &[],
                &rows,
            );
            let steps: Vec<CrosscoderStep> =
                (1..=400).map(|step| self.crosscoder_step(step)).collect();
            if name == "joint" {
                let settings =
                    json!({"features": 1024, "k": 32, "rule": "batch-topk", "tokens": 2_000_000});
                self.table(
                    &format!("{name}.steps.parquet"),
                    "crosscode train",
                    &settings,
                    &[],
                    &steps,
                );
            }
        }
    }

    fn eval_row(&mut self, label: &str) -> CrosscoderEval {
        let explained = 0.93 + 0.01 * self.normal();
        CrosscoderEval {
            model: label.to_owned(),
            n_rows: 48_211,
            explained_variance: explained,
            explained_variance_low: explained - 0.006,
            explained_variance_high: explained + 0.005,
            explained_variance_centred: explained + 0.001,
            explained_variance_per_row: explained - 0.02,
            mse: 12.3,
            cosine: 0.97,
            l0: 31.8,
            dead: 0.041,
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

    fn crosscoder_step(&mut self, step: u32) -> CrosscoderStep {
        let done = f64::from(step) / 400.0;
        CrosscoderStep {
            step,
            tokens: u64::from(step) * 4096,
            loss: 1.0 + 9.0 * (-5.0 * done).exp() + 0.05 * self.normal(),
            explained_variance: 0.93 * (1.0 - (-6.0 * done).exp()),
            l0: 32.0 + 20.0 * (1.0 - done),
            dead: 0.04 * done,
            learning_rate: 1e-3,
            k: Some(32.0),
            tokens_per_s: None,
        }
    }

    pub(super) fn drift(&mut self) {
        for (file, pairs) in [
            ("pair-sft.drift.parquet", vec![("base", "sft", 0.06, 0.10)]),
            ("pair-rl.drift.parquet", vec![("base", "rl", 0.03, 0.01)]),
            (
                "joint.drift.parquet",
                vec![("base", "sft", 0.05, 0.08), ("base", "rl", 0.03, 0.012)],
            ),
            ("null/pair.drift.parquet", vec![("a", "b", 0.004, 0.0)]),
        ] {
            let mut rows = Vec::new();
            for (base, tuned, spread, tail) in &pairs {
                rows.extend((0..1024).map(|feature| {
                    self.feature(feature, (base, tuned), (*spread, *tail), pairs.len())
                }));
            }
            self.table(
                file,
                "drift features",
                &json!({"scaling": true}),
                &[],
                &rows,
            );
        }
    }

    fn feature(
        &mut self,
        feature: u32,
        (base, tuned): (&str, &str),
        (spread, tail): (f64, f64),
        n_tuned: usize,
    ) -> Drift {
        let in_tail = self.random.random::<f64>() < tail;
        let nrn = if in_tail {
            0.65 + 0.34 * self.random.random::<f64>()
        } else {
            0.5 + spread * self.normal()
        };
        let nrn = nrn.clamp(0.0, 1.0);
        let dead = feature.is_multiple_of(25);
        let delta_norm = if nrn >= 0.5 {
            0.5 * (2.0 - (1.0 - nrn) / nrn)
        } else {
            0.5 * (nrn / (1.0 - nrn))
        };
        let class = match delta_norm {
            _ if dead => "dead",
            d if d < 0.1 => "base-only",
            d if d > 0.9 => "tuned-only",
            d if (0.4..0.6).contains(&d) => "shared",
            _ => "other",
        };
        Drift {
            feature,
            base: base.to_owned(),
            tuned: tuned.to_owned(),
            norm_l1_base: 1.0 - nrn,
            norm_l1_tuned: nrn,
            norm_l2_base: 1.0 - nrn,
            norm_l2_tuned: nrn,
            nrn,
            mas_base: (1.0 - nrn) * 2.0 / (n_tuned as f64 + 1.0),
            mas_tuned: nrn * 2.0 / (n_tuned as f64 + 1.0),
            delta_norm,
            cosine: (0.98 - 8.0 * (nrn - 0.5).powi(2) + 0.02 * self.normal()).clamp(-1.0, 1.0),
            nu_error: (!dead).then_some(0.9 - nrn * 0.3),
            nu_reconstruction: (!dead).then_some(1.5 - nrn),
            firing_rate: Some(if dead { 0.0 } else { 0.02 }),
            mean_activation: (!dead).then_some(1.4),
            class: class.to_owned(),
        }
    }

    pub(super) fn dynamics(&mut self) {
        let mut rows = Vec::new();
        for (series, level, rise) in [("sft", 0.6, 0.08), ("rl", 0.42, 0.0)] {
            for from in 1..=5_u32 {
                for to in from + 1..=5 {
                    let apart = f64::from(to - from - 1);
                    let overlap = (level + rise * f64::from(from) - 0.12 * apart).clamp(0.02, 1.0);
                    rows.push(Dynamics {
                        series: series.to_owned(),
                        from,
                        to,
                        top: 50,
                        overlap,
                        overlap_low: overlap - 0.06,
                        overlap_high: overlap + 0.05,
                        jaccard: overlap / (2.0 - overlap),
                        overlap_null: 0.05,
                        explained_variance_from: 0.93 - 0.01 * f64::from(from),
                        explained_variance_to: 0.93 - 0.01 * f64::from(to),
                        code_shift: 0.1 * f64::from(to) + 0.02 * level,
                    });
                }
            }
        }
        self.table(
            "dynamics.parquet",
            "drift dynamics",
            &json!({"readout": "swap", "top": 50}),
            &[],
            &rows,
        );
    }

    pub(super) fn selection(&mut self) {
        let selected = [31, 207, 64, 511, 90, 333, 12];
        let mut rows = Vec::new();
        for (rank, feature) in (0..).zip(selected) {
            rows.push(self.selection_row("selected", feature, rank, None));
        }
        for set in 0..8 {
            for (rank, feature) in (0..).zip(selected) {
                let stand_in = 600 + set * 10 + rank;
                rows.push(self.selection_row(
                    &format!("random-{set:02}"),
                    stand_in,
                    rank,
                    Some(feature),
                ));
            }
        }
        rows.push(self.selection_row("known", 31, 0, None));
        rows.push(self.selection_row("known", 1000, 1, None));
        let settings = json!({"threshold": 0.2, "tokens": "answer", "readout": "swap"});
        let from = ["base.samples.parquet", "rl.samples.parquet"];
        self.table("selection.parquet", "select", &settings, &from, &rows);
        let mut scores = Vec::new();
        for (place, task) in SELECTION.iter().enumerate() {
            for feature in 0..1024 {
                let rank = selected.iter().position(|known| *known == feature);
                let relative = rank.map_or(0.05 * self.normal(), |rank| {
                    1.0 - 0.1 * rank as f64 - 0.02 * place as f64
                });
                let relative = if feature == 400 && place == 1 {
                    0.5
                } else {
                    relative
                };
                let score = relative * 2.0;
                scores.push(Score {
                    task: (*task).to_owned(),
                    feature,
                    score,
                    score_low: score - 0.2,
                    score_high: score + 0.2,
                    relative,
                    passes: relative > 0.2,
                    n: 87,
                });
            }
        }
        self.table("scores.parquet", "select", &settings, &from, &scores);
    }

    fn selection_row(
        &mut self,
        set: &str,
        feature: u32,
        rank: u32,
        matched_to: Option<u32>,
    ) -> Selection {
        let relative = if set == "selected" {
            1.0 - 0.1 * f64::from(rank)
        } else {
            0.03
        };
        Selection {
            set: set.to_owned(),
            feature,
            rank,
            matched_to,
            lowered: false,
            relative_score: relative,
            relative_score_min: relative - 0.08,
            q: Some(if set == "selected" { 0.0004 } else { 0.8 }),
            firing_rate: 0.03 + 0.01 * self.random.random::<f64>(),
            mean_activation: 1.5 + 0.3 * self.random.random::<f64>(),
            decoder_norm: 2.0 + 0.1 * self.random.random::<f64>(),
            removal_share: None,
        }
    }
}
