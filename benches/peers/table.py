#!/usr/bin/env python3
"""Rows of the encoders benchmark (CSV) beside those of torch_step.py (a JSON object a line), as a Markdown table.

    python3 table.py OURS.csv THEIRS.jsonl
"""
import csv, json, sys


def peer_name(model):
    return model.replace("deeplabv3plus_keras", "deeplabv3plus").replace("convnext_", "convnext-")


ours = list(csv.DictReader(open(sys.argv[1])))
theirs = {row["model"]: row for row in map(json.loads, open(sys.argv[2]))}
first, peer = ours[0], next(iter(theirs.values()))
verb = {"train": "training", "infer": "inference"}[first["mode"]]
print(f"# {first['device']}, {first['precision']}: {verb} step, batch {first['batch']}, {first['size']} × {first['size']} cells, input enlarged ×2\n")
print(f"{first['versions']}, {first['threads']} threads, beside PyTorch {peer['version']} ({peer['device']}"
      f"{', compiled' if peer['compile'] else ''}{', channels last' if peer['channels_last'] else ''}) in the same run.")
print("Made by `benches/peers/compare.sh`.\n")
print("| network | parameters | step, ms (min–max) | samples/s | PyTorch, ms (min–max) | ours / PyTorch |")
print("|---|---|---|---|---|---|")
for row in ours:
    other = theirs[peer_name(row["model"])]
    if int(row["params"]) != other["params"]:
        sys.exit(f"{row['model']}: {row['params']} parameters, PyTorch {other['params']}")
    step = float(row["median_ms"])
    print(f"| {row['model']} | {int(row['params']):,} | {step:.0f} ({float(row['min_ms']):.0f}–{float(row['max_ms']):.0f})"
          f" | {float(row['samples_per_s']):.1f} | {other['step_ms']:.0f} ({other['min_ms']:.0f}–{other['max_ms']:.0f})"
          f" | {step / other['step_ms']:.2f} |")
