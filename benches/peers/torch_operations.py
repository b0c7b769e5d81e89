#!/usr/bin/env python3
"""PyTorch side of the `operations` benchmark: forward and backward time of single operations, one JSON line each.

    python3 torch_operations.py [--batch 4] [--device cpu|cuda] [--channels-last] [--tf32]
"""
import argparse, json, statistics, time
import torch, torch.nn as nn, torch.nn.functional as F


def conv(channels_in, channels_out, k, dilation=1, groups=1):
    return nn.Conv2d(channels_in, channels_out, k, padding=dilation * (k // 2), dilation=dilation, groups=groups, bias=False)


# name, input [channels, height, width], module
CASES = [
    ("3×3, 64 channels, 64²", (64, 64, 64), lambda: conv(64, 64, 3)),
    ("3×3 of dilation 6, 256 channels, 16²", (256, 16, 16), lambda: conv(256, 256, 3, 6)),
    ("3×3, 256 channels, 8²", (256, 8, 8), lambda: conv(256, 256, 3)),
    ("3×3, 304→256, 64²", (304, 64, 64), lambda: conv(304, 256, 3)),
    ("1×1, 256→1024, 16²", (256, 16, 16), lambda: conv(256, 1024, 1)),
    ("1×1, 1024→256, 8²", (1024, 8, 8), lambda: conv(1024, 256, 1)),
    ("depthwise 7×7, 96 channels, 32²", (96, 32, 32), lambda: conv(96, 96, 7, groups=96)),
    ("depthwise 7×7, 384 channels, 16²", (384, 16, 16), lambda: conv(384, 384, 7, groups=384)),
    ("bilinear 16²→64², 256 channels", (256, 16, 16), lambda: nn.Upsample((64, 64), mode="bilinear")),
    ("LayerNorm, 96 channels, 32²", (32, 32, 96), lambda: nn.LayerNorm(96)),
    ("BatchNorm and ReLU, 256 channels, 32²", (256, 32, 32), lambda: nn.Sequential(nn.BatchNorm2d(256), nn.ReLU())),
    ("GELU, 384 channels, 32²", (384, 32, 32), lambda: nn.GELU()),
]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--batch", type=int, default=4)
    a.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a.add_argument("--channels-last", action="store_true")
    a.add_argument("--tf32", action="store_true")
    a.add_argument("--warmup", type=int, default=2)
    a.add_argument("--timed", type=int, default=9)
    o = a.parse_args()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = o.tf32
    sync = torch.cuda.synchronize if o.device == "cuda" else (lambda: None)
    for name, shape, module in CASES:
        module = module().to(o.device)
        x = torch.randn(o.batch, *shape, device=o.device, requires_grad=True)
        factor = torch.randn_like(module(x))
        if o.channels_last:
            module = module.to(memory_format=torch.channels_last)
            x = x.detach().to(memory_format=torch.channels_last).requires_grad_()
            factor = factor.to(memory_format=torch.channels_last)
        times = []
        for i in range(o.warmup + o.timed):
            x.grad = None
            module.zero_grad(set_to_none=True)
            sync()
            start = time.perf_counter()
            (module(x) * factor).sum().backward()
            sync()
            if i >= o.warmup:
                times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps(dict(operation=name, ms=round(statistics.median(times), 3), batch=o.batch, device=o.device,
                              version=torch.__version__), ensure_ascii=False))


main()
