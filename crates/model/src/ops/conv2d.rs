//! 2-D convolution: our own on the CPU, burn's on other devices.
//!
//! burn-flex 0.22.1 builds an im2col matrix and, for the gradient by the weights, convolves with the whole map as the kernel; for the
//! small channel counts of full-resolution layers both cost several times the arithmetic. Weights and results are those of burn's
//! [`Conv2d`].

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, module};

#[cfg(feature = "flex")]
use super::flex;
use super::precision::product;
use crate::summary::trace::{Kind, unary};

/// `conv.forward(x)`.
///
/// # Shapes
/// `[batch, channels in, height, width]` → `[batch, channels out, height', width']`
pub fn forward(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let bias = conv.bias.as_ref().map(|bias| bias.val());
    with_bias(conv, bias, x)
}

/// `conv.forward(x)` with another bias in place of its own.
///
/// # Shapes
/// As [`forward`]; bias: `[channels out]`
pub fn with_bias(conv: &Conv2d, bias: Option<Tensor<1>>, x: Tensor<4>) -> Tensor<4> {
    let padding = match conv.padding {
        PaddingConfig2d::Valid => [(0, 0), (0, 0)],
        PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)],
        PaddingConfig2d::Same => {
            let padding = |i: usize| {
                let input = x.dims()[2 + i];
                // That of burn and TensorFlow: output = ceil(input / stride), one more after than before where it is odd.
                let reach = input.div_ceil(conv.stride[i]).saturating_sub(1) * conv.stride[i];
                let total = (reach + conv.kernel_size[i]).saturating_sub(input);
                (total / 2, total - total / 2)
            };
            [padding(0), padding(1)]
        }
    };
    let options = ConvOptions::new_with_padding(conv.stride, padding, conv.dilation, conv.groups);
    let kind = || {
        let [_, channels_in, height, width] = conv.weight.lazy_shape().dims();
        let name = match conv.groups {
            1 => "Conv2D",
            _ => "DepthwiseConv2D",
        };
        Kind {
            per_output: channels_in * height * width,
            ..Kind::plain(name).of(conv)
        }
    };
    unary(kind, x, |x| {
        product(x, conv.weight.val(), bias, |x, weight, bias| {
            conv2d(x, weight, bias, options)
        })
    })
}

/// As burn's function of that name.
///
/// # Shapes
/// * x: `[batch, channels in, height, width]`
/// * weight: `[channels out, channels in / groups, kernel height, kernel width]`
/// * bias: `[channels out]`
/// * output: `[batch, channels out, height', width']`
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if flex::is_f32(&x) && flex::is_f32(&weight) && bias.as_ref().is_none_or(flex::is_f32) {
        return on_flex::conv2d(x, weight, bias, options);
    }
    match bias {
        // burn's fast depthwise kernels for GPUs refuse a bias.
        Some(bias) if options.groups > 1 => {
            module::conv2d(x, weight, None, options) + bias.reshape([1, -1, 1, 1])
        }
        bias => module::conv2d(x, weight, bias, options),
    }
}

#[cfg(feature = "flex")]
mod on_flex {
    use burn::backend::autodiff::NodeId;
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::ops::ModuleOps;
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
    use burn::tensor::Tensor;
    use burn::tensor::ops::ConvOptions;

    use super::super::convolution::{self, Geometry};
    use super::super::flex::{contiguous, slice, tensor};

    pub(super) fn conv2d(
        x: Tensor<4>,
        weight: Tensor<4>,
        bias: Option<Tensor<1>>,
        options: ConvOptions<2>,
    ) -> Tensor<4> {
        let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
        Tensor::from_dispatch(match bias {
            Some(bias) => Dispatch::direct_conv2d_bias(x, weight, bias.into_dispatch(), options),
            None => Dispatch::direct_conv2d(x, weight, options),
        })
    }

    /// Convolution that runs on the flex backend only.
    #[backend_extension(Flex, Autodiff)]
    pub trait DirectConv2d: Backend {
        /// Without a bias.
        fn direct_conv2d(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            options: ConvOptions<2>,
        ) -> FloatTensor<Self>;

        /// With a bias.
        fn direct_conv2d_bias(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            options: ConvOptions<2>,
        ) -> FloatTensor<Self>;
    }

    impl DirectConv2d for Flex {
        fn direct_conv2d(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            options: ConvOptions<2>,
        ) -> FloatTensor<Self> {
            forward(x, weight, None, &options)
        }

        fn direct_conv2d_bias(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            options: ConvOptions<2>,
        ) -> FloatTensor<Self> {
            forward(x, weight, Some(bias), &options)
        }
    }

    impl<C: CheckpointStrategy> DirectConv2d for Autodiff<Flex, C> {
        fn direct_conv2d(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            options: ConvOptions<2>,
        ) -> FloatTensor<Self> {
            match Conv2dBackward
                .prepare::<C>([x.node(), weight.node()])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(mut prep) => {
                    let state = [prep.checkpoint(&x), prep.checkpoint(&weight)];
                    let y = forward(x.into_primitive(), weight.into_primitive(), None, &options);
                    prep.finish((state, options), y)
                }
                OpsKind::UnTracked(prep) => prep.finish(forward(
                    x.into_primitive(),
                    weight.into_primitive(),
                    None,
                    &options,
                )),
            }
        }

        fn direct_conv2d_bias(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            options: ConvOptions<2>,
        ) -> FloatTensor<Self> {
            match Conv2dBackward
                .prepare::<C>([x.node(), weight.node(), bias.node()])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(mut prep) => {
                    let state = [prep.checkpoint(&x), prep.checkpoint(&weight)];
                    let bias = Some(bias.into_primitive());
                    let y = forward(x.into_primitive(), weight.into_primitive(), bias, &options);
                    prep.finish((state, options), y)
                }
                OpsKind::UnTracked(prep) => prep.finish(forward(
                    x.into_primitive(),
                    weight.into_primitive(),
                    Some(bias.into_primitive()),
                    &options,
                )),
            }
        }
    }

    #[derive(Debug)]
    struct Conv2dBackward;

    /// N = 2: input, weight; N = 3: and bias.
    impl<const N: usize> Backward<Flex, N> for Conv2dBackward {
        type State = ([NodeId; 2], ConvOptions<2>);

        fn backward(
            self,
            ops: Ops<Self::State, N>,
            grads: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let dy = contiguous(grads.consume::<Flex>(&ops.node));
            let ([x, weight], options) = ops.state;
            let x: FloatTensor<Flex> = contiguous(checkpointer.retrieve_node_output(x));
            let weight: FloatTensor<Flex> = contiguous(checkpointer.retrieve_node_output(weight));
            let g = geometry(&x, &weight, &options);
            let mut parents = ops.parents.into_iter().map(|node| node.map(|node| node.id));
            let mut parent = || parents.next().flatten();
            if let Some(node) = parent() {
                let dx = if options.stride == [1, 1] || options.groups == 1 {
                    let dx = convolution::input_gradient(slice(&dy), slice(&weight), &g);
                    tensor(dx, x.shape().to_vec())
                } else {
                    Flex::conv2d_x_backward(x.clone(), weight.clone(), dy.clone(), options)
                };
                grads.register::<Flex>(node, dx);
            }
            if let Some(node) = parent() {
                let dw = convolution::weight_gradient(slice(&x), slice(&dy), &g);
                grads.register::<Flex>(node, tensor(dw, weight.shape().to_vec()));
            }
            if let Some(node) = parent() {
                let db = convolution::bias_gradient(slice(&dy), &g);
                grads.register::<Flex>(node, tensor(db, vec![g.channels_out]));
            }
        }
    }

    fn forward(
        x: FloatTensor<Flex>,
        weight: FloatTensor<Flex>,
        bias: Option<FloatTensor<Flex>>,
        options: &ConvOptions<2>,
    ) -> FloatTensor<Flex> {
        let (x, weight, bias) = (contiguous(x), contiguous(weight), bias.map(contiguous));
        let g = geometry(&x, &weight, options);
        let y = convolution::forward(
            slice(&x),
            slice(&weight),
            bias.as_ref().map_or(&[], slice),
            &g,
        );
        let shape = vec![g.batch, g.channels_out, g.output[0], g.output[1]];
        tensor(y, shape)
    }

    fn geometry(
        x: &FloatTensor<Flex>,
        weight: &FloatTensor<Flex>,
        options: &ConvOptions<2>,
    ) -> Geometry {
        let [batch, channels_in, height, width] = x.shape().dims();
        let [channels_out, _, kernel_height, kernel_width] = weight.shape().dims();
        let (input, kernel) = ([height, width], [kernel_height, kernel_width]);
        let output = [0, 1].map(|i| {
            let (before, after) = options.padding[i];
            let reach = options.dilation[i] * (kernel[i] - 1) + 1;
            let padded = before + input[i] + after;
            assert!(padded >= reach, "a kernel larger than the padded map");
            (padded - reach) / options.stride[i] + 1
        });
        Geometry {
            batch,
            channels_in,
            channels_out,
            input,
            output,
            kernel,
            stride: options.stride,
            pad: options.padding.map(|(before, _)| before as isize),
            dilation: options.dilation,
            groups: options.groups,
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::Module;
    use burn::nn::conv::Conv2dConfig;
    use burn::tensor::{Device, Distribution};

    use super::*;

    /// Output, and gradients by the input and the parameters, of burn's convolution and of ours.
    fn compare(config: Conv2dConfig, shape: [usize; 4]) {
        let device = Device::flex().autodiff();
        device.seed(3);
        let conv = config.init(&device);
        let x = Tensor::<4>::random(shape, Distribution::Default, &device).require_grad();
        let run = |y: Tensor<4>| {
            // A different weight for each output pixel, so that every one has its own gradient.
            let n = y.shape().num_elements();
            let factors = Tensor::arange(0..n as i64, &device).float().sin();
            let gradients = (y.clone() * factors.reshape(y.dims())).sum().backward();
            let bias = conv.bias.as_ref().map(|bias| bias.val());
            (
                y,
                x.grad(&gradients).unwrap(),
                conv.weight.val().grad(&gradients).unwrap(),
                bias.map(|bias| bias.grad(&gradients).unwrap()),
            )
        };
        let ours = run(forward(&conv, x.clone()));
        let burns = run(conv.forward(x.clone()));
        let close = |what: &str, ours: Vec<f32>, burns: Vec<f32>| {
            assert_eq!(ours.len(), burns.len(), "{what}");
            let scale = burns.iter().fold(1.0f32, |scale, x| scale.max(x.abs()));
            for (ours, burns) in ours.iter().zip(&burns) {
                assert!(
                    (ours - burns).abs() < 4e-6 * scale,
                    "{what}: {ours}, {burns}"
                );
            }
        };
        let vec = |t: Tensor<4>| t.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(ours.0.dims(), burns.0.dims());
        close("output", vec(ours.0), vec(burns.0));
        close("input gradient", vec(ours.1), vec(burns.1));
        close("weight gradient", vec(ours.2), vec(burns.2));
        if let (Some(ours), Some(burns)) = (ours.3, burns.3) {
            let vec = |t: Tensor<1>| t.into_data().try_to_vec::<f32>().unwrap();
            close("bias gradient", vec(ours), vec(burns));
        }
    }

    #[test]
    fn as_burns_convolution() {
        let explicit = PaddingConfig2d::Explicit;
        let conv = |channels, kernel| Conv2dConfig::new(channels, kernel);
        compare(
            conv([3, 10], [3, 3]).with_padding(explicit(1, 1, 1, 1)),
            [2, 3, 7, 19],
        );
        compare(conv([5, 9], [1, 1]).with_bias(false), [3, 5, 6, 7]);
        compare(
            conv([6, 6], [7, 7])
                .with_groups(6)
                .with_padding(explicit(3, 3, 3, 3)),
            [2, 6, 11, 13],
        );
        compare(conv([4, 5], [4, 4]).with_stride([4, 4]), [2, 4, 12, 20]);
        compare(
            conv([4, 6], [3, 3])
                .with_stride([2, 2])
                .with_groups(2)
                .with_padding(explicit(1, 1, 1, 1)),
            [2, 4, 13, 10],
        );
        compare(
            conv([4, 3], [3, 3])
                .with_dilation([6, 6])
                .with_padding(explicit(6, 6, 6, 6)),
            [1, 4, 9, 16],
        );
        compare(
            conv([2, 3], [3, 2]).with_padding(explicit(2, 0, 1, 1)),
            [2, 2, 5, 8],
        );
        compare(
            conv([2, 3], [3, 3]).with_padding(PaddingConfig2d::Same),
            [1, 2, 5, 8],
        );
    }

    #[test]
    fn views_are_read_in_their_own_order() {
        let device = Device::flex();
        let whole = Tensor::<4>::random([3, 9, 6, 5], Distribution::Default, &device);
        let view = whole.narrow(0, 1, 2).permute([0, 2, 3, 1]);
        let conv = Conv2dConfig::new([6, 4], [3, 3]).init(&device);
        let ours = forward(&conv, view.clone()).into_data();
        let burns = conv.forward(view).into_data();
        ours.assert_approx_eq::<f32>(&burns, burn::tensor::Tolerance::absolute(2e-6));
    }

    #[test]
    fn only_what_is_tracked_has_a_gradient() {
        let device = Device::flex().autodiff();
        let conv = Conv2dConfig::new([2, 3], [3, 3]).init(&device);
        let x = Tensor::<4>::random([1, 2, 5, 6], Distribution::Default, &device);
        let gradients = forward(&conv, x.clone()).sum().backward();
        assert!(x.grad(&gradients).is_none());
        assert!(conv.weight.val().grad(&gradients).is_some());
        let frozen = conv.no_grad();
        let x = x.require_grad();
        let gradients = forward(&frozen, x.clone()).sum().backward();
        assert!(x.grad(&gradients).is_some());
        assert!(frozen.weight.val().grad(&gradients).is_none());
    }
}
