//! Standard output and standard error of all commands.
//!
//! Responsible for writing text and for write errors. A closed pipe is no error, because the reader
//! has read enough; all other errors are. `print!` and `eprintln!` of the standard library end the
//! process in that case, so Clippy forbids them in this crate.

use std::borrow::Cow;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use martlet_control::text::harmless;

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
    is_terminal: bool,
    /// The first bytes of a character whose others are not there yet.
    begun: Vec<u8>,
}

impl Piped {
    /// Writes bytes to a terminal, which nothing in them controls.
    fn show(&mut self, bytes: &[u8]) -> bool {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let end = match std::str::from_utf8(&all) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Ok(_) | Err(_) => all.len(),
        };
        self.begun = all.split_off(end);
        write_out(harmless(&String::from_utf8_lossy(&all)).as_bytes())
    }
}

impl Write for Piped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_read = match self.is_terminal {
            true => self.show(bytes),
            false => write_out(bytes),
        };
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
    let mut out = Piped {
        is_read: true,
        is_terminal: io::stdout().is_terminal(),
        begun: Vec::new(),
    };
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

/// Colours that commands use on terminals, and their end.
const COLOURS: [&str; 5] = ["\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[2m", "\x1b[0m"];

/// Text in which nothing controls a terminal, except for the colours of commands if it goes to one.
fn shown(text: &str, is_terminal: bool) -> Cow<'_, str> {
    if !is_terminal || !text.contains('\x1b') {
        return harmless(text);
    }
    let (mut all, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\x1b') {
        all.push_str(&harmless(&rest[..at]));
        rest = &rest[at..];
        let colour = COLOURS.iter().find(|colour| rest.starts_with(**colour));
        let end = colour.map_or(1, |colour| colour.len());
        match colour {
            Some(colour) => all.push_str(colour),
            None => all.push_str(&harmless(&rest[..end])),
        }
        rest = &rest[end..];
    }
    all.push_str(&harmless(rest));
    Cow::Owned(all)
}

/// Writes text of the program and of others to standard output; see [`write_out`].
pub(crate) fn write_text(text: &str) -> bool {
    write_out(shown(text, io::stdout().is_terminal()).as_bytes())
}

/// Writes text of the program and of others to standard error, where commands use no colours.
pub(crate) fn write_error_text(text: &str) {
    write_err(&harmless(text));
}

/// Writes data of others to standard output as it is, but nothing in it controls a terminal.
pub(crate) fn write_data(bytes: &[u8]) -> bool {
    match io::stdout().is_terminal() {
        true => write_out(harmless(&String::from_utf8_lossy(bytes)).as_bytes()),
        false => write_out(bytes),
    }
}

/// Prints to standard output, like `print!`.
macro_rules! out {
    ($($words:tt)*) => {
        $crate::cmd::print::write_text(&format!($($words)*))
    };
}

/// Prints a line to standard output, like `println!`.
macro_rules! outln {
    ($($words:tt)*) => {
        $crate::cmd::print::write_text(&(format!($($words)*) + "\n"))
    };
}

/// Prints to standard error, like `eprint!`.
macro_rules! err {
    ($($words:tt)*) => {
        $crate::cmd::print::write_error_text(&format!($($words)*))
    };
}

/// Prints a line to standard error, like `eprintln!`.
macro_rules! errln {
    ($($words:tt)*) => {
        $crate::cmd::print::write_error_text(&(format!($($words)*) + "\n"))
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
        self.buffer.extend_from_slice(harmless(line).as_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_colours_reach_a_terminal() {
        let text = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \u{9b}2J";
        let shown_there = "\x1b[31mred\x1b[0m \\u001b]0;title\\u0007 \\u009b2J";
        assert_eq!(shown(text, true), shown_there);
        assert!(!shown(text, false).contains('\x1b'));
    }
}
