//! Opening the file of a sink, and repairing its end.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Error for a file with other contents.
pub(super) const OTHER_CONTENTS: &str =
    "it has other contents than lines of JSON, and is left as it is";
/// The file has payloads, so only owner and group may read it.
pub(super) const MODE: u32 = 0o640;
/// A file is read in pieces of this length, bytes.
pub(super) const PIECE: usize = 64 * 1024;
/// Beginning of every line.
const LINE_BEGIN: &[u8] = b"{\"id\":";

/// Opens a file to read and write it, or creates it. Only a regular file is opened, and no link is
/// followed: another user of the directory could have created one.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).read(true).mode(MODE);
    let file = options.custom_flags(flags()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Flags: do not follow links, do not wait for the other end of a pipe.
pub(super) fn flags() -> i32 {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    i32::try_from(flags.bits()).unwrap_or_default()
}

/// Locks a file while it is open: two writers would cut off each other's lines.
pub(super) fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::other(
            "another sink or node writes it: give each a file of its own",
        )),
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Lets all further lines go to the end of the file.
pub(super) fn append_from_now_on(file: &File) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    Ok(fcntl_setfl(file, flags | OFlags::APPEND)?)
}

/// Repairs the end of a file, as left by a crash or a power cut, and syncs it. Of what comes behind
/// the `synced` length the first damaged line and all after it are cut off: their messages were not
/// settled, and come again. Without that length the last line alone is examined.
pub(super) fn repair_end(file: &mut File, synced: Option<u64>) -> io::Result<()> {
    let bytes = file.metadata()?.len();
    if bytes == 0 {
        return Ok(());
    }
    let mut first = [0];
    file.read_exact_at(&mut first, 0)?;
    let from = match synced {
        Some(synced) => synced,
        None => last_line(file, bytes)?,
    };
    let is_own = matches!(first[0], b'{' | b'\n')
        || first[0] == 0 && from == 0 && (synced.is_some() || is_blank(file)?);
    if !is_own {
        return Err(io::Error::other(OTHER_CONTENTS));
    }
    if from == bytes {
        return Ok(());
    }
    let mut lines = io::BufReader::with_capacity(PIECE, &*file);
    lines.seek(SeekFrom::Start(from))?;
    let (mut at, mut line) = (from, Vec::new());
    loop {
        line.clear();
        let read = io::BufRead::read_until(&mut lines, b'\n', &mut line)? as u64;
        if read == 0 || is_damaged(&line) {
            break;
        }
        let is_last = line.last() != Some(&b'\n');
        if is_last {
            line.push(b'\n');
        }
        // Written once more even if it is whole: after a sync that has failed, the system may take
        // it for written although the disk does not have it.
        file.write_all_at(&line, at)?;
        at += line.len() as u64;
        if is_last {
            break;
        }
    }
    file.sync_data()?;
    if file.metadata()?.len() > at {
        file.set_len(at)?;
        file.sync_data()?;
    }
    Ok(())
}

/// Whether a line of the sink is incomplete, or has zeros. Incomplete lines of others are not.
fn is_damaged(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    if serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok() {
        return false;
    }
    line.contains(&0)
        || line.starts_with(LINE_BEGIN)
        || !line.is_empty() && LINE_BEGIN.starts_with(line)
}

/// Whether a file has only zeros.
fn is_blank(file: &mut File) -> io::Result<bool> {
    file.seek(SeekFrom::Start(0))?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(true);
        }
        if piece.iter().take(read).any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
}

/// Offset of the last line; the length if the file ends with a line break.
fn last_line(file: &mut File, bytes: u64) -> io::Result<u64> {
    let mut end = bytes;
    while end > 0 {
        let begin = end.saturating_sub(PIECE as u64);
        let mut piece = vec![0; usize::try_from(end - begin).unwrap_or_default()];
        file.read_exact_at(&mut piece, begin)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}
