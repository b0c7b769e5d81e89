//! Image classifier: an encoder, global pooling and a linear head, as ConvNeXt and ResNet were published.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::draw_initial_values;
use crate::encoders::{Encoder, EncoderConfig};
use crate::layers::init;
use crate::layers::pool::global_mean;

/// Configuration of [`Classifier`].
#[derive(Debug, Clone)]
pub struct ClassifierConfig {
    /// The encoder; its last map is pooled.
    pub encoder: EncoderConfig,
    /// Classes.
    pub classes: usize,
}

/// `linear(norm(mean over cells of the encoder's last map))`; the normalisation is ConvNeXt's alone.
#[derive(Module, Debug)]
pub struct Classifier {
    /// The encoder.
    pub encoder: Encoder,
    /// Layer normalisation of the pooled features.
    pub norm: Option<LayerNorm>,
    /// Features → classes.
    pub head: Linear,
}

impl ClassifierConfig {
    /// A network with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Classifier {
        let features = *self
            .encoder
            .channels()
            .last()
            .expect("an encoder has at least one stage");
        let (norm, initializer) = match &self.encoder {
            EncoderConfig::ConvNeXt(_) => {
                let norm = LayerNormConfig::new(features).with_epsilon(1e-6);
                (Some(norm.init(device)), init::convnext())
            }
            EncoderConfig::ResNet(_) => (None, init::he_fan_in()),
        };
        let head = LinearConfig::new(features, self.classes).with_initializer(initializer);
        let model = Classifier {
            encoder: self.encoder.init(device),
            norm,
            head: init::linear(head, device),
        };
        draw_initial_values(&model);
        model
    }
}

impl Classifier {
    /// # Shapes
    /// `[batch, input channels, height, width]` → logits `[batch, classes]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let maps = self.encoder.forward(x);
        let last = maps.into_iter().next_back().expect("a map a stage");
        let [batch, channels, _, _] = last.dims();
        let x = global_mean(last).reshape([batch, channels]);
        let x = match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        self.head.forward(x)
    }
}
