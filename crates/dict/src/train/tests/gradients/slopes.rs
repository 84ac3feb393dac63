//! Every rule's gradient against finite differences of its loss in f64.

use super::{Case, N_FEATURES, small};
use crate::rule::CodeNormalization;
use crate::train::forward::is_dense;
use crate::train::partition::Block;
use crate::train::settings::{Distance, Penalty};

#[test]
fn both_distances_have_the_slope_of_their_loss() {
    for distance in [Distance::Norm, Distance::Squared] {
        let case = Case {
            distance,
            ..Case::default()
        };
        let (parameters, x) = small(&case);
        assert!(
            !is_dense(&case.parts(&parameters, &x), N_FEATURES),
            "the sparse loops are tested here"
        );
        case.check();
        Case { floor: 0.0, ..case }.check();
    }
}

#[test]
fn penalties_have_the_slope_of_their_loss_under_every_normalization() {
    let normalizations = [
        CodeNormalization::Crosscoder,
        CodeNormalization::Sae,
        CodeNormalization::Mixed {
            alpha_sae: 1.0,
            alpha_crosscoder: 0.1,
        },
        CodeNormalization::None,
        CodeNormalization::Decoupled {
            thresholds: Vec::new(),
        },
    ];
    for normalization in normalizations {
        for penalty in [Penalty::Linear, Penalty::Tanh { scale: 0.4 }] {
            let (penalty, normalization) = (Some(penalty), normalization.clone());
            Case {
                penalty,
                normalization,
                distance: Distance::Squared,
                ..Case::default()
            }
            .check();
        }
    }
}

#[test]
fn decoupled_codes_have_the_slope_of_their_loss() {
    let normalization = CodeNormalization::Decoupled {
        thresholds: Vec::new(),
    };
    Case {
        normalization,
        ..Case::default()
    }
    .check();
}

#[test]
fn nested_dictionaries_have_the_slope_of_their_loss() {
    for groups in [vec![3, 16], vec![2, 7, 16]] {
        Case {
            groups,
            floor: 0.8,
            ..Case::default()
        }
        .check();
    }
}

#[test]
fn masked_models_have_no_gradient_and_the_others_that_of_their_loss() {
    let only = |models: &[usize], n_features| Block {
        models: models.to_vec(),
        ..Block::shared(n_features)
    };
    let shared = Block {
        penalty: 0.2,
        ..Block::shared(6)
    };
    let partition = vec![only(&[0], 4), only(&[1, 2], 6), shared];
    Case {
        partition,
        penalty: Some(Penalty::Linear),
        ..Case::default()
    }
    .check();
}
