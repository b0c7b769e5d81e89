//! Layer normalisation over the channels of a map.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::layer_norm::{LayerNorm, LayerNormConfig};

/// Configuration of [`LayerNorm2d`].
#[derive(Config, Debug)]
pub struct LayerNorm2dConfig {
    /// Channels.
    pub channels: usize,
    /// ε; ConvNeXt's 1e-6, not the 1e-5 of most frameworks.
    #[config(default = 1e-6)]
    pub epsilon: f64,
}

/// Layer normalisation (Ba et al. 2016) over the channel axis of `[batch, channel, height, width]`, cell by cell.
#[derive(Module, Debug)]
pub struct LayerNorm2d {
    /// The normalisation over the last axis, applied channels-last.
    pub norm: LayerNorm,
}

impl LayerNorm2dConfig {
    /// A layer with γ = 1, β = 0 on `device`.
    pub fn init(&self, device: &Device) -> LayerNorm2d {
        LayerNorm2d {
            norm: LayerNormConfig::new(self.channels)
                .with_epsilon(self.epsilon)
                .init(device),
        }
    }
}

impl LayerNorm2d {
    /// # Shapes
    /// `[batch, channels, height, width]` → the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = x.permute([0, 2, 3, 1]);
        self.norm.forward(x).permute([0, 3, 1, 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn timm_values_and_gradients() {
        let layer = golden::filled(LayerNorm2dConfig::new(6).init(&Device::flex().autodiff()));
        let x = golden::differentiable_input([2, 6, 3, 5]);
        let y = layer.forward(x.clone());
        golden::check("layer_norm2d", y.clone());
        let gradients = golden::loss(y).backward();
        golden::check_gradient("layer_norm2d_x", x.grad(&gradients).unwrap());
        let gamma = layer.norm.gamma.val().grad(&gradients).unwrap();
        golden::check_gradient("layer_norm2d_gamma", gamma);
    }
}
