//! Wet or dry.

use ndarray::{Array2, ArrayView2, Zip};

/// The label of a cell without terrain; losses and scores leave it out.
pub const NO_DATA: u8 = 255;

/// Labels `[h, w]`: 1 where `depth_m ≥ threshold_m`, 0 elsewhere, [`NO_DATA`] where `valid` (if given) is false.
///
/// With `remove_isolated`, a wet cell whose 3 × 3 neighbourhood holds no other wet cell becomes dry; all cells are looked at
/// before any is changed, and cells outside the map are dry (the published pipeline).
///
/// # Panics
/// When `valid` has another shape than `depth_m`.
pub fn label(
    depth_m: ArrayView2<f32>,
    threshold_m: f32,
    remove_isolated: bool,
    valid: Option<ArrayView2<bool>>,
) -> Array2<u8> {
    let mut label = Array2::zeros(depth_m.dim());
    Zip::from(&mut label)
        .and(depth_m)
        .for_each(|label, &depth| *label = u8::from(depth >= threshold_m));
    if let Some(valid) = valid {
        Zip::from(&mut label)
            .and(valid)
            .for_each(|label, &valid| *label &= u8::from(valid));
    }
    if remove_isolated {
        dry_isolated(&mut label);
    }
    if let Some(valid) = valid {
        Zip::from(&mut label).and(valid).for_each(|label, &valid| {
            if !valid {
                *label = NO_DATA;
            }
        });
    }
    label
}

/// Dries wet cells (1 among 0) without a wet one around them. Sums along rows, then across them, over whole rows at a time: the
/// compiler makes vector code of each step.
fn dry_isolated(wet: &mut Array2<u8>) {
    let (height, width) = wet.dim();
    let cells = wet.as_slice_mut().expect("a map made in row-major order");
    // Wet cells among three in a row, with a row of none above and below the map.
    let mut along = vec![0; (height + 2) * width];
    let mut padded = vec![0; width + 2];
    for (row, along) in cells
        .chunks_exact(width)
        .zip(along.chunks_exact_mut(width).skip(1))
    {
        padded[1..=width].copy_from_slice(row);
        let (west, own, east) = (&padded[..width], &padded[1..=width], &padded[2..]);
        for (x, sum) in along.iter_mut().enumerate() {
            *sum = west[x] + own[x] + east[x];
        }
    }
    for (y, row) in cells.chunks_exact_mut(width).enumerate() {
        let along = |y: usize| &along[y * width..(y + 1) * width];
        let (north, own, south) = (along(y), along(y + 1), along(y + 2));
        for (x, wet) in row.iter_mut().enumerate() {
            *wet &= u8::from(north[x] + own[x] + south[x] > 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn isolated_cells_dry_up_and_pairs_stay() {
        let depth = array![
            [0.1, 0.0, 0.0, 0.0, 0.5],
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.2, 0.0, 0.0, 0.3],
            [0.0, 0.0, 0.1, 0.09, 0.0],
        ];
        let all = array![
            [1, 0, 0, 0, 1],
            [0, 0, 0, 0, 0],
            [0, 1, 0, 0, 1],
            [0, 0, 1, 0, 0]
        ];
        let connected = array![
            [0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [0, 1, 0, 0, 0],
            [0, 0, 1, 0, 0]
        ];
        assert_eq!(label(depth.view(), 0.1, false, None), all);
        assert_eq!(label(depth.view(), 0.1, true, None), connected);
        assert_eq!(label(depth.view(), 0.3, false, None).sum(), 2);
    }

    #[test]
    fn cells_without_terrain_are_no_data_and_no_neighbours() {
        let depth = array![[1.0f32, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let valid = array![[true, false, true], [true, true, false]];
        assert_eq!(
            label(depth.view(), 0.1, true, Some(valid.view())),
            array![[0, 255, 0], [0, 0, 255]]
        );
        assert_eq!(
            label(depth.view(), 0.1, false, Some(valid.view())),
            array![[1, 255, 0], [0, 0, 255]]
        );
    }
}
