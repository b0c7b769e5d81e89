//! Synthetic terrain: fractal relief on a regional tilt, mostly drained, with valleys carved where water gathers.

use std::f64::consts::TAU;

use ndarray::Array2;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::flow::FlowTree;

/// What a synthetic terrain is made of. The same configuration gives the same terrain, bit for bit on one platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TerrainConfig {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Edge length of a cell in metres.
    pub cell_size_m: f64,
    /// Metres from the lowest to the highest cell of the fractal part, before tilt and valleys.
    pub relief_m: f64,
    /// Exponent β of the amplitude spectrum, amplitude ∝ wavenumber^−β; larger is smoother. Real relief: about 1.9.
    pub spectral_exponent: f64,
    /// Fall of the regional plane from one side to the other in metres, in a direction drawn from the seed.
    pub tilt_m: f64,
    /// Share 0..1 of every depression's depth that is filled in; the rest stays as ponds.
    pub filled_share: f64,
    /// Depth in metres of the valley at the cell with the largest catchment; others are carved ∝ (catchment area)^½.
    pub valley_m: f64,
    /// Seed of the terrain.
    pub seed: u64,
}

impl Default for TerrainConfig {
    fn default() -> Self {
        Self {
            shape: [96, 128],
            cell_size_m: 500.0,
            relief_m: 250.0,
            spectral_exponent: 1.9,
            tilt_m: 100.0,
            filled_share: 0.75,
            valley_m: 15.0,
            seed: 0,
        }
    }
}

impl TerrainConfig {
    /// The terrain, `[height, width]`, metres, lowest cell at 0.
    pub fn generate(&self) -> Array2<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let [height, width] = self.shape;
        let mut bed = fractal(self.shape, self.spectral_exponent, &mut random);
        let (low, high) = range(&bed);
        bed.mapv_inplace(|z| (z - low) / (high - low).max(f64::MIN_POSITIVE) * self.relief_m);

        let (south, east) = (random.random::<f64>() * TAU).sin_cos();
        let across = height.max(width) as f64;
        for ((row, column), z) in bed.indexed_iter_mut() {
            *z += self.tilt_m * (south * row as f64 + east * column as f64) / across;
        }

        let tree = FlowTree::new(bed.view(), self.cell_size_m);
        let accumulation = tree.accumulation_cells();
        let largest = accumulation.iter().copied().fold(1.0, f64::max);
        // The carved depth grows along every path, so carving makes no new depressions on it.
        ndarray::Zip::from(&mut bed)
            .and(tree.filled_m())
            .and(&accumulation)
            .for_each(|z, &filled, &cells| {
                *z += self.filled_share * (filled - *z) - self.valley_m * (cells / largest).sqrt();
            });
        let (low, _) = range(&bed);
        bed - low
    }
}

/// A Gaussian random field with amplitude ∝ |wavenumber|^−`exponent`, by a separable inverse Fourier sum.
///
/// The period is twice the grid, so opposite edges of the terrain are independent.
fn fractal([height, width]: [usize; 2], exponent: f64, random: &mut impl Rng) -> Array2<f64> {
    let (rows, columns) = (2 * height, 2 * width);
    let frequency = |k: usize, n: usize| {
        (if k <= n / 2 {
            k as f64
        } else {
            k as f64 - n as f64
        }) / n as f64
    };
    // Sum over column modes first: partial[ky][x], then over row modes. The real part of complex noise is the field.
    let turn = |n: usize| {
        (0..n)
            .map(|i| (TAU * i as f64 / n as f64).sin_cos())
            .collect::<Vec<_>>()
    };
    let (turn_x, turn_y) = (turn(columns), turn(rows));
    let mut field = Array2::zeros((height, width));
    let mut partial = vec![(0.0f64, 0.0f64); width];
    for ky in 0..rows {
        partial.fill((0.0, 0.0));
        for kx in 0..columns {
            let noise = |random: &mut _| -> f64 { StandardNormal.sample(random) };
            let (re, im) = (noise(random), noise(random));
            if (ky, kx) == (0, 0) {
                continue;
            }
            let amplitude = frequency(ky, rows)
                .hypot(frequency(kx, columns))
                .powf(-exponent);
            for (x, sum) in partial.iter_mut().enumerate() {
                let (sin, cos) = turn_x[kx * x % columns];
                sum.0 += amplitude * (re * cos - im * sin);
                sum.1 += amplitude * (re * sin + im * cos);
            }
        }
        for (y, mut row) in field.rows_mut().into_iter().enumerate() {
            let (sin, cos) = turn_y[ky * y % rows];
            for (z, (re, im)) in row.iter_mut().zip(&partial) {
                *z += re * cos - im * sin;
            }
        }
    }
    field
}

fn range(bed: &Array2<f64>) -> (f64, f64) {
    bed.iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &z| {
            (low.min(z), high.max(z))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(seed: u64) -> TerrainConfig {
        TerrainConfig {
            shape: [24, 40],
            seed,
            ..TerrainConfig::default()
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(small(3).generate(), small(3).generate());
        assert_ne!(small(3).generate(), small(4).generate());
    }

    #[test]
    fn the_fractal_spans_the_relief_and_the_tilt_adds_a_plane() {
        let flat = TerrainConfig {
            tilt_m: 0.0,
            valley_m: 0.0,
            filled_share: 0.0,
            ..small(1)
        };
        let (low, high) = range(&flat.generate());
        assert_eq!(low, 0.0);
        assert!((high - 250.0).abs() < 1e-9);
        let tilted = TerrainConfig {
            tilt_m: 80.0,
            ..flat.clone()
        };
        let mut plane = tilted.generate() - flat.generate();
        plane -= plane[[0, 0]];
        // A plane of slope 80 m over 40 cells in some direction.
        let (east, south) = (plane[[0, 1]], plane[[1, 0]]);
        assert!((east.hypot(south) - 2.0).abs() < 1e-9);
        for ((row, column), z) in plane.indexed_iter() {
            assert!((z - east * column as f64 - south * row as f64).abs() < 1e-9);
        }
    }

    #[test]
    fn the_spectrum_falls_with_the_exponent() {
        // Mean squared first difference ÷ variance shrinks as the spectrum steepens.
        let roughness = |exponent| {
            let bed = TerrainConfig {
                spectral_exponent: exponent,
                tilt_m: 0.0,
                valley_m: 0.0,
                filled_share: 0.0,
                ..small(5)
            }
            .generate();
            let mean = bed.mean().unwrap();
            let differences = bed
                .rows()
                .into_iter()
                .flat_map(|r| {
                    r.to_vec()
                        .windows(2)
                        .map(|w| (w[1] - w[0]).powi(2))
                        .collect::<Vec<_>>()
                })
                .sum::<f64>();
            differences / bed.mapv(|z| (z - mean).powi(2)).sum()
        };
        assert!(roughness(1.2) > 2.0 * roughness(1.9) && roughness(1.9) > 1.5 * roughness(2.6));
    }

    #[test]
    fn filling_leaves_the_asked_share_of_the_depressions() {
        let depth = |filled_share| {
            let config = TerrainConfig {
                filled_share,
                valley_m: 0.0,
                ..small(7)
            };
            FlowTree::new(config.generate().view(), 500.0)
                .depression_depth_m()
                .sum()
        };
        assert!(depth(0.0) > 0.0);
        assert!((depth(0.75) / depth(0.0) - 0.25).abs() < 1e-6);
    }

    #[test]
    fn several_catchments_drain_to_the_edge() {
        let bed = TerrainConfig::default().generate();
        let tree = FlowTree::new(bed.view(), 500.0);
        let accumulation = tree.accumulation_cells();
        let outlets = accumulation
            .indexed_iter()
            .filter(|&(at, &cells)| tree.receiver(at).is_none() && cells >= 300.0)
            .count();
        assert!(outlets >= 3, "only {outlets} catchments of 75 km² or more");
    }
}
