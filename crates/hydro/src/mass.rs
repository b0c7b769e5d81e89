//! The water balance of a simulation.

/// Where the water came from and where it is, in m³ since the solver was made.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MassBalance {
    /// Placed by `Solver::set_depth_m`, less what it took away.
    pub placed_m3: f64,
    /// Fallen as rain on cells of the domain.
    pub rain_m3: f64,
    /// Let in by boundaries: inflows, and what given levels brought.
    pub inflow_m3: f64,
    /// Lost to the ground.
    pub infiltration_m3: f64,
    /// Gone over the edge, and what given levels took.
    pub outflow_m3: f64,
    /// Standing and flowing in the domain now.
    pub stored_m3: f64,
}

impl MassBalance {
    /// Water that is there but should not be (positive), or is missing (negative), in m³.
    pub fn error_m3(&self) -> f64 {
        self.stored_m3 + self.outflow_m3 + self.infiltration_m3
            - self.rain_m3
            - self.inflow_m3
            - self.placed_m3
    }

    /// Size of the error over all the water that was there, was added or left; 0 for a dry domain.
    pub fn relative_error(&self) -> f64 {
        let error = self.error_m3().abs();
        let turnover = (self.rain_m3 + self.inflow_m3 + self.placed_m3.abs())
            .max(self.stored_m3 + self.outflow_m3 + self.infiltration_m3);
        if error == 0.0 { 0.0 } else { error / turnover }
    }
}
