//! Global response normalisation.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::ops::precision::widened;
use crate::summary::trace::{Kind, unary};

/// Configuration of [`Grn`].
#[derive(Config, Debug)]
pub struct GrnConfig {
    /// Channels.
    pub channels: usize,
    /// ε beside the mean response.
    #[config(default = 1e-6)]
    pub epsilon: f64,
}

/// Global response normalisation (Woo et al. 2023, "ConvNeXt V2", arXiv 2301.00808, section 3.3): channels compete for the strength of
/// their response over a whole map.
///
/// `g_c = ‖x_c‖₂` over the map's cells, `n_c = g_c / (mean over channels of g + ε)`, `y = γ (x n) + β + x`
#[derive(Module, Debug)]
pub struct Grn {
    /// γ, `[channels]`
    pub gamma: Param<Tensor<1>>,
    /// β, `[channels]`
    pub beta: Param<Tensor<1>>,
    /// ε
    pub epsilon: f64,
}

impl GrnConfig {
    /// A layer with γ = β = 0, the identity, on `device`.
    pub fn init(&self, device: &Device) -> Grn {
        let zeros = || Initializer::Zeros.init([self.channels], device);
        Grn {
            gamma: zeros(),
            beta: zeros(),
            epsilon: self.epsilon,
        }
    }
}

/// Added to the square of a response: its root has a gradient where the response is 0, as on a map without rain, and no other changes.
const LEAST_SQUARE: f64 = 1e-30;

impl Grn {
    /// # Shapes
    /// Cells in rows, channels last: `[batch, height · width, channels]` → the same
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let kind = || Kind::plain("GlobalResponseNormalization").of(self);
        unary(kind, x, |x| self.normalise(x))
    }

    fn normalise(&self, x: Tensor<3>) -> Tensor<3> {
        let dtype = x.dtype();
        let square = widened(x.clone()).powi_scalar(2).sum_dim(1) + LEAST_SQUARE;
        let response = square.sqrt();
        let normalised = response.clone() / (response.mean_dim(2) + self.epsilon);
        // x (1 + γ n) + β: one factor for a channel of a map, not for a cell.
        let factor = normalised * self.gamma.val().unsqueeze() + 1.0;
        x * factor.cast(dtype) + self.beta.val().cast(dtype).unsqueeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn timm_values_and_gradients() {
        let layer = golden::filled(GrnConfig::new(6).init(&Device::flex().autodiff()));
        let x = golden::differentiable_input([2, 3, 5, 6]);
        let cells = x.clone().reshape([2, 15, 6]);
        let y = layer.forward(cells).reshape([2, 3, 5, 6]);
        golden::check("grn", y.clone());
        let gradients = golden::loss(y).backward();
        golden::check_gradient("grn_x", x.grad(&gradients).unwrap());
        golden::check_gradient("grn_gamma", layer.gamma.val().grad(&gradients).unwrap());
    }

    #[test]
    fn a_map_of_zeros_has_finite_gradients() {
        let layer = GrnConfig::new(2).init(&Device::flex().autodiff());
        let x = Tensor::<3>::zeros([1, 4, 2], &Device::flex().autodiff()).require_grad();
        let gradients = layer.forward(x.clone()).sum().backward();
        let gradient = x.grad(&gradients).unwrap().into_data();
        assert_eq!(gradient.try_to_vec::<f32>().unwrap(), [1.0; 8]);
    }
}
