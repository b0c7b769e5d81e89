//! `dataset simulate`: terrain and rain → water depth.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ndarray::Array2;
use pluvial_data::GeoGrid;
use pluvial_data::radar::{EventConfig, Events, MissingCells, RainFrame, RainSource, Region};
use pluvial_data::raster::open_raster;
use pluvial_data::signals::StopFlag;
use pluvial_data::simulate::{
    FrameFormat, GroundConfig, Hooks, Progress, Quantity, SimulationConfig, Summary, WET_DEPTH_M,
    animate, simulate,
};
use pluvial_hydro::{Edge, Infiltration};

use crate::source::SourceFlags;

#[derive(Args)]
pub struct SimulateArgs {
    /// The ground: GeoTIFF, ESRI ASCII or heightmap JSON, in m; cells without data are outside.
    #[arg(long, value_name = "FILE")]
    terrain: PathBuf,
    /// A radar file or folder, or a rate everywhere such as `20mm/h`, which needs --duration.
    #[arg(long, value_name = "SOURCE")]
    rain: String,
    /// Folder for the results: new, or with a simulation of the same call that was stopped.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Time between depth frames, such as 30s, 5min or 1h.
    #[arg(long, default_value = "5min", value_parser = duration)]
    every: f64,
    /// Simulated time; until the rain ends by default.
    #[arg(long, value_parser = duration)]
    duration: Option<f64>,
    /// Manning's n in s m^(-1/3) [default: 0.05].
    #[arg(long)]
    manning: Option<f64>,
    /// What happens at the terrain's edge: `closed`, or the slope in m/m at which water leaves [default: 0.002].
    #[arg(long, value_parser = edge)]
    edge: Option<Edge>,
    /// Constant loss to the ground in mm/h [default: 0].
    #[arg(long, value_name = "MM_PER_H")]
    infiltration: Option<f64>,
    /// More about ground and solver: TOML with the keys of a recipe's hydro table (boundaries, Green-Ampt, …); the options
    /// above go first.
    #[arg(long, value_name = "FILE")]
    hydro: Option<PathBuf>,
    /// Cells at or below this elevation in m are outside: the sea.
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    sea_level: Option<f64>,
    /// Side of a cell in m, for a terrain file that does not say.
    #[arg(long, value_name = "M")]
    cell_size: Option<f64>,
    /// Time that a rain frame lasts.
    #[arg(long, default_value = "5min", value_parser = duration)]
    rain_every: f64,
    #[command(flatten)]
    source: SourceFlags,
    /// Factor on the rain.
    #[arg(long, default_value_t = 1.0)]
    rain_factor: f64,
    /// What to make of cells that the radar did not measure.
    #[arg(long, value_enum, default_value_t = Missing::Stop)]
    missing: Missing,
    /// Form of the depth frames.
    #[arg(long, value_enum, default_value_t = Format::Geotiff)]
    format: Format,
    /// A cell whose depth goes into hydrograph.csv, such as `bridge=12,40`; may be repeated.
    #[arg(long, value_name = "NAME=ROW,COLUMN", value_parser = point)]
    point: Vec<(String, [usize; 2])>,
    /// Writes the velocity to the east and to the south (m/s) beside each depth frame.
    #[arg(long)]
    velocity: bool,
    /// Draws the frames as an animation, flood.gif.
    #[arg(long)]
    animate: bool,
    /// Prints the summary as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Geotiff,
    Ascii,
    None,
}

#[derive(Clone, Copy, ValueEnum)]
enum Missing {
    Stop,
    Dry,
    Gap,
}

/// `90`, `90s`, `5min`, `1.5h` or `3d` in seconds.
fn duration(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        other => return Err(format!("'{other}' is no unit: s, min, h or d")),
    };
    match digits.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value * unit),
        _ => Err("must be a positive number with s, min, h or d".into()),
    }
}

fn edge(text: &str) -> Result<Edge, String> {
    match text.parse::<f64>() {
        _ if text == "closed" => Ok(Edge::Closed),
        Ok(slope) if slope > 0.0 => Ok(Edge::FreeOutflow { slope }),
        _ => Err("must be `closed` or a positive slope".into()),
    }
}

fn point(text: &str) -> Result<(String, [usize; 2]), String> {
    let parse = || {
        let (name, cell) = text.split_once('=')?;
        let (row, column) = cell.split_once(',')?;
        let cell = [row.trim().parse().ok()?, column.trim().parse().ok()?];
        (!name.is_empty() && !name.contains([',', '"'])).then(|| (name.to_owned(), cell))
    };
    parse().ok_or_else(|| "must be NAME=ROW,COLUMN, counted from 0 in the north-west".into())
}

pub fn run(args: SimulateArgs) -> Result<()> {
    let terrain = terrain(&args)?;
    let ground = ground(&args)?;
    let mut rain = rain(&args, &terrain)?;
    let config = SimulationConfig {
        every_s: args.every,
        duration_s: args.duration,
        format: match args.format {
            Format::Geotiff => Some(FrameFormat::GeoTiff),
            Format::Ascii => Some(FrameFormat::Ascii),
            Format::None => None,
        },
        velocity: args.velocity,
        points: args.point.clone(),
    };
    ensure!(
        !(args.animate || args.velocity) || config.format.is_some(),
        "--animate and --velocity are about the frames: not with --format none"
    );
    let stop = StopFlag::install()?;
    let bar = Bar::new();
    let inputs = format!(
        "{} {:?} {} {}",
        args.rain, args.source, args.rain_factor, args.rain_every
    );
    let hooks = Hooks {
        progress: &|progress| bar.show(progress),
        stop: &|| stop.is_set(),
    };
    let summary = simulate(
        &terrain,
        &ground,
        rain.source(),
        &config,
        &inputs,
        &args.out,
        hooks,
    )?;
    bar.bar.finish_and_clear();
    if !summary.finished {
        bail!(
            "stopped after {} of simulated time; the state is in '{}', the same call goes on from there",
            clock(summary.time_s),
            args.out.display()
        );
    }
    if args.animate {
        draw(&args.out, &terrain, &config, &summary)?;
    }
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&summary)?),
        false => print(&summary, rain.note(), &args.out),
    }
    Ok(())
}

fn terrain(args: &SimulateArgs) -> Result<GeoGrid> {
    let mut terrain = open_raster(&args.terrain)?;
    if let Some(cell_size) = args.cell_size {
        ensure!(
            !terrain.is_placed(),
            "'{}' says how large its cells are: --cell-size is for files that do not",
            args.terrain.display()
        );
        ensure!(cell_size > 0.0, "--cell-size must be positive");
        (terrain.cell_x, terrain.cell_y) = (cell_size, cell_size);
        terrain.north = cell_size * terrain.height() as f64;
    } else {
        ensure!(
            terrain.is_placed(),
            "'{}' does not say how large its cells are: give --cell-size",
            args.terrain.display()
        );
    }
    if let Some(level) = args.sea_level {
        terrain.data.mapv_inplace(|z| match f64::from(z) <= level {
            true => f32::NAN,
            false => z,
        });
    }
    Ok(terrain)
}

fn ground(args: &SimulateArgs) -> Result<GroundConfig> {
    let mut ground = match &args.hydro {
        None => GroundConfig::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("cannot read '{}'", path.display()))?;
            let parsed = toml::from_str(&text);
            parsed.with_context(|| format!("'{}' is no [hydro] table", path.display()))?
        }
    };
    if let Some(manning) = args.manning {
        ground.manning = manning;
    }
    if let Some(edge) = args.edge {
        ground.edge = edge;
    }
    if let Some(mm_per_h) = args.infiltration {
        ground.infiltration = Infiltration::Constant { mm_per_h };
    }
    Ok(ground)
}

/// The rain of the call.
enum Rain {
    Uniform(Uniform),
    Radar(Box<Events>),
}

/// The same rate everywhere and for ever.
struct Uniform {
    mm_per_h: f32,
    frame_s: f64,
    frames: u64,
}

impl RainSource for Uniform {
    fn next_frame(&mut self) -> pluvial_data::Result<Option<RainFrame>> {
        self.frames += 1;
        Ok(Some(RainFrame {
            end_s: self.frames as f64 * self.frame_s,
            rain_mm_per_h: Array2::from_elem((1, 1), self.mm_per_h),
        }))
    }

    fn frame_s(&self) -> f64 {
        self.frame_s
    }

    fn shape(&self) -> (usize, usize) {
        (1, 1)
    }
}

impl Rain {
    fn source(&mut self) -> &mut dyn RainSource {
        match self {
            Self::Uniform(rain) => rain,
            Self::Radar(events) => events.as_mut(),
        }
    }

    /// What was done to the radar's frames, where anything was.
    fn note(&self) -> Option<String> {
        let Self::Radar(events) = self else {
            return None;
        };
        let counts = events.counts();
        let parts = [
            (counts.filled_frames, "frames interpolated"),
            (counts.missing_cells, "missing cells taken as dry"),
            (counts.missing_frames, "frames left out for missing cells"),
            (counts.clipped_cells, "cells of too high a rate clipped"),
            (events.skipped_files(), "damaged files passed over"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn rain(args: &SimulateArgs, terrain: &GeoGrid) -> Result<Rain> {
    if let Some(rate) = args.rain.strip_suffix("mm/h") {
        let rate: f32 = rate
            .trim()
            .parse()
            .ok()
            .filter(|rate: &f32| *rate >= 0.0 && rate.is_finite())
            .with_context(|| {
                format!(
                    "--rain {}: must be a file, a folder or a rate such as 20mm/h",
                    args.rain
                )
            })?;
        ensure!(
            args.duration.is_some(),
            "--rain {} falls for ever: give --duration",
            args.rain
        );
        return Ok(Rain::Uniform(Uniform {
            mm_per_h: rate * args.rain_factor as f32,
            frame_s: args.rain_every,
            frames: 0,
        }));
    }
    let open = || args.source.open(Path::new(&args.rain));
    // A source without a position is taken to cover the terrain.
    let first = open()?.next_frame()?;
    let placed = first.is_some_and(|frame| frame.rain_mm_per_h.is_placed());
    let config = EventConfig {
        frame_s: args.rain_every,
        factor: args.rain_factor,
        region: match placed {
            true => Region::Place(terrain.place()),
            false => Region::Whole,
        },
        missing: match args.missing {
            Missing::Stop => MissingCells::Stop,
            Missing::Dry => MissingCells::Dry,
            Missing::Gap => MissingCells::Gap,
        },
        ..EventConfig::default()
    };
    Ok(Rain::Radar(Box::new(Events::new(open()?, config)?)))
}

/// A bar on a terminal, a line every ten seconds elsewhere.
struct Bar {
    bar: ProgressBar,
    said: Cell<Instant>,
}

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = "{bar:30} {msg} ({elapsed})";
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self {
            bar,
            said: Cell::new(Instant::now()),
        }
    }

    fn show(&self, progress: &Progress) {
        let text = format!(
            "{} simulated, step {:.1} s, {} wet cells, mass error {:.0e}",
            clock(progress.time_s),
            progress.timestep_s,
            progress.wet_cells,
            progress.mass_error
        );
        if !self.bar.is_hidden() {
            self.bar
                .set_length(progress.end_s.unwrap_or(progress.time_s) as u64);
            self.bar.set_position(progress.time_s as u64);
            self.bar.set_message(text);
        } else if self.said.get().elapsed() > Duration::from_secs(10) {
            self.said.set(Instant::now());
            eprintln!("{text}");
        }
    }
}

/// `12:05 h`.
fn clock(time_s: f64) -> String {
    let minutes = (time_s / 60.0).floor() as u64;
    format!("{}:{:02} h", minutes / 60, minutes % 60)
}

fn draw(out: &Path, terrain: &GeoGrid, config: &SimulationConfig, summary: &Summary) -> Result<()> {
    let format = config.format.context("no frames to draw")?;
    let frames: Vec<PathBuf> = (1..=summary.frames)
        .map(|i| {
            out.join("depth")
                .join(format.file_name(Quantity::Depth, i as f64 * config.every_s))
        })
        .collect();
    let drawn = crate::progress::Progress::count(frames.len() as u64, "frames");
    let (cell_size_m, _) = terrain.cell_size_m();
    let path = out.join("flood.gif");
    animate(&path, terrain.data.view(), cell_size_m, &frames, &|| {
        drawn.add(1)
    })?;
    Ok(())
}

fn print(summary: &Summary, note: Option<String>, out: &Path) {
    let share = |m3: f64| match summary.rain_m3 + summary.inflow_m3 {
        0.0 => 0.0,
        total => 100.0 * m3 / total,
    };
    println!(
        "{} simulated in {:.1} s, {} steps, {} frames",
        clock(summary.time_s),
        summary.wall_s,
        summary.steps,
        summary.frames
    );
    println!(
        "water      {:.0} m³ of rain, {:.0} m³ let in; {:.1} % flowed out, {:.1} % sank in, {:.1} % is left; error {:.0e}",
        summary.rain_m3,
        summary.inflow_m3,
        share(summary.outflow_m3),
        share(summary.infiltration_m3),
        share(summary.stored_m3),
        summary.relative_mass_error
    );
    println!(
        "flood      {} of {} cells were at least {WET_DEPTH_M} m deep at some time; deepest {:.2} m",
        summary.ever_wet_cells, summary.cells, summary.max_depth_m
    );
    if let Some(note) = note {
        println!("rain       {note}");
    }
    println!("results    {}", out.display());
}
