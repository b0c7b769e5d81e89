//! Operations that burn has, made faster where burn is slow: on the CPU (flex). Each takes and gives what burn's does, and is burn's on
//! other devices. [`precision`] lets all of them compute in bf16.

pub mod batch_norm;
pub mod bilinear;
pub mod checkpoint;
pub mod conv2d;
#[cfg(feature = "flex")]
mod convolution;
#[cfg(feature = "flex")]
mod direct_conv;
#[cfg(feature = "flex")]
mod flex;
pub mod gelu;
pub mod layer_norm;
mod linear;
#[cfg(feature = "flex")]
mod matrix;
#[cfg(feature = "flex")]
mod matrix_conv;
#[cfg(feature = "flex")]
mod parallel;
pub mod precision;
pub mod recorded;
#[cfg(feature = "flex")]
mod simd;
#[cfg(feature = "flex")]
mod tap_conv;
#[cfg(feature = "flex")]
mod winograd;
