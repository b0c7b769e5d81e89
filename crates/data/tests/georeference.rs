//! Rain and terrain on one grid, by their places on the map: from files to the depths of a dataset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::Array2;
use pluvial_data::build::build;
use pluvial_data::radar::{FrameFormat, FrameWriter, RadarFrame};
use pluvial_data::raster::{esri_ascii, geotiff, heightmap_json};
use pluvial_data::recipe::BoundRecipe;
use pluvial_data::{GeoGrid, Manifest, Metadata, ShardReader};

/// 2016-03-26 00:00 (`date -u -d 2016-03-26 +%s`).
const MIDNIGHT: i64 = 1_458_950_400;

/// Terrain cells of 500 m from 400000 to 409000 east and 302000 to 309000 north: 50 m high, but 45 m between 406000 and 407000
/// east, 306500 and 307000 north.
fn terrain() -> GeoGrid {
    let data = Array2::from_shape_fn((14, 18), |(row, column)| {
        let (east, north) = (
            400_250.0 + 500.0 * column as f64,
            308_750.0 - 500.0 * row as f64,
        );
        let bowl =
            (406_000.0..407_000.0).contains(&east) && (306_500.0..307_000.0).contains(&north);
        if bowl { 45.0 } else { 50.0 }
    });
    GeoGrid::new(data, 400_000.0, 309_000.0, 500.0)
}

/// Radar cells of 1 km from 401000 to 411000 east and 301000 to 309000 north, dry but for one; the corner is not seen.
fn radar(minutes: i64, wet: (f64, f64), mm_per_h: f32) -> RadarFrame {
    let mut data = Array2::from_shape_fn((8, 10), |(row, column)| {
        let (west, south) = (
            401_000.0 + 1000.0 * column as f64,
            308_000.0 - 1000.0 * row as f64,
        );
        if (west, south) == wet { mm_per_h } else { 0.0 }
    });
    data[[7, 9]] = f32::NAN;
    let mut grid = GeoGrid::new(data, 401_000.0, 309_000.0, 1000.0);
    grid.crs = Some("EPSG:27700".into());
    RadarFrame {
        end_s: Some(MIDNIGHT + 60 * minutes),
        duration_s: None,
        rain_mm_per_h: grid,
    }
}

const RECIPE: &str = r#"
    [grid]
    shape = [6, 8]
    cell_size_m = 500.0
    rain_ratio = 2
    [[terrain]]
    name = "plain"
    file = { path = "{terrain}", box = { easting = [403000, 407000], northing = [304000, 307000] } }
    [rain.stream]
    path = "{rain}"
    train = [{ from = "2016-03-26T00:00", until = "2016-03-26T00:15" }]
    [hydro]
    edge = "closed"
    [hydro.solver]
    dry_depth_m = 1.0 # water stays where it falls
    [sample]
    pattern = [1]
    every_frames = 1
    total_hours = []
    [split]
    train = 1
    validation = 0
    test = 0
"#;

fn bind(text: &str, terrain: &Path, rain: &Path) -> pluvial_data::Result<BoundRecipe> {
    let files = BTreeMap::from([
        ("terrain".into(), terrain.into()),
        ("rain".into(), rain.into()),
    ]);
    BoundRecipe::parse(text, "placed".into(), &files)
}

struct Files {
    root: tempfile::TempDir,
    terrain: PathBuf,
    rain: PathBuf,
}

/// Frames at 23:55, 00:05, 00:10 and 00:15: before the recipe's time; in the rain window's cell (1, 2); in its cell (2, 0); dry.
fn files(format: FrameFormat) -> Files {
    let root = tempfile::tempdir().unwrap();
    let (terrain_path, rain) = (root.path().join("terrain.asc.gz"), root.path().join("rain"));
    esri_ascii::write(&terrain_path, &terrain()).unwrap();
    let mut writer = FrameWriter::create(&rain, format).unwrap();
    for frame in [
        radar(-5, (403_000.0, 306_000.0), 96.0),
        radar(5, (405_000.0, 305_000.0), 24.0),
        radar(10, (403_000.0, 304_000.0), 48.0),
        radar(15, (0.0, 0.0), 0.0),
    ] {
        writer.write(&frame).unwrap();
    }
    writer.finish().unwrap();
    Files {
        root,
        terrain: terrain_path,
        rain,
    }
}

#[test]
fn rain_terrain_and_depth_lie_at_the_same_place() {
    for format in [FrameFormat::Nimrod, FrameFormat::GeoTiff] {
        let files = files(format);
        let recipe = bind(RECIPE, &files.terrain, &files.rain).unwrap();
        let folder = files.root.path().join("built");
        build(&recipe, &folder, &|_| ()).unwrap();

        let bed = heightmap_json::read(&folder.join("heightmaps/plain.json.gz")).unwrap();
        assert_eq!(bed.dim(), (6, 8));
        // The bowl ends at the box's north-eastern corner: its northern row, the last two columns.
        for ((row, column), &z) in bed.indexed_iter() {
            let bowl = row == 0 && column >= 6;
            assert_eq!(z, if bowl { 45.0 } else { 50.0 }, "{row}, {column}");
        }
        // What is drawn of the dataset can be laid over a map.
        let place = Manifest::read(&folder).unwrap().catchments[0]
            .place
            .clone()
            .unwrap();
        assert_eq!(
            (place.west, place.north, place.cell_x, place.crs.as_deref()),
            (403_000.0, 307_000.0, 500.0, Some("EPSG:27700"))
        );
        let metadata = Metadata::read(&folder).unwrap();
        let samples: Vec<_> = ShardReader::open(folder.join("0.tfrecord.gz"), &metadata)
            .unwrap()
            .map(|sample| sample.unwrap())
            .collect();
        assert_eq!(samples.len(), 2);
        // The rain of each frame, ÷ 100 mm/h, on 3 × 4 cells.
        for (sample, (at, rate)) in samples.iter().zip([((1, 2), 0.24), ((2, 0), 0.48)]) {
            for ((_, row, column), &rain) in sample.rain.indexed_iter() {
                let expected = if (row, column) == at { rate } else { 0.0 };
                assert!((rain - expected).abs() < 1e-6, "{row}, {column}: {rain}");
            }
        }
        // Two rows and columns of depth to each: 24 mm/h for five minutes are 2 mm, 48 mm/h 4 mm.
        for ((row, column), &depth) in samples[1].depth_m.indexed_iter() {
            let expected = match (row / 2, column / 2) {
                (1, 2) => 0.002,
                (2, 0) => 0.004,
                _ => 0.0,
            };
            assert!((depth - expected).abs() < 1e-4, "{row}, {column}: {depth}");
        }
    }
}

#[test]
fn what_does_not_lie_together_is_refused_with_both_places() {
    let files = files(FrameFormat::Nimrod);
    let error = |text: &str, terrain: &Path, rain: &Path| {
        let folder = tempfile::tempdir().unwrap();
        let error = bind(text, terrain, rain)
            .and_then(|recipe| build(&recipe, folder.path(), &|_| ()))
            .unwrap_err()
            .to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    let has = |error: &str, parts: &[&str]| {
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    };
    let moved = |easting: &str, northing: &str| {
        RECIPE
            .replace("[403000, 407000]", easting)
            .replace("[304000, 307000]", northing)
    };
    // Beyond the terrain; within it and beyond the radar.
    let text = moved("[407000, 411000]", "[304000, 307000]");
    has(
        &error(&text, &files.terrain, &files.rain),
        &[
            "terrain.asc.gz': ",
            "west to east 407000 … 411000",
            "west to east 400000 … 409000",
        ],
    );
    let text = moved("[400000, 404000]", "[304000, 307000]");
    has(
        &error(&text, &files.terrain, &files.rain),
        &[
            "frame 0 (2016-03-26T00:05:00Z)",
            "west to east 400000 … 404000",
            "west to east 401000 … 411000",
        ],
    );
    // A box that does not have the grid's shape, widened to whole rain cells.
    let text = moved("[403000, 407100]", "[304000, 307000]");
    has(
        &error(&text, &files.terrain, &files.rain),
        &["covers 6 × 10 depth cells", "[6, 8]"],
    );
    // Another coordinate system, of the rain and of the terrain.
    let other = files.root.path().join("other");
    let mut writer = FrameWriter::create(&other, FrameFormat::GeoTiff).unwrap();
    let mut frame = radar(5, (0.0, 0.0), 0.0);
    frame.rain_mm_per_h.crs = Some("EPSG:28992".into());
    writer.write(&frame).unwrap();
    writer.finish().unwrap();
    has(
        &error(RECIPE, &files.terrain, &other),
        &["different coordinate systems", "EPSG:27700", "EPSG:28992"],
    );
    let degrees = files.root.path().join("degrees.tif");
    let mut grid = terrain();
    grid.crs = Some("EPSG:4326".into());
    geotiff::write(&degrees, &grid).unwrap();
    has(
        &error(RECIPE, &degrees, &files.rain),
        &["degrees.tif': ", "different coordinate systems"],
    );
    // A place is needed on both sides.
    let text = RECIPE.replace(
        ", box = { easting = [403000, 407000], northing = [304000, 307000] }",
        "",
    );
    has(
        &error(&text, &files.terrain, &files.rain),
        &["terrain 'plain' needs file = { …, box = … }"],
    );
    let nowhere = files.root.path().join("nowhere.json");
    heightmap_json::write(&nowhere, terrain().data.view()).unwrap();
    has(
        &error(RECIPE, &nowhere, &files.rain),
        &["without a position"],
    );
    // Keys and times that cannot be.
    for (from, to, reason) in [
        (
            "easting = [403000",
            "latitude = [403000",
            "either easting and northing",
        ),
        ("T00:15", "T25:15", "is no time"),
        ("T00:15", "T00:00", "is no time"),
        (
            "train = [",
            "validation = [{ from = \"2016-03-26T00:14\" }]\ntrain = [",
            "areas of train and validation overlap",
        ),
        (
            "{ from = \"2016-03-26T00:00\",",
            "{ rows = [0, 3],",
            "every area has rows and columns",
        ),
        ("train = 1", "train = 2", "1 areas are too few"),
    ] {
        assert!(RECIPE.contains(from), "{from}");
        let text = RECIPE.replacen(from, to, 1);
        has(&error(&text, &files.terrain, &files.rain), &[reason]);
    }
}

/// `datasets/nimrod.toml` can be read, its boxes fit its grid, and its events have rain of their own.
#[test]
fn the_nimrod_recipe_fits_together() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/nimrod.toml");
    let files = ["radar", "calder", "aire"]
        .map(|name| (name.to_owned(), file.clone()))
        .into();
    let recipe = BoundRecipe::read(&path, &files).unwrap().recipe;
    let events = recipe.events().unwrap();
    for (i, event) in events.iter().enumerate() {
        assert!(event.window.is_none() && event.after_s.is_some() && event.until_s.is_some());
        for other in &events[..i] {
            let apart = event.until_s <= other.after_s || other.until_s <= event.after_s;
            assert!(apart || event.terrain != other.terrain);
            assert!(apart || event.split.name().starts_with("test"));
        }
    }
}
