#!/usr/bin/env python3
"""Reference values of whole segmenters from segmentation_models_pytorch and torchvision, of the inverse ConvNeXt and of InfoNCE; see
common.py.

    python3 make_decoders.py   # writes decoders.safetensors (torch, torchvision, segmentation-models-pytorch)

Each segmenter stands on ResNet-18 and has a narrow decoder. Logits are those of evaluation; gradients those of training, with the batch's
own moments in the batch normalisations and without dropout.
"""

import segmentation_models_pytorch as smp
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from torchvision.models._utils import IntermediateLayerGetter

from common import Goldens, fill, loss, x

goldens = Goldens()
keep = goldens.keep


def resnet_parts(net):
    parts = [net.conv1, net.bn1]
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        for b in layer:
            parts += [b.conv1, b.bn1, b.conv2, b.bn2]
            parts += list(b.downsample) if b.downsample is not None else []
    return parts


def leaves(*modules):
    """Layers with parameters, in order."""
    return [m for module in modules for m in module.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d))]


def aspp_parts(aspp):
    """In the order of our fields: image pooling, 1×1, dilated, mixing."""
    pointwise, *dilated, pool = aspp.convs
    return leaves(pool, pointwise, *dilated, aspp.project)


def without_dropout(net):
    for module in net.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    return net


def segmenter(name, net, parts, forward, size=(64, 96), train_size=(32, 96), **parameters):
    fill(*parts)
    with torch.no_grad():
        keep(name, forward(without_dropout(net).eval())(x(1, 3, *size)))
    keys = ["x", "stem", *parameters]
    gradients = []
    for precision in (torch.float32, torch.float64):
        net.to(precision).train()
        y = x(3, 3, *train_size).to(precision).requires_grad_()
        # Parameters are replaced in place, so these are the same objects in both precisions.
        gradients.append(torch.autograd.grad(loss(forward(net)(y)), [y, net_stem(net), *parameters.values()]))
    for key, single, double in zip(keys, *gradients):
        # A ReLU that rounding opens or closes makes a jump: such a size is no reference.
        difference = ((single - double).abs().max() / double.abs().max()).item()
        assert difference < 1e-4, (name, key, difference)
        keep(f"{name}_{key}", double)


def net_stem(net):
    encoder = net.encoder if hasattr(net, "encoder") else net.backbone
    return encoder.conv1.weight


# Wide enough for the taps of dilation 36 at stride 16, and of dilation 12 in training.
WIDE = {"size": (32, 608), "train_size": (16, 256)}
common = dict(encoder_name="resnet18", encoder_weights=None, in_channels=3, classes=2)

net = smp.DeepLabV3Plus(**common, encoder_output_stride=16, decoder_channels=16)
d = net.decoder
aspp, after, norm, _ = d.aspp
segmenter(
    "deeplabv3plus_smp",
    net,
    [*resnet_parts(net.encoder), *aspp_parts(aspp), *leaves(after), norm, *leaves(d.block1, d.block2), *leaves(net.segmentation_head)],
    lambda net: net,
    **WIDE,
    dilated=aspp.convs[1][0][0].weight,
    pool=aspp.convs[4][1].weight,
    project=aspp.project[0].weight,
    after=after[1].weight,
    low=d.block1[0].weight,
    fuse_norm=d.block2[1].weight,
    head=net.segmentation_head[0].weight,
)

net = smp.DeepLabV3(**common, encoder_output_stride=16, decoder_channels=16)
d = net.decoder
segmenter(
    "deeplabv3",
    net,
    [*resnet_parts(net.encoder), *aspp_parts(d.aspp), d.conv, d.bn, *leaves(net.segmentation_head)],
    lambda net: net,
    **WIDE,
    dilated=d.aspp.convs[1][0].weight,
    conv=d.conv.weight,
    norm=d.bn.bias,
    head=net.segmentation_head[0].bias,
)

net = smp.PSPNet(**common, psp_out_channels=16)
d = net.decoder
encoder = resnet_parts(net.encoder)[: 2 + 4 * 2 + 4 * 2 + 2]  # up to stride 8; layer3 and layer4 are not used
segmenter(
    "pspnet",
    net,
    [*encoder, *leaves(d), *leaves(net.segmentation_head)],
    lambda net: net,
    whole=d.psp.blocks[0].pool[1][0].bias,
    sixth=d.psp.blocks[3].pool[1][0].weight,
    project=d.conv[0].weight,
    head=net.segmentation_head[0].weight,
)

net = smp.Unet(**common, decoder_channels=(32, 16, 8, 4, 2))
segmenter(
    "unet",
    net,
    [*resnet_parts(net.encoder), *leaves(net.decoder), *leaves(net.segmentation_head)],
    lambda net: net,
    first=net.decoder.blocks[0].conv1[0].weight,
    last=net.decoder.blocks[4].conv2[0].weight,
    norm=net.decoder.blocks[2].conv2[1].weight,
    head=net.segmentation_head[0].weight,
)

backbone = IntermediateLayerGetter(torchvision.models.resnet18(weights=None), {"layer4": "out"})
net = torchvision.models.segmentation.FCN(backbone, torchvision.models.segmentation.fcn.FCNHead(512, 2))
segmenter(
    "fcn",
    net,
    [*resnet_parts(backbone), *leaves(net.classifier)],
    lambda net: lambda y: net(y)["out"],
    conv=net.classifier[0].weight,
    head=net.classifier[4].weight,
)


# Inverse ConvNeXt: two stages of 6 → 8 → 4 channels with 1 and 2 blocks, channels-last where Liu et al. are.
class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(c, c, 7, padding=3, groups=c), nn.LayerNorm(c, eps=1e-6)
        self.pwconv1, self.pwconv2, self.gamma = nn.Linear(c, 4 * c), nn.Linear(4 * c, c), nn.Parameter(torch.ones(c))

    def forward(self, y):
        z = self.norm(self.dwconv(y).permute(0, 2, 3, 1))
        return y + (self.gamma * self.pwconv2(F.gelu(self.pwconv1(z)))).permute(0, 3, 1, 2)

    def parts(self):
        return [(self.dwconv.weight, "weight"), (self.dwconv.bias, "bias"), self.norm, self.pwconv1, self.pwconv2, self.gamma]


class Stage(nn.Module):
    def __init__(self, i, o, depth):
        super().__init__()
        self.up, self.norm = nn.ConvTranspose2d(i, o, 2, stride=2), nn.LayerNorm(o, eps=1e-6)
        self.blocks = nn.Sequential(*[Block(o) for _ in range(depth)])

    def forward(self, y):
        return self.blocks(self.norm(self.up(y).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

    def parts(self):
        return [self.up, self.norm, *[part for block in self.blocks for part in block.parts()]]


stages = nn.Sequential(Stage(6, 8, 1), Stage(8, 4, 2))
fill(*[part for stage in stages for part in stage.parts()])
y = x(2, 6, 3, 5).requires_grad_()
out = stages(y)
keep("convnext_inverse", out)
keys = {"x": y, "up": stages[1].up.weight, "norm": stages[0].norm.weight, "depthwise": stages[0].blocks[0].dwconv.weight}
for key, gradient in zip(keys, torch.autograd.grad(loss(out), list(keys.values()))):
    keep(f"convnext_inverse_{key}", gradient)

# Resizing with aligned corners.
for height, width in ((10, 13), (5, 7), (3, 4), (1, 28)):
    keep(f"resize_aligned_{height}x{width}", F.interpolate(x(2, 3, 5, 7), size=(height, width), mode="bilinear", align_corners=True))
keep("resize_aligned_4x6", F.interpolate(x(2, 3, 1, 1), size=(4, 6), mode="bilinear", align_corners=True))

# Symmetric InfoNCE as CLIP's code writes it, over 4 pairs of 6 features at temperature 0.07.
pairs = x(2, 1, 4, 6).requires_grad_()
scale = torch.tensor([1 / 0.07]).log().requires_grad_()
rain, water = F.normalize(pairs[:, 0], dim=-1)
logits = scale.exp() * rain @ water.T
labels = torch.arange(4)
out = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
keep("info_nce", out.reshape(1))
for key, gradient in zip(("pairs", "scale"), torch.autograd.grad(out, (pairs, scale))):
    keep(f"info_nce_{key}", gradient)

goldens.write("decoders.safetensors")


def count(net):
    return sum(p.numel() for p in net.parameters())


for name, net in {
    "deeplabv3plus_smp-resnet50": smp.DeepLabV3Plus("resnet50", encoder_weights=None, classes=21),
    "deeplabv3-resnet50": smp.DeepLabV3("resnet50", encoder_weights=None, classes=21),
    "deeplabv3-resnet50 of torchvision, with its auxiliary head": torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    ),
    "pspnet-resnet50": smp.PSPNet("resnet50", encoder_weights=None, classes=21, encoder_depth=3),
    "unet-resnet50": smp.Unet("resnet50", encoder_weights=None, classes=21),
    "fcn-resnet50": torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=False),
    "unet-convnext_tiny": smp.Unet("tu-convnext_tiny", encoder_weights=None, classes=21),
}.items():
    print(name, count(net))
unused = smp.PSPNet("resnet50", encoder_weights=None, classes=21, encoder_depth=3).encoder
print("of pspnet-resnet50 not used", count(unused.layer3) + count(unused.layer4))
