//! Inverse ConvNeXt: the way of a [`ConvNeXt`](crate::encoders::convnext::ConvNeXt) backwards, with transposed convolutions in
//! place of the strided ones.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{ConvTranspose2d, ConvTranspose2dConfig};
use burn::tensor::{Device, Tensor};

use crate::encoders::convnext::{Block, BlockConfig};
use crate::layers::drop_path::linear_schedule;
use crate::layers::init;
use crate::layers::layer_norm2d::{LayerNorm2d, LayerNorm2dConfig};
use crate::ops::recorded::conv_transpose2d;

/// Blocks of the four stages, coarsest first: those of the encoder `convnext_xtiny` backwards.
pub const XTINY_DEPTHS: [usize; 4] = [3, 6, 3, 3];

/// Configuration of [`ConvNeXtInverse`].
#[derive(Config, Debug)]
pub struct ConvNeXtInverseConfig {
    /// Channels of the coarsest map.
    pub channels_in: usize,
    /// Blocks of each stage, coarsest first.
    pub depths: Vec<usize>,
    /// Channels of each stage, coarsest first.
    pub dims: Vec<usize>,
    /// Drop-path probability of the last block; it rises linearly from 0 at the first.
    #[config(default = 0.0)]
    pub drop_path: f64,
}

/// Stages that double the resolution: transposed 2×2 convolution at stride 2, layer normalisation, ConvNeXt blocks.
#[derive(Module, Debug)]
pub struct ConvNeXtInverse {
    /// The stages, coarsest first.
    pub stages: Vec<InverseStage>,
}

/// One doubling of the resolution.
#[derive(Module, Debug)]
pub struct InverseStage {
    /// 2×2 transposed convolution at stride 2.
    pub upsample: ConvTranspose2d,
    /// Normalisation behind it.
    pub norm: LayerNorm2d,
    /// Residual blocks.
    pub blocks: Vec<Block>,
}

impl ConvNeXtInverseConfig {
    /// The decoder of a map at stride `stride`, in input cells, down to stride 2: `xtiny` if `channels` is 528 (its stages then have
    /// 528, 264, 132 and 66 channels), else as many at stride 16, halved at each stage. From stride 16 on it starts at its second
    /// stage.
    pub fn xtiny(channels_in: usize, stride: usize, channels: usize) -> Self {
        let stages = XTINY_DEPTHS.iter().enumerate();
        let (depths, dims) = stages
            .skip((32 / stride).ilog2() as usize)
            .map(|(i, depth)| (*depth, (channels >> i).max(1)))
            .unzip();
        Self::new(channels_in, depths, dims)
    }

    /// A decoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> ConvNeXtInverse {
        let mut rates = linear_schedule(self.drop_path, self.depths.iter().sum()).into_iter();
        let mut channels_in = self.channels_in;
        let stages = self.depths.iter().zip(&self.dims).map(|(&depth, &dim)| {
            let upsample = upsample([channels_in, dim], device);
            channels_in = dim;
            let blocks = rates.by_ref().take(depth);
            let blocks = blocks.map(|rate| BlockConfig::new(dim).with_drop_path(rate).init(device));
            InverseStage {
                upsample,
                norm: LayerNorm2dConfig::new(dim).init(device),
                blocks: blocks.collect(),
            }
        });
        ConvNeXtInverse {
            stages: stages.collect(),
        }
    }
}

/// A 2×2 transposed convolution at stride 2 with ConvNeXt's initial weights.
pub(crate) fn upsample(channels: [usize; 2], device: &Device) -> ConvTranspose2d {
    let config = ConvTranspose2dConfig::new(channels, [2, 2])
        .with_stride([2, 2])
        .with_initializer(init::normal_002());
    init::conv_transpose2d(config, device)
}

impl ConvNeXtInverse {
    /// # Shapes
    /// `[batch, channels in, h, w]` → `[batch, last of dims, 2ⁿ · h, 2ⁿ · w]` after n stages
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.stages.iter().fold(x, |x, stage| {
            let x = stage.norm.forward(conv_transpose2d(&stage.upsample, x));
            stage.blocks.iter().fold(x, |x, block| block.forward(x))
        })
    }
}
