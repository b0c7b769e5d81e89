//! 2-D convolution of f32 maps on the CPU, and its gradients, without an im2col matrix.
//!
//! The output is computed in register tiles of several channels by several vectors of pixels along a row. Each step multiplies a
//! vector of input pixels, read where it lies, by one weight for each channel of the tile (Zhang et al. 2018, "High performance
//! zero-memory overhead direct convolutions", arXiv 1809.10170). The only copy is of a band of rows with its padding, small enough
//! for the second-level cache. The gradient by the input is the same computation with the kernel turned around; the one by the
//! weights keeps a tile of them in registers, one vector each, and sums the lanes at the end of a band.
//!
//! Results do not depend on the number of threads.

#![allow(unsafe_code)] // vector loads without a check each: the checks halve the speed

use std::array;

use rayon::prelude::*;

use super::convolution::Geometry;
use super::parallel::{by_chunks, zeros};
use super::simd::{Kernel, Level, Simd};

/// Floats of scratch memory for a band of rows: three eighths of a megabyte, within the second-level cache of most processors.
const BAND: usize = 96 * 1024;

/// Channels out whose gradient is copied at a time for the gradient by the weights.
const CHANNEL_RUN: usize = 64;

/// A band of input rows of one group, padded, each row split into its column phases (columns that are equal modulo the stride), so that
/// the pixels under one tap for neighbouring outputs are neighbours.
struct Band {
    /// Output rows.
    rows: usize,
    /// Input rows.
    source_rows: usize,
    /// Numbers of one phase of a row.
    phase: usize,
    /// Numbers of a row.
    row: usize,
    /// Where the taps (channel, row, column) of the first output lie, in the order of the weights.
    offsets: Vec<usize>,
}

impl Band {
    fn new(g: &Geometry, rows: usize, lanes: usize) -> Self {
        let reach = [0, 1].map(|i| (g.kernel[i] - 1) * g.dilation[i]);
        let phase = g.output[1].next_multiple_of(lanes) + reach[1] / g.stride[1];
        let row = phase * g.stride[1];
        let source_rows = (rows - 1) * g.stride[0] + reach[0] + 1;
        let mut offsets = Vec::with_capacity(g.taps());
        for channel in 0..g.group_in() {
            for i in 0..g.kernel[0] {
                for j in 0..g.kernel[1] {
                    let above = channel * source_rows + i * g.dilation[0];
                    let column = j * g.dilation[1];
                    let before = column % g.stride[1] * phase + column / g.stride[1];
                    offsets.push(above * row + before);
                }
            }
        }
        Self {
            rows,
            source_rows,
            phase,
            row,
            offsets,
        }
    }

    /// The bands that make up a map: of as many rows as fit, and of the rows that remain. `also` are the other numbers to be kept
    /// for each output row.
    fn cover(g: &Geometry, lanes: usize, also: usize) -> Vec<Self> {
        let one = Self::new(g, 1, lanes);
        let first = g.group_in() * one.row * one.source_rows + also;
        let each = g.group_in() * one.row * g.stride[0] + also;
        // At least as many rows as the kernel adds, lest most of the copying be of rows that bands share.
        let least = one.source_rows / g.stride[0];
        let fitting = 1 + BAND.saturating_sub(first) / each;
        let rows = fitting.max(least).min(g.output[0]);
        let rest = g.output[0] % rows;
        let mut bands = vec![Self::new(g, rows, lanes)];
        if rest > 0 {
            bands.push(Self::new(g, rest, lanes));
        }
        bands
    }

    /// The bands from top to bottom with the output row that each starts at; `bands` are those of [`Self::cover`].
    fn places<'a>(bands: &'a [Self], g: &Geometry) -> impl Iterator<Item = (usize, &'a Self)> {
        let height = g.output[0];
        (0..height).step_by(bands[0].rows).map(move |start| {
            let whole = start + bands[0].rows <= height;
            (start, &bands[usize::from(!whole)])
        })
    }

    fn len(&self, g: &Geometry) -> usize {
        g.group_in() * self.source_rows * self.row
    }

    /// Copies the rows under outputs from row `start` on, of one group of one map `x`.
    fn fill(&self, g: &Geometry, to: &mut [f32], x: &[f32], start: usize) {
        let [height, width] = g.input;
        let top = (start * g.stride[0]) as isize - g.pad[0];
        let rows = to.chunks_exact_mut(self.row).enumerate();
        for (i, to) in rows.take(g.group_in() * self.source_rows) {
            let channel = i / self.source_rows;
            let row = top + (i % self.source_rows) as isize;
            if row < 0 || row >= height as isize {
                to.fill(0.0);
                continue;
            }
            let from = &x[(channel * height + row as usize) * width..][..width];
            if g.stride[1] == 1 {
                let skipped = g.pad[1].min(0).unsigned_abs().min(width);
                let before = (g.pad[1].max(0) as usize).min(to.len());
                let n = (width - skipped).min(to.len() - before);
                to[..before].fill(0.0);
                to[before..before + n].copy_from_slice(&from[skipped..skipped + n]);
                to[before + n..].fill(0.0);
            } else {
                for (phase, to) in to.chunks_exact_mut(self.phase).enumerate() {
                    for (place, to) in to.iter_mut().enumerate() {
                        let column = (place * g.stride[1] + phase) as isize - g.pad[1];
                        *to = usize::try_from(column)
                            .ok()
                            .and_then(|column| from.get(column))
                            .map_or(0.0, |x| *x);
                    }
                }
            }
        }
    }
}

/// Convolution of `x` `[batch, channels in, rows, columns]` with `weight` `[channels out, channels in / groups, rows, columns]`, plus
/// `bias` (empty, or one for each channel out).
pub(super) fn forward(x: &[f32], weight: &[f32], bias: &[f32], g: &Geometry) -> Vec<f32> {
    forward_at(Level::best(), x, weight, bias, g)
}

pub(super) fn forward_at(
    level: Level,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    g: &Geometry,
) -> Vec<f32> {
    convolve(level, x, weight, false, bias, g)
}

/// As [`forward_at`]; if `turned`, `weight` is that of the convolution whose gradient by the input this is.
fn convolve(
    level: Level,
    x: &[f32],
    weight: &[f32],
    turned: bool,
    bias: &[f32],
    g: &Geometry,
) -> Vec<f32> {
    let g = &g.flattened();
    let plane = g.output_plane();
    let n = g.batch * g.channels_out * plane;
    g.check(x, weight, n);
    if n == 0 {
        return Vec::new();
    }
    let (group_in, group_out, taps) = (g.group_in(), g.group_out(), g.taps());
    let single = group_out == 1;
    let tile = match (single, level.many_registers()) {
        (true, _) => 1,
        (false, true) => 8,
        (false, false) => 4,
    };
    let blocks = group_out.div_ceil(tile);
    let panels = panels(weight, turned, tile, g);
    let bands = Band::cover(g, level.lanes(), 0);
    // One task computes some blocks of one group of one map: all blocks unless that leaves threads without work.
    let tasks = (2 * rayon::current_num_threads()).div_ceil(g.batch * g.groups);
    let blocks_of_task = blocks.div_ceil(tasks.min(blocks));
    by_chunks(n, group_out * plane, |map, y| {
        let group = map % g.groups;
        let x = &x[map * group_in * g.input_plane()..][..group_in * g.input_plane()];
        y.par_chunks_mut(blocks_of_task * tile * plane)
            .enumerate()
            .for_each(|(task, y)| {
                let mut source = vec![0.0; bands[0].len(g)];
                for (start, band) in Band::places(&bands, g) {
                    band.fill(g, &mut source, x, start);
                    for (block, y) in y.chunks_mut(tile * plane).enumerate() {
                        let block = task * blocks_of_task + block;
                        let first = group * group_out + block * tile;
                        let panel = (group * blocks + block) * taps * tile;
                        let channels = y.len() / plane;
                        level.run(Tiles {
                            source: &source,
                            offsets: &band.offsets,
                            weights: &panels[panel..panel + taps * tile],
                            bias: bias.get(first..first + channels).unwrap_or(&[]),
                            rows: band.rows,
                            columns: g.output[1],
                            row_step: g.stride[0] * band.row,
                            y: &mut y[start * g.output[1]..],
                            plane,
                            channels,
                            single,
                        });
                    }
                }
            });
    })
}

/// Weights in the order of their use, `[group, block of tile channels out, tap, channel of the block]`, with zeros in the last block. Those
/// of the convolution whose gradient `g` is are `turned`: their channels in are this one's channels out.
fn panels(weight: &[f32], turned: bool, tile: usize, g: &Geometry) -> Vec<f32> {
    let (group_in, group_out) = (g.group_in(), g.group_out());
    let window = g.kernel[0] * g.kernel[1];
    let blocks = group_out.div_ceil(tile);
    let each = g.taps() * tile;
    by_chunks(g.groups * blocks * each, each, |block, panel| {
        let (group, first) = (block / blocks, block % blocks * tile);
        let channels = tile.min(group_out - first);
        for (channel, panel) in panel.chunks_exact_mut(window * tile).enumerate() {
            for i in 0..channels {
                let kernel = match turned {
                    true => (group * group_in + channel) * group_out + first + i,
                    false => (group * group_out + first + i) * group_in + channel,
                };
                let kernel = &weight[kernel * window..][..window];
                let places = panel[i..].iter_mut().step_by(tile);
                match turned {
                    true => places.zip(kernel.iter().rev()).for_each(|(to, w)| *to = *w),
                    false => places.zip(kernel).for_each(|(to, w)| *to = *w),
                }
            }
        }
    })
}

/// Gradient of [`forward`] by `x`, given the one by its output; only for stride 1.
pub(super) fn input_gradient(dy: &[f32], weight: &[f32], g: &Geometry) -> Vec<f32> {
    input_gradient_at(Level::best(), dy, weight, g)
}

pub(super) fn input_gradient_at(
    level: Level,
    dy: &[f32],
    weight: &[f32],
    g: &Geometry,
) -> Vec<f32> {
    assert_eq!(g.stride, [1, 1]);
    // Every input pixel gathers what every output pixel gathered from it: a convolution with the kernel turned around.
    let pad = [0, 1].map(|i| ((g.kernel[i] - 1) * g.dilation[i]) as isize - g.pad[i]);
    let transposed = Geometry {
        channels_in: g.channels_out,
        channels_out: g.channels_in,
        input: g.output,
        output: g.input,
        pad,
        ..*g
    };
    convolve(level, dy, weight, true, &[], &transposed)
}

/// Gradient of [`forward`] by `weight`, given the one by its output.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    weight_gradient_at(Level::best(), x, dy, g)
}

pub(super) fn weight_gradient_at(level: Level, x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let g = &g.flattened();
    let (group_in, group_out, taps) = (g.group_in(), g.group_out(), g.taps());
    let plane = g.output_plane();
    let len = g.channels_out * taps;
    // Each part of the batch has its own sum; parts are added in order.
    let maps_of_part = g.batch.div_ceil(16).max(1);
    let parts = g.batch.div_ceil(maps_of_part).max(1);
    let mut sums = zeros(parts * len);
    g.check(x, &sums[..len], dy.len());
    if dy.is_empty() || len == 0 {
        sums.truncate(len);
        return sums;
    }
    let columns = g.output[1].next_multiple_of(level.lanes());
    let run = group_out.min(CHANNEL_RUN);
    let bands = Band::cover(g, level.lanes(), run * columns);
    sums.par_chunks_mut(len).enumerate().for_each(|(part, dw)| {
        let maps = part * maps_of_part..((part + 1) * maps_of_part).min(g.batch);
        dw.par_chunks_mut(group_out * taps)
            .enumerate()
            .for_each(|(group, dw)| {
                let mut source = vec![0.0; bands[0].len(g)];
                let mut gradient = vec![0.0; run * bands[0].rows * columns];
                for map in maps.clone() {
                    let map = map * g.groups + group;
                    let x = &x[map * group_in * g.input_plane()..][..group_in * g.input_plane()];
                    let dy = &dy[map * group_out * plane..][..group_out * plane];
                    for (start, band) in Band::places(&bands, g) {
                        band.fill(g, &mut source, x, start);
                        let runs = dw.chunks_mut(run * taps).zip(dy.chunks(run * plane));
                        for (dw, dy) in runs {
                            for (channel, dy) in dy.chunks_exact(plane).enumerate() {
                                for row in 0..band.rows {
                                    let from = &dy[(start + row) * g.output[1]..][..g.output[1]];
                                    let to = &mut gradient[(channel * band.rows + row) * columns..]
                                        [..columns];
                                    to[..from.len()].copy_from_slice(from);
                                    to[from.len()..].fill(0.0);
                                }
                            }
                            level.run(WeightTiles {
                                source: &source,
                                offsets: &band.offsets,
                                row_step: g.stride[0] * band.row,
                                gradient: &gradient,
                                rows: band.rows,
                                columns,
                                dw,
                                single: group_out == 1,
                            });
                        }
                    }
                }
            });
    });
    let (total, rest) = sums.split_at_mut(len);
    for part in rest.chunks_exact(len) {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
    sums.truncate(len);
    sums
}

/// A band of output rows of one block of channels.
struct Tiles<'a> {
    source: &'a [f32],
    offsets: &'a [usize],
    /// `[tap, channel of the block]`
    weights: &'a [f32],
    /// Empty, or one for each channel.
    bias: &'a [f32],
    rows: usize,
    columns: usize,
    /// Numbers in `source` between the rows under neighbouring output rows.
    row_step: usize,
    /// From the first pixel of the band on.
    y: &'a mut [f32],
    /// Pixels of an output channel.
    plane: usize,
    /// Channels of this block that exist.
    channels: usize,
    /// Whether blocks have one channel.
    single: bool,
}

impl Kernel for Tiles<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let reach = self.offsets.iter().max().map_or(0, |offset| *offset);
        let columns = self.columns.next_multiple_of(S::LANES);
        let last_row = (self.rows - 1) * self.row_step;
        assert!(last_row + columns + reach <= self.source.len());
        // As many sums as registers hold beside the operands; for one channel enough to hide the latency of additions.
        match (self.single, S::MANY_REGISTERS) {
            (true, _) => self.tiles::<S, 1, 8>(simd),
            (false, true) => self.tiles::<S, 8, 3>(simd),
            (false, false) => self.tiles::<S, 4, 3>(simd),
        }
    }
}

impl Tiles<'_> {
    /// Computes the band in tiles of `M` channels by `N` vectors, the last two by two.
    #[inline(always)]
    fn tiles<S: Simd, const M: usize, const N: usize>(mut self, simd: S) {
        let vectors = self.rows * self.columns.div_ceil(S::LANES);
        // What is left for pairs is even, unless there is less than a tile: a tile of too many vectors is work for nothing.
        let wide = match vectors % N {
            1 if vectors > N => vectors - N - 1,
            rest => vectors - rest,
        };
        for first in (0..wide).step_by(N) {
            self.tile::<S, M, N>(simd, first, vectors);
        }
        for first in (wide..vectors).step_by(2) {
            self.tile::<S, M, 2>(simd, first, vectors);
        }
    }

    /// Computes `N` of the band's `vectors` from `first` on; where it has no more, the last more than once.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(
        &mut self,
        simd: S,
        first: usize,
        vectors: usize,
    ) {
        let in_row = vectors / self.rows;
        let (weights, _) = self.weights.as_chunks::<M>();
        let mut places = [0; N];
        let mut pixels = [(0, 0); N];
        for j in 0..N {
            let vector = (first + j).min(vectors - 1);
            let (row, column) = (vector / in_row, vector % in_row * S::LANES);
            places[j] = row * self.row_step + column;
            let end = self.columns.min(column + S::LANES);
            pixels[j] = (row * self.columns + column, row * self.columns + end);
        }
        let mut sums = [[simd.splat(0.0); N]; M];
        for (weights, offset) in weights.iter().zip(self.offsets) {
            let mut x = [simd.splat(0.0); N];
            for j in 0..N {
                // SAFETY: `run` checked the last place and the farthest offset.
                x[j] = unsafe { simd.load(self.source, places[j] + offset) };
            }
            for i in 0..M {
                let w = simd.splat(weights[i]);
                for j in 0..N {
                    sums[i][j] = simd.mul_add(w, x[j], sums[i][j]);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate().take(self.channels) {
            let bias = simd.splat(self.bias.get(i).map_or(0.0, |bias| *bias));
            let y = &mut self.y[i * self.plane..];
            for (sum, (start, end)) in sums.into_iter().zip(pixels) {
                simd.store(simd.add(sum, bias), &mut y[start..end]);
            }
        }
    }
}

/// What a band of output rows adds to the gradient by the weights of a run of channels.
struct WeightTiles<'a> {
    source: &'a [f32],
    offsets: &'a [usize],
    /// Numbers in `source` between the rows under neighbouring output rows.
    row_step: usize,
    /// `[channel, row, column]`, rows filled up with zeros to whole vectors.
    gradient: &'a [f32],
    rows: usize,
    columns: usize,
    /// `[channel, tap]`
    dw: &'a mut [f32],
    /// Whether groups have one channel.
    single: bool,
}

impl Kernel for WeightTiles<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match (self.single, S::MANY_REGISTERS) {
            (true, _) => self.tiles::<S, 1, 7>(simd),
            (false, true) => self.tiles::<S, 4, 6>(simd),
            (false, false) => self.tiles::<S, 3, 4>(simd),
        }
    }
}

impl WeightTiles<'_> {
    /// Adds the band's part in tiles of `M` channels by `N` taps.
    #[inline(always)]
    fn tiles<S: Simd, const M: usize, const N: usize>(self, simd: S) {
        let taps = self.offsets.len();
        let channels = self.dw.len() / taps;
        let plane = self.rows * self.columns;
        let reach = self.offsets.iter().max().map_or(0, |offset| *offset);
        let last_place = (self.rows - 1) * self.row_step + self.columns - S::LANES;
        assert!(last_place + reach + S::LANES <= self.source.len());
        assert!(self.columns.is_multiple_of(S::LANES) && channels * plane <= self.gradient.len());
        for first_tap in (0..taps).step_by(N) {
            for first_channel in (0..channels).step_by(M) {
                // The last tiles compute their last tap and channel more than once.
                let offsets: [usize; N] =
                    array::from_fn(|t| self.offsets[(first_tap + t).min(taps - 1)]);
                let planes: [usize; M] =
                    array::from_fn(|i| (first_channel + i).min(channels - 1) * plane);
                let mut sums = [[simd.splat(0.0); N]; M];
                for row in 0..self.rows {
                    for column in (0..self.columns).step_by(S::LANES) {
                        let place = row * self.columns + column;
                        let source_place = row * self.row_step + column;
                        let mut dy = [simd.splat(0.0); M];
                        for i in 0..M {
                            // SAFETY: the planes of all channels lie in `gradient`, checked above, and are whole vectors.
                            dy[i] = unsafe { simd.load(self.gradient, planes[i] + place) };
                        }
                        for t in 0..N {
                            // SAFETY: source_place ≤ last_place and offset ≤ reach; the sum was checked above.
                            let x = unsafe { simd.load(self.source, offsets[t] + source_place) };
                            for i in 0..M {
                                sums[i][t] = simd.mul_add(dy[i], x, sums[i][t]);
                            }
                        }
                    }
                }
                for (i, sums) in sums.into_iter().enumerate().take(channels - first_channel) {
                    let dw = &mut self.dw[(first_channel + i) * taps + first_tap..];
                    let n = N.min(taps - first_tap);
                    for (dw, sum) in dw[..n].iter_mut().zip(sums) {
                        *dw += simd.sum(sum);
                    }
                }
            }
        }
    }
}
