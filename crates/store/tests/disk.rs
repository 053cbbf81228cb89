//! Full and failing disks, and how much space and time the store takes.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Generator, Model, Random, record};
use martlet_store::{
    BodyId, Call, Disk, Engine, Failure, Fault, Holds, Lost, Options, QueueId, RealDisk,
    RecordBuffer, SimDisk, check, read_located,
};

/// Bytes of the longest segment; while the store is small, one has a quarter.
const SEGMENT: u64 = 65_536;

fn options() -> Options {
    Options {
        segment_bytes: SEGMENT,
        tail_bytes: 32_768,
        salt: 1,
        ..Options::default()
    }
}

fn open(disk: &SimDisk) -> Engine<SimDisk> {
    let (engine, report) = Engine::open(disk.clone(), options()).unwrap();
    assert_eq!(report.damage, []);
    engine
}

fn publish(buffer: &mut RecordBuffer, id: u64, bytes: usize) {
    let mut record = buffer.record();
    record.body(BodyId(id), Holds::NONE, &[&vec![id as u8; bytes]]);
    record.enqueue(QueueId(id % 7), BodyId(id), 0, [0, 0], b"");
}

fn end(buffer: &mut RecordBuffer, id: u64) {
    buffer.record().end(QueueId(id % 7), BodyId(id), 0);
}

/// Appends, writes, syncs.
fn commit(engine: &mut Engine<SimDisk>, build: impl FnOnce(&mut RecordBuffer)) {
    let mut buffer = RecordBuffer::new();
    build(&mut buffer);
    engine.append(&buffer);
    engine.write().unwrap();
    engine.sync().unwrap();
}

/// A moment of rest: housekeeping until nothing waits.
fn settle(engine: &mut Engine<SimDisk>) {
    engine.seal().unwrap();
    for _ in 0..10_000 {
        if !engine.housekeep(8192).unwrap().more {
            return;
        }
    }
    panic!("housekeeping never ends: {:?}", engine.stats());
}

#[test]
fn what_a_lost_name_leaves_in_a_file_never_comes_back_under_the_same_name() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let mut engine = open(&disk);
        // Nearly fills the first segment; the next one is the spare file.
        commit(&mut engine, |buffer| publish(buffer, 1, 15_600));
        engine.seal().unwrap();
        engine.housekeep(8192).unwrap();
        let mut buffer = RecordBuffer::new();
        (2..6).for_each(|id| publish(&mut buffer, id, 700));
        engine.append(&buffer);
        engine.write().unwrap();
        drop(engine);
        disk.crash(seed);
        let mut engine = open(&disk);
        let known = engine.stats().bodies;
        // The same place and the same numbers, if nothing of what was not synced is left.
        commit(&mut engine, |buffer| publish(buffer, 9, 700));
        drop(engine);
        let (engine, report) = Engine::open(disk.clone(), options()).unwrap();
        assert_eq!(engine.stats().bodies, known + 1, "seed {seed}");
        assert_eq!((report.torn, report.damage), (None, vec![]), "seed {seed}");
    }
}

/// The name of a new segment may come to the disk before its length does.
#[test]
fn a_power_cut_is_never_taken_for_damage() {
    let mut empty = 0;
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let mut engine = open(&disk);
        let rounds = 1 + seed % 5;
        for round in 0..rounds {
            commit(&mut engine, |buffer| {
                publish(buffer, 10 * round + 1, 15_000)
            });
            if seed % 2 == 0 {
                engine.housekeep(8192).unwrap();
            }
        }
        // What is written and not synced begins one more segment, or several.
        let mut buffer = RecordBuffer::new();
        (100..104 + seed % 40).for_each(|id| publish(&mut buffer, id, 1500));
        engine.append(&buffer);
        engine.write().unwrap();
        drop(engine);
        disk.crash(seed);
        let files = disk.list().unwrap();
        let is_empty = |(name, len): &(String, u64)| name.ends_with(".log") && *len == 0;
        empty += usize::from(files.iter().any(is_empty));
        let (engine, report) = Engine::open(disk.clone(), options()).unwrap();
        assert_eq!(report.damage, [], "seed {seed}: {files:?}");
        assert!(engine.stats().bodies >= rounds as usize, "seed {seed}");
        drop(engine);
        let (_, report) = Engine::open(disk.clone(), options()).unwrap();
        assert_eq!(report.damage, [], "seed {seed}, the second time");
    }
    assert!(empty > 20, "a segment without its length in {empty} of 300");
}

#[test]
fn whichever_call_fails_nothing_promised_is_lost_and_nothing_panics() {
    let failures = [
        Failure::NoSpace,
        Failure::Io,
        Failure::ReadOnly,
        Failure::ShortWrite,
    ];
    for failure in failures {
        for site in 0.. {
            if !run_with_fault(failure, site) {
                assert!(site > 100, "the scenario has too few calls: {site}");
                break;
            }
        }
    }
}

/// False: there was no such call any more.
fn run_with_fault(failure: Failure, site: u64) -> bool {
    let disk = SimDisk::new(site);
    let mut engine = open(&disk);
    let (mut generator, mut random) = (Generator::default(), Random(9));
    let mut model = Model::default();
    disk.inject(Fault {
        call: None,
        skip: site,
        failure,
        once: true,
    });
    let calls = disk.calls();
    for round in 0..50 {
        let mut buffer = RecordBuffer::new();
        let steps: Vec<_> = (0..6).map(|_| generator.steps(&mut random)).collect();
        steps.iter().for_each(|steps| record(&mut buffer, steps));
        let last = engine.append(&buffer);
        // The second attempt passes, whatever the first one met.
        for _ in 0..3 {
            if engine.write().is_ok() && engine.sync().is_ok() {
                break;
            }
        }
        assert!(engine.durable() >= last, "site {site}");
        (last - 5..)
            .zip(&steps)
            .for_each(|(lsn, steps)| model.apply(lsn, steps));
        let _ = engine.housekeep(4096);
        if round % 16 == 15 {
            let _ = engine.seal();
        }
    }
    let reached = disk.calls() - calls > site;
    disk.lift();
    model.compare(&mut engine);
    drop(engine);
    disk.crash(site);
    model.compare(&mut open(&disk));
    check(disk, |damage| {
        // The random records have entries of bodies that never were.
        let is_nowhere = matches!(damage.lost, Lost::Body { .. }) && damage.file.is_empty();
        assert!(is_nowhere, "site {site}: {damage}");
    })
    .unwrap();
    reached
}

#[test]
fn on_a_full_disk_what_was_stored_can_be_read_and_ended_and_the_space_comes_back() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(300_000));
    let mut engine = open(&disk);
    let mut id = 0;
    // A caller that takes no more bodies when the store is low.
    while !engine.stats().is_low {
        id += 1;
        commit(&mut engine, |buffer| publish(buffer, id, 300));
        engine.housekeep(8192).unwrap();
        assert!(id < 5000, "never low");
    }
    assert!(id > 300, "low at once: {id}");
    let mut read = 0;
    let ids: Vec<BodyId> = (1..=id).map(BodyId).collect();
    engine.read_bodies(&ids, |_, body| read += usize::from(body.is_ok()));
    assert_eq!(read, ids.len());
    for id in 1..=id {
        commit(&mut engine, |buffer| end(buffer, id));
        let _ = engine.housekeep(8192);
    }
    settle(&mut engine);
    let stats = engine.stats();
    assert!(!stats.is_low);
    assert_eq!(stats.bodies, 0);
    assert!(disk.used() <= 5 * SEGMENT / 4, "{}", disk.used());
    drop(engine);
    assert_eq!(open(&disk).stats().entries, 0);
}

#[test]
fn a_write_that_finds_the_disk_full_is_done_when_there_is_room() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(150_000));
    let mut engine = open(&disk);
    let mut promised = 0;
    let mut last = 0;
    for id in 1..1000 {
        let mut buffer = RecordBuffer::new();
        publish(&mut buffer, id, 300);
        last = engine.append(&buffer);
        if engine.write().is_ok() {
            promised = engine.sync().unwrap();
        }
        let _ = engine.housekeep(8192);
    }
    assert!(promised < last);
    assert!(engine.stats().staged_bytes > 0);
    let error = engine.write().unwrap_err();
    assert!(error.is_full(), "{error}");
    disk.set_capacity(None);
    engine.write().unwrap();
    assert_eq!(engine.sync().unwrap(), last);
    assert_eq!(engine.stats().entries, 999);
    drop(engine);
    disk.crash(1);
    assert_eq!(open(&disk).stats().entries, 999);
}

#[test]
fn on_a_full_disk_segments_that_died_are_used_again() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    for id in 1..400 {
        commit(&mut engine, |buffer| publish(buffer, id, 300));
        let _ = engine.housekeep(8192);
    }
    // All of it ends in one record, which the checkpoint must cover before anything is freed.
    commit(&mut engine, |buffer| {
        let mut record = buffer.record();
        (0..7).for_each(|queue| record.forget(queue));
    });
    disk.set_capacity(Some(disk.used()));
    for id in 400..4000 {
        let mut buffer = RecordBuffer::new();
        publish(&mut buffer, id, 300);
        end(&mut buffer, id);
        engine.append(&buffer);
        for _ in 0..20 {
            if engine.write().is_ok() {
                break;
            }
            let _ = engine.housekeep(8192);
        }
        engine.sync().unwrap();
        let _ = engine.housekeep(8192);
    }
    assert_eq!(engine.staged_bytes(), 0);
}

/// At no time does the store take more than twice what lives and 3.75 segments.
fn assert_bound(disk: &SimDisk, engine: &Engine<SimDisk>, when: u64) {
    let bound = 2 * engine.stats().live_bytes + 15 * SEGMENT / 4;
    assert!(disk.used() <= bound, "{when}: {} > {bound}", disk.used());
}

#[test]
fn space_stays_within_bounds_with_one_survivor_in_each_segment() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    for id in 1..6000 {
        commit(&mut engine, |buffer| {
            publish(buffer, id, 300);
            // One in forty survives: about one per segment.
            if id > 40 && (id - 40) % 40 != 0 {
                end(buffer, id - 40);
            }
        });
        engine.housekeep(8192).unwrap();
        assert_bound(&disk, &engine, id);
    }
    settle(&mut engine);
    let live = engine.stats().live_bytes;
    let bound = live + live / 2 + 3 * SEGMENT;
    assert!(disk.used() <= bound, "{} of {bound}", disk.used());
}

#[test]
fn space_stays_within_bounds_however_much_is_drained_all_over_the_segments() {
    for (messages, budget) in [(2_500, 256), (2_500, 8192), (10_000, 256), (10_000, 8192)] {
        let disk = SimDisk::new(1);
        let mut engine = open(&disk);
        let mut id = 0;
        while id < messages {
            commit(&mut engine, |buffer| {
                (id + 1..id + 11).for_each(|id| publish(buffer, id, 300));
            });
            id += 10;
            engine.housekeep(budget).unwrap();
            assert_bound(&disk, &engine, id);
        }
        // Every segment loses some of its messages before any loses all.
        let mut order: Vec<u64> = (1..=messages).collect();
        order.sort_by_key(|id| (id % 50, *id));
        for id in order {
            commit(&mut engine, |buffer| end(buffer, id));
            engine.housekeep(budget).unwrap();
            assert_bound(&disk, &engine, id);
        }
    }
}

#[test]
fn reclaim_reads_and_copies_little_where_little_lives() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    let mut ids = 1..=2_000;
    for id in ids.clone() {
        commit(&mut engine, |buffer| publish(buffer, id, 300));
    }
    for id in ids.by_ref().filter(|id| id % 100 != 0) {
        commit(&mut engine, |buffer| end(buffer, id));
    }
    engine.checkpoint_now().unwrap();
    engine.seal().unwrap();
    let (calls, mut moved) = (disk.calls(), 0);
    loop {
        let work = engine.housekeep(8192).unwrap();
        moved += work.moved_bytes;
        if !work.more {
            break;
        }
    }
    assert!((6_000..14_000).contains(&moved), "{moved}");
    // One for each survivor, and what gives some forty segments back.
    let calls = disk.calls() - calls;
    assert!(calls < 20 + 3 * 45, "{calls}");
}

#[test]
fn when_all_is_drained_the_space_is_given_back() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    for id in 1..3000 {
        commit(&mut engine, |buffer| publish(buffer, id, 300));
        engine.housekeep(8192).unwrap();
    }
    let full = disk.used();
    for id in 1..3000 {
        commit(&mut engine, |buffer| end(buffer, id));
        engine.housekeep(8192).unwrap();
    }
    settle(&mut engine);
    assert!(full > 1_000_000);
    assert!(disk.used() <= 5 * SEGMENT / 4, "{}", disk.used());
}

#[test]
fn states_that_change_again_and_again_take_no_more_space() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    let key = |number| martlet_store::StateKey {
        owner: 5,
        kind: 1,
        number,
    };
    for round in 0..3000_u32 {
        commit(&mut engine, |buffer| {
            buffer
                .record()
                .state(key(round % 20), &[&[1; 200], &round.to_le_bytes()]);
        });
        engine.housekeep(8192).unwrap();
    }
    settle(&mut engine);
    assert!(disk.used() < 2 * SEGMENT, "{}", disk.used());
    let mut seen = 0;
    engine.states(|key, since, bytes| {
        assert_eq!(bytes.unwrap()[200..], (2980 + key.number).to_le_bytes());
        assert!(since <= 20 + 5, "{since}");
        seen += 1;
    });
    assert_eq!(seen, 20);
}

#[test]
fn a_record_longer_than_a_segment_gets_one_of_its_own() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    commit(&mut engine, |buffer| publish(buffer, 1, 300));
    commit(&mut engine, |buffer| publish(buffer, 2, 100_000));
    commit(&mut engine, |buffer| publish(buffer, 3, 300));
    engine.read_bodies(&[BodyId(2)], |_, body| {
        assert_eq!(body.unwrap(), vec![2; 100_000])
    });
    drop(engine);
    let mut engine = open(&disk);
    assert_eq!(engine.stats().bodies, 3);
    commit(&mut engine, |buffer| {
        (1..4).for_each(|id| end(buffer, id));
    });
    engine.close().unwrap();
    settle(&mut open(&disk));
    assert!(disk.used() < 100_000);
}

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
fn a_segment_is_not_used_again_before_the_end_of_its_last_body_is_durable() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    for id in 1..200 {
        commit(&mut engine, |buffer| publish(buffer, id, 300));
    }
    engine.checkpoint_now().unwrap();
    let mut buffer = RecordBuffer::new();
    (1..200).for_each(|id| end(&mut buffer, id));
    engine.append(&buffer);
    engine.write().unwrap();
    // Nothing gets to the disk from here on.
    disk.inject(Fault {
        call: Some(Call::Sync),
        skip: 0,
        failure: Failure::Io,
        once: false,
    });
    for _ in 0..50 {
        if let Ok(work) = engine.housekeep(8192) {
            assert_eq!(work.freed, 0);
        }
        let _ = engine.write();
    }
    drop(engine);
    disk.crash(7);
    let engine = open(&disk);
    let left: Vec<BodyId> = (0..7)
        .flat_map(|queue| engine.entries(QueueId(queue)).map(|entry| entry.body))
        .collect();
    let mut read = 0;
    engine.read_bodies(&left, |id, body| {
        assert_eq!(body.unwrap(), vec![id.0 as u8; 300]);
        read += 1;
    });
    assert_eq!(read, left.len());
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
    // The next one begins when all of this was written; then the queue changes between its slices.
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

#[test]
fn sync_failures_write_the_group_anew_and_a_crash_finds_the_good_copy() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let mut engine = open(&disk);
        for id in 1..40 {
            if id % 5 == 0 {
                disk.inject(Fault {
                    call: Some(Call::Sync),
                    skip: 0,
                    failure: Failure::Io,
                    once: true,
                });
            }
            let mut buffer = RecordBuffer::new();
            publish(&mut buffer, id, 300);
            engine.append(&buffer);
            engine.write().unwrap();
            if engine.sync().is_err() {
                engine.write().unwrap();
                engine.sync().unwrap();
            }
        }
        drop(engine);
        disk.crash(seed);
        let engine = open(&disk);
        let ids: Vec<BodyId> = (1..40).map(BodyId).collect();
        engine.read_bodies(&ids, |id, body| {
            assert_eq!(body.unwrap(), vec![id.0 as u8; 300])
        });
    }
}

/// From now on neither a file nor the directory can be synced.
fn refuse_syncs(disk: &SimDisk) {
    for call in [Call::Sync, Call::SyncDir] {
        disk.inject(Fault {
            call: Some(call),
            skip: 0,
            failure: Failure::Io,
            once: false,
        });
    }
}

/// Messages from `1` on that are there, in a row, each with its bytes.
fn count_served(engine: &Engine<SimDisk>, last: u64) -> u64 {
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

#[test]
fn while_no_sync_succeeds_the_store_does_not_grow_and_nothing_is_lost() {
    const PROMISED: u64 = 20;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let mut engine = open(&disk);
        for id in 1..=PROMISED {
            commit(&mut engine, |buffer| publish(buffer, id, 300));
            engine.housekeep(8192).unwrap();
        }
        refuse_syncs(&disk);
        let mut last = PROMISED;
        // In some of them power fails while it lasts.
        let rounds = if seed % 2 == 0 { 1000 } else { 1 + seed * 7 };
        for round in 0..rounds {
            if round % 40 == 0 {
                last += 1;
                let mut buffer = RecordBuffer::new();
                publish(&mut buffer, last, 300);
                engine.append(&buffer);
            }
            // A file that was kept for this may not get its name.
            let written = engine.write();
            assert!(written.is_err() || engine.sync().is_err());
            let _ = engine.housekeep(8192);
            assert_bound(&disk, &engine, round);
            let files = disk.list().unwrap().len();
            assert!(files <= 10, "seed {seed}, failure {round}: {files} files");
        }
        assert_eq!(engine.durable(), PROMISED);
        assert_eq!(
            count_served(&engine, last),
            last,
            "they can be read meanwhile"
        );
        if seed % 2 == 0 {
            disk.lift();
            engine.write().unwrap();
            assert_eq!(engine.sync().unwrap(), last);
            settle(&mut engine);
        }
        let promised = if seed % 2 == 0 { last } else { PROMISED };
        drop(engine);
        disk.crash(seed);
        let mut engine = open(&disk);
        let served = count_served(&engine, last);
        assert!(served >= promised, "seed {seed}: {served} of {promised}");
        commit(&mut engine, |buffer| publish(buffer, served + 1, 300));
        settle(&mut engine);
        drop(engine);
        disk.crash(seed);
        assert_eq!(count_served(&open(&disk), last + 1), served + 1);
    }
}

#[test]
fn starts_that_find_no_sync_to_succeed_do_not_fill_the_disk() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    for id in 1..20 {
        commit(&mut engine, |buffer| publish(buffer, id, 300));
    }
    drop(engine);
    refuse_syncs(&disk);
    let before = disk.list().unwrap().len();
    for _ in 0..50 {
        // It may open, and then cannot record anything; or not.
        if let Ok((mut engine, _)) = Engine::open(disk.clone(), options()) {
            let mut buffer = RecordBuffer::new();
            publish(&mut buffer, 20, 300);
            engine.append(&buffer);
            assert!(engine.write().is_err() || engine.sync().is_err());
        }
    }
    let files = disk.list().unwrap();
    assert!(files.len() <= before + 1, "{files:?}");
    disk.lift();
    assert!(count_served(&open(&disk), 20) >= 19);
}

/// A queue with many entries, and one that shares each hundredth body with it.
fn long_queue(engine: &mut Engine<SimDisk>, count: u64) {
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
            // One that waits to be let go finds itself in a queue again: it is as if it had been
            // gone, but for the one that another queue has.
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

#[test]
fn a_disk_that_refuses_every_write_is_not_filled_with_files() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    let mut buffer = RecordBuffer::new();
    publish(&mut buffer, 1, 300);
    engine.append(&buffer);
    disk.inject(Fault {
        call: Some(Call::Write),
        skip: 0,
        failure: Failure::Io,
        once: false,
    });
    for _ in 0..50 {
        assert!(engine.write().is_err());
        let _ = engine.housekeep(8192);
    }
    let files = disk.list().unwrap().len();
    assert!(files <= 4, "{files} files");
    disk.lift();
    engine.write().unwrap();
    assert_eq!(engine.sync().unwrap(), 1);
}

#[test]
fn housekeeping_ends_though_whole_segments_lie_behind_a_torn_place() {
    let disk = SimDisk::new(1);
    let mut engine = open(&disk);
    for id in 1..20 {
        commit(&mut engine, |buffer| publish(buffer, id, 300));
    }
    for id in 20..200 {
        let mut buffer = RecordBuffer::new();
        publish(&mut buffer, id, 300);
        engine.append(&buffer);
        engine.write().unwrap();
    }
    drop(engine);
    // None of these was synced.
    assert!(disk.flip("00000001.log", 12_000, 0));
    let (mut engine, report) = Engine::open(disk.clone(), options()).unwrap();
    assert!(report.torn.is_some());
    settle(&mut engine);
    let files = disk.list().unwrap();
    let logs = files.iter().filter(|(name, _)| name.ends_with(".log"));
    assert!(
        logs.count() <= 3,
        "what lay behind is given back: {files:?}"
    );
    let entries = engine.stats().entries;
    assert!((19..60).contains(&entries), "{entries}");
    commit(&mut engine, |buffer| publish(buffer, 500, 300));
    drop(engine);
    disk.crash(1);
    assert_eq!(open(&disk).stats().entries, entries + 1);
}
