"""What the scripts that make reference values share.

Weights and inputs are not stored: both sides compute them from the same integer hash (`sequence` here, `golden.rs` there), tensor after
tensor in the order of our modules' fields. Stored are up to 400 evenly spaced values of each output or gradient, as a safetensors file
whose metadata holds the full shapes.
"""

import math
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

INPUT = 1_000_000  # index of the input tensor
LOSS = 2_000_000  # index of the factors of `loss`
SAMPLES = 400


def sequence(index, count):
    """`count` values in [-1, 1) of tensor number `index`."""
    x = (np.arange(count, dtype=np.uint64) * 747796405 + index * 2891336453 + 1) & 0xFFFFFFFF
    for shift, factor in ((16, 0x45D9F3B), (15, 0x2C1B3C6D), (16, 1)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return x.astype(np.float64) / 2**31 - 1


def tensor(index, shape, kind):
    """Values in PyTorch's layout; `kind` as named in golden.rs."""
    u = sequence(index, math.prod(shape)).reshape(shape)
    if kind == "weight":
        return (u * math.sqrt(3 / math.prod(shape[1:]))).astype(np.float32)
    base = {"gamma": 1.0, "running_var": 1.0}.get(kind, 0.0)
    return (base + 0.2 * u).astype(np.float32)


class Goldens:
    """The values of one file."""

    def __init__(self):
        self.samples, self.shapes = {}, {}

    def keep(self, name, y):
        """An output, or a gradient of `loss`."""
        y = np.ascontiguousarray(y.detach().numpy() if hasattr(y, "detach") else y, dtype=np.float32)
        assert name not in self.samples, name
        self.samples[name] = y.ravel()[:: -(-y.size // SAMPLES)].copy()
        self.shapes[name] = " ".join(map(str, y.shape))
        print(name, list(y.shape), "max |y| of samples", np.abs(self.samples[name]).max())

    def write(self, name):
        save_file(self.samples, Path(__file__).with_name(name), metadata=self.shapes)


def x(*shape):
    """The input of the given shape, for PyTorch."""
    import torch

    return torch.from_numpy(sequence(INPUT, math.prod(shape)).astype(np.float32).reshape(shape))


def loss(y):
    """Sum of all values of `y`, each times a factor of its own."""
    import torch

    return (y * torch.from_numpy(sequence(LOSS, y.numel()).astype(np.float32).reshape(tuple(y.shape)))).sum()


def fill(*parts):
    """Fills convolutions, linear layers, normalisations and single parameters in the order given: that of our fields.

    A parameter given alone is a γ; `(parameter, kind)` is one of another kind.
    """
    import torch
    from torch import nn

    index = 0

    def put(parameter, kind):
        nonlocal index
        parameter.data.copy_(torch.from_numpy(tensor(index, tuple(parameter.shape), kind)))
        index += 1

    for part in parts:
        if part is None or isinstance(part, nn.Identity):
            continue
        if isinstance(part, nn.Parameter):
            put(part, "gamma")
        elif isinstance(part, tuple):
            put(*part)
        else:
            norm = isinstance(part, (nn.BatchNorm2d, nn.LayerNorm))
            put(part.weight, "gamma" if norm else "weight")
            if part.bias is not None:
                put(part.bias, "bias")
            if isinstance(part, nn.BatchNorm2d):
                put(part.running_mean, "running_mean")
                put(part.running_var, "running_var")
