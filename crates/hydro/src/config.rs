//! Numerical settings of the solver.

use serde::{Deserialize, Serialize};

use crate::HydroError;

/// Numerical settings of the solver; the defaults suit rain on a grid of 5 m to 1 km cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SolverConfig {
    /// Courant number α of the time step α Δx / √(g h_max), in (0, 1]. Default 0.7 ≈ 1/√2, the bound in two dimensions.
    pub courant: f64,
    /// Largest Froude number |q| / (h √(g h)) of a face, positive. The scheme has no advection term, so supercritical flow on
    /// steep cells is capped and not resolved. Default 1; infinity switches the limit off.
    pub froude_limit: f64,
    /// Sheets no deeper than this, in m, run off at Manning's velocity, whatever their Froude number: thin runoff on steep cells
    /// is governed by friction and not by waves. The time step follows the deepest water alone in any case, so thin water
    /// never asks for short steps; what would run further than a cell in a step is held back by the limit of the outflow to
    /// the water there is. Not negative. Default 0: all water is Froude-limited.
    pub sheet_depth_m: f64,
    /// Water no deeper than this does not flow, in m, at least 1e-9. Default 1e-4.
    pub dry_depth_m: f64,
    /// Largest time step in s, positive: shallow water would allow longer ones than rain should be gathered in. Default 60.
    pub max_timestep_s: f64,
    /// How rain from a coarser grid comes to the cells. Default nearest.
    pub rain: RainResampling,
}

/// How rain from a coarser grid over the same ground comes to the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RainResampling {
    /// A cell takes the rain of the rain cell that holds its centre.
    Nearest,
    /// A cell takes the mean over its area: the volume of each rain cell is kept, also where cells lie across its border.
    Conservative,
}

impl Default for SolverConfig {
    fn default() -> Self {
        Self {
            courant: 0.7,
            froude_limit: 1.0,
            sheet_depth_m: 0.0,
            dry_depth_m: 1e-4,
            max_timestep_s: 60.0,
            rain: RainResampling::Nearest,
        }
    }
}

impl SolverConfig {
    /// Checks every setting against the range that its documentation gives.
    ///
    /// # Errors
    /// [`HydroError::Value`] for the first setting out of range.
    pub fn validate(&self) -> Result<(), HydroError> {
        let checks = [
            (
                "courant",
                self.courant,
                self.courant > 0.0 && self.courant <= 1.0,
                "in (0, 1]",
            ),
            (
                "froude_limit",
                self.froude_limit,
                self.froude_limit > 0.0,
                "positive",
            ),
            (
                "sheet_depth_m",
                self.sheet_depth_m,
                self.sheet_depth_m.is_finite() && self.sheet_depth_m >= 0.0,
                "finite and not negative",
            ),
            (
                "dry_depth_m",
                self.dry_depth_m,
                self.dry_depth_m.is_finite() && self.dry_depth_m >= 1e-9,
                "finite and at least 1e-9",
            ),
            (
                "max_timestep_s",
                self.max_timestep_s,
                self.max_timestep_s.is_finite() && self.max_timestep_s > 0.0,
                "finite and positive",
            ),
        ];
        match checks.into_iter().find(|check| !check.2) {
            None => Ok(()),
            Some((name, value, _, expected)) => Err(HydroError::Value {
                name,
                value,
                expected,
            }),
        }
    }
}
