//! Drainage areas by multiple flow directions: each cell shares its area among its lower neighbours in proportion to the slope.

use ndarray::Array2;

use super::gnu_sort;

/// Elevation that stands for cells outside the domain: lower than all others, so that they swallow the flow beside them.
const OUTSIDE_M: f64 = -9999.0;
/// What the program takes for √2.
const DIAGONAL: f64 = 1.414;
/// Rows and columns to the eight neighbours, orthogonal and diagonal in turn.
const NEIGHBOURS: [(isize, isize); 8] = [
    (0, -1),
    (1, -1),
    (1, 0),
    (1, 1),
    (0, 1),
    (-1, 1),
    (-1, 0),
    (-1, -1),
];

/// Number of cells that drain to and over each cell, itself included, row by row. Cells outside the domain (NaN) count for
/// nothing themselves but gather from their neighbours. The highest cells have 0: the program leaves them out together with
/// what flows down from them, and one of the lowest.
///
/// It sorts an array that also holds the frame of the grid, at elevation 0, and walks down as many places as the grid has cells;
/// beyond a grid's border lie again its border cells.
pub(crate) fn area_cells(bed_m: &Array2<f64>) -> Vec<f64> {
    let (height, width) = bed_m.dim();
    let cells = height * width;
    let elevation: Vec<f64> = bed_m
        .iter()
        .map(|z| if z.is_nan() { OUTSIDE_M } else { *z })
        .collect();
    let frame = (height + 2) * (width + 2) - cells;

    let mut order: Vec<(f64, Option<usize>)> = vec![(0.0, None)];
    order.extend(
        elevation
            .iter()
            .enumerate()
            .map(|(cell, z)| (*z, Some(cell))),
    );
    order.resize(cells + frame, (0.0, None));
    gnu_sort::sort_by_key(&mut order, |(z, _)| *z);

    let mut gathered: Vec<f64> = bed_m
        .iter()
        .map(|z| if z.is_nan() { 0.0 } else { 1.0 })
        .collect();
    let mut area = vec![0.0; cells];
    for cell in order[1..=cells].iter().rev().filter_map(|(_, cell)| *cell) {
        if gathered[cell] == 0.0 {
            continue;
        }
        area[cell] = gathered[cell];
        let falls = NEIGHBOURS.map(|(down, right)| {
            let clamp =
                |at: usize, by: isize, size: usize| at.saturating_add_signed(by).min(size - 1);
            let to = clamp(cell / width, down, height) * width + clamp(cell % width, right, width);
            let drop = (elevation[cell] - elevation[to]).max(0.0);
            (
                to,
                if down != 0 && right != 0 {
                    drop / DIAGONAL
                } else {
                    drop
                },
            )
        });
        let total: f64 = falls.iter().map(|(_, fall)| fall).sum();
        if total > 0.0 {
            for (to, fall) in falls {
                gathered[to] += gathered[cell] * (fall / total);
            }
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilted_plane_drains_down_its_columns() {
        // Steep enough in one direction only: the plane falls to the south, its two neighbours there are diagonal.
        let (height, width) = (40, 9);
        let bed_m = Array2::from_shape_fn((height, width), |(row, _)| 100.0 - row as f64);
        let area = area_cells(&bed_m);
        // 2 (40 + 9) + 4 - 1 = 101 of the cells are left out: the 11 highest rows and 2 cells more.
        assert!(area[..11 * width].iter().all(|a| *a == 0.0));
        assert_eq!(
            area[11 * width..12 * width]
                .iter()
                .filter(|a| **a == 0.0)
                .count(),
            2
        );
        // Far from the sides every cell below has its column's cells above it; over a whole row nothing is lost.
        for row in 13..height {
            let total: f64 = area[row * width..(row + 1) * width].iter().sum();
            assert!(
                (total - (7.0 + 9.0 * (row - 11) as f64)).abs() < 1e-9,
                "{row} {total}"
            );
        }
    }

    #[test]
    fn cells_outside_swallow_the_flow() {
        let mut bed_m = Array2::from_shape_fn((30, 12), |(row, _)| 500.0 - row as f64);
        bed_m[(28, 5)] = f64::NAN;
        bed_m[(28, 6)] = f64::NAN;
        let area = area_cells(&bed_m);
        let at = |row: usize, col: usize| area[row * 12 + col];
        // The lowest of all is left out, here one of the two.
        assert!(at(28, 5).min(at(28, 6)) == 0.0 && at(28, 5).max(at(28, 6)) > 10.0);
        assert!(at(29, 5) < 1.1 && at(29, 6) < 1.1, "{}", at(29, 5));
        assert!(at(29, 1) > 10.0);
    }
}
