"""Golden values of the losses and of their gradients, from PyTorch and segmentation_models_pytorch in double precision. Writes losses.json
beside this file.

    pip install torch segmentation-models-pytorch scipy && python make.py
"""

import json
from pathlib import Path

import numpy as np
import segmentation_models_pytorch.losses as smp
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_cdt

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


def cross_entropy(logits, labels, weights=None, smoothing=0.0):
    weights = None if weights is None else torch.tensor(weights, dtype=logits.dtype)
    return F.cross_entropy(two_class(logits), labels, weight=weights, ignore_index=255, label_smoothing=smoothing)


def log_odds(logits):
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def binary_cross_entropy(logits, labels, pos_weight=1.0, smoothing=0.0):
    z, valid = log_odds(logits), labels != 255
    y = labels[valid].to(z.dtype) * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(z[valid], y, pos_weight=torch.tensor(pos_weight, dtype=z.dtype))


def dice(logits, labels, smooth=1.0):
    p = torch.softmax(two_class(logits), dim=1)[:, 1]
    valid = labels != 255
    p, y = p[valid], labels[valid].to(p.dtype)
    return 1 - (2 * (p * y).sum() + smooth) / (p.sum() + y.sum() + smooth)


def labelled(logits, labels):
    """Log-odds and truth of the labelled pixels, as one row of pixels, for the losses of segmentation_models_pytorch."""
    valid = labels != 255
    return log_odds(logits)[valid][None, None, None], labels[valid][None, None, None].double()


def boundary(logits, labels, a=4.0, sigma=1.0):
    weights = []
    for truth in labels.numpy():
        distance = np.zeros(truth.shape)
        for this, other in ((1, 0), (0, 1)):
            # Distance to the nearest pixel of the other class; without one, infinitely far.
            to_other = distance_transform_cdt(truth != other, metric="chessboard")
            far = np.inf if not (truth == other).any() else to_other
            distance = np.where(truth == this, far, distance)
        d = distance - 1
        weights.append(1 + a * np.where(d <= 3 * sigma, np.exp(-(d**2) / (2 * sigma**2)), 0.0))
    weights, valid = torch.tensor(np.stack(weights)), labels != 255
    nll = F.cross_entropy(two_class(logits), labels, ignore_index=255, reduction="none")
    return (weights * nll)[valid].sum() / weights[valid].sum()


def by_wet_share(logits, labels, weight=3.0):
    """Cross-entropy and dice with every pixel counted as its map's wet share says."""
    y, valid = labels.double(), (labels != 255).double()
    y = y * valid
    share = y.sum((1, 2)) / valid.sum((1, 2))
    w = valid * (1 + weight * share)[:, None, None]
    nll = F.cross_entropy(two_class(logits), labels, ignore_index=255, reduction="none")
    p = torch.sigmoid(log_odds(logits))
    dice = 1 - (2 * (w * p * y).sum() + 1) / ((w * p).sum() + (w * y).sum() + 1)
    return (w * nll).sum() / w.sum() + dice


CASES = {
    "cross-entropy": cross_entropy,
    "cross-entropy weighted": lambda l, y: cross_entropy(l, y, CLASS_WEIGHTS),
    "cross-entropy smoothed": lambda l, y: cross_entropy(l, y, CLASS_WEIGHTS, 0.2),
    "binary-cross-entropy": binary_cross_entropy,
    "binary-cross-entropy weighted": lambda l, y: binary_cross_entropy(l, y, POS_WEIGHT),
    "binary-cross-entropy smoothed": lambda l, y: binary_cross_entropy(l, y, POS_WEIGHT, 0.2),
    "boundary-cross-entropy": boundary,
    "boundary-cross-entropy wide": lambda l, y: boundary(l, y, 2.0, 1.7),
    "focal": lambda l, y: smp.FocalLoss("binary")(*labelled(l, y)),
    "focal weighted": lambda l, y: smp.FocalLoss("binary", alpha=0.7, gamma=1.5)(*labelled(l, y)),
    "dice": dice,
    # Theirs (since 0.5) is the Tversky index with half the weights, and so with half the smoothing.
    "dice smooth": lambda l, y: smp.DiceLoss("binary", smooth=SMOOTH / 2)(*labelled(l, y)),
    "jaccard": lambda l, y: smp.JaccardLoss("binary", smooth=1.0)(*labelled(l, y)),
    "tversky": lambda l, y: smp.TverskyLoss("binary", smooth=1.0, alpha=0.3, beta=0.7)(*labelled(l, y)),
    "focal-tversky": lambda l, y: smp.TverskyLoss("binary", smooth=1.0, alpha=0.3, beta=0.7, gamma=0.75)(*labelled(l, y)),
    "lovasz": lambda l, y: smp.LovaszLoss("binary", ignore_index=255)(log_odds(l).float(), y.float()),
    "lovasz per image": lambda l, y: smp.LovaszLoss("binary", per_image=True, ignore_index=255)(log_odds(l).float(), y.float()),
    "cross-entropy-dice": lambda l, y: 0.7 * cross_entropy(l, y) + 0.3 * dice(l, y),
    "log-cosh-dice": lambda l, y: torch.log(torch.cosh(dice(l, y))),
    "sum": lambda l, y: cross_entropy(l, y) + dice(l, y),
    "sum by wet share": by_wet_share,
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
