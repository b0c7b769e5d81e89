//! The solver: a domain, its water, and the clock.

use ndarray::{Array2, ArrayView2};

use crate::continuity::Sources;
use crate::domain::{Domain, Edge, Manning};
use crate::grid::{Discharge, EdgeCell, Ground, RoughnessGrid, RowState};
use crate::kernel::{self, GRAVITY, StepScalars};
use crate::rain::{M_PER_S, Rain};
use crate::span::Span;
use crate::step::{self, State, Work};
use crate::{HydroError, MassBalance, SolverConfig};

/// Below this many cells a step is too short to be worth sharing between threads.
const PARALLEL_CELLS: usize = 65_536;

/// A running simulation.
///
/// Grids of 65 536 cells or more are computed on rayon's current thread pool, smaller ones in the calling thread; the
/// results are the same to the bit.
pub struct Solver {
    ground: Ground,
    inside: Vec<bool>,
    cell_size_m: f64,
    config: SolverConfig,
    rain: Rain,
    depth_m: Array2<f64>,
    discharge: Discharge,
    rows: Vec<RowState>,
    work: Work,
    time_s: f64,
    balance: MassBalance,
}

impl Solver {
    /// A dry domain at time 0, without rain.
    ///
    /// # Errors
    /// [`HydroError`] for what [`Domain::validate`] and [`SolverConfig::validate`] refuse.
    pub fn new(domain: Domain, config: SolverConfig) -> Result<Self, HydroError> {
        let (height, width) = domain.bed_m.dim();
        let threads = rayon::current_num_threads();
        let rows_per_block = if height * width < PARALLEL_CELLS || threads == 1 {
            height
        } else {
            // Several blocks a thread even out rows of unequal wetness.
            height.div_ceil(4 * threads).max(8)
        };
        Self::with_rows_per_block(domain, config, rows_per_block)
    }

    fn with_rows_per_block(
        domain: Domain,
        config: SolverConfig,
        rows_per_block: usize,
    ) -> Result<Self, HydroError> {
        domain.validate()?;
        config.validate()?;
        let (height, width) = domain.bed_m.dim();
        let inside: Vec<bool> = domain.bed_m.iter().map(|z| !z.is_nan()).collect();
        let (edge_cells, edge_starts) = edge_cells(&domain, &inside);
        let ground = Ground {
            height,
            width,
            bed_m: domain
                .bed_m
                .iter()
                .map(|z| if z.is_nan() { f64::INFINITY } else { *z })
                .collect(),
            manning: match domain.manning {
                Manning::Uniform(n) => RoughnessGrid::Uniform(n),
                Manning::PerCell(n) => RoughnessGrid::PerCell(n.iter().copied().collect()),
            },
            edge_cells,
            edge_starts,
        };
        let dry = RowState {
            wet: Span::EMPTY,
            max_depth_m: 0.0,
            outflow_m: 0.0,
            infiltration_m: 0.0,
        };
        Ok(Self {
            inside,
            cell_size_m: domain.cell_size_m,
            config,
            rain: Rain::none(height, width),
            depth_m: Array2::zeros((height, width)),
            discharge: Discharge {
                x: vec![0.0; height * (width + 1)],
                y: vec![0.0; (height + 1) * width],
            },
            rows: vec![dry; height],
            work: Work::new(height, width, rows_per_block),
            time_s: 0.0,
            balance: MassBalance::default(),
            ground,
        })
    }

    /// Sets the rain that falls from now on, in mm/h.
    ///
    /// # Shapes
    /// Any grid over the same ground that is not finer than the bed, `[1, 1]` for uniform rain included; each cell takes the
    /// rain cell that holds its centre.
    ///
    /// # Errors
    /// [`HydroError::Shape`] for an empty or finer grid, [`HydroError::CellValue`] for rain that is negative or not finite
    /// (missing radar is for the caller to fill); the rain stays what it was.
    pub fn set_rain_mm_per_h(&mut self, rain: ArrayView2<f32>) -> Result<(), HydroError> {
        self.rain.set(rain, &self.inside)
    }

    /// Sets the water depth in m; the discharges and the clock stay. For initial states, and for prescribed levels when called
    /// between steps. The mass balance counts the change as placed water.
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
        let active_depth = if self.config.infiltration_mm_per_h > 0.0 {
            0.0
        } else {
            self.config.dry_depth_m
        };
        for (row, state) in self.depth_m.rows().into_iter().zip(&mut self.rows) {
            let row = row.to_slice().unwrap_or_default();
            state.wet = Span::above(row, active_depth);
            state.max_depth_m = kernel::largest(row);
        }
        Ok(())
    }

    /// Moves the simulation forward by `duration_s` seconds, in steps of equal length that land on the time exactly, and
    /// returns how many it took.
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
        let mut steps = 0;
        while self.time_s < end_s {
            let remaining_s = end_s - self.time_s;
            let steps_left = (remaining_s / self.stable_timestep_s()).ceil().max(1.0);
            let timestep_s = remaining_s / steps_left;
            self.step(timestep_s);
            // A step lost in the round-off of a huge clock would never end.
            let next_s = self.time_s + timestep_s;
            self.time_s = if steps_left == 1.0 || next_s <= self.time_s {
                end_s
            } else {
                next_s
            };
            steps += 1;
        }
        Ok(steps)
    }

    /// Water depth in m, `[height, width]`; 0 outside the domain.
    pub fn depth_m(&self) -> &Array2<f64> {
        &self.depth_m
    }

    /// Unit discharge to the east in m²/s, `[height, width + 1]`: face k of a row lies west of cell k. The faces on the border
    /// of the grid are 0: what leaves over the edge is in the mass balance.
    pub fn discharge_east_m2_per_s(&self) -> ArrayView2<'_, f64> {
        view(&self.discharge.x, self.ground.height, self.ground.width + 1)
    }

    /// Unit discharge to the south in m²/s, `[height + 1, width]`: face row j lies north of cell row j. The faces on the border
    /// of the grid are 0.
    pub fn discharge_south_m2_per_s(&self) -> ArrayView2<'_, f64> {
        view(&self.discharge.y, self.ground.height + 1, self.ground.width)
    }

    /// Simulated time in s.
    pub fn time_s(&self) -> f64 {
        self.time_s
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

    /// α Δx / √(g h_max). Only the deepest water counts: friction is implicit and steep flow is Froude-limited, so thin
    /// sheets ask for nothing shorter.
    fn stable_timestep_s(&self) -> f64 {
        let deepest_m = self
            .rows
            .iter()
            .fold(0.0, |deepest: f64, row| deepest.max(row.max_depth_m));
        let wave_s = self.config.courant * self.cell_size_m / (GRAVITY * deepest_m).sqrt();
        wave_s.min(self.config.max_timestep_s)
    }

    fn step(&mut self, timestep_s: f64) {
        let scalars = StepScalars {
            timestep_s,
            cell_size_m: self.cell_size_m,
            froude_limit: self.config.froude_limit,
            dry_depth_m: self.config.dry_depth_m,
        };
        let sources = Sources {
            rain_m_per_s: &self.rain.rate_m_per_s,
            rain_spans: &self.rain.spans,
            infiltration_m_per_s: self.config.infiltration_mm_per_h * M_PER_S,
        };
        let Some(depth_m) = self.depth_m.as_slice_mut() else {
            unreachable!("made by Array2::zeros, hence contiguous");
        };
        let mut state = State {
            depth_m,
            discharge: &mut self.discharge,
            rows: &mut self.rows,
        };
        step::step(&self.ground, sources, &scalars, &mut state, &mut self.work);
        let (mut outflow_m, mut infiltration_m) = (0.0, 0.0);
        for row in &self.rows {
            outflow_m += row.outflow_m;
            infiltration_m += row.infiltration_m;
        }
        let area_m2 = self.cell_area_m2();
        self.balance.outflow_m3 += outflow_m * area_m2;
        self.balance.infiltration_m3 += infiltration_m * area_m2;
        self.balance.rain_m3 += self.rain.total_m_per_s * timestep_s * area_m2;
    }
}

fn view(values: &[f64], height: usize, width: usize) -> ArrayView2<'_, f64> {
    match ArrayView2::from_shape((height, width), values) {
        Ok(view) => view,
        Err(_) => unreachable!("allocated with this size"),
    }
}

/// Cells over whose outer faces water can leave, row by row, and where each row starts among them.
fn edge_cells(domain: &Domain, inside: &[bool]) -> (Vec<EdgeCell>, Vec<usize>) {
    let (height, width) = domain.bed_m.dim();
    let mut cells = Vec::new();
    let mut starts = vec![0];
    for row in 0..height {
        if let Edge::FreeOutflow { slope } = domain.edge {
            for col in (0..width).filter(|col| inside[row * width + col]) {
                let at = row * width + col;
                let outer = [
                    row == 0 || !inside[at - width],
                    row + 1 == height || !inside[at + width],
                    col == 0 || !inside[at - 1],
                    col + 1 == width || !inside[at + 1],
                ];
                let faces = outer.into_iter().filter(|outer| *outer).count();
                let manning = match &domain.manning {
                    Manning::Uniform(n) => *n,
                    Manning::PerCell(n) => n[(row, col)],
                };
                if faces > 0 {
                    cells.push(EdgeCell {
                        col,
                        faces: faces as f64,
                        conveyance: slope.sqrt() / manning,
                    });
                }
            }
        }
        starts.push(cells.len());
    }
    (cells, starts)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            manning: Manning::PerCell(n),
            edge: Edge::FreeOutflow { slope: 0.01 },
        }
    }

    #[test]
    fn blocks_of_rows_do_not_change_a_bit() {
        let config = SolverConfig {
            infiltration_mm_per_h: 2.0,
            ..SolverConfig::default()
        };
        let run = |rows_per_block| {
            let mut solver =
                Solver::with_rows_per_block(rough_domain(), config.clone(), rows_per_block)
                    .unwrap();
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
        let serial = run(37);
        assert!(serial.depth_m.iter().any(|h| *h > 0.1));
        for rows_per_block in [1, 5, 36] {
            let blocks = run(rows_per_block);
            assert_eq!(serial.depth_m, blocks.depth_m);
            assert_eq!(serial.discharge.x, blocks.discharge.x);
            assert_eq!(serial.discharge.y, blocks.discharge.y);
            assert_eq!(serial.mass_balance(), blocks.mass_balance());
        }
    }
}
