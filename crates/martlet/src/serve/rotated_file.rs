//! The log file, which is rotated when it is large.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use martlet_text_file::owned;
use tracing_subscriber::fmt::MakeWriter;

use super::standard::{harmless_json, print_error};
use crate::config::{LogFile, LogFormat};

/// A file that is rotated when it is large: `martlet.log`, `martlet.log.1`, …. The highest number
/// is the oldest file, which is finally removed.
#[derive(Clone, Debug)]
pub(super) struct RotatedFile(Arc<Mutex<Rotation>>);

#[derive(Debug)]
struct Rotation {
    settings: LogFile,
    format: LogFormat,
    file: File,
    bytes: u64,
}

impl RotatedFile {
    /// Opens the file; creates it if needed.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn open(settings: &LogFile, format: LogFormat) -> anyhow::Result<Self> {
        let path = &settings.path;
        if let Some(directory) = settings.path.parent().filter(|_| settings.makes_directory) {
            fs::create_dir_all(directory)
                .with_context(|| format!("log.file: cannot make {}", directory.display()))?;
        }
        let opened =
            open(path).with_context(|| format!("log.file: cannot open {}", path.display()));
        let (file, bytes) = opened?;
        Ok(Self(Arc::new(Mutex::new(Rotation {
            settings: settings.clone(),
            format,
            file,
            bytes,
        }))))
    }

    /// Reopens the file after it was renamed.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let mut rotation = self.lock();
        (rotation.file, rotation.bytes) = open(&rotation.settings.path)?;
        Ok(())
    }

    /// Writes a line.
    pub(super) fn put(&self, line: &[u8]) {
        let mut rotation = self.lock();
        if let Err(error) = rotation.write_line(line) {
            let message = format!("martlet: the log file cannot be written: {error}");
            print_error(&message, rotation.format == LogFormat::Json);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rotation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rotation {
    /// Writes a line completely into one file.
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let len = line.len() as u64;
        if self.bytes > 0 && self.bytes + len > self.settings.bytes {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.bytes += len;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.settings.path;
        for number in (1..self.settings.kept).rev() {
            ignore_missing(fs::rename(
                numbered(path, number),
                numbered(path, number + 1),
            ))?;
        }
        match self.settings.kept {
            0 => ignore_missing(fs::remove_file(path))?,
            _ => ignore_missing(fs::rename(path, numbered(path, 1)))?,
        }
        (self.file, self.bytes) = open(path)?;
        Ok(())
    }
}

fn ignore_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Opens the file for its owner and group only, because it contains names of clients and topics. A
/// link or a file of another user is not opened.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let file = owned::open(path, options.create(true).append(true).mode(0o640))?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// A writer for one line.
pub(super) struct RotatedLine(RotatedFile);

impl Write for RotatedLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(&harmless_json(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for RotatedFile {
    type Writer = RotatedLine;

    fn make_writer(&'w self) -> RotatedLine {
        RotatedLine(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_large_is_put_aside_and_the_oldest_goes() {
        let directory = std::env::temp_dir().join(format!("martlet-log-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("martlet.log");
        let settings = LogFile {
            path: path.clone(),
            bytes: 30,
            kept: 2,
            makes_directory: false,
        };
        let file = RotatedFile::open(&settings, LogFormat::Text).unwrap();
        for number in 0..10 {
            let line = format!("line {number} of ten\n");
            file.make_writer().write_all(line.as_bytes()).unwrap();
        }
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "line 8 of ten\nline 9 of ten\n");
        assert_eq!(read(&numbered(&path, 1)), "line 6 of ten\nline 7 of ten\n");
        assert!(numbered(&path, 2).exists() && !numbered(&path, 3).exists());
        // After another program has renamed the file, lines go there until it is reopened.
        fs::rename(&path, directory.join("moved")).unwrap();
        file.reopen().unwrap();
        file.make_writer().write_all(b"after\n").unwrap();
        assert_eq!(read(&path), "after\n");
        fs::remove_dir_all(&directory).unwrap();
    }
}
