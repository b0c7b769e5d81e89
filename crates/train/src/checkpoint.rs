//! Checkpoints: everything that a run needs to continue as if it had not stopped.
//!
//! A checkpoint is a folder with `model.bpk`, `optimizer.bpk` and `state.toml`. It is written beside the old one and
//! swapped in by renames, so a kill or a full disk leaves the old or the new checkpoint, never half of one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use pluvial_data::loader::Position;
use serde::{Deserialize, Serialize};

use crate::run_dir::write_atomic;

/// The part of a checkpoint that is neither weights nor moments. Kept as TOML: it gives every float back to the last bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Epochs that are complete.
    pub epochs_done: usize,
    /// Optimizer steps done.
    pub step: usize,
    /// Batches of the current epoch that are done; 0 between epochs.
    pub batches_done: usize,
    /// Where the loader stands within the epoch; none between epochs.
    pub position: Option<Position>,
    /// Sum of the losses of those batches.
    pub loss_sum: f64,
    /// Best validation CSI so far and the epoch (from 1) that reached it.
    pub best: Option<BestEpoch>,
    /// Seconds of training before this checkpoint, all resumed parts together.
    pub elapsed_s: f64,
}

/// The epoch whose weights are kept as `best`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestEpoch {
    /// Epoch, from 1.
    pub epoch: usize,
    /// CSI on the validation split at `threshold`.
    pub csi: f64,
    /// Wet probability from which on a cell counts as wet: the one with the highest CSI on the validation split.
    pub threshold: f32,
}

impl TrainState {
    /// Before the first step.
    pub fn start() -> Self {
        Self {
            epochs_done: 0,
            step: 0,
            batches_done: 0,
            position: None,
            loss_sum: 0.0,
            best: None,
            elapsed_s: 0.0,
        }
    }
}

/// Writes a checkpoint to `folder`, replacing the one that is there.
///
/// # Errors
/// The folder cannot be written (the message names the file); an older checkpoint is then still complete.
pub fn save<M: Module>(
    folder: &Path,
    model: &M,
    optimizer: &ModuleOptimizer,
    state: &TrainState,
) -> Result<()> {
    let new = with_suffix(folder, ".new");
    remove_if_there(&new)?;
    fs::create_dir_all(&new)
        .with_context(|| format!("cannot make the folder {}", new.display()))?;
    let weights = new.join("model.bpk");
    // burn holds a batch norm's last update of its running statistics back until they are read, and a record does not ask
    // for it. Going to inference does, for this model too: the statistics are shared.
    drop(model.valid());
    model
        .clone()
        .into_record()
        .save(&weights)
        .with_context(|| format!("cannot write {}", weights.display()))?;
    let moments = new.join("optimizer.bpk");
    optimizer
        .save(&moments)
        .with_context(|| format!("cannot write {}", moments.display()))?;
    // Last, so that a folder with a state is complete.
    write_atomic(
        &new.join("state.toml"),
        toml::to_string_pretty(state)?.as_bytes(),
    )?;
    swap_in(&new, folder)
}

/// Loads the weights of a checkpoint into `model`.
///
/// # Errors
/// The file is missing, damaged, or of another network.
pub fn load_model<M: Module>(folder: &Path, model: M) -> Result<M> {
    let path = complete(folder)?.join("model.bpk");
    let record =
        ModuleRecord::load(&path).with_context(|| format!("cannot read {}", path.display()))?;
    model.try_load_record(record).with_context(|| {
        format!(
            "{} does not fit the network of the configuration",
            path.display()
        )
    })
}

/// Loads the optimizer's moments of a checkpoint.
///
/// # Errors
/// The file is missing or damaged.
pub fn load_optimizer(folder: &Path, optimizer: ModuleOptimizer) -> Result<ModuleOptimizer> {
    let path = complete(folder)?.join("optimizer.bpk");
    optimizer
        .load(&path)
        .with_context(|| format!("cannot read {}", path.display()))
}

/// Loads the state of a checkpoint.
///
/// # Errors
/// The file is missing or damaged.
pub fn load_state(folder: &Path) -> Result<TrainState> {
    let path = complete(folder)?.join("state.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// True where a complete checkpoint is.
pub fn exists(folder: &Path) -> bool {
    complete(folder).is_ok()
}

/// The folder that holds the newest complete checkpoint: a kill between the two renames of [`swap_in`] leaves `.new`.
fn complete(folder: &Path) -> Result<PathBuf> {
    let candidates = [
        folder.to_path_buf(),
        with_suffix(folder, ".new"),
        with_suffix(folder, ".old"),
    ];
    for candidate in candidates {
        if candidate.join("state.toml").is_file() {
            return Ok(candidate);
        }
    }
    bail!("no checkpoint in {}", folder.display())
}

/// Keeps the checkpoint in `folder` aside, for [`bring_back`]; nothing where there is none.
///
/// # Errors
/// The folder cannot be renamed.
pub fn set_aside(folder: &Path) -> Result<()> {
    match complete(folder) {
        Ok(found) => swap_in(&found, &with_suffix(folder, ".aside")),
        Err(_) => Ok(()),
    }
}

/// Puts the checkpoint that [`set_aside`] kept back to `folder`; nothing where there is none.
///
/// # Errors
/// The folder cannot be renamed.
pub fn bring_back(folder: &Path) -> Result<()> {
    let aside = with_suffix(folder, ".aside");
    match exists(&aside) {
        true => swap_in(&aside, folder),
        false => Ok(()),
    }
}

fn swap_in(new: &Path, folder: &Path) -> Result<()> {
    let old = with_suffix(folder, ".old");
    remove_if_there(&old)?;
    if folder.exists() {
        fs::rename(folder, &old).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    fs::rename(new, folder).with_context(|| format!("cannot write {}", folder.display()))?;
    remove_if_there(&old)
}

fn remove_if_there(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn with_suffix(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use crate::config::OptimConfig;
    use crate::optim::adamw;
    use burn::nn::{BatchNormConfig, Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    fn step(model: Linear, optimizer: &mut ModuleOptimizer, device: &Device) -> Linear {
        let x = Tensor::<2>::from_data([[1.0f32, -2.0, 0.5], [0.1, 0.7, 3.0]], device);
        let grads = model.forward(x).powi_scalar(2).sum().backward();
        let grads = GradientsParams::from_grads(grads, &model);
        optimizer.step(1e-2, model, grads)
    }

    fn weights(model: &Linear) -> Vec<f32> {
        model.weight.val().into_data().try_to_vec().unwrap()
    }

    #[test]
    fn training_continues_as_if_it_had_not_stopped() {
        let device = Device::flex().autodiff();
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("last");
        let config = OptimConfig::default();
        let mut model = LinearConfig::new(3, 2).init(&device);
        let mut optimizer = adamw(&config, &model);
        for _ in 0..3 {
            model = step(model, &mut optimizer, &device);
        }
        let state = TrainState {
            step: 3,
            ..TrainState::start()
        };
        save(&folder, &model, &optimizer, &state).unwrap();
        save(&folder, &model, &optimizer, &state).unwrap();
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            1,
            "nothing but the checkpoint stays"
        );

        let other = LinearConfig::new(3, 2).init(&device);
        let mut resumed = load_model(&folder, other).unwrap();
        let mut resumed_optimizer = load_optimizer(&folder, adamw(&config, &resumed)).unwrap();
        assert_eq!(load_state(&folder).unwrap(), state);
        for _ in 0..3 {
            model = step(model, &mut optimizer, &device);
            resumed = step(resumed, &mut resumed_optimizer, &device);
        }
        assert_eq!(weights(&model), weights(&resumed));
    }

    #[test]
    fn a_kill_while_writing_leaves_a_complete_checkpoint() {
        let device = Device::flex().autodiff();
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("last");
        let model = LinearConfig::new(3, 2).init(&device);
        let optimizer = adamw(&OptimConfig::default(), &model);
        assert!(
            load_state(&folder)
                .unwrap_err()
                .to_string()
                .contains("no checkpoint")
        );
        save(
            &folder,
            &model,
            &optimizer,
            &TrainState {
                step: 1,
                ..TrainState::start()
            },
        )
        .unwrap();
        // Killed before the new one was complete:
        fs::create_dir(with_suffix(&folder, ".new")).unwrap();
        assert_eq!(load_state(&folder).unwrap().step, 1);
        // Killed between the renames:
        fs::remove_dir_all(with_suffix(&folder, ".new")).unwrap();
        fs::rename(&folder, with_suffix(&folder, ".old")).unwrap();
        assert_eq!(load_state(&folder).unwrap().step, 1);
        save(
            &folder,
            &model,
            &optimizer,
            &TrainState {
                step: 2,
                ..TrainState::start()
            },
        )
        .unwrap();
        assert_eq!(load_state(&folder).unwrap().step, 2);
        // Truncated weights are an error that names the file.
        let bytes = fs::read(folder.join("model.bpk")).unwrap();
        fs::write(folder.join("model.bpk"), &bytes[..bytes.len() / 2]).unwrap();
        let error = format!("{:#}", load_model(&folder, model).unwrap_err());
        assert!(error.contains("model.bpk"), "{error}");
    }

    #[test]
    fn the_last_batch_is_in_the_running_statistics() {
        let device = Device::flex().autodiff();
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("last");
        let config = OptimConfig::default();
        let norm = BatchNormConfig::new(1).init(&device);
        let x = Tensor::<3>::from_data([[[1.0f32, 2.0, 6.0]], [[0.0, 4.0, 5.0]]], &device);
        norm.forward(x);
        save(&folder, &norm, &adamw(&config, &norm), &TrainState::start()).unwrap();
        let loaded = load_model(&folder, BatchNormConfig::new(1).init(&device)).unwrap();
        // (1 − 0.1) · 0 + 0.1 · 3, momentum times the batch's mean.
        let mean = loaded.running_mean.value().into_scalar::<f32>();
        assert!((mean - 0.3).abs() < 1e-6, "{mean}");
    }

    #[test]
    fn a_checkpoint_kept_aside_comes_back() {
        let device = Device::flex().autodiff();
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("best");
        let model = LinearConfig::new(3, 2).init(&device);
        let optimizer = adamw(&OptimConfig::default(), &model);
        let save_step = |step| {
            let state = TrainState {
                step,
                ..TrainState::start()
            };
            save(&folder, &model, &optimizer, &state).unwrap();
        };
        set_aside(&folder).unwrap();
        bring_back(&folder).unwrap();
        assert!(
            !exists(&folder),
            "neither does anything without a checkpoint"
        );
        save_step(1);
        set_aside(&folder).unwrap();
        save_step(2);
        assert_eq!(load_state(&folder).unwrap().step, 2);
        bring_back(&folder).unwrap();
        bring_back(&folder).unwrap();
        assert_eq!(load_state(&folder).unwrap().step, 1);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
