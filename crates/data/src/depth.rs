//! Water depth as a simulator leaves it: a stream of grids, or a folder of files, one a time step.

use std::path::{Path, PathBuf};

use crate::error::{DataError, Result};
use crate::grid::GeoGrid;
use crate::radar::time::time_in_name;
use crate::raster::{self, esri_ascii::Grids};

/// When the water stood so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DepthTime {
    /// The so many-th grid of the series, from 0.
    Index(u64),
    /// Minutes from the start of the rain.
    Minutes(f64),
    /// Seconds since 1970-01-01 UTC.
    Utc(i64),
}

/// Water depth at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthFrame {
    /// When.
    pub time: DepthTime,
    /// Metres; NaN outside the terrain.
    pub depth_m: GeoGrid,
}

/// A series of depths in time order. It holds one grid at a time.
pub trait DepthSource: Send {
    /// The next depth; `None` at the end.
    ///
    /// # Errors
    /// What the source meets while reading, with the name of the file.
    fn next_depth(&mut self) -> Result<Option<DepthFrame>>;

    /// The file or folder, for messages.
    fn path(&self) -> &Path;
}

/// Opens a stream of ESRI ASCII grids, plain or gzip, or a folder of `.asc` (also `.asc.gz`) and `.tif` files.
///
/// In a folder the name tells the time: minutes since the start in `WaterDepths<minutes>.asc` (CAESAR-Lisflood) and
/// `depth_<minutes>.tif` (`dataset simulate`), the date and time (`YYYYMMDDhhmm`, UTC), or else the place in the order of the
/// last numbers in the names. Where names begin with `depth` or `WaterDepths`, files with other names are left aside.
///
/// # Errors
/// When nothing is there, or the names in a folder tell their time in different ways.
pub fn open(path: &Path) -> Result<Box<dyn DepthSource>> {
    if !path.is_dir() {
        return Ok(Box::new(DepthStream {
            path: path.to_owned(),
            grids: Grids::open(path)?,
            count: 0,
        }));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| DataError::io("read", path, e))? {
        let file = entry.map_err(|e| DataError::io("read", path, e))?.path();
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let Some(stem) = [".asc", ".asc.gz", ".tif", ".tiff"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
        else {
            continue;
        };
        if let Some((kind, number)) = time_of(stem) {
            files.push((kind, number, file));
        }
    }
    // Velocities and other rasters may lie beside depths that are named so.
    let is_depth = |file: &Path| {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        name.starts_with("waterdepths") || name.starts_with("depth")
    };
    if files.iter().any(|(.., file)| is_depth(file)) {
        files.retain(|(.., file)| is_depth(file));
    }
    files.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.2.cmp(&b.2)));
    let Some(&(kind, ..)) = files.first() else {
        return Err(DataError::format(
            path,
            "holds no depth (.asc or .tif with a number in its name)",
        ));
    };
    if let Some((_, _, other)) = files.iter().find(|(other, ..)| *other != kind) {
        let reason = format!(
            "'{}' does not tell its time in the way of the others",
            other.display()
        );
        return Err(DataError::format(path, reason));
    }
    if let Some(pair) = files.windows(2).find(|pair| pair[0].1 == pair[1].1) {
        let reason = format!(
            "'{}' and '{}' have the same time",
            pair[0].2.display(),
            pair[1].2.display()
        );
        return Err(DataError::format(path, reason));
    }
    Ok(Box::new(DepthFiles {
        path: path.to_owned(),
        kind,
        files: files
            .into_iter()
            .map(|(_, number, file)| (number, file))
            .collect::<Vec<_>>()
            .into_iter(),
        count: 0,
    }))
}

/// What a number in a name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Minutes,
    Utc,
    Order,
}

fn time_of(stem: &str) -> Option<(Named, f64)> {
    // A name that tells the day alone does not tell the frame.
    if let Some((time_s, _)) = time_in_name(stem).filter(|&(_, open_s)| open_s <= 60) {
        return Some((Named::Utc, time_s as f64));
    }
    let minutes = ["waterdepths", "depth_"]
        .iter()
        .find_map(|start| stem.strip_prefix(start)?.parse().ok());
    if let Some(minutes) = minutes.filter(|minutes: &f64| minutes.is_finite()) {
        return Some((Named::Minutes, minutes));
    }
    let number = stem
        .rsplit(|c: char| !c.is_ascii_digit())
        .find(|part| !part.is_empty())?;
    number.parse().ok().map(|number| (Named::Order, number))
}

struct DepthStream {
    path: PathBuf,
    grids: Grids,
    count: u64,
}

impl DepthSource for DepthStream {
    fn next_depth(&mut self) -> Result<Option<DepthFrame>> {
        let grid = self.grids.next().transpose()?;
        let time = DepthTime::Index(self.count);
        self.count += 1;
        Ok(grid.map(|depth_m| DepthFrame { time, depth_m }))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

struct DepthFiles {
    path: PathBuf,
    kind: Named,
    files: std::vec::IntoIter<(f64, PathBuf)>,
    count: u64,
}

impl DepthSource for DepthFiles {
    fn next_depth(&mut self) -> Result<Option<DepthFrame>> {
        let Some((number, file)) = self.files.next() else {
            return Ok(None);
        };
        let time = match self.kind {
            Named::Minutes => DepthTime::Minutes(number),
            Named::Utc => DepthTime::Utc(number as i64),
            Named::Order => DepthTime::Index(self.count),
        };
        self.count += 1;
        let depth_m = raster::open_raster(&file)?;
        Ok(Some(DepthFrame { time, depth_m }))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::esri_ascii;
    use ndarray::Array2;

    #[test]
    fn names_tell_the_time() {
        assert_eq!(time_of("waterdepths3360"), Some((Named::Minutes, 3360.0)));
        assert_eq!(time_of("waterdepths7.5"), Some((Named::Minutes, 7.5)));
        assert_eq!(
            time_of("depth_201008260735"),
            Some((Named::Utc, 1_282_808_100.0))
        );
        assert_eq!(time_of("res-0012"), Some((Named::Order, 12.0)));
        assert_eq!(time_of("depth_000360"), Some((Named::Minutes, 360.0)));
        assert_eq!(time_of("run2_depth"), Some((Named::Order, 2.0)));
        assert_eq!(time_of("terrain"), None);
    }

    #[test]
    fn files_come_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, depth: f32| {
            let grid = GeoGrid::new(Array2::from_elem((2, 3), depth), 0.0, 20.0, 10.0);
            esri_ascii::write(&folder.path().join(name), &grid).unwrap();
        };
        for minutes in [5, 100, 20] {
            write(&format!("WaterDepths{minutes}.asc"), minutes as f32);
        }
        std::fs::write(folder.path().join("readme.txt"), "no depth").unwrap();
        let mut source = open(folder.path()).unwrap();
        for minutes in [5.0, 20.0, 100.0] {
            let frame = source.next_depth().unwrap().unwrap();
            assert_eq!(frame.time, DepthTime::Minutes(minutes));
            assert_eq!(frame.depth_m.data[[1, 2]], minutes as f32);
        }
        assert!(source.next_depth().unwrap().is_none());
        write("VelocityEast5.asc", 0.0);
        assert!(open(folder.path()).is_ok());
        write("depth_201008260735.asc", 1.0);
        assert!(
            open(folder.path())
                .err()
                .unwrap()
                .to_string()
                .contains("does not tell its time")
        );
    }
}
