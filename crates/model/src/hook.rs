//! Names of the places where an activation can be seen or replaced.

use crate::{Error, Result};
use std::fmt;

/// A kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Token embedding, `[batch, seq, d_model]`.
    Embed,
    /// Residual stream before a block, `[batch, seq, d_model]`.
    ResidPre,
    /// Heads' outputs before the output projection, `[batch, seq, n_heads * d_head]`.
    Z,
    /// What attention adds to the residual stream, `[batch, seq, d_model]`.
    AttnOut,
    /// Residual stream between attention and MLP, `[batch, seq, d_model]`.
    ResidMid,
    /// What the MLP adds to the residual stream, `[batch, seq, d_model]`.
    MlpOut,
    /// Residual stream after a block, before any final norm, `[batch, seq, d_model]`.
    ResidPost,
    /// Logits, `[batch, seq, vocab]`.
    Logits,
}

const SITES: [(Site, &str, &str); 8] = [
    (Site::Embed, "embed", "hook_embed"),
    (Site::ResidPre, "resid_pre", "hook_resid_pre"),
    (Site::Z, "z", "attn.hook_z"),
    (Site::AttnOut, "attn_out", "hook_attn_out"),
    (Site::ResidMid, "resid_mid", "hook_resid_mid"),
    (Site::MlpOut, "mlp_out", "hook_mlp_out"),
    (Site::ResidPost, "resid_post", "hook_resid_post"),
    (Site::Logits, "logits", "logits"),
];

/// A place in a model: `resid_post.12`, `embed`, `logits`. Ordered as the forward pass meets them within a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hook {
    /// Block, from 0; 0 for `embed` and `logits`.
    pub layer: usize,
    /// Kind of place.
    pub site: Site,
}

impl Hook {
    /// A place at a block.
    pub fn new(site: Site, layer: usize) -> Self {
        Self { layer, site }
    }

    /// Blocks of `n_layers` that a pass up to this place runs.
    pub fn blocks(&self, n_layers: usize) -> usize {
        match self.site {
            Site::Embed => 0,
            Site::Logits => n_layers,
            _ => self.layer + 1,
        }
    }

    /// Reads a name: `resid_post.12`, `12` and `0.5` (a fraction of the depth) for the residual after a block,
    /// `blocks.12.hook_resid_post`, `model.layers.12`, `embed`, `logits`.
    ///
    /// A fraction f means block `⌊f·(n_layers − 1)⌋`.
    pub fn parse(name: &str, n_layers: usize) -> Result<Self> {
        let unknown = || {
            Error::Argument(format!(
                "unknown hook `{name}` (try resid_post.0.5, attn_out.3, embed, logits)"
            ))
        };
        let (site, layer) = split(name).ok_or_else(unknown)?;
        if matches!(site, Site::Embed | Site::Logits) {
            return if layer.is_empty() {
                Ok(Self::new(site, 0))
            } else {
                Err(unknown())
            };
        }
        let layer = if let Ok(layer) = layer.parse::<usize>() {
            layer
        } else {
            let fraction = layer
                .parse::<f64>()
                .ok()
                .filter(|f| (0.0..=1.0).contains(f));
            (fraction.ok_or_else(unknown)? * n_layers.saturating_sub(1) as f64) as usize
        };
        if layer >= n_layers {
            return Err(Error::Argument(format!(
                "hook `{name}`: the model has blocks 0 to {}",
                n_layers.saturating_sub(1)
            )));
        }
        Ok(Self::new(site, layer))
    }
}

/// Site and layer part of a name in any of the dialects.
fn split(name: &str) -> Option<(Site, &str)> {
    if let Some(layer) = name.strip_prefix("model.layers.") {
        return Some((Site::ResidPost, layer));
    }
    if let Some((layer, hook)) = name
        .strip_prefix("blocks.")
        .and_then(|rest| rest.split_once('.'))
    {
        return SITES
            .iter()
            .find(|site| site.2 == hook)
            .map(|site| (site.0, layer));
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Some((Site::ResidPost, name));
    }
    let (site, layer) = name.split_once('.').unwrap_or((name, ""));
    let plain = SITES
        .iter()
        .find(|known| known.1 == site || (layer.is_empty() && known.2 == site))?;
    Some((plain.0, layer))
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SITES
            .iter()
            .find(|site| site.0 == self.site)
            .expect("SITES lists every site")
            .1;
        match self.site {
            Site::Embed | Site::Logits => write!(f, "{name}"),
            _ => write!(f, "{name}.{}", self.layer),
        }
    }
}

/// A place that reads the residual stream, before its norm: where a gradient is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Queries of a block.
    Q(usize),
    /// Keys of a block.
    K(usize),
    /// Values of a block.
    V(usize),
    /// MLP of a block.
    Mlp(usize),
    /// Final norm and unembedding.
    Logits,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_names_the_same_place() {
        let wanted = Hook::new(Site::ResidPost, 12);
        for name in [
            "resid_post.12",
            "12",
            "blocks.12.hook_resid_post",
            "model.layers.12",
        ] {
            assert_eq!(Hook::parse(name, 24).unwrap(), wanted, "{name}");
        }
        assert_eq!(
            Hook::parse("resid_post.0.5", 4).unwrap(),
            Hook::new(Site::ResidPost, 1)
        );
        assert_eq!(
            Hook::parse("0.5", 5).unwrap(),
            Hook::new(Site::ResidPost, 2)
        );
        assert_eq!(wanted.to_string(), "resid_post.12");
    }

    #[test]
    fn what_is_not_a_place_is_refused() {
        for name in [
            "resid_post.4",
            "resid_post",
            "",
            "1.5",
            "embed.1",
            "nonsense.1",
        ] {
            assert!(Hook::parse(name, 4).is_err(), "{name}");
        }
    }
}
