#!/usr/bin/env python3
"""Reference values of layers and networks from torchvision, timm, PyTorch and Keras; see common.py.

    python3 make_goldens.py pytorch   # writes pytorch.safetensors (torch, torchvision, timm)
    python3 make_goldens.py keras     # writes keras.safetensors (keras, tensorflow)
"""

import math
import sys

import numpy as np

from common import INPUT, Goldens, fill, loss, sequence, tensor, x


def pytorch():
    import timm
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    import torchvision
    from timm.layers.cbam import CbamModule
    from timm.layers.grn import GlobalResponseNorm

    goldens = Goldens()
    keep = goldens.keep

    def gradients(name, y, **parameters):
        """Keeps `y` and the gradients of `loss(y)` by the parameters."""
        keep(name, y)
        for key, gradient in zip(parameters, torch.autograd.grad(loss(y), list(parameters.values()))):
            keep(f"{name}_{key}", gradient)

    def leaf(*shape):
        return x(*shape).requires_grad_()

    for height, width in ((10, 13), (5, 7), (3, 4), (20, 28)):
        y = leaf(2, 3, 5, 7)
        resized = F.interpolate(y, size=(height, width), mode="bilinear", align_corners=False)
        gradients(f"resize_{height}x{width}", resized, x=y)

    for rows, columns in ((1, 1), (2, 3), (6, 4), (9, 5), (11, 7)):
        y = leaf(2, 3, 9, 5)
        gradients(f"adaptive_max_{rows}x{columns}", F.adaptive_max_pool2d(y, (rows, columns)), x=y)
    y = leaf(2, 3, 9, 5)
    gradients("global_mean", F.adaptive_avg_pool2d(y, 1), x=y)
    gradients("global_max", F.adaptive_max_pool2d(y, 1), x=y)

    norm, y = timm.layers.LayerNorm2d(6, eps=1e-6), leaf(2, 6, 3, 5)
    fill(norm)
    gradients("layer_norm2d", norm(y), x=y, gamma=norm.weight)

    scale, y = timm.layers.LayerScale(6), leaf(2, 3, 5, 6)
    fill(scale.gamma)
    gradients("layer_scale", scale(y), x=y, gamma=scale.gamma)

    conv, y = nn.Conv2d(6, 6, 7, padding=6, dilation=2, groups=6), leaf(2, 6, 9, 7)
    fill(conv)
    gradients("depthwise_conv", conv(y), x=y, weight=conv.weight, bias=conv.bias)

    squeeze, y = torchvision.ops.SqueezeExcitation(12, 5, scale_activation=nn.Hardsigmoid), leaf(2, 12, 9, 5)
    fill(squeeze.fc1, squeeze.fc2)
    gradients("squeeze_excitation", squeeze(y), x=y, squeeze=squeeze.fc1.weight)

    # In training mode.
    def unit(i, o, k=1, d=1, groups=1, bias=False):
        return [nn.Conv2d(i, o, k, padding=d * (k // 2), dilation=d, groups=groups, bias=bias), nn.BatchNorm2d(o), nn.ReLU()]

    def separable(i, o, d=1):
        return [*unit(i, i, 3, d, i), *unit(i, o)]

    def run(layers, y):
        return nn.Sequential(*layers)(y)

    def fill_units(*layers):
        fill(*[part for part in sum(layers, []) if not isinstance(part, nn.ReLU)])

    layers, y = separable(6, 10, 2), leaf(2, 6, 9, 7)
    fill_units(layers)
    gradients("separable_conv", run(layers, y), x=y, depthwise=layers[0].weight, pointwise=layers[3].weight)

    for name, form in (("aspp", lambda i, o, d: unit(i, o, 3, d)), ("aspp_separable", separable)):
        pool, point, project = unit(8, 6, bias=name == "aspp"), unit(8, 6), unit(5 * 6, 6)
        dilated = [form(8, 6, d) for d in (2, 4, 6)]
        fill_units(pool, point, *dilated, project)
        y = leaf(3, 8, 13, 9)
        branches = [run(pool, y.mean((2, 3), keepdim=True)).expand(-1, -1, 13, 9), run(point, y)]
        pyramid = run(project, torch.cat(branches + [run(layers, y) for layers in dilated], 1))
        gradients(name, pyramid, x=y, pool=pool[0].weight, dilated=dilated[2][0].weight)

    for stride in (32, 16, 8):
        net = timm.create_model("convnext_atto", in_chans=8, num_classes=0, output_stride=stride).eval()
        parts = [net.stem[0], net.stem[1]]
        for stage in net.stages:
            if not isinstance(stage.downsample, nn.Identity):
                parts += [stage.downsample[0], stage.downsample[1]]
            for b in stage.blocks:
                parts += [b.conv_dw, b.norm, b.mlp.fc1, b.mlp.fc2, b.gamma]
        fill(*parts)
        y = net.stem(x(2, 8, 64, 32))
        for i, stage in enumerate(net.stages):
            y = stage(y)
            keep(f"convnext_atto_stride{stride}_stage{i + 1}", y)

    def resnet_parts(net):
        parts = [net.conv1, net.bn1]
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            for b in layer:
                parts += [b.conv1, b.bn1, b.conv2, b.bn2]
                parts += [b.conv3, b.bn3] if hasattr(b, "conv3") else []
                parts += list(b.downsample) if b.downsample is not None else []
        return parts

    for name, stride, dilate in (("resnet18", 32, None), ("resnet50", 32, None), ("resnet50", 8, [False, True, True])):
        net = getattr(torchvision.models, name)(weights=None, replace_stride_with_dilation=dilate).eval()
        fill(*resnet_parts(net))
        y = net.relu(net.bn1(net.conv1(x(1, 3, 61, 45))))
        keep(f"{name}_stride{stride}_map0", y)
        y = net.maxpool(y)
        for i, layer in enumerate((net.layer1, net.layer2, net.layer3, net.layer4)):
            y = layer(y)
            keep(f"{name}_stride{stride}_map{i + 1}", y)

    # CBAM, Woo et al. 2018, equations 1-3; the normalisation and the order of the pooled maps are those of the authors' code.
    c, r = 40, 16
    fc1, fc2, conv, bn = nn.Linear(c, c // r), nn.Linear(c // r, c), nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1)
    fill(fc1, fc2, conv, bn)

    def official(y):
        gate = sum(fc2(torch.relu(fc1(pooled))) for pooled in (y.mean((2, 3)), y.amax((2, 3))))
        y = y * torch.sigmoid(gate)[:, :, None, None]
        return y * torch.sigmoid(bn(conv(torch.stack([y.amax(1), y.mean(1)], 1))))

    cbam = CbamModule(c)
    fill(cbam.channel.fc1, cbam.channel.fc2, cbam.spatial.conv.conv, cbam.spatial.conv.bn)
    for name, layer, norm, reduce, spatial in (
        ("cbam_official", official, bn, fc1.weight, conv.weight),
        ("cbam_timm", cbam, cbam.spatial.conv.bn, cbam.channel.fc1.weight, cbam.spatial.conv.conv.weight),
    ):
        norm.eval()
        keep(name, layer(x(2, c, 9, 5)))
        norm.train()
        y = x(2, c, 9, 5).requires_grad_()
        for key, gradient in zip(("x", "reduce", "spatial"), torch.autograd.grad(loss(layer(y)), (y, reduce, spatial))):
            keep(f"{name}_{key}", gradient.flatten(1) if key == "reduce" else gradient)

    # GRN: cells in rows on our side.
    grn = GlobalResponseNorm(6)
    fill((grn.weight, "gamma"), (grn.bias, "bias"))
    y = x(2, 3, 5, 6).requires_grad_()
    gradients("grn", grn(y), x=y, gamma=grn.weight)

    # DeepLabV3+ of the paper on given maps: separable pyramid and decoder.
    def unit(i, o, k=1, d=1, groups=1):
        return [nn.Conv2d(i, o, k, padding=d * (k // 2), dilation=d, groups=groups, bias=False), nn.BatchNorm2d(o).eval(), nn.ReLU()]

    def separable(i, o, d=1):
        return [*unit(i, i, 3, d, i), *unit(i, o)]

    width = 12
    pool, point, project, low = unit(10, width), unit(10, width), unit(5 * width, width), unit(7, 48)
    dilated = [separable(10, width, d) for d in (6, 12, 18)]
    fuse = separable(48 + width, width) + separable(width, width)
    flat = sum([pool, point, *dilated, project, low, fuse], [])
    fill(*[m for m in flat if not isinstance(m, nn.ReLU)])
    high_map, low_map = x(2, 10, 15, 11), x(2, 7, 30, 22)
    run = lambda layers, y: nn.Sequential(*layers)(y)
    branches = [run(pool, high_map.mean((2, 3), keepdim=True)).expand(-1, -1, 15, 11), run(point, high_map)]
    y = run(project, torch.cat(branches + [run(b, high_map) for b in dilated], 1))
    y = F.interpolate(y, size=(30, 22), mode="bilinear", align_corners=False)
    keep("deeplab_paper", run(fuse, torch.cat([y, run(low, low_map)], 1)))

    goldens.write("pytorch.safetensors")


def keras():
    import keras
    from keras import layers, ops

    height, width, classes = 64, 96, 2
    net = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(height, width, 8))

    def conv_block(y, filters=256, kernel=3, rate=1, bias=False):
        y = layers.Conv2D(filters, kernel, dilation_rate=rate, padding="same", use_bias=bias)(y)
        return ops.relu(layers.BatchNormalization()(y))

    # The order in which the layers are made is that of our fields.
    high, low = net.get_layer("conv4_block6_2_relu").output, net.get_layer("conv2_block3_2_relu").output
    rows, columns = high.shape[1:3]
    pool = conv_block(layers.AveragePooling2D((rows, columns))(high), kernel=1, bias=True)
    branches = [layers.UpSampling2D((rows, columns), interpolation="bilinear")(pool), conv_block(high, kernel=1)]
    branches += [conv_block(high, rate=rate) for rate in (6, 12, 18)]
    y = conv_block(layers.Concatenate()(branches), kernel=1)
    y = layers.UpSampling2D((height // 4 // rows, width // 4 // columns), interpolation="bilinear")(y)
    y = layers.Concatenate()([y, conv_block(low, 48, 1)])
    y = conv_block(conv_block(y))
    y = layers.UpSampling2D(4, interpolation="bilinear")(y)
    y = layers.Conv2D(classes, 1, padding="same")(y)
    model = keras.Model(net.input, y)
    print("parameters", model.count_params())

    order = [net.get_layer("conv1_conv"), net.get_layer("conv1_bn")]
    for stage, depth in ((2, 3), (3, 4), (4, 6)):
        for block in range(1, depth + 1):
            for conv in ("1", "2", "3", "0"):
                if (stage, block, conv) == (4, 6, "3"):
                    continue
                for kind in ("conv", "bn"):
                    name = f"conv{stage}_block{block}_{conv}_{kind}"
                    order += [l for l in net.layers if l.name == name]
    inside = {l.name for l in net.layers}
    order += sorted(
        (l for l in model.layers if l.name not in inside and l.weights),
        key=lambda l: (int(l.name.rsplit("_", 1)[1]) if l.name[-1].isdigit() else 0, l.name.startswith("batch")),
    )
    assert len(order) == sum(bool(l.weights) for l in model.layers)
    index = 0
    for layer in order:
        values = []
        for i, weight in enumerate(layer.get_weights()):
            norm = isinstance(layer, layers.BatchNormalization)
            kind = ("gamma", "bias", "running_mean", "running_var")[i] if norm else ("weight", "bias")[i]
            shape = weight.shape if weight.ndim == 1 else tuple(np.transpose(weight, (3, 2, 0, 1)).shape)
            value = tensor(index, shape, kind)
            values.append(value if weight.ndim == 1 else np.transpose(value, (2, 3, 1, 0)))
            index += 1
        layer.set_weights(values)
    x = sequence(INPUT, 8 * height * width).astype(np.float32).reshape(1, 8, height, width)
    y = model(np.transpose(x, (0, 2, 3, 1)), training=False)
    goldens = Goldens()
    goldens.keep("deeplab_keras", np.transpose(y, (0, 3, 1, 2)))
    goldens.write("keras.safetensors")


{"pytorch": pytorch, "keras": keras}[sys.argv[1]]()
