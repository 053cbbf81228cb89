//! Lines on standard error: what an operator of the device reads.
//!
//! Under systemd a line begins with the priority that the journal knows; elsewhere with the time.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Somebody has to act.
    Error,
    /// Something was lost, or does not work now.
    Warning,
    /// The course of things.
    Info,
}

impl Level {
    /// Priority of syslog.
    fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Info => 6,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// Writes a line. That it cannot be written is nowhere to be told.
pub(crate) fn line(level: Level, text: &str) {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    let line = match IS_JOURNAL.get_or_init(is_journal) {
        true => format!("<{}>{text}\n", level.priority()),
        false => format!("{:.3} {}: {text}\n", jiff::Timestamp::now(), level.word()),
    };
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Standard error is the journal of systemd, which has put device and inode into the environment.
fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM");
    let found = rustix::fs::fstat(io::stderr());
    named.is_ok_and(|named| {
        found.is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
    })
}

/// Lets through one line per interval, with the number of those that it has held back.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    last: Cell<Option<Instant>>,
    held_back: Cell<u64>,
}

/// Shortest time between two lines of the same matter.
const INTERVAL: Duration = Duration::from_secs(10);

impl Seldom {
    /// Writes the line, or counts it.
    pub(crate) fn line(&self, level: Level, text: &str) {
        let now = Instant::now();
        if self.last.get().is_some_and(|last| now < last + INTERVAL) {
            self.held_back.set(self.held_back.get() + 1);
            return;
        }
        self.last.set(Some(now));
        match self.held_back.take() {
            0 => line(level, text),
            count => line(
                level,
                &format!("{text} ({count} more of these since the last line)"),
            ),
        }
    }
}
