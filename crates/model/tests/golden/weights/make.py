#!/usr/bin/env python3
"""State dicts of public models and what these give: writes state_dicts.json, narrow.pth and narrow_legacy.pth.

    pip install torch torchvision timm segmentation-models-pytorch
    python3 make.py

Values are not stored (but in the two small .pth files). Both sides compute them from an integer hash of the tensor's place in the state dict (`values` here,
tests.rs there); stored are names, shapes and up to 200 evenly spaced values of every output.
"""

import json
import math
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn

INPUT = 1_000_000  # place of the input


def sequence(index, count):
    """`count` values in [-1, 1) of tensor number `index`."""
    x = (np.arange(count, dtype=np.uint64) * 747796405 + index * 2891336453 + 1) & 0xFFFFFFFF
    for shift, factor in ((16, 0x45D9F3B), (15, 0x2C1B3C6D), (16, 1)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return x.astype(np.float64) / 2**31 - 1


def values(index, name, shape):
    """Weights of scale 1 / sqrt(fan-in), factors around 1 (0.2 for the scale of a residual branch), offsets around 0."""
    u = sequence(index, math.prod(shape)).reshape(shape)
    fan_in = 1 if "grn" in name else math.prod(shape[1:])
    if fan_in > 1:
        return u * math.sqrt(1 / fan_in)
    base = 0.0
    if name.endswith((".weight", "running_var")) and "grn" not in name:
        base = 1.0
    elif "grn" not in name and name.endswith(("gamma", "layer_scale")):
        base = 0.2
    return base + 0.1 * u


def fill(net):
    state = net.state_dict()
    for index, (name, tensor) in enumerate(state.items()):
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(values(index, name, tuple(tensor.shape)).astype(np.float32)))
    return net.eval()


def x(*shape):
    return torch.from_numpy(sequence(INPUT, math.prod(shape)).astype(np.float32).reshape(shape))


def samples(y):
    y = y.detach().numpy()
    step = -(-y.size // 200)
    return {"shape": list(y.shape), "step": step, "values": [float(f"{v:.7g}") for v in y.ravel()[::step]]}


class OfficialConvNeXt(nn.Module):
    """The names and the order of the authors' convnext.py; computes through timm, whose loader knows them."""

    class Block(nn.Module):
        def __init__(self, dim, v2):
            super().__init__()
            self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
            self.norm = nn.LayerNorm(dim, eps=1e-6)
            self.pwconv1, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
            if v2:
                self.grn = nn.Module()
                self.grn.gamma = nn.Parameter(torch.zeros(1, 1, 1, 4 * dim))
                self.grn.beta = nn.Parameter(torch.zeros(1, 1, 1, 4 * dim))
            else:
                self.gamma = nn.Parameter(torch.ones(dim))

    def __init__(self, name, depths, dims, v2=False, kwargs={}):
        super().__init__()
        norm = lambda dim: nn.LayerNorm(dim, eps=1e-6)
        layers = [nn.Sequential(nn.Conv2d(3, dims[0], 4, 4), norm(dims[0]))]
        layers += [nn.Sequential(norm(i), nn.Conv2d(i, o, 2, 2)) for i, o in zip(dims, dims[1:])]
        self.downsample_layers = nn.ModuleList(layers)
        self.stages = nn.ModuleList(nn.Sequential(*[self.Block(dim, v2) for _ in range(n)]) for n, dim in zip(depths, dims))
        self.norm, self.head = norm(dims[-1]), nn.Linear(dims[-1], 4)
        self.name, self.kwargs = name, kwargs

    def forward(self, y):
        net = timm.create_model(self.name, num_classes=4, **self.kwargs).eval()
        net.load_state_dict(timm.models.convnext.checkpoint_filter_fn(self.state_dict(), net))
        return net.forward_intermediates(y, intermediates_only=True)


def maps_of(net, y):
    """The output of every stage."""
    if hasattr(net, "forward_intermediates"):
        return net.forward_intermediates(y, intermediates_only=True)
    if isinstance(net, (OfficialConvNeXt, timm.models._features.FeatureListNet)):
        return net(y)
    if isinstance(net, torchvision.models.ResNet):
        maps = [net.relu(net.bn1(net.conv1(y)))]
        y = net.maxpool(maps[0])
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            y = layer(y)
            maps.append(y)
        return maps
    maps = []
    if isinstance(net, torchvision.models.MobileNetV3):
        for layer in net.features:
            # The last map of every resolution, before the block that halves it.
            if maps and layer(y).shape[2:] == y.shape[2:] or y.shape[1] == 3:
                maps[len(maps) - 1 :] = [layer(y)]
            else:
                maps.append(layer(y))
            y = maps[-1]
        return maps
    for i, layer in enumerate(net.features):
        y = layer(y)
        if i % 2:
            maps.append(y.permute(0, 3, 1, 2) if isinstance(net, torchvision.models.SwinTransformer) else y)
    return maps


torch.manual_seed(0)
goldens = {}


def keep(name, net, outputs):
    state = [[key, list(value.shape), str(value.dtype).removeprefix("torch.")] for key, value in net.state_dict().items()]
    goldens[name] = {"state": state, "outputs": [samples(y) for y in outputs]}
    print(name, len(state), [round(float(y.abs().max()), 2) for y in outputs])


with torch.no_grad():
    PICTURE, WIDE = x(1, 3, 96, 64), x(1, 3, 224, 448)
    tiny = dict(depths=(3, 3, 9, 3), dims=(96, 192, 384, 768))
    size = dict(depths=(1, 1, 2, 1), dims=(6, 8, 10, 12))
    for name, net in {
        "torchvision resnet50": torchvision.models.resnet50(weights=None),
        "torchvision resnet18": torchvision.models.resnet18(weights=None),
        "torchvision convnext_tiny": torchvision.models.convnext_tiny(weights=None),
        "timm convnext_tiny": timm.create_model("convnext_tiny"),
        "timm convnext_atto": timm.create_model("convnext_atto"),
        "timm features convnext_atto": timm.create_model("convnext_atto", features_only=True, output_stride=16),
        "official convnext_tiny": OfficialConvNeXt("convnext_tiny", **tiny),
        "timm convnextv2_atto": timm.create_model("convnextv2_atto", num_classes=0),
        "official convnextv2_atto": OfficialConvNeXt("convnextv2_atto", (2, 2, 6, 2), (40, 80, 160, 320), v2=True),
        "torchvision swin_t": torchvision.models.swin_t(weights=None),
        "timm swin_t": timm.create_model("swin_tiny_patch4_window7_224", img_size=(224, 448)),
        "torchvision mobilenet_v3_small": torchvision.models.mobilenet_v3_small(weights=None),
        "torchvision mobilenet_v3_large": torchvision.models.mobilenet_v3_large(weights=None),
        "official narrow": (narrow := OfficialConvNeXt("convnext_tiny", **size, kwargs=size)),
    }.items():
        keep(name, fill(net), maps_of(net, WIDE if "swin" in name else PICTURE))

    fcn = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=2, aux_loss=True)
    keep("torchvision fcn_resnet50", fill(fcn), [fcn(PICTURE)["out"]])

here = Path(__file__).parent
torch.save({"model": narrow.state_dict(), "epoch": 300}, here / "narrow.pth")
torch.save({"model": narrow.state_dict(), "epoch": 300}, here / "narrow_legacy.pth", _use_new_zipfile_serialization=False)
lines = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in goldens.items()]
path = here / "state_dicts.json"
path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
print(path.stat().st_size, "bytes")
