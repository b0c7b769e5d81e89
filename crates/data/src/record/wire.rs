//! The protocol buffers wire format (<https://protobuf.dev/programming-guides/encoding/>): fields read in place, without copies.
//!
//! Written by hand because the messages here are a few fields around megabytes of pixels: generated types copy those pixels
//! twice (bytes of the feature, bytes of the tensor) and write map entries in random order.

use super::DecodeError;

/// The value of a field, by wire type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

impl<'a> Value<'a> {
    /// The bytes of a length-delimited field.
    pub(super) fn bytes(self, what: &str) -> Result<&'a [u8], DecodeError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(format!("{what} has the wrong wire type").into()),
        }
    }

    /// The number of a varint field.
    pub(super) fn varint(self, what: &str) -> Result<u64, DecodeError> {
        match self {
            Value::Varint(number) => Ok(number),
            _ => Err(format!("{what} has the wrong wire type").into()),
        }
    }
}

/// Takes one varint from the front of `bytes`.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut number = 0u64;
    for position in 0..10 {
        let (&byte, rest) = bytes.split_first().ok_or("ends within a number")?;
        *bytes = rest;
        // The tenth byte holds the last bit of 64.
        if position == 9 && byte > 1 {
            break;
        }
        number |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("holds a number of more than 64 bits".into())
}

/// Takes `N` bytes from the front.
fn take_fixed<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (fixed, rest) = bytes
        .split_first_chunk::<N>()
        .ok_or("ends within a field")?;
    *bytes = rest;
    Ok(*fixed)
}

/// The fields of a message, in the order they stand in it.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn take(&mut self) -> Result<(u32, Value<'a>), DecodeError> {
        let tag = take_varint(&mut self.0)?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|&number| number > 0)
            .ok_or("holds an impossible field number")?;
        let value = match tag & 7 {
            0 => Value::Varint(take_varint(&mut self.0)?),
            1 => Value::Fixed64(take_fixed(&mut self.0)?),
            2 => {
                let length = take_varint(&mut self.0)?;
                let length = usize::try_from(length)
                    .ok()
                    .filter(|&length| length <= self.0.len());
                let length = length.ok_or("holds a field that is longer than its message")?;
                let (bytes, rest) = self.0.split_at(length);
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(take_fixed(&mut self.0)?),
            other => return Err(format!("holds a field of wire type {other}").into()),
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.take();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Length of a varint in bytes.
pub(super) fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends tag and length of a length-delimited field; its `length` bytes follow.
pub(super) fn put_length(out: &mut Vec<u8>, field: u32, length: usize) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, length as u64);
}

/// Length of a length-delimited field with tag and length; `field` below 16.
pub(super) fn field_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip() {
        for number in [
            0,
            1,
            127,
            128,
            300,
            16383,
            16384,
            u64::from(u32::MAX),
            u64::MAX >> 1,
            u64::MAX,
        ] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert_eq!(bytes.len(), varint_len(number));
            assert_eq!(take_varint(&mut bytes.as_slice()), Ok(number));
        }
        // The example of the protobuf documentation.
        assert_eq!(take_varint(&mut [0x96, 0x01].as_slice()), Ok(150));
    }

    #[test]
    fn overlong_numbers_and_fields_are_errors() {
        assert!(take_varint(&mut [0xff; 11].as_slice()).is_err());
        let mut overflow = [0x80; 10];
        overflow[9] = 2;
        assert!(take_varint(&mut overflow.as_slice()).is_err());
        for message in [
            &[0x0a, 5, 1][..],
            &[0x0d, 1],
            &[0x09, 1],
            &[0x0b],
            &[0x00, 0],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ] {
            let mut fields = Fields::new(message);
            assert!(fields.next().unwrap().is_err(), "{message:?}");
            assert!(fields.next().is_none());
        }
    }
}
