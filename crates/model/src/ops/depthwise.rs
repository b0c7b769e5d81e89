//! Depthwise convolution on GPUs: one filter for each channel, its gradients, and a bias.
//!
//! burn 0.22.1 has one fast forward kernel, without a bias, and no gradients of its own: the one by the weights copies the maps and
//! convolves them group by group. The kernels are in `cube/depthwise.rs`; on the CPU, depthwise convolution is a case of the convolution of
//! ours.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Shape, Tensor};

/// Sizes of a depthwise convolution. Pairs are [rows, columns].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size of the input map.
    pub input: [usize; 2],
    /// Size of the output map.
    pub output: [usize; 2],
    /// Size of the filters.
    pub kernel: [usize; 2],
    /// Spacing of the places where they are applied.
    pub stride: [usize; 2],
    /// Padding before the first row and column.
    pub pad: [usize; 2],
    /// Spacing of the filters' taps.
    pub dilation: [usize; 2],
}

impl Geometry {
    fn new(x: &Tensor<4>, weight: &Tensor<4>, options: &ConvOptions<2>) -> Self {
        let ([_, _, height, width], [_, _, rows, columns]) = (x.dims(), weight.dims());
        let (input, kernel) = ([height, width], [rows, columns]);
        let output = [0, 1].map(|i| {
            let (before, after) = options.padding[i];
            let reach = options.dilation[i] * (kernel[i] - 1) + 1;
            let padded = before + input[i] + after;
            assert!(padded >= reach, "a kernel larger than the padded map");
            (padded - reach) / options.stride[i] + 1
        });
        Self {
            input,
            output,
            kernel,
            stride: options.stride,
            pad: options.padding.map(|(before, _)| before),
            dilation: options.dilation,
        }
    }
}

/// [`conv2d`](super::conv2d::conv2d) where every group is one channel.
///
/// # Shapes
/// * x: `[batch, channels, height, width]`
/// * weight: `[channels, 1, kernel height, kernel width]`
/// * bias: `[channels]`, of the weight's type
/// * output: `[batch, channels, height', width']`, of the input's type
pub(super) fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: &ConvOptions<2>,
) -> Tensor<4> {
    let geometry = Geometry::new(&x, &weight, options);
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::depthwise_bias(x, weight, bias.into_dispatch(), geometry),
        None => Dispatch::depthwise(x, weight, geometry),
    })
}

/// Depthwise convolution on the backends that have one of ours. Maps are `[batch, channels, height, width]`, filters
/// `[channels, 1, height, width]`, biases `[channels]`.
#[backend_extension(Cube, Autodiff, Fusion)]
pub trait Depthwise: Backend {
    /// Without a bias.
    #[fusion(dtype = x, shape = with_map(x, geometry.output))]
    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// With a bias.
    #[fusion(dtype = x, shape = with_map(x, geometry.output))]
    fn depthwise_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// The gradient by the input, given the one by the output.
    #[fusion(dtype = dy, shape = with_map(dy, geometry.input))]
    fn depthwise_input_gradient(
        dy: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// The gradients by weight and bias, of type `dtype`, given the one by the output.
    #[fusion(meta = parameters)]
    fn depthwise_parameter_gradients(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        geometry: Geometry,
        dtype: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// A shape of maps with another size.
pub(super) fn with_map(maps: &Shape, [height, width]: [usize; 2]) -> Shape {
    Shape::new([maps[0], maps[1], height, width])
}

fn parameters(
    x: &TensorSpec,
    _: &TensorSpec,
    geometry: &Geometry,
    dtype: &DType,
) -> (TensorSpec, TensorSpec) {
    let (channels, [rows, columns]) = (x.shape[1], geometry.kernel);
    (
        TensorSpec::new(Shape::new([channels, 1, rows, columns]), *dtype),
        TensorSpec::new(Shape::new([channels]), *dtype),
    )
}

impl<B: Backend + Depthwise, C: CheckpointStrategy> Depthwise for Autodiff<B, C> {
    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let run = B::depthwise;
        match DepthwiseBackward
            .prepare::<C>([x.node(), weight.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let nodes = [prep.checkpoint(&x), prep.checkpoint(&weight)];
                let y = run(x.into_primitive(), weight.into_primitive(), geometry);
                prep.finish((nodes, geometry), y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(run(x.into_primitive(), weight.into_primitive(), geometry))
            }
        }
    }

    fn depthwise_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let prep = DepthwiseBackward
            .prepare::<C>([x.node(), weight.node(), bias.node()])
            .compute_bound()
            .stateful();
        match prep {
            OpsKind::Tracked(mut prep) => {
                let nodes = [prep.checkpoint(&x), prep.checkpoint(&weight)];
                let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
                prep.finish(
                    (nodes, geometry),
                    B::depthwise_bias(x, weight, bias, geometry),
                )
            }
            OpsKind::UnTracked(prep) => {
                let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
                prep.finish(B::depthwise_bias(x, weight, bias, geometry))
            }
        }
    }

    fn depthwise_input_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Geometry,
    ) -> FloatTensor<Self> {
        panic!("the gradients of a depthwise convolution cannot be differentiated");
    }

    fn depthwise_parameter_gradients(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Geometry,
        _: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("the gradients of a depthwise convolution cannot be differentiated");
    }
}

#[derive(Debug)]
struct DepthwiseBackward;

/// N = 2: input, weight; N = 3: and bias.
impl<B: Backend + Depthwise, const N: usize> Backward<B, N> for DepthwiseBackward {
    type State = ([NodeId; 2], Geometry);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let ([x, weight], geometry) = ops.state;
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
        let dtype = weight.dtype();
        let mut parents = ops.parents.into_iter().map(|node| node.map(|node| node.id));
        let mut parent = || parents.next().flatten();
        if let Some(node) = parent() {
            let dx = B::depthwise_input_gradient(dy.clone(), weight, geometry);
            grads.register::<B>(node, dx);
        }
        let [weight, bias] = [parent(), parent()];
        if weight.is_some() || bias.is_some() {
            let (dw, db) = B::depthwise_parameter_gradients(x, dy, geometry, dtype);
            for (node, gradient) in [(weight, dw), (bias, db)] {
                if let Some(node) = node {
                    grads.register::<B>(node, gradient);
                }
            }
        }
    }
}
