//! The log on standard error, for the operator of the device.
//!
//! Under systemd a line begins with its priority in syslog's format; elsewhere it begins with the
//! time.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Importance of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// An operator has to act.
    Error,
    /// Something was lost, or does not work at present.
    Warning,
    /// Normal operation.
    Info,
}

impl Level {
    /// The priority in syslog.
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

/// Writes a line. Errors of writing are ignored, because they cannot be reported.
pub(crate) fn line(level: Level, text: &str) {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    let line = match IS_JOURNAL.get_or_init(is_journal) {
        true => format!("<{}>{text}\n", level.priority()),
        false => format!("{:.3} {}: {text}\n", jiff::Timestamp::now(), level.word()),
    };
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Whether standard error is the journal of systemd, which sets device and inode in the
/// environment.
fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM");
    let found = rustix::fs::fstat(io::stderr());
    named.is_ok_and(|named| {
        found.is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
    })
}

/// Passes on one line per interval, with the number of suppressed lines.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    last: Cell<Option<Instant>>,
    held_back: Cell<u64>,
}

/// Shortest time between two lines of the same kind.
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
