//! Products of f32 matrices on the CPU.

use gemm::Parallelism;

/// A matrix by its first number and the steps from row to row and from column to column.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) row: usize,
    pub(super) column: usize,
}

impl<'a> Matrix<'a> {
    /// One whose rows lie one behind another.
    pub(super) fn rows_of(numbers: &'a [f32], columns: usize) -> Self {
        Self {
            numbers,
            row: columns,
            column: 1,
        }
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            row: self.column,
            column: self.row,
            ..self
        }
    }

    /// All rows but the first `rows`.
    pub(super) fn skip_rows(self, rows: usize) -> Self {
        Self {
            numbers: &self.numbers[rows * self.row..],
            ..self
        }
    }

    /// Whether it has this many rows and columns.
    fn holds(self, rows: usize, columns: usize) -> bool {
        (rows - 1) * self.row + (columns - 1) * self.column < self.numbers.len()
    }
}

/// `to` `[m, n]` = `a` `[m, k]` · `b` `[k, n]`, added to what is there if `add`; in one thread.
pub(super) fn multiply(sizes: [usize; 3], to: &mut [f32], a: Matrix, b: Matrix, add: bool) {
    product(sizes, to, a, b, add, Parallelism::None);
}

/// As [`multiply`], in all threads.
pub(super) fn multiply_in_parallel(
    sizes: [usize; 3],
    to: &mut [f32],
    a: Matrix,
    b: Matrix,
    add: bool,
) {
    product(sizes, to, a, b, add, Parallelism::Rayon(0));
}

fn product(
    [m, n, k]: [usize; 3],
    to: &mut [f32],
    a: Matrix,
    b: Matrix,
    add: bool,
    parallelism: Parallelism,
) {
    assert!(m > 0 && n > 0 && k > 0, "an empty product");
    assert!(to.len() == m * n && a.holds(m, k) && b.holds(k, n));
    let step = |step: usize| step as isize;
    // SAFETY: the shapes were checked against the lengths above; `to` is borrowed for writing, so nothing overlaps it.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to.as_mut_ptr(),
            1,
            step(n),
            add,
            a.numbers.as_ptr(),
            step(a.column),
            step(a.row),
            b.numbers.as_ptr(),
            step(b.column),
            step(b.row),
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
