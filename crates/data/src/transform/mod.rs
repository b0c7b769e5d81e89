//! From a sample to what a network sees: crop, label, input channels, augmentation.

pub mod augment;
pub mod channels;
pub mod crop;
pub mod label;

pub use augment::Symmetry;
pub use channels::{Channel, InputBuilder, Moments};
pub use crop::{Crop, Stitch, Window};
pub use label::NO_DATA;

use serde::{Deserialize, Serialize};

/// How samples become inputs and labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformConfig {
    /// Input channels in order. Default: `rain`, `height` (the published 8 channels).
    pub channels: Vec<Channel>,
    /// Factor on the channels `rain` and `rain_totals`. Default 1.
    pub rain_scale: f32,
    /// Mean and deviation by which every plane of the input is normalised, in order ([`Loader::input_stats`] of the training
    /// split gives them). Default: none, the input stays as it is.
    ///
    /// [`Loader::input_stats`]: crate::Loader::input_stats
    pub moments: Option<Vec<Moments>>,
    /// `[height, width]` of the output in depth cells. Default: none, the whole map.
    pub output_size: Option<[usize; 2]>,
    /// Where in the map the output lies. Default: in the middle.
    pub crop: Crop,
    /// Depth in metres from which a cell is wet. Default 0.1.
    pub threshold_m: f32,
    /// Whether a wet cell without a wet neighbour counts as dry. Default true.
    pub remove_isolated: bool,
}

impl Default for TransformConfig {
    fn default() -> Self {
        Self {
            channels: vec![Channel::Rain, Channel::Height],
            rain_scale: 1.0,
            moments: None,
            output_size: None,
            crop: Crop::Centre,
            threshold_m: 0.1,
            remove_isolated: true,
        }
    }
}
