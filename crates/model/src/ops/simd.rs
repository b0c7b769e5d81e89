//! f32 vectors of the width that the processor has, chosen at run time.

#![allow(unsafe_code)] // vector intrinsics and loads at unchecked places: the innermost loops of convolutions

/// A set of vector instructions. A value of an implementing type proves that the processor has them.
pub(super) trait Simd: Copy + Send + Sync {
    /// Numbers in a vector.
    const LANES: usize;
    /// Whether there are 32 vector registers, not 16.
    const MANY_REGISTERS: bool;
    /// `LANES` numbers.
    type Vector: Copy;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::Vector;
    /// `a · b + c`
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a + b`
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Sum of the lanes.
    fn sum(self, a: Self::Vector) -> f32;
    /// The numbers at `from[at..at + LANES]`.
    ///
    /// # Safety
    /// That range lies inside `from`.
    unsafe fn load(self, from: &[f32], at: usize) -> Self::Vector;
    /// Writes the first `to.len()` lanes, at most `LANES`.
    fn store(self, a: Self::Vector, to: &mut [f32]);
}

/// A computation that can be compiled for any [`Simd`]; `run` is to be `#[inline(always)]`, or it is compiled for none.
pub(super) trait Kernel {
    fn run<S: Simd>(self, simd: S);
}

/// An instruction set that this processor has: only [`Level::available`] makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level(Set);

#[derive(Clone, Copy, Debug)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// Every instruction set of this processor, widest first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma");
            [(has!("avx512f"), Set::Avx512), (avx2, Set::Avx2)]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let wide = [];
        wide.into_iter()
            .filter_map(|(present, set)| present.then_some(set))
            .chain([Set::Portable])
            .map(Self)
    }

    /// The widest instruction set of this processor.
    pub(super) fn best() -> Self {
        Self::available().next().unwrap_or(Self(Set::Portable))
    }

    /// Numbers in a vector.
    pub(super) fn lanes(self) -> usize {
        match self.0 {
            Set::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => x86::Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => x86::Avx512::LANES,
        }
    }

    /// Whether there are 32 vector registers, not 16.
    pub(super) fn many_registers(self) -> bool {
        match self.0 {
            Set::Portable => Portable::MANY_REGISTERS,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => x86::Avx2::MANY_REGISTERS,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => x86::Avx512::MANY_REGISTERS,
        }
    }

    /// Runs `kernel`, compiled for this instruction set.
    pub(super) fn run<K: Kernel>(self, kernel: K) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        fn with_avx512<K: Kernel>(kernel: K) {
            kernel.run(x86::Avx512(()));
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn with_avx2<K: Kernel>(kernel: K) {
            kernel.run(x86::Avx2(()));
        }
        match self.0 {
            Set::Portable => kernel.run(Portable),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Level` of this set exists only where the processor has it.
            Set::Avx2 => unsafe { with_avx2(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Set::Avx512 => unsafe { with_avx512(kernel) },
        }
    }
}

/// Four numbers at a time, in the instructions that every processor of the target has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Simd for Portable {
    const LANES: usize = 4;
    const MANY_REGISTERS: bool = cfg!(target_arch = "aarch64");
    type Vector = [f32; 4];

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 4] {
        [x; 4]
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| {
            // Without an instruction for it, a fused multiply-add is a slow library call.
            if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                a[i].mul_add(b[i], c[i])
            } else {
                a[i] * b[i] + c[i]
            }
        })
    }

    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sum(self, a: [f32; 4]) -> f32 {
        (a[0] + a[1]) + (a[2] + a[3])
    }

    #[inline(always)]
    unsafe fn load(self, from: &[f32], at: usize) -> [f32; 4] {
        debug_assert!(at + 4 <= from.len());
        // SAFETY: the caller keeps the range inside the slice.
        unsafe { from.as_ptr().add(at).cast::<[f32; 4]>().read() }
    }

    #[inline(always)]
    fn store(self, a: [f32; 4], to: &mut [f32]) {
        to.copy_from_slice(&a[..to.len()]);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// AVX-512F.
    #[derive(Clone, Copy)]
    pub(super) struct Avx512(pub(super) ());

    impl Simd for Avx512 {
        const LANES: usize = 16;
        const MANY_REGISTERS: bool = true;
        type Vector = __m512;

        #[inline(always)]
        fn splat(self, x: f32) -> __m512 {
            // SAFETY: `self` proves AVX-512F, here and below.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        fn sum(self, a: __m512) -> f32 {
            // SAFETY: as above.
            unsafe { _mm512_reduce_add_ps(a) }
        }

        #[inline(always)]
        unsafe fn load(self, from: &[f32], at: usize) -> __m512 {
            debug_assert!(at + 16 <= from.len());
            // SAFETY: the caller keeps the range inside the slice.
            unsafe { _mm512_loadu_ps(from.as_ptr().add(at)) }
        }

        #[inline(always)]
        fn store(self, a: __m512, to: &mut [f32]) {
            assert!(to.len() <= 16);
            let mask = ((1u32 << to.len()) - 1) as __mmask16;
            // SAFETY: as above; only the lanes inside the slice are written.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, a) }
        }
    }

    /// AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(super) struct Avx2(pub(super) ());

    impl Simd for Avx2 {
        const LANES: usize = 8;
        const MANY_REGISTERS: bool = false;
        type Vector = __m256;

        #[inline(always)]
        fn splat(self, x: f32) -> __m256 {
            // SAFETY: `self` proves AVX2 and FMA, here and below.
            unsafe { _mm256_set1_ps(x) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_add_ps(a, b) }
        }

        #[inline(always)]
        fn sum(self, a: __m256) -> f32 {
            // SAFETY: as above.
            unsafe {
                let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
                _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
            }
        }

        #[inline(always)]
        unsafe fn load(self, from: &[f32], at: usize) -> __m256 {
            debug_assert!(at + 8 <= from.len());
            // SAFETY: the caller keeps the range inside the slice.
            unsafe { _mm256_loadu_ps(from.as_ptr().add(at)) }
        }

        #[inline(always)]
        fn store(self, a: __m256, to: &mut [f32]) {
            if to.len() == 8 {
                // SAFETY: as above; the slice has the eight places.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr(), a) }
            } else {
                let mut lanes = [0.0; 8];
                // SAFETY: as above; the array has the eight places.
                unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), a) }
                to.copy_from_slice(&lanes[..to.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Check;

    impl Kernel for Check {
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let numbers: Vec<f32> = (0..40).map(|i| i as f32 * 0.5).collect();
            for at in 0..3 {
                // SAFETY: 2 + 16 ≤ 40.
                let a = unsafe { simd.load(&numbers, at) };
                let b = simd.mul_add(a, simd.splat(2.0), simd.add(a, simd.splat(1.0)));
                let expected: Vec<f32> = numbers[at..at + S::LANES]
                    .iter()
                    .map(|x| 3.0 * x + 1.0)
                    .collect();
                assert_eq!(simd.sum(b), expected.iter().sum::<f32>());
                for n in 0..=S::LANES {
                    let mut out = vec![-1.0; n];
                    simd.store(b, &mut out);
                    assert_eq!(out, expected[..n]);
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_computes_alike() {
        for level in Level::available() {
            level.run(Check);
        }
    }
}
