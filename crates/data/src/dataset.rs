//! A dataset folder: shards, `metadata.json`, and where they are there `manifest.json` and heightmaps.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::Array2;

use crate::build::UNFINISHED;
use crate::error::{DataError, Result};
use crate::manifest::Manifest;
use crate::record::Metadata;

/// A terrain, on the depth grid.
#[derive(Debug, Clone)]
pub struct Terrain {
    /// Name, unique in the dataset.
    pub name: String,
    /// `[h, w]`: elevation in metres, NaN where there is no data; `None` when the dataset came without a heightmap.
    pub elevation_m: Option<Array2<f32>>,
    /// Metres per cell; `None` when the dataset does not say.
    pub cell_size_m: Option<f64>,
}

/// A shard of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    /// The file.
    pub path: PathBuf,
    /// Index into [`Dataset::terrains`].
    pub catchment: usize,
    /// Number of samples, where the manifest says it.
    pub samples: Option<usize>,
    /// The rain event, where the manifest names it.
    pub event: Option<String>,
    /// The split, where the manifest names it.
    pub split: Option<String>,
}

/// An opened dataset folder. Nothing but the small files has been read.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The folder.
    pub folder: PathBuf,
    /// Shapes of the tensors.
    pub metadata: Metadata,
    /// Where the samples came from; `None` for a published dataset.
    pub manifest: Option<Manifest>,
    /// The terrains; one without a manifest.
    pub terrains: Vec<Arc<Terrain>>,
    /// The shards in the manifest's order, or by number.
    pub shards: Vec<Shard>,
}

impl Dataset {
    /// Opens the dataset in `folder`.
    ///
    /// Without a manifest the shards are `<int>.tfrecord.gz` by number over one catchment, whose heightmap is
    /// `heightmap.json` or `heightmap.json.gz` in the folder, if there (see [`Dataset::with_heightmap`] for another place).
    ///
    /// # Errors
    /// When `metadata.json` is missing, when the folder holds no shard, and when the manifest and the files disagree.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let has_manifest = folder.join(Manifest::FILE).exists();
        if !has_manifest && folder.join(UNFINISHED).exists() {
            return Err(DataError::format(
                folder,
                "holds an unfinished build (build it again to go on, or merge its parts) or conversion",
            ));
        }
        let metadata = Metadata::read(folder)?;
        let files = numbered_shards(folder)?;
        if files.is_empty() {
            return Err(DataError::format(
                folder,
                "holds no shard (<number>.tfrecord.gz)",
            ));
        }
        if has_manifest {
            Self::with_manifest(folder, metadata, Manifest::read(folder)?, &files)
        } else {
            Self::published(folder, metadata, files)
        }
    }

    fn published(folder: &Path, metadata: Metadata, files: Vec<PathBuf>) -> Result<Self> {
        let elevation_m = published_heightmap(folder)
            .map(|name| read_elevation(&folder.join(name), &metadata))
            .transpose()?;
        let terrain = Terrain {
            name: "catchment".into(),
            elevation_m,
            cell_size_m: None,
        };
        let shards = files.into_iter().map(|path| Shard {
            path,
            catchment: 0,
            samples: None,
            event: None,
            split: None,
        });
        Ok(Self {
            folder: folder.to_owned(),
            shards: shards.collect(),
            metadata,
            manifest: None,
            terrains: vec![Arc::new(terrain)],
        })
    }

    fn with_manifest(
        folder: &Path,
        metadata: Metadata,
        manifest: Manifest,
        files: &[PathBuf],
    ) -> Result<Self> {
        let wrong = |reason: String| DataError::format(folder.join(Manifest::FILE), reason);
        let channels = metadata.rainfallradar[0];
        if let Some(pattern) = &manifest.pattern
            && pattern.len() != channels
        {
            return Err(wrong(format!(
                "has {} groups of frames for {channels} rain channels",
                pattern.len()
            )));
        }
        let totals = metadata.rainfalltotals.map_or(0, |[totals, ..]| totals);
        if manifest.total_hours.len() != totals {
            return Err(wrong(format!(
                "has {} windows for {totals} rain totals",
                manifest.total_hours.len()
            )));
        }
        let mut shards = Vec::with_capacity(manifest.shards.len());
        for info in &manifest.shards {
            let path = folder.join(&info.file);
            if !files.contains(&path) {
                return Err(wrong(format!(
                    "names the shard '{}', which is not there",
                    info.file
                )));
            }
            let catchment = manifest
                .catchments
                .iter()
                .position(|catchment| catchment.name == info.catchment);
            let catchment = catchment.ok_or_else(|| {
                wrong(format!(
                    "shard '{}' lies in the unknown catchment '{}'",
                    info.file, info.catchment
                ))
            })?;
            shards.push(Shard {
                path,
                catchment,
                samples: (!info.times_s.is_empty()).then_some(info.times_s.len()),
                event: info.event.clone(),
                split: info.split.clone(),
            });
        }
        if let Some(stray) = files
            .iter()
            .find(|path| shards.iter().all(|shard| shard.path != **path))
        {
            return Err(wrong(format!(
                "does not name the shard '{}'",
                stray.display()
            )));
        }
        let mut terrains = Vec::with_capacity(manifest.catchments.len());
        for catchment in &manifest.catchments {
            let heightmap = catchment.heightmap.as_ref();
            let elevation_m = heightmap
                .map(|file| read_elevation(&folder.join(file), &metadata))
                .transpose()?;
            terrains.push(Arc::new(Terrain {
                name: catchment.name.clone(),
                elevation_m,
                cell_size_m: manifest.cell_size_m,
            }));
        }
        Ok(Self {
            folder: folder.to_owned(),
            metadata,
            manifest: Some(manifest),
            terrains,
            shards,
        })
    }

    /// Takes the elevation of a dataset of one catchment from `path`.
    ///
    /// # Errors
    /// When the file is not a heightmap on the rain or depth grid, or the dataset has several catchments.
    pub fn with_heightmap(mut self, path: impl AsRef<Path>) -> Result<Self> {
        let [terrain] = self.terrains.as_mut_slice() else {
            return Err(DataError::Config(format!(
                "'{}' has {} catchments: one heightmap cannot serve them",
                self.folder.display(),
                self.terrains.len()
            )));
        };
        let elevation_m = Some(read_elevation(path.as_ref(), &self.metadata)?);
        *terrain = Arc::new(Terrain {
            elevation_m,
            ..Terrain::clone(terrain)
        });
        Ok(self)
    }

    /// How many depth cells stand in a rain cell along each axis.
    ///
    /// # Errors
    /// When the depth grid is not a whole multiple of the rain grid, the same along both axes.
    pub fn scale(&self) -> Result<usize> {
        scale(&self.metadata).ok_or_else(|| {
            let (rain, depth) = (self.metadata.rain_size(), self.metadata.waterdepth);
            DataError::format(
                self.folder.join(Metadata::FILE),
                format!(
                    "the depth grid {depth:?} is not a whole multiple of the rain grid {rain:?}"
                ),
            )
        })
    }
}

/// Depth cells a rain cell along each axis.
fn scale(metadata: &Metadata) -> Option<usize> {
    let ([rain_height, rain_width], [height, width]) = (metadata.rain_size(), metadata.waterdepth);
    let scale = height / rain_height;
    (scale > 0 && [rain_height * scale, rain_width * scale] == [height, width]).then_some(scale)
}

/// `<int>.tfrecord.gz` in `folder`, by number.
///
/// # Errors
/// When the folder cannot be read.
pub fn numbered_shards(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| DataError::io("read", folder, e))? {
        let path = entry.map_err(|e| DataError::io("read", folder, e))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name
            .and_then(|name| name.strip_suffix(".tfrecord.gz"))
            .and_then(|stem| stem.parse::<u64>().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Name of the heightmap in the `folder` of a published dataset, if there.
pub fn published_heightmap(folder: &Path) -> Option<&'static str> {
    let names = ["heightmap.json", "heightmap.json.gz"];
    names.into_iter().find(|name| folder.join(name).exists())
}

/// Reads a heightmap on the depth grid; one on the rain grid is repeated, as the published pipeline does.
pub(crate) fn read_elevation(path: &Path, metadata: &Metadata) -> Result<Array2<f32>> {
    let elevation = crate::raster::heightmap_json::read(path)?;
    let found = [elevation.nrows(), elevation.ncols()];
    if found == metadata.waterdepth {
        return Ok(elevation);
    }
    match scale(metadata) {
        Some(scale) if found == metadata.rain_size() => {
            let size = metadata.waterdepth;
            Ok(Array2::from_shape_fn(size, |(y, x)| {
                elevation[[y / scale, x / scale]]
            }))
        }
        _ => Err(DataError::format(
            path,
            format!(
                "is {found:?}, neither the depth grid {:?} nor the rain grid {:?}",
                metadata.waterdepth,
                metadata.rain_size()
            ),
        )),
    }
}
