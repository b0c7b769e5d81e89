//! Squeeze-and-excitation.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};

use super::init;
use super::pool::global_mean;
use crate::ops::conv2d;
use crate::ops::recorded::{hard_sigmoid, multiply, relu};
use crate::summary::trace::scope;

/// Configuration of [`SqueezeExcitation`].
#[derive(Config, Debug)]
pub struct SqueezeExcitationConfig {
    /// Channels.
    pub channels: usize,
    /// Units of the hidden layer.
    pub hidden: usize,
}

/// `x · hard_sigmoid(expand(relu(squeeze(mean of x over cells))))` (Hu et al. 2018, "Squeeze-and-excitation networks", arXiv 1709.01507)
/// with the gate of MobileNetV3: `hard_sigmoid(z) = clamp(z / 6 + 1/2, 0, 1)`.
#[derive(Module, Debug)]
pub struct SqueezeExcitation {
    /// 1×1 convolution, channels → hidden units.
    pub squeeze: Conv2d,
    /// 1×1 convolution, hidden units → channels.
    pub expand: Conv2d,
}

impl SqueezeExcitationConfig {
    /// A layer with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> SqueezeExcitation {
        let pointwise = |channels| {
            let config = Conv2dConfig::new(channels, [1, 1]);
            init::conv2d(config.with_initializer(init::he_fan_out()), device)
        };
        SqueezeExcitation {
            squeeze: pointwise([self.channels, self.hidden]),
            expand: pointwise([self.hidden, self.channels]),
        }
    }
}

impl SqueezeExcitation {
    /// # Shapes
    /// `[batch, channels, height, width]` → the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let _scope = scope(self);
        let hidden = relu(conv2d::forward(&self.squeeze, global_mean(x.clone())));
        let gate = conv2d::forward(&self.expand, hidden);
        multiply(x, hard_sigmoid(gate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn torchvision_values_and_gradients() {
        let config = SqueezeExcitationConfig::new(12, 5);
        let layer = golden::filled(config.init(&Device::flex().autodiff()));
        let x = golden::differentiable_input([2, 12, 9, 5]);
        let y = layer.forward(x.clone());
        golden::check("squeeze_excitation", y.clone());
        let gradients = golden::loss(y).backward();
        golden::check_gradient("squeeze_excitation_x", x.grad(&gradients).unwrap());
        let squeeze = layer.squeeze.weight.val().grad(&gradients).unwrap();
        golden::check_gradient("squeeze_excitation_squeeze", squeeze);
    }
}
