//! Nodes of the attribution graph and their names, which are those of EAP-IG.
//!
//! A source writes to the residual stream: the embedding (`input`), an attention output (`a3`, by head `a3.h1`), an MLP
//! output (`m3`). A target reads the residual *before* its norm: the query, key and value inputs of attention (`a3<q>`, by
//! head `a3.h1<q>`), the MLP (`m3`) and the final residual (`logits`).

use std::{fmt, str::FromStr};

use anyhow::{Context, bail};

/// What an attention target is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Query.
    Query,
    /// Key.
    Key,
    /// Value.
    Value,
}

impl Part {
    /// The three parts in the order of the target axis.
    pub const ALL: [Self; 3] = [Self::Query, Self::Key, Self::Value];

    fn letter(self) -> char {
        match self {
            Self::Query => 'q',
            Self::Key => 'k',
            Self::Value => 'v',
        }
    }
}

/// A node that writes to the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Token embedding.
    Input,
    /// Attention output of a layer, or of one of its heads.
    Attention {
        /// Layer, from 0.
        layer: usize,
        /// Query head, from 0; none at layer level.
        head: Option<usize>,
    },
    /// MLP output of a layer.
    Mlp {
        /// Layer, from 0.
        layer: usize,
    },
}

/// A node that reads the residual stream, before its norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Query, key or value input of a layer, or of one of its heads.
    Attention {
        /// Layer, from 0.
        layer: usize,
        /// Head, from 0; none at layer level.
        head: Option<usize>,
        /// What is read.
        part: Part,
    },
    /// MLP input of a layer.
    Mlp {
        /// Layer, from 0.
        layer: usize,
    },
    /// Final residual, read by the last norm and the unembedding.
    Logits,
}

impl Source {
    /// Layer of the node; none for `input`.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Input => None,
            Self::Attention { layer, .. } | Self::Mlp { layer } => Some(layer),
        }
    }
}

impl Target {
    /// Layer of the node; none for `logits`.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Logits => None,
            Self::Attention { layer, .. } | Self::Mlp { layer } => Some(layer),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => write!(f, "input"),
            Self::Attention { layer, head: None } => write!(f, "a{layer}"),
            Self::Attention {
                layer,
                head: Some(head),
            } => write!(f, "a{layer}.h{head}"),
            Self::Mlp { layer } => write!(f, "m{layer}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Logits => write!(f, "logits"),
            Self::Mlp { layer } => write!(f, "{}", Source::Mlp { layer }),
            Self::Attention { layer, head, part } => {
                write!(
                    f,
                    "{}<{}>",
                    Source::Attention { layer, head },
                    part.letter()
                )
            }
        }
    }
}

impl FromStr for Source {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        if name == "input" {
            return Ok(Self::Input);
        }
        let place = |text: &str| {
            text.parse::<usize>()
                .with_context(|| format!("{name:?} is not a source node"))
        };
        match (name.strip_prefix('a'), name.strip_prefix('m')) {
            (Some(rest), _) => {
                let (layer, head) = rest
                    .split_once(".h")
                    .map_or((rest, None), |(layer, head)| (layer, Some(head)));
                Ok(Self::Attention {
                    layer: place(layer)?,
                    head: head.map(place).transpose()?,
                })
            }
            (None, Some(layer)) => Ok(Self::Mlp {
                layer: place(layer)?,
            }),
            _ => bail!("{name:?} is not a source node"),
        }
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        if name == "logits" {
            return Ok(Self::Logits);
        }
        let part = Part::ALL
            .into_iter()
            .find(|part| name.ends_with(&format!("<{}>", part.letter())));
        let Some(part) = part else {
            let Source::Mlp { layer } = name.parse()? else {
                bail!("{name:?} is not a target node")
            };
            return Ok(Self::Mlp { layer });
        };
        match name[..name.len() - 3].parse()? {
            Source::Attention { layer, head } => Ok(Self::Attention { layer, head, part }),
            _ => bail!("{name:?} is not a target node"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_nodes_are_refused() {
        for name in ["", "b1", "a", "m-1", "a1.hx", "logits", "a0<q>"] {
            assert!(name.parse::<Source>().is_err(), "{name}");
        }
        for name in ["input", "a1", "m1<q>", "<q>", "a<k>"] {
            assert!(name.parse::<Target>().is_err(), "{name}");
        }
    }
}
