//! Segmentation network: encoder, decoder, optional refinement at full resolution, head.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::store::RecordError;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{ParamCount, draw_initial_values};
use crate::config::{ModelError, require, unknown};
use crate::decoders::full_resolution::{FullResolution, FullResolutionConfig};
use crate::decoders::{Decoder, DecoderConfig, DecoderName};
use crate::encoders::resnet::{ResNetForm, ResNetTap};
use crate::encoders::{Encoder, EncoderConfig, EncoderName};
use crate::layers::cbam::{Cbam, CbamConfig};
use crate::layers::init;
use crate::layers::pad::pad_to_multiple;
use crate::layers::resize::{repeat_nearest, resize_bilinear, resize_bilinear_aligned};
use crate::ops::{conv2d, precision::widened, recorded::softplus};
use crate::summary::trace::scope;

/// What a network says of every cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Two logits, dry and wet.
    TwoClass,
    /// One logit, wet.
    OneLogit,
    /// Water depth in metres: softplus of the last convolution, so never negative and with a gradient everywhere.
    Depth,
}

impl Head {
    /// Channels of the output.
    pub fn channels(self) -> usize {
        match self {
            Self::TwoClass => 2,
            Self::OneLogit | Self::Depth => 1,
        }
    }
}

/// Configuration of a [`Segmenter`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmenterConfig {
    /// Name of the encoder, such as `convnext_atto`.
    pub encoder: EncoderName,
    /// Name of the decoder, such as `deeplabv3plus`.
    pub decoder: DecoderName,
    /// Channels of the input.
    pub input_channels: usize,
    /// What is said of each cell: `two_class`, `one_logit` or `depth`.
    pub head: Head,
    /// Stride of the encoder's last map; none: the decoder's published one. Below 32 the encoder's last stages dilate.
    pub output_stride: Option<usize>,
    /// Factor by which the encoder's input is enlarged (nearest cell): 1, or the published rainfall model's 2.
    pub input_upsampling: usize,
    /// Channels of the decoder's widest map; none: the published number.
    pub decoder_channels: Option<usize>,
    /// CBAM attention behind the decoder.
    pub cbam: bool,
    /// CBAM attention in every block of the encoder.
    pub encoder_cbam: bool,
    /// The hidden layers of all CBAMs have channels / this units.
    pub cbam_reduction: usize,
    /// Channels of the refinement at full resolution; none: the logits are enlarged from the decoder's map.
    pub refinement_channels: Option<usize>,
    /// Drop-path rate of a ConvNeXt; none: the published rate of its size (0 below tiny).
    pub drop_path: Option<f64>,
}

impl Default for SegmenterConfig {
    /// `deeplabv3plus-convnext_atto` with the 8 channels of the published data set.
    fn default() -> Self {
        Self {
            encoder: EncoderName::ConvNeXtAtto,
            decoder: DecoderName::DeepLabV3Plus,
            input_channels: 8,
            head: Head::TwoClass,
            output_stride: None,
            input_upsampling: 1,
            decoder_channels: None,
            cbam: false,
            encoder_cbam: false,
            cbam_reduction: 16,
            refinement_channels: None,
            drop_path: None,
        }
    }
}

impl SegmenterConfig {
    /// The configuration of a name such as `deeplabv3plus-convnext_atto`; all else at its default.
    ///
    /// # Errors
    /// [`ModelError::UnknownName`], with the nearest names.
    pub fn from_name(name: &str) -> Result<Self, ModelError> {
        Self::parse_name(name).ok_or_else(|| unknown("segmenter", name, Self::names()))
    }

    pub(crate) fn parse_name(name: &str) -> Option<Self> {
        let (decoder, encoder) = name.split_once('-')?;
        Some(Self {
            encoder: encoder.parse().ok()?,
            decoder: decoder.parse().ok()?,
            ..Self::default()
        })
    }

    /// All names that [`Self::from_name`] knows: every decoder on every encoder.
    pub fn names() -> Vec<String> {
        let names = DecoderName::ALL.iter().flat_map(|(_, decoder)| {
            let encoders = EncoderName::ALL.iter();
            encoders.map(move |(_, encoder)| format!("{decoder}-{encoder}"))
        });
        names.collect()
    }

    /// The name that gives this configuration's encoder and decoder.
    pub fn name(&self) -> String {
        format!("{}-{}", self.decoder, self.encoder)
    }

    /// Checks the ranges of all fields, and that they do not contradict each other.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for the first that is wrong.
    pub fn validate(&self) -> Result<(), ModelError> {
        let positive =
            |field, value: Option<usize>| require(value != Some(0), field, 0, "must be at least 1");
        positive("input_channels", Some(self.input_channels))?;
        positive("decoder_channels", self.decoder_channels)?;
        positive("refinement_channels", self.refinement_channels)?;
        positive("cbam_reduction", Some(self.cbam_reduction))?;
        let upsampling = self.input_upsampling;
        let ok = matches!(upsampling, 1 | 2);
        require(ok, "input_upsampling", upsampling, "must be 1 or 2")?;
        let (strides, stride) = (self.decoder.output_strides(), self.stride());
        let known: Vec<String> = strides.iter().map(usize::to_string).collect();
        let reason = format!("{} stands on stride {}", self.decoder, known.join(" or "));
        require(strides.contains(&stride), "output_stride", stride, reason)?;
        if let Some(channels) = self.refinement_channels {
            let reason = format!("the map of {} is at full resolution already", self.decoder);
            let ok = !self.decoder.is_full_resolution();
            require(ok, "refinement_channels", channels, reason)?;
        }
        let rate = self.drop_path.unwrap_or(0.0);
        require(
            (0.0..1.0).contains(&rate),
            "drop_path",
            rate,
            "must be in [0, 1)",
        )
    }

    /// Stride of the encoder's last map.
    fn stride(&self) -> usize {
        let published = self.decoder.output_strides()[0];
        self.output_stride.unwrap_or(published)
    }

    /// The encoder as the decoder needs it: cut behind the stage that it uses, at the output stride.
    pub fn encoder_config(&self) -> EncoderConfig {
        let (stages, stride) = (self.decoder.stages(), self.stride());
        let mut config = self.encoder.config(self.input_channels);
        if let Some(rate) = self.drop_path {
            config = config.with_drop_path(rate);
        }
        if let EncoderConfig::ResNet(resnet) = &mut config
            && resnet.form == ResNetForm::Keras
            && self.decoder == DecoderName::DeepLabV3PlusKeras
        {
            // With its own encoder the keras.io example takes the maps inside the bottlenecks.
            resnet.tap = ResNetTap::InsideLastBottleneck;
        }
        if let EncoderConfig::ResNet(resnet) = &mut config {
            resnet.dilated_entry = self.decoder.is_smp();
        }
        config
            .truncated(stages)
            .with_output_stride(stride)
            .with_cbam_reduction(self.encoder_cbam.then_some(self.cbam_reduction))
    }

    /// A network with fresh weights on `device`; reproducible after `device.seed(…)`.
    ///
    /// # Errors
    /// If the configuration contradicts itself, see [`Self::validate`].
    pub fn init(&self, device: &Device) -> Result<Segmenter, ModelError> {
        let model = self.init_lazily(device)?;
        draw_initial_values(&model);
        Ok(model)
    }

    /// As [`Self::init`], but each parameter is drawn when it is first used: a network that is only counted, described or
    /// loaded costs nothing.
    ///
    /// # Errors
    /// As [`Self::init`].
    pub fn init_lazily(&self, device: &Device) -> Result<Segmenter, ModelError> {
        self.validate()?;
        let encoder = self.encoder_config();
        let (channels, strides) = (encoder.channels(), encoder.strides());
        let decoder = DecoderConfig::new(self.decoder, &channels, &strides, self.decoder_channels);
        let coarse_channels = decoder.channels();
        let refinement = self.refinement_channels.map(|channels| {
            FullResolutionConfig::new(self.input_channels, coarse_channels, channels).init(device)
        });
        let (head_in, kernel_size) = match self.refinement_channels {
            Some(channels) => (channels, 1),
            None => (coarse_channels, self.decoder.head_kernel_size()),
        };
        let pad = kernel_size / 2;
        let head = Conv2dConfig::new([head_in, self.head.channels()], [kernel_size; 2])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_initializer(init::he_fan_in());
        let cbam = CbamConfig::new(coarse_channels).with_reduction(self.cbam_reduction);
        Ok(Segmenter {
            encoder: encoder.init(device),
            decoder: decoder.init(device),
            cbam: self.cbam.then(|| cbam.init(device)),
            refinement,
            head: init::conv2d(head, device),
            depth: self.head == Head::Depth,
            aligned: self.decoder.is_smp(),
            input_upsampling: self.input_upsampling,
            multiple: (strides[strides.len() - 1] / self.input_upsampling).max(1),
        })
    }
}

/// A network that gives every cell of its input one logit or two, or a depth.
#[derive(Module, Debug)]
pub struct Segmenter {
    /// Feature maps of the input.
    pub encoder: Encoder,
    /// From the feature maps to one.
    pub decoder: Decoder,
    /// Attention behind the decoder.
    pub cbam: Option<Cbam>,
    /// Refinement at full resolution.
    pub refinement: Option<FullResolution>,
    /// Convolution to the logits.
    pub head: Conv2d,
    /// Whether softplus makes the output a depth.
    pub depth: bool,
    /// Whether the logits are enlarged with aligned corners.
    pub aligned: bool,
    /// Factor by which the encoder's input is enlarged (nearest cell).
    pub input_upsampling: usize,
    /// The input is padded to multiples of this, in cells, so that every map of the encoder covers it exactly.
    pub multiple: usize,
}

impl Segmenter {
    /// Logits of every cell, or its depth in metres, see [`Head`]. Any height and width: the input is padded at the south
    /// and east by its edge values to a multiple of the encoder's stride, and the output is cropped again.
    ///
    /// # Shapes
    /// `[batch, input channels, height, width]` → `[batch, head channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let _scope = scope(self);
        let [_, _, height, width] = x.dims();
        let x = pad_to_multiple(x, self.multiple);
        let [_, _, padded_height, padded_width] = x.dims();

        let maps = self
            .encoder
            .forward(repeat_nearest(x.clone(), self.input_upsampling));
        let coarse = self.decoder.forward(maps);
        let coarse = match &self.cbam {
            Some(cbam) => cbam.forward(coarse),
            None => coarse,
        };
        let logits = match &self.refinement {
            Some(refinement) => widened(conv2d::forward(&self.head, refinement.forward(x, coarse))),
            // The published networks make logits first and then enlarge them: there is less to resize.
            None => {
                let logits = widened(conv2d::forward(&self.head, coarse));
                let size = [padded_height, padded_width];
                match self.aligned {
                    true => resize_bilinear_aligned(logits, size),
                    false => resize_bilinear(logits, size),
                }
            }
        };
        let logits = match [padded_height, padded_width] == [height, width] {
            true => logits,
            false => logits.narrow(2, 0, height).narrow(3, 0, width),
        };
        match self.depth {
            true => softplus(logits),
            false => logits,
        }
    }

    /// The network with the weights of `encoder`, such as the rain encoder of a [`Contrastive`](super::contrastive::Contrastive)
    /// pair. Output stride and drop path stay those of this network; stages that it does not have are left out.
    ///
    /// # Errors
    /// If the two are not the same encoder, or their inputs differ in channels.
    pub fn with_encoder(mut self, encoder: Encoder) -> Result<Self, RecordError> {
        let record = encoder.into_record().allow_unused(true);
        self.encoder = self.encoder.try_load_record(record)?;
        Ok(self)
    }

    /// Trainable values, as PyTorch counts them; [`ParamCount::of`] gives the running statistics too.
    pub fn num_params(&self) -> usize {
        ParamCount::of(self).trainable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use burn::tensor::Distribution;

    #[test]
    fn validation_keeps_no_graph_and_no_chance() {
        let device = Device::flex().autodiff();
        let config = SegmenterConfig {
            drop_path: Some(0.5),
            decoder_channels: Some(16),
            refinement_channels: Some(4),
            head: Head::OneLogit,
            ..SegmenterConfig::default()
        };
        let model = config.init(&device).unwrap().valid();
        let x = Tensor::<4>::random(
            [1, 8, 61, 45],
            Distribution::Normal(0.0, 1.0),
            &Device::flex(),
        );
        let first = model.forward(x.clone());
        assert_eq!(first.dims(), [1, 1, 61, 45]);
        assert!(!first.device().is_autodiff());
        let second = model.forward(x);
        assert_eq!(first.into_data(), second.into_data());
    }

    #[test]
    fn configuration_and_record_rebuild_the_network() {
        let config = SegmenterConfig {
            decoder_channels: Some(16),
            refinement_channels: Some(4),
            ..SegmenterConfig::default()
        };
        let device = Device::flex();
        let model = golden::filled(config.init(&device).unwrap());
        let json = serde_json::to_string(&config).unwrap();
        let rebuilt: SegmenterConfig = serde_json::from_str(&json).unwrap();
        let rebuilt = rebuilt.init(&device).unwrap();
        let x = golden::input([1, 8, 33, 20]);
        let expected = model.forward(x.clone()).into_data();
        assert_ne!(rebuilt.forward(x.clone()).into_data(), expected);
        let rebuilt = rebuilt.load_record(model.into_record());
        assert_eq!(rebuilt.forward(x).into_data(), expected);
    }
    #[test]
    fn a_contradiction_is_refused() {
        let message = |config: SegmenterConfig| config.validate().unwrap_err().to_string();
        let config = SegmenterConfig {
            output_stride: Some(12),
            ..SegmenterConfig::default()
        };
        assert_eq!(
            message(config),
            "model output_stride = 12: deeplabv3plus stands on stride 16 or 8"
        );
        let config = SegmenterConfig {
            decoder: DecoderName::UNet,
            refinement_channels: Some(16),
            ..SegmenterConfig::default()
        };
        assert_eq!(
            message(config),
            "model refinement_channels = 16: the map of unet is at full resolution already"
        );
    }
}
