#!/usr/bin/env python3
"""Loads exported weights as the printed code says, strictly, and compares what the networks give: python3 load_exports.py FOLDER

For every CASE.py in the folder: CASE.safetensors are the weights, CASE_values.safetensors holds `input` and `output0`, `output1`, …
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn


def outputs(model, x):
    """A whole network's map; an encoder's maps otherwise."""
    kind = type(model).__module__
    if kind.startswith("torchvision.models.resnet"):
        maps = [model.relu(model.bn1(model.conv1(x)))]
        y = model.maxpool(maps[0])
        for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
            if not isinstance(layer, nn.Identity):
                y = layer(y)
                maps.append(y)
        return maps
    if kind.startswith("torchvision.models.mobilenet"):
        maps = []
        for layer in model.features:
            y = layer(x)
            if maps and y.shape[2:] == x.shape[2:]:
                maps.pop()
            maps.append(y)
            x = y
        return maps
    if kind.startswith("torchvision"):
        maps = []
        for i, layer in enumerate(model.features):
            x = layer(x)
            if i % 2:
                maps.append(x.permute(0, 3, 1, 2) if "swin" in kind else x)
        return maps
    y = model(x)
    return [y] if isinstance(y, torch.Tensor) else y


folder = Path(sys.argv[1])
worst = 0.0
for code in sorted(folder.glob("*.py")):
    scope = {}
    exec(code.read_text(), scope)
    values = load_file(folder / f"{code.stem}_values.safetensors")
    with torch.no_grad():
        theirs = outputs(scope["model"].eval(), values["input"])
    # torchvision cannot dilate every encoder: its last map is then a coarser one.
    pairs = [(values[f"output{i}"], y) for i, y in enumerate(theirs) if values[f"output{i}"].shape == y.shape]
    assert len(pairs) >= max(1, len(theirs) - 1), f"{code.stem}: other shapes"
    difference = max(float((ours - y).abs().max()) for ours, y in pairs)
    print(f"{code.stem}: {len(pairs)} maps, max |Δ| = {difference:.1e}")
    worst = max(worst, difference)
assert worst <= 1e-4, worst
