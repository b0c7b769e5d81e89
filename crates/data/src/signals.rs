//! Ctrl-C and SIGTERM: the first asks long work to save and stop, the second Ctrl-C stops at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Says whether the user or the scheduler asked the program to stop.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Listens for SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// The operating system refuses the handlers.
    pub fn install() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: a second signal finds the flag set and exits with the shell's code for it.
            flag::register_conditional_shutdown(signal, 128 + signal, stop.0.clone())
                .and_then(|_| flag::register(signal, stop.0.clone()))
                .map_err(|e| {
                    let text = format!("cannot listen for Ctrl-C and SIGTERM: {e}");
                    io::Error::new(e.kind(), text)
                })?;
        }
        Ok(stop)
    }

    /// True once a signal came.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks for the stop as a signal would.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
