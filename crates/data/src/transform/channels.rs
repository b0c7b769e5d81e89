//! Input channels by name, built on the depth grid.

use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayView2, ArrayViewMut3, Axis, Zip, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::crop::Window;
use crate::dataset::{Dataset, Terrain};
use crate::error::{DataError, Result};
use crate::record::Metadata;
use crate::sample::Sample;
use crate::terrain::flow::{self, FlowTree};
use crate::terrain::ponds::Ponds;

/// Cells upstream from which on a cell counts as drainage for [`Channel::Hand`].
const DRAINAGE_CELLS: f64 = 100.0;
/// Depth in metres for which [`Channel::Storage`] is computed: the field's threshold, whatever the label's.
const WET_DEPTH_M: f64 = 0.1;

/// One name of the input, of one or several planes.
///
/// All are scaled by fixed numbers to a few units at most, so that terrains stay comparable; `height` alone is relative to its
/// own map, as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// The record's rain channels, each cell repeated over the depth cells in it.
    Rain,
    /// The record's rain totals, mm ÷ 100, repeated likewise.
    RainTotals,
    /// Elevation, z-scored over the terrain.
    Height,
    /// Slope in percent.
    Slope,
    /// log₁₀ of the flow accumulation in cells.
    LogFlowAccumulation,
    /// Height above the nearest drainage of 100 cells: log₁₀(1 + metres).
    Hand,
    /// Depth of the depression that a cell lies in: log₁₀(1 + 10 · metres).
    DepressionDepth,
    /// The water that must stand in a cell's pond before the cell is 0.1 m deep: log₁₀(1 + mm · cells) ÷ 2.
    Storage,
    /// The rain totals gathered over everything upstream of a cell: log₁₀(1 + mm · cells) ÷ 2, one plane a total.
    UpstreamRain,
    /// The same of what arrives in a cell's pond once the ponds upstream have kept what they hold: its difference from
    /// `storage` tells whether the rain can make the cell wet.
    PondInflow,
}

impl Channel {
    /// Number of planes, or the error that the dataset does not have what the channel is made of.
    fn planes(self, metadata: &Metadata) -> Result<usize> {
        match self {
            Channel::Rain => Ok(metadata.rainfallradar[0]),
            Channel::RainTotals | Channel::UpstreamRain | Channel::PondInflow => metadata
                .rainfalltotals
                .map(|[planes, ..]| planes)
                .ok_or_else(|| {
                    let name = self.name();
                    DataError::Config(format!(
                        "input channel {name} needs 'rainfalltotals', which the records do not have"
                    ))
                }),
            _ => Ok(1),
        }
    }

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Channel::Rain => "rain",
            Channel::RainTotals => "rain_totals",
            Channel::Height => "height",
            Channel::Slope => "slope",
            Channel::LogFlowAccumulation => "log_flow_accumulation",
            Channel::Hand => "hand",
            Channel::DepressionDepth => "depression_depth",
            Channel::Storage => "storage",
            Channel::UpstreamRain => "upstream_rain",
            Channel::PondInflow => "pond_inflow",
        }
    }
}

/// What is computed once a catchment.
#[derive(Debug)]
struct Catchment {
    /// `[static planes, h, w]`, cropped, in the order of the channels.
    fixed: Array3<f32>,
    /// `[h, w]`, cropped: where there is terrain; `None` when that is everywhere.
    valid: Option<Array2<bool>>,
    /// For channels that gather rain upstream.
    flow: Option<FlowTree>,
    /// For channels that hold rain back on its way.
    ponds: Option<Ponds>,
}

/// Builds the inputs `[C, H, W]` of a dataset's samples.
#[derive(Debug, Clone)]
pub struct InputBuilder {
    channels: Vec<(Channel, usize)>,
    window: Window,
    scale: usize,
    catchments: Vec<Arc<Catchment>>,
}

impl InputBuilder {
    /// Prepares `channels` for all catchments of `dataset`, cropped to the middle `output_size` `[height, width]`.
    ///
    /// # Errors
    /// When the dataset does not have what a channel is made of, or the grids or the crop do not fit.
    pub fn new(
        dataset: &Dataset,
        channels: &[Channel],
        output_size: Option<[usize; 2]>,
    ) -> Result<Self> {
        if channels.is_empty() {
            return Err(DataError::Config("the input has no channels".into()));
        }
        if let Some((_, twice)) = channels
            .iter()
            .enumerate()
            .find(|(i, channel)| channels[..*i].contains(channel))
        {
            return Err(DataError::Config(format!(
                "input channel {} is named twice",
                twice.name()
            )));
        }
        let window = Window::centred(dataset.metadata.waterdepth, output_size)?;
        let planes = |&channel: &Channel| Ok((channel, channel.planes(&dataset.metadata)?));
        let catchments = dataset
            .terrains
            .par_iter()
            .map(|terrain| Catchment::new(terrain, channels, window).map(Arc::new));
        Ok(Self {
            channels: channels.iter().map(planes).collect::<Result<_>>()?,
            window,
            scale: dataset.scale()?,
            catchments: catchments.collect::<Result<_>>()?,
        })
    }

    /// `[C, H, W]` of the inputs.
    pub fn shape(&self) -> [usize; 3] {
        [
            self.channels.iter().map(|(_, planes)| planes).sum(),
            self.window.height,
            self.window.width,
        ]
    }

    /// The channels with their numbers of planes, in order.
    pub fn channels(&self) -> &[(Channel, usize)] {
        &self.channels
    }

    /// The crop on the depth grid.
    pub fn window(&self) -> Window {
        self.window
    }

    /// `[H, W]`: where the catchment has terrain; `None` when that is everywhere.
    pub fn valid(&self, catchment: usize) -> Option<ArrayView2<'_, bool>> {
        self.catchments[catchment]
            .valid
            .as_ref()
            .map(|valid| valid.view())
    }

    /// Writes the input of `sample` over `catchment` to `out` `[C, H, W]`. Cells without terrain are 0 in all planes.
    ///
    /// # Panics
    /// When `out` does not have [`InputBuilder::shape`], or the sample is not one of the dataset's.
    pub fn build(&self, sample: &Sample, catchment: usize, mut out: ArrayViewMut3<f32>) {
        assert_eq!(out.shape(), self.shape(), "the input has another shape");
        let catchment = &self.catchments[catchment];
        let totals = || {
            sample
                .rain_totals_mm
                .as_ref()
                .expect("the metadata promises rain totals")
        };
        let (mut first, mut fixed) = (0, 0);
        for &(channel, planes) in &self.channels {
            let mut out = out.slice_mut(s![first..first + planes, .., ..]);
            first += planes;
            match channel {
                Channel::Rain => self.repeat(&sample.rain, 1.0, out),
                Channel::RainTotals => self.repeat(totals(), 0.01, out),
                Channel::UpstreamRain | Channel::PondInflow => {
                    let flow = catchment.flow.as_ref().expect("made for these channels");
                    for (total, out) in totals().outer_iter().zip(out.outer_iter_mut()) {
                        let mm = Array2::from_shape_fn(flow.dim(), |(y, x)| {
                            f64::from(total[[y / self.scale, x / self.scale]])
                        });
                        let gathered = match (channel, &catchment.ponds) {
                            (Channel::PondInflow, Some(ponds)) => ponds.inflow(flow, mm.view()),
                            _ => flow.accumulate(mm.view()),
                        };
                        self.window
                            .of(&gathered.view())
                            .mapv(log_water)
                            .assign_to(out);
                    }
                }
                _ => {
                    out.assign(&catchment.fixed.slice(s![fixed..fixed + planes, .., ..]));
                    fixed += planes;
                }
            }
        }
        if let Some(valid) = &catchment.valid {
            for plane in out.outer_iter_mut() {
                Zip::from(plane)
                    .and(valid)
                    .for_each(|value, &valid| *value = if valid { *value } else { 0.0 });
            }
        }
    }

    /// Rain-grid `planes` times `factor` on the window of the depth grid.
    fn repeat(&self, planes: &Array3<f32>, factor: f32, mut out: ArrayViewMut3<f32>) {
        let columns: Vec<usize> = (self.window.left..self.window.left + self.window.width)
            .map(|x| x / self.scale)
            .collect();
        for (plane, mut out) in planes.outer_iter().zip(out.outer_iter_mut()) {
            for (y, mut row) in out.outer_iter_mut().enumerate() {
                let source = plane.row((self.window.top + y) / self.scale);
                for (value, &x) in row.iter_mut().zip(&columns) {
                    *value = factor * source[x];
                }
            }
        }
    }
}

impl Catchment {
    fn new(terrain: &Terrain, channels: &[Channel], window: Window) -> Result<Self> {
        let mut analysis = Analysis {
            terrain,
            flow: None,
        };
        let mut fixed = Array3::zeros((0, window.height, window.width));
        for &channel in channels {
            if let Some(plane) = analysis.plane(channel)? {
                fixed
                    .push(Axis(0), window.of(&plane.view()))
                    .map_err(|e| DataError::Config(e.to_string()))?;
            }
        }
        let valid = terrain
            .elevation_m
            .as_ref()
            .map(|elevation| window.of(&elevation.view()).mapv(|z| !z.is_nan()));
        let valid = valid.filter(|valid| valid.iter().any(|valid| !valid));
        let routed = [Channel::UpstreamRain, Channel::PondInflow];
        let flow = if channels.iter().any(|channel| routed.contains(channel)) {
            Some(analysis.flow()?.clone())
        } else {
            None
        };
        let ponds = flow
            .as_ref()
            .filter(|_| channels.contains(&Channel::PondInflow))
            .map(Ponds::new);
        Ok(Self {
            fixed,
            valid,
            flow,
            ponds,
        })
    }
}

/// What follows from a terrain, each worked out when a channel asks for it.
struct Analysis<'a> {
    terrain: &'a Terrain,
    flow: Option<FlowTree>,
}

impl Analysis<'_> {
    /// A channel that is the same for all samples, on the whole depth grid `[h, w]` and NaN outside the terrain; `None` for
    /// channels made of the sample.
    fn plane(&mut self, channel: Channel) -> Result<Option<Array2<f32>>> {
        Ok(Some(match channel {
            Channel::Rain | Channel::RainTotals | Channel::UpstreamRain | Channel::PondInflow => {
                return Ok(None);
            }
            Channel::Height => z_score(self.elevation_m()?),
            Channel::Slope => {
                let slope = flow::slope(
                    self.elevation_m()?.mapv(f64::from).view(),
                    self.cell_size_m()?,
                );
                slope.mapv(|slope| 100.0 * slope as f32)
            }
            Channel::LogFlowAccumulation => self
                .flow()?
                .accumulation_cells()
                .mapv(|cells| cells.log10() as f32),
            Channel::Hand => self
                .flow()?
                .height_above_drainage_m(DRAINAGE_CELLS)
                .mapv(|metres| (1.0 + metres).log10() as f32),
            Channel::DepressionDepth => self
                .flow()?
                .depression_depth_m()
                .mapv(|metres| (1.0 + 10.0 * metres).log10() as f32),
            Channel::Storage => {
                let cell_m2 = self.cell_size_m()?.powi(2);
                let storage_m3 = self.flow()?.storage_m3(WET_DEPTH_M);
                storage_m3.mapv(|volume| log_water(1000.0 * volume / cell_m2))
            }
        }))
    }

    fn flow(&mut self) -> Result<&FlowTree> {
        if self.flow.is_none() {
            let bed_m = self.elevation_m()?.mapv(f64::from);
            self.flow = Some(FlowTree::new(bed_m.view(), self.cell_size_m()?));
        }
        Ok(self.flow.as_ref().expect("made above"))
    }

    fn elevation_m(&self) -> Result<&Array2<f32>> {
        self.terrain.elevation_m.as_ref().ok_or_else(|| {
            DataError::Config(
                "the input channels need a heightmap, and the dataset has none".into(),
            )
        })
    }

    fn cell_size_m(&self) -> Result<f64> {
        self.terrain.cell_size_m.ok_or_else(|| {
            DataError::Config("input channels derived from the terrain need a cell size, which only a manifest gives".into())
        })
    }
}

/// A volume of water in mm · cells, which spans six decades, as a channel.
fn log_water(mm_cells: f64) -> f32 {
    (0.5 * (1.0 + mm_cells).log10()) as f32
}

/// Elevation minus its mean, over its standard deviation, both over the cells with data; a flat map becomes 0.
fn z_score(elevation_m: &Array2<f32>) -> Array2<f32> {
    let known = || {
        elevation_m
            .iter()
            .filter(|z| !z.is_nan())
            .map(|&z| f64::from(z))
    };
    let count = known().count().max(1) as f64;
    let mean = known().sum::<f64>() / count;
    let deviation = (known().map(|z| (z - mean).powi(2)).sum::<f64>() / count).sqrt();
    let scale = if deviation > 0.0 {
        1.0 / deviation
    } else {
        0.0
    };
    elevation_m.mapv(|z| ((f64::from(z) - mean) * scale) as f32)
}
