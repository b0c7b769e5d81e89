//! The centre crop.

use ndarray::{ArrayView2, s};

use crate::error::{DataError, Result};

/// A rectangle of the depth grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Window {
    /// The `size` `[height, width]` in the middle of a `source` `[height, width]`, at offset ⌈(source − size) / 2⌉ as in the
    /// published pipeline; all of it for `None`.
    ///
    /// # Errors
    /// When `size` is larger than `source` or empty.
    pub fn centred(source: [usize; 2], size: Option<[usize; 2]>) -> Result<Self> {
        let size = size.unwrap_or(source);
        if size[0] > source[0] || size[1] > source[1] || size.contains(&0) {
            return Err(DataError::Config(format!(
                "cannot crop {size:?} (height, width) out of {source:?}"
            )));
        }
        let offset = |axis: usize| (source[axis] - size[axis]).div_ceil(2);
        Ok(Self {
            top: offset(0),
            left: offset(1),
            height: size[0],
            width: size[1],
        })
    }

    /// This window of `plane` `[h, w]`.
    pub fn of<'a, T>(&self, plane: &'a ArrayView2<T>) -> ArrayView2<'a, T> {
        plane.slice(s![
            self.top..self.top + self.height,
            self.left..self.left + self.width
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn the_offset_is_rounded_up() {
        let source = Array2::from_shape_fn((5, 4), |(y, x)| 10 * y + x);
        let window = Window::centred([5, 4], Some([2, 2])).unwrap();
        // ⌈3/2⌉ = 2 rows, ⌈2/2⌉ = 1 column.
        assert_eq!(window.of(&source.view()), array![[21, 22], [31, 32]]);
        // The published sizes: 348 × 210 to 128 × 128.
        let window = Window::centred([348, 210], Some([128, 128])).unwrap();
        assert_eq!((window.top, window.left), (110, 41));
        assert_eq!(
            Window::centred([5, 4], None).unwrap(),
            Window {
                top: 0,
                left: 0,
                height: 5,
                width: 4
            }
        );
    }

    #[test]
    fn too_large_crops_are_refused() {
        let message = Window::centred([5, 4], Some([4, 5]))
            .unwrap_err()
            .to_string();
        assert_eq!(message, "cannot crop [4, 5] (height, width) out of [5, 4]");
        assert!(Window::centred([5, 4], Some([0, 2])).is_err());
    }
}
