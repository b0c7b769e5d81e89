use std::collections::HashMap;

use burn::module::Module;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::{Device, Tensor};

use super::*;
use crate::decoders::DecoderName;
use crate::encoders::EncoderName;
use crate::models::ParamCount;
use crate::models::segmenter::{Segmenter, SegmenterConfig};
use crate::ops::conv2d;

fn encoder(name: EncoderName) -> Summary {
    let encoder = name.config(3).init(&Device::flex());
    let run = |mut inputs: Vec<Tensor<4>>| drop(encoder.forward(inputs.remove(0)));
    Summary::of(&name.to_string(), &encoder, &[[1, 3, 224, 224]], run).unwrap()
}

fn segmenter(config: &SegmenterConfig) -> (Segmenter, Summary) {
    let model = config.init_lazily(&Device::flex()).unwrap();
    let shape = [1, config.input_channels, 64, 32];
    let run = |mut inputs: Vec<Tensor<4>>| drop(model.forward(inputs.remove(0)));
    let summary = Summary::of(&config.name(), &model, &[shape], run).unwrap();
    (model, summary)
}

#[test]
fn multiply_adds_are_the_published_ones() {
    // torchvision's models at 224 × 224, convolutions and linear layers counted by hooks, without the classifier's C · 1000.
    assert_eq!(
        encoder(EncoderName::ResNet50).macs,
        4_089_184_256 - 2_048_000
    );
    assert_eq!(
        encoder(EncoderName::ConvNeXtTiny).macs,
        4_455_531_264 - 768_000
    );
}

#[test]
fn every_part_is_recorded() {
    let names = EncoderName::ALL.iter().map(|(encoder, _)| SegmenterConfig {
        encoder: *encoder,
        encoder_cbam: true,
        ..SegmenterConfig::default()
    });
    let decoders = DecoderName::ALL.iter().map(|(decoder, _)| SegmenterConfig {
        decoder: *decoder,
        encoder: EncoderName::ResNet18,
        refinement_channels: (!decoder.is_full_resolution()).then_some(8),
        cbam: true,
        ..SegmenterConfig::default()
    });
    for config in names.chain(decoders) {
        // The larger sizes are the same layers more often.
        if config.init_lazily(&Device::flex()).unwrap().num_params() > 30_000_000 {
            continue;
        }
        let (model, summary) = segmenter(&config);
        let count = ParamCount::of(&model);
        assert_eq!(summary.trainable, count.trainable, "{}", config.name());
        assert_eq!(summary.non_trainable, count.running, "{}", config.name());
        let output = &summary.layers.last().unwrap().output_shape;
        assert_eq!(output[..2], [1, 2], "{}", config.name());
        let names: HashMap<&str, usize> = summary
            .layers
            .iter()
            .enumerate()
            .map(|(i, layer)| (layer.name.as_str(), i))
            .collect();
        assert_eq!(
            names.len(),
            summary.layers.len(),
            "{}: names are unique",
            config.name()
        );
        for (i, layer) in summary.layers.iter().enumerate() {
            assert_eq!(
                layer.inputs.is_empty(),
                layer.kind == "InputLayer",
                "{}",
                layer.name
            );
            assert!(layer.inputs.iter().all(|input| names[input.as_str()] < i));
        }
    }
}

#[test]
fn every_kind_of_network_has_a_summary() {
    for (name, inputs) in [
        ("autoencoder-convnext_xtiny", 1),
        ("pixel_classifier-convnext_atto", 1),
        ("contrastive-convnext_shallow", 2),
    ] {
        let config = crate::ModelConfig::from_name(name).unwrap();
        let summary = config.summary([32, 64], &Device::flex()).unwrap();
        let found = summary
            .layers
            .iter()
            .filter(|layer| layer.kind == "InputLayer");
        assert_eq!(found.count(), inputs, "{name}");
        assert!(summary.macs > 1_000_000, "{name}");
    }
}

#[test]
fn published_rainfall_model() {
    let config = SegmenterConfig::from_name("deeplabv3plus_keras-resnet50_keras").unwrap();
    let (_, summary) = segmenter(&config);
    assert_eq!(summary.trainable + summary.non_trainable, 11_868_290);
    let layer = |name: &str| {
        summary
            .layers
            .iter()
            .find(|layer| layer.name == name)
            .unwrap()
    };
    let concat = layer("decoder.concatenate");
    assert_eq!(concat.output_shape, [1, 304, 16, 8]);
    assert_eq!(concat.inputs, ["decoder.resizing", "decoder.low.re_lu"]);
    let add = layer("encoder.stages.0.blocks.1.add");
    assert_eq!(
        add.inputs,
        [
            "encoder.stages.0.blocks.1.convs.2.norm",
            "encoder.stages.0.blocks.0.re_lu"
        ]
    );
}

/// The columns of a table of Keras, as a program reads it: cut where the header's titles begin.
fn parse(table: &str) -> Vec<(String, String, String, usize, Vec<String>)> {
    let mut lines = table
        .lines()
        .skip_while(|line| !line.starts_with("Layer (type)"));
    let header = lines.next().unwrap();
    let starts = ["Layer (type)", "Output Shape", "Param #", "Connected to"];
    let starts = starts.map(|title| header.find(title).unwrap());
    let mut rows: Vec<(String, String, String, usize, Vec<String>)> = Vec::new();
    assert!(lines.next().unwrap().chars().all(|c| c == '='));
    for line in lines.take_while(|line| !line.starts_with("Total params")) {
        if line.starts_with(['_', '=']) {
            continue;
        }
        let cell = |i: usize| {
            let end = starts.get(i + 1).map_or(line.len(), |end| *end);
            line[starts[i]..end].trim().to_owned()
        };
        let source = cell(3);
        let source = source.strip_suffix("[0][0]").map(str::to_owned);
        if cell(0).is_empty() {
            rows.last_mut().unwrap().4.extend(source);
            continue;
        }
        let name = cell(0);
        let (name, kind) = name.strip_suffix(')').unwrap().split_once(" (").unwrap();
        let row = (
            name.to_owned(),
            kind.to_owned(),
            cell(1),
            cell(2).parse().unwrap(),
            Vec::from_iter(source),
        );
        rows.push(row);
    }
    rows
}

#[test]
fn the_table_reads_back() {
    let config = SegmenterConfig {
        cbam: true,
        ..SegmenterConfig::from_name("deeplabv3plus-convnext_atto").unwrap()
    };
    let (_, summary) = segmenter(&config);
    let table = summary.to_table();
    let rows = parse(&table);
    assert_eq!(rows.len(), summary.layers.len());
    for (layer, (name, kind, _, params, inputs)) in summary.layers.iter().zip(&rows) {
        assert_eq!(
            (&layer.name, &layer.kind, layer.params()),
            (name, kind, *params)
        );
        assert_eq!(&layer.inputs, inputs);
    }
    assert_eq!(rows[0].2, "[(None, 8, 64, 32)]");
    assert_eq!(rows[1].2, "(None, 40, 16, 8)");
    let total = summary.trainable + summary.non_trainable;
    assert!(table.contains(&format!("Total params: {}\n", grouped(total))));
    assert_eq!(grouped(11_868_290), "11,868,290");
}

/// Elements are closed in the order in which they were opened, attributes are quoted, text has no raw `<` or `&`.
fn well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml.trim_end();
    while let Some(start) = rest.find('<') {
        assert!(
            rest[..start]
                .split('&')
                .skip(1)
                .all(|s| ["amp;", "lt;", "quot;"].iter().any(|e| s.starts_with(e)))
        );
        rest = &rest[start..];
        if let Some(data) = rest.strip_prefix("<![CDATA[") {
            rest = &data[data.find("]]>").unwrap() + 3..];
            continue;
        }
        let end = rest.find('>').unwrap();
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        assert!(
            !tag.contains('<') && tag.matches('"').count().is_multiple_of(2),
            "{tag}"
        );
        match (tag.strip_prefix('/'), tag.ends_with('/')) {
            (Some(name), _) => assert_eq!(open.pop(), Some(name)),
            (None, false) => open.push(tag.split(' ').next().unwrap()),
            (None, true) => {}
        }
    }
    assert_eq!(open, [""; 0]);
    assert_eq!(rest, "");
}

#[test]
fn charts_have_every_layer_and_connection() {
    let config = SegmenterConfig::from_name("deeplabv3plus-resnet18").unwrap();
    let (_, summary) = segmenter(&config);
    let layers = summary.layers.len();
    let edges: usize = summary.layers.iter().map(|layer| layer.inputs.len()).sum();
    let mermaid = summary.to_mermaid();
    assert!(mermaid.starts_with("flowchart TD\n"));
    assert_eq!(mermaid.matches(" --> ").count(), edges);
    assert_eq!(mermaid.matches("<br/>(None").count(), layers);
    let (begins, ends) = (
        mermaid.matches("subgraph ").count(),
        mermaid.matches(" end\n").count(),
    );
    assert!(begins > 20 && begins == ends, "{begins} {ends}");
    let dot = summary.to_dot();
    assert_eq!(dot.matches(" -> ").count(), edges);
    assert_eq!(dot.matches("subgraph cluster_").count(), begins);
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    let svg = summary.to_svg();
    well_formed(&svg);
    assert_eq!(svg.matches("class=\"edge\"").count(), edges);
    assert_eq!(svg.matches("<g class=\"box").count(), layers + begins);
    let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
    assert_eq!(json["layers"].as_array().unwrap().len(), layers);
    assert_eq!(json["layers"][1]["type"], "Conv2D");
}

#[test]
fn what_is_not_recorded_is_an_error() {
    #[derive(Module, Debug)]
    struct Two {
        first: burn::nn::conv::Conv2d,
        second: burn::nn::conv::Conv2d,
    }
    let conv = || Conv2dConfig::new([1, 1], [1, 1]).init(&Device::flex());
    let model = Two {
        first: conv(),
        second: conv(),
    };
    let of = |run: &dyn Fn(Tensor<4>) -> Tensor<4>| {
        let run = |mut inputs: Vec<Tensor<4>>| drop(run(inputs.remove(0)));
        Summary::of("two", &model, &[[1, 1, 3, 2]], run)
    };
    let summary = of(&|x| {
        conv2d::forward(
            &model.second,
            conv2d::forward(&model.first, x).permute([0, 1, 3, 2]),
        )
    });
    assert_eq!(summary.unwrap().layers[2].inputs, ["first"]);
    let error = of(&|x| conv2d::forward(&model.second, conv2d::forward(&model.first, x) * 2.0))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the input of layer second comes from arithmetic that no layer recorded"
    );
    let error = of(&|x| conv2d::forward(&model.first, x)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no layer of the forward pass uses the parameter second.bias"
    );
}
