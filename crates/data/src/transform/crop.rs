//! Windows of a map: the centre crop, a random one, tiles that cover it, and the way back from tiles to the map.

use ndarray::{Array2, ArrayView2, s};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};

/// Where the crop lies, when the output is smaller than the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Crop {
    /// In the middle, as published.
    #[default]
    Centre,
    /// Somewhere, anew for every sample of every epoch.
    Random,
    /// Everywhere: each sample comes once a tile, and the tiles cover the map ([`Window::tiles`]).
    Tiles {
        /// Cells that neighbouring tiles share at least, along each axis.
        overlap: usize,
    },
}

/// A rectangle of a grid.
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

    /// All of a map of `size` `[height, width]`.
    pub fn whole([height, width]: [usize; 2]) -> Self {
        Self {
            top: 0,
            left: 0,
            height,
            width,
        }
    }

    /// A window of this one's size somewhere in a `source` `[height, width]`, every place equally likely.
    ///
    /// # Panics
    /// When this window is larger than `source`.
    pub fn anywhere(self, source: [usize; 2], rng: &mut impl Rng) -> Self {
        Self {
            top: rng.random_range(0..=source[0] - self.height),
            left: rng.random_range(0..=source[1] - self.width),
            ..self
        }
    }

    /// Windows of `size` `[height, width]` that cover a `source` `[height, width]`, row by row from the north-west: as few as
    /// share `overlap` cells at least with the next along each axis, spread evenly, the first and last at the edges.
    ///
    /// # Errors
    /// When `size` is larger than `source` or empty, or not larger than the overlap.
    pub fn tiles(source: [usize; 2], size: [usize; 2], overlap: usize) -> Result<Vec<Self>> {
        Self::centred(source, Some(size))?;
        if overlap >= size[0].min(size[1]) {
            return Err(DataError::Config(format!(
                "tiles of {size:?} (height, width) cannot overlap by {overlap} cells"
            )));
        }
        let starts = |axis: usize| {
            let room = source[axis] - size[axis];
            let steps = room.div_ceil(size[axis] - overlap);
            (0..=steps).map(move |step| (room * step).checked_div(steps).unwrap_or(0))
        };
        let tile = |top, left| Self {
            top,
            left,
            height: size[0],
            width: size[1],
        };
        Ok(starts(0)
            .flat_map(|top| starts(1).map(move |left| tile(top, left)))
            .collect())
    }

    /// The cells of a grid `scale` times coarser that lie under this window.
    pub fn coarser(self, scale: usize) -> Self {
        let (top, left) = (self.top / scale, self.left / scale);
        Self {
            top,
            left,
            height: (self.top + self.height).div_ceil(scale) - top,
            width: (self.left + self.width).div_ceil(scale) - left,
        }
    }

    /// This window as seen from the corner of `outer`, which it lies in.
    pub fn within(self, outer: Self) -> Self {
        Self {
            top: self.top - outer.top,
            left: self.left - outer.left,
            ..self
        }
    }

    /// This window of `plane` `[h, w]`.
    pub fn of<'a, T>(&self, plane: &'a ArrayView2<T>) -> ArrayView2<'a, T> {
        plane.slice(s![
            self.top..self.top + self.height,
            self.left..self.left + self.width
        ])
    }
}

/// Puts a map together from tiles. Where tiles overlap, each counts the more the farther its own edge is, so that no seam shows.
#[derive(Debug, Clone)]
pub struct Stitch {
    sums: Array2<f64>,
    weights: Array2<f64>,
}

impl Stitch {
    /// An empty map of `size` `[height, width]`.
    pub fn new(size: [usize; 2]) -> Self {
        Self {
            sums: Array2::zeros(size),
            weights: Array2::zeros(size),
        }
    }

    /// Adds the values `tile` `[h, w]` of a window.
    ///
    /// # Panics
    /// When the tile does not have the window's size, or the window does not lie in the map.
    pub fn add(&mut self, window: Window, tile: ArrayView2<f32>) {
        assert_eq!(
            tile.dim(),
            (window.height, window.width),
            "the tile is not the window's"
        );
        let from_edge = |at: usize, size: usize| (at + 1).min(size - at) as f64;
        for ((y, x), &value) in tile.indexed_iter() {
            let weight = from_edge(y, window.height) * from_edge(x, window.width);
            let cell = [window.top + y, window.left + x];
            self.sums[cell] += weight * f64::from(value);
            self.weights[cell] += weight;
        }
    }

    /// The map `[height, width]`; NaN where no tile has been.
    pub fn finish(self) -> Array2<f32> {
        (self.sums / self.weights).mapv(|value| value as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

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

    #[test]
    fn tiles_cover_the_map_with_their_overlap_and_are_stitched_back() {
        // 7 rows by tiles of 4 that share 1 row at least: 0 and 3. 11 columns by 5: 0, 3, 6 share 2.
        let tiles = Window::tiles([7, 11], [4, 5], 1).unwrap();
        let corners: Vec<_> = tiles.iter().map(|tile| (tile.top, tile.left)).collect();
        assert_eq!(corners, [(0, 0), (0, 3), (0, 6), (3, 0), (3, 3), (3, 6)]);
        for (source, size, overlap) in [
            ([348, 210], [128, 128], 32),
            ([9, 5], [9, 5], 4),
            ([9, 6], [4, 5], 3),
        ] {
            let tiles = Window::tiles(source, size, overlap).unwrap();
            let map = Array2::from_shape_fn(source, |(y, x)| (y * 1000 + x) as f32);
            let mut stitch = Stitch::new(source);
            for tile in &tiles {
                stitch.add(*tile, tile.of(&map.view()));
            }
            assert_eq!(stitch.finish(), map);
            for axis in 0..2 {
                let start = |tile: &Window| [tile.top, tile.left][axis];
                let mut starts: Vec<_> = tiles.iter().map(start).collect();
                starts.sort_unstable();
                starts.dedup();
                assert!(
                    starts
                        .windows(2)
                        .all(|pair| pair[0] + size[axis] >= pair[1] + overlap)
                );
            }
        }
        assert!(Window::tiles([9, 9], [4, 5], 4).is_err());
        assert!(Window::tiles([9, 9], [4, 10], 0).is_err());
    }

    #[test]
    fn overlapping_tiles_are_weighed_by_the_distance_from_their_edges() {
        let mut stitch = Stitch::new([1, 4]);
        let tile = |left| Window {
            top: 0,
            left,
            height: 1,
            width: 3,
        };
        stitch.add(tile(0), array![[3.0, 3.0, 3.0]].view());
        stitch.add(tile(1), array![[6.0, 6.0, 6.0]].view());
        // Weights 1, 2, 1 of either: (2·3 + 1·6)/3 and (1·3 + 2·6)/3 where they meet.
        assert_eq!(stitch.finish(), array![[3.0, 4.0, 5.0, 6.0]]);
    }

    #[test]
    fn random_windows_reach_every_place_and_stay_inside() {
        let mut rng = crate::rng::stream(1, "test");
        let size = Window::centred([5, 4], Some([3, 3])).unwrap();
        let places: std::collections::BTreeSet<_> = (0..200)
            .map(|_| size.anywhere([5, 4], &mut rng))
            .map(|window| (window.top, window.left))
            .collect();
        assert_eq!(
            places.into_iter().collect::<Vec<_>>(),
            [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
        );
    }

    #[test]
    fn coarse_cells_under_a_window() {
        let window = Window {
            top: 3,
            left: 4,
            height: 4,
            width: 5,
        };
        // Rows 3..7 lie in coarse rows 1..4, columns 4..9 in 2..5.
        assert_eq!(
            window.coarser(2),
            Window {
                top: 1,
                left: 2,
                height: 3,
                width: 3
            }
        );
        assert_eq!(window.coarser(1), window);
    }
}
