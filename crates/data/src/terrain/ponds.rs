//! Fill and spill: rain collects in depressions and moves on only from those that are full.

use ndarray::{Array2, ArrayView2};

use super::flow::{FlowTree, OUT};

/// The depressions of a terrain as ponds, each with what it holds and the cell over which it spills.
#[derive(Debug, Clone)]
pub struct Ponds {
    /// Flat index of the cell over which a cell's pond spills; the cell itself outside depressions.
    exit: Vec<u32>,
    /// Volume of the pond at its exit cell in m³, 0 elsewhere.
    capacity_m3: Vec<f64>,
}

impl Ponds {
    /// The ponds of a terrain: cells that drain through one another below the same spill level.
    pub fn new(tree: &FlowTree) -> Self {
        let depth_m = tree.depression_depth_m();
        let depth_m: Vec<f64> = depth_m.iter().copied().collect();
        let spill_m: Vec<f64> = tree.filled_m().iter().copied().collect();
        let area_m2 = tree.cell_size_m() * tree.cell_size_m();
        let mut exit: Vec<u32> = (0..depth_m.len() as u32).collect();
        let mut capacity_m3 = vec![0.0; depth_m.len()];
        // Downstream first, so that the receiver's exit is known.
        for &cell in tree.upstream_first.iter().rev() {
            let (at, to) = (cell as usize, tree.receiver[cell as usize]);
            if depth_m[at] <= 0.0 {
                continue;
            }
            if to != OUT && depth_m[to as usize] > 0.0 && spill_m[to as usize] == spill_m[at] {
                exit[at] = exit[to as usize];
            }
            capacity_m3[exit[at] as usize] += depth_m[at] * area_m2;
        }
        Self { exit, capacity_m3 }
    }

    /// `[h, w]`, m³: the water that arrives in each cell's pond (at the cell itself outside depressions) when `water_m3`
    /// falls on every cell, runs down the flow tree and is held back by the ponds on its way.
    ///
    /// # Panics
    /// If the shape of `water_m3` is not that of the terrain.
    pub fn inflow_m3(&self, tree: &FlowTree, water_m3: ArrayView2<f64>) -> Array2<f64> {
        assert_eq!(
            water_m3.dim(),
            tree.dim(),
            "water must have the terrain's shape"
        );
        let mut inflow: Vec<f64> = water_m3.iter().copied().collect();
        for &cell in &tree.upstream_first {
            let (at, to) = (cell as usize, tree.receiver[cell as usize]);
            if to != OUT {
                inflow[to as usize] += (inflow[at] - self.capacity_m3[at]).max(0.0);
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
        water[[1, 1]] = 250.0;
        // The pond holds (2 + 1) m × 100 m² = 300 m³: nothing passes.
        let inflow = ponds.inflow_m3(&tree, water.view());
        assert_eq!(inflow.row(1).to_vec(), [0.0, 250.0, 250.0, 250.0, 0.0, 0.0]);
        // 400 m³ leave 100 to spill over the sill.
        water[[1, 1]] = 400.0;
        let inflow = ponds.inflow_m3(&tree, water.view());
        assert_eq!(
            inflow.row(1).to_vec(),
            [0.0, 400.0, 400.0, 400.0, 100.0, 100.0]
        );
    }

    #[test]
    fn without_depressions_it_is_the_accumulation() {
        let bed = Array2::from_shape_fn((4, 6), |(r, c)| 3.0 * r as f64 + (c as f64 - 2.2).powi(2));
        let tree = FlowTree::new(bed.view(), 50.0);
        let water = Array2::from_shape_fn((4, 6), |(r, c)| (1 + r * 7 + c * 3) as f64);
        let inflow = Ponds::new(&tree).inflow_m3(&tree, water.view());
        assert_eq!(inflow, tree.accumulate(water.view()));
    }
}
