#!/usr/bin/env python3
"""Rows of the encoders benchmark (CSV) beside those of torch_step.py (a JSON object a line), as a Markdown table.

    python3 table.py OURS.csv THEIRS.jsonl
"""
import csv, json, sys


def peer_name(model):
    return model.replace("deeplabv3plus_keras", "deeplabv3plus").replace("convnext_", "convnext-")


def times(median, low, high):
    digits = 0 if median >= 100 else 1
    return f"{median:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


ours = list(csv.DictReader(open(sys.argv[1])))
theirs = {row["model"]: row for row in map(json.loads, open(sys.argv[2]))}
first, peer = ours[0], next(iter(theirs.values()))
verb = {"train": "training", "infer": "inference"}[first["mode"]]
batches = sorted({int(row["batch"]) for row in ours}, reverse=True)
print(f"# {first['device']}, {first['precision']}: {verb} step, batch {' and '.join(map(str, batches))}, "
      f"{first['size']} × {first['size']} cells, input enlarged ×2\n")
machine = f"{first['threads']} threads" if first["device"] == "cpu" else first["device_name"]
print(f"{first['versions']}, {machine}, beside PyTorch {peer['version']} ({peer['device']}, {peer['precision']}"
      f"{', compiled' if peer['compile'] else ''}{', channels last' if peer['channels_last'] else ''}) in the same run.")
print("Made by `benches/peers/compare.sh`. The ratio is one of times a sample.\n")
print("| network | parameters | GMACs | step, ms (min–max) | samples/s | peak MiB | PyTorch, ms (min–max) | ours / PyTorch |")
print("|---|---|---|---|---|---|---|---|")
for row in ours:
    other = theirs[peer_name(row["model"])]
    if int(row["params"]) != other["params"]:
        sys.exit(f"{row['model']}: {row['params']} parameters, PyTorch {other['params']}")
    step = times(*(float(row[key]) for key in ("median_ms", "min_ms", "max_ms")))
    ratio = float(row["median_ms"]) / int(row["batch"]) / (other["step_ms"] / other["batch"])
    print(f"| {row['model']} | {int(row['params']):,} | {float(row['gmacs']):.2f} | {step} | {float(row['samples_per_s']):.1f}"
          f" | {row['peak_mib'] or '–'} | {times(*(other[key] for key in ('step_ms', 'min_ms', 'max_ms')))} | {ratio:.2f} |")
