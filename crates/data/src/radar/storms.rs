//! Synthetic storms: seeded, varied in place, size and strength, and streamed frame by frame.
//!
//! A storm is a background plus convective cells, both carried along by one velocity:
//!
//! * The background is `exp(σ g) − exp(σ z)` where positive, with `g` a Gaussian field of unit variance and `z` the quantile
//!   that leaves the wanted share of the area wet. `g` is a sum of plane waves `Σ a cos(k·(x − v t) + φ)` (Shinozuka & Jan 1972,
//!   J. Sound Vib. 25) with the spectrum of a Matérn covariance of order 3/2, whose wave vectors are distributed as a
//!   two-dimensional Student t of 3 degrees of freedom; the phases walk at random, which makes the pattern forget itself
//!   exponentially as it moves.
//! * A cell is an elliptical Gaussian that grows and decays as `sin²` over its life.
//!
//! The event falls in one or more spells with dry time before, between and after them. All rates are then scaled so that the
//! wettest grid cell's event total meets a target that is drawn log-uniformly.

use std::f64::consts::{PI, TAU};

use ndarray::{Array2, Axis, Zip};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::{RainFrame, RainSource};
use crate::error::{DataError, Result};
use crate::rng;

/// The background's plane waves stand in rings of wave number, from 20 times the length scale down to the grid, with this many
/// directions each: waves drawn straight from the spectrum would all be equally strong, and the few short ones among them
/// would show as stripes.
const RINGS: usize = 20;
/// Directions in a ring.
const DIRECTIONS: usize = 8;
/// Wave number of the innermost ring's inner edge, in radians per length scale.
const LONGEST_WAVE: f64 = 0.05;
/// Distance, in length scales, at which the Matérn 3/2 correlation `(1 + √3 r) exp(−√3 r)` is 1/e.
const MATERN_E_FOLDING: f64 = 1.239_105;
/// Cells are moved in steps of at most this many seconds within a frame, so that fast ones leave a streak and no row of dots.
const CELL_STEP_S: f64 = 60.0;

/// What synthetic storms look like. Pairs are lowest and highest value; a storm draws its own between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StormConfig {
    /// Rows of the rain grid. Default 64.
    pub height: usize,
    /// Columns of the rain grid. Default 64.
    pub width: usize,
    /// Cell size in km. Default 1.
    pub cell_km: f64,
    /// Length of a frame in seconds. Default 300.
    pub frame_s: f64,
    /// Length of an event in hours, dry time included. Default 24.
    pub duration_h: f64,
    /// Event total at the wettest grid cell in mm, drawn log-uniformly. Default 15 to 160.
    pub total_mm: [f64; 2],
    /// No rate goes beyond this, mm/h. Default 120.
    pub max_rate_mm_per_h: f64,
    /// Rates below this are dry, mm/h. Default 0.1.
    pub min_rate_mm_per_h: f64,
    /// Speed at which the storm moves in m/s. Default 5 to 15; the direction is uniform.
    pub speed_m_per_s: [f64; 2],
    /// Share of storms that hardly move (up to 1.5 m/s). Default 0.15.
    pub stationary_share: f64,
    /// Share of storms whose cells follow each other over the same place. Default 0.3.
    pub training_share: f64,
    /// Number of rainy spells. Default 1 to 3.
    pub spells: [usize; 2],
    /// Length of a spell in hours, longer in stronger storms; all spells are shortened where they would fill more than three
    /// quarters of the event. Default 1.5 to 8.
    pub spell_h: [f64; 2],
    /// Share of the area that the background wets in a spell. Default 0.1 to 0.5.
    pub background_wet_share: [f64; 2],
    /// Mean rate of the background where it is wet, in the middle of a spell and before scaling, mm/h, higher in stronger
    /// storms. Default 0.7 to 8.
    pub background_mm_per_h: [f64; 2],
    /// Standard deviation of the logarithm of the background's rate before the threshold. Default 1.
    pub background_log_std: f64,
    /// Distance at which the correlation of the background's logarithm has fallen to 1/e, in km. Default 10 to 30.
    pub background_corr_km: [f64; 2],
    /// Time after which that correlation has fallen to 1/e for an observer who moves along, in hours. Default 0.5 to 2.
    pub background_corr_h: [f64; 2],
    /// How many times longer than wide the background's patches are. Default 1 to 3.
    pub background_aspect: [f64; 2],
    /// Number of cells in an event; stronger storms have more. Default 3 to 50.
    pub cells: [usize; 2],
    /// Life of a cell in minutes. Default 20 to 90.
    pub cell_life_min: [f64; 2],
    /// Highest rate of a cell before scaling, mm/h, log-normal with these as the ends of ±2 standard deviations and cut there.
    /// Default 10 to 80.
    pub cell_peak_mm_per_h: [f64; 2],
    /// Distance from a cell's centre at which its rate has fallen to 1/e, in km. Default 1.5 to 6.
    pub cell_radius_km: [f64; 2],
    /// How many times longer than wide a cell is. Default 1 to 2.
    pub cell_aspect: [f64; 2],
    /// Standard deviation of a cell's velocity around the storm's, each component, in m/s. Default 1.5.
    pub cell_speed_scatter_m_per_s: f64,
}

impl Default for StormConfig {
    fn default() -> Self {
        Self {
            height: 64,
            width: 64,
            cell_km: 1.0,
            frame_s: 300.0,
            duration_h: 24.0,
            total_mm: [15.0, 160.0],
            max_rate_mm_per_h: 120.0,
            min_rate_mm_per_h: 0.1,
            speed_m_per_s: [5.0, 15.0],
            stationary_share: 0.15,
            training_share: 0.3,
            spells: [1, 3],
            spell_h: [1.5, 8.0],
            background_wet_share: [0.1, 0.5],
            background_mm_per_h: [0.7, 8.0],
            background_log_std: 1.0,
            background_corr_km: [10.0, 30.0],
            background_corr_h: [0.5, 2.0],
            background_aspect: [1.0, 3.0],
            cells: [3, 50],
            cell_life_min: [20.0, 90.0],
            cell_peak_mm_per_h: [10.0, 80.0],
            cell_radius_km: [1.5, 6.0],
            cell_aspect: [1.0, 2.0],
            cell_speed_scatter_m_per_s: 1.5,
        }
    }
}

impl StormConfig {
    /// Number of frames in an event.
    pub fn frames(&self) -> usize {
        (self.duration_h * 3600.0 / self.frame_s).round() as usize
    }

    fn check(&self) -> Result<()> {
        let positive = |name: &str, value: f64| {
            if value > 0.0 && value.is_finite() {
                Ok(())
            } else {
                Err(DataError::Config(format!(
                    "storms: {name} is {value}, it must be positive"
                )))
            }
        };
        let share = |name: &str, value: f64| {
            if (0.0..=1.0).contains(&value) {
                Ok(())
            } else {
                Err(DataError::Config(format!(
                    "storms: {name} is {value}, it must lie between 0 and 1"
                )))
            }
        };
        let range = |name: &str, [low, high]: [f64; 2], least: f64| {
            if low >= least && low <= high && high.is_finite() {
                Ok(())
            } else {
                Err(DataError::Config(format!(
                    "storms: {name} is {low} to {high}, it must be ascending and at least {least}"
                )))
            }
        };
        positive("cell_km", self.cell_km)?;
        positive("frame_s", self.frame_s)?;
        positive("duration_h", self.duration_h)?;
        positive("max_rate_mm_per_h", self.max_rate_mm_per_h)?;
        positive("background_log_std", self.background_log_std)?;
        range("min_rate_mm_per_h", [self.min_rate_mm_per_h; 2], 0.0)?;
        range(
            "cell_speed_scatter_m_per_s",
            [self.cell_speed_scatter_m_per_s; 2],
            0.0,
        )?;
        share("stationary_share", self.stationary_share)?;
        share("training_share", self.training_share)?;
        let tiny = f64::MIN_POSITIVE;
        range("total_mm", self.total_mm, tiny)?;
        range("speed_m_per_s", self.speed_m_per_s, 0.0)?;
        range("spell_h", self.spell_h, tiny)?;
        range("background_wet_share", self.background_wet_share, 0.0)?;
        share("background_wet_share", self.background_wet_share[1])?;
        range("background_mm_per_h", self.background_mm_per_h, tiny)?;
        range("background_corr_km", self.background_corr_km, tiny)?;
        range("background_corr_h", self.background_corr_h, tiny)?;
        range("background_aspect", self.background_aspect, 1.0)?;
        range("cell_life_min", self.cell_life_min, tiny)?;
        range("cell_peak_mm_per_h", self.cell_peak_mm_per_h, tiny)?;
        range("cell_radius_km", self.cell_radius_km, tiny)?;
        range("cell_aspect", self.cell_aspect, 1.0)?;
        range("spells", self.spells.map(|n| n as f64), 1.0)?;
        range("cells", self.cells.map(|n| n as f64), 0.0)?;
        if self.height == 0 || self.width == 0 || self.frames() == 0 {
            return Err(DataError::Config(
                "storms: height, width and the number of frames must be at least 1".into(),
            ));
        }
        Ok(())
    }
}

/// What was drawn for one storm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StormTraits {
    /// Event total at the wettest grid cell, mm.
    pub total_mm: f64,
    /// Where the storm moves to, in degrees clockwise from north.
    pub heading_deg: f64,
    /// How fast, m/s.
    pub speed_m_per_s: f64,
    /// Whether cells follow each other over the same place.
    pub training: bool,
    /// Number of spells.
    pub spells: usize,
    /// Number of cells.
    pub cells: usize,
    /// Factor on all rates that led to the total.
    pub scale: f64,
}

/// One synthetic storm as a [`RainSource`].
#[derive(Debug, Clone)]
pub struct SyntheticStorm {
    config: StormConfig,
    traits: StormTraits,
    /// Start and end of each spell, seconds.
    spells: Vec<[f64; 2]>,
    background: Background,
    cells: Vec<Cell>,
    /// Index of the next frame.
    next: usize,
}

impl SyntheticStorm {
    /// Draws the storm `seed`. The generator runs through the event a few times to find the scale of the rates; it never holds
    /// more than a few frames.
    ///
    /// # Errors
    /// [`DataError::Config`] for values that cannot be, or where `max_rate_mm_per_h` keeps the storm from its lowest total.
    pub fn new(config: &StormConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let mut rng = rng::stream(seed, "storm structure");
        let size_km = [
            config.width as f64 * config.cell_km,
            config.height as f64 * config.cell_km,
        ];
        let duration_s = config.frames() as f64 * config.frame_s;

        let strength: f64 = rng.random();
        let target_mm = log_between(config.total_mm, strength);
        let speed_m_per_s = if rng.random::<f64>() < config.stationary_share {
            1.5 * rng.random::<f64>()
        } else {
            uniform(&mut rng, config.speed_m_per_s)
        };
        let heading = rng.random::<f64>() * TAU;
        let training = rng.random::<f64>() < config.training_share;
        // Axes: x east, y south, as columns and rows run.
        let velocity_km_per_s = [heading.sin(), -heading.cos()].map(|c| c * speed_m_per_s / 1000.0);

        let spells = draw_spells(&mut rng, config, strength, duration_s);
        let background = Background::new(config, strength, velocity_km_per_s, seed);
        let cells = draw_cells(
            &mut rng::stream(seed, "storm cells"),
            config,
            &Placement {
                strength,
                training,
                velocity_km_per_s,
                size_km,
                spells: &spells,
            },
        );

        let mut storm = Self {
            traits: StormTraits {
                total_mm: 0.0,
                heading_deg: heading.to_degrees(),
                speed_m_per_s,
                training,
                spells: spells.len(),
                cells: cells.len(),
                scale: 1.0,
            },
            config: config.clone(),
            spells,
            background,
            cells,
            next: 0,
        };
        storm.scale_to(target_mm)?;
        Ok(storm)
    }

    /// What was drawn.
    pub fn traits(&self) -> &StormTraits {
        &self.traits
    }

    /// Finds the scale at which the wettest cell's total is `target_mm`: the total is proportional to it but for the lowest and
    /// the highest rate, so a secant in the logarithms arrives within a few passes.
    fn scale_to(&mut self, target_mm: f64) -> Result<()> {
        let [low, high] = self.config.total_mm;
        let mut slope = 1.0;
        let mut before: Option<(f64, f64)> = None;
        for pass in 0..8 {
            let total = self.clone().highest_total_mm();
            self.traits.total_mm = total;
            let miss = (target_mm / total).ln();
            if !miss.is_finite() {
                return Err(DataError::Config(
                    "storms: no rain falls with these settings".into(),
                ));
            }
            if miss.abs() < 0.005 || pass == 7 {
                break;
            }
            let log_scale = self.traits.scale.ln();
            if let Some((scale_before, total_before)) = before {
                let measured = (total.ln() - total_before) / (log_scale - scale_before);
                slope = if measured.is_finite() {
                    measured.clamp(0.2, 2.0)
                } else {
                    1.0
                };
            }
            before = Some((log_scale, total.ln()));
            self.traits.scale = (log_scale + miss / slope).exp();
        }
        if self.traits.total_mm < 0.99 * low || self.traits.total_mm > 1.01 * high {
            return Err(DataError::Config(format!(
                "storms: a storm with {} cells and rates of at most {} mm/h reaches a total of {:.1} mm, not {low} to {high} mm",
                self.cells.len(),
                self.config.max_rate_mm_per_h,
                self.traits.total_mm
            )));
        }
        Ok(())
    }

    /// Total of the wettest cell over what is left of the event, mm.
    fn highest_total_mm(mut self) -> f64 {
        let hours = self.config.frame_s / 3600.0;
        let mut total = Array2::<f64>::zeros(self.shape());
        while let Some(rain) = self.advance() {
            Zip::from(&mut total)
                .and(&rain)
                .for_each(|t, &r| *t += hours * f64::from(r));
        }
        total.iter().copied().fold(0.0, f64::max)
    }

    /// Rain of the next frame, mm/h.
    fn advance(&mut self) -> Option<Array2<f32>> {
        if self.next == self.config.frames() {
            return None;
        }
        let start_s = self.next as f64 * self.config.frame_s;
        self.next += 1;
        let middle_s = start_s + 0.5 * self.config.frame_s;
        let envelope = self
            .spells
            .iter()
            .map(|&[start, end]| spell_envelope(middle_s, start, end))
            .fold(0.0, f64::max);
        self.background.walk();
        let mut rain = if envelope > 0.0 {
            self.background.rain(middle_s, envelope)
        } else {
            Array2::zeros(self.shape())
        };
        let steps = (self.config.frame_s / CELL_STEP_S).ceil().max(1.0);
        let step_s = self.config.frame_s / steps;
        for cell in &self.cells {
            for step in 0..steps as usize {
                let time_s = start_s + (step as f64 + 0.5) * step_s;
                cell.add(&mut rain, time_s, self.config.cell_km, 1.0 / steps);
            }
        }
        let scale = self.traits.scale as f32;
        let (least, most) = (
            self.config.min_rate_mm_per_h as f32,
            self.config.max_rate_mm_per_h as f32,
        );
        rain.mapv_inplace(|rate| {
            let rate = (rate * scale).min(most);
            if rate < least { 0.0 } else { rate }
        });
        Some(rain)
    }
}

impl RainSource for SyntheticStorm {
    fn next_frame(&mut self) -> Result<Option<RainFrame>> {
        Ok(self.advance().map(|rain_mm_per_h| RainFrame {
            end_s: self.next as f64 * self.config.frame_s,
            rain_mm_per_h,
        }))
    }

    fn frame_s(&self) -> f64 {
        self.config.frame_s
    }

    fn shape(&self) -> (usize, usize) {
        (self.config.height, self.config.width)
    }
}

/// The stratiform part: an advected, threshold log-normal field.
#[derive(Debug, Clone)]
struct Background {
    /// Wave vectors (x, y) in radians per km.
    waves: Vec<[f64; 2]>,
    /// Their phases now, radians.
    phases: Vec<f64>,
    /// Standard deviation of a phase's step from frame to frame.
    phase_step: f64,
    walk: ChaCha8Rng,
    velocity_km_per_s: [f64; 2],
    /// `[2 K, height]`: cosines, then sines, of k_y y.
    rows: Array2<f32>,
    /// `[2 K, width]`: cosines, then sines, of k_x x, times the amplitude.
    columns: Array2<f32>,
    log_std: f64,
    /// `exp(σ z)` at the quantile `z` below which it is dry.
    threshold: f64,
    /// mm/h per unit of `exp(σ g) − exp(σ z)`.
    unit_mm_per_h: f64,
}

impl Background {
    fn new(config: &StormConfig, strength: f64, velocity_km_per_s: [f64; 2], seed: u64) -> Self {
        let mut rng = rng::stream(seed, "storm background");
        let length_km = uniform(&mut rng, config.background_corr_km) / MATERN_E_FOLDING;
        let stretch = uniform(&mut rng, config.background_aspect).sqrt();
        let (sin, cos) = (rng.random::<f64>() * PI).sin_cos();
        let corr_s = 3600.0 * uniform(&mut rng, config.background_corr_h);
        let wet_share = uniform(&mut rng, config.background_wet_share).clamp(1e-6, 1.0 - 1e-6);
        let mean_mm_per_h = log_between(config.background_mm_per_h, rank(&mut rng, strength));

        // Share of the spectrum beyond a wave number of κ per length scale (Student t of 3 degrees of freedom).
        let beyond = |kappa: f64| (1.0 + kappa * kappa / 3.0).powf(-1.5);
        let nyquist = PI / config.cell_km;
        let step = (nyquist * length_km / LONGEST_WAVE).max(2.0).ln() / RINGS as f64;
        let mut waves: Vec<[f64; 2]> = Vec::with_capacity(RINGS * DIRECTIONS);
        let mut powers: Vec<f64> = Vec::with_capacity(RINGS * DIRECTIONS);
        for ring in 0..RINGS {
            let edge = |ring: usize| LONGEST_WAVE * (step * ring as f64).exp();
            let inner = if ring == 0 { 0.0 } else { edge(ring) };
            let power = beyond(inner) - beyond(edge(ring + 1));
            for direction in 0..DIRECTIONS {
                let kappa = edge(ring) * (step * rng.random::<f64>()).exp();
                let angle = PI * (direction as f64 + rng.random::<f64>()) / DIRECTIONS as f64;
                let along = kappa * angle.cos() / length_km / stretch;
                let across = kappa * angle.sin() / length_km * stretch;
                let wave = [along * cos - across * sin, along * sin + across * cos];
                if wave[0].hypot(wave[1]) < nyquist {
                    waves.push(wave);
                    powers.push(power);
                }
            }
        }
        let total: f64 = powers.iter().sum();
        let phases = waves.iter().map(|_| rng.random::<f64>() * TAU).collect();
        let table = |axis: usize, cells: usize, amplitude: &dyn Fn(usize) -> f64| {
            Array2::from_shape_fn((2 * waves.len(), cells), |(k, i)| {
                let wave: usize = k % waves.len();
                let (sin, cos) = (waves[wave][axis] * (i as f64 + 0.5) * config.cell_km).sin_cos();
                (amplitude(wave) * if k < waves.len() { cos } else { sin }) as f32
            })
        };
        let rows = table(1, config.height, &|_| 1.0);
        let columns = table(0, config.width, &|wave| (2.0 * powers[wave] / total).sqrt());

        // Mean of exp(σ g) − exp(σ z) over the wet share of a standard normal g.
        let sigma = config.background_log_std;
        let z = normal_quantile(1.0 - wet_share);
        let threshold = (sigma * z).exp();
        let mean = (0.5 * sigma * sigma).exp() * normal_cdf(sigma - z) / wet_share - threshold;
        Self {
            waves,
            phases,
            // A normal step of variance v turns the correlation by exp(−v / 2).
            phase_step: (2.0 * config.frame_s / corr_s).sqrt(),
            walk: rng::stream(seed, "storm phases"),
            velocity_km_per_s,
            rows,
            columns,
            log_std: sigma,
            threshold,
            unit_mm_per_h: mean_mm_per_h / mean,
        }
    }

    /// Lets the pattern forget a little of itself.
    fn walk(&mut self) {
        for phase in &mut self.phases {
            *phase += self.phase_step * normal(&mut self.walk);
        }
    }

    /// The Gaussian field `[height, width]`.
    fn gaussian(&self, time_s: f64) -> Array2<f32> {
        // cos(a + b) = cos a cos b − sin a sin b, used twice: once for the phase, and once to turn the sum over waves into a
        // matrix product.
        let number = self.waves.len();
        let mut rows = Array2::<f32>::zeros((2 * number, self.rows.ncols()));
        let (mut cosines, mut sines) = rows.view_mut().split_at(Axis(0), number);
        let [east, south] = self.velocity_km_per_s;
        for (k, wave) in self.waves.iter().enumerate() {
            let phase = self.phases[k] - time_s * (wave[0] * east + wave[1] * south);
            let (sin, cos) = phase.sin_cos();
            let (sin, cos) = (sin as f32, cos as f32);
            Zip::from(cosines.row_mut(k))
                .and(sines.row_mut(k))
                .and(self.rows.row(k))
                .and(self.rows.row(number + k))
                .for_each(|c, s, &row_cos, &row_sin| {
                    *c = cos * row_cos - sin * row_sin;
                    *s = -(sin * row_cos + cos * row_sin);
                });
        }
        rows.t().dot(&self.columns)
    }

    /// Rain `[height, width]`, mm/h.
    fn rain(&self, time_s: f64, envelope: f64) -> Array2<f32> {
        let mut field = self.gaussian(time_s);
        let (sigma, threshold) = (self.log_std as f32, self.threshold as f32);
        let unit = (envelope * self.unit_mm_per_h) as f32;
        field.mapv_inplace(|g| ((sigma * g).exp() - threshold).max(0.0) * unit);
        field
    }
}

/// A convective cell. Positions in km from the north-western corner, x east, y south.
#[derive(Debug, Clone)]
struct Cell {
    birth_s: f64,
    life_s: f64,
    peak_mm_per_h: f64,
    /// Centre in the middle of its life.
    middle_km: [f64; 2],
    velocity_km_per_s: [f64; 2],
    /// Half axes at which the rate has fallen to 1/e.
    axes_km: [f64; 2],
    /// Angle of the first axis from east towards south, radians.
    angle: f64,
}

impl Cell {
    /// Adds the cell's rain at `time_s`, times `weight`.
    fn add(&self, rain: &mut Array2<f32>, time_s: f64, cell_km: f64, weight: f64) {
        let age = (time_s - self.birth_s) / self.life_s;
        if !(0.0..=1.0).contains(&age) {
            return;
        }
        let rate = weight * self.peak_mm_per_h * (PI * age).sin().powi(2);
        let since_middle = (age - 0.5) * self.life_s;
        let x = self.middle_km[0] + self.velocity_km_per_s[0] * since_middle;
        let y = self.middle_km[1] + self.velocity_km_per_s[1] * since_middle;
        // Beyond three half axes less than e^-9 of the rate is left.
        let reach = 3.0 * self.axes_km[0].max(self.axes_km[1]);
        let span = |centre: f64, cells: usize| {
            let first = ((centre - reach) / cell_km).floor().max(0.0) as usize;
            let last = ((centre + reach) / cell_km).ceil().max(0.0) as usize;
            first.min(cells)..last.min(cells)
        };
        let (sin, cos) = self.angle.sin_cos();
        for i in span(y, rain.nrows()) {
            for j in span(x, rain.ncols()) {
                let dx = (j as f64 + 0.5) * cell_km - x;
                let dy = (i as f64 + 0.5) * cell_km - y;
                let u = (dx * cos + dy * sin) / self.axes_km[0];
                let v = (dy * cos - dx * sin) / self.axes_km[1];
                rain[[i, j]] += (rate * (-(u * u + v * v)).exp()) as f32;
            }
        }
    }
}

/// What the cells of one storm share.
struct Placement<'a> {
    /// 0 for the weakest storm, 1 for the strongest.
    strength: f64,
    training: bool,
    velocity_km_per_s: [f64; 2],
    /// Width and height of the grid.
    size_km: [f64; 2],
    spells: &'a [[f64; 2]],
}

fn draw_cells(rng: &mut ChaCha8Rng, config: &StormConfig, place: &Placement) -> Vec<Cell> {
    let [fewest, most] = config.cells.map(|n| n as f64);
    let number = (fewest + rank(rng, place.strength) * (most - fewest)).round() as usize;
    let centre = place
        .size_km
        .map(|km| km * (0.1 + 0.8 * rng.random::<f64>()));
    let spread_km = if place.training {
        2.0
    } else {
        uniform(rng, [0.1, 0.5]) * place.size_km[0].max(place.size_km[1])
    };
    let rainy_s: f64 = place.spells.iter().map(|[start, end]| end - start).sum();
    let [lowest, highest] = config.cell_peak_mm_per_h.map(f64::ln);
    (0..number)
        .map(|_| {
            let life_s = 60.0 * uniform(rng, config.cell_life_min);
            let middle_s = time_in_spells(place.spells, rng.random::<f64>() * rainy_s);
            let radius_km = uniform(rng, config.cell_radius_km);
            let stretch = uniform(rng, config.cell_aspect).sqrt();
            let peak = redraw(
                || 0.5 * (lowest + highest) + 0.25 * (highest - lowest) * normal(rng),
                lowest,
                highest,
            );
            let middle_km = [0, 1].map(|axis| {
                redraw(
                    || centre[axis] + spread_km * normal(rng),
                    0.0,
                    place.size_km[axis],
                )
            });
            let scatter = config.cell_speed_scatter_m_per_s / 1000.0;
            Cell {
                birth_s: middle_s - 0.5 * life_s,
                life_s,
                peak_mm_per_h: peak.exp(),
                middle_km,
                velocity_km_per_s: place.velocity_km_per_s.map(|v| v + scatter * normal(rng)),
                axes_km: [radius_km * stretch, radius_km / stretch],
                angle: rng.random::<f64>() * PI,
            }
        })
        .collect()
}

/// Spells in time order, and dry time shared out at random before, between and after them.
fn draw_spells(
    rng: &mut ChaCha8Rng,
    config: &StormConfig,
    strength: f64,
    duration_s: f64,
) -> Vec<[f64; 2]> {
    let number = rng.random_range(config.spells[0]..=config.spells[1]);
    let mut lengths: Vec<f64> = (0..number)
        .map(|_| 3600.0 * log_between(config.spell_h, rank(rng, strength)))
        .collect();
    let shorten = (0.75 * duration_s / lengths.iter().sum::<f64>()).min(1.0);
    lengths.iter_mut().for_each(|length| *length *= shorten);
    // Exponential shares of the dry time: every way to cut it is equally likely.
    let shares: Vec<f64> = (0..=number)
        .map(|_| -(1.0 - rng.random::<f64>()).ln())
        .collect();
    let dry_s = (duration_s - lengths.iter().sum::<f64>()) / shares.iter().sum::<f64>().max(1e-12);
    let mut clock = 0.0;
    lengths
        .iter()
        .zip(&shares)
        .map(|(length, share)| {
            let start = clock + share * dry_s;
            clock = start + length;
            [start, clock]
        })
        .collect()
}

/// The moment at which `rainy_s` seconds of spells have passed.
fn time_in_spells(spells: &[[f64; 2]], mut rainy_s: f64) -> f64 {
    for &[start, end] in spells {
        if rainy_s <= end - start {
            return start + rainy_s;
        }
        rainy_s -= end - start;
    }
    spells.last().map_or(0.0, |&[_, end]| end)
}

/// 1 in the middle half of a spell, falling to 0 at its ends as a squared sine.
fn spell_envelope(time_s: f64, start: f64, end: f64) -> f64 {
    if !(start..end).contains(&time_s) {
        return 0.0;
    }
    let edge = (time_s - start).min(end - time_s) / (0.25 * (end - start));
    (0.5 * PI * edge.min(1.0)).sin().powi(2)
}

fn normal(rng: &mut impl Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn uniform(rng: &mut impl Rng, [low, high]: [f64; 2]) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// `low` at rank 0, `high` at rank 1, and their geometric mean half way.
fn log_between([low, high]: [f64; 2], rank: f64) -> f64 {
    low * (high / low).powf(rank)
}

/// A rank between 0 and 1 that follows the strength of the storm half of the way and chance the other half: stronger storms
/// last longer, rain harder and have more cells, and need less scaling.
fn rank(rng: &mut impl Rng, strength: f64) -> f64 {
    0.5 * (strength + rng.random::<f64>())
}

/// Draws until a value lies in `low..=high`; after 100 tries the last one is moved to the nearer end.
fn redraw(mut draw: impl FnMut() -> f64, low: f64, high: f64) -> f64 {
    let mut value = draw();
    for _ in 0..100 {
        if (low..=high).contains(&value) {
            break;
        }
        value = draw();
    }
    value.clamp(low, high)
}

/// Φ(x) with an error below 1.5e-7 (Abramowitz & Stegun 7.1.26).
fn normal_cdf(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let poly = t
        * (0.254_829_592
            + t * (-0.284_496_736
                + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let tail = 0.5 * poly * (-z * z).exp();
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// The x at which Φ(x) = p, by bisection.
fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if normal_cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayView2, s};

    fn events() -> impl Iterator<Item = (SyntheticStorm, Vec<Array2<f32>>)> {
        let config = StormConfig {
            height: 48,
            ..StormConfig::default()
        };
        (0..24).map(move |seed| {
            let mut storm = SyntheticStorm::new(&config, seed).unwrap();
            let first = storm.clone();
            let frames = std::iter::from_fn(|| storm.advance()).collect();
            (first, frames)
        })
    }

    #[test]
    fn totals_shares_and_rates_are_as_configured() {
        let mut totals = Vec::new();
        for (storm, frames) in events() {
            assert_eq!(frames.len(), 288);
            let mut total = Array2::<f64>::zeros((48, 64));
            let (mut wet, mut peak, mut dry_frames) = (0_usize, 0.0_f32, 0);
            for frame in &frames {
                assert_eq!(frame.dim(), (48, 64));
                total += &frame.mapv(|r| f64::from(r) / 12.0);
                let wet_cells = frame.iter().filter(|&&r| r > 0.0).count();
                wet += wet_cells;
                dry_frames += usize::from(wet_cells == 0);
                for &rate in frame {
                    assert!(rate == 0.0 || (0.1..=120.0).contains(&rate));
                    peak = peak.max(rate);
                }
            }
            let highest = total.iter().copied().fold(0.0, f64::max);
            let wet_share = wet as f64 / (288.0 * 48.0 * 64.0);
            assert!((highest - storm.traits().total_mm).abs() < 1e-6 * highest);
            assert!((0.99 * 15.0..1.01 * 160.0).contains(&highest));
            assert!((0.005..0.5).contains(&wet_share), "{wet_share}");
            assert!(peak > 10.0, "{peak}");
            assert!(dry_frames >= 288 / 8, "{dry_frames}");
            totals.push(highest);
        }
        totals.sort_by(f64::total_cmp);
        // Log-uniform between 15 and 160: the median is near 49.
        assert!(totals[0] < 25.0 && totals[23] > 100.0);
        assert!((30.0..80.0).contains(&totals[12]), "{}", totals[12]);
    }

    #[test]
    fn the_seed_decides() {
        let config = StormConfig {
            height: 20,
            width: 32,
            ..StormConfig::default()
        };
        let frames = |seed| {
            let mut storm = SyntheticStorm::new(&config, seed).unwrap();
            let mut frames = Vec::new();
            while let Some(frame) = storm.next_frame().unwrap() {
                frames.push(frame);
            }
            assert_eq!((storm.shape(), storm.frame_s()), ((20, 32), 300.0));
            frames
        };
        let first = frames(11);
        assert_eq!(first[0].end_s, 300.0);
        assert_eq!(first.last().unwrap().end_s, 24.0 * 3600.0);
        assert_eq!(first, frames(11));
        assert_ne!(first, frames(12));
    }

    /// A field of 40 × 56 km holds some ten independent patches: means over this many are good to about 0.014.
    const FIELDS: usize = 1000;

    /// Many backgrounds of one kind, not moving.
    fn backgrounds() -> impl Iterator<Item = Background> {
        let config = StormConfig {
            height: 40,
            width: 56,
            background_corr_km: [12.0; 2],
            background_aspect: [1.0; 2],
            background_corr_h: [1.0; 2],
            background_wet_share: [0.3; 2],
            background_mm_per_h: [4.0; 2],
            ..StormConfig::default()
        };
        (0..FIELDS as u64).map(move |seed| Background::new(&config, 0.5, [0.0; 2], seed))
    }

    fn mean_product(a: ArrayView2<f32>, b: ArrayView2<f32>) -> f64 {
        let sum: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a * b)).sum();
        sum / a.len() as f64
    }

    #[test]
    fn the_background_is_correlated_as_a_matern_field() {
        let mut sums = [0.0; 5];
        for background in backgrounds() {
            let g = background.gaussian(0.0);
            let right = |d: usize| mean_product(g.slice(s![.., ..56 - d]), g.slice(s![.., d..]));
            let down = |d: usize| mean_product(g.slice(s![..40 - d, ..]), g.slice(s![d.., ..]));
            let means = [right(0), right(12), down(12), right(6), down(6)];
            sums.iter_mut()
                .zip(means)
                .for_each(|(sum, m)| *sum += m / FIELDS as f64);
        }
        // (1 + √3 r) exp(−√3 r) at r = 6 km × 1.239105 / 12 km is 0.7089.
        let expected = [1.0, (-1.0_f64).exp(), (-1.0_f64).exp(), 0.7089, 0.7089];
        for (found, expected) in sums.iter().zip(expected) {
            assert!((found - expected).abs() < 0.04, "{sums:?}");
        }
    }

    #[test]
    fn the_background_forgets_itself_in_time() {
        let mut sums = [0.0; 2];
        for mut background in backgrounds() {
            let start = background.gaussian(0.0);
            for sum in &mut sums {
                // Half an hour: six frames.
                (0..6).for_each(|_| background.walk());
                *sum += mean_product(start.view(), background.gaussian(0.0).view()) / FIELDS as f64;
            }
        }
        assert!((sums[0] - (-0.5_f64).exp()).abs() < 0.04, "{sums:?}");
        assert!((sums[1] - (-1.0_f64).exp()).abs() < 0.04, "{sums:?}");
    }

    #[test]
    fn the_background_wets_its_share_at_its_rate() {
        let (mut wet, mut sum) = (0, 0.0);
        for background in backgrounds() {
            let rain = background.rain(0.0, 1.0);
            wet += rain.iter().filter(|&&r| r > 0.0).count();
            sum += rain.iter().map(|&r| f64::from(r)).sum::<f64>();
        }
        let share = wet as f64 / (FIELDS * 40 * 56) as f64;
        assert!((share - 0.3).abs() < 0.02, "{share}");
        assert!((sum / wet as f64 - 4.0).abs() < 0.4, "{}", sum / wet as f64);
    }

    #[test]
    fn the_normal_distribution_is_that_of_the_tables() {
        for (x, p) in [
            (0.0, 0.5),
            (1.0, 0.841_344_7),
            (-1.959_964, 0.025),
            (3.0, 0.998_650_1),
        ] {
            assert!((normal_cdf(x) - p).abs() < 2e-7);
            assert!((normal_quantile(p) - x).abs() < 1e-4);
        }
    }

    /// Rain is where it was a frame ago, shifted: the shift at which the two correlate best is speed times time.
    #[test]
    fn storms_move_where_they_head() {
        const REACH: isize = 6;
        let config = StormConfig {
            height: 48,
            stationary_share: 0.0,
            ..StormConfig::default()
        };
        for seed in 0..8 {
            let mut storm = SyntheticStorm::new(&config, seed).unwrap();
            let traits = *storm.traits();
            let mut best = Array2::<f64>::zeros((13, 13));
            let mut before = storm.advance().unwrap();
            while let Some(after) = storm.advance() {
                let inner = before.slice(s![6..42, 6..58]);
                let norm = mean_product(inner, inner);
                if norm > 0.0 {
                    for ((i, j), sum) in best.indexed_iter_mut() {
                        let moved = after.slice(s![i..i + 36, j..j + 52]);
                        let other = mean_product(moved, moved);
                        if other > 0.0 {
                            *sum += mean_product(inner, moved) / (norm * other).sqrt();
                        }
                    }
                }
                before = after;
            }
            let peak = best
                .indexed_iter()
                .max_by(|a, b| a.1.total_cmp(b.1))
                .unwrap()
                .0;
            let cells = traits.speed_m_per_s * 300.0 / 1000.0;
            let (sin, cos) = traits.heading_deg.to_radians().sin_cos();
            let found = [peak.0 as isize - REACH, peak.1 as isize - REACH].map(|d| d as f64);
            let expected = [-cos * cells, sin * cells];
            assert!(
                (found[0] - expected[0]).abs() <= 1.0 && (found[1] - expected[1]).abs() <= 1.0,
                "{traits:?}: {found:?} {expected:?}"
            );
        }
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let error = |config: StormConfig| SyntheticStorm::new(&config, 1).unwrap_err().to_string();
        let default = StormConfig::default;
        let cases = [
            (
                StormConfig {
                    cell_km: 0.0,
                    ..default()
                },
                "cell_km",
            ),
            (
                StormConfig {
                    frame_s: f64::NAN,
                    ..default()
                },
                "frame_s",
            ),
            (
                StormConfig {
                    total_mm: [50.0, 10.0],
                    ..default()
                },
                "total_mm",
            ),
            (
                StormConfig {
                    training_share: 1.5,
                    ..default()
                },
                "training_share",
            ),
            (
                StormConfig {
                    background_wet_share: [0.5, 1.5],
                    ..default()
                },
                "background_wet_share",
            ),
            (
                StormConfig {
                    spells: [0, 1],
                    ..default()
                },
                "spells",
            ),
            (
                StormConfig {
                    width: 0,
                    ..default()
                },
                "width",
            ),
            // A quarter of a millimetre is all that 3 mm/h bring in five minutes.
            (
                StormConfig {
                    duration_h: 1.0 / 12.0,
                    max_rate_mm_per_h: 3.0,
                    ..default()
                },
                "reaches a total of 0.2",
            ),
        ];
        for (config, expected) in cases {
            let error = error(config);
            assert!(error.contains(expected), "{error}");
        }
        assert!(toml::from_str::<StormConfig>("hight = 3").is_err());
        let config: StormConfig = toml::from_str("height = 3\ntotal_mm = [1, 2]").unwrap();
        assert_eq!(
            (config.height, config.width, config.total_mm),
            (3, 64, [1.0, 2.0])
        );
    }
}
