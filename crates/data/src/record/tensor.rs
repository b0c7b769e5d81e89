//! `TensorProto` (`tensorflow/core/framework/tensor.proto`) ↔ `Vec<f32>`: what `tf.io.serialize_tensor` writes and what
//! `tf.io.parse_tensor` accepts for real numbers.

use super::DecodeError;
use super::wire::{Fields, Value, field_len, put_length, put_varint, take_varint, varint_len};

/// More dimensions than any tensor here has.
const MAX_DIMENSIONS: usize = 8;

/// Element types that can be turned into `f32`, with TensorFlow's numbers (`types.proto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DataType {
    Float = 1,
    Double = 2,
    Int32 = 3,
    Uint8 = 4,
    Int16 = 5,
    Int8 = 6,
    Int64 = 9,
    Bool = 10,
    Uint16 = 17,
    Half = 19,
}

impl DataType {
    fn from_number(number: u64) -> Result<Self, DecodeError> {
        use DataType::*;
        let known = [
            Float, Double, Int32, Uint8, Int16, Int8, Int64, Bool, Uint16, Half,
        ];
        let found = known.into_iter().find(|&known| known as u64 == number);
        found.ok_or_else(|| {
            format!("tensor of data type {number}, which is not a real number").into()
        })
    }

    /// Bytes of one element in `tensor_content`.
    fn size(self) -> usize {
        match self {
            DataType::Uint8 | DataType::Int8 | DataType::Bool => 1,
            DataType::Int16 | DataType::Uint16 | DataType::Half => 2,
            DataType::Float | DataType::Int32 => 4,
            DataType::Double | DataType::Int64 => 8,
        }
    }

    /// Number of the repeated field that holds values of this type.
    fn value_field(self) -> u32 {
        match self {
            DataType::Float => 5,
            DataType::Double => 6,
            DataType::Int32
            | DataType::Uint8
            | DataType::Int16
            | DataType::Int8
            | DataType::Uint16 => 7,
            DataType::Int64 => 10,
            DataType::Bool => 11,
            DataType::Half => 13,
        }
    }

    /// One element of `tensor_content`, little-endian, `size()` bytes.
    fn content_value(self, bytes: &[u8]) -> f32 {
        let mut low = [0u8; 8];
        low[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(low);
        match self {
            DataType::Float => f32::from_bits(bits as u32),
            DataType::Double => f64::from_bits(bits) as f32,
            DataType::Int32 => bits as u32 as i32 as f32,
            DataType::Uint8 | DataType::Uint16 => bits as f32,
            DataType::Bool => f32::from(bits != 0),
            DataType::Int16 => bits as u16 as i16 as f32,
            DataType::Int8 => bits as u8 as i8 as f32,
            DataType::Int64 => bits as i64 as f32,
            DataType::Half => half_to_f32(bits as u16),
        }
    }

    /// One element of a repeated varint field.
    fn varint_value(self, number: u64) -> f32 {
        match self {
            DataType::Half => half_to_f32(number as u16),
            // int32 values are sign-extended to 64 bits on the wire, so this holds for all integer types.
            _ => number as i64 as f32,
        }
    }
}

/// IEEE 754 binary16 to binary32, exactly.
fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

/// Reads `TensorShapeProto`.
fn parse_shape(message: &[u8]) -> Result<Vec<usize>, DecodeError> {
    let mut shape = Vec::new();
    for field in Fields::new(message) {
        match field? {
            (2, dimension) => {
                let mut size = 0;
                for field in Fields::new(dimension.bytes("a dimension")?) {
                    if let (1, value) = field? {
                        size = value.varint("a dimension's size")?;
                    }
                }
                if shape.len() == MAX_DIMENSIONS {
                    return Err("has too many dimensions".into());
                }
                // A negative size (unknown) is a huge number here.
                let size = usize::try_from(size)
                    .ok()
                    .filter(|&size| size <= i32::MAX as usize);
                shape.push(size.ok_or("has a dimension of impossible size")?);
            }
            (3, unknown) if unknown.varint("unknown_rank")? != 0 => {
                return Err("has an unknown shape".into());
            }
            _ => {}
        }
    }
    Ok(shape)
}

/// The values of a tensor, row-major.
#[derive(Debug)]
pub(super) enum Values<'a> {
    /// `f32`, little-endian, as they stand in the message: nothing has been copied.
    Stored(&'a [[u8; 4]]),
    /// Decoded from another type or form.
    Decoded(Vec<f32>),
}

/// Reads a serialized `TensorProto` of the given shape as row-major `f32`.
///
/// Nothing is allocated before the shape is found to be `shape`. As TensorFlow does, a value list shorter than the tensor
/// repeats its last value, and an empty one means zeros.
///
/// # Errors
/// When the bytes are not a tensor of real numbers of this shape, or hold too many or too few values.
pub fn decode_tensor(message: &[u8], shape: &[usize]) -> Result<Vec<f32>, DecodeError> {
    Ok(match tensor_values(message, shape)? {
        Values::Stored(values) => values
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect(),
        Values::Decoded(values) => values,
    })
}

/// [`decode_tensor`] without a copy where the message holds `f32` as `tensor_content`, the usual case.
pub(super) fn tensor_values<'a>(
    message: &'a [u8],
    shape: &[usize],
) -> Result<Values<'a>, DecodeError> {
    let wrong = |e: DecodeError| DecodeError(format!("not a TensorProto: {e}"));
    let mut data_type = 0;
    let mut found_shape = Vec::new();
    let mut content: &[u8] = &[];
    for field in Fields::new(message) {
        match field.map_err(wrong)? {
            (1, value) => data_type = value.varint("its data type").map_err(wrong)?,
            (2, value) => {
                found_shape =
                    parse_shape(value.bytes("its shape").map_err(wrong)?).map_err(wrong)?
            }
            (4, value) => content = value.bytes("its content").map_err(wrong)?,
            _ => {}
        }
    }
    let data_type = DataType::from_number(data_type)?;
    if found_shape != shape {
        return Err(format!("tensor of shape {found_shape:?} instead of {shape:?}").into());
    }
    let count = shape
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size));
    let count = count.ok_or("tensor of impossible size")?;
    if content.is_empty() {
        return decode_values(message, data_type, count).map(Values::Decoded);
    }
    if Some(content.len()) != count.checked_mul(data_type.size()) {
        let size = data_type.size();
        return Err(format!(
            "{} bytes of tensor content instead of {count} × {size}",
            content.len()
        )
        .into());
    }
    Ok(match data_type {
        DataType::Float => Values::Stored(content.as_chunks().0),
        _ => Values::Decoded(
            content
                .chunks_exact(data_type.size())
                .map(|bytes| data_type.content_value(bytes))
                .collect(),
        ),
    })
}

/// The repeated fields: packed or one by one.
fn decode_values(
    message: &[u8],
    data_type: DataType,
    count: usize,
) -> Result<Vec<f32>, DecodeError> {
    let too_many = || {
        DecodeError(format!(
            "tensor of more values than the {count} of its shape"
        ))
    };
    let mut values: Vec<f32> = Vec::with_capacity(count);
    let mut push = |value: f32| {
        if values.len() == count {
            return Err(too_many());
        }
        values.push(value);
        Ok(())
    };
    for field in Fields::new(message) {
        let (number, value) = field?;
        if number != data_type.value_field() {
            continue;
        }
        match (value, data_type) {
            (Value::Fixed32(bytes), DataType::Float) => push(f32::from_le_bytes(bytes))?,
            (Value::Fixed64(bytes), DataType::Double) => push(f64::from_le_bytes(bytes) as f32)?,
            (Value::Varint(number), _)
                if !matches!(data_type, DataType::Float | DataType::Double) =>
            {
                push(data_type.varint_value(number))?;
            }
            (Value::Bytes(packed), DataType::Float | DataType::Double) => {
                if packed.len() % data_type.size() != 0 {
                    return Err("tensor whose packed values end within a number".into());
                }
                for bytes in packed.chunks_exact(data_type.size()) {
                    push(data_type.content_value(bytes))?;
                }
            }
            (Value::Bytes(mut packed), _) => {
                while !packed.is_empty() {
                    push(data_type.varint_value(take_varint(&mut packed)?))?;
                }
            }
            _ => return Err("tensor whose values have the wrong wire type".into()),
        }
    }
    let fill = values.last().copied().unwrap_or(0.0);
    values.resize(count, fill);
    Ok(values)
}

/// Writes row-major `f32` values as `tf.io.serialize_tensor` does, byte for byte.
///
/// # Panics
/// When the number of values is not that of the shape.
pub fn encode_tensor(shape: &[usize], values: &[f32]) -> Vec<u8> {
    assert_eq!(
        shape.iter().product::<usize>(),
        values.len(),
        "values do not fill the shape {shape:?}"
    );
    // protobuf leaves out a size of zero.
    let dimension_len = |size: usize| {
        if size == 0 {
            0
        } else {
            1 + varint_len(size as u64)
        }
    };
    let shape_len = shape
        .iter()
        .map(|&size| field_len(dimension_len(size)))
        .sum();
    let content_len = 4 * values.len();
    let mut out = Vec::with_capacity(2 + field_len(shape_len) + field_len(content_len));
    put_varint(&mut out, 1 << 3);
    put_varint(&mut out, DataType::Float as u64);
    put_length(&mut out, 2, shape_len);
    for &size in shape {
        put_length(&mut out, 2, dimension_len(size));
        if size != 0 {
            put_varint(&mut out, 1 << 3);
            put_varint(&mut out, size as u64);
        }
    }
    if content_len > 0 {
        put_length(&mut out, 4, content_len);
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use tfrecord::protobuf::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};

    fn proto(dtype: i32, shape: &[i64]) -> TensorProto {
        let dim = shape
            .iter()
            .map(|&size| Dim {
                size,
                name: String::new(),
            })
            .collect();
        let tensor_shape = Some(TensorShapeProto {
            dim,
            unknown_rank: false,
        });
        TensorProto {
            dtype,
            tensor_shape,
            ..TensorProto::default()
        }
    }

    fn decode(proto: &TensorProto, shape: &[usize]) -> Result<Vec<f32>, String> {
        decode_tensor(&proto.encode_to_vec(), shape).map_err(|e| e.0)
    }

    #[test]
    fn agrees_with_the_generated_type() {
        let values: Vec<f32> = (0..600).map(|i| i as f32 * 0.37 - 5.0).collect();
        let bytes = encode_tensor(&[200, 3], &values);
        let content = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(
            bytes,
            TensorProto {
                tensor_content: content,
                ..proto(1, &[200, 3])
            }
            .encode_to_vec()
        );
        assert_eq!(decode_tensor(&bytes, &[200, 3]).unwrap(), values);
    }

    #[test]
    fn value_lists_repeat_their_last_value() {
        let list = |values: &[f32]| {
            decode(
                &TensorProto {
                    float_val: values.to_vec(),
                    ..proto(1, &[2, 3])
                },
                &[2, 3],
            )
        };
        assert_eq!(list(&[1.0, 2.0]).unwrap(), [1.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!(list(&[]).unwrap(), [0.0; 6]);
        assert_eq!(
            list(&[0.0; 7]).unwrap_err(),
            "tensor of more values than the 6 of its shape"
        );
    }

    #[test]
    fn other_types() {
        let shape = [1, 3];
        let int = |dtype, int_val| {
            decode(
                &TensorProto {
                    int_val,
                    ..proto(dtype, &[1, 3])
                },
                &shape,
            )
            .unwrap()
        };
        for dtype in [3, 5, 6] {
            assert_eq!(int(dtype, vec![-3, 0, 7]), [-3.0, 0.0, 7.0]);
        }
        assert_eq!(int(4, vec![0, 1, 255]), [0.0, 1.0, 255.0]);
        let content = |dtype, content: &[u8]| {
            decode(
                &TensorProto {
                    tensor_content: content.to_vec(),
                    ..proto(dtype, &[1, 3])
                },
                &shape,
            )
            .unwrap()
        };
        assert_eq!(content(6, &[0xff, 0, 5]), [-1.0, 0.0, 5.0]);
        assert_eq!(content(5, &[0xff, 0xff, 0, 0, 0, 1]), [-1.0, 0.0, 256.0]);
        assert_eq!(content(10, &[1, 0, 1]), [1.0, 0.0, 1.0]);
        // 1.5, the smallest subnormal, −65504 (IEEE 754-2008, binary16).
        assert_eq!(
            content(19, &[0x00, 0x3e, 0x01, 0x00, 0xff, 0xfb]),
            [1.5, 5.960_464_5e-8, -65504.0]
        );
        let half = TensorProto {
            half_val: vec![0x3c00, 0x7c00, 0x8000],
            ..proto(19, &[1, 3])
        };
        assert_eq!(decode(&half, &shape).unwrap(), [1.0, f32::INFINITY, -0.0]);
        let double = TensorProto {
            double_val: vec![0.1, -2.5],
            ..proto(2, &[1, 3])
        };
        assert_eq!(decode(&double, &shape).unwrap(), [0.1, -2.5, -2.5]);
        let long = TensorProto {
            int64_val: vec![-1, 1 << 40, 2],
            ..proto(9, &[1, 3])
        };
        assert_eq!(
            decode(&long, &shape).unwrap(),
            [-1.0, 1_099_511_627_776.0, 2.0]
        );
        assert_eq!(
            decode(&proto(7, &[1, 3]), &shape).unwrap_err(),
            "tensor of data type 7, which is not a real number"
        );
    }

    #[test]
    fn shapes_and_lengths_are_checked() {
        let zeros = |shape: &[i64]| decode(&proto(1, shape), &[3, 2]).unwrap_err();
        assert_eq!(zeros(&[2, 3]), "tensor of shape [2, 3] instead of [3, 2]");
        assert!(zeros(&[i64::MAX, i64::MAX]).contains("impossible size"));
        assert!(zeros(&[-1, 2]).contains("impossible size"));
        assert!(zeros(&[1; 9]).contains("too many dimensions"));
        let short = TensorProto {
            tensor_content: vec![0; 20],
            ..proto(1, &[3, 2])
        };
        assert_eq!(
            decode(&short, &[3, 2]).unwrap_err(),
            "20 bytes of tensor content instead of 6 × 4"
        );
    }
}
