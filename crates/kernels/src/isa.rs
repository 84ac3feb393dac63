//! Which vector instructions this machine has, found out once.

use std::sync::OnceLock;

/// Instruction sets that the products of linear layers are written for, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Whatever the compiler makes of plain loops for this machine.
    Portable,
    /// AVX-512 F, BW and VL: `f32` products.
    Avx512,
    /// The same with the dot products of `bf16` pairs, and tables of bytes.
    Avx512Bf16,
    /// The same with AMX-BF16 tiles, which the system grants to this process.
    Amx,
}

impl Isa {
    /// The best that this machine has.
    pub fn detected() -> Self {
        static ISA: OnceLock<Isa> = OnceLock::new();
        *ISA.get_or_init(detect)
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("fma");
    match (
        avx512,
        is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vbmi"),
        crate::linear::tiled::amx::granted(),
    ) {
        (false, _, _) => Isa::Portable,
        (true, false, _) => Isa::Avx512,
        (true, true, false) => Isa::Avx512Bf16,
        (true, true, true) => Isa::Amx,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Portable
}
