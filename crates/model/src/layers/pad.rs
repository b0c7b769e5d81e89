//! Padding of maps to whole strides.

use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;

/// Repeats the edge cells at the south and east until height and width are multiples of `multiple`, so that every map of an
/// encoder of that stride covers the input exactly.
///
/// # Shapes
/// `[batch, channels, height, width]` → `[batch, channels, ⌈height / multiple⌉ · multiple, ⌈width / multiple⌉ · multiple]`
pub fn pad_to_multiple(x: Tensor<4>, multiple: usize) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    match [height, width].map(|n| n.next_multiple_of(multiple) - n) {
        [0, 0] => x,
        [south, east] => x.pad((0, east, 0, south), PadMode::Edge),
    }
}
