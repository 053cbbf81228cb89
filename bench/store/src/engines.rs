//! The engines behind one small interface.

use crate::Plan;
use martlet_store::{
    BodyId, Engine, Holds, Options, QueueId, RealDisk, RecordBuffer, StoreError, SyncWork,
};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Contents of one group.
pub trait Batch: Default + Send + 'static {
    /// A message for `entries` queues from `queue` on.
    fn publish(&mut self, id: u64, queue: u64, entries: u64, payload: &[u8]);
    /// A message of a queue was acknowledged.
    fn end(&mut self, id: u64, queue: u64, entries: u64);
    fn clear(&mut self);
}

/// An engine.
pub trait Store: Sized {
    type Batch: Batch;
    fn open(plan: &Plan) -> Self;
    /// Writes and syncs a group.
    fn commit(&mut self, batch: &mut Self::Batch);
    /// Does what may be done after a commit.
    fn rest(&mut self) {}
    /// The first messages of a queue: their ids; each was read.
    fn page(&mut self, queue: u64, count: usize) -> Vec<u64>;
}

/// Time without messages after which the log is sealed, and sparse segments are cleaned up.
const SEAL_AFTER: Duration = Duration::from_secs(1);

/// Queues.
pub const QUEUES: u64 = 1000;

pub struct Own {
    engine: Engine<RealDisk>,
    /// The longest call to `housekeep`, microseconds.
    pub rest_us_max: u128,
    syncing: Syncing,
    /// When something was committed last, unless the log is sealed since.
    idle_since: Option<Instant>,
}

/// Records of a group that is synced by another thread while it takes effect, as in the broker.
const SYNCED_BESIDE: usize = 384;

type Work = SyncWork<Arc<File>>;

/// A thread that syncs.
struct Syncing {
    works: Option<Sender<Work>>,
    results: Receiver<Result<(), StoreError>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncing {
    fn new(disk: RealDisk) -> Self {
        let (works, work) = channel::<Work>();
        let (answers, results) = channel();
        let thread = thread::spawn(move || {
            for work in work {
                let _ = answers.send(work.run(&disk));
            }
        });
        Syncing {
            works: Some(works),
            results,
            thread: Some(thread),
        }
    }

    fn begin(&self, work: Work) {
        let works = self.works.as_ref().expect("until the end");
        works.send(work).expect("lives");
    }

    fn wait(&self) -> Result<(), StoreError> {
        self.results.recv().expect("lives")
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.works = None;
        // It has a handle of the directory, which is locked.
        if let Some(thread) = self.thread.take() {
            thread.join().expect("ends");
        }
    }
}

/// As the broker does it: a message has a record for itself, ends share one.
#[derive(Default)]
pub struct OwnBatch {
    records: RecordBuffer,
    /// Message, queue, entries.
    ends: Vec<(u64, u64, u64)>,
}

impl OwnBatch {
    /// All of it, the ends behind the messages.
    fn close(&mut self) -> &RecordBuffer {
        for ends in self.ends.chunks(256) {
            let mut record = self.records.record();
            for (id, queue, entries) in ends {
                for entry in 0..*entries {
                    record.end(QueueId((queue + entry) % QUEUES), BodyId(*id), 0);
                }
            }
        }
        self.ends.clear();
        &self.records
    }
}

impl Batch for OwnBatch {
    fn publish(&mut self, id: u64, queue: u64, entries: u64, payload: &[u8]) {
        let mut record = self.records.record();
        record.body(BodyId(id), Holds::NONE, &[payload]);
        for entry in 0..entries {
            record.enqueue(
                QueueId((queue + entry) % QUEUES),
                BodyId(id),
                0,
                [1, 0],
                b"",
            );
        }
    }

    fn end(&mut self, id: u64, queue: u64, entries: u64) {
        self.ends.push((id, queue, entries));
    }

    fn clear(&mut self) {
        self.records.clear();
        self.ends.clear();
    }
}

impl Store for Own {
    type Batch = OwnBatch;

    fn open(plan: &Plan) -> Self {
        let disk = RealDisk::open(&plan.directory).expect("directory");
        let (engine, report) = Engine::open(disk, Options::default()).expect("opens");
        assert!(report.damage.is_empty());
        Own {
            syncing: Syncing::new(engine.disk().clone()),
            engine,
            rest_us_max: 0,
            idle_since: None,
        }
    }

    fn commit(&mut self, batch: &mut OwnBatch) {
        let records = batch.close();
        self.engine.append(records);
        if records.count() < SYNCED_BESIDE {
            self.engine.write().expect("writes");
            self.engine.sync().expect("syncs");
        } else {
            let syncing = &self.syncing;
            let synced = self.engine.write_and_sync(|work, apply| {
                syncing.begin(work);
                apply();
                syncing.wait()
            });
            synced.expect("writes and syncs");
        }
        self.idle_since = Some(Instant::now());
    }

    fn rest(&mut self) {
        let began = Instant::now();
        // As in the broker.
        if self
            .idle_since
            .is_some_and(|since| began - since >= SEAL_AFTER)
        {
            self.engine.seal().expect("seals");
            self.idle_since = None;
        }
        self.engine.housekeep(256 * 1024).expect("housekeeping");
        self.rest_us_max = self.rest_us_max.max(began.elapsed().as_micros());
    }

    fn page(&mut self, queue: u64, count: usize) -> Vec<u64> {
        let ids: Vec<BodyId> = self
            .engine
            .entries(QueueId(queue))
            .take(count)
            .map(|entry| entry.body)
            .collect();
        let mut bytes = 0;
        self.engine
            .read_bodies(&ids, |_, body| bytes += body.expect("readable").len());
        ids.iter().map(|id| id.0).collect()
    }
}

/// A ring of 2 GiB, written as the own log writes, and that is all.
pub struct Bare {
    file: File,
    offset: u64,
}

#[derive(Default)]
pub struct BareBatch(Vec<u8>);

impl Batch for BareBatch {
    fn publish(&mut self, id: u64, queue: u64, entries: u64, payload: &[u8]) {
        self.0.extend_from_slice(&id.to_le_bytes());
        self.0.extend_from_slice(&[0; 18]);
        self.0.extend_from_slice(payload);
        for entry in 0..entries {
            self.0.extend_from_slice(&(queue + entry).to_le_bytes());
            self.0.extend_from_slice(&[0; 3]);
        }
    }

    fn end(&mut self, id: u64, queue: u64, entries: u64) {
        for entry in 0..entries {
            self.0.extend_from_slice(&id.to_le_bytes());
            self.0.extend_from_slice(&(queue + entry).to_le_bytes());
            self.0.extend_from_slice(&[0; 16]);
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

const RING_BYTES: u64 = 2 << 30;

impl Store for Bare {
    type Batch = BareBatch;

    fn open(plan: &Plan) -> Self {
        std::fs::create_dir_all(&plan.directory).expect("directory");
        let file = File::create_new(plan.directory.join("ring")).expect("file");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RING_BYTES)
            .expect("space");
        file.sync_all().expect("syncs");
        Bare { file, offset: 0 }
    }

    fn commit(&mut self, batch: &mut BareBatch) {
        if self.offset + batch.0.len() as u64 > RING_BYTES {
            self.offset = 0;
        }
        self.file
            .write_all_at(&batch.0, self.offset)
            .expect("writes");
        self.file.sync_data().expect("syncs");
        self.offset += batch.0.len() as u64;
    }

    fn page(&mut self, _: u64, _: usize) -> Vec<u64> {
        Vec::new()
    }
}

/// Takes everything and keeps nothing: what the load itself costs.
pub struct Nothing;

impl Store for Nothing {
    type Batch = BareBatch;

    fn open(plan: &Plan) -> Self {
        std::fs::create_dir_all(&plan.directory).expect("directory");
        Nothing
    }

    fn commit(&mut self, _: &mut BareBatch) {
        // About as long as a sync, so that as much comes in meanwhile.
        thread::sleep(Duration::from_micros(500));
    }

    fn page(&mut self, _: u64, _: usize) -> Vec<u64> {
        Vec::new()
    }
}

const MESSAGES: TableDefinition<u64, &[u8]> = TableDefinition::new("messages");
const HEADS: TableDefinition<u64, u64> = TableDefinition::new("heads");

/// One row per message; an acknowledgement moves the head of its queue; rows go in runs of 64 when
/// all are dead. The queues' order is in memory.
pub struct RedbHeads {
    database: Database,
    queues: HashMap<u64, BTreeSet<u64>>,
    /// Messages alive per run of 64, with their references.
    runs: BTreeMap<u64, u64>,
}

#[derive(Default)]
pub struct RedbBatch {
    published: Vec<(u64, u64, u64, usize)>,
    payloads: Vec<u8>,
    ended: Vec<(u64, u64, u64)>,
}

impl Batch for RedbBatch {
    fn publish(&mut self, id: u64, queue: u64, entries: u64, payload: &[u8]) {
        self.payloads.extend_from_slice(&queue.to_le_bytes());
        self.payloads.extend_from_slice(&entries.to_le_bytes());
        self.payloads.extend_from_slice(payload);
        self.published
            .push((id, queue, entries, payload.len() + 16));
    }

    fn end(&mut self, id: u64, queue: u64, entries: u64) {
        self.ended.push((id, queue, entries));
    }

    fn clear(&mut self) {
        self.published.clear();
        self.payloads.clear();
        self.ended.clear();
    }
}

impl Store for RedbHeads {
    type Batch = RedbBatch;

    fn open(plan: &Plan) -> Self {
        std::fs::create_dir_all(&plan.directory).expect("directory");
        let mut builder = Database::builder();
        builder.set_cache_size(64 << 20);
        let database = builder.create(plan.directory.join("redb")).expect("opens");
        let mut store = RedbHeads {
            database,
            queues: HashMap::new(),
            runs: BTreeMap::new(),
        };
        store.load();
        store
    }

    fn commit(&mut self, batch: &mut RedbBatch) {
        let mut transaction = self.database.begin_write().expect("begins");
        transaction
            .set_durability(Durability::Immediate)
            .expect("durable");
        {
            let mut messages = transaction.open_table(MESSAGES).expect("table");
            let mut heads = transaction.open_table(HEADS).expect("table");
            let mut at = 0;
            for (id, queue, entries, bytes) in &batch.published {
                let row = &batch.payloads[at..at + bytes];
                messages.insert(*id, row).expect("inserts");
                at += bytes;
                for entry in 0..*entries {
                    let queue = (queue + entry) % QUEUES;
                    self.queues.entry(queue).or_default().insert(*id);
                }
                *self.runs.entry(id / 64).or_default() += entries;
            }
            let mut moved = BTreeSet::new();
            for (id, queue, entries) in &batch.ended {
                for entry in 0..*entries {
                    let queue = (queue + entry) % QUEUES;
                    self.queues.entry(queue).or_default().remove(id);
                    moved.insert(queue);
                }
                let left = self.runs.entry(id / 64).or_default();
                *left -= entries;
                if *left == 0 {
                    self.runs.remove(&(id / 64));
                    let run = id / 64 * 64..id / 64 * 64 + 64;
                    messages.retain_in(run, |_, _| false).expect("removes");
                }
            }
            for queue in moved {
                let head = self.queues[&queue].first().copied().unwrap_or(u64::MAX);
                heads.insert(queue, head).expect("inserts");
            }
        }
        transaction.commit().expect("commits");
    }

    fn page(&mut self, queue: u64, count: usize) -> Vec<u64> {
        let ids: Vec<u64> = self.queues[&queue].iter().take(count).copied().collect();
        let transaction = self.database.begin_read().expect("begins");
        let messages = transaction.open_table(MESSAGES).expect("table");
        let mut bytes = 0;
        for id in &ids {
            bytes += messages
                .get(*id)
                .expect("reads")
                .map_or(0, |row| row.value().len());
        }
        assert!(ids.is_empty() || bytes > 0);
        ids
    }
}

impl RedbHeads {
    /// Reads every row: the index is in memory.
    fn load(&mut self) {
        let transaction = self.database.begin_write().expect("begins");
        {
            let heads = transaction.open_table(HEADS).expect("table");
            let messages = transaction.open_table(MESSAGES).expect("table");
            for row in messages.iter().expect("reads") {
                let (id, row) = row.expect("reads");
                let (id, row) = (id.value(), row.value());
                let queue = u64::from_le_bytes(row[..8].try_into().expect("eight"));
                let entries = u64::from_le_bytes(row[8..16].try_into().expect("eight"));
                for entry in 0..entries {
                    let queue = (queue + entry) % QUEUES;
                    let head = heads.get(queue).expect("reads").map_or(0, |h| h.value());
                    if id >= head {
                        self.queues.entry(queue).or_default().insert(id);
                        *self.runs.entry(id / 64).or_default() += 1;
                    }
                }
            }
        }
        transaction.commit().expect("commits");
    }
}
