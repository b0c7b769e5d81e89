//! LZW as TIFF uses it (TIFF 6.0, section 13): codes of 9 to 12 bits, most significant bit first, one code early.

const CLEAR: usize = 256;
const END: usize = 257;
/// First code of the table; those below are single bytes and the two above.
const FIRST: usize = 258;
const MAX_CODES: usize = 4096;

/// Unpacks `size` bytes. As in libtiff, the end code may be missing and what follows the last wanted byte is ignored.
///
/// # Errors
/// Where the data end early or hold a code that means nothing yet.
pub(crate) fn decode(data: &[u8], size: usize) -> Result<Vec<u8>, String> {
    // The longest string has a byte for each code of the table: memory follows the data, not the claim.
    let mut out = Vec::with_capacity(size.min(data.len().saturating_mul(8)));
    // Every string of the table stands in the output already: where, and how long.
    let mut table: Vec<(usize, usize)> = Vec::with_capacity(MAX_CODES - FIRST);
    let mut before: Option<(usize, usize)> = None;
    let (mut width, mut bits, mut held) = (9, 0_u32, 0);
    let mut bytes = data.iter();
    while out.len() < size {
        while held < width {
            let Some(&byte) = bytes.next() else {
                return Err(format!("LZW data end after {} of {size} bytes", out.len()));
            };
            bits = bits << 8 | u32::from(byte);
            held += 8;
        }
        held -= width;
        let code = (bits >> held) as usize;
        bits &= (1 << held) - 1;
        if code == CLEAR {
            table.clear();
            before = None;
            width = 9;
            continue;
        }
        if code == END {
            return Err(format!("LZW data end after {} of {size} bytes", out.len()));
        }
        // The string before plus the first byte of this one, which is the byte that will follow it in the output.
        if let Some((start, length)) = before
            && FIRST + table.len() < MAX_CODES
        {
            table.push((start, length + 1));
        }
        let here = out.len();
        let length = if code < CLEAR {
            out.push(code as u8);
            1
        } else {
            let &(start, length) = table
                .get(code - FIRST)
                .ok_or_else(|| format!("invalid LZW code {code} after {here} bytes"))?;
            for k in start..start + length {
                out.push(out[k]);
            }
            length
        };
        before = Some((here, length));
        if FIRST + table.len() >= (1 << width) - 1 && width < 12 {
            width += 1;
        }
    }
    out.truncate(size);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(codes: &[(u32, u32)]) -> Vec<u8> {
        let text: String = codes
            .iter()
            .map(|&(code, width)| format!("{code:0width$b}", width = width as usize))
            .collect();
        text.as_bytes()
            .chunks(8)
            .map(|byte| {
                byte.iter()
                    .enumerate()
                    .fold(0, |b, (i, &c)| b | u8::from(c == b'1') << (7 - i))
            })
            .collect()
    }

    /// The example of TIFF 6.0, section 13.
    #[test]
    fn decodes_the_example_of_the_specification() {
        let codes = [256, 7, 258, 8, 8, 258, 6, 257].map(|code| (code, 9));
        let expected = [7, 7, 7, 8, 8, 7, 7, 6];
        assert_eq!(decode(&pack(&codes), 8).unwrap(), expected);
        assert_eq!(decode(&pack(&codes[..7]), 8).unwrap(), expected);
        assert_eq!(decode(&pack(&codes), 5).unwrap(), expected[..5]);
        assert!(decode(&pack(&codes), 9).unwrap_err().contains("8 of 9"));
        assert!(decode(&pack(&codes[..5]), 8).is_err());
        let wrong = [256, 7, 300].map(|code| (code, 9));
        assert!(decode(&pack(&wrong), 8).unwrap_err().contains("code 300"));
    }

    #[test]
    fn codes_widen_one_early() {
        // 253 codes fill the table up to 510; the next code has 10 bits.
        let mut codes = vec![(256, 9)];
        codes.extend((0..254).map(|k| (k % 200, 9)));
        codes.extend([(3, 10), (257, 10)]);
        let mut expected: Vec<u8> = (0..254).map(|k| (k % 200) as u8).collect();
        expected.push(3);
        assert_eq!(decode(&pack(&codes), 255).unwrap(), expected);
    }
}
