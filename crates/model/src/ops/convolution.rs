//! Convolution of `f32` slices on the CPU and its gradients, by the way that suits the sizes.
//!
//! Where each way is taken was measured on two cores with AVX-512, for the layers of DeepLabV3+ with ResNet-50 at 128 × 128 cells. 3×3
//! kernels of many channels take the fewest multiplications, and kernels that mostly reach beyond the map only those that count. Of the
//! others, the direct convolution is ahead of the matrices, which have to be made first, where rows are long enough for its vectors. Its
//! gradient by the weights adds up every vector of sums once a tap: for maps of a few vectors that is most of the work.

use rayon::prelude::*;

use super::parallel::zeros;
use super::{direct_conv, matrix_conv, tap_conv, winograd};

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
    pub(super) fn group_in(&self) -> usize {
        self.channels_in / self.groups
    }

    pub(super) fn group_out(&self) -> usize {
        self.channels_out / self.groups
    }

    /// Cells of the kernel.
    pub(super) fn window(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Weights of one output channel.
    pub(super) fn taps(&self) -> usize {
        self.group_in() * self.window()
    }

    pub(super) fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub(super) fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Whether every output pixel sees the input pixel at its place and no other.
    pub(super) fn is_pointwise(&self) -> bool {
        let at_place = self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0];
        at_place && self.input == self.output
    }

    /// The same convolution of the same numbers with longer rows, if it is pointwise and the maps are small: whole vectors.
    pub(super) fn flattened(mut self) -> Self {
        if self.is_pointwise() && self.input_plane() <= 4096 {
            self.input = [1, self.input_plane()];
            self.output = self.input;
        }
        self
    }

    /// Whether there is a matrix to make: one group, and something in it.
    fn may_be_matrix(&self) -> bool {
        self.groups == 1 && self.batch * self.channels_in * self.channels_out > 0
    }

    /// Panics unless these are such maps and weights, and an output has `n` numbers.
    pub(super) fn check(&self, x: &[f32], weight: &[f32], n: usize) {
        assert!(self.channels_in.is_multiple_of(self.groups));
        assert!(self.channels_out.is_multiple_of(self.groups));
        assert_eq!(x.len(), self.batch * self.channels_in * self.input_plane());
        assert_eq!(weight.len(), self.channels_out * self.taps());
        assert_eq!(n, self.batch * self.channels_out * self.output_plane());
    }
}

/// Convolution of `x` `[batch, channels in, rows, columns]` with `weight` `[channels out, channels in / groups, rows, columns]`, plus
/// `bias` (empty, or one for each channel out).
pub(super) fn forward(x: &[f32], weight: &[f32], bias: &[f32], g: &Geometry) -> Vec<f32> {
    if winograd::suits(g) {
        return winograd::forward(x, weight, bias, g);
    }
    if g.may_be_matrix() && tap_conv::suits(g) {
        return tap_conv::forward(x, weight, bias, g);
    }
    // Rows shorter than a vector leave lanes of the direct convolution without work.
    let short = if g.is_pointwise() {
        g.output_plane() <= 256
    } else {
        g.output[1] < 16
    };
    match g.may_be_matrix() && short {
        true => matrix_conv::forward(x, weight, bias, g),
        false => direct_conv::forward(x, weight, bias, g),
    }
}

/// Gradient of [`forward`] by `x`, given the one by its output; of convolutions with a stride, only for one group.
pub(super) fn input_gradient(dy: &[f32], weight: &[f32], g: &Geometry) -> Vec<f32> {
    if dy.is_empty() {
        return zeros(g.batch * g.channels_in * g.input_plane());
    }
    if winograd::suits(g) {
        return winograd::input_gradient(dy, weight, g);
    }
    if g.may_be_matrix() && tap_conv::suits(g) {
        return tap_conv::input_gradient(dy, weight, g);
    }
    let strided = g.stride != [1, 1];
    let small = g.output_plane() <= if g.is_pointwise() { 256 } else { 64 };
    match g.may_be_matrix() && (strided || small) {
        true => matrix_conv::input_gradient(dy, weight, g),
        false => direct_conv::input_gradient(dy, weight, g),
    }
}

/// Gradient of [`forward`] by `weight`, given the one by its output.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let small = g.output_plane()
        <= if g.kernel == [1, 1] && g.stride != [1, 1] {
            512
        } else {
            128
        };
    if g.may_be_matrix() && tap_conv::suits(g) {
        return tap_conv::weight_gradient(x, dy, g);
    }
    match g.may_be_matrix() && small {
        true => matrix_conv::weight_gradient(x, dy, g),
        false if winograd::suits(g) => winograd::weight_gradient(x, dy, g),
        false => direct_conv::weight_gradient(x, dy, g),
    }
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

#[cfg(test)]
mod tests {
    use super::super::simd::Level;
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
        let close = |what: &str, ours: &[f32], exact: &[f64], terms| {
            assert_close(&format!("{what} of {g:?}"), ours, exact, terms);
        };
        let terms_dx = g.group_out() * window;
        if g.groups == 1 && g.batch > 0 {
            let y = matrix_conv::forward(&x, &weight, &bias, g);
            close("output, matrix", &y, &exact.y, g.taps());
            let dx = matrix_conv::input_gradient(&dy, &weight, g);
            close("input gradient, matrix", &dx, &exact.dx, terms_dx);
            let dw = matrix_conv::weight_gradient(&x, &dy, g);
            close("weight gradient, matrix", &dw, &exact.dw, pixels);
            let y = tap_conv::forward(&x, &weight, &bias, g);
            close("output, by tap", &y, &exact.y, g.taps());
            let dx = tap_conv::input_gradient(&dy, &weight, g);
            close("input gradient, by tap", &dx, &exact.dx, terms_dx);
            let dw = tap_conv::weight_gradient(&x, &dy, g);
            close("weight gradient, by tap", &dw, &exact.dw, pixels);
        }
        if g.kernel == [3, 3] && g.stride == [1, 1] && g.dilation == [1, 1] && g.groups == 1 {
            let y = winograd::forward(&x, &weight, &bias, g);
            close("output, minimal filter", &y, &exact.y, g.taps());
            let dx = winograd::input_gradient(&dy, &weight, g);
            close("input gradient, minimal filter", &dx, &exact.dx, terms_dx);
            let dw = winograd::weight_gradient(&x, &dy, g);
            close("weight gradient, minimal filter", &dw, &exact.dw, pixels);
        }
        close(
            "output",
            &forward(&x, &weight, &bias, g),
            &exact.y,
            g.taps(),
        );
        close(
            "weight gradient",
            &weight_gradient(&x, &dy, g),
            &exact.dw,
            pixels,
        );
        if g.stride == [1, 1] || g.groups == 1 && g.batch > 0 {
            let dx = input_gradient(&dy, &weight, g);
            close("input gradient", &dx, &exact.dx, terms_dx);
        }
        for level in Level::available() {
            let what = |what: &str| format!("{what} of {g:?}, {level:?}");
            let y = direct_conv::forward_at(level, &x, &weight, &bias, g);
            assert_close(&what("output"), &y, &exact.y, g.taps());
            let dw = direct_conv::weight_gradient_at(level, &x, &dy, g);
            assert_close(&what("weight gradient"), &dw, &exact.dw, pixels);
            if g.stride == [1, 1] {
                let dx = direct_conv::input_gradient_at(level, &dy, &weight, g);
                assert_close(&what("input gradient"), &dx, &exact.dx, terms_dx);
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
    fn dilation_beyond_the_map() {
        let g = geometry(3, [5, 7], [6, 9], [3, 3]);
        for dilation in [4, 6, 7, 9, 12] {
            check(&spaced(g, [1, 1], [dilation; 2], [dilation; 2]));
        }
        check(&spaced(g, [2, 1], [6, 4], [6, 4]));
    }

    #[test]
    fn several_matrices() {
        // More taps and pixels than one matrix takes: maps are added up in parts.
        check(&geometry(5, [64, 3], [31, 33], [3, 3]));
    }

    #[test]
    fn empty_batch() {
        let g = geometry(0, [3, 4], [6, 10], [3, 3]);
        let weight = numbers(4 * 27, 1);
        assert!(forward(&[], &weight, &[], &g).is_empty());
        assert_eq!(weight_gradient(&[], &[], &g), vec![0.0; 4 * 27]);
    }
}
