//! Convolution as a matrix product, for small maps of many channels: there the direct kernels of [`direct_conv`](super::direct_conv), whose
//! vectors run along the rows of a map, have nothing to fill them with.
//!
//! The columns of the matrix are the pixels of several maps, its rows the taps (channel, row, column) of the kernel (Chellapilla et al. 2006,
//! "High performance convolutional neural networks for document processing").

use std::ops::Range;

use rayon::prelude::*;

use super::convolution::Geometry;
use super::matrix::{Matrix, multiply, multiply_in_parallel};
use super::parallel::{by_chunks, zeros};

/// Floats of the matrix that is made at a time: some maps at least, 8 MiB.
const MATRIX: usize = 2 << 20;

/// Channels out of a task where the maps are matrices as they lie.
const CHANNELS: usize = 64;

/// For each output row: the input row under tap row `i`, if it is one.
fn input_row(g: &Geometry, i: usize, row: usize) -> Option<usize> {
    let at = (row * g.stride[0] + i * g.dilation[0]) as isize - g.pad[0];
    usize::try_from(at).ok().filter(|row| *row < g.input[0])
}

/// The output columns under whose tap column `j` there is a pixel, and the input column of the first.
fn seen_columns(g: &Geometry, j: usize) -> (Range<usize>, usize) {
    let first = (j * g.dilation[1]) as isize - g.pad[1];
    let at = |column: usize| first + (column * g.stride[1]) as isize;
    let inside = |column: &usize| (0..g.input[1] as isize).contains(&at(*column));
    let Some(start) = (0..g.output[1]).find(inside) else {
        return (0..0, 0);
    };
    let count = (start..g.output[1]).take_while(inside).count();
    (start..start + count, at(start) as usize)
}

/// The matrix `[channel and tap, map and output pixel]` of some maps `x`.
fn columns_of(x: &[f32], maps: usize, g: &Geometry) -> Vec<f32> {
    let (plane, input_plane, count) = (g.output_plane(), g.input_plane(), g.window());
    let each = count * maps * plane;
    by_chunks(g.channels_in * each, each, |channel, matrix| {
        for (t, to) in matrix.chunks_exact_mut(maps * plane).enumerate() {
            let [i, j] = [t / g.kernel[1], t % g.kernel[1]];
            let (columns, first) = seen_columns(g, j);
            for (map, to) in to.chunks_exact_mut(plane).enumerate() {
                let x = &x[(map * g.channels_in + channel) * input_plane..][..input_plane];
                for (row, to) in to.chunks_exact_mut(g.output[1]).enumerate() {
                    let Some(from) = input_row(g, i, row) else {
                        continue;
                    };
                    let from = &x[from * g.input[1]..][..g.input[1]];
                    let to = &mut to[columns.clone()];
                    if g.stride[1] == 1 {
                        to.copy_from_slice(&from[first..first + to.len()]);
                    } else {
                        let from = from.get(first..).unwrap_or(&[]).iter();
                        for (to, from) in to.iter_mut().zip(from.step_by(g.stride[1])) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    })
}

/// Adds the numbers of a matrix as [`columns_of`] makes it to the pixels of `dx` that they came from.
fn add_columns(matrix: &[f32], dx: &mut [f32], maps: usize, g: &Geometry) {
    let (plane, input_plane, count) = (g.output_plane(), g.input_plane(), g.window());
    dx.par_chunks_exact_mut(input_plane)
        .enumerate()
        .for_each(|(i, dx)| {
            let (map, channel) = (i / g.channels_in, i % g.channels_in);
            for t in 0..count {
                let [i, j] = [t / g.kernel[1], t % g.kernel[1]];
                let (columns, first) = seen_columns(g, j);
                let from = &matrix[((channel * count + t) * maps + map) * plane..][..plane];
                for (row, from) in from.chunks_exact(g.output[1]).enumerate() {
                    let Some(to) = input_row(g, i, row) else {
                        continue;
                    };
                    let to = &mut dx[to * g.input[1]..][..g.input[1]];
                    let to = to.get_mut(first..).unwrap_or_default().iter_mut();
                    for (to, from) in to.step_by(g.stride[1]).zip(&from[columns.clone()]) {
                        *to += from;
                    }
                }
            }
        });
}

/// `[map, channel, pixel]` → `[channel, map, pixel]`.
fn channels_first(x: &[f32], maps: usize, channels: usize) -> Vec<f32> {
    let plane = x.len() / (maps * channels);
    by_chunks(x.len(), maps * plane, |channel, to| {
        for (map, to) in to.chunks_exact_mut(plane).enumerate() {
            to.copy_from_slice(&x[(map * channels + channel) * plane..][..plane]);
        }
    })
}

/// Convolution with 1×1 kernels at stride 1, whose matrices are the maps as they lie; `weight` is `[channels out, channels in]`.
fn pointwise(x: &[f32], weight: Matrix, bias: &[f32], g: &Geometry) -> Vec<f32> {
    let plane = g.output_plane();
    let n = g.channels_out * plane;
    by_chunks(g.batch * n, n, |map, y| {
        let x = &x[map * g.channels_in * plane..][..g.channels_in * plane];
        y.par_chunks_mut(CHANNELS * plane)
            .enumerate()
            .for_each(|(run, y)| {
                let first = run * CHANNELS;
                let a = weight.skip_rows(first);
                let sizes = [y.len() / plane, plane, g.channels_in];
                for (y, bias) in y.chunks_exact_mut(plane).zip(bias.iter().skip(first)) {
                    y.fill(*bias);
                }
                multiply(sizes, y, a, Matrix::rows_of(x, plane), !bias.is_empty());
            });
    })
}

/// How many maps to take at a time.
fn maps_at_a_time(g: &Geometry) -> usize {
    let each = g.taps() * g.output_plane();
    (MATRIX / each).clamp(1, g.batch)
}

/// As [`convolution::forward`](super::convolution::forward), without groups.
pub(super) fn forward(x: &[f32], weight: &[f32], bias: &[f32], g: &Geometry) -> Vec<f32> {
    if g.is_pointwise() {
        return pointwise(x, Matrix::rows_of(weight, g.channels_in), bias, g);
    }
    let (k, plane) = (g.taps(), g.output_plane());
    let maps = maps_at_a_time(g);
    let mut y = zeros(g.batch * g.channels_out * plane);
    let parts = x.chunks(maps * g.channels_in * g.input_plane());
    for (x, y) in parts.zip(y.chunks_mut(maps * g.channels_out * plane)) {
        let maps = x.len() / (g.channels_in * g.input_plane());
        let n = maps * plane;
        let matrix = columns_of(x, maps, g);
        let mut product = zeros(g.channels_out * n);
        let (a, b) = (Matrix::rows_of(weight, k), Matrix::rows_of(&matrix, n));
        multiply_in_parallel([g.channels_out, n, k], &mut product, a, b, false);
        y.par_chunks_exact_mut(plane)
            .enumerate()
            .for_each(|(i, y)| {
                let (map, channel) = (i / g.channels_out, i % g.channels_out);
                let bias = bias.get(channel).map_or(0.0, |bias| *bias);
                let from = &product[channel * n + map * plane..][..plane];
                for (y, product) in y.iter_mut().zip(from) {
                    *y = product + bias;
                }
            });
    }
    y
}

/// As [`convolution::input_gradient`](super::convolution::input_gradient), without groups, of any stride.
pub(super) fn input_gradient(dy: &[f32], weight: &[f32], g: &Geometry) -> Vec<f32> {
    if g.is_pointwise() {
        let weight = Matrix::rows_of(weight, g.channels_in).transposed();
        let transposed = Geometry {
            channels_in: g.channels_out,
            channels_out: g.channels_in,
            ..*g
        };
        return pointwise(dy, weight, &[], &transposed);
    }
    let (k, plane) = (g.taps(), g.output_plane());
    let maps = maps_at_a_time(g);
    let mut dx = zeros(g.batch * g.channels_in * g.input_plane());
    let parts = dy.chunks(maps * g.channels_out * plane);
    for (dy, dx) in parts.zip(dx.chunks_mut(maps * g.channels_in * g.input_plane())) {
        let maps = dy.len() / (g.channels_out * plane);
        let n = maps * plane;
        let dy = channels_first(dy, maps, g.channels_out);
        let mut matrix = zeros(k * n);
        let a = Matrix::rows_of(weight, k).transposed();
        multiply_in_parallel(
            [k, n, g.channels_out],
            &mut matrix,
            a,
            Matrix::rows_of(&dy, n),
            false,
        );
        add_columns(&matrix, dx, maps, g);
    }
    dx
}

/// As [`convolution::weight_gradient`](super::convolution::weight_gradient), without groups.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let (k, plane) = (g.taps(), g.output_plane());
    let maps = maps_at_a_time(g);
    let mut product = zeros(g.channels_out * k);
    let parts = x.chunks(maps * g.channels_in * g.input_plane());
    for (part, (x, dy)) in parts
        .zip(dy.chunks(maps * g.channels_out * plane))
        .enumerate()
    {
        let maps = dy.len() / (g.channels_out * plane);
        let n = maps * plane;
        let matrix = columns_of(x, maps, g);
        let dy = channels_first(dy, maps, g.channels_out);
        let b = Matrix::rows_of(&matrix, n).transposed();
        let sizes = [g.channels_out, k, n];
        multiply_in_parallel(sizes, &mut product, Matrix::rows_of(&dy, n), b, part > 0);
    }
    product
}
