//! Arrays of numbers as NumPy reads them: the `.npy` format, version 1.0
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>), written as a stream.

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::atomic::AtomicFile;
use crate::error::{DataError, Result};

/// Length of magic, version, length and dictionary together: a multiple of 64 with room for any shape here.
const HEADER_BYTES: usize = 192;

/// A number that NumPy knows.
pub trait Element: Copy {
    /// NumPy's name of the type, little-endian.
    const DESCRIPTION: &str;
    /// Writes the number, little-endian.
    ///
    /// # Errors
    /// Those of `out`.
    fn write(self, out: &mut impl Write) -> std::io::Result<()>;
}

impl Element for f32 {
    const DESCRIPTION: &str = "<f4";
    fn write(self, out: &mut impl Write) -> std::io::Result<()> {
        out.write_all(&self.to_le_bytes())
    }
}

impl Element for i64 {
    const DESCRIPTION: &str = "<i8";
    fn write(self, out: &mut impl Write) -> std::io::Result<()> {
        out.write_all(&self.to_le_bytes())
    }
}

/// Writes an array `[items, …item_shape]` item by item. It appears at its place when [`NpyWriter::finish`] is called.
pub struct NpyWriter<T: Element> {
    out: BufWriter<AtomicFile>,
    path: PathBuf,
    item_shape: Vec<usize>,
    items: usize,
    kind: std::marker::PhantomData<T>,
}

impl<T: Element> NpyWriter<T> {
    /// Starts the file at `path`.
    ///
    /// # Errors
    /// When the folder is missing or read-only.
    pub fn create(path: &Path, item_shape: &[usize]) -> Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 16, AtomicFile::create(path)?);
        // The number of items is not known yet: the header is written once more at the end.
        out.write_all(&[0; HEADER_BYTES])
            .map_err(|e| DataError::io("write", path, e))?;
        Ok(Self {
            out,
            path: path.to_owned(),
            item_shape: item_shape.to_owned(),
            items: 0,
            kind: std::marker::PhantomData,
        })
    }

    /// Appends an item, row-major.
    ///
    /// # Errors
    /// When it cannot be written.
    ///
    /// # Panics
    /// When `values` do not fill the item's shape.
    pub fn push(&mut self, values: impl IntoIterator<Item = T>) -> Result<()> {
        let mut count = 0;
        for value in values {
            value
                .write(&mut self.out)
                .map_err(|e| DataError::io("write", &self.path, e))?;
            count += 1;
        }
        assert_eq!(
            count,
            self.item_shape.iter().product::<usize>(),
            "the item has another shape"
        );
        self.items += 1;
        Ok(())
    }

    /// Writes the header and puts the file in its place.
    ///
    /// # Errors
    /// When it cannot be written or renamed; nothing is left then.
    pub fn finish(mut self) -> Result<()> {
        let shape: String = std::iter::once(&self.items)
            .chain(&self.item_shape)
            .map(|size| format!("{size}, "))
            .collect();
        let kind = T::DESCRIPTION;
        let dictionary =
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
        let length = HEADER_BYTES - 10;
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend((length as u16).to_le_bytes());
        header.extend(format!("{dictionary:<0$}\n", length - 1).as_bytes());
        debug_assert_eq!(header.len(), HEADER_BYTES);
        let failed = |e| DataError::io("write", &self.path, e);
        let written = self
            .out
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.out.write_all(&header));
        written.map_err(failed)?;
        self.out
            .into_inner()
            .map_err(|e| failed(e.into_error()))?
            .commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut writer = NpyWriter::<f32>::create(&path, &[2, 3]).unwrap();
        for item in 0..2 {
            writer.push((0..6).map(|i| (6 * item + i) as f32)).unwrap();
        }
        writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        // numpy.lib.format: magic, version, length of the rest of the header, a Python dictionary, padding, a line feed.
        assert_eq!(bytes[..10], *b"\x93NUMPY\x01\x00\xb6\x00");
        let header = std::str::from_utf8(&bytes[10..192]).unwrap();
        assert!(
            header
                .starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 3, ), }  ")
        );
        assert!(header.ends_with(" \n"));
        assert_eq!(bytes.len(), 192 + 12 * 4);
        assert_eq!(bytes[192 + 4 * 7..][..4], 7.0f32.to_le_bytes());
    }
}
