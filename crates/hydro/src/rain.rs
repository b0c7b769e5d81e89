//! Rain from a coarser grid over the same ground.

use ndarray::ArrayView2;

use crate::HydroError;
use crate::span::Span;

/// mm/h to m/s.
pub(crate) const M_PER_S: f64 = 1.0 / 3.6e6;

/// The rain that falls now on each cell of the domain.
#[derive(Debug, Clone)]
pub(crate) struct Rain {
    /// m/s, row-major; 0 outside the domain.
    pub(crate) rate_m_per_s: Vec<f64>,
    /// Columns of each row on which rain falls.
    pub(crate) spans: Vec<Span>,
    /// Sum of the rates over all cells, in m/s.
    pub(crate) total_m_per_s: f64,
}

impl Rain {
    pub(crate) fn none(height: usize, width: usize) -> Self {
        Self {
            rate_m_per_s: vec![0.0; height * width],
            spans: vec![Span::EMPTY; height],
            total_m_per_s: 0.0,
        }
    }

    /// Takes for each cell the rain cell that holds its centre. `inside` tells which cells belong to the domain.
    pub(crate) fn set(
        &mut self,
        mm_per_h: ArrayView2<f32>,
        inside: &[bool],
    ) -> Result<(), HydroError> {
        let height = self.spans.len();
        let width = self.rate_m_per_s.len() / height;
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
        self.total_m_per_s = 0.0;
        let cells = self
            .rate_m_per_s
            .chunks_exact_mut(width)
            .zip(inside.chunks_exact(width))
            .zip(&mut self.spans);
        for (row, ((rates, inside), span)) in cells.enumerate() {
            let source = mm_per_h.row(holder(row, height, rows));
            let mut total = 0.0;
            for (col, (rate, &inside)) in rates.iter_mut().zip(inside).enumerate() {
                *rate = if inside {
                    f64::from(source[holder(col, width, cols)]) * M_PER_S
                } else {
                    0.0
                };
                total += *rate;
            }
            *span = Span::above(rates, 0.0);
            self.total_m_per_s += total;
        }
        Ok(())
    }
}

/// Which of `coarse` equal parts of a length holds the centre of part `index` of `fine`.
fn holder(index: usize, fine: usize, coarse: usize) -> usize {
    (2 * index + 1) * coarse / (2 * fine)
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
        rain.set(array![[3.6_f32, 7.2]].view(), &inside).unwrap();
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
        assert_eq!(
            rain.spans,
            [Span { start: 0, end: 4 }, Span { start: 0, end: 5 }]
        );
        assert!((rain.total_m_per_s - 14e-6).abs() < 1e-12);
    }

    #[test]
    fn wrong_rain_is_refused() {
        let mut rain = Rain::none(2, 3);
        let inside = [true; 6];
        for bad in [f32::NAN, f32::INFINITY, -1.0] {
            let error = rain.set(array![[0.0, bad]].view(), &inside).unwrap_err();
            assert!(
                matches!(error, HydroError::CellValue { row: 0, col: 1, .. }),
                "{error}"
            );
        }
        let finer = ndarray::Array2::<f32>::zeros((2, 4));
        assert!(matches!(
            rain.set(finer.view(), &inside),
            Err(HydroError::Shape { .. })
        ));
        let empty = ndarray::Array2::<f32>::zeros((0, 3));
        assert!(matches!(
            rain.set(empty.view(), &inside),
            Err(HydroError::Shape { .. })
        ));
    }
}
