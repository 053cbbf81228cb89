//! The interface of the storage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::aggregate::{Aggregate, Aggregated};
use crate::damage::{Damage, Findings};
use crate::held::{Found, Held, QueryMemory};
use crate::memory::SharedMemory;
use crate::postgres::read::PostgresReader;
use crate::query::{Range, Row, Rows, Selection, SeriesPages};
use crate::reader::DatabaseReader;
use crate::retention::{Deleted, Retention};
use crate::series::WriteOutcome;
use crate::sqlite::backup::backup_at_rest;
use crate::sqlite::read::SqliteReader;
use crate::tenant_bytes::TenantBytes;
use crate::value::{Point, Time};
use crate::writer::{Done, Job, WriteJob, Writer, WriterState};
use crate::{Location, Settings, StorageError};

/// Maximum number of jobs that wait for the writer, independent of their bytes.
const JOBS_MAX: usize = 1_024;

/// Values of devices over time. Clones share the storage.
#[derive(Clone, Debug)]
pub struct Storage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    jobs: mpsc::Sender<Job>,
    /// Bytes that may wait for the writer.
    room: Arc<Semaphore>,
    room_bytes: u32,
    memory: Arc<SharedMemory>,
    reader: DatabaseReader,
    location: Location,
    told: WriterState,
}

impl Storage {
    /// Opens the storage, and creates its file or tables if they do not exist. Starts a writer
    /// thread, which ends when the storage is closed or its last clone is dropped.
    ///
    /// # Errors
    /// The location is unusable, or its tables have a newer version.
    pub async fn open(location: Location, settings: Settings) -> Result<Self, StorageError> {
        let (jobs, receiver) = mpsc::channel(JOBS_MAX);
        let memory = Arc::new(SharedMemory::default());
        let told = WriterState::default();
        let reader = match &location {
            Location::File(path) => {
                let path = absolute(path)?;
                let (memory, damage) = (Arc::clone(&memory), told.damage.clone());
                DatabaseReader::Sqlite(SqliteReader::new(&path, &settings, memory, damage))
            }
            Location::Postgres(url) => {
                DatabaseReader::Postgres(PostgresReader::new(url, &settings)?)
            }
        };
        let room_bytes = u32::try_from(settings.waiting_bytes_max)
            .unwrap_or(u32::MAX)
            .clamp(1, u32::MAX >> 3);
        let writer = NewWriter {
            location: location.clone(),
            settings,
            memory: Arc::clone(&memory),
            jobs: receiver,
            told: told.clone(),
        };
        writer.start().await?;
        Ok(Self {
            inner: Arc::new(Inner {
                jobs,
                room: Arc::new(Semaphore::new(room_bytes as usize)),
                room_bytes,
                memory,
                reader,
                location,
                told,
            }),
        })
    }

    /// Location of the values.
    pub fn location(&self) -> &Location {
        &self.inner.location
    }

    /// Writes points, and returns when they are synced. Points of several callers are committed
    /// together. While more than [`Settings::waiting_bytes_max`] is waiting, the call waits: this
    /// is the back-pressure for callers.
    ///
    /// A point that can never be stored is listed in [`WriteOutcome::refused`]; the others are
    /// stored.
    ///
    /// # Errors
    /// It is unknown whether the points that are not refused are stored: the disk is full, or the
    /// database is unreachable. They may be written again: a value that is written twice is stored
    /// once.
    pub async fn write(&self, points: Vec<Point>) -> Result<WriteOutcome, StorageError> {
        self.write_as(points, false).await
    }

    /// Writes points as [`Self::write`], but atomically: if one is refused, none is stored.
    ///
    /// # Errors
    /// It is unknown whether the points are stored, as with [`Self::write`].
    pub async fn write_whole(&self, points: Vec<Point>) -> Result<WriteOutcome, StorageError> {
        self.write_as(points, true).await
    }

    async fn write_as(
        &self,
        points: Vec<Point>,
        is_whole: bool,
    ) -> Result<WriteOutcome, StorageError> {
        let bytes: usize = points.iter().map(Point::bytes).sum();
        // A list larger than the whole room takes all of it.
        let room = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .min(self.inner.room_bytes);
        let room = Arc::clone(&self.inner.room).acquire_many_owned(room).await;
        let room = room.map_err(|_| StorageError::Closed)?;
        self.ask(|done| {
            Job::Write(WriteJob {
                points,
                is_whole,
                bytes,
                room,
                done,
            })
        })
        .await
    }

    #[cfg(test)]
    pub(crate) fn reader(&self) -> &DatabaseReader {
        &self.inner.reader
    }

    async fn ask<T>(&self, job: impl FnOnce(Done<T>) -> Job) -> Result<T, StorageError> {
        let (done, answer) = oneshot::channel();
        let sent = self.inner.jobs.send(job(done)).await;
        sent.map_err(|_| StorageError::Closed)?;
        answer.await.map_err(|_| StorageError::Closed)?
    }

    /// The latest value of each device and key, in order of device and key.
    ///
    /// # Errors
    /// The values cannot be read.
    pub async fn latest(&self, selection: &Selection) -> Result<Vec<Row>, StorageError> {
        let mut held = Held::default();
        self.inner.reader.latest(selection, &mut held).await
    }

    /// As [`Self::latest`]. What is found counts in `memory`.
    ///
    /// # Errors
    /// The values cannot be read, or there is not enough memory.
    pub async fn latest_within(
        &self,
        selection: &Selection,
        memory: Arc<dyn QueryMemory>,
    ) -> Result<Found<Vec<Row>>, StorageError> {
        let mut held = Held::new(Some(memory));
        let rows = self.inner.reader.latest(selection, &mut held).await?;
        Ok(Found::new(rows, held))
    }

    /// Keys of a device, in order.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn keys(&self, device: i64) -> Result<Vec<Arc<str>>, StorageError> {
        let selection = Selection::device(device);
        let mut pages = SeriesPages::new(&self.inner.reader, &selection);
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await? {
            keys.extend(page.into_iter().map(|series| series.key));
        }
        Ok(keys)
    }

    /// Numbers of devices with values, in order, after a device; `i64::MIN` returns the first
    /// ones.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn devices(&self, after: i64, limit: u32) -> Result<Vec<i64>, StorageError> {
        self.inner.reader.devices(after, limit).await
    }

    /// Rows of a time span.
    ///
    /// # Errors
    /// The values cannot be read, or the limit is 0.
    pub async fn range(&self, range: &Range) -> Result<Rows, StorageError> {
        let mut held = Held::default();
        self.inner.reader.range(range, &mut held).await
    }

    /// As [`Self::range`]. What is found counts in `memory`.
    ///
    /// # Errors
    /// The values cannot be read, the limit is 0, or there is not enough memory.
    pub async fn range_within(
        &self,
        range: &Range,
        memory: Arc<dyn QueryMemory>,
    ) -> Result<Found<Rows>, StorageError> {
        let mut held = Held::new(Some(memory));
        let rows = self.inner.reader.range(range, &mut held).await?;
        Ok(Found::new(rows, held))
    }

    /// Aggregates (sums, averages and others) per bucket. Roll-ups are used if they are valid and
    /// not cut by an edge of a bucket.
    ///
    /// # Errors
    /// The values cannot be read, the limit is 0, no function is requested, or a percentile has
    /// too many numbers in one bucket.
    pub async fn aggregate(&self, of: &Aggregate) -> Result<Aggregated, StorageError> {
        let mut held = Held::default();
        self.inner.reader.aggregate(of, &mut held).await
    }

    /// As [`Self::aggregate`]. What is found counts in `memory`.
    ///
    /// # Errors
    /// As for [`Self::aggregate`], or there is not enough memory.
    pub async fn aggregate_within(
        &self,
        of: &Aggregate,
        memory: Arc<dyn QueryMemory>,
    ) -> Result<Found<Aggregated>, StorageError> {
        let mut held = Held::new(Some(memory));
        let rows = self.inner.reader.aggregate(of, &mut held).await?;
        Ok(Found::new(rows, held))
    }

    /// Deletes the values of a selection from a time to before another one. Keys without values
    /// are removed.
    ///
    /// # Errors
    /// They cannot be deleted; some may be.
    pub async fn delete(
        &self,
        selection: Selection,
        from: Time,
        until: Time,
    ) -> Result<Deleted, StorageError> {
        self.ask(|done| Job::Delete(selection, from..until, done))
            .await
    }

    /// Deletes values that exceed the retention limits, and counts the bytes of tenants if that is
    /// due. Must be called regularly, for example each hour. In between both are done with the same
    /// limits if much was written. Returns what was deleted since the last call.
    ///
    /// # Errors
    /// Values cannot be deleted; some may be.
    pub async fn forget(&self, retention: Retention) -> Result<Deleted, StorageError> {
        self.ask(|done| Job::Forget(retention, done)).await
    }

    /// Number of values of a device.
    ///
    /// # Errors
    /// They cannot be counted.
    pub async fn count(&self, device: i64) -> Result<u64, StorageError> {
        self.inner.reader.count(device).await
    }

    /// Number of series by tenant, as it is compared with what each may have.
    ///
    /// # Errors
    /// They cannot be counted.
    pub async fn series_by_tenant(&self) -> Result<BTreeMap<u32, u64>, StorageError> {
        self.inner.reader.series_by_tenant().await
    }

    /// Bytes of tenants as they were counted last, with what was written since. `None`: they were
    /// not counted yet, or have no limit: the values are in PostgreSQL, and retention does not
    /// limit the bytes of all classes.
    pub fn tenant_bytes(&self) -> Option<TenantBytes> {
        self.inner.told.shares.bytes.borrow().clone()
    }

    /// The tenants that have their share of the bytes, and each change until the storage is closed.
    pub fn watch_full_tenants(&self) -> watch::Receiver<BTreeSet<u32>> {
        self.inner.told.shares.full.subscribe()
    }

    /// Bytes in use on disk. The file of SQLite may be larger: space of deleted values is reused,
    /// but not returned.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn bytes(&self) -> Result<u64, StorageError> {
        self.inner.reader.bytes().await
    }

    /// Writes all current values to a new file, which can be opened as a storage. Values may be
    /// written in the meantime. The pages are checked first: values of damaged ones may be missing
    /// from the copy. Returns the damage that is known then.
    ///
    /// # Errors
    /// The file exists or cannot be written, or the values are in PostgreSQL (use `pg_dump`).
    pub async fn backup_to(&self, path: &Path) -> Result<Damage, StorageError> {
        let found = self.inner.reader.backup_to(path).await?;
        self.inner.told.damage.note_hiding(found);
        Ok(self.damage())
    }

    /// Copies the SQLite file of a storage that is not open, like [`Self::backup_to`]. It may be on
    /// a read-only file system.
    ///
    /// # Errors
    /// The copy exists or cannot be written, or the file cannot be read.
    pub async fn backup_at_rest(from: &Path, to: &Path) -> Result<Damage, StorageError> {
        let damage = Findings::default();
        damage.note_hiding(backup_at_rest(from, to).await?);
        Ok(damage.now())
    }

    /// Approximate bytes of memory of values that are not yet committed or packed. Limited by
    /// [`Settings::waiting_bytes_max`], and twice [`Settings::memory_bytes_max`].
    pub fn memory_bytes(&self) -> usize {
        let waiting = self.inner.room_bytes as usize - self.inner.room.available_permits();
        waiting + self.inner.memory.read().bytes()
    }

    /// Approximate bytes of memory of the storage: [`Self::memory_bytes`], the series known to the
    /// writer, and SQLite's page caches.
    pub fn held_bytes(&self) -> usize {
        let known = self.inner.told.known_bytes.load(Ordering::Relaxed);
        self.memory_bytes() + known + self.inner.reader.cache_bytes()
    }

    /// The error that kept the writer from packing values or creating roll-ups in its last
    /// attempt, such as a full disk; `None`: it succeeded. Acknowledged values are safe in any
    /// case.
    pub fn trouble(&self) -> Option<StorageError> {
        self.inner.told.trouble.get()
    }

    /// Damage that was found since the storage was opened. Values in damaged rows are not served,
    /// unless the row was mended from its other copy. All other values are served, unless
    /// [`Damage::hides_values`].
    pub fn damage(&self) -> Damage {
        self.inner.told.damage.now()
    }

    /// The damage so far, and each change of it until the storage is closed.
    pub fn watch_damage(&self) -> watch::Receiver<Damage> {
        self.inner.told.damage.watch()
    }

    /// Reads the whole file, and compares pages and blocks with what they must be. What it finds is
    /// in [`Self::damage`] too. Values may be written in the meantime. [`Self::close`] ends it.
    ///
    /// Nothing is checked in PostgreSQL, which has checksums of pages of its own.
    ///
    /// # Errors
    /// The file cannot be read, or the storage was closed.
    pub async fn check(&self) -> Result<Vec<String>, StorageError> {
        self.inner.reader.check().await
    }

    /// Packs all values in the journal into blocks, and creates the roll-ups of completed days.
    /// Both also happen automatically: packing when [`Settings::memory_bytes_max`] is reached,
    /// roll-ups when there is little to write.
    ///
    /// # Errors
    /// The blocks cannot be written.
    pub async fn pack(&self) -> Result<(), StorageError> {
        self.ask(Job::Pack).await
    }

    /// Closes the storage after earlier writes are done. Later calls fail.
    ///
    /// # Errors
    /// It was closed before.
    pub async fn close(&self) -> Result<(), StorageError> {
        // Closing the last connection checkpoints the log of SQLite.
        self.inner.reader.close().await;
        self.ask(Job::Close).await
    }
}

fn absolute(path: &Path) -> Result<std::path::PathBuf, StorageError> {
    std::path::absolute(path).map_err(|error| StorageError::File {
        place: path.display().to_string(),
        what: error.to_string(),
    })
}

/// Arguments of the writer thread.
struct NewWriter {
    location: Location,
    settings: Settings,
    memory: Arc<SharedMemory>,
    jobs: mpsc::Receiver<Job>,
    told: WriterState,
}

impl NewWriter {
    /// Starts the thread, and waits until it has opened the database.
    async fn start(self) -> Result<(), StorageError> {
        let (opened, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name("telemetry".to_owned());
        let started = thread.spawn(move || self.run(opened));
        started.map_err(|error| not_started(&error))?;
        answer.await.map_err(|_| StorageError::Closed)?
    }

    fn run(self, opened: Done<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = opened.send(Err(not_started(&error)));
                return;
            }
        };
        runtime.block_on(async {
            let (location, settings) = (&self.location, &self.settings);
            match Writer::open(location, settings, self.memory, self.jobs, self.told).await {
                Ok(writer) => {
                    // If the caller stopped waiting, the job channel is closed, and the writer
                    // ends at once.
                    let _ = opened.send(Ok(()));
                    writer.run().await;
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        });
    }
}

fn not_started(error: &std::io::Error) -> StorageError {
    StorageError::Location(format!("the telemetry writer cannot be started: {error}"))
}
