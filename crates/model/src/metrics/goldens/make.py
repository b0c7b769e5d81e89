"""Counts and scores of random maps by segmentation_models_pytorch, summed over the whole split. Writes scores.json beside this
file.

    pip install torch segmentation-models-pytorch && python make.py
"""

import json
from pathlib import Path

import segmentation_models_pytorch.metrics as smp
import torch

torch.manual_seed(4)
CASES = {
    "mixed": (torch.rand(3, 5, 7), torch.randint(0, 2, (3, 5, 7))),
    "few wet": (torch.rand(2, 9, 4) ** 3, (torch.rand(2, 9, 4) < 0.1).long()),
    "all dry": (torch.zeros(1, 4, 6), torch.zeros(1, 4, 6).long()),
}
for _, labels in CASES.values():
    labels[0, 1:3, 2] = 255

out = []
for name, (probability, labels) in CASES.items():
    # Binary mode wants a shape of its own for `ignore_index`: leave the pixels out instead.
    valid = labels != 255
    p, y = probability[valid][None, None], labels[valid][None, None]
    counts = smp.get_stats(p, y, mode="binary", threshold=0.4)
    tp, fp, fn, tn = (int(c.sum()) for c in counts)
    dry = smp.get_stats(1 - (p >= 0.4).float(), 1 - y, mode="binary", threshold=0.5)
    # With one class `macro` is `micro`, which alone does not heed `zero_division`.
    score = lambda f, c=counts, empty=1.0: float(f(*c, reduction="macro", zero_division=empty))
    out.append(
        {
            "name": name,
            "probability": [round(float(v), 6) for v in probability.flatten()],
            "labels": labels.flatten().tolist(),
            "threshold": 0.4,
            "counts": {"tp": tp, "fp": fp, "fn": fn, "tn": tn},
            "scores": {
                "iou_wet": score(smp.iou_score),
                "iou_dry": score(smp.iou_score, dry),
                "pod": score(smp.recall),
                "far": score(smp.false_discovery_rate, empty=0.0),
                "f1": score(smp.f1_score),
                "specificity": score(smp.specificity),
                "accuracy": score(smp.accuracy),
            },
        }
    )
Path(__file__).with_name("scores.json").write_text(json.dumps(out) + "\n")
