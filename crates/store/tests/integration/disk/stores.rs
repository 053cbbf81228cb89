//! Stores on a simulated disk, and operations on them.

use martlet_store::{
    BodyId, Call, Engine, Failure, Fault, Holds, Options, QueueId, RecordBuffer, SimDisk,
};

/// Bytes of the longest segment; while the store is small, segments have a quarter of it.
pub(crate) const SEGMENT: u64 = 65_536;

pub(crate) fn options() -> Options {
    Options {
        segment_bytes: SEGMENT,
        tail_bytes: 32_768,
        salt: 1,
        ..Options::default()
    }
}

pub(crate) fn open(disk: &SimDisk) -> Engine<SimDisk> {
    let (engine, report) = Engine::open(disk.clone(), options()).unwrap();
    assert_eq!(report.damage, []);
    engine
}

pub(crate) fn publish(buffer: &mut RecordBuffer, id: u64, bytes: usize) {
    let mut record = buffer.record();
    record.body(BodyId(id), Holds::NONE, &[&vec![id as u8; bytes]]);
    record.enqueue(QueueId(id % 7), BodyId(id), 0, [0, 0], b"");
}

pub(crate) fn end(buffer: &mut RecordBuffer, id: u64) {
    buffer.record().end(QueueId(id % 7), BodyId(id), 0);
}

/// Appends, writes, syncs.
pub(crate) fn commit(engine: &mut Engine<SimDisk>, build: impl FnOnce(&mut RecordBuffer)) {
    let mut buffer = RecordBuffer::new();
    build(&mut buffer);
    engine.append(&buffer);
    engine.write().unwrap();
    engine.sync().unwrap();
}

/// Runs housekeeping when idle, until no work is left.
pub(crate) fn settle(engine: &mut Engine<SimDisk>) {
    engine.seal().unwrap();
    for _ in 0..10_000 {
        if !engine.housekeep(8192).unwrap().more {
            return;
        }
    }
    panic!("housekeeping never ends: {:?}", engine.stats());
}

/// From now on neither a file nor the directory can be synced.
pub(crate) fn refuse_syncs(disk: &SimDisk) {
    for call in [Call::Sync, Call::SyncDir] {
        disk.inject(Fault {
            call: Some(call),
            skip: 0,
            failure: Failure::Io,
            once: false,
        });
    }
}

/// Number of consecutive messages from `1` on that exist, each with the right bytes.
pub(crate) fn count_served(engine: &Engine<SimDisk>, last: u64) -> u64 {
    let ids: Vec<BodyId> = (1..=last).map(BodyId).collect();
    let mut served = Vec::new();
    engine.read_bodies(&ids, |id, body| {
        if let Ok(body) = body {
            assert_eq!(body, vec![id.0 as u8; 300]);
            served.push(id.0);
        }
    });
    served.sort_unstable();
    assert_eq!(served, (1..=served.len() as u64).collect::<Vec<_>>());
    served.len() as u64
}

/// A queue with many entries, and one that shares each hundredth body with it.
pub(crate) fn long_queue(engine: &mut Engine<SimDisk>, count: u64) {
    for first in (1..=count).step_by(100) {
        commit(engine, |buffer| {
            for id in first..first + 100 {
                let mut record = buffer.record();
                record.body(BodyId(id), Holds::NONE, &[b"x"]);
                record.enqueue(QueueId(1), BodyId(id), 0, [0, 0], b"");
                if id % 100 == 0 {
                    record.enqueue(QueueId(2), BodyId(id), 0, [0, 0], b"");
                }
            }
        });
    }
}
