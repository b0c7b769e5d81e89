use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Goldens {
    shape: [usize; 3],
    labels: Vec<i32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    classes: usize,
    logits: Vec<f32>,
    loss: f32,
    gradient: Vec<f32>,
}

fn parse(json: &str) -> LossConfig {
    serde_json::from_str(json).unwrap()
}

fn loss_of_case(name: &str) -> LossConfig {
    match name {
        "cross-entropy weighted" => parse(r#"{"kind":"cross-entropy","class_weights":[0.4,2.5]}"#),
        "cross-entropy smoothed" => {
            parse(r#"{"kind":"cross-entropy","class_weights":[0.4,2.5],"label_smoothing":0.2}"#)
        }
        "binary-cross-entropy weighted" => {
            parse(r#"{"kind":"binary-cross-entropy","pos_weight":3.0}"#)
        }
        "binary-cross-entropy smoothed" => {
            parse(r#"{"kind":"binary-cross-entropy","pos_weight":3.0,"label_smoothing":0.2}"#)
        }
        "boundary-cross-entropy wide" => {
            parse(r#"{"kind":"boundary-cross-entropy","edge_weight":2.0,"edge_width":1.7}"#)
        }
        "focal weighted" => parse(r#"{"kind":"focal","gamma":1.5,"class_weights":[0.3,0.7]}"#),
        "dice smooth" => parse(r#"{"kind":"dice","smooth":1.5}"#),
        "lovasz per image" => parse(r#"{"kind":"lovasz","per_image":true}"#),
        "cross-entropy-dice" => {
            parse(r#"{"kind":"cross-entropy-dice","cross_entropy_weight":0.7,"dice_weight":0.3}"#)
        }
        "sum by wet share" => parse(
            r#"{"kind":"sum","wet_share_weight":3.0,"terms":[
                {"weight":1.0,"loss":{"kind":"cross-entropy"}},{"weight":1.0,"loss":{"kind":"dice"}}]}"#,
        ),
        plain => LossConfig::from_name(plain).unwrap(),
    }
}

/// Loss and gradient by the logits.
fn evaluate(
    loss: &LossConfig,
    logits: &[f32],
    labels: &[i32],
    [batch, classes, height, width]: [usize; 4],
) -> (f32, Vec<f32>) {
    let device = Device::flex().autodiff();
    let logits = Tensor::<4>::from_data(
        TensorData::new(logits.to_vec(), [batch, classes, height, width]),
        &device,
    )
    .require_grad();
    let labels = Tensor::<3, Int>::from_data(
        TensorData::new(labels.to_vec(), [batch, height, width]),
        &device,
    );
    let value = loss.forward(logits.clone(), labels);
    let gradients = value.backward();
    let gradient = logits.grad(&gradients).unwrap();
    (
        value.into_scalar(),
        gradient.into_data().try_to_vec().unwrap(),
    )
}

#[test]
fn values_and_gradients_of_pytorch() {
    let goldens: Goldens = serde_json::from_str(include_str!("goldens/losses.json")).unwrap();
    let [batch, height, width] = goldens.shape;
    assert_eq!(goldens.cases.len(), 42);
    for case in &goldens.cases {
        let shape = [batch, case.classes, height, width];
        let loss = loss_of_case(&case.name);
        let (value, gradient) = evaluate(&loss, &case.logits, &goldens.labels, shape);
        assert!(
            (value - case.loss).abs() <= 2e-6 * case.loss.abs().max(1.0),
            "{}: {value} is not {}",
            case.name,
            case.loss
        );
        for (i, (ours, theirs)) in gradient.iter().zip(&case.gradient).enumerate() {
            assert!(
                (ours - theirs).abs() <= 1e-7 + 2e-6 * theirs.abs(),
                "{}, {} classes, gradient {i}: {ours} is not {theirs}",
                case.name,
                case.classes
            );
        }
    }
}

#[test]
fn gradients_are_finite_differences() {
    let shape = [1, 2, 2, 3];
    let logits = [
        0.3, -0.8, 1.1, 0.2, -1.5, 0.9, -0.4, 0.6, 0.1, 1.3, -0.2, -0.7f32,
    ];
    let labels = [1, 0, 1, 255, 1, 0];
    for &name in LossConfig::NAMES {
        let loss = LossConfig::from_name(name).unwrap();
        let (_, gradient) = evaluate(&loss, &logits, &labels, shape);
        for (i, derivative) in gradient.into_iter().enumerate() {
            let step = 1e-2;
            let at = |sign: f32| {
                let mut moved = logits;
                moved[i] += sign * step;
                evaluate(&loss, &moved, &labels, shape).0
            };
            let difference = (at(1.0) - at(-1.0)) / (2.0 * step);
            // f32 rounding of the loss over the step, and step² of the third derivative.
            assert!(
                (difference - derivative).abs() < 5e-5,
                "{name}, logit {i}: {derivative} is not {difference}"
            );
        }
    }
}

#[test]
fn empty_classes_give_finite_losses_and_gradients() {
    let mut losses: Vec<_> = LossConfig::NAMES
        .iter()
        .map(|name| LossConfig::from_name(name).unwrap())
        .collect();
    losses.push(LossConfig::Dice(Dice { smooth: 0.0 }));
    for loss in &losses {
        for classes in [1, 2] {
            let shape = [2, classes, 2, 3];
            let pixels = 2 * 2 * 3;
            // Undecided, and extreme both ways.
            for logit in [0.0, 300.0, -300.0f32] {
                let logits: Vec<f32> = (0..pixels * classes)
                    .map(|i| if i / 6 % 2 == 0 { -logit } else { logit })
                    .collect();
                for label in [0, 1, 255] {
                    let (value, gradient) = evaluate(loss, &logits, &vec![label; pixels], shape);
                    assert!(
                        value.is_finite(),
                        "{loss:?} of label {label}, logit {logit}"
                    );
                    assert!(
                        gradient.iter().all(|g| g.is_finite()),
                        "gradient of {loss:?}, label {label}, logit {logit}: {gradient:?}"
                    );
                    if label == 255 {
                        assert!(gradient.iter().all(|&g| g == 0.0));
                    }
                }
            }
        }
    }
}

#[test]
fn ignored_pixels_do_not_count_whatever_their_logits() {
    let labels = [1, 0, 255, 1, 255, 0];
    let logits = [0.5, -1.0, 2.0, -0.3, 0.7, 1.2f32];
    let mut wild = logits;
    wild[2] = f32::NAN;
    wild[4] = f32::INFINITY;
    for &name in LossConfig::NAMES {
        let loss = LossConfig::from_name(name).unwrap();
        let tame = evaluate(&loss, &logits, &labels, [1, 1, 2, 3]);
        assert_eq!(
            evaluate(&loss, &wild, &labels, [1, 1, 2, 3]),
            tame,
            "{name}"
        );
        assert_eq!((tame.1[2], tame.1[4]), (0.0, 0.0), "{name}");
    }
}

#[test]
fn a_perfect_map_has_no_loss_and_a_wrong_one_much() {
    let labels = [1, 0, 0, 1, 1, 0];
    let right = labels.map(|l| if l == 1 { 30.0 } else { -30.0f32 });
    let wrong = right.map(|z| -z);
    for &name in LossConfig::NAMES {
        let loss = LossConfig::from_name(name).unwrap();
        let (low, _) = evaluate(&loss, &right, &labels, [1, 1, 2, 3]);
        let (high, _) = evaluate(&loss, &wrong, &labels, [1, 1, 2, 3]);
        assert!(low.abs() < 1e-6, "{name}: {low}");
        assert!(high > 0.25, "{name}: {high}");
    }
}

#[test]
fn names_parameters_and_unknown_keys() {
    for &name in LossConfig::NAMES {
        let loss = LossConfig::from_name(name).unwrap();
        assert_eq!(loss.name(), name);
        loss.validate().unwrap();
        assert_eq!(parse(&format!(r#"{{"kind":"{name}"}}"#)), loss);
        assert_eq!(parse(&serde_json::to_string(&loss).unwrap()), loss);
    }
    let error = LossConfig::from_name("dcie").unwrap_err().to_string();
    assert!(
        error.contains("dcie") && error.contains("log-cosh-dice"),
        "{error}"
    );
    assert!(serde_json::from_str::<LossConfig>(r#"{"kind":"dice","smoth":1.0}"#).is_err());
    let negative = parse(r#"{"kind":"cross-entropy","class_weights":[1.0,-1.0]}"#);
    assert_eq!(
        negative.validate().unwrap_err().to_string(),
        "loss cross-entropy: class_weights is -1: expected a positive number"
    );
    let empty = parse(r#"{"kind":"sum","terms":[]}"#);
    assert_eq!(empty.validate().unwrap_err(), LossError::NoTerms);
    let inner =
        parse(r#"{"kind":"sum","terms":[{"weight":1.0,"loss":{"kind":"focal","gamma":-1.0}}]}"#);
    assert_eq!(
        inner.validate().unwrap_err().to_string(),
        "loss focal: gamma is -1: expected 0 or more"
    );
}
