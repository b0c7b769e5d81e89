//! `metadata.json`: the shapes of the tensors in a dataset's records.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::file::{read_json, write_json};

/// Most values that one tensor may hold: a bound on what damaged metadata can make us allocate.
const MAX_VALUES: usize = 1 << 28;

/// Shapes of the tensors, `[channels, height, width]` and `[height, width]`. Other keys of the file are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Shape of the rain, `[C, H, W]`.
    pub rainfallradar: [usize; 3],
    /// Shape of the water depth, `[h, w]`.
    pub waterdepth: [usize; 2],
    /// Shape of the rain totals, `[K, H, W]`, where the records hold them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rainfalltotals: Option<[usize; 3]>,
    /// Shape of the depth now, `[h, w]`, where the records hold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waterdepth_now: Option<[usize; 2]>,
    /// Whatever else stands in the file.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl Metadata {
    /// Name of the file in a dataset's folder.
    pub const FILE: &str = "metadata.json";

    /// The shapes of the published layout: rain `[C, H, W]` and depth `[h, w]`.
    pub fn new(rainfallradar: [usize; 3], waterdepth: [usize; 2]) -> Self {
        Self {
            rainfallradar,
            waterdepth,
            rainfalltotals: None,
            waterdepth_now: None,
            other: serde_json::Map::new(),
        }
    }

    /// Reads `metadata.json` of the dataset in `folder`.
    ///
    /// # Errors
    /// When the file is missing, is not JSON or holds shapes that cannot be.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::FILE);
        let metadata: Self = read_json(&path)?;
        metadata
            .check()
            .map_err(|reason| DataError::format(&path, reason))?;
        Ok(metadata)
    }

    /// Writes `metadata.json` into `folder`, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(Self::FILE), self)
    }

    /// Height and width of the rain grid.
    pub fn rain_size(&self) -> [usize; 2] {
        [self.rainfallradar[1], self.rainfallradar[2]]
    }

    /// Bytes that a record of these shapes can have at most, however its values are encoded.
    pub fn max_record_bytes(&self) -> u64 {
        let values: usize = self
            .shapes()
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        // A tag and a ten-byte number a value is the widest encoding; the rest is for names, shapes and unknown features.
        values as u64 * 11 + (1 << 16)
    }

    /// Bytes of the values of a record of these shapes, as `f32`.
    pub fn content_bytes(&self) -> u64 {
        let values = self.shapes().into_iter();
        values
            .map(|(_, shape)| 4 * shape.iter().product::<usize>() as u64)
            .sum()
    }

    /// The tensors with their feature names.
    fn shapes(&self) -> Vec<(&'static str, &[usize])> {
        let mut shapes = vec![
            ("rainfallradar", &self.rainfallradar[..]),
            ("waterdepth", &self.waterdepth[..]),
        ];
        shapes.extend(
            self.rainfalltotals
                .as_ref()
                .map(|shape| ("rainfalltotals", &shape[..])),
        );
        shapes.extend(
            self.waterdepth_now
                .as_ref()
                .map(|shape| ("waterdepth_now", &shape[..])),
        );
        shapes
    }

    fn check(&self) -> std::result::Result<(), String> {
        for (name, shape) in self.shapes() {
            let values = shape
                .iter()
                .try_fold(1usize, |product, &size| product.checked_mul(size));
            if !values.is_some_and(|values| (1..=MAX_VALUES).contains(&values)) {
                return Err(format!("'{name}' has the impossible shape {shape:?}"));
            }
        }
        if self
            .rainfalltotals
            .is_some_and(|[_, height, width]| [height, width] != self.rain_size())
        {
            return Err("'rainfalltotals' is not on the grid of 'rainfallradar'".into());
        }
        if self
            .waterdepth_now
            .is_some_and(|size| size != self.waterdepth)
        {
            return Err("'waterdepth_now' is not on the grid of 'waterdepth'".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_keeps_other_keys() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"rainfallradar":[7,174,105],"waterdepth":[348,210],"note":"kept"}"#;
        std::fs::write(folder.path().join("metadata.json"), text).unwrap();
        let metadata = Metadata::read(folder.path()).unwrap();
        assert_eq!(metadata.rain_size(), [174, 105]);
        metadata.write(folder.path()).unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.path().join("metadata.json")).unwrap(),
            format!("{text}\n")
        );
    }

    #[test]
    fn missing_and_impossible_metadata_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata.json");
        let message = || Metadata::read(folder.path()).unwrap_err().to_string();
        assert!(
            message().starts_with(&format!("cannot read '{}'", path.display())),
            "{}",
            message()
        );
        for (text, reason) in [
            (r#"{"rainfallradar":[7,4,3]}"#, "missing field `waterdepth`"),
            (
                r#"{"rainfallradar":[7,4],"waterdepth":[8,6]}"#,
                "invalid length 2",
            ),
            (
                r#"{"rainfallradar":[7,0,3],"waterdepth":[8,6]}"#,
                "impossible shape [7, 0, 3]",
            ),
            (
                r#"{"rainfallradar":[7,4,3],"waterdepth":[9999999999,9999999999]}"#,
                "'waterdepth' has the impossible shape",
            ),
            (
                r#"{"rainfallradar":[7,4,3],"waterdepth":[8,6],"rainfalltotals":[2,3,4]}"#,
                "not on the grid",
            ),
            ("{", "EOF"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(
                message().contains(reason) && message().contains("metadata.json"),
                "{}",
                message()
            );
        }
    }
}
