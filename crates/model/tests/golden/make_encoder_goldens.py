#!/usr/bin/env python3
"""Reference values of encoders from torchvision, timm and segmentation_models_pytorch; see common.py.

    python3 make_encoder_goldens.py   # writes encoders.safetensors
"""

import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.swin_transformer import SwinTransformer

from common import Goldens, fill, loss, x

goldens = Goldens()
keep = goldens.keep


def gradients(name, y, **parameters):
    """Keeps the gradients of `loss(y)` by the parameters."""
    for key, gradient in zip(parameters, torch.autograd.grad(loss(y), list(parameters.values()))):
        keep(f"{name}_{key}", gradient)


class Cbam(nn.Module):
    """Woo et al. 2018, equations 1-3, in the official form: its normalisation, biases and order of the pooled maps."""

    def __init__(self, channels, reduction):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.conv, self.norm = nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1)

    def parts(self):
        return [self.fc1, self.fc2, self.conv, self.norm]

    def forward(self, y):
        gate = sum(self.fc2(torch.relu(self.fc1(pooled))) for pooled in (y.mean((2, 3)), y.amax((2, 3))))
        y = y * torch.sigmoid(gate)[:, :, None, None]
        return y * torch.sigmoid(self.norm(self.conv(torch.stack([y.amax(1), y.mean(1)], 1))))


class ChannelsLast(nn.Module):
    """A layer for maps, on channels-last ones."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, y):
        return self.layer(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


# ConvNeXt: torchvision's tiny, and narrow ones of both versions by timm.
net = torchvision.models.convnext_tiny().eval()
parts = []
for part in net.features:
    for layer in part:
        if hasattr(layer, "layer_scale"):
            layer.layer_scale = nn.Parameter(layer.layer_scale)
            parts += [layer.block[0], layer.block[2], layer.block[3], layer.block[5], layer.layer_scale]
        else:
            parts += [module for module in layer.modules() if isinstance(module, (nn.Conv2d, nn.LayerNorm))]
fill(*parts)
y = x(1, 3, 61, 45)
for i, part in enumerate(net.features):
    y = part(y)
    if i % 2 == 1:
        keep(f"convnext_tiny_stage{i // 2 + 1}", y)


def timm_convnext(v2, cbam=False):
    options = dict(use_grn=True, ls_init_value=None) if v2 else {}
    net = timm.models.convnext.ConvNeXt(depths=(1, 2, 1, 1), dims=(8, 12, 16, 24), **options)
    parts = [net.stem[0], net.stem[1]]
    for stage in net.stages:
        if not isinstance(stage.downsample, nn.Identity):
            parts += [stage.downsample[0], stage.downsample[1]]
        for b in stage.blocks:
            parts += [b.conv_dw, b.norm, b.mlp.fc1]
            parts += [(b.mlp.grn.weight, "gamma"), (b.mlp.grn.bias, "bias")] if v2 else []
            parts += [b.mlp.fc2, b.gamma]
            if cbam:
                # Where timm drops paths: on the branch, just before the addition.
                b.drop_path = Cbam(b.conv_dw.out_channels, 4)
                parts += b.drop_path.parts()
    fill(*parts)
    return net


for name, v2 in (("convnext", False), ("convnextv2", True)):
    net = timm_convnext(v2)
    y = net.stem(x(2, 3, 61, 45))
    for i, stage in enumerate(net.stages):
        y = stage(y)
        keep(f"{name}_narrow_stage{i + 1}", y)
    b = net.stages[1].blocks[1]
    own = dict(grn=b.mlp.grn.weight) if v2 else dict(scale=b.gamma)
    gradients(
        f"{name}_narrow",
        y,
        stem=net.stem[0].weight,
        depthwise=b.conv_dw.weight,
        depthwise_bias=b.conv_dw.bias,
        norm=b.norm.weight,
        expand=b.mlp.fc1.weight,
        **own,
    )
    net = timm_convnext(v2, cbam=True).eval()
    keep(f"{name}_cbam", net.stages(net.stem(x(1, 3, 61, 45))))


# ResNet: smp's way of dilation, gradients, attention.
def resnet_parts(net, cbam=False):
    parts = [net.conv1, net.bn1]
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        for b in layer:
            parts += [b.conv1, b.bn1, b.conv2, b.bn2]
            parts += [b.conv3, b.bn3] if hasattr(b, "conv3") else []
            if cbam:
                attention = Cbam(b.conv2.out_channels, 4)
                b.bn2 = nn.Sequential(b.bn2, attention)
                parts += attention.parts()
            parts += list(b.downsample) if b.downsample is not None else []
    return parts


net = smp.encoders.get_encoder("resnet18", weights=None, output_stride=8).eval()
fill(*resnet_parts(net))
for i, y in enumerate(net(x(1, 3, 61, 45))[1:]):
    keep(f"resnet18_smp_stride8_map{i}", y)

net = torchvision.models.resnet50().train()
fill(*resnet_parts(net))
y = net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x(2, 3, 37, 29)))))))
keep("resnet50_train", y)
b = net.layer2[0]
gradients(
    "resnet50_train",
    y,
    stem=net.conv1.weight,
    stem_norm=net.bn1.weight,
    conv2=b.conv2.weight,
    conv2_norm=b.bn2.weight,
    shortcut=b.downsample[0].weight,
    shortcut_norm=b.downsample[1].weight,
)

net = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
fill(*resnet_parts(net, cbam=True))
net.eval()
y = net.maxpool(net.relu(net.bn1(net.conv1(x(1, 3, 61, 45)))))
keep("resnet_cbam", net.layer4(net.layer3(net.layer2(net.layer1(y)))))


# Swin, with fewer channels.
def swin(dim, depths, heads, cbam=False):
    net = SwinTransformer([4, 4], dim, depths, heads, [7, 7], stochastic_depth_prob=0.0)
    parts = [net.features[0][0], net.features[0][2]]
    for i, part in enumerate(net.features[1:]):
        if i % 2 == 1:
            parts += [part.norm, part.reduction]
            continue
        for b in part:
            parts += [b.norm1, b.attn.qkv, b.attn.proj, (b.attn.relative_position_bias_table.t(), "weight")]
            parts += [b.norm2, b.mlp[0], b.mlp[3]]
            if cbam:
                attention = Cbam(b.mlp[3].out_features, 4)
                b.mlp = nn.Sequential(*b.mlp, ChannelsLast(attention))
                parts += attention.parts()
    fill(*parts)
    return net.eval()


net = swin(24, [2, 2, 6, 2], [1, 2, 3, 6])
y = x(1, 3, 125, 77)
for i, part in enumerate(net.features):
    y = part(y)
    if i % 2 == 1:
        keep(f"swin_stage{i // 2 + 1}", y.permute(0, 3, 1, 2))

net = swin(24, [2, 2], [1, 2])
b, merging = net.features[1][1], net.features[2]
gradients(
    "swin",
    net.features(x(2, 3, 61, 45)).permute(0, 3, 1, 2),
    position_bias=b.attn.relative_position_bias_table,
    qkv=b.attn.qkv.weight,
    project=b.attn.proj.weight,
    expand=b.mlp[0].weight,
    merging=merging.reduction.weight,
    merging_norm=merging.norm.weight,
)
keep("swin_cbam", swin(8, [1, 2, 1, 1], [1, 1, 2, 2], cbam=True).features(x(1, 3, 61, 45)).permute(0, 3, 1, 2))


# MobileNetV3.
def mobilenet(size, cbam=False, **options):
    net = getattr(torchvision.models, f"mobilenet_v3_{size}")(weights=None, **options)
    parts = [net.features[0][0], net.features[0][1]]
    for block in net.features[1:-1]:
        for layer in block.block:
            parts += [layer.fc1, layer.fc2] if hasattr(layer, "fc1") else [layer[0], layer[1]]
        if cbam:
            attention = Cbam(block.out_channels, 4)
            block.block.append(attention)
            parts += attention.parts()
    parts += [net.features[-1][0], net.features[-1][1]]
    fill(*parts)
    return net


def mobilenet_maps(net, y):
    """The map before each block that strides, and the last."""
    maps = []
    for i, block in enumerate(net.features):
        if getattr(block, "_is_cn", False):
            maps.append(y)
        y = block(y)
    return maps + [y]


for size, stride in (("small", 32), ("large", 32), ("large", 16)):
    net = mobilenet(size, dilated=stride == 16).eval()
    for i, y in enumerate(mobilenet_maps(net, x(1, 3, 61, 45))):
        keep(f"mobilenet_v3_{size}_stride{stride}_map{i}", y)

net = mobilenet("small").train()
y = mobilenet_maps(net, x(2, 3, 61, 45))[3]
keep("mobilenet_v3_train", y)
block = net.features[4].block
gradients(
    "mobilenet_v3_train",
    y,
    stem=net.features[0][0].weight,
    depthwise=block[1][0].weight,
    norm=block[1][1].weight,
    squeeze=block[2].fc1.weight,
    project=block[3][0].weight,
)
keep("mobilenet_v3_small_cbam", mobilenet("small", cbam=True).eval().features(x(1, 3, 61, 45)))

goldens.write("encoders.safetensors")
