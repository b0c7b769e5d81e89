//! A simulation from files to files: terrain and rain in; depths, maxima, hydrographs and pictures out. Frames are written as they
//! come, so that memory is set by the grid alone.

mod frames;
mod hydrograph;
mod pictures;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ndarray::Array2;
use pluvial_hydro::{Boundary, Domain, Edge, HydroError, Infiltration, MassBalance, Parameter};
use pluvial_hydro::{Solver, SolverConfig, SolverState};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use frames::{FrameFormat, Quantity};
pub use pictures::animate;

use crate::error::{DataError, Result};
use crate::file;
use crate::grid::GeoGrid;
use crate::radar::RainSource;
use crate::raster::geotiff;
use frames::FrameWriter;
use hydrograph::HydrographWriter;

/// Depth in m from which a cell counts as wet: for the arrival time and the count of wet cells.
pub const WET_DEPTH_M: f64 = 0.1;

/// Water less deep than this, in m, has velocity 0 in frames: in thin sheets it means little.
const VELOCITY_DEPTH_M: f64 = 0.01;

/// Wall time between saved states.
const SAVE_EVERY: Duration = Duration::from_secs(300);

/// What the ground does to the water; the `[hydro]` table of a recipe has the same keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroundConfig {
    /// Manning's n of the ground, s m^(−1/3). Default 0.05.
    pub manning: f64,
    /// What happens at the edge of the terrain. Default free outflow at a slope of 0.002.
    pub edge: Edge,
    /// Where it is otherwise: edges of sides, given levels, inflows. Default none.
    pub boundaries: Vec<Boundary>,
    /// What the ground takes up, as `infiltration.constant.mm_per_h = 2.0`, or `infiltration.green_ampt` with
    /// `conductivity_mm_per_h`, `suction_head_mm` and `moisture_deficit`. Default `"none"`.
    pub infiltration: Infiltration,
    /// Numerical settings.
    pub solver: SolverConfig,
}

impl Default for GroundConfig {
    fn default() -> Self {
        Self {
            manning: 0.05,
            edge: Edge::FreeOutflow { slope: 0.002 },
            boundaries: Vec::new(),
            infiltration: Infiltration::None,
            solver: SolverConfig::default(),
        }
    }
}

impl GroundConfig {
    /// The domain of a terrain in m; its NaN cells are outside.
    ///
    /// # Errors
    /// [`DataError::Config`] for cells that are not square.
    pub fn domain(&self, terrain: &GeoGrid) -> Result<Domain> {
        let (x, y) = terrain.cell_size_m();
        if (x - y).abs() > 0.01 * x.max(y) {
            return Err(DataError::Config(format!(
                "the terrain's cells are {x:.2} × {y:.2} m; the solver needs square ones: resample it first"
            )));
        }
        Ok(self.domain_of(terrain.data.mapv(f64::from), 0.5 * (x + y)))
    }

    /// The domain of a bed in m, NaN outside, with square cells.
    pub(crate) fn domain_of(&self, bed_m: Array2<f64>, cell_size_m: f64) -> Domain {
        Domain {
            bed_m,
            cell_size_m,
            manning: Parameter::Uniform(self.manning),
            edge: self.edge,
            boundaries: self.boundaries.clone(),
            infiltration: self.infiltration.clone(),
        }
    }
}

/// What a simulation writes and for how long it runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimulationConfig {
    /// Seconds between depth frames.
    pub every_s: f64,
    /// Simulated seconds; none: until the rain ends.
    pub duration_s: Option<f64>,
    /// Form of the depth frames; none: no frames.
    pub format: Option<FrameFormat>,
    /// Whether the velocity to the east and to the south is written beside each depth.
    pub velocity: bool,
    /// Cells whose depth is written into the hydrograph: name, row and column.
    pub points: Vec<(String, [usize; 2])>,
}

/// Where a running simulation is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Simulated time, s.
    pub time_s: f64,
    /// Simulated time at the end, s, if it is known.
    pub end_s: Option<f64>,
    /// Length of the last steps, s.
    pub timestep_s: f64,
    /// Cells with [`WET_DEPTH_M`] of water or more.
    pub wet_cells: usize,
    /// Relative error of the water balance.
    pub mass_error: f64,
}

/// What a simulation calls while it runs.
#[derive(Clone, Copy)]
pub struct Hooks<'a> {
    /// Told where the simulation is, after every rain frame and depth frame.
    pub progress: &'a dyn Fn(&Progress),
    /// Asked after every rain frame whether to save the state and stop.
    pub stop: &'a dyn Fn() -> bool,
}

/// What a simulation came to: `simulation.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Hash of everything that the result depends on.
    pub fingerprint: String,
    /// Whether it ran to its end; otherwise the same call goes on.
    pub finished: bool,
    /// Simulated seconds.
    pub time_s: f64,
    /// Time steps.
    pub steps: u64,
    /// Depth frames written.
    pub frames: u64,
    /// Seconds of computing, of all calls.
    pub wall_s: f64,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Cells inside the domain.
    pub cells: usize,
    /// Side of a cell, m.
    pub cell_size_m: f64,
    /// Cells that held [`WET_DEPTH_M`] of water or more at some time.
    pub ever_wet_cells: usize,
    /// Greatest depth of all cells and times, m.
    pub max_depth_m: f64,
    /// Water balance, m³.
    pub rain_m3: f64,
    /// Let in by boundaries, m³.
    pub inflow_m3: f64,
    /// Sunk into the ground, m³.
    pub infiltration_m3: f64,
    /// Gone over the edge, m³.
    pub outflow_m3: f64,
    /// Still there, m³.
    pub stored_m3: f64,
    /// Error of the balance over the water turned over.
    pub relative_mass_error: f64,
    /// Version of pluvial.
    pub pluvial_version: String,
}

/// The files of a simulation.
struct Files {
    summary: PathBuf,
    state: PathBuf,
    hydrograph: PathBuf,
    frames: PathBuf,
    max_depth: PathBuf,
    max_speed: PathBuf,
    arrival: PathBuf,
    picture: PathBuf,
}

impl Files {
    fn in_folder(out: &Path) -> Self {
        Self {
            summary: out.join("simulation.json"),
            state: out.join("state.bin"),
            hydrograph: out.join("hydrograph.csv"),
            frames: out.join("depth"),
            max_depth: out.join("max_depth.tif"),
            max_speed: out.join("max_speed.tif"),
            arrival: out.join("arrival.tif"),
            picture: out.join("max_depth.png"),
        }
    }
}

/// Runs a simulation of `rain` on `terrain` (m, NaN outside) into the folder `out`: `simulation.json`, `hydrograph.csv`, `depth/…`,
/// `max_depth.tif` (m), `max_speed.tif` (m/s), `arrival.tif` (hours to [`WET_DEPTH_M`]; no data where it was never reached) and
/// `max_depth.png`.
///
/// The rain is taken to cover the terrain's area, on any coarser grid; after its last frame none falls. `stop` is asked between rain
/// frames: where it says so, the state is saved and the same call goes on from there later, to the same results. `inputs` are further
/// things that the result depends on, such as the names of the files.
///
/// # Errors
/// What the rain meets, what the solver refuses, files that cannot be written, and a folder with other contents.
pub fn simulate(
    terrain: &GeoGrid,
    ground: &GroundConfig,
    rain: &mut dyn RainSource,
    config: &SimulationConfig,
    inputs: &str,
    out: &Path,
    hooks: Hooks,
) -> Result<Summary> {
    let Hooks { progress, stop } = hooks;
    let started = Instant::now();
    let solver_error = |e: HydroError| DataError::Config(format!("simulation: {e}"));
    check(config, terrain)?;
    let domain = ground.domain(terrain)?;
    let (cell_size_m, cells) = (
        domain.cell_size_m,
        domain.bed_m.iter().filter(|z| !z.is_nan()).count(),
    );
    let fingerprint = fingerprint(terrain, ground, config, inputs);
    let files = Files::in_folder(out);
    std::fs::create_dir_all(&files.frames)
        .map_err(|e| DataError::io("create", &files.frames, e))?;

    let before = previous(&files, &fingerprint, out)?;
    if let Some(summary) = before.as_ref().filter(|summary| summary.finished) {
        return Ok(summary.clone());
    }
    let mut solver = match &before {
        Some(_) => {
            let unusable = |reason: String| DataError::format(&files.state, reason);
            let state = SolverState::read_from(file::open(&files.state)?);
            let state = state.map_err(|e| unusable(e.to_string()))?;
            Solver::resume(domain, ground.solver.clone(), state)
                .map_err(|e| unusable(e.to_string()))?
        }
        None => {
            let mut solver = Solver::new(domain, ground.solver.clone()).map_err(solver_error)?;
            solver.track_maxima(WET_DEPTH_M).map_err(solver_error)?;
            solver
        }
    };
    let mut summary = before.unwrap_or_else(|| Summary {
        fingerprint,
        finished: false,
        time_s: 0.0,
        steps: 0,
        frames: 0,
        wall_s: 0.0,
        shape: [terrain.height(), terrain.width()],
        cells,
        cell_size_m,
        ever_wet_cells: 0,
        max_depth_m: 0.0,
        rain_m3: 0.0,
        inflow_m3: 0.0,
        infiltration_m3: 0.0,
        outflow_m3: 0.0,
        stored_m3: 0.0,
        relative_mass_error: 0.0,
        pluvial_version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    let wall_before_s = summary.wall_s;
    let mut hydrograph =
        HydrographWriter::open(&files.hydrograph, &config.points, solver.time_s())?;
    let frames = config
        .format
        .map(|format| FrameWriter::new(&files.frames, format, terrain));

    let mut saved = Instant::now();
    let mut frame_start_s = 0.0;
    let mut raining = true;
    while config
        .duration_s
        .is_none_or(|end_s| solver.time_s() < end_s)
    {
        let frame = match raining {
            true => rain.next_frame()?,
            false => None,
        };
        let frame_end_s = match &frame {
            Some(frame) => frame.end_s,
            None => frame_start_s + rain.frame_s(),
        };
        if frame.is_none() {
            raining = false;
            if config.duration_s.is_none() {
                break;
            }
        }
        let end_s = config
            .duration_s
            .map_or(frame_end_s, |end_s| end_s.min(frame_end_s));
        frame_start_s = frame_end_s;
        // A continued run passes over the rain that has fallen.
        if end_s <= solver.time_s() {
            continue;
        }
        let rates = frame.map_or_else(|| Array2::zeros((1, 1)), |frame| frame.rain_mm_per_h);
        solver
            .set_rain_mm_per_h(rates.view())
            .map_err(solver_error)?;
        while solver.time_s() < end_s {
            let next_frame_s = (summary.frames + 1) as f64 * config.every_s;
            let from_s = solver.time_s();
            let steps = solver
                .advance(next_frame_s.min(end_s) - from_s)
                .map_err(solver_error)?;
            summary.steps += steps;
            if solver.time_s() >= next_frame_s {
                if let Some(frames) = &frames {
                    let time_s = solver.time_s();
                    frames.write(Quantity::Depth, time_s, solver.depth_m())?;
                    if config.velocity {
                        let [east, south] = solver.velocity_m_per_s(VELOCITY_DEPTH_M);
                        frames.write(Quantity::VelocityEast, time_s, &east)?;
                        frames.write(Quantity::VelocitySouth, time_s, &south)?;
                    }
                }
                hydrograph.write(&solver)?;
                summary.frames += 1;
            }
            let wet = solver.depth_m().iter().filter(|h| **h >= WET_DEPTH_M);
            progress(&Progress {
                time_s: solver.time_s(),
                end_s: config.duration_s,
                timestep_s: (solver.time_s() - from_s) / steps.max(1) as f64,
                wet_cells: wet.count(),
                mass_error: solver.mass_balance().relative_error(),
            });
        }
        let stopped = stop();
        if stopped || saved.elapsed() >= SAVE_EVERY {
            hydrograph.flush()?;
            file::write(&files.state, |to| solver.state().write_to(to))?;
            summary.wall_s = wall_before_s + started.elapsed().as_secs_f64();
            summary.take(&solver, cell_size_m);
            file::write_json(&files.summary, &summary)?;
            saved = Instant::now();
        }
        if stopped {
            return Ok(summary);
        }
    }
    hydrograph.flush()?;
    write_maxima(&files, terrain, &solver)?;
    summary.wall_s = wall_before_s + started.elapsed().as_secs_f64();
    summary.take(&solver, cell_size_m);
    summary.finished = true;
    file::write_json(&files.summary, &summary)?;
    match std::fs::remove_file(&files.state) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(DataError::io("remove", &files.state, e))
        }
        _ => Ok(summary),
    }
}

impl Summary {
    fn take(&mut self, solver: &Solver, cell_size_m: f64) {
        let MassBalance {
            rain_m3,
            inflow_m3,
            infiltration_m3,
            outflow_m3,
            stored_m3,
            ..
        } = solver.mass_balance();
        self.time_s = solver.time_s();
        self.cell_size_m = cell_size_m;
        (self.rain_m3, self.inflow_m3) = (rain_m3, inflow_m3);
        (self.infiltration_m3, self.outflow_m3) = (infiltration_m3, outflow_m3);
        self.stored_m3 = stored_m3;
        self.relative_mass_error = solver.mass_balance().relative_error();
        if let Some(maxima) = solver.maxima() {
            let depths = maxima.depth_m.iter();
            self.ever_wet_cells = depths.clone().filter(|h| **h >= WET_DEPTH_M).count();
            self.max_depth_m = depths.fold(0.0, |a, h| h.max(a));
        }
    }
}

fn check(config: &SimulationConfig, terrain: &GeoGrid) -> Result<()> {
    let wrong = |text: String| Err(DataError::Config(text));
    for (name, value) in [
        ("every", Some(config.every_s)),
        ("duration", config.duration_s),
    ] {
        if let Some(value) = value
            && !(value.is_finite() && value > 0.0)
        {
            return wrong(format!("simulation: {name} is {value} s: must be positive"));
        }
    }
    for (name, [row, column]) in &config.points {
        if *row >= terrain.height() || *column >= terrain.width() {
            return wrong(format!(
                "point {name}: row {row}, column {column} is not on the terrain of {} × {} cells",
                terrain.height(),
                terrain.width()
            ));
        }
    }
    Ok(())
}

/// What an earlier call left in the folder: its summary, if it is of the same simulation.
fn previous(files: &Files, fingerprint: &str, out: &Path) -> Result<Option<Summary>> {
    if !files.summary.exists() {
        let mut frames = std::fs::read_dir(&files.frames)
            .map_err(|e| DataError::io("read", &files.frames, e))?;
        return match frames.next() {
            None => Ok(None),
            Some(_) if files.hydrograph.exists() => Ok(None), // stopped before its first state: begun anew
            Some(_) => Err(DataError::format(
                out,
                "the folder holds depth frames of something else; choose a new folder",
            )),
        };
    }
    let summary: Summary = file::read_json(&files.summary)?;
    if summary.fingerprint != fingerprint {
        return Err(DataError::format(
            out,
            "the folder holds another simulation (other terrain, rain or settings); choose a new folder",
        ));
    }
    Ok(Some(summary))
}

fn fingerprint(
    terrain: &GeoGrid,
    ground: &GroundConfig,
    config: &SimulationConfig,
    inputs: &str,
) -> String {
    let mut hash = Sha256::new();
    hash.update(format!(
        "{:?} {ground:?} {config:?} {inputs}",
        terrain.place()
    ));
    for z in &terrain.data {
        hash.update(z.to_bits().to_le_bytes());
    }
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_maxima(files: &Files, terrain: &GeoGrid, solver: &Solver) -> Result<()> {
    let Some(maxima) = solver.maxima() else {
        return Ok(());
    };
    let masked = |values: &Array2<f64>, scale: f64| {
        let mut grid = terrain.clone();
        ndarray::Zip::from(&mut grid.data)
            .and(values)
            .for_each(|cell, value| {
                let is_number = !cell.is_nan() && value.is_finite();
                *cell = if is_number {
                    (value * scale) as f32
                } else {
                    f32::NAN
                };
            });
        grid
    };
    let depth_m = masked(&maxima.depth_m, 1.0);
    geotiff::write(&files.max_depth, &depth_m)?;
    geotiff::write(&files.max_speed, &masked(&maxima.speed_m_per_s, 1.0))?;
    geotiff::write(&files.arrival, &masked(&maxima.arrival_s, 1.0 / 3600.0))?;
    let (cell_x, _) = terrain.cell_size_m();
    pictures::flood(
        &files.picture,
        terrain.data.view(),
        cell_x,
        depth_m.data.view(),
    )
}
