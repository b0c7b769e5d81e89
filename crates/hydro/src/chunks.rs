//! Which parts of each row take part in a step: bitmaps of chunks of cells, with which dry ground is skipped.

use std::ops::Range;

/// Cells a chunk: long enough for whole SIMD vectors, short enough for a narrow river.
pub(crate) const CHUNK: usize = 16;

/// A bit for every chunk of every row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChunkMap {
    words: Vec<u64>,
    words_per_row: usize,
}

impl ChunkMap {
    pub(crate) fn new(height: usize, width: usize) -> Self {
        let words_per_row = width.div_ceil(64 * CHUNK);
        Self {
            words: vec![0; height * words_per_row],
            words_per_row,
        }
    }

    /// The bits of a row; none beyond the grid.
    pub(crate) fn row(&self, row: usize) -> &[u64] {
        let start = row * self.words_per_row;
        self.words
            .get(start..start + self.words_per_row)
            .unwrap_or(&[])
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [u64] {
        &mut self.words[row * self.words_per_row..][..self.words_per_row]
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    pub(crate) fn words_per_row(&self) -> usize {
        self.words_per_row
    }

    /// Marks the chunk of a cell.
    pub(crate) fn mark(&mut self, row: usize, col: usize) {
        mark(self.row_mut(row), col / CHUNK);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Becomes the union of two maps of the same grid.
    pub(crate) fn set_union(&mut self, a: &Self, b: &Self) {
        for ((word, a), b) in self.words.iter_mut().zip(&a.words).zip(&b.words) {
            *word = a | b;
        }
    }
}

/// Marks a chunk in the bits of a row.
#[inline(always)]
pub(crate) fn mark(row: &mut [u64], chunk: usize) {
    row[chunk / 64] |= 1 << (chunk % 64);
}

/// Chunks of a row.
pub(crate) fn count(row: &[u64]) -> u32 {
    row.iter().map(|word| word.count_ones()).sum()
}

/// The chunks marked in any of some rows, as ranges of cells from west to east; between two there is at least one chunk.
pub(crate) struct Runs<'a> {
    rows: [&'a [u64]; 4],
    /// The bit to look at next.
    next: usize,
    bits: usize,
    width: usize,
}

impl<'a> Runs<'a> {
    #[inline(always)]
    pub(crate) fn new(rows: [&'a [u64]; 4], width: usize) -> Self {
        Self {
            rows,
            next: 0,
            bits: width.div_ceil(CHUNK),
            width,
        }
    }

    /// The first bit from `from` on that is set, or with `invert` is not.
    #[inline(always)]
    fn find_bit(&self, from: usize, invert: bool) -> usize {
        let mut at = from;
        while at < self.bits {
            let index = at / 64;
            let mut word = self
                .rows
                .iter()
                .fold(0, |word, row| word | row.get(index).copied().unwrap_or(0));
            if invert {
                word = !word;
            }
            let rest = word >> (at % 64);
            if rest != 0 {
                return (at + rest.trailing_zeros() as usize).min(self.bits);
            }
            at = (index + 1) * 64;
        }
        self.bits
    }
}

impl Iterator for Runs<'_> {
    type Item = Range<usize>;

    #[inline(always)]
    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.find_bit(self.next, false);
        if start == self.bits {
            return None;
        }
        self.next = self.find_bit(start, true);
        Some(start * CHUNK..(self.next * CHUNK).min(self.width))
    }
}

/// The faces (face k lies between cells k-1 and k) between two cells of a row that touch a cell of a run.
#[inline(always)]
pub(crate) fn faces(run: Range<usize>, width: usize) -> Range<usize> {
    let start = run.start.max(1);
    start..(run.end + 1).min(width).max(start)
}

/// One more cell on both sides of a run, as far as a row has them.
#[inline(always)]
pub(crate) fn grow(run: Range<usize>, width: usize) -> Range<usize> {
    run.start.saturating_sub(1)..(run.end + 1).min(width)
}

/// A range as one or two ranges of whole SIMD vectors, the second of which reaches back into the first, where a loop would
/// else end with single values: for loops that may compute some of them twice.
#[inline(always)]
pub(crate) fn vectors(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    const VECTOR: usize = 8;
    let Range { start, end } = range;
    let whole = (end - start) / VECTOR * VECTOR;
    let (first, second) = if whole == 0 || start + whole == end {
        (start..end, end..end)
    } else {
        (start..start + whole, end - VECTOR..end)
    };
    [first, second]
        .into_iter()
        .filter(|range| !range.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_union_of_the_rows() {
        // 1100 chunks and a part of one, over several words.
        let width = 1100 * CHUNK + 5;
        let mut map = ChunkMap::new(3, width);
        let mut expected = vec![false; 1101];
        for (row, chunk) in [
            (0, 0),
            (1, 1),
            (0, 3),
            (2, 63),
            (0, 64),
            (1, 65),
            (1, 127),
            (0, 1100),
        ] {
            map.mark(
                row,
                chunk * CHUNK + CHUNK - 1 - 11 * usize::from(chunk == 1100),
            );
            expected[chunk] = true;
        }
        for (chunk, expected) in expected.iter_mut().enumerate().take(400).skip(200) {
            map.mark(2, chunk * CHUNK);
            *expected = true;
        }
        let runs: Vec<_> =
            Runs::new([map.row(0), map.row(1), map.row(2), map.row(3)], width).collect();
        assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
        let mut found = vec![false; 1101];
        for run in &runs {
            found[run.start / CHUNK..run.end.div_ceil(CHUNK)].fill(true);
        }
        assert_eq!(found, expected);
        assert_eq!(runs.last(), Some(&(1100 * CHUNK..width)));
        assert_eq!(count(map.row(2)), 201);
    }

    #[test]
    fn vectors_cover_the_range() {
        let of = |start: usize, end: usize| {
            let ranges = vectors(start..end);
            ranges
                .map(|range| (range.start, range.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(3, 3), []);
        assert_eq!(of(3, 8), [(3, 8)]);
        assert_eq!(of(3, 19), [(3, 19)]);
        assert_eq!(of(3, 21), [(3, 19), (13, 21)]);
    }

    #[test]
    fn faces_lie_between_cells() {
        assert_eq!(faces(0..16, 40), 1..17);
        assert_eq!(faces(32..40, 40), 32..40);
        assert!(faces(0..1, 1).is_empty());
        assert_eq!(grow(16..32, 33), 15..33);
    }
}
