//! PSPNet (Zhao et al. 2017, "Pyramid scene parsing network", arXiv 1612.01105), in the form of segmentation_models_pytorch:
//! on the encoder's map at stride 8, the stages behind it left out.

use burn::config::Config;
use burn::module::Module;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
use burn::tensor::{Device, Tensor};

use crate::layers::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use crate::layers::dropout2d::{Dropout2d, Dropout2dConfig};
use crate::layers::resize::resize_bilinear_aligned;
use crate::ops::recorded::{adaptive_avg_pool2d, concat};
use crate::summary::trace::scope;

/// Sides of the pooled maps.
const SIZES: [usize; 4] = [1, 2, 3, 6];

/// Configuration of [`PspNet`].
#[derive(Config, Debug)]
pub struct PspNetConfig {
    /// Channels of the encoder's last map.
    pub channels_in: usize,
    /// Channels of the output.
    #[config(default = 512)]
    pub channels: usize,
    /// Probability of the dropout of whole channels behind the pyramid.
    #[config(default = 0.2)]
    pub dropout: f64,
}

/// The map beside means of it over 1×1, 2×2, 3×3 and 6×6 parts, each reduced to a quarter of the channels and enlarged again,
/// mixed by a 1×1 convolution.
#[derive(Module, Debug)]
pub struct PspNet {
    /// Means over the parts.
    pub pools: Vec<AdaptiveAvgPool2d>,
    /// 1×1 convolutions of the pooled maps; that of the 1×1 map has a bias instead of a normalisation, which would see a single
    /// value.
    pub branches: Vec<ConvNormAct>,
    /// 1×1 convolution of all.
    pub project: ConvNormAct,
    /// Dropout of whole channels.
    pub dropout: Dropout2d,
}

impl PspNetConfig {
    /// A decoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> PspNet {
        let reduced = (self.channels_in / SIZES.len()).max(1);
        let branches = SIZES.map(|size| {
            ConvNormActConfig::new([self.channels_in, reduced], 1)
                .with_norm(size > 1)
                .with_bias(size == 1)
                .init(device)
        });
        let all = self.channels_in + SIZES.len() * reduced;
        PspNet {
            pools: SIZES
                .map(|size| AdaptiveAvgPool2dConfig::new([size; 2]).init())
                .into(),
            branches: branches.into(),
            project: ConvNormActConfig::new([all, self.channels], 1).init(device),
            dropout: Dropout2dConfig::new(self.dropout).init(),
        }
    }
}

impl PspNet {
    /// # Shapes
    /// The encoder's last map `[batch, channels in, h, w]` → `[batch, channels, h, w]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let _scope = scope(self);
        let [_, _, height, width] = x.dims();
        let branches = self.pools.iter().zip(&self.branches);
        let mut maps: Vec<_> = branches
            .map(|(pool, conv)| {
                let pooled = conv.forward(adaptive_avg_pool2d(pool, x.clone()));
                resize_bilinear_aligned(pooled, [height, width])
            })
            .collect();
        maps.push(x);
        self.dropout.forward(self.project.forward(concat(maps)))
    }
}
