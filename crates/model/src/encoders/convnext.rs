//! ConvNeXt (Liu et al. 2022, "A ConvNet for the 2020s", arXiv 2201.03545) and ConvNeXt V2 (Woo et al. 2023, "Co-designing and scaling
//! ConvNets with masked autoencoders", arXiv 2301.00808).
//!
//! Tiny to xlarge are the paper's sizes; atto to nano are those of timm's `convnext_*` models and of V2; xtiny and shallow are small ones
//! made for rain maps. With an output stride below 32 the last stages keep their resolution and dilate their depthwise convolutions
//! instead, as timm's do.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use super::stage_strides;
use crate::layers::cbam::{Cbam, CbamConfig};
use crate::layers::depthwise_conv::{DepthwiseConv2d, DepthwiseConv2dConfig};
use crate::layers::drop_path::{DropPath, DropPathConfig, linear_schedule};
use crate::layers::grn::{Grn, GrnConfig};
use crate::layers::init;
use crate::layers::layer_norm::{LayerNorm, LayerNormConfig};
use crate::layers::layer_norm2d::{LayerNorm2d, LayerNorm2dConfig};
use crate::layers::layer_scale::{LayerScale, LayerScaleConfig};
use crate::ops::recorded::{add, linear};
use crate::ops::{checkpoint, conv2d, gelu::gelu};
use crate::summary::trace::scope;

/// Side of the depthwise kernels, in cells.
const KERNEL_SIZE: usize = 7;
/// Stride of the stem, in input cells.
const STEM_STRIDE: usize = 4;

/// The two published blocks.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum ConvNeXtVersion {
    /// Layer scale at the end of the branch.
    V1,
    /// Global response normalisation behind the GELU, no layer scale.
    V2,
}

/// Configuration of [`ConvNeXt`].
#[derive(Config, Debug)]
pub struct ConvNeXtConfig {
    /// Channels of the input.
    pub input_channels: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Channels of each stage.
    pub dims: Vec<usize>,
    /// Drop-path probability of the last block; it rises linearly from 0 at the first.
    #[config(default = 0.0)]
    pub drop_path: f64,
    /// Stride of the last map, in input cells: 8, 16 or 32.
    #[config(default = 32)]
    pub output_stride: usize,
    /// The published block.
    #[config(default = "ConvNeXtVersion::V1")]
    pub version: ConvNeXtVersion,
    /// Reduction ratio of a CBAM at the end of every block's branch, before drop path and addition; none: no attention.
    pub cbam_reduction: Option<usize>,
}

impl ConvNeXtConfig {
    fn sized(input_channels: usize, depths: [usize; 4], dim: usize, drop_path: f64) -> Self {
        let dims = (0..4).map(|i| dim << i).collect();
        Self::new(input_channels, depths.to_vec(), dims).with_drop_path(drop_path)
    }

    /// timm's atto: 3.7 M parameters with 1000 classes.
    pub fn atto(input_channels: usize) -> Self {
        Self::sized(input_channels, [2, 2, 6, 2], 40, 0.0)
    }

    /// timm's femto: 5.2 M parameters.
    pub fn femto(input_channels: usize) -> Self {
        Self::sized(input_channels, [2, 2, 6, 2], 48, 0.0)
    }

    /// timm's pico: 9.1 M parameters.
    pub fn pico(input_channels: usize) -> Self {
        Self::sized(input_channels, [2, 2, 6, 2], 64, 0.0)
    }

    /// timm's nano: 15.6 M parameters.
    pub fn nano(input_channels: usize) -> Self {
        Self::sized(input_channels, [2, 2, 8, 2], 80, 0.0)
    }

    /// The paper's tiny: 28.6 M parameters.
    pub fn tiny(input_channels: usize) -> Self {
        Self::sized(input_channels, [3, 3, 9, 3], 96, 0.1)
    }

    /// The paper's small: 50.2 M parameters.
    pub fn small(input_channels: usize) -> Self {
        Self::sized(input_channels, [3, 3, 27, 3], 96, 0.4)
    }

    /// The paper's base: 88.6 M parameters.
    pub fn base(input_channels: usize) -> Self {
        Self::sized(input_channels, [3, 3, 27, 3], 128, 0.5)
    }

    /// The paper's large: 197.8 M parameters.
    pub fn large(input_channels: usize) -> Self {
        Self::sized(input_channels, [3, 3, 27, 3], 192, 0.5)
    }

    /// The paper's xlarge: 350.2 M parameters. Its drop-path rate here is that of large; the paper trained it on more data.
    pub fn xlarge(input_channels: usize) -> Self {
        Self::sized(input_channels, [3, 3, 27, 3], 256, 0.5)
    }

    /// Between nano and tiny in depth, narrower than tiny: made for rain maps.
    pub fn xtiny(input_channels: usize) -> Self {
        Self::sized(input_channels, [3, 3, 6, 3], 66, 0.0)
    }

    /// Three stages of five blocks in all: made for rain maps. Its last map is at stride 16.
    pub fn shallow(input_channels: usize) -> Self {
        Self::new(input_channels, vec![1, 3, 1], vec![66, 132, 192])
    }

    /// Keeps the first `stages` stages.
    pub fn truncated(mut self, stages: usize) -> Self {
        self.depths.truncate(stages);
        self.dims.truncate(stages);
        self
    }

    /// Stride of each stage's map, in input cells.
    pub fn strides(&self) -> Vec<usize> {
        stage_strides(STEM_STRIDE, self.dims.len(), self.output_stride)
            .map(|stage| stage.total)
            .collect()
    }

    /// An encoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> ConvNeXt {
        let mut rates = linear_schedule(self.drop_path, self.depths.iter().sum()).into_iter();
        let mut channels_in = self.dims[0];
        let geometry = stage_strides(STEM_STRIDE, self.dims.len(), self.output_stride);
        let stages = self.depths.iter().zip(&self.dims).zip(geometry).enumerate();
        let stages = stages.map(|(i, ((&depth, &dim), geometry))| {
            let downsample = (i > 0).then(|| {
                Downsample::new(
                    [channels_in, dim],
                    geometry.stride,
                    geometry.entry_dilation,
                    device,
                )
            });
            channels_in = dim;
            let blocks = rates.by_ref().take(depth);
            let blocks = blocks.map(|rate| {
                BlockConfig::new(dim)
                    .with_dilation(geometry.dilation)
                    .with_drop_path(rate)
                    .with_version(self.version)
                    .with_cbam_reduction(self.cbam_reduction)
                    .init(device)
            });
            Stage {
                downsample,
                blocks: blocks.collect(),
            }
        });
        let stages = stages.collect();
        let stem = Conv2dConfig::new([self.input_channels, self.dims[0]], [STEM_STRIDE; 2])
            .with_stride([STEM_STRIDE; 2])
            .with_initializer(init::normal_002());
        ConvNeXt {
            stem: init::conv2d(stem, device),
            stem_norm: LayerNorm2dConfig::new(self.dims[0]).init(device),
            stages,
        }
    }
}

/// The encoder: a 4×4 stem at stride 4, then stages of blocks with a halving in between.
#[derive(Module, Debug)]
pub struct ConvNeXt {
    /// 4×4 convolution at stride 4.
    pub stem: Conv2d,
    /// Normalisation of the stem's map.
    pub stem_norm: LayerNorm2d,
    /// The stages.
    pub stages: Vec<Stage>,
}

/// One resolution of the network.
#[derive(Module, Debug)]
pub struct Stage {
    /// Way from the previous stage, none in the first.
    pub downsample: Option<Downsample>,
    /// Residual blocks.
    pub blocks: Vec<Block>,
}

/// Normalisation and 2×2 convolution between two stages.
#[derive(Module, Debug)]
pub struct Downsample {
    /// Normalisation before the convolution.
    pub norm: LayerNorm2d,
    /// 2×2 convolution at stride 2, or at stride 1 where dilation replaces the stride.
    pub conv: Conv2d,
}

/// Configuration of a [`Block`].
#[derive(Config, Debug)]
pub struct BlockConfig {
    /// Channels.
    pub channels: usize,
    /// Spacing of the depthwise kernel's taps, in cells.
    #[config(default = 1)]
    pub dilation: usize,
    /// Drop-path probability.
    #[config(default = 0.0)]
    pub drop_path: f64,
    /// The published block.
    #[config(default = "ConvNeXtVersion::V1")]
    pub version: ConvNeXtVersion,
    /// Reduction ratio of a CBAM at the end of the branch, before drop path and addition; none: no attention.
    pub cbam_reduction: Option<usize>,
}

/// `x + drop_path(cbam(γ · linear(grn(gelu(linear(layer_norm(depthwise7×7(x))))))))`, the middle four times as wide; γ in V1, GRN in V2
/// only.
#[derive(Module, Debug)]
pub struct Block {
    /// 7×7 depthwise convolution.
    pub depthwise: DepthwiseConv2d,
    /// Normalisation over the channels.
    pub norm: LayerNorm,
    /// Linear layer C → 4 C of each cell.
    pub expand: Linear,
    /// Global response normalisation of V2.
    pub grn: Option<Grn>,
    /// Linear layer 4 C → C of each cell.
    pub reduce: Linear,
    /// γ of V1.
    pub scale: Option<LayerScale>,
    /// Attention.
    pub cbam: Option<Cbam>,
    /// Stochastic depth.
    pub drop_path: DropPath,
}

impl Downsample {
    fn new(channels: [usize; 2], stride: usize, dilation: usize, device: &Device) -> Self {
        // At stride 1 the kernel of two taps needs `dilation` cells of padding to keep the size; timm puts the odd one
        // at the end.
        let (before, after) = match stride {
            1 => (dilation / 2, dilation - dilation / 2),
            _ => (0, 0),
        };
        let conv = Conv2dConfig::new(channels, [2, 2])
            .with_stride([stride; 2])
            .with_dilation([dilation; 2])
            .with_padding(PaddingConfig2d::Explicit(before, before, after, after))
            .with_initializer(init::normal_002());
        Self {
            norm: LayerNorm2dConfig::new(channels[0]).init(device),
            conv: init::conv2d(conv, device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d::forward(&self.conv, self.norm.forward(x))
    }
}

impl BlockConfig {
    /// A block with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Block {
        let channels = self.channels;
        let linear = |channels_in, channels_out| {
            let config = LinearConfig::new(channels_in, channels_out);
            init::linear(config.with_initializer(init::normal_002()), device)
        };
        let v1 = self.version == ConvNeXtVersion::V1;
        Block {
            depthwise: DepthwiseConv2dConfig::new(channels, KERNEL_SIZE)
                .with_dilation(self.dilation)
                .init(device),
            norm: LayerNormConfig::new(channels)
                .with_epsilon(1e-6)
                .init(device),
            expand: linear(channels, 4 * channels),
            grn: (!v1).then(|| GrnConfig::new(4 * channels).init(device)),
            reduce: linear(4 * channels, channels),
            scale: v1.then(|| LayerScaleConfig::new(channels).init(device)),
            cbam: self
                .cbam_reduction
                .map(|ratio| CbamConfig::new(channels).with_reduction(ratio).init(device)),
            drop_path: DropPathConfig::new(self.drop_path).init(),
        }
    }
}

impl Block {
    /// # Shapes
    /// `[batch, channels, height, width]` → the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let _scope = scope(self);
        let branch = checkpoint::block(self, x.clone(), Self::branch);
        add(x, self.drop_path.forward(branch))
    }

    /// All but drop path and addition.
    fn branch(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        // One row a cell: burn's linear layer forms the weight's gradient from two axes several times faster than from
        // four.
        let cells = self.depthwise.forward(x).permute([0, 2, 3, 1]);
        let cells = cells.reshape([batch * height * width, channels]);
        let mut cells = gelu(linear(&self.expand, self.norm.forward(cells)));
        if let Some(grn) = &self.grn {
            let maps = cells.reshape([batch, height * width, 4 * channels]);
            cells = grn
                .forward(maps)
                .reshape([batch * height * width, 4 * channels]);
        }
        cells = linear(&self.reduce, cells);
        if let Some(scale) = &self.scale {
            cells = scale.forward(cells);
        }
        let branch = cells
            .reshape([batch, height, width, channels])
            .permute([0, 3, 1, 2]);
        match &self.cbam {
            Some(cbam) => cbam.forward(branch),
            None => branch,
        }
    }
}

impl ConvNeXt {
    /// The map of every stage, finest first.
    ///
    /// # Shapes
    /// `[batch, input channels, height, width]` → `[batch, dims[i], height / strides[i], width / strides[i]]`, rounded
    /// down at each halving
    pub fn forward(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let mut x = self.stem_norm.forward(conv2d::forward(&self.stem, x));
        let mut maps = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            if let Some(downsample) = &stage.downsample {
                x = downsample.forward(x);
            }
            for block in &stage.blocks {
                x = block.forward(x);
            }
            maps.push(x.clone());
        }
        maps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use burn::module::Param;

    #[test]
    fn timm_values() {
        for stride in [32, 16, 8] {
            let config = ConvNeXtConfig::atto(8).with_output_stride(stride);
            let encoder = golden::filled(config.init(&Device::flex()));
            let maps = encoder.forward(golden::input([2, 8, 64, 32]));
            for (i, map) in maps.into_iter().enumerate() {
                golden::check(&format!("convnext_atto_stride{stride}_stage{}", i + 1), map);
            }
        }
    }

    #[test]
    fn torchvision_values_of_tiny() {
        let encoder = golden::filled(ConvNeXtConfig::tiny(3).init(&Device::flex()));
        let maps = encoder.forward(golden::input([1, 3, 61, 45]));
        for (i, map) in maps.into_iter().enumerate() {
            golden::check(&format!("convnext_tiny_stage{}", i + 1), map);
        }
    }

    #[test]
    fn timm_values_and_gradients_of_both_versions() {
        for (name, version) in [
            ("convnext", ConvNeXtVersion::V1),
            ("convnextv2", ConvNeXtVersion::V2),
        ] {
            let config = ConvNeXtConfig::new(3, vec![1, 2, 1, 1], vec![8, 12, 16, 24]);
            let config = config.with_version(version);
            let encoder = golden::filled(config.init(&Device::flex().autodiff()));
            let maps = encoder.forward(golden::differentiable_input([2, 3, 61, 45]));
            for (i, map) in maps.iter().enumerate() {
                golden::check(&format!("{name}_narrow_stage{}", i + 1), map.clone());
            }
            let gradients = golden::loss(maps[3].clone()).backward();
            let check = |layer: &str, gradient| {
                golden::check_gradient(&format!("{name}_narrow_{layer}"), gradient);
            };
            let block = &encoder.stages[1].blocks[1];
            let stem = encoder.stem.weight.val();
            check("stem", stem.grad(&gradients).unwrap());
            let depthwise = block.depthwise.conv.weight.val();
            check("depthwise", depthwise.grad(&gradients).unwrap());
            let check = |layer: &str, vector: &Param<Tensor<1>>| {
                let gradient = vector.val().grad(&gradients).unwrap();
                golden::check_gradient(&format!("{name}_narrow_{layer}"), gradient);
            };
            check("depthwise_bias", &block.depthwise.bias);
            check("norm", &block.norm.gamma);
            match (&block.scale, &block.grn) {
                (Some(scale), None) => check("scale", &scale.gamma),
                (None, Some(grn)) => check("grn", &grn.gamma),
                _ => panic!("one of layer scale and GRN"),
            }
            let expand = block.expand.weight.val().grad(&gradients).unwrap();
            golden::check_gradient(&format!("{name}_narrow_expand"), expand.transpose());
        }
    }

    #[test]
    fn initial_weights_are_those_of_the_paper() {
        let encoder = ConvNeXtConfig::atto(8).init(&Device::flex());
        let block = &encoder.stages[2].blocks[0];
        let weight = block.expand.weight.val();
        // 160 · 640 draws: the standard error of the deviation is 0.2 % of it.
        let deviation = weight
            .clone()
            .powi_scalar(2)
            .mean()
            .sqrt()
            .into_scalar::<f32>();
        assert!((deviation - 0.02).abs() < 2e-4, "{deviation}");
        assert!(weight.mean().into_scalar::<f32>().abs() < 5e-4);
        let bias = block.expand.bias.as_ref().unwrap().val();
        assert_eq!(bias.abs().max().into_scalar::<f32>(), 0.0);
        let scale = block.scale.as_ref().unwrap().gamma.val();
        assert_eq!(scale.max().into_scalar::<f32>(), 1e-6);
    }
}
