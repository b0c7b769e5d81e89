//! Convolutional block attention module.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor};

use super::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use super::init;
use super::pool::{global_max, global_mean};

/// Configuration of [`Cbam`].
#[derive(Config, Debug)]
pub struct CbamConfig {
    /// Channels.
    pub channels: usize,
    /// The channel gate's hidden layer has channels / reduction units.
    #[config(default = 16)]
    pub reduction: usize,
}

/// CBAM (Woo et al. 2018, section 3): a channel gate, then a spatial gate, in the form of the authors' code.
///
/// * channel gate: `x · sigmoid(mlp(mean over cells) + mlp(max over cells))`
/// * spatial gate: `x · sigmoid(batch_norm(conv7×7([max over channels, mean over channels])))`
#[derive(Module, Debug)]
pub struct Cbam {
    /// First layer of the shared MLP, C → C / reduction.
    pub reduce: Linear,
    /// Second layer of the shared MLP, C / reduction → C.
    pub expand: Linear,
    /// 7×7 convolution and normalisation of the spatial gate.
    pub spatial: ConvNormAct,
}

impl CbamConfig {
    /// A layer with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Cbam {
        let hidden = (self.channels / self.reduction).max(1);
        let linear = |channels_in, channels_out| {
            let config =
                LinearConfig::new(channels_in, channels_out).with_initializer(init::he_fan_in());
            init::linear(config, device)
        };
        Cbam {
            reduce: linear(self.channels, hidden),
            expand: linear(hidden, self.channels),
            spatial: ConvNormActConfig::new([2, 1], 7)
                .with_activation(false)
                .init(device),
        }
    }
}

impl Cbam {
    /// # Shapes
    /// `[batch, channels, height, width]` → the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let gate = self.mlp(global_mean(x.clone())) + self.mlp(global_max(x.clone()));
        let x = x * sigmoid(gate);
        let pooled = Tensor::cat(vec![x.clone().max_dim(1), x.clone().mean_dim(1)], 1);
        x * sigmoid(self.spatial.forward(pooled))
    }

    fn mlp(&self, pooled: Tensor<4>) -> Tensor<4> {
        let [batch, channels, _, _] = pooled.dims();
        let hidden = relu(self.reduce.forward(pooled.reshape([batch, channels])));
        self.expand.forward(hidden).reshape([batch, channels, 1, 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn pytorch_values() {
        let layer = golden::filled(CbamConfig::new(32).init(&Device::flex()));
        golden::check("cbam", layer.forward(golden::input([2, 32, 9, 5])));
    }
}
