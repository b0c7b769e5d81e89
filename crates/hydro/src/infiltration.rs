//! What the ground takes up of the water on it.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::domain::Parameter;
use crate::kernel::{self, LANES};
use crate::rain::M_PER_S;
use crate::{Domain, HydroError};

/// What the ground takes up, never more than the water that stands on it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Infiltration {
    /// Nothing.
    #[default]
    None,
    /// A constant loss.
    Constant {
        /// The loss in mm/h, not negative.
        mm_per_h: f64,
    },
    /// A wetting front that suction and gravity draw down (Green & Ampt 1911, J. Agric. Sci. 4; Chow, Maidment & Mays 1988,
    /// Applied Hydrology, section 4.3): the capacity is f = K (1 + ψ Δθ / F), with F the depth that has sunk in so far. The
    /// weight of the standing water is neglected. Table 4.3.1 of Chow et al. has values by soil.
    GreenAmpt {
        /// Saturated hydraulic conductivity K in mm/h, not negative.
        conductivity_mm_per_h: Parameter,
        /// Suction head ψ at the wetting front in mm, not negative.
        suction_head_mm: Parameter,
        /// Moisture deficit Δθ: the share of the ground's volume that can still take water, 0 to 1.
        moisture_deficit: Parameter,
    },
}

impl Infiltration {
    pub(crate) fn validate(&self, bed_m: &Array2<f64>) -> Result<(), HydroError> {
        let (positive, expected): (fn(f64) -> bool, _) = (|v| v >= 0.0, "finite and not negative");
        match self {
            Self::None => Ok(()),
            Self::Constant { mm_per_h } => Parameter::Uniform(*mm_per_h).validate(
                "infiltration (mm/h)",
                bed_m,
                positive,
                expected,
            ),
            Self::GreenAmpt {
                conductivity_mm_per_h,
                suction_head_mm,
                moisture_deficit,
            } => {
                conductivity_mm_per_h.validate(
                    "hydraulic conductivity (mm/h)",
                    bed_m,
                    positive,
                    expected,
                )?;
                suction_head_mm.validate("suction head (mm)", bed_m, positive, expected)?;
                moisture_deficit.validate(
                    "moisture deficit",
                    bed_m,
                    |v| (0.0..=1.0).contains(&v),
                    "from 0 to 1",
                )
            }
        }
    }
}

/// What a step needs to know of the ground's uptake. Only what holds for all cells; what each has taken is state.
pub(crate) enum Uptake {
    None,
    Constant { m_per_s: f64 },
    GreenAmpt(GreenAmpt),
}

/// Row-major.
pub(crate) struct GreenAmpt {
    conductivity_m_per_s: Vec<f64>,
    /// ψ Δθ.
    storage_m: Vec<f64>,
}

impl Uptake {
    pub(crate) fn new(domain: &Domain) -> Self {
        match &domain.infiltration {
            Infiltration::None => Self::None,
            Infiltration::Constant { mm_per_h } if *mm_per_h == 0.0 => Self::None,
            Infiltration::Constant { mm_per_h } => Self::Constant {
                m_per_s: mm_per_h * M_PER_S,
            },
            Infiltration::GreenAmpt {
                conductivity_mm_per_h,
                suction_head_mm,
                moisture_deficit,
            } => {
                let cells = |parameter: &Parameter| match parameter {
                    Parameter::Uniform(value) => vec![*value; domain.bed_m.len()],
                    map => map.cells(&domain.bed_m, 0.0),
                };
                let (k, psi, deficit) = (
                    cells(conductivity_mm_per_h),
                    cells(suction_head_mm),
                    cells(moisture_deficit),
                );
                Self::GreenAmpt(GreenAmpt {
                    conductivity_m_per_s: k.iter().map(|k| k * M_PER_S).collect(),
                    storage_m: psi
                        .iter()
                        .zip(&deficit)
                        .map(|(psi, d)| psi * d * 1e-3)
                        .collect(),
                })
            }
        }
    }

    /// Whether water of any depth sinks in, so that none may be passed over as too thin to flow.
    pub(crate) fn is_active(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Takes from the depths of some cells of a row, from column `first` on, what sinks in during a step, and adds it to the
    /// lanes. `at` is the first cell's place in the grid; `infiltrated_m` what each has taken so far, which is not used
    /// without Green-Ampt.
    #[inline(always)]
    pub(crate) fn take(
        &self,
        depth_m: &mut [f64],
        infiltrated_m: &mut [f64],
        [at, first]: [usize; 2],
        timestep_s: f64,
        lanes: &mut [f64; LANES],
    ) {
        match self {
            Self::None => {}
            Self::Constant { m_per_s } => {
                kernel::infiltrate(depth_m, m_per_s * timestep_s, first, lanes);
            }
            Self::GreenAmpt(ground) => kernel::green_ampt(
                depth_m,
                infiltrated_m,
                [&ground.conductivity_m_per_s[at..], &ground.storage_m[at..]],
                timestep_s,
                first,
                lanes,
            ),
        }
    }
}
