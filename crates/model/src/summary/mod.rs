//! What a network consists of: one recorded forward pass gives its layers, their output shapes, parameters, multiply-adds and
//! connections, as a table, JSON, or a flow chart.

mod chart;
mod models;
mod svg;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod trace;
mod tree;

use burn::module::Module;
use burn::tensor::Tensor;
use serde::Serialize;

use crate::config::ModelError;

/// Why there is no summary.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The network's configuration contradicts itself.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Arithmetic of the network that is no recorded layer.
    #[error("the input of layer {layer} comes from arithmetic that no layer recorded")]
    Unrecorded {
        /// The layer behind it.
        layer: String,
    },
    /// The forward pass does not come by a parameter.
    #[error("no layer of the forward pass uses the parameter {parameter}")]
    Unused {
        /// Its path.
        parameter: String,
    },
}

/// The layers of a network in the order in which they run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Name of the network.
    pub model: String,
    /// Values that training changes.
    pub trainable: usize,
    /// Running statistics of batch normalisations.
    pub non_trainable: usize,
    /// Multiply-adds of convolutions, linear layers and attention for these inputs; other arithmetic is not counted, as in
    /// the published figures.
    pub macs: usize,
    /// The layers.
    pub layers: Vec<Layer>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// Path of its module and its name, joined by dots.
    pub name: String,
    /// Keras' name of its type, such as `Conv2D`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Shape of its output.
    pub output_shape: Vec<usize>,
    /// Values that training changes. Layers that share parameters: the first has them.
    pub trainable: usize,
    /// Running statistics.
    pub non_trainable: usize,
    /// Multiply-adds.
    pub macs: usize,
    /// Names of the layers whose outputs it takes.
    pub inputs: Vec<String>,
    /// Their places in the list of layers.
    #[serde(skip)]
    sources: Vec<usize>,
    /// Modules on the way to it and its own name.
    #[serde(skip)]
    path: Vec<String>,
}

impl Layer {
    /// All its values, as Keras counts them.
    pub fn params(&self) -> usize {
        self.trainable + self.non_trainable
    }
}

impl Summary {
    /// Records `run`, which passes inputs of the given shapes through `model`, a module on a device without autodiff.
    ///
    /// # Errors
    /// [`SummaryError`], where the network does something that no layer records.
    pub fn of<M: Module>(
        name: &str,
        model: &M,
        inputs: &[[usize; 4]],
        run: impl FnOnce(Vec<Tensor<4>>),
    ) -> Result<Self, SummaryError> {
        let recorded = trace::record(model, inputs, run)?;
        let names: Vec<String> = recorded.iter().map(|layer| layer.path.join(".")).collect();
        let layers = recorded.into_iter().map(|layer| Layer {
            name: layer.path.join("."),
            kind: layer.kind.to_owned(),
            output_shape: layer.shape,
            trainable: layer.trainable,
            non_trainable: layer.running,
            macs: layer.macs,
            inputs: layer.inputs.iter().map(|i| names[*i].clone()).collect(),
            sources: layer.inputs,
            path: layer.path,
        });
        let layers: Vec<Layer> = layers.collect();
        let total = |of: fn(&Layer) -> usize| layers.iter().map(of).sum();
        Ok(Self {
            model: name.to_owned(),
            trainable: total(|layer| layer.trainable),
            non_trainable: total(|layer| layer.non_trainable),
            macs: total(|layer| layer.macs),
            layers,
        })
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|_| unreachable!("strings and numbers"))
    }
}

/// `1234567` → `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number in three figures, such as `25.6 M`.
fn short(number: usize) -> String {
    let value = number as f64;
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.1} k", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.2} G", value / 1e9),
    }
}
