//! DeepLabV3+ (Chen et al. 2018, "Encoder-decoder with atrous separable convolution for semantic image segmentation",
//! arXiv 1802.02611) in three published forms.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::layers::aspp::{Aspp, AsppConfig};
use crate::layers::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use crate::layers::conv3x3::{Conv3x3, Conv3x3Config, Conv3x3Form};
use crate::layers::resize::{resize_bilinear, resize_bilinear_aligned};
use crate::ops::recorded::concat;
use crate::summary::trace::scope;

/// Which published network: "DeepLabV3+" names several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeepLabVariant {
    /// The paper: the encoder's last stage at the output stride; separable 3×3 convolutions in pyramid and decoder.
    Paper,
    /// The example of keras.io, on which the published rainfall model stands: the encoder's third stage; full 3×3
    /// convolutions; a bias behind the image pooling; ε 1e-3, Keras' default.
    Keras,
    /// segmentation_models_pytorch: the encoder's last stage; dilations 12, 24 and 36 at either output stride; separable
    /// convolutions without normalisation in between; dropout and another convolution behind the pyramid; one fusing
    /// convolution; resizing with aligned corners.
    Smp,
}

/// Configuration of [`DeepLabV3Plus`].
#[derive(Config, Debug)]
pub struct DeepLabV3PlusConfig {
    /// Which published network.
    pub variant: DeepLabVariant,
    /// Channels of the map at stride 4.
    pub low_channels_in: usize,
    /// Channels of the encoder's last map.
    pub high_channels_in: usize,
    /// Channels of the pyramid and the output.
    #[config(default = 256)]
    pub channels: usize,
    /// Channels to which the map at stride 4 is reduced.
    #[config(default = 48)]
    pub low_channels: usize,
    /// Stride of the encoder's last map, in input cells: 16, or 8 with doubled dilations (not in [`DeepLabVariant::Smp`]).
    #[config(default = 16)]
    pub output_stride: usize,
    /// Index of the map at stride 4 among the encoder's.
    #[config(default = 0)]
    pub low_map: usize,
}

/// Atrous pyramid on the encoder's last map, enlarged bilinearly, concatenated with the reduced map at stride 4 and fused
/// by 3×3 convolutions.
#[derive(Module, Debug)]
pub struct DeepLabV3Plus {
    /// Atrous spatial pyramid pooling of the last map.
    pub aspp: Aspp,
    /// 3×3 convolution behind the pyramid.
    pub after_aspp: Option<Conv3x3>,
    /// 1×1 convolution that reduces the map at stride 4.
    pub low: ConvNormAct,
    /// Two 3×3 convolutions, or one.
    pub fuse: Vec<Conv3x3>,
    /// Whether the pyramid's map is enlarged with aligned corners.
    pub aligned: bool,
    /// Index of the map at stride 4 among the encoder's.
    pub low_map: usize,
}

impl DeepLabV3PlusConfig {
    /// A decoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> DeepLabV3Plus {
        let (form, epsilon) = match self.variant {
            DeepLabVariant::Paper => (Conv3x3Form::Separable, 1e-5),
            DeepLabVariant::Keras => (Conv3x3Form::Full, 1e-3),
            DeepLabVariant::Smp => (Conv3x3Form::SeparableBare, 1e-5),
        };
        let smp = self.variant == DeepLabVariant::Smp;
        let rates = match smp {
            true => [12, 24, 36],
            false => [6, 12, 18].map(|rate| rate * 16 / self.output_stride),
        };
        let conv = |channels_in| {
            Conv3x3Config::new([channels_in, self.channels], form)
                .with_epsilon(epsilon)
                .init(device)
        };
        let mut fuse = vec![conv(self.low_channels + self.channels)];
        if !smp {
            fuse.push(conv(self.channels));
        }
        DeepLabV3Plus {
            aspp: AsppConfig::new([self.high_channels_in, self.channels], rates, form)
                .with_pool_bias(self.variant == DeepLabVariant::Keras)
                .with_pool_last(smp)
                .with_dropout(if smp { 0.5 } else { 0.0 })
                .with_epsilon(epsilon)
                .init(device),
            after_aspp: smp.then(|| conv(self.channels)),
            low: ConvNormActConfig::new([self.low_channels_in, self.low_channels], 1)
                .with_epsilon(epsilon)
                .init(device),
            fuse,
            aligned: smp,
            low_map: self.low_map,
        }
    }
}

impl DeepLabV3Plus {
    /// # Shapes
    /// The encoder's maps, finest first: the one at stride 4 `[batch, low channels in, height / 4, width / 4]` and the last
    /// `[batch, high channels in, h, w]` are used → `[batch, channels, height / 4, width / 4]`
    pub fn forward(&self, mut maps: Vec<Tensor<4>>) -> Tensor<4> {
        let _scope = scope(self);
        let high = maps.pop().expect("the encoder has maps");
        let low = maps.swap_remove(self.low_map);
        drop(maps);
        let [_, _, height, width] = low.dims();
        let high = self.aspp.forward(high);
        let high = match &self.after_aspp {
            Some(conv) => conv.forward(high),
            None => high,
        };
        let high = match self.aligned {
            true => resize_bilinear_aligned(high, [height, width]),
            false => resize_bilinear(high, [height, width]),
        };
        let x = concat(vec![high, self.low.forward(low)]);
        self.fuse.iter().fold(x, |x, conv| conv.forward(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::models::segmenter::SegmenterConfig;

    #[test]
    fn paper_variant_has_pytorch_values() {
        let config = DeepLabV3PlusConfig::new(DeepLabVariant::Paper, 7, 10).with_channels(12);
        let decoder = golden::filled(config.init(&Device::flex()));
        let (low, high) = ([2, 7, 30, 22], [2, 10, 15, 11]);
        let y = decoder.forward(vec![golden::input(low), golden::input(high)]);
        golden::check("deeplab_paper", y);
    }

    #[test]
    fn keras_variant_has_keras_values() {
        // The whole published network on keras.applications' ResNet-50.
        let config = SegmenterConfig::from_name("deeplabv3plus_keras-resnet50_keras").unwrap();
        let model = golden::filled(config.init(&Device::flex()).unwrap());
        golden::check(
            "deeplab_keras",
            model.forward(golden::input([1, 8, 64, 96])),
        );
    }
}
