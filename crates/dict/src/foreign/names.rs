//! Names of hooks in the two vocabularies other programs use.

/// Our name and that of `TransformerLens` behind `blocks.<layer>.`.
const SITES: [(&str, &str); 6] = [
    ("resid_pre", "hook_resid_pre"),
    ("resid_mid", "hook_resid_mid"),
    ("resid_post", "hook_resid_post"),
    ("attn_out", "hook_attn_out"),
    ("mlp_out", "hook_mlp_out"),
    ("z", "attn.hook_z"),
];

/// `blocks.12.hook_resid_post` → `resid_post.12`; a name that is none of these stays as it is.
pub(super) fn from_transformer_lens(name: &str) -> String {
    let parts = name
        .strip_prefix("blocks.")
        .and_then(|rest| rest.split_once('.'));
    let known = parts.and_then(|(layer, site)| {
        let ours = SITES.iter().find(|(_, theirs)| *theirs == site)?.0;
        layer
            .parse::<usize>()
            .ok()
            .map(|layer| format!("{ours}.{layer}"))
    });
    known.unwrap_or_else(|| {
        if name == "hook_embed" {
            "embed".into()
        } else {
            name.to_owned()
        }
    })
}

/// The other way round.
pub(super) fn to_transformer_lens(hook: &str) -> String {
    let known = hook.split_once('.').and_then(|(site, layer)| {
        let theirs = SITES.iter().find(|(ours, _)| *ours == site)?.1;
        layer
            .parse::<usize>()
            .ok()
            .map(|layer| format!("blocks.{layer}.{theirs}"))
    });
    known.unwrap_or_else(|| {
        if hook == "embed" {
            "hook_embed".into()
        } else {
            hook.to_owned()
        }
    })
}

/// Our name of a Hugging Face module's output: `layers.12` (also behind `model.` or `transformer.h`) → `resid_post.12`,
/// `layers.12.mlp` → `mlp_out.12`.
pub(super) fn from_module(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let place = parts
        .iter()
        .position(|part| ["layers", "h"].contains(part))?;
    let layer: usize = parts.get(place + 1)?.parse().ok()?;
    match parts.get(place + 2..)? {
        [] => Some(format!("resid_post.{layer}")),
        ["mlp"] => Some(format!("mlp_out.{layer}")),
        ["self_attn" | "attn" | "attention"] => Some(format!("attn_out.{layer}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_translated_there_and_back() {
        for (ours, theirs) in [
            ("resid_post.12", "blocks.12.hook_resid_post"),
            ("z.0", "blocks.0.attn.hook_z"),
            ("embed", "hook_embed"),
            ("anything", "anything"),
        ] {
            assert_eq!(from_transformer_lens(theirs), ours);
            assert_eq!(to_transformer_lens(ours), theirs);
        }
        assert_eq!(
            from_module("model.layers.3").as_deref(),
            Some("resid_post.3")
        );
        assert_eq!(from_module("layers.3.mlp").as_deref(), Some("mlp_out.3"));
        assert_eq!(from_module("embed_tokens"), None);
    }
}
