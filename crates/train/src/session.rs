//! A whole run: data, baselines, training, evaluation, report.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};
use burn::module::Module;
use burn::tensor::Device;
use ndarray::{Array2, Axis};
use pluvial_data::ShardReader;
use pluvial_data::build::build_cached;
use pluvial_data::loader::{Loader, SampleId};
use pluvial_data::recipe::BoundRecipe;
use pluvial_data::rng;
use pluvial_data::signals::StopFlag;
use pluvial_data::transform::Window;
use pluvial_model::Precision;
use pluvial_model::metrics::Confusion;
use pluvial_model::models::segmenter::Segmenter;
use pluvial_model::weights::WeightsFile;
use rand::Rng;

use crate::baselines::{BaselineCounts, BaselineFit, Baselines};
use crate::checkpoint;
use crate::config::Config;
use crate::device::Chosen;
use crate::evaluate::evaluate;
use crate::fit::{Exit, Fit};
use crate::log::{Log, TensorBoard};
use crate::maps::{self, MapRecord, Pictures, Rain, SampleFields};
use crate::report;
use crate::run_dir::{RunDir, RunInfo, git_commit, unix_now_s};
use crate::scores::{RunScores, SplitScores, best_uninformed, plain_name};
use crate::splits::{Splits, measure_inputs};

/// Maps drawn of each test split.
const MAPS_A_SPLIT: usize = 6;

/// Where a run begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// A new folder under this one.
    New(PathBuf),
    /// The run in this folder, from its last checkpoint.
    Resume(PathBuf),
}

/// Trains as `config` says and writes the run's folder.
///
/// # Errors
/// One line that names the file or the setting, and why. Before the folder of the run exists nothing is left; after that, what
/// was complete by then stays in it, and `run.json` says why it ended.
pub fn train(
    mut config: Config,
    chosen: Chosen,
    start: Start,
    log: &Log,
    stop: &StopFlag,
) -> Result<()> {
    log.line(format_args!("device     {}", chosen.reason));
    let precision = config.train.precision;
    precision
        .check(&chosen.device)
        .with_context(|| format!("device {}", chosen.choice))?;
    if precision == Precision::Bf16 {
        log.line("precision  bf16 between layers while training; weights, norms and losses f32");
    }
    // A resumed run has the weights of its checkpoint.
    let pretrained = match (&config.train.pretrained, &start) {
        (Some(path), Start::New(_)) => Some(WeightsFile::open(path)?),
        _ => None,
    };
    let folder = dataset_folder(&config, log, stop)?;
    measure_inputs(&mut config, &folder)?;
    let splits = Splits::open(&config, &folder)?;
    if let Some(caveat) = &splits.caveat {
        log.line(format_args!("caveat     {caveat}"));
    }
    config.model.input_channels = splits.train.input_shape()[0];

    let resume = matches!(start, Start::Resume(_));
    let (run, mut info) = open_run(&config, &chosen, &start)?;
    log.copy_to(&run.file("log.txt"))?;
    let session = Session {
        config: &config,
        pretrained: pretrained.as_ref(),
        device: &chosen.device,
        splits: &splits,
        run: &run,
        log,
        stop,
    };
    let result = session
        .run(resume)
        .or_else(|error| match error.is::<Stopped>() {
            true => Ok(Exit::Interrupted),
            false => Err(error),
        });
    info.ended_unix_s = Some(unix_now_s());
    info.exit_reason = Some(match &result {
        Ok(exit) => exit.to_string(),
        Err(error) => format!("error: {error:#}"),
    });
    run.write_info(&info)?;
    if result? != Exit::Interrupted {
        // Last, so that the page knows how the run ended.
        report::write(&run)?;
        log.line(format_args!(
            "report     {}",
            run.file("report.html").display()
        ));
    } else if checkpoint::exists(&run.checkpoint("last")) {
        log.line(format_args!(
            "continue with: train --resume '{}'",
            run.path().display()
        ));
    } else {
        log.line("interrupted before the first step: start again");
    }
    Ok(())
}

/// The dataset that the configuration names, built first where it is a recipe that has not been built.
fn dataset_folder(config: &Config, log: &Log, stop: &StopFlag) -> Result<PathBuf> {
    if let Some(folder) = &config.data.dir {
        return Ok(folder.clone());
    }
    let recipe = &config.data.recipe;
    if !recipe.is_file() {
        bail!(
            "{} is not there: start in the repository's root, or name a dataset with --data or a recipe with --recipe",
            recipe.display()
        );
    }
    let bound = BoundRecipe::read(recipe, &BTreeMap::new())?;
    let events = bound.recipe.events()?.len() as u64;
    let progress = Mutex::new(
        log.progress(
            format_args!("building the dataset {}", bound.name),
            0,
            events,
        )
        .counting("events"),
    );
    let built = build_cached(&bound, Path::new("datasets/built"), &|event| {
        if let Ok(mut progress) = progress.lock() {
            progress.advance(1, &event.event);
        }
        if stop.is_set() {
            // Finished events are kept, so nothing is lost by leaving from inside the build.
            eprintln!(
                "error: interrupted while building the dataset; start again to go on with it"
            );
            std::process::exit(130);
        }
    });
    Ok(built?)
}

fn open_run(config: &Config, chosen: &Chosen, start: &Start) -> Result<(RunDir, RunInfo)> {
    let command = std::env::args().collect();
    match start {
        Start::New(root) => {
            let run = RunDir::create(root)?;
            run.write("config.toml", &config.to_toml()?)?;
            let info = RunInfo {
                command,
                version: env!("CARGO_PKG_VERSION").into(),
                git_commit: git_commit(),
                seed: config.seed,
                device: chosen.choice.to_string(),
                started_unix_s: unix_now_s(),
                ended_unix_s: None,
                exit_reason: None,
                resumed: 0,
            };
            run.write_info(&info)?;
            Ok((run, info))
        }
        Start::Resume(path) => {
            let run = RunDir::open(path)?;
            ensure!(
                checkpoint::exists(&run.checkpoint("last")),
                "{} has no checkpoint to continue from: start a new run",
                path.display()
            );
            run.write("config.toml", &config.to_toml()?)?;
            let mut info = run.read_info()?;
            info.resumed += 1;
            info.device = chosen.choice.to_string();
            (info.ended_unix_s, info.exit_reason) = (None, None);
            run.write_info(&info)?;
            Ok((run, info))
        }
    }
}

struct Session<'a> {
    config: &'a Config,
    pretrained: Option<&'a WeightsFile>,
    device: &'a Device,
    splits: &'a Splits,
    run: &'a RunDir,
    log: &'a Log,
    stop: &'a StopFlag,
}

/// A signal came outside of the training loop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Stopped;

/// A held-back split before any network has seen it.
struct Known {
    counts: BaselineCounts,
    /// Wet cells of every sample.
    samples: Vec<(SampleId, u64)>,
}

impl Session<'_> {
    fn run(&self, resume: bool) -> Result<Exit> {
        let (baselines, train_samples) = self.fit_baselines()?;
        // Made while the other splits are read, so that the first step need not wait for them.
        let ahead = (!resume).then(|| self.splits.train.epoch(0));
        let known = self.count_baselines(&baselines)?;
        let validation = known.get("validation").context("validation is a split")?;
        let validation_rows = validation.counts.rows();

        // burn draws initial weights on the device's stream.
        self.device
            .seed(rng::stream(self.config.seed, "weights").next_u64());
        let mut model = self.config.model.init(&self.device.clone().autodiff())?;
        self.log.line(format_args!(
            "model      {}: {:.2} M parameters, {} input channels",
            self.config.model.name(),
            model.num_params() as f64 / 1e6,
            self.config.model.input_channels
        ));
        if let Some(file) = self.pretrained {
            let (loaded, report) = file.load_into(model)?;
            model = loaded;
            self.log.line(format_args!("pretrained {report}"));
        }
        self.log
            .line(format_args!("run        {}", self.run.path().display()));
        let fit = Fit {
            config: self.config,
            run: self.run,
            log: self.log,
            train: &self.splits.train,
            train_samples,
            validation: &self.splits.validation,
            device: self.device,
            baseline: best_uninformed(&validation_rows).map(|(name, row)| (name, row.scores.csi)),
            stop: self.stop,
        };
        let (exit, state) = fit.run(model, resume, ahead)?;
        self.log.line(format_args!(
            "{exit} at step {} after {:.1} min of training",
            state.step,
            state.elapsed_s / 60.0
        ));
        if exit != Exit::Interrupted
            && let Some(best) = state.best
        {
            let folder = self.run.checkpoint("best");
            // Fresh weights, replaced at once by those of the best epoch.
            let model = self.config.model.init(self.device)?;
            let model = checkpoint::load_model(&folder, model)?.valid();
            self.log.line(format_args!(
                "best epoch {}: validation CSI {:.4} from a wet probability of {:.3} on",
                best.epoch, best.csi, best.threshold
            ));
            self.score(&model, best.threshold, state.step as u64, &known)?;
        }
        Ok(exit)
    }

    /// Says what the training split holds and fits the baselines on it.
    fn fit_baselines(&self) -> Result<(Baselines, usize)> {
        let data = &self.splits.dataset;
        let [channels, height, width] = self.splits.train_in_order.input_shape();
        let names: Vec<&str> = data.terrains.iter().map(|t| t.name.as_str()).collect();
        self.log.line(format_args!(
            "dataset    {}: {} shards over {}; inputs {channels} × {height} × {width}",
            data.folder.display(),
            data.shards.len(),
            names.join(", ")
        ));
        let expected = self.splits.train_in_order.samples();
        let cells = expected.unwrap_or(4096) * height * width;
        let seed = rng::stream(self.config.seed, "baselines").next_u64();
        let mut fit = BaselineFit::new(cells, seed);
        let mut progress = self.log.progress(
            "reading the training split",
            0,
            expected.unwrap_or(0) as u64,
        );
        let mut samples = 0;
        for batch in self.splits.train_in_order.epoch(0) {
            let batch = batch?;
            fit.add(&batch);
            samples += batch.ids.len();
            progress.advance(batch.ids.len() as u64, "");
            self.check_stop()?;
        }
        drop(progress);
        self.say_bad_records("train", &self.splits.train_in_order);
        let (wet, dry) = fit.class_balance();
        self.log.line(format_args!(
            "train      {samples} samples, {:.2} % of the cells wet (depth ≥ {} m)",
            100.0 * wet as f64 / (wet + dry).max(1) as f64,
            self.config.data.threshold_m
        ));
        if fit.depths_are_binary() {
            self.log.line(
                "warning: the depths of this dataset are all 0 or 1: it was thresholded when it was made, and data.threshold_m has no say",
            );
        }
        Ok((fit.finish(self.config.data.threshold_m), samples))
    }

    /// Scores the baselines on every held-back split and prints them as a table.
    fn count_baselines(&self, baselines: &Baselines) -> Result<BTreeMap<String, Known>> {
        let mut known = BTreeMap::new();
        for (name, loader) in self.splits.held_back() {
            let mut counts = baselines.start();
            let mut samples = Vec::new();
            for batch in loader.epoch(0) {
                let batch = batch?;
                baselines.count(&batch, &mut counts);
                for (id, label) in batch.ids.iter().zip(batch.label.outer_iter()) {
                    samples.push((*id, label.iter().filter(|&&l| l == 1).count() as u64));
                }
                self.check_stop()?;
            }
            self.say_bad_records(name, loader);
            known.insert(name.to_string(), Known { counts, samples });
        }
        let columns: Vec<_> = self
            .splits
            .held_back()
            .map(|(name, _)| (name, &known[name]))
            .collect();
        let line = |label: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!("{cell:>14}")).collect();
            self.log.line(format_args!("{label:<34}{cells}"));
        };
        line(
            "CSI of the baselines",
            columns.iter().map(|(name, _)| name.to_string()).collect(),
        );
        let rows: Vec<_> = columns
            .iter()
            .map(|(_, known)| known.counts.rows())
            .collect();
        let names: std::collections::BTreeSet<_> =
            rows.iter().flat_map(|rows| rows.keys()).collect();
        for name in names {
            let informed = rows
                .iter()
                .any(|rows| rows.get(name).is_some_and(|row| row.informed));
            let cells = rows.iter().map(|rows| match rows.get(name) {
                Some(row) => format!("{:.3}", row.scores.csi),
                None => "–".into(),
            });
            let note = if informed {
                " (informed: sees the water)"
            } else {
                ""
            };
            line(&format!("  {}{note}", plain_name(name)), cells.collect());
        }
        let wet = rows.iter().map(|rows| {
            let all = &rows["all_wet"].counts;
            format!(
                "{:.2} %",
                100.0 * all.tp as f64 / all.pixels().max(1) as f64
            )
        });
        line("  share of wet cells", wet.collect());
        line(
            "  samples",
            columns
                .iter()
                .map(|(_, known)| known.samples.len().to_string())
                .collect(),
        );
        Ok(known)
    }

    /// Evaluates the model on every held-back split; writes `scores.json` and the maps (`step` is the last one, for TensorBoard).
    fn score(
        &self,
        model: &Segmenter,
        threshold: f32,
        step: u64,
        known: &BTreeMap<String, Known>,
    ) -> Result<()> {
        let mut board = TensorBoard::create(self.run.path(), 0)?;
        let mut scores = RunScores {
            model: self.config.model.name(),
            splits: BTreeMap::new(),
        };
        let mut records = Vec::new();
        for (name, loader) in self.splits.held_back() {
            let known = &known[name];
            let draw = if name == "validation" {
                Vec::new()
            } else {
                self.chosen(&known.samples)
            };
            let mut drawn: HashMap<SampleId, (Array2<u8>, Array2<f32>)> = HashMap::new();
            let evaluation = evaluate(
                model,
                &self.config.loss,
                self.device,
                loader.epoch(0),
                |batch, probability| {
                    for (index, id) in batch.ids.iter().enumerate() {
                        if draw.contains(id) {
                            let truth = batch.label.index_axis(Axis(0), index).to_owned();
                            let probability = probability.index_axis(Axis(0), index).to_owned();
                            drawn.insert(*id, (truth, probability));
                        }
                    }
                    self.check_stop()
                },
            )
            .with_context(|| format!("evaluating {name}"))?;
            for id in &draw {
                if let Some((truth, probability)) = drawn.get(id) {
                    let (record, pictures) = self.draw(name, *id, truth, probability, threshold)?;
                    record.write(self.run.path(), &pictures)?;
                    record.show(&mut board, step, &pictures)?;
                    records.push(record);
                }
            }
            let counts = evaluation.at(threshold);
            let split = SplitScores {
                samples: evaluation.samples,
                wet_share: counts.wet_share(),
                model: counts.into(),
                baselines: known.counts.rows(),
            };
            self.say_scores(name, &split);
            scores.splits.insert(name.to_string(), split);
        }
        maps::write_list(self.run.path(), &records)?;
        self.run
            .write("scores.json", &serde_json::to_string_pretty(&scores)?)
    }

    fn say_scores(&self, name: &str, split: &SplitScores) {
        let model = &split.model.scores;
        let baseline = split
            .best_uninformed()
            .map_or(String::new(), |(name, row)| {
                format!(
                    "  | best baseline {:.4} ({}), margin {:+.4}",
                    row.scores.csi,
                    plain_name(name),
                    model.csi - row.scores.csi
                )
            });
        self.log.line(format_args!(
            "{name:<13} CSI {:.4}  F1 {:.4}  POD {:.4}  FAR {:.4}{baseline}",
            model.csi, model.f1, model.pod, model.far
        ));
    }

    /// The samples to draw, chosen by how wet they are in truth.
    fn chosen(&self, samples: &[(SampleId, u64)]) -> Vec<SampleId> {
        let events: Vec<(String, u64)> = samples
            .iter()
            .map(|(id, wet)| (self.event(id.shard), *wet))
            .collect();
        let events: Vec<(&str, u64)> = events
            .iter()
            .map(|(event, wet)| (event.as_str(), *wet))
            .collect();
        maps::choose(&events, MAPS_A_SPLIT)
            .into_iter()
            .map(|index| samples[index].0)
            .collect()
    }

    fn event(&self, shard: usize) -> String {
        let shard = &self.splits.dataset.shards[shard];
        shard.event.clone().unwrap_or_else(|| {
            let name = shard.path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        })
    }

    /// Draws a sample.
    fn draw(
        &self,
        split: &str,
        id: SampleId,
        truth: &Array2<u8>,
        probability: &Array2<f32>,
        threshold: f32,
    ) -> Result<(MapRecord, Pictures)> {
        let data = &self.splits.dataset;
        let shard = &data.shards[id.shard];
        let terrain = &data.terrains[shard.catchment];
        let sample = ShardReader::open(&shard.path, &data.metadata)?
            .nth(id.record as usize)
            .with_context(|| format!("{} has no record {}", shard.path.display(), id.record))??;
        let window = Window::centred(data.metadata.waterdepth, self.config.data.output_size)?;
        let manifest = data.manifest.as_ref();
        let (rain, kind) = match (
            &sample.rain_totals_mm,
            manifest.and_then(|m| m.total_hours.last()),
        ) {
            (Some(totals), Some(&hours)) => (
                totals
                    .index_axis(Axis(0), totals.len_of(Axis(0)) - 1)
                    .to_owned(),
                Rain::Total { hours },
            ),
            _ => {
                let peak = sample
                    .rain
                    .fold_axis(Axis(0), 0.0f32, |&a, &b| a.max(100.0 * b));
                // The published pattern covers 96 frames of 5 minutes.
                (peak, Rain::PeakRate { hours: 8.0 })
            }
        };
        let scale = data.scale()?;
        let depth_size = (data.metadata.waterdepth[0], data.metadata.waterdepth[1]);
        let rain = Array2::from_shape_fn(depth_size, |(r, c)| rain[[r / scale, c / scale]]);
        let flat = Array2::zeros(depth_size);
        let elevation = terrain.elevation_m.as_ref().unwrap_or(&flat);
        let (rain, elevation) = (rain.view(), elevation.view());
        let fields = SampleFields {
            rain: window.of(&rain),
            rain_kind: kind,
            elevation_m: window.of(&elevation),
            cell_size_m: terrain.cell_size_m.unwrap_or(500.0),
            truth: Some(truth.view()),
            probability: probability.view(),
            threshold,
        };
        let mut counts = Confusion::default();
        let contiguous = "an owned array is contiguous";
        counts.add_labels(
            fields.predicted().as_slice().context(contiguous)?,
            truth.as_slice().context(contiguous)?,
        )?;
        let times = manifest.and_then(|m| m.shards.iter().find(|s| shard.path.ends_with(&s.file)));
        let record = MapRecord {
            stem: format!("{split}_{:03}_{:04}", id.shard, id.record),
            split: split.to_string(),
            event: self.event(id.shard),
            catchment: terrain.name.clone(),
            time_s: times
                .and_then(|s| s.times_s.get(id.record as usize))
                .copied()
                .unwrap_or(0.0),
            rain: kind,
            counts,
        };
        Ok((record, fields.pictures()?))
    }

    /// Says what the first pass over a split had to leave out.
    fn say_bad_records(&self, split: &str, loader: &Loader) {
        let bad = loader.bad_records();
        if bad.count > 0 {
            self.log.line(format_args!(
                "warning: {split}: bad records skipped: {}; the first: {}",
                bad.count,
                bad.first.join("; ")
            ));
        }
    }

    /// A signal before the first or after the last step leaves nothing to save.
    fn check_stop(&self) -> Result<()> {
        match self.stop.is_set() {
            true => Err(Stopped.into()),
            false => Ok(()),
        }
    }
}
