//! The solver: a domain, its water, and the clock.

use ndarray::{Array2, ArrayView2};

use crate::chunks::{self, CHUNK, ChunkMap};
use crate::domain::{Domain, Parameter};
use crate::edges::{BoundaryCells, CellWater, Edges, Outside};
use crate::grid::{Discharge, Ground, RoughnessGrid, RowState};
use crate::infiltration::Uptake;
use crate::kernel::{self, GRAVITY, StepScalars};
use crate::maxima::Maxima;
use crate::rain::Rain;
use crate::step::{self, Inputs, MIN_BLOCK_CELLS, Work};
use crate::sweep::StateRows;
use crate::{Boundary, HydroError, Hydrograph, MassBalance, SolverConfig, SolverState};

/// A running simulation.
///
/// Steps with enough wet cells are shared between the threads of rayon's current pool; the results are the same to the bit as
/// in one thread.
pub struct Solver {
    ground: Ground,
    inside: Vec<bool>,
    cell_size_m: f64,
    boundaries: Vec<Boundary>,
    config: SolverConfig,
    rain: Rain,
    depth_m: Array2<f64>,
    infiltrated_m: Array2<f64>,
    discharge: Discharge,
    rows: Vec<RowState>,
    /// Chunks with water that takes part in the next step, and those that had some before the last one: where discharges are
    /// not 0.
    wet: ChunkMap,
    wet_before: ChunkMap,
    maxima: Option<Maxima>,
    work: Work,
    /// The level in m, or the inflow over a side in m²/s, of each boundary that has one now.
    given: Vec<Option<f64>>,
    /// What each boundary let in during the last step, m³/s.
    boundary_inflow_m3_per_s: Vec<f64>,
    edge_outflow_m3_per_s: f64,
    time_s: f64,
    balance: MassBalance,
}

impl Solver {
    /// A dry domain at time 0, without rain.
    ///
    /// # Errors
    /// [`HydroError`] for what [`Domain::validate`] and [`SolverConfig::validate`] refuse, and [`HydroError::Boundary`] for a
    /// boundary that cannot be where or what it is.
    pub fn new(domain: Domain, config: SolverConfig) -> Result<Self, HydroError> {
        Self::with_blocks(
            domain,
            config,
            rayon::current_num_threads(),
            MIN_BLOCK_CELLS,
        )
    }

    fn with_blocks(
        domain: Domain,
        config: SolverConfig,
        max_blocks: usize,
        min_block_cells: usize,
    ) -> Result<Self, HydroError> {
        domain.validate()?;
        config.validate()?;
        let (height, width) = domain.bed_m.dim();
        let inside: Vec<bool> = domain.bed_m.iter().map(|z| !z.is_nan()).collect();
        let edges = Edges::new(&domain)?;
        let uptake = Uptake::new(&domain);
        let ground = Ground {
            height,
            width,
            bed_m: domain
                .bed_m
                .iter()
                .map(|z| if z.is_nan() { f64::INFINITY } else { *z })
                .collect(),
            manning: match domain.manning {
                Parameter::Uniform(n) => RoughnessGrid::Uniform(n),
                map => RoughnessGrid::PerCell(map.cells(&domain.bed_m, 0.0)),
            },
            edges,
            uptake,
        };
        let infiltrated = match &ground.uptake {
            Uptake::GreenAmpt(_) => (height, width),
            _ => (0, 0),
        };
        let mut solver = Self {
            inside,
            cell_size_m: domain.cell_size_m,
            given: vec![None; domain.boundaries.len()],
            boundary_inflow_m3_per_s: vec![0.0; domain.boundaries.len()],
            edge_outflow_m3_per_s: 0.0,
            boundaries: domain.boundaries,
            config,
            rain: Rain::none(height, width),
            depth_m: Array2::zeros((height, width)),
            infiltrated_m: Array2::zeros(infiltrated),
            discharge: Discharge {
                x: vec![0.0; height * (width + 1)],
                y: vec![0.0; (height + 1) * width],
            },
            rows: vec![RowState::default(); height],
            wet: ChunkMap::new(height, width),
            wet_before: ChunkMap::new(height, width),
            maxima: None,
            work: Work::new(height, width, max_blocks, min_block_cells),
            time_s: 0.0,
            balance: MassBalance::default(),
            ground,
        };
        solver.hold_cells(None);
        Ok(solver)
    }

    /// What changes while the solver runs, to be continued by [`resume`](Self::resume).
    pub fn state(&self) -> SolverState {
        SolverState {
            height: self.ground.height,
            width: self.ground.width,
            time_s: self.time_s,
            balance: self.balance,
            depth_m: self.depth_m.iter().copied().collect(),
            x_m2_per_s: self.discharge.x.clone(),
            y_m2_per_s: self.discharge.y.clone(),
            rain_m_per_s: self.rain.rate_m_per_s.clone(),
            row_max_depth_m: self.rows.iter().map(|row| row.max_depth_m).collect(),
            infiltrated_m: self.infiltrated_m.iter().copied().collect(),
            maxima: self.maxima.clone(),
        }
    }

    /// A solver that goes on from a state to the same bits as the one that it was taken from, given the same domain,
    /// settings, rain to come and times to advance to. The discharges of the last step that
    /// [`edge_outflow_m3_per_s`](Self::edge_outflow_m3_per_s) and
    /// [`boundary_inflow_m3_per_s`](Self::boundary_inflow_m3_per_s) give are 0 until the next.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`HydroError::State`] for a state of another shape or kind of infiltration, or with numbers
    /// that no run leaves behind.
    pub fn resume(
        domain: Domain,
        config: SolverConfig,
        state: SolverState,
    ) -> Result<Self, HydroError> {
        let mut solver = Self::new(domain, config)?;
        let (height, width) = (solver.ground.height, solver.ground.width);
        let refuse = |reason| Err(HydroError::State { reason });
        if (state.height, state.width) != (height, width) {
            return refuse(format!(
                "it has {} x {} cells, the bed {height} x {width}",
                state.height, state.width
            ));
        }
        if state.infiltrated_m.len() != solver.infiltrated_m.len() {
            return refuse(
                "one of it and the domain has Green-Ampt infiltration, the other has not"
                    .to_owned(),
            );
        }
        if let Some(what) = state.fault() {
            return refuse(format!("{what} is negative or not finite"));
        }
        let grid = |values, shape| match Array2::from_shape_vec(shape, values) {
            Ok(grid) => grid,
            Err(_) => unreachable!("read or cloned with this many cells"),
        };
        solver.depth_m = grid(state.depth_m, (height, width));
        solver.infiltrated_m = grid(state.infiltrated_m, solver.infiltrated_m.dim());
        solver.discharge = Discharge {
            x: state.x_m2_per_s,
            y: state.y_m2_per_s,
        };
        solver.rain.restore(state.rain_m_per_s);
        solver.find_wet();
        for (row, max_depth_m) in solver.rows.iter_mut().zip(state.row_max_depth_m) {
            row.max_depth_m = max_depth_m;
        }
        solver.wet_before = solver.flowing();
        solver.maxima = state.maxima;
        solver.time_s = state.time_s;
        solver.balance = state.balance;
        solver.read_levels();
        Ok(solver)
    }

    /// Sets the rain that falls from now on, in mm/h.
    ///
    /// # Shapes
    /// Any grid over the same ground that is not finer than the bed, `[1, 1]` for uniform rain included.
    ///
    /// # Errors
    /// [`HydroError::Shape`] for an empty or finer grid, [`HydroError::CellValue`] for rain that is negative or not finite
    /// (missing radar is for the caller to fill); the rain stays what it was.
    pub fn set_rain_mm_per_h(&mut self, rain: ArrayView2<f32>) -> Result<(), HydroError> {
        self.rain.set(rain, self.config.rain, &self.inside)
    }

    /// Sets the water depth in m; the discharges and the clock stay. For initial states. The mass balance counts the change as
    /// placed water. Cells that a boundary holds at a level keep it.
    ///
    /// # Shapes
    /// `[height, width]` of the bed; values outside the domain are ignored.
    ///
    /// # Errors
    /// [`HydroError::Shape`] and, for depths that are negative or not finite, [`HydroError::CellValue`]; nothing has changed.
    pub fn set_depth_m(&mut self, depth: ArrayView2<f64>) -> Result<(), HydroError> {
        let (height, width) = (self.ground.height, self.ground.width);
        if depth.dim() != (height, width) {
            return Err(HydroError::Shape {
                what: "the depth",
                got_rows: depth.nrows(),
                got_cols: depth.ncols(),
                expected: format!("{height} x {width}, as the bed has,"),
            });
        }
        let wrong = depth
            .indexed_iter()
            .zip(&self.inside)
            .find(|((_, h), inside)| **inside && !(h.is_finite() && **h >= 0.0));
        if let Some((((row, col), &value), _)) = wrong {
            return Err(HydroError::CellValue {
                name: "depth_m",
                row,
                col,
                value,
                expected: "finite and not negative",
            });
        }
        let before = self.stored_m3();
        for ((h, new), inside) in self.depth_m.iter_mut().zip(depth).zip(&self.inside) {
            *h = if *inside { *new } else { 0.0 };
        }
        self.balance.placed_m3 += self.stored_m3() - before;
        // Discharges of what was wet are still there.
        self.wet_before = self.active();
        self.find_wet();
        self.hold_cells(None);
        if let Some(maxima) = &mut self.maxima {
            for (cell, h) in self.depth_m.indexed_iter() {
                maxima.see(cell.into(), *h, self.time_s);
            }
        }
        Ok(())
    }

    /// Tracks the greatest depth and speed of every cell and when water of `wet_depth_m` first came, from now on; what was
    /// tracked before is forgotten. Costs some of the speed, so that it is off unless asked for.
    ///
    /// # Errors
    /// [`HydroError::Value`] for a depth that is not finite and positive.
    pub fn track_maxima(&mut self, wet_depth_m: f64) -> Result<(), HydroError> {
        if !(wet_depth_m.is_finite() && wet_depth_m > 0.0) {
            return Err(HydroError::Value {
                name: "the wet depth in m",
                value: wet_depth_m,
                expected: "finite and positive",
            });
        }
        self.maxima = Some(Maxima::new(wet_depth_m, &self.depth_m, self.time_s));
        Ok(())
    }

    /// What [`track_maxima`](Self::track_maxima) has seen, if it is on.
    pub fn maxima(&self) -> Option<&Maxima> {
        self.maxima.as_ref()
    }

    /// Moves the simulation forward by `duration_s` seconds, in steps of equal length that land on the time exactly, and
    /// returns how many it took. Time in which there is no water and none comes takes none.
    ///
    /// # Errors
    /// [`HydroError::Value`] for a duration that is negative or not finite.
    pub fn advance(&mut self, duration_s: f64) -> Result<u64, HydroError> {
        if !(duration_s.is_finite() && duration_s >= 0.0) {
            return Err(HydroError::Value {
                name: "the duration in s",
                value: duration_s,
                expected: "finite and not negative",
            });
        }
        let end_s = self.time_s + duration_s;
        if self.work.is_parallel() {
            // Inside the pool, where starting the blocks of a step costs least.
            let mut steps = 0;
            rayon::scope(|_| steps = self.advance_to(end_s));
            Ok(steps)
        } else {
            Ok(self.advance_to(end_s))
        }
    }

    fn advance_to(&mut self, end_s: f64) -> u64 {
        let mut steps = 0;
        while self.time_s < end_s {
            let idle_s = self.idle_until_s(end_s);
            if idle_s > self.time_s {
                self.edge_outflow_m3_per_s = 0.0;
                self.boundary_inflow_m3_per_s.fill(0.0);
                self.time_s = idle_s;
                continue;
            }
            let remaining_s = end_s - self.time_s;
            let steps_left = (remaining_s / self.stable_timestep_s()).ceil().max(1.0);
            let timestep_s = remaining_s / steps_left;
            let start_s = self.time_s;
            self.step(timestep_s);
            // A step lost in the round-off of a huge clock would never end.
            if steps_left == 1.0 || self.time_s <= start_s {
                self.time_s = end_s;
            }
            steps += 1;
        }
        steps
    }

    /// Water depth in m, `[height, width]`; 0 outside the domain.
    pub fn depth_m(&self) -> &Array2<f64> {
        &self.depth_m
    }

    /// Unit discharge to the east in m²/s, `[height, width + 1]`: face k of a row lies west of cell k.
    pub fn discharge_east_m2_per_s(&self) -> ArrayView2<'_, f64> {
        view(&self.discharge.x, self.ground.height, self.ground.width + 1)
    }

    /// Unit discharge to the south in m²/s, `[height + 1, width]`: face row j lies north of cell row j.
    pub fn discharge_south_m2_per_s(&self) -> ArrayView2<'_, f64> {
        view(&self.discharge.y, self.ground.height + 1, self.ground.width)
    }

    /// Velocity to the east and to the south in m/s at the centres of the cells, `[height, width]` each: the mean discharge of
    /// opposite faces in the last step over the depth. 0 where the water is shallower than `min_depth_m`: in thin sheets,
    /// above all where they are just coming or going, the quotient means little.
    pub fn velocity_m_per_s(&self, min_depth_m: f64) -> [Array2<f64>; 2] {
        let (x, y) = (
            self.discharge_east_m2_per_s(),
            self.discharge_south_m2_per_s(),
        );
        let mut velocity = [(); 2].map(|()| Array2::zeros(self.depth_m.dim()));
        for ((row, col), h) in self.depth_m.indexed_iter() {
            if *h >= min_depth_m {
                let around = [
                    x[(row, col)],
                    x[(row, col + 1)],
                    y[(row, col)],
                    y[(row + 1, col)],
                ];
                let [east, south] = kernel::velocity(*h, around);
                velocity[0][(row, col)] = east;
                velocity[1][(row, col)] = south;
            }
        }
        velocity
    }

    /// Simulated time in s.
    pub fn time_s(&self) -> f64 {
        self.time_s
    }

    /// What has sunk into the ground of each cell, in m, `[height, width]`; kept with Green-Ampt infiltration alone.
    pub fn infiltrated_m(&self) -> Option<&Array2<f64>> {
        matches!(self.ground.uptake, Uptake::GreenAmpt(_)).then_some(&self.infiltrated_m)
    }

    /// What left the domain over its edge during the last step, in m³/s; what came in is not taken off. The hydrograph of an
    /// outlet, if read after every frame.
    pub fn edge_outflow_m3_per_s(&self) -> f64 {
        self.edge_outflow_m3_per_s
    }

    /// What each of the domain's boundaries let in during the last step, in m³/s, negative if more left there.
    pub fn boundary_inflow_m3_per_s(&self) -> &[f64] {
        &self.boundary_inflow_m3_per_s
    }

    /// Where the water came from and where it is.
    pub fn mass_balance(&self) -> MassBalance {
        MassBalance {
            stored_m3: self.stored_m3(),
            ..self.balance
        }
    }

    fn cell_area_m2(&self) -> f64 {
        self.cell_size_m * self.cell_size_m
    }

    fn stored_m3(&self) -> f64 {
        // Row by row, so that the round-off grows with the side of the grid and not with its area.
        self.depth_m
            .rows()
            .into_iter()
            .map(|row| row.sum())
            .sum::<f64>()
            * self.cell_area_m2()
    }

    /// Water no deeper takes no part in a step.
    fn active_depth_m(&self) -> f64 {
        if self.ground.uptake.is_active() {
            // Also water too shallow to flow sinks in.
            0.0
        } else {
            self.config.dry_depth_m
        }
    }

    /// Chunks in which discharges may be other than 0.
    fn active(&self) -> ChunkMap {
        let mut active = self.wet.clone();
        active.set_union(&self.wet, &self.wet_before);
        active
    }

    /// Chunks of cells with a discharge other than 0 around them.
    fn flowing(&self) -> ChunkMap {
        let (height, width) = (self.ground.height, self.ground.width);
        let mut flowing = ChunkMap::new(height, width);
        let (x, y) = (
            self.discharge_east_m2_per_s(),
            self.discharge_south_m2_per_s(),
        );
        for ((row, face), _) in x.indexed_iter().filter(|(_, q)| **q != 0.0) {
            flowing.mark(row, face.min(width - 1));
            flowing.mark(row, face.saturating_sub(1));
        }
        for ((face, col), _) in y.indexed_iter().filter(|(_, q)| **q != 0.0) {
            flowing.mark(face.min(height - 1), col);
            flowing.mark(face.saturating_sub(1), col);
        }
        flowing
    }

    /// Finds the wet chunks and the deepest water of each row.
    fn find_wet(&mut self) {
        let active_depth_m = self.active_depth_m();
        for (row, depth) in self.depth_m.rows().into_iter().enumerate() {
            let bits = self.wet.row_mut(row);
            bits.fill(0);
            let mut deepest_m = 0.0;
            let depth = depth.to_slice().unwrap_or_default();
            for (chunk, depth) in depth.chunks(CHUNK).enumerate() {
                let largest = kernel::largest(depth);
                if largest > active_depth_m {
                    chunks::mark(bits, chunk);
                    deepest_m = f64::max(deepest_m, largest);
                }
            }
            self.rows[row].max_depth_m = deepest_m;
        }
    }

    /// α Δx / √(g h_max). Only the deepest water counts: friction is implicit and steep flow is Froude-limited, so thin
    /// sheets ask for nothing shorter. Water that enters counts as it will stand after the step.
    fn stable_timestep_s(&self) -> f64 {
        let mut deepest_m = self
            .rows
            .iter()
            .fold(0.0, |deepest: f64, row| deepest.max(row.max_depth_m));
        for (level, bed) in self.given.iter().zip(&self.ground.edges.lowest_bed_m) {
            deepest_m = deepest_m.max(level.unwrap_or(f64::NEG_INFINITY) - bed);
        }
        let reach_m = self.config.courant * self.cell_size_m;
        let wave_s = reach_m / (GRAVITY * deepest_m).sqrt();
        let mut timestep_s = wave_s.min(self.config.max_timestep_s);
        for (hydrograph, cells) in self.inflows() {
            let largest = hydrograph.largest(self.time_s, self.time_s + timestep_s);
            let rise_m_per_s = largest.unwrap_or(0.0) / (cells.len() as f64 * self.cell_area_m2());
            if rise_m_per_s > 0.0 {
                // The step t that is α Δx / √(g h) for the depth h = h₀ + t dh/dt at its end: t² (h₀ + t dh/dt) = α² Δx² / g.
                // Newton's iteration from above falls towards it; each of its values is a bound.
                let bound = reach_m * reach_m / GRAVITY;
                let h = cells
                    .iter()
                    .fold(0.0, |h: f64, cell| h.max(self.depth_m[*cell]));
                let mut t = timestep_s.min((bound / rise_m_per_s).cbrt());
                for _ in 0..4 {
                    let excess = t * t * (h + rise_m_per_s * t) - bound;
                    if excess > 0.0 {
                        t -= excess / (t * (2.0 * h + 3.0 * rise_m_per_s * t));
                    }
                }
                timestep_s = t;
            }
        }
        timestep_s
    }

    /// The inflows and their cells.
    fn inflows(&self) -> impl Iterator<Item = (&Hydrograph, &[[usize; 2]])> {
        self.ground.edges.cells.iter().filter_map(|set| {
            match (set.kind, &self.boundaries[set.boundary]) {
                (
                    CellWater::Inflow | CellWater::Behind,
                    Boundary::Inflow {
                        discharge_m3_per_s, ..
                    },
                ) => Some((discharge_m3_per_s, &set.cells[..])),
                _ => None,
            }
        })
    }

    /// The time until which nothing can happen, at most `end_s`: with no water that flows or sinks in and no rain, that at which
    /// a boundary lets water in; else now.
    fn idle_until_s(&self, end_s: f64) -> f64 {
        let still =
            self.rain.total_m_per_s == 0.0 && self.wet.is_empty() && self.wet_before.is_empty();
        if !still {
            return self.time_s;
        }
        let lowest_beds = &self.ground.edges.lowest_bed_m;
        self.boundaries
            .iter()
            .zip(lowest_beds)
            .filter_map(|(boundary, lowest_bed_m)| match boundary {
                Boundary::Edge { .. } => None,
                Boundary::Level { level_m, .. } => level_m.next_above(*lowest_bed_m, self.time_s),
                Boundary::Inflow {
                    discharge_m3_per_s, ..
                } => discharge_m3_per_s.next_above(0.0, self.time_s),
            })
            .fold(end_s, f64::min)
    }

    fn step(&mut self, timestep_s: f64) {
        let scalars = StepScalars {
            timestep_s,
            cell_size_m: self.cell_size_m,
            froude_limit: self.config.froude_limit,
            sheet_depth_m: self.config.sheet_depth_m,
            dry_depth_m: self.config.dry_depth_m,
        };
        self.read_levels();
        self.read_inflows(timestep_s);
        self.work.active.set_union(&self.wet, &self.wet_before);
        let edges = &self.ground.edges;
        for face in edges.x.all().iter().chain(edges.y.all()) {
            // Water may come to dry ground here.
            if matches!(face.beyond, Outside::Level { boundary, .. } | Outside::Inflow { boundary }
                if self.given[boundary].is_some())
            {
                self.work.active.mark(face.row, face.col);
            }
        }
        let inputs = Inputs {
            ground: &self.ground,
            scalars: &scalars,
            rain: &self.rain,
            given: &self.given,
            active_depth_m: self.active_depth_m(),
            end_s: self.time_s + timestep_s,
        };
        let (Some(depth_m), Some(infiltrated_m)) = (
            self.depth_m.as_slice_mut(),
            self.infiltrated_m.as_slice_mut(),
        ) else {
            unreachable!("made by Array2::zeros, hence contiguous");
        };
        // The step writes over what was wet before the last one.
        std::mem::swap(&mut self.wet, &mut self.wet_before);
        let state = StateRows {
            depth_m,
            x: &mut self.discharge.x,
            y: &mut self.discharge.y,
            infiltrated_m,
            maxima: self.maxima.as_mut().map(Maxima::as_rows),
            rows: &mut self.rows,
            wet: self.wet.words_mut(),
        };
        step::step(inputs, state, &mut self.work);
        let area_m2 = self.cell_area_m2();
        let infiltration_m: f64 = self.rows.iter().map(|row| row.infiltration_m).sum();
        self.balance.infiltration_m3 += infiltration_m * area_m2;
        self.balance.rain_m3 += self.rain.total_m_per_s * timestep_s * area_m2;
        self.count_edges(timestep_s);
        self.let_in(timestep_s);
        self.time_s += timestep_s;
        self.hold_cells(Some(timestep_s));
    }

    /// The levels of the boundaries now.
    fn read_levels(&mut self) {
        for (level, boundary) in self.given.iter_mut().zip(&self.boundaries) {
            if let Boundary::Level { level_m, .. } = boundary {
                *level = level_m.at(self.time_s);
            }
        }
    }

    /// The inflows over sides during a step from now on.
    fn read_inflows(&mut self, timestep_s: f64) {
        for set in &self.ground.edges.cells {
            if let (
                CellWater::Behind,
                Boundary::Inflow {
                    discharge_m3_per_s, ..
                },
            ) = (set.kind, &self.boundaries[set.boundary])
            {
                let volume_m3 = discharge_m3_per_s.integral(self.time_s, self.time_s + timestep_s);
                let faces_m = set.cells.len() as f64 * self.cell_size_m;
                self.given[set.boundary] =
                    (volume_m3 > 0.0).then(|| volume_m3 / (timestep_s * faces_m));
            }
        }
    }

    /// Adds what crossed the edge in the last step to the balance.
    fn count_edges(&mut self, timestep_s: f64) {
        self.boundary_inflow_m3_per_s.fill(0.0);
        let (mut out, mut into) = (0.0, 0.0);
        let edges = &self.ground.edges;
        for face in edges.x.all().iter().chain(edges.y.all()) {
            let outflow = self.cell_size_m * face.outflow(&self.discharge, self.ground.width);
            if outflow > 0.0 {
                out += outflow;
            } else {
                into -= outflow;
            }
            if let Some(boundary) = face.boundary {
                self.boundary_inflow_m3_per_s[boundary] -= outflow;
            }
        }
        self.edge_outflow_m3_per_s = out;
        self.balance.outflow_m3 += out * timestep_s;
        self.balance.inflow_m3 += into * timestep_s;
    }

    /// Adds the inflows of a step, before the clock moves on.
    fn let_in(&mut self, timestep_s: f64) {
        for i in 0..self.ground.edges.cells.len() {
            let set = &self.ground.edges.cells[i];
            let (
                CellWater::Inflow,
                Boundary::Inflow {
                    discharge_m3_per_s, ..
                },
            ) = (set.kind, &self.boundaries[set.boundary])
            else {
                continue;
            };
            let volume_m3 = discharge_m3_per_s.integral(self.time_s, self.time_s + timestep_s);
            if volume_m3 > 0.0 {
                self.balance.inflow_m3 += volume_m3;
                self.boundary_inflow_m3_per_s[set.boundary] += volume_m3 / timestep_s;
                let rise_m = volume_m3 / (set.cells.len() as f64 * self.cell_area_m2());
                for k in 0..set.cells.len() {
                    let cell = self.ground.edges.cells[i].cells[k];
                    self.set_cell(cell, self.depth_m[cell] + rise_m);
                }
            }
        }
    }

    /// Sets the cells that boundaries hold at a level to that of the clock's time, after a step of the given length if any.
    fn hold_cells(&mut self, timestep_s: Option<f64>) {
        self.read_levels();
        for i in 0..self.ground.edges.cells.len() {
            let BoundaryCells { boundary, kind, .. } = self.ground.edges.cells[i];
            let (CellWater::Held, Some(level_m)) = (kind, self.given[boundary]) else {
                continue;
            };
            for k in 0..self.ground.edges.cells[i].cells.len() {
                let cell = self.ground.edges.cells[i].cells[k];
                let depth_m =
                    (level_m - self.ground.bed_m[cell[0] * self.ground.width + cell[1]]).max(0.0);
                let added_m3 = (depth_m - self.depth_m[cell]) * self.cell_area_m2();
                if added_m3 > 0.0 {
                    self.balance.inflow_m3 += added_m3;
                } else {
                    self.balance.outflow_m3 -= added_m3;
                }
                if let Some(timestep_s) = timestep_s {
                    self.boundary_inflow_m3_per_s[boundary] += added_m3 / timestep_s;
                }
                self.set_cell(cell, depth_m);
            }
        }
    }

    fn set_cell(&mut self, [row, col]: [usize; 2], depth_m: f64) {
        self.depth_m[(row, col)] = depth_m;
        if depth_m > self.active_depth_m() {
            let state = &mut self.rows[row];
            state.max_depth_m = state.max_depth_m.max(depth_m);
            self.wet.mark(row, col);
        }
        if let Some(maxima) = &mut self.maxima {
            maxima.see([row, col], depth_m, self.time_s);
        }
    }
}

fn view(values: &[f64], height: usize, width: usize) -> ArrayView2<'_, f64> {
    match ArrayView2::from_shape((height, width), values) {
        Ok(view) => view,
        Err(_) => unreachable!("allocated with this size"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Edge, Infiltration};

    /// Hills, pits and cells outside, 37 x 53.
    fn rough_domain() -> Domain {
        let bed_m = Array2::from_shape_fn((37, 53), |(row, col)| {
            let (y, x) = (row as f64, col as f64);
            if row > 30 && col < 4 {
                return f64::NAN;
            }
            40.0 * ((0.31 * x).sin() * (0.23 * y).cos()) + 10.0 * (1.7 * x + 2.9 * y).sin()
                - 0.8 * x
        });
        let n = Array2::from_shape_fn((37, 53), |(row, col)| {
            0.03 + 0.001 * ((row * 7 + col * 3) % 20) as f64
        });
        Domain {
            bed_m,
            cell_size_m: 50.0,
            manning: Parameter::PerCell(n),
            edge: Edge::FreeOutflow { slope: 0.01 },
            boundaries: vec![],
            infiltration: Infiltration::Constant { mm_per_h: 2.0 },
        }
    }

    #[test]
    fn blocks_of_rows_do_not_change_a_bit() {
        let config = SolverConfig::default();
        let run = |blocks| {
            let mut solver =
                Solver::with_blocks(rough_domain(), config.clone(), blocks, 0).unwrap();
            let rain = Array2::from_shape_fn((5, 7), |(row, col)| {
                ((row * 11 + col * 5) % 4) as f32 * 15.0
            });
            solver.set_rain_mm_per_h(rain.view()).unwrap();
            solver.advance(3600.0).unwrap();
            solver
                .set_rain_mm_per_h(Array2::zeros((1, 1)).view())
                .unwrap();
            solver.advance(3600.0).unwrap();
            solver
        };
        let serial = run(1);
        assert!(serial.depth_m.iter().any(|h| *h > 0.1));
        for blocks in [2, 3, 9] {
            let blocks = run(blocks);
            assert_eq!(serial.depth_m, blocks.depth_m);
            assert_eq!(serial.discharge.x, blocks.discharge.x);
            assert_eq!(serial.discharge.y, blocks.discharge.y);
            assert_eq!(serial.mass_balance(), blocks.mass_balance());
        }
    }
}
