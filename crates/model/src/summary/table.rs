//! The layout of Keras' `model.summary()`.

use std::fmt::Write;

use super::{Layer, Summary, grouped};

const TITLES: [&str; 4] = ["Layer (type)", "Output Shape", "Param #", "Connected to"];

impl Summary {
    /// As Keras 2 prints it, with the `Connected to` column; programs that read its tables read this one. Axes are
    /// [batch, channel, height, width] and no column is cut short. Multiply-adds follow the totals.
    pub fn to_table(&self) -> String {
        let rows: Vec<[Vec<String>; 4]> = self.layers.iter().map(|layer| self.row(layer)).collect();
        let width = |column: usize| {
            let cells = rows.iter().flat_map(|row| &row[column]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..4).map(|i| width(i).max(TITLES[i].len()) + 2).collect();
        let length = widths.iter().sum();
        let line = |cells: [&str; 4]| {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(line, "{cell:<width$}");
            }
            line.push('\n');
            line
        };
        let mut text = format!("Model: \"{}\"\n", self.model);
        text += &"_".repeat(length);
        text.push('\n');
        text += &line(TITLES);
        text += &"=".repeat(length);
        text.push('\n');
        for (i, row) in rows.iter().enumerate() {
            let height = row.iter().map(Vec::len).max().unwrap_or(0);
            for y in 0..height {
                let cell = |x: usize| row[x].get(y).map_or("", String::as_str);
                text += &line([cell(0), cell(1), cell(2), cell(3)]);
            }
            let rule = if i + 1 < rows.len() { "_" } else { "=" };
            text += &rule.repeat(length);
            text.push('\n');
        }
        let _ = write!(
            text,
            "Total params: {}\nTrainable params: {}\nNon-trainable params: {}\n{}\nMultiply-adds: {}\n",
            grouped(self.trainable + self.non_trainable),
            grouped(self.trainable),
            grouped(self.non_trainable),
            "_".repeat(length),
            grouped(self.macs)
        );
        text
    }

    fn row(&self, layer: &Layer) -> [Vec<String>; 4] {
        let shape = batched(&layer.output_shape);
        let shape = match layer.kind.as_str() {
            "InputLayer" => format!("[{shape}]"),
            _ => shape,
        };
        let sources = layer.inputs.iter().map(|name| format!("{name}[0][0]"));
        [
            vec![format!("{} ({})", layer.name, layer.kind)],
            vec![shape],
            vec![layer.params().to_string()],
            sources.collect(),
        ]
    }
}

/// The shape as Keras writes it. Where the first axis holds all cells of the batch, the batch comes before it.
pub(super) fn batched(shape: &[usize]) -> String {
    let rest = match shape {
        [1, rest @ ..] => rest,
        _ => shape,
    };
    let axes = rest.iter().map(|n| format!(", {n}"));
    format!("(None{})", axes.collect::<String>())
}
