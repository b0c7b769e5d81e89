//! What the water reached over a run.

use std::ops::Range;

use ndarray::Array2;

use crate::kernel;

/// Extremes of every cell since tracking began, `[height, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Maxima {
    /// Depth in m from which water counts: for the arrival, and for the speed, which means little in thinner sheets.
    pub wet_depth_m: f64,
    /// Greatest depth in m.
    pub depth_m: Array2<f64>,
    /// Greatest speed in m/s of water of the wet depth or more; 0 where it never was.
    pub speed_m_per_s: Array2<f64>,
    /// The clock's time in s at which the depth first came to the wet depth; infinite where it never did.
    pub arrival_s: Array2<f64>,
}

/// Rows of the extremes.
pub(crate) struct MaximaRows<'a> {
    pub(crate) wet_depth_m: f64,
    pub(crate) depth_m: &'a mut [f64],
    pub(crate) speed_m_per_s: &'a mut [f64],
    pub(crate) arrival_s: &'a mut [f64],
}

impl Maxima {
    pub(crate) fn new(wet_depth_m: f64, depth_m: &Array2<f64>, time_s: f64) -> Self {
        Self {
            wet_depth_m,
            depth_m: depth_m.clone(),
            speed_m_per_s: Array2::zeros(depth_m.dim()),
            arrival_s: depth_m.mapv(|h| {
                if h >= wet_depth_m {
                    time_s
                } else {
                    f64::INFINITY
                }
            }),
        }
    }

    pub(crate) fn as_rows(&mut self) -> MaximaRows<'_> {
        let (Some(depth_m), Some(speed_m_per_s), Some(arrival_s)) = (
            self.depth_m.as_slice_mut(),
            self.speed_m_per_s.as_slice_mut(),
            self.arrival_s.as_slice_mut(),
        ) else {
            unreachable!("made in standard layout");
        };
        MaximaRows {
            wet_depth_m: self.wet_depth_m,
            depth_m,
            speed_m_per_s,
            arrival_s,
        }
    }

    /// Depths that were set between steps.
    pub(crate) fn see(&mut self, cell: [usize; 2], depth_m: f64, time_s: f64) {
        self.depth_m[cell] = self.depth_m[cell].max(depth_m);
        if depth_m >= self.wet_depth_m {
            self.arrival_s[cell] = self.arrival_s[cell].min(time_s);
        }
    }
}

impl<'a> MaximaRows<'a> {
    pub(crate) fn split(self, cells: usize) -> (Self, Self) {
        let (depth, depth_rest) = self.depth_m.split_at_mut(cells);
        let (speed, speed_rest) = self.speed_m_per_s.split_at_mut(cells);
        let (arrival, arrival_rest) = self.arrival_s.split_at_mut(cells);
        let part = |depth_m, speed_m_per_s, arrival_s| MaximaRows {
            wet_depth_m: self.wet_depth_m,
            depth_m,
            speed_m_per_s,
            arrival_s,
        };
        (
            part(depth, speed, arrival),
            part(depth_rest, speed_rest, arrival_rest),
        )
    }

    /// Some of the cells.
    #[inline(always)]
    pub(crate) fn rows(&mut self, cells: Range<usize>) -> MaximaRows<'_> {
        MaximaRows {
            wet_depth_m: self.wet_depth_m,
            depth_m: &mut self.depth_m[cells.clone()],
            speed_m_per_s: &mut self.speed_m_per_s[cells.clone()],
            arrival_s: &mut self.arrival_s[cells],
        }
    }

    /// Sees the depths of some cells after a step and the discharges around them (west, east, north, south) during it.
    #[inline(always)]
    pub(crate) fn track(
        &mut self,
        cells: Range<usize>,
        depth: &[f64],
        [west, east, north, south]: [&[f64]; 4],
        time_s: f64,
    ) {
        let rows = self.rows(cells);
        let (deepest, fastest, arrival) = (rows.depth_m, rows.speed_m_per_s, rows.arrival_s);
        for i in 0..depth.len() {
            let h = depth[i];
            let wet = h >= rows.wet_depth_m;
            let [u, v] = kernel::velocity(h, [west[i], east[i], north[i], south[i]]);
            let speed = (u * u + v * v).sqrt();
            deepest[i] = if h > deepest[i] { h } else { deepest[i] };
            fastest[i] = if wet && speed > fastest[i] {
                speed
            } else {
                fastest[i]
            };
            arrival[i] = if wet && time_s < arrival[i] {
                time_s
            } else {
                arrival[i]
            };
        }
    }
}
