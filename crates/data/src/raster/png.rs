//! Maps as pictures: terrain, rain, water depth, probabilities, and where a prediction hits, misses or cries wolf.
//!
//! Every sequential colour map gets darker from its first colour to its last (CIE lightness falls throughout, which a test
//! checks), so that order stays legible in grey and to colour-blind readers. Error colours are of Okabe & Ito's palette.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use ndarray::{Array2, ArrayView2};

use crate::atomic;
use crate::error::{DataError, Result};

/// Colours of the cells of [`verification`].
pub mod verification_colours {
    /// Wet in truth and prediction.
    pub const HIT: [u8; 3] = [0, 114, 178];
    /// Wet in truth only.
    pub const MISS: [u8; 3] = [213, 94, 0];
    /// Wet in the prediction only.
    pub const FALSE_ALARM: [u8; 3] = [204, 121, 167];
}

/// What cells without data look like.
const NO_DATA: [u8; 3] = [200, 200, 200];
/// What cells below a colour map's first value look like where there is no background.
const BELOW: [u8; 3] = [255, 255, 255];
/// How much of the background shows through an overlay.
const BACKGROUND_SHARE: f32 = 0.15;

/// Colours for values between ascending stops.
#[derive(Debug, Clone, Copy)]
pub struct ColourMap {
    /// Value and colour of each stop, ascending.
    pub stops: &'static [(f32, [u8; 3])],
    /// Whether values between stops are placed by their logarithm.
    pub logarithmic: bool,
}

/// Rain rate in mm/h, dry below 0.1.
pub const RAIN_RATE: ColourMap = ColourMap {
    stops: &[
        (0.1, [224, 243, 248]),
        (0.5, [171, 217, 233]),
        (1.0, [116, 173, 209]),
        (2.0, [79, 133, 188]),
        (5.0, [84, 95, 170]),
        (10.0, [112, 57, 150]),
        (20.0, [131, 26, 120]),
        (50.0, [116, 10, 70]),
        (100.0, [64, 0, 32]),
    ],
    logarithmic: true,
};

/// Rain total in mm, dry below 1.
pub const RAIN_TOTAL: ColourMap = ColourMap {
    stops: &[
        (1.0, [224, 243, 248]),
        (5.0, [171, 217, 233]),
        (10.0, [116, 173, 209]),
        (20.0, [79, 133, 188]),
        (40.0, [84, 95, 170]),
        (60.0, [112, 57, 150]),
        (90.0, [131, 26, 120]),
        (130.0, [116, 10, 70]),
        (200.0, [64, 0, 32]),
    ],
    logarithmic: true,
};

/// Water depth in metres (ColorBrewer "Blues"), dry below 0.02.
pub const DEPTH: ColourMap = ColourMap {
    stops: &[
        (0.02, [222, 235, 247]),
        (0.05, [198, 219, 239]),
        (0.1, [158, 202, 225]),
        (0.2, [107, 174, 214]),
        (0.4, [66, 146, 198]),
        (0.8, [33, 113, 181]),
        (1.6, [8, 81, 156]),
        (3.2, [8, 48, 107]),
    ],
    logarithmic: true,
};

/// Probability from 0 to 1 (ColorBrewer "YlGnBu").
pub const PROBABILITY: ColourMap = ColourMap {
    stops: &[
        (0.0, [255, 255, 217]),
        (0.125, [237, 248, 177]),
        (0.25, [199, 233, 180]),
        (0.375, [127, 205, 187]),
        (0.5, [65, 182, 196]),
        (0.625, [29, 145, 192]),
        (0.75, [34, 94, 168]),
        (0.875, [37, 52, 148]),
        (1.0, [8, 29, 88]),
    ],
    logarithmic: false,
};

/// Relative elevation, valleys to summits, before shading.
const HYPSOMETRIC: ColourMap = ColourMap {
    stops: &[
        (0.0, [150, 152, 132]),
        (0.3, [178, 168, 138]),
        (0.6, [196, 178, 148]),
        (0.85, [214, 200, 180]),
        (1.0, [240, 236, 230]),
    ],
    logarithmic: false,
};

impl ColourMap {
    /// The colour of a value; `None` below the first stop and for NaN. Beyond the last stop its colour holds.
    pub fn colour(&self, value: f32) -> Option<[u8; 3]> {
        let &(first, first_colour) = self.stops.first()?;
        if value.is_nan() || value < first {
            return None;
        }
        let mut below = (first, first_colour);
        for &(stop, colour) in self.stops {
            if value < stop {
                let t = if self.logarithmic {
                    (value / below.0).ln() / (stop / below.0).ln()
                } else {
                    (value - below.0) / (stop - below.0)
                };
                return Some(blend(below.1, colour, t));
            }
            below = (stop, colour);
        }
        Some(below.1)
    }
}

/// `a` at 0, `b` at 1.
fn blend(a: [u8; 3], b: [u8; 3], t: f32) -> [u8; 3] {
    [0, 1, 2].map(|c| (f32::from(a[c]) * (1.0 - t) + f32::from(b[c]) * t).round() as u8)
}

fn picture(height: usize, width: usize, colour: impl Fn(usize, usize) -> [u8; 3]) -> RgbImage {
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        Rgb(colour(y as usize, x as usize))
    })
}

/// Brightness 0 to 1 of each cell `[height, width]` lit from the north-west at 45° (slopes after Horn 1981, Proc. IEEE 69).
///
/// Relief is exaggerated, never flattened, until a tenth of the cells are steeper than 35°: cells of hundreds of metres would
/// look flat otherwise.
pub fn hillshade(elevation_m: ArrayView2<f32>, cell_size_m: f64) -> Array2<f32> {
    let (height, width) = elevation_m.dim();
    let gradient = Array2::from_shape_fn((height, width), |(i, j)| {
        let centre = elevation_m[[i, j]];
        let at = |di: isize, dj: isize| {
            let row = i.checked_add_signed(di).filter(|&row| row < height);
            let column = j.checked_add_signed(dj).filter(|&column| column < width);
            match (row, column) {
                (Some(row), Some(column)) if !elevation_m[[row, column]].is_nan() => {
                    elevation_m[[row, column]]
                }
                _ => centre,
            }
        };
        let east = at(-1, 1) + 2.0 * at(0, 1) + at(1, 1);
        let west = at(-1, -1) + 2.0 * at(0, -1) + at(1, -1);
        let south = at(1, -1) + 2.0 * at(1, 0) + at(1, 1);
        let north = at(-1, -1) + 2.0 * at(-1, 0) + at(-1, 1);
        let spacing = 8.0 * cell_size_m as f32;
        [(east - west) / spacing, (south - north) / spacing]
    });
    let mut slopes: Vec<f32> = gradient
        .iter()
        .map(|[x, y]| x.hypot(*y))
        .filter(|slope| slope.is_finite())
        .collect();
    slopes.sort_unstable_by(f32::total_cmp);
    let steep = slopes
        .get(slopes.len() * 9 / 10)
        .copied()
        .unwrap_or_default();
    let exaggeration = if steep > 0.0 {
        (0.7 / steep).max(1.0)
    } else {
        1.0
    };
    gradient.mapv(|[x, y]| {
        let (x, y) = (x * exaggeration, y * exaggeration);
        // Unit vectors: surface normal (−x, −y, 1), light from (−1, −1, √2) (west, north, up).
        ((x + y + std::f32::consts::SQRT_2) / (2.0 * (1.0 + x * x + y * y).sqrt())).max(0.0)
    })
}

/// Shaded relief in grey-brown tints; cells without data are grey.
pub fn terrain(elevation_m: ArrayView2<f32>, cell_size_m: f64) -> RgbImage {
    let (height, width) = elevation_m.dim();
    let shade = hillshade(elevation_m, cell_size_m);
    let valid = || elevation_m.iter().copied().filter(|z| z.is_finite());
    let (lowest, highest) = (
        valid().fold(f32::INFINITY, f32::min),
        valid().fold(f32::NEG_INFINITY, f32::max),
    );
    let range = if highest > lowest {
        highest - lowest
    } else {
        1.0
    };
    picture(height, width, |i, j| {
        let relative = (elevation_m[[i, j]] - lowest) / range;
        match HYPSOMETRIC.colour(relative) {
            None => NO_DATA,
            // A flat cell (shade √½) keeps its tint.
            Some(tint) => {
                let light = 0.35 + 0.65 * shade[[i, j]] * std::f32::consts::SQRT_2;
                tint.map(|c| (f32::from(c) * light).round().min(255.0) as u8)
            }
        }
    })
}

/// Values in the colours of `map`, white below its first stop, grey for NaN.
pub fn field(values: ArrayView2<f32>, map: &ColourMap) -> RgbImage {
    let (height, width) = values.dim();
    picture(height, width, |i, j| {
        let value = values[[i, j]];
        if value.is_nan() {
            NO_DATA
        } else {
            map.colour(value).unwrap_or(BELOW)
        }
    })
}

/// Values over a background such as [`terrain`]; cells below the first stop of `map`, and NaN, show the background.
/// A grid of another shape than the background's is taken to cover the same area (nearest cell).
pub fn overlay(background: &RgbImage, values: ArrayView2<f32>, map: &ColourMap) -> RgbImage {
    paint(background, values.dim(), |i, j| map.colour(values[[i, j]]))
}

/// Hits, misses and false alarms in [`verification_colours`] over a background. `truth` and `prediction` hold 1 where wet,
/// 0 where dry, anything else where unknown; unknown and dry cells show the background.
///
/// # Errors
/// [`DataError::Config`] where the two differ in shape.
pub fn verification(
    background: &RgbImage,
    truth: ArrayView2<u8>,
    prediction: ArrayView2<u8>,
) -> Result<RgbImage> {
    if truth.dim() != prediction.dim() {
        return Err(DataError::Config(format!(
            "truth has {:?} cells and prediction {:?}",
            truth.dim(),
            prediction.dim()
        )));
    }
    Ok(paint(background, truth.dim(), |i, j| {
        match (truth[[i, j]], prediction[[i, j]]) {
            (1, 1) => Some(verification_colours::HIT),
            (1, 0) => Some(verification_colours::MISS),
            (0, 1) => Some(verification_colours::FALSE_ALARM),
            _ => None,
        }
    }))
}

fn paint(
    background: &RgbImage,
    (height, width): (usize, usize),
    colour: impl Fn(usize, usize) -> Option<[u8; 3]>,
) -> RgbImage {
    let (columns, rows) = (background.width() as usize, background.height() as usize);
    picture(rows, columns, |y, x| {
        let behind = background.get_pixel(x as u32, y as u32).0;
        match colour(y * height / rows, x * width / columns) {
            Some(colour) => blend(colour, behind, BACKGROUND_SHARE),
            None => behind,
        }
    })
}

/// Every pixel as a square of `factor` × `factor`, at least 1.
pub fn enlarge(image: &RgbImage, factor: u32) -> RgbImage {
    let factor = factor.max(1);
    RgbImage::from_fn(image.width() * factor, image.height() * factor, |x, y| {
        *image.get_pixel(x / factor, y / factor)
    })
}

/// The picture as the bytes of a PNG file.
///
/// # Errors
/// [`DataError::Config`] for a picture without pixels.
pub fn encode(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| DataError::Config(format!("picture: {e}")))?;
    Ok(bytes.into_inner())
}

/// Writes the picture as PNG.
///
/// # Errors
/// [`DataError`] where the file cannot be written.
pub fn write(path: &Path, image: &RgbImage) -> Result<()> {
    atomic::write_file(path, &encode(image)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// CIE 1976 lightness of an sRGB colour under D65.
    fn lightness(colour: [u8; 3]) -> f32 {
        let linear = colour.map(|c| {
            let c = f32::from(c) / 255.0;
            if c <= 0.04045 {
                c / 12.92
            } else {
                ((c + 0.055) / 1.055).powf(2.4)
            }
        });
        let y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        if y > 0.008856 {
            116.0 * y.cbrt() - 16.0
        } else {
            903.3 * y
        }
    }

    #[test]
    fn sequential_maps_get_steadily_darker() {
        for map in [RAIN_RATE, RAIN_TOTAL, DEPTH, PROBABILITY] {
            let light: Vec<f32> = map.stops.iter().map(|s| lightness(s.1)).collect();
            for pair in light.windows(2) {
                assert!(pair[0] - pair[1] > 2.0, "{light:?}");
            }
            assert!(map.stops.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }

    #[test]
    fn colours_meet_their_stops() {
        for map in [RAIN_RATE, DEPTH, PROBABILITY] {
            for &(value, colour) in map.stops {
                assert_eq!(map.colour(value), Some(colour));
            }
        }
        assert_eq!(RAIN_RATE.colour(0.09), None);
        assert_eq!(RAIN_RATE.colour(f32::NAN), None);
        assert_eq!(RAIN_RATE.colour(1e9), Some([64, 0, 32]));
        // Half way between 0.1 and 0.2 m on a logarithmic scale.
        assert_eq!(
            DEPTH.colour(0.1 * std::f32::consts::SQRT_2),
            Some([133, 188, 220])
        );
    }

    #[test]
    fn light_comes_from_the_north_west() {
        let flat = hillshade(Array2::zeros((3, 4)).view(), 50.0);
        assert!(flat.iter().all(|s| (s - 0.5_f32.sqrt()).abs() < 1e-6));
        // Facing north-west at 45°: lit at a right angle. Facing south-east at 45°: grazed.
        let slope = |sign: f32| {
            Array2::from_shape_fn((5, 6), |(i, j)| {
                sign * (i + j) as f32 * 10.0 * 0.5_f32.sqrt()
            })
        };
        let lit = hillshade(slope(1.0).view(), 10.0);
        assert!((lit[[2, 2]] - 1.0).abs() < 1e-5);
        assert!(hillshade(slope(-1.0).view(), 10.0)[[2, 2]].abs() < 1e-5);
    }

    #[test]
    fn rows_are_rows_and_north_is_up() {
        let picture = field(
            array![[0.0, 5.0, f32::NAN], [100.0, 0.0, 0.0]].view(),
            &RAIN_RATE,
        );
        assert_eq!(picture.dimensions(), (3, 2));
        assert_eq!(picture.get_pixel(1, 0).0, [84, 95, 170]);
        assert_eq!(picture.get_pixel(0, 1).0, [64, 0, 32]);
        assert_eq!(picture.get_pixel(2, 0).0, NO_DATA);
        assert_eq!(picture.get_pixel(0, 0).0, BELOW);
        let large = enlarge(&picture, 4);
        assert_eq!(large.dimensions(), (12, 8));
        assert_eq!(large.get_pixel(3, 7).0, [64, 0, 32]);
    }

    #[test]
    fn overlays_and_errors_show_the_background_where_dry() {
        let height = Array2::from_shape_fn((4, 6), |(i, j)| (i * j) as f32);
        let relief = terrain(height.view(), 100.0);
        let rain = array![[0.0, 0.0, 100.0], [0.0, 0.0, 0.0]];
        let over = overlay(&relief, rain.view(), &RAIN_RATE);
        assert_eq!(over.dimensions(), (6, 4));
        assert_eq!(over.get_pixel(0, 3), relief.get_pixel(0, 3));
        for (x, y) in [(4, 0), (5, 0), (4, 1), (5, 1)] {
            let expected = blend([64, 0, 32], relief.get_pixel(x, y).0, BACKGROUND_SHARE);
            assert_eq!(over.get_pixel(x, y).0, expected);
        }
        let truth = array![[1, 1, 0], [0, 255, 1]];
        let prediction = array![[1, 0, 1], [0, 1, 1]];
        let white = RgbImage::from_pixel(3, 2, Rgb([255; 3]));
        let errors = verification(&white, truth.view(), prediction.view()).unwrap();
        let on_white = |colour| blend(colour, [255; 3], BACKGROUND_SHARE);
        use verification_colours::{FALSE_ALARM, HIT, MISS};
        let expected = [
            [on_white(HIT), on_white(MISS), on_white(FALSE_ALARM)],
            [[255; 3], [255; 3], on_white(HIT)],
        ];
        for (y, row) in expected.iter().enumerate() {
            for (x, colour) in row.iter().enumerate() {
                assert_eq!(errors.get_pixel(x as u32, y as u32).0, *colour);
            }
        }
        assert!(verification(&white, truth.view(), array![[1_u8]].view()).is_err());
    }

    #[test]
    fn png_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a map.png");
        let picture = field(
            array![[0.1, 1.0], [20.0, 7.0], [0.0, 1.0]].view(),
            &RAIN_RATE,
        );
        write(&path, &picture).unwrap();
        assert_eq!(image::open(&path).unwrap().to_rgb8(), picture);
        assert!(encode(&RgbImage::new(0, 0)).is_err());
    }
}
