//! The same loops for wider vectors, where the processor has them.

/// Work whose loops the compiler can turn into SIMD. `run` and all it calls in hot loops must be `#[inline(always)]`: only
/// what is inlined is compiled for the wider vectors.
pub(crate) trait Vectorised {
    fn run(self);
}

/// Runs `work` compiled for AVX-512 or AVX2 on a processor that has it, and else for what every processor of the target has.
///
/// Multiplications and additions are not fused, so the results are the same to the bit.
pub(crate) fn run_widest(work: impl Vectorised) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw")]
        fn run_avx512(work: impl Vectorised) {
            work.run();
        }
        #[target_feature(enable = "avx2")]
        fn run_avx2(work: impl Vectorised) {
            work.run();
        }
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512dq") && has!("avx512vl") && has!("avx512bw") {
            // SAFETY: the features are there, and they are all that the function asks for.
            #[allow(unsafe_code)]
            unsafe {
                run_avx512(work);
            }
            return;
        }
        if has!("avx2") {
            // SAFETY: AVX2 is there, and it is all that the function asks for.
            #[allow(unsafe_code)]
            unsafe {
                run_avx2(work);
            }
            return;
        }
    }
    work.run();
}
