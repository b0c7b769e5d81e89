"""Writes transforms.json: the published loader's transforms, done with TensorFlow on values that a formula gives.

    python -m venv venv && venv/bin/pip install tensorflow-cpu && venv/bin/python make_transforms.py

Rain (and the heightmap, z-scored) repeated twice, centre-cropped at offset ceil((source - size) / 2); depth cropped alike and
thresholded; wet cells whose 3 x 3 sum is 1 dried. Both differences of sizes are odd, so that the rounding of the offset shows.
"""
import json
import math
import pathlib

import numpy as np
import tensorflow as tf

RAIN, DEPTH, SIZE, SCALE, THRESHOLD_M = (7, 9, 7), (18, 14), (7, 9), 2, 0.1

c, y, x = np.meshgrid(*map(np.arange, RAIN), indexing="ij")
rain = (((c * 31 + y * 5 + x * x) % 101) / 100).astype(np.float32)
y, x = np.meshgrid(*map(np.arange, DEPTH), indexing="ij")
depth = (((y * 7 + x * x * 3 + y * x) % 29) / 100).astype(np.float32) - np.float32(0.13)
depth = np.maximum(depth, 0).astype(np.float32)
y, x = np.meshgrid(*map(np.arange, RAIN[1:]), indexing="ij")
height = (100 + y * 3 - x * x).astype(np.float32)

stack = tf.concat([rain, [(height - tf.reduce_mean(height)) / tf.math.reduce_std(height)]], axis=0)
stack = tf.transpose(stack, [1, 2, 0])
stack = tf.repeat(tf.repeat(stack, SCALE, axis=0), SCALE, axis=1)
top, left = (math.ceil((source - size) / 2) for source, size in zip(DEPTH, SIZE))
stack = tf.image.crop_to_bounding_box(stack, top, left, *SIZE)
water = tf.image.crop_to_bounding_box(depth[:, :, np.newaxis], top, left, *SIZE)
wet = tf.cast(water >= THRESHOLD_M, tf.float32)[tf.newaxis]
around = tf.nn.conv2d(wet, tf.ones([3, 3, 1, 1]), 1, "SAME")
label = tf.where((wet == 1) & (around == 1), 0.0, wet)[0, :, :, 0]

removed = int(tf.reduce_sum(wet) - tf.reduce_sum(label))
assert removed > 0 and tf.reduce_sum(label) > 5, "the golden shall hold both kinds of wet cells"
golden = {
    "tensorflow": tf.__version__,
    "input": [float(f"{value:.9g}") for value in tf.transpose(stack, [2, 0, 1]).numpy().ravel()],
    "label": label.numpy().astype(int).ravel().tolist(),
}
path = pathlib.Path(__file__).with_name("transforms.json")
path.write_text(json.dumps(golden) + "\n")
print(path, removed, "isolated cells")
