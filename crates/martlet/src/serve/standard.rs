//! Standard error for the log.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use martlet_control::text::harmless;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::cmd::print::errln;

/// Most bytes of lines that are gathered for one write.
const GATHERED_BYTES: usize = 16 * 1024;

/// A line of the log in JSON, for what is not logged as an event.
pub(super) fn json_line(level: &str, message: &str) -> serde_json::Value {
    serde_json::json!({
        "timestamp": format!("{:.6}", Timestamp::now()),
        "level": level,
        "message": message,
    })
}

/// Prints an error that cannot be logged, in JSON as a line of the log.
pub(super) fn print_error(message: &str, is_json: bool) {
    match is_json {
        true => errln!("{}", json_line("ERROR", message)),
        false => errln!("{message}"),
    }
}

/// Standard error. Lines of many simultaneous events are written together, to save system calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Standard(Arc<Mutex<Gathered>>);

#[derive(Debug, Default)]
struct Gathered {
    is_on: bool,
    lines: Vec<u8>,
}

impl Standard {
    /// Gathers lines during `work` and writes them afterwards. Lines more severe than `info` are
    /// written at once, with all before them.
    pub(super) fn gather<T>(&self, work: impl FnOnce() -> T) -> T {
        self.lock().is_on = true;
        let done = work();
        let mut gathered = self.lock();
        gathered.is_on = false;
        gathered.write();
        // A single line may be long.
        gathered.lines.shrink_to(GATHERED_BYTES);
        done
    }

    /// Appends a line to the waiting ones. An urgent line is written at once, with all before it.
    pub(super) fn put(&self, is_urgent: bool, append: impl FnOnce(&mut Vec<u8>)) {
        let mut gathered = self.lock();
        append(&mut gathered.lines);
        let may_wait = gathered.is_on && !is_urgent;
        if !may_wait || gathered.lines.len() >= GATHERED_BYTES {
            gathered.write();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    /// Writes all waiting lines. Errors are ignored: standard error may be a closed pipe, and the
    /// node continues without it.
    fn write(&mut self) {
        let _ = io::stderr().lock().write_all(&self.lines);
        self.lines.clear();
    }
}

/// A line of JSON, in which nothing controls a terminal: DEL and C1 need no escape in JSON.
pub(super) fn harmless_json(line: &[u8]) -> Cow<'_, [u8]> {
    if line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return Cow::Borrowed(line);
    }
    let text = String::from_utf8_lossy(line);
    Cow::Owned(harmless(&text).into_owned().into_bytes())
}

/// A writer for one line on standard error.
pub(super) struct StandardLine {
    to: Standard,
    is_urgent: bool,
}

impl Write for StandardLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = harmless_json(bytes);
        let append = |lines: &mut Vec<u8>| lines.extend_from_slice(&line);
        self.to.put(self.is_urgent, append);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Standard {
    type Writer = StandardLine;

    fn make_writer(&'w self) -> StandardLine {
        StandardLine {
            to: self.clone(),
            is_urgent: true,
        }
    }

    fn make_writer_for(&'w self, of: &Metadata<'_>) -> StandardLine {
        StandardLine {
            to: self.clone(),
            is_urgent: *of.level() < Level::INFO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wait_only_while_others_come_and_none_that_is_grave_does() {
        let standard = Standard::default();
        let put = |is_urgent| {
            let mut line = StandardLine {
                to: standard.clone(),
                is_urgent,
            };
            line.write_all(b"\n").unwrap();
            standard.lock().lines.len()
        };
        assert_eq!(put(false), 0);
        standard.gather(|| {
            assert_eq!(
                [put(false), put(false), put(true), put(false)],
                [1, 2, 0, 1]
            );
        });
        assert!(standard.lock().lines.is_empty() && !standard.lock().is_on);
    }
}
