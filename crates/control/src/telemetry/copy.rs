//! A copy of telemetry for a backup.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use martlet_telemetry::{Damage, Location, Settings, Storage, StorageError};

use super::{FILE, Telemetry};

/// A copy in a file of its own, which is removed when this is dropped.
#[derive(Debug)]
pub struct TelemetryCopy {
    path: PathBuf,
    damage: Damage,
}

impl TelemetryCopy {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with the file that was copied, so that values may be missing; none: nothing.
    pub fn warning(&self) -> Option<String> {
        let first = self.damage.first();
        let more = match self.damage.count() - first.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        (!first.is_empty()).then(|| {
            format!(
                "{FILE} is damaged: {}{more}. Values may be missing from this backup: keep an \
                 earlier one",
                first.join("; ")
            )
        })
    }

    async fn of(storage: &Storage, directory: &Path) -> Result<Self, StorageError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos());
        let mut copy = Self {
            path: directory.join(format!("{FILE}.copy-{now}")),
            damage: Damage::default(),
        };
        copy.damage = storage.backup_to(&copy.path).await?;
        Ok(copy)
    }
}

impl Drop for TelemetryCopy {
    fn drop(&mut self) {
        // It may not have been made.
        let _ = std::fs::remove_file(&self.path);
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
                let storage = self.storage().await?;
                TelemetryCopy::of(&storage, directory).await.map(Some)
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
    let storage = Storage::open(Location::File(path), Settings::default()).await?;
    let copy = TelemetryCopy::of(&storage, directory).await;
    storage.close().await?;
    copy.map(Some)
}
