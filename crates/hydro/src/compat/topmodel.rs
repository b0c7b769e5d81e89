//! Runoff of a rain cell: TOPMODEL's exponential store, as CAESAR-Lisflood integrates it (Coulthard et al. 2002, Earth Surf.
//! Process. Landforms 27).

/// Length of the program's runoff steps in s.
pub(crate) const STEP_S: f64 = 60.0;

/// One store. Its runoff j in m/s obeys dj/dt = j (r - j) / m, so that it rises to a steady rain r and recedes as
/// j = j₀ / (1 + j₀ t / m) without rain.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// Runoff at the end of the newest step, m/s.
    runoff: f64,
    /// Mean runoff of the newest step and of the one before.
    mean: f64,
    mean_before: f64,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            runoff: 1e-9,
            mean: 0.0,
            mean_before: 0.0,
        }
    }

    /// Moves a step forward under a rain rate in m/s: the exact solution for constant rain, and its mean.
    pub(crate) fn step(&mut self, rain: f64, m: f64) {
        self.mean_before = self.mean;
        let start = self.runoff;
        if rain > 0.0 {
            let growth = (rain * STEP_S / m).exp();
            self.runoff = rain / ((rain - start) / start / growth + 1.0);
            self.mean = m / STEP_S * (((rain - start) + start * growth) / rain).ln();
        } else {
            let recession = 1.0 + start * STEP_S / m;
            self.runoff = start / recession;
            self.mean = m / STEP_S * recession.ln();
        }
        self.mean = self.mean.max(0.0);
    }

    /// The runoff in m/s that the program uses while `left_min` minutes of the newest step are left: between the means of the
    /// last two steps, as if a step lasted two minutes.
    pub(crate) fn now(&self, left_min: f64) -> f64 {
        self.mean_before + (self.mean - self.mean_before) / 2.0 * (2.0 - left_min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: f64 = 0.002;

    /// Of the equation dj/dt = j (r - j) / m for constant rain, from the start value of the store.
    fn logistic(rain: f64, t: f64) -> f64 {
        let growth = (rain * t / M).exp();
        rain / (1.0 + (rain / 1e-9 - 1.0) / growth)
    }

    #[test]
    fn runoff_rises_to_the_rain_along_the_logistic_curve() {
        let rain = 10.0 / 3.6e6;
        let mut store = Store::new();
        let mut total = 0.0;
        for minute in 1..=240 {
            store.step(rain, M);
            total += store.mean * STEP_S;
            let exact = logistic(rain, minute as f64 * STEP_S);
            assert!((store.runoff / exact - 1.0).abs() < 1e-9, "{minute}");
        }
        assert!((store.runoff / rain - 1.0).abs() < 1e-3);
        // ∫ j dt = m ln(j₀/r (e^(r t / m) - 1) + 1).
        let t = 240.0 * STEP_S;
        let exact = M * (1e-9 / rain * ((rain * t / M).exp() - 1.0) + 1.0).ln();
        assert!((total / exact - 1.0).abs() < 1e-9, "{total} {exact}");
    }

    #[test]
    fn runoff_recedes_hyperbolically_without_rain() {
        let mut store = Store::new();
        store.runoff = 5e-6;
        let mut total = 0.0;
        for minute in 1..=600 {
            store.step(0.0, M);
            total += store.mean * STEP_S;
            let exact = 5e-6 / (1.0 + 5e-6 * minute as f64 * STEP_S / M);
            assert!((store.runoff / exact - 1.0).abs() < 1e-9, "{minute}");
        }
        let exact = M * (1.0 + 5e-6 * 600.0 * STEP_S / M).ln();
        assert!((total / exact - 1.0).abs() < 1e-9);
    }

    #[test]
    fn runoff_between_minutes_starts_at_half_of_the_change() {
        let store = Store {
            runoff: 0.0,
            mean: 3.0,
            mean_before: 1.0,
        };
        assert_eq!(store.now(1.0), 2.0);
        assert_eq!(store.now(0.0), 3.0);
    }
}
