//! Symmetries of the square and the rectangle: rain does not know which way is north.

use ndarray::{Array, ArrayView, ArrayViewMut, Axis, Dimension};
use rand::{Rng, RngExt};

/// A mirroring, applied alike to everything that lies on one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Symmetry {
    /// North and south change places.
    pub flip_rows: bool,
    /// West and east change places.
    pub flip_columns: bool,
    /// Rows and columns change places, after the flips; square maps only.
    pub transpose: bool,
}

impl Symmetry {
    /// One of the eight symmetries of a square map, or of the four that keep another map's shape.
    pub fn random(rng: &mut impl Rng, square: bool) -> Self {
        Self {
            flip_rows: rng.random(),
            flip_columns: rng.random(),
            transpose: rng.random::<bool>() && square,
        }
    }

    /// `array` `[…, height, width]`, mirrored.
    ///
    /// # Panics
    /// When `array` has fewer than two axes.
    pub fn apply<T: Clone, D: Dimension>(&self, mut array: ArrayView<T, D>) -> Array<T, D> {
        let (rows, columns) = (array.ndim() - 2, array.ndim() - 1);
        if self.flip_rows {
            array.invert_axis(Axis(rows));
        }
        if self.flip_columns {
            array.invert_axis(Axis(columns));
        }
        if self.transpose {
            array.swap_axes(rows, columns);
        }
        array.as_standard_layout().into_owned()
    }

    /// Mirrors `array` `[…, height, width]` in its place.
    ///
    /// # Panics
    /// As [`Symmetry::apply`], and when rows and columns of a map that is not square change places.
    pub fn apply_to<T: Clone, D: Dimension>(&self, array: &mut ArrayViewMut<T, D>) {
        if *self != Self::default() {
            let mirrored = self.apply(array.view());
            array.assign(&mirrored);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn each_part_does_what_it_says() {
        let map = array![[1, 2, 3], [4, 5, 6]];
        let none = Symmetry::default();
        assert_eq!(none.apply(map.view()), map);
        assert_eq!(
            Symmetry {
                flip_rows: true,
                ..none
            }
            .apply(map.view()),
            array![[4, 5, 6], [1, 2, 3]]
        );
        assert_eq!(
            Symmetry {
                flip_columns: true,
                ..none
            }
            .apply(map.view()),
            array![[3, 2, 1], [6, 5, 4]]
        );
        assert_eq!(
            Symmetry {
                transpose: true,
                ..none
            }
            .apply(map.view()),
            array![[1, 4], [2, 5], [3, 6]]
        );
        let turn = Symmetry {
            flip_rows: true,
            transpose: true,
            ..none
        };
        assert_eq!(turn.apply(map.view()), array![[4, 1], [5, 2], [6, 3]]);
    }

    #[test]
    fn channels_keep_their_places() {
        let stack = array![[[1, 2], [3, 4]], [[5, 6], [7, 8]]];
        let flipped = Symmetry {
            flip_columns: true,
            ..Symmetry::default()
        }
        .apply(stack.view());
        assert_eq!(flipped, array![[[2, 1], [4, 3]], [[6, 5], [8, 7]]]);
    }

    #[test]
    fn all_symmetries_of_a_square_and_four_of_a_rectangle() {
        let mut rng = crate::rng::stream(1, "test");
        let map = array![[1, 2], [3, 4]];
        let mut count = |square| {
            let images = (0..200).map(|_| {
                Symmetry::random(&mut rng, square)
                    .apply(map.view())
                    .into_raw_vec_and_offset()
                    .0
            });
            images.collect::<std::collections::HashSet<_>>().len()
        };
        assert_eq!((count(true), count(false)), (8, 4));
    }
}
