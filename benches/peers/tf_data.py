"""tf.data on files of the published shape: the peer of `cargo bench --bench loader`, which runs this script.

    python -m venv venv && venv/bin/pip install tensorflow-cpu
    venv/bin/python tf_data.py rewrite IN OUT     # the samples of IN, written by TensorFlow: serialize_tensor, GZIP level 9
    venv/bin/python tf_data.py measure DIR TIMES  # one line of JSON: the fastest of several pipelines, and all of them

Both folders hold `<int>.tfrecord.gz` and `metadata.json`. The pipelines do what the loader does: both checksums, decoding, rain
repeated twice and cropped, depth cropped and thresholded, isolated wet cells dried, batches of 32. They differ in how files are
read and whether the order is kept; the fastest counts.
"""
import json
import os
import pathlib
import resource
import shutil
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tensorflow as tf

BATCH, SIZE, SCALE, THRESHOLD_M = 32, 128, 2, 0.1
FEATURES = {name: tf.io.FixedLenFeature([], tf.string) for name in ("rainfallradar", "waterdepth")}


def shards(folder):
    return sorted(map(str, pathlib.Path(folder).glob("*.tfrecord.gz")), key=lambda path: int(pathlib.Path(path).name.split(".")[0]))


def rewrite(source, target):
    target = pathlib.Path(target)
    target.mkdir(parents=True, exist_ok=True)
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=9)
    for path in shards(source):
        done = target / pathlib.Path(path).name
        if done.exists():
            continue
        part = str(done) + ".part"
        with tf.io.TFRecordWriter(part, options) as writer:
            for record in tf.data.TFRecordDataset(path, compression_type="GZIP"):
                parsed = tf.io.parse_single_example(record, FEATURES)
                feature = {
                    name: tf.train.Feature(
                        bytes_list=tf.train.BytesList(
                            value=[tf.io.serialize_tensor(tf.io.parse_tensor(value, tf.float32)).numpy()]
                        )
                    )
                    for name, value in parsed.items()
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        os.rename(part, done)
    shutil.copy(pathlib.Path(source) / "metadata.json", target)


def transform(metadata):
    rain_shape, depth_shape = metadata["rainfallradar"], metadata["waterdepth"]
    top, left = ((size - SIZE + 1) // 2 for size in depth_shape)
    # Only the rain cells under the crop are repeated: tf.data shall have the quickest form of the same transform.
    first_row, first_column = top // SCALE, left // SCALE
    rows, columns = (top + SIZE - 1) // SCALE + 1 - first_row, (left + SIZE - 1) // SCALE + 1 - first_column
    kernel = tf.ones([3, 3, 1, 1])

    def apply(record):
        parsed = tf.io.parse_single_example(record, FEATURES)
        rain = tf.ensure_shape(tf.io.parse_tensor(parsed["rainfallradar"], tf.float32), rain_shape)
        depth = tf.ensure_shape(tf.io.parse_tensor(parsed["waterdepth"], tf.float32), depth_shape)
        rain = rain[:, first_row : first_row + rows, first_column : first_column + columns]
        rain = tf.repeat(tf.repeat(rain, SCALE, axis=1), SCALE, axis=2)
        rain = rain[:, top % SCALE : top % SCALE + SIZE, left % SCALE : left % SCALE + SIZE]
        wet = tf.cast(depth[top : top + SIZE, left : left + SIZE] >= THRESHOLD_M, tf.float32)
        around = tf.nn.conv2d(wet[tf.newaxis, :, :, tf.newaxis], kernel, 1, "SAME")[0, :, :, 0]
        label = tf.cast((wet > 0) & (around > 1.5), tf.uint8)
        return rain, label

    return apply


def pipeline(folder, times, reads, ordered):
    metadata = json.loads((pathlib.Path(folder) / "metadata.json").read_text())
    records = tf.data.TFRecordDataset(shards(folder), compression_type="GZIP", num_parallel_reads=reads)
    options = tf.data.Options()
    options.deterministic = ordered
    return (
        records.repeat(times)
        .with_options(options)
        .map(transform(metadata), num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH)
        .prefetch(tf.data.AUTOTUNE)
    )


def run(dataset):
    start, samples, first = time.perf_counter(), 0, None
    for rain, label in dataset:
        first = first or time.perf_counter() - start
        samples += rain.shape[0]
        assert rain.shape[1:] == (7, SIZE, SIZE) and label.shape[1:] == (SIZE, SIZE)
    return samples, time.perf_counter() - start, first


def measure(folder, times):
    cores = len(os.sched_getaffinity(0))
    variants = {
        "one file after the other": (None, True),
        "parallel reads, in order": (cores, True),
        "parallel reads, any order": (cores, False),
        "parallel reads AUTOTUNE, any order": (tf.data.AUTOTUNE, False),
    }
    results = {}
    for name, settings in variants.items():
        samples, seconds, first = run(pipeline(folder, times, *settings))
        results[name] = {"samples": samples, "seconds": seconds, "first_batch_s": first}
    best = max(results.values(), key=lambda result: result["samples"] / result["seconds"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**best, "peak_bytes": peak, "version": tf.__version__, "pipelines": results}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["rewrite", source, target]:
            rewrite(source, target)
        case ["measure", folder, times]:
            measure(folder, int(times))
        case _:
            sys.exit(__doc__)
