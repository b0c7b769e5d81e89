//! The table of a run: a line each frame.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use pluvial_hydro::Solver;

use crate::error::{DataError, Result};
use crate::file;

/// Writes `time_s,outflow_m3_per_s,inflow_m3_per_s,stored_m3` and the depth at each point.
pub(super) struct HydrographWriter {
    path: PathBuf,
    to: BufWriter<File>,
    points: Vec<[usize; 2]>,
}

impl HydrographWriter {
    /// Begins a table, or takes up the one that is there after the lines up to `time_s`.
    pub(super) fn open(path: &Path, points: &[(String, [usize; 2])], time_s: f64) -> Result<Self> {
        let mut header = "time_s,outflow_m3_per_s,inflow_m3_per_s,stored_m3".to_owned();
        for (name, _) in points {
            header.push_str(&format!(",{name}_depth_m"));
        }
        let mut kept = vec![header];
        if time_s > 0.0 {
            let reader =
                BufReader::new(File::open(path).map_err(|e| DataError::io("open", path, e))?);
            for line in reader.lines().skip(1) {
                let line = line.map_err(|e| DataError::io("read", path, e))?;
                let time = line
                    .split(',')
                    .next()
                    .and_then(|time| time.parse::<f64>().ok());
                // Lines after the saved state are of the part that is computed again.
                if time.is_some_and(|time| time <= time_s) {
                    kept.push(line);
                }
            }
        }
        file::write(path, |to| {
            kept.iter().try_for_each(|line| writeln!(to, "{line}"))
        })?;
        let to = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(|e| DataError::io("open", path, e))?;
        Ok(Self {
            path: path.to_owned(),
            to: BufWriter::new(to),
            points: points.iter().map(|(_, cell)| *cell).collect(),
        })
    }

    pub(super) fn write(&mut self, solver: &Solver) -> Result<()> {
        // From +0: an empty sum is −0.
        let inflow = solver
            .boundary_inflow_m3_per_s()
            .iter()
            .fold(0.0, |a, b| a + b);
        let mut line = format!(
            "{},{:.6},{:.6},{:.3}",
            solver.time_s(),
            solver.edge_outflow_m3_per_s(),
            inflow,
            solver.mass_balance().stored_m3
        );
        for cell in &self.points {
            line.push_str(&format!(",{:.5}", solver.depth_m()[*cell]));
        }
        writeln!(self.to, "{line}").map_err(|e| DataError::io("write", &self.path, e))
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.to
            .flush()
            .map_err(|e| DataError::io("write", &self.path, e))
    }
}
