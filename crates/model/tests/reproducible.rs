//! The same seed gives the same run on the CPU, to the last bit.
//!
//! Alone in its process: the seed of burn's random numbers is global.

use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use pluvial_model::SegmenterConfig;

/// Losses of three steps with drop path from a seed.
fn run(seed: u64) -> Vec<f32> {
    let device = Device::flex().autodiff();
    device.seed(seed);
    let config = SegmenterConfig {
        input_channels: 3,
        decoder_channels: Some(16),
        refinement_channels: Some(8),
        cbam: true,
        drop_path: Some(0.3),
        ..SegmenterConfig::default()
    };
    let mut model = config.init(&device).unwrap();
    let x = Tensor::<4>::random([3, 3, 45, 61], Distribution::Normal(0.0, 1.0), &device);
    let mut optimizer = AdamWConfig::new().init();
    let losses = (0..3).map(|_| {
        let loss = model.forward(x.clone()).powi_scalar(2).mean();
        let value = loss.clone().into_scalar::<f32>();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-3, model.clone(), gradients);
        value
    });
    losses.collect()
}

#[test]
fn same_seed_same_losses() {
    let first = run(7);
    assert_eq!(first, run(7));
    assert_ne!(first, run(8));
}
