//! Refinement of a coarse map at full resolution.
//!
//! Flooded valleys are one or two cells wide. A decoder that ends at stride 4 blurs them away, so its map is brought back
//! over two steps, each fused with a map computed from the input at that resolution, as the skips of a U-Net
//! (Ronneberger et al. 2015).

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::layers::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use crate::layers::resize::resize_bilinear;
use crate::ops::recorded::concat;
use crate::summary::trace::scope;

/// Configuration of [`FullResolution`].
#[derive(Config, Debug)]
pub struct FullResolutionConfig {
    /// Channels of the input.
    pub input_channels: usize,
    /// Channels of the coarse map.
    pub coarse_channels: usize,
    /// Channels of the branch and the output.
    pub channels: usize,
}

/// A thin branch of the input at strides 1 and 2, fused with the coarse map on its way up.
#[derive(Module, Debug)]
pub struct FullResolution {
    /// 1×1 convolution of the input: mixes the channels cell by cell.
    pub point: ConvNormAct,
    /// 3×3 convolution at stride 1.
    pub full: ConvNormAct,
    /// 3×3 convolution from stride 1 to 2.
    pub half: ConvNormAct,
    /// 1×1 convolution that reduces the coarse map.
    pub coarse: ConvNormAct,
    /// 3×3 convolution of both at stride 2.
    pub fuse_half: ConvNormAct,
    /// 3×3 convolution of both at stride 1.
    pub fuse_full: ConvNormAct,
}

impl FullResolutionConfig {
    /// A branch with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> FullResolution {
        let width = self.channels;
        let conv = |channels_in, kernel_size, stride| {
            ConvNormActConfig::new([channels_in, width], kernel_size)
                .with_stride(stride)
                .init(device)
        };
        FullResolution {
            point: conv(self.input_channels, 1, 1),
            full: conv(width, 3, 1),
            half: conv(width, 3, 2),
            coarse: conv(self.coarse_channels, 1, 1),
            fuse_half: conv(2 * width, 3, 1),
            fuse_full: conv(2 * width, 3, 1),
        }
    }
}

impl FullResolution {
    /// # Shapes
    /// `input` `[batch, input channels, height, width]` and `coarse` `[batch, coarse channels, h, w]`
    /// → `[batch, channels, height, width]`
    pub fn forward(&self, input: Tensor<4>, coarse: Tensor<4>) -> Tensor<4> {
        let _scope = scope(self);
        let full = self.full.forward(self.point.forward(input));
        let half = self.half.forward(full.clone());
        let coarse = self.coarse.forward(coarse);
        let x = self.fuse_half.forward(beside(coarse, half));
        self.fuse_full.forward(beside(x, full))
    }
}

/// `coarse` at the size of `fine`, concatenated with it.
fn beside(coarse: Tensor<4>, fine: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = fine.dims();
    concat(vec![resize_bilinear(coarse, [height, width]), fine])
}
