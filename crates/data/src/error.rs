//! The crate's error: every message is one line that names the file, the record where there is one, and the reason.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Result of the fallible functions of this crate.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// What can go wrong between files and arrays.
///
/// Causes stand in the message itself and are not repeated through [`std::error::Error::source`], so that printing an error
/// once says everything.
#[derive(Debug, Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("cannot {action} '{}': {cause}", path.display())]
    Io {
        /// What was attempted: a verb such as `open`, `read`, `write`, `rename`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// A file does not hold what its format asks for.
    #[error("'{}': {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One record of a shard is damaged or holds values that cannot be.
    #[error("'{}', record {record}: {reason}", path.display())]
    Record {
        /// The shard.
        path: PathBuf,
        /// Index of the record in the shard, from 0.
        record: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Settings that contradict each other or the data.
    #[error("{0}")]
    Config(String),
}

impl DataError {
    /// An [`DataError::Io`], for `map_err(|e| DataError::io("open", path, e))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>, cause: io::Error) -> Self {
        Self::Io {
            action,
            path: path.as_ref().to_owned(),
            cause,
        }
    }

    /// A [`DataError::Format`].
    pub fn format(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Format {
            path: path.as_ref().to_owned(),
            reason: reason.into(),
        }
    }

    /// A [`DataError::Record`].
    pub fn record(path: impl AsRef<Path>, record: u64, reason: impl Into<String>) -> Self {
        Self::Record {
            path: path.as_ref().to_owned(),
            record,
            reason: reason.into(),
        }
    }
}
