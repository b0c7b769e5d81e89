//! TFRecord framing (`tensorflow/core/lib/io/record_writer.h`):
//! `u64 length | u32 masked CRC of the length | data | u32 masked CRC of the data`, little-endian, CRC-32C.

use std::io::{self, Read, Write};

use thiserror::Error;

/// What a frame adds to its data, in bytes.
pub const FRAME_BYTES: usize = 16;

/// Bytes that are asked for first when nothing is known of the record's size.
const FIRST_READ: usize = 512;

/// Why a record could not be read.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The stream below failed: truncated or damaged gzip, or the disk.
    #[error("cannot read: {0}")]
    Read(io::Error),
    /// The stream ends within a frame.
    #[error("truncated: ends within {0}")]
    Truncated(&'static str),
    /// The length field is damaged; what follows cannot be found.
    #[error("the checksum of the length is {computed:#010x} instead of {stored:#010x}")]
    LengthChecksum {
        /// Computed from the length.
        computed: u32,
        /// Found after it.
        stored: u32,
    },
    /// The record claims more bytes than a record of this dataset can have.
    #[error("claims {claimed} bytes where at most {bound} can be")]
    TooLong {
        /// What the length field says.
        claimed: u64,
        /// The most that is accepted.
        bound: u64,
    },
    /// The data is damaged; the next record can still be read.
    #[error("the checksum of the data is {computed:#010x} instead of {stored:#010x}")]
    DataChecksum {
        /// Computed from the data.
        computed: u32,
        /// Found after it.
        stored: u32,
    },
}

impl FrameError {
    /// Whether the records after this one can still be found.
    pub fn is_local(&self) -> bool {
        matches!(self, FrameError::DataChecksum { .. })
    }
}

/// The masked CRC-32C of TFRecord.
pub fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// Fills `buffer`; `Ok(false)` when the stream had already ended.
fn read_or_end(
    stream: &mut impl Read,
    buffer: &mut [u8],
    what: &'static str,
) -> Result<bool, FrameError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(FrameError::Truncated(what)),
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(FrameError::Read(e)),
        }
    }
    Ok(true)
}

/// Reads the next record into `data`; `Ok(false)` at the end of the stream.
///
/// What `data` held is overwritten; its length on entry says how much to ask for at once, so a buffer that is used again for
/// records of one size is neither grown nor cleared. Otherwise memory grows with the bytes that are really there, never with a
/// claimed length, and a length above `bound` is refused.
///
/// # Errors
/// Any [`FrameError`]. After one that [`is_local`](FrameError::is_local) the stream stands at the next record.
pub fn read_record(
    stream: &mut impl Read,
    data: &mut Vec<u8>,
    bound: u64,
) -> Result<bool, FrameError> {
    let mut head = [0u8; 12];
    if !read_or_end(stream, &mut head, "a record's length")? {
        return Ok(false);
    }
    let (length, stored) = (u64_at(&head), u32_at(&head[8..]));
    let computed = masked_crc32c(&head[..8]);
    if computed != stored {
        return Err(FrameError::LengthChecksum { computed, stored });
    }
    let too_long = FrameError::TooLong {
        claimed: length,
        bound,
    };
    if length > bound {
        return Err(too_long);
    }
    let length = usize::try_from(length).map_err(|_| too_long)?;
    let mut filled = 0;
    while filled < length {
        let end = data.len().max(2 * filled).max(FIRST_READ).min(length);
        data.resize(end, 0);
        if !read_or_end(stream, &mut data[filled..], "a record")? {
            return Err(FrameError::Truncated("a record"));
        }
        filled = end;
    }
    data.truncate(length);
    let mut tail = [0u8; 4];
    if !read_or_end(stream, &mut tail, "a record's checksum")? {
        return Err(FrameError::Truncated("a record's checksum"));
    }
    let (computed, stored) = (masked_crc32c(data), u32_at(&tail));
    if computed != stored {
        return Err(FrameError::DataChecksum { computed, stored });
    }
    Ok(true)
}

/// Writes one record.
///
/// # Errors
/// Those of `stream`.
pub fn write_record(stream: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    stream.write_all(&length)?;
    stream.write_all(&masked_crc32c(&length).to_le_bytes())?;
    stream.write_all(data)?;
    stream.write_all(&masked_crc32c(data).to_le_bytes())
}

fn u64_at(bytes: &[u8]) -> u64 {
    let mut fixed = [0; 8];
    fixed.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(fixed)
}

fn u32_at(bytes: &[u8]) -> u32 {
    let mut fixed = [0; 4];
    fixed.copy_from_slice(&bytes[..4]);
    u32::from_le_bytes(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in records {
            write_record(&mut bytes, record).unwrap();
        }
        bytes
    }

    fn read_all(mut bytes: &[u8], bound: u64) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let mut records = Vec::new();
        let mut data = Vec::new();
        loop {
            match read_record(&mut bytes, &mut data, bound) {
                Ok(true) => records.push(data.clone()),
                Ok(false) => return (records, None),
                Err(e) => return (records, Some(e)),
            }
        }
    }

    #[test]
    fn the_frame_is_that_of_the_tfrecord_crate() {
        let mut theirs = Vec::new();
        let mut writer = tfrecord::RecordWriter::<Vec<u8>, _>::from_writer(&mut theirs).unwrap();
        writer.send(b"abc".to_vec()).unwrap();
        writer.send(Vec::new()).unwrap();
        assert_eq!(framed(&[b"abc", b""]), theirs);
        assert_eq!(read_all(&theirs, 3).0, [b"abc".to_vec(), Vec::new()]);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = framed(&[b"hello"]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (records, error) = read_all(&damaged, u64::MAX);
            let error = error.expect("damage was not found");
            assert!(records.is_empty());
            match bit / 8 {
                0..12 => {
                    assert!(matches!(error, FrameError::LengthChecksum { .. }) && !error.is_local())
                }
                _ => assert!(matches!(error, FrameError::DataChecksum { .. }) && error.is_local()),
            }
        }
    }

    #[test]
    fn every_truncation_is_found() {
        let bytes = framed(&[b"hello", b"world"]);
        for length in 0..bytes.len() {
            let (records, error) = read_all(&bytes[..length], 100);
            assert_eq!(records.len(), length / 21);
            assert_eq!(error.is_some(), length % 21 != 0, "{length}");
        }
    }

    #[test]
    fn a_huge_claim_allocates_nothing() {
        let length = (u64::MAX / 2).to_le_bytes();
        let mut bytes = length.to_vec();
        bytes.extend(masked_crc32c(&length).to_le_bytes());
        bytes.extend(b"few");
        let mut data = Vec::new();
        let error = read_record(&mut bytes.as_slice(), &mut data, 1 << 20).unwrap_err();
        assert!(matches!(
            error,
            FrameError::TooLong {
                bound: 1_048_576,
                ..
            }
        ));
        // Even a bound that lets it pass costs no more than what is there.
        let error = read_record(&mut bytes.as_slice(), &mut data, u64::MAX).unwrap_err();
        assert!(matches!(error, FrameError::Truncated(_)));
        assert!(data.capacity() < 1024);
    }

    #[test]
    fn damaged_data_leaves_the_next_record_readable() {
        let mut bytes = framed(&[b"hello", b"world"]);
        bytes[13] ^= 1;
        let mut stream = bytes.as_slice();
        let mut data = Vec::new();
        assert!(
            read_record(&mut stream, &mut data, 100)
                .unwrap_err()
                .is_local()
        );
        assert!(read_record(&mut stream, &mut data, 100).unwrap());
        assert_eq!(data, b"world");
    }
}
