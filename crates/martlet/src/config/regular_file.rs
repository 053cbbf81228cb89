//! Reads files of the configuration, without blocking on pipes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use martlet_text_file::{read_file, read_to_end, text_without_bom, utf8};
use rustix::fs::{FileType, OFlags};

/// Opens a regular file. Opening a named pipe would block until a process writes to it, and a
/// blocked node reads nothing else and does not stop.
///
/// # Errors
/// The file cannot be opened, or is not a regular file, for example a pipe or a device.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let found = rustix::fs::fstat(&file)?;
    let what = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => return Ok(file),
        FileType::Directory => "a directory",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    };
    let why = format!("it is {what}; expected a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Reads a regular file as a whole.
///
/// # Errors
/// The same as for [`open`], or the file cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Most bytes of a file that a command reads as a whole.
const COMMAND_FILE_MAX: u64 = 64 << 20;

/// Reads a file that a user names to a command, also a pipe such as `<(…)`, up to 64 MiB.
///
/// # Errors
/// The file cannot be read, or is larger: a device such as `/dev/zero` has no end.
pub(crate) fn read_named(path: &Path) -> io::Result<Vec<u8>> {
    read_file(path, COMMAND_FILE_MAX)
}

/// Reads a file as [`read_named`], as text, without a byte order mark.
///
/// # Errors
/// The same as for [`read_named`], or it is not UTF-8.
pub(crate) fn read_named_text(path: &Path) -> io::Result<String> {
    text_of(read_named(path)?)
}

/// Reads standard input in the same way.
///
/// # Errors
/// The same as for [`read_named_text`].
pub(crate) fn read_stdin_text() -> io::Result<String> {
    text_of(read_to_end(io::stdin().lock(), COMMAND_FILE_MAX)?)
}

fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    Ok(text_without_bom(&utf8(bytes)?).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_refused_at_once() {
        let name = format!("martlet-regular-file-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0).unwrap();
        let found = read(&path).map_err(|error| error.to_string());
        std::fs::remove_file(&path).unwrap();
        let expected = "it is a named pipe; expected a regular file";
        assert_eq!(found, Err(expected.to_owned()));
        std::fs::write(&path, "a:b\n").unwrap();
        let found = read(&path).map_err(|error| error.to_string());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found, Ok(b"a:b\n".to_vec()));
    }
}
