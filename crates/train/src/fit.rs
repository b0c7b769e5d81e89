//! The training loop: step, accumulate, clip, schedule, evaluate, save; stops on a signal or a limit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Int, Tensor};
use pluvial_data::loader::{Batches, Loader};
use pluvial_data::rng;
use pluvial_data::signals::StopFlag;
use pluvial_model::models::segmenter::Segmenter;
use pluvial_model::ops::checkpoint::with as with_checkpointing;
use pluvial_model::ops::precision;
use rand::Rng;

use crate::checkpoint::{self, BestEpoch, TrainState};
use crate::config::Config;
use crate::device::is_host;
use crate::evaluate::{evaluate, tensors};
use crate::log::terminal::epoch_line;
use crate::log::{EpochRow, Log, MetricsTsv, TensorBoard};
use crate::optim::{adamw, clip_global_norm};
use crate::run_dir::RunDir;
use crate::schedule::WarmupCosine;

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All epochs are done.
    Finished,
    /// Validation CSI did not rise for `patience` epochs.
    EarlyStop,
    /// `max_steps` is reached.
    StepLimit,
    /// `time_limit_minutes` is over.
    TimeLimit,
    /// Ctrl-C or SIGTERM.
    Interrupted,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Finished => "finished",
            Self::EarlyStop => "early stop",
            Self::StepLimit => "step limit",
            Self::TimeLimit => "time limit",
            Self::Interrupted => "interrupted",
        })
    }
}

/// Batches whose losses are read back together on a GPU. A read waits until the device has done all that was asked of it, and then
/// the device waits until it is asked for more: between two reads it always has work.
const READ_TOGETHER: usize = 16;

/// What the loop works with.
pub struct Fit<'a> {
    /// The run's configuration.
    pub config: &'a Config,
    /// Where it writes.
    pub run: &'a RunDir,
    /// Where it speaks.
    pub log: &'a Log,
    /// Training batches, shuffled.
    pub train: &'a Loader,
    /// Samples of the training split.
    pub train_samples: usize,
    /// Validation batches.
    pub validation: &'a Loader,
    /// Device without autodiff.
    pub device: &'a Device,
    /// Name and validation CSI of the best uninformed baseline.
    pub baseline: Option<(&'a str, f64)>,
    /// Set by a signal.
    pub stop: &'a StopFlag,
}

impl Fit<'_> {
    /// Trains `model` (on an autodiff device) from the checkpoint `last` where `resume` is set, from scratch otherwise; `ahead` are a new
    /// run's first batches, where they are being made already.
    ///
    /// # Errors
    /// A batch or a checkpoint cannot be read or written, or the loss stops being a number.
    pub fn run(
        &self,
        mut model: Segmenter,
        resume: bool,
        mut ahead: Option<Batches>,
    ) -> Result<(Exit, TrainState)> {
        let config = self.config;
        let (last, best) = (self.run.checkpoint("last"), self.run.checkpoint("best"));
        let mut optimizer = adamw(&config.optim, &model);
        let mut state = TrainState::start();
        if resume {
            state = checkpoint::load_state(&last)?;
            ahead = Some(match &state.position {
                Some(position) => self.train.resume(position)?,
                None => self.train.epoch(state.epochs_done as u64),
            });
            model = checkpoint::load_model(&last, model)?;
            // The groups are by parameter id, and loading brought the ids of the saved run back.
            optimizer = checkpoint::load_optimizer(&last, adamw(&config.optim, &model))?;
            if state.epochs_done < config.train.epochs
                && let Some(most) = config.train.max_steps
                && state.step >= most
            {
                bail!(
                    "{} stands at step {} and train.max_steps is {most}: raise it to go on",
                    self.run.path().display(),
                    state.step
                );
            }
            checkpoint::bring_back(&best)?;
            self.log.line(format_args!(
                "resumed at epoch {}, step {}",
                state.epochs_done + 1,
                state.step
            ));
        }
        let mut tsv = MetricsTsv::open(&self.run.file("metrics.tsv"), state.epochs_done as u64)?;
        let mut board = TensorBoard::create(self.run.path(), state.step as u64)?;
        let batches = self.train_samples.div_ceil(config.data.batch_size);
        let accumulate = config.optim.accumulate.max(1);
        let steps_an_epoch = batches.div_ceil(accumulate);
        let schedule = WarmupCosine {
            peak: config.optim.learning_rate,
            floor: config.optim.final_learning_rate,
            warmup_steps: (config.optim.warmup_epochs * steps_an_epoch as f64).round() as usize,
            total_steps: config.train.epochs * steps_an_epoch,
        };
        let started = Instant::now();
        let elapsed_before = state.elapsed_s;
        let mut saved = Instant::now();
        let device = self.device.clone().autodiff();
        let mut read_back = ReadBack::new(self.device);

        while state.epochs_done < config.train.epochs {
            let epoch = state.epochs_done;
            let epoch_started = Instant::now();
            let done = (state.batches_done * config.data.batch_size) as u64;
            let mut progress = self.log.progress(
                format!("epoch {}", epoch + 1),
                done,
                self.train_samples as u64,
            );
            let mut accumulator = GradientsAccumulator::new();
            let mut exit = None;
            let stream = ahead.take();
            let mut stream = stream.unwrap_or_else(|| self.train.epoch(epoch as u64));
            let mut waited = Duration::ZERO;
            while let Some((input, labels)) = next_batch(&mut stream, &device, &mut waited)? {
                // Drop path and the like draw from the device: a stream of its own for every batch makes a resumed run
                // draw what the uninterrupted one would have drawn.
                let name = format!("train {epoch} {}", state.batches_done);
                self.device.seed(rng::stream(config.seed, &name).next_u64());
                let samples = input.dims()[0];
                let logits = with_checkpointing(config.train.gradient_checkpointing, || {
                    precision::with(config.train.precision, || model.forward(input))
                });
                let loss = config.loss.forward(logits, labels);
                let mut pending = Pending {
                    loss: loss.clone().inner(),
                    norm: None,
                    ends_step: false,
                    epoch,
                    step: state.step,
                    learning_rate: schedule.at(state.step),
                };
                state.batches_done += 1;
                state.position = Some(stream.position().clone());
                let group_end =
                    state.batches_done.is_multiple_of(accumulate) || state.batches_done == batches;
                // The last group of an epoch may be smaller: gradients are averaged over what it has.
                let group_start = (state.batches_done - 1) / accumulate * accumulate;
                let group = accumulate.min(batches.saturating_sub(group_start)).max(1);
                let grads = (loss / group as f64).backward();
                accumulator.accumulate(&model, GradientsParams::from_grads(grads, &model));
                if group_end {
                    let mut grads = accumulator.grads();
                    if config.optim.clip_norm > 0.0 {
                        (grads, pending.norm) =
                            clip_global_norm(&model, grads, config.optim.clip_norm);
                    }
                    model = optimizer.step(pending.learning_rate, model, grads);
                    pending.ends_step = true;
                    state.step += 1;
                }
                read_back.add(pending);
                if read_back.is_due() {
                    read_back.read(&mut state, &mut board)?;
                }
                progress.advance(
                    samples as u64,
                    format_args!(
                        "loss {:.4}",
                        state.loss_sum
                            / (state.batches_done - read_back.pending.len()).max(1) as f64
                    ),
                );
                // Stopping only where a step is complete: a checkpoint holds no half-summed gradients.
                if group_end && state.batches_done < batches {
                    state.elapsed_s = elapsed_before + started.elapsed().as_secs_f64();
                    exit = self.limit(&state);
                    if exit.is_none()
                        && saved.elapsed().as_secs_f64() >= config.train.checkpoint_minutes * 60.0
                    {
                        read_back.read(&mut state, &mut board)?;
                        checkpoint::save(&last, &model, &optimizer, &state)?;
                        saved = Instant::now();
                    }
                    if exit.is_some() {
                        break;
                    }
                }
            }
            read_back.read(&mut state, &mut board)?;
            let samples_per_s = progress.samples_per_s();
            let data_wait = waited.as_secs_f64() / epoch_started.elapsed().as_secs_f64();
            drop(progress);
            if exit.is_some_and(|exit| exit == Exit::Interrupted || exit == Exit::TimeLimit) {
                checkpoint::save(&last, &model, &optimizer, &state)?;
                return Ok((exit.unwrap_or(Exit::Interrupted), state));
            }
            ensure!(
                state.batches_done > 0,
                "the training split holds no samples"
            );
            // The first batches of the next epoch are made while this one is evaluated.
            if exit.is_none() && epoch + 1 < config.train.epochs {
                ahead = Some(self.train.epoch(epoch as u64 + 1));
            }

            let validation = evaluate(
                &model.valid(),
                &config.loss,
                self.device,
                self.validation.epoch(0),
                |_, _| Ok(()),
            )
            .context("validation")?;
            let threshold = validation.sweep.best_csi();
            let row = EpochRow {
                epoch: epoch as u64 + 1,
                step: state.step as u64,
                learning_rate: schedule.at(state.step.saturating_sub(1)),
                train_loss: state.loss_sum / state.batches_done as f64,
                validation_loss: validation.loss,
                validation: threshold.confusion,
                seconds: epoch_started.elapsed().as_secs_f64(),
                samples_per_s,
                data_wait: Some(data_wait),
            };
            self.log
                .line(epoch_line(&row, config.train.epochs as u64, self.baseline));
            tsv.append(&row)?;
            write_scalars(&mut board, &row)?;

            let csi = threshold.confusion.csi();
            let better = state.best.is_none_or(|best| csi > best.csi);
            let best_whole = state.best;
            if better {
                state.best = Some(BestEpoch {
                    epoch: epoch + 1,
                    csi,
                    threshold: threshold.threshold,
                });
            }
            if exit.is_none() {
                state.epochs_done += 1;
                state.batches_done = 0;
                state.position = None;
                state.loss_sum = 0.0;
            }
            state.elapsed_s = elapsed_before + started.elapsed().as_secs_f64();
            // `best` before `last`: killed in between, the run makes this epoch again and saves the same once more.
            if better {
                if exit.is_some() && best_whole.is_some() {
                    checkpoint::set_aside(&best)?;
                }
                checkpoint::save(&best, &model, &optimizer, &state)?;
            }
            if exit.is_some() {
                // The step limit cut this epoch. It counts for the scores of now, but a resumed run completes it, and then
                // only whole epochs compete.
                let whole = TrainState {
                    best: best_whole,
                    ..state.clone()
                };
                checkpoint::save(&last, &model, &optimizer, &whole)?;
            } else {
                checkpoint::save(&last, &model, &optimizer, &state)?;
            }
            saved = Instant::now();
            if let Some(exit) = exit.or_else(|| self.after_epoch(&state)) {
                return Ok((exit, state));
            }
        }
        Ok((Exit::Finished, state))
    }

    /// A reason to stop within an epoch.
    fn limit(&self, state: &TrainState) -> Option<Exit> {
        let train = &self.config.train;
        if self.stop.is_set() {
            Some(Exit::Interrupted)
        } else if train.max_steps.is_some_and(|most| state.step >= most) {
            Some(Exit::StepLimit)
        } else if train
            .time_limit_minutes
            .is_some_and(|most| state.elapsed_s >= most * 60.0)
        {
            Some(Exit::TimeLimit)
        } else {
            None
        }
    }

    /// A reason to stop between epochs.
    fn after_epoch(&self, state: &TrainState) -> Option<Exit> {
        if state.epochs_done >= self.config.train.epochs {
            return None;
        }
        let stale = state
            .best
            .map_or(0, |best| state.epochs_done.saturating_sub(best.epoch));
        let patience = self.config.train.patience;
        self.limit(state).or_else(|| {
            patience
                .is_some_and(|most| stale >= most)
                .then_some(Exit::EarlyStop)
        })
    }
}

/// The next batch on the device; adds the time until it is there to `waited`.
fn next_batch(
    stream: &mut Batches,
    device: &Device,
    waited: &mut Duration,
) -> Result<Option<(Tensor<4>, Tensor<3, Int>)>> {
    let asked = Instant::now();
    let batch = stream.next().transpose()?;
    let tensors = batch.map(|batch| tensors(batch.input, &batch.label, device));
    *waited += asked.elapsed();
    Ok(tensors)
}

/// What a batch came to, on the device.
struct Pending {
    /// `[1]`
    loss: Tensor<1>,
    /// `[1]`: norm of the gradients, where they were clipped.
    norm: Option<Tensor<1>>,
    ends_step: bool,
    epoch: usize,
    /// Optimizer steps before it.
    step: usize,
    learning_rate: f64,
}

/// Losses and norms that the host has not seen yet. Nothing may be saved before it has.
struct ReadBack {
    pending: Vec<Pending>,
    together: usize,
}

impl ReadBack {
    fn new(device: &Device) -> Self {
        Self {
            pending: Vec::new(),
            together: if is_host(device) { 1 } else { READ_TOGETHER },
        }
    }

    fn add(&mut self, pending: Pending) {
        self.pending.push(pending);
    }

    fn is_due(&self) -> bool {
        self.pending.len() >= self.together
    }

    /// Takes the losses into `state` and into TensorBoard.
    ///
    /// # Errors
    /// A loss or a norm is not finite.
    fn read(&mut self, state: &mut TrainState, board: &mut TensorBoard) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let values = self.pending.iter().flat_map(|pending| {
            let norm = pending.norm.iter().cloned();
            std::iter::once(pending.loss.clone()).chain(norm)
        });
        let values = Tensor::cat(values.collect(), 0).into_data();
        let values = values
            .convert::<f32>()
            .try_to_vec::<f32>()
            .map_err(|error| anyhow!("cannot read the losses: {error:?}"))?;
        let mut values = values.into_iter().map(f64::from);
        for Pending {
            norm,
            ends_step,
            epoch,
            step,
            learning_rate,
            ..
        } in self.pending.drain(..)
        {
            let loss = values.next().context("a loss for each batch")?;
            ensure!(
                loss.is_finite(),
                "the loss became {loss} at step {step} (epoch {}, learning rate {learning_rate:.2e}): lower optim.learning_rate or optim.clip_norm; the checkpoint `last` is from before",
                epoch + 1,
            );
            state.loss_sum += loss;
            if ends_step && (step + 1).is_multiple_of(10) {
                board.scalar("loss/train_batch", step as u64 + 1, loss)?;
            }
            if norm.is_some() {
                let norm = values.next().context("a norm for each clipped step")?;
                ensure!(
                    norm.is_finite(),
                    "a gradient became {norm} at step {step}: lower optim.learning_rate; the checkpoint `last` is from before"
                );
            }
        }
        Ok(())
    }
}

fn write_scalars(board: &mut TensorBoard, row: &EpochRow) -> Result<()> {
    let scores = row.validation.scores();
    for (tag, value) in [
        ("loss/train", row.train_loss),
        ("loss/validation", row.validation_loss),
        ("learning_rate", row.learning_rate),
        ("validation/csi", scores.csi),
        ("validation/f1", scores.f1),
        ("validation/pod", scores.pod),
        ("validation/far", scores.far),
        ("samples_per_s", row.samples_per_s),
        ("data_wait", row.data_wait.unwrap_or_default()),
    ] {
        board.scalar(tag, row.step, value)?;
    }
    Ok(())
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_together_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::create(folder.path(), 0).unwrap();
        let mut state = TrainState::start();
        let device = Device::flex();
        let mut read_back = ReadBack {
            pending: Vec::new(),
            together: 3,
        };
        let value = |x: f32| Tensor::<1>::from_floats([x], &device);
        let add = |read_back: &mut ReadBack, step, loss, norm: Option<f32>| {
            read_back.add(Pending {
                loss: value(loss),
                norm: norm.map(value),
                ends_step: norm.is_some(),
                epoch: 1,
                step,
                learning_rate: 0.5,
            });
            read_back.is_due()
        };
        // Two batches a step.
        assert!(!add(&mut read_back, 0, 1.0, None));
        assert!(!add(&mut read_back, 0, 2.0, Some(7.0)));
        assert_eq!(state.loss_sum, 0.0);
        assert!(add(&mut read_back, 1, 4.0, None));
        read_back.read(&mut state, &mut board).unwrap();
        assert_eq!((state.loss_sum, read_back.pending.len()), (7.0, 0));
        read_back.read(&mut state, &mut board).unwrap();
        assert_eq!(state.loss_sum, 7.0);

        add(&mut read_back, 1, 0.5, Some(f32::INFINITY));
        let error = read_back.read(&mut state, &mut board).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("gradient became inf at step 1"), "{error}");
        add(&mut read_back, 2, 0.5, None);
        add(&mut read_back, 2, f32::NAN, Some(f32::NAN));
        let error = read_back.read(&mut state, &mut board).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("the loss became NaN at step 2 (epoch 2"),
            "{error}"
        );
    }
}
