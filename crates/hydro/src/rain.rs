//! Rain from a coarser grid over the same ground.

use ndarray::ArrayView2;

use crate::chunks::{self, CHUNK, ChunkMap};
use crate::{HydroError, RainResampling};

/// mm/h to m/s.
pub(crate) const M_PER_S: f64 = 1.0 / 3.6e6;

/// The rain that falls now on each cell of the domain.
#[derive(Debug, Clone)]
pub(crate) struct Rain {
    width: usize,
    /// m/s, row-major; 0 outside the domain.
    pub(crate) rate_m_per_s: Vec<f64>,
    /// Where rain falls.
    pub(crate) chunks: ChunkMap,
    /// Sum of the rates over all cells, in m/s.
    pub(crate) total_m_per_s: f64,
}

impl Rain {
    pub(crate) fn none(height: usize, width: usize) -> Self {
        Self {
            width,
            rate_m_per_s: vec![0.0; height * width],
            chunks: ChunkMap::new(height, width),
            total_m_per_s: 0.0,
        }
    }

    /// Rain of a coarser grid. `inside` tells which cells belong to the domain.
    pub(crate) fn set(
        &mut self,
        mm_per_h: ArrayView2<f32>,
        resampling: RainResampling,
        inside: &[bool],
    ) -> Result<(), HydroError> {
        let width = self.width;
        let height = self.rate_m_per_s.len() / width;
        let (rows, cols) = mm_per_h.dim();
        if rows == 0 || cols == 0 || rows > height || cols > width {
            return Err(HydroError::Shape {
                what: "the rain grid",
                got_rows: rows,
                got_cols: cols,
                expected: format!("1 x 1 to {height} x {width}, not finer than the bed,"),
            });
        }
        let wrong = mm_per_h
            .indexed_iter()
            .find(|(_, rate)| !(rate.is_finite() && **rate >= 0.0));
        if let Some(((row, col), &value)) = wrong {
            return Err(HydroError::CellValue {
                name: "rain (mm/h)",
                row,
                col,
                value: f64::from(value),
                expected: "finite and not negative",
            });
        }
        let cells = self
            .rate_m_per_s
            .chunks_exact_mut(width)
            .zip(inside.chunks_exact(width));
        for (row, (rates, inside)) in cells.enumerate() {
            for (col, (rate, &inside)) in rates.iter_mut().zip(inside).enumerate() {
                *rate = if inside {
                    M_PER_S
                        * match resampling {
                            RainResampling::Nearest => f64::from(
                                mm_per_h[(holder(row, height, rows), holder(col, width, cols))],
                            ),
                            RainResampling::Conservative => mean(
                                mm_per_h,
                                overlaps(row, height, rows),
                                overlaps(col, width, cols),
                            ),
                        }
                } else {
                    0.0
                };
            }
        }
        self.summarise();
        Ok(())
    }

    /// Rain that was set before, in m/s.
    pub(crate) fn restore(&mut self, rate_m_per_s: Vec<f64>) {
        self.rate_m_per_s = rate_m_per_s;
        self.summarise();
    }

    /// Finds where rain falls and how much in all.
    fn summarise(&mut self) {
        self.total_m_per_s = 0.0;
        for (row, rates) in self.rate_m_per_s.chunks_exact(self.width).enumerate() {
            let bits = self.chunks.row_mut(row);
            bits.fill(0);
            for (chunk, rates) in rates.chunks(CHUNK).enumerate() {
                if rates.iter().any(|rate| *rate > 0.0) {
                    chunks::mark(bits, chunk);
                }
            }
            self.total_m_per_s += rates.iter().sum::<f64>();
        }
    }
}

/// Which of `coarse` equal parts of a length holds the centre of part `index` of `fine`.
pub(crate) fn holder(index: usize, fine: usize, coarse: usize) -> usize {
    (2 * index + 1) * coarse / (2 * fine)
}

/// The part `index` of `fine` equal parts of a length lies in these of `coarse` parts, which are not smaller, with these
/// shares: in one or two.
fn overlaps(index: usize, fine: usize, coarse: usize) -> [(usize, f64); 2] {
    // In units of 1 / (fine coarse) of the length: the part covers `coarse` of them, a coarse one `fine`.
    let start = index * coarse;
    let first = start / fine;
    let beyond = (start + coarse).saturating_sub((first + 1) * fine);
    let share = |units: usize| units as f64 / coarse as f64;
    let second = if beyond > 0 { first + 1 } else { first };
    [(first, share(coarse - beyond)), (second, share(beyond))]
}

fn mean(values: ArrayView2<f32>, rows: [(usize, f64); 2], cols: [(usize, f64); 2]) -> f64 {
    let at = |row: usize, col: usize| f64::from(values[(row, col)]);
    let weighted = |i: usize, j: usize| rows[i].1 * cols[j].1 * at(rows[i].0, cols[j].0);
    // The pairs keep a mirrored or turned problem the same to the bit.
    (weighted(0, 0) + weighted(1, 1)) + (weighted(0, 1) + weighted(1, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn coarse_rain_goes_to_the_cells_under_it() {
        let mut rain = Rain::none(2, 5);
        let mut inside = vec![true; 10];
        inside[4] = false;
        rain.set(
            array![[3.6_f32, 7.2]].view(),
            RainResampling::Nearest,
            &inside,
        )
        .unwrap();
        // Two rain cells over five columns: the centre of column 2 is on the seam and goes east.
        let millionths: Vec<f64> = rain
            .rate_m_per_s
            .iter()
            .map(|r| (r * 1e6).round())
            .collect();
        assert_eq!(
            millionths,
            [1.0, 1.0, 2.0, 2.0, 0.0, 1.0, 1.0, 2.0, 2.0, 2.0]
        );
        assert!([0, 1].map(|row| chunks::count(rain.chunks.row(row))) == [1, 1]);
        assert!((rain.total_m_per_s - 14e-6).abs() < 1e-12);
    }

    #[test]
    fn conservative_rain_keeps_the_volume_of_every_rain_cell() {
        // 3 x 2 rain cells over 7 x 5 cells: every border lies within cells.
        let coarse = array![[3.0_f32, 50.0], [0.5, 7.0], [20.0, 0.0]];
        let mut rain = Rain::none(7, 5);
        rain.set(coarse.view(), RainResampling::Conservative, &[true; 35])
            .unwrap();
        let volume = |i: usize, j: usize| {
            // By the definition: the area that each cell has in common with the rain cell.
            let common = |a: f64, b: f64, c: f64, d: f64| (b.min(d) - a.max(c)).max(0.0);
            let (rows, cols) = ((7.0 / 3.0, 5.0 / 2.0), (i as f64, j as f64));
            let mut area = ndarray::Array2::<f64>::zeros((7, 5));
            for ((r, c), a) in area.indexed_iter_mut() {
                let (y, x) = (r as f64, c as f64);
                *a = common(y, y + 1.0, cols.0 * rows.0, (cols.0 + 1.0) * rows.0)
                    * common(x, x + 1.0, cols.1 * rows.1, (cols.1 + 1.0) * rows.1);
            }
            area
        };
        for row in 0..7 {
            for col in 0..5 {
                let mut expected = 0.0;
                for i in 0..3 {
                    for j in 0..2 {
                        expected += volume(i, j)[(row, col)] * f64::from(coarse[(i, j)]) * M_PER_S;
                    }
                }
                let rate = rain.rate_m_per_s[row * 5 + col];
                assert!(
                    (rate - expected).abs() < 1e-18,
                    "{row} {col}: {rate} {expected}"
                );
            }
        }
        let total = f64::from(coarse.sum()) * M_PER_S * 35.0 / 6.0;
        assert!((rain.total_m_per_s / total - 1.0).abs() < 1e-14);
    }

    #[test]
    fn wrong_rain_is_refused() {
        let mut rain = Rain::none(2, 3);
        let inside = [true; 6];
        for bad in [f32::NAN, f32::INFINITY, -1.0] {
            let error = rain
                .set(array![[0.0, bad]].view(), RainResampling::Nearest, &inside)
                .unwrap_err();
            assert!(
                matches!(error, HydroError::CellValue { row: 0, col: 1, .. }),
                "{error}"
            );
        }
        let finer = ndarray::Array2::<f32>::zeros((2, 4));
        assert!(matches!(
            rain.set(finer.view(), RainResampling::Nearest, &inside),
            Err(HydroError::Shape { .. })
        ));
        let empty = ndarray::Array2::<f32>::zeros((0, 3));
        assert!(matches!(
            rain.set(empty.view(), RainResampling::Nearest, &inside),
            Err(HydroError::Shape { .. })
        ));
    }
}
