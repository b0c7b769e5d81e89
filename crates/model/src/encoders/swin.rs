//! Swin Transformer (Liu et al. 2021, "Swin Transformer: Hierarchical vision transformer using shifted windows", arXiv 2103.14030), as
//! torchvision's.
//!
//! Any height and width: maps are padded with zeros to whole windows and to even sizes before a merging. With an output stride below 32
//! the last mergings keep the resolution, and they and the windows behind them take every second (fourth) cell, as a dilated convolution
//! would: at the cells that the strided network has, the maps are the same, with the same weights.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};

use super::{StageGeometry, stage_strides};
use crate::layers::cbam::{Cbam, CbamConfig};
use crate::layers::drop_path::{DropPath, DropPathConfig, linear_schedule};
use crate::layers::init;
use crate::layers::layer_norm::{LayerNorm, LayerNormConfig};
use crate::layers::window_attention::{WindowAttention, WindowAttentionConfig};
use crate::ops::recorded::{add, linear};
use crate::ops::{checkpoint, conv2d, gelu::gelu};
use crate::summary::trace::scope;

/// Side and stride of the stem's patches, in input cells.
const PATCH: usize = 4;

/// Configuration of [`Swin`].
#[derive(Config, Debug)]
pub struct SwinConfig {
    /// Channels of the input.
    pub input_channels: usize,
    /// Channels of the first stage; they double with every stage.
    pub dim: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Attention heads of each stage.
    pub heads: Vec<usize>,
    /// Side of the attention windows, in cells.
    #[config(default = 7)]
    pub window: usize,
    /// Drop-path probability of the last block; it rises linearly from 0 at the first.
    #[config(default = 0.0)]
    pub drop_path: f64,
    /// Stride of the last map, in input cells: 8, 16 or 32.
    #[config(default = 32)]
    pub output_stride: usize,
    /// Reduction ratio of a CBAM at the end of every block's MLP branch, before drop path and addition; none: no attention of that kind.
    pub cbam_reduction: Option<usize>,
}

impl SwinConfig {
    fn sized(input_channels: usize, dim: usize, depth: usize, drop_path: f64) -> Self {
        let heads = (0..4).map(|i| (dim / 32) << i).collect();
        Self::new(input_channels, dim, vec![2, 2, depth, 2], heads).with_drop_path(drop_path)
    }

    /// The paper's tiny: 28.3 M parameters with 1000 classes.
    pub fn tiny(input_channels: usize) -> Self {
        Self::sized(input_channels, 96, 6, 0.2)
    }

    /// The paper's small: 49.6 M parameters.
    pub fn small(input_channels: usize) -> Self {
        Self::sized(input_channels, 96, 18, 0.3)
    }

    /// The paper's base: 87.8 M parameters.
    pub fn base(input_channels: usize) -> Self {
        Self::sized(input_channels, 128, 18, 0.5)
    }

    /// Keeps the first `stages` stages.
    pub fn truncated(mut self, stages: usize) -> Self {
        self.depths.truncate(stages);
        self.heads.truncate(stages);
        self
    }

    /// Channels of each stage's map.
    pub fn channels(&self) -> Vec<usize> {
        (0..self.depths.len()).map(|i| self.dim << i).collect()
    }

    /// Stride of each stage's map, in input cells.
    pub fn strides(&self) -> Vec<usize> {
        stage_strides(PATCH, self.depths.len(), self.output_stride)
            .map(|stage| stage.total)
            .collect()
    }

    fn block(&self, stage: usize, index: usize, dilation: usize, device: &Device) -> SwinBlock {
        let channels = self.dim << stage;
        let blocks_before: usize = self.depths[..stage].iter().sum();
        let rates = linear_schedule(self.drop_path, self.depths.iter().sum());
        let linear = |channels_in, channels_out| {
            let config = LinearConfig::new(channels_in, channels_out);
            init::linear(config.with_initializer(init::normal_002()), device)
        };
        SwinBlock {
            attention_norm: LayerNormConfig::new(channels).init(device),
            attention: WindowAttentionConfig::new(channels, self.heads[stage])
                .with_window(self.window)
                .with_shift(index % 2 * (self.window / 2))
                .with_dilation(dilation)
                .init(device),
            mlp_norm: LayerNormConfig::new(channels).init(device),
            expand: linear(channels, 4 * channels),
            reduce: linear(4 * channels, channels),
            cbam: self
                .cbam_reduction
                .map(|ratio| CbamConfig::new(channels).with_reduction(ratio).init(device)),
            drop_path: DropPathConfig::new(rates[blocks_before + index]).init(),
        }
    }

    /// An encoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Swin {
        let geometry = stage_strides(PATCH, self.depths.len(), self.output_stride);
        let stages = geometry.enumerate().map(|(i, geometry)| {
            let blocks = 0..self.depths[i];
            let blocks = blocks.map(|j| self.block(i, j, geometry.dilation, device));
            SwinStage {
                merging: (i > 0).then(|| PatchMerging::new(self.dim << (i - 1), geometry, device)),
                blocks: blocks.collect(),
            }
        });
        let stages = stages.collect();
        let stem = Conv2dConfig::new([self.input_channels, self.dim], [PATCH; 2])
            .with_stride([PATCH; 2])
            .with_initializer(init::normal_002());
        Swin {
            stem: init::conv2d(stem, device),
            stem_norm: LayerNormConfig::new(self.dim).init(device),
            stages,
        }
    }
}

/// The encoder: patches of 4×4 cells, then stages of window attention with a merging of 2×2 cells in between.
#[derive(Module, Debug)]
pub struct Swin {
    /// 4×4 convolution at stride 4.
    pub stem: Conv2d,
    /// Normalisation of the stem's map.
    pub stem_norm: LayerNorm,
    /// The stages.
    pub stages: Vec<SwinStage>,
}

/// One resolution of the network.
#[derive(Module, Debug)]
pub struct SwinStage {
    /// Way from the previous stage, none in the first.
    pub merging: Option<PatchMerging>,
    /// Blocks, every second with shifted windows.
    pub blocks: Vec<SwinBlock>,
}

/// Four neighbouring cells side by side, normalised, mixed to twice the channels of one.
#[derive(Module, Debug)]
pub struct PatchMerging {
    /// Normalisation of the 4 C channels.
    pub norm: LayerNorm,
    /// Linear layer 4 C → 2 C.
    pub reduce: Linear,
    /// 2, or 1 where dilation replaces the stride.
    pub stride: usize,
    /// Spacing of the four cells.
    pub dilation: usize,
}

/// `x + drop_path(attention(norm(x)))`, then `x + drop_path(cbam(linear(gelu(linear(norm(x))))))`, the middle four times as wide.
#[derive(Module, Debug)]
pub struct SwinBlock {
    /// Normalisation before the attention.
    pub attention_norm: LayerNorm,
    /// Attention inside windows.
    pub attention: WindowAttention,
    /// Normalisation before the two linear layers.
    pub mlp_norm: LayerNorm,
    /// Linear layer C → 4 C of each cell.
    pub expand: Linear,
    /// Linear layer 4 C → C of each cell.
    pub reduce: Linear,
    /// Attention to channels and places.
    pub cbam: Option<Cbam>,
    /// Stochastic depth of both branches.
    pub drop_path: DropPath,
}

impl PatchMerging {
    fn new(channels: usize, geometry: StageGeometry, device: &Device) -> Self {
        let reduce = LinearConfig::new(4 * channels, 2 * channels)
            .with_bias(false)
            .with_initializer(init::normal_002());
        Self {
            norm: LayerNormConfig::new(4 * channels).init(device),
            reduce: reduce.init(device),
            stride: geometry.stride,
            dilation: geometry.entry_dilation,
        }
    }

    /// # Shapes
    /// Channels last: `[batch, height, width, C]` → `[batch, ceil(height / stride), ceil(width / stride), 2 C]`
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let [rows, columns] = [height, width].map(|n| n.div_ceil(self.stride));
        let reach = |n: usize| (n - 1) * self.stride + self.dilation + 1;
        let pad = [reach(rows) - height, reach(columns) - width].map(|after| (0, after));
        let x = match pad {
            [(0, 0), (0, 0)] => x,
            [south, east] => x.pad([south, east, (0, 0)], PadMode::Constant(0.0)),
        };
        let d = self.dilation;
        // torchvision's order: the cell itself, south, east, south-east.
        let cells = [(0, 0), (d, 0), (0, d), (d, d)].map(|(row, column)| match self.stride {
            1 => x.clone().narrow(1, row, rows).narrow(2, column, columns),
            _ => x
                .clone()
                .reshape([batch, rows, 2, columns, 2 * channels])
                .narrow(2, row, 1)
                .narrow(4, column * channels, channels)
                .reshape([batch, rows, columns, channels]),
        });
        let merged = self.norm.forward(Tensor::cat(cells.to_vec(), 3));
        let merged = merged.reshape([batch * rows * columns, 4 * channels]);
        let mixed = linear(&self.reduce, merged);
        mixed.reshape([batch, rows, columns, 2 * channels])
    }
}

impl SwinBlock {
    /// # Shapes
    /// Channels last: `[batch, height, width, channels]` → the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let _scope = scope(self);
        let branch = checkpoint::block(self, x.clone(), Self::attend);
        let x = add(x, self.drop_path.forward(branch));
        let branch = checkpoint::block(self, x.clone(), Self::mix);
        add(x, self.drop_path.forward(branch))
    }

    /// The first branch.
    fn attend(&self, x: Tensor<4>) -> Tensor<4> {
        self.attention.forward(self.attention_norm.forward(x))
    }

    /// The second branch.
    fn mix(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        // One row a cell, as in ConvNeXt.
        let cells = self.mlp_norm.forward(x);
        let cells = cells.reshape([batch * height * width, channels]);
        let cells = linear(&self.reduce, gelu(linear(&self.expand, cells)));
        let mut branch = cells.reshape([batch, height, width, channels]);
        if let Some(cbam) = &self.cbam {
            let map = cbam.forward(branch.permute([0, 3, 1, 2]));
            branch = map.permute([0, 2, 3, 1]);
        }
        branch
    }
}

impl Swin {
    /// The map of every stage, finest first, as they are between stages: torchvision's and timm's final normalisation belongs to their
    /// classifiers.
    ///
    /// # Shapes
    /// `[batch, input channels, height, width]` → `[batch, channels[i], height / strides[i], width / strides[i]]`, rounded down at the
    /// stem and up behind it
    pub fn forward(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let x = conv2d::forward(&self.stem, x).permute([0, 2, 3, 1]);
        let mut x = self.stem_norm.forward(x);
        let mut maps = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            if let Some(merging) = &stage.merging {
                x = merging.forward(x);
            }
            for block in &stage.blocks {
                x = block.forward(x);
            }
            maps.push(x.clone().permute([0, 3, 1, 2]));
        }
        maps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use burn::tensor::Slice;

    /// Swin-T with fewer channels: [2, 2, 6, 2] blocks, windows of 7.
    fn narrow() -> SwinConfig {
        SwinConfig::new(3, 24, vec![2, 2, 6, 2], vec![1, 2, 3, 6])
    }

    #[test]
    fn torchvision_values() {
        // 125 × 77 cells give maps of 31 × 19, 16 × 10, 8 × 5, 4 × 3: odd sizes, padded and several windows, shifted in both
        // directions, in one and in none.
        let encoder = golden::filled(narrow().init(&Device::flex()));
        let maps = encoder.forward(golden::input([1, 3, 125, 77]));
        for (i, map) in maps.into_iter().enumerate() {
            golden::check(&format!("swin_stage{}", i + 1), map);
        }
    }

    #[test]
    fn torchvision_gradients() {
        let config = narrow().truncated(2);
        let encoder = golden::filled(config.init(&Device::flex().autodiff()));
        let maps = encoder.forward(golden::differentiable_input([2, 3, 61, 45]));
        let gradients = golden::loss(maps[1].clone()).backward();
        let block = &encoder.stages[0].blocks[1];
        let bias = block.attention.position_bias.val();
        golden::check_gradient("swin_position_bias", bias.grad(&gradients).unwrap());
        let merging = encoder.stages[1].merging.as_ref().unwrap();
        for (name, linear) in [
            ("swin_qkv", &block.attention.qkv),
            ("swin_project", &block.attention.project),
            ("swin_expand", &block.expand),
            ("swin_merging", &merging.reduce),
        ] {
            let gradient = linear.weight.val().grad(&gradients).unwrap();
            golden::check_gradient(name, gradient.transpose());
        }
        let norm = merging.norm.gamma.val().grad(&gradients).unwrap();
        golden::check_gradient("swin_merging_norm", norm);
    }

    #[test]
    fn dilation_keeps_the_strided_maps() {
        let x = golden::input([1, 3, 125, 77]);
        let maps = |output_stride| {
            let config = narrow().with_output_stride(output_stride);
            golden::filled(config.init(&Device::flex())).forward(x.clone())
        };
        let strided = maps(32);
        for (output_stride, sizes) in [(16, [8, 5]), (8, [16, 10])] {
            let dilated = maps(output_stride);
            for (strided, dilated) in strided.iter().zip(dilated) {
                let [_, _, height, width] = strided.dims();
                let [_, _, h, w] = dilated.dims();
                let step = h.div_ceil(height);
                assert_eq!([h.div_ceil(step), w.div_ceil(step)], [height, width]);
                let every = Slice::new(0, None, step as isize);
                let kept = dilated.slice([Slice::full(), Slice::full(), every, every]);
                let worst = (kept - strided.clone()).abs().max().into_scalar::<f32>();
                assert!(worst < 1e-4, "stride {output_stride}: {worst}");
                if step > 1 {
                    assert_eq!([h, w], sizes);
                }
            }
        }
    }
}
