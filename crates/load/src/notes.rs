//! Output on standard error during a measurement.

use std::io::{self, Write};

/// Writes to standard error. If this fails, it cannot be reported.
pub(crate) fn write(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints to standard error, like `eprint!`.
macro_rules! err {
    ($($words:tt)*) => {
        $crate::notes::write(&format!($($words)*))
    };
}

/// Prints a line to standard error, like `eprintln!`.
macro_rules! errln {
    ($($words:tt)*) => {
        $crate::notes::write(&(format!($($words)*) + "\n"))
    };
}

pub(crate) use {err, errln};
