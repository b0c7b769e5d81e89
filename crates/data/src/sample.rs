//! One training sample: what fell, and how deep the water stood afterwards.

use ndarray::{Array2, Array3};

use crate::record::Metadata;
use crate::transform::Window;

/// Rain before "now" and water depth after it. Row 0 is north everywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// `[C, H, W]`, oldest group first: max-pooled rain rate, mm/h ÷ 100 clipped to 0..1 (the published scaling).
    pub rain: Array3<f32>,
    /// `[h, w]`: water depth in metres, `water_offset` frames after the newest radar frame.
    pub depth_m: Array2<f32>,
    /// `[K, H, W]`: rain totals in millimetres over the recipe's windows that end now (an extension of the published
    /// layout: max pools cannot tell how much has fallen).
    pub rain_totals_mm: Option<Array3<f32>>,
    /// `[h, w]`: water depth in metres at the newest radar frame. Only the persistence baseline may see it.
    pub depth_now_m: Option<Array2<f32>>,
}

/// The windows of a sample's maps that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Of the rain grid.
    pub(crate) rain: Window,
    /// Of the rain grid, for the rain totals.
    pub(crate) totals: Window,
    /// Of the depth grid.
    pub(crate) depth: Window,
}

impl Cut {
    /// All of every map.
    pub(crate) fn whole(metadata: &Metadata) -> Self {
        let rain = Window::whole(metadata.rain_size());
        Self {
            rain,
            totals: rain,
            depth: Window::whole(metadata.waterdepth),
        }
    }

    /// A sample of zeros of the shapes that this cut leaves of records of `metadata`.
    pub(crate) fn empty_sample(&self, metadata: &Metadata) -> Sample {
        let stack = |planes, window: Window| Array3::zeros((planes, window.height, window.width));
        let depth = || Array2::zeros((self.depth.height, self.depth.width));
        Sample {
            rain: stack(metadata.rainfallradar[0], self.rain),
            depth_m: depth(),
            rain_totals_mm: metadata
                .rainfalltotals
                .map(|[planes, ..]| stack(planes, self.totals)),
            depth_now_m: metadata.waterdepth_now.map(|_| depth()),
        }
    }
}
