//! Resizing of maps: bilinear and nearest.

use burn::tensor::Tensor;

use crate::ops::bilinear::bilinear;
use crate::summary::trace::{Kind, unary};

/// Bilinear resize to `size` = [height, width] with half-pixel centres, as PyTorch's
/// `interpolate(mode="bilinear", align_corners=False)` and TensorFlow 2's `resize`. Target centre i lies at source coordinate
/// (i + ½) · from / to − ½, held inside the source.
///
/// # Shapes
/// `[batch, channels, h, w]` → `[batch, channels, height, width]`
pub fn resize_bilinear(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    resize(x, size, false)
}

/// Bilinear resize to `size` = [height, width] with the centres of the corner cells in place, as PyTorch's
/// `interpolate(mode="bilinear", align_corners=True)`, which segmentation_models_pytorch uses. Target centre i lies at source
/// coordinate i · (from − 1) / (to − 1).
///
/// # Shapes
/// `[batch, channels, h, w]` → `[batch, channels, height, width]`
pub fn resize_bilinear_aligned(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    resize(x, size, true)
}

fn resize(x: Tensor<4>, size: [usize; 2], aligned: bool) -> Tensor<4> {
    if x.dims()[2..] == size {
        return x;
    }
    unary(
        || Kind::plain("Resizing"),
        x,
        |x| bilinear(x, size, aligned),
    )
}

/// Nearest-neighbour enlargement by a whole factor: each cell becomes `factor` × `factor` equal cells.
///
/// # Shapes
/// `[batch, channels, h, w]` → `[batch, channels, factor · h, factor · w]`
pub fn repeat_nearest(x: Tensor<4>, factor: usize) -> Tensor<4> {
    if factor == 1 {
        return x;
    }
    let [batch, channels, h, w] = x.dims();
    unary(
        || Kind::plain("UpSampling2D"),
        x,
        |x| {
            x.reshape([batch, channels, h, 1, w, 1])
                .expand([batch, channels, h, factor, w, factor])
                .reshape([batch, channels, h * factor, w * factor])
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use burn::tensor::Device;

    #[test]
    fn pytorch_values_and_gradients() {
        for size in [[10, 13], [5, 7], [3, 4], [20, 28]] {
            let name = format!("resize_{}x{}", size[0], size[1]);
            let x = golden::differentiable_input([2, 3, 5, 7]);
            let y = resize_bilinear(x.clone(), size);
            golden::check(&name, y.clone());
            let gradient = x.grad(&golden::loss(y).backward()).unwrap();
            golden::check_gradient(&format!("{name}_x"), gradient);
        }
        for size in [[10, 13], [5, 7], [3, 4], [1, 28]] {
            let y = resize_bilinear_aligned(golden::input([2, 3, 5, 7]), size);
            golden::check(&format!("resize_aligned_{}x{}", size[0], size[1]), y);
        }
        let y = resize_bilinear_aligned(golden::input([2, 3, 1, 1]), [4, 6]);
        golden::check("resize_aligned_4x6", y);
    }

    #[test]
    fn gradient_is_the_transposed_matrix() {
        // The sum of a gradient of ones is the number of target cells, as each row of the matrix sums to one.
        let device = Device::flex().autodiff();
        let x = Tensor::<4>::ones([1, 2, 3, 5], &device).require_grad();
        let gradients = resize_bilinear(x.clone(), [12, 10]).sum().backward();
        let gradient = x.grad(&gradients).unwrap();
        assert_eq!(gradient.dims(), [1, 2, 3, 5]);
        let sum = gradient.sum().into_scalar::<f32>();
        assert!((sum - 240.0).abs() < 1e-3, "{sum}");
    }

    #[test]
    fn nearest_repeats_cells() {
        let x = Tensor::<4>::from_data([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]], &Device::flex());
        let y: Vec<f32> = repeat_nearest(x, 2).into_data().try_to_vec().unwrap();
        let rows = [[1., 1., 2., 2., 3., 3.], [4., 4., 5., 5., 6., 6.]];
        assert_eq!(y, [rows[0], rows[0], rows[1], rows[1]].concat());
    }
}
