//! Pointwise (1×1) convolution as a matrix product.

use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

/// Applies a 1×1 convolution of stride 1 and one group as `weight · cells` for each sample.
///
/// The same numbers as `conv.forward(x)`. burn derives the weight's gradient of a convolution by a convolution whose
/// kernel is the whole map, which for 1×1 kernels takes several times as long as the product of two matrices.
///
/// # Shapes
/// `[batch, channels in, height, width]` → `[batch, channels out, height, width]`
pub(crate) fn pointwise(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let [batch, channels_in, height, width] = x.dims();
    let [channels_out, ..] = conv.weight.dims();
    let weight = conv.weight.val().reshape([1, channels_out, channels_in]);
    let cells = x.reshape([batch, channels_in, height * width]);
    let y = weight.matmul(cells);
    let y = match &conv.bias {
        Some(bias) => y + bias.val().reshape([1, channels_out, 1]),
        None => y,
    };
    y.reshape([batch, channels_out, height, width])
}
