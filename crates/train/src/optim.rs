//! AdamW with parameter groups, and clipping by the global norm, which burn does per tensor only.
//!
//! On the CPU (flex) both take one pass over the numbers in all threads.

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};

use self::adamw::AdamW;
use crate::config::OptimConfig;
use crate::device::is_host;

mod adamw;
#[cfg(feature = "flex")]
mod on_flex;

/// AdamW (Loshchilov & Hutter 2019) that leaves norms, biases and other one-dimensional parameters undecayed, as the
/// training recipes of ConvNeXt and timm do.
pub fn adamw<M: Module>(config: &OptimConfig, model: &M) -> ModuleOptimizer {
    // By id: it survives saving, and a path's rank cannot be told from its name.
    ModuleOptimizer::from(AdamW::new(config, config.weight_decay)).with_group(
        ParamGroup::from_ids(one_dimensional(model)),
        AdamW::new(config, 0.0),
        None,
    )
}

/// Ids of the parameters with one dimension.
fn one_dimensional<M: Module>(model: &M) -> Vec<ParamId> {
    struct Collect(Vec<ParamId>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if D == 1 {
                self.0.push(param.id);
            }
        }
    }
    let mut collect = Collect(Vec::new());
    model.visit(&mut collect);
    collect.0
}

/// Scales all gradients so that their joint Euclidean norm is at most `max_norm` (Pascanu et al. 2013).
///
/// Returns the gradients and their norm before clipping, `[1]`, none where there are no gradients. A norm that is not finite is for
/// the caller to refuse. Nothing is read back from a GPU.
pub fn clip_global_norm<M: Module>(
    model: &M,
    grads: GradientsParams,
    max_norm: f64,
) -> (GradientsParams, Option<Tensor<1>>) {
    clip(model, grads, max_norm, is_host)
}

/// [`clip_global_norm`] that reads the norm where `reads` says so.
fn clip<M: Module>(
    model: &M,
    grads: GradientsParams,
    max_norm: f64,
    reads: fn(&Device) -> bool,
) -> (GradientsParams, Option<Tensor<1>>) {
    struct Norm<'a> {
        grads: &'a GradientsParams,
        sums: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Norm<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                self.sums.push(sum_of_squares(grad));
            }
        }
    }
    struct Scale {
        grads: GradientsParams,
        factor: Factor,
    }
    enum Factor {
        Known(f64),
        /// `[1]`
        OnDevice(Box<Tensor<1>>),
    }
    impl ModuleVisitor for Scale {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.remove::<D>(param.id) {
                let grad = match &self.factor {
                    Factor::Known(factor) => scaled(grad, *factor),
                    Factor::OnDevice(factor) => grad * factor.as_ref().clone().reshape([1; D]),
                };
                self.grads.register(param.id, grad);
            }
        }
    }
    let mut norm = Norm {
        grads: &grads,
        sums: Vec::new(),
    };
    model.visit(&mut norm);
    if norm.sums.is_empty() {
        return (grads, None);
    }
    let squares = Tensor::cat(norm.sums, 0).sum();
    let norm = squares.clone().sqrt();
    let factor = if reads(&squares.device()) {
        // No pass over gradients that are small enough.
        let total = f64::from(squares.into_scalar::<f32>()).sqrt();
        if !total.is_finite() || total <= max_norm {
            return (grads, Some(norm));
        }
        Factor::Known(max_norm / total)
    } else {
        let factor = (norm.clone().recip() * max_norm).clamp_max(1.0);
        Factor::OnDevice(Box::new(factor))
    };
    let mut scale = Scale { grads, factor };
    model.visit(&mut scale);
    (scale.grads, Some(norm))
}

/// `[1]`
fn sum_of_squares<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if on_flex::is_f32(&x) {
        return on_flex::sum_of_squares(x);
    }
    (x.clone() * x).sum()
}

fn scaled<const D: usize>(x: Tensor<D>, factor: f64) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if on_flex::is_f32(&x) {
        return on_flex::scaled(x, factor as f32);
    }
    x * factor
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::TensorData;

    fn grads_of(layer: &Linear, scale: f32, device: &Device) -> GradientsParams {
        let x = Tensor::<2>::from_data(
            TensorData::from([[1.0f32, 2.0, 3.0], [0.5, -1.0, 4.0]]),
            device,
        );
        GradientsParams::from_grads((layer.forward(x) * scale).sum().backward(), layer)
    }

    #[test]
    fn clipping_bounds_the_joint_norm_and_keeps_the_direction() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(3, 2).init(&device);
        // d/dw of the sum is the column sum of x for each output, d/db the batch size: norm by hand.
        let by_hand = (2.0f64 * (1.5f64.powi(2) + 1.0 + 49.0) + 2.0 * 4.0).sqrt();
        // Read at once, as on the CPU, and left on the device, as on a GPU.
        for reads in [(|_| true) as fn(&Device) -> bool, |_| false] {
            let clip = |grads, most| {
                let (grads, norm) = clip(&layer, grads, most, reads);
                (grads, f64::from(norm.unwrap().into_scalar::<f32>()))
            };
            let (grads, norm) = clip(grads_of(&layer, 1.0, &device), 1.0);
            assert!((norm - by_hand).abs() < 1e-5, "{norm} {by_hand}");
            let bias: Vec<f32> = grads
                .get::<1>(layer.bias.as_ref().unwrap().id)
                .unwrap()
                .into_data()
                .try_to_vec()
                .unwrap();
            assert!((f64::from(bias[0]) - 2.0 / by_hand).abs() < 1e-6);
            let (_, after) = clip(grads, f64::INFINITY);
            assert!((after - 1.0).abs() < 1e-6);
            let (grads, norm) = clip(grads_of(&layer, 0.01, &device), 1.0);
            let (_, same) = clip(grads, f64::INFINITY);
            assert_eq!(norm, same, "small gradients are left alone");
        }
    }

    #[test]
    fn biases_are_not_decayed() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(3, 2).init(&device);
        let config = OptimConfig {
            weight_decay: 0.5,
            ..OptimConfig::default()
        };
        let (weight, bias) = (layer.weight.val(), layer.bias.as_ref().unwrap().val());
        // A zero gradient leaves only the decay.
        let zero = grads_of(&layer, 0.0, &device);
        let stepped = adamw(&config, &layer).step(0.1, layer, zero);
        let ratio = (stepped.weight.val() / weight)
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert!(ratio.iter().all(|r| (r - 0.95).abs() < 1e-6), "{ratio:?}");
        let same = (stepped.bias.unwrap().val() - bias)
            .abs()
            .max()
            .into_scalar::<f32>();
        assert_eq!(same, 0.0);
    }
}
