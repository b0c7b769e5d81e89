//! Depthwise convolution and its gradients.
//!
//! A depthwise convolution has two operations for every number that it reads and every tap: whether memory, the caches or the arithmetic
//! bounds it is a matter of what is read again. Maps are `[batch, row, column, channel]` here and the units of a plane take neighbouring
//! channels, so that they read whole cache lines.
//!
//! * Output and input gradient: a unit sums a run of up to 16 neighbouring columns for a vector of channels, 32 sums in registers. Each
//!   number of the source and each weight that it reads serves all sums that it is part of: a 7×7 filter takes 13 reads for each output,
//!   not 98. The units of a cube take neighbouring rows, which share most of their source rows in the cache.
//! * Gradient by the weights: a unit sums the taps of one row of the filter, over a run of columns and a part of all rows; the units of a
//!   cube take the rows of the filter, which read the same rows of the maps one after another. One more unit sums the gradient itself, for
//!   the bias. Parts are added in an order that depends on sizes alone: the result is the same in every run.
//!
//! Filter, stride, dilation and padding are known when a kernel is compiled, so which number meets which weight is written out in it.

use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::{permute, permute_nhwc_to_nchw, reshape};
use burn_cubecl::tensor::CubeTensor;

use super::super::depthwise::{Depthwise, Geometry};
use super::{address_type, channels_last, element, empty_beside, empty_of, vector_size};

impl Depthwise for CubeBackend {
    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        weigh(x, weight, None, geometry.output, Taps::of(&geometry, false))
    }

    fn depthwise_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let taps = Taps::of(&geometry, false);
        weigh(x, weight, Some(bias), geometry.output, taps)
    }

    fn depthwise_input_gradient(
        dy: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        weigh(dy, weight, None, geometry.input, Taps::of(&geometry, true))
    }

    fn depthwise_parameter_gradients(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        geometry: Geometry,
        dtype: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        correlate(x, dy, &geometry, dtype)
    }
}

/// Which numbers of a source row meet which weights, for a run of sums. Known when a kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Taps {
    /// Size of the filter.
    kernel: [usize; 2],
    stride: [usize; 2],
    pad: [usize; 2],
    dilation: [usize; 2],
    /// Whether the sums are of the input's gradient, and the source is that of the output.
    transposed: bool,
    /// Neighbouring columns of a run; of a transposed convolution, a multiple of the stride.
    run: usize,
    /// Runs of a row.
    runs: usize,
    /// Sums of the last run.
    rest: usize,
    /// Columns of a source row that lie at or behind the place of the last run.
    last: usize,
}

/// A number of a source row.
struct Read {
    /// Relative to the place of the run.
    column: isize,
    /// The sums that it is part of, each with the column of the filter whose weight it has there.
    uses: Vec<(usize, usize)>,
}

/// Sums of a unit.
const SUMS: usize = 32;

impl Taps {
    /// Runs of the length that takes the fewest reads and operations.
    fn of(geometry: &Geometry, transposed: bool) -> Self {
        let Geometry {
            kernel,
            stride,
            pad,
            dilation,
            ..
        } = *geometry;
        let (source, sums) = match transposed {
            false => (geometry.input[1], geometry.output[1]),
            true => (geometry.output[1], geometry.input[1]),
        };
        let least = if transposed { stride[1] } else { 1 };
        let lengths = (0..5).map(|i| least << i);
        let taps = lengths
            .filter(|run| *run == least || *run <= 16)
            .map(|run| {
                let runs = sums.div_ceil(run);
                let place = (runs - 1) * run;
                let place = if transposed {
                    place / stride[1]
                } else {
                    place * stride[1]
                };
                Self {
                    kernel,
                    stride,
                    pad,
                    dilation,
                    transposed,
                    run,
                    runs,
                    rest: sums + run - runs * run,
                    last: source.saturating_sub(place),
                }
            });
        // Where two are equal, the longer run.
        taps.rev().min_by_key(Self::cost).expect("some length")
    }

    /// Of a row of sums: a vector of four channels takes four cycles to read and one to multiply and add.
    fn cost(&self) -> usize {
        let uses: usize = self.reads().iter().map(|read| read.uses.len()).sum();
        self.runs * (4 * (self.reads().len() + self.kernel[1]) + uses)
    }

    /// What a run reads of a source row for one row of the filter, from left to right.
    fn reads(&self) -> Vec<Read> {
        let mut reads: Vec<Read> = Vec::new();
        for sum in 0..self.run {
            for tap in 0..self.kernel[1] {
                let (sum_, tap_) = (sum as isize, tap as isize);
                let [stride, pad, dilation] =
                    [self.stride, self.pad, self.dilation].map(|pair| pair[1] as isize);
                let column = if self.transposed {
                    let place = sum_ + pad - tap_ * dilation;
                    if place.rem_euclid(stride) != 0 {
                        continue;
                    }
                    place.div_euclid(stride)
                } else {
                    sum_ * stride + tap_ * dilation - pad
                };
                match reads.iter_mut().find(|read| read.column == column) {
                    Some(read) => read.uses.push((sum, tap)),
                    None => reads.push(Read {
                        column,
                        uses: vec![(sum, tap)],
                    }),
                }
            }
        }
        reads.sort_by_key(|read| read.column);
        reads
    }

    /// Channels of a unit.
    fn channels<const N: usize>(&self, tensors: [&CubeTensor; N]) -> usize {
        let most = (SUMS / self.run).clamp(1, 4);
        vector_size(tensors).min(most)
    }
}

/// Units of a cube along vectors of channels: a plane's worth, or half of it where that leaves fewer idle.
fn lanes(vectors: usize) -> usize {
    match vectors {
        0..=16 => vectors.next_power_of_two(),
        _ if vectors.next_multiple_of(16) < vectors.next_multiple_of(32) => 16,
        _ => 32,
    }
}

/// Units of a cube.
const UNITS: usize = 256;

/// The convolution of `x` that `taps` says, as a map of this size.
fn weigh(
    x: CubeTensor,
    weight: CubeTensor,
    bias: Option<CubeTensor>,
    [height, width]: [usize; 2],
    taps: Taps,
) -> CubeTensor {
    let x = channels_last(x);
    let [batch, _, _, channels] = x.meta.shape().dims();
    let y = empty_beside(&x, Shape::new([batch, height, width, channels]));
    let weight = into_contiguous(permute(weight, &[2, 3, 0, 1]));
    let weight = reshape(
        weight,
        Shape::new([taps.kernel[0] * taps.kernel[1], channels]),
    );
    let bias = bias.map(into_contiguous);
    let vector = taps.channels([&x, &y, &weight]);
    let lanes = lanes(channels / vector);
    let rows = (UNITS / lanes).min(height.next_power_of_two());
    let cubes = (channels / vector).div_ceil(lanes) * taps.runs * height.div_ceil(rows) * batch;
    let client = y.client.clone();
    let cube = CubeDim::new_2d(lanes as u32, rows as u32);
    // SAFETY: units outside of the output end, and what lies outside of the source is not read.
    #[allow(unsafe_code)]
    unsafe {
        weighted::launch_unchecked(
            &client,
            calculate_cube_count_elemwise(&client, cubes * lanes * rows, cube),
            cube,
            address_type([&x, &weight, &y]),
            vector,
            x.clone().into_tensor_arg(),
            weight.clone().into_tensor_arg(),
            bias.map(|bias| bias.into_tensor_arg()).into(),
            y.clone().into_tensor_arg(),
            taps,
            [element(&x), element(&weight)],
        );
    }
    permute_nhwc_to_nchw(y)
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn weighted<F: Float, W: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    weight: &Tensor<Vector<W, N>>,
    bias: ComptimeOption<&Tensor<Vector<W, N>>>,
    y: &mut Tensor<Vector<F, N>>,
    #[comptime] taps: Taps,
    #[define(F, W)] _elements: [ElemType; 2],
) {
    let size = y.vector_size();
    let vectors = y.shape(3) / size;
    let height = y.shape(1);
    let lanes = CUBE_DIM_X as usize;
    let rows = CUBE_DIM_Y as usize;
    let groups = vectors.div_ceil(lanes);
    let blocks = height.div_ceil(rows);
    let runs = comptime!(taps.runs);

    let mut place = CUBE_POS;
    let vector = place % groups * lanes + UNIT_POS_X as usize;
    place /= groups;
    let run = place % runs;
    place /= runs;
    let row = place % blocks * rows + UNIT_POS_Y as usize;
    let map = place / blocks;
    if vector >= vectors || row >= height || map >= y.shape(0) {
        terminate!();
    }

    let mut sums = Array::<Vector<f32, N>>::new(comptime!(taps.run));
    let mut start = Vector::<f32, N>::new(0.0);
    #[comptime]
    if let ComptimeOption::Some(bias) = bias {
        start = Vector::cast_from(bias[vector]);
    }
    #[unroll]
    for i in 0..comptime!(taps.run) {
        sums[i] = start;
    }

    let kernel_rows = comptime!(taps.kernel[0]);
    let kernel_columns = comptime!(taps.kernel[1]);
    let stride = comptime!(taps.stride[0] as i32);
    let stride_columns = comptime!(taps.stride[1] as i32);
    let pad = comptime!(taps.pad[0] as i32);
    let dilation = comptime!(taps.dilation[0] as i32);
    let column = run as i32 * comptime!(taps.run as i32);
    let column = if comptime!(taps.transposed) {
        column / stride_columns
    } else {
        column * stride_columns
    };
    let weight_step = weight.stride(0) / size;
    let mut weights = Array::<Vector<f32, N>>::new(kernel_columns);
    for tap in 0..kernel_rows {
        // The row of the source under this row of the filter, times the stride of a transposed convolution.
        let under = if comptime!(taps.transposed) {
            row as i32 + pad - tap as i32 * dilation
        } else {
            row as i32 * stride + tap as i32 * dilation - pad
        };
        let (source, hit) = if comptime!(taps.transposed) {
            (under / stride, under % stride == 0)
        } else {
            (under, true)
        };
        if under >= 0 && hit && source < x.shape(1) as i32 {
            #[unroll]
            for i in 0..kernel_columns {
                let at = (tap * kernel_columns + i) * weight_step + vector;
                weights[i] = Vector::cast_from(weight[at]);
            }
            let start =
                map * (x.stride(0) / size) + source as usize * (x.stride(1) / size) + vector;
            #[unroll]
            for i in 0..comptime!(taps.reads().len()) {
                let value = read::<F, N>(x, start, column, taps, i);
                #[unroll]
                for j in 0..comptime!(taps.reads()[i].uses.len()) {
                    let (sum, tap) = comptime!(taps.reads()[i].uses[j]);
                    sums[sum] = fma(value, weights[tap], sums[sum]);
                }
            }
        }
    }

    let start = map * (y.stride(0) / size) + row * (y.stride(1) / size) + vector;
    #[unroll]
    for i in 0..comptime!(taps.run) {
        let column = run * comptime!(taps.run) + i;
        if comptime!(i < taps.rest) || column < y.shape(2) {
            let at = start + column * (y.stride(2) / size);
            y[at] = Vector::cast_from(sums[i]);
        }
    }
}

/// The `i`-th number that a run reads, of the row that starts at `start`; 0 outside of it. Only those are checked that can lie outside.
#[cube]
fn read<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    start: usize,
    column: i32,
    #[comptime] taps: Taps,
    #[comptime] i: usize,
) -> Vector<f32, N> {
    let offset = comptime!(taps.reads()[i].column);
    let column = column + comptime!(offset as i32);
    let step = x.stride(2) / x.vector_size();
    if comptime!(offset < 0 || offset >= taps.last as isize) {
        let width = x.shape(2) as i32;
        let inside = column >= 0 && column < width;
        let near = select(inside, column, 0);
        let value = Vector::<f32, N>::cast_from(x[start + near as usize * step]);
        select(inside, value, Vector::new(0.0))
    } else {
        Vector::cast_from(x[start + column as usize * step])
    }
}

/// Units that sum the gradient by the weights: enough for a large GPU, few enough that their parts are quickly added.
const SUMMING_UNITS: usize = 1 << 16;

/// Parts that a unit adds.
const PARTS: usize = 32;

/// Gradients by weight and bias.
fn correlate(
    x: CubeTensor,
    dy: CubeTensor,
    geometry: &Geometry,
    dtype: DType,
) -> (CubeTensor, CubeTensor) {
    let (x, dy) = (channels_last(x), channels_last(dy));
    let [batch, height, _, channels] = dy.meta.shape().dims();
    let taps = Taps::of(geometry, false);
    let [kernel_rows, kernel_columns] = taps.kernel;
    let weights = kernel_rows * kernel_columns;
    let vector = taps.channels([&x, &dy]);
    let vectors = channels / vector;
    // As many rows of units as the filter has, and one more, fit into a cube.
    let lanes = lanes(vectors).min(1 << (UNITS / (kernel_rows + 1)).ilog2());
    let lines = batch * height;
    let units = taps.runs * vectors.next_multiple_of(lanes) * (kernel_rows + 1);
    let parts = (SUMMING_UNITS / units).clamp(1, lines.max(1));
    let lines_of_part = lines.div_ceil(parts).max(1);
    let parts = lines.div_ceil(lines_of_part);

    // One row of gradients by all weights and the bias for each part.
    let shape = Shape::new([parts * taps.runs, (weights + 1) * channels]);
    let mut sums = empty_of(&dy, shape, DType::F32);
    let cubes = vectors.div_ceil(lanes) * taps.runs * parts;
    let client = dy.client.clone();
    let cube = CubeDim::new_2d(lanes as u32, kernel_rows as u32 + 1);
    let units = cubes * cube.num_elems() as usize;
    // SAFETY: units outside of the channels end, and what lies outside of the maps is not read.
    #[allow(unsafe_code)]
    unsafe {
        correlated::launch_unchecked(
            &client,
            calculate_cube_count_elemwise(&client, units, cube),
            cube,
            address_type([&x, &dy, &sums]),
            vector,
            x.clone().into_tensor_arg(),
            dy.clone().into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            lines_of_part,
            parts,
            taps,
            element(&dy),
        );
    }
    while sums.meta.shape()[0] > PARTS {
        let [parts, gradients] = sums.meta.shape().dims();
        sums = add(
            &sums,
            0,
            Shape::new([parts.div_ceil(PARTS), gradients]),
            DType::F32,
        );
    }
    let weight = add(&sums, 0, Shape::new([1, weights * channels]), dtype);
    let weight = reshape(
        weight,
        Shape::new([kernel_rows, kernel_columns, 1, channels]),
    );
    let bias = add(&sums, weights * channels, Shape::new([1, channels]), dtype);
    (
        permute(weight, &[3, 2, 0, 1]),
        reshape(bias, Shape::new([channels])),
    )
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn correlated<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    dy: &Tensor<Vector<F, N>>,
    sums: &mut Tensor<Vector<f32, N>>,
    lines_of_part: usize,
    parts: usize,
    #[comptime] taps: Taps,
    #[define(F)] _element: ElemType,
) {
    let size = dy.vector_size();
    let vectors = dy.shape(3) / size;
    let lanes = CUBE_DIM_X as usize;
    let groups = vectors.div_ceil(lanes);
    let runs = comptime!(taps.runs);

    let mut place = CUBE_POS;
    let vector = place % groups * lanes + UNIT_POS_X as usize;
    place /= groups;
    let run = place % runs;
    let part = place / runs;
    if vector >= vectors || part >= parts {
        terminate!();
    }

    let kernel_rows = comptime!(taps.kernel[0]);
    let kernel_columns = comptime!(taps.kernel[1]);
    // The row of the filter, or one more for the bias.
    let tap = UNIT_POS_Y as usize;
    let mut gradients = Array::<Vector<f32, N>>::new(kernel_columns);
    #[unroll]
    for i in 0..kernel_columns {
        gradients[i] = Vector::new(0.0);
    }
    let mut total = Vector::<f32, N>::new(0.0);
    let mut given = Array::<Vector<f32, N>>::new(comptime!(taps.run));

    let height = dy.shape(1);
    let first = part * lines_of_part;
    let end = clamp_max(first + lines_of_part, dy.shape(0) * height);
    for line in first..end {
        let (map, row) = (line / height, line % height);
        let source = row as i32 * comptime!(taps.stride[0] as i32)
            + tap as i32 * comptime!(taps.dilation[0] as i32)
            - comptime!(taps.pad[0] as i32);
        let inside = source >= 0 && source < x.shape(1) as i32;
        if inside || tap == kernel_rows {
            let start = map * (dy.stride(0) / size) + row * (dy.stride(1) / size) + vector;
            let step = dy.stride(2) / size;
            #[unroll]
            for i in 0..comptime!(taps.run) {
                let column = run * comptime!(taps.run) + i;
                if comptime!(i < taps.rest) {
                    given[i] = Vector::cast_from(dy[start + column * step]);
                } else {
                    let inside = column < dy.shape(2);
                    let near = select(inside, column, 0);
                    let value = Vector::cast_from(dy[start + near * step]);
                    given[i] = select(inside, value, Vector::new(0.0));
                }
            }
        }
        if tap == kernel_rows {
            #[unroll]
            for i in 0..comptime!(taps.run) {
                total += given[i];
            }
        } else if inside {
            let start =
                map * (x.stride(0) / size) + source as usize * (x.stride(1) / size) + vector;
            let column = run as i32 * comptime!((taps.run * taps.stride[1]) as i32);
            #[unroll]
            for i in 0..comptime!(taps.reads().len()) {
                let value = read::<F, N>(x, start, column, taps, i);
                #[unroll]
                for j in 0..comptime!(taps.reads()[i].uses.len()) {
                    let (sum, tap) = comptime!(taps.reads()[i].uses[j]);
                    gradients[tap] = fma(value, given[sum], gradients[tap]);
                }
            }
        }
    }

    let start = (part * runs + run) * (sums.stride(0) / size) + vector;
    if tap == kernel_rows {
        sums[start + kernel_rows * kernel_columns * vectors] = total;
    } else {
        #[unroll]
        for i in 0..kernel_columns {
            sums[start + (tap * kernel_columns + i) * vectors] = gradients[i];
        }
    }
}

/// Sums of up to [`PARTS`] rows each of `parts`, of as many columns as `shape` has, from column `first` on.
fn add(parts: &CubeTensor, first: usize, shape: Shape, dtype: DType) -> CubeTensor {
    let sums = empty_of(parts, shape, dtype);
    let units = sums.meta.num_elements();
    let cube = CubeDim::new(&parts.client, units);
    // SAFETY: units outside of the sums end.
    #[allow(unsafe_code)]
    unsafe {
        added::launch_unchecked(
            &parts.client,
            calculate_cube_count_elemwise(&parts.client, units, cube),
            cube,
            address_type([parts, &sums]),
            parts.clone().into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            first,
            PARTS,
            element(&sums),
        );
    }
    sums
}

/// A unit makes one sum.
#[cube(launch_unchecked, address_type = "dynamic")]
fn added<F: Float>(
    parts: &Tensor<f32>,
    sums: &mut Tensor<F>,
    first: usize,
    #[comptime] of: usize,
    #[define(F)] _element: ElemType,
) {
    let columns = sums.shape(1);
    let (row, column) = (ABSOLUTE_POS / columns, ABSOLUTE_POS % columns);
    if row >= sums.shape(0) {
        terminate!();
    }
    let mut sum = 0.0f32;
    let end = clamp_max((row + 1) * of, parts.shape(0));
    for part in row * of..end {
        sum += parts[part * parts.stride(0) + first + column];
    }
    let at = row * sums.stride(0) + column;
    sums[at] = F::cast_from(sum);
}
