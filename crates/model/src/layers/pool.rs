//! Pooling over the whole map, and to a map of a given size.

use burn::tensor::Tensor;

use crate::ops::precision::in_f32;
use crate::summary::trace::{Kind, unary};

/// Mean over height and width.
///
/// # Shapes
/// `[batch, channels, height, width]` → `[batch, channels, 1, 1]`
pub fn global_mean(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    unary(
        || Kind::plain("GlobalAveragePooling2D"),
        x,
        |x| {
            let cells = x.reshape([batch, channels, height * width]);
            in_f32(cells, |cells| cells.mean_dim(2)).unsqueeze_dim(3)
        },
    )
}

/// Maximum over height and width.
///
/// # Shapes
/// `[batch, channels, height, width]` → `[batch, channels, 1, 1]`
pub fn global_max(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    unary(
        || Kind::plain("GlobalMaxPooling2D"),
        x,
        |x| {
            x.reshape([batch, channels, height * width])
                .max_dim(2)
                .unsqueeze_dim(3)
        },
    )
}

/// Maximum over each of `size` = [rows, columns] parts of a map: part i of n begins at cell `floor(i · cells / n)` and ends before
/// `ceil((i + 1) · cells / n)`, so that neighbours share a cell where they do not divide evenly. As PyTorch's `AdaptiveMaxPool2d`.
///
/// # Shapes
/// `[batch, channels, height, width]` → `[batch, channels, rows, columns]`
pub fn adaptive_max(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    (0..2).fold(x, |x, axis| {
        let (cells, parts) = (x.dims()[2 + axis], size[axis]);
        let part = |i: usize| {
            let (start, end) = (i * cells / parts, ((i + 1) * cells).div_ceil(parts));
            x.clone()
                .narrow(2 + axis, start, end - start)
                .max_dim(2 + axis)
        };
        Tensor::cat((0..parts).map(part).collect(), 2 + axis)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn adaptive_max_has_pytorch_values_and_gradient() {
        for [rows, columns] in [[1, 1], [2, 3], [6, 4], [9, 5], [11, 7]] {
            let x = golden::differentiable_input([2, 3, 9, 5]);
            let y = adaptive_max(x.clone(), [rows, columns]);
            golden::check(&format!("adaptive_max_{rows}x{columns}"), y.clone());
            let gradient = x.grad(&golden::loss(y).backward()).unwrap();
            golden::check_gradient(&format!("adaptive_max_{rows}x{columns}_x"), gradient);
        }
    }

    #[test]
    fn global_pools_have_pytorch_gradients() {
        for (name, pool) in [
            ("global_mean", global_mean as fn(Tensor<4>) -> Tensor<4>),
            ("global_max", global_max),
        ] {
            let x = golden::differentiable_input([2, 3, 9, 5]);
            let y = pool(x.clone());
            golden::check(name, y.clone());
            let gradient = x.grad(&golden::loss(y).backward()).unwrap();
            golden::check_gradient(&format!("{name}_x"), gradient);
        }
    }
}
