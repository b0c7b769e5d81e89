//! Frames out of files: one, a folder of them, or tar archives of them, in time order.
//!
//! Files are Nimrod (`.dat`, `.dat.gz`), tar archives of these (`.tar`, `.tar.gz`), and rasters in mm/h, one a frame (GeoTIFF,
//! ESRI ASCII). What a file is, its content says; its time its name, and where that tells none, its header. Memory holds the
//! list of files, the list of entries of one archive and one file's content.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::nimrod::{Field, Fields};
use super::time::{format_time, time_in_name};
use super::{OnBadFile, RadarFrame, RadarSource};
use crate::error::{DataError, Result};
use crate::file;
use crate::raster;

/// What a Nimrod file begins with: the length of its header.
const NIMROD: [u8; 4] = [0, 0, 2, 0];
/// Files that people keep beside data.
const NO_DATA: [&str; 10] = [
    "txt", "md", "html", "htm", "xml", "json", "md5", "pdf", "prj", "csv",
];

/// Frames of files as a [`RadarSource`].
pub struct Files {
    root: PathBuf,
    queue: std::vec::IntoIter<Item>,
    archive: Option<Archive>,
    fields: Option<(PathBuf, Fields<Box<dyn BufRead + Send>>)>,
    /// Only frames that end after the first and not after the second time.
    between: (i64, i64),
    on_bad_file: OnBadFile,
    skipped: u64,
    /// End of the newest frame.
    last_s: Option<i64>,
}

/// A file and the times of the frames in it: seconds since 1970, and how many seconds they may be later.
struct Item {
    time_s: i64,
    open_s: i64,
    path: PathBuf,
}

/// A tar archive: its file, and where its entries are, in time order.
struct Archive {
    path: PathBuf,
    file: File,
    entries: std::vec::IntoIter<Entry>,
}

struct Entry {
    time_s: i64,
    open_s: i64,
    name: PathBuf,
    offset: u64,
    size: u64,
}

/// What the content of a file is.
enum Content {
    Fields(Box<Fields<Box<dyn BufRead + Send>>>),
    Archive(Archive),
    Frame(Box<RadarFrame>),
}

/// Whether [`Files`] can read what begins like this.
pub(super) fn is_known(head: &[u8]) -> bool {
    head.starts_with(&NIMROD) || is_tar(head) || raster::geotiff::is_tiff(head)
}

fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

impl Files {
    /// Lists the files of a folder and its subfolders, or takes the one file.
    ///
    /// # Errors
    /// [`DataError`] where the folder cannot be read, holds no file, or the time of a file is not to be found.
    pub fn open(path: &Path, between: (i64, i64), on_bad_file: OnBadFile) -> Result<Self> {
        let mut files = Self {
            root: path.to_owned(),
            queue: Vec::new().into_iter(),
            archive: None,
            fields: None,
            between,
            on_bad_file,
            skipped: 0,
            last_s: None,
        };
        let mut paths = Vec::new();
        if path.is_dir() {
            list(path, &mut paths)?;
        } else {
            paths.push(path.to_owned());
        }
        if paths.is_empty() {
            return Err(DataError::format(path, "the folder holds no files"));
        }
        let mut items = Vec::with_capacity(paths.len());
        for path in paths {
            let named = path
                .file_name()
                .and_then(OsStr::to_str)
                .and_then(time_in_name);
            let time = match named {
                Some(time) => Ok(time),
                None => time_inside(&path),
            };
            match time {
                Ok((time_s, open_s)) if files.wants(time_s, open_s) => items.push(Item {
                    time_s,
                    open_s,
                    path,
                }),
                Ok(_) => {}
                Err(error) => files.bad(error)?,
            }
        }
        items.sort_by(|a, b| (a.time_s, &a.path).cmp(&(b.time_s, &b.path)));
        files.queue = items.into_iter();
        Ok(files)
    }

    /// Whether frames that end at `time_s`, or up to `open_s` later, may be among those that are wanted.
    fn wants(&self, time_s: i64, open_s: i64) -> bool {
        time_s.saturating_add(open_s - 1) > self.between.0 && time_s <= self.between.1
    }

    /// Counts a damaged file, or stops for it.
    fn bad(&mut self, error: DataError) -> Result<()> {
        match self.on_bad_file {
            OnBadFile::Stop => Err(error),
            OnBadFile::Skip => {
                self.skipped += 1;
                Ok(())
            }
        }
    }

    /// The frame, if its time is wanted and comes after that of the one before.
    fn accept(&mut self, path: &Path, frame: RadarFrame) -> Result<Option<RadarFrame>> {
        let Some(end_s) = frame.end_s else {
            return Err(DataError::format(path, "a frame without a time"));
        };
        if end_s <= self.between.0 || end_s > self.between.1 {
            return Ok(None);
        }
        if let Some(last_s) = self.last_s.filter(|&last_s| end_s <= last_s) {
            let reason = format!(
                "its frame of {} comes after that of {}",
                format_time(end_s),
                format_time(last_s)
            );
            self.bad(DataError::format(path, reason))?;
            return Ok(None);
        }
        self.last_s = Some(end_s);
        Ok(Some(frame))
    }
}

impl RadarSource for Files {
    fn next_frame(&mut self) -> Result<Option<RadarFrame>> {
        loop {
            if let Some((path, mut fields)) = self.fields.take() {
                match fields.next_frame() {
                    Ok(None) => {}
                    Ok(Some(frame)) => {
                        let accepted = self.accept(&path, frame)?;
                        self.fields = Some((path, fields));
                        if accepted.is_some() {
                            return Ok(accepted);
                        }
                    }
                    Err(reason) => self.bad(DataError::format(path, reason))?,
                }
                continue;
            }
            if let Some(mut archive) = self.archive.take() {
                if let Some(entry) = archive.entries.next() {
                    let path = archive.shown(&entry);
                    let fields = archive.open(&entry);
                    self.archive = Some(archive);
                    match fields {
                        _ if !self.wants(entry.time_s, entry.open_s) => {}
                        Ok(reader) => self.fields = Some((path, Fields::new(reader))),
                        Err(e) => self.bad(DataError::io("read", path, e))?,
                    }
                }
                continue;
            }
            let Some(item) = self.queue.next() else {
                return Ok(None);
            };
            match open_content(&item) {
                Ok(Content::Fields(fields)) => self.fields = Some((item.path, *fields)),
                Ok(Content::Archive(archive)) => self.archive = Some(archive),
                Ok(Content::Frame(frame)) => {
                    let accepted = self.accept(&item.path, *frame)?;
                    if accepted.is_some() {
                        return Ok(accepted);
                    }
                }
                Err(error) => self.bad(error)?,
            }
        }
    }

    fn path(&self) -> &Path {
        &self.root
    }

    fn skipped_files(&self) -> u64 {
        self.skipped
    }
}

/// The files under a folder that may hold data.
fn list(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |e| DataError::io("read", folder, e);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if !may_hold_data(&path) {
            continue;
        }
        // Links are followed: archives are often linked together. The system stops at circles.
        if path.is_dir() {
            list(&path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

fn may_hold_data(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    !hidden && !NO_DATA.iter().any(|other| extension == *other)
}

/// The time that the content of a file tells: of its first Nimrod header, or of an archive's first entry.
fn time_inside(path: &Path) -> Result<(i64, i64)> {
    let failed = |e| DataError::io("read", path, e);
    let (head, mut reader) = file::peek(file::open(path)?, 512).map_err(failed)?;
    let time = if is_tar(&head) {
        drop(reader);
        let archive = Archive::read(path)?;
        let first = archive.entries.as_slice().first();
        let last = archive.entries.as_slice().last();
        first.zip(last).map(|(first, last)| {
            let end_s = last.time_s.saturating_add(last.open_s);
            (first.time_s, end_s.saturating_sub(first.time_s))
        })
    } else if head.starts_with(&NIMROD) {
        let field = Field::read(&mut reader).map_err(|e| DataError::format(path, e))?;
        let time_s = field
            .map(|field| field.header.expect_validity_time())
            .transpose()
            .map_err(|e| DataError::format(path, e))?;
        // Later fields may have any later time.
        time_s.map(|time_s| (time_s, i64::MAX))
    } else {
        None
    };
    time.ok_or_else(|| {
        DataError::format(
            path,
            "neither its name (YYYYMMDDhhmm) nor a header tells its time",
        )
    })
}

fn open_content(item: &Item) -> Result<Content> {
    let path = &item.path;
    let failed = |e| DataError::io("read", path, e);
    let (head, reader) = file::peek(file::open(path)?, 512).map_err(failed)?;
    if head.starts_with(&NIMROD) {
        return Ok(Content::Fields(Box::new(Fields::new(reader))));
    }
    drop(reader);
    if is_tar(&head) {
        return Archive::read(path).map(Content::Archive);
    }
    let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
    if !raster::geotiff::is_tiff(&head) && !first.is_some_and(u8::is_ascii_alphabetic) {
        return Err(DataError::format(
            path,
            "neither a Nimrod file, a tar archive nor a raster",
        ));
    }
    if item.open_s > 60 {
        return Err(DataError::format(
            path,
            "its name does not tell the time of its frame (YYYYMMDDhhmm)",
        ));
    }
    let mut rain_mm_per_h = raster::open_raster(path)?;
    rain_mm_per_h
        .data
        .mapv_inplace(|rate| if rate >= 0.0 { rate } else { f32::NAN });
    Ok(Content::Frame(Box::new(RadarFrame {
        end_s: Some(item.time_s),
        duration_s: None,
        rain_mm_per_h,
    })))
}

impl Archive {
    /// Lists the entries of an archive. A compressed one is unpacked first, to a temporary file that has no name.
    fn read(path: &Path) -> Result<Self> {
        Self::index(path)
            // Its message quotes the damaged bytes.
            .map_err(|e| e.to_string().replace(['\n', '\r'], " "))
            .map_err(|e| DataError::format(path, format!("the tar archive is damaged: {e}")))
    }

    fn index(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut start = [0; 2];
        file.read_exact(&mut start)?;
        file.rewind()?;
        if start == [0x1f, 0x8b] {
            let mut unpacked = tempfile::tempfile()?;
            io::copy(&mut file::inflate(BufReader::new(file))?, &mut unpacked)?;
            unpacked.rewind()?;
            file = unpacked;
        }
        let mut archive = Self {
            path: path.to_owned(),
            file,
            entries: Vec::new().into_iter(),
        };
        let mut entries = Vec::new();
        for entry in tar::Archive::new(archive.file.try_clone()?).entries_with_seek()? {
            let entry = entry?;
            let name = entry.path()?.into_owned();
            if entry.header().entry_type().is_file() && may_hold_data(&name) {
                entries.push(Entry {
                    time_s: 0,
                    open_s: 0,
                    name,
                    offset: entry.raw_file_position(),
                    size: entry.size(),
                });
            }
        }
        for entry in &mut entries {
            let named = entry.name.file_name().and_then(OsStr::to_str);
            (entry.time_s, entry.open_s) = match named.and_then(time_in_name) {
                Some(time) => time,
                None => archive.time_of(entry)?,
            };
        }
        entries.sort_by(|a, b| (a.time_s, &a.name).cmp(&(b.time_s, &b.name)));
        archive.entries = entries.into_iter();
        Ok(archive)
    }

    /// The time of the first header of an entry; one that is no Nimrod file comes first and is found damaged then.
    fn time_of(&mut self, entry: &Entry) -> io::Result<(i64, i64)> {
        let field = Field::read(&mut self.open(entry)?);
        let time = field.ok().flatten().and_then(|f| f.header.validity_time());
        Ok((time.unwrap_or(i64::MIN / 2), i64::MAX))
    }

    /// An entry's name behind the archive's, for messages; whoever made the archive chose it.
    fn shown(&self, entry: &Entry) -> PathBuf {
        let name = entry.name.to_string_lossy();
        PathBuf::from(format!("{}/{}", self.path.display(), name.escape_debug()))
    }

    /// The content of an entry, decompressed.
    fn open(&mut self, entry: &Entry) -> io::Result<Box<dyn BufRead + Send>> {
        self.file.seek(SeekFrom::Start(entry.offset))?;
        // The clone shares the position in the file: one entry is open at a time.
        file::inflate(BufReader::new(self.file.try_clone()?.take(entry.size)))
    }
}
