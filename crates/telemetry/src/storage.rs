//! The interface of the storage.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::aggregate::{Aggregate, Aggregated};
use crate::memory::SharedMemory;
use crate::postgres::read::PostgresReader;
use crate::query::{Range, Row, Rows, Selection, SeriesPages};
use crate::reader::DatabaseReader;
use crate::retention::{Deleted, Retention};
use crate::series::WriteOutcome;
use crate::sqlite::read::SqliteReader;
use crate::value::{Point, Time};
use crate::writer::{Done, Job, WriteJob, Writer, WriterState};
use crate::{Location, Settings, StorageError};

/// Jobs that wait for the writer, apart from their bytes.
const JOBS_MAX: usize = 1_024;

/// Values of devices over time. Clones are of the same storage.
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
    /// Opens the storage, and creates its file or tables if they do not exist. A thread is started
    /// that writes; it ends when the storage is closed or its last clone is dropped.
    ///
    /// # Errors
    /// The location cannot be used, or its tables are of a newer version.
    pub async fn open(location: Location, settings: Settings) -> Result<Self, StorageError> {
        let (jobs, receiver) = mpsc::channel(JOBS_MAX);
        let memory = Arc::new(SharedMemory::default());
        let reader = match &location {
            Location::File(path) => {
                let path = absolute(path)?;
                DatabaseReader::Sqlite(SqliteReader::new(&path, &settings, Arc::clone(&memory)))
            }
            Location::Postgres(url) => {
                DatabaseReader::Postgres(PostgresReader::new(url, &settings)?)
            }
        };
        let room_bytes = u32::try_from(settings.waiting_bytes_max)
            .unwrap_or(u32::MAX)
            .clamp(1, u32::MAX >> 3);
        let told = WriterState::default();
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

    /// Where the values are.
    pub fn location(&self) -> &Location {
        &self.inner.location
    }

    /// Writes points, and answers when they are synced. Points of several callers are committed
    /// together. While more is waiting than [`Settings::waiting_bytes_max`], the call waits: that
    /// is the back-pressure for whoever feeds the storage.
    ///
    /// A point that can never be stored is in [`WriteOutcome::refused`], and the others are stored.
    ///
    /// # Errors
    /// None of the points that are not refused is known to be stored: the disk is full, or the
    /// database cannot be reached. They may be written again: a value that is written twice is one.
    pub async fn write(&self, points: Vec<Point>) -> Result<WriteOutcome, StorageError> {
        self.write_as(points, false).await
    }

    /// The same for points that are stored together: if one is refused, none is stored.
    ///
    /// # Errors
    /// None of the points is known to be stored, as with [`Self::write`].
    pub async fn write_whole(&self, points: Vec<Point>) -> Result<WriteOutcome, StorageError> {
        self.write_as(points, true).await
    }

    async fn write_as(
        &self,
        points: Vec<Point>,
        is_whole: bool,
    ) -> Result<WriteOutcome, StorageError> {
        let bytes: usize = points.iter().map(Point::bytes).sum();
        // A list that is larger than all of the room takes all of it.
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
        self.inner.reader.latest(selection).await
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

    /// Numbers of devices that have values, in order, after a device: `i64::MIN` for the first
    /// ones.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn devices(&self, after: i64, limit: u32) -> Result<Vec<i64>, StorageError> {
        self.inner.reader.devices(after, limit).await
    }

    /// Rows of a span of time.
    ///
    /// # Errors
    /// The values cannot be read, or the limit is 0.
    pub async fn range(&self, range: &Range) -> Result<Rows, StorageError> {
        self.inner.reader.range(range).await
    }

    /// Sums, averages and the like per bucket. Roll-ups are used where they are valid and no edge
    /// of a bucket cuts them.
    ///
    /// # Errors
    /// The values cannot be read, the limit is 0, no function is asked for, or a percentile has too
    /// many numbers in one bucket.
    pub async fn aggregate(&self, of: &Aggregate) -> Result<Aggregated, StorageError> {
        self.inner.reader.aggregate(of).await
    }

    /// Deletes the values of a selection from a time to before another one. Keys without values are
    /// gone then.
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

    /// Deletes what is older, or more, than is kept. To be called now and then, such as each hour:
    /// nothing is deleted otherwise.
    ///
    /// # Errors
    /// Values cannot be deleted; some may be.
    pub async fn forget(&self, retention: Retention) -> Result<Deleted, StorageError> {
        self.ask(|done| Job::Forget(retention, done)).await
    }

    /// How many values a device has.
    ///
    /// # Errors
    /// They cannot be counted.
    pub async fn count(&self, device: i64) -> Result<u64, StorageError> {
        self.inner.reader.count(device).await
    }

    /// Bytes on disk that are in use. The file of SQLite may be larger: room of deleted values is
    /// used again, but not given back.
    ///
    /// # Errors
    /// The database cannot say.
    pub async fn bytes(&self) -> Result<u64, StorageError> {
        self.inner.reader.bytes().await
    }

    /// Writes all values as they are at this moment to a new file, which is a storage itself.
    /// Values may be written meanwhile.
    ///
    /// # Errors
    /// The file exists or cannot be written, or the values are in PostgreSQL, which has `pg_dump`.
    pub async fn backup_to(&self, path: &Path) -> Result<(), StorageError> {
        self.inner.reader.backup_to(path).await
    }

    /// Bytes of memory that values take until they are committed or packed, about. They have
    /// limits: [`Settings::waiting_bytes_max`], and twice [`Settings::memory_bytes_max`].
    pub fn memory_bytes(&self) -> usize {
        let waiting = self.inner.room_bytes as usize - self.inner.room.available_permits();
        waiting + self.inner.memory.read().bytes()
    }

    /// Bytes of memory that the storage holds, about: [`Self::memory_bytes`], the series that the
    /// writer knows, and what SQLite keeps of its file.
    pub fn held_bytes(&self) -> usize {
        let known = self.inner.told.known_bytes.load(Ordering::Relaxed);
        self.memory_bytes() + known + self.inner.reader.cache_bytes()
    }

    /// What keeps the writer from packing values or making roll-ups, such as a full disk; none:
    /// nothing did when it last tried. Values that were acknowledged are safe meanwhile.
    pub fn trouble(&self) -> Option<StorageError> {
        self.inner.told.trouble.get()
    }

    /// Packs all values that are in the journal into blocks, and makes the roll-ups of days that
    /// are over. Both happen by themselves too: the first one whenever
    /// [`Settings::memory_bytes_max`] is reached, the other one when there is little to write.
    ///
    /// # Errors
    /// The blocks cannot be written.
    pub async fn pack(&self) -> Result<(), StorageError> {
        self.ask(Job::Pack).await
    }

    /// Closes the storage when the writes before it are done. Later calls fail.
    ///
    /// # Errors
    /// It was closed before.
    pub async fn close(&self) -> Result<(), StorageError> {
        // The last connection that is closed tidies up the log of SQLite.
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

/// What the thread of the writer is started with.
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
                    // If nobody waits any more the channel of jobs is closed, and it ends at once.
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
