//! Wet or dry.

use ndarray::{Array2, ArrayView2, Zip, s};

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
    let mut wet = depth_m.mapv(|depth| u8::from(depth >= threshold_m));
    if let Some(valid) = valid {
        Zip::from(&mut wet)
            .and(valid)
            .for_each(|wet, &valid| *wet &= u8::from(valid));
    }
    let mut label = wet.clone();
    if remove_isolated {
        let (height, width) = wet.dim();
        Zip::indexed(&mut label).for_each(|(y, x), label| {
            if *label == 1 {
                let rows = y.saturating_sub(1)..(y + 2).min(height);
                let columns = x.saturating_sub(1)..(x + 2).min(width);
                *label = u8::from(wet.slice(s![rows, columns]).sum() > 1);
            }
        });
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
