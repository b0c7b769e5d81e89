//! Rasters in files: one format a module, each read and written.

pub mod esri_ascii;
pub mod geotiff;
pub mod heightmap_json;
mod lzw;
pub mod png;

use std::io::BufRead;
use std::path::Path;

use crate::error::{DataError, Result};
use crate::file;
use crate::grid::GeoGrid;

/// More cells than this in one raster are taken for a damaged header.
pub(crate) const MAX_CELLS: u64 = 1 << 31;

/// Reads a raster of any known format, recognised by its content: GeoTIFF, or ESRI ASCII or heightmap JSON, plain or gzip. A heightmap has no position: its south-western corner lies at (0, 0) and its cells have size 1.
///
/// # Errors
/// [`DataError`] where the file cannot be read or is none of these.
pub fn open_raster(path: &Path) -> Result<GeoGrid> {
    let mut reader = file::open(path)?;
    let start = reader
        .fill_buf()
        .map_err(|e| DataError::io("read", path, e))?;
    if geotiff::is_tiff(start) {
        return geotiff::read(path);
    }
    match start.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Err(DataError::format(path, "the file is empty")),
        Some(b'{') => {
            let data = heightmap_json::read(path)?;
            let north = data.nrows() as f64;
            Ok(GeoGrid::new(data, 0.0, north, 1.0))
        }
        Some(_) => esri_ascii::read(path),
    }
}
