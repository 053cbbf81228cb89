//! Calls and memory that the store needs for its work.

use martlet_store::{
    BodyId, Engine, Holds, Options, QueueId, RealDisk, RecordBuffer, SimDisk, StateKey,
    read_located,
};

use super::stores::{commit, end, open, options, publish};
use crate::common::{Generator, Model, Random, record};

#[test]
fn neighbours_are_read_with_few_calls() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    for id in 1..=100 {
        commit(&mut engine, |buffer| publish(buffer, id, 100));
    }
    let before = disk.calls();
    let ids: Vec<BodyId> = (1..=100).map(BodyId).collect();
    let mut read = 0;
    engine.read_bodies(&ids, |_, body| read += body.unwrap().len());
    assert_eq!(read, 10_000);
    assert!(disk.calls() - before <= 5, "{}", disk.calls() - before);
}

#[test]
fn a_group_is_one_write_and_one_sync() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    commit(&mut engine, |buffer| publish(buffer, 1, 100));
    let before = disk.calls();
    commit(&mut engine, |buffer| {
        (2..50).for_each(|id| publish(buffer, id, 10))
    });
    assert_eq!(disk.calls() - before, 2);
}

#[test]
fn a_located_body_can_be_read_though_it_died() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    commit(&mut engine, |buffer| publish(buffer, 1, 300));
    let located = engine.locate(BodyId(1)).unwrap();
    commit(&mut engine, |buffer| end(buffer, 1));
    for id in 2..2000 {
        commit(&mut engine, |buffer| {
            publish(buffer, id, 300);
            end(buffer, id);
        });
        engine.housekeep(8192).unwrap();
    }
    let mut read = 0;
    read_located(&disk, &[(&located, ())], |(), found| {
        assert_eq!(found, Ok(&[1; 300][..]));
        read += 1;
    });
    assert_eq!(read, 1);
}

#[test]
fn a_body_in_more_queues_than_its_counter_holds_dies_with_the_last_entry() {
    const MANY: u64 = 70_000;
    let disk = SimDisk::new(1);
    let (mut engine, _) = Engine::open(disk.clone(), Options::default()).unwrap();
    commit(&mut engine, |buffer| {
        let mut record = buffer.record();
        record.body(BodyId(1), Holds::NONE, &[b"for all"]);
        (0..MANY).for_each(|queue| record.enqueue(QueueId(queue), BodyId(1), 0, [0, 0], b""));
    });
    engine.checkpoint_now().unwrap();
    drop(engine);
    let (mut engine, _) = Engine::open(disk, Options::default()).unwrap();
    for first in (0..MANY).step_by(10_000) {
        assert_eq!(engine.stats().bodies, 1);
        commit(&mut engine, |buffer| {
            (first..first + 10_000).for_each(|q| buffer.record().end(QueueId(q), BodyId(1), 0));
        });
    }
    assert_eq!(engine.stats().bodies, 0);
    assert_eq!(engine.stats().entries, 0);
}

#[test]
fn a_message_costs_at_most_twenty_bytes_of_memory() {
    let disk = SimDisk::new(1);
    let (mut engine, _) = Engine::open(disk, Options::default()).unwrap();
    const MESSAGES: u64 = 100_000;
    let mut buffer = RecordBuffer::new();
    for id in 1..=MESSAGES {
        // Of four shards, so that neighbours in a queue are not neighbours by id.
        let id = BodyId(((id % 4) << 58) + id / 4);
        let mut record = buffer.record();
        record.body(id, Holds::NONE, &[b"payload"]);
        record.enqueue(QueueId(id.0 / 3 % 100), id, 0, [1, 0], b"");
    }
    engine.append(&buffer);
    engine.write().unwrap();
    let stats = engine.stats();
    assert_eq!(stats.entries as u64, MESSAGES);
    let bytes = stats.index_bytes as u64 / MESSAGES;
    assert!(bytes <= 20, "{bytes}");
    is_near(&engine);
}

/// The approximate size of the index, without a walk over it, must be close to the result of a
/// walk.
fn is_near(engine: &Engine<SimDisk>) {
    let (about, walked) = (engine.index_bytes(), engine.stats().index_bytes);
    assert!(about * 10 > walked * 7, "{about} of {walked}");
    assert!(walked * 2 > about, "{about} for {walked}");
}

#[test]
fn what_the_index_takes_is_known_for_short_queues_and_states_too() {
    let (mut engine, _) = Engine::open(SimDisk::new(1), Options::default()).unwrap();
    let mut buffer = RecordBuffer::new();
    for id in 1..=20_000 {
        let mut record = buffer.record();
        // One of 16 neighbouring ids is left, as with retained messages.
        record.body(BodyId(id * 16), Holds::NONE, &[b"payload"]);
        record.enqueue(QueueId(id / 2), BodyId(id * 16), 0, [1, 0], b"");
        let (kind, number) = (1, id as u32);
        let owner = 1;
        record.state(
            StateKey {
                owner,
                kind,
                number,
            },
            &[b"state"],
        );
    }
    engine.append(&buffer);
    engine.write().unwrap();
    is_near(&engine);
}

#[test]
fn a_real_directory_serves_as_the_simulated_one_does() {
    let path = std::env::temp_dir().join(format!("martlet-store-real-{}", std::process::id()));
    let reopen = || {
        let disk = RealDisk::open(&path).unwrap();
        let (engine, report) = Engine::open(disk, options()).unwrap();
        assert_eq!(report.damage, []);
        engine
    };
    let mut engine = reopen();
    let (mut generator, mut random) = (Generator::default(), Random(4));
    let mut model = Model::default();
    for round in 0..400 {
        let mut buffer = RecordBuffer::new();
        let steps = generator.steps(&mut random);
        record(&mut buffer, &steps);
        let lsn = engine.append(&buffer);
        model.apply(lsn, &steps);
        engine.write().unwrap();
        engine.sync().unwrap();
        engine.housekeep(4096).unwrap();
        if round % 100 == 99 {
            drop(engine);
            engine = reopen();
            model.compare(&mut engine);
        }
    }
    engine.close().unwrap();
    model.compare(&mut reopen());
    std::fs::remove_dir_all(&path).unwrap();
}
