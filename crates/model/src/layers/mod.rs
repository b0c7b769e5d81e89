//! Layers, one a file.

pub mod aspp;
pub mod cbam;
pub mod conv3x3;
pub mod conv_norm_act;
pub mod depthwise_conv;
pub mod drop_path;
pub mod dropout2d;
pub mod grn;
pub(crate) mod init;
pub mod layer_norm;
pub mod layer_norm2d;
pub mod layer_scale;
pub mod pad;
pub mod pool;
pub mod resize;
pub mod separable_conv;
pub mod squeeze_excitation;
pub mod window_attention;
