//! Pictures of single samples in `maps/`: rain, terrain, truth, prediction, probability. North is up.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::RgbImage;
use ndarray::{Array2, ArrayView2};
use pluvial_data::raster::png::{self, ColourMap};
use pluvial_model::metrics::Confusion;
use serde::{Deserialize, Serialize};

use crate::log::TensorBoard;
use crate::run_dir::{read_json, write_atomic};

/// Folder of the pictures in a run folder.
pub const FOLDER: &str = "maps";
/// The list of samples in [`FOLDER`].
const LIST: &str = "maps.json";
/// The longer side of a written picture in pixels, at least.
const SIDE: u32 = 384;

/// What the rain picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rain {
    /// Millimetres over the last `hours`.
    Total {
        /// Length of the window.
        hours: f64,
    },
    /// Highest rate in mm/h over the last `hours`.
    PeakRate {
        /// Length of the window.
        hours: f64,
    },
}

impl Rain {
    fn colours(self) -> &'static ColourMap {
        match self {
            Self::Total { .. } => &png::RAIN_TOTAL,
            Self::PeakRate { .. } => &png::RAIN_RATE,
        }
    }

    /// A few words with the unit: `rain in the last 8 h, mm`.
    pub fn caption(self) -> String {
        match self {
            Self::Total { hours } => format!("rain in the last {hours} h, mm"),
            Self::PeakRate { hours } => format!("highest rain rate in the last {hours} h, mm/h"),
        }
    }

    /// Values and colours for a legend, ascending; less than the first is white.
    pub fn legend(self) -> Vec<(f32, [u8; 3])> {
        self.colours().stops.to_vec()
    }
}

/// The fields of one sample. All cover the same area; rain and terrain may have other grids than truth and probability.
#[derive(Debug, Clone, Copy)]
pub struct SampleFields<'a> {
    /// `[H, W]`, in the unit of `rain_kind`.
    pub rain: ArrayView2<'a, f32>,
    /// What `rain` holds.
    pub rain_kind: Rain,
    /// `[h, w]`, metres.
    pub elevation_m: ArrayView2<'a, f32>,
    /// Metres per cell of `elevation_m`.
    pub cell_size_m: f64,
    /// `[h, w]`: 1 wet, 0 dry, 255 unknown; none where the water is not known.
    pub truth: Option<ArrayView2<'a, u8>>,
    /// `[h, w]`: probability of wet, 0..1.
    pub probability: ArrayView2<'a, f32>,
    /// A cell is predicted wet from this probability on.
    pub threshold: f32,
}

/// The pictures of one sample, enlarged to a size for eyes.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// Rain, white where dry.
    pub rain: RgbImage,
    /// Shaded relief.
    pub terrain: RgbImage,
    /// True water over pale relief; none where the water is not known.
    pub truth: Option<RgbImage>,
    /// Hits, misses and false alarms over pale relief; all predicted water as hits where the water is not known.
    pub prediction: RgbImage,
    /// Probability of wet.
    pub probability: RgbImage,
}

impl SampleFields<'_> {
    /// `[h, w]`: 1 where predicted wet, 0 elsewhere.
    pub fn predicted(&self) -> Array2<u8> {
        self.probability
            .mapv(|probability| u8::from(probability >= self.threshold))
    }

    /// Draws the pictures.
    ///
    /// # Errors
    /// Truth and probability differ in shape.
    pub fn pictures(&self) -> Result<Pictures> {
        let predicted = self.predicted();
        let (height, width) = predicted.dim();
        let relief = png::terrain(
            on_grid(self.elevation_m, (height, width)).view(),
            self.cell_size_m * self.elevation_m.nrows() as f64 / height as f64,
        );
        let ground = paled(&relief);
        let truth = self
            .truth
            .map(|truth| judged(&ground, Some(truth), truth))
            .transpose()?;
        let prediction = judged(&ground, self.truth, predicted.view())?;
        let rain = on_grid(self.rain, (height, width));
        let enlarge = |picture: RgbImage| enlarged(&picture);
        Ok(Pictures {
            rain: enlarge(png::field(rain.view(), self.rain_kind.colours())),
            terrain: enlarge(relief),
            truth: truth.map(enlarge),
            prediction: enlarge(prediction),
            probability: enlarge(png::field(self.probability, &png::PROBABILITY)),
        })
    }
}

/// Pale grey relief of a picture of [`png::terrain`], on which single coloured cells can be seen.
pub fn paled(relief: &RgbImage) -> RgbImage {
    let mut pale = relief.clone();
    for pixel in pale.pixels_mut() {
        let grey = pixel.0.iter().map(|&c| u32::from(c)).sum::<u32>() / 3;
        pixel.0 = [(150 + grey * 2 / 5).min(255) as u8; 3];
    }
    pale
}

/// Hits, misses and false alarms over `ground`; all predicted water as hits where the truth is not known.
///
/// # Errors
/// Truth and prediction differ in shape.
pub fn judged(
    ground: &RgbImage,
    truth: Option<ArrayView2<u8>>,
    predicted: ArrayView2<u8>,
) -> Result<RgbImage> {
    Ok(png::verification(
        ground,
        truth.unwrap_or(predicted),
        predicted,
    )?)
}

/// As large as it takes for eyes to see single cells.
pub fn enlarged(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    png::enlarge(picture, SIDE.div_ceil(width.max(height).max(1)))
}

/// The same area on a grid of another shape (nearest cell).
fn on_grid(values: ArrayView2<f32>, (height, width): (usize, usize)) -> Array2<f32> {
    let (rows, columns) = values.dim();
    Array2::from_shape_fn((height, width), |(i, j)| {
        values[[i * rows / height, j * columns / width]]
    })
}

/// A sample whose pictures lie in `maps/`: an entry of `maps/maps.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapRecord {
    /// What the names of its files begin with: `STEM_rain.png`, `STEM_terrain.png`, …
    pub stem: String,
    /// Split of the sample.
    pub split: String,
    /// Name of the rain event.
    pub event: String,
    /// Name of the catchment.
    pub catchment: String,
    /// Seconds from the event's start to "now".
    pub time_s: f64,
    /// What the rain picture shows.
    pub rain: Rain,
    /// Counts of this map's cells.
    pub counts: Confusion,
}

impl MapRecord {
    /// Path of one of its pictures (`rain`, `terrain`, `truth`, `prediction`, `probability`) in a run folder.
    pub fn file(&self, run: &Path, picture: &str) -> PathBuf {
        run.join(FOLDER)
            .join(format!("{}_{picture}.png", self.stem))
    }

    /// Writes the pictures into the run folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, run: &Path, pictures: &Pictures) -> Result<()> {
        let folder = run.join(FOLDER);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        for (name, picture) in pictures.named() {
            png::write(&self.file(run, name), picture)?;
        }
        Ok(())
    }

    /// Writes the pictures as TensorBoard events.
    ///
    /// # Errors
    /// The event file cannot be written.
    pub fn show(&self, board: &mut TensorBoard, step: u64, pictures: &Pictures) -> Result<()> {
        for (name, picture) in pictures.named() {
            let tag = format!("{}/{}/{name}", self.split, self.stem);
            let size = [picture.height(), picture.width()];
            board.image(&tag, step, &png::encode(picture)?, size)?;
        }
        Ok(())
    }
}

impl Pictures {
    /// The pictures with their names.
    pub fn named(&self) -> Vec<(&'static str, &RgbImage)> {
        let mut named = vec![("rain", &self.rain), ("terrain", &self.terrain)];
        named.extend(self.truth.iter().map(|truth| ("truth", truth)));
        named.push(("prediction", &self.prediction));
        named.push(("probability", &self.probability));
        named
    }
}

/// Writes `maps/maps.json`, the list of all samples with pictures.
///
/// # Errors
/// The folder cannot be written.
pub fn write_list(run: &Path, records: &[MapRecord]) -> Result<()> {
    let json = serde_json::to_string_pretty(records)?;
    write_atomic(&run.join(FOLDER).join(LIST), json.as_bytes())
}

/// Reads `maps/maps.json`; empty where there are no maps.
///
/// # Errors
/// The list is there but cannot be read.
pub fn read_list(run: &Path) -> Result<Vec<MapRecord>> {
    let path = run.join(FOLDER).join(LIST);
    if path.exists() {
        read_json(&path)
    } else {
        Ok(Vec::new())
    }
}

/// Chooses `count` samples to draw, in their own order: from every event the one with the most water, then the one with the second
/// most, and so on. It sees the truth only, never how well the model did.
///
/// `samples` gives the event and the number of wet cells of each; samples without water are taken last.
pub fn choose(samples: &[(&str, u64)], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(samples[i].1));
    let mut taken = std::collections::HashMap::new();
    let mut ranked: Vec<(bool, usize, usize)> = order
        .into_iter()
        .map(|i| {
            let rank = taken.entry(samples[i].0).or_insert(0);
            *rank += 1;
            (samples[i].1 == 0, *rank, i)
        })
        .collect();
    ranked.sort_by_key(|&(dry, rank, _)| (dry, rank));
    let mut chosen: Vec<usize> = ranked.into_iter().take(count).map(|(_, _, i)| i).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use png::verification_colours::{FALSE_ALARM, HIT, MISS};

    /// Which of the error colours a pixel is nearest to, or the background's own.
    fn class(picture: &RgbImage, ground: &RgbImage, x: u32, y: u32) -> &'static str {
        let pixel = picture.get_pixel(x, y).0;
        let far = |colour: [u8; 3]| -> i32 {
            (0..3)
                .map(|c| (i32::from(pixel[c]) - i32::from(colour[c])).pow(2))
                .sum()
        };
        [
            ("hit", HIT),
            ("miss", MISS),
            ("false alarm", FALSE_ALARM),
            ("dry", ground.get_pixel(x, y).0),
        ]
        .into_iter()
        .min_by_key(|(_, colour)| far(*colour))
        .unwrap()
        .0
    }

    #[test]
    fn pictures_of_a_sample_with_coarse_rain() {
        let rain = array![[0.0, 150.0]];
        let elevation = Array2::from_shape_fn((2, 4), |(i, j)| (i + j) as f32);
        let truth = array![[1, 1, 0, 0], [0, 0, 0, 255]];
        let probability = array![[0.9, 0.2, 0.5, 0.1], [0.0, 0.0, 0.0, 1.0]];
        let fields = SampleFields {
            rain: rain.view(),
            rain_kind: Rain::Total { hours: 8.0 },
            elevation_m: elevation.view(),
            cell_size_m: 500.0,
            truth: Some(truth.view()),
            probability: probability.view(),
            threshold: 0.5,
        };
        let pictures = fields.pictures().unwrap();
        let k = 96;
        for (_, picture) in pictures.named() {
            assert_eq!(picture.dimensions(), (4 * k, 2 * k));
        }
        let ground = paled(&pictures.terrain);
        let at = |picture: &RgbImage, row: u32, column: u32| {
            class(picture, &ground, column * k + 5, row * k + 5)
        };
        assert_eq!(
            [0, 1, 2, 3].map(|j| at(&pictures.prediction, 0, j)),
            ["hit", "miss", "false alarm", "dry"]
        );
        assert_eq!(
            at(&pictures.prediction, 1, 3),
            "dry",
            "unknown truth is not judged"
        );
        let shown = pictures.truth.as_ref().unwrap();
        assert_eq!(
            [0, 1, 2, 3].map(|j| at(shown, 0, j)),
            ["hit", "hit", "dry", "dry"]
        );
        assert_eq!(pictures.rain.get_pixel(2 * k - 1, 2 * k - 1).0, [255; 3]);
        assert_ne!(pictures.rain.get_pixel(2 * k, 0).0, [255; 3]);
    }

    #[test]
    fn records_and_files_of_a_run() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_list(dir.path()).unwrap(), []);
        let flat = Array2::<f32>::zeros((2, 3));
        let fields = SampleFields {
            rain: flat.view(),
            rain_kind: Rain::PeakRate { hours: 4.0 },
            elevation_m: flat.view(),
            cell_size_m: 1.0,
            truth: None,
            probability: flat.view(),
            threshold: 0.5,
        };
        let record = MapRecord {
            stem: "test_storms_01".into(),
            split: "test_storms".into(),
            event: "storm_03".into(),
            catchment: "terrain_1".into(),
            time_s: 3600.0,
            rain: fields.rain_kind,
            counts: Confusion::default(),
        };
        record
            .write(dir.path(), &fields.pictures().unwrap())
            .unwrap();
        write_list(dir.path(), std::slice::from_ref(&record)).unwrap();
        assert_eq!(
            read_list(dir.path()).unwrap(),
            std::slice::from_ref(&record)
        );
        assert!(record.file(dir.path(), "rain").is_file());
        assert!(!record.file(dir.path(), "truth").exists());
    }

    #[test]
    fn every_event_is_shown_before_one_is_shown_twice() {
        let samples = [("a", 9), ("a", 8), ("a", 7), ("b", 3), ("b", 4), ("c", 0)];
        assert_eq!(choose(&samples, 2), [0, 4]);
        assert_eq!(choose(&samples, 3), [0, 1, 4]);
        assert_eq!(choose(&samples, 9), [0, 1, 2, 3, 4, 5]);
    }
}
