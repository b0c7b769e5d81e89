//! From a sample to what a network sees: crop, label, input channels, augmentation.

pub mod augment;
pub mod channels;
pub mod crop;
pub mod label;

pub use augment::Symmetry;
pub use channels::{Channel, InputBuilder};
pub use crop::Window;
pub use label::NO_DATA;

use serde::{Deserialize, Serialize};

/// How samples become inputs and labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformConfig {
    /// Input channels in order. Default: `rain`, `height` (the published 8 channels).
    pub channels: Vec<Channel>,
    /// `[height, width]` of the centre crop in depth cells. Default: none, the whole map.
    pub output_size: Option<[usize; 2]>,
    /// Depth in metres from which a cell is wet. Default 0.1.
    pub threshold_m: f32,
    /// Whether a wet cell without a wet neighbour counts as dry. Default true.
    pub remove_isolated: bool,
}

impl Default for TransformConfig {
    fn default() -> Self {
        Self {
            channels: vec![Channel::Rain, Channel::Height],
            output_size: None,
            threshold_m: 0.1,
            remove_isolated: true,
        }
    }
}
