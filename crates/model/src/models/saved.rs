//! A network in a folder: `model.json`, its configuration, and `model.bpk`, its weights. The two rebuild it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::Device;

use super::Model;
use crate::config::{ModelConfig, ModelError};

/// A network that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The file system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The configuration is not one.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The reason, with the line.
        source: serde_json::Error,
    },
    /// The configuration contradicts itself.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ModelError,
    },
    /// The weights are damaged, or of another network.
    #[error("{}: {source}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: RecordError,
    },
}

/// Writes `model`, which `config` made, to `folder`, which is made where it is missing. Each file appears whole or not at all.
///
/// # Errors
/// [`SavedError`] names the file that cannot be written.
pub fn save(folder: &Path, config: &ModelConfig, model: &Model) -> Result<(), SavedError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| SavedError::Io {
            action,
            path,
            source,
        }
    };
    fs::create_dir_all(folder).map_err(io("make", folder))?;
    let path = folder.join("model.bpk");
    // burn holds a batch norm's last update of its running statistics back until they are read, and a record does not ask
    // for it. Going to inference does, for this model too: the statistics are shared.
    drop(model.valid());
    let record = model.clone().into_record();
    record.save(&path).map_err(|source| SavedError::Weights {
        path: path.clone(),
        source,
    })?;
    let path = folder.join("model.json");
    let json = serde_json::to_string_pretty(config).map_err(|source| SavedError::Json {
        path: path.clone(),
        source,
    })?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io("write", &path))?;
    file.write_all(json.as_bytes())
        .map_err(io("write", &path))?;
    file.persist(&path)
        .map_err(|error| io("write", &path)(error.error))?;
    Ok(())
}

/// Reads a network that [`save`] wrote.
///
/// # Errors
/// [`SavedError`] names the file and what is wrong with it.
pub fn load(folder: &Path, device: &Device) -> Result<(ModelConfig, Model), SavedError> {
    let path = folder.join("model.json");
    let json = fs::read_to_string(&path).map_err(|source| SavedError::Io {
        action: "read",
        path: path.clone(),
        source,
    })?;
    let config: ModelConfig = serde_json::from_str(&json).map_err(|source| SavedError::Json {
        path: path.clone(),
        source,
    })?;
    let model = config
        .init_lazily(device)
        .map_err(|source| SavedError::Config { path, source })?;
    let path = folder.join("model.bpk");
    let model = ModuleRecord::load(&path)
        .and_then(|record| model.try_load_record(record))
        .map_err(|source| SavedError::Weights { path, source })?;
    Ok((config, model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::models::contrastive::ContrastiveConfig;

    #[test]
    fn a_folder_rebuilds_the_network() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("pair");
        let device = Device::flex();
        let config = ModelConfig::Contrastive(ContrastiveConfig {
            rain_encoder: "convnext_shallow".parse().unwrap(),
            rain_channels: 2,
            embedding: 12,
            ..ContrastiveConfig::default()
        });
        let model = golden::filled(config.init_lazily(&device).unwrap());
        save(&folder, &config, &model).unwrap();
        let (found, loaded) = load(&folder, &device).unwrap();
        assert_eq!(found, config);
        let similarities = |model: &Model| match model {
            Model::Contrastive(pair) => {
                let (rain, water) = ([3, 2, 32, 48], [3, 1, 16, 32]);
                pair.forward(golden::input(rain), golden::input(water))
            }
            _ => panic!("not a pair"),
        };
        assert_eq!(
            similarities(&loaded).into_data(),
            similarities(&model).into_data()
        );

        // Another network's weights, and no configuration.
        let other = ModelConfig::from_name("pixel_classifier-convnext_shallow").unwrap();
        fs::write(
            folder.join("model.json"),
            serde_json::to_string(&other).unwrap(),
        )
        .unwrap();
        let error = load(&folder, &device).unwrap_err().to_string();
        assert!(error.contains("model.bpk"), "{error}");
        fs::write(folder.join("model.json"), "{").unwrap();
        let error = load(&folder, &device).unwrap_err().to_string();
        assert!(error.contains("model.json: EOF"), "{error}");
    }
}
