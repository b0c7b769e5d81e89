//! Segmentation network: encoder, decoder, optional refinement at full resolution, head.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};

use super::{ParamCount, draw_initial_values};
use crate::config::{ModelConfig, ModelError};
use crate::decoders::deeplab_v3_plus::{DeepLabV3Plus, DeepLabV3PlusConfig};
use crate::decoders::full_resolution::{FullResolution, FullResolutionConfig};
use crate::encoders::Encoder;
use crate::layers::init;
use crate::layers::resize::{repeat_nearest, resize_bilinear};
use crate::ops::conv2d;

/// A network that gives every cell of its input one logit or two.
#[derive(Module, Debug)]
pub struct Segmenter {
    /// Feature maps of the input.
    pub encoder: Encoder,
    /// Index of the encoder's map at stride 4.
    pub low: usize,
    /// From the maps at stride 4 and at the output stride to one at stride 4.
    pub decoder: DeepLabV3Plus,
    /// Refinement at full resolution.
    pub refinement: Option<FullResolution>,
    /// 1×1 convolution to the logits.
    pub head: Conv2d,
    /// Factor by which the encoder's input is enlarged (nearest cell).
    pub input_upsampling: usize,
    /// The input is padded to multiples of this, in cells, so that every map of the encoder covers it exactly.
    pub multiple: usize,
}

impl ModelConfig {
    /// A network with fresh weights on `device`; reproducible after `device.seed(…)`.
    ///
    /// # Errors
    /// If the configuration contradicts itself, see [`ModelConfig::validate`].
    pub fn init(&self, device: &Device) -> Result<Segmenter, ModelError> {
        self.validate()?;
        let encoder = self.encoder_config();
        let (channels, strides) = (encoder.channels(), encoder.strides());
        let last = channels.len() - 1;
        let low = strides.iter().position(|stride| *stride == 4);
        let low = low.expect("every encoder has a map at stride 4");
        let decoder = DeepLabV3PlusConfig::new(self.variant, channels[low], channels[last])
            .with_channels(self.decoder_channels)
            .with_output_stride(self.output_stride)
            .with_cbam(self.cbam);
        let refinement = self.refinement_channels.map(|channels| {
            FullResolutionConfig::new(self.input_channels, self.decoder_channels, channels)
        });
        let head_in = self.refinement_channels.unwrap_or(self.decoder_channels);
        let head = Conv2dConfig::new([head_in, self.output_channels], [1, 1])
            .with_initializer(init::he_fan_in());
        let model = Segmenter {
            encoder: encoder.init(device),
            low,
            decoder: decoder.init(device),
            refinement: refinement.map(|config| config.init(device)),
            head: init::conv2d(head, device),
            input_upsampling: self.input_upsampling,
            multiple: (strides[last] / self.input_upsampling).max(1),
        };
        draw_initial_values(&model);
        Ok(model)
    }
}

impl Segmenter {
    /// Logits of every cell. Any height and width: the input is padded at the south and east by its edge values to a
    /// multiple of the encoder's stride, and the logits are cropped again.
    ///
    /// # Shapes
    /// `[batch, input channels, height, width]` → `[batch, output channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let missing = [height, width].map(|n| n.next_multiple_of(self.multiple) - n);
        let x = match missing {
            [0, 0] => x,
            [south, east] => x.pad((0, east, 0, south), PadMode::Edge),
        };
        let [_, _, padded_height, padded_width] = x.dims();

        let maps = self
            .encoder
            .forward(repeat_nearest(x.clone(), self.input_upsampling));
        let (low, high) = (maps[self.low].clone(), maps[maps.len() - 1].clone());
        drop(maps);
        let coarse = self.decoder.forward(low, high);
        let logits = match &self.refinement {
            Some(refinement) => conv2d::forward(&self.head, refinement.forward(x, coarse)),
            // A 1×1 convolution and a bilinear resize commute; this way round there is less to resize.
            None => resize_bilinear(
                conv2d::forward(&self.head, coarse),
                [padded_height, padded_width],
            ),
        };
        match missing {
            [0, 0] => logits,
            _ => logits.narrow(2, 0, height).narrow(3, 0, width),
        }
    }

    /// Trainable values, as PyTorch counts them; [`ParamCount::of`] gives the running statistics too.
    pub fn num_params(&self) -> usize {
        ParamCount::of(self).trainable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoders::EncoderName;
    use crate::golden;
    use burn::optim::{AdamWConfig, GradientsParams};
    use burn::tensor::Distribution;

    /// Ten steps of AdamW on one tiny batch of odd size; returns the losses.
    fn train(config: &ModelConfig) -> Vec<f32> {
        let device = Device::flex().autodiff();
        let mut model = config.init(&device).unwrap();
        let x = Tensor::<4>::random([2, 3, 37, 29], Distribution::Normal(0.0, 1.0), &device);
        // A target that the input decides cell by cell.
        let target = x.clone().narrow(1, 0, 1).sign().expand([2, 2, 37, 29]);
        let mut optimizer = AdamWConfig::new().init();
        let steps = (0..10).map(|_| {
            let logits = model.forward(x.clone());
            assert_eq!(logits.dims(), [2, 2, 37, 29]);
            let loss = (logits - target.clone()).powi_scalar(2).mean();
            let value = loss.clone().into_scalar::<f32>();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(1e-3, model.clone(), gradients);
            value
        });
        steps.collect()
    }

    #[test]
    fn loss_falls() {
        let narrow = ModelConfig {
            input_channels: 3,
            decoder_channels: 16,
            ..ModelConfig::default()
        };
        let configs = [
            ModelConfig {
                refinement_channels: Some(8),
                cbam: true,
                ..narrow.clone()
            },
            ModelConfig {
                output_stride: 8,
                drop_path: Some(0.1),
                ..narrow.clone()
            },
            ModelConfig {
                encoder: EncoderName::ResNet18,
                input_upsampling: 2,
                ..narrow.clone()
            },
            ModelConfig {
                encoder: EncoderName::ResNet50Keras,
                variant: crate::decoders::deeplab_v3_plus::DeepLabVariant::Keras,
                ..narrow
            },
        ];
        for config in configs {
            let losses = train(&config);
            assert!(
                losses.iter().all(|loss| loss.is_finite()),
                "{config:?}: {losses:?}"
            );
            assert!(losses[9] < 0.9 * losses[0], "{config:?}: {losses:?}");
        }
    }

    #[test]
    fn validation_keeps_no_graph_and_no_chance() {
        let device = Device::flex().autodiff();
        let config = ModelConfig {
            drop_path: Some(0.5),
            decoder_channels: 16,
            refinement_channels: Some(4),
            output_channels: 1,
            ..ModelConfig::default()
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
        let config = ModelConfig {
            decoder_channels: 16,
            refinement_channels: Some(4),
            ..ModelConfig::default()
        };
        let device = Device::flex();
        let model = golden::filled(config.init(&device).unwrap());
        let json = serde_json::to_string(&config).unwrap();
        let rebuilt: ModelConfig = serde_json::from_str(&json).unwrap();
        let rebuilt = rebuilt.init(&device).unwrap();
        let x = golden::input([1, 8, 33, 20]);
        let expected = model.forward(x.clone()).into_data();
        assert_ne!(rebuilt.forward(x.clone()).into_data(), expected);
        let rebuilt = rebuilt.load_record(model.into_record());
        assert_eq!(rebuilt.forward(x).into_data(), expected);
    }
}
