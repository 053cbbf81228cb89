//! The directory of firmware. A file has its SHA-256 as name.
//!
//! A file that is being uploaded is `….part`. When it is whole it is `SHA256.ready`, until the
//! tables have it. A file that is to be deleted becomes `SHA256.ready` again, until the tables have
//! forgotten it. So after a crash the tables decide for each `.ready` whether it belongs in its
//! place.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tokio::fs::{self, File, OpenOptions};

use super::error::FirmwareError;

const PART: &str = "part";
const READY: &str = "ready";

/// Whether a whole file has this name, in its place or beside it.
pub(crate) fn is_file_name(name: &str) -> bool {
    let digest = name.strip_suffix(".ready").unwrap_or(name);
    let is_digit = |letter: char| matches!(letter, '0'..='9' | 'a'..='f');
    digest.len() == 64 && digest.chars().all(is_digit)
}

#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(super) fn is_there(&self) -> bool {
        self.directory.is_dir()
    }

    fn of(&self, digest: &str) -> PathBuf {
        self.directory.join(digest)
    }

    fn ready(&self, digest: &str) -> PathBuf {
        self.directory.join(format!("{digest}.{READY}"))
    }

    /// Makes a file for an upload; the directory too.
    pub(super) async fn new_part(&self, name: u64) -> Result<(PathBuf, File), FirmwareError> {
        let directory = self.directory.clone();
        let created = tokio::task::spawn_blocking(move || {
            use std::os::unix::fs::DirBuilderExt as _;
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(directory)
        });
        let created = created
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        created.map_err(failed("written"))?;
        let path = self.directory.join(format!("{name}.{PART}"));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(&path).await.map_err(failed("written"))?;
        Ok((path, file))
    }

    /// Moves a synced file beside its place.
    pub(super) async fn prepare(&self, part: &Path, digest: &str) -> Result<(), FirmwareError> {
        let moved = fs::rename(part, self.ready(digest)).await;
        moved.map_err(failed("written"))?;
        self.sync().await
    }

    /// Moves a file to its place.
    pub(super) async fn place(&self, digest: &str) -> Result<(), FirmwareError> {
        match fs::rename(self.ready(digest), self.of(digest)).await {
            // It is there, or was not here in the first place.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("written")(error)),
            Ok(()) => self.sync().await,
        }
    }

    /// Moves a file from its place to beside it.
    pub(super) async fn unplace(&self, digest: &str) -> Result<(), FirmwareError> {
        match fs::rename(self.of(digest), self.ready(digest)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("deleted")(error)),
            Ok(()) => self.sync().await,
        }
    }

    /// Removes a file beside its place. If that fails the next start does it.
    pub(super) async fn discard(&self, digest: &str) {
        if let Err(error) = fs::remove_file(self.ready(digest)).await
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, digest, "cannot delete a file of firmware");
        }
    }

    /// Opens a file that has this many bytes.
    pub(super) async fn open(&self, digest: &str, size: u64) -> Result<File, FirmwareError> {
        let opened = match File::open(self.of(digest)).await {
            // It is on its way to its place, or from there.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                File::open(self.ready(digest)).await
            }
            opened => opened,
        };
        let missing = || {
            let directory = self.directory.display();
            let why = format!(
                "the file {digest} is not in {directory}: copy it there from the node that \
                 received it, or delete this version and add it again"
            );
            FirmwareError::NoFile(why)
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(failed("read")(error)),
        };
        let length = file.metadata().await.map_err(failed("read"))?.len();
        match length == size {
            true => Ok(file),
            false => Err(FirmwareError::NoFile(format!(
                "the file {digest} has {length} bytes and not {size}: it is damaged. Delete this \
                 version and add it again"
            ))),
        }
    }

    /// Ends what a crash has broken off. `known` are the files that the tables have.
    pub(super) async fn recover(&self, known: HashSet<String>) -> Result<(), FirmwareError> {
        let mut all = fs::read_dir(&self.directory)
            .await
            .map_err(failed("read"))?;
        while let Some(entry) = all.next_entry().await.map_err(failed("read"))? {
            let path = entry.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            let digest = path.file_stem().and_then(|stem| stem.to_str());
            let digest = digest.unwrap_or_default();
            match ending {
                Some(READY) if known.contains(digest) => self.place(digest).await?,
                Some(READY | PART) => {
                    let removed = fs::remove_file(&path).await;
                    removed.map_err(failed("deleted"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Syncs the directory: what was renamed is found after a crash by its new name.
    async fn sync(&self) -> Result<(), FirmwareError> {
        let directory = File::open(&self.directory).await;
        let directory = directory.map_err(failed("written"))?;
        directory.sync_all().await.map_err(failed("written"))
    }
}

pub(super) fn failed(what: &'static str) -> impl Fn(std::io::Error) -> FirmwareError {
    move |error| FirmwareError::File { what, error }
}
