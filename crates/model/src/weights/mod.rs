//! Weights of public models, in and out.
//!
//! [`WeightsFile`] reads `.pth` and `.safetensors` files; [`WeightsFile::load_into`] puts what they hold into an encoder or a
//! whole network by the names that torchvision, timm, the official ConvNeXt or segmentation_models_pytorch give it.
//! [`export`] goes the other way: a safetensors file that one of these loads with `load_state_dict(strict=True)`.

mod export;
mod file;
mod import;
mod names;
mod slots;
#[cfg(test)]
mod tests;

pub use export::{Format, export};
pub use file::{StoredTensor, WeightsFile};
pub use import::{Mismatch, Report};
pub use names::Family;

use std::path::PathBuf;

/// What is wrong with a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// It cannot be read, or is not what its kind should be.
    #[error("{}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// None of the names that are known for the network is in it.
    #[error(
        "{}: holds no weights of this network under the names of torchvision, timm, the official ConvNeXt or \
         segmentation_models_pytorch; it begins with {first}",
        path.display()
    )]
    UnknownNames {
        /// The file.
        path: PathBuf,
        /// Its first names.
        first: String,
    },
    /// The names fit, a shape of the encoder does not: a file of another size.
    #[error("{}: of another network: {name} is {theirs:?}, the encoder needs {ours:?}", path.display())]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
        /// Its shape in the file.
        theirs: Vec<usize>,
        /// The shape that the network needs.
        ours: Vec<usize>,
    },
    /// The public library has no such layer.
    #[error("{library} has no counterpart of this network: no name for {parameter}")]
    NoCounterpart {
        /// The library.
        library: Family,
        /// The parameter of ours that has no name there.
        parameter: String,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}
