//! Bilinear resize of maps.
//!
//! burn 0.22.1 has no gradient of its own on GPUs. Interpolation is linear and separable: along one axis each target cell is a mean of
//! two neighbours in the source, weighted by its distance from each, and its gradient goes back to them with the same weights. Places are
//! fractions of whole numbers, so that they are exact at any size.

use burn::tensor::{Tensor, TensorData};

#[cfg(feature = "cube")]
use super::cube;
#[cfg(feature = "flex")]
use super::flex;
use super::precision::in_f32;

/// Resizes maps to `size` = [height, width]. Target centre i lies at source coordinate (i + ½) · from / to − ½, held inside the source;
/// if `aligned`, at i · (from − 1) / (to − 1).
///
/// # Shapes
/// `[batch, channels, h, w]` → `[batch, channels, height, width]`
pub fn bilinear(x: Tensor<4>, size: [usize; 2], aligned: bool) -> Tensor<4> {
    #[cfg(feature = "cube")]
    if cube::is_float(&x) {
        return extension::bilinear(x, size, aligned);
    }
    in_f32(x, |x| {
        #[cfg(feature = "flex")]
        if flex::is_f32(&x) {
            return extension::bilinear(x, size, aligned);
        }
        by_matrices(x, size, aligned)
    })
}

/// Two products with fixed matrices.
fn by_matrices(x: Tensor<4>, size: [usize; 2], aligned: bool) -> Tensor<4> {
    let [batch, channels, h, w] = x.dims();
    let [height, width] = size;
    let device = x.device();
    let matrix = |from, to| Tensor::<2>::from_data(Axis { from, to, aligned }.matrix(), &device);
    let x = x.reshape([batch * channels * h, w]);
    let x = x.matmul(matrix(w, width).transpose());
    let x = x.reshape([batch, channels, h, width]);
    matrix(h, height).unsqueeze::<4>().matmul(x)
}

/// Resizing along one axis.
#[derive(Clone, Copy)]
struct Axis {
    from: usize,
    to: usize,
    aligned: bool,
}

/// The two neighbours of a target cell, at an edge the same; the weight of the second, that of the first being the rest to 1.
#[derive(Clone, Copy)]
struct Neighbours {
    low: usize,
    high: usize,
    fraction: f32,
}

impl Axis {
    fn neighbours(&self, i: usize) -> Neighbours {
        let last = self.from - 1;
        let (place, unit) = match self.aligned {
            true => (i * last, (self.to - 1).max(1)),
            false => {
                let place = ((2 * i + 1) * self.from).saturating_sub(self.to);
                (place.min(2 * self.to * last), 2 * self.to)
            }
        };
        let low = place / unit;
        Neighbours {
            low,
            high: (low + 1).min(last),
            fraction: (place % unit) as f32 / unit as f32,
        }
    }

    fn all(&self) -> Vec<Neighbours> {
        (0..self.to).map(|i| self.neighbours(i)).collect()
    }

    /// The `[to, from]` matrix whose rows hold the weights of each target cell.
    fn matrix(&self) -> TensorData {
        let mut matrix = vec![0f32; self.to * self.from];
        for (row, cell) in matrix.chunks_mut(self.from).zip(self.all()) {
            row[cell.low] += 1.0 - cell.fraction;
            row[cell.high] += cell.fraction;
        }
        TensorData::new(matrix, [self.to, self.from])
    }
}

#[cfg(any(feature = "flex", feature = "cube"))]
pub(super) use extension::BilinearResize;

#[cfg(any(feature = "flex", feature = "cube"))]
mod extension {
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
    use burn::tensor::{Shape, Tensor};

    pub(super) fn bilinear(x: Tensor<4>, size: [usize; 2], aligned: bool) -> Tensor<4> {
        Tensor::from_dispatch(Dispatch::resize(x.into_dispatch(), size, aligned))
    }

    /// Bilinear resize on the backends that have one of ours.
    #[backend_extension(
        Cube: cfg(feature = "cube"),
        Flex: cfg(feature = "flex"),
        Autodiff,
        Fusion: cfg(feature = "cube")
    )]
    pub trait BilinearResize: Backend {
        /// Maps of this height and width.
        #[fusion(dtype = x, shape = resized(x, *size))]
        fn resize(x: FloatTensor<Self>, size: [usize; 2], aligned: bool) -> FloatTensor<Self>;

        /// The gradient by maps of this height and width, given the one by the resized maps.
        #[fusion(dtype = dy, shape = resized(dy, *size))]
        fn resize_gradient(
            dy: FloatTensor<Self>,
            size: [usize; 2],
            aligned: bool,
        ) -> FloatTensor<Self>;
    }

    /// The shape of the same maps at another height and width.
    pub(in super::super) fn resized(maps: &Shape, [height, width]: [usize; 2]) -> Shape {
        let [batch, channels, _, _] = maps.dims();
        [batch, channels, height, width].into()
    }

    impl<B: Backend + BilinearResize, C: CheckpointStrategy> BilinearResize for Autodiff<B, C> {
        fn resize(x: FloatTensor<Self>, size: [usize; 2], aligned: bool) -> FloatTensor<Self> {
            let [_, _, height, width] = x.shape().dims();
            let prep = ResizeBackward
                .prepare::<C>([x.node()])
                .compute_bound()
                .stateful();
            let y = B::resize(x.into_primitive(), size, aligned);
            match prep {
                OpsKind::Tracked(prep) => prep.finish(([height, width], aligned), y),
                OpsKind::UnTracked(prep) => prep.finish(y),
            }
        }

        fn resize_gradient(_: FloatTensor<Self>, _: [usize; 2], _: bool) -> FloatTensor<Self> {
            panic!("the gradient of a bilinear resize cannot be differentiated");
        }
    }

    #[derive(Debug)]
    struct ResizeBackward;

    impl<B: Backend + BilinearResize> Backward<B, 1> for ResizeBackward {
        type State = ([usize; 2], bool);

        fn backward(
            self,
            ops: Ops<Self::State, 1>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let (size, aligned) = ops.state;
            unary::<B, _>(ops.parents, ops.node, grads, |dy| {
                B::resize_gradient(dy, size, aligned)
            });
        }
    }
}

#[cfg(feature = "flex")]
mod on_flex {
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Flex, TensorMetadata};

    use super::super::flex::{contiguous, slice, tensor};
    use super::super::parallel::by_chunks;
    use super::super::simd::{Kernel, Level, Simd};
    use super::extension::resized;
    use super::{Axis, BilinearResize, Neighbours};

    impl BilinearResize for Flex {
        fn resize(x: FloatTensor<Self>, size: [usize; 2], aligned: bool) -> FloatTensor<Self> {
            let x = contiguous(x);
            let [_, _, h, w] = x.shape().dims();
            let [height, width] = size;
            let axis = |from, to| Axis { from, to, aligned }.all();
            let (rows, columns) = (axis(h, height), axis(w, width));
            let shape = resized(&x.shape(), size);
            let level = Level::best();
            let y = by_chunks(shape.num_elements(), height * width, |map, y| {
                level.run(Forward {
                    x: &slice(&x)[map * h * w..][..h * w],
                    rows: &rows,
                    columns: &columns,
                    from: w,
                    buffer: &mut vec![0.0; 2 * width],
                    y,
                });
            });
            tensor(y, shape.to_vec())
        }

        fn resize_gradient(
            dy: FloatTensor<Self>,
            size: [usize; 2],
            aligned: bool,
        ) -> FloatTensor<Self> {
            let dy = contiguous(dy);
            let [_, _, height, width] = dy.shape().dims();
            let [h, w] = size;
            let axis = |from, to| Transposed::of(&Axis { from, to, aligned });
            let (rows, columns) = (axis(h, height), axis(w, width));
            let shape = resized(&dy.shape(), size);
            let level = Level::best();
            let dx = by_chunks(shape.num_elements(), h * w, |map, dx| {
                level.run(Gradient {
                    dy: &slice(&dy)[map * height * width..][..height * width],
                    rows: &rows,
                    columns: &columns,
                    from: w,
                    buffer: &mut vec![0.0; width],
                    dx,
                });
            });
            tensor(dx, shape.to_vec())
        }
    }

    /// A map. Rows of the source are widened one by one, then two of them are mixed for each target row.
    struct Forward<'a> {
        x: &'a [f32],
        rows: &'a [Neighbours],
        columns: &'a [Neighbours],
        /// Width of the source.
        from: usize,
        /// Two rows of the target's width.
        buffer: &'a mut [f32],
        y: &'a mut [f32],
    }

    impl Kernel for Forward<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let width = self.columns.len();
            let (even, odd) = self.buffer.split_at_mut(width);
            // Neighbours differ by one, so that one of them is even and the other odd, or they are the same.
            let mut widened = [usize::MAX; 2];
            for (y, row) in self.y.chunks_exact_mut(width).zip(self.rows) {
                for source in [row.low, row.high] {
                    if widened[source % 2] != source {
                        widened[source % 2] = source;
                        let x = &self.x[source * self.from..][..self.from];
                        let wide = if source % 2 == 0 {
                            &mut *even
                        } else {
                            &mut *odd
                        };
                        for (wide, column) in wide.iter_mut().zip(self.columns) {
                            *wide = mix(x[column.low], x[column.high], column.fraction);
                        }
                    }
                }
                let wide = |source: usize| {
                    if source.is_multiple_of(2) {
                        &*even
                    } else {
                        &*odd
                    }
                };
                let (low, high) = (wide(row.low), wide(row.high));
                for ((y, low), high) in y.iter_mut().zip(low).zip(high) {
                    *y = mix(*low, *high, row.fraction);
                }
            }
        }
    }

    #[inline(always)]
    fn mix(low: f32, high: f32, fraction: f32) -> f32 {
        (1.0 - fraction) * low + fraction * high
    }

    /// For each source cell the run of target cells that it touches: where the run and its weights begin.
    struct Transposed {
        runs: Vec<Run>,
        weights: Vec<f32>,
    }

    struct Run {
        start: usize,
        weights: std::ops::Range<usize>,
    }

    impl Transposed {
        fn of(axis: &Axis) -> Self {
            let cells = axis.all();
            let mut all = Self {
                runs: Vec::new(),
                weights: Vec::new(),
            };
            let mut start = 0;
            for j in 0..axis.from {
                // Neighbours grow along the axis: cells before those of this source cell are before those of the next.
                while start < cells.len() && cells[start].high < j {
                    start += 1;
                }
                let first = all.weights.len();
                for cell in cells[start..].iter().take_while(|cell| cell.low <= j) {
                    let low = if cell.low == j {
                        1.0 - cell.fraction
                    } else {
                        0.0
                    };
                    let high = if cell.high == j { cell.fraction } else { 0.0 };
                    all.weights.push(low + high);
                }
                all.runs.push(Run {
                    start,
                    weights: first..all.weights.len(),
                });
            }
            all
        }

        fn of_cell(&self, j: usize) -> (usize, &[f32]) {
            let run = &self.runs[j];
            (run.start, &self.weights[run.weights.clone()])
        }
    }

    /// The gradient of a map: for each source row, the sum of the target rows that it touches, then that sum's columns.
    struct Gradient<'a> {
        dy: &'a [f32],
        rows: &'a Transposed,
        columns: &'a Transposed,
        /// Width of the source.
        from: usize,
        /// One row of the target's width.
        buffer: &'a mut [f32],
        dx: &'a mut [f32],
    }

    impl Kernel for Gradient<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let width = self.buffer.len();
            for (j, dx) in self.dx.chunks_exact_mut(self.from).enumerate() {
                let (start, weights) = self.rows.of_cell(j);
                self.buffer.fill(0.0);
                let rows = self.dy[start * width..].chunks_exact(width);
                for (weight, dy) in weights.iter().zip(rows) {
                    for (sum, dy) in self.buffer.iter_mut().zip(dy) {
                        *sum += weight * dy;
                    }
                }
                for (j, dx) in dx.iter_mut().enumerate() {
                    let (start, weights) = self.columns.of_cell(j);
                    let cells = weights.iter().zip(&self.buffer[start..]);
                    *dx = cells.map(|(weight, dy)| weight * dy).sum();
                }
            }
        }
    }
}

#[cfg(all(test, any(feature = "flex", feature = "cube")))]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Place of target cell `i` in the source, as PyTorch's documentation has it.
    fn place(i: usize, from: usize, to: usize, aligned: bool) -> f64 {
        let (i, f, t) = (i as f64, from as f64, to as f64);
        match (aligned, to) {
            (true, 1) => 0.0,
            (true, _) => i * (f - 1.0) / (t - 1.0),
            (false, _) => ((i + 0.5) * f / t - 0.5).clamp(0.0, f - 1.0),
        }
    }

    /// The weight of source cell `j` at target cell `i`: 1 at its place, falling to 0 at its neighbours.
    fn weight(i: usize, j: usize, from: usize, to: usize, aligned: bool) -> f64 {
        (1.0 - (place(i, from, to, aligned) - j as f64).abs()).max(0.0)
    }

    /// Values and gradients against sums over all source cells in double precision.
    fn check(device: &Device) {
        let shapes = [
            ([2, 3, 5, 7], [10, 13]),
            ([1, 1, 4, 3], [4, 11]),
            ([2, 5, 9, 6], [3, 6]),
            ([1, 8, 3, 5], [12, 20]),
            ([2, 12, 11, 4], [5, 9]),
            ([1, 40, 1, 6], [4, 1]),
            ([2, 3, 6, 1], [1, 5]),
            ([1, 4, 1, 1], [3, 2]),
        ];
        for (shape, size) in shapes {
            for aligned in [false, true] {
                let [batch, channels, h, w] = shape;
                let [height, width] = size;
                let number = |i: usize| ((i * 37 % 101) as f32 * 0.3).sin();
                let x: Vec<f32> = (0..shape.iter().product()).map(number).collect();
                let n = batch * channels * height * width;
                let dy: Vec<f32> = (0..n).map(|i| number(i + 7)).collect();
                let mut y = vec![0.0; n];
                let mut dx = vec![0.0; x.len()];
                for (i, y) in y.iter_mut().enumerate() {
                    let (map, row, column) = (i / (height * width), i / width % height, i % width);
                    for (r, c) in (0..h).flat_map(|r| (0..w).map(move |c| (r, c))) {
                        let j = (map * h + r) * w + c;
                        let weight = weight(row, r, h, height, aligned)
                            * weight(column, c, w, width, aligned);
                        *y += weight * f64::from(x[j]);
                        dx[j] += weight * f64::from(dy[i]);
                    }
                }
                let device = device.clone().autodiff();
                // One in the order of its axes, one whose channels lie side by side.
                let in_order = Tensor::<4>::from_data(TensorData::new(x, shape), &device);
                let apart = in_order.clone().permute([0, 2, 3, 1]) * 1.0;
                let apart = apart.permute([0, 3, 1, 2]);
                for x in [in_order, apart] {
                    let x = x.detach().require_grad();
                    let output = bilinear(x.clone(), size, aligned);
                    assert_eq!(output.dims(), [batch, channels, height, width]);
                    let data = TensorData::new(dy.clone(), output.dims());
                    let factors = Tensor::<4>::from_data(data, &device);
                    let gradients = (output.clone() * factors).sum().backward();
                    let name = format!("{shape:?} to {size:?}, aligned: {aligned}");
                    close(&name, output, &y);
                    close(&name, x.grad(&gradients).unwrap(), &dx);
                }
            }
        }
    }

    fn close(name: &str, ours: Tensor<4>, exact: &[f64]) {
        let ours = ours.into_data().try_to_vec::<f32>().unwrap();
        let scale = exact.iter().fold(1.0f64, |scale, x| scale.max(x.abs()));
        for (i, (ours, exact)) in ours.iter().zip(exact).enumerate() {
            let error = (f64::from(*ours) - exact).abs();
            assert!(error < 2e-6 * scale, "{name}: {ours} is not {exact} at {i}");
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn as_sums_over_all_cells() {
        check(&Device::flex());
    }

    #[cfg(feature = "cube")]
    #[test]
    #[ignore = "needs a GPU; run scripts/gpu-tests.sh"]
    fn as_sums_over_all_cells_on_gpu() {
        check(&cube::test_device());
    }

    #[cfg(feature = "flex")]
    #[test]
    fn matrices_as_the_loops() {
        let x = Tensor::<4>::random(
            [2, 3, 5, 7],
            burn::tensor::Distribution::Default,
            &Device::flex(),
        );
        for aligned in [false, true] {
            let ours = bilinear(x.clone(), [8, 4], aligned).into_data();
            let products = by_matrices(x.clone(), [8, 4], aligned).into_data();
            ours.assert_approx_eq::<f32>(&products, burn::tensor::Tolerance::absolute(1e-6));
        }
    }
}
