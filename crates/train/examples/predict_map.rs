//! A trained run as a library: the wet probability of every cell for the first samples of a dataset.
//!
//! `cargo run --release -p pluvial-train --example predict_map -- runs/run_0001 datasets/built/default-58a410d1`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::module::Module;
use pluvial_data::dataset::Dataset;
use pluvial_data::split;
use pluvial_data::{Loader, LoaderConfig};
use pluvial_model::losses::wet_probability;
use pluvial_train::config::Config;
use pluvial_train::{checkpoint, evaluate, splits};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let run = args.next().context("give the folder of a run")?;
    let data = args.next().context("give the folder of a dataset")?;

    let config = Config::load(Some(&run.join("config.toml")), &[])?;
    let device = config.device.resolve()?.device;
    let model = config.model.init(&device)?;
    let model = checkpoint::load_model(&run.join("checkpoints/best"), model)?.valid();
    let dataset = Arc::new(Dataset::open(data)?);
    let shards = split::by_manifest(&dataset, "test_terrain")?;
    let settings = LoaderConfig {
        shuffle: false,
        transform: splits::transform_config(&config.data),
        ..LoaderConfig::default()
    };
    for batch in Loader::new(dataset, shards, settings)?.epoch(0).take(1) {
        let batch = batch?;
        let (input, _) = evaluate::tensors(batch.input, &batch.label, &device);
        let probability = wet_probability(model.forward(input)); // [batch, height, width]
        println!(
            "{:?}: mean {:.4}",
            probability.dims(),
            probability.mean().into_scalar::<f32>()
        );
    }
    Ok(())
}
