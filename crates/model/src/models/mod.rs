//! Whole networks.

pub mod autoencoder;
pub mod contrastive;
#[cfg(test)]
mod every_model;
#[cfg(all(test, feature = "flex"))]
mod mixed_precision;
pub mod pixel_classifier;
pub mod pooled_encoder;
pub mod saved;
pub mod segmenter;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use autoencoder::Autoencoder;
use contrastive::Contrastive;
use pixel_classifier::PixelClassifier;
use segmenter::Segmenter;

/// Any network of this crate: what a [`ModelConfig`](crate::ModelConfig) makes.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one exists
pub enum Model {
    /// From a map to a map.
    Segmenter(Segmenter),
    /// From a map to a vector and back.
    Autoencoder(Autoencoder),
    /// From the window around a cell to that cell.
    PixelClassifier(PixelClassifier),
    /// Rain and water into one space.
    Contrastive(Contrastive),
}

/// Counts of a network's values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParamCount {
    /// Values that training changes: what PyTorch's `sum(p.numel() for p in model.parameters())` gives.
    pub trainable: usize,
    /// Running means and variances of batch normalisations, which Keras' `count_params` adds.
    pub running: usize,
}

impl ParamCount {
    /// The counts of any module. Nothing is initialised by it.
    pub fn of<M: Module>(module: &M) -> Self {
        let mut counter = Counter::default();
        module.visit(&mut counter);
        counter.count
    }

    /// Both together: Keras' count.
    pub fn total(self) -> usize {
        self.trainable + self.running
    }
}

#[derive(Default)]
struct Counter {
    /// Names of the fields on the way to the current parameter.
    path: Vec<String>,
    count: ParamCount,
}

impl ModuleVisitor for Counter {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let values = param.lazy_shape().num_elements();
        match self.path.last().map(String::as_str) {
            Some("running_mean" | "running_var") => self.count.running += values,
            _ => self.count.trainable += values,
        }
    }
}

/// Draws every initial value now, in the order of the fields.
///
/// burn draws a parameter when it is first used. Done here, the weights depend on the device's seed alone and not on what
/// else draws random numbers before the first step.
pub(crate) fn draw_initial_values<M: Module>(module: &M) {
    struct Draw;
    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            param.val();
        }
    }
    module.visit(&mut Draw);
}

#[cfg(test)]
mod tests {
    //! Published parameter counts. Modules are described but never drawn, so large ones cost nothing here.

    use super::ParamCount;
    use crate::encoders::EncoderConfig;
    use crate::encoders::EncoderName;
    use crate::layers::cbam::{CbamConfig, CbamForm};
    use crate::models::segmenter::SegmenterConfig;
    use burn::tensor::Device;

    /// The encoder with the published head: mean over cells, ConvNeXt's and Swin's layer normalisation, linear to 1000 classes.
    fn classifier(encoder: EncoderName) -> ParamCount {
        let config = encoder.config(3);
        let features = *config.channels().last().unwrap();
        let norm = match config {
            EncoderConfig::ConvNeXt(_) | EncoderConfig::Swin(_) => 2 * features,
            EncoderConfig::ResNet(_) | EncoderConfig::MobileNetV3(_) => 0,
        };
        let mut count = ParamCount::of(&config.init(&Device::flex()));
        count.trainable += norm + features * 1000 + 1000;
        count
    }

    #[test]
    fn convnext_counts() {
        // Liu et al. 2022 (torchvision's exact figures) and timm 1.0.31, its ConvNeXt given our depths and channels where it has no name.
        for (encoder, count) in [
            (EncoderName::ConvNeXtAtto, 3_695_520),
            (EncoderName::ConvNeXtFemto, 5_217_784),
            (EncoderName::ConvNeXtPico, 9_045_672),
            (EncoderName::ConvNeXtNano, 15_593_560),
            (EncoderName::ConvNeXtTiny, 28_589_128),
            (EncoderName::ConvNeXtSmall, 50_223_688),
            (EncoderName::ConvNeXtBase, 88_591_464),
            (EncoderName::ConvNeXtLarge, 197_767_336),
            (EncoderName::ConvNeXtXlarge, 350_196_968),
            (EncoderName::ConvNeXtXtiny, 12_044_218),
            (EncoderName::ConvNeXtShallow, 1_119_562),
            (EncoderName::ConvNeXtV2Atto, 3_708_400),
            (EncoderName::ConvNeXtV2Femto, 5_233_240),
            (EncoderName::ConvNeXtV2Pico, 9_066_280),
            (EncoderName::ConvNeXtV2Nano, 15_623_800),
            (EncoderName::ConvNeXtV2Tiny, 28_635_496),
            (EncoderName::ConvNeXtV2Small, 50_318_440),
            (EncoderName::ConvNeXtV2Base, 88_717_800),
            (EncoderName::ConvNeXtV2Large, 197_956_840),
            (EncoderName::ConvNeXtV2Xlarge, 350_449_640),
            (EncoderName::ConvNeXtV2Xtiny, 12_070_552),
            (EncoderName::ConvNeXtV2Shallow, 1_124_140),
        ] {
            let expected = ParamCount {
                trainable: count,
                running: 0,
            };
            assert_eq!(classifier(encoder), expected, "{encoder}");
        }
    }

    #[test]
    fn resnet_counts() {
        // torchvision counts trainable values; Keras all.
        assert_eq!(classifier(EncoderName::ResNet18).trainable, 11_689_512);
        assert_eq!(classifier(EncoderName::ResNet34).trainable, 21_797_672);
        assert_eq!(classifier(EncoderName::ResNet50).trainable, 25_557_032);
        assert_eq!(classifier(EncoderName::ResNet101).trainable, 44_549_160);
        assert_eq!(classifier(EncoderName::ResNet50Keras).total(), 25_636_712);
        assert_eq!(classifier(EncoderName::ResNet101Keras).total(), 44_707_176);
    }

    #[test]
    fn swin_counts() {
        // torchvision.
        assert_eq!(classifier(EncoderName::SwinT).trainable, 28_288_354);
        assert_eq!(classifier(EncoderName::SwinS).trainable, 49_606_258);
        assert_eq!(classifier(EncoderName::SwinB).trainable, 87_768_224);
    }

    #[test]
    fn mobilenet_counts() {
        // torchvision, whose classifiers have a hidden layer.
        for (encoder, features, hidden, count) in [
            (EncoderName::MobileNetV3Small, 576, 1024, 2_542_856),
            (EncoderName::MobileNetV3Large, 960, 1280, 5_483_032),
        ] {
            let body = ParamCount::of(&encoder.config(3).init(&Device::flex())).trainable;
            let head = (features + 1) * hidden + (hidden + 1) * 1000;
            assert_eq!(body + head, count, "{encoder}");
        }
    }

    #[test]
    fn cbam_count() {
        for (form, count) in [(CbamForm::Official, 8_564), (CbamForm::Timm, 8_292)] {
            let cbam = CbamConfig::new(256).with_form(form).init(&Device::flex());
            assert_eq!(ParamCount::of(&cbam).trainable, count);
        }
    }

    #[test]
    fn third_stage_deeplab_counts() {
        // The keras variant on encoders of PyTorch: the same network written down in PyTorch has as many.
        let name = "deeplabv3plus_keras-convnext_atto";
        assert_eq!(segmenter(name, 8).trainable, 4_308_762);
        let name = "deeplabv3plus_keras-convnext_tiny";
        assert_eq!(segmenter(name, 8).trainable, 16_833_986);
        let name = "deeplabv3plus_keras-resnet50";
        assert_eq!(segmenter(name, 8).trainable, 17_796_322);
    }

    fn segmenter(name: &str, input_channels: usize) -> ParamCount {
        let config = SegmenterConfig {
            input_channels,
            ..SegmenterConfig::from_name(name).unwrap()
        };
        ParamCount::of(&config.init_lazily(&Device::flex()).unwrap())
    }

    #[test]
    fn keras_deeplab_count() {
        // The published rainfall model: 8 channels, 2 classes.
        let count = segmenter("deeplabv3plus_keras-resnet50_keras", 8);
        assert_eq!(count.total(), 11_868_290);
        // The keras.io example: 3 channels (5 fewer of the 7×7 stem), 20 classes (18 more of 256 weights and a bias).
        let count = segmenter("deeplabv3plus_keras-resnet50_keras", 3);
        assert_eq!(count.total() + 18 * 257, 11_857_236);
    }
}
