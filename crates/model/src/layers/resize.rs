//! Resizing of maps: bilinear and nearest.

use burn::tensor::{Tensor, TensorData};

/// Bilinear resize to `size` = [height, width] with half-pixel centres, as PyTorch's
/// `interpolate(mode="bilinear", align_corners=False)` and TensorFlow 2's `resize`.
///
/// Interpolation is linear and separable, so it is two products with fixed matrices. burn's own `interpolate` has no
/// gradient on its GPU backends in 0.22.
///
/// # Shapes
/// `[batch, channels, h, w]` → `[batch, channels, height, width]`
pub fn resize_bilinear(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let [batch, channels, h, w] = x.dims();
    let [height, width] = size;
    let device = x.device();
    let mut x = x;
    if w != width {
        let along_width = interpolation_matrix(w, width);
        let along_width = Tensor::<2>::from_data(along_width, &device).transpose();
        x = x
            .reshape([batch * channels * h, w])
            .matmul(along_width)
            .reshape([batch, channels, h, width]);
    }
    if h != height {
        let along_height = interpolation_matrix(h, height);
        let along_height = Tensor::<2>::from_data(along_height, &device);
        x = along_height.unsqueeze::<4>().matmul(x);
    }
    x
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
    x.reshape([batch, channels, h, 1, w, 1])
        .expand([batch, channels, h, factor, w, factor])
        .reshape([batch, channels, h * factor, w * factor])
}

/// The `[to, from]` matrix whose rows hold the two weights of each target cell.
///
/// Target centre i lies at source coordinate (i + ½) · from / to − ½, held inside the source.
fn interpolation_matrix(from: usize, to: usize) -> TensorData {
    let mut matrix = vec![0f32; to * from];
    let scale = from as f64 / to as f64;
    for (i, row) in matrix.chunks_mut(from).enumerate() {
        let position = ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
        let low = position.floor() as usize;
        let high = (low + 1).min(from - 1);
        let fraction = (position - low as f64) as f32;
        row[low] += 1.0 - fraction;
        row[high] += fraction;
    }
    TensorData::new(matrix, [to, from])
}
