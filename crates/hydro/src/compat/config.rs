//! Settings of HAIL-CAESAR's hydrology.

use serde::{Deserialize, Serialize};

use crate::HydroError;

/// Settings of [`HailCaesar`](super::HailCaesar); the defaults are those of the program where its parameter file is silent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HailCaesarConfig {
    /// Courant number α of the time step α Δx / √(g h_max), in (0, 1]; `courant_number`. Default 0.7.
    pub courant: f64,
    /// Largest Froude number |q| / (h √(g h)) of a face, positive; `froude_num_limit`. Default 0.8.
    pub froude_limit: f64,
    /// Manning's n of all cells in s m^(-1/3), not negative; `mannings_n`. Default 0.04.
    pub manning: f64,
    /// Water no deeper than this does not flow, in m, positive; `hflow_threshold`. Default 1e-5.
    pub flow_threshold_m: f64,
    /// Slope that the outermost faces see, in m/m, positive; `slope_on_edge_cell`. Default 0.001.
    pub edge_slope: f64,
    /// TOPMODEL's m in m, positive: the smaller, the faster the runoff rises and recedes; `topmodel_m_value`. Default 0.005.
    pub topmodel_m: f64,
    /// Cells whose drainage area times three times the base runoff lies between these two discharges take the runoff, in m³/s;
    /// `min_q_for_depth_calc`, not negative. Default 0.01.
    pub min_discharge_m3_per_s: f64,
    /// The upper one, `max_q_for_depth_calc`, positive. Default 1000.
    pub max_discharge_m3_per_s: f64,
    /// Most water put on a cell in a step, in m, positive; `erosion_limit` (files with the misspelt `erode_limit` mean the
    /// default). Default 0.05.
    pub max_input_m: f64,
    /// Whether friction has h^3, as the program computes it, in place of h^(10/3). Default true.
    pub integer_exponent: bool,
}

impl Default for HailCaesarConfig {
    fn default() -> Self {
        Self {
            courant: 0.7,
            froude_limit: 0.8,
            manning: 0.04,
            flow_threshold_m: 1e-5,
            edge_slope: 0.001,
            topmodel_m: 0.005,
            min_discharge_m3_per_s: 0.01,
            max_discharge_m3_per_s: 1000.0,
            max_input_m: 0.05,
            integer_exponent: true,
        }
    }
}

impl HailCaesarConfig {
    /// Checks every setting against the range that its documentation gives.
    ///
    /// # Errors
    /// [`HydroError::Value`] for the first setting out of range.
    pub fn validate(&self) -> Result<(), HydroError> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let not_negative = |value: f64| value.is_finite() && value >= 0.0;
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
                "manning",
                self.manning,
                not_negative(self.manning),
                "finite and not negative",
            ),
            (
                "flow_threshold_m",
                self.flow_threshold_m,
                positive(self.flow_threshold_m),
                "finite and positive",
            ),
            (
                "edge_slope",
                self.edge_slope,
                positive(self.edge_slope),
                "finite and positive",
            ),
            (
                "topmodel_m",
                self.topmodel_m,
                positive(self.topmodel_m),
                "finite and positive",
            ),
            (
                "min_discharge_m3_per_s",
                self.min_discharge_m3_per_s,
                not_negative(self.min_discharge_m3_per_s),
                "finite and not negative",
            ),
            (
                "max_discharge_m3_per_s",
                self.max_discharge_m3_per_s,
                self.max_discharge_m3_per_s > 0.0,
                "positive",
            ),
            (
                "max_input_m",
                self.max_input_m,
                self.max_input_m > 0.0,
                "positive",
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
