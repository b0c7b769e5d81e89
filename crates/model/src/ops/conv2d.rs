//! 2-D convolution: our own on the CPU and, where every group is one channel, on GPUs; burn's elsewhere.
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
#[cfg(feature = "cube")]
use super::{cube, depthwise};
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
    #[cfg(feature = "cube")]
    {
        let [channels_out, group_in, ..] = weight.dims();
        let depthwise = group_in == 1 && channels_out == options.groups;
        if depthwise && cube::is_float(&x) && cube::is_float(&weight) {
            return depthwise::conv2d(x, weight, bias, &options);
        }
    }
    module::conv2d(x, weight, bias, options)
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
            let (x_node, weight_node) = (parent(), parent());
            // Side by side, so that one fills the threads while they wait for the last of the other.
            let (dx, dw) = rayon::join(
                || {
                    x_node.map(|node| {
                        let dx = if options.stride == [1, 1] || options.groups == 1 {
                            let dx = convolution::input_gradient(slice(&dy), slice(&weight), &g);
                            tensor(dx, x.shape().to_vec())
                        } else {
                            Flex::conv2d_x_backward(x.clone(), weight.clone(), dy.clone(), options)
                        };
                        (node, dx)
                    })
                },
                || {
                    weight_node.map(|node| {
                        let dw = convolution::weight_gradient(slice(&x), slice(&dy), &g);
                        (node, tensor(dw, weight.shape().to_vec()))
                    })
                },
            );
            for (node, gradient) in dx.into_iter().chain(dw) {
                grads.register::<Flex>(node, gradient);
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
    #[cfg(feature = "cube")]
    use burn::tensor::DType;
    use burn::tensor::{Device, Distribution, TensorData};

    use super::*;
    use crate::golden;

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

    /// A depthwise convolution: channels, kernel, stride, padding [(top, bottom), (left, right)], dilation, bias; and the map's batch, rows
    /// and columns.
    struct Case {
        channels: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [(usize, usize); 2],
        dilation: [usize; 2],
        bias: bool,
        map: [usize; 3],
    }

    /// Output, and gradients by input, weight and bias of the sum of the output times `dy`, by the definition.
    fn definition(case: &Case, x: &[f64], w: &[f64], b: &[f64], dy: &[f64]) -> [Vec<f64>; 4] {
        let ([batch, rows, columns], channels) = (case.map, case.channels);
        let size = [rows, columns];
        let output = [0, 1].map(|i| {
            let padded = size[i] + case.padding[i].0 + case.padding[i].1;
            (padded - case.dilation[i] * (case.kernel[i] - 1) - 1) / case.stride[i] + 1
        });
        let mut y = vec![0.0; batch * channels * output[0] * output[1]];
        let (mut dx, mut dw, mut db) =
            (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; channels]);
        for plane in 0..batch * channels {
            let channel = plane % channels;
            for row in 0..output[0] {
                for column in 0..output[1] {
                    let out = (plane * output[0] + row) * output[1] + column;
                    y[out] += b[channel];
                    db[channel] += dy[out];
                    for i in 0..case.kernel[0] {
                        for j in 0..case.kernel[1] {
                            let r = row * case.stride[0] + i * case.dilation[0];
                            let c = column * case.stride[1] + j * case.dilation[1];
                            let (Some(r), Some(c)) = (
                                r.checked_sub(case.padding[0].0),
                                c.checked_sub(case.padding[1].0),
                            ) else {
                                continue;
                            };
                            if r >= rows || c >= columns {
                                continue;
                            }
                            let from = (plane * rows + r) * columns + c;
                            let tap = (channel * case.kernel[0] + i) * case.kernel[1] + j;
                            y[out] += x[from] * w[tap];
                            dx[from] += dy[out] * w[tap];
                            dw[tap] += dy[out] * x[from];
                        }
                    }
                }
            }
        }
        [y, dx, dw, db]
    }

    /// Compares [`conv2d`] on `device` with the definition.
    fn check_depthwise(device: &Device, seed: u64, case: &Case) {
        let device = device.clone().autodiff();
        let values = |what: u64, n: usize| -> Vec<f32> {
            let sequence = golden::sequence(10 * seed + what, n);
            sequence.map(|value| value as f32).collect()
        };
        let double =
            |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
        let [batch, rows, columns] = case.map;
        let shape = [batch, case.channels, rows, columns];
        let filter = [case.channels, 1, case.kernel[0], case.kernel[1]];
        let x = values(0, shape.iter().product());
        let w = values(1, filter.iter().product());
        let b = values(2, case.channels);
        let b_used = if case.bias {
            double(&b)
        } else {
            vec![0.0; case.channels]
        };
        let on = |values: &[f32], shape: [usize; 4]| {
            let data = TensorData::new(values.to_vec(), shape);
            Tensor::<4>::from_data(data, &device).require_grad()
        };
        let (x_on, w_on) = (on(&x, shape), on(&w, filter));
        let data = TensorData::new(b, [case.channels]);
        let b_on = Tensor::<1>::from_data(data, &device).require_grad();
        let options =
            ConvOptions::new_with_padding(case.stride, case.padding, case.dilation, case.channels);
        let bias = case.bias.then(|| b_on.clone());
        let y = conv2d(x_on.clone(), w_on.clone(), bias, options);
        let dy = values(3, y.shape().num_elements());
        let factors = TensorData::new(dy.clone(), y.dims());
        let factors = Tensor::<4>::from_data(factors, &device);
        let gradients = (y.clone() * factors).sum().backward();
        let expected = definition(case, &double(&x), &double(&w), &b_used, &double(&dy));
        let vec = |t: Tensor<4>| t.into_data().try_to_vec::<f32>().unwrap();
        let mut found = vec![
            vec(y),
            vec(x_on.grad(&gradients).unwrap()),
            vec(w_on.grad(&gradients).unwrap()),
        ];
        if case.bias {
            let db = b_on.grad(&gradients).unwrap();
            found.push(db.into_data().try_to_vec::<f32>().unwrap());
        }
        let names = ["output", "by the input", "by the weight", "by the bias"];
        for ((name, found), expected) in names.iter().zip(found).zip(expected) {
            assert_eq!(found.len(), expected.len(), "{name}");
            let scale = expected.iter().fold(1.0f64, |scale, x| scale.max(x.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(
                    error < 4e-6 * scale,
                    "{name}: {found}, {expected}; filter {filter:?}, map {shape:?}, stride {:?}, padding {:?}, dilation {:?}",
                    case.stride,
                    case.padding,
                    case.dilation,
                );
            }
        }
    }

    /// Every size of filter at every stride, the rest drawn.
    fn depthwise_as_defined(device: &Device) {
        let mut draws = golden::sequence(77, 1000);
        let mut draw = |from: usize, to: usize| {
            let unit = draws.next().expect("enough") / 2.0 + 0.5;
            (from + (unit * (to - from + 1) as f64) as usize).min(to)
        };
        let mut seed = 0;
        for kernel in [3, 5, 7] {
            for stride in [1, 2] {
                for bias in [false, true] {
                    let dilation = [draw(1, 3), draw(1, 2)];
                    let reach = dilation.map(|dilation| dilation * (kernel - 1));
                    // As much as keeps the size, less, or more on one side.
                    let mut side =
                        |i: usize| (draw(0, 1) * draw(0, 3) + reach[i] / 2, reach[i] / 2);
                    let padding = [side(0), side(1)];
                    let case = Case {
                        channels: [1, 3, 5, 8, 12, 40][draw(0, 5)],
                        kernel: [kernel; 2],
                        stride: [stride; 2],
                        padding,
                        dilation,
                        bias,
                        map: [draw(2, 3), draw(5, 14), draw(6, 37)],
                    };
                    check_depthwise(device, seed, &case);
                    seed += 1;
                }
            }
        }
        // No padding, oblong filters and strides, one of them longer than the filter; a filter wider than the map.
        let case = Case {
            channels: 6,
            kernel: [2, 3],
            stride: [3, 1],
            padding: [(0, 0), (0, 0)],
            dilation: [1, 1],
            bias: true,
            map: [2, 11, 9],
        };
        check_depthwise(device, seed, &case);
        let case = Case {
            stride: [1, 4],
            padding: [(2, 1), (0, 5)],
            ..case
        };
        check_depthwise(device, seed + 1, &case);
        let case = Case {
            kernel: [7, 7],
            stride: [1, 1],
            padding: [(3, 3), (3, 3)],
            map: [2, 2, 3],
            ..case
        };
        check_depthwise(device, seed + 2, &case);
        let case = Case {
            channels: 70,
            kernel: [11, 9],
            map: [1, 12, 21],
            ..case
        };
        check_depthwise(device, seed + 3, &case);
    }

    #[test]
    fn depthwise_convolution_as_defined() {
        depthwise_as_defined(&Device::flex());
    }

    #[test]
    #[cfg(feature = "cube")]
    #[ignore = "needs a GPU; run scripts/gpu-tests.sh"]
    fn depthwise_convolution_as_defined_on_gpu() {
        depthwise_as_defined(&cube::test_device());
    }

    /// Sums in f32 whatever the maps' type; the weights' gradient in the weights' type.
    #[test]
    #[cfg(feature = "cube")]
    #[ignore = "needs a GPU; run scripts/gpu-tests.sh"]
    fn depthwise_convolution_of_half_precision_maps_on_gpu() {
        let device = cube::test_device();
        for (dtype, relative) in [(DType::F16, 1.0 / 1024.0), (DType::BF16, 1.0 / 128.0)] {
            if !device.supports_dtype(dtype) {
                continue;
            }
            let device = device.clone().autodiff();
            let random = |shape| Tensor::<4>::random(shape, Distribution::Default, &device);
            // Rounded, so that both compute with the same numbers.
            let x = random([2, 6, 9, 20]).cast(dtype).detach();
            let weight = random([6, 1, 7, 7]).require_grad();
            let bias = Tensor::<1>::ones([6], &device).require_grad();
            let run = |x: Tensor<4>| {
                let options = ConvOptions::new([1, 1], [3, 3], [1, 1], 6);
                let y = conv2d(x.clone(), weight.clone(), Some(bias.clone()), options);
                let y_dtype = y.dtype();
                let y = y.cast(DType::F32);
                let gradients = (y.clone() * y.clone().detach()).sum().backward();
                let dw = weight.grad(&gradients).unwrap();
                (
                    y_dtype,
                    [y.inner(), x.grad(&gradients).unwrap().cast(DType::F32), dw],
                )
            };
            let (narrow, ours) = run(x.clone().require_grad());
            let (_, wide) = run(x.cast(DType::F32).detach().require_grad());
            assert_eq!(narrow, dtype);
            assert_eq!(ours[2].dtype(), DType::F32);
            for (ours, wide) in ours.into_iter().zip(wide) {
                let scale = wide.clone().abs().max().into_scalar::<f32>();
                let error = (ours - wide).abs().max().into_scalar::<f32>();
                assert!(error <= relative * scale, "{error} of {scale}");
            }
        }
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
