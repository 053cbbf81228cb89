//! What is told while a measurement runs, on standard error.

use std::io::{self, Write};

/// Writes to standard error. There is nowhere to report that it failed.
pub(crate) fn write(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints to standard error, as `eprint!`.
macro_rules! err {
    ($($words:tt)*) => {
        $crate::notes::write(&format!($($words)*))
    };
}

/// Prints a line to standard error, as `eprintln!`.
macro_rules! errln {
    ($($words:tt)*) => {
        $crate::notes::write(&(format!($($words)*) + "\n"))
    };
}

pub(crate) use {err, errln};
