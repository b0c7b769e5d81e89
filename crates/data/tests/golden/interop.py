"""The other side of `tensorflow_reads_ours_and_we_read_its` in tests/records.rs.

    python interop.py FOLDER

Reads FOLDER/ours.tfrecord.gz with tf.data and compares every value, then writes FOLDER/theirs.tfrecord.gz. Values are multiples of
2^-24 below 1 that fill the mantissa, from a formula of the record, the feature and the place, which the Rust test knows too.
"""
import pathlib
import sys

import numpy as np
import tensorflow as tf

SHAPES = {
    "rainfallradar": (7, 4, 3),
    "rainfalltotals": (2, 4, 3),
    "waterdepth": (8, 6),
    "waterdepth_now": (8, 6),
}
RECORDS = 5


def values(record, feature):
    shape = SHAPES[feature]
    place = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    number = (place * 104729 + record * 7919 + list(SHAPES).index(feature) * 15485863) % 16777213
    return (number / 16777216).astype(np.float32)


def check(path):
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in SHAPES}
    count = 0
    for record in tf.data.TFRecordDataset(str(path), compression_type="GZIP"):
        parsed = tf.io.parse_single_example(record, features)
        for name, message in parsed.items():
            np.testing.assert_array_equal(tf.io.parse_tensor(message, tf.float32).numpy(), values(count, name), err_msg=name)
        count += 1
    assert count == RECORDS, f"{count} records"


def write(path):
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=9)
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for record in range(RECORDS):
            feature = {
                name: tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[tf.io.serialize_tensor(values(record, name)).numpy()])
                )
                for name in SHAPES
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


folder = pathlib.Path(sys.argv[1])
check(folder / "ours.tfrecord.gz")
write(folder / "theirs.tfrecord.gz")
print("tensorflow", tf.__version__)
