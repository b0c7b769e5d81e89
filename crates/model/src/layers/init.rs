//! Initial values of weights: the rules of the published models, biases always zero.
//!
//! burn's own layers draw the bias from the weight's distribution; none of the networks here does that.

use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::Device;

/// N(0, 0.02²), as ConvNeXt and Swin Transformer.
///
/// The published code calls PyTorch's `trunc_normal_(std=0.02)`, whose bounds are the absolute values ±2, a hundred
/// standard deviations: it cuts nothing off.
pub(crate) fn normal_002() -> Initializer {
    Initializer::Normal {
        mean: 0.0,
        std: 0.02,
    }
}

/// He et al. 2015 over the fan-out, as torchvision's ResNets: N(0, 2 / (k² · channels out)).
pub(crate) fn he_fan_out() -> Initializer {
    Initializer::KaimingNormal {
        gain: std::f64::consts::SQRT_2,
        fan_out_only: true,
    }
}

/// He et al. 2015 over the fan-in: N(0, 2 / (k² · channels in)).
pub(crate) fn he_fan_in() -> Initializer {
    Initializer::KaimingNormal {
        gain: std::f64::consts::SQRT_2,
        fan_out_only: false,
    }
}

/// N(0, 1 / fan-in): a linear layer keeps the variance (LeCun et al. 1998, "Efficient backprop", section 4.6).
pub(crate) fn lecun() -> Initializer {
    Initializer::KaimingNormal {
        gain: 1.0,
        fan_out_only: false,
    }
}

/// A convolution whose weight follows the configuration's rule and whose bias, if it has one, starts at zero.
pub(crate) fn conv2d(config: Conv2dConfig, device: &Device) -> Conv2d {
    let bias = config
        .bias
        .then(|| Initializer::Zeros.init([config.channels[1]], device));
    let mut conv = config.with_bias(false).init(device);
    conv.bias = bias;
    conv
}

/// A transposed convolution whose weight follows the configuration's rule and whose bias, if it has one, starts at zero.
pub(crate) fn conv_transpose2d(config: ConvTranspose2dConfig, device: &Device) -> ConvTranspose2d {
    let bias = config
        .bias
        .then(|| Initializer::Zeros.init([config.channels[1]], device));
    let mut conv = config.with_bias(false).init(device);
    conv.bias = bias;
    conv
}

/// A linear layer whose weight follows the configuration's rule and whose bias starts at zero.
pub(crate) fn linear(config: LinearConfig, device: &Device) -> Linear {
    let bias = config
        .bias
        .then(|| Initializer::Zeros.init([config.d_output], device));
    let mut linear = config.with_bias(false).init(device);
    linear.bias = bias;
    linear
}
