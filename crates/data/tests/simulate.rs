//! Simulations from files to files, on terrain and rain that the tests make.

use std::cell::Cell;
use std::path::Path;

use ndarray::{Array2, array};
use pluvial_data::radar::{RainFrame, RainSource};
use pluvial_data::raster::open_raster;
use pluvial_data::simulate::{
    FrameFormat, GroundConfig, Hooks, SimulationConfig, Summary, simulate,
};
use pluvial_data::{GeoGrid, Result};
use pluvial_hydro::{Edge, Solver};

/// A valley to the south-east, 9 × 14 cells of 20 m, with one cell outside.
fn terrain() -> GeoGrid {
    let data = Array2::from_shape_fn((9, 14), |(row, col)| {
        let (y, x) = (row as f32, col as f32);
        match (row, col) {
            (0, 13) => f32::NAN,
            _ => {
                30.0 - 0.8 * x - 0.5 * y
                    + 0.7 * (y - 4.0).abs()
                    + 0.3 * ((3 * row + 5 * col) % 7) as f32
            }
        }
    });
    GeoGrid {
        crs: Some("EPSG:27700".into()),
        ..GeoGrid::new(data, 210_000.0, 90_000.0, 20.0)
    }
}

/// Showers that move over a rain grid of 3 × 4 cells: two hours in frames of five minutes.
struct Showers(usize);

impl RainSource for Showers {
    fn next_frame(&mut self) -> Result<Option<RainFrame>> {
        self.0 += 1;
        Ok((self.0 <= 24).then(|| RainFrame {
            end_s: 300.0 * self.0 as f64,
            rain_mm_per_h: Array2::from_shape_fn((3, 4), |(row, col)| {
                if (row + 2 * col + self.0).is_multiple_of(5) {
                    60.0
                } else {
                    2.0
                }
            }),
        }))
    }

    fn frame_s(&self) -> f64 {
        300.0
    }

    fn shape(&self) -> (usize, usize) {
        (3, 4)
    }
}

fn config() -> SimulationConfig {
    SimulationConfig {
        every_s: 600.0,
        duration_s: Some(9000.0),
        format: Some(FrameFormat::GeoTiff),
        velocity: true,
        points: vec![("outlet".into(), [8, 13])],
    }
}

fn run(out: &Path, stop_after: Option<usize>) -> Result<Summary> {
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        stop_after.is_some_and(|frames| asked.get() >= frames)
    };
    let ground = GroundConfig::default();
    simulate(
        &terrain(),
        &ground,
        &mut Showers(0),
        &config(),
        "showers",
        out,
        Hooks {
            progress: &|_| {},
            stop: &stop,
        },
    )
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in walk(folder) {
        let name = entry.strip_prefix(folder).unwrap().display().to_string();
        files.push((name, std::fs::read(&entry).unwrap()));
    }
    files.sort();
    files
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn frames_and_maxima_are_those_of_the_solver() {
    let folder = tempfile::tempdir().unwrap();
    let summary = run(folder.path(), None).unwrap();
    assert!(summary.finished);
    assert_eq!(
        (summary.time_s, summary.frames, summary.cells),
        (9000.0, 15, 9 * 14 - 1)
    );
    assert!(summary.relative_mass_error < 1e-12, "{summary:?}");

    // The same by the solver alone.
    let domain = GroundConfig::default().domain(&terrain()).unwrap();
    let mut solver = Solver::new(domain, Default::default()).unwrap();
    let mut rain = Showers(0);
    let mut deepest = Array2::<f64>::zeros((9, 14));
    let mut steps = 0;
    for frame in 1..=30 {
        match rain.next_frame().unwrap() {
            Some(rain) => solver.set_rain_mm_per_h(rain.rain_mm_per_h.view()).unwrap(),
            None => solver.set_rain_mm_per_h(array![[0.0]].view()).unwrap(),
        }
        steps += solver.advance(300.0).unwrap();
        deepest.zip_mut_with(solver.depth_m(), |a, b| *a = a.max(*b));
        if frame % 2 == 0 {
            let file = folder
                .path()
                .join(format!("depth/depth_{:06}.tif", 5 * frame));
            let read = open_raster(&file).unwrap();
            assert_eq!(read.place(), terrain().place());
            for ((cell, h), z) in read.data.indexed_iter().zip(&terrain().data) {
                match z.is_nan() {
                    true => assert!(h.is_nan()),
                    false => assert_eq!(*h, solver.depth_m()[cell] as f32, "{cell:?}"),
                }
            }
        }
    }
    assert_eq!(summary.steps, steps);
    let max_depth = open_raster(&folder.path().join("max_depth.tif")).unwrap();
    let arrival = open_raster(&folder.path().join("arrival.tif")).unwrap();
    for (cell, h) in max_depth.data.indexed_iter().filter(|(_, h)| !h.is_nan()) {
        // Every step counts, not only the frames.
        assert!(f64::from(*h) >= deepest[cell] - 1e-6, "{cell:?}");
        assert_eq!(*h >= 0.1, !arrival.data[cell].is_nan(), "{cell:?}");
    }
    assert!(summary.ever_wet_cells > 0);
    let wet = max_depth.data.iter().filter(|h| **h >= 0.1).count();
    assert_eq!(summary.ever_wet_cells, wet);

    let table = std::fs::read_to_string(folder.path().join("hydrograph.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 16);
    assert_eq!(
        lines[0],
        "time_s,outflow_m3_per_s,inflow_m3_per_s,stored_m3,outlet_depth_m"
    );
    let last: Vec<f64> = lines[15].split(',').map(|v| v.parse().unwrap()).collect();
    assert_eq!(last[0], 9000.0);
    assert!((last[1] - solver.edge_outflow_m3_per_s()).abs() < 1e-6);
    assert!((last[4] - solver.depth_m()[[8, 13]]).abs() < 1e-5);
    let picture = image::open(folder.path().join("max_depth.png")).unwrap();
    assert!(picture.width() >= 640 && picture.width() * 9 == picture.height() * 14);
}

#[test]
fn a_stopped_simulation_goes_on_to_the_same_files() {
    let whole = tempfile::tempdir().unwrap();
    let stopped = tempfile::tempdir().unwrap();
    let finished = run(whole.path(), None).unwrap();
    // Between two depth frames, and again after the rain.
    for frames in [5, 22] {
        let summary = run(stopped.path(), Some(frames)).unwrap();
        assert!(!summary.finished && summary.time_s < 9000.0);
        assert!(stopped.path().join("state.bin").exists());
    }
    let resumed = run(stopped.path(), None).unwrap();
    assert_eq!(
        Summary {
            wall_s: 0.0,
            ..resumed
        },
        Summary {
            wall_s: 0.0,
            ..finished
        }
    );
    let without_times = |folder: &Path| {
        let mut files = files(folder);
        files.retain(|(name, _)| name != "simulation.json");
        files
    };
    assert!(without_times(whole.path()) == without_times(stopped.path()));
    assert!(!stopped.path().join("state.bin").exists());
    // A finished one is not computed again.
    let again = run(whole.path(), Some(1)).unwrap();
    assert!(again.finished);
}

#[test]
fn another_simulation_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), None).unwrap();
    let ground = GroundConfig {
        edge: Edge::Closed,
        ..GroundConfig::default()
    };
    let hooks = Hooks {
        progress: &|_| {},
        stop: &|| false,
    };
    let error = simulate(
        &terrain(),
        &ground,
        &mut Showers(0),
        &config(),
        "showers",
        folder.path(),
        hooks,
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("another simulation")
            && error.contains(&folder.path().display().to_string()),
        "{error}"
    );
}
