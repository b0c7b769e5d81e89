"""Writes the golden shards of this folder with TensorFlow.

    python -m venv venv && venv/bin/pip install tensorflow-cpu && venv/bin/python make_records.py

Values are formulas of the record and the position, so that the Rust test computes them again instead of storing them:
    rain[c, y, x]  = ((i * 7 + c * 31 + y * 5 + x) % 101) / 100
    depth[y, x]    = ((i * 3 + y * 11 + x) % 17) / 16
"""
import gzip
import io
import json
import pathlib

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

HERE = pathlib.Path(__file__).parent
RAIN, DEPTH = (7, 4, 3), (8, 6)


def rain(i):
    c, y, x = np.meshgrid(*map(np.arange, RAIN), indexing="ij")
    return (((i * 7 + c * 31 + y * 5 + x) % 101) / 100).astype(np.float32)


def depth(i):
    y, x = np.meshgrid(*map(np.arange, DEPTH), indexing="ij")
    return (((i * 3 + y * 11 + x) % 17) / 16).astype(np.float32)


def example(rain_bytes, depth_bytes):
    def feature(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {"rainfallradar": feature(rain_bytes), "waterdepth": feature(depth_bytes)}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def shard(name, records):
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=9)
    with tf.io.TFRecordWriter(str(HERE / name), options) as writer:
        for record in records:
            writer.write(record)


def serialized(array):
    return tf.io.serialize_tensor(array).numpy()


def proto(array, **fields):
    """A TensorProto of `array`'s type and shape with the given value fields instead of tensor_content."""
    dtype = tf.as_dtype(array.dtype).as_datatype_enum
    shape = tf.TensorShape(array.shape).as_proto()
    return tensor_pb2.TensorProto(dtype=dtype, tensor_shape=shape, **fields)


def checked(message, array):
    """The message, serialized, after TensorFlow itself has parsed it to `array`."""
    serialized_message = message.SerializeToString()
    parsed = tf.io.parse_tensor(serialized_message, tf.as_dtype(array.dtype)).numpy()
    np.testing.assert_array_equal(parsed, array)
    return serialized_message


def unpacked(array):
    """float_val as older writers did: one tag a value."""
    head = proto(array).SerializeToString()
    return head + b"".join(b"\x2d" + value.tobytes() for value in array.ravel())






# 1. What tf.io.serialize_tensor writes (tensor_content).
shard("content.tfrecord.gz", [example(serialized(rain(i)), serialized(depth(i))) for i in range(3)])

# 2. The value fields, one form a record: depth of record i as below, rain as packed float_val.
ones = np.ones(DEPTH, np.float32)
half = (depth(4)).astype(np.float16)
repeated = depth(1).copy()
repeated.ravel()[5:] = repeated.ravel()[4]
forms = [
    checked(proto(depth(0), float_val=depth(0).ravel()), depth(0)),
    checked(proto(repeated, float_val=repeated.ravel()[:5]), repeated),  # a short list repeats its last value
    checked(proto(ones, float_val=[1.0]), ones),
    unpacked(depth(3)),
    checked(proto(half, half_val=half.ravel().view(np.uint16).astype(np.int32)), half),
    checked(proto(depth(5).astype(np.float64), double_val=depth(5).ravel()), depth(5).astype(np.float64)),
    serialized(depth(6).astype(np.float64)),
    checked(proto((depth(7) * 16).astype(np.int32), int_val=(depth(7) * 16).astype(np.int32).ravel()), (depth(7) * 16).astype(np.int32)),
    checked(proto(np.zeros(DEPTH, np.float32)), np.zeros(DEPTH, np.float32)),  # no value at all: zeros
    serialized(depth(9).astype(np.float16)),
    serialized((depth(10) * 16).astype(np.int64)),
]
np.testing.assert_array_equal(tf.io.parse_tensor(forms[3], tf.float32).numpy(), depth(3))
shard(
    "values.tfrecord.gz",
    [example(checked(proto(rain(i), float_val=rain(i).ravel()), rain(i)), form) for i, form in enumerate(forms)],
)

# 3. Several gzip members, the second starting in the middle of a record.
buffer = HERE / "plain.tmp"
with tf.io.TFRecordWriter(str(buffer)) as writer:
    for i in range(3):
        writer.write(example(serialized(rain(i)), serialized(depth(i))))
plain = buffer.read_bytes()
buffer.unlink()
cuts = [0, 700, len(plain) // 2, len(plain)]
members = io.BytesIO()
for start, end in zip(cuts, cuts[1:]):
    members.write(gzip.compress(plain[start:end], 9, mtime=0))
(HERE / "members.tfrecord.gz").write_bytes(members.getvalue())

(HERE / "metadata.json").write_text(json.dumps({"rainfallradar": list(RAIN), "waterdepth": list(DEPTH)}) + "\n")
# One tensor as tf.io.serialize_tensor writes it, byte for byte.
(HERE / "depth1.tensor").write_bytes(serialized(depth(1)))
print("tensorflow", tf.__version__)
