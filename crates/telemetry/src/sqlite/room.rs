//! Room of the file: how much is left, and what writes must leave for packing.

use super::limit_pages;
use super::write::SqliteWriter;
use crate::StorageError;
use crate::series::Points;
use crate::tenant_bytes::Space;
use crate::value::PAGE_BYTES;

/// Room that writes leave for pages that are split, so that deleting needs no other.
const SPARE_BYTES: u64 = 64 << 10;
/// Values in memory are packed if they take this part of what is left.
const PACKED_PART: u64 = 8;
/// Fewest bytes of values in memory that are packed for this reason.
const PACKED_MIN: u64 = 256 << 10;

impl SqliteWriter {
    pub(super) async fn limit_file(&mut self, bytes: u64) -> Result<(), StorageError> {
        let limited = limit_pages(&mut self.connection, bytes).await;
        limited.map_err(|error| self.error(error))
    }

    /// Checks that the file has room for points in the journal and for packing them, and all that
    /// waits in the journal: only packing gives back the room of the journal, and deletions and
    /// retention need it. Values are packed for this if need be.
    pub(crate) async fn make_room(&mut self, points: &Points) -> Result<(), StorageError> {
        let Some(max) = self.file_bytes_max else {
            return Ok(());
        };
        let values = points.list.iter().map(|point| &point.value);
        let bytes = values.map(|value| value.journal_bytes() + value.block_bytes());
        let bytes: usize = bytes.sum();
        loop {
            let (_, used) = self.pages().await?;
            let left = max.saturating_sub(used);
            let packs_at = usize::try_from(PACKED_MIN.max(left / PACKED_PART));
            self.packs_at = self.memory_bytes_max.min(packs_at.unwrap_or(usize::MAX));
            let waiting = self.memory.read().block_bytes();
            if (bytes + waiting) as u64 + SPARE_BYTES <= left {
                return Ok(());
            }
            if waiting == 0 {
                let what = format!("of {max} bytes of the file {left} are left");
                let place = self.place.clone();
                return Err(StorageError::Full { place, what });
            }
            self.move_all().await?;
        }
    }

    /// Space of the file. `None`: the system does not report the free space of the disk.
    pub(crate) async fn space(&mut self) -> Result<Option<Space>, StorageError> {
        let (all, used) = self.pages().await?;
        let Ok(disk) = rustix::fs::statvfs(&*self.place) else {
            return Ok(None);
        };
        let disk = all.saturating_add(disk.f_bavail.saturating_mul(disk.f_frsize));
        Ok(Some(Space {
            used,
            all: disk.min(self.file_bytes_max.unwrap_or(u64::MAX)),
        }))
    }

    /// Bytes of all pages of the file, and of those in use.
    async fn pages(&mut self) -> Result<(u64, u64), StorageError> {
        let sql = "SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count";
        let pages = sqlx::query_as::<_, (i64, i64)>(sql).fetch_one(&mut self.connection);
        let (all, free) = pages.await.map_err(|error| self.error(error))?;
        let bytes = |pages| u64::try_from(pages).unwrap_or(0) * u64::from(PAGE_BYTES);
        Ok((bytes(all), bytes(all - free)))
    }
}
