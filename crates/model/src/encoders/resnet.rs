//! ResNet (He et al. 2015, "Deep residual learning for image recognition", arXiv 1512.03385), 18, 34, 50 and 101.
//!
//! Two published forms differ in detail and in their parameter counts, see [`ResNetForm`]. With an output stride below 32
//! the last stages keep their resolution and dilate their 3×3 convolutions instead, as torchvision's
//! `replace_stride_with_dilation`.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::tensor::{Device, Tensor};

use super::{StageGeometry, stage_strides};
use crate::layers::cbam::{Cbam, CbamConfig};
use crate::layers::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use crate::layers::init;
use crate::ops::checkpoint;
use crate::ops::recorded::{add, max_pool2d, relu};
use crate::summary::trace::scope;

/// Stride of the first stage: the 7×7 convolution and the max pooling halve once each.
const STEM_STRIDE: usize = 4;
/// Channels of the stem, and of the first stage before the blocks' expansion.
const STEM_CHANNELS: usize = 64;

/// Which published form of ResNet.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum ResNetForm {
    /// torchvision's: a halving bottleneck strides in its 3×3 convolution ("v1.5"), no convolution biases.
    Torchvision,
    /// Keras applications': it strides in its first 1×1 convolution ("v1", as the paper); biases; ε 1.001e-5.
    Keras,
}

/// Residual block of a ResNet.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum ResNetBlock {
    /// Two 3×3 convolutions (ResNet-18, 34).
    Basic,
    /// 1×1, 3×3, 1×1 with four times the channels out (ResNet-50 and deeper).
    Bottleneck,
}

impl ResNetBlock {
    fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// Which map of a stage the encoder hands on.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum ResNetTap {
    /// The output of the stage's last block.
    BlockOutput,
    /// Inside the last bottleneck, behind its 3×3 convolution, with a quarter of the channels: what keras.io's DeepLabV3+
    /// takes (`convS_blockB_2_relu`). The 1×1 convolution behind it is left out of the last stage, where nothing uses it.
    InsideLastBottleneck,
}

/// Configuration of [`ResNet`].
#[derive(Config, Debug)]
pub struct ResNetConfig {
    /// Channels of the input.
    pub input_channels: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// The residual block.
    pub block: ResNetBlock,
    /// The published form.
    #[config(default = "ResNetForm::Torchvision")]
    pub form: ResNetForm,
    /// The map handed on.
    #[config(default = "ResNetTap::BlockOutput")]
    pub tap: ResNetTap,
    /// Stride of the last map, in input cells: 8, 16 or 32.
    #[config(default = 32)]
    pub output_stride: usize,
    /// Whether the first block of a stage whose stride is replaced has the stage's dilation too, as in segmentation_models_pytorch; else
    /// it has that of the stage before, as in torchvision.
    #[config(default = false)]
    pub dilated_entry: bool,
    /// Reduction ratio of a CBAM behind the last normalisation of every block, before the addition; none: no attention.
    pub cbam_reduction: Option<usize>,
}

impl ResNetConfig {
    /// ResNet-18: 11.7 M parameters with 1000 classes.
    pub fn resnet18(input_channels: usize) -> Self {
        Self::new(input_channels, vec![2, 2, 2, 2], ResNetBlock::Basic)
    }

    /// ResNet-34: 21.8 M parameters.
    pub fn resnet34(input_channels: usize) -> Self {
        Self::new(input_channels, vec![3, 4, 6, 3], ResNetBlock::Basic)
    }

    /// ResNet-50: 25.6 M parameters.
    pub fn resnet50(input_channels: usize) -> Self {
        Self::new(input_channels, vec![3, 4, 6, 3], ResNetBlock::Bottleneck)
    }

    /// ResNet-101: 44.5 M parameters.
    pub fn resnet101(input_channels: usize) -> Self {
        Self::new(input_channels, vec![3, 4, 23, 3], ResNetBlock::Bottleneck)
    }

    /// Keeps the first `stages` stages.
    pub fn truncated(mut self, stages: usize) -> Self {
        self.depths.truncate(stages);
        self
    }

    /// Channels of each map: the stem's, then each stage's.
    pub fn channels(&self) -> Vec<usize> {
        let expansion = match self.tap {
            ResNetTap::BlockOutput => self.block.expansion(),
            ResNetTap::InsideLastBottleneck => 1,
        };
        let stages = (0..self.depths.len()).map(|i| expansion * (STEM_CHANNELS << i));
        [STEM_CHANNELS].into_iter().chain(stages).collect()
    }

    /// Stride of each map, in input cells: the stem's, then each stage's.
    pub fn strides(&self) -> Vec<usize> {
        let stages = stage_strides(STEM_STRIDE, self.depths.len(), self.output_stride);
        [STEM_STRIDE / 2]
            .into_iter()
            .chain(stages.map(|stage| stage.total))
            .collect()
    }

    fn conv(&self, channels: [usize; 2], kernel_size: usize) -> ConvNormActConfig {
        let config =
            ConvNormActConfig::new(channels, kernel_size).with_initializer(init::he_fan_out());
        match self.form {
            ResNetForm::Torchvision => config,
            ResNetForm::Keras => config.with_bias(true).with_epsilon(1.001e-5),
        }
    }

    fn residual(&self, channels: [usize; 2], geometry: StageGeometry, device: &Device) -> Residual {
        let [channels_in, width] = channels;
        let channels_out = width * self.block.expansion();
        let StageGeometry {
            stride,
            entry_dilation: dilation,
            ..
        } = geometry;
        let convs = match self.block {
            ResNetBlock::Basic => vec![
                self.conv([channels_in, width], 3)
                    .with_stride(stride)
                    .with_dilation(dilation),
                self.conv([width, width], 3)
                    .with_dilation(geometry.dilation)
                    .with_activation(false),
            ],
            ResNetBlock::Bottleneck => {
                let (first, second) = match self.form {
                    ResNetForm::Torchvision => (1, stride),
                    ResNetForm::Keras => (stride, 1),
                };
                vec![
                    self.conv([channels_in, width], 1).with_stride(first),
                    self.conv([width, width], 3)
                        .with_stride(second)
                        .with_dilation(dilation),
                    self.conv([width, channels_out], 1).with_activation(false),
                ]
            }
        };
        let shortcut = (stride > 1 || channels_in != channels_out).then(|| {
            self.conv([channels_in, channels_out], 1)
                .with_stride(stride)
                .with_activation(false)
                .init(device)
        });
        Residual {
            convs: convs.iter().map(|conv| conv.init(device)).collect(),
            cbam: self.cbam_reduction.map(|ratio| {
                CbamConfig::new(channels_out)
                    .with_reduction(ratio)
                    .init(device)
            }),
            shortcut,
        }
    }

    /// An encoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> ResNet {
        let inside = self.tap == ResNetTap::InsideLastBottleneck;
        let last_stage = self.depths.len() - 1;
        let mut channels_in = STEM_CHANNELS;
        let geometry = stage_strides(STEM_STRIDE, self.depths.len(), self.output_stride);
        let stages = self.depths.iter().zip(geometry).enumerate();
        let stages = stages.map(|(i, (&depth, geometry))| {
            let width = STEM_CHANNELS << i;
            let mut blocks = Vec::with_capacity(depth);
            for j in 0..depth {
                let geometry = match j {
                    0 if !self.dilated_entry => geometry,
                    0 => geometry.with_dilated_entry(),
                    _ => geometry.inner(),
                };
                blocks.push(self.residual([channels_in, width], geometry, device));
                channels_in = width * self.block.expansion();
            }
            if let Some(block) = blocks.last_mut().filter(|_| inside && i == last_stage) {
                block.convs.pop();
                block.cbam = None;
            }
            ResNetStage { blocks }
        });
        let stages = stages.collect();
        ResNet {
            stem: self
                .conv([self.input_channels, STEM_CHANNELS], 7)
                .with_stride(2)
                .init(device),
            pool: MaxPool2dConfig::new([3, 3])
                .with_strides([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(),
            stages,
            inside,
        }
    }
}

/// The encoder: a 7×7 stem at stride 2, max pooling, four stages of residual blocks.
#[derive(Module, Debug)]
pub struct ResNet {
    /// 7×7 convolution at stride 2.
    pub stem: ConvNormAct,
    /// 3×3 max pooling at stride 2.
    pub pool: MaxPool2d,
    /// The stages.
    pub stages: Vec<ResNetStage>,
    /// Whether the maps are taken inside the last bottlenecks.
    pub inside: bool,
}

/// One resolution of the network.
#[derive(Module, Debug)]
pub struct ResNetStage {
    /// Residual blocks.
    pub blocks: Vec<Residual>,
}

/// `relu(cbam(convs(x)) + shortcut(x))`.
#[derive(Module, Debug)]
pub struct Residual {
    /// Two (basic) or three (bottleneck) convolutions, the last without ReLU.
    pub convs: Vec<ConvNormAct>,
    /// Attention.
    pub cbam: Option<Cbam>,
    /// 1×1 convolution where size or channels change.
    pub shortcut: Option<ConvNormAct>,
}

impl Residual {
    /// # Shapes
    /// `[batch, channels in, height, width]` → `[batch, channels out, ceil(height / stride), ceil(width / stride)]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        checkpoint::block(self, x, |block, x| {
            let inner = block.inner(x.clone());
            block.finish(x, inner)
        })
    }

    /// All convolutions but the last.
    fn inner(&self, x: Tensor<4>) -> Tensor<4> {
        let convs = &self.convs[..self.convs.len() - 1];
        convs.iter().fold(x, |x, conv| conv.forward(x))
    }

    /// The last convolution, the attention and the addition.
    fn finish(&self, x: Tensor<4>, inner: Tensor<4>) -> Tensor<4> {
        let _scope = scope(self);
        let mut branch = self.convs[self.convs.len() - 1].forward(inner);
        if let Some(cbam) = &self.cbam {
            branch = cbam.forward(branch);
        }
        let shortcut = match &self.shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        relu(add(branch, shortcut))
    }
}

impl ResNet {
    /// The stem's map (behind its ReLU, before the pooling) and that of every stage, finest first.
    ///
    /// # Shapes
    /// `[batch, input channels, height, width]` → `[batch, channels[i], height / strides[i], width / strides[i]]`, rounded
    /// up at each halving
    pub fn forward(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let _scope = scope(self);
        let mut x = self.stem.forward(x);
        let mut maps = Vec::with_capacity(1 + self.stages.len());
        maps.push(x.clone());
        x = max_pool2d(&self.pool, x);
        for (i, stage) in self.stages.iter().enumerate() {
            let (last, blocks) = stage.blocks.split_last().expect("a stage has blocks");
            for block in blocks {
                x = block.forward(x);
            }
            if !self.inside {
                x = last.forward(x);
                maps.push(x.clone());
            } else if i + 1 < self.stages.len() {
                let inner = last.inner(x.clone());
                x = last.finish(x, inner.clone());
                maps.push(inner);
            } else {
                // Its closing 1×1 convolution is not there: every one that is belongs to the inside.
                maps.push(last.convs.iter().fold(x.clone(), |x, conv| conv.forward(x)));
            }
        }
        maps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn torchvision_values() {
        for (name, config, stride) in [
            ("resnet18", ResNetConfig::resnet18(3), 32),
            ("resnet50", ResNetConfig::resnet50(3), 32),
            ("resnet50", ResNetConfig::resnet50(3), 8),
        ] {
            let config = config.with_output_stride(stride);
            let encoder = golden::filled(config.init(&Device::flex()));
            let maps = encoder.forward(golden::input([1, 3, 61, 45]));
            for (i, map) in maps.into_iter().enumerate() {
                golden::check(&format!("{name}_stride{stride}_map{i}"), map);
            }
        }
    }

    #[test]
    fn segmentation_models_values() {
        let config = ResNetConfig::resnet18(3)
            .with_output_stride(8)
            .with_dilated_entry(true);
        let encoder = golden::filled(config.init(&Device::flex()));
        let maps = encoder.forward(golden::input([1, 3, 61, 45]));
        for (i, map) in maps.into_iter().enumerate() {
            golden::check(&format!("resnet18_smp_stride8_map{i}"), map);
        }
    }

    #[test]
    fn torchvision_gradients() {
        // In training mode: by the batch's moments. On this size no value lies so near a kink of ReLU or pooling that rounding decides:
        // PyTorch's gradients in single and double precision agree to 4e-6; on 61 × 45 cells to 1e-2 only.
        let config = ResNetConfig::resnet50(3).truncated(2);
        let encoder = golden::filled(config.init(&Device::flex().autodiff()));
        let maps = encoder.forward(golden::differentiable_input([2, 3, 37, 29]));
        golden::check("resnet50_train", maps[2].clone());
        let gradients = golden::loss(maps[2].clone()).backward();
        let block = &encoder.stages[1].blocks[0];
        let shortcut = block.shortcut.as_ref().unwrap();
        for (name, conv) in [
            ("stem", &encoder.stem),
            ("conv2", &block.convs[1]),
            ("shortcut", shortcut),
        ] {
            let gradient = conv.conv.weight.val().grad(&gradients).unwrap();
            golden::check_gradient(&format!("resnet50_train_{name}"), gradient);
            let gradient = conv
                .norm
                .as_ref()
                .unwrap()
                .gamma
                .val()
                .grad(&gradients)
                .unwrap();
            golden::check_gradient(&format!("resnet50_train_{name}_norm"), gradient);
        }
    }
}
