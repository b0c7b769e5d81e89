//! Files as every format here opens and writes them: gzip recognised by its magic, writes that are whole or not there.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Cursor, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::atomic::{AtomicFile, write_file};
use crate::error::{DataError, Result};

const BUFFER: usize = 1 << 16;

/// Opens a file for reading; a gzip file (of any number of members) is recognised by its first two bytes and decompressed.
///
/// # Errors
/// [`DataError::Io`] where the file cannot be opened or read.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    let file = File::open(path).map_err(|e| DataError::io("open", path, e))?;
    inflate(BufReader::with_capacity(BUFFER, file)).map_err(|e| DataError::io("read", path, e))
}

/// What `reader` gives, decompressed where it begins as gzip does.
pub(crate) fn inflate(
    mut reader: impl BufRead + Send + 'static,
) -> io::Result<Box<dyn BufRead + Send>> {
    if reader.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        let decoder = MultiGzDecoder::new(reader);
        Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
    } else {
        Ok(Box::new(reader))
    }
}

/// Up to `length` first bytes of what `reader` gives, and a reader that gives them once more and then the rest.
pub(crate) fn peek(
    mut reader: Box<dyn BufRead + Send>,
    length: u64,
) -> io::Result<(Vec<u8>, Box<dyn BufRead + Send>)> {
    let mut head = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut head)?;
    let whole = Cursor::new(head.clone()).chain(reader);
    Ok((head, Box::new(whole)))
}

/// Writes a file through a temporary one in the same folder, renamed when it is complete: on any failure what stood at `path`
/// stays as it was. A name that ends in `.gz` is compressed.
///
/// # Errors
/// [`DataError::Io`] where the folder or the disk refuses.
pub fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let failed = |e| DataError::io("write", path, e);
    let compress = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    let mut writer = BufWriter::with_capacity(BUFFER, AtomicFile::create(path)?);
    if compress {
        let mut encoder = GzEncoder::new(&mut writer, Compression::default());
        content(&mut encoder).map_err(failed)?;
        encoder.finish().map_err(failed)?;
    } else {
        content(&mut writer).map_err(failed)?;
    }
    writer
        .into_inner()
        .map_err(|e| failed(e.into_error()))?
        .commit()
}

/// Reads a JSON file.
///
/// # Errors
/// [`DataError::Io`] where it cannot be read, [`DataError::Format`] where it does not hold a `T`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(|e| DataError::io("read", path, e))?;
    serde_json::from_slice(&text).map_err(|e| DataError::format(path, e.to_string()))
}

/// Writes a JSON file of one line, whole or not at all.
///
/// # Errors
/// [`DataError::Io`] where the folder or the disk refuses.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec(value).map_err(|e| DataError::format(path, e.to_string()))?;
    text.push(b'\n');
    write_file(path, &text)
}

/// Puts the file at `from` to `to` as well, in the place of what stands there: linked where the file system can, copied where it
/// cannot. Folders are made.
///
/// # Errors
/// [`DataError::Io`] where a file or folder refuses.
pub fn copy_or_link(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|e| DataError::io("create", folder, e))?;
    }
    if to.exists() {
        fs::remove_file(to).map_err(|e| DataError::io("replace", to, e))?;
    }
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let mut source = File::open(from).map_err(|e| DataError::io("open", from, e))?;
    let mut copy = AtomicFile::create(to)?;
    io::copy(&mut source, &mut copy).map_err(|e| DataError::io("copy to", to, e))?;
    copy.commit()
}

/// SHA-256 of a file's content, hexadecimal.
///
/// # Errors
/// [`DataError::Io`] where it cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| DataError::io("open", path, e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = file.read(&mut buffer);
        match read.map_err(|e| DataError::io("read", path, e))? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    Ok(hexadecimal(&hash.finalize()))
}

/// Two digits a byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_recognised_by_content_and_failed_writes_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a file.txt", "b.txt.gz", "c.GZ"] {
            let path = folder.path().join(name);
            write(&path, |w| w.write_all(b"rain")).unwrap();
            let mut text = String::new();
            open(&path).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "rain");
        }
        let bytes = std::fs::read(folder.path().join("c.GZ")).unwrap();
        assert_eq!(bytes[..2], [0x1f, 0x8b]);
        // Members one after the other are one text.
        let twice = folder.path().join("twice");
        std::fs::write(&twice, [&bytes[..], &bytes[..]].concat()).unwrap();
        let mut text = String::new();
        open(&twice).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "rainrain");

        let path = folder.path().join("a file.txt");
        let error = write(&path, |w| {
            w.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("a file.txt': disk full")
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"rain");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
        assert!(open(&folder.path().join("none")).is_err());
        assert!(open(folder.path()).is_err());
    }
}
