//! Layer normalisation over the last axis.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::ops;
use crate::summary::trace::{Kind, unary};

/// Configuration of [`LayerNorm`].
#[derive(Config, Debug)]
pub struct LayerNormConfig {
    /// Channels.
    pub channels: usize,
    /// ε
    #[config(default = 1e-5)]
    pub epsilon: f64,
}

/// γ (x − mean) / √(variance + ε) + β of each row of channels (Ba et al. 2016, arXiv 1607.06450). Its weights are those of burn's layer.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// γ `[channels]`
    pub gamma: Param<Tensor<1>>,
    /// β `[channels]`
    pub beta: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNormConfig {
    /// A layer with γ = 1, β = 0 on `device`.
    pub fn init(&self, device: &Device) -> LayerNorm {
        LayerNorm {
            gamma: Initializer::Ones.init([self.channels], device),
            beta: Initializer::Zeros.init([self.channels], device),
            epsilon: self.epsilon,
        }
    }
}

impl LayerNorm {
    /// # Shapes
    /// `[.., channels]` → the same
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let kind = || Kind::plain("LayerNormalization").of(self);
        let (gamma, beta) = (self.gamma.val(), self.beta.val());
        unary(kind, x, |x| {
            ops::layer_norm::layer_norm(x, gamma, beta, self.epsilon)
        })
    }
}
