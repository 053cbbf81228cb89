//! Reads passwords: twice and without echo on a terminal, one per line from a pipe.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, bail};
use martlet_access::check_password;
use martlet_text_file::text_without_bom;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::cmd::print::{err, errln};

/// Passwords that a command accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    /// Passwords of the minimum length.
    Strong,
    /// Short passwords too, with a warning: for programs that use such passwords.
    Warned,
    /// All except the empty one.
    Any,
}

impl Strength {
    /// Depends on `--weak`.
    pub(crate) fn of(weak: bool) -> Self {
        match weak {
            true => Self::Any,
            false => Self::Strong,
        }
    }
}

/// Reads a new password: twice on a terminal, one line from a pipe. `or_else` is appended to the
/// error if there is no input: another way to set a password.
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

/// Reads a new password likewise, but a pipe must contain it twice, too.
///
/// # Errors
/// The same as for [`new_password`].
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

/// Reads a secret of another system: once and without echo on a terminal, or all of standard input.
/// A line end at its end is removed.
///
/// # Errors
/// There is no input, or it is too long for a secret, or not UTF-8.
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

/// Converts bytes that were read to a secret.
///
/// # Errors
/// The same as for [`secret`].
pub(crate) fn secret_text(bytes: Vec<u8>, bytes_max: usize) -> anyhow::Result<String> {
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("the value is not text in UTF-8: encode it, for example in base64");
    };
    let mut text = text_without_bom(&text).to_owned();
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

/// Asks for confirmation on a terminal. Without a terminal, the command counts as confirmed.
///
/// # Errors
/// It is not confirmed, or the terminal cannot be read.
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

/// Checks a password given once.
///
/// # Errors
/// The password is too short.
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
            bail!("{why}; nothing was changed (--weak accepts a shorter one)")
        }
    }
}

/// Reads one line of the terminal without echo.
fn hidden(prompt: &str) -> anyhow::Result<String> {
    let mut error_output = io::stderr();
    // Before the prompt: input after the prompt must be neither shown nor discarded.
    let echo = Echo::off()?;
    error_output.write_all(prompt.as_bytes())?;
    error_output.flush()?;
    let read = line("the password");
    drop(echo);
    // The line end was not echoed either.
    error_output.write_all(b"\n")?;
    read
}

fn line(what: &str) -> anyhow::Result<String> {
    match piped(what)? {
        Some(text) => Ok(text),
        None => bail!("{what} is missing: the input has ended"),
    }
}

/// Reads a line of standard input; `None` at its end.
fn piped(what: &str) -> anyhow::Result<Option<String>> {
    let mut text = String::new();
    let bytes = io::stdin().lock().read_line(&mut text);
    if bytes.with_context(|| format!("cannot read {what}"))? == 0 {
        return Ok(None);
    }
    let text = text_without_bom(&text);
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// Disables the terminal's echo until it is dropped.
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
