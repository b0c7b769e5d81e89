//! MobileNetV3 (Howard et al. 2019, "Searching for MobileNetV3", arXiv 1905.02244), small and large, as torchvision's.
//!
//! Maps are those at the end of each resolution, the last behind the closing 1×1 convolution, as timm's and segmentation_models_pytorch's.
//! With an output stride below 32 the last stages keep their resolution and dilate all their depthwise convolutions instead, as
//! torchvision's `dilated`.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::stage_strides;
use crate::layers::cbam::{Cbam, CbamConfig};
use crate::layers::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use crate::layers::init;
use crate::layers::squeeze_excitation::{SqueezeExcitation, SqueezeExcitationConfig};
use crate::ops::checkpoint;
use crate::ops::recorded::{add, hard_swish};
use crate::summary::trace::scope;

/// Channels of the stem.
const STEM_CHANNELS: usize = 16;
/// Stride of the stem, in input cells.
const STEM_STRIDE: usize = 2;
/// Factor of channels of the closing 1×1 convolution.
const LAST_EXPANSION: usize = 6;

/// The published sizes.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum MobileNetV3Size {
    /// 2.5 M parameters with 1000 classes.
    Small,
    /// 5.5 M parameters.
    Large,
}

/// Configuration of [`MobileNetV3`].
#[derive(Config, Debug)]
pub struct MobileNetV3Config {
    /// Channels of the input.
    pub input_channels: usize,
    /// The published size.
    pub size: MobileNetV3Size,
    /// Stages kept, from stride 4 on; without the fourth there is no closing convolution.
    #[config(default = 4)]
    pub stages: usize,
    /// Stride of the last map, in input cells: 8, 16 or 32.
    #[config(default = 32)]
    pub output_stride: usize,
    /// Reduction ratio of a CBAM at the end of every block's branch, before the addition; none: no attention of that kind.
    pub cbam_reduction: Option<usize>,
}

/// One block as in tables 1 and 2 of the paper.
struct Setting {
    kernel_size: usize,
    expanded: usize,
    channels_out: usize,
    squeeze: bool,
    hard_swish: bool,
    stride: usize,
}

/// Columns of the paper's tables.
const fn row(
    kernel_size: usize,
    expanded: usize,
    channels_out: usize,
    squeeze: bool,
    hard_swish: bool,
    stride: usize,
) -> Setting {
    Setting {
        kernel_size,
        expanded,
        channels_out,
        squeeze,
        hard_swish,
        stride,
    }
}

/// Table 1.
const LARGE: [Setting; 15] = [
    row(3, 16, 16, false, false, 1),
    row(3, 64, 24, false, false, 2),
    row(3, 72, 24, false, false, 1),
    row(5, 72, 40, true, false, 2),
    row(5, 120, 40, true, false, 1),
    row(5, 120, 40, true, false, 1),
    row(3, 240, 80, false, true, 2),
    row(3, 200, 80, false, true, 1),
    row(3, 184, 80, false, true, 1),
    row(3, 184, 80, false, true, 1),
    row(3, 480, 112, true, true, 1),
    row(3, 672, 112, true, true, 1),
    row(5, 672, 160, true, true, 2),
    row(5, 960, 160, true, true, 1),
    row(5, 960, 160, true, true, 1),
];

/// Table 2.
const SMALL: [Setting; 11] = [
    row(3, 16, 16, true, false, 2),
    row(3, 72, 24, false, false, 2),
    row(3, 88, 24, false, false, 1),
    row(5, 96, 40, true, true, 2),
    row(5, 240, 40, true, true, 1),
    row(5, 240, 40, true, true, 1),
    row(5, 120, 48, true, true, 1),
    row(5, 144, 48, true, true, 1),
    row(5, 288, 96, true, true, 2),
    row(5, 576, 96, true, true, 1),
    row(5, 576, 96, true, true, 1),
];

/// The multiple of eight nearest to `channels`, at least eight and no more than a tenth below: torchvision's `_make_divisible`.
fn multiple_of_eight(channels: usize) -> usize {
    let nearest = ((channels + 4) / 8 * 8).max(8);
    match 10 * nearest < 9 * channels {
        true => nearest + 8,
        false => nearest,
    }
}

impl MobileNetV3Config {
    /// The published small network.
    pub fn small(input_channels: usize) -> Self {
        Self::new(input_channels, MobileNetV3Size::Small)
    }

    /// The published large network.
    pub fn large(input_channels: usize) -> Self {
        Self::new(input_channels, MobileNetV3Size::Large)
    }

    /// Keeps the first `stages` stages from stride 4 on.
    pub fn truncated(mut self, stages: usize) -> Self {
        self.stages = self.stages.min(stages);
        self
    }

    /// The blocks of each resolution: at stride 2 (perhaps none), 4, 8, ….
    fn resolutions(&self) -> Vec<&'static [Setting]> {
        let blocks: &[Setting] = match self.size {
            MobileNetV3Size::Small => &SMALL,
            MobileNetV3Size::Large => &LARGE,
        };
        let mut starts: Vec<usize> = vec![0];
        starts.extend((0..blocks.len()).filter(|i| blocks[*i].stride == 2));
        let mut ends = starts[1..].to_vec();
        ends.push(blocks.len());
        let ranges = starts.into_iter().zip(ends);
        ranges
            .map(|(start, end)| &blocks[start..end])
            .take(1 + self.stages)
            .collect()
    }

    /// Number of its blocks.
    pub fn blocks(&self) -> usize {
        self.resolutions().iter().map(|blocks| blocks.len()).sum()
    }

    /// Whether the closing 1×1 convolution is there.
    fn closes(&self) -> bool {
        self.stages >= 4
    }

    /// Channels of each map.
    pub fn channels(&self) -> Vec<usize> {
        let last = |blocks: &&[Setting]| {
            let block = blocks.last();
            block.map_or(STEM_CHANNELS, |block| block.channels_out)
        };
        let mut channels: Vec<usize> = self.resolutions().iter().map(last).collect();
        if let Some(channels) = channels.last_mut().filter(|_| self.closes()) {
            *channels *= LAST_EXPANSION;
        }
        channels
    }

    /// Stride of each map, in input cells.
    pub fn strides(&self) -> Vec<usize> {
        stage_strides(STEM_STRIDE, 1 + self.stages, self.output_stride)
            .map(|stage| stage.total)
            .collect()
    }

    fn conv(&self, channels: [usize; 2], kernel_size: usize) -> ConvNormActConfig {
        ConvNormActConfig::new(channels, kernel_size)
            .with_epsilon(1e-3)
            .with_momentum(0.01)
            .with_activation(false)
            .with_initializer(init::he_fan_out())
    }

    /// A block whose depthwise convolution has the given stride and dilation.
    fn block(
        &self,
        channels_in: usize,
        setting: &Setting,
        [stride, dilation]: [usize; 2],
        device: &Device,
    ) -> InvertedResidual {
        let Setting {
            expanded,
            channels_out,
            ..
        } = *setting;
        let relu = !setting.hard_swish;
        let expand = self.conv([channels_in, expanded], 1).with_activation(relu);
        InvertedResidual {
            expand: (expanded != channels_in).then(|| expand.init(device)),
            depthwise: self
                .conv([expanded; 2], setting.kernel_size)
                .with_groups(expanded)
                .with_stride(stride)
                .with_dilation(dilation)
                .with_activation(relu)
                .init(device),
            squeeze: setting.squeeze.then(|| {
                SqueezeExcitationConfig::new(expanded, multiple_of_eight(expanded / 4)).init(device)
            }),
            project: self.conv([expanded, channels_out], 1).init(device),
            cbam: self.cbam_reduction.map(|ratio| {
                CbamConfig::new(channels_out)
                    .with_reduction(ratio)
                    .init(device)
            }),
            hard_swish: setting.hard_swish,
            residual: setting.stride == 1 && channels_in == channels_out,
        }
    }

    /// An encoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> MobileNetV3 {
        let mut channels = STEM_CHANNELS;
        let geometry = stage_strides(STEM_STRIDE, 1 + self.stages, self.output_stride);
        let resolutions = self.resolutions().into_iter().zip(geometry);
        let mut starts = Vec::new();
        let mut blocks = Vec::new();
        for (settings, geometry) in resolutions {
            starts.push(blocks.len());
            for (i, setting) in settings.iter().enumerate() {
                let stride = if i == 0 { geometry.stride } else { 1 };
                blocks.push(self.block(channels, setting, [stride, geometry.dilation], device));
                channels = setting.channels_out;
            }
        }
        starts.remove(0);
        let last = self.conv([channels, LAST_EXPANSION * channels], 1);
        MobileNetV3 {
            stem: self
                .conv([self.input_channels, STEM_CHANNELS], 3)
                .with_stride(STEM_STRIDE)
                .init(device),
            blocks,
            last: self.closes().then(|| last.init(device)),
            starts,
        }
    }
}

/// The encoder: a 3×3 stem at stride 2, inverted residual blocks, a closing 1×1 convolution.
#[derive(Module, Debug)]
pub struct MobileNetV3 {
    /// 3×3 convolution at stride 2, a hard swish behind it.
    pub stem: ConvNormAct,
    /// The blocks of all resolutions.
    pub blocks: Vec<InvertedResidual>,
    /// Closing 1×1 convolution, a hard swish behind it.
    pub last: Option<ConvNormAct>,
    /// Indices of the blocks before which a map is handed on.
    pub starts: Vec<usize>,
}

/// `x + cbam(project(squeeze_excitation(depthwise(expand(x)))))`, each convolution with a normalisation, the first two with a ReLU or a
/// hard swish; without `x` where size or channels change.
#[derive(Module, Debug)]
pub struct InvertedResidual {
    /// 1×1 convolution to more channels.
    pub expand: Option<ConvNormAct>,
    /// Depthwise convolution.
    pub depthwise: ConvNormAct,
    /// Squeeze-and-excitation.
    pub squeeze: Option<SqueezeExcitation>,
    /// 1×1 convolution to fewer channels.
    pub project: ConvNormAct,
    /// Attention.
    pub cbam: Option<Cbam>,
    /// Hard swish instead of ReLU.
    pub hard_swish: bool,
    /// Whether the input is added.
    pub residual: bool,
}

impl InvertedResidual {
    /// # Shapes
    /// `[batch, channels in, height, width]` → `[batch, channels out, ceil(height / stride), ceil(width / stride)]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        checkpoint::block(self, x, Self::transform)
    }

    fn transform(&self, x: Tensor<4>) -> Tensor<4> {
        let _scope = scope(self);
        // The ReLU is part of the convolutions that have one.
        let activate = |x| if self.hard_swish { hard_swish(x) } else { x };
        let mut branch = x.clone();
        if let Some(expand) = &self.expand {
            branch = activate(expand.forward(branch));
        }
        branch = activate(self.depthwise.forward(branch));
        if let Some(squeeze) = &self.squeeze {
            branch = squeeze.forward(branch);
        }
        branch = self.project.forward(branch);
        if let Some(cbam) = &self.cbam {
            branch = cbam.forward(branch);
        }
        match self.residual {
            true => add(x, branch),
            false => branch,
        }
    }
}

impl MobileNetV3 {
    /// The last map of every resolution, finest first.
    ///
    /// # Shapes
    /// `[batch, input channels, height, width]` → `[batch, channels[i], height / strides[i], width / strides[i]]`, rounded up at each
    /// halving
    pub fn forward(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let _scope = scope(self);
        let mut x = hard_swish(self.stem.forward(x));
        let mut maps = Vec::with_capacity(1 + self.starts.len());
        for (i, block) in self.blocks.iter().enumerate() {
            if self.starts.contains(&i) {
                maps.push(x.clone());
            }
            x = block.forward(x);
        }
        maps.push(match &self.last {
            Some(last) => hard_swish(last.forward(x)),
            None => x,
        });
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
            ("small", MobileNetV3Config::small(3), 32),
            ("large", MobileNetV3Config::large(3), 32),
            ("large", MobileNetV3Config::large(3), 16),
        ] {
            let config = config.with_output_stride(stride);
            let encoder = golden::filled(config.init(&Device::flex()));
            let maps = encoder.forward(golden::input([1, 3, 61, 45]));
            let dims = maps.iter().map(|map| map.dims()[1]);
            assert_eq!(dims.collect::<Vec<_>>(), config.channels());
            for (i, map) in maps.into_iter().enumerate() {
                golden::check(&format!("mobilenet_v3_{name}_stride{stride}_map{i}"), map);
            }
        }
    }

    #[test]
    fn torchvision_gradients() {
        // In training mode: by the batch's moments.
        let config = MobileNetV3Config::small(3).truncated(3);
        let encoder = golden::filled(config.init(&Device::flex().autodiff()));
        let maps = encoder.forward(golden::differentiable_input([2, 3, 61, 45]));
        golden::check("mobilenet_v3_train", maps[3].clone());
        let gradients = golden::loss(maps[3].clone()).backward();
        let block = &encoder.blocks[3];
        let squeeze = block.squeeze.as_ref().unwrap();
        for (name, weight) in [
            ("stem", &encoder.stem.conv.weight),
            ("depthwise", &block.depthwise.conv.weight),
            ("squeeze", &squeeze.squeeze.weight),
            ("project", &block.project.conv.weight),
        ] {
            let gradient = weight.val().grad(&gradients).unwrap();
            golden::check_gradient(&format!("mobilenet_v3_train_{name}"), gradient);
        }
        let norm = block
            .depthwise
            .norm
            .as_ref()
            .unwrap()
            .gamma
            .val()
            .grad(&gradients)
            .unwrap();
        golden::check_gradient("mobilenet_v3_train_norm", norm);
    }

    #[test]
    fn squeeze_channels_are_those_of_torchvision() {
        let channels = [4, 18, 24, 30, 60, 72, 120, 144, 168, 240].map(multiple_of_eight);
        assert_eq!(channels, [8, 24, 24, 32, 64, 72, 120, 144, 168, 240]);
    }
}
