//! Frames into files: a folder of Nimrod files, GeoTIFFs or ESRI ASCII grids, or one stream of ESRI ASCII grids.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::time::compact_time;
use super::{RadarFrame, nimrod};
use crate::atomic::AtomicFile;
use crate::error::{DataError, Result};
use crate::raster::{esri_ascii, geotiff};

/// What [`FrameWriter`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFormat {
    /// A folder of Nimrod files, `YYYYMMDDhhmm_rain.dat.gz`. Rates are rounded to 1/32 mm/h.
    Nimrod,
    /// A folder of GeoTIFFs, `YYYYMMDDhhmm_rain.tif`.
    GeoTiff,
    /// A folder of ESRI ASCII grids, `YYYYMMDDhhmm_rain.asc.gz`.
    AsciiFiles,
    /// One stream of ESRI ASCII grids, compressed where its name ends in `.gz`, and beside it `NAME.times.txt` with a line a frame
    /// (`NAME` without `.gz` and `.asc`), which is left out for frames without a time.
    AsciiStream,
}

/// Writes frames; nothing stands at its path before [`finish`](Self::finish), and nothing is left where that is not reached.
pub struct FrameWriter {
    path: PathBuf,
    format: FrameFormat,
    target: Target,
}

enum Target {
    Folder(TempDir),
    Stream {
        grids: Grids,
        times: BufWriter<AtomicFile>,
        /// Whether the frames have times; known from the first one on.
        timed: Option<bool>,
    },
}

enum Grids {
    Plain(BufWriter<AtomicFile>),
    Gzip(Box<GzEncoder<BufWriter<AtomicFile>>>),
}

impl FrameWriter {
    /// Begins a folder or a stream at `path`.
    ///
    /// # Errors
    /// [`DataError`] where a folder stands there that is not empty, or nothing can be written.
    pub fn create(path: &Path, format: FrameFormat) -> Result<Self> {
        let target = match format {
            FrameFormat::AsciiStream => {
                let out = BufWriter::new(AtomicFile::create(path)?);
                let compress = path
                    .extension()
                    .is_some_and(|e| e.eq_ignore_ascii_case("gz"));
                Target::Stream {
                    grids: if compress {
                        Grids::Gzip(Box::new(GzEncoder::new(out, Compression::default())))
                    } else {
                        Grids::Plain(out)
                    },
                    times: BufWriter::new(AtomicFile::create(times_path(path))?),
                    timed: None,
                }
            }
            _ => {
                let failed = |e| DataError::io("create", path, e);
                if path.exists() && fs::read_dir(path).map_err(failed)?.next().is_some() {
                    return Err(DataError::format(path, "the folder is not empty"));
                }
                let parent = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty())
                    .unwrap_or(Path::new("."));
                let mut builder = tempfile::Builder::new();
                builder.prefix(".").suffix(".tmp");
                // Temporary folders are private by default; this one becomes an ordinary folder (the umask still applies).
                #[cfg(unix)]
                builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
                Target::Folder(builder.tempdir_in(parent).map_err(failed)?)
            }
        };
        Ok(Self {
            path: path.to_owned(),
            format,
            target,
        })
    }

    /// Writes the next frame.
    ///
    /// # Errors
    /// [`DataError`] where the format cannot hold the frame, a file of a folder would have no time for a name, or the disk refuses.
    pub fn write(&mut self, frame: &RadarFrame) -> Result<()> {
        let grid = &frame.rain_mm_per_h;
        match &mut self.target {
            Target::Folder(folder) => {
                let Some(end_s) = frame.end_s else {
                    return Err(DataError::format(
                        &self.path,
                        "a frame without a time has no name: give a start",
                    ));
                };
                let path = |suffix: &str| {
                    folder
                        .path()
                        .join(format!("{}_rain{suffix}", compact_time(end_s)))
                };
                match self.format {
                    FrameFormat::Nimrod => nimrod::write(&path(".dat.gz"), frame),
                    FrameFormat::GeoTiff => geotiff::write(&path(".tif"), grid),
                    _ => esri_ascii::write(&path(".asc.gz"), grid),
                }
            }
            Target::Stream {
                grids,
                times,
                timed,
            } => {
                if *timed.get_or_insert(frame.end_s.is_some()) != frame.end_s.is_some() {
                    return Err(DataError::format(
                        &self.path,
                        "only some of the frames have a time",
                    ));
                }
                match grids {
                    Grids::Plain(out) => esri_ascii::write_grid(out, grid),
                    Grids::Gzip(out) => esri_ascii::write_grid(out.as_mut(), grid),
                }
                .and_then(|()| match frame.end_s {
                    Some(end_s) => writeln!(times, "{}", compact_time(end_s)),
                    None => Ok(()),
                })
                .map_err(|e| DataError::io("write", &self.path, e))
            }
        }
    }

    /// Puts the folder or the stream in its place.
    ///
    /// # Errors
    /// [`DataError`] where the disk refuses.
    pub fn finish(self) -> Result<()> {
        let path = &self.path;
        let failed = |e: io::Error| DataError::io("write", path, e);
        match self.target {
            Target::Folder(folder) => {
                if path.exists() {
                    fs::remove_dir(path).map_err(|e| DataError::io("replace", path, e))?;
                }
                fs::rename(folder.path(), path)
                    .map_err(|e| DataError::io("rename into place", path, e))?;
                // Nothing is left under the old name to remove.
                let _ = folder.keep();
                Ok(())
            }
            Target::Stream {
                grids,
                times,
                timed,
            } => {
                let out = match grids {
                    Grids::Plain(out) => out,
                    Grids::Gzip(out) => out.finish().map_err(failed)?,
                };
                let committed = |out: BufWriter<AtomicFile>| {
                    out.into_inner()
                        .map_err(|e| failed(e.into_error()))?
                        .commit()
                };
                if timed == Some(true) {
                    committed(times)?;
                }
                committed(out)
            }
        }
    }
}

/// `rain.asc.gz` → `rain.times.txt`.
pub fn times_path(stream: &Path) -> PathBuf {
    let name = stream.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let name = name.strip_suffix(".asc").unwrap_or(name);
    stream.with_file_name(format!("{name}.times.txt"))
}
