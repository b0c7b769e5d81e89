//! One training sample: what fell, and how deep the water stood afterwards.

use ndarray::{Array2, Array3};

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
