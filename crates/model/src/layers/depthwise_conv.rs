//! Depthwise convolution with its bias kept apart.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use super::init;
use crate::ops::conv2d;
use crate::summary::trace::{Kind, unary};

/// Configuration of [`DepthwiseConv2d`].
#[derive(Config, Debug)]
pub struct DepthwiseConv2dConfig {
    /// Channels.
    pub channels: usize,
    /// Side of the square kernel, in cells; odd.
    pub kernel_size: usize,
    /// Spacing of the kernel's taps, in cells.
    #[config(default = 1)]
    pub dilation: usize,
}

/// One k×k filter and one bias for each channel, at stride 1, padded to keep the size.
#[derive(Module, Debug)]
pub struct DepthwiseConv2d {
    /// The filters, `[channels, 1, k, k]`, without a bias.
    pub conv: Conv2d,
    /// `[channels]`
    pub bias: Param<Tensor<1>>,
}

impl DepthwiseConv2dConfig {
    /// A layer with ConvNeXt's initial weights on `device`.
    pub fn init(&self, device: &Device) -> DepthwiseConv2d {
        let pad = self.dilation * (self.kernel_size / 2);
        DepthwiseConv2d {
            conv: Conv2dConfig::new([self.channels; 2], [self.kernel_size; 2])
                .with_dilation([self.dilation; 2])
                .with_groups(self.channels)
                .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
                .with_bias(false)
                .with_initializer(init::normal_002())
                .init(device),
            bias: Initializer::Zeros.init([self.channels], device),
        }
    }
}

impl DepthwiseConv2d {
    /// # Shapes
    /// `[batch, channels, height, width]` → the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let kind = || Kind {
            per_output: self.conv.kernel_size.iter().product(),
            ..Kind::plain("DepthwiseConv2D").of(self)
        };
        unary(kind, x, |x| {
            conv2d::with_bias(&self.conv, Some(self.bias.val()), x)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn pytorch_values_and_gradients() {
        let config = DepthwiseConv2dConfig::new(6, 7).with_dilation(2);
        let layer = golden::filled(config.init(&Device::flex().autodiff()));
        let x = golden::differentiable_input([2, 6, 9, 7]);
        let y = layer.forward(x.clone());
        golden::check("depthwise_conv", y.clone());
        let gradients = golden::loss(y).backward();
        golden::check_gradient("depthwise_conv_x", x.grad(&gradients).unwrap());
        let weight = layer.conv.weight.val().grad(&gradients).unwrap();
        golden::check_gradient("depthwise_conv_weight", weight);
        let bias = layer.bias.val().grad(&gradients).unwrap();
        golden::check_gradient("depthwise_conv_bias", bias);
    }

    /// Layers in a row, whose memory is in different orders: burn's fusion has had wrong results around such.
    #[derive(Module, Debug)]
    #[cfg(feature = "cube")]
    struct Chain {
        depthwise: DepthwiseConv2d,
        norm: crate::layers::layer_norm2d::LayerNorm2d,
        linear: burn::nn::Linear,
    }

    #[test]
    #[cfg(feature = "cube")]
    #[ignore = "needs a GPU; run scripts/gpu-tests.sh"]
    fn a_chain_of_layers_is_that_of_the_cpu_on_gpu() {
        use crate::layers::layer_norm2d::LayerNorm2dConfig;
        let run = |device: Device| {
            let device = device.autodiff();
            let chain = golden::filled(Chain {
                depthwise: DepthwiseConv2dConfig::new(6, 7).init(&device),
                norm: LayerNorm2dConfig::new(6).init(&device),
                linear: burn::nn::LinearConfig::new(6, 3).init(&device),
            });
            let x = golden::input([2, 6, 5, 9]).into_data();
            let x = Tensor::<4>::from_data(x, &device).require_grad();
            let y = chain.norm.forward(chain.depthwise.forward(x.clone()));
            let y = chain.linear.forward(y.permute([0, 2, 3, 1]));
            let y = crate::ops::gelu::gelu(y).permute([0, 3, 1, 2]);
            let gradients = golden::loss(y.clone()).backward();
            let gradient = |t: Tensor<4>| t.grad(&gradients).unwrap().into_data();
            let of_bias = |t: Tensor<1>| t.grad(&gradients).unwrap().into_data();
            vec![
                y.into_data(),
                gradient(x),
                gradient(chain.depthwise.conv.weight.val()),
                of_bias(chain.depthwise.bias.val()),
                of_bias(chain.norm.norm.gamma.val()),
                chain
                    .linear
                    .weight
                    .val()
                    .grad(&gradients)
                    .unwrap()
                    .into_data(),
            ]
        };
        let cpu = run(Device::flex());
        let gpu = run(crate::ops::test_device());
        for (gpu, cpu) in gpu.iter().zip(&cpu) {
            gpu.assert_approx_eq::<f32>(cpu, burn::tensor::Tolerance::rel_abs(1e-4, 1e-4));
        }
    }
}
