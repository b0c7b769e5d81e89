//! Mixed precision on the CPU: what is rounded, what is not, and how far that takes a network from f32.
//!
//! A rounding to bf16 is off by 2⁻⁸ of the number at most, and by 2⁻⁹·³ in the root mean square. Of networks whose weights keep the
//! size of what flows through them, n roundings one after the other add up to √n of that: [`ROUNDINGS`].

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn::conv::ConvTranspose2dConfig;
use burn::nn::{BatchNormConfig, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use super::autoencoder::AutoencoderConfig;
use super::contrastive::ContrastiveConfig;
use super::pixel_classifier::PixelClassifierConfig;
use super::segmenter::{Segmenter, SegmenterConfig};
use crate::decoders::DecoderName;
use crate::encoders::convnext::{ConvNeXtConfig, ConvNeXtVersion};
use crate::encoders::mobilenet_v3::MobileNetV3Config;
use crate::encoders::resnet::{ResNetBlock, ResNetConfig};
use crate::encoders::swin::SwinConfig;
use crate::encoders::{EncoderConfig, EncoderName};
use crate::golden;
use crate::layers::layer_norm::LayerNormConfig;
use crate::layers::pool::global_mean;
use crate::layers::resize::resize_bilinear;
use crate::losses::LossConfig;
use crate::ops::precision::{self, Precision};
use crate::ops::{batch_norm, conv2d, gelu, recorded};

/// What the root mean square of a network's error may be, as a share of that of its output: 2⁻⁹·³ · √400. The longest way through the
/// networks here has some 400 roundings. A statistic summed up in bf16 would be off by more: a sum of 256 equal numbers no longer grows.
const ROUNDINGS: f32 = 20.0 * 0.0016;

fn in_bf16<T>(run: impl FnOnce() -> T) -> T {
    precision::with(Precision::Bf16, run)
}

fn rounded<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::BF16).cast(FloatDType::F32)
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.cast(FloatDType::F32).into_data().try_to_vec().unwrap()
}

/// ‖a − b‖ / ‖b‖
fn error(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let norm = |terms: &mut dyn Iterator<Item = f32>| terms.map(|x| x * x).sum::<f32>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

/// Names and gradients of all parameters, which are to be there, and f32.
fn gradients<M: Module>(loss: Tensor<1>, model: &M) -> Vec<(String, Vec<f32>)> {
    struct Collect {
        path: Vec<String>,
        gradients: GradientsParams,
        found: Vec<(String, Vec<f32>)>,
    }
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = self.path.join(".");
            assert_eq!(param.val().dtype(), DType::F32, "{name}");
            if !param.val().is_require_grad() {
                return;
            }
            let gradient = self.gradients.remove::<D>(param.id);
            let gradient = gradient.unwrap_or_else(|| panic!("{name} has no gradient"));
            assert_eq!(gradient.dtype(), DType::F32, "{name}");
            let gradient = numbers(gradient);
            assert!(gradient.iter().all(|x| x.is_finite()), "{name}");
            self.found.push((name, gradient));
        }
    }
    let mut collect = Collect {
        path: Vec::new(),
        gradients: GradientsParams::from_grads(loss.backward(), model),
        found: Vec::new(),
    };
    model.visit(&mut collect);
    assert!(!collect.found.is_empty());
    collect.found
}

#[test]
fn products_round_factors_and_sums() {
    let device = Device::flex();
    let x = golden::input([2, 6, 5, 7]);
    let same = |what: &str, ours: Tensor<4>, expected: Tensor<4>| {
        assert_eq!(ours.dtype(), DType::BF16, "{what}");
        assert_eq!(numbers(ours), numbers(rounded(expected)), "{what}");
    };
    let config = burn::nn::conv::Conv2dConfig::new([6, 5], [3, 3]);
    let conv = golden::filled(config.init(&device));
    let mut other = conv.clone();
    other.weight = other.weight.map(rounded);
    other.bias = other.bias.map(|bias| bias.map(rounded));
    let ours = in_bf16(|| conv2d::forward(&conv, x.clone()));
    same("conv2d", ours, other.forward(rounded(x.clone())));

    let config = ConvTranspose2dConfig::new([6, 3], [2, 2]).with_stride([2, 2]);
    let conv = golden::filled(config.init(&device));
    let mut other = conv.clone();
    other.weight = other.weight.map(rounded);
    other.bias = other.bias.map(|bias| bias.map(rounded));
    let ours = in_bf16(|| recorded::conv_transpose2d(&conv, x.clone()));
    same("conv_transpose2d", ours, other.forward(rounded(x.clone())));

    // By the definition, summed up in f64.
    let linear = golden::filled(LinearConfig::new(7, 3).init(&device));
    let ours = in_bf16(|| recorded::linear(&linear, x.clone()));
    assert_eq!(ours.dtype(), DType::BF16);
    let weight = numbers(rounded(linear.weight.val()));
    let bias = numbers(rounded(linear.bias.as_ref().unwrap().val()));
    let rows = numbers(rounded(x));
    for (i, y) in numbers(ours).into_iter().enumerate() {
        let (row, column) = (i / 3, i % 3);
        let terms =
            (0..7).map(|k| f64::from(rows[7 * row + k]) * f64::from(weight[3 * k + column]));
        let exact = terms.sum::<f64>() + f64::from(bias[column]);
        // Half a unit of bf16's last place, and f32's error of a sum of eight numbers below 1.
        let bound = exact.abs() / 256.0 + 1e-6;
        assert!((f64::from(y) - exact).abs() <= bound, "{y} for {exact}");
    }
}

#[test]
fn the_rest_rounds_only_what_it_gives() {
    let device = Device::flex();
    // bf16 as it comes of a product, with a mean that is large beside the deviation.
    let x = (golden::input([2, 6, 9, 7]) + 5.0).cast(FloatDType::BF16);
    let wide = x.clone().cast(FloatDType::F32);
    let layer_norm = golden::filled(LayerNormConfig::new(7).init(&device));
    let batch_norm = golden::filled(BatchNormConfig::new(6).init(&device));
    type Op<'a> = &'a dyn Fn(Tensor<4>) -> Tensor<4>;
    let ops: [(&str, Op); 7] = [
        ("layer norm", &|x| layer_norm.forward(x)),
        ("batch norm", &|x| batch_norm::forward(&batch_norm, x, true)),
        ("gelu", &|x| gelu::gelu(x - 5.0)),
        ("sigmoid", &recorded::sigmoid),
        ("mean", &global_mean),
        ("resize", &|x| resize_bilinear(x, [20, 13])),
        ("relu", &|x| recorded::relu(x - 5.0)),
    ];
    for (name, op) in ops {
        let ours = in_bf16(|| op(x.clone()));
        assert_eq!(ours.dtype(), DType::BF16, "{name}");
        assert_eq!(numbers(ours), numbers(rounded(op(wide.clone()))), "{name}");
    }
    // In training: moments of the batch, running ones in f32.
    let device = device.autodiff();
    let norm = || golden::filled(BatchNormConfig::new(6).init(&device));
    let (ours, expected) = (norm(), norm());
    let y = in_bf16(|| batch_norm::forward(&ours, x.autodiff(), false));
    let wide = batch_norm::forward(&expected, wide.autodiff(), false);
    assert_eq!(numbers(y), numbers(rounded(wide)));
    for (ours, expected) in [
        (&ours.running_mean, &expected.running_mean),
        (&ours.running_var, &expected.running_var),
    ] {
        assert_eq!(ours.value_sync().dtype(), DType::F32);
        assert_eq!(numbers(ours.value_sync()), numbers(expected.value_sync()));
    }
}

#[test]
fn losses_of_large_logits_are_those_of_f32() {
    let logits = golden::differentiable_input([2, 2, 9, 7]) * 300.0;
    let labels = logits.clone().narrow(1, 0, 1).greater_elem(0.0).int();
    let labels = labels.reshape([2, 9, 7]);
    for name in LossConfig::NAMES {
        let loss = LossConfig::from_name(name).unwrap();
        let value = || numbers(loss.forward(logits.clone(), labels.clone()));
        assert_eq!(in_bf16(value), value(), "{name}");
    }
}

#[test]
fn nothing_is_left_behind_a_scope() {
    let linear = golden::filled(LinearConfig::new(7, 3).init(&Device::flex()));
    let x = golden::input([2, 3, 5, 7]);
    let forward = || recorded::linear(&linear, x.clone());
    let before = numbers(forward());
    assert_eq!(before, numbers(linear.forward(x.clone())));
    let inside = in_bf16(|| {
        let inner = precision::with(Precision::F32, forward);
        assert_eq!(numbers(inner), before);
        numbers(forward())
    });
    assert_ne!(inside, before);
    assert_eq!(numbers(forward()), before);
    let thread = in_bf16(|| std::thread::scope(|scope| scope.spawn(|| numbers(forward())).join()));
    assert_eq!(thread.unwrap(), before);
    let panic = std::panic::AssertUnwindSafe(|| in_bf16(|| panic!("on purpose")));
    assert!(std::panic::catch_unwind(panic).is_err());
    assert_eq!(numbers(forward()), before);
}

#[test]
fn every_encoder_family() {
    let (depths, dims) = (vec![1, 2, 1, 1], vec![8, 12, 16, 24]);
    let convnext = ConvNeXtConfig::new(3, depths, dims);
    let v2 = convnext.clone().with_version(ConvNeXtVersion::V2);
    let swin = SwinConfig::new(3, 8, vec![1, 2, 1, 1], vec![1, 1, 2, 2]);
    let resnet = ResNetConfig::new(3, vec![1, 1, 1, 1], ResNetBlock::Bottleneck);
    for (name, config) in [
        ("convnext", EncoderConfig::ConvNeXt(convnext)),
        ("convnextv2", EncoderConfig::ConvNeXt(v2)),
        ("swin", EncoderConfig::Swin(swin)),
        ("resnet", EncoderConfig::ResNet(resnet)),
        (
            "mobilenet_v3",
            EncoderConfig::MobileNetV3(MobileNetV3Config::small(3)),
        ),
    ] {
        for cbam in [None, Some(4)] {
            let config = config.clone().with_drop_path(0.1).with_cbam_reduction(cbam);
            let encoder = golden::filled(config.init(&Device::flex()));
            let x = golden::input([1, 3, 61, 45]);
            let maps = in_bf16(|| encoder.forward(x.clone()));
            for (i, (map, wide)) in maps.into_iter().zip(encoder.forward(x)).enumerate() {
                assert_eq!(map.dtype(), DType::BF16, "{name}");
                let error = error(&numbers(map), &numbers(wide));
                println!("{name}, CBAM {cbam:?}, map {i}: {error:.4}");
                assert!(error < ROUNDINGS, "{name}, map {i}: {error}");
                assert!(error > 1e-4, "{name}, map {i} is not rounded: {error}");
            }
            let encoder = golden::filled(config.init(&Device::flex().autodiff()));
            let x = golden::differentiable_input([2, 3, 61, 45]);
            let maps = in_bf16(|| encoder.forward(x.clone()));
            let maps = maps.into_iter().map(|map| map.cast(FloatDType::F32));
            let loss = maps.map(golden::loss).reduce(|a, b| a + b).unwrap();
            gradients(loss, &encoder);
        }
    }
}

fn segmenter(encoder: EncoderName, decoder: DecoderName) -> SegmenterConfig {
    SegmenterConfig {
        encoder,
        decoder,
        input_channels: 3,
        decoder_channels: Some(16),
        ..SegmenterConfig::default()
    }
}

#[test]
fn every_decoder() {
    for (i, (decoder, name)) in DecoderName::ALL.into_iter().enumerate() {
        let config = SegmenterConfig {
            refinement_channels: (!decoder.is_full_resolution()).then_some(8),
            cbam: true,
            ..segmenter(
                [EncoderName::ConvNeXtAtto, EncoderName::ResNet18][i % 2],
                decoder,
            )
        };
        let model = golden::filled(config.init_lazily(&Device::flex()).unwrap());
        let x = golden::input([1, 3, 61, 45]);
        let logits = in_bf16(|| model.forward(x.clone()));
        assert_eq!(logits.dtype(), DType::F32, "{name}");
        let error = error(&numbers(logits), &numbers(model.forward(x)));
        println!("{name}: {error:.4}");
        assert!(error < ROUNDINGS, "{name}: {error}");
        assert!(error > 1e-4, "{name} is not rounded: {error}");

        let model = config.init_lazily(&Device::flex().autodiff()).unwrap();
        let model = golden::filled(model);
        let x = golden::differentiable_input([2, 3, 61, 45]);
        let logits = in_bf16(|| model.forward(x.clone()));
        assert_eq!(logits.dtype(), DType::F32, "{name}");
        gradients(golden::loss(logits), &model);
    }
}

#[test]
fn the_other_networks() {
    let device = Device::flex().autodiff();
    let encoder = EncoderName::ConvNeXtShallow;
    let config = AutoencoderConfig {
        encoder,
        input_channels: 3,
        size: [61, 45],
        bottleneck: 16,
        ..AutoencoderConfig::default()
    };
    let model = config.init(&device).unwrap();
    let x = golden::differentiable_input([2, 3, 61, 45]);
    let (vector, map) = in_bf16(|| {
        let vector = model.encode(x.clone());
        (vector.clone(), model.decode(vector))
    });
    assert_eq!([vector.dtype(), map.dtype()], [DType::F32; 2]);
    gradients(golden::loss(map), &model);

    let config = PixelClassifierConfig {
        encoder,
        input_channels: 3,
        window: 45,
        ..PixelClassifierConfig::default()
    };
    let model = config.init(&device).unwrap();
    let logits = in_bf16(|| model.forward(x.clone()));
    assert_eq!(logits.dtype(), DType::F32);
    gradients(golden::loss(logits.unsqueeze()), &model);

    let config = ContrastiveConfig {
        rain_encoder: encoder,
        water_encoder: encoder,
        rain_channels: 3,
        ..ContrastiveConfig::default()
    };
    let model = config.init(&device).unwrap();
    let water = golden::differentiable_input([2, 1, 61, 45]);
    let loss = in_bf16(|| model.loss(x, water));
    assert_eq!(loss.dtype(), DType::F32);
    gradients(loss, &model);
}

/// Waves of a few cells to the whole map, other ones in each map and channel: a field of rain rather than noise, which deep maps average
/// away, so that a batch normalisation would have little but roundings to scale up.
fn waves([batch, channels, height, width]: [usize; 4]) -> TensorData {
    let mut values = Vec::with_capacity(batch * channels * height * width);
    for plane in 0..batch * channels {
        let phase = 2.4 * plane as f32;
        for row in 0..height {
            for column in 0..width {
                let [y, x] = [row, column].map(|n| n as f32 * 0.1);
                let long = (0.5 * y + phase).sin() * (0.7 * x + 2.0 * phase).cos();
                values.push(2.0 * long + (1.9 * y + 1.3 * x + phase).sin());
            }
        }
    }
    TensorData::new(values, [batch, channels, height, width])
}

/// Logits of a batch, and all gradients in one.
fn step(model: &Segmenter, device: &Device, precision: Precision) -> [Vec<f32>; 2] {
    let x = Tensor::<4>::from_data(waves([4, 3, 96, 80]), device);
    let labels = x.clone().narrow(1, 0, 1).greater_elem(0.3).int();
    let logits = precision::with(precision, || model.forward(x));
    let loss = LossConfig::default().forward(logits.clone(), labels.reshape([4, 96, 80]));
    let gradients = gradients(loss, model).into_iter();
    let gradients = gradients.flat_map(|(_, gradient)| gradient);
    [numbers(logits), gradients.collect()]
}

/// Rounds all parameters.
struct Rounded;

impl ModuleMapper for Rounded {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let differentiable = tensor.is_require_grad();
            let rounded = rounded(tensor).detach();
            rounded.set_require_grad(differentiable)
        })
    }
}

/// How much roundings change a gradient depends on the network: ReLUs and batch normalisations amplify them. Its gradient in f32 with
/// weights rounded to bf16 tells, and that of mixed precision may be three times as far off: a block of ConvNeXt rounds three weights, and
/// in mixed precision seven maps besides and about as many gradients, which is √(20 / 3) = 2.6 times the error for independent ones.
#[test]
fn gradients_are_as_near_as_roundings_let_them_be() {
    let device = Device::flex().autodiff();
    for (decoder, encoder, width) in [
        (DecoderName::ConvNeXtInverse, EncoderName::ConvNeXtAtto, 128),
        (DecoderName::DeepLabV3Plus, EncoderName::ConvNeXtAtto, 16),
        (DecoderName::UNet, EncoderName::ResNet18, 64),
    ] {
        let config = SegmenterConfig {
            refinement_channels: (!decoder.is_full_resolution()).then_some(8),
            decoder_channels: Some(width),
            ..segmenter(encoder, decoder)
        };
        let model = golden::filled(config.init_lazily(&device).unwrap());
        let [_, exact] = step(&model, &device, Precision::F32);
        let [_, ours] = step(&model, &device, Precision::Bf16);
        let [_, of_weights] = step(&model.map(&mut Rounded), &device, Precision::F32);
        let (ours, of_weights) = (error(&ours, &exact), error(&of_weights, &exact));
        println!("{decoder}-{encoder}: {ours:.4}, of rounded weights {of_weights:.4}");
        assert!(
            ours < 3.0 * of_weights,
            "{decoder}-{encoder}: {ours}, {of_weights}"
        );
        // A cosine of 0.96 at least.
        assert!(ours < 0.3, "{decoder}-{encoder}: {ours}");
    }
}

/// A GPU rounds the same maps and sums up in another order: it may be twice as far from f32 as the CPU.
#[test]
#[cfg(feature = "cube")]
#[ignore = "needs a GPU; run scripts/gpu-tests.sh"]
fn a_step_in_bf16_is_that_of_the_cpu_on_gpu() {
    let (cpu, gpu) = (Device::flex(), crate::ops::test_device());
    if let Err(refusal) = Precision::Bf16.check(&gpu) {
        println!("skipped: {refusal}");
        return;
    }
    let config = SegmenterConfig {
        refinement_channels: Some(8),
        cbam: true,
        ..segmenter(EncoderName::ConvNeXtAtto, DecoderName::DeepLabV3Plus)
    };
    let run = |device: Device, precision| {
        let device = device.autodiff();
        let model = golden::filled(config.init_lazily(&device).unwrap());
        step(&model, &device, precision)
    };
    let exact = run(cpu.clone(), Precision::F32);
    let (on_cpu, on_gpu) = (run(cpu, Precision::Bf16), run(gpu, Precision::Bf16));
    for (i, name) in ["logits", "gradients"].into_iter().enumerate() {
        let [on_cpu, on_gpu] = [&on_cpu, &on_gpu].map(|run| error(&run[i], &exact[i]));
        println!("{name}: {on_gpu:.4}, on the CPU {on_cpu:.4}");
        assert!(on_gpu < 2.0 * on_cpu, "{name}: {on_gpu}, {on_cpu}");
    }
}
