//! Fill and spill: rain collects in depressions and moves on only from those that are full.

use ndarray::{Array2, ArrayView2};

use super::flow::{FlowTree, OUT};

/// The depressions of a terrain as ponds, each with what it holds and the cell over which it spills.
#[derive(Debug, Clone)]
pub struct Ponds {
    /// Flat index of the cell over which a cell's pond spills; the cell itself outside depressions.
    exit: Vec<u32>,
    /// What the pond holds, at its exit cell, in mm over one cell (mm · cells); 0 elsewhere.
    capacity_mm: Vec<f64>,
}

impl Ponds {
    /// The ponds of a terrain: cells that drain through one another below the same spill level.
    pub fn new(tree: &FlowTree) -> Self {
        let depth_m = tree.depression_depth_m();
        let depth_m: Vec<f64> = depth_m.iter().copied().collect();
        let spill_m: Vec<f64> = tree.filled_m().iter().copied().collect();
        let mut exit: Vec<u32> = (0..depth_m.len() as u32).collect();
        let mut capacity_mm = vec![0.0; depth_m.len()];
        // Downstream first, so that the receiver's exit is known.
        for &cell in tree.upstream_first.iter().rev() {
            let (at, to) = (cell as usize, tree.receiver[cell as usize]);
            if depth_m[at] <= 0.0 {
                continue;
            }
            if to != OUT && depth_m[to as usize] > 0.0 && spill_m[to as usize] == spill_m[at] {
                exit[at] = exit[to as usize];
            }
            capacity_mm[exit[at] as usize] += 1000.0 * depth_m[at];
        }
        Self { exit, capacity_mm }
    }

    /// `[h, w]`: the water that arrives in each cell's pond (at the cell itself outside depressions) when `water_mm` falls
    /// on every cell, runs down the flow tree and is held back by the ponds on its way; in mm over one cell (mm · cells).
    ///
    /// # Panics
    /// If the shape of `water_mm` is not that of the terrain.
    pub fn inflow(&self, tree: &FlowTree, water_mm: ArrayView2<f64>) -> Array2<f64> {
        assert_eq!(
            water_mm.dim(),
            tree.dim(),
            "water must have the terrain's shape"
        );
        let mut inflow: Vec<f64> = water_mm.iter().copied().collect();
        for &cell in &tree.upstream_first {
            let (at, to) = (cell as usize, tree.receiver[cell as usize]);
            if to != OUT {
                inflow[to as usize] += (inflow[at] - self.capacity_mm[at]).max(0.0);
            }
        }
        let pooled = self
            .exit
            .iter()
            .map(|&exit| inflow[exit as usize])
            .collect();
        Array2::from_shape_vec(tree.dim(), pooled).expect("one volume per cell")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_pond_holds_its_volume_and_passes_on_the_rest() {
        // A channel that falls to the east with a pond of two cells, 2 m and 1 m below its sill of 5 m; walls around.
        let bed = array![
            [9.0, 9.0, 9.0, 9.0, 9.0, 9.0],
            [7.0, 6.0, 3.0, 4.0, 5.0, 1.0],
            [9.0, 9.0, 9.0, 9.0, 9.0, 9.0]
        ];
        let tree = FlowTree::new(bed.view(), 10.0);
        let ponds = Ponds::new(&tree);
        let mut water = Array2::zeros((3, 6));
        water[[1, 1]] = 2500.0;
        // The pond holds 2 m and 1 m over one cell each: nothing passes.
        let inflow = ponds.inflow(&tree, water.view());
        assert_eq!(
            inflow.row(1).to_vec(),
            [0.0, 2500.0, 2500.0, 2500.0, 0.0, 0.0]
        );
        // 4 m leave one to spill over the sill.
        water[[1, 1]] = 4000.0;
        let inflow = ponds.inflow(&tree, water.view());
        assert_eq!(
            inflow.row(1).to_vec(),
            [0.0, 4000.0, 4000.0, 4000.0, 1000.0, 1000.0]
        );
    }

    #[test]
    fn without_depressions_it_is_the_accumulation() {
        let bed = Array2::from_shape_fn((4, 6), |(r, c)| 3.0 * r as f64 + (c as f64 - 2.2).powi(2));
        let tree = FlowTree::new(bed.view(), 50.0);
        let water = Array2::from_shape_fn((4, 6), |(r, c)| (1 + r * 7 + c * 3) as f64);
        let inflow = Ponds::new(&tree).inflow(&tree, water.view());
        assert_eq!(inflow, tree.accumulate(water.view()));
    }
}
