//! Operations that burn has, made faster where burn is slow.

pub mod conv2d;
#[cfg(feature = "flex")]
mod direct_conv;
#[cfg(feature = "flex")]
mod simd;
