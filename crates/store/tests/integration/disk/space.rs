//! The space that a store needs, also on a full disk.

use martlet_store::{BodyId, Call, Engine, Failure, Fault, QueueId, RecordBuffer, SimDisk};

use super::stores::{SEGMENT, commit, end, open, publish, settle};

#[test]
fn on_a_full_disk_what_was_stored_can_be_read_and_ended_and_the_space_comes_back() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(300_000));
    let mut engine = open(&disk);
    let mut id = 0;
    // A caller that accepts no more bodies when the store is low.
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

/// Checks that the store takes at most twice the live bytes plus 3.75 segments.
pub(crate) fn assert_bound(disk: &SimDisk, engine: &Engine<SimDisk>, when: u64) {
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
    // One call for each survivor, and those that free about forty segments.
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
    // From here on nothing reaches the disk.
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
