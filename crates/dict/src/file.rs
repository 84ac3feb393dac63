//! `dict.safetensors`: a crosscoder on disk.
//!
//! Tensors `encoder.weight [n_models, d_model, n_features]`, `encoder.bias [n_features]`,
//! `decoder.weight [n_models, n_features, d_model]`, `decoder.bias`, `activation_mean`, `activation_std`
//! `[n_models, d_model]`, `activation_scale [n_models]` and `threshold []` (`[n_models]` for decoupled codes, `[n_features]`
//! for `jumprelu`), all f32.
//! Where the models' widths differ, every tensor with a width becomes one per model: `encoder.weight.<label>`
//! `[d_model, n_features]`, and so on. Rule, labels, hook and tokenizer are in the metadata.

use crate::crosscoder::Crosscoder;
use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;
use store::{Error, Provenance, Result, TensorData, TensorFile, write_tensors};

impl Crosscoder {
    /// Writes the dictionary. The same dictionary and provenance give the same bytes.
    pub fn save(&self, path: &Path, provenance: &Provenance) -> Result<()> {
        write_tensors(path, &self.tensors(), &self.metadata(), provenance)
    }

    /// Reads what [`Crosscoder::save`] wrote.
    pub fn load(path: &Path) -> Result<Self> {
        Reader {
            file: &TensorFile::open(path)?,
            path,
        }
        .read()
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let entries = [
            ("rule", json(&self.rule)),
            ("code_normalization", json(&self.code_normalization)),
            ("labels", json(&self.labels)),
            ("hook", self.hook.clone()),
            ("tokenizer", self.tokenizer_digest.clone()),
        ];
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    fn tensors(&self) -> Vec<(String, TensorData)> {
        let n_models = self.n_models();
        let normalizer = |part: fn(&Normalizer) -> &Vec<f32>| {
            self.normalizer.iter().map(part).collect::<Vec<_>>()
        };
        let thresholds = match &self.code_normalization {
            _ if !self.thresholds.is_empty() => {
                f32_tensor(vec![self.n_features], self.thresholds.clone())
            }
            CodeNormalization::Decoupled { thresholds } => {
                f32_tensor(vec![n_models], thresholds.clone())
            }
            _ => f32_tensor(vec![], vec![self.threshold]),
        };
        let scale = self
            .normalizer
            .iter()
            .map(|normalizer| normalizer.scale)
            .collect();
        let mut tensors = vec![
            (
                "encoder.bias".to_owned(),
                f32_tensor(vec![self.n_features], self.encoder_bias.clone()),
            ),
            ("threshold".to_owned(), thresholds),
            (
                "activation_scale".to_owned(),
                f32_tensor(vec![n_models], scale),
            ),
        ];
        let features = self.n_features;
        tensors.extend(self.per_model("encoder.weight", &self.encoder, |width| {
            vec![width, features]
        }));
        tensors.extend(self.per_model("decoder.weight", &self.decoder, |width| {
            vec![features, width]
        }));
        tensors.extend(self.per_model("decoder.bias", &self.decoder_bias, |width| vec![width]));
        tensors.extend(self.per_model(
            "activation_mean",
            &normalizer(|part| &part.mean),
            |width| vec![width],
        ));
        tensors.extend(
            self.per_model("activation_std", &normalizer(|part| &part.std), |width| {
                vec![width]
            }),
        );
        tensors
    }

    /// One tensor for all models where the widths agree, one for each where they do not.
    fn per_model<T: AsRef<[f32]>>(
        &self,
        name: &str,
        values: &[T],
        shape: impl Fn(usize) -> Vec<usize>,
    ) -> Vec<(String, TensorData)> {
        if self.widths.iter().all(|&width| width == self.widths[0]) {
            let shape = [vec![self.n_models()], shape(self.widths[0])].concat();
            let all = values.iter().flat_map(AsRef::as_ref).copied().collect();
            return vec![(name.to_owned(), f32_tensor(shape, all))];
        }
        let models = self.labels.iter().zip(&self.widths).zip(values);
        let one = |((label, &width), values): ((&String, &usize), &T)| {
            (
                format!("{name}.{label}"),
                f32_tensor(shape(width), values.as_ref().to_vec()),
            )
        };
        models.map(one).collect()
    }
}

fn f32_tensor(shape: Vec<usize>, values: Vec<f32>) -> TensorData {
    TensorData::F32 { shape, values }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers are always JSON")
}

/// A dictionary file being read.
struct Reader<'a> {
    file: &'a TensorFile,
    path: &'a Path,
}

impl Reader<'_> {
    fn read(&self) -> Result<Crosscoder> {
        let labels: Vec<String> = self.entry("labels")?;
        let widths = self.widths(&labels)?;
        let encoder_bias = self.file.f32("encoder.bias")?;
        let n_features = encoder_bias.len();
        let sized = |name: &str, per_width: usize| -> Result<Vec<Vec<f32>>> {
            let lengths: Vec<usize> = widths.iter().map(|width| width * per_width).collect();
            self.per_model(name, &labels, &lengths)
        };
        let thresholds = self.file.f32("threshold")?;
        let mut code_normalization: CodeNormalization = self.entry("code_normalization")?;
        let rule: Rule = self.entry("rule")?;
        // Decoupled codes with a threshold of each feature exist too: those of one other program.
        let per_feature = if code_normalization.is_decoupled() {
            matches!(rule, Rule::JumpRelu { .. }) && thresholds.len() == n_features
        } else {
            thresholds.len() > 1
        };
        let mut wanted = 1;
        if per_feature {
            wanted = n_features;
        } else if let CodeNormalization::Decoupled { thresholds: stored } = &mut code_normalization
        {
            stored.clone_from(&thresholds);
            wanted = labels.len();
        }
        self.expect_length("threshold", thresholds.len(), wanted)?;
        let dictionary = Crosscoder {
            encoder: sized("encoder.weight", n_features)?,
            decoder: sized("decoder.weight", n_features)?,
            decoder_bias: sized("decoder.bias", 1)?,
            normalizer: self
                .normalizer(sized("activation_mean", 1)?, sized("activation_std", 1)?)?,
            threshold: thresholds.iter().copied().fold(f32::INFINITY, f32::min),
            thresholds: if per_feature { thresholds } else { Vec::new() },
            rule,
            hook: self.text("hook")?.to_owned(),
            tokenizer_digest: self.text("tokenizer")?.to_owned(),
            labels,
            widths,
            n_features,
            encoder_bias,
            code_normalization,
        };
        Ok(dictionary)
    }

    fn text(&self, key: &str) -> Result<&str> {
        let found = self.file.metadata().get(key).map(String::as_str);
        found.ok_or_else(|| {
            self.invalid(format!(
                "this is not a dictionary: its metadata has no `{key}`"
            ))
        })
    }

    fn entry<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        serde_json::from_str(self.text(key)?)
            .map_err(|error| self.invalid(format!("metadata `{key}`: {error}")))
    }

    /// Width of each model, from the shape of its encoder.
    fn widths(&self, labels: &[String]) -> Result<Vec<usize>> {
        if self.file.contains("encoder.weight") {
            let shape = self.file.shape("encoder.weight")?;
            return match shape {
                [n_models, d_model, _] if *n_models == labels.len() => {
                    Ok(vec![*d_model; *n_models])
                }
                _ => Err(self.invalid(format!(
                    "`encoder.weight` has shape {shape:?} for {} models",
                    labels.len()
                ))),
            };
        }
        let width = |label: &String| {
            let name = format!("encoder.weight.{label}");
            let shape = self.file.shape(&name)?;
            shape
                .first()
                .copied()
                .ok_or_else(|| self.invalid(format!("`{name}` has no dimensions")))
        };
        labels.iter().map(width).collect()
    }

    /// Values of each model, cut from one tensor or read from one each.
    fn per_model(&self, name: &str, labels: &[String], lengths: &[usize]) -> Result<Vec<Vec<f32>>> {
        if self.file.contains(name) {
            let values = self.file.f32(name)?;
            self.expect_length(name, values.len(), lengths.iter().sum())?;
            return Ok(values.chunks(lengths[0]).map(<[f32]>::to_vec).collect());
        }
        let one = |(label, &length): (&String, &usize)| {
            let name = format!("{name}.{label}");
            let values = self.file.f32(&name)?;
            self.expect_length(&name, values.len(), length)?;
            Ok(values)
        };
        labels.iter().zip(lengths).map(one).collect()
    }

    fn normalizer(&self, mean: Vec<Vec<f32>>, std: Vec<Vec<f32>>) -> Result<Vec<Normalizer>> {
        let scale = self.file.f32("activation_scale")?;
        self.expect_length("activation_scale", scale.len(), mean.len())?;
        let parts = mean.into_iter().zip(std).zip(scale);
        Ok(parts
            .map(|((mean, std), scale)| Normalizer { mean, std, scale })
            .collect())
    }

    fn expect_length(&self, name: &str, found: usize, wanted: usize) -> Result<()> {
        if found == wanted {
            return Ok(());
        }
        Err(self.invalid(format!(
            "`{name}` has {found} values, the other tensors need {wanted}"
        )))
    }

    fn invalid(&self, cause: String) -> Error {
        Error::Invalid {
            path: self.path.to_owned(),
            cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crosscoder::tests::example;

    fn provenance() -> Provenance {
        Provenance::new("test", &()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dict.safetensors");
        let unequal = example();
        unequal.save(&path, &provenance()).unwrap();
        assert_eq!(Crosscoder::load(&path).unwrap(), unequal);
        assert_eq!(
            TensorFile::open(&path)
                .unwrap()
                .shape("encoder.weight.sft")
                .unwrap(),
            [1, 2]
        );
        let mut equal = example();
        equal.widths[1] = 2;
        equal.encoder[1] = vec![1.0; 4];
        equal.decoder[1] = vec![2.0; 4];
        equal.decoder_bias[1] = vec![3.0; 2];
        equal.normalizer[1] = Normalizer::new(vec![1.0; 2], vec![2.0; 2], 1.0);
        equal.save(&path, &provenance()).unwrap();
        assert_eq!(Crosscoder::load(&path).unwrap(), equal);
        assert_eq!(
            TensorFile::open(&path)
                .unwrap()
                .shape("encoder.weight")
                .unwrap(),
            [2, 2, 2]
        );
    }

    #[test]
    fn another_safetensors_file_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("other.safetensors");
        let tensors = [("x".to_owned(), f32_tensor(vec![1], vec![0.0]))];
        write_tensors(&path, &tensors, &BTreeMap::new(), &provenance()).unwrap();
        let message = Crosscoder::load(&path).unwrap_err().to_string();
        assert!(
            message.contains("other.safetensors: this is not a dictionary"),
            "{message}"
        );
    }
}
