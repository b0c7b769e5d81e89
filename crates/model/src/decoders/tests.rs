//! Whole segmenters against segmentation_models_pytorch and torchvision, and the inverse ConvNeXt against its layers in PyTorch:
//! `tests/golden/make_decoders.py`.

use burn::module::Param;
use burn::tensor::{Device, Gradients, Tensor};

use super::convnext_inverse::ConvNeXtInverseConfig;
use super::fcn::FcnConfig;
use super::{Decoder, DecoderName};
use crate::encoders::{Encoder, EncoderName};
use crate::golden;
use crate::layers::conv3x3::Conv3x3;
use crate::models::ParamCount;
use crate::models::segmenter::{Head, Segmenter, SegmenterConfig};

/// Gradients of a network, compared one by one.
struct Step {
    name: String,
    model: Segmenter,
    gradients: Gradients,
}

impl Step {
    fn check<const D: usize>(&self, field: &str, parameter: &Param<Tensor<D>>) {
        let gradient = parameter.val().grad(&self.gradients);
        golden::check_gradient(&format!("{}_{field}", self.name), gradient.unwrap());
    }
}

/// Compares the logits of evaluation on a map of the first of the sizes; then those gradients of a training step on one of the second,
/// without dropout, that all networks have.
fn step(decoder: DecoderName, width: usize, stride: usize, sizes: [[usize; 2]; 2]) -> Step {
    let name = decoder.to_string();
    let [[height, width_cells], [train_height, train_width]] = sizes;
    let config = SegmenterConfig {
        encoder: EncoderName::ResNet18,
        decoder,
        input_channels: 3,
        decoder_channels: Some(width),
        output_stride: Some(stride),
        ..SegmenterConfig::default()
    };
    let model = golden::filled(config.init_lazily(&Device::flex()).unwrap());
    let logits = model.forward(golden::input([1, 3, height, width_cells]));
    golden::check(&name, logits);

    let device = Device::flex().autodiff();
    let mut model = golden::filled(config.init_lazily(&device).unwrap());
    match &mut model.decoder {
        Decoder::DeepLabV3Plus(decoder) => decoder.aspp.dropout.prob = 0.0,
        Decoder::DeepLabV3(decoder) => decoder.aspp.dropout.prob = 0.0,
        Decoder::PspNet(decoder) => decoder.dropout.probability = 0.0,
        Decoder::Fcn(decoder) => decoder.dropout.prob = 0.0,
        Decoder::UNet(_) | Decoder::ConvNeXtInverse(_) => {}
    }
    let x = golden::differentiable_input([3, 3, train_height, train_width]);
    let gradients = golden::loss(model.forward(x.clone())).backward();
    golden::check_gradient(&format!("{name}_x"), x.grad(&gradients).unwrap());
    let step = Step {
        name,
        model,
        gradients,
    };
    let Encoder::ResNet(encoder) = &step.model.encoder else {
        panic!("not a ResNet")
    };
    step.check("stem", &encoder.stem.conv.weight);
    step
}

const PLAIN: [[usize; 2]; 2] = [[64, 96], [32, 96]];
/// Wide enough for the taps of dilation 36 at stride 16, and of dilation 12 in training.
const WIDE: [[usize; 2]; 2] = [[32, 608], [16, 256]];

#[test]
fn deeplab_v3_plus_of_smp() {
    let step = step(DecoderName::DeepLabV3PlusSmp, 16, 16, WIDE);
    let Decoder::DeepLabV3Plus(decoder) = &step.model.decoder else {
        panic!("not DeepLabV3+")
    };
    let separable = |conv: &Conv3x3| match conv {
        Conv3x3::Separable(conv) => conv.clone(),
        Conv3x3::Full(_) => panic!("a full convolution"),
    };
    let dilated = separable(&decoder.aspp.dilated[0]);
    step.check("dilated", &dilated.depthwise.conv.weight);
    step.check("pool", &decoder.aspp.pool.conv.weight);
    step.check("project", &decoder.aspp.project.conv.weight);
    let after = separable(decoder.after_aspp.as_ref().unwrap());
    step.check("after", &after.pointwise.conv.weight);
    step.check("low", &decoder.low.conv.weight);
    let fuse = separable(&decoder.fuse[0]);
    step.check("fuse_norm", &fuse.pointwise.norm.as_ref().unwrap().gamma);
    step.check("head", &step.model.head.weight);
}

#[test]
fn deeplab_v3_of_smp() {
    let step = step(DecoderName::DeepLabV3, 16, 16, WIDE);
    let Decoder::DeepLabV3(decoder) = &step.model.decoder else {
        panic!("not DeepLabV3")
    };
    let Conv3x3::Full(dilated) = &decoder.aspp.dilated[0] else {
        panic!("not a full convolution")
    };
    step.check("dilated", &dilated.conv.weight);
    step.check("conv", &decoder.conv.conv.weight);
    step.check("norm", &decoder.conv.norm.as_ref().unwrap().beta);
    step.check("head", step.model.head.bias.as_ref().unwrap());
}

#[test]
fn psp_net_of_smp() {
    let step = step(DecoderName::PspNet, 16, 8, PLAIN);
    let Decoder::PspNet(decoder) = &step.model.decoder else {
        panic!("not PSPNet")
    };
    step.check("whole", decoder.branches[0].conv.bias.as_ref().unwrap());
    step.check("sixth", &decoder.branches[3].conv.weight);
    step.check("project", &decoder.project.conv.weight);
    step.check("head", &step.model.head.weight);
}

#[test]
fn unet_of_smp() {
    let step = step(DecoderName::UNet, 32, 32, PLAIN);
    let Decoder::UNet(decoder) = &step.model.decoder else {
        panic!("not U-Net")
    };
    step.check("first", &decoder.steps[0].first.conv.weight);
    step.check("last", &decoder.steps[4].second.conv.weight);
    let norm = decoder.steps[2].second.norm.as_ref().unwrap();
    step.check("norm", &norm.gamma);
    step.check("head", &step.model.head.weight);
}

#[test]
fn fcn_of_torchvision() {
    let step = step(DecoderName::Fcn, 128, 32, PLAIN);
    let Decoder::Fcn(decoder) = &step.model.decoder else {
        panic!("not FCN")
    };
    step.check("conv", &decoder.conv.conv.weight);
    step.check("head", &step.model.head.weight);
}

#[test]
fn inverse_convnext_of_its_layers_in_pytorch() {
    let config = ConvNeXtInverseConfig::new(6, vec![1, 2], vec![8, 4]);
    let device = Device::flex().autodiff();
    let decoder = golden::filled(config.init(&device));
    let x = golden::differentiable_input([2, 6, 3, 5]);
    let y = decoder.forward(x.clone());
    golden::check("convnext_inverse", y.clone());
    let gradients = golden::loss(y).backward();
    golden::check_gradient("convnext_inverse_x", x.grad(&gradients).unwrap());
    let up = decoder.stages[1].upsample.weight.val();
    golden::check_gradient("convnext_inverse_up", up.grad(&gradients).unwrap());
    let norm = decoder.stages[0].norm.norm.gamma.val();
    golden::check_gradient("convnext_inverse_norm", norm.grad(&gradients).unwrap());
    let depthwise = decoder.stages[0].blocks[0].depthwise.conv.weight.val();
    let gradient = depthwise.grad(&gradients).unwrap();
    golden::check_gradient("convnext_inverse_depthwise", gradient);
}

#[test]
fn counts_of_the_originals() {
    // With 3 channels and 21 classes; our head has 2, so 19 of the head's kernels and biases are added.
    let count = |name: &str, head: usize| {
        let config = SegmenterConfig {
            input_channels: 3,
            head: Head::TwoClass,
            ..SegmenterConfig::from_name(name).unwrap()
        };
        let model = config.init_lazily(&Device::flex()).unwrap();
        ParamCount::of(&model).trainable + 19 * head
    };
    assert_eq!(count("deeplabv3plus_smp-resnet50", 257), 26_682_725);
    // smp keeps the two stages behind stride 8, which it does not use.
    assert_eq!(
        count("pspnet-resnet50", 9 * 512 + 1),
        24_393_173 - 22_063_104
    );
    assert_eq!(count("unet-resnet50", 9 * 16 + 1), 32_524_005);
    assert_eq!(count("unet-convnext_tiny", 9 * 16 + 1), 31_931_653);
    assert_eq!(count("fcn-resnet50", 513), 32_957_013);
    // torchvision's figure has the auxiliary head on the third stage: an FCN with its 21 logits.
    let auxiliary = ParamCount::of(&FcnConfig::new(1024, 256).init(&Device::flex()));
    assert_eq!(
        count("deeplabv3-resnet50", 257) + auxiliary.trainable + 21 * 257,
        42_004_074
    );
}
