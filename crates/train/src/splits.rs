//! The parts of a dataset as loaders: training, validation, and every test split.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use pluvial_data::dataset::Dataset;
use pluvial_data::loader::{Balance, Loader, LoaderConfig};
use pluvial_data::split;
use pluvial_data::transform::{Crop, TransformConfig};

use crate::config::{Config, DataConfig};

/// A dataset, opened and split.
pub struct Splits {
    /// The dataset.
    pub dataset: Arc<Dataset>,
    /// Training, shuffled and flipped.
    pub train: Loader,
    /// The same samples once each, in order and as they are.
    pub train_in_order: Loader,
    /// Validation, in order.
    pub validation: Loader,
    /// Test splits by name, in order.
    pub tests: Vec<(String, Loader)>,
    /// Why scores may look better than they are, where the splits are known to leak.
    pub caveat: Option<String>,
}

impl Splits {
    /// Opens the dataset in `folder` with the splits of its manifest: `train`, `validation`, and all others for tests.
    /// A dataset without a manifest (the published layout) is split by file.
    ///
    /// # Errors
    /// The dataset is damaged, lacks a split, or does not have what the channels are made of.
    pub fn open(config: &Config, folder: &Path) -> Result<Self> {
        let mut dataset = Dataset::open(folder)?;
        if let Some(heightmap) = &config.data.heightmap {
            dataset = dataset.with_heightmap(heightmap)?;
        }
        let dataset = Arc::new(dataset);
        let names = split::names(&dataset);
        let rule = dataset
            .manifest
            .as_ref()
            .and_then(|manifest| manifest.split_rule.as_ref());
        let leaky = names.is_empty() || rule.is_some_and(|rule| rule.leaky);
        let caveat = leaky.then(|| {
            format!(
                "{} is split by file, the published way: neighbours in time lie in different splits, and scores look better than \
                 they are (`dataset split` keeps events together)",
                folder.display()
            )
        });
        let (train, validation, tests) = if names.is_empty() {
            let held_back = (1.0 - config.data.train_share) / 2.0;
            let shares = [config.data.train_share, held_back, held_back];
            let mut parts = split::by_file(dataset.shards.len(), &shares, config.seed)?;
            let test = parts.pop().context("three parts")?;
            let validation = parts.pop().context("three parts")?;
            let train = parts.pop().context("three parts")?;
            (train, validation, vec![("test".to_string(), test)])
        } else {
            let tests = names
                .into_iter()
                .filter(|name| name != "train" && name != "validation")
                .map(|name| Ok((name.clone(), split::by_manifest(&dataset, &name)?)));
            (
                split::by_manifest(&dataset, "train")?,
                split::by_manifest(&dataset, "validation")?,
                tests.collect::<Result<Vec<_>>>()?,
            )
        };
        ensure!(!tests.is_empty(), "{} has no test split", folder.display());
        let in_order = LoaderConfig {
            shuffle: false,
            ..loader_config(config)
        };
        let once = LoaderConfig {
            cache_bytes: 0,
            ..in_order.clone()
        };
        let plain = loader_config(config);
        let shuffled = LoaderConfig {
            augment: config.data.flips,
            balance: balance(&config.data)?,
            transform: TransformConfig {
                crop: match config.data.random_crop {
                    true => Crop::Random,
                    false => Crop::Centre,
                },
                ..plain.transform.clone()
            },
            ..plain
        };
        let open = |shards: Vec<usize>, config: &LoaderConfig| {
            Loader::new(Arc::clone(&dataset), shards, config.clone())
        };
        Ok(Self {
            train_in_order: open(train.clone(), &once)?,
            train: open(train, &shuffled)?,
            validation: open(validation, &in_order)?,
            tests: tests
                .into_iter()
                .map(|(name, shards)| Ok((name, open(shards, &once)?)))
                .collect::<Result<_>>()?,
            caveat,
            dataset,
        })
    }

    /// Validation and test splits by name.
    pub fn held_back(&self) -> impl Iterator<Item = (&str, &Loader)> {
        let tests = self
            .tests
            .iter()
            .map(|(name, loader)| (name.as_str(), loader));
        std::iter::once(("validation", &self.validation)).chain(tests)
    }
}

/// Measures what `data.normalise` and `data.balance_copies` need, where they are set and it is not known yet.
///
/// # Errors
/// As [`Splits::open`], and those of reading the training split.
pub fn measure_inputs(config: &mut Config, folder: &Path) -> Result<()> {
    let data = &config.data;
    if data.input_stats.is_some() || !(data.normalise || data.balance_copies.is_some()) {
        return Ok(());
    }
    let mut plain = config.clone();
    plain.data.normalise = false;
    plain.data.balance_copies = None;
    let splits = Splits::open(&plain, folder)?;
    config.data.input_stats = Some(splits.train.input_stats()?);
    Ok(())
}

/// How often training samples come.
fn balance(data: &DataConfig) -> Result<Option<Balance>> {
    let Some(most) = data.balance_copies else {
        return Ok(None);
    };
    let stats = data.input_stats.as_ref().context("no wet shares known")?;
    Ok(Some(Balance::even(stats.wet_shares, most)?))
}

/// How samples become inputs and labels.
pub fn transform_config(data: &DataConfig) -> TransformConfig {
    let stats = data.input_stats.as_ref().filter(|_| data.normalise);
    TransformConfig {
        channels: data.channels.clone(),
        output_size: data.output_size,
        threshold_m: data.threshold_m,
        remove_isolated: data.remove_isolated,
        rain_scale: data.rain_scale,
        moments: stats.map(|stats| stats.moments.clone()),
        crop: Crop::Centre,
    }
}

fn loader_config(config: &Config) -> LoaderConfig {
    LoaderConfig {
        batch_size: config.data.batch_size,
        seed: config.seed,
        cache_bytes: (config.data.cache_mib as u64) << 20,
        on_bad_record: config.data.on_bad_record,
        transform: transform_config(&config.data),
        ..LoaderConfig::default()
    }
}
