//! Speed of the flood solver: `cargo bench -p pluvial-benches --no-default-features --bench hydro`.
//!
//! Cell-updates per second on one and two threads beside the bound that the machine's memory sets. The bound is the bandwidth
//! of a triad a = b + s c over arrays far larger than any cache, as STREAM has it (24 bytes counted for each element), measured
//! in the same run, divided by the bytes that a step must move for a cell. These are 64: depth and the discharges to the east
//! and south are read and written (48), the bed and the rain are read (16); roughness is uniform. Grids that fit into a cache
//! can beat it.
//!
//! The terrain and storm of Boscastle are read from the folder `data/boscastle` in `$PLUVIAL_SHARED`; unset, they are left out.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use ndarray::{Array2, ArrayView2};
use pluvial_data::raster::esri_ascii;
use pluvial_hydro::{Domain, Edge, Infiltration, Parameter, Solver, SolverConfig};

const BYTES_PER_CELL: f64 = 64.0;

/// How long each measurement is repeated. The best repetition counts: what other processes take is no property of the solver.
const SECONDS: f64 = 2.0;

fn main() -> Result<()> {
    let boscastle = std::env::var_os("PLUVIAL_SHARED")
        .map(|shared| PathBuf::from(shared).join("data/boscastle"));
    let mut terrains = vec![
        ("synthetic 512²", waves(512), 10.0),
        ("synthetic 2048²", waves(2048), 10.0),
    ];
    match &boscastle {
        Some(folder) => terrains.push((
            "Boscastle 10 m",
            read_terrain(folder, "dem_10m.asc.gz")?,
            10.0,
        )),
        None => println!("Boscastle: left out, PLUVIAL_SHARED is not set"),
    }
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()?;
        pool.install(|| -> Result<()> {
            let bandwidth = triad();
            let bound = bandwidth / BYTES_PER_CELL;
            println!(
                "\n{threads} thread(s): triad {:.1} GB/s, so at most {:.0} M cell-updates/s",
                bandwidth / 1e9,
                bound / 1e6
            );
            println!(
                "{:>16} {:>6} {:>12} {:>14} {:>10} {:>8}",
                "terrain", "wet", "cells", "M wet cells/s", "ns a cell", "x bound"
            );
            for (name, bed_m, cell_size_m) in &terrains {
                for (wet, depth_m) in [("100 %", flooded(bed_m)), ("5 %", ponds(bed_m))] {
                    let (rate, cells) =
                        updates_per_s(bed_m, *cell_size_m, depth_m, wet == "100 %")?;
                    println!(
                        "{name:>16} {wet:>6} {cells:>12} {:>14.1} {:>10.2} {:>8.2}",
                        rate / 1e6,
                        1e9 / rate,
                        bound / rate
                    );
                }
            }
            Ok(())
        })?;
    }
    if let Some(folder) = &boscastle {
        println!();
        let rain_mm_per_h = read_rain(folder)?;
        for (file, cell_size_m, threads) in [
            ("dem_50m.asc", 50.0, 1),
            ("dem_50m.asc", 50.0, 2),
            ("dem_10m.asc.gz", 10.0, 2),
        ] {
            let bed_m = read_terrain(folder, file)?;
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()?;
            pool.install(|| storm(bed_m, cell_size_m, &rain_mm_per_h))?;
        }
    }
    Ok(())
}

/// Bytes per second of a = b + s c on all threads of the pool, 24 a element.
fn triad() -> f64 {
    const LENGTH: usize = 1 << 24;
    let (b, c) = (vec![1.0_f64; LENGTH], vec![2.0_f64; LENGTH]);
    let mut a = vec![0.0_f64; LENGTH];
    let part = LENGTH / rayon::current_num_threads();
    let (mut best_s, mut scale) = (f64::INFINITY, 0.0);
    let all = Instant::now();
    while all.elapsed().as_secs_f64() < SECONDS {
        scale += 1.0;
        let start = Instant::now();
        rayon::scope(|scope| {
            let parts = a.chunks_mut(part).zip(b.chunks(part)).zip(c.chunks(part));
            for ((a, b), c) in parts {
                scope.spawn(move |_| {
                    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                        *a = b + scale * c;
                    }
                });
            }
        });
        best_s = best_s.min(start.elapsed().as_secs_f64());
        assert_eq!(std::hint::black_box(&a)[LENGTH - 1], 1.0 + scale * 2.0);
    }
    24.0 * LENGTH as f64 / best_s
}

/// Low waves that do not fit the grid, on cells of 10 m.
fn waves(side: usize) -> Array2<f64> {
    Array2::from_shape_fn((side, side), |(row, col)| {
        let (y, x) = (row as f64, col as f64);
        100.0 + 0.3 * (0.031 * x).sin() * (0.023 * y).cos() + 0.1 * (0.17 * x + 0.29 * y).sin()
    })
}

/// Half a metre and more on every cell.
fn flooded(bed_m: &Array2<f64>) -> Array2<f64> {
    bed_m.map(|z| 1.0 + 0.2 * (0.7 * z).sin())
}

/// Round ponds on dry ground, 5 % of the cells at the start.
fn ponds(bed_m: &Array2<f64>) -> Array2<f64> {
    Array2::from_shape_fn(bed_m.dim(), |(row, col)| {
        let (y, x) = ((row % 48) as f64 - 24.0, (col % 48) as f64 - 24.0);
        if x * x + y * y < 0.05 * 48.0 * 48.0 / std::f64::consts::PI {
            0.05
        } else {
            0.0
        }
    })
}

/// Wet cells that are updated a second in the best of many short runs, and how many are wet at its end.
fn updates_per_s(
    bed_m: &Array2<f64>,
    cell_size_m: f64,
    depth_m: Array2<f64>,
    rain: bool,
) -> Result<(f64, usize)> {
    let config = SolverConfig {
        dry_depth_m: 1e-3,
        ..SolverConfig::default()
    };
    let mut solver = Solver::new(domain(bed_m.clone(), cell_size_m, Edge::Closed), config)?;
    if rain {
        solver.set_rain_mm_per_h(ArrayView2::from_shape((1, 1), &[10.0])?)?;
    }
    let (mut best, mut best_cells) = (0.0_f64, 0);
    let all = Instant::now();
    while all.elapsed().as_secs_f64() < SECONDS {
        // From the start again, before the ponds have run dry.
        solver.set_depth_m(depth_m.view())?;
        solver.advance(0.5)?;
        for _ in 0..10 {
            let start = Instant::now();
            let steps = solver.advance(0.5)?;
            let elapsed_s = start.elapsed().as_secs_f64();
            let cells = solver.depth_m().iter().filter(|h| **h > 1e-3).count();
            let rate = steps as f64 * cells as f64 / elapsed_s;
            if rate > best {
                (best, best_cells) = (rate, cells);
            }
        }
    }
    Ok((best, best_cells))
}

/// The 72 h of August 2004, a depth frame kept every five minutes.
fn storm(bed_m: Array2<f64>, cell_size_m: f64, rain_mm_per_h: &[f32]) -> Result<()> {
    let edge = Edge::FreeOutflow { slope: 0.005 };
    let mut solver = Solver::new(domain(bed_m, cell_size_m, edge), SolverConfig::default())?;
    let start = Instant::now();
    let (mut steps, mut wet) = (0, 0);
    let mut label = Array2::<f32>::zeros(solver.depth_m().dim());
    for rain in rain_mm_per_h {
        solver.set_rain_mm_per_h(ArrayView2::from_shape((1, 1), &[*rain])?)?;
        steps += solver.advance(300.0)?;
        label.zip_mut_with(solver.depth_m(), |label, depth| *label = *depth as f32);
        wet = wet.max(label.iter().filter(|depth| **depth >= 0.1).count());
    }
    println!(
        "Boscastle {cell_size_m} m, 72 h with {} depth frames on {} thread(s): {:.2} s, {steps} steps of {} cells, {wet} wet at most, mass error {:.1e}",
        rain_mm_per_h.len(),
        rayon::current_num_threads(),
        start.elapsed().as_secs_f64(),
        label.len(),
        solver.mass_balance().relative_error()
    );
    Ok(())
}

fn domain(bed_m: Array2<f64>, cell_size_m: f64, edge: Edge) -> Domain {
    Domain {
        bed_m,
        cell_size_m,
        manning: Parameter::Uniform(0.04),
        edge,
        boundaries: vec![],
        infiltration: Infiltration::None,
    }
}

/// Elevations in m; the sea, which is 0 there, and no-data are outside.
fn read_terrain(folder: &std::path::Path, file: &str) -> Result<Array2<f64>> {
    let grid = esri_ascii::read(&folder.join(file))?;
    Ok(grid
        .data
        .mapv(|z| if z > 0.0 { f64::from(z) } else { f64::NAN }))
}

/// Rain of the first zone in mm/h, a value for every five minutes.
fn read_rain(folder: &std::path::Path) -> Result<Vec<f32>> {
    let path = folder.join("rain_72h_5min.txt.gz");
    let file =
        std::fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let text = std::io::read_to_string(flate2::read::MultiGzDecoder::new(file))?;
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(|rain| {
            rain.parse()
                .with_context(|| format!("{}: {rain:?} is no rain", path.display()))
        })
        .collect()
}
