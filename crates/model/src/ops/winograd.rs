//! Convolution with 3×3 kernels at stride 1, and its gradients, by the minimal filter algorithm F(2×2, 3×3) (Lavin & Gray 2016, "Fast
//! algorithms for convolutional neural networks", arXiv 1509.09308): of the multiplications of the definition it takes 4/9.
//!
//! A tile of 2×2 outputs sees 4×4 inputs d and is Aᵀ [G g Gᵀ ⊙ Bᵀ d B] A for the kernel g. Summed over the channels in, the product
//! at each of the 16 places of a tile is one of matrices, `[channels out, channels in]` by `[channels in, tiles]`. The gradient by the
//! weights is the formula's own, Gᵀ [A dy Aᵀ ⊙ Bᵀ d B] G summed over the tiles; the one by the input is the convolution with the kernel
//! turned around. The constants are 0, ±1 and ½, so that rounding stays near that of the definition.
//!
//! Results do not depend on the number of threads.

use std::array;

use rayon::prelude::*;

use super::convolution::Geometry;
use super::matrix::{Matrix, multiply};
use super::parallel::{by_chunks, zeros};
use super::simd::{Kernel, Level, Simd};

/// Places of a tile.
const PLACES: usize = 16;

/// Tiles whose transforms are in memory at a time, about.
const TILES: usize = 128;

/// Whether this convolution is one of 3×3 kernels at stride 1, with enough channels for the transforms to be the smaller part of the work.
pub(super) fn suits(g: &Geometry) -> bool {
    let plain = g.kernel == [3, 3] && g.stride == [1, 1] && g.dilation == [1, 1] && g.groups == 1;
    plain && g.channels_in.min(g.channels_out) >= 96
}

/// Tiles of whole maps, or of some rows of tiles of a map: as many of each map.
struct Part {
    first_map: usize,
    maps: usize,
    first_row: usize,
    rows: usize,
    /// Tiles of a row.
    columns: usize,
}

impl Part {
    /// How many maps to take at a time for about `tiles` tiles.
    fn maps_of(tiles: usize, g: &Geometry) -> usize {
        let [rows, columns] = g.output.map(|side| side.div_ceil(2));
        (tiles / (rows * columns)).max(1)
    }

    /// The parts of about `tiles` tiles that make up some maps.
    fn all(
        tiles: usize,
        first_map: usize,
        maps: usize,
        g: &Geometry,
    ) -> impl Iterator<Item = Self> {
        let [rows, columns] = g.output.map(|side| side.div_ceil(2));
        let rows_of_part = (tiles / columns).clamp(1, rows);
        (0..rows).step_by(rows_of_part).map(move |first_row| Self {
            first_map,
            maps,
            first_row,
            rows: rows_of_part.min(rows - first_row),
            columns,
        })
    }

    fn of_map(&self) -> usize {
        self.rows * self.columns
    }

    fn tiles(&self) -> usize {
        self.maps * self.of_map()
    }
}

/// As [`convolution::forward`](super::convolution::forward), of what [`suits`].
pub(super) fn forward(x: &[f32], weight: &[f32], bias: &[f32], g: &Geometry) -> Vec<f32> {
    convolve(x, &weights(weight, g), false, bias, g)
}

/// As [`convolution::input_gradient`](super::convolution::input_gradient), of what [`suits`].
pub(super) fn input_gradient(dy: &[f32], weight: &[f32], g: &Geometry) -> Vec<f32> {
    let transposed = Geometry {
        channels_in: g.channels_out,
        channels_out: g.channels_in,
        input: g.output,
        output: g.input,
        pad: g.pad.map(|pad| 2 - pad),
        ..*g
    };
    convolve(dy, &weights(weight, g), true, &[], &transposed)
}

/// Convolution with transformed kernels; if `turned`, those of the convolution whose gradient by the input this is.
fn convolve(x: &[f32], kernels: &[f32], turned: bool, bias: &[f32], g: &Geometry) -> Vec<f32> {
    let (level, plane) = (Level::best(), g.output_plane());
    let maps = Part::maps_of(TILES, g);
    let each = g.channels_out * plane;
    by_chunks(g.batch * each, maps * each, |task, y| {
        let (mut source, mut products) = (Vec::new(), Vec::new());
        for part in Part::all(TILES, task * maps, y.len() / each, g) {
            let tiles = part.tiles();
            input_tiles(level, x, &part, g, &mut source);
            products.resize(PLACES * g.channels_out * tiles, 0.0);
            products
                .par_chunks_exact_mut(g.channels_out * tiles)
                .enumerate()
                .for_each(|(place, to)| {
                    let b = at_place(&source, place, tiles);
                    let a = match turned {
                        false => at_place(kernels, place, g.channels_in),
                        true => at_place(kernels, turned_place(place), g.channels_out).transposed(),
                    };
                    multiply([g.channels_out, tiles, g.channels_in], to, a, b, false);
                });
            y.par_chunks_exact_mut(plane)
                .enumerate()
                .for_each(|(i, y)| {
                    let (map, channel) = (i / g.channels_out, i % g.channels_out);
                    let first = channel * tiles + map * part.of_map();
                    let products = array::from_fn(|place| {
                        &products[place * g.channels_out * tiles + first..][..part.of_map()]
                    });
                    level.run(OutputTiles {
                        products,
                        bias: bias.get(channel).map_or(0.0, |bias| *bias),
                        part: &part,
                        size: g.output,
                        y,
                    });
                });
        }
    })
}

/// As [`convolution::weight_gradient`](super::convolution::weight_gradient), of what [`suits`].
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let level = Level::best();
    let of_place = g.channels_out * g.channels_in;
    let mut sums = zeros(PLACES * of_place);
    let (mut source, mut gradient) = (Vec::new(), Vec::new());
    // Every part ends in a sum of all threads: fewer parts than above.
    let maps = Part::maps_of(4 * TILES, g);
    let parts = (0..g.batch)
        .step_by(maps)
        .flat_map(|first| Part::all(4 * TILES, first, maps.min(g.batch - first), g));
    for (i, part) in parts.enumerate() {
        let tiles = part.tiles();
        input_tiles(level, x, &part, g, &mut source);
        gradient_tiles(level, dy, &part, g, &mut gradient);
        sums.par_chunks_exact_mut(of_place)
            .enumerate()
            .for_each(|(place, to)| {
                let a = at_place(&gradient, place, tiles);
                let b = at_place(&source, place, tiles).transposed();
                multiply([g.channels_out, g.channels_in, tiles], to, a, b, i > 0);
            });
    }
    // Gᵀ · G
    by_chunks(of_place * 9, g.channels_in * 9, |out, dw| {
        for (channel, dw) in dw.as_chunks_mut::<9>().0.iter_mut().enumerate() {
            let at = out * g.channels_in + channel;
            let mut columns = [[0.0; 3]; 4];
            for a in 0..4 {
                let mut row = [0.0; 4];
                for b in 0..4 {
                    row[b] = sums[(4 * a + b) * of_place + at];
                }
                columns[a] = narrowed(row);
            }
            for j in 0..3 {
                let column = narrowed([0, 1, 2, 3].map(|a| columns[a][j]));
                for i in 0..3 {
                    dw[3 * i + j] = column[i];
                }
            }
        }
    })
}

/// Matrix `place` of those that lie as `[row, place, column]`.
fn at_place(numbers: &[f32], place: usize, columns: usize) -> Matrix<'_> {
    Matrix {
        numbers: &numbers[place * columns..],
        row: row_of(columns),
        column: 1,
    }
}

/// Numbers from row to row of those matrices. More than there are: at steps of a power of 2, columns would fall on each other in a cache.
fn row_of(columns: usize) -> usize {
    PLACES * columns + 16
}

/// Where the transform of a kernel has what that of the kernel turned around has at `place`: the first and last row and column swap.
fn turned_place(place: usize) -> usize {
    let turned = [3, 1, 2, 0];
    4 * turned[place / 4] + turned[place % 4]
}

/// `G g Gᵀ` of every kernel, `[channel out, place, channel in]`.
fn weights(weight: &[f32], g: &Geometry) -> Vec<f32> {
    let row = row_of(g.channels_in);
    by_chunks(g.channels_out * row, row, |out, to| {
        let kernels = &weight[out * g.taps()..][..g.taps()];
        for (channel, kernel) in kernels.as_chunks::<9>().0.iter().enumerate() {
            let mut rows = [[0.0; 4]; 3];
            for i in 0..3 {
                rows[i] = widened([kernel[3 * i], kernel[3 * i + 1], kernel[3 * i + 2]]);
            }
            for b in 0..4 {
                let column = widened([rows[0][b], rows[1][b], rows[2][b]]);
                for a in 0..4 {
                    to[(4 * a + b) * g.channels_in + channel] = column[a];
                }
            }
        }
    })
}

/// `G g`
#[inline(always)]
fn widened(g: [f32; 3]) -> [f32; 4] {
    let (ends, middle) = (0.5 * (g[0] + g[2]), 0.5 * g[1]);
    [g[0], ends + middle, ends - middle, g[2]]
}

/// `Gᵀ s`
#[inline(always)]
fn narrowed(s: [f32; 4]) -> [f32; 3] {
    let (sum, difference) = (0.5 * (s[1] + s[2]), 0.5 * (s[1] - s[2]));
    [s[0] + sum, difference, sum + s[3]]
}

/// `Bᵀ d B` of the inputs of a part's tiles, `[channel in, place, tile]`.
fn input_tiles(level: Level, x: &[f32], part: &Part, g: &Geometry, to: &mut Vec<f32>) {
    transform(level, x, part, g.channels_in, g.input, g.pad, 2, to);
}

/// `A dy Aᵀ` of the gradients by the outputs of a part's tiles, `[channel out, place, tile]`.
fn gradient_tiles(level: Level, dy: &[f32], part: &Part, g: &Geometry, to: &mut Vec<f32>) {
    transform(level, dy, part, g.channels_out, g.output, [0, 0], 0, to);
}

/// A transform of the tiles of `channels` of maps of `size`, which reach `overlap` rows and columns into the next tile.
#[allow(clippy::too_many_arguments)] // the two above give most of them
fn transform(
    level: Level,
    x: &[f32],
    part: &Part,
    channels: usize,
    size: [usize; 2],
    pad: [isize; 2],
    overlap: usize,
    to: &mut Vec<f32>,
) {
    let row = row_of(part.tiles());
    to.resize(channels * row, 0.0);
    to.par_chunks_exact_mut(row)
        .enumerate()
        .for_each(|(channel, to)| {
            let plane = size[0] * size[1];
            for map in 0..part.maps {
                let from = ((part.first_map + map) * channels + channel) * plane;
                level.run(Tiles {
                    x: &x[from..from + plane],
                    size,
                    pad,
                    overlap,
                    part,
                    first: map * part.of_map(),
                    to: &mut to[..PLACES * part.tiles()],
                });
            }
        });
}

/// The tiles of one map of one channel.
struct Tiles<'a> {
    x: &'a [f32],
    size: [usize; 2],
    pad: [isize; 2],
    /// 2: `Bᵀ d B` of 4×4 numbers; 0: `A d Aᵀ` of 2×2.
    overlap: usize,
    part: &'a Part,
    /// Where the map's tiles start among those of a place.
    first: usize,
    /// `[place, tile]`
    to: &'a mut [f32],
}

impl Kernel for Tiles<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (width, n) = (self.part.columns, self.part.of_map());
        // The rows, transformed along themselves: [column of the tile, row of the map modulo 2, its half, tile of the row].
        let half = n + self.overlap / 2 * width;
        let mut lines = vec![0.0; 4 * 2 * half];
        let mut row = vec![0.0; 2 * width + self.overlap];
        let before = self.pad[1].max(0) as usize;
        let skipped = self.pad[1].min(0).unsigned_abs();
        for i in 0..2 * self.part.rows + self.overlap {
            let source = (2 * self.part.first_row + i) as isize - self.pad[0];
            let Some(source) = usize::try_from(source)
                .ok()
                .filter(|row| *row < self.size[0])
            else {
                continue; // the lines of rows outside the map stay 0
            };
            let source = &self.x[source * self.size[1]..][..self.size[1]];
            let source = &source[skipped.min(source.len())..];
            let place = before.min(row.len());
            let seen = source.len().min(row.len() - place);
            row[place..place + seen].copy_from_slice(&source[..seen]);
            let at = i % 2 * half + i / 2 * width;
            let [l0, l1, l2, l3] = parts_of(&mut lines, 2 * half, at, width);
            if self.overlap == 2 {
                for j in 0..width {
                    let d = &row[2 * j..2 * j + 4];
                    l0[j] = d[0] - d[2];
                    l1[j] = d[1] + d[2];
                    l2[j] = d[2] - d[1];
                    l3[j] = d[1] - d[3];
                }
            } else {
                for j in 0..width {
                    let d = &row[2 * j..2 * j + 2];
                    l0[j] = d[0];
                    l1[j] = d[0] + d[1];
                    l2[j] = d[0] - d[1];
                    l3[j] = -d[1];
                }
            }
        }
        let tiles = self.to.len() / PLACES;
        for (b, lines) in lines.chunks_exact(2 * half).enumerate() {
            let (even, odd) = lines.split_at(half);
            let [t0, t1, t2, t3] = parts_of(self.to, 4 * tiles, b * tiles + self.first, n);
            if self.overlap == 2 {
                let (d0, d1, d2, d3) = (&even[..n], &odd[..n], &even[width..], &odd[width..]);
                for i in 0..n {
                    t0[i] = d0[i] - d2[i];
                    t1[i] = d1[i] + d2[i];
                    t2[i] = d2[i] - d1[i];
                    t3[i] = d1[i] - d3[i];
                }
            } else {
                for i in 0..n {
                    t0[i] = even[i];
                    t1[i] = even[i] + odd[i];
                    t2[i] = even[i] - odd[i];
                    t3[i] = -odd[i];
                }
            }
        }
    }
}

/// The `n` numbers from `at` on of each of four equal parts, of `each` numbers.
#[inline(always)]
fn parts_of(numbers: &mut [f32], each: usize, at: usize, n: usize) -> [&mut [f32]; 4] {
    let (a, rest) = numbers.split_at_mut(each);
    let (b, rest) = rest.split_at_mut(each);
    let (c, d) = rest.split_at_mut(each);
    [a, b, c, d].map(|part| &mut part[at..at + n])
}

/// `Aᵀ m A` of one map's tiles of one channel, plus the bias.
struct OutputTiles<'a> {
    /// By place.
    products: [&'a [f32]; PLACES],
    bias: f32,
    part: &'a Part,
    /// Of the map.
    size: [usize; 2],
    /// The map.
    y: &'a mut [f32],
}

impl Kernel for OutputTiles<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let width = self.part.columns;
        let mut rows = [vec![0.0; 2 * width], vec![0.0; 2 * width]];
        for i in 0..self.part.rows {
            // Plain loops: closures would be compiled for no instruction set in particular.
            let mut m = self.products;
            for m in &mut m {
                *m = &m[i * width..][..width];
            }
            let [even, odd] = &mut rows;
            let (even, _) = even.as_chunks_mut::<2>();
            let (odd, _) = odd.as_chunks_mut::<2>();
            for j in 0..width {
                let (mut upper, mut lower) = ([0.0; 4], [0.0; 4]);
                for b in 0..4 {
                    upper[b] = m[b][j] + m[4 + b][j] + m[8 + b][j];
                    lower[b] = m[4 + b][j] - m[8 + b][j] - m[12 + b][j];
                }
                let bias = self.bias;
                even[j][0] = upper[0] + upper[1] + upper[2] + bias;
                even[j][1] = upper[1] - upper[2] - upper[3] + bias;
                odd[j][0] = lower[0] + lower[1] + lower[2] + bias;
                odd[j][1] = lower[1] - lower[2] - lower[3] + bias;
            }
            let first = 2 * (self.part.first_row + i) * self.size[1];
            let y = self.y[first..].chunks_exact_mut(self.size[1]);
            for (y, row) in y.zip(&rows) {
                y.copy_from_slice(&row[..self.size[1]]);
            }
        }
    }
}
