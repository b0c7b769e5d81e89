//! Training records as TensorFlow reads and writes them: `tf.train.Example` in TFRecord framing in gzip.

pub mod example;
pub mod metadata;
pub mod shard;
pub mod tensor;
pub mod tfrecord;
mod wire;

use thiserror::Error;

pub use metadata::Metadata;
pub use shard::{ShardReader, ShardWriter};

/// Why bytes are not the message they should be, without the file and record, which the caller knows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

impl From<&str> for DecodeError {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

impl From<String> for DecodeError {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}
