//! Synthetic terrain: fractal relief on a regional tilt, mostly drained, with valleys carved where water gathers.

use std::f64::consts::TAU;

use ndarray::{Array2, Zip};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::flow::FlowTree;

/// What a synthetic terrain is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TerrainConfig {
    /// Metres from the lowest to the highest cell of the fractal part, before tilt and valleys. Default 250.
    pub relief_m: f64,
    /// Exponent β of the amplitude spectrum, amplitude ∝ wavenumber^−β; larger is smoother. Default 1.9, as real relief.
    pub spectral_exponent: f64,
    /// Fall of the regional plane over the longer side of the grid in metres, in a random direction. Default 100.
    pub tilt_m: f64,
    /// Share 0..1 of every depression's depth that is filled in; the rest stays as ponds. Default 0.75.
    pub filled_share: f64,
    /// Depth in metres of the valley at the cell with the largest catchment; others are carved ∝ (catchment area)^½.
    /// Default 15.
    pub valley_m: f64,
}

impl Default for TerrainConfig {
    fn default() -> Self {
        Self {
            relief_m: 250.0,
            spectral_exponent: 1.9,
            tilt_m: 100.0,
            filled_share: 0.75,
            valley_m: 15.0,
        }
    }
}

impl TerrainConfig {
    /// A terrain `[height, width]` in metres, lowest cell at 0.
    pub fn generate(&self, [height, width]: [usize; 2], random: &mut impl Rng) -> Array2<f64> {
        let mut bed = fractal([height, width], self.spectral_exponent, random);
        let (low, high) = range(&bed);
        bed.mapv_inplace(|z| (z - low) / (high - low).max(f64::MIN_POSITIVE) * self.relief_m);

        let (south, east) = (random.random::<f64>() * TAU).sin_cos();
        let across = height.max(width) as f64;
        for ((row, column), z) in bed.indexed_iter_mut() {
            *z += self.tilt_m * (south * row as f64 + east * column as f64) / across;
        }

        // Directions on square cells do not depend on their size.
        let tree = FlowTree::new(bed.view(), 1.0);
        let accumulation = tree.accumulation_cells();
        let largest = accumulation.iter().copied().fold(1.0, f64::max);
        // The carved depth grows along every path, so carving makes no new depressions on it.
        Zip::from(&mut bed)
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
    use ndarray::s;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const SHAPE: [usize; 2] = [24, 40];

    fn generate(config: &TerrainConfig, seed: u64) -> Array2<f64> {
        config.generate(SHAPE, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    /// The fractal alone.
    fn bare() -> TerrainConfig {
        TerrainConfig {
            tilt_m: 0.0,
            valley_m: 0.0,
            filled_share: 0.0,
            ..TerrainConfig::default()
        }
    }

    #[test]
    fn the_seed_decides() {
        let config = TerrainConfig::default();
        assert_eq!(generate(&config, 3), generate(&config, 3));
        assert_ne!(generate(&config, 3), generate(&config, 4));
    }

    #[test]
    fn the_fractal_spans_the_relief_and_the_tilt_adds_a_plane() {
        let flat = generate(&bare(), 1);
        let (low, high) = range(&flat);
        assert_eq!(low, 0.0);
        assert!((high - 250.0).abs() < 1e-9);
        let mut plane = generate(
            &TerrainConfig {
                tilt_m: 80.0,
                ..bare()
            },
            1,
        ) - flat;
        plane -= plane[[0, 0]];
        // A plane that falls 80 m over 40 cells in some direction.
        let (east, south) = (plane[[0, 1]], plane[[1, 0]]);
        assert!((east.hypot(south) - 2.0).abs() < 1e-9);
        for ((row, column), z) in plane.indexed_iter() {
            assert!((z - east * column as f64 - south * row as f64).abs() < 1e-9);
        }
    }

    #[test]
    fn the_spectrum_falls_with_the_exponent() {
        // Mean squared difference of neighbours over the variance shrinks as the spectrum steepens.
        let roughness = |spectral_exponent| {
            let bed = generate(
                &TerrainConfig {
                    spectral_exponent,
                    ..bare()
                },
                5,
            );
            let steps = &bed.slice(s![.., 1..]) - &bed.slice(s![.., ..-1]);
            steps.mapv(|d| d * d).mean().unwrap() / bed.var(0.0)
        };
        assert!(roughness(1.2) > 2.0 * roughness(1.9) && roughness(1.9) > 1.5 * roughness(2.6));
    }

    #[test]
    fn filling_leaves_the_asked_share_of_the_depressions() {
        let depth = |filled_share| {
            let bed = generate(
                &TerrainConfig {
                    filled_share,
                    ..bare()
                },
                7,
            );
            FlowTree::new(bed.view(), 500.0).depression_depth_m().sum()
        };
        assert!(depth(0.0) > 0.0);
        assert!((depth(0.75) / depth(0.0) - 0.25).abs() < 1e-6);
    }

    #[test]
    fn several_catchments_drain_to_the_edge() {
        let bed = TerrainConfig::default().generate([96, 128], &mut ChaCha8Rng::seed_from_u64(0));
        let tree = FlowTree::new(bed.view(), 500.0);
        let accumulation = tree.accumulation_cells();
        let outlets = accumulation
            .indexed_iter()
            .filter(|&(at, &cells)| tree.receiver(at).is_none() && cells >= 300.0)
            .count();
        assert!(outlets >= 3, "only {outlets} catchments of 75 km² or more");
    }
}
