"""Golden values of the losses and of their gradients, from PyTorch in double precision. Writes losses.json beside this file.

    pip install torch && python make.py
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F

B, H, W = 2, 3, 5
CLASS_WEIGHTS, POS_WEIGHT, SMOOTH = [0.4, 2.5], 3.0, 1.5

torch.manual_seed(20)
two = (torch.randn(B, 2, H, W) * 2).double()
two[0, :, 0, 0] = torch.tensor([-60.0, 60.0])  # saturated, right and wrong
two[0, :, 0, 1] = torch.tensor([60.0, -60.0])
two[1, :, 2, 4] = 0.0
one = (torch.randn(B, 1, H, W) * 2).double()
one[0, 0, 0, 0], one[0, 0, 0, 1], one[1, 0, 2, 4] = 60.0, -60.0, 0.0
labels = torch.randint(0, 2, (B, H, W))
labels[0, 0, 0], labels[0, 0, 1], labels[1, 2, 4] = 1, 1, 1
labels[0, 1, 3] = labels[1, 0, 0] = labels[1, 2, 2] = 255


def two_class(logits):
    return logits if logits.shape[1] == 2 else torch.cat([torch.zeros_like(logits), logits], dim=1)


def cross_entropy(logits, labels, weights=None):
    weights = None if weights is None else torch.tensor(weights, dtype=logits.dtype)
    return F.cross_entropy(two_class(logits), labels, weight=weights, ignore_index=255)


def binary_cross_entropy(logits, labels, pos_weight=1.0):
    z = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
    valid = labels != 255
    return F.binary_cross_entropy_with_logits(
        z[valid], labels[valid].to(z.dtype), pos_weight=torch.tensor(pos_weight, dtype=z.dtype)
    )


def dice(logits, labels, smooth=1.0):
    p = torch.softmax(two_class(logits), dim=1)[:, 1]
    valid = labels != 255
    p, y = p[valid], labels[valid].to(p.dtype)
    return 1 - (2 * (p * y).sum() + smooth) / (p.sum() + y.sum() + smooth)


CASES = {
    "cross-entropy": cross_entropy,
    "cross-entropy weighted": lambda l, y: cross_entropy(l, y, CLASS_WEIGHTS),
    "binary-cross-entropy": binary_cross_entropy,
    "binary-cross-entropy weighted": lambda l, y: binary_cross_entropy(l, y, POS_WEIGHT),
    "dice": dice,
    "dice smooth": lambda l, y: dice(l, y, SMOOTH),
    "cross-entropy-dice": lambda l, y: 0.7 * cross_entropy(l, y) + 0.3 * dice(l, y),
    "log-cosh-dice": lambda l, y: torch.log(torch.cosh(dice(l, y))),
}

out = {"labels": labels.flatten().tolist(), "shape": [B, H, W], "cases": []}
for logits in (two, one):
    for name, loss in CASES.items():
        x = logits.clone().requires_grad_()
        value = loss(x, labels)
        value.backward()
        out["cases"].append(
            {
                "name": name,
                "classes": x.shape[1],
                "logits": [float(v) for v in x.detach().flatten()],
                "loss": value.item(),
                "gradient": [float(f"{v:.9g}") for v in x.grad.flatten()],
            }
        )
Path(__file__).with_name("losses.json").write_text(json.dumps(out) + "\n")
