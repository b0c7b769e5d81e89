//! Heightmap JSON, plain or gzip: `{"data":[[…],[…]]}`, metres, rows from the north. Other keys are allowed and ignored.

use std::path::Path;

use ndarray::{Array2, ArrayView2};
use serde::Deserialize;

use crate::error::{DataError, Result};
use crate::file;

#[derive(Deserialize)]
struct Heightmap {
    data: Vec<Vec<Option<f32>>>,
}

/// Reads the elevations `[height, width]`; `null` is no data and becomes NaN.
///
/// # Errors
/// [`DataError`] where the file is no such JSON (with line and column), rows differ in length, or a value is not finite.
pub fn read(path: &Path) -> Result<Array2<f32>> {
    let reader = file::open(path)?;
    let map: Heightmap = serde_json::from_reader(reader).map_err(|e| {
        if e.is_io() {
            DataError::io("read", path, e.into())
        } else {
            DataError::format(path, format!("not a heightmap: {e}"))
        }
    })?;
    let height = map.data.len();
    let width = map.data.first().map_or(0, Vec::len);
    if width == 0 {
        return Err(DataError::format(path, "the heightmap has no cells"));
    }
    let mut values = Vec::with_capacity(height * width);
    for (i, row) in map.data.into_iter().enumerate() {
        if row.len() != width {
            return Err(DataError::format(
                path,
                format!("row {i} has {} values and row 0 has {width}", row.len()),
            ));
        }
        for (j, value) in row.into_iter().enumerate() {
            let value = value.unwrap_or(f32::NAN);
            if value.is_infinite() {
                return Err(DataError::format(
                    path,
                    format!("row {i}, column {j} is beyond the range of f32"),
                ));
            }
            values.push(value);
        }
    }
    Array2::from_shape_vec((height, width), values)
        .map_err(|e| DataError::format(path, e.to_string()))
}

/// Writes elevations `[height, width]`, compressed where the name ends in `.gz`; NaN becomes `null`. Values read back exactly.
///
/// # Errors
/// [`DataError`] for an infinite value, or where the file cannot be written.
pub fn write(path: &Path, elevation_m: ArrayView2<f32>) -> Result<()> {
    if let Some(((i, j), value)) = elevation_m.indexed_iter().find(|(_, v)| v.is_infinite()) {
        return Err(DataError::format(
            path,
            format!("row {i}, column {j} is {value}, which JSON cannot hold"),
        ));
    }
    file::write(path, |out| {
        write!(out, "{{\"data\":[")?;
        for (i, row) in elevation_m.rows().into_iter().enumerate() {
            write!(out, "{}[", if i == 0 { "" } else { ",\n" })?;
            for (j, value) in row.iter().enumerate() {
                let comma = if j == 0 { "" } else { "," };
                if value.is_nan() {
                    write!(out, "{comma}null")?;
                } else {
                    write!(out, "{comma}{value}")?;
                }
            }
            write!(out, "]")?;
        }
        writeln!(out, "]}}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn writes_what_it_reads() {
        let folder = tempfile::tempdir().unwrap();
        let map = array![[0.1, f32::NAN, -3.0], [1e30, 0.0, 33.125]];
        for name in ["a.json", "b.json.gz"] {
            let path = folder.path().join(name);
            write(&path, map.view()).unwrap();
            assert_eq!(
                read(&path).unwrap().mapv(f32::to_bits),
                map.mapv(f32::to_bits)
            );
        }
        let bad = folder.path().join("c.json");
        assert!(write(&bad, array![[f32::NEG_INFINITY]].view()).is_err());
        assert!(!bad.exists());
    }

    #[test]
    fn errors_name_file_and_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a map.json");
        let error = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("a map.json") && !error.contains('\n'));
            error
        };
        assert!(error(r#"{"data":[[1,2],[3]]}"#).contains("row 1 has 1 values and row 0 has 2"));
        assert!(error(r#"{"data":[]}"#).contains("no cells"));
        assert!(error(r#"{"data":[[1,NaN]]}"#).contains("at line 1 column"));
        assert!(error(r#"{"data":[[1,"x"]]}"#).contains("invalid type"));
        assert!(error(r#"{"data":[[1,1e39]]}"#).contains("beyond the range"));
        assert!(error(r#"{"rows":[[1]]}"#).contains("missing field `data`"));
        assert!(error(r#"{"data":[[1,2"#).contains("EOF"));
        std::fs::write(&path, r#" {"name":"x","data":[[1,null],[3,4]],"unit":"m"}"#).unwrap();
        assert_eq!(read(&path).unwrap()[[1, 0]], 3.0);
    }
}
