//! The folder of a run: `runs/run_0001/` and the files that say what happened.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pluvial_data::atomic::AtomicFile;
use serde::{Deserialize, Serialize};

/// A run's folder, with the places of its files.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

/// `run.json`: how the run was started and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The command line.
    pub command: Vec<String>,
    /// Version of pluvial.
    pub version: String,
    /// Commit of the source tree it was run in, with `-dirty` for uncommitted changes.
    pub git_commit: Option<String>,
    /// Seed of every random stream.
    pub seed: u64,
    /// The device, as chosen.
    pub device: String,
    /// Start, seconds since 1970 (UTC).
    pub started_unix_s: u64,
    /// End, seconds since 1970 (UTC); absent while it runs.
    pub ended_unix_s: Option<u64>,
    /// Why it ended: `finished`, `early stop`, `interrupted`, `step limit`, `time limit`, or an error; absent while it runs.
    pub exit_reason: Option<String>,
    /// How many times it was resumed.
    pub resumed: u32,
}

impl RunDir {
    /// Makes the next free `run_NNNN` under `root`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)
            .with_context(|| format!("cannot make the folder {}", root.display()))?;
        let taken = fs::read_dir(root)
            .with_context(|| format!("cannot list {}", root.display()))?
            .filter_map(|entry| {
                entry
                    .ok()?
                    .file_name()
                    .to_str()?
                    .strip_prefix("run_")?
                    .parse::<u32>()
                    .ok()
            })
            .max()
            .unwrap_or(0);
        // Another run may take the number in between: `create_dir` fails then, and the next one is tried.
        for number in taken + 1..taken + 1000 {
            let path = root.join(format!("run_{number:04}"));
            match fs::create_dir(&path) {
                Ok(()) => {
                    fs::create_dir(path.join("checkpoints"))
                        .with_context(|| format!("cannot write in {}", path.display()))?;
                    return Ok(Self { path });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot make the folder {}", path.display()));
                }
            }
        }
        bail!("no free run number under {}", root.display())
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    /// The folder is not one of a run.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("config.toml").is_file() {
            bail!(
                "{} is not the folder of a run: it has no config.toml",
                path.display()
            );
        }
        Ok(Self {
            path: path.to_path_buf(),
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the run by its name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder of a checkpoint, `last` or `best`.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.path.join("checkpoints").join(name)
    }

    /// Writes a text file of the run whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        write_atomic(&self.file(name), text.as_bytes())
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_info(&self, info: &RunInfo) -> Result<()> {
        self.write("run.json", &serde_json::to_string_pretty(info)?)
    }

    /// Reads `run.json`.
    ///
    /// # Errors
    /// The file is missing or not what this program wrote.
    pub fn read_info(&self) -> Result<RunInfo> {
        read_json(&self.file("run.json"))
    }
}

/// Writes a file through a temporary one in the same folder, so that a reader sees the old content or the new.
///
/// # Errors
/// The folder cannot be written or the disk is full; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file.commit()?)
}

/// Reads a JSON file.
///
/// # Errors
/// The file is missing or does not hold a `T`; the message names it.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// Seconds since 1970 (UTC).
pub fn unix_now_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// The commit of the source tree in the current folder, `None` outside of one.
pub fn git_commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").args(args).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|changes| !changes.is_empty());
    Some(if dirty {
        format!("{commit}-dirty")
    } else {
        commit
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_upwards_and_never_reused() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("with space");
        let first = RunDir::create(&root).unwrap();
        assert_eq!(first.path().file_name().unwrap(), "run_0001");
        fs::create_dir(root.join("run_0007")).unwrap();
        assert_eq!(
            RunDir::create(&root).unwrap().path().file_name().unwrap(),
            "run_0008"
        );
        assert!(RunDir::open(first.path()).is_err(), "no config yet");
        first.write("config.toml", "").unwrap();
        assert!(RunDir::open(first.path()).is_ok());
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.txt");
        write_atomic(&path, b"old").unwrap();
        let error = write_atomic(&root.path().join("missing/a.txt"), b"new").unwrap_err();
        assert!(format!("{error:#}").contains("missing"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }
}
