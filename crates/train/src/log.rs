//! What a run says while it runs: on the terminal, in `log.txt`, in `metrics.tsv` and as TensorBoard events.

pub mod tensorboard;
pub mod terminal;
pub mod tsv;

pub use tensorboard::TensorBoard;
pub use terminal::{Log, Progress};
pub use tsv::{EpochRow, MetricsTsv};
