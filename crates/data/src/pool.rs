//! The last frames of rain, and the rain channels of a sample that are made of them.

use std::collections::VecDeque;

use ndarray::{Array2, Array3, Axis, Zip};

use crate::recipe::SampleRecipe;

/// Rain rate in mm/h that is stored as 1.
pub(crate) const FULL_SCALE_MM_PER_H: f32 = 100.0;

/// The last frames of rain, as many as the longest window needs.
pub(crate) struct RainWindow<'a> {
    recipe: &'a SampleRecipe,
    frames: VecDeque<Array2<f32>>,
    most: usize,
    shape: [usize; 2],
    frame_s: f64,
}

impl<'a> RainWindow<'a> {
    /// An empty window for frames of `shape` that last `frame_s` seconds.
    pub(crate) fn new(recipe: &'a SampleRecipe, shape: [usize; 2], frame_s: f64) -> Self {
        let totals = recipe
            .total_hours
            .iter()
            .map(|&hours| frames_in(hours, frame_s))
            .max();
        let most = recipe
            .pattern
            .iter()
            .sum::<usize>()
            .max(totals.unwrap_or(0));
        Self {
            recipe,
            frames: VecDeque::with_capacity(most),
            most,
            shape,
            frame_s,
        }
    }

    /// Takes the next frame.
    pub(crate) fn push(&mut self, rain_mm_per_h: Array2<f32>) {
        if self.frames.len() == self.most {
            self.frames.pop_front();
        }
        self.frames.push_back(rain_mm_per_h);
    }

    /// Whether no window reaches back before the first frame.
    pub(crate) fn is_full(&self) -> bool {
        self.frames.len() == self.most
    }

    /// Forgets all frames.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
    }

    /// `[C, H, W]`, oldest group first: the highest rate of each group of the pattern, ÷ 100 mm/h, clipped to 0..1.
    pub(crate) fn pooled(&self) -> Array3<f32> {
        let pattern = &self.recipe.pattern;
        let mut pooled = Array3::zeros((pattern.len(), self.shape[0], self.shape[1]));
        let mut newest_first = self.frames.iter().rev();
        for (channel, &length) in pattern.iter().enumerate() {
            let mut highest = pooled.index_axis_mut(Axis(0), pattern.len() - 1 - channel);
            for frame in newest_first.by_ref().take(length) {
                Zip::from(&mut highest)
                    .and(frame)
                    .for_each(|h: &mut f32, &rate| {
                        *h = h.max((rate / FULL_SCALE_MM_PER_H).min(1.0))
                    });
            }
        }
        pooled
    }

    /// `[K, H, W]`: rain in mm over each of the windows; `None` without any.
    pub(crate) fn totals_mm(&self) -> Option<Array3<f32>> {
        let hours = &self.recipe.total_hours;
        let mut totals = Array3::zeros((hours.len(), self.shape[0], self.shape[1]));
        for (mut total, &hours) in totals.outer_iter_mut().zip(hours) {
            for frame in self
                .frames
                .iter()
                .rev()
                .take(frames_in(hours, self.frame_s))
            {
                total.scaled_add((self.frame_s / 3600.0) as f32, frame);
            }
        }
        (!hours.is_empty()).then_some(totals)
    }
}

/// Frames of `frame_s` seconds in so many hours.
pub(crate) fn frames_in(hours: f64, frame_s: f64) -> usize {
    (hours * 3600.0 / frame_s).round() as usize
}
