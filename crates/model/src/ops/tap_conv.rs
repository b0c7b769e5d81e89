//! Convolution tap by tap, for kernels dilated so far that most taps see little of the map.
//!
//! Each tap multiplies the pixels that it sees, of all maps, by its weights, and adds the product to the outputs that see them (Vasudevan et
//! al. 2017, "Parallel multi channel convolution using general matrix multiplication", arXiv 1704.04428).

use rayon::prelude::*;

use super::convolution::Geometry;
use super::matrix::{Matrix, multiply_in_parallel};
use super::parallel::{by_chunks, zeros};

/// The same pixels of every map and channel: evenly spaced rows and columns.
#[derive(Clone, Copy)]
struct Pixels {
    maps: usize,
    channels: usize,
    /// Of the maps.
    size: [usize; 2],
    /// The first.
    corner: [usize; 2],
    /// From one to the next.
    step: [usize; 2],
    /// How many rows and columns.
    count: [usize; 2],
}

impl Pixels {
    /// Of a map and a channel.
    fn each(&self) -> usize {
        self.count[0] * self.count[1]
    }

    fn of_channel(&self) -> usize {
        self.maps * self.each()
    }

    /// Where the pixels of a row start in a map.
    fn row(&self, row: usize) -> usize {
        (self.corner[0] + row * self.step[0]) * self.size[1] + self.corner[1]
    }

    /// `[map, channel, pixel]`, all of them → `[channel, map, pixel]`, these.
    fn of(&self, x: &[f32]) -> Vec<f32> {
        let plane = self.size[0] * self.size[1];
        let n = self.of_channel();
        by_chunks(self.channels * n, n, |channel, to| {
            for (map, to) in to.chunks_exact_mut(self.each()).enumerate() {
                let x = &x[(map * self.channels + channel) * plane..][..plane];
                for (row, to) in to.chunks_exact_mut(self.count[1]).enumerate() {
                    let from = x[self.row(row)..].iter().step_by(self.step[1]);
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = *from;
                    }
                }
            }
        })
    }

    /// Adds `[channel, map, pixel]`, these, to plane `i` of `[map, channel, pixel]`, all of them.
    fn add(&self, numbers: &[f32], i: usize, to: &mut [f32]) {
        let (map, channel) = (i / self.channels, i % self.channels);
        let from = &numbers[(channel * self.maps + map) * self.each()..][..self.each()];
        for (row, from) in from.chunks_exact(self.count[1]).enumerate() {
            let to = to[self.row(row)..].iter_mut().step_by(self.step[1]);
            for (to, from) in to.zip(from) {
                *to += from;
            }
        }
    }
}

/// A tap that sees something.
struct Tap {
    /// In the kernel.
    place: usize,
    /// What it sees.
    input: Pixels,
    /// What sees it.
    output: Pixels,
}

impl Tap {
    fn all(g: &Geometry) -> impl Iterator<Item = Self> {
        let columns = g.kernel[1];
        (0..g.kernel[0] * columns).filter_map(move |place| {
            let tap = [place / columns, place % columns];
            // The outputs for which the tap is inside of the map.
            let seeing = [0, 1].map(|i| {
                let first = (tap[i] * g.dilation[i]) as isize - g.pad[i];
                let inside = |output: &usize| {
                    let at = first + (output * g.stride[i]) as isize;
                    at >= 0 && at < g.input[i] as isize
                };
                let start = (0..g.output[i]).find(inside)?;
                let count = (start..g.output[i]).take_while(inside).count();
                let from = first + (start * g.stride[i]) as isize;
                Some((start, from as usize, count))
            });
            let [Some(rows), Some(columns)] = seeing else {
                return None;
            };
            let count = [rows.2, columns.2];
            Some(Self {
                place,
                input: Pixels {
                    maps: g.batch,
                    channels: g.channels_in,
                    size: g.input,
                    corner: [rows.1, columns.1],
                    step: g.stride,
                    count,
                },
                output: Pixels {
                    maps: g.batch,
                    channels: g.channels_out,
                    size: g.output,
                    corner: [rows.0, columns.0],
                    step: [1, 1],
                    count,
                },
            })
        })
    }

    /// `[channels out, channels in]`
    fn weights<'a>(&self, weight: &'a [f32], g: &Geometry) -> Matrix<'a> {
        Matrix {
            numbers: &weight[self.place..],
            row: g.taps(),
            column: g.window(),
        }
    }
}

/// Whether the taps see, all together, less than half of what they would see without an edge.
pub(super) fn suits(g: &Geometry) -> bool {
    let seen: usize = Tap::all(g).map(|tap| tap.output.each()).sum();
    g.groups == 1 && 2 * seen < g.window() * g.output_plane()
}

/// As [`convolution::forward`](super::convolution::forward), without groups.
pub(super) fn forward(x: &[f32], weight: &[f32], bias: &[f32], g: &Geometry) -> Vec<f32> {
    let products = products(g, |tap| {
        let n = tap.output.of_channel();
        let x = tap.input.of(x);
        let mut product = zeros(g.channels_out * n);
        let (a, b) = (tap.weights(weight, g), Matrix::rows_of(&x, n));
        multiply_in_parallel(
            [g.channels_out, n, g.channels_in],
            &mut product,
            a,
            b,
            false,
        );
        product
    });
    let plane = g.output_plane();
    by_chunks(g.batch * g.channels_out * plane, plane, |i, y| {
        if let Some(bias) = bias.get(i % g.channels_out) {
            y.fill(*bias);
        }
        for (tap, product) in &products {
            tap.output.add(product, i, y);
        }
    })
}

/// As [`convolution::input_gradient`](super::convolution::input_gradient), without groups, of any stride.
pub(super) fn input_gradient(dy: &[f32], weight: &[f32], g: &Geometry) -> Vec<f32> {
    let products = products(g, |tap| {
        let n = tap.output.of_channel();
        let dy = tap.output.of(dy);
        let mut product = zeros(g.channels_in * n);
        let (a, b) = (tap.weights(weight, g).transposed(), Matrix::rows_of(&dy, n));
        multiply_in_parallel(
            [g.channels_in, n, g.channels_out],
            &mut product,
            a,
            b,
            false,
        );
        product
    });
    let plane = g.input_plane();
    by_chunks(g.batch * g.channels_in * plane, plane, |i, dx| {
        for (tap, product) in &products {
            tap.input.add(product, i, dx);
        }
    })
}

/// As [`convolution::weight_gradient`](super::convolution::weight_gradient), without groups.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let products = products(g, |tap| {
        let n = tap.output.of_channel();
        let (x, dy) = (tap.input.of(x), tap.output.of(dy));
        let mut product = zeros(g.channels_out * g.channels_in);
        let b = Matrix::rows_of(&x, n).transposed();
        let sizes = [g.channels_out, g.channels_in, n];
        multiply_in_parallel(sizes, &mut product, Matrix::rows_of(&dy, n), b, false);
        product
    });
    by_chunks(g.channels_out * g.taps(), g.taps(), |out, dw| {
        for (channel, dw) in dw.chunks_exact_mut(g.window()).enumerate() {
            for (tap, product) in &products {
                dw[tap.place] = product[out * g.channels_in + channel];
            }
        }
    })
}

/// Every tap with its product.
fn products(g: &Geometry, of: impl Fn(&Tap) -> Vec<f32> + Sync) -> Vec<(Tap, Vec<f32>)> {
    let taps: Vec<Tap> = Tap::all(g).collect();
    let with_product = |tap: Tap| {
        let product = of(&tap);
        (tap, product)
    };
    taps.into_par_iter().map(with_product).collect()
}
