//! Standard output of the client commands.
//!
//! Responsible for gathering lines and writing them in one go, and for noticing that nobody reads
//! any more. It does not know what is printed.

use std::io::{self, Write};

/// Output not yet written.
#[derive(Debug, Default)]
pub(crate) struct Output {
    buffer: Vec<u8>,
}

impl Output {
    /// What to append to.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends a line.
    pub(crate) fn line(&mut self, line: &str) {
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.push(b'\n');
    }

    /// Writes all; `false` when nobody reads it any more or it cannot be written.
    pub(crate) fn flush(&mut self) -> bool {
        if self.buffer.is_empty() {
            return true;
        }
        let mut stdout = io::stdout().lock();
        let result = stdout.write_all(&self.buffer).and_then(|()| stdout.flush());
        self.buffer.clear();
        result.is_ok()
    }
}
