//! The Boscastle flood of August 2004: the published label-maker's input and answer, our runs of it, and their scores.

use std::error::Error;
use std::io::Read;
use std::path::Path;

use ndarray::{Array2, array};
use pluvial_data::raster::esri_ascii;
use pluvial_hydro::compat::{HailCaesar, HailCaesarConfig};
use pluvial_hydro::{Domain, Edge, Infiltration, Parameter, Solver, SolverConfig};

/// Length of a line of the rain and of the hydrograph in s.
pub const INTERVAL_S: f64 = 300.0;
/// When the depths were written, in minutes.
pub const DEPTH_MIN: f64 = 3360.0;
/// Depth from which a cell counts as wet, m.
pub const WET_M: f64 = 0.1;
/// Manning's n, slope of the edge and limit of the Froude number of the published run.
const MANNING: f64 = 0.04;
const EDGE_SLOPE: f64 = 0.005;
const FROUDE_LIMIT: f64 = 0.8;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub struct Case {
    pub bed_m: Array2<f64>,
    pub cell_size_m: f64,
    /// mm/h, a value each interval.
    pub rain_mm_per_h: Vec<f32>,
    /// The published answer.
    pub answer: Series,
}

/// What is compared.
pub struct Series {
    /// Mean outflow of each interval, m³/s.
    pub outflow: Vec<f64>,
    /// What the published program writes as the discharge expected from its runoff model, m³/s.
    pub expected: Vec<f64>,
    /// At minute [`DEPTH_MIN`], m.
    pub depth_m: Array2<f64>,
}

pub struct Run {
    pub series: Series,
    pub steps: u64,
    pub mass_error: f64,
}

impl Case {
    /// Reads the folder of the published run; the terrain is that of 50 m.
    pub fn load(folder: &Path) -> Result<Case> {
        let dem = esri_ascii::read(&folder.join("dem_50m.asc"))?;
        let rain = text(&folder.join("rain_72h_5min.txt.gz"))?;
        let hydrograph = text(&folder.join("hail_caesar_hydrograph.dat.gz"))?;
        let depth = esri_ascii::read(&folder.join("hail_caesar_depth_3360min.asc"))?;
        Ok(Case {
            cell_size_m: dem.cell_x,
            bed_m: dem.data.mapv(f64::from),
            rain_mm_per_h: column(&rain, 0)?.into_iter().map(|v| v as f32).collect(),
            answer: Series {
                outflow: column(&hydrograph, 1)?,
                expected: column(&hydrograph, 2)?,
                depth_m: depth.data.mapv(f64::from),
            },
        })
    }

    /// The published scheme with the published settings; `integer_exponent: false` corrects the friction alone. The second
    /// value is the water that the scheme puts on each cell in each interval, mm/h.
    pub fn published_scheme(&self, integer_exponent: bool) -> Result<(Run, Vec<Array2<f32>>)> {
        let config = HailCaesarConfig {
            courant: 0.3,
            froude_limit: FROUDE_LIMIT,
            manning: MANNING,
            flow_threshold_m: 1e-5,
            edge_slope: EDGE_SLOPE,
            topmodel_m: 0.002,
            min_discharge_m3_per_s: 0.03,
            max_discharge_m3_per_s: 1000.0,
            max_input_m: 0.05,
            integer_exponent,
        };
        let mut simulation = HailCaesar::new(self.bed_m.clone(), self.cell_size_m, (1, 1), config)?;
        for (line, rate) in self.rain_mm_per_h.iter().enumerate() {
            simulation.set_rain_mm_per_h(line as f64 * INTERVAL_S, array![[*rate]].view())?;
        }
        let (mut outflow, mut expected, mut water) = (Vec::new(), Vec::new(), Vec::new());
        let mut depth_m = None;
        let mut steps = 0;
        let (mut outflow_m3, mut runoff_m3) = (Line::default(), Line::default());
        let mut excess_m3 = 0.0;
        while outflow.len() < self.answer.outflow.len() {
            let timestep_s = simulation.step();
            steps += 1;
            let end_s = (outflow.len() + 1) as f64 * INTERVAL_S;
            let over_s = simulation.time_s() - end_s;
            let rates = (simulation.outflow_m3_per_s(), simulation.runoff_m3_per_s());
            outflow_m3.now += rates.0 * timestep_s;
            runoff_m3.now += rates.1 * timestep_s;
            if over_s >= 0.0 {
                outflow.push(outflow_m3.end(rates.0 * over_s) / INTERVAL_S);
                let mean = runoff_m3.end(rates.1 * over_s) / INTERVAL_S;
                water.push(simulation.input_mm_per_h() * (mean / rates.1) as f32);
                // The program takes off what lies beyond the interval but does not give it to the next.
                expected.push(mean - excess_m3 / INTERVAL_S);
                excess_m3 = rates.1 * over_s;
            }
            if depth_m.is_none() && simulation.time_s() >= DEPTH_MIN * 60.0 {
                depth_m = Some(simulation.depth_m().clone());
            }
        }
        let run = Run {
            series: Series {
                outflow,
                expected,
                depth_m: depth_m.ok_or("the run ended before the depths were wanted")?,
            },
            steps,
            mass_error: simulation.mass_balance().relative_error(),
        };
        Ok((run, water))
    }

    /// Our solver with the same roughness, edge slope and Froude limit, and this water (mm/h) in each interval.
    pub fn solver(&self, water_mm_per_h: &[Array2<f32>]) -> Result<Run> {
        let domain = Domain {
            bed_m: self.bed_m.clone(),
            cell_size_m: self.cell_size_m,
            manning: Parameter::Uniform(MANNING),
            edge: Edge::FreeOutflow { slope: EDGE_SLOPE },
            boundaries: Vec::new(),
            infiltration: Infiltration::None,
        };
        let config = SolverConfig {
            froude_limit: FROUDE_LIMIT,
            ..SolverConfig::default()
        };
        let mut solver = Solver::new(domain, config)?;
        let mut outflow = Vec::new();
        let mut depth_m = None;
        let mut steps = 0;
        let mut left_m3 = 0.0;
        for (line, water) in water_mm_per_h
            .iter()
            .take(self.answer.outflow.len())
            .enumerate()
        {
            solver.set_rain_mm_per_h(water.view())?;
            steps += solver.advance(INTERVAL_S)?;
            let outflow_m3 = solver.mass_balance().outflow_m3;
            outflow.push((outflow_m3 - left_m3) / INTERVAL_S);
            left_m3 = outflow_m3;
            if (line + 1) as f64 * INTERVAL_S == DEPTH_MIN * 60.0 {
                depth_m = Some(solver.depth_m().clone());
            }
        }
        Ok(Run {
            series: Series {
                outflow,
                expected: Vec::new(),
                depth_m: depth_m.ok_or("the run ended before the depths were wanted")?,
            },
            steps,
            mass_error: solver.mass_balance().relative_error(),
        })
    }
}

/// A volume that grows step by step, and where its last line ended.
#[derive(Default)]
struct Line {
    now: f64,
    ended: f64,
}

impl Line {
    /// The volume of the line that ends before the newest `over` of it.
    fn end(&mut self, over: f64) -> f64 {
        let volume = self.now - over - self.ended;
        self.ended = self.now - over;
        volume
    }
}

/// Nash–Sutcliffe efficiency: 1 - Σ (ours - theirs)² / Σ (theirs - mean)².
pub fn nash_sutcliffe(ours: &[f64], theirs: &[f64]) -> f64 {
    let mean = theirs.iter().sum::<f64>() / theirs.len() as f64;
    let error: f64 = ours.iter().zip(theirs).map(|(a, b)| (a - b).powi(2)).sum();
    let variance: f64 = theirs.iter().map(|b| (b - mean).powi(2)).sum();
    1.0 - error / variance
}

/// Intersection over union of the cells with at least `threshold_m` of water.
pub fn wet_iou(ours: &Array2<f64>, theirs: &Array2<f64>, threshold_m: f64) -> f64 {
    let (mut both, mut any) = (0, 0);
    for (a, b) in ours.iter().zip(theirs) {
        let wet = (*a >= threshold_m, *b >= threshold_m);
        both += usize::from(wet.0 && wet.1);
        any += usize::from(wet.0 || wet.1);
    }
    both as f64 / any as f64
}

/// Lowest, highest and root mean square of ours less theirs, m.
pub fn depth_error_m(ours: &Array2<f64>, theirs: &Array2<f64>) -> [f64; 3] {
    let errors = ours - theirs;
    let squares: f64 = errors.iter().map(|error| error.powi(2)).sum();
    [
        errors.iter().copied().fold(0.0, f64::min),
        errors.iter().copied().fold(0.0, f64::max),
        (squares / errors.len() as f64).sqrt(),
    ]
}

/// The largest value and the minute at which its interval ends.
pub fn peak(outflow: &[f64]) -> (f64, f64) {
    let mut best = (0, 0.0);
    for (line, value) in outflow.iter().enumerate() {
        if *value > best.1 {
            best = (line, *value);
        }
    }
    (best.1, (best.0 + 1) as f64 * INTERVAL_S / 60.0)
}

fn text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text)?;
    Ok(text)
}

fn column(text: &str, index: usize) -> Result<Vec<f64>> {
    text.lines()
        .enumerate()
        .map(|(line, values)| {
            let value = values
                .split_whitespace()
                .nth(index)
                .and_then(|v| v.parse().ok());
            value.ok_or_else(|| {
                format!("line {}: no number in column {}", line + 1, index + 1).into()
            })
        })
        .collect()
}
