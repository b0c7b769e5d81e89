//! Learning rate over the steps of a run: linear warm-up, then cosine decay.

use serde::{Deserialize, Serialize};

/// Linear warm-up followed by a half cosine (Loshchilov & Hutter 2017, SGDR, without restarts).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WarmupCosine {
    /// Rate at the end of the warm-up.
    pub peak: f64,
    /// Rate at the last step.
    pub floor: f64,
    /// Steps of warm-up.
    pub warmup_steps: usize,
    /// Steps of the whole run.
    pub total_steps: usize,
}

impl WarmupCosine {
    /// The rate of step `step`, counted from 0. Past the last step it stays at the floor.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let decay_steps = self
            .total_steps
            .saturating_sub(self.warmup_steps + 1)
            .max(1);
        let progress = ((step - self.warmup_steps) as f64 / decay_steps as f64).min(1.0);
        self.floor
            + 0.5 * (self.peak - self.floor) * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_then_falls_to_the_floor() {
        let schedule = WarmupCosine {
            peak: 1e-3,
            floor: 1e-5,
            warmup_steps: 10,
            total_steps: 111,
        };
        assert!((schedule.at(0) - 1e-4).abs() < 1e-12);
        assert!((schedule.at(9) - 1e-3).abs() < 1e-12);
        assert!((schedule.at(10) - 1e-3).abs() < 1e-12);
        assert!(
            (schedule.at(60) - 0.5 * (1e-3 + 1e-5)).abs() < 1e-12,
            "half way down at half time"
        );
        assert!((schedule.at(110) - 1e-5).abs() < 1e-12);
        assert!((schedule.at(1000) - 1e-5).abs() < 1e-12);
    }

    #[test]
    fn a_run_of_one_step_has_a_rate() {
        let schedule = WarmupCosine {
            peak: 1e-3,
            floor: 0.0,
            warmup_steps: 0,
            total_steps: 1,
        };
        assert_eq!(schedule.at(0), 1e-3);
    }
}
