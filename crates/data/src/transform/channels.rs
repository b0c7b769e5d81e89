//! Input channels by name, built on the depth grid.

use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayView2, ArrayViewMut3, Axis, Zip, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::TransformConfig;
use super::crop::{Crop, Window};
use crate::dataset::{Dataset, Terrain};
use crate::error::{DataError, Result};
use crate::record::Metadata;
use crate::sample::{Cut, Sample};
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
    /// A tenth of the topographic wetness index ln(a / tan β), a in metres (Beven & Kirkby 1979).
    WetnessIndex,
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

    /// Whether it is gathered along the flow tree.
    fn is_routed(self) -> bool {
        matches!(self, Channel::UpstreamRain | Channel::PondInflow)
    }

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Channel::Rain => "rain",
            Channel::RainTotals => "rain_totals",
            Channel::Height => "height",
            Channel::Slope => "slope",
            Channel::LogFlowAccumulation => "log_flow_accumulation",
            Channel::WetnessIndex => "wetness_index",
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
    /// `[static planes, h, w]` of the whole map, in the order of the channels; NaN outside the terrain.
    fixed: Array3<f32>,
    /// `[h, w]` of the whole map: where there is terrain; `None` when that is everywhere.
    valid: Option<Array2<bool>>,
    /// For channels that gather rain upstream.
    flow: Option<FlowTree>,
    /// For channels that hold rain back on its way.
    ponds: Option<Ponds>,
}

/// Mean and deviation of one plane of the input over a training split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    /// Mean over all cells with data.
    pub mean: f32,
    /// Standard deviation over the same cells.
    pub deviation: f32,
}

/// Builds the inputs `[C, H, W]` of a dataset's samples.
#[derive(Debug, Clone)]
pub struct InputBuilder {
    channels: Vec<(Channel, usize)>,
    size: [usize; 2],
    scale: usize,
    rain_scale: f32,
    /// One a plane, or none.
    moments: Vec<Moments>,
    cut: Cut,
    catchments: Vec<Arc<Catchment>>,
}

impl InputBuilder {
    /// Prepares the channels of `transform` for all catchments of `dataset`.
    ///
    /// # Errors
    /// When the dataset does not have what a channel is made of, or the grids, the crop or the moments do not fit.
    pub fn new(dataset: &Dataset, transform: &TransformConfig) -> Result<Self> {
        let channels = &transform.channels;
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
        let rain_scale = transform.rain_scale;
        if !(rain_scale > 0.0 && rain_scale.is_finite()) {
            return Err(DataError::Config(format!(
                "rain_scale must be a positive factor, not {rain_scale}"
            )));
        }
        let scale = dataset.scale()?;
        let centre = Window::centred(dataset.metadata.waterdepth, transform.output_size)?;
        let mut cut = Cut::whole(&dataset.metadata);
        if transform.crop == Crop::Centre {
            cut.depth = centre;
            cut.rain = centre.coarser(scale);
            // Rain is gathered from all over the map.
            if !channels.iter().any(|channel| channel.is_routed()) {
                cut.totals = cut.rain;
            }
        }
        let planes = |&channel: &Channel| Ok((channel, channel.planes(&dataset.metadata)?));
        let planes: Vec<_> = channels.iter().map(planes).collect::<Result<_>>()?;
        let moments = transform.moments.clone().unwrap_or_default();
        let count: usize = planes.iter().map(|(_, planes)| planes).sum();
        if transform.moments.is_some() && moments.len() != count {
            return Err(DataError::Config(format!(
                "there are moments of {} planes for an input of {count}",
                moments.len()
            )));
        }
        if let Some(bad) = moments
            .iter()
            .find(|m| !(m.mean.is_finite() && m.deviation >= 0.0 && m.deviation.is_finite()))
        {
            return Err(DataError::Config(format!("impossible moments: {bad:?}")));
        }
        let catchments = dataset
            .terrains
            .par_iter()
            .map(|terrain| Catchment::new(terrain, channels, dataset).map(Arc::new));
        Ok(Self {
            channels: planes,
            size: [centre.height, centre.width],
            scale,
            rain_scale,
            moments,
            cut,
            catchments: catchments.collect::<Result<_>>()?,
        })
    }

    /// `[C, H, W]` of the inputs.
    pub fn shape(&self) -> [usize; 3] {
        let [height, width] = self.size;
        [
            self.channels.iter().map(|(_, planes)| planes).sum(),
            height,
            width,
        ]
    }

    /// The channels with their numbers of planes, in order.
    pub fn channels(&self) -> &[(Channel, usize)] {
        &self.channels
    }

    /// The same inputs as they are before they are normalised.
    pub(crate) fn without_moments(self) -> Self {
        Self {
            moments: Vec::new(),
            ..self
        }
    }

    /// What the samples must hold that inputs are built of.
    pub(crate) fn cut(&self) -> &Cut {
        &self.cut
    }

    /// `[h, w]` of the whole map: where the catchment has terrain; `None` when that is everywhere.
    pub fn valid(&self, catchment: usize) -> Option<ArrayView2<'_, bool>> {
        self.catchments[catchment]
            .valid
            .as_ref()
            .map(|valid| valid.view())
    }

    /// Writes the input of `sample` (of this builder's cut) over `window` of `catchment` to `out` `[C, H, W]`. Cells without
    /// terrain are 0 in all planes.
    ///
    /// # Panics
    /// When `out` does not have [`InputBuilder::shape`], or the sample is of another cut.
    pub(crate) fn build(
        &self,
        sample: &Sample,
        catchment: usize,
        window: Window,
        mut out: ArrayViewMut3<f32>,
    ) {
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
            let moments = self.moments.get(first..first + planes);
            first += planes;
            match channel {
                Channel::Rain => {
                    self.repeat(
                        &sample.rain,
                        self.cut.rain,
                        window,
                        self.rain_scale,
                        &mut out,
                    );
                }
                Channel::RainTotals => {
                    self.repeat(
                        totals(),
                        self.cut.totals,
                        window,
                        0.01 * self.rain_scale,
                        &mut out,
                    );
                }
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
                        window.of(&gathered.view()).mapv(log_water).assign_to(out);
                    }
                }
                _ => {
                    for plane in out.outer_iter_mut() {
                        let map = catchment.fixed.index_axis(Axis(0), fixed);
                        window.of(&map).assign_to(plane);
                        fixed += 1;
                    }
                }
            }
            for (mut plane, moments) in out.outer_iter_mut().zip(moments.unwrap_or_default()) {
                // A plane that never changes says nothing: 0.
                let factor = if moments.deviation > 0.0 {
                    1.0 / moments.deviation
                } else {
                    0.0
                };
                plane.mapv_inplace(|value| (value - moments.mean) * factor);
            }
        }
        if let Some(valid) = &catchment.valid {
            let valid = valid.view();
            let valid = window.of(&valid);
            for plane in out.outer_iter_mut() {
                Zip::from(plane)
                    .and(valid)
                    .for_each(|value, &valid| *value = if valid { *value } else { 0.0 });
            }
        }
    }

    /// Rain-grid `planes`, of which `held` is there, times `factor` on `window` of the depth grid.
    fn repeat(
        &self,
        planes: &Array3<f32>,
        held: Window,
        window: Window,
        factor: f32,
        out: &mut ArrayViewMut3<f32>,
    ) {
        let scale = self.scale;
        let coarse = window.coarser(scale);
        let source = coarse.within(held);
        // Cells of the first coarse row and column that lie outside the window.
        let (above, before) = (
            window.top - coarse.top * scale,
            window.left - coarse.left * scale,
        );
        let mut line = vec![0.0; coarse.width * scale];
        const CONTIGUOUS: &str = "arrays in row-major order";
        let planes = planes.as_slice().expect(CONTIGUOUS);
        let planes = planes.chunks_exact(held.height * held.width);
        let out = out.as_slice_mut().expect(CONTIGUOUS);
        for (plane, out) in planes.zip(out.chunks_exact_mut(window.height * window.width)) {
            let mut rows = out.chunks_exact_mut(window.width);
            for (y, row) in plane
                .chunks_exact(held.width)
                .skip(source.top)
                .take(source.height)
                .enumerate()
            {
                let cells = &row[source.left..source.left + source.width];
                match scale {
                    // The published scale, for which this is vector code.
                    2 => {
                        let pairs = line.as_chunks_mut::<2>().0.iter_mut();
                        pairs
                            .zip(cells)
                            .for_each(|(pair, &cell)| *pair = [factor * cell; 2]);
                    }
                    _ => {
                        let repeated = line.chunks_exact_mut(scale).zip(cells);
                        repeated.for_each(|(repeated, &cell)| repeated.fill(factor * cell));
                    }
                }
                let copies = if y == 0 { scale - above } else { scale };
                for out in rows.by_ref().take(copies) {
                    out.copy_from_slice(&line[before..before + window.width]);
                }
            }
        }
    }
}

impl Catchment {
    fn new(terrain: &Terrain, channels: &[Channel], dataset: &Dataset) -> Result<Self> {
        let mut analysis = Analysis {
            terrain,
            flow: None,
        };
        let [height, width] = dataset.metadata.waterdepth;
        let mut fixed = Array3::zeros((0, height, width));
        for &channel in channels {
            if let Some(plane) = analysis.plane(channel)? {
                fixed
                    .push(Axis(0), plane.view())
                    .map_err(|e| DataError::Config(e.to_string()))?;
            }
        }
        let valid = terrain
            .elevation_m
            .as_ref()
            .map(|elevation| elevation.mapv(|z| !z.is_nan()));
        let valid = valid.filter(|valid| valid.iter().any(|valid| !valid));
        let flow = if channels.iter().any(|channel| channel.is_routed()) {
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
            Channel::WetnessIndex => {
                let cell_size_m = self.cell_size_m()?;
                let slope = flow::slope(self.elevation_m()?.mapv(f64::from).view(), cell_size_m);
                let cells = self.flow()?.accumulation_cells();
                flow::wetness_index(cells.view(), slope.view(), cell_size_m)
                    .mapv(|index| 0.1 * index as f32)
            }
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
