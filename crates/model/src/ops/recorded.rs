//! burn's layers and arithmetic, recorded for the summary. Networks call these, so that nothing between two layers is left out of it.

use burn::nn::Linear;
use burn::nn::conv::ConvTranspose2d;
use burn::nn::pool::{AdaptiveAvgPool2d, MaxPool2d};
use burn::tensor::ops::ConvTransposeOptions;
use burn::tensor::{Tensor, activation, module};

use super::linear;
use super::precision::{in_f32, product};
use crate::summary::trace::{Kind, layer, unary};

/// `linear.forward(x)`, in the precision of the scope.
pub fn linear<const D: usize>(linear: &Linear, x: Tensor<D>) -> Tensor<D> {
    let kind = || {
        let [features_in, _] = linear.weight.lazy_shape().dims();
        Kind {
            per_output: features_in,
            ..Kind::plain("Dense").of(linear)
        }
    };
    let bias = linear.bias.as_ref().map(|bias| bias.val());
    unary(kind, x, |x| {
        product(x, linear.weight.val(), bias, linear::linear)
    })
}

/// `conv.forward(x)`, in the precision of the scope.
pub fn conv_transpose2d(conv: &ConvTranspose2d, x: Tensor<4>) -> Tensor<4> {
    let kind = || {
        let [_, channels_out, height, width] = conv.weight.lazy_shape().dims();
        Kind {
            per_input: channels_out * height * width,
            ..Kind::plain("Conv2DTranspose").of(conv)
        }
    };
    let ConvTranspose2d {
        stride,
        padding,
        padding_out,
        dilation,
        groups,
        ..
    } = *conv;
    let options = ConvTransposeOptions::new(stride, padding, padding_out, dilation, groups);
    let bias = conv.bias.as_ref().map(|bias| bias.val());
    unary(kind, x, |x| {
        product(x, conv.weight.val(), bias, |x, weight, bias| {
            module::conv_transpose2d(x, weight, bias, options)
        })
    })
}

/// `pool.forward(x)`
pub fn adaptive_avg_pool2d(pool: &AdaptiveAvgPool2d, x: Tensor<4>) -> Tensor<4> {
    let kind = || Kind::plain("AdaptiveAveragePooling2D");
    unary(kind, x, |x| in_f32(x, |x| pool.forward(x)))
}

/// `pool.forward(x)`
pub fn max_pool2d(pool: &MaxPool2d, x: Tensor<4>) -> Tensor<4> {
    unary(|| Kind::plain("MaxPooling2D"), x, |x| pool.forward(x))
}

/// `max(x, 0)`
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    unary(|| Kind::plain("ReLU"), x, activation::relu)
}

/// `clamp(x / 6 + 1/2, 0, 1)`
pub fn hard_sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let kind = || Kind::plain("HardSigmoid");
    unary(kind, x, |x| activation::hard_sigmoid(x, 1.0 / 6.0, 0.5))
}

/// `x · hard_sigmoid(x)`
pub fn hard_swish<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    unary(|| Kind::plain("HardSwish"), x, activation::hard_swish)
}

/// `1 / (1 + exp(−x))`
pub fn sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    unary(
        || Kind::plain("Sigmoid"),
        x,
        |x| in_f32(x, activation::sigmoid),
    )
}

/// `ln(1 + exp(x))`
pub fn softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    unary(
        || Kind::plain("Softplus"),
        x,
        |x| activation::softplus(x, 1.0),
    )
}

/// `a + b`
pub fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    pair("Add", a, b, |a, b| a + b)
}

/// `a · b`, value by value.
pub fn multiply<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    pair("Multiply", a, b, |a, b| a * b)
}

/// The maps' channels one behind another.
pub fn concat(maps: Vec<Tensor<4>>) -> Tensor<4> {
    layer(
        || Kind::plain("Concatenate"),
        maps,
        |maps| Tensor::cat(maps, 1),
    )
}

fn pair<const D: usize>(
    name: &'static str,
    a: Tensor<D>,
    b: Tensor<D>,
    run: impl FnOnce(Tensor<D>, Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    layer(
        || Kind::plain(name),
        vec![a, b],
        |mut inputs| {
            let b = inputs.remove(1);
            run(inputs.remove(0), b)
        },
    )
}
