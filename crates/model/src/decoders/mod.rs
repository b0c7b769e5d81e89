//! Decoders: from feature maps to a map of the input's size.

pub mod deeplab_v3_plus;
pub mod full_resolution;
