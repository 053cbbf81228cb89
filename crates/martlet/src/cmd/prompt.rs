//! Asking for a password: twice and without echo at a terminal, a line each from a pipe.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, bail};
use martlet_access::check_password;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::cmd::print::{err, errln};

/// Which passwords a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    /// Those that are long enough.
    Strong,
    /// A short one too, with a warning: where programs are used to that.
    Warned,
    /// Every one but the empty one.
    Any,
}

impl Strength {
    /// As `--weak` says.
    pub(crate) fn of(weak: bool) -> Self {
        match weak {
            true => Self::Any,
            false => Self::Strong,
        }
    }
}

/// Reads a new password: twice at a terminal, one line from a pipe. `or_else` ends the error where
/// there is no input: another way to give a password.
///
/// # Errors
/// The input has ended, the passwords differ, or the password is too short.
pub(crate) fn new_password(of: &str, strength: Strength, or_else: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        let Some(password) = piped("the password")? else {
            bail!(
                "no password: standard input is empty; type it at a terminal, pipe it in, or {or_else}"
            );
        };
        return given(password, strength);
    }
    let first = hidden(&format!("Password for {of}: "))?;
    let second = hidden("Reenter password: ")?;
    if first != second {
        bail!("the two passwords differ; nothing was changed");
    }
    given(first, strength)
}

/// The same, where a pipe has it twice too.
///
/// # Errors
/// As [`new_password`].
pub(crate) fn new_password_twice(
    of: &str,
    strength: Strength,
    or_else: &str,
) -> anyhow::Result<String> {
    let first = new_password(of, strength, or_else)?;
    if !io::stdin().is_terminal() {
        let mut second = String::new();
        let read = io::stdin().lock().read_line(&mut second);
        let is_there = read.context("cannot read the password")? > 0;
        if is_there && second.trim_end_matches(['\n', '\r']) != first {
            bail!("the two passwords differ; nothing was changed");
        }
    }
    Ok(first)
}

/// Reads a secret of another system: once and without echo at a terminal, or all of standard
/// input. The line break at its end is not a part of it.
///
/// # Errors
/// There is no input, or it is longer than a secret may be or no text.
pub(crate) fn secret(of: &str, bytes_max: usize) -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        return hidden(&format!("Value of {of}: "));
    }
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(bytes_max as u64 + 2)
        .read_to_end(&mut bytes);
    read.context("cannot read standard input")?;
    secret_text(bytes, bytes_max)
}

/// The value of a secret that was read as bytes.
///
/// # Errors
/// As [`secret`].
pub(crate) fn secret_text(bytes: Vec<u8>, bytes_max: usize) -> anyhow::Result<String> {
    let Ok(mut text) = String::from_utf8(bytes) else {
        bail!("the value is not text in UTF-8: encode it, for example in base64");
    };
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    match text.len() {
        0 => bail!("the value is empty; nothing was changed"),
        bytes if bytes > bytes_max => bail!("the value has more than {bytes_max} bytes"),
        _ => Ok(text),
    }
}

/// Whether this is really to be done; where nobody is at a terminal, the command itself says so.
///
/// # Errors
/// It is not, or the terminal cannot be read.
pub(crate) fn expect_agreed(what: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    err!("{what} [y/N] ");
    match line("the answer")?.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("nothing was changed"),
    }
}

/// A password that is taken as it is, asked for once.
///
/// # Errors
/// It is too short.
pub(crate) fn given(password: String, strength: Strength) -> anyhow::Result<String> {
    match (check_password(password.as_bytes()), strength) {
        (Ok(()), _) => Ok(password),
        (Err(why), _) if password.is_empty() => bail!("{why}; nothing was changed"),
        (Err(_), Strength::Any) => Ok(password),
        (Err(why), Strength::Warned) => {
            errln!("Warning: {why}.");
            Ok(password)
        }
        (Err(why), Strength::Strong) => {
            bail!("{why}; nothing was changed (--weak takes a shorter one)")
        }
    }
}

/// One line of the terminal, whose echo is off meanwhile.
fn hidden(prompt: &str) -> anyhow::Result<String> {
    let mut error_output = io::stderr();
    // First: what is typed at the prompt is neither shown nor thrown away.
    let echo = Echo::off()?;
    error_output.write_all(prompt.as_bytes())?;
    error_output.flush()?;
    let read = line("the password");
    drop(echo);
    // The return key was not echoed either.
    error_output.write_all(b"\n")?;
    read
}

fn line(what: &str) -> anyhow::Result<String> {
    match piped(what)? {
        Some(text) => Ok(text),
        None => bail!("{what} is missing: the input has ended"),
    }
}

/// A line of standard input; none: it has ended.
fn piped(what: &str) -> anyhow::Result<Option<String>> {
    let mut text = String::new();
    let bytes = io::stdin().lock().read_line(&mut text);
    if bytes.with_context(|| format!("cannot read {what}"))? == 0 {
        return Ok(None);
    }
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// The terminal's echo is off until this is dropped.
struct Echo(rustix::termios::Termios);

impl Echo {
    fn off() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot ask without echo")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)
            .context("cannot ask without echo")?;
        Ok(Self(before))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
