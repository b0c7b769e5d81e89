//! The simulation: terrain, runoff, routing, and the clock.

use std::collections::VecDeque;

use ndarray::{Array2, ArrayView2, s};

use super::HailCaesarConfig;
use super::drainage;
use super::routing::{self, GRAVITY, Sides, StepScalars};
use super::topmodel::{STEP_S, Store};
use crate::rain::{M_PER_S, holder};
use crate::simd::{Vectorised, run_widest};
use crate::{Domain, Edge, HydroError, Infiltration, MassBalance, Parameter};

/// Depth in m that stays on border cells; the program ignores the setting of this name, `water_depth_erosion_threshold`.
const EDGE_DEPTH_M: f64 = 0.01;
/// The time step is that of water at least this deep, in m.
const MIN_STEP_DEPTH_M: f64 = 0.1;
/// Steps between two looks at where the water is.
const SCAN_STEPS: u64 = 5;
/// Base runoff in m/s with which a simulation starts, and above which it is lowered again.
const FIRST_BASE_RUNOFF: f64 = 5e-8;
const LARGE_BASE_RUNOFF: f64 = 1e-6;

/// A running simulation of HAIL-CAESAR's hydrology.
///
/// ```
/// use ndarray::{Array2, array};
/// use pluvial_hydro::compat::{HailCaesar, HailCaesarConfig};
///
/// let bed_m = Array2::from_shape_fn((20, 30), |(row, col)| (row + 3 * col) as f64); // row 0 = north; NaN = outside
/// let mut simulation = HailCaesar::new(bed_m, 50.0, (1, 2), HailCaesarConfig::default())?;
/// for frame in 0..12 {
///     simulation.set_rain_mm_per_h(300.0 * f64::from(frame + 1), array![[0.0, 40.0]].view())?; // ahead of the clock
///     simulation.advance_to(300.0 * f64::from(frame));
/// }
/// assert_eq!(simulation.depth_m().dim(), (20, 30));
/// # Ok::<(), pluvial_hydro::HydroError>(())
/// ```
pub struct HailCaesar {
    config: HailCaesarConfig,
    cell_size_m: f64,
    bed_m: Array2<f64>,
    depth_m: Array2<f64>,
    /// Unit discharge, m²/s, to the east `[height, width + 1]` and south `[height + 1, width]`; 0 on the border.
    east: Array2<f64>,
    south: Array2<f64>,
    /// 1 for cells on the scan list, 0 for others.
    listed: Array2<f64>,
    /// Running maxima of the depth by column, of a pass.
    deepest: Vec<f64>,
    /// Largest depth of the step before, over the cells on the list then.
    max_depth_m: f64,

    /// Drainage area of each cell in cells.
    area: Vec<f64>,
    /// Rain cell of each cell.
    zone: Vec<usize>,
    stores: Vec<Store>,
    /// Cells of each rain cell by which its runoff is multiplied.
    zone_cells: Vec<f64>,
    /// Runoff of each rain cell used in the next step, m/s.
    runoff: Vec<f64>,
    base_runoff: f64,
    /// Cells that take the runoff, and among how many each rain cell shares its own.
    inputs: Vec<usize>,
    zone_inputs: Vec<f64>,
    /// From when (s) which rain falls (m/s for each rain cell); all but the newest lie ahead.
    rain: VecDeque<(f64, Vec<f64>)>,
    rain_shape: (usize, usize),

    clock_min: f64,
    runoff_min: u64,
    steps: u64,
    outflow_m3_per_s: f64,
    input_m3: f64,
    outflow_m3: f64,
}

impl HailCaesar {
    /// A dry domain at time 0. The rain comes on a grid of `rain_shape` (rows, columns) cells over the same ground, not finer
    /// than the bed, `(1, 1)` for uniform rain; each cell belongs to the rain cell that holds its centre.
    ///
    /// # Shapes
    /// `bed_m` `[height, width]` in m, row 0 = north; NaN marks cells outside the domain.
    ///
    /// # Errors
    /// [`HydroError`] for what [`HailCaesarConfig::validate`] refuses, an empty or infinite bed, a cell size that is not positive,
    /// and a rain grid that is empty or finer than the bed.
    pub fn new(
        bed_m: Array2<f64>,
        cell_size_m: f64,
        rain_shape: (usize, usize),
        config: HailCaesarConfig,
    ) -> Result<Self, HydroError> {
        config.validate()?;
        let domain = Domain {
            bed_m,
            cell_size_m,
            manning: Parameter::Uniform(config.manning),
            edge: Edge::FreeOutflow {
                slope: config.edge_slope,
            },
            boundaries: Vec::new(),
            infiltration: Infiltration::None,
        };
        domain.validate()?;
        let bed_m = domain.bed_m;
        let (height, width) = bed_m.dim();
        let (rows, cols) = rain_shape;
        check_rain_shape(
            rain_shape,
            rows > 0 && cols > 0 && rows <= height && cols <= width,
            || format!("1 x 1 to {height} x {width}, not finer than the bed,"),
        )?;

        let zone: Vec<usize> = (0..height * width)
            .map(|cell| {
                holder(cell / width, height, rows) * cols + holder(cell % width, width, cols)
            })
            .collect();
        let mut zone_cells = vec![0.0; rows * cols];
        for (cell, z) in bed_m.iter().enumerate() {
            // The program's count ends before the last row and column.
            if !z.is_nan() && cell / width + 1 < height && cell % width + 1 < width {
                zone_cells[zone[cell]] += 1.0;
            }
        }
        let mut simulation = Self {
            depth_m: Array2::zeros((height, width)),
            east: Array2::zeros((height, width + 1)),
            south: Array2::zeros((height + 1, width)),
            listed: Array2::zeros((height, width)),
            deepest: vec![0.0; width],
            max_depth_m: 10.0,
            area: drainage::area_cells(&bed_m),
            zone,
            stores: vec![Store::new(); rows * cols],
            zone_cells,
            runoff: vec![0.0; rows * cols],
            base_runoff: FIRST_BASE_RUNOFF,
            inputs: Vec::new(),
            zone_inputs: vec![0.0; rows * cols],
            rain: VecDeque::from([(f64::NEG_INFINITY, vec![0.0; rows * cols])]),
            rain_shape,
            clock_min: 0.0,
            runoff_min: 0,
            steps: 0,
            outflow_m3_per_s: 0.0,
            input_m3: 0.0,
            outflow_m3: 0.0,
            config,
            cell_size_m,
            bed_m,
        };
        simulation.find_inputs();
        Ok(simulation)
    }

    /// Sets the rain in mm/h that falls from `from_s` on, until the time of the next call. The program looks up to a minute
    /// ahead, so give the rain before the clock is a minute before `from_s`.
    ///
    /// # Errors
    /// [`HydroError::Shape`] where the rain does not have the shape given at the start, [`HydroError::CellValue`] for rain that is
    /// negative or not finite, [`HydroError::Value`] for a time before that of the last call; nothing has changed.
    pub fn set_rain_mm_per_h(
        &mut self,
        from_s: f64,
        rain: ArrayView2<f32>,
    ) -> Result<(), HydroError> {
        check_rain_shape(rain.dim(), rain.dim() == self.rain_shape, || {
            format!(
                "{} x {}, as at the start,",
                self.rain_shape.0, self.rain_shape.1
            )
        })?;
        if let Some(((row, col), &value)) = rain
            .indexed_iter()
            .find(|(_, r)| !(r.is_finite() && **r >= 0.0))
        {
            return Err(HydroError::CellValue {
                name: "rain (mm/h)",
                row,
                col,
                value: f64::from(value),
                expected: "finite and not negative",
            });
        }
        if self.rain.back().is_some_and(|(last, _)| from_s < *last) || !from_s.is_finite() {
            return Err(HydroError::Value {
                name: "the time of the rain in s",
                value: from_s,
                expected: "finite and not before that of the last rain",
            });
        }
        // The program converts in single precision.
        let rates = rain
            .iter()
            .map(|mm_per_h| f64::from(mm_per_h / 1000.0 / 3600.0))
            .collect();
        self.rain.push_back((from_s, rates));
        Ok(())
    }

    /// Steps until the clock has reached `time_s`; it ends up to one step later, as steps are not shortened to land on a time.
    /// Returns how many steps it took.
    pub fn advance_to(&mut self, time_s: f64) -> u64 {
        let first = self.steps;
        while self.clock_min < time_s / 60.0 {
            self.step();
        }
        self.steps - first
    }

    /// Water depth in m, `[height, width]`; 0 outside the domain.
    pub fn depth_m(&self) -> &Array2<f64> {
        &self.depth_m
    }

    /// Simulated time in s.
    pub fn time_s(&self) -> f64 {
        60.0 * self.clock_min
    }

    /// What left over the edge in the last step, in m³/s.
    pub fn outflow_m3_per_s(&self) -> f64 {
        self.outflow_m3_per_s
    }

    /// What the stores give now, in m³/s: the discharge that the program expects.
    pub fn runoff_m3_per_s(&self) -> f64 {
        let cells: f64 = self
            .runoff
            .iter()
            .zip(&self.zone_cells)
            .map(|(j, n)| j * n)
            .sum();
        cells * self.cell_area_m2()
    }

    /// Where they give it to: what each cell is given in the next step as a rate in mm/h, `[height, width]`; the limit of a step's
    /// input aside.
    pub fn input_mm_per_h(&self) -> Array2<f32> {
        let mut input = Array2::zeros(self.bed_m.dim());
        let cells = input.as_slice_mut().unwrap_or_default();
        for &cell in &self.inputs {
            let zone = self.zone[cell];
            let rate = self.runoff[zone] * self.zone_cells[zone] / self.zone_inputs[zone];
            cells[cell] = (rate / M_PER_S) as f32;
        }
        input
    }

    /// Where the water is. `rain_m3` is the runoff put on the cells, not the rain that fell.
    pub fn mass_balance(&self) -> MassBalance {
        let stored_m: f64 = self.depth_m.rows().into_iter().map(|row| row.sum()).sum();
        MassBalance {
            rain_m3: self.input_m3,
            outflow_m3: self.outflow_m3,
            stored_m3: stored_m * self.cell_area_m2(),
            ..MassBalance::default()
        }
    }

    fn cell_area_m2(&self) -> f64 {
        self.cell_size_m * self.cell_size_m
    }

    /// One step; returns its length in s.
    pub fn step(&mut self) -> f64 {
        if self.steps == 0 {
            // The stores are a minute ahead of the clock from the start.
            self.step_stores(1);
        }
        let depth_m = self.max_depth_m.max(MIN_STEP_DEPTH_M);
        let timestep_s = self.config.courant * (self.cell_size_m / (GRAVITY * depth_m).sqrt());
        self.steps += 1;
        self.clock_min += timestep_s / 60.0;
        self.add_runoff(timestep_s);
        self.update_runoff();
        run_widest(Routing {
            scalars: StepScalars {
                timestep_s,
                cell_size_m: self.cell_size_m,
                froude_limit: self.config.froude_limit,
                flow_threshold_m: self.config.flow_threshold_m,
                manning2: self.config.manning * self.config.manning,
                integer_exponent: self.config.integer_exponent,
            },
            simulation: self,
        });
        if self.steps.is_multiple_of(SCAN_STEPS) {
            self.scan();
        }
        self.drain_edge(timestep_s);
        timestep_s
    }

    /// Puts the runoff of the step before on the cells that take it.
    fn add_runoff(&mut self, timestep_s: f64) {
        let shares = (self.runoff.iter().zip(&self.zone_cells)).zip(&self.zone_inputs);
        let amounts_m: Vec<f64> = shares
            .map(|((runoff, cells), inputs)| {
                (runoff * cells / inputs * timestep_s).min(self.config.max_input_m)
            })
            .collect();
        let depth_m = self.depth_m.as_slice_mut().unwrap_or_default();
        let mut total_m = 0.0;
        for &cell in &self.inputs {
            let amount_m = amounts_m[self.zone[cell]];
            depth_m[cell] += amount_m;
            total_m += amount_m;
        }
        self.input_m3 += total_m * self.cell_size_m * self.cell_size_m;
    }

    /// Moves the stores up to the minute after the clock, and the base runoff after them.
    fn update_runoff(&mut self) {
        while self.clock_min >= self.runoff_min as f64 {
            self.runoff_min += 1;
            self.step_stores(self.runoff_min);
            if self.runoff_min as f64 >= self.clock_min {
                break;
            }
        }
        let left_min = self.runoff_min as f64 - self.clock_min;
        let mut largest: f64 = 0.0;
        for (runoff, store) in self.runoff.iter_mut().zip(&self.stores) {
            *runoff = store.now(left_min);
            largest = largest.max(*runoff);
        }
        if largest >= self.base_runoff {
            self.base_runoff *= 3.0;
            self.find_inputs();
        }
        if self.base_runoff > largest * 3.0 && self.base_runoff > LARGE_BASE_RUNOFF {
            self.base_runoff = largest * 1.25;
            self.find_inputs();
        }
    }

    fn step_stores(&mut self, minute: u64) {
        let time_s = STEP_S * minute as f64;
        while self
            .rain
            .get(1)
            .is_some_and(|(from_s, _)| *from_s <= time_s)
        {
            self.rain.pop_front();
        }
        for (store, rain) in self.stores.iter_mut().zip(&self.rain[0].1) {
            store.step(*rain, self.config.topmodel_m);
        }
    }

    /// Lists the cells whose drainage area gives a discharge between the two settings at three times the base runoff.
    fn find_inputs(&mut self) {
        self.inputs.clear();
        self.zone_inputs.fill(0.0);
        let inside = self.bed_m.iter().map(|z| !z.is_nan());
        for ((cell, area), inside) in self.area.iter().enumerate().zip(inside) {
            let discharge = area * self.base_runoff * 3.0 * self.cell_size_m * self.cell_size_m;
            if discharge > self.config.min_discharge_m3_per_s
                && discharge < self.config.max_discharge_m3_per_s
            {
                // Cells outside the domain get a share too, and keep nothing of it.
                self.zone_inputs[self.zone[cell]] += 1.0;
                if inside {
                    self.inputs.push(cell);
                }
            }
        }
    }

    /// Lists the cells that have water on or beside them.
    fn scan(&mut self) {
        let (height, width) = self.depth_m.dim();
        for row in 0..height {
            let rows = row.saturating_sub(1)..(row + 2).min(height);
            self.deepest.fill(0.0);
            for depths in self.depth_m.slice(s![rows, ..]).rows() {
                for (deepest, depth) in self.deepest.iter_mut().zip(depths) {
                    *deepest = depth.max(*deepest);
                }
            }
            for (col, listed) in self.listed.row_mut(row).iter_mut().enumerate() {
                let beside = &self.deepest[col.saturating_sub(1)..(col + 2).min(width)];
                *listed = f64::from(beside.iter().any(|deepest| *deepest > 0.0));
            }
        }
    }

    /// Takes what stands deeper than [`EDGE_DEPTH_M`] off the border cells.
    fn drain_edge(&mut self, timestep_s: f64) {
        let (height, width) = self.depth_m.dim();
        let ends = |size: usize| [0, size - 1];
        let sides = (0..height).flat_map(|row| ends(width).map(|col| (row, col)));
        let ends = (0..width).flat_map(|col| ends(height).map(|row| (row, col)));
        let mut total_m = 0.0;
        for cell in sides.chain(ends) {
            let depth_m = &mut self.depth_m[cell];
            if *depth_m > EDGE_DEPTH_M {
                total_m += *depth_m - EDGE_DEPTH_M;
                *depth_m = EDGE_DEPTH_M;
            }
        }
        let volume_m3 = total_m * self.cell_area_m2();
        self.outflow_m3 += volume_m3;
        self.outflow_m3_per_s = volume_m3 / timestep_s;
    }
}

fn check_rain_shape(
    (got_rows, got_cols): (usize, usize),
    right: bool,
    expected: impl FnOnce() -> String,
) -> Result<(), HydroError> {
    if right {
        return Ok(());
    }
    Err(HydroError::Shape {
        what: "the rain grid",
        got_rows,
        got_cols,
        expected: expected(),
    })
}

/// The momentum and continuity passes of a step.
struct Routing<'a> {
    simulation: &'a mut HailCaesar,
    scalars: StepScalars,
}

impl Vectorised for Routing<'_> {
    #[inline(always)]
    fn run(self) {
        let Self {
            simulation,
            scalars,
        } = self;
        let (height, width) = simulation.depth_m.dim();
        let edge_slope = simulation.config.edge_slope;
        let bed = simulation.bed_m.as_slice().unwrap_or_default();
        let depth = simulation.depth_m.as_slice_mut().unwrap_or_default();
        let listed = simulation.listed.as_slice().unwrap_or_default();
        let east = simulation.east.as_slice_mut().unwrap_or_default();
        let south = simulation.south.as_slice_mut().unwrap_or_default();

        for row in 0..height {
            let sides = |a: usize, b: usize| Sides {
                bed: [&bed[a..], &bed[b..]],
                depth: [&depth[a..], &depth[b..]],
                listed: &listed[b..],
            };
            let first = row * width;
            let faces = &mut east[row * (width + 1)..][..width + 1];
            for (face, outwards) in edge_faces(width, edge_slope) {
                let (a, b) = (first + face - 1, first + face);
                routing::discharges(
                    &mut faces[face..=face],
                    sides(a, b),
                    Some(outwards),
                    &scalars,
                );
            }
            if width > 3 {
                routing::discharges(
                    &mut faces[2..width - 1],
                    sides(first + 1, first + 2),
                    None,
                    &scalars,
                );
            }
            if row > 0 {
                let slope = edge_faces(height, edge_slope)
                    .find(|(face, _)| *face == row)
                    .map(|(_, slope)| slope);
                routing::discharges(
                    &mut south[first..][..width],
                    sides(first - width, first),
                    slope,
                    &scalars,
                );
            }
        }
        simulation.deepest.fill(0.0);
        for row in 0..height {
            let cells = row * width..(row + 1) * width;
            let faces = &east[row * (width + 1)..];
            let around = [
                faces,
                &faces[1..],
                &south[cells.start..],
                &south[cells.end..],
            ];
            routing::fill(
                &mut depth[cells.clone()],
                around,
                &listed[cells],
                &mut simulation.deepest,
                &scalars,
            );
        }
        simulation.max_depth_m = crate::kernel::largest(&simulation.deepest);
    }
}

/// The faces beside the border across a direction with so many cells, and the slope that they see.
fn edge_faces(cells: usize, slope: f64) -> impl Iterator<Item = (usize, f64)> {
    let first = (cells > 1).then_some((1, slope));
    let last = (cells > 2).then_some((cells - 1, -slope));
    first.into_iter().chain(last)
}
