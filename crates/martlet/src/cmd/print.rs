//! Standard output and standard error of all commands.
//!
//! Responsible for writing text, and for what happens when it cannot be written: a reader that has
//! closed its pipe has read enough and is no error, everything else is one. It does not know what
//! is printed. `print!` and `eprintln!` of the standard library end the process there, so Clippy
//! refuses them in this crate.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Why standard output could not be written, but for a closed pipe.
static FAILED: OnceLock<String> = OnceLock::new();

/// Writes to standard output; `false` when nobody reads it any more or it cannot be written.
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

/// Standard output for what writes as it reads; see [`piped`].
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

/// Does work that writes to standard output, until it has ended or nobody reads it any more, which
/// is no error. That the output was lost in another way is told at the end of the program.
pub(crate) fn piped(work: impl FnOnce(&mut Piped) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut out = Piped { is_read: true };
    let done = work(&mut out);
    match out.is_read {
        true => done,
        false => Ok(()),
    }
}

/// Writes to standard error. There is nowhere to report that it failed.
pub(crate) fn write_err(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The exit code of a command that would end with `code`: a failure if its output was lost.
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

/// Prints to standard output, as `print!`.
macro_rules! out {
    ($($words:tt)*) => {
        $crate::cmd::print::write_out(format!($($words)*).as_bytes())
    };
}

/// Prints a line to standard output, as `println!`.
macro_rules! outln {
    ($($words:tt)*) => {
        $crate::cmd::print::write_out((format!($($words)*) + "\n").as_bytes())
    };
}

/// Prints to standard error, as `eprint!`.
macro_rules! err {
    ($($words:tt)*) => {
        $crate::cmd::print::write_err(&format!($($words)*))
    };
}

/// Prints a line to standard error, as `eprintln!`.
macro_rules! errln {
    ($($words:tt)*) => {
        $crate::cmd::print::write_err(&(format!($($words)*) + "\n"))
    };
}

pub(crate) use {err, errln, out, outln};

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
        let is_written = write_out(&self.buffer);
        self.buffer.clear();
        is_written
    }
}

/// How many of something there are.
pub(crate) fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
