//! U-Net (Ronneberger et al. 2015, "U-Net: convolutional networks for biomedical image segmentation", arXiv 1505.04597), in the
//! form of segmentation_models_pytorch: on any encoder, with nearest-cell enlargement and batch normalisation.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::layers::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use crate::layers::resize::repeat_nearest;
use crate::ops::recorded::concat;
use crate::summary::trace::scope;

/// Configuration of [`UNet`].
#[derive(Config, Debug)]
pub struct UNetConfig {
    /// Channels of the encoder's maps, finest first. Each has half the stride of the next.
    pub channels_in: Vec<usize>,
    /// Stride of the encoder's last map, in input cells.
    pub stride: usize,
    /// Channels of the coarsest step; each finer one has half as many (published: 256, 128, 64, 32, 16).
    #[config(default = 256)]
    pub channels: usize,
}

/// From the encoder's last map to full resolution in steps of two, each fused with the encoder's map of that resolution.
///
/// A convolutional network whose stem goes to stride 4 at once (ConvNeXt) has no map at stride 2: that step is without, as is
/// the last.
#[derive(Module, Debug)]
pub struct UNet {
    /// The steps, coarsest first.
    pub steps: Vec<UNetStep>,
}

/// One step: enlargement by 2, concatenation, two 3×3 convolutions.
#[derive(Module, Debug)]
pub struct UNetStep {
    /// 3×3 convolution of both maps.
    pub first: ConvNormAct,
    /// 3×3 convolution.
    pub second: ConvNormAct,
}

impl UNetConfig {
    /// Channels of each step's map, coarsest first.
    pub fn step_channels(&self) -> Vec<usize> {
        let steps = 0..self.stride.ilog2();
        steps.map(|i| (self.channels >> i).max(1)).collect()
    }

    /// A decoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> UNet {
        let mut skips = self.channels_in.iter().rev().copied();
        let mut channels_in = skips.next().unwrap_or(0);
        let steps = self.step_channels().into_iter().map(|channels| {
            let fused = channels_in + skips.next().unwrap_or(0);
            channels_in = channels;
            UNetStep {
                first: ConvNormActConfig::new([fused, channels], 3).init(device),
                second: ConvNormActConfig::new([channels; 2], 3).init(device),
            }
        });
        UNet {
            steps: steps.collect(),
        }
    }
}

impl UNet {
    /// # Shapes
    /// The encoder's maps, finest first, each twice the size of the next → `[batch, last of the step channels, stride · h, stride · w]`
    pub fn forward(&self, mut maps: Vec<Tensor<4>>) -> Tensor<4> {
        let mut x = maps.pop().expect("the encoder has maps");
        for step in &self.steps {
            let _scope = scope(step);
            x = repeat_nearest(x, 2);
            if let Some(skip) = maps.pop() {
                x = concat(vec![x, skip]);
            }
            x = step.second.forward(step.first.forward(x));
        }
        x
    }
}
