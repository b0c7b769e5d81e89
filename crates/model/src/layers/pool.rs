//! Pooling over the whole map.

use burn::tensor::Tensor;

/// Mean over height and width.
///
/// # Shapes
/// `[batch, channels, height, width]` → `[batch, channels, 1, 1]`
pub fn global_mean(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width])
        .mean_dim(2)
        .unsqueeze_dim(3)
}

/// Maximum over height and width.
///
/// # Shapes
/// `[batch, channels, height, width]` → `[batch, channels, 1, 1]`
pub fn global_max(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width])
        .max_dim(2)
        .unsqueeze_dim(3)
}
