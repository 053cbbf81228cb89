//! A line on a terminal with the progress of the load generator.
//!
//! Responsible for showing it at a limited rate, and only on a terminal. Counts nothing.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::options::Options;

use crate::notes::err;

/// Time between two progress lines.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// The line.
pub(super) struct Progress {
    shown: bool,
    enabled: bool,
    last: Instant,
    last_count: u64,
}

impl Progress {
    /// Creates a line that is hidden at first. It stays hidden if standard error is not a terminal.
    pub(super) fn new(options: &Options) -> Self {
        let enabled = !options.json && std::io::stderr().is_terminal();
        Self {
            shown: false,
            enabled,
            last: Instant::now(),
            last_count: 0,
        }
    }

    /// Shows the count (`count`) of `what` and its rate, if an update is due.
    pub(super) fn show(&mut self, now: Instant, what: &str, count: u64) {
        let since = now.saturating_duration_since(self.last);
        if !self.enabled || since < PROGRESS_INTERVAL {
            return;
        }
        let per_sec = count.saturating_sub(self.last_count) as f64 / since.as_secs_f64();
        err!("\r{:60}\r{count} {what}, {per_sec:.0} /s", "");
        self.shown = true;
        self.last = now;
        self.last_count = count;
    }

    /// Removes the line.
    pub(super) fn clear(&mut self) {
        if self.shown {
            err!("\r{:60}\r", "");
        }
        self.shown = false;
        self.last_count = 0;
    }
}
