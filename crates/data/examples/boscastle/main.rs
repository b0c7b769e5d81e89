//! The Boscastle comparison: `cargo run --release -p pluvial-data --example boscastle -- FOLDER OUT`.
//!
//! FOLDER holds the terrain, rain, hydrograph and depth grid of the published label-maker's run (`shared/data/boscastle`). Prints
//! the table of docs/boscastle.md and writes `boscastle_hydrograph.csv` and `boscastle_depth.png` to OUT.

mod case;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use ndarray::{Array2, array};
use pluvial_data::raster::png::{self, ColourMap};

use case::{Case, INTERVAL_S, Result, Run, Series};

/// Ours less theirs in m, red where ours is deeper; differences below 2 cm are not shown.
const DIFFERENCE: ColourMap = ColourMap {
    stops: &[
        (-0.25, [33, 102, 172]),
        (-0.06, [103, 169, 207]),
        (0.0, [247, 247, 247]),
        (0.06, [239, 138, 98]),
        (0.25, [178, 24, 43]),
    ],
    logarithmic: false,
};
const SHOWN_M: f64 = 0.02;
/// Picture points a cell.
const ZOOM: u32 = 8;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out] = &arguments[..] else {
        return Err("usage: boscastle FOLDER OUT".into());
    };
    let (case, out) = (Case::load(Path::new(folder))?, Path::new(out));
    std::fs::create_dir_all(out)?;

    println!(
        "| run | NSE | peak, m³/s | at minute | wet cells | IoU | lowest Δ depth, m | highest | RMSE, m | mean depth, m | steps | \
         mass error | time, s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    println!("{}", answer_line(&case.answer));
    let report = |name: &'static str, (run, time_s): (Run, f64)| {
        println!("{} {time_s:.1} |", line(name, &run, &case.answer));
        (name, run)
    };
    let ((published, water), time_s) = timed(|| case.published_scheme(true))?;
    let published = report("published scheme", (published, time_s));
    let ((exponent, _), time_s) = timed(|| case.published_scheme(false))?;
    let exponent = report("… exponent corrected", (exponent, time_s));
    let same_water = report("our solver, same water", timed(|| case.solver(&water))?);
    let rates = case.rain_mm_per_h.iter();
    let everywhere: Vec<_> = rates.map(|rate| array![[*rate]]).collect();
    let rain = report(
        "our solver, rain on the grid",
        timed(|| case.solver(&everywhere))?,
    );
    let runs = [published, exponent, same_water, rain];

    let ours = &runs[0].1.series.expected;
    println!(
        "\nexpected discharge of the runoff model: NSE {:.7}, largest difference {:.6} m³/s of {:.1}",
        case::nash_sutcliffe(ours, &case.answer.expected),
        (ours.iter().zip(&case.answer.expected)).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs())),
        case::peak(&case.answer.expected).0,
    );
    write_hydrograph(&out.join("boscastle_hydrograph.csv"), &case, &runs)?;
    write_picture(
        &out.join("boscastle_depth.png"),
        &case,
        &runs[0].1,
        &runs[2].1,
    )
}

/// What `work` gives, and the seconds that it took.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    let result = work()?;
    Ok((result, start.elapsed().as_secs_f64()))
}

fn answer_line(answer: &Series) -> String {
    let (peak, minute) = case::peak(&answer.outflow);
    format!(
        "| the published answer | | {peak:.3} | {minute:.0} | {} | | | | | {:.4} | | | |",
        wet_cells(&answer.depth_m),
        mean(&answer.depth_m)
    )
}

fn line(name: &str, run: &Run, answer: &Series) -> String {
    let series = &run.series;
    let (peak, minute) = case::peak(&series.outflow);
    let [lowest, highest, rmse] = case::depth_error_m(&series.depth_m, &answer.depth_m);
    format!(
        "| {name} | {:.7} | {peak:.3} | {minute:.0} | {} | {:.4} | {lowest:.6} | {highest:.6} | {rmse:.6} | {:.4} | {} | {:.0e} |",
        case::nash_sutcliffe(&series.outflow, &answer.outflow),
        wet_cells(&series.depth_m),
        case::wet_iou(&series.depth_m, &answer.depth_m, case::WET_M),
        mean(&series.depth_m),
        run.steps,
        run.mass_error
    )
}

fn wet_cells(depth_m: &Array2<f64>) -> usize {
    depth_m.iter().filter(|h| **h >= case::WET_M).count()
}

fn mean(depth_m: &Array2<f64>) -> f64 {
    depth_m.sum() / depth_m.len() as f64
}

fn write_hydrograph(path: &Path, case: &Case, runs: &[(&str, Run)]) -> Result<()> {
    let mut csv = String::from("minute,rain_mm_per_h,published answer");
    for (name, _) in runs {
        write!(csv, ",\"{name}\"")?;
    }
    csv.push('\n');
    for (line, answer) in case.answer.outflow.iter().enumerate() {
        let minute = (line + 1) as f64 * INTERVAL_S / 60.0;
        write!(csv, "{minute},{},{answer}", case.rain_mm_per_h[line])?;
        for (_, run) in runs {
            write!(csv, ",{:.6}", run.series.outflow[line])?;
        }
        csv.push('\n');
    }
    Ok(std::fs::write(path, csv)?)
}

/// Three maps one below the other: the published depths, the published scheme less them, our solver less them.
fn write_picture(path: &Path, case: &Case, published: &Run, ours: &Run) -> Result<()> {
    let terrain = png::terrain(case.bed_m.mapv(|z| z as f32).view(), case.cell_size_m);
    let terrain = png::enlarge(&terrain, ZOOM);
    let answer = &case.answer.depth_m;
    let enlarged = |values: Array2<f32>| {
        let zoom = ZOOM as usize;
        let (height, width) = values.dim();
        Array2::from_shape_fn((height * zoom, width * zoom), |(row, col)| {
            values[(row / zoom, col / zoom)]
        })
    };
    let difference = |run: &Run| {
        let difference = &run.series.depth_m - answer;
        let shown = difference.mapv(|d| {
            if d.abs() < SHOWN_M {
                f32::NAN
            } else {
                d as f32
            }
        });
        png::overlay(&terrain, enlarged(shown).view(), &DIFFERENCE)
    };
    let depth = png::overlay(
        &terrain,
        enlarged(answer.mapv(|h| h as f32)).view(),
        &png::DEPTH,
    );
    let maps = [depth, difference(published), difference(ours)];
    let (width, height) = terrain.dimensions();
    let picture = image::RgbImage::from_fn(width, 3 * height, |x, y| {
        *maps[(y / height) as usize].get_pixel(x, y % height)
    });
    Ok(png::write(path, &picture)?)
}
