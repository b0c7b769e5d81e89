//! Tensors as rows of channels, and sums over rows: by units that walk down the channels of a chunk of rows, then over the chunks. There
//! are no atomic additions, so that the same numbers give the same sums.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous_aligned;
use burn_cubecl::ops::{permute_nhwc_to_nchw, reshape};
use burn_cubecl::tensor::CubeTensor;

use super::{address_type, channels_last, empty_of};

/// The tensor as `[rows, channels]`, the channels of a row side by side.
pub(super) fn rows(tensor: CubeTensor) -> CubeTensor {
    let shape = tensor.shape();
    let channels = shape[shape.num_dims() - 1];
    let rows = reshape(tensor, [shape.num_elements() / channels, channels].into());
    match rows.meta.strides()[1] {
        1 => rows,
        _ => into_contiguous_aligned(rows),
    }
}

/// Maps `[batch, channels, height, width]` as the rows of their cells.
pub(super) fn rows_of_maps(maps: CubeTensor) -> CubeTensor {
    rows(channels_last(maps))
}

/// [`rows_of_maps`] as maps of this shape.
pub(super) fn maps_of_rows(rows: CubeTensor, shape: &Shape) -> CubeTensor {
    let [batch, channels, height, width] = shape.dims();
    permute_nhwc_to_nchw(reshape(rows, [batch, height, width, channels].into()))
}

/// A new tensor of f32 numbers beside this one, not set.
pub(super) fn empty_f32<const D: usize>(tensor: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    empty_of(tensor, shape.into(), DType::F32)
}

/// Units that walk down rows: along x beside each other over the vectors of a row, along y over rows.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    /// Units along x.
    pub lanes: usize,
    /// Units along y.
    pub depth: usize,
    /// Cubes that together cover a row.
    pub tiles: usize,
}

impl Walk {
    /// Over rows of so many vectors, `lanes` units at most beside each other.
    pub fn over(client: &Client, vectors: usize, lanes: usize) -> Self {
        let units = units(client);
        let lanes = vectors.next_power_of_two().min(lanes).min(units);
        Self {
            lanes,
            depth: units / lanes,
            tiles: vectors.div_ceil(lanes),
        }
    }

    pub fn cube_dim(&self) -> CubeDim {
        CubeDim::new_2d(self.lanes as u32, self.depth as u32)
    }

    /// So many cubes one below another, each of them as wide as a row.
    pub fn cubes(&self, below: usize) -> CubeCount {
        CubeCount::new_2d(below as u32, self.tiles as u32)
    }

    /// Cubes one below another that leave each unit a few rows.
    pub fn cubes_down(&self, rows: usize) -> CubeCount {
        self.cubes(rows.div_ceil(4 * self.depth).min(1 << 14))
    }
}

/// Units of a cube: a power of two.
pub(super) fn units(client: &Client) -> usize {
    let most = client
        .properties()
        .hardware
        .max_units_per_cube
        .clamp(1, 256);
    1 << most.ilog2()
}

/// Rows that one cube sums up, and the number of these chunks.
pub(super) fn chunks(rows: usize, walk: &Walk) -> (usize, usize) {
    const MOST: usize = 128;
    let chunk = rows.div_ceil(MOST).next_multiple_of(walk.depth).max(1);
    (chunk, rows.div_ceil(chunk).max(1))
}

/// Sums over the rows of both `[chunks, channels]`.
pub(super) fn sum_chunks(a: CubeTensor, b: CubeTensor, vector: usize) -> [CubeTensor; 2] {
    let [_, channels] = a.shape().dims();
    let totals = [(); 2].map(|()| empty_f32(&a, [channels]));
    let walk = Walk::over(&a.client, channels / vector, 8);
    totals_of_chunks::launch(
        &a.client.clone(),
        walk.cubes(1),
        walk.cube_dim(),
        address_type([&a, &b]),
        vector,
        a.into_tensor_arg(),
        b.into_tensor_arg(),
        totals[0].clone().into_tensor_arg(),
        totals[1].clone().into_tensor_arg(),
        walk.lanes,
        walk.depth,
    );
    totals
}

#[cube(launch, address_type = "dynamic")]
fn totals_of_chunks<N: Size>(
    a: &Tensor<Vector<f32, N>>,
    b: &Tensor<Vector<f32, N>>,
    total_of_a: &mut Tensor<Vector<f32, N>>,
    total_of_b: &mut Tensor<Vector<f32, N>>,
    #[comptime] lanes: usize,
    #[comptime] depth: usize,
) {
    let size = N::value().comptime();
    let vectors = a.shape(1) / size;
    let column = CUBE_POS_Y as usize * lanes + UNIT_POS_X as usize;
    let mut sum_of_a = Vector::<f32, N>::new(0.0);
    let mut sum_of_b = Vector::<f32, N>::new(0.0);
    if column < vectors {
        for row in range_stepped(UNIT_POS_Y as usize, a.shape(0), depth) {
            sum_of_a += a[row * a.stride(0) / size + column];
            sum_of_b += b[row * b.stride(0) / size + column];
        }
    }
    let sum_of_a = sum_down::<N>(sum_of_a, lanes, depth);
    let sum_of_b = sum_down::<N>(sum_of_b, lanes, depth);
    if column < vectors && UNIT_POS_Y == 0 {
        total_of_a[column] = sum_of_a;
        total_of_b[column] = sum_of_b;
    }
}

/// The sum of what the cube's units one below another have, known to all of them. All units of the cube must come here.
#[cube]
pub(super) fn sum_down<N: Size>(
    own: Vector<f32, N>,
    #[comptime] lanes: usize,
    #[comptime] depth: usize,
) -> Vector<f32, N> {
    let mut all = Shared::<[Vector<f32, N>]>::new_slice(lanes * depth);
    all[UNIT_POS_Y as usize * lanes + UNIT_POS_X as usize] = own;
    sync_cube();
    let mut sum = Vector::<f32, N>::new(0.0);
    for y in 0..depth {
        sum += all[y * lanes + UNIT_POS_X as usize];
    }
    sum
}

/// The sum of the numbers in all vectors that the cube's units beside each other have, known to all of them. All units of the cube must
/// come here.
#[cube]
pub(super) fn sum_across<N: Size>(
    own: Vector<f32, N>,
    #[comptime] lanes: usize,
    #[comptime] depth: usize,
) -> f32 {
    let mut all = Shared::<[f32]>::new_slice(lanes * depth);
    let first = UNIT_POS_Y as usize * lanes;
    let mut sum = own.extract(0usize);
    #[unroll]
    for i in 1..N::value().comptime() {
        sum += own.extract(i);
    }
    all[first + UNIT_POS_X as usize] = sum;
    sync_cube();
    let mut total = 0.0f32;
    for x in 0..lanes {
        total += all[first + x];
    }
    total
}

#[cfg(test)]
mod tests {
    use burn::nn::BatchNormConfig;
    use burn::tensor::{DType, Distribution, Tensor};

    use super::super::super::batch_norm;
    use super::super::super::bilinear::bilinear;
    use super::super::super::layer_norm::layer_norm;
    use super::super::test_device;

    /// Sums in f32 whatever the maps' type, results rounded once, parameters' gradients f32.
    #[test]
    #[ignore = "needs a GPU; run scripts/gpu-tests.sh"]
    fn half_precision_maps_on_gpu() {
        let device = test_device();
        for (dtype, relative) in [(DType::F16, 1.0 / 1024.0), (DType::BF16, 1.0 / 128.0)] {
            if !device.supports_dtype(dtype) {
                continue;
            }
            let device = device.clone().autodiff();
            let random = Distribution::Normal(1.0, 1.0);
            // Rounded, so that both compute with the same numbers.
            let x = Tensor::<4>::random([2, 5, 4, 12], random, &device).cast(dtype);
            let gamma = Tensor::<1>::random([12], random, &device).require_grad();
            let beta = Tensor::<1>::random([12], random, &device);
            type Op<'a> = &'a dyn Fn(Tensor<4>) -> Tensor<4>;
            let ops: [(&str, Op); 3] = [
                ("layer norm", &|x| {
                    layer_norm(x, gamma.clone(), beta.clone(), 1e-6)
                }),
                ("batch norm", &|x| {
                    let norm = BatchNormConfig::new(5).init(&device);
                    batch_norm::forward(&norm, x, true)
                }),
                ("bilinear", &|x| bilinear(x, [9, 5], false)),
            ];
            for (name, op) in ops {
                let run = |x: Tensor<4>| {
                    let x = x.detach().require_grad();
                    let y = op(x.clone());
                    let y_dtype = y.dtype();
                    let y = y.cast(DType::F32);
                    let gradients = (y.clone() * y.clone().detach()).sum().backward();
                    let dx = x.grad(&gradients).unwrap().cast(DType::F32);
                    if let Some(dgamma) = gamma.grad(&gradients) {
                        assert_eq!(dgamma.dtype(), DType::F32);
                    }
                    (y_dtype, [y.inner(), dx])
                };
                let (narrow, ours) = run(x.clone());
                let (_, wide) = run(x.clone().cast(DType::F32));
                assert_eq!(narrow, dtype, "{name}");
                for (ours, wide) in ours.into_iter().zip(wide) {
                    let scale = wide.clone().abs().max().into_scalar::<f32>();
                    let error = (ours - wide).abs().max().into_scalar::<f32>();
                    assert!(
                        error <= 4.0 * relative * scale,
                        "{name}: {error} of {scale}"
                    );
                }
            }
        }
    }
}
