//! Pixel classifier: an encoder sees the window around a cell and says whether that cell is wet.

use burn::module::Module;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::draw_initial_values;
use super::pooled_encoder::{PooledEncoder, PooledEncoderConfig};
use super::segmenter::Head;
use crate::config::{ModelError, require};
use crate::encoders::EncoderName;

/// Configuration of a [`PixelClassifier`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PixelClassifierConfig {
    /// Name of the encoder.
    pub encoder: EncoderName,
    /// Channels of the input.
    pub input_channels: usize,
    /// `two_class` or `one_logit`.
    pub head: Head,
    /// Side of the window in cells; odd, so that one cell is its centre.
    pub window: usize,
}

impl Default for PixelClassifierConfig {
    /// `pixel_classifier-convnext_atto` with the 8 channels of the published data set and windows of 63 × 63 cells.
    fn default() -> Self {
        Self {
            encoder: EncoderName::ConvNeXtAtto,
            input_channels: 8,
            head: Head::TwoClass,
            window: 63,
        }
    }
}

impl PixelClassifierConfig {
    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for the first that is wrong.
    pub fn validate(&self) -> Result<(), ModelError> {
        let channels = self.input_channels;
        require(
            channels > 0,
            "input_channels",
            channels,
            "must be at least 1",
        )?;
        let reason = "a cell is wet or dry: two_class or one_logit";
        require(self.head != Head::Depth, "head", "depth", reason)?;
        require(self.window % 2 == 1, "window", self.window, "must be odd")
    }

    /// A network with fresh weights on `device`; reproducible after `device.seed(…)`.
    ///
    /// # Errors
    /// If the configuration contradicts itself, see [`Self::validate`].
    pub fn init(&self, device: &Device) -> Result<PixelClassifier, ModelError> {
        let model = self.init_lazily(device)?;
        draw_initial_values(&model);
        Ok(model)
    }

    /// As [`Self::init`], but each parameter is drawn when it is first used.
    ///
    /// # Errors
    /// As [`Self::init`].
    pub fn init_lazily(&self, device: &Device) -> Result<PixelClassifier, ModelError> {
        self.validate()?;
        let outputs = self.head.channels();
        Ok(PixelClassifier {
            network: PooledEncoderConfig::new(self.encoder, self.input_channels, outputs)
                .init(device),
            window: self.window,
        })
    }
}

/// A network that gives the centre of a window one logit or two.
#[derive(Module, Debug)]
pub struct PixelClassifier {
    /// From a window to logits.
    pub network: PooledEncoder,
    /// Side of the window in cells.
    pub window: usize,
}

impl PixelClassifier {
    /// Logits of the windows' centres.
    ///
    /// # Shapes
    /// `[batch, input channels, window, window]` → `[batch, head channels]`
    pub fn forward(&self, windows: Tensor<4>) -> Tensor<2> {
        self.network.forward(windows)
    }

    /// Logits of every cell: [`Self::forward`] of the windows around all of them, `windows_at_once` in a batch. The map is
    /// continued beyond its edges by its edge values.
    ///
    /// Windows overlap, but an encoder that pads its maps sees each with edges of its own, so that nothing between
    /// them can be shared: batches are what makes this faster than one window after the other.
    ///
    /// # Shapes
    /// `[batch, input channels, height, width]` → `[batch, head channels, height, width]`
    pub fn predict_map(&self, x: Tensor<4>, windows_at_once: usize) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let half = self.window / 2;
        let padded = x.pad((half, half, half, half), PadMode::Edge);
        let rows: Vec<[usize; 2]> = (0..batch)
            .flat_map(|sample| (0..height).map(move |row| [sample, row]))
            .collect();
        let rows_at_once = (windows_at_once / width).max(1);
        let columns_at_once = windows_at_once.clamp(1, width);
        let mut logits = Vec::new();
        for rows in rows.chunks(rows_at_once) {
            for first in (0..width).step_by(columns_at_once) {
                let columns = first..(first + columns_at_once).min(width);
                let count = columns.len();
                let cells: Vec<i32> = columns
                    .flat_map(|column| column..column + self.window)
                    .map(|column| column as i32)
                    .collect();
                let cells = TensorData::new(cells, [count * self.window]);
                let cells = Tensor::<1, Int>::from_data(cells, &padded.device());
                let windows = rows.iter().map(|&[sample, row]| {
                    let strip = padded.clone().narrow(0, sample, 1);
                    let strip = strip.narrow(2, row, self.window);
                    strip
                        .select(3, cells.clone())
                        .reshape([channels, self.window, count, self.window])
                        .permute([2, 0, 1, 3])
                });
                logits.push(self.forward(Tensor::cat(windows.collect(), 0)));
            }
        }
        let logits = Tensor::cat(logits, 0);
        let [_, outputs] = logits.dims();
        logits
            .reshape([batch, height, width, outputs])
            .permute([0, 3, 1, 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn a_map_is_its_windows_one_by_one() {
        let config = PixelClassifierConfig {
            input_channels: 2,
            window: 33,
            ..PixelClassifierConfig::default()
        };
        let model = golden::filled(config.init_lazily(&Device::flex()).unwrap());
        let (height, width) = (5, 7);
        let x = golden::input([2, 2, height, width]);
        let value = |x: &Tensor<4>, index: [usize; 4]| {
            let cell = x.clone().slice(index.map(|i| i..i + 1));
            cell.into_scalar::<f32>()
        };
        // Batches of whole rows, of parts of rows, and of single windows.
        let maps = [20, 3, 1].map(|at_once| model.predict_map(x.clone(), at_once));
        assert_eq!(maps[0].dims(), [2, 2, height, width]);
        for [sample, row, column] in [[0, 0, 0], [1, 2, 3], [1, 4, 6], [0, 4, 1]] {
            // The window cell by cell, beyond the map its nearest cell.
            let near = |at: usize, i: usize, n: usize| (at + i).saturating_sub(16).min(n - 1);
            let mut values = Vec::new();
            for channel in 0..2 {
                for i in 0..33 {
                    for j in 0..33 {
                        let cell = [near(row, i, height), near(column, j, width)];
                        values.push(value(&x, [sample, channel, cell[0], cell[1]]));
                    }
                }
            }
            let window = TensorData::new(values, [1, 2, 33, 33]);
            let alone = model.forward(Tensor::from_data(window, &Device::flex()));
            for (class, expected) in alone.into_data().iter::<f32>().enumerate() {
                for map in &maps {
                    let found = value(map, [sample, class, row, column]);
                    let at = [sample, class, row, column];
                    assert!(
                        (found - expected).abs() < 1e-5,
                        "{at:?}: {found}, {expected}"
                    );
                }
            }
        }
    }
}
