//! A copy of telemetry for a backup.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use martlet_telemetry::{Damage, Location, Storage, StorageError};

use super::{FILE, Telemetry};

/// A copy in a file of its own, which is removed when this is dropped. Of a file that cannot be
/// copied, since it is damaged, there is none.
#[derive(Debug)]
pub struct TelemetryCopy {
    path: Option<PathBuf>,
    warning: Option<String>,
}

impl TelemetryCopy {
    /// Where it is.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Damage of the file that was to be copied; none: nothing.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    async fn of(
        directory: &Path,
        copy: impl AsyncFnOnce(&Path) -> Result<Damage, StorageError>,
    ) -> Result<Self, StorageError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos());
        let path = directory.join(format!("{FILE}.copy-{now}"));
        let mut made = Self {
            path: Some(path.clone()),
            warning: None,
        };
        match copy(&path).await {
            Ok(damage) => made.warning = warning_of(&damage),
            Err(StorageError::Damaged { what, .. }) => {
                drop(made);
                let warning = format!(
                    "{FILE} is damaged and is NOT in this backup: {what}. Keep an earlier one"
                );
                made = Self {
                    path: None,
                    warning: Some(warning),
                };
            }
            Err(error) => return Err(error),
        }
        Ok(made)
    }
}

/// Sentence about what is damaged.
fn warning_of(damage: &Damage) -> Option<String> {
    let first = damage.first();
    let more = match damage.count() - first.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let what_to_do = match damage.hides_values() {
        true => ". Values may be missing from this backup: keep an earlier one",
        false => "",
    };
    let findings = first.join("; ");
    (!first.is_empty()).then(|| format!("{FILE} is damaged: {findings}{more}{what_to_do}"))
}

impl Drop for TelemetryCopy {
    fn drop(&mut self) {
        // It may not have been made.
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Telemetry {
    /// Copies all values, as they are at one moment, to a file in the directory; none: they are in
    /// PostgreSQL.
    ///
    /// # Errors
    /// The values cannot be read, or the copy cannot be written.
    pub async fn copy_to(&self, directory: &Path) -> Result<Option<TelemetryCopy>, StorageError> {
        match self.location() {
            Location::Postgres(_) => Ok(None),
            Location::File(_) => {
                let copy = TelemetryCopy::of(directory, async |path| {
                    self.storage().await?.backup_to(path).await
                });
                copy.await.map(Some)
            }
        }
    }
}

/// Copies the telemetry of a node that does not run to a file in another directory; none: it has
/// none in its data directory.
///
/// # Errors
/// The values cannot be read, or the copy cannot be written.
pub async fn copy_at_rest(
    data_dir: &Path,
    directory: &Path,
) -> Result<Option<TelemetryCopy>, StorageError> {
    let path = data_dir.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let copy = TelemetryCopy::of(directory, async |to| {
        Storage::backup_at_rest(&path, to).await
    });
    copy.await.map(Some)
}
