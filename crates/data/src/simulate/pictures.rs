//! The flood as pictures.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, Frame, RgbImage, RgbaImage};
use ndarray::ArrayView2;

use crate::atomic::AtomicFile;
use crate::error::{DataError, Result};
use crate::raster::{open_raster, png};

/// Pixels that a picture should have at least along its longer side.
const SIDE: usize = 640;

/// Draws depth in m over shaded relief, with the colours of [`png::DEPTH`], as PNG.
pub(super) fn flood(
    path: &Path,
    terrain_m: ArrayView2<f32>,
    cell_size_m: f64,
    depth_m: ArrayView2<f32>,
) -> Result<()> {
    png::write(
        path,
        &enlarged(&png::overlay(
            &png::terrain(terrain_m, cell_size_m),
            depth_m,
            &png::DEPTH,
        )),
    )
}

fn enlarged(picture: &RgbImage) -> RgbImage {
    let side = picture.width().max(picture.height()).max(1) as usize;
    png::enlarge(picture, SIDE.div_ceil(side) as u32)
}

/// Draws depth rasters (m), in the order given, over the terrain's shaded relief as an endless animated GIF of ten frames a second, calling
/// `progress` after each.
///
/// # Errors
/// Rasters that cannot be read or have another shape than the terrain, and a file that cannot be written.
pub fn animate(
    path: &Path,
    terrain_m: ArrayView2<f32>,
    cell_size_m: f64,
    frames: &[PathBuf],
    progress: &dyn Fn(),
) -> Result<()> {
    let relief = png::terrain(terrain_m, cell_size_m);
    let encoding = |e: image::ImageError| DataError::format(path, format!("animation: {e}"));
    let mut file = AtomicFile::create(path)?;
    {
        // The palette's search speed: 1 is slowest and best, 30 fastest.
        let mut encoder = GifEncoder::new_with_speed(BufWriter::new(&mut file), 10);
        encoder.set_repeat(Repeat::Infinite).map_err(encoding)?;
        for name in frames {
            let depth = open_raster(name)?;
            if depth.data.dim() != terrain_m.dim() {
                return Err(DataError::format(
                    name,
                    format!(
                        "the frame has {:?} cells, the terrain {:?}",
                        depth.data.dim(),
                        terrain_m.dim()
                    ),
                ));
            }
            let picture = enlarged(&png::overlay(&relief, depth.data.view(), &png::DEPTH));
            let (width, height) = picture.dimensions();
            let picture = RgbaImage::from_fn(width, height, |x, y| {
                let [r, g, b] = picture.get_pixel(x, y).0;
                image::Rgba([r, g, b, 255])
            });
            let delay = Delay::from_numer_denom_ms(100, 1);
            encoder
                .encode_frame(Frame::from_parts(picture, 0, 0, delay))
                .map_err(encoding)?;
            progress();
        }
    }
    file.commit()
}
