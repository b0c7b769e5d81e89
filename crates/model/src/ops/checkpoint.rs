//! Gradient checkpointing (Chen et al. 2016, "Training deep nets with sublinear memory cost", arXiv 1604.06174): of a block only the input
//! is kept, and the backward pass runs it forward again.
//!
//! burn's own strategy (`Device::gradient_checkpointing`) repeats single operations that are cheap; convolutions keep their inputs there,
//! which are most of the memory. Here `block` is an operation whose backward pass repeats the block on leaves of a graph of its own, and
//! hands the gradients of the leaves to the block's input and parameters. Outputs and gradients are the same to the last bit, as long as
//! the block draws no random numbers and changes nothing but the running statistics of batch normalisations, which `runs_again` tells.

// Without a backend every block is kept whole.
#![cfg_attr(not(any(feature = "flex", feature = "cube")), allow(dead_code))]

use std::cell::Cell;
use std::collections::HashMap;

#[cfg(feature = "cube")]
use burn::backend::Cube;
#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients as NodeGradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, AutodiffBackend, Backend, DispatchKindConversion, DispatchTensor};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Gradients, Tensor};

use super::precision::{self, Precision};

thread_local! {
    static ENABLED: Cell<bool> = const { Cell::new(false) };
    static RUNS_AGAIN: Cell<bool> = const { Cell::new(false) };
}

/// `run()`, whose networks keep of every block only its input for the backward pass if `enabled`.
pub fn with<T>(enabled: bool, run: impl FnOnce() -> T) -> T {
    set_within(&ENABLED, enabled, run)
}

/// Whether a block runs again for the backward pass: it has changed then what it changes.
pub(crate) fn runs_again() -> bool {
    RUNS_AGAIN.get()
}

fn set_within<T>(
    flag: &'static std::thread::LocalKey<Cell<bool>>,
    value: bool,
    run: impl FnOnce() -> T,
) -> T {
    struct Restore(&'static std::thread::LocalKey<Cell<bool>>, bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(flag, flag.replace(value));
    run()
}

/// `forward(module, x)`, kept as its input and run again for the backward pass within [`with`].
///
/// `forward` computes with nothing but the module's parameters and `x`, and draws no random numbers.
///
/// # Shapes
/// those of `forward`
pub(crate) fn block<M: Module + 'static>(
    module: &M,
    x: Tensor<4>,
    forward: fn(&M, Tensor<4>) -> Tensor<4>,
) -> Tensor<4> {
    // Nothing is kept for a constant input; and a block within a block is run again with it.
    if !ENABLED.get() || !x.is_tracked() {
        return forward(module, x);
    }
    #[cfg(feature = "flex")]
    if let Some(y) = record::<M, Flex>(module, &x, forward) {
        return y;
    }
    #[cfg(feature = "cube")]
    if let Some(y) = record::<M, Cube>(module, &x, forward) {
        return y;
    }
    forward(module, x)
}

/// None where `x` does not lie on `B`.
fn record<M, B>(
    module: &M,
    x: &Tensor<4>,
    forward: fn(&M, Tensor<4>) -> Tensor<4>,
) -> Option<Tensor<4>>
where
    M: Module + 'static,
    B: Backend,
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
{
    let input = x.clone().try_into_primitive::<Autodiff<B>>().ok()?;
    let mut parameters = Parameters::<B>::default();
    module.visit(&mut parameters);
    let constants = module.clone().map(&mut Constants);
    let y = with(false, || {
        forward(&constants, Tensor::from_inner(x.clone().inner()))
    });
    let y = y.inner().try_into_primitive::<B>().ok()?;
    let prepared = RunAgain::<M>::default()
        .prepare::<NoCheckpointing>([input.node()])
        .compute_bound()
        .stateful();
    let y = match prepared {
        OpsKind::Tracked(mut prepared) => {
            let block = Block {
                input: prepared.checkpoint(&input),
                parameters: parameters.nodes,
                constants,
                precision: precision::current(),
                forward,
            };
            prepared.finish(block, y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    };
    Some(Tensor::from_primitive::<Autodiff<B>>(y))
}

/// What the backward pass needs of a block.
#[derive(Clone, Debug)]
struct Block<M> {
    input: NodeId,
    /// Where the gradients of the parameters go.
    parameters: HashMap<ParamId, NodeId>,
    /// The module with parameters that have no gradients.
    constants: M,
    precision: Precision,
    forward: fn(&M, Tensor<4>) -> Tensor<4>,
}

/// The operation.
#[derive(Debug)]
struct RunAgain<M>(std::marker::PhantomData<fn() -> M>);

impl<M> Default for RunAgain<M> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<M, B> Backward<B, 1> for RunAgain<M>
where
    M: Module + 'static,
    B: Backend,
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
{
    type State = Block<M>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut NodeGradients,
        checkpointer: &mut Checkpointer,
    ) {
        let leaf =
            |tensor| Tensor::<4>::from_primitive::<Autodiff<B>>(Autodiff::<B>::from_inner(tensor));
        let dy = leaf(grads.consume::<B>(&ops.node));
        let block = ops.state;
        let x = leaf(checkpointer.retrieve_node_output(block.input)).require_grad();
        let module = block.constants.map(&mut Leaves(&block.parameters));
        let y = set_within(&RUNS_AGAIN, true, || {
            precision::with(block.precision, || {
                with(false, || (block.forward)(&module, x.clone()))
            })
        });
        // The gradient of this sum by y is dy, to the bit.
        let mut inner = (y * dy).sum().backward();
        let [parent] = ops.parents;
        if let (Some(parent), Some(dx)) = (parent, x.grad_remove(&mut inner)) {
            grads.register::<B>(parent.id, primitive::<B, 4>(dx));
        }
        module.visit(&mut HandOver::<B> {
            parameters: &block.parameters,
            inner,
            grads,
            backend: std::marker::PhantomData,
        });
    }
}

fn primitive<B, const D: usize>(gradient: Tensor<D>) -> B::FloatTensorPrimitive
where
    B: Backend,
    DispatchTensor: DispatchKindConversion<B>,
{
    let gradient = gradient.try_into_primitive::<B>();
    gradient.unwrap_or_else(|error| panic!("a gradient lies elsewhere than its tensor: {error:?}"))
}

/// The nodes of a module's parameters in the graph.
struct Parameters<B> {
    nodes: HashMap<ParamId, NodeId>,
    backend: std::marker::PhantomData<B>,
}

impl<B> Default for Parameters<B> {
    fn default() -> Self {
        Self {
            nodes: HashMap::new(),
            backend: std::marker::PhantomData,
        }
    }
}

impl<B> ModuleVisitor for Parameters<B>
where
    B: Backend,
    DispatchTensor: DispatchKindConversion<Autodiff<B>>,
{
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Ok(tensor) = param.val().try_into_primitive::<Autodiff<B>>()
            && param.is_require_grad()
        {
            self.nodes.insert(param.id, tensor.id());
        }
    }
}

/// Takes the gradients off the parameters.
struct Constants;

impl ModuleMapper for Constants {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // Running statistics have none, and are shared by all that hold them.
        match param.is_require_grad() {
            true => param.map(|tensor| Tensor::from_inner(tensor.inner())),
            false => param,
        }
    }
}

/// Makes the parameters leaves of a graph.
struct Leaves<'a>(&'a HashMap<ParamId, NodeId>);

impl ModuleMapper for Leaves<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.contains_key(&param.id) {
            true => param.map(|tensor| Tensor::from_inner(tensor.inner()).require_grad()),
            false => param,
        }
    }
}

/// Hands the leaves' gradients to the parameters.
struct HandOver<'a, B> {
    parameters: &'a HashMap<ParamId, NodeId>,
    inner: Gradients,
    grads: &'a mut NodeGradients,
    backend: std::marker::PhantomData<B>,
}

impl<B> ModuleVisitor for HandOver<'_, B>
where
    B: Backend,
    DispatchTensor: DispatchKindConversion<B>,
{
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let node = self.parameters.get(&param.id);
        if let (Some(node), Some(gradient)) = (node, param.val().grad_remove(&mut self.inner)) {
            self.grads.register::<B>(*node, primitive::<B, D>(gradient));
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::encoders::convnext::{self, ConvNeXtVersion};
    use crate::encoders::resnet::{ResNet, ResNetConfig};
    use crate::{Segmenter, SegmenterConfig, golden};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, FloatDType};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// What a pass forward and backward gives.
    struct Passed {
        output: Vec<f32>,
        /// Of the input, and of the parameters in order.
        gradients: Vec<Vec<f32>>,
        /// Running means and variances in order.
        running: Vec<Vec<f32>>,
    }

    fn vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().convert::<f32>().try_to_vec().unwrap()
    }

    fn pass<M: Module>(
        enabled: bool,
        precision: Precision,
        shape: [usize; 4],
        init: impl Fn(&Device) -> M,
        forward: impl Fn(&M, Tensor<4>) -> Tensor<4>,
    ) -> Passed {
        struct Collect<'a>(GradientsParams, &'a mut Passed);
        impl ModuleVisitor for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                match self.0.get::<D>(param.id) {
                    Some(gradient) => self.1.gradients.push(vec(gradient)),
                    None => self.1.running.push(vec(param.val())),
                }
            }
        }
        let module = golden::filled(init(&Device::flex().autodiff()));
        let x = golden::differentiable_input(shape);
        let output = with(enabled, || {
            precision::with(precision, || forward(&module, x.clone()))
        });
        let mut gradients = golden::loss(output.clone()).backward();
        let dx = x.grad_remove(&mut gradients).unwrap();
        let mut passed = Passed {
            output: vec(output),
            gradients: vec![vec(dx)],
            running: Vec::new(),
        };
        // Going to inference, running statistics take their last update.
        drop(module.valid());
        let gradients = GradientsParams::from_grads(gradients, &module);
        module.visit(&mut Collect(gradients, &mut passed));
        passed
    }

    #[test]
    fn a_block_gives_the_same_bits() {
        let config = |device: &Device| {
            convnext::BlockConfig::new(6)
                .with_version(ConvNeXtVersion::V2)
                .with_cbam_reduction(Some(2))
                .init(device)
        };
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let forward = |module: &convnext::Block, x: Tensor<4>| {
            let x = match precision::current() {
                Precision::F32 => x,
                Precision::Bf16 => x.cast(FloatDType::BF16),
            };
            let y = block(module, x, |module, x| {
                RUNS.fetch_add(1, Ordering::Relaxed);
                module.forward(x)
            });
            y.cast(FloatDType::F32)
        };
        let shape = [3, 6, 9, 11];
        for precision in [Precision::F32, Precision::Bf16] {
            RUNS.store(0, Ordering::Relaxed);
            let again = pass(true, precision, shape, config, forward);
            assert_eq!(RUNS.load(Ordering::Relaxed), 2);
            let kept = pass(false, precision, shape, config, forward);
            assert_eq!(RUNS.load(Ordering::Relaxed), 3);
            assert!(again.output == kept.output);
            assert!(again.gradients.len() > 8);
            assert!(again.gradients == kept.gradients);
        }
    }

    #[test]
    fn batch_norms_learn_once() {
        let encoder = |device: &Device| ResNetConfig::resnet50(3).truncated(2).init(device);
        let forward = |encoder: &ResNet, x| encoder.forward(x).remove(2);
        let shape = [2, 3, 37, 29];
        let [again, kept] =
            [true, false].map(|on| pass(on, Precision::F32, shape, encoder, forward));
        assert!(again.output == kept.output);
        assert!(again.gradients == kept.gradients);
        assert!(again.running.len() > 40);
        assert!(again.running == kept.running);
    }

    #[test]
    fn whole_networks_give_the_same() {
        for encoder in ["swin_t", "mobilenet_v3_small", "convnext_atto", "resnet18"] {
            let config =
                SegmenterConfig::from_name(&format!("deeplabv3plus_keras-{encoder}")).unwrap();
            let config = SegmenterConfig {
                input_channels: 3,
                decoder_channels: Some(8),
                drop_path: Some(0.0),
                ..config
            };
            let init = |device: &Device| config.init(device).unwrap();
            let forward = |model: &Segmenter, x| model.forward(x);
            let shape = [2, 3, 64, 96];
            let [again, kept] =
                [true, false].map(|on| pass(on, Precision::F32, shape, init, forward));
            assert!(again.output == kept.output, "{encoder}");
            assert!(again.running == kept.running, "{encoder}");
            let largest = |values: &[f32]| values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let mut worst = 0.0f32;
            for (again, kept) in again.gradients.iter().zip(&kept.gradients) {
                let difference: Vec<f32> = again.iter().zip(kept).map(|(a, b)| a - b).collect();
                worst = worst.max(largest(&difference) / largest(kept).max(1e-6));
            }
            println!("{encoder}: gradients differ by {worst:e} of the largest");
            // The gradients of a map that three layers take are added in another order.
            assert!(worst < 1e-4, "{encoder}: {worst:e}");
        }
    }
}
