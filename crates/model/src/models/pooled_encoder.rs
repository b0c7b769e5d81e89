//! An encoder that gives one vector for a whole map.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::encoders::{Encoder, EncoderName};
use crate::layers::init;
use crate::layers::layer_norm::{LayerNorm, LayerNormConfig};
use crate::layers::pad::pad_to_multiple;
use crate::layers::pool::global_mean;
use crate::ops::precision::widened;
use crate::ops::recorded::linear;
use crate::summary::trace::scope;

/// Configuration of [`PooledEncoder`].
#[derive(Config, Debug)]
pub struct PooledEncoderConfig {
    /// The encoder.
    pub encoder: EncoderName,
    /// Channels of the input.
    pub input_channels: usize,
    /// Values of the vector.
    pub outputs: usize,
}

/// `linear(layer_norm(mean over cells of the last map))`: the form in which ConvNeXt classifies (Liu et al. 2022).
#[derive(Module, Debug)]
pub struct PooledEncoder {
    /// Feature maps of the input; the last is used.
    pub encoder: Encoder,
    /// Normalisation of the mean, ε 1e-6.
    pub norm: LayerNorm,
    /// From the encoder's channels to the outputs.
    pub linear: Linear,
    /// Stride of the encoder's last map; the input is padded to multiples of it.
    pub stride: usize,
}

impl PooledEncoderConfig {
    /// A network with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> PooledEncoder {
        let encoder = self.encoder.config(self.input_channels);
        let (channels, strides) = (encoder.channels(), encoder.strides());
        let last = channels.len() - 1;
        let linear =
            LinearConfig::new(channels[last], self.outputs).with_initializer(init::normal_002());
        PooledEncoder {
            encoder: encoder.init(device),
            norm: LayerNormConfig::new(channels[last])
                .with_epsilon(1e-6)
                .init(device),
            linear: init::linear(linear, device),
            stride: strides[last],
        }
    }
}

impl PooledEncoder {
    /// # Shapes
    /// `[batch, input channels, height, width]` of any size → `[batch, outputs]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let _scope = scope(self);
        let mut maps = self.encoder.forward(pad_to_multiple(x, self.stride));
        let last = maps.pop().expect("the encoder has maps");
        drop(maps);
        let [batch, channels, _, _] = last.dims();
        let mean = global_mean(last).reshape([batch, channels]);
        widened(linear(&self.linear, self.norm.forward(mean)))
    }
}
