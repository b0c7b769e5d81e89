//! Self-attention inside windows of a map, shifted or not.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::init;
use crate::ops::precision::widened;
use crate::ops::recorded::linear;
use crate::summary::trace::{Kind, unary};

/// What attention between cells of different regions of a window is lowered by before the softmax.
const MASKED: f32 = -100.0;

/// Configuration of [`WindowAttention`].
#[derive(Config, Debug)]
pub struct WindowAttentionConfig {
    /// Channels, a multiple of the heads.
    pub channels: usize,
    /// Attention heads.
    pub heads: usize,
    /// Side of a window, in cells.
    #[config(default = 7)]
    pub window: usize,
    /// Cells by which the windows are shifted to the south and east.
    #[config(default = 0)]
    pub shift: usize,
    /// Spacing of the cells of a window. At spacing d a map is attended to as d² maps, one for each remainder of row and column modulo d,
    /// as a dilated convolution does.
    #[config(default = 1)]
    pub dilation: usize,
}

/// Multi-head self-attention of the cells of each window with a learned bias for each relative position (Liu et al. 2021, "Swin
/// Transformer", arXiv 2103.14030, section 3.2).
///
/// Maps are padded with zeros to whole windows. Shifted windows are those of the map rolled by the shift; cells that the roll alone
/// brought together do not see each other. Where one window covers the map, nothing is shifted. All as torchvision's
/// `shifted_window_attention`.
#[derive(Module, Debug)]
pub struct WindowAttention {
    /// Queries, keys and values of a cell, C → 3 C.
    pub qkv: Linear,
    /// Linear layer C → C behind the heads.
    pub project: Linear,
    /// Bias of each relative position (row-major, from −(window − 1) to window − 1) and head, `[(2 window − 1)², heads]`.
    pub position_bias: Param<Tensor<2>>,
    /// Attention heads.
    pub heads: usize,
    /// Side of a window, in cells.
    pub window: usize,
    /// Cells by which the windows are shifted.
    pub shift: usize,
    /// Spacing of the cells of a window.
    pub dilation: usize,
}

impl WindowAttentionConfig {
    /// A layer with fresh weights on `device`.
    ///
    /// # Panics
    /// If the channels are no multiple of the heads.
    pub fn init(&self, device: &Device) -> WindowAttention {
        let (channels, heads) = (self.channels, self.heads);
        assert!(
            channels.is_multiple_of(heads),
            "{channels} channels for {heads} heads"
        );
        let linear = |channels_out| {
            let config = LinearConfig::new(channels, channels_out);
            init::linear(config.with_initializer(init::normal_002()), device)
        };
        let positions = (2 * self.window - 1).pow(2);
        WindowAttention {
            qkv: linear(3 * channels),
            project: linear(channels),
            position_bias: init::normal_002().init([positions, heads], device),
            heads,
            window: self.window,
            shift: self.shift,
            dilation: self.dilation,
        }
    }
}

impl WindowAttention {
    /// # Shapes
    /// Channels last: `[batch, height, width, channels]` → the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let (w, d) = (self.window, self.dilation);
        // Windows in each direction, and the shift there.
        let [nh, nw] = [height, width].map(|n| n.div_ceil(w * d));
        let shifts = [nh, nw].map(|n| if n == 1 { 0 } else { self.shift as isize });
        let shifted = shifts != [0, 0];
        let roll = shifts.map(|shift| shift * d as isize);

        let missing = [nh * w * d - height, nw * w * d - width];
        let mut x = x;
        if missing != [0, 0] {
            let pad = [(0, missing[0]), (0, missing[1]), (0, 0)];
            x = x.pad(pad, PadMode::Constant(0.0));
        }
        if shifted {
            x = x.roll(&roll.map(|shift| -shift), &[1, 2]);
        }
        // The cells of a window in rows; phases of the dilation before windows.
        let windows = batch * d * d * nh * nw;
        let cells = x
            .reshape([batch, nh, w, d, nw, w, d, channels])
            .permute([0, 3, 6, 1, 4, 2, 5, 7])
            .reshape([windows * w * w, channels]);
        let mask = shifted.then(|| self.mask([nh, nw], shifts, &cells.device()));
        let cells = self.attend(cells, mask);

        let mut x = cells
            .reshape([batch, d, d, nh, nw, w, w, channels])
            .permute([0, 3, 5, 1, 4, 6, 2, 7])
            .reshape([batch, nh * w * d, nw * w * d, channels]);
        if shifted {
            x = x.roll(&roll, &[1, 2]);
        }
        match missing {
            [0, 0] => x,
            _ => x.narrow(1, 0, height).narrow(2, 0, width),
        }
    }

    /// Attention inside each run of window² rows.
    fn attend(&self, cells: Tensor<2>, mask: Option<Tensor<5>>) -> Tensor<2> {
        let kind = || Kind {
            per_output: 2 * self.window * self.window,
            ..Kind::plain("WindowAttention").of(&self.position_bias)
        };
        let mixed = unary(kind, linear(&self.qkv, cells), |qkv| self.mix(qkv, mask));
        linear(&self.project, mixed)
    }

    /// From queries, keys and values, `[rows, 3 C]`, to what the heads say, `[rows, C]`.
    fn mix(&self, qkv: Tensor<2>, mask: Option<Tensor<5>>) -> Tensor<2> {
        let [rows, channels] = qkv.dims();
        let channels = channels / 3;
        let (heads, area) = (self.heads, self.window * self.window);
        let windows = rows / area;
        let depth = channels / heads;
        let qkv = qkv
            .reshape([windows, area, 3, heads, depth])
            .permute([2, 0, 3, 1, 4]);
        let [q, k, v] = [0, 1, 2].map(|i| qkv.clone().narrow(0, i, 1).squeeze_dim::<4>(0));
        let scale = (depth as f64).powf(-0.5);
        let mut scores = widened((q * scale).matmul(k.transpose())) + self.bias();
        if let Some(mask) = mask {
            let [_, masked, ..] = mask.dims();
            scores = (scores.reshape([windows / masked, masked, heads, area, area]) + mask)
                .reshape([windows, heads, area, area]);
        }
        let weights = softmax(scores, 3).cast(v.dtype());
        let mixed = weights.matmul(v).swap_dims(1, 2);
        mixed.reshape([rows, channels])
    }

    /// The bias between each two cells of a window, `[1, heads, window², window²]`.
    fn bias(&self) -> Tensor<4> {
        let (w, area) = (self.window, self.window * self.window);
        let mut index = Vec::with_capacity(area * area);
        for query in 0..area {
            for key in 0..area {
                let [row, column] = [query / w + w - key / w, query % w + w - key % w];
                index.push(((row - 1) * (2 * w - 1) + column - 1) as i64);
            }
        }
        let table = self.position_bias.val();
        let index = TensorData::new(index, [area * area]);
        let index = Tensor::<1, Int>::from_data(index, &table.device());
        table
            .select(0, index)
            .reshape([1, area, area, self.heads])
            .permute([0, 3, 1, 2])
    }

    /// The mask between each two cells of each window, `[1, windows, 1, window², window²]`: cells that lay on opposite sides of the map's
    /// border before the roll are of different regions.
    fn mask(&self, windows: [usize; 2], shifts: [isize; 2], device: &Device) -> Tensor<5> {
        let (w, area) = (self.window, self.window * self.window);
        let [nh, nw] = windows;
        // In the last window only, the cells from its end on that the roll brought there.
        let wrapped = |place: usize, n: usize, shift: isize| place + shift as usize >= n * w;
        let mut mask = Vec::with_capacity(nh * nw * area * area);
        for i in 0..nh {
            for j in 0..nw {
                let region = |cell: usize| {
                    let south = wrapped(i * w + cell / w, nh, shifts[0]);
                    (south, wrapped(j * w + cell % w, nw, shifts[1]))
                };
                for query in 0..area {
                    let apart = |key| region(query) != region(key);
                    mask.extend((0..area).map(|key| if apart(key) { MASKED } else { 0.0 }));
                }
            }
        }
        Tensor::from_data(TensorData::new(mask, [1, nh * nw, 1, area, area]), device)
    }
}
