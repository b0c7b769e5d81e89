//! Rasters against files that other programs made. Tests on real data need the variable `PLUVIAL_SHARED`.

use std::path::{Path, PathBuf};

use ndarray::Array2;
use pluvial_data::GeoGrid;
use pluvial_data::radar::{EventConfig, Events, OpenOptions, RainSource, open};
use pluvial_data::raster::{esri_ascii, geotiff, heightmap_json, open_raster};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/geotiff")
        .join(name)
}

/// A file of the real data, or `None` (with a word about it) where there is none at hand.
fn shared(name: &str) -> Option<PathBuf> {
    match std::env::var_os("PLUVIAL_SHARED") {
        Some(root) => Some(Path::new(&root).join("data").join(name)),
        None => {
            println!("skipped: PLUVIAL_SHARED is not set, {name} is not read");
            None
        }
    }
}

/// `golden/geotiff/make.py` says what the files hold.
#[test]
fn geotiffs_of_every_type_layout_and_compression() {
    let base = |i: usize, j: usize| 7.0 * i as f32 - 3.0 * j as f32 + 40.0;
    type Value<'a> = &'a dyn Fn(usize, usize) -> f32;
    let cases: [(&str, Value); 9] = [
        ("f32_strips_deflate_predictor3.tif", &|i, j| {
            base(i, j) + 0.25
        }),
        ("f64_strips_none.tif", &|i, j| base(i, j) + 0.25),
        ("i16_tiles_none.tif", &base),
        ("i32_tiles_deflate_predictor2.tif", &base),
        ("u8_strips_lzw.tif", &|i, j| ((i + 5 * j) % 251) as f32),
        ("u16_tiles_lzw_predictor2_big_endian.tif", &|i, j| {
            base(i, j) + 100.0
        }),
        ("f32_tiles_lzw_bigtiff.tif", &|i, j| base(i, j) + 0.25),
        ("f64_tiles_deflate_predictor3_big_endian.tif", &|i, j| {
            base(i, j) + 0.25
        }),
        ("i32_strips_packbits_point.tif", &base),
    ];
    for (name, value) in cases {
        let grid = open_raster(&golden(name)).unwrap();
        assert_eq!(grid.data.dim(), (19, 33), "{name}");
        for ((i, j), &cell) in grid.data.indexed_iter() {
            if (i, j) == (2, 5) {
                assert!(cell.is_nan(), "{name}: no data is {cell}");
            } else {
                assert_eq!(cell, value(i, j), "{name}: row {i}, column {j}");
            }
        }
        let (corner, cell, crs) = match name {
            "i16_tiles_none.tif" => ((-97.5, 32.75), (0.001, 0.001), "EPSG:4326"),
            // The tiepoint is the middle of the corner cell.
            "i32_strips_packbits_point.tif" => ((208_975.0, 92_012.5), (50.0, 25.0), "EPSG:27700"),
            _ => ((209_000.0, 92_000.0), (50.0, 25.0), "EPSG:27700"),
        };
        assert_eq!((grid.west, grid.north), corner, "{name}");
        assert_eq!((grid.cell_x, grid.cell_y), cell, "{name}");
        assert_eq!(grid.crs.as_deref(), Some(crs), "{name}");
        assert_eq!(grid.is_geographic(), crs == "EPSG:4326");
    }
}

#[test]
fn geotiff_writes_what_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a map.tif");
    for crs in [None, Some("EPSG:4326"), Some("EPSG:28992")] {
        let mut grid = GeoGrid::new(
            Array2::from_shape_fn((300, 217), |(i, j)| (i as f32).sin() * 1e3 + j as f32 / 7.0),
            -97.5,
            32.25,
            0.1,
        );
        grid.cell_y = 0.3;
        grid.data[[299, 3]] = f32::NAN;
        grid.crs = crs.map(Into::into);
        geotiff::write(&path, &grid).unwrap();
        let back = open_raster(&path).unwrap();
        assert_eq!(back.data.mapv(f32::to_bits), grid.data.mapv(f32::to_bits));
        assert_eq!(
            (back.west, back.north, back.cell_x, back.cell_y, &back.crs),
            (grid.west, grid.north, grid.cell_x, grid.cell_y, &grid.crs)
        );
    }
}

#[test]
fn damaged_geotiffs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a map.tif");
    let bytes = std::fs::read(golden("f64_strips_none.tif")).unwrap();
    for length in [4, 100, bytes.len() / 2, bytes.len() - 9] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = open_raster(&path).unwrap_err().to_string();
        assert!(
            error.contains("a map.tif': GeoTIFF: ") && !error.contains('\n'),
            "{error}"
        );
    }
    let entry = |tag: u16| {
        (8..400).find(|&at| {
            bytes[at..at + 2] == tag.to_le_bytes() && bytes[at + 4..at + 8] == [1, 0, 0, 0]
        })
    };
    // The header claims 2 000 000 rows in the four strips.
    let mut huge = bytes.clone();
    for (tag, value) in [(257, 2_000_000_u32), (278, 500_000)] {
        let at = entry(tag).unwrap();
        huge[at + 2..at + 4].copy_from_slice(&4_u16.to_le_bytes());
        huge[at + 8..at + 12].copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(&path, &huge).unwrap();
    let error = open_raster(&path).unwrap_err().to_string();
    assert!(
        error.contains("2000000 × 33 cells cannot come from"),
        "{error}"
    );
    // A tag that claims a million values.
    let mut far = bytes.clone();
    let at = entry(256).unwrap();
    far[at + 4..at + 8].copy_from_slice(&1_000_000_u32.to_le_bytes());
    std::fs::write(&path, &far).unwrap();
    let error = open_raster(&path).unwrap_err().to_string();
    assert!(
        error.contains("values of tag 256 lie beyond the end"),
        "{error}"
    );
}

#[test]
fn open_raster_knows_formats_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let grid = GeoGrid::new(
        Array2::from_shape_fn((3, 4), |(i, j)| (i * 4 + j) as f32),
        0.0,
        3.0,
        1.0,
    );
    for name in ["a", "b.gz"] {
        let path = folder.path().join(name);
        esri_ascii::write(&path, &grid).unwrap();
        assert_eq!(open_raster(&path).unwrap(), grid);
        heightmap_json::write(&path, grid.data.view()).unwrap();
        assert_eq!(open_raster(&path).unwrap(), grid);
    }
    for text in ["", "   ", "hello", "\x7fELF\0\0"] {
        let path = folder.path().join("not a raster");
        std::fs::write(&path, text).unwrap();
        let error = open_raster(&path).unwrap_err().to_string();
        assert!(
            error.contains("not a raster") && !error.contains('\n'),
            "{error}"
        );
    }
}

/// Sum over the cells that hold data.
fn sum(data: &Array2<f32>) -> f64 {
    data.iter()
        .filter(|v| !v.is_nan())
        .map(|&v| f64::from(v))
        .sum()
}

/// Figures from NumPy, which read the same files by splitting their text.
#[test]
fn real_terrain_of_boscastle() {
    let cases = [
        (
            "boscastle/dem_50m.asc",
            (60, 120),
            50.0,
            166.688_888_888_888_9,
            (30, 77, 177.0),
        ),
        (
            "boscastle/dem_10m.asc.gz",
            (300, 600),
            10.0,
            166.687_011_111_111_1,
            (59, 119, 40.0),
        ),
    ];
    for (name, shape, cell, mean, (i, j, value)) in cases {
        let Some(path) = shared(name) else { return };
        let grid = open_raster(&path).unwrap();
        assert_eq!(grid.data.dim(), shape);
        assert_eq!(
            (grid.west, grid.south(), grid.cell_x),
            (209_000.0, 89_000.0, cell)
        );
        assert!(grid.data.iter().all(|v| (0.0..=255.0).contains(v)));
        assert!((sum(&grid.data) / grid.data.len() as f64 - mean).abs() < 1e-9);
        assert_eq!(grid.data[[i, j]], value);
    }
    // Five by five cells of 10 m make one of 50 m: the two files cover the same ground.
    let Some(path) = shared("boscastle/dem_10m.asc.gz") else {
        return;
    };
    let coarse = open_raster(&path).unwrap().resample(60, 120).unwrap();
    assert_eq!(coarse.cell_x, 50.0);
    assert!((sum(&coarse.data) / 7200.0 - 166.687_011_111_111_1).abs() < 1e-4);
}

/// Figures from tifffile.
#[test]
fn real_terrain_of_hydrosheds() {
    let Some(path) = shared("dem/hydrosheds_n30w100_3s.tif") else {
        return;
    };
    let grid = open_raster(&path).unwrap();
    assert_eq!(grid.data.dim(), (359, 367));
    assert_eq!(grid.crs.as_deref(), Some("EPSG:4326"));
    assert_eq!(
        (grid.west, grid.north),
        (-97.484_999_999_996_1, 32.821_666_666_665_36)
    );
    assert_eq!(grid.cell_x, 0.000_833_333_333_333_3);
    assert_eq!(
        grid.data.iter().copied().fold(f32::INFINITY, f32::min),
        147.0
    );
    assert_eq!(grid.data.iter().copied().fold(0.0, f32::max), 298.0);
    assert_eq!(
        grid.data.iter().take(5).copied().collect::<Vec<_>>(),
        [214.0, 212.0, 210.0, 209.0, 208.0]
    );
    assert_eq!(
        (grid.data[[100, 200]], grid.data[[358, 366]]),
        (193.0, 216.0)
    );
    assert_eq!(sum(&grid.data), 27_262_145.0);
    let (x, y) = grid.cell_size_m();
    // 3 seconds of arc on the mean sphere, times the cosine of 32.672° along the parallel.
    assert!(
        (x - 78.001).abs() < 0.001 && (y - 92.663).abs() < 0.001,
        "{x} {y}"
    );
}

/// Figures from NumPy.
#[test]
fn real_radar_of_knmi() {
    let Some(path) = shared("knmi-2010-08-26/rain_5min_mm_per_h.asc.gz") else {
        return;
    };
    let options = OpenOptions {
        timestamps: shared("knmi-2010-08-26/timestamps.txt"),
        ..OpenOptions::default()
    };
    let config = EventConfig {
        max_gap_min: 0.0,
        ..EventConfig::default()
    };
    let mut stream = Events::new(open(&path, &options).unwrap(), config).unwrap();
    let place = stream.place().unwrap();
    assert_eq!(
        (stream.shape(), place.cell_x, place.cell_y),
        ((192, 192), 1000.0, 1000.0)
    );
    let mut total = Array2::<f64>::zeros((192, 192));
    let (mut frames, mut highest, mut wet) = (0, 0.0_f32, 0);
    while let Some(frame) = stream.next_frame().unwrap() {
        frames += 1;
        assert_eq!(frame.end_s, 300.0 * f64::from(frames));
        total += &frame.rain_mm_per_h.mapv(|r| f64::from(r) / 12.0);
        highest = frame.rain_mm_per_h.iter().copied().fold(highest, f32::max);
        wet += frame.rain_mm_per_h.iter().filter(|&&r| r > 0.1).count();
        if frames == 46 {
            assert_eq!(frame.rain_mm_per_h[[100, 150]], 1.2);
        }
        if frames == 49 {
            assert_eq!(frame.rain_mm_per_h[[182, 111]], 20.52);
        }
    }
    let counts = stream.counts();
    assert_eq!((frames, highest), (92, 20.52));
    assert_eq!(
        (counts.frames, counts.missing_cells, counts.clipped_cells),
        (92, 0, 0)
    );
    assert!((total.sum() - 178_043.4).abs() < 0.01);
    assert!((total[[128, 38]] - 12.8).abs() < 1e-5);
    assert!((total.iter().copied().fold(0.0, f64::max) - 12.8).abs() < 1e-5);
    let share = wet as f64 / (92.0 * 192.0 * 192.0);
    assert!((share - 0.729_022_777_022_776_9).abs() < 1e-9);
}
