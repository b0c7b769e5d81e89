//! Pretrains a contrastive pair on made-up rain and water, saves it, and starts a segmenter from its rain encoder:
//! `cargo run --release -p pluvial-model --example pretrain_contrastive`.

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use pluvial_model::models::contrastive::ContrastiveConfig;
use pluvial_model::models::saved;
use pluvial_model::{Model, ModelConfig, SegmenterConfig};

fn main() -> anyhow::Result<()> {
    let device = Device::flex().autodiff();
    device.seed(1);
    let config = ContrastiveConfig {
        rain_encoder: "convnext_atto".parse()?,
        rain_channels: 3,
        ..ContrastiveConfig::default()
    };
    let mut pair = config.init(&device)?;
    let mut optimizer = AdamWConfig::new().init();
    for step in 1..=40 {
        // Three frames of rain; the more of it falls in the last, the more of the land is wet.
        let uniform = |shape| Tensor::<4>::random(shape, Distribution::Uniform(0.0, 1.0), &device);
        let late = uniform([8, 1, 1, 1]);
        let (early, last) = (uniform([8, 2, 64, 48]), uniform([8, 1, 64, 48]));
        let rain = Tensor::cat(vec![early, last * late.clone().mul_scalar(4.0)], 1);
        let water = (uniform([8, 1, 64, 48]) + late)
            .sub_scalar(1.0)
            .clamp_min(0.0);
        let loss = pair.loss(rain, water);
        let value: f32 = loss.clone().into_scalar();
        let gradients = GradientsParams::from_grads(loss.backward(), &pair);
        pair = optimizer.step(1e-3, pair, gradients).with_clamped_scale();
        println!(
            "step {step:2}  InfoNCE {value:.3} (by chance: {:.3})",
            8f32.ln()
        );
    }

    let folder = std::env::temp_dir().join("pluvial_contrastive");
    saved::save(
        &folder,
        &ModelConfig::Contrastive(config),
        &Model::Contrastive(pair),
    )?;
    println!("saved to {}", folder.display());

    let device = Device::flex();
    let (_, Model::Contrastive(pair)) = saved::load(&folder, &device)? else {
        anyhow::bail!("{} holds no contrastive pair", folder.display());
    };
    let segmenter = SegmenterConfig {
        input_channels: 3,
        ..SegmenterConfig::from_name("unet-convnext_atto")?
    };
    let segmenter = segmenter
        .init(&device)?
        .with_encoder(pair.rain.encoder)?
        .valid();
    let logits = segmenter.forward(Tensor::zeros([1, 3, 61, 45], &device));
    println!(
        "a segmenter from its rain encoder: logits {:?}",
        logits.dims()
    );
    Ok(())
}
