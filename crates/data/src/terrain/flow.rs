//! Flow over a terrain: depression filling, D8 directions, accumulation, and the static channels that follow from them.
//!
//! Arrays are `[height, width]`, row 0 = north; NaN marks cells outside the terrain. Water may leave over the grid's edge
//! and over the edge of the NaN area.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::AddAssign;

use ndarray::{Array2, ArrayView2, Zip};

/// Row and column steps to the eight neighbours, cardinal ones first so that ties go to the shorter path.
const NEIGHBOURS: [(isize, isize); 8] = [
    (-1, 0),
    (0, -1),
    (0, 1),
    (1, 0),
    (-1, -1),
    (-1, 1),
    (1, -1),
    (1, 1),
];

/// Receiver of a cell from which water leaves the terrain.
pub(super) const OUT: u32 = u32::MAX;

/// Where the water of every cell goes: a forest of single-receiver (D8) paths, each ending at an edge of the terrain.
///
/// Depressions are filled by Priority-Flood+ε (Barnes, Lehman & Mulla 2014, algorithm 3, with the smallest representable
/// step as ε), so the routing surface falls strictly along every path; the directions are the steepest descent over it
/// (O'Callaghan & Mark 1984).
#[derive(Debug, Clone)]
pub struct FlowTree {
    bed_m: Array2<f64>,
    cell_size_m: f64,
    /// Level to which the cell's depression fills before it spills; the bed itself outside depressions.
    spill_level_m: Array2<f64>,
    /// Flat index of the next cell downstream, or `OUT`.
    pub(super) receiver: Vec<u32>,
    /// Flat indices of the cells inside the terrain, every cell before its receiver.
    pub(super) upstream_first: Vec<u32>,
}

/// A cell waiting in the flood, lowest first; `serial` makes ties first-in, first-out and so independent of the heap.
struct Waiting {
    level: f64,
    serial: u32,
    cell: u32,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .level
            .total_cmp(&self.level)
            .then(other.serial.cmp(&self.serial))
    }
}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Waiting {}

impl FlowTree {
    /// Routes the terrain `bed_m` `[h, w]` (metres, NaN outside) of square cells of `cell_size_m`. O(cells · log cells).
    pub fn new(bed_m: ArrayView2<f64>, cell_size_m: f64) -> Self {
        let (height, width) = bed_m.dim();
        let cells = height * width;
        assert!(
            cells < OUT as usize,
            "{height} × {width} cells do not fit 32-bit cell numbers"
        );
        let bed_m = bed_m.as_standard_layout().into_owned();
        let bed: Vec<f64> = bed_m.iter().copied().collect();
        let mut spill = bed.clone();
        let mut routing = bed.clone();
        let mut seen = vec![false; cells];
        let mut heap = BinaryHeap::new();
        let mut serial = 0;
        let mut push = |heap: &mut BinaryHeap<Waiting>, level, cell: usize| {
            heap.push(Waiting {
                level,
                serial,
                cell: cell as u32,
            });
            serial += 1;
        };
        for cell in (0..cells).filter(|&c| !bed[c].is_nan()) {
            let neighbours = neighbours(cell, height, width)
                .filter(|&(n, _)| !bed[n].is_nan())
                .count();
            if neighbours < 8 {
                seen[cell] = true;
                push(&mut heap, bed[cell], cell);
            }
        }
        let mut order = Vec::with_capacity(cells);
        while let Some(Waiting { level, cell, .. }) = heap.pop() {
            order.push(cell);
            for (n, _) in neighbours(cell as usize, height, width) {
                if !seen[n] && !bed[n].is_nan() {
                    seen[n] = true;
                    spill[n] = bed[n].max(spill[cell as usize]);
                    routing[n] = bed[n].max(level.next_up());
                    push(&mut heap, routing[n], n);
                }
            }
        }
        let mut receiver = vec![OUT; cells];
        for &cell in &order {
            let cell = cell as usize;
            let mut steepest = 0.0;
            for (n, distance) in neighbours(cell, height, width) {
                let drop = (routing[cell] - routing[n]) / distance;
                if drop > steepest {
                    steepest = drop;
                    receiver[cell] = n as u32;
                }
            }
        }
        // The flood takes cells in rising order of the routing surface: backwards, every cell comes before its receiver.
        order.reverse();
        let spill_level_m =
            Array2::from_shape_vec((height, width), spill).expect("one level per cell");
        Self {
            bed_m,
            cell_size_m,
            spill_level_m,
            receiver,
            upstream_first: order,
        }
    }

    /// `(height, width)` of the terrain.
    pub fn dim(&self) -> (usize, usize) {
        self.bed_m.dim()
    }

    /// Edge length of a cell in metres.
    pub fn cell_size_m(&self) -> f64 {
        self.cell_size_m
    }

    /// The cell that takes the water of `(row, column)`, or `None` where water leaves the terrain.
    pub fn receiver(&self, (row, column): (usize, usize)) -> Option<(usize, usize)> {
        let width = self.dim().1;
        match self.receiver[row * width + column] {
            OUT => None,
            cell => Some((cell as usize / width, cell as usize % width)),
        }
    }

    /// `[h, w]`: the sum of `weights` over each cell and everything upstream of it. O(cells).
    ///
    /// With weights of 1 this is the flow accumulation in cells; with rain it is the rain that can reach each cell.
    /// Cells outside the terrain keep their weight.
    ///
    /// # Panics
    /// If the shape of `weights` is not that of the terrain.
    pub fn accumulate<T: Copy + AddAssign>(&self, weights: ArrayView2<T>) -> Array2<T> {
        assert_eq!(
            weights.dim(),
            self.dim(),
            "weights must have the terrain's shape"
        );
        let mut sums: Vec<T> = weights.iter().copied().collect();
        for &cell in &self.upstream_first {
            let to = self.receiver[cell as usize];
            if to != OUT {
                let sum = sums[cell as usize];
                sums[to as usize] += sum;
            }
        }
        Array2::from_shape_vec(self.dim(), sums).expect("one sum per cell")
    }

    /// `[h, w]`: flow accumulation in cells, the cell itself included; NaN outside.
    pub fn accumulation_cells(&self) -> Array2<f64> {
        self.accumulate(
            self.bed_m
                .mapv(|z| if z.is_nan() { f64::NAN } else { 1.0 })
                .view(),
        )
    }

    /// `[h, w]`, metres: the terrain with every depression filled to the level where it spills.
    pub fn filled_m(&self) -> &Array2<f64> {
        &self.spill_level_m
    }

    /// `[h, w]`, metres: how deep water can stand in a cell before its depression spills; 0 outside depressions.
    pub fn depression_depth_m(&self) -> Array2<f64> {
        &self.spill_level_m - &self.bed_m
    }

    /// `[h, w]`, metres: height above the nearest drainage cell downstream (HAND; Nobre et al. 2011), over the filled terrain.
    ///
    /// A drainage cell is one whose accumulation is at least `drainage_cells`; a path that leaves the terrain before it
    /// meets one is measured from its last cell. NaN outside.
    pub fn height_above_drainage_m(&self, drainage_cells: f64) -> Array2<f64> {
        let accumulation = self.accumulation_cells();
        let accumulation: Vec<f64> = accumulation.iter().copied().collect();
        let filled: Vec<f64> = self.spill_level_m.iter().copied().collect();
        let mut drainage_level = filled.clone();
        for &cell in self.upstream_first.iter().rev() {
            let cell = cell as usize;
            let to = self.receiver[cell];
            if to != OUT && accumulation[cell] < drainage_cells {
                drainage_level[cell] = drainage_level[to as usize];
            }
        }
        let height = filled
            .iter()
            .zip(&drainage_level)
            .map(|(z, d)| z - d)
            .collect();
        Array2::from_shape_vec(self.dim(), height).expect("one height per cell")
    }

    /// `[h, w]`, m³: the water that must stand in a cell's depression before the cell itself stands `depth_m` deep, with a
    /// level water surface over the pool that holds the cell; `depth_m` × cell area outside depressions. NaN outside.
    ///
    /// Pools of the same depression count apart until the level reaches the saddle between them. Above the spill level the
    /// depression is continued by vertical walls.
    pub fn storage_m3(&self, depth_m: f64) -> Array2<f64> {
        let (height, width) = self.dim();
        let area = self.cell_size_m * self.cell_size_m;
        let bed: Vec<f64> = self.bed_m.iter().copied().collect();
        let spill: Vec<f64> = self.spill_level_m.iter().copied().collect();
        let in_depression = |c: usize| spill[c] > bed[c];
        let mut storage: Vec<f64> = bed
            .iter()
            .map(|z| if z.is_nan() { f64::NAN } else { depth_m * area })
            .collect();

        // Raise one water level through all depressions at once: cells join their pool (union-find with bed sums) when the
        // level passes them, and a cell's storage is read when the level stands `depth_m` above it.
        let mut rising: Vec<usize> = (0..bed.len()).filter(|&c| in_depression(c)).collect();
        rising.sort_by(|&a, &b| bed[a].total_cmp(&bed[b]).then(a.cmp(&b)));
        let mut pools = Pools {
            parent: (0..bed.len() as u32).collect(),
            cells: vec![0.0; bed.len()],
            bed_sum: vec![0.0; bed.len()],
        };
        let mut next = 0;
        for &cell in &rising {
            let level = bed[cell] + depth_m;
            while next < rising.len() && bed[rising[next]] <= level {
                let joined = rising[next];
                pools.cells[joined] = 1.0;
                pools.bed_sum[joined] = bed[joined];
                for (n, _) in neighbours(joined, height, width) {
                    // Two depressions never touch with equal spill levels unless they are one.
                    if pools.is_wet(n) && spill[n] == spill[joined] {
                        pools.unite(joined, n);
                    }
                }
                next += 1;
            }
            let root = pools.root(cell);
            storage[cell] = (pools.cells[root] * level - pools.bed_sum[root]) * area;
        }
        Array2::from_shape_vec(self.dim(), storage).expect("one volume per cell")
    }
}

/// Union-find over cells; a root carries its pool's number of cells and sum of bed levels.
struct Pools {
    parent: Vec<u32>,
    cells: Vec<f64>,
    bed_sum: Vec<f64>,
}

impl Pools {
    /// Whether the rising level has passed the cell. Roots keep their counts and members never reset theirs.
    fn is_wet(&self, cell: usize) -> bool {
        self.cells[cell] > 0.0
    }

    fn root(&mut self, mut cell: usize) -> usize {
        while self.parent[cell] as usize != cell {
            self.parent[cell] = self.parent[self.parent[cell] as usize];
            cell = self.parent[cell] as usize;
        }
        cell
    }

    fn unite(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            let (small, large) = if self.cells[a] < self.cells[b] {
                (a, b)
            } else {
                (b, a)
            };
            self.parent[small] = large as u32;
            self.cells[large] += self.cells[small];
            self.bed_sum[large] += self.bed_sum[small];
        }
    }
}

/// The neighbours of a cell inside the grid, with their distance in cells.
fn neighbours(cell: usize, height: usize, width: usize) -> impl Iterator<Item = (usize, f64)> {
    let (row, column) = (cell / width, cell % width);
    NEIGHBOURS.iter().filter_map(move |&(dr, dc)| {
        let r = row.checked_add_signed(dr).filter(|&r| r < height)?;
        let c = column.checked_add_signed(dc).filter(|&c| c < width)?;
        let distance = if dr != 0 && dc != 0 {
            std::f64::consts::SQRT_2
        } else {
            1.0
        };
        Some((r * width + c, distance))
    })
}

/// `[h, w]`, m/m: slope by the third-order differences of Horn (1981), tan β. NaN outside.
///
/// A neighbour that is missing (grid edge or NaN) is extrapolated linearly from two others in line with it, or takes the
/// cell's own level where there are none; so planes are exact up to the edge.
pub fn slope(bed_m: ArrayView2<f64>, cell_size_m: f64) -> Array2<f64> {
    let (height, width) = bed_m.dim();
    Array2::from_shape_fn((height, width), |(row, column)| {
        let centre = bed_m[[row, column]];
        let at = |dr: isize, dc: isize| {
            let r = row.checked_add_signed(dr).filter(|&r| r < height)?;
            let c = column.checked_add_signed(dc).filter(|&c| c < width)?;
            Some(bed_m[[r, c]]).filter(|z| !z.is_nan())
        };
        let extrapolate = |near: (isize, isize), far: (isize, isize)| {
            Some(2.0 * at(near.0, near.1)? - at(far.0, far.1)?)
        };
        let level = |dr: isize, dc: isize| {
            at(dr, dc)
                .or_else(|| extrapolate((0, dc), (-dr, dc)))
                .or_else(|| extrapolate((dr, 0), (dr, -dc)))
                .or_else(|| extrapolate((0, 0), (-dr, -dc)))
                .unwrap_or(centre)
        };
        let east = level(-1, 1) + 2.0 * level(0, 1) + level(1, 1);
        let west = level(-1, -1) + 2.0 * level(0, -1) + level(1, -1);
        let north = level(-1, -1) + 2.0 * level(-1, 0) + level(-1, 1);
        let south = level(1, -1) + 2.0 * level(1, 0) + level(1, 1);
        (east - west).hypot(north - south) / (8.0 * cell_size_m)
    })
}

/// Slopes below this count as this in the wetness index, which has no value on flats: 1 m in 1 km.
pub const LEAST_SLOPE: f64 = 1e-3;

/// `[h, w]`: topographic wetness index ln(a / tan β) (Beven & Kirkby 1979), a = upstream area per metre of contour.
///
/// `accumulation_cells` as from [`FlowTree::accumulation_cells`], `slope` as from [`slope`], floored at [`LEAST_SLOPE`].
///
/// # Panics
/// If the shapes differ.
pub fn wetness_index(
    accumulation_cells: ArrayView2<f64>,
    slope: ArrayView2<f64>,
    cell_size_m: f64,
) -> Array2<f64> {
    Zip::from(&accumulation_cells)
        .and(&slope)
        .map_collect(|&a, &s| (a * cell_size_m / s.max(LEAST_SLOPE)).ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    fn close(a: &Array2<f64>, b: &Array2<f64>) {
        assert_eq!(a.dim(), b.dim());
        for (a, b) in a.iter().zip(b) {
            assert!(
                (a - b).abs() < 1e-9 || (a.is_nan() && b.is_nan()),
                "{a} ≠ {b}"
            );
        }
    }

    /// A valley along the middle row that falls to the west, 3 × 5.
    fn valley() -> Array2<f64> {
        array![
            [9.0, 9.0, 9.0, 9.0, 9.0],
            [1.0, 2.0, 3.0, 4.0, 5.0],
            [9.0, 9.0, 9.0, 9.0, 9.0]
        ]
    }

    #[test]
    fn d8_takes_the_steepest_descent_and_accumulates_to_the_outlet() {
        let tree = FlowTree::new(valley().view(), 10.0);
        // From (0, 2) the drop is 9 − 3 straight down, (9 − 2)/√2 = 4.95 diagonally.
        assert_eq!(tree.receiver((0, 2)), Some((1, 2)));
        assert_eq!(tree.receiver((1, 4)), Some((1, 3)));
        assert_eq!(tree.receiver((1, 0)), None);
        close(
            &tree.accumulation_cells(),
            &array![
                [1.0, 1.0, 1.0, 1.0, 1.0],
                [15.0, 12.0, 9.0, 6.0, 3.0],
                [1.0, 1.0, 1.0, 1.0, 1.0]
            ],
        );
    }

    #[test]
    fn accumulate_carries_any_weight_downstream() {
        let tree = FlowTree::new(valley().view(), 10.0);
        let rain = array![
            [0.0f32, 0.0, 0.0, 2.5, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0, 0.0]
        ];
        let sums = tree.accumulate(rain.view());
        assert_eq!(
            sums,
            array![
                [0.0, 0.0, 0.0, 2.5, 0.0],
                [3.5, 3.5, 2.5, 2.5, 0.0],
                [0.0, 1.0, 0.0, 0.0, 0.0]
            ]
        );
    }

    /// A bowl with a floor of different levels and a rim of 10 that is notched at 7, 5 × 6.
    fn bowl() -> Array2<f64> {
        array![
            [10.0, 10.0, 10.0, 10.0, 10.0, 10.0],
            [10.0, 4.0, 6.0, 5.0, 8.0, 10.0],
            [10.0, 4.0, 6.5, 5.0, 7.0, 7.0],
            [10.0, 4.0, 6.0, 5.5, 9.0, 10.0],
            [10.0, 10.0, 10.0, 10.0, 10.0, 10.0],
        ]
    }

    #[test]
    fn depressions_fill_to_their_spill_level() {
        let tree = FlowTree::new(bowl().view(), 2.0);
        let depth = array![
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 3.0, 1.0, 2.0, 0.0, 0.0],
            [0.0, 3.0, 0.5, 2.0, 0.0, 0.0],
            [0.0, 3.0, 1.0, 1.5, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ];
        close(&tree.depression_depth_m(), &depth);
        // All of the bowl and the rim cells that fall into it leave by the notch: the rim's own outlets are the corners'.
        let accumulation = tree.accumulation_cells();
        assert_eq!(
            accumulation[[2, 5]],
            30.0 - outlets_other_than(&tree, (2, 5))
        );
    }

    /// Cells that leave the terrain elsewhere than at `outlet`.
    fn outlets_other_than(tree: &FlowTree, outlet: (usize, usize)) -> f64 {
        let accumulation = tree.accumulation_cells();
        let (height, width) = tree.dim();
        (0..height)
            .flat_map(|r| (0..width).map(move |c| (r, c)))
            .filter(|&at| at != outlet && tree.receiver(at).is_none())
            .map(|at| accumulation[at])
            .sum()
    }

    #[test]
    fn every_cell_drains_over_flats_and_fractal_noise() {
        // A flat plateau with a single lower exit and a hash pattern: no cell may be left without a path to the edge.
        let bed = Array2::from_shape_fn((17, 23), |(r, c)| {
            if r > 8 {
                3.0
            } else {
                ((r * 31 + c * 17) % 13) as f64
            }
        });
        let tree = FlowTree::new(bed.view(), 1.0);
        for row in 0..17 {
            for column in 0..23 {
                let (mut at, mut steps) = ((row, column), 0);
                while let Some(next) = tree.receiver(at) {
                    at = next;
                    steps += 1;
                    assert!(steps < 17 * 23, "a cycle at {row}, {column}");
                }
                assert!(
                    at.0 == 0 || at.1 == 0 || at.0 == 16 || at.1 == 22,
                    "{row}, {column} ends inside at {at:?}"
                );
            }
        }
        assert_eq!(outlets_other_than(&tree, (usize::MAX, 0)), 17.0 * 23.0);
    }

    #[test]
    fn nan_is_outside_and_drains_like_an_edge() {
        let mut bed = Array2::from_elem((5, 7), 5.0);
        bed[[2, 3]] = f64::NAN;
        bed[[2, 2]] = 1.0;
        let tree = FlowTree::new(bed.view(), 1.0);
        assert_eq!(tree.receiver((2, 2)), None);
        assert!(tree.accumulation_cells()[[2, 3]].is_nan());
        assert_eq!(tree.depression_depth_m()[[2, 2]], 0.0);
    }

    #[test]
    fn storage_counts_the_pool_that_holds_the_cell() {
        let storage = FlowTree::new(bowl().view(), 2.0).storage_m3(1.0);
        // Cells of 4 m². (1,1): the three cells at 4 m under a level of 5. (1,3): level 6, the pool {5, 5, 5.5} and, joined
        // through the cells at 6, the pool {4, 4, 4}: 1+1+0.5+2+2+2 = 8.5 m of water, 34 m³.
        assert!((storage[[1, 1]] - 12.0).abs() < 1e-9);
        assert!((storage[[1, 3]] - 34.0).abs() < 1e-9);
        // (3,3) at 5.5: level 6.5 takes both cells at 6 too: 1.5+1.5+1 + 2.5·3 + 0.5·2 = 12.5 m; (2,2) at 6.5 adds nothing.
        assert!((storage[[3, 3]] - 50.0).abs() < 1e-9);
        // Outside depressions: depth × area.
        assert!((storage[[2, 4]] - 4.0).abs() < 1e-9);
        let shallow = FlowTree::new(bowl().view(), 2.0).storage_m3(0.1);
        // (1,3) with 0.1 m: only itself and (2,3), apart from the deeper pool: 0.2 m × 4 m².
        assert!((shallow[[1, 3]] - 0.8).abs() < 1e-9);
        assert!((shallow[[1, 1]] - 1.2).abs() < 1e-9);
    }

    #[test]
    fn height_above_drainage_follows_the_path() {
        let tree = FlowTree::new(valley().view(), 10.0);
        // Drainage from 9 cells: (1,2), (1,1), (1,0). The head of the valley and its sides drain to (1,2) at 3 m.
        let hand = array![
            [8.0, 7.0, 6.0, 6.0, 6.0],
            [0.0, 0.0, 0.0, 1.0, 2.0],
            [8.0, 7.0, 6.0, 6.0, 6.0]
        ];
        close(&tree.height_above_drainage_m(9.0), &hand);
    }

    #[test]
    fn horn_slope_is_exact_on_planes_and_right_on_a_worked_window() {
        let plane = Array2::from_shape_fn((4, 6), |(r, c)| 100.0 + 3.0 * c as f64 - 4.0 * r as f64);
        close(&slope(plane.view(), 50.0), &Array2::from_elem((4, 6), 0.1));
        // Burrough & McDonnell's window 50 45 50 / 30 30 30 / 8 10 10 at 5 m: dz/dx = 0.05, dz/dy = −3.8.
        let window = array![[50.0, 45.0, 50.0], [30.0, 30.0, 30.0], [8.0, 10.0, 10.0]];
        assert!((slope(window.view(), 5.0)[[1, 1]] - 0.05f64.hypot(3.8)).abs() < 1e-12);
    }

    #[test]
    fn wetness_index_is_the_log_of_area_over_slope() {
        let index = wetness_index(array![[8.0, 2.0]].view(), array![[0.02, 0.0]].view(), 500.0);
        close(
            &index,
            &array![[(8.0f64 * 500.0 / 0.02).ln(), (2.0f64 * 500.0 / 1e-3).ln()]],
        );
    }
}
