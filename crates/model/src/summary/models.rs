//! Summaries of whole networks by their configurations.

use burn::tensor::{Device, Tensor};

use super::{Summary, SummaryError};
use crate::config::ModelConfig;

impl ModelConfig {
    /// The summary of a fresh network for an input of `[height, width]` cells (a pixel classifier sees its window, an autoencoder the
    /// size of its configuration), computed on `device`.
    ///
    /// # Errors
    /// [`SummaryError::Model`] if the configuration contradicts itself.
    pub fn summary(&self, size: [usize; 2], device: &Device) -> Result<Summary, SummaryError> {
        let name = self.name();
        let shape = |channels: usize, [height, width]: [usize; 2]| [1, channels, height, width];
        let first = |mut inputs: Vec<Tensor<4>>| inputs.remove(0);
        match self {
            Self::Segmenter(config) => {
                let model = config.init_lazily(device)?;
                let input = shape(config.input_channels, size);
                Summary::of(&name, &model, &[input], |x| drop(model.forward(first(x))))
            }
            Self::Autoencoder(config) => {
                let model = config.init_lazily(device)?;
                let input = shape(config.input_channels, config.size);
                Summary::of(&name, &model, &[input], |x| drop(model.forward(first(x))))
            }
            Self::PixelClassifier(config) => {
                let model = config.init_lazily(device)?;
                let input = shape(config.input_channels, [config.window; 2]);
                Summary::of(&name, &model, &[input], |x| drop(model.forward(first(x))))
            }
            Self::Contrastive(config) => {
                let model = config.init_lazily(device)?;
                let inputs = [config.rain_channels, config.water_channels];
                let inputs = inputs.map(|channels| shape(channels, size));
                Summary::of(&name, &model, &inputs, |mut x| {
                    let water = x.remove(1);
                    drop(model.forward(first(x), water));
                })
            }
        }
    }
}
