//! Encoders: from an input to feature maps, finest first.
//!
//! Every encoder has maps at strides 4, 8, 16 and 32 (fewer if cut short, finer if the output stride is below 32); those whose stem goes
//! there in two steps have one at stride 2 as well.

pub mod convnext;
mod name;
pub mod resnet;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

pub use name::EncoderName;

use convnext::{ConvNeXt, ConvNeXtConfig};
use resnet::{ResNet, ResNetConfig};

/// Configuration of an [`Encoder`].
#[derive(Debug, Clone)]
pub enum EncoderConfig {
    /// ConvNeXt.
    ConvNeXt(ConvNeXtConfig),
    /// ResNet.
    ResNet(ResNetConfig),
}

impl EncoderConfig {
    /// Keeps the first `stages` stages: those from stride 4 on, or as many as there are.
    pub fn truncated(self, stages: usize) -> Self {
        match self {
            Self::ConvNeXt(config) => Self::ConvNeXt(config.truncated(stages)),
            Self::ResNet(config) => Self::ResNet(config.truncated(stages)),
        }
    }

    /// The encoder whose last map has the given stride, 8, 16 or 32, in input cells: stages beyond it are dilated.
    pub fn with_output_stride(self, stride: usize) -> Self {
        match self {
            Self::ConvNeXt(config) => Self::ConvNeXt(config.with_output_stride(stride)),
            Self::ResNet(config) => Self::ResNet(config.with_output_stride(stride)),
        }
    }

    /// The encoder with the given drop-path rate of the last block, where its blocks have drop path.
    pub fn with_drop_path(self, rate: f64) -> Self {
        match self {
            Self::ConvNeXt(config) => Self::ConvNeXt(config.with_drop_path(rate)),
            Self::ResNet(_) => self,
        }
    }

    /// The encoder with a CBAM of the given reduction ratio in every block, or with none.
    pub fn with_cbam_reduction(self, ratio: Option<usize>) -> Self {
        match self {
            Self::ConvNeXt(config) => Self::ConvNeXt(config.with_cbam_reduction(ratio)),
            Self::ResNet(config) => Self::ResNet(config.with_cbam_reduction(ratio)),
        }
    }

    /// Channels of each map.
    pub fn channels(&self) -> Vec<usize> {
        match self {
            Self::ConvNeXt(config) => config.dims.clone(),
            Self::ResNet(config) => config.channels(),
        }
    }

    /// Stride of each map, in input cells, such as 2, 4, 8, 16, 32. Only a stride that is replaced by dilation occurs more than once.
    pub fn strides(&self) -> Vec<usize> {
        match self {
            Self::ConvNeXt(config) => config.strides(),
            Self::ResNet(config) => config.strides(),
        }
    }

    /// An encoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Encoder {
        match self {
            Self::ConvNeXt(config) => Encoder::ConvNeXt(config.init(device)),
            Self::ResNet(config) => Encoder::ResNet(config.init(device)),
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
