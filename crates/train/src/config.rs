//! The configuration of a run: defaults ← TOML file ← command line. An unknown key is an error, never a silent no-op.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use pluvial_data::loader::{InputStats, OnBadRecord};
use pluvial_data::transform::Channel;
use pluvial_model::losses::{CrossEntropyDice, LossConfig};
use pluvial_model::models::segmenter::Head;
use pluvial_model::{Precision, SegmenterConfig};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::device::DeviceChoice;

/// Everything that decides what a run does. Saved as `config.toml` in the run's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The seed from which every random stream comes.
    pub seed: u64,
    /// `auto`, `cuda[:i]`, `vulkan[:i]`, `wgpu[:i]` or `cpu`.
    pub device: DeviceChoice,
    /// What is learned from.
    pub data: DataConfig,
    /// The network. Its `input_channels` follow from `data.channels`.
    pub model: SegmenterConfig,
    /// The loss.
    pub loss: LossConfig,
    /// The optimizer and its schedule.
    pub optim: OptimConfig,
    /// The loop.
    pub train: TrainConfig,
}

impl Default for Config {
    /// What `cargo run --release --bin train` does: ten minutes on two CPU cores.
    fn default() -> Self {
        Self {
            seed: 1,
            device: DeviceChoice::Auto,
            data: DataConfig::default(),
            model: SegmenterConfig {
                decoder_channels: Some(64),
                refinement_channels: Some(16),
                ..SegmenterConfig::default()
            },
            loss: LossConfig::CrossEntropyDice(CrossEntropyDice::default()),
            optim: OptimConfig::default(),
            train: TrainConfig::default(),
        }
    }
}

/// `[data]`: the dataset and how batches are made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// A built dataset. Where it is absent, `recipe` is built under `datasets/built/` and used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// A dataset recipe.
    pub recipe: PathBuf,
    /// A heightmap for a dataset that has none of its own (the published layout), on the rain grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heightmap: Option<PathBuf>,
    /// Input channels, in order.
    pub channels: Vec<Channel>,
    /// Depth in metres from which on a cell counts as wet.
    pub threshold_m: f32,
    /// Turn wet cells without a wet neighbour dry, as the published pipeline does.
    pub remove_isolated: bool,
    /// Factor on the channels `rain` and `rain_totals`.
    pub rain_scale: f32,
    /// Normalise every plane of the input to mean 0 and deviation 1 over the training split.
    pub normalise: bool,
    /// `[height, width]` of the centre crop in cells; the whole map where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_size: Option<[usize; 2]>,
    /// Crop the training samples somewhere, anew each time, rather than in the middle.
    pub random_crop: bool,
    /// Random flips of the training samples, and quarter turns where `output_size` or the map is square.
    pub flips: bool,
    /// Draw training samples evenly over classes of their share of wet cells, each at most so many times an epoch on average;
    /// once each where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_copies: Option<f64>,
    /// Samples in a batch.
    pub batch_size: usize,
    /// Memory for decoded samples, MiB.
    pub cache_mib: usize,
    /// `stop` at a bad record, or `skip` and count it.
    pub on_bad_record: OnBadRecord,
    /// Share of the shards used for training where the dataset has no splits of its own (the published layout);
    /// the rest is split evenly into validation and test.
    pub train_share: f64,
    /// What `normalise` and `balance_copies` need to know of the training split. A run measures it and keeps it here, so that
    /// a resume and a prediction use the same numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_stats: Option<InputStats>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            dir: None,
            recipe: "datasets/default.toml".into(),
            heightmap: None,
            channels: vec![
                Channel::Rain,
                Channel::Height,
                Channel::Slope,
                Channel::LogFlowAccumulation,
                Channel::Hand,
                Channel::DepressionDepth,
                Channel::Storage,
                Channel::UpstreamRain,
                Channel::PondInflow,
            ],
            threshold_m: 0.1,
            remove_isolated: true,
            rain_scale: 1.0,
            normalise: false,
            output_size: None,
            random_crop: false,
            flips: true,
            balance_copies: None,
            batch_size: 8,
            cache_mib: 2048,
            on_bad_record: Default::default(),
            train_share: 0.8,
            input_stats: None,
        }
    }
}

/// `[optim]`: AdamW, clipping and the learning rate over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Learning rate at the last step.
    pub final_learning_rate: f64,
    /// Length of the warm-up in epochs.
    pub warmup_epochs: f64,
    /// Decoupled weight decay of parameters with two or more dimensions.
    pub weight_decay: f32,
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Upper bound of the joint norm of all gradients; 0 for none.
    pub clip_norm: f64,
    /// Batches whose gradients are averaged into one step.
    pub accumulate: usize,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            learning_rate: 2e-3,
            final_learning_rate: 1e-5,
            warmup_epochs: 0.5,
            weight_decay: 0.02,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            clip_norm: 1.0,
            accumulate: 1,
        }
    }
}

/// `[train]`: how long, and how often to save.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the training split.
    pub epochs: usize,
    /// Stop after so many optimizer steps, also within an epoch. The schedule still spans `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    /// Save and stop after so many minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit_minutes: Option<f64>,
    /// Stop when validation CSI has not risen for so many epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Save `last` at least so often within an epoch, minutes.
    pub checkpoint_minutes: f64,
    /// Keep of every block of the encoder only its input, and compute the block again in the backward pass: the same numbers in less
    /// memory, for larger batches or maps, in more time.
    pub gradient_checkpointing: bool,
    /// A `.pth` or `.safetensors` file of torchvision, timm, the official ConvNeXt or segmentation_models_pytorch whose
    /// weights the network starts with, as far as it has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<PathBuf>,
    /// `f32`, or `bf16` for the maps between layers in the steps of training; validation, scores and predictions are f32 with
    /// either, and so is what is saved.
    pub precision: Precision,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 5,
            max_steps: None,
            time_limit_minutes: None,
            patience: None,
            checkpoint_minutes: 5.0,
            gradient_checkpointing: false,
            pretrained: None,
            precision: Precision::F32,
        }
    }
}

impl Config {
    /// The configuration that `file` (TOML) and `settings` (`key.path=value`, later ones win) make of the defaults. The value
    /// `"none"` leaves an optional setting out, such as `model.refinement_channels = "none"`.
    ///
    /// # Errors
    /// A file that cannot be read, a syntax error with its line, an unknown key with the nearest known one, or a value
    /// of the wrong kind or out of range.
    pub fn load(file: Option<&Path>, settings: &[String]) -> Result<Self> {
        let mut table = Table::try_from(Self::default()).context("the defaults are a table")?;
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let user: Table = toml::from_str(&text)
                .map_err(|error| anyhow!("{}: {}", path.display(), one_line(&error.to_string())))?;
            overlay(&mut table, user);
            // Checked here, so that a mistake of the file is not blamed on a flag.
            Self::from_table(table.clone()).with_context(|| path.display().to_string())?;
        }
        for setting in settings {
            overlay(&mut table, parse_setting(setting)?);
            Self::from_table(table.clone()).with_context(|| format!("`{setting}`"))?;
        }
        Self::from_table(table)
    }

    /// As TOML, every value written out.
    ///
    /// # Errors
    /// None for a configuration that [`Self::load`] gave.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).context("cannot write the configuration as TOML")
    }

    fn from_table(table: Table) -> Result<Self> {
        let config: Self = table
            .try_into()
            .map_err(|error: toml::de::Error| anyhow!(explain(&error.to_string())))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let Self {
            data, optim, train, ..
        } = self;
        let positive = [
            ("data.batch_size", data.batch_size as f64),
            ("optim.accumulate", optim.accumulate as f64),
            ("train.epochs", train.epochs as f64),
            ("optim.learning_rate", optim.learning_rate),
            ("data.threshold_m", f64::from(data.threshold_m)),
            ("data.rain_scale", f64::from(data.rain_scale)),
            ("train.checkpoint_minutes", train.checkpoint_minutes),
        ];
        for (key, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                bail!("{key} is {value}: it must be above 0");
            }
        }
        let share = data.train_share;
        if !(share > 0.0 && share < 1.0) {
            bail!("data.train_share is {share}: it must lie between 0 and 1");
        }
        if data.random_crop && data.output_size.is_none() {
            bail!("data.random_crop needs data.output_size, the size of the crop");
        }
        if let Some(copies) = data
            .balance_copies
            .filter(|copies| copies.is_nan() || *copies < 1.0)
        {
            bail!("data.balance_copies is {copies}: it must be 1 at least");
        }
        if data.channels.is_empty() {
            bail!("data.channels is empty: the network needs an input");
        }
        self.model.validate()?;
        if self.model.head == Head::Depth {
            bail!(
                "model.head is depth: this program learns wet and dry, so it is two_class or one_logit here"
            );
        }
        self.loss.validate()?;
        Ok(())
    }
}

/// Lays `user` over `base`, table by table. A table whose `kind` changes replaces the old one: its fields are others.
fn overlay(base: &mut Table, user: Table) {
    for (key, value) in user {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new))
                if new
                    .get("kind")
                    .is_none_or(|kind| old.get("kind") == Some(kind)) =>
            {
                overlay(old, new);
            }
            // TOML has no null, and a default may have to be taken away.
            (_, Value::String(text)) if text == "none" => {
                base.remove(&key);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// `optim.learning_rate=1e-3` as a table. A value that is no TOML is taken as text: `device=cuda:0` needs no quotes.
fn parse_setting(setting: &str) -> Result<Table> {
    let (path, text) = setting
        .split_once('=')
        .ok_or_else(|| anyhow!("`{setting}` is no setting: write key=value"))?;
    let text = text.trim();
    let value = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()));
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut table = Table::from_iter([(last.to_string(), value)]);
    for key in keys.into_iter().rev() {
        table = Table::from_iter([(key.to_string(), Value::Table(table))]);
    }
    Ok(table)
}

/// serde's words for an unknown key, with the nearest known one named.
fn explain(message: &str) -> String {
    let message = one_line(message);
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message
        .contains("unknown field")
        .then(|| quoted.next())
        .flatten();
    let Some(unknown) = unknown else {
        return message;
    };
    let known: Vec<&str> = quoted.collect();
    let nearest = known
        .iter()
        .min_by_key(|key| strsim::damerau_levenshtein(key, unknown));
    match nearest {
        Some(nearest) => format!("unknown key `{unknown}`: the nearest known one is `{nearest}`"),
        None => message,
    }
}

fn one_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pluvial_data::transform::Moments;

    fn load(text: &str, settings: &[&str]) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my config.toml");
        std::fs::write(&path, text).unwrap();
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        Config::load(Some(&path), &settings)
    }

    #[test]
    fn file_over_defaults_and_flags_over_file() {
        let text =
            "seed = 7\n[optim]\nlearning_rate = 0.5\nclip_norm = 3.0\n[loss]\nkind = \"dice\"\n";
        let config = load(
            text,
            &["optim.learning_rate=0.25", "device=cpu", "train.epochs = 3"],
        )
        .unwrap();
        assert_eq!(config.seed, 7);
        assert_eq!(
            (config.optim.learning_rate, config.optim.clip_norm),
            (0.25, 3.0)
        );
        assert_eq!(config.loss.name(), "dice");
        assert_eq!((config.device, config.train.epochs), (DeviceChoice::Cpu, 3));
        assert_eq!(config.data, DataConfig::default());
        assert_eq!(config.model.refinement_channels, Some(16));
        let plain = load("", &["model.refinement_channels=none"]).unwrap();
        assert_eq!(plain.model.refinement_channels, None);
        let unet = r#"model={ decoder = "unet", refinement_channels = "none" }"#;
        let unet = load("", &[unet]).unwrap().model;
        assert_eq!(
            (unet.name().as_str(), unet.refinement_channels),
            ("unet-convnext_atto", None)
        );
        let named = r#"model={ encoder = "resnet18", decoder = "deeplabv3plus_keras" }"#;
        let named = load("[model]\noutput_stride = 8\n", &[named])
            .unwrap()
            .model;
        assert_eq!(named.name(), "deeplabv3plus_keras-resnet18");
        assert_eq!(
            (named.output_stride, named.decoder_channels),
            (Some(8), Some(64))
        );
        let again: Config = toml::from_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn measured_inputs_are_kept_to_the_last_bit() {
        let mut config = load("[data]\nnormalise = true\nbalance_copies = 8\n", &[]).unwrap();
        config.data.input_stats = Some(InputStats {
            samples: 7,
            moments: vec![Moments {
                mean: 0.1,
                deviation: 1.0 / 3.0,
            }],
            wet_shares: [4, 0, 2, 1, 0, 0, 0],
        });
        let again = load(&config.to_toml().unwrap(), &[]).unwrap();
        assert_eq!(again, config);
        let message = |text| format!("{:#}", load(text, &[]).unwrap_err());
        assert!(message("[data]\nrandom_crop = true\n").contains("data.output_size"));
        assert!(message("[data]\nbalance_copies = 0.5\n").contains("must be 1 at least"));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest() {
        let message = |text, settings: &[&str]| format!("{:#}", load(text, settings).unwrap_err());
        let error = message("[optim]\nlearing_rate = 0.1\n", &[]);
        assert!(
            error.contains("my config.toml") && error.contains("`learing_rate`"),
            "{error}"
        );
        assert!(
            error.contains("nearest known one is `learning_rate`"),
            "{error}"
        );
        let error = message("", &["modle.cbam=true"]);
        assert!(
            error.contains("`modle.cbam=true`") && error.contains("`model`"),
            "{error}"
        );
        let error = message("[data]\nbatch_size = 0\n", &[]);
        assert!(error.contains("data.batch_size is 0"), "{error}");
        let error = message("[data\n", &[]);
        assert!(error.contains("line 1"), "{error}");
        let error = message("[model]\ndecoder = \"unet\"\n", &[]);
        assert!(
            error.contains("refinement_channels = 16: the map of unet is at full"),
            "{error}"
        );
        let error = message("[model]\nhead = \"depth\"\n", &[]);
        assert!(error.contains("model.head is depth"), "{error}");
        assert!(message("", &["optim.beta_1=fast"]).contains("beta_1=fast"));
    }
}
