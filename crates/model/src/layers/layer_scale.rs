//! Learned scale of a residual branch.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::summary::trace::{Kind, unary};

/// Configuration of [`LayerScale`].
#[derive(Config, Debug)]
pub struct LayerScaleConfig {
    /// Channels.
    pub channels: usize,
    /// Initial value of γ.
    #[config(default = 1e-6)]
    pub initial: f64,
}

/// `γ · x` with one γ for each channel (Touvron et al. 2021, CaiT, section 2).
#[derive(Module, Debug)]
pub struct LayerScale {
    /// `[channels]`
    pub gamma: Param<Tensor<1>>,
}

impl LayerScaleConfig {
    /// A layer with all γ at the initial value on `device`.
    pub fn init(&self, device: &Device) -> LayerScale {
        let gamma = Initializer::Constant {
            value: self.initial,
        };
        LayerScale {
            gamma: gamma.init([self.channels], device),
        }
    }
}

impl LayerScale {
    /// # Shapes
    /// Channels last: `[…, channels]` → the same
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let kind = || Kind::plain("LayerScale").of(self);
        unary(kind, x, |x| {
            let gamma = self.gamma.val().cast(x.dtype());
            x * gamma.unsqueeze()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn pytorch_values_and_gradients() {
        let layer = golden::filled(LayerScaleConfig::new(6).init(&Device::flex().autodiff()));
        let x = golden::differentiable_input([2, 3, 5, 6]);
        let y = layer.forward(x.clone());
        golden::check("layer_scale", y.clone());
        let gradients = golden::loss(y).backward();
        golden::check_gradient("layer_scale_x", x.grad(&gradients).unwrap());
        let gamma = layer.gamma.val().grad(&gradients).unwrap();
        golden::check_gradient("layer_scale_gamma", gamma);
    }
}
