//! New vectors that all threads write.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// `n` numbers of which `write` gets each chunk (the last may be shorter) and its index, all 0 until then.
///
/// A chunk is set to 0 where and when it is written: of `vec![0.0; n]`, which one thread fills before, a training step on two threads
/// takes a tenth of its time.
#[allow(unsafe_code)]
pub(super) fn by_chunks(
    n: usize,
    chunk: usize,
    write: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(n);
    out.spare_capacity_mut()[..n]
        .par_chunks_mut(chunk.max(1))
        .enumerate()
        .for_each(|(i, to)| {
            to.fill(MaybeUninit::new(0.0));
            // SAFETY: all of it was set just now.
            write(i, unsafe { to.assume_init_mut() });
        });
    // SAFETY: the chunks are the first `n` numbers, and all were set.
    unsafe { out.set_len(n) };
    out
}

/// `n` zeros.
pub(super) fn zeros(n: usize) -> Vec<f32> {
    by_chunks(n, 1 << 14, |_, _| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_written_once() {
        for (n, chunk) in [(0, 0), (0, 3), (7, 7), (7, 3), (100_000, 999)] {
            let numbers = by_chunks(n, chunk, |i, to| {
                for (j, x) in to.iter_mut().enumerate() {
                    assert_eq!(*x, 0.0);
                    *x += (i * chunk + j) as f32;
                }
            });
            assert!(numbers.iter().enumerate().all(|(i, x)| *x == i as f32));
            assert_eq!(numbers.len(), n);
        }
        assert_eq!(zeros(5), [0.0; 5]);
    }
}
