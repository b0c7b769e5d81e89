//! Rainfall as a stream of timed frames, whatever it comes from.

pub mod ascii_stream;
pub mod storms;

use ndarray::Array2;

use crate::error::Result;

/// Rain over one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct RainFrame {
    /// End of the frame in seconds since the start of the event; the rate holds for the frame before it.
    pub end_s: f64,
    /// `[height, width]`: mean rain rate over the frame, mm/h; finite and not negative.
    pub rain_mm_per_h: Array2<f32>,
}

/// A stream of rain frames of one event, in time order, at a constant interval and without gaps.
pub trait RainSource {
    /// The next frame; `None` when the event is over.
    ///
    /// # Errors
    /// What the source meets while reading, and gaps it may not fill.
    fn next_frame(&mut self) -> Result<Option<RainFrame>>;

    /// Seconds that a frame lasts.
    fn frame_s(&self) -> f64;

    /// Rows and columns of every frame.
    fn shape(&self) -> (usize, usize);
}
