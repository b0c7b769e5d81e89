//! A trained run applied to the samples of a dataset: probability and wet maps as GeoTIFF and PNG.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use ndarray::{Array2, ArrayView2, Axis, Slice};
use pluvial_data::GeoGrid;
use pluvial_data::dataset::Dataset;
use pluvial_data::loader::{Batch, Loader, LoaderConfig, SampleId};
use pluvial_data::raster::{geotiff, png};
use pluvial_data::split;
use pluvial_data::transform::Window;
use pluvial_model::metrics::Confusion;

use crate::checkpoint;
use crate::config::Config;
use crate::device::Chosen;
use crate::evaluate::evaluate;
use crate::log::Log;
use crate::maps;
use crate::run_dir::{RunDir, write_atomic};
use crate::splits::transform_config;

/// Name of the list of written maps.
const LIST: &str = "predictions.tsv";

/// What to predict from, and where to.
#[derive(Debug, Clone)]
pub struct Request {
    /// Folder of a run.
    pub run: PathBuf,
    /// Which of its checkpoints: `best` or `last`.
    pub checkpoint: String,
    /// Folder of a dataset.
    pub data: PathBuf,
    /// Only the samples of this split.
    pub split: Option<String>,
    /// Folder for the maps; made where it is missing.
    pub out: PathBuf,
    /// At most so many samples.
    pub limit: Option<usize>,
}

/// Predicts the samples of a dataset with the network of a run, whose configuration is `config`. Writes for each
/// `STEM_probability.tif`, `STEM_wet.tif` (1 wet, 0 dry) and both as PNG, and a list of all in `predictions.tsv`.
/// Returns the counts over all cells whose truth is known.
///
/// # Errors
/// One line that names the file and the reason.
pub fn predict(
    request: &Request,
    config: &Config,
    chosen: &Chosen,
    log: &Log,
) -> Result<Confusion> {
    log.line(format_args!("device     {}", chosen.reason));
    let run = RunDir::open(&request.run)?;
    let folder = run.checkpoint(&request.checkpoint);
    let state = checkpoint::load_state(&folder)?;
    let threshold = state.best.map_or(0.5, |best| best.threshold);

    let mut dataset = Dataset::open(&request.data)?;
    if let (Some(path), [terrain]) = (&config.data.heightmap, dataset.terrains.as_slice())
        && terrain.elevation_m.is_none()
    {
        dataset = dataset.with_heightmap(path)?;
    }
    let dataset = Arc::new(dataset);
    let shards = match &request.split {
        Some(name) => split::by_manifest(&dataset, name)?,
        None => (0..dataset.shards.len()).collect(),
    };
    let batch_size = config
        .data
        .batch_size
        .min(request.limit.unwrap_or(usize::MAX));
    ensure!(
        batch_size > 0,
        "a limit of 0 samples leaves nothing to predict"
    );
    let loader = Loader::new(
        Arc::clone(&dataset),
        shards,
        LoaderConfig {
            batch_size,
            shuffle: false,
            augment: false,
            on_bad_record: config.data.on_bad_record,
            transform: transform_config(&config.data),
            ..LoaderConfig::default()
        },
    )?;
    let channels = loader.input_shape()[0];
    ensure!(
        channels == config.model.input_channels,
        "{} gives {channels} input channels, the network of {} takes {}",
        request.data.display(),
        request.run.display(),
        config.model.input_channels
    );
    // Fresh weights, replaced at once by those of the checkpoint.
    let model = config.model.init(&chosen.device)?;
    let model = checkpoint::load_model(&folder, model)?;
    log.line(format_args!(
        "model      {} from {}, wet from a probability of {threshold:.3} on",
        config.model.name(),
        folder.display()
    ));

    std::fs::create_dir_all(&request.out)
        .with_context(|| format!("cannot make the folder {}", request.out.display()))?;
    let mut writer = MapWriter::new(&request.out, &dataset, config.data.output_size)?;
    let samples = loader.samples().map(|samples| samples as u64);
    let total = request.limit.map_or(samples.unwrap_or(0), |limit| {
        samples.unwrap_or(u64::MAX).min(limit as u64)
    });
    let mut progress = log.progress("predicting", 0, total);
    let mut left = request.limit.unwrap_or(usize::MAX);
    let batches = loader.epoch(0).map_while(|batch| {
        if left == 0 {
            return None;
        }
        Some(batch.map(|mut batch| {
            shorten(&mut batch, left);
            left -= batch.ids.len();
            batch
        }))
    });
    evaluate(
        &model,
        &config.loss,
        &chosen.device,
        batches,
        |batch, probability| {
            for (index, id) in batch.ids.iter().enumerate() {
                let truth = batch.label.index_axis(Axis(0), index);
                writer.write(
                    *id,
                    truth,
                    probability.index_axis(Axis(0), index),
                    threshold,
                )?;
            }
            progress.advance(batch.ids.len() as u64, "");
            Ok(())
        },
    )?;
    drop(progress);
    writer.finish()
}

/// Keeps the first `samples` of a batch.
fn shorten(batch: &mut Batch, samples: usize) {
    if samples >= batch.ids.len() {
        return;
    }
    let first = Slice::from(..samples);
    batch.input.slice_axis_inplace(Axis(0), first);
    batch.label.slice_axis_inplace(Axis(0), first);
    batch.depth_m.slice_axis_inplace(Axis(0), first);
    if let Some(depth) = &mut batch.depth_now_m {
        depth.slice_axis_inplace(Axis(0), first);
    }
    batch.catchment.truncate(samples);
    batch.windows.truncate(samples);
    batch.ids.truncate(samples);
}

/// Writes the maps of samples into a folder and keeps the list and the counts.
struct MapWriter<'a> {
    out: &'a Path,
    dataset: &'a Dataset,
    window: Window,
    /// Pale relief of each catchment that occurred.
    grounds: HashMap<usize, RgbImage>,
    list: String,
    counts: Confusion,
}

impl<'a> MapWriter<'a> {
    fn new(out: &'a Path, dataset: &'a Dataset, output_size: Option<[usize; 2]>) -> Result<Self> {
        Ok(Self {
            out,
            dataset,
            window: Window::centred(dataset.metadata.waterdepth, output_size)?,
            grounds: HashMap::new(),
            list: "stem\tevent\tcatchment\ttime_s\tpredicted_wet\ttp\tfp\tfn\ttn\tcsi\n".into(),
            counts: Confusion::default(),
        })
    }

    /// `truth` `[H, W]`: 1 wet, 0 dry, 255 unknown; `probability` `[H, W]`.
    fn write(
        &mut self,
        id: SampleId,
        truth: ArrayView2<u8>,
        probability: ArrayView2<f32>,
        threshold: f32,
    ) -> Result<()> {
        let shard = &self.dataset.shards[id.shard];
        let wet = probability.mapv(|p| u8::from(p >= threshold));
        let mut counts = Confusion::default();
        let (wet_cells, truth_cells): (Vec<u8>, Vec<u8>) =
            wet.iter().zip(truth).map(|(&w, &t)| (w, t)).unzip();
        counts.add_labels(&wet_cells, &truth_cells)?;
        self.counts.merge(&counts);

        // The shard's file is `<int>.tfrecord.gz`.
        let file = shard.path.file_name().unwrap_or_default().to_string_lossy();
        let stem = format!(
            "{}_{:04}",
            file.split('.').next().unwrap_or_default(),
            id.record
        );
        let path = |kind: &str| self.out.join(format!("{stem}_{kind}"));
        geotiff::write(
            &path("probability.tif"),
            &self.placed(shard.catchment, probability.to_owned()),
        )?;
        geotiff::write(
            &path("wet.tif"),
            &self.placed(shard.catchment, wet.mapv(f32::from)),
        )?;
        let picture = png::field(probability, &png::PROBABILITY);
        png::write(&path("probability.png"), &maps::enlarged(&picture))?;
        let judged = {
            let known = (counts.pixels() > 0).then_some(truth);
            let ground = self
                .grounds
                .entry(shard.catchment)
                .or_insert_with(|| ground(self.dataset, shard.catchment, self.window));
            maps::judged(ground, known, wet.view())?
        };
        png::write(&path("wet.png"), &maps::enlarged(&judged))?;

        let info = self.dataset.manifest.as_ref().and_then(|manifest| {
            manifest
                .shards
                .iter()
                .find(|info| shard.path.ends_with(&info.file))
        });
        let time = info.and_then(|info| info.times_s.get(id.record as usize));
        self.list += &format!(
            "{stem}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
            shard.event.as_deref().unwrap_or_default(),
            self.dataset.terrains[shard.catchment].name,
            time.map_or(String::new(), f64::to_string),
            wet_cells.iter().map(|&w| u64::from(w)).sum::<u64>(),
            counts.tp,
            counts.fp,
            counts.fn_,
            counts.tn,
            if counts.pixels() > 0 {
                counts.csi().to_string()
            } else {
                String::new()
            }
        );
        Ok(())
    }

    /// Where the dataset says that the catchment lies, or else in metres from its south-western corner.
    fn placed(&self, catchment: usize, data: Array2<f32>) -> GeoGrid {
        let manifest = self.dataset.manifest.as_ref();
        let place = manifest.and_then(|m| m.catchments.get(catchment)?.place.as_ref());
        let (top, left) = (self.window.top, self.window.left);
        match place {
            Some(place) => GeoGrid {
                data,
                west: place.west + place.cell_x * left as f64,
                north: place.north - place.cell_y * top as f64,
                cell_x: place.cell_x,
                cell_y: place.cell_y,
                crs: place.crs.clone(),
            },
            None => {
                let cell = self.dataset.terrains[catchment].cell_size_m.unwrap_or(1.0);
                let rows_from_south = self.dataset.metadata.waterdepth[0] - top;
                GeoGrid::new(
                    data,
                    left as f64 * cell,
                    rows_from_south as f64 * cell,
                    cell,
                )
            }
        }
    }

    fn finish(self) -> Result<Confusion> {
        write_atomic(&self.out.join(LIST), self.list.as_bytes())?;
        Ok(self.counts)
    }
}

/// Pale relief of a catchment's window, flat where the dataset has no terrain.
fn ground(dataset: &Dataset, catchment: usize, window: Window) -> RgbImage {
    let terrain = &dataset.terrains[catchment];
    let [height, width] = dataset.metadata.waterdepth;
    let flat = Array2::zeros((height, width));
    let elevation = terrain.elevation_m.as_ref().unwrap_or(&flat).view();
    let relief = png::terrain(window.of(&elevation), terrain.cell_size_m.unwrap_or(1.0));
    maps::paled(&relief)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, Array4, array};
    use pluvial_data::dataset::{Shard, Terrain};
    use pluvial_data::manifest::Catchment;
    use pluvial_data::{Manifest, Metadata, Place};

    fn dataset() -> Dataset {
        Dataset {
            folder: "floods".into(),
            metadata: Metadata {
                rainfallradar: [7, 2, 3],
                waterdepth: [4, 6],
                rainfalltotals: None,
                waterdepth_now: None,
                other: serde_json::Map::new(),
            },
            manifest: None,
            terrains: vec![Arc::new(Terrain {
                name: "valley".into(),
                elevation_m: None,
                cell_size_m: Some(50.0),
            })],
            shards: vec![Shard {
                path: "floods/17.tfrecord.gz".into(),
                catchment: 0,
                samples: None,
                event: Some("storm".into()),
                split: None,
            }],
        }
    }

    #[test]
    fn maps_of_a_sample_with_their_place_and_scores() {
        let dir = tempfile::tempdir().unwrap();
        let dataset = dataset();
        let mut writer = MapWriter::new(dir.path(), &dataset, Some([2, 4])).unwrap();
        let probability = array![[0.9, 0.75, 0.2, 0.0], [0.5, 0.6, 1.0, 0.4]];
        let truth = array![[1, 0, 1, 0], [0, 1, 255, 0]];
        let id = SampleId {
            shard: 0,
            record: 3,
        };
        writer
            .write(id, truth.view(), probability.view(), 0.5)
            .unwrap();
        let counts = writer.finish().unwrap();
        assert_eq!(
            counts,
            Confusion {
                tp: 2,
                fp: 2,
                fn_: 1,
                tn: 2
            }
        );

        let grid = geotiff::read(&dir.path().join("17_0003_probability.tif")).unwrap();
        assert_eq!(grid.data, probability);
        // The window of 2 × 4 in 4 × 6 begins one row below the north edge and one column right of the west edge.
        assert_eq!((grid.west, grid.north, grid.cell_x), (50.0, 150.0, 50.0));
        let wet = geotiff::read(&dir.path().join("17_0003_wet.tif")).unwrap();
        assert_eq!(wet.data, array![[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]);
        for picture in ["probability", "wet"] {
            let picture = image::open(dir.path().join(format!("17_0003_{picture}.png"))).unwrap();
            assert_eq!((picture.width(), picture.height()), (384, 192));
        }
        let placed = {
            let place = GeoGrid::new(Array2::zeros((4, 6)), 403_000.0, 307_000.0, 50.0).place();
            let place = Place {
                crs: Some("EPSG:27700".into()),
                ..place
            };
            Dataset {
                manifest: Some(Manifest {
                    catchments: vec![Catchment {
                        place: Some(place),
                        ..Catchment::default()
                    }],
                    ..Manifest::default()
                }),
                ..dataset.clone()
            }
        };
        let maps = tempfile::tempdir().unwrap();
        let mut writer = MapWriter::new(maps.path(), &placed, Some([2, 4])).unwrap();
        writer
            .write(id, truth.view(), probability.view(), 0.5)
            .unwrap();
        let grid = geotiff::read(&maps.path().join("17_0003_probability.tif")).unwrap();
        assert_eq!((grid.west, grid.north), (403_050.0, 306_950.0));
        assert_eq!(grid.crs.as_deref(), Some("EPSG:27700"));

        let list = std::fs::read_to_string(dir.path().join(LIST)).unwrap();
        assert_eq!(
            list.lines().nth(1).unwrap(),
            "17_0003\tstorm\tvalley\t\t5\t2\t2\t1\t2\t0.4"
        );
    }

    #[test]
    fn a_batch_is_cut_to_the_limit() {
        let mut batch = Batch {
            input: Array4::from_shape_fn((3, 2, 4, 5), |(b, ..)| b as f32),
            label: Array3::from_shape_fn((3, 4, 5), |(b, ..)| b as u8),
            depth_m: Array3::zeros((3, 4, 5)),
            depth_now_m: Some(Array3::zeros((3, 4, 5))),
            catchment: vec![0, 1, 2],
            windows: vec![Window::whole([4, 5]); 3],
            ids: (0..3).map(|record| SampleId { shard: 0, record }).collect(),
        };
        shorten(&mut batch, 5);
        assert_eq!(batch.ids.len(), 3);
        shorten(&mut batch, 2);
        assert_eq!(batch.input.dim(), (2, 2, 4, 5));
        assert_eq!(batch.label.dim(), (2, 4, 5));
        assert_eq!(batch.depth_now_m.as_ref().unwrap().dim(), (2, 4, 5));
        assert_eq!((batch.catchment.len(), batch.ids[1].record), (2, 1));
        assert_eq!(batch.label[[1, 3, 4]], 1);
    }
}
