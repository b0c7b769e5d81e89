//! Radar sources: every format, read and written. Tests on real data need the variable `PLUVIAL_SHARED`.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use ndarray::{Array2, array};
use pluvial_data::radar::nimrod::{self, Field};
use pluvial_data::radar::time::compact_time;
use pluvial_data::radar::{
    EventConfig, Events, FrameFormat, FrameWriter, LongGap, MissingCells, OnBadFile, OpenOptions,
    Orientation, RadarFrame, RainSource, Region, open,
};
use pluvial_data::raster::{esri_ascii, geotiff};
use pluvial_data::{GeoGrid, Result};

/// 2016-03-26 00:00 (`date -u -d 2016-03-26 +%s`).
const MIDNIGHT: i64 = 1_458_950_400;

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

/// All frames of a source.
fn frames(path: &Path, options: &OpenOptions) -> Result<Vec<RadarFrame>> {
    let mut source = open(path, options)?;
    let mut frames = Vec::new();
    while let Some(frame) = source.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

fn read(path: &Path) -> Vec<RadarFrame> {
    frames(path, &OpenOptions::default()).unwrap()
}

fn error_of(path: &Path, options: &OpenOptions) -> String {
    let error = frames(path, options).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

/// The bits of the cells, to compare NaN with NaN.
fn bits(grid: &GeoGrid) -> Array2<u32> {
    grid.data.mapv(f32::to_bits)
}

/// 4 × 3 cells of 1 km whose south-western corner is 209000, 89000; all rates are multiples of 1/32 mm/h, one cell is missing.
fn frame(minutes: i64) -> RadarFrame {
    let data = Array2::from_shape_fn((4, 3), |(i, j)| {
        (minutes as f32 + 10.0 * i as f32 + j as f32) / 32.0
    });
    let mut grid = GeoGrid::new(data, 209_000.0, 93_000.0, 1000.0);
    grid.data[[3, 0]] = f32::NAN;
    grid.crs = Some("EPSG:27700".into());
    RadarFrame {
        end_s: Some(MIDNIGHT + 60 * minutes),
        duration_s: None,
        rain_mm_per_h: grid,
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A frame as the bytes of a Nimrod file.
fn nimrod_bytes(frame: &RadarFrame) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.dat");
    nimrod::write(&path, frame).unwrap();
    std::fs::read(path).unwrap()
}

fn nimrod_name(minutes: i64) -> String {
    let time = compact_time(MIDNIGHT + 60 * minutes);
    format!("metoffice-c-band-rain-radar_uk_{time}_1km-composite.dat.gz")
}

/// A tar archive of entries in the given order.
fn tar(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A day's archive with frames at these minutes, in this order.
fn day(minutes: &[i64]) -> Vec<u8> {
    let entries: Vec<_> = minutes
        .iter()
        .map(|&m| (nimrod_name(m), gzip(&nimrod_bytes(&frame(m)))))
        .collect();
    tar(&entries)
}

fn assert_same(found: &[RadarFrame], minutes: &[i64]) {
    let times: Vec<_> = found
        .iter()
        .map(|f| (f.end_s.unwrap() - MIDNIGHT) / 60)
        .collect();
    assert_eq!(times, minutes);
    for (found, &minutes) in found.iter().zip(minutes) {
        let expected = frame(minutes);
        assert_eq!(bits(&found.rain_mm_per_h), bits(&expected.rain_mm_per_h));
        assert_eq!(
            found.rain_mm_per_h.place(),
            expected.rain_mm_per_h.place(),
            "{minutes}"
        );
    }
}

/// `golden/nimrod/expected.py` printed the figures.
#[test]
fn the_met_offices_samples() {
    // 07:00 and 05:00 on 2020-01-28 (`date -u -d … +%s`).
    let (seven, five) = (1_580_194_800, 1_580_187_600);
    type Case<'a> = (&'a str, i64, Option<f64>, Array2<f32>);
    let cases: [Case; 3] = [
        // The field of 15 minutes comes before that of 60: mm in a quarter of an hour are four times as many mm/h.
        (
            "u1096_ng_bmr04_precip_2km",
            seven,
            Some(900.0),
            array![
                [0.28125, 0.3125, 0.375],
                [0.1875, 0.21875, 0.34375],
                [0.0625, 0.125, 0.1875]
            ] * 4.0,
        ),
        (
            "u1096_ng_bsr05_precip_accum60_2km",
            seven,
            Some(3600.0),
            array![
                [0.0625, 0.0625, 0.03125],
                [0.0625, 0.09375, 0.09375],
                [0.03125, 0.09375, 0.09375]
            ],
        ),
        // Instantaneous rate; minimum and maximum of the last hour are in the file too.
        (
            "u1096_ng_ek00_precip_2km",
            five,
            None,
            array![[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]],
        ),
    ];
    for (name, end_s, duration_s, values) in cases {
        let Some(path) = shared(&format!("nimrod/{name}")) else {
            return;
        };
        let found = read(&path);
        assert_eq!(found.len(), 1, "{name}");
        let grid = &found[0].rain_mm_per_h;
        assert_eq!(
            (found[0].end_s, found[0].duration_s),
            (Some(end_s), duration_s)
        );
        assert_eq!(grid.data, values, "{name}");
        // Cell centres at 102000 … 106000 and 98000 … 94000.
        assert_eq!((grid.west, grid.east()), (101_000.0, 107_000.0));
        assert_eq!((grid.south(), grid.north), (93_000.0, 99_000.0));
        assert_eq!(grid.crs.as_deref(), Some("EPSG:27700"));
    }

    // Every field of a file, as it is stored, and its header.
    let Some(path) = shared("nimrod/u1096_ng_bmr04_precip_2km") else {
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let first = Field::read(&mut rest).unwrap().unwrap();
    let second = Field::read(&mut rest).unwrap().unwrap();
    assert_eq!(Field::read(&mut rest).unwrap(), None);
    let hour = array![[28.0, 26.0, 24.0], [19.0, 19.0, 21.0], [15.0, 15.0, 14.0]];
    assert_eq!(second.values, hour);
    assert_eq!(
        (first.header.period_s(), second.header.period_s()),
        (Some(900.0), Some(3600.0))
    );
    let header = &first.header;
    assert_eq!(header.validity_time(), Some(seven));
    assert_eq!(header.data_time(), Some(five));
    assert_eq!(
        [&header.units[..], &header.source, &header.title],
        ["mm*32", "STEPS", "precip accumulation"]
    );
    let element = |number: usize| {
        let elements = header.elements();
        let found = elements.iter().find(|e| e.0 == number).unwrap();
        format!("{}: {}", found.1, found.2)
    };
    assert_eq!(element(4), "validity hour: 7");
    assert_eq!(element(29), "ensemble member: 4");
    assert_eq!(element(31), "averaging or processing: 128");
    assert_eq!(element(44), "longitude of the true origin: -2");
    assert_eq!(element(105), "units: mm*32");
    assert_eq!(element(143), "data-specific integer: 0");
    assert_eq!(nimrod::Header::decode(&header.encode()), *header);
}

/// A file built byte by byte from the specification: elements 1–31 at bytes 1–62, 32–59 at 63–174, 60–104 at 175–354, text at
/// 355–410, 108–158 at 411–512.
struct Bytes(Vec<u8>);

impl Bytes {
    /// All elements unset.
    fn new() -> Self {
        let mut bytes = Self(vec![b' '; 512]);
        for element in (1..=31).chain(108..=158) {
            bytes.integer(element, -32_767);
        }
        for element in 32..=104 {
            bytes.real(element, -32_767.0);
        }
        bytes
    }

    fn integer(&mut self, element: usize, value: i16) {
        let at = if element < 32 {
            2 * (element - 1)
        } else {
            410 + 2 * (element - 108)
        };
        self.0[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    fn real(&mut self, element: usize, value: f32) {
        let at = if element < 60 {
            62 + 4 * (element - 32)
        } else {
            174 + 4 * (element - 60)
        };
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    fn text(&mut self, byte: usize, text: &str) {
        self.0[byte - 1..byte - 1 + text.len()].copy_from_slice(text.as_bytes());
    }

    /// The file: both records between their lengths.
    fn file(&self, data: &[u8]) -> Vec<u8> {
        let length = (data.len() as u32).to_be_bytes();
        let header = [0, 0, 2, 0];
        [&header[..], &self.0, &header, &length, data, &length].concat()
    }
}

/// The header of a composite of 2 × 3 cells of 1 km as the archive has them, at 2016-03-26 00:05.
fn composite() -> Bytes {
    let mut bytes = Bytes::new();
    for (i, value) in [2016, 3, 26, 0, 5, 0, 2016, 3, 26, 0, 5]
        .into_iter()
        .enumerate()
    {
        bytes.integer(1 + i, value);
    }
    for (element, value) in [
        (12, 1),
        (13, 2),
        (14, 0),
        (15, 0),
        (16, 2),
        (17, 3),
        (18, 2),
        (19, 213),
        (20, 0),
        (22, 8),
        (23, 0),
        (24, 0),
        (25, -1),
    ] {
        bytes.integer(element, value);
    }
    for (element, value) in [
        (34, 1_549_500.0),
        (35, 1000.0),
        (36, -404_500.0),
        (37, 1000.0),
        (38, -1.0),
        (40, 0.0),
    ] {
        bytes.real(element, value);
    }
    // Corners, northing and easting of: top left, top right, bottom right, bottom left.
    let corners = [
        (1_550_000.0, -405_000.0),
        (1_550_000.0, -402_000.0),
        (1_548_000.0, -402_000.0),
        (1_548_000.0, -405_000.0),
    ];
    for (i, (north, east)) in corners.into_iter().enumerate() {
        bytes.real(60 + 2 * i, north);
        bytes.real(61 + 2 * i, east);
    }
    bytes.text(355, "mm/h*32");
    bytes.text(363, "pluvial");
    bytes.text(387, "Rain rate");
    bytes
}

fn big_endian(values: &[i16]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_be_bytes()).collect()
}

#[test]
fn a_nimrod_file_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a composite.dat");
    let file = composite().file(&big_endian(&[0, 32, 33, -1, 4096, 1]));
    std::fs::write(&path, &file).unwrap();
    let found = read(&path);
    let grid = &found[0].rain_mm_per_h;
    assert_eq!(found[0].end_s, Some(MIDNIGHT + 300));
    let nan = f32::NAN;
    let mut expected = GeoGrid::new(
        array![[0.0, 1.0, 1.031_25], [nan, 128.0, 0.031_25]],
        -405_000.0,
        1_550_000.0,
        1000.0,
    );
    expected.crs = Some("EPSG:27700".into());
    assert_eq!(bits(grid), bits(&expected));
    assert_eq!(grid.place(), expected.place());

    let written = folder.path().join("written.dat");
    nimrod::write(&written, &found[0]).unwrap();
    assert_eq!(std::fs::read(&written).unwrap(), file);
    let zipped = folder.path().join("written.dat.gz");
    nimrod::write(&zipped, &found[0]).unwrap();
    assert_eq!(bits(&read(&zipped)[0].rain_mm_per_h), bits(grid));
}

#[test]
fn origins_types_and_missing_codes_of_nimrod() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.dat");
    let read_file = |bytes: &Bytes, data: &[u8]| {
        std::fs::write(&path, bytes.file(data)).unwrap();
        read(&path).remove(0).rain_mm_per_h
    };
    let plain = [32, 64, 96, 128, 160, 192];
    let north_up = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    // The origin's cell, element 34 and 36, is the first value's.
    for (origin, y, x, stored) in [
        (0, 1_549_500.0, -404_500.0, plain),
        (1, 1_548_500.0, -404_500.0, [128, 160, 192, 32, 64, 96]),
        (2, 1_549_500.0, -402_500.0, [96, 64, 32, 192, 160, 128]),
        (3, 1_548_500.0, -402_500.0, [192, 160, 128, 96, 64, 32]),
    ] {
        let mut bytes = composite();
        bytes.integer(24, origin);
        bytes.real(34, y);
        bytes.real(36, x);
        let grid = read_file(&bytes, &big_endian(&stored));
        assert_eq!(grid.data, north_up, "origin {origin}");
        assert_eq!((grid.west, grid.north), (-405_000.0, 1_550_000.0));
    }

    let mut bytes = composite();
    // Corners at the centres of the outer cells, as some headers have them, and none at all.
    for (element, value) in [
        (60, 1_549_500.0),
        (61, -404_500.0),
        (64, 1_548_500.0),
        (65, -402_500.0),
    ] {
        bytes.real(element, value);
    }
    assert_eq!(read_file(&bytes, &big_endian(&plain)).west, -405_000.0);
    for element in 60..68 {
        bytes.real(element, -32_767.0);
    }
    assert_eq!(read_file(&bytes, &big_endian(&plain)).west, -405_000.0);

    bytes.integer(25, 99);
    bytes.integer(12, 2);
    bytes.integer(13, 1);
    let grid = read_file(&bytes, &[0, 1, 99, 100, 200, 255]);
    let expected = array![0.0, 1.0, 100.0, 200.0, 255.0] / 32.0;
    assert!(grid.data[[0, 2]].is_nan());
    let rest: Vec<_> = grid.data.iter().copied().filter(|v| !v.is_nan()).collect();
    assert_eq!(rest, expected.to_vec());

    bytes.integer(12, 1);
    bytes.integer(13, 4);
    let data: Vec<u8> = [0_i32, 32, -32, 99, 640_000, 64]
        .iter()
        .flat_map(|v| v.to_be_bytes())
        .collect();
    let grid = read_file(&bytes, &data);
    assert_eq!((grid.data[[0, 1]], grid.data[[1, 1]]), (1.0, 20_000.0));
    assert!(grid.data[[0, 2]].is_nan() && grid.data[[1, 0]].is_nan());

    bytes.integer(12, 0);
    bytes.text(355, "mm/hr   ");
    bytes.real(38, 7.5);
    let data: Vec<u8> = [0.0_f32, 0.25, 7.5, -1.0, f32::NAN, 12.5]
        .iter()
        .flat_map(|v| v.to_be_bytes())
        .collect();
    let grid = read_file(&bytes, &data);
    assert_eq!(
        [grid.data[[0, 0]], grid.data[[0, 1]], grid.data[[1, 2]]],
        [0.0, 0.25, 12.5]
    );
    assert_eq!(grid.data.iter().filter(|v| v.is_nan()).count(), 3);

    // Other projections keep their names, so that they never pass for the National Grid.
    for (kind, crs) in [(1, "geographic"), (3, "polar stereographic")] {
        let mut other = composite();
        other.integer(15, kind);
        let grid = read_file(&other, &big_endian(&plain));
        assert_eq!(grid.crs.as_deref(), Some(crs));
        let mut place = grid.place();
        place.crs = Some("EPSG:27700".into());
        let error = grid.resample_to(&place).unwrap_err().to_string();
        assert!(error.contains("different coordinate systems") && error.contains(crs));
    }

    // An accumulation over 150 seconds, which the last element tells.
    bytes.integer(19, 214);
    bytes.text(355, "mm      ");
    bytes.integer(26, 32_767);
    bytes.integer(158, 150);
    let grid = read_file(&bytes, &data);
    assert_eq!([grid.data[[0, 1]], grid.data[[1, 2]]], [6.0, 300.0]);
}

#[test]
fn what_is_no_rain_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a field.dat");
    let data = big_endian(&[0; 6]);
    let good = composite().file(&data);
    let options = OpenOptions::default();
    let says = |file: &[u8], reason: &str| {
        std::fs::write(&path, file).unwrap();
        let error = error_of(&path, &options);
        assert!(
            error.contains("a field.dat': ") && error.contains(reason),
            "{reason}: {error}"
        );
    };
    for length in [5, 100, 515, 519, 523, 530, good.len() - 1] {
        says(&good[..length], "ends within a field");
    }
    let mut wrong = good.clone();
    wrong[518] = 9;
    says(&wrong, "does not end after 512 bytes");
    let mut wrong = good.clone();
    wrong[523] = 13;
    says(&wrong, "data of 13 bytes, 2 × 3 values of 2 bytes need 12");
    let mut wrong = good.clone();
    *wrong.last_mut().unwrap() = 13;
    says(&wrong, "do not end where they should");
    says(&[&good[..], b"rubbish"].concat(), "no Nimrod header where");
    says(&[&good[..], &good].concat(), "two fields of rain");

    let changed = |element: usize, value: i16, reason: &str| {
        let mut bytes = composite();
        bytes.integer(element, value);
        says(&bytes.file(&data), reason);
    };
    changed(2, 13, "is no time");
    changed(16, -2, "a header with -2 rows and 3 columns");
    changed(16, 32_000, "data of 12 bytes");
    changed(13, 3, "data type 1 with 3 bytes per value");
    changed(15, 9, "horizontal grid type 9");
    changed(19, 33, "none of its 1 fields is rain");
    changed(31, 8192, "none of its 1 fields is rain");
    changed(19, 214, "neither a rain rate nor an accumulation");
    changed(24, 7, "origin of the data is 7");
    for (element, value, reason) in [
        (35, 0.0, "cells of 1000 × 0"),
        (36, -400_000.0, "its corners"),
        (40, 2.0, "a data offset of 2"),
    ] {
        let mut bytes = composite();
        bytes.real(element, value);
        says(&bytes.file(&data), reason);
    }
    let mut bytes = composite();
    bytes.text(355, "K*32   ");
    says(&bytes.file(&data), "units 'K*32' are none of rain");
}

#[test]
fn what_nimrod_cannot_hold_is_refused() {
    let path = Path::new("/nonexistent/a.dat");
    let mut too_high = frame(0);
    too_high.rain_mm_per_h.data[[1, 1]] = 1024.0;
    let mut elsewhere = frame(0);
    elsewhere.rain_mm_per_h.crs = Some("EPSG:28992".into());
    let mut nowhere = frame(0);
    nowhere.rain_mm_per_h = GeoGrid::new(Array2::zeros((2, 3)), 0.0, 2.0, 1.0);
    let mut never = frame(0);
    never.end_s = None;
    for (frame, reason) in [
        (too_high, "1024 mm/h"),
        (elsewhere, "EPSG:28992, not on the British National Grid"),
        (nowhere, "no position"),
        (never, "no time"),
    ] {
        let error = nimrod::write(path, &frame).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn folders_and_archives_come_in_time_order() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let name = |suffix: &str| format!("all/metoffice_uk_20160326_1km-composite.dat.gz.tar{suffix}");
    // Out of order, and beside data of other kinds.
    let archive = day(&[10, 0, 5, 25]);
    let tar_path = write(&name(""), &archive);
    assert_same(&read(&tar_path), &[0, 5, 10, 25]);
    let zipped = write("zipped/20160326.tar.gz", &gzip(&archive));
    assert_same(&read(&zipped), &[0, 5, 10, 25]);

    write("all/README.txt", b"about these files");
    write("all/.hidden", b"?");
    // The next day, compressed, in a subfolder; the day after in single files, one without a time in its name.
    write(
        "all/2016/uk_20160327_composite.tar.gz",
        &gzip(&day(&[1445, 1440])),
    );
    write(
        "all/2016/03/201603280005.dat",
        &nimrod_bytes(&frame(2 * 1440 + 5)),
    );
    write(
        "all/a first of March",
        &gzip(&nimrod_bytes(&frame(2 * 1440))),
    );
    let all = [0, 5, 10, 25, 1440, 1445, 2880, 2885];
    assert_same(&read(&root.path().join("all")), &all);

    // Part of it: after 00:05 on the first day, until 00:00 on the third.
    let options = OpenOptions {
        after_s: Some(MIDNIGHT + 300),
        until_s: Some(MIDNIGHT + 2 * 86_400),
        ..OpenOptions::default()
    };
    let part = frames(&root.path().join("all"), &options).unwrap();
    assert_same(&part, &all[2..7]);

    // An archive whose entries' names tell no time: their headers do.
    let entries: Vec<_> = [5, 0]
        .map(|m| (format!("{}.dat", m + 3), nimrod_bytes(&frame(m))))
        .into();
    let unnamed = write("unnamed.tar", &tar(&entries));
    assert_same(&read(&unnamed), &[0, 5]);

    // The same frame twice.
    write("all/copy_201603260010.dat", &nimrod_bytes(&frame(10)));
    let error = error_of(&root.path().join("all"), &OpenOptions::default());
    assert!(
        error.contains("2016-03-26T00:10:00Z comes after that of 2016-03-26T00:25:00Z"),
        "{error}"
    );
}

#[test]
fn damaged_files_stop_or_are_counted() {
    let root = tempfile::tempdir().unwrap();
    let good = |m: i64| (nimrod_name(m), gzip(&nimrod_bytes(&frame(m))));
    let (name, mut cut) = good(5);
    cut.truncate(cut.len() / 2);
    let rubbish = (nimrod_name(15), b"<html>not found</html>".to_vec());
    let archive = tar(&[good(0), (name, cut), good(10), rubbish, good(20)]);
    let path = root.path().join("uk_20160326.tar");
    std::fs::write(&path, &archive).unwrap();
    // An archive that is cut off, and a file that is empty.
    let next = day(&[1440, 1445]);
    std::fs::write(
        root.path().join("uk_20160327.tar"),
        &next[..next.len() - 1600],
    )
    .unwrap();
    std::fs::write(root.path().join("201603280000.dat"), b"").unwrap();

    let error = error_of(&path, &OpenOptions::default());
    assert!(
        error.contains("uk_20160326.tar/metoffice-c-band-rain-radar_uk_201603260005_1km"),
        "{error}"
    );
    let options = OpenOptions {
        on_bad_file: OnBadFile::Skip,
        ..OpenOptions::default()
    };
    let mut source = open(root.path(), &options).unwrap();
    let mut found = Vec::new();
    while let Some(frame) = source.next_frame().unwrap() {
        found.push(frame);
    }
    assert_same(&found[..3], &[0, 10, 20]);
    assert!(source.skipped_files() >= 4, "{}", source.skipped_files());
}

#[test]
fn rasters_of_a_folder_get_their_times_from_their_names() {
    let root = tempfile::tempdir().unwrap();
    for minutes in [10, 5, 0] {
        let grid = frame(minutes).rain_mm_per_h;
        let time = compact_time(MIDNIGHT + 60 * minutes);
        geotiff::write(&root.path().join(format!("rain_{time}.tif")), &grid).unwrap();
    }
    assert_same(&read(root.path()), &[0, 5, 10]);
    // ESRI ASCII does not know of the CRS.
    let mut grid = frame(15).rain_mm_per_h;
    grid.data[[3, 0]] = -4.0;
    esri_ascii::write(&root.path().join("rain_2016-03-26T00-15.asc.gz"), &grid).unwrap();
    let found = read(root.path());
    assert_eq!(
        bits(&found[3].rain_mm_per_h),
        bits(&frame(15).rain_mm_per_h)
    );
    assert_eq!(found[3].rain_mm_per_h.crs, None);

    geotiff::write(&root.path().join("rain.tif"), &grid).unwrap();
    let error = error_of(root.path(), &OpenOptions::default());
    assert!(
        error.contains("rain.tif': neither its name (YYYYMMDDhhmm) nor a header"),
        "{error}"
    );
}

#[test]
fn rain_tables_fill_their_zones() {
    let root = tempfile::tempdir().unwrap();
    let table = root.path().join("rain.txt");
    std::fs::write(&table, "0.5 1 2\n\n 4 5 -9999\r\n").unwrap();
    let hydroindex = root.path().join("hydroindex.asc");
    std::fs::write(
        &hydroindex,
        "ncols 2\nnrows 3\nxllcorner 209000\nyllcorner 89000\ncellsize 50\nNODATA_value -9999\n\
         1 1\n2 3\n0 -9999\n",
    )
    .unwrap();
    let options = OpenOptions {
        hydroindex: Some(hydroindex.clone()),
        ..OpenOptions::default()
    };
    let found = frames(&table, &options).unwrap();
    let nan = f32::NAN;
    let expected = [
        array![[0.5, 0.5], [1.0, 2.0], [nan, nan]],
        array![[4.0, 4.0], [5.0, nan], [nan, nan]],
    ];
    assert_eq!(found.len(), 2);
    for (frame, expected) in found.iter().zip(expected) {
        let expected = GeoGrid::new(expected, 209_000.0, 89_150.0, 50.0);
        assert_eq!(bits(&frame.rain_mm_per_h), bits(&expected));
        assert_eq!(frame.rain_mm_per_h.place(), expected.place());
        assert_eq!(frame.end_s, None);
    }
    // A start gives them times.
    let timed = OpenOptions {
        start: Some((MIDNIGHT, 300.0)),
        until_s: Some(MIDNIGHT + 300),
        ..options.clone()
    };
    let found = frames(&table, &timed).unwrap();
    assert_eq!(
        found.iter().map(|f| f.end_s).collect::<Vec<_>>(),
        [Some(MIDNIGHT + 300)]
    );

    for (text, reason) in [
        (
            "1 2 3\n4 5\n",
            "line 2: 2 zones where the lines before have 3",
        ),
        ("1 2 x\n", "line 1: 'x' is no rain rate"),
        ("1 2\n", "the hydroindex names zone 3"),
    ] {
        std::fs::write(&table, text).unwrap();
        let error = error_of(&table, &options);
        assert!(error.contains(reason), "{error}");
    }
    std::fs::write(&table, "1 2 3\n").unwrap();
    let error = error_of(&table, &OpenOptions::default());
    assert!(error.contains("the zones differ"), "{error}");
    let options = OpenOptions {
        timestamps: Some(hydroindex),
        ..OpenOptions::default()
    };
    let error = error_of(&table, &options);
    assert!(error.contains("timestamps is given"), "{error}");
}

/// The first zone's rain, uniform over the terrain; the total is Python's.
#[test]
fn the_storm_of_boscastle_falls_on_its_terrain() {
    let Some(table) = shared("boscastle/rain_72h_5min.txt.gz") else {
        return;
    };
    let terrain =
        pluvial_data::raster::open_raster(&shared("boscastle/dem_50m.asc").unwrap_or_default())
            .unwrap();
    let first_zone = OpenOptions {
        zone: Some(1),
        ..OpenOptions::default()
    };
    let config = EventConfig {
        region: Region::Place(terrain.place()),
        ..EventConfig::default()
    };
    let mut events = Events::new(open(&table, &first_zone).unwrap(), config).unwrap();
    assert_eq!(events.shape(), (60, 120));
    let (mut frames, mut total_mm) = (0, 0.0);
    while let Some(frame) = events.next_frame().unwrap() {
        frames += 1;
        let rate = frame.rain_mm_per_h[[59, 119]];
        assert_eq!(frame.rain_mm_per_h[[0, 0]], rate);
        total_mm += f64::from(rate) / 12.0;
    }
    assert_eq!(frames, 864);
    assert!((total_mm - 29.8).abs() < 1e-4, "{total_mm}");
}

#[test]
fn json_lines_are_turned_the_right_way() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("nimrod_ceda.jsonl.gz");
    // The map, north up.
    let map = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let rows = |data: [[i32; 2]; 3]| format!("{data:?}");
    // Turned clockwise the western column, read from the south, becomes the first row.
    let rotated = rows([[4, 1], [5, 2], [6, 3]]);
    let transposed = rows([[1, 4], [2, 5], [3, 6]]);
    let size = r#""size_full":{"width":20,"height":10},"bounds_full":{"top":1550000,"bottom":1530000,"left":-405000,"right":-395000,"top_left":{}},"bounds_extract_array":{"start":{"x":7,"y":4},"end":{"x":9,"y":7}}"#;
    let lines = |data: &str| {
        format!(
            "{{\"data\":{data},\"timestamp\":\"2016-03-26T00:05:00.000Z\",{size}}}\n\n\
             {{\"timestamps\":[null,\"2016-03-26T00:10:00.000Z\"],\"timestamp\":null,\"data\":{}}}\n",
            data.replacen('4', "null", 1)
        )
    };
    let north_up = "[[1,2,3],[4,5,6]]";
    for (data, orientation) in [
        (&rotated[..], Orientation::Rotated),
        (&transposed, Orientation::Transposed),
        (north_up, Orientation::NorthUp),
    ] {
        std::fs::write(&path, gzip(lines(data).as_bytes())).unwrap();
        let options = OpenOptions {
            orientation: Some(orientation),
            ..OpenOptions::default()
        };
        let found = frames(&path, &options).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].rain_mm_per_h.data, map, "{orientation:?}");
        // Rows 7 and 8, columns 4 to 6 of a map of 1 km cells.
        let place = found[0].rain_mm_per_h.place();
        assert_eq!(
            (place.west, place.north, place.cell_x),
            (-401_000.0, 1_543_000.0, 1000.0)
        );
        assert_eq!(place.crs.as_deref(), Some("EPSG:27700"));
        assert_eq!(found[0].end_s, Some(MIDNIGHT + 300));
        assert_eq!(found[1].end_s, Some(MIDNIGHT + 600));
        assert!(found[1].rain_mm_per_h.data[[1, 0]].is_nan());
        assert!(!found[1].rain_mm_per_h.is_placed());
    }
    let error = error_of(&path, &OpenOptions::default());
    assert!(
        error.contains("rotated") && error.contains("transposed"),
        "{error}"
    );
    let options = OpenOptions {
        orientation: Some(Orientation::Rotated),
        ..OpenOptions::default()
    };
    for (text, reason) in [
        ("{\"data\":[[1]]}", "line 1: neither timestamp nor"),
        (
            "{\"data\":[[1],[1,2]],\"timestamp\":\"2016-03-26T00:05:00Z\"}",
            "row 1 of data has 2 values",
        ),
        (
            "{\"data\":[],\"timestamp\":\"2016-03-26T00:05:00Z\"}",
            "data is empty",
        ),
        ("{\"data\":[[1]", "line 1: EOF"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = error_of(&path, &options);
        assert!(error.contains(reason), "{error}");
    }
}

/// A series with a gap that can be filled, one that cannot, and cells that are missing.
#[test]
fn an_archive_becomes_events() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("uk_20160326.tar");
    std::fs::write(&path, day(&[0, 5, 15, 60, 65])).unwrap();
    let config = EventConfig {
        missing: MissingCells::Dry,
        max_gap_min: 10.0,
        long_gap: LongGap::End,
        ..EventConfig::default()
    };
    let mut events = Events::new(open(&path, &OpenOptions::default()).unwrap(), config).unwrap();
    let mut lengths = Vec::new();
    loop {
        let start_s = events.start_s().unwrap() as i64;
        let mut cells = Vec::new();
        while let Some(frame) = events.next_frame().unwrap() {
            cells.push(frame.rain_mm_per_h[[0, 1]] * 32.0);
        }
        lengths.push(((start_s - MIDNIGHT) / 60, cells));
        if !events.next_event().unwrap() {
            break;
        }
    }
    let expected = [(-5, vec![1.0, 6.0, 11.0, 16.0]), (55, vec![61.0, 66.0])];
    assert_eq!(lengths, expected);
    let counts = events.counts();
    assert_eq!(
        (counts.frames, counts.filled_frames, counts.missing_cells),
        (6, 1, 5)
    );
}

/// Unknown content, and options that do not belong to the source.
#[test]
fn what_is_no_radar_data_is_named() {
    let root = tempfile::tempdir().unwrap();
    let error = error_of(root.path(), &OpenOptions::default());
    assert!(error.contains("the folder holds no files"), "{error}");
    let path = root.path().join("a picture");
    for bytes in [&b""[..], b"\x89PNG\r\n", b"<html>", b"hello"] {
        std::fs::write(&path, bytes).unwrap();
        let error = error_of(&path, &OpenOptions::default());
        assert!(error.contains("a picture'"), "{error}");
    }
    std::fs::write(&path, nimrod_bytes(&frame(0))).unwrap();
    let options = OpenOptions {
        orientation: Some(Orientation::Rotated),
        ..OpenOptions::default()
    };
    let error = error_of(&path, &options);
    assert!(error.contains("orientation is given"), "{error}");
}

/// Every format that can be written, read again; then one after the other and back to the first file's bytes.
#[test]
fn conversions_go_both_ways() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let minutes = [0, 5, 10];
    let write = |name: &str, format| {
        let mut writer = FrameWriter::create(&path(name), format).unwrap();
        for m in minutes {
            writer.write(&frame(m)).unwrap();
        }
        assert!(!path(name).exists());
        writer.finish().unwrap();
    };
    for (name, format) in [
        ("nimrod", FrameFormat::Nimrod),
        ("geotiff", FrameFormat::GeoTiff),
    ] {
        write(name, format);
        assert_same(&read(&path(name)), &minutes);
    }
    let times = OpenOptions {
        timestamps: Some(path("stream.times.txt")),
        ..OpenOptions::default()
    };
    for (name, format, options) in [
        ("ascii", FrameFormat::AsciiFiles, OpenOptions::default()),
        ("stream.asc.gz", FrameFormat::AsciiStream, times.clone()),
        ("stream.asc", FrameFormat::AsciiStream, times),
    ] {
        write(name, format);
        let mut found = frames(&path(name), &options).unwrap();
        for frame in &mut found {
            assert_eq!(frame.rain_mm_per_h.crs, None);
            frame.rain_mm_per_h.crs = Some("EPSG:27700".into());
        }
        assert_same(&found, &minutes);
    }

    // What is not finished leaves nothing, and what is there stays.
    drop(FrameWriter::create(&path("dropped"), FrameFormat::Nimrod).unwrap());
    let mut failing = FrameWriter::create(&path("failing"), FrameFormat::Nimrod).unwrap();
    let mut never = frame(0);
    never.end_s = None;
    let error = failing.write(&never).unwrap_err().to_string();
    assert!(error.contains("give a start"), "{error}");
    drop(failing);
    assert!(FrameWriter::create(&path("nimrod"), FrameFormat::GeoTiff).is_err());
    let mut names: Vec<_> = std::fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "ascii",
            "geotiff",
            "nimrod",
            "stream.asc",
            "stream.asc.gz",
            "stream.times.txt"
        ]
    );
}

/// The command, on real files of its own: an archive → a stream → GeoTIFFs → Nimrod files with the bytes of the archive.
#[test]
fn the_rain_command_converts_and_tells() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_dataset"))
            .arg("rain")
            .args(arguments)
            .current_dir(root.path())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        match output.status.success() {
            true => Ok(text(output.stdout)),
            false => Err(text(output.stderr)),
        }
    };
    std::fs::write(path("uk_20160326.tar"), day(&[10, 0, 5])).unwrap();
    run(&["uk_20160326.tar", "--out", "a stream.asc.gz"]).unwrap();
    let times = std::fs::read_to_string(path("a stream.times.txt")).unwrap();
    assert_eq!(times, "201603260000\n201603260005\n201603260010\n");
    run(&[
        "a stream.asc.gz",
        "--timestamps",
        "a stream.times.txt",
        "--out",
        "tiffs",
        "--format",
        "geotiff",
    ])
    .unwrap();
    run(&["tiffs", "--out", "nimrod", "--format", "nimrod"]).unwrap();
    assert_same(&read(&path("nimrod")), &[0, 5, 10]);

    // Cut and made coarser; the missing cell in the south-western corner is left out.
    let said = run(&[
        "uk_20160326.tar",
        "--crop",
        "210000,89000,212000,93000",
        "--cell-size",
        "2000",
        "--out",
        "cut.asc",
        "--max-rate",
        "1",
        "--json",
    ])
    .unwrap();
    let summary: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(summary["frames"], 3);
    assert_eq!(summary["first"], "2016-03-26T00:00:00Z");
    assert_eq!(summary["intervals_s"]["300"], 2);
    assert_eq!(summary["missing_share"], 0.0);
    assert_eq!(summary["grids"][0]["place"]["west"], 210_000.0);
    let first = &read(&path("cut.asc"))[0].rain_mm_per_h;
    // Rows 0 and 1, columns 1 and 2 of frame 0 hold 1, 2, 11 and 12 in 1/32 mm/h; rows 2 and 3: 21, 22, 31, 32.
    assert_eq!(first.data, array![[6.5 / 32.0], [26.5 / 32.0]]);
    // The southern mean is 26.5, 31.5 and 36.5 in the three frames; 32 is 1 mm/h.
    assert_eq!(summary["clipped_cells"], 1);

    let header = run(&["nimrod/201603260005_rain.dat.gz", "--header"]).unwrap();
    assert!(header.contains("  105  units: mm/h*32"), "{header}");
    let error = run(&["tiffs", "--crop", "0,0,1,1"]).unwrap_err();
    assert!(
        error.contains("west to east 0 … 1") && error.contains("west to east 209000 … 212000"),
        "{error}"
    );
    assert!(
        run(&["tiffs", "--out", "x"])
            .unwrap_err()
            .contains("--format")
    );
    assert!(!path("x").exists());
}
