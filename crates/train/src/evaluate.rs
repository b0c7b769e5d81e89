//! One pass of a network over a split: loss, and counts at every threshold.

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::{Array3, Array4, ArrayView3, Axis};
use pluvial_data::loader::Batch;
use pluvial_model::losses::LossConfig;
use pluvial_model::losses::wet_probability;
use pluvial_model::metrics::{Confusion, ThresholdSweep};
use pluvial_model::models::segmenter::Segmenter;

/// What a pass over a split counted.
#[derive(Debug, Clone, Default)]
pub struct Evaluation {
    /// Mean of the loss over the samples.
    pub loss: f64,
    /// Samples.
    pub samples: u64,
    /// Counts at every threshold.
    pub sweep: ThresholdSweep,
}

impl Evaluation {
    /// Counts with cells taken as wet from a probability of `threshold` on.
    pub fn at(&self, threshold: f32) -> Confusion {
        let last = self.sweep.bins() - 1;
        self.sweep
            .confusion(((threshold * last as f32).round() as usize).min(last))
    }
}

/// A batch as tensors: input `[B, C, H, W]` and labels `[B, H, W]` (0 dry, 1 wet, 255 ignored).
pub fn tensors(
    input: Array4<f32>,
    labels: &Array3<u8>,
    device: &Device,
) -> (Tensor<4>, Tensor<3, Int>) {
    let shape = input.shape().to_vec();
    // Without a copy where the values lie in order, as the loader's do.
    let input = match input.is_standard_layout() {
        true => input.into_raw_vec_and_offset().0,
        false => input.iter().copied().collect(),
    };
    let label_shape = labels.shape().to_vec();
    let labels: Vec<i32> = labels.iter().map(|&label| i32::from(label)).collect();
    (
        Tensor::from_data(TensorData::new(input, shape), device),
        Tensor::from_data(TensorData::new(labels, label_shape), device),
    )
}

/// Runs `model` (without autodiff) over `batches`; `each` sees every batch, its input taken out, with its wet probabilities
/// `[B, H, W]`.
///
/// # Errors
/// A batch cannot be read, or the network gives a probability that is not a number.
pub fn evaluate<E>(
    model: &Segmenter,
    loss: &LossConfig,
    device: &Device,
    batches: impl Iterator<Item = Result<Batch, E>>,
    mut each: impl FnMut(&Batch, ArrayView3<f32>) -> Result<()>,
) -> Result<Evaluation>
where
    E: Into<anyhow::Error>,
{
    let mut result = Evaluation::default();
    for batch in batches {
        let mut batch = batch.map_err(Into::into)?;
        let samples = batch.label.len_of(Axis(0));
        let (input, labels) = tensors(std::mem::take(&mut batch.input), &batch.label, device);
        let logits = model.forward(input);
        let batch_loss: f32 = loss.forward(logits.clone(), labels).into_scalar();
        let probability: Vec<f32> = wet_probability(logits)
            .into_data()
            .convert::<f32>()
            .try_to_vec()
            .map_err(|error| anyhow::anyhow!("cannot read the probabilities: {error:?}"))?;
        ensure!(batch_loss.is_finite(), "the loss is {batch_loss}");
        let labels = batch.label.as_standard_layout();
        let labels = labels.as_slice().context("labels are contiguous")?;
        result.sweep.add(&probability, labels)?;
        each(
            &batch,
            ArrayView3::from_shape(batch.label.raw_dim(), &probability)?,
        )?;
        result.loss += f64::from(batch_loss) * samples as f64;
        result.samples += samples as u64;
    }
    ensure!(result.samples > 0, "the split holds no samples");
    result.loss /= result.samples as f64;
    Ok(result)
}
