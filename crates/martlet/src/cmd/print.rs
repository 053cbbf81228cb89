//! Standard output and standard error of all commands.
//!
//! Responsible for writing text and for write errors. A closed pipe is no error, because the reader
//! has read enough; all other errors are. `print!` and `eprintln!` of the standard library end the
//! process in that case, so Clippy forbids them in this crate.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// The error of writing to standard output, except a closed pipe.
static FAILED: OnceLock<String> = OnceLock::new();

/// Writes to standard output. Returns false if the reader has closed it or writing failed.
pub(crate) fn write_out(bytes: &[u8]) -> bool {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    if let Err(error) = &written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = FAILED.set(error.to_string());
    }
    written.is_ok()
}

/// Standard output for code that writes while it reads; see [`piped`].
#[derive(Debug)]
pub(crate) struct Piped {
    is_read: bool,
}

impl Write for Piped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_read = write_out(bytes);
        match self.is_read {
            true => Ok(bytes.len()),
            false => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Does work that writes to standard output, until it has ended or the reader has closed the
/// output, which is no error. Other write errors are reported at the end of the program.
pub(crate) fn piped(work: impl FnOnce(&mut Piped) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut out = Piped { is_read: true };
    let done = work(&mut out);
    match out.is_read {
        true => done,
        false => Ok(()),
    }
}

/// Writes to standard error. If this fails, it cannot be reported.
pub(crate) fn write_err(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The exit code of a command that would end with `code`: a failure if its output could not be
/// written.
pub(crate) fn exit_code(code: ExitCode) -> ExitCode {
    match FAILED.get() {
        Some(why) => {
            write_err(&format!("martlet: cannot write standard output: {why}\n"));
            match code == ExitCode::SUCCESS {
                true => ExitCode::FAILURE,
                false => code,
            }
        }
        None => code,
    }
}

/// Prints to standard output, like `print!`.
macro_rules! out {
    ($($words:tt)*) => {
        $crate::cmd::print::write_out(format!($($words)*).as_bytes())
    };
}

/// Prints a line to standard output, like `println!`.
macro_rules! outln {
    ($($words:tt)*) => {
        $crate::cmd::print::write_out((format!($($words)*) + "\n").as_bytes())
    };
}

/// Prints to standard error, like `eprint!`.
macro_rules! err {
    ($($words:tt)*) => {
        $crate::cmd::print::write_err(&format!($($words)*))
    };
}

/// Prints a line to standard error, like `eprintln!`.
macro_rules! errln {
    ($($words:tt)*) => {
        $crate::cmd::print::write_err(&(format!($($words)*) + "\n"))
    };
}

pub(crate) use {err, errln, out, outln};

/// Buffered output.
#[derive(Debug, Default)]
pub(crate) struct Output {
    buffer: Vec<u8>,
}

impl Output {
    /// The buffer to append to.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends a line.
    pub(crate) fn line(&mut self, line: &str) {
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.push(b'\n');
    }

    /// Writes the buffer. Returns false if the reader has closed the output or writing failed.
    pub(crate) fn flush(&mut self) -> bool {
        if self.buffer.is_empty() {
            return true;
        }
        let is_written = write_out(&self.buffer);
        self.buffer.clear();
        is_written
    }
}

/// A count with its noun in the right number.
pub(crate) fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
