//! Operations that burn has, made faster or exact where burn's are not: on the CPU (flex) and, some, on GPUs (CubeCL). Each takes and
//! gives what burn's does, and is burn's elsewhere. [`precision`] lets all of them compute in bf16,
//! [`checkpoint`] keeps less for the backward pass.
//!
//! One is made so: an extension trait with the operation and its gradients as methods, implemented for the backends; one implementation for
//! autodiff, which calls the gradients of whatever backend is below it; and an entry function that chooses it where it applies.

pub mod batch_norm;
pub mod bilinear;
pub mod checkpoint;
pub mod conv2d;
#[cfg(feature = "flex")]
mod convolution;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "cube")]
mod depthwise;
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

#[cfg(all(test, feature = "cube"))]
pub(crate) use cube::test_device;
