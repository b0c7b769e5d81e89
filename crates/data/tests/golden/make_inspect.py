"""Writes inspect.json: what the published loader's transforms leave of the shards of this folder, counted with TensorFlow.

    venv/bin/python make_inspect.py        # see make_records.py for the environment

Rain is repeated ×2 to the depth grid, rain and depth are cropped in the middle at offset ceil((source − size) / 2), depth is
thresholded (>=), and a wet cell whose 3 × 3 sum is 1 becomes dry.
"""
import json
import math
import pathlib

import numpy as np
import tensorflow as tf

HERE = pathlib.Path(__file__).parent
RAIN, DEPTH = (7, 4, 3), (8, 6)
FILES = ["content.tfrecord.gz", "members.tfrecord.gz"]


def records():
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("rainfallradar", "waterdepth")}
    for file in FILES:
        for record in tf.data.TFRecordDataset(str(HERE / file), compression_type="GZIP"):
            example = tf.io.parse_single_example(record, features)
            rain = tf.reshape(tf.io.parse_tensor(example["rainfallradar"], tf.float32), RAIN)
            depth = tf.reshape(tf.io.parse_tensor(example["waterdepth"], tf.float32), DEPTH)
            yield rain, depth


def inspect(size, threshold):
    height, width = size
    top, left = (math.ceil((source - size) / 2) for source, size in zip(DEPTH, size))
    counts = dict(samples=0, cells=0, wet_cells=0, wet_cells_clean=0, rain_sum=0.0)
    for rain, depth in records():
        rain = tf.repeat(tf.repeat(rain, 2, axis=1), 2, axis=2)[:, top : top + height, left : left + width]
        depth = depth[top : top + height, left : left + width]
        wet = tf.cast(depth >= threshold, tf.float32)
        around = tf.nn.conv2d(wet[None, :, :, None], tf.ones((3, 3, 1, 1)), 1, "SAME")[0, :, :, 0]
        clean = tf.where((wet == 1) & (around == 1), 0.0, wet)
        counts["samples"] += 1
        counts["cells"] += int(tf.size(depth))
        counts["wet_cells"] += int(tf.reduce_sum(wet))
        counts["wet_cells_clean"] += int(tf.reduce_sum(clean))
        counts["rain_sum"] += float(np.sum(rain.numpy(), dtype=np.float64))
    counts["rain_shape"] = [RAIN[0], height, width]
    counts["depth_shape"] = [height, width]
    counts["wet_fraction"] = counts["wet_cells"] / counts["cells"]
    return counts


cases = [
    {"flags": ["--size", f"{h}x{w}", "--scale-up", "2", "--threshold", str(t)], **inspect((h, w), t)}
    for (h, w), t in [((8, 6), 0.1), ((5, 4), 0.5), ((4, 3), 0.9), ((7, 6), 0.97)]
]
(HERE / "inspect.json").write_text(json.dumps(cases, indent=1) + "\n")
