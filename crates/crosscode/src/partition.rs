//! `--partition base=5%,sft+rl=100,tied=20%`: which features belong to which models.

use dict::Block;
use std::str::FromStr;

/// Features claimed for some of the models, or tied.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Labels; empty for tied features.
    models: Vec<String>,
    size: Size,
}

/// How many features.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Size {
    Count(usize),
    /// 0 to 1.
    Share(f64),
}

impl FromStr for Claim {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not MODELS=SIZE, such as base=5%, sft+rl=100 or tied=20%");
        let (models, size) = text.split_once('=').ok_or_else(wrong)?;
        let size = match size.strip_suffix('%') {
            Some(percent) => {
                let share = percent.parse::<f64>().map_err(|_| wrong())? / 100.0;
                if !(0.0..=1.0).contains(&share) {
                    return Err(wrong());
                }
                Size::Share(share)
            }
            None => Size::Count(cli::parse_count(size).map_err(|_| wrong())? as usize),
        };
        let models = match models {
            "tied" => Vec::new(),
            "" => return Err(wrong()),
            labels => labels.split('+').map(str::to_owned).collect(),
        };
        Ok(Self { models, size })
    }
}

/// The blocks the claims make of `n_features`, what is left shared by all models; empty without claims.
pub fn blocks(
    claims: &[Claim],
    labels: &[String],
    n_features: usize,
    tied_penalty: f32,
) -> anyhow::Result<Vec<Block>> {
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let mut blocks = Vec::new();
    let mut left = n_features;
    for claim in claims {
        let size = match claim.size {
            Size::Count(count) => count,
            Size::Share(share) => (n_features as f64 * share).round() as usize,
        };
        let Some(rest) = left.checked_sub(size) else {
            anyhow::bail!(cli::Usage(format!(
                "--partition claims more than the {n_features} features there are"
            )));
        };
        left = rest;
        let mut models = Vec::new();
        for label in &claim.models {
            let Some(model) = labels.iter().position(|known| known == label) else {
                anyhow::bail!(cli::Usage(format!(
                    "--partition: there is no model {label} among {}",
                    labels.join(", ")
                )));
            };
            models.push(model);
        }
        models.sort_unstable();
        models.dedup();
        let tied = claim.models.is_empty();
        blocks.push(Block {
            models,
            tied,
            penalty: if tied { tied_penalty } else { 1.0 },
            ..Block::shared(size)
        });
    }
    blocks.push(Block::shared(left));
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_and_what_is_left_is_shared() {
        let claims: Vec<Claim> = ["base=5%", "sft+base=10", "tied=20%"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let labels = ["base".to_owned(), "sft".to_owned()];
        let blocks = blocks(&claims, &labels, 100, 0.2).unwrap();
        let seen: Vec<_> = blocks
            .iter()
            .map(|block| (block.models.as_slice(), block.n_features, block.tied))
            .collect();
        assert_eq!(
            seen,
            [
                (&[0][..], 5, false),
                (&[0, 1], 10, false),
                (&[], 20, true),
                (&[], 65, false)
            ]
        );
        assert!((blocks[2].penalty - 0.2).abs() < 1e-6);
        assert!(super::blocks(&claims, &labels[..1], 100, 0.2).is_err());
        assert!(super::blocks(&claims, &labels, 12, 0.2).is_err());
    }

    #[test]
    fn what_is_no_claim_is_refused() {
        for text in ["base", "=5%", "base=x", "base=101%", "base=-1"] {
            assert!(text.parse::<Claim>().is_err(), "{text}");
        }
    }
}
