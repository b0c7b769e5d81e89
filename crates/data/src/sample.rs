//! One training sample: what fell, and how deep the water stood afterwards.

use ndarray::{Array2, Array3};
use sha2::{Digest, Sha256};

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

impl Sample {
    /// A number that two samples over `catchment` share when they hold the same rain and depth, and by chance only once in
    /// 2⁶⁴ pairs otherwise: the first 64 bits of the SHA-256 over name and values. How a record encodes them does not matter.
    pub fn content_hash(&self, catchment: &str) -> u64 {
        let mut hash = Sha256::new();
        hash.update((catchment.len() as u64).to_le_bytes());
        hash.update(catchment);
        let values = self.rain.iter().chain(&self.depth_m);
        let mut bytes = Vec::with_capacity(4 * (self.rain.len() + self.depth_m.len()));
        for value in values.chain(self.rain_totals_mm.iter().flatten()) {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        hash.update(&bytes);
        let digest = hash.finalize();
        digest[..8]
            .iter()
            .fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    /// Whether there is neither rain nor water: such samples are all the same, wherever they come from.
    pub fn is_dry(&self) -> bool {
        self.rain
            .iter()
            .chain(&self.depth_m)
            .all(|&value| value == 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python: `sha256(struct.pack("<Q", 1) + b"a" + rain.tobytes() + depth.tobytes()).digest()[:8]`.
    const HASH: u64 = 0x6efc7f86d738ec92;

    #[test]
    fn the_hash_follows_place_rain_and_depth() {
        let sample = Sample {
            rain: Array3::from_shape_fn((2, 2, 3), |(c, y, x)| (c + y + x) as f32),
            depth_m: Array2::from_shape_fn((4, 6), |(y, x)| (y * x) as f32),
            rain_totals_mm: None,
            depth_now_m: None,
        };
        assert_eq!(sample.content_hash("a"), HASH);
        assert_ne!(sample.content_hash("b"), HASH);
        let mut other = sample.clone();
        other.depth_m[[3, 5]] += 1.0;
        assert_ne!(other.content_hash("a"), HASH);
        // The persistence baseline's water is no part of what a sample teaches.
        let now = Sample {
            depth_now_m: Some(sample.depth_m.clone()),
            ..sample.clone()
        };
        assert_eq!(now.content_hash("a"), HASH);
        assert!(!sample.is_dry());
    }
}
