//! Checkpoints, snapshots and long queues, which are processed in slices.

use martlet_store::{BodyId, Engine, Holds, Options, QueueId, RecordBuffer, SimDisk};

use super::stores::{commit, end, long_queue, open, options, publish, settle};
use crate::common::{Generator, Model, Random, record};

#[test]
fn a_checkpoint_is_written_in_slices_and_is_the_image_of_one_moment() {
    let disk = SimDisk::new(1);
    let (mut generator, mut random) = (Generator::default(), Random(4));
    let (mut engine, _) = Engine::open(
        disk.clone(),
        Options {
            segment_bytes: 1 << 20,
            tail_bytes: 200_000,
            salt: 1,
            ..Options::default()
        },
    )
    .unwrap();
    let mut model = Model::default();
    let mut slices = 0;
    for _ in 0..6000 {
        let mut buffer = RecordBuffer::new();
        let steps = generator.steps(&mut random);
        record(&mut buffer, &steps);
        let lsn = engine.append(&buffer);
        model.apply(lsn, &steps);
        engine.write().unwrap();
        engine.sync().unwrap();
        let work = engine.housekeep(1).unwrap();
        slices = if work.more { slices + 1 } else { 0 };
        if work.checkpointed && slices > 3 {
            drop(engine);
            let report;
            (engine, report) = Engine::open(disk.clone(), Options::default()).unwrap();
            assert_eq!(report.damage, []);
            assert!(report.replayed < 100);
            model.compare(&mut engine);
            return;
        }
    }
    panic!("no checkpoint came");
}

#[test]
fn a_snapshot_is_a_store_of_its_moment_whatever_happens_meanwhile() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    for id in 1..500 {
        commit(&mut engine, |buffer| publish(buffer, id, 300));
        engine.housekeep(8192).unwrap();
    }
    let snapshot = engine.snapshot().unwrap();
    for id in 1..500 {
        commit(&mut engine, |buffer| {
            end(buffer, id);
            publish(buffer, 1000 + id, 300);
        });
        engine.housekeep(8192).unwrap();
    }
    let copy = SimDisk::new(2);
    for (name, bytes) in snapshot.files() {
        let contents = disk.contents(name).expect("still there");
        copy.set_contents(name, &contents[..*bytes as usize]);
    }
    let mut restored = open(&copy);
    assert_eq!(restored.stats().entries, 499);
    let ids: Vec<BodyId> = (1..500).map(BodyId).collect();
    restored.read_bodies(&ids, |id, body| {
        assert_eq!(body.unwrap(), vec![id.0 as u8; 300])
    });
    commit(&mut restored, |buffer| publish(buffer, 5000, 300));
    drop(restored);
    assert_eq!(open(&copy).stats().entries, 500);
    let pinned = disk.used();
    drop(snapshot);
    settle(&mut engine);
    assert!(disk.used() < pinned - 100_000, "{} {pinned}", disk.used());
}

#[test]
fn a_long_queue_keeps_its_order_through_a_checkpoint_in_slices() {
    let disk = SimDisk::new(1);
    let queue = QueueId(1);
    let (mut engine, _) = Engine::open(disk.clone(), Options::default()).unwrap();
    let mut expected = std::collections::VecDeque::new();
    let mut random = Random(1);
    let mut id = 0;
    let mut add = |buffer: &mut RecordBuffer, expected: &mut std::collections::VecDeque<_>| {
        id += 1;
        let note = [random.next(), 5];
        let mut record = buffer.record();
        record.body(BodyId(id), Holds::NONE, &[b"x"]);
        record.enqueue(queue, BodyId(id), 2, note, b"");
        expected.push_back((BodyId(id), note));
    };
    commit(&mut engine, |buffer| {
        (0..60_000).for_each(|_| add(buffer, &mut expected));
    });
    engine.checkpoint_now().unwrap();
    // The next checkpoint begins after all of this was written; then the queue changes between its
    // slices.
    let mut checkpointed = 0;
    while checkpointed < 2 {
        commit(&mut engine, |buffer| {
            (0..500).for_each(|_| add(buffer, &mut expected));
            for _ in 0..400 {
                let (body, _) = expected.pop_front().unwrap();
                buffer.record().end(queue, body, 2);
            }
            let middle = expected.len() / 2;
            let (body, note) = &mut expected[middle];
            *note = [1, 1];
            buffer.record().amend(queue, *body, 2, [1, 1]);
            buffer
                .record()
                .state(martlet_store::StateKey::default(), &[&[0; 1 << 20]]);
        });
        checkpointed += u32::from(engine.housekeep(1).unwrap().checkpointed);
    }
    drop(engine);
    let (engine, report) = Engine::open(disk, Options::default()).unwrap();
    assert_eq!(report.damage, []);
    assert!(
        engine
            .entries(queue)
            .map(|entry| (entry.body, entry.note))
            .eq(expected)
    );
}

#[test]
fn a_long_queue_is_forgotten_in_slices_with_the_same_result_whenever_power_is_lost() {
    const COUNT: u64 = 20_000;
    for slices in [0, 1, 7, 1000] {
        for has_checkpoint in [false, true] {
            let disk = SimDisk::new(slices);
            let mut engine = open(&disk);
            long_queue(&mut engine, COUNT);
            if has_checkpoint {
                engine.checkpoint_now().unwrap();
            }
            commit(&mut engine, |buffer| buffer.record().forget(1));
            assert_eq!(engine.queues(), [QueueId(2)]);
            assert_eq!(engine.stats().entries as u64, COUNT / 100);
            let mut bodies = engine.stats().bodies;
            assert!(bodies as u64 > COUNT * 9 / 10, "all at once: {bodies}");
            for _ in 0..slices {
                engine.housekeep(64 * 500).unwrap();
                assert!(bodies - engine.stats().bodies <= 500);
                bodies = engine.stats().bodies;
            }
            // An entry that waits to be dropped is enqueued again: the result is as if it had been
            // dropped before, except for the entry in the other queue.
            let again = [COUNT - 1, COUNT];
            commit(&mut engine, |buffer| {
                for id in again {
                    let mut record = buffer.record();
                    record.enqueue(QueueId(1), BodyId(id), 0, [7, 0], b"");
                }
            });
            let found = |engine: &Engine<SimDisk>| {
                let mut found = Vec::new();
                engine.read_bodies(&again.map(BodyId), |id, body| {
                    found.push((id.0, body.is_ok()))
                });
                found.sort_unstable();
                found
            };
            let expected = [(COUNT - 1, false), (COUNT, true)];
            assert_eq!(found(&engine), expected);
            drop(engine);
            disk.crash(slices);
            let mut engine = open(&disk);
            assert_eq!(found(&engine), expected);
            assert_eq!(engine.stats().bodies as u64, COUNT / 100);
            assert_eq!(engine.stats().entries as u64, COUNT / 100 + 2);
            settle(&mut engine);
            assert!(engine.stats().segments < 10, "{:?}", engine.stats());
        }
    }
}

#[test]
fn a_checkpoint_taken_while_a_queue_is_forgotten_has_none_of_it() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    long_queue(&mut engine, 5000);
    commit(&mut engine, |buffer| buffer.record().forget(1));
    engine.checkpoint_now().unwrap();
    assert_eq!(engine.stats().bodies, 50);
    drop(engine);
    let (engine, report) = Engine::open(disk, options()).unwrap();
    assert_eq!((report.replayed, engine.stats().bodies), (0, 50));
}
