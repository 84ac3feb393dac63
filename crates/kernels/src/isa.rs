//! Which vector instructions this machine has, found out once.

use std::sync::OnceLock;

/// Instruction sets that the products of linear layers are written for, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Whatever the compiler makes of plain loops for this machine.
    Portable,
    /// AVX-512 F, BW and VL: `f32` products.
    Avx512,
    /// The same with the dot products of `bf16` pairs.
    Avx512Bf16,
    /// The same with AMX-BF16 tiles. No kernel uses them yet: one would be another `linear::unit::Unit`, chosen in
    /// `linear::dispatch`, and would be the first for which `bf16x3` beats `f32`.
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
    match (avx512, is_x86_feature_detected!("avx512bf16"), amx()) {
        (false, _, _) => Isa::Portable,
        (true, false, _) => Isa::Avx512,
        (true, true, false) => Isa::Avx512Bf16,
        (true, true, true) => Isa::Amx,
    }
}

/// AMX-BF16 and AMX-TILE: bits 22 and 24 of EDX in leaf 7. (Their macro is not stable.)
#[cfg(target_arch = "x86_64")]
fn amx() -> bool {
    let edx = std::arch::x86_64::__cpuid_count(7, 0).edx;
    edx & (1 << 22) != 0 && edx & (1 << 24) != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Portable
}
