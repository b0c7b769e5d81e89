//! Convolution, batch normalisation, ReLU.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use super::init;
use crate::ops::recorded::relu;
use crate::ops::{batch_norm, conv2d};
use crate::summary::trace::scope;

/// Configuration of [`ConvNormAct`].
#[derive(Config, Debug)]
pub struct ConvNormActConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Side of the square kernel, in cells.
    pub kernel_size: usize,
    /// Stride in both directions.
    #[config(default = 1)]
    pub stride: usize,
    /// Spacing of the kernel's taps, in cells.
    #[config(default = 1)]
    pub dilation: usize,
    /// Groups of the convolution (its channels in = depthwise).
    #[config(default = 1)]
    pub groups: usize,
    /// Bias of the convolution; needless before a batch normalisation, but some published networks have it.
    #[config(default = false)]
    pub bias: bool,
    /// Whether a batch normalisation follows.
    #[config(default = true)]
    pub norm: bool,
    /// Whether a ReLU follows.
    #[config(default = true)]
    pub activation: bool,
    /// ε of the batch normalisation.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Weight of a batch's moments in the running ones.
    #[config(default = 0.1)]
    pub momentum: f64,
    /// Rule of the initial weights.
    #[config(
        default = "Initializer::KaimingNormal { gain: std::f64::consts::SQRT_2, fan_out_only: false }"
    )]
    pub initializer: Initializer,
}

/// `relu(batch_norm(conv(x)))`, padded by `dilation · (kernel_size / 2)` on each side, so that at stride 1 the size stays.
#[derive(Module, Debug)]
pub struct ConvNormAct {
    /// The convolution.
    pub conv: Conv2d,
    /// The batch normalisation, where there is one.
    pub norm: Option<BatchNorm>,
    /// Whether a ReLU follows.
    pub activation: bool,
}

impl ConvNormActConfig {
    /// A layer with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> ConvNormAct {
        let pad = self.dilation * (self.kernel_size / 2);
        let conv = Conv2dConfig::new(self.channels, [self.kernel_size; 2])
            .with_stride([self.stride; 2])
            .with_dilation([self.dilation; 2])
            .with_groups(self.groups)
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone());
        ConvNormAct {
            conv: init::conv2d(conv, device),
            norm: self.norm.then(|| {
                BatchNormConfig::new(self.channels[1])
                    .with_epsilon(self.epsilon)
                    .with_momentum(self.momentum)
                    .init(device)
            }),
            activation: self.activation,
        }
    }
}

impl ConvNormAct {
    /// # Shapes
    /// `[batch, channels in, height, width]` → `[batch, channels out, ceil(height / stride), ceil(width / stride)]`
    /// (odd kernels).
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let _scope = scope(self);
        let x = conv2d::forward(&self.conv, x);
        match &self.norm {
            Some(norm) => batch_norm::forward(norm, x, self.activation),
            None if self.activation => relu(x),
            None => x,
        }
    }
}
