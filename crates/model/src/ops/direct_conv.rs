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

use super::simd::{Kernel, Level, Simd};

/// Sizes of a convolution. Pairs are [rows, columns].
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) channels_in: usize,
    pub(super) channels_out: usize,
    /// Size of the input map.
    pub(super) input: [usize; 2],
    /// Size of the output map.
    pub(super) output: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    /// Padding before the first row and column; less than 0 where they are left out.
    pub(super) pad: [isize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) groups: usize,
}

impl Geometry {
    fn group_in(&self) -> usize {
        self.channels_in / self.groups
    }

    fn group_out(&self) -> usize {
        self.channels_out / self.groups
    }

    /// Weights of one output channel.
    fn taps(&self) -> usize {
        self.group_in() * self.kernel[0] * self.kernel[1]
    }

    fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The same convolution of the same numbers with longer rows, if it is pointwise and the maps are small: whole vectors.
    fn flattened(mut self) -> Self {
        let pointwise = self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0];
        if pointwise && self.input == self.output && self.input_plane() <= 4096 {
            self.input = [1, self.input_plane()];
            self.output = self.input;
        }
        self
    }

    fn check(&self, x: &[f32], weight: &[f32], y: &[f32]) {
        assert!(self.channels_in.is_multiple_of(self.groups));
        assert!(self.channels_out.is_multiple_of(self.groups));
        assert_eq!(x.len(), self.batch * self.channels_in * self.input_plane());
        assert_eq!(weight.len(), self.channels_out * self.taps());
        assert_eq!(
            y.len(),
            self.batch * self.channels_out * self.output_plane()
        );
    }
}

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

fn forward_at(level: Level, x: &[f32], weight: &[f32], bias: &[f32], g: &Geometry) -> Vec<f32> {
    let g = &g.flattened();
    let plane = g.output_plane();
    let mut y = vec![0.0; g.batch * g.channels_out * plane];
    g.check(x, weight, &y);
    if y.is_empty() {
        return y;
    }
    let (group_in, group_out, taps) = (g.group_in(), g.group_out(), g.taps());
    let single = group_out == 1;
    let tile = match (single, level.many_registers()) {
        (true, _) => 1,
        (false, true) => 8,
        (false, false) => 4,
    };
    // Weights in the order of their use: [group, block of channels out, tap, channel of the block], with zeros in the last block.
    let blocks = group_out.div_ceil(tile);
    let mut panels = vec![0.0; g.groups * blocks * taps * tile];
    for (out, weights) in weight.chunks_exact(taps).enumerate() {
        let (group, channel) = (out / group_out, out % group_out);
        let panel = (group * blocks + channel / tile) * taps * tile;
        for (tap, w) in weights.iter().enumerate() {
            panels[panel + tap * tile + channel % tile] = *w;
        }
    }
    let bands = Band::cover(g, level.lanes(), 0);
    // One task computes some blocks of one group of one map: all blocks unless that leaves threads without work.
    let tasks = (2 * rayon::current_num_threads()).div_ceil(g.batch * g.groups);
    let blocks_of_task = blocks.div_ceil(tasks.min(blocks));
    y.par_chunks_mut(group_out * plane)
        .enumerate()
        .for_each(|(map, y)| {
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
        });
    y
}

/// Gradient of [`forward`] by `x`, given the one by its output; only for stride 1.
pub(super) fn input_gradient(dy: &[f32], weight: &[f32], g: &Geometry) -> Vec<f32> {
    input_gradient_at(Level::best(), dy, weight, g)
}

fn input_gradient_at(level: Level, dy: &[f32], weight: &[f32], g: &Geometry) -> Vec<f32> {
    assert_eq!(g.stride, [1, 1]);
    // Every input pixel gathers what every output pixel gathered from it: a convolution with the kernel turned around.
    let (group_in, group_out) = (g.group_in(), g.group_out());
    let window = g.kernel[0] * g.kernel[1];
    let mut turned = vec![0.0; weight.len()];
    for (i, kernel) in weight.chunks_exact(window).enumerate() {
        let (out, channel) = (i / group_in, i % group_in);
        let to = ((out / group_out * group_in + channel) * group_out + out % group_out) * window;
        for (to, w) in turned[to..to + window].iter_mut().zip(kernel.iter().rev()) {
            *to = *w;
        }
    }
    let pad = [0, 1].map(|i| ((g.kernel[i] - 1) * g.dilation[i]) as isize - g.pad[i]);
    let transposed = Geometry {
        channels_in: g.channels_out,
        channels_out: g.channels_in,
        input: g.output,
        output: g.input,
        pad,
        ..*g
    };
    forward_at(level, dy, &turned, &[], &transposed)
}

/// Gradient of [`forward`] by `weight`, given the one by its output.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    weight_gradient_at(Level::best(), x, dy, g)
}

fn weight_gradient_at(level: Level, x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let g = &g.flattened();
    let (group_in, group_out, taps) = (g.group_in(), g.group_out(), g.taps());
    let plane = g.output_plane();
    let len = g.channels_out * taps;
    // Each part of the batch has its own sum; parts are added in order.
    let maps_of_part = g.batch.div_ceil(16).max(1);
    let parts = g.batch.div_ceil(maps_of_part).max(1);
    let mut sums = vec![0.0; parts * len];
    g.check(x, &sums[..len], dy);
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

/// Gradient of [`forward`] by `bias`, given the one by its output.
pub(super) fn bias_gradient(dy: &[f32], g: &Geometry) -> Vec<f32> {
    let plane = g.output_plane();
    (0..g.channels_out)
        .into_par_iter()
        .map(|channel| {
            let maps = (0..g.batch).map(|map| map * g.channels_out + channel);
            maps.map(|map| sum(&dy[map * plane..][..plane])).sum()
        })
        .collect()
}

/// Sum in sixteen strands: faster and more exact than in one.
fn sum(numbers: &[f32]) -> f32 {
    let (whole, rest) = numbers.as_chunks::<16>();
    let mut strands = [0.0; 16];
    for chunk in whole {
        for (strand, x) in strands.iter_mut().zip(chunk) {
            *strand += x;
        }
    }
    strands.iter().sum::<f32>() + rest.iter().sum::<f32>()
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
        // As many sums as registers hold beside the operands; for one channel enough to hide the latency of additions.
        match (self.single, S::MANY_REGISTERS) {
            (true, _) => self.tiles::<S, 1, 8>(simd),
            (false, true) => self.tiles::<S, 8, 3>(simd),
            (false, false) => self.tiles::<S, 4, 3>(simd),
        }
    }
}

impl Tiles<'_> {
    /// Computes the band in tiles of `M` channels by `N` vectors.
    #[inline(always)]
    fn tiles<S: Simd, const M: usize, const N: usize>(self, simd: S) {
        let vectors = self.columns.div_ceil(S::LANES);
        let last = self.rows * vectors - 1;
        let (weights, _) = self.weights.as_chunks::<M>();
        assert_eq!(weights.len(), self.offsets.len());
        let reach = self.offsets.iter().max().map_or(0, |offset| *offset);
        let last_place = (self.rows - 1) * self.row_step + (vectors - 1) * S::LANES;
        assert!(last_place + reach + S::LANES <= self.source.len());
        for first in (0..=last).step_by(N) {
            let mut places = [0; N];
            let mut pixels = [(0, 0); N];
            for j in 0..N {
                // The last tile computes its last vector more than once.
                let vector = (first + j).min(last);
                let (row, column) = (vector / vectors, vector % vectors * S::LANES);
                places[j] = row * self.row_step + column;
                let end = self.columns.min(column + S::LANES);
                pixels[j] = (row * self.columns + column, row * self.columns + end);
            }
            let mut sums = [[simd.splat(0.0); N]; M];
            for (weights, offset) in weights.iter().zip(self.offsets) {
                let mut x = [simd.splat(0.0); N];
                for j in 0..N {
                    // SAFETY: place ≤ last_place and offset ≤ reach; the sum was checked above.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Convolution and its gradients by their definition, in f64.
    struct Definition {
        y: Vec<f64>,
        dx: Vec<f64>,
        dw: Vec<f64>,
        db: Vec<f64>,
    }

    fn definition(x: &[f32], weight: &[f32], bias: &[f32], dy: &[f32], g: &Geometry) -> Definition {
        let mut d = Definition {
            y: vec![0.0; dy.len()],
            dx: vec![0.0; x.len()],
            dw: vec![0.0; weight.len()],
            db: vec![0.0; g.channels_out],
        };
        let (group_in, group_out) = (g.group_in(), g.group_out());
        for (yi, gradient) in dy.iter().enumerate() {
            let (column, above) = (yi % g.output[1], yi / g.output[1]);
            let (row, above) = (above % g.output[0], above / g.output[0]);
            let (out, map) = (above % g.channels_out, above / g.channels_out);
            let gradient = f64::from(*gradient);
            d.y[yi] = f64::from(bias[out]);
            d.db[out] += gradient;
            for channel in 0..group_in {
                for i in 0..g.kernel[0] {
                    for j in 0..g.kernel[1] {
                        let r = (row * g.stride[0] + i * g.dilation[0]) as isize - g.pad[0];
                        let c = (column * g.stride[1] + j * g.dilation[1]) as isize - g.pad[1];
                        let inside = |at: isize, n: usize| (0..n as isize).contains(&at);
                        if !inside(r, g.input[0]) || !inside(c, g.input[1]) {
                            continue;
                        }
                        let source = map * g.channels_in + out / group_out * group_in + channel;
                        let xi = (source * g.input[0] + r as usize) * g.input[1] + c as usize;
                        let wi = ((out * group_in + channel) * g.kernel[0] + i) * g.kernel[1] + j;
                        let (xv, wv) = (f64::from(x[xi]), f64::from(weight[wi]));
                        d.y[yi] += xv * wv;
                        d.dx[xi] += gradient * wv;
                        d.dw[wi] += gradient * xv;
                    }
                }
            }
        }
        d
    }

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn assert_close(what: &str, ours: &[f32], exact: &[f64], terms: usize) {
        assert_eq!(ours.len(), exact.len(), "{what}");
        // Twice √n u Σ|xw|, the likely bound of the rounding of a sum of products (Higham & Mary 2019, SIAM J. Sci. Comput. 41), of
        // numbers between −1 and 1 (mean |xw| 1/4); u = 2⁻²⁴.
        let n = terms as f64;
        let tolerance = 1.2e-7 * n.sqrt() * (n / 4.0 + 1.0);
        for (i, (ours, exact)) in ours.iter().zip(exact).enumerate() {
            let error = (f64::from(*ours) - exact).abs();
            assert!(error < tolerance, "{what} {i}: {ours} is not {exact}");
        }
    }

    fn check(g: &Geometry) {
        let x = numbers(g.batch * g.channels_in * g.input_plane(), 1);
        let weight = numbers(g.channels_out * g.taps(), 2);
        let bias = numbers(g.channels_out, 3);
        let dy = numbers(g.batch * g.channels_out * g.output_plane(), 4);
        let exact = definition(&x, &weight, &bias, &dy, g);
        let window = g.kernel[0] * g.kernel[1];
        let pixels = g.batch * g.output_plane();
        for level in Level::available() {
            let what = |what: &str| format!("{what} of {g:?}, {level:?}");
            let y = forward_at(level, &x, &weight, &bias, g);
            assert_close(&what("output"), &y, &exact.y, g.taps());
            let dw = weight_gradient_at(level, &x, &dy, g);
            assert_close(&what("weight gradient"), &dw, &exact.dw, pixels);
            if g.stride == [1, 1] {
                let dx = input_gradient_at(level, &dy, &weight, g);
                assert_close(
                    &what("input gradient"),
                    &dx,
                    &exact.dx,
                    g.group_out() * window,
                );
            }
        }
        let db = bias_gradient(&dy, g);
        assert_close("bias gradient", &db, &exact.db, pixels);
    }

    fn geometry(
        batch: usize,
        channels: [usize; 2],
        input: [usize; 2],
        kernel: [usize; 2],
    ) -> Geometry {
        Geometry {
            batch,
            channels_in: channels[0],
            channels_out: channels[1],
            input,
            output: input,
            kernel,
            stride: [1, 1],
            pad: kernel.map(|k| (k / 2) as isize),
            dilation: [1, 1],
            groups: 1,
        }
    }

    /// The same with another dilation, stride and equal padding on both sides.
    fn spaced(
        mut g: Geometry,
        stride: [usize; 2],
        dilation: [usize; 2],
        pad: [usize; 2],
    ) -> Geometry {
        (g.stride, g.dilation, g.pad) = (stride, dilation, pad.map(|p| p as isize));
        g.output = [0, 1].map(|i| {
            (g.input[i] + 2 * pad[i] - dilation[i] * (g.kernel[i] - 1) - 1) / stride[i] + 1
        });
        g
    }

    #[test]
    fn same_size() {
        check(&geometry(2, [3, 5], [7, 9], [3, 3]));
        check(&geometry(1, [8, 17], [20, 33], [3, 3]));
        check(&geometry(3, [2, 8], [5, 16], [5, 3]));
        check(&geometry(1, [1, 1], [1, 1], [3, 3]));
    }

    #[test]
    fn pointwise() {
        check(&geometry(2, [20, 33], [5, 19], [1, 1]));
        check(&geometry(1, [3, 70], [70, 61], [1, 1]));
    }

    #[test]
    fn several_bands() {
        check(&geometry(1, [40, 9], [50, 100], [3, 3]));
        check(&spaced(
            geometry(1, [40, 4], [51, 99], [3, 3]),
            [2, 2],
            [1, 1],
            [1, 1],
        ));
    }

    #[test]
    fn dilated_and_strided() {
        check(&spaced(
            geometry(3, [4, 6], [9, 11], [3, 3]),
            [1, 1],
            [6, 6],
            [6, 6],
        ));
        check(&spaced(
            geometry(2, [4, 3], [15, 11], [3, 3]),
            [1, 1],
            [2, 3],
            [0, 5],
        ));
        check(&spaced(
            geometry(2, [3, 5], [12, 16], [4, 4]),
            [4, 4],
            [1, 1],
            [0, 0],
        ));
        check(&spaced(
            geometry(2, [3, 5], [13, 17], [7, 7]),
            [2, 2],
            [1, 1],
            [3, 3],
        ));
        check(&spaced(
            geometry(2, [3, 4], [14, 19], [3, 2]),
            [2, 3],
            [2, 4],
            [1, 2],
        ));
    }

    #[test]
    fn groups() {
        let groups = |mut g: Geometry, groups| {
            g.groups = groups;
            check(&g);
        };
        groups(geometry(2, [6, 6], [11, 13], [7, 7]), 6);
        groups(geometry(2, [4, 8], [6, 21], [3, 3]), 4);
        groups(geometry(2, [4, 10], [6, 7], [3, 3]), 2);
        groups(
            spaced(geometry(2, [5, 5], [9, 40], [3, 3]), [2, 2], [1, 1], [1, 1]),
            5,
        );
    }

    #[test]
    fn padding_on_one_side_and_beyond_the_kernel() {
        let mut g = geometry(2, [3, 4], [6, 10], [3, 3]);
        (g.pad, g.output) = ([0, 2], [6, 9]);
        check(&g);
        (g.pad, g.output) = ([4, 5], [12, 18]);
        check(&g);
    }

    #[test]
    fn empty_batch() {
        let g = geometry(0, [3, 4], [6, 10], [3, 3]);
        let weight = numbers(4 * 27, 1);
        assert!(forward(&[], &weight, &[], &g).is_empty());
        assert_eq!(weight_gradient(&[], &[], &g), vec![0.0; 4 * 27]);
    }
}
