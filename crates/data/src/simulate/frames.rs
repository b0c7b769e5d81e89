//! Depth frames in files.

use std::path::{Path, PathBuf};

use ndarray::{Array2, Zip};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::grid::GeoGrid;
use crate::raster::{esri_ascii, geotiff};

/// Form of the depth frames of a simulation; each is a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameFormat {
    /// GeoTIFF, `depth_000360.tif` after 360 minutes.
    GeoTiff,
    /// ESRI ASCII, `WaterDepths360.asc` as CAESAR-Lisflood names it.
    Ascii,
}

/// Writes the frames of a run.
pub(super) struct FrameWriter {
    folder: PathBuf,
    format: FrameFormat,
    /// The terrain, for the place of the cells and those outside.
    terrain: GeoGrid,
}

impl FrameWriter {
    pub(super) fn new(folder: &Path, format: FrameFormat, terrain: &GeoGrid) -> Self {
        Self {
            folder: folder.to_owned(),
            format,
            terrain: terrain.clone(),
        }
    }

    /// Writes what there is after `time_s` seconds, in m or m/s.
    pub(super) fn write(&self, what: Quantity, time_s: f64, values: &Array2<f64>) -> Result<()> {
        let mut grid = self.terrain.clone();
        Zip::from(&mut grid.data)
            .and(values)
            .for_each(|cell, value| {
                if !cell.is_nan() {
                    *cell = *value as f32;
                }
            });
        let path = self.folder.join(self.format.file_name(what, time_s));
        match self.format {
            FrameFormat::GeoTiff => geotiff::write(&path, &grid),
            FrameFormat::Ascii => esri_ascii::write(&path, &grid),
        }
    }
}

/// What a frame shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Water depth, m.
    Depth,
    /// Velocity to the east, m/s.
    VelocityEast,
    /// Velocity to the south, m/s.
    VelocitySouth,
}

impl FrameFormat {
    /// Name of the file of a frame after so many seconds: with whole minutes, or with three decimals where it is between.
    pub fn file_name(self, what: Quantity, time_s: f64) -> String {
        let minutes = time_s / 60.0;
        let whole = minutes.fract() == 0.0;
        match self {
            Self::GeoTiff => {
                let name = match what {
                    Quantity::Depth => "depth",
                    Quantity::VelocityEast => "velocity_east",
                    Quantity::VelocitySouth => "velocity_south",
                };
                match whole {
                    true => format!("{name}_{minutes:06}.tif"),
                    false => format!("{name}_{minutes:010.3}.tif"),
                }
            }
            Self::Ascii => {
                let name = match what {
                    Quantity::Depth => "WaterDepths",
                    Quantity::VelocityEast => "VelocityEast",
                    Quantity::VelocitySouth => "VelocitySouth",
                };
                match whole {
                    true => format!("{name}{minutes}.asc"),
                    false => format!("{name}{minutes:.3}.asc"),
                }
            }
        }
    }
}
