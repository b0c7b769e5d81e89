//! Encoders: from an input to feature maps, finest first.
//!
//! Every encoder has maps at strides 4, 8, 16 and 32 (fewer if cut short, finer if the output stride is below 32); those whose stem goes
//! there in two steps have one at stride 2 as well.

pub mod convnext;
pub mod mobilenet_v3;
mod name;
pub mod resnet;
pub mod swin;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

pub use name::EncoderName;

use convnext::{ConvNeXt, ConvNeXtConfig};
use mobilenet_v3::{MobileNetV3, MobileNetV3Config};
use resnet::{ResNet, ResNetConfig};
use swin::{Swin, SwinConfig};

/// Configuration of an [`Encoder`].
#[derive(Debug, Clone)]
pub enum EncoderConfig {
    /// ConvNeXt.
    ConvNeXt(ConvNeXtConfig),
    /// ResNet.
    ResNet(ResNetConfig),
    /// Swin Transformer.
    Swin(SwinConfig),
    /// MobileNetV3.
    MobileNetV3(MobileNetV3Config),
}

impl EncoderConfig {
    /// Keeps the first `stages` stages: those from stride 4 on, or as many as there are.
    pub fn truncated(self, stages: usize) -> Self {
        match self {
            Self::ConvNeXt(config) => Self::ConvNeXt(config.truncated(stages)),
            Self::ResNet(config) => Self::ResNet(config.truncated(stages)),
            Self::Swin(config) => Self::Swin(config.truncated(stages)),
            Self::MobileNetV3(config) => Self::MobileNetV3(config.truncated(stages)),
        }
    }

    /// The encoder whose last map has the given stride, 8, 16 or 32, in input cells: stages beyond it are dilated.
    pub fn with_output_stride(self, stride: usize) -> Self {
        match self {
            Self::ConvNeXt(config) => Self::ConvNeXt(config.with_output_stride(stride)),
            Self::ResNet(config) => Self::ResNet(config.with_output_stride(stride)),
            Self::Swin(config) => Self::Swin(config.with_output_stride(stride)),
            Self::MobileNetV3(config) => Self::MobileNetV3(config.with_output_stride(stride)),
        }
    }

    /// The encoder with the given drop-path rate of the last block, where its blocks have drop path.
    pub fn with_drop_path(self, rate: f64) -> Self {
        match self {
            Self::ConvNeXt(config) => Self::ConvNeXt(config.with_drop_path(rate)),
            Self::Swin(config) => Self::Swin(config.with_drop_path(rate)),
            Self::ResNet(_) | Self::MobileNetV3(_) => self,
        }
    }

    /// The encoder with a CBAM of the given reduction ratio in every block, or with none.
    pub fn with_cbam_reduction(self, ratio: Option<usize>) -> Self {
        match self {
            Self::ConvNeXt(config) => Self::ConvNeXt(config.with_cbam_reduction(ratio)),
            Self::ResNet(config) => Self::ResNet(config.with_cbam_reduction(ratio)),
            Self::Swin(config) => Self::Swin(config.with_cbam_reduction(ratio)),
            Self::MobileNetV3(config) => Self::MobileNetV3(config.with_cbam_reduction(ratio)),
        }
    }

    /// Channels of each map.
    pub fn channels(&self) -> Vec<usize> {
        match self {
            Self::ConvNeXt(config) => config.dims.clone(),
            Self::ResNet(config) => config.channels(),
            Self::Swin(config) => config.channels(),
            Self::MobileNetV3(config) => config.channels(),
        }
    }

    /// Stride of each map, in input cells, such as 2, 4, 8, 16, 32. Only a stride that is replaced by dilation occurs more than once.
    pub fn strides(&self) -> Vec<usize> {
        match self {
            Self::ConvNeXt(config) => config.strides(),
            Self::ResNet(config) => config.strides(),
            Self::Swin(config) => config.strides(),
            Self::MobileNetV3(config) => config.strides(),
        }
    }

    /// An encoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Encoder {
        match self {
            Self::ConvNeXt(config) => Encoder::ConvNeXt(config.init(device)),
            Self::ResNet(config) => Encoder::ResNet(config.init(device)),
            Self::Swin(config) => Encoder::Swin(config.init(device)),
            Self::MobileNetV3(config) => Encoder::MobileNetV3(config.init(device)),
        }
    }
}

/// Any encoder.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one exists
pub enum Encoder {
    /// ConvNeXt.
    ConvNeXt(ConvNeXt),
    /// ResNet.
    ResNet(ResNet),
    /// Swin Transformer.
    Swin(Swin),
    /// MobileNetV3.
    MobileNetV3(MobileNetV3),
}

impl Encoder {
    /// The feature maps, finest first; see [`EncoderConfig::channels`] and [`EncoderConfig::strides`].
    ///
    /// # Shapes
    /// `[batch, input channels, height, width]` → `[batch, channels[i], height / strides[i], width / strides[i]]`
    pub fn forward(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        match self {
            Self::ConvNeXt(encoder) => encoder.forward(x),
            Self::ResNet(encoder) => encoder.forward(x),
            Self::Swin(encoder) => encoder.forward(x),
            Self::MobileNetV3(encoder) => encoder.forward(x),
        }
    }
}

/// Stride and dilation of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StageGeometry {
    /// Stride of the stage's map, in input cells.
    pub total: usize,
    /// Stride at the stage's entry.
    pub stride: usize,
    /// Dilation of the convolution at the stage's entry: that of the previous stage.
    pub entry_dilation: usize,
    /// Dilation of the other convolutions.
    pub dilation: usize,
}

impl StageGeometry {
    /// The same with the stage's own dilation at its entry.
    pub(crate) fn with_dilated_entry(self) -> Self {
        Self {
            entry_dilation: self.dilation,
            ..self
        }
    }

    /// The geometry of all blocks of the stage but the first.
    pub(crate) fn inner(self) -> Self {
        Self {
            stride: 1,
            ..self.with_dilated_entry()
        }
    }
}

/// The geometry of `stages` stages, the first at the stem's stride: each halves until `output_stride` is reached; beyond
/// that, dilation doubles instead (Chen et al. 2017, DeepLabV3, section 3.1).
pub(crate) fn stage_strides(
    stem_stride: usize,
    stages: usize,
    output_stride: usize,
) -> impl Iterator<Item = StageGeometry> {
    let mut total = stem_stride;
    let mut dilation = 1;
    (0..stages).map(move |i| {
        let entry_dilation = dilation;
        let stride = match i {
            0 => 1,
            _ if total < output_stride => 2,
            _ => {
                dilation *= 2;
                1
            }
        };
        total *= stride;
        StageGeometry {
            total,
            stride,
            entry_dilation,
            dilation,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use burn::optim::{AdamConfig, GradientsParams};
    use convnext::ConvNeXtVersion;
    use resnet::ResNetBlock;

    /// One encoder of each family, as narrow as it goes.
    fn families(input_channels: usize) -> [(&'static str, EncoderConfig); 5] {
        let (depths, dims) = (vec![1, 2, 1, 1], vec![8, 12, 16, 24]);
        let convnext = ConvNeXtConfig::new(input_channels, depths, dims);
        let v2 = convnext.clone().with_version(ConvNeXtVersion::V2);
        let swin = SwinConfig::new(input_channels, 8, vec![1, 2, 1, 1], vec![1, 1, 2, 2]);
        let resnet = ResNetConfig::new(input_channels, vec![1, 1, 1, 1], ResNetBlock::Basic);
        [
            ("convnext", EncoderConfig::ConvNeXt(convnext)),
            ("convnextv2", EncoderConfig::ConvNeXt(v2)),
            ("swin", EncoderConfig::Swin(swin)),
            ("resnet", EncoderConfig::ResNet(resnet)),
            (
                "mobilenet_v3_small",
                EncoderConfig::MobileNetV3(MobileNetV3Config::small(input_channels)),
            ),
        ]
    }

    #[test]
    fn cbam_stands_at_the_end_of_every_block() {
        // The official form in the blocks of torchvision and timm.
        for (name, config) in families(3) {
            let config = config.with_cbam_reduction(Some(4));
            let encoder = golden::filled(config.init(&Device::flex()));
            let maps = encoder.forward(golden::input([1, 3, 61, 45]));
            golden::check(&format!("{name}_cbam"), maps[maps.len() - 1].clone());
        }
    }

    #[test]
    fn maps_have_the_promised_channels_and_strides() {
        for (name, config) in families(3) {
            for output_stride in [8, 16, 32] {
                for stages in 2..=4 {
                    let config = config.clone().with_output_stride(output_stride);
                    let config = config.truncated(stages);
                    let maps = config
                        .init(&Device::flex())
                        .forward(golden::input([1, 3, 64, 96]));
                    let expected = config.channels().into_iter().zip(config.strides());
                    let expected = expected.map(|(c, s)| [1, c, 64 / s, 96 / s]);
                    let dims = maps.iter().map(|map| map.dims());
                    assert_eq!(
                        dims.collect::<Vec<_>>(),
                        expected.collect::<Vec<_>>(),
                        "{name}, output stride {output_stride}, {stages} stages"
                    );
                }
            }
        }
    }

    #[test]
    fn every_family_learns_from_one_odd_sized_sample() {
        let device = Device::flex().autodiff();
        for input_channels in [1, 3, 8] {
            for (name, config) in families(input_channels) {
                device.seed(3);
                // The last stage of a ResNet has most of its weights, and no code of its own.
                let stages = if name == "resnet" { 3 } else { 4 };
                let mut encoder = config.truncated(stages).init(&device);
                let x = golden::input([1, input_channels, 61, 45]).autodiff();
                let mut optimizer = AdamConfig::new().init();
                let losses: Vec<f32> = (0..10)
                    .map(|_| {
                        // The first channel of every map should be 1.
                        let maps = encoder.forward(x.clone()).into_iter();
                        let loss = maps
                            .map(|map| (map.narrow(1, 0, 1) - 1.0).powi_scalar(2).mean())
                            .reduce(|a, b| a + b)
                            .unwrap();
                        let value = loss.clone().into_scalar::<f32>();
                        let gradients = GradientsParams::from_grads(loss.backward(), &encoder);
                        encoder = optimizer.step(3e-3, encoder.clone(), gradients);
                        value
                    })
                    .collect();
                let finite = losses.iter().all(|loss| loss.is_finite());
                assert!(finite, "{name}, {input_channels} channels: {losses:?}");
                assert!(
                    losses[9] < 0.9 * losses[0],
                    "{name}, {input_channels} channels: {losses:?}"
                );
            }
        }
    }

    #[test]
    fn dilation_replaces_strides() {
        let geometry = |output_stride| {
            let stages = stage_strides(4, 4, output_stride);
            let stages = stages.map(|s| (s.total, s.stride, s.entry_dilation, s.dilation));
            stages.collect::<Vec<_>>()
        };
        assert_eq!(
            geometry(32),
            [(4, 1, 1, 1), (8, 2, 1, 1), (16, 2, 1, 1), (32, 2, 1, 1)]
        );
        assert_eq!(
            geometry(16),
            [(4, 1, 1, 1), (8, 2, 1, 1), (16, 2, 1, 1), (16, 1, 1, 2)]
        );
        assert_eq!(
            geometry(8),
            [(4, 1, 1, 1), (8, 2, 1, 1), (8, 1, 1, 2), (8, 1, 2, 4)]
        );
    }
}
