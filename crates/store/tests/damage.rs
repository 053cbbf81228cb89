//! Flipped bits, cut files, arbitrary contents: what is damaged is named, costs no more than it
//! must, and is never served.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Generator, Model, Random, record};
use martlet_store::{
    BodyId, Call, Damage, Disk, Engine, Failure, Fault, Holds, Lost, Missing, OpenError, Options,
    QueueId, RecordBuffer, SimDisk, StateKey, check, read_located, repair,
};

fn options() -> Options {
    Options {
        segment_bytes: 65_536,
        tail_bytes: 1 << 20,
        salt: 99,
        ..Options::default()
    }
}

const BODIES: u64 = 400;

fn bytes_of(id: u64) -> Vec<u8> {
    vec![id as u8; 60 + (id % 90) as usize]
}

/// Bodies 1 to 400 in five queues, one group each, and some states.
fn fill(engine: &mut Engine<SimDisk>) {
    for id in 1..=BODIES {
        let mut buffer = RecordBuffer::new();
        {
            let mut record = buffer.record();
            record.body(BodyId(id), Holds::NONE, &[&bytes_of(id)]);
            record.enqueue(QueueId(id % 5), BodyId(id), 0, [id, 0], b"");
        }
        if id % 10 == 0 {
            let key = StateKey {
                owner: id,
                kind: 0,
                number: 0,
            };
            buffer.record().state(key, &[&bytes_of(id)]);
        }
        engine.append(&buffer);
        engine.write().unwrap();
        engine.sync().unwrap();
    }
}

/// How many bodies are served, all of them with the right bytes.
fn served(engine: &mut Engine<SimDisk>) -> usize {
    let ids: Vec<BodyId> = (1..=BODIES).map(BodyId).collect();
    let mut count = 0;
    engine.read_bodies(&ids, |id, found| {
        if let Ok(bytes) = found {
            assert_eq!(bytes, bytes_of(id.0), "served, but wrong");
            count += 1;
        }
    });
    count
}

/// Where the files have live data: name, length.
fn log_files(disk: &SimDisk) -> Vec<(String, u64)> {
    let mut files = disk.list().unwrap();
    files.retain(|(name, _)| name.ends_with(".log") && name != "spare.log");
    files
}

/// The last byte that is not zero.
fn used(disk: &SimDisk, name: &str) -> u64 {
    let bytes = disk.contents(name).unwrap();
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at as u64 + 1)
}

fn flip_somewhere(disk: &SimDisk, random: &mut Random) -> (String, u64) {
    let files = log_files(disk);
    let (name, _) = &files[random.below(files.len() as u64) as usize];
    // The last group is a seal with nothing in it.
    let end = used(disk, name) - 64;
    let offset = random.below(end);
    assert!(disk.flip(name, offset, random.below(8) as u8));
    (name.clone(), offset)
}

/// A disk with a store that was filled and closed.
fn filled() -> SimDisk {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    engine.close().unwrap();
    disk
}

#[test]
fn each_of_a_hundred_flips_in_the_tail_is_named_and_costs_one_record_at_most() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let disk = SimDisk::new(seed);
        let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
        fill(&mut engine);
        engine.seal().unwrap();
        drop(engine);
        let (name, offset) = flip_somewhere(&disk, &mut random);
        let (mut engine, report) = Engine::open(disk.clone(), options()).unwrap();
        let found = &report.damage;
        assert_eq!(found.len(), 1, "seed {seed}: {found:?}");
        assert_eq!(found[0].file, name);
        assert!(found[0].offset <= offset && offset < found[0].offset + 400);
        assert_eq!(report.torn, None);
        let lost = match found[0].lost {
            Lost::Nothing => 0,
            Lost::Records { count, .. } => count,
            ref other => panic!("{other:?}"),
        };
        assert!(lost <= 1, "seed {seed}: {found:?}");
        assert!(served(&mut engine) as u64 >= BODIES - lost);
    }
}

#[test]
fn each_of_a_hundred_flips_behind_the_checkpoint_is_named_when_checked_and_never_served() {
    let disk = filled();
    for seed in 0..100 {
        let mut random = Random(seed);
        let disk = disk.duplicate();
        let (name, offset) = flip_somewhere(&disk, &mut random);
        let mut found = Vec::new();
        check(disk.clone(), |damage| found.push(damage)).unwrap();
        let place = &found[0];
        assert_eq!(place.file, name, "seed {seed}: {found:?}");
        assert!(place.offset <= offset && offset < place.offset + 400);
        let (mut engine, report) = Engine::open(disk.clone(), options()).unwrap();
        assert_eq!(report.damage, []);
        let lost = BODIES as usize - served(&mut engine);
        assert!(lost <= 1);
        drop(engine);
        let mut named = Vec::new();
        let stats = repair(disk.clone(), options(), |damage| named.push(damage)).unwrap();
        assert_eq!(named, found);
        assert_eq!(stats.bodies, BODIES as usize - lost);
        assert_eq!(stats.entries, BODIES as usize - lost);
        check(disk.clone(), |damage| panic!("seed {seed}: {damage}")).unwrap();
        let (mut engine, report) = Engine::open(disk, options()).unwrap();
        assert_eq!(report.damage, []);
        assert_eq!(served(&mut engine), BODIES as usize - lost);
    }
}

#[test]
fn a_flip_in_the_checkpoint_costs_nothing_and_is_named() {
    let disk = filled();
    let files: Vec<(String, u64)> = disk.list().unwrap();
    let files: Vec<_> = files
        .iter()
        .filter(|(name, _)| name.contains("checkpoint"))
        .collect();
    assert_eq!(files.len(), 2);
    for seed in 0..60 {
        let mut random = Random(seed);
        let disk = disk.duplicate();
        let (name, len) = files[random.below(2) as usize];
        disk.flip(name, random.below(*len), random.below(8) as u8);
        let (mut engine, report) = Engine::open(disk.clone(), options()).unwrap();
        assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
        assert_eq!(report.damage[0].file, *name);
        assert_eq!(report.damage[0].lost, Lost::Nothing);
        assert_eq!(served(&mut engine), BODIES as usize);
        assert_eq!(report.entries, BODIES as usize);
        // The next one is whole again.
        while engine.housekeep(1 << 20).unwrap().more {}
        drop(engine);
        let (_, report) = Engine::open(disk, options()).unwrap();
        assert_eq!(report.damage, []);
    }
}

/// Flips a bit of the checkpoint's block of bodies, in both copies.
fn lose_block_of_bodies(disk: &SimDisk) {
    for (name, _) in disk.list().unwrap() {
        if name.contains("checkpoint") {
            // The block behind the first one, whose length is in its header.
            let bytes = disk.contents(&name).unwrap();
            let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
            let second = (16 + u64::from(length)).next_multiple_of(8);
            disk.flip(&name, second + 20, 0);
        }
    }
}

/// The bodies that are retained and can be read.
fn retained(engine: &Engine<SimDisk>) -> Vec<u64> {
    let mut all = Vec::new();
    engine.held(Holds::RETAINED, |id, _, found| {
        assert_eq!(found, Ok(&bytes_of(id.0)[..]));
        all.push(id.0);
    });
    all.sort_unstable();
    all
}

#[test]
fn what_was_retained_is_found_again_too_wherever_it_was_moved() {
    for is_moved in [false, true] {
        let disk = SimDisk::new(5);
        let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
        fill(&mut engine);
        let commit = |engine: &mut Engine<SimDisk>, build: &mut dyn FnMut(&mut RecordBuffer)| {
            let mut buffer = RecordBuffer::new();
            build(&mut buffer);
            engine.append(&buffer);
            engine.write().unwrap();
            engine.sync().unwrap();
        };
        commit(&mut engine, &mut |buffer| {
            for id in (1_000..2_000).step_by(10) {
                let mut record = buffer.record();
                record.body(BodyId(id), Holds::RETAINED, &[&bytes_of(id)]);
            }
        });
        if is_moved {
            commit(&mut engine, &mut |buffer| {
                for id in 1..=BODIES {
                    buffer.record().end(QueueId(id % 5), BodyId(id), 0);
                }
            });
            engine.seal().unwrap();
            while engine.housekeep(1 << 20).unwrap().more {}
            assert_ne!(log_files(&disk)[0].0, "00000001.log", "it was reclaimed");
        }
        commit(&mut engine, &mut |buffer| {
            for id in (1_000..2_000).step_by(20) {
                buffer.record().release(BodyId(id), Holds::RETAINED);
            }
        });
        engine.close().unwrap();
        let expected: Vec<u64> = (1_010..2_000).step_by(20).collect();
        let (engine, _) = Engine::open(disk.clone(), options()).unwrap();
        assert_eq!(retained(&engine), expected);
        drop(engine);
        lose_block_of_bodies(&disk);
        let (engine, report) = Engine::open(disk.clone(), options()).unwrap();
        let is_block = |damage: &Damage| damage.lost == Lost::CheckpointBlock;
        assert!(!report.damage.is_empty() && report.damage.iter().all(is_block));
        let found = retained(&engine);
        let is_found = |id: &u64| found.binary_search(id).is_ok();
        assert!(expected.iter().all(is_found), "{is_moved}: {found:?}");
        // Where all is in the log still, nothing comes back that was released.
        let back = found.iter().filter(|id| **id >= 1_000).count();
        assert_eq!(back, expected.len(), "{is_moved}: {found:?}");
        assert!(is_moved || found.len() == back);
    }
}

#[test]
fn where_messages_lie_is_found_again_if_both_copies_of_that_block_are_lost() {
    let disk = filled();
    lose_block_of_bodies(&disk);
    let (mut engine, report) = Engine::open(disk.clone(), options()).unwrap();
    assert!(
        report
            .damage
            .iter()
            .all(|d| d.lost == Lost::CheckpointBlock)
    );
    assert_eq!(report.damage.len(), 2, "{:?}", report.damage);
    assert_eq!(served(&mut engine), BODIES as usize);
    drop(engine);
    let stats = repair(disk.clone(), options(), |_| {}).unwrap();
    assert_eq!(stats.entries, BODIES as usize);
    check(disk, |damage| panic!("{damage}")).unwrap();
}

/// A closed store whose oldest segments were given back: what lived in them was copied. Every third
/// body is in queue 9 too, by a record of its own; every 20th is retained; one state in five lives
/// on.
fn reclaimed() -> SimDisk {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    let mut buffer = RecordBuffer::new();
    for id in (3..=BODIES).step_by(3) {
        buffer
            .record()
            .enqueue(QueueId(9), BodyId(id), 0, [7, id], b"");
    }
    for id in (1_000..2_000).step_by(20) {
        buffer
            .record()
            .body(BodyId(id), Holds::RETAINED, &[&bytes_of(id)]);
    }
    for id in 1..=BODIES {
        if id % 4 == 1 {
            let mut record = buffer.record();
            record.amend(QueueId(id % 5), BodyId(id), 0, [id, 5]);
        } else {
            buffer.record().end(QueueId(id % 5), BodyId(id), 0);
        }
        if id % 12 != 9 {
            buffer.record().end(QueueId(9), BodyId(id), 0);
        }
        if id % 50 != 0 {
            buffer.record().remove_state(state_key(id));
        }
    }
    engine.append(&buffer);
    engine.seal().unwrap();
    while engine.housekeep(1 << 20).unwrap().more {}
    engine.close().unwrap();
    assert_ne!(log_files(&disk)[0].0, "00000001.log", "it was reclaimed");
    disk
}

fn state_key(owner: u64) -> StateKey {
    StateKey {
        owner,
        kind: 0,
        number: 0,
    }
}

/// All that [`reclaimed`] has is there: states, retained bodies, and each entry, in its queue or
/// because its body is to be routed again.
fn assert_all_of_reclaimed(engine: &Engine<SimDisk>, what: &str) {
    let keys: Vec<u64> = (50..=BODIES).step_by(50).collect();
    let mut states = Vec::new();
    engine.states(|key, _, found| {
        assert_eq!(found, Ok(&bytes_of(key.owner)[..]), "{what}");
        states.push(key.owner);
    });
    states.sort_unstable();
    assert_eq!(states, keys, "{what}");
    let kept = retained(engine);
    let is_kept = |id| kept.binary_search(&id).is_ok();
    assert!((1_000..2_000).step_by(20).all(is_kept), "{what}: {kept:?}");
    let routed: Vec<u64> = engine.pending().iter().map(|p| p.id.0).collect();
    for id in (1..=BODIES).filter(|id| id % 4 == 1) {
        let entry_in = |queue| {
            let mut entries = engine.entries(QueueId(queue));
            entries
                .find(|entry| entry.body == BodyId(id))
                .map(|entry| entry.note)
        };
        assert_eq!(entry_in(id % 5), Some([id, 5]), "{what}: {id}");
        if id % 12 == 9 {
            let is_there = entry_in(9) == Some([7, id]) || routed.contains(&id);
            assert!(
                is_there,
                "{what}: {id} in queue 9; to be routed: {routed:?}"
            );
        }
        let read = |_, found: Result<&[u8], Missing>| {
            assert_eq!(found, Ok(&bytes_of(id)[..]), "{what}: {id}");
        };
        engine.read_bodies(&[BodyId(id)], read);
    }
}

#[test]
fn without_a_checkpoint_what_was_copied_is_taken_up_and_nothing_is_said_to_be_clean() {
    for is_deleted in [true, false] {
        let disk = reclaimed();
        for (name, _) in disk.list().unwrap() {
            if name.contains("checkpoint") && is_deleted {
                disk.remove(&name).unwrap();
            } else if name.contains("checkpoint") {
                disk.flip(&name, 10, 0);
            }
        }
        let refused = Engine::open(disk.clone(), options()).err().unwrap();
        assert!(refused.to_string().contains("repair"), "{refused}");
        assert!(check(disk.clone(), |_| {}).is_err());
        let mut told = Vec::new();
        repair(disk.clone(), options(), |damage| told.push(damage)).unwrap();
        let is_named = |damage: &Damage| matches!(damage.lost, Lost::WithoutCheckpoint { .. });
        assert!(told.iter().any(is_named), "{told:?}");
        let (engine, report) = Engine::open(disk.clone(), options()).unwrap();
        assert_eq!(report.damage, []);
        assert_all_of_reclaimed(&engine, &format!("deleted: {is_deleted}"));
        let files = disk.list().unwrap();
        let aside = files.iter().filter(|(name, _)| name.ends_with(".damaged"));
        assert_eq!(aside.count(), if is_deleted { 0 } else { 2 });
    }
}

#[test]
fn each_block_of_the_checkpoint_is_found_again_in_the_segments() {
    let name = |disk: &SimDisk| {
        let mut names = disk.list().unwrap().into_iter().map(|(name, _)| name);
        names.find(|name| name.contains("checkpoint")).unwrap()
    };
    let sound = reclaimed();
    let mut blocks = blocks(&sound.contents(&name(&sound)).unwrap());
    // Without the first one it is as if there were none.
    blocks.remove(0);
    assert!(blocks.len() >= 4, "bodies, queues, states and an end");
    for at in blocks {
        let disk = reclaimed();
        for (name, _) in disk.list().unwrap() {
            if name.contains("checkpoint") {
                assert!(disk.flip(&name, at + 9, 0));
            }
        }
        let (engine, report) = Engine::open(disk.clone(), options()).unwrap();
        assert_eq!(report.damage.len(), 2, "{:?}", report.damage);
        assert_all_of_reclaimed(&engine, &format!("block at {at}"));
        drop(engine);
        repair(disk.clone(), options(), |_| {}).unwrap();
        check(disk.clone(), |damage| panic!("{damage}")).unwrap();
        let (engine, _) = Engine::open(disk, options()).unwrap();
        assert_all_of_reclaimed(&engine, &format!("block at {at}, repaired"));
    }
}

/// Where the log's record of a body begins to have its bytes: file and offset.
fn place_of(disk: &SimDisk, id: u64) -> (String, u64) {
    let mut files = log_files(disk).into_iter();
    let found = files.find_map(|(name, _)| {
        let contents = disk.contents(&name).unwrap();
        let wanted = bytes_of(id);
        let at = contents
            .windows(wanted.len())
            .position(|found| found == wanted)?;
        Some((name, at as u64))
    });
    found.unwrap()
}

/// Where the blocks of a checkpoint begin.
fn blocks(bytes: &[u8]) -> Vec<u64> {
    let (mut blocks, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        blocks.push(at as u64);
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        at += (16 + length as usize).next_multiple_of(8);
    }
    blocks
}

/// Flips in the checkpoint's blocks of bodies and of queues, in both copies, and in the record
/// that brought one entry: nothing is left of that, but that the queue had one more.
#[test]
fn a_queue_that_has_fewer_entries_than_were_counted_says_so() {
    for is_ended in [false, true] {
        let disk = filled();
        if is_ended {
            // What is behind the checkpoint says that it is over.
            let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
            let mut buffer = RecordBuffer::new();
            buffer.record().end(QueueId(207 % 5), BodyId(207), 0);
            engine.append(&buffer);
            engine.write().unwrap();
            engine.sync().unwrap();
        }
        let (name, offset) = place_of(&disk, 207);
        assert!(disk.flip(&name, offset, 3));
        let checkpoints = disk.list().unwrap().into_iter();
        for (name, _) in checkpoints.filter(|(name, _)| name.contains("checkpoint")) {
            let blocks = blocks(&disk.contents(&name).unwrap());
            for at in &blocks[1..blocks.len() - 2] {
                assert!(disk.flip(&name, *at + 20, 1));
            }
        }
        let owner = [QueueId(207 % 5)];
        let is_named = |damage: &Damage| match &damage.lost {
            Lost::Body { queues, .. } => queues == &owner,
            _ => false,
        };
        let mut found = Vec::new();
        check(disk.clone(), |damage| found.push(damage)).unwrap();
        let named = found.iter().filter(|damage| is_named(damage)).count();
        assert_eq!(named, usize::from(!is_ended), "{found:#?}");
        let (engine, _) = Engine::open(disk.clone(), options()).unwrap();
        let in_queues: usize = (0..5)
            .map(|queue| engine.entries(QueueId(queue)).count())
            .sum();
        assert_eq!(in_queues as u64, BODIES - u64::from(is_ended));
        drop(engine);
        repair(disk.clone(), options(), |_| {}).unwrap();
        let (_, report) = Engine::open(disk, options()).unwrap();
        assert_eq!(report.damage, []);
    }
}

#[test]
fn a_file_that_was_cut_is_named_and_the_rest_is_served() {
    for cut in [1, 10, 100, 400, 5000] {
        let disk = filled();
        let (name, _) = &log_files(&disk)[0];
        let mut bytes = disk.contents(name).unwrap();
        bytes.truncate(used(&disk, name) as usize - cut);
        disk.set_contents(name, &bytes);
        let mut found = Vec::new();
        check(disk.clone(), |damage| found.push(damage)).unwrap();
        assert_eq!(found[0].file, *name);
        let (mut engine, _) = Engine::open(disk, options()).unwrap();
        let lost = BODIES as usize - served(&mut engine);
        assert!(lost <= cut / 100 + 1, "{cut}: {lost}");
    }
}

#[test]
fn a_segment_that_is_gone_is_named() {
    let disk = filled();
    let name = &log_files(&disk)[1].0;
    disk.remove(name).unwrap();
    let (mut engine, report) = Engine::open(disk, options()).unwrap();
    let [damage] = &report.damage[..] else {
        panic!("{:?}", report.damage);
    };
    assert_eq!(damage.file, *name);
    let Lost::Segment { bodies, states } = damage.lost else {
        panic!("{damage}");
    };
    assert_eq!(bodies + served(&mut engine), BODIES as usize);
    assert!(states > 0);
    assert_eq!(
        damage.to_string(),
        format!("{name} is missing: {bodies} bodies and {states} states lost")
    );
    assert_eq!(
        engine.entries(QueueId(1)).count(),
        80,
        "the entries stay and find nothing"
    );
}

/// A store of one segment with a few messages, killed before its first checkpoint, in the middle of
/// work or at rest.
fn young(at_rest: bool) -> SimDisk {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), Options::default()).unwrap();
    for id in 1..=3 {
        let mut buffer = RecordBuffer::new();
        let mut record = buffer.record();
        record.body(BodyId(id), Holds::NONE, &[&bytes_of(id)]);
        record.enqueue(QueueId(0), BodyId(id), 0, [id, 0], b"");
        drop(record);
        engine.append(&buffer);
        engine.write().unwrap();
        engine.sync().unwrap();
        engine.housekeep(1 << 16).unwrap();
    }
    if at_rest {
        engine.seal().unwrap();
        engine.housekeep(1 << 16).unwrap();
    }
    drop(engine);
    disk.crash(1);
    disk
}

#[test]
fn a_young_store_that_lost_its_only_segment_is_not_taken_for_a_new_one() {
    type Harm = fn(&SimDisk, &str);
    let name = "00000001.log";
    let damage: [(&str, Harm); 4] = [
        ("removed", |disk, name| disk.remove(name).unwrap()),
        ("cut to nothing", |disk, name| cut(disk, name, 0)),
        ("zeros", |disk, name| {
            let len = disk.contents(name).unwrap().len();
            disk.set_contents(name, &vec![0; len]);
        }),
        ("garbage", |disk, name| {
            let mut bytes = disk.contents(name).unwrap();
            bytes[..8192].fill(0xa5);
            disk.set_contents(name, &bytes);
        }),
    ];
    for (how, harm) in damage {
        for at_rest in [false, true] {
            let disk = young(at_rest);
            harm(&disk, name);
            let mut found = Vec::new();
            check(disk.clone(), |damage| found.push(damage)).unwrap();
            let (mut engine, report) = Engine::open(disk.clone(), options()).unwrap();
            for told in [&found, &report.damage] {
                let [told] = &told[..] else {
                    panic!("{how}: {told:?}");
                };
                assert_eq!(told.file, name, "{how}");
                assert_eq!(told.lost, Lost::Rest { first: 1 }, "{how}");
            }
            // It is not told for ever, and what comes now is kept.
            let mut buffer = RecordBuffer::new();
            let mut record = buffer.record();
            record.body(BodyId(7), Holds::RETAINED, &[&bytes_of(7)]);
            drop(record);
            engine.append(&buffer);
            engine.write().unwrap();
            engine.sync().unwrap();
            while engine.housekeep(1 << 20).unwrap().more {}
            drop(engine);
            disk.crash(2);
            let (mut engine, report) = Engine::open(disk, options()).unwrap();
            assert_eq!(report.damage, [], "{how}");
            assert_eq!(served(&mut engine), 1, "{how}");
        }
    }
}

#[test]
fn damage_to_the_whole_end_of_the_log_is_named_after_a_moment_of_rest() {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    engine.seal().unwrap();
    engine.housekeep(1).unwrap();
    drop(engine);
    let (name, _) = &log_files(&disk).pop().unwrap();
    let mut bytes = disk.contents(name).unwrap();
    let half = used(&disk, name) as usize / 2;
    bytes[half..].fill(0);
    disk.set_contents(name, &bytes);
    let (_, report) = Engine::open(disk.clone(), options()).unwrap();
    let [told] = &report.damage[..] else {
        panic!("{:?}", report.damage);
    };
    assert_eq!(told.file, *name);
    assert!(told.offset <= half as u64 && half as u64 - told.offset < 400);
    assert!(matches!(told.lost, Lost::Rest { .. }), "{told}");
}

#[test]
fn a_loss_of_power_while_a_store_is_made_is_no_damage() {
    // What comes first in a store's life, up to each of its calls.
    for last in 0..60 {
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            disk.inject(Fault {
                call: None,
                skip: last,
                failure: Failure::Io,
                once: false,
            });
            if let Ok((mut engine, _)) = Engine::open(disk.clone(), options()) {
                let mut buffer = RecordBuffer::new();
                let mut record = buffer.record();
                record.body(BodyId(1), Holds::RETAINED, &[&bytes_of(1)]);
                drop(record);
                engine.append(&buffer);
                let _ = engine.write().and_then(|()| engine.sync());
                let _ = engine.housekeep(1 << 16);
                engine.append(&buffer);
                let _ = engine.write();
                let _ = engine.housekeep(1 << 16);
                let _ = engine.seal();
                let _ = engine.housekeep(1 << 16);
            }
            disk.crash(seed);
            if disk.contents("STORE").is_some() {
                check(disk.clone(), |damage| panic!("{last}, {seed}: {damage}")).unwrap();
            }
            let (_, report) = Engine::open(disk, options()).unwrap();
            assert_eq!(report.damage, [], "{last}, {seed}");
        }
    }
}

#[test]
fn behind_a_missing_segment_each_damage_is_told_with_its_own_file() {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    engine.seal().unwrap();
    drop(engine);
    let files = log_files(&disk);
    let (missing, other) = (&files[1].0, &files[2].0);
    disk.remove(missing).unwrap();
    let middle = used(&disk, other) / 2;
    disk.flip(other, middle, 0);
    let mut found = Vec::new();
    check(disk.clone(), |damage| found.push(damage)).unwrap();
    let in_log = |damage: &&Damage| !damage.file.is_empty();
    let named: Vec<&Damage> = found.iter().filter(in_log).collect();
    assert_eq!(named[0].file, *missing, "{found:?}");
    assert_eq!(named[0].error.as_deref(), Some("no such file"));
    assert!(
        named[1..].iter().all(|told| told.file == *other) && named.len() > 1,
        "{found:?}"
    );
}

#[test]
fn what_a_missing_segment_held_is_not_sought_in_a_newer_one() {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    engine.checkpoint_now().unwrap();
    // One more record, which nothing says was synced: it is written anew, into a new segment.
    let mut buffer = RecordBuffer::new();
    let mut record = buffer.record();
    record.body(BodyId(BODIES + 1), Holds::RETAINED, &[&bytes_of(1)]);
    drop(record);
    engine.append(&buffer);
    engine.write().unwrap();
    engine.sync().unwrap();
    drop(engine);
    let (missing, _) = &log_files(&disk)[0];
    disk.remove(missing).unwrap();
    let (mut engine, report) = Engine::open(disk.clone(), options()).unwrap();
    let [told] = &report.damage[..] else {
        panic!("{:?}", report.damage);
    };
    assert_eq!(told.file, *missing);
    let Lost::Segment { bodies, .. } = told.lost else {
        panic!("{told}");
    };
    assert_eq!(bodies + served(&mut engine), BODIES as usize);
}

#[test]
fn arbitrary_contents_never_panic_and_what_is_served_is_right() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let disk = SimDisk::new(seed);
        let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
        fill(&mut engine);
        if seed % 2 == 0 {
            engine.checkpoint_now().unwrap();
        }
        drop(engine);
        let names = disk.list().unwrap();
        for _ in 0..1 + random.below(6) {
            let (name, _) = &names[random.below(names.len() as u64) as usize];
            mutate(&disk, name, &mut random);
        }
        let _ = check(disk.clone(), |_| {});
        if let Ok((mut engine, _)) = Engine::open(disk.clone(), options()) {
            served(&mut engine);
            engine.states(|_, _, _| {});
            engine.pending();
            while engine.housekeep(1 << 16).is_ok_and(|work| work.more) {}
        }
        if repair(disk.clone(), options(), |_| {}).is_ok() {
            let (mut engine, report) = Engine::open(disk, options()).unwrap();
            assert_eq!(report.damage, [], "seed {seed}");
            served(&mut engine);
        }
    }
}

fn mutate(disk: &SimDisk, name: &str, random: &mut Random) {
    let Some(mut bytes) = disk.contents(name) else {
        return;
    };
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len() as u64) as usize;
    let count = (1 + random.below(600) as usize).min(bytes.len() - at);
    match random.below(5) {
        0 => bytes.truncate(at),
        1 => bytes[at..at + count].fill(0),
        2 => bytes[at..at + count]
            .iter_mut()
            .for_each(|b| *b = random.next() as u8),
        3 => {
            let from = random.below((bytes.len() - count + 1) as u64) as usize;
            bytes.copy_within(from..from + count, at);
        }
        _ => bytes[at] ^= 1 << random.below(8),
    }
    disk.set_contents(name, &bytes);
}

#[test]
fn a_message_that_imitates_records_is_not_taken_for_them() {
    // Recovery looks for the next record behind a damaged one: inside its body it finds none.
    let other = SimDisk::new(1);
    let foreign = Options {
        salt: 1,
        ..options()
    };
    let (mut engine, _) = Engine::open(other.clone(), foreign).unwrap();
    fill(&mut engine);
    drop(engine);
    let imitation = other.contents(&log_files(&other)[0].0).unwrap();
    let disk = SimDisk::new(1);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    let mut buffer = RecordBuffer::new();
    buffer
        .record()
        .body(BodyId(7000), Holds::KEPT, &[&imitation[..12_000]]);
    engine.append(&buffer);
    fill(&mut engine);
    engine.seal().unwrap();
    drop(engine);
    disk.flip(&log_files(&disk)[0].0, 70, 3);
    let (mut engine, report) = Engine::open(disk, options()).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].lost, Lost::Records { first: 1, count: 1 });
    assert_eq!(served(&mut engine), BODIES as usize);
}

#[test]
fn stale_records_in_a_segment_used_again_are_not_read() {
    // Everything dies again and again; segments are used again with old records behind the new
    // ones.
    let disk = SimDisk::new(3);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    let mut generator = Generator::default();
    let mut random = Random(3);
    let mut model = Model::default();
    for round in 0..600 {
        let mut buffer = RecordBuffer::new();
        let steps = generator.steps(&mut random);
        record(&mut buffer, &steps);
        let lsn = engine.append(&buffer);
        model.apply(lsn, &steps);
        engine.write().unwrap();
        engine.sync().unwrap();
        engine.housekeep(4096).unwrap();
        if round % 50 == 0 {
            drop(engine);
            let report;
            (engine, report) = Engine::open(disk.clone(), options()).unwrap();
            assert_eq!((report.damage, report.torn), (vec![], None));
            model.compare(&mut engine);
        }
    }
}

#[test]
fn a_newer_format_is_refused_with_words() {
    let disk = SimDisk::new(3);
    drop(Engine::open(disk.clone(), options()).unwrap());
    let mut bytes = disk.contents("STORE").unwrap();
    for copy in [0, 512, 4096] {
        bytes[copy + 8] = 2;
        let crc = crc32c::crc32c(&bytes[copy..copy + 20]);
        bytes[copy + 20..copy + 24].copy_from_slice(&crc.to_le_bytes());
    }
    disk.set_contents("STORE", &bytes);
    let error = Engine::open(disk.clone(), options()).err().unwrap();
    assert!(error.to_string().contains("version 2"), "{error}");
    // A flip in one copy is no matter.
    let disk = SimDisk::new(3);
    drop(Engine::open(disk.clone(), options()).unwrap());
    disk.flip("STORE", 9, 0);
    assert!(Engine::open(disk.clone(), options()).is_ok());
    for copy in [0, 512, 4096] {
        disk.flip("STORE", copy + 9, 0);
    }
    let error = Engine::open(disk, options()).err().unwrap();
    assert!(matches!(error, OpenError::NoIdentity), "{error}");
}

#[test]
fn a_body_whose_place_is_damaged_is_named_when_read() {
    let disk = SimDisk::new(3);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    let damaged = engine.locate(BodyId(1)).unwrap();
    disk.flip(&log_files(&disk)[0].0, 64 + 40, 3);
    engine.read_bodies(&[BodyId(1)], |_, found| {
        assert!(matches!(found, Err(Missing::Damaged { offset: 64, .. })));
    });
    let whole = engine.locate(BodyId(2)).unwrap();
    let mut read = Vec::new();
    read_located(&disk, &[(&whole, 2), (&damaged, 1)], |what, found| {
        read.push((what, found.map(<[u8]>::to_vec)));
    });
    assert_eq!(read[1], (2, Ok(bytes_of(2))));
    let (what, found) = &read[0];
    assert_eq!(*what, 1);
    assert!(matches!(found, Err(Missing::Damaged { offset: 64, .. })));
}

/// A store whose body 7 waits in queues 1 and 2, all of it routed as a broker does: in records of
/// their own.
fn routed(disk: &SimDisk) -> Engine<SimDisk> {
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    let mut buffer = RecordBuffer::new();
    for id in 6..9 {
        let mut record = buffer.record();
        record.body(
            BodyId(id),
            Holds::ROUTING,
            &[b"the body ", &[b'0' + id as u8]],
        );
    }
    for (queue, id) in [(2, 7), (1, 7), (2, 8), (1, 6)] {
        let mut record = buffer.record();
        record.enqueue(QueueId(queue), BodyId(id), 0, [0, 0], b"");
    }
    for id in 6..9 {
        buffer.record().release(BodyId(id), Holds::ROUTING);
    }
    engine.append(&buffer);
    engine.seal().unwrap();
    engine
}

fn flip_in(disk: &SimDisk, text: &[u8]) -> (String, u64) {
    for (name, _) in log_files(disk) {
        let bytes = disk.contents(&name).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|found| found == text) {
            disk.flip(&name, (at + text.len() - 1) as u64, 7);
            return (name, at as u64);
        }
    }
    panic!("not there");
}

#[test]
fn one_damaged_message_is_told_once_with_the_queues_it_was_in_and_what_is_left_of_it() {
    for is_closed in [false, true] {
        let disk = SimDisk::new(5);
        let engine = routed(&disk);
        if is_closed {
            engine.close().unwrap();
        }
        let (name, at) = flip_in(&disk, b"the body 7");
        let mut found = Vec::new();
        check(disk.clone(), |damage| found.push(damage)).unwrap();
        let [damage] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(damage.file, name);
        assert!(damage.offset < at && at < damage.offset + 64);
        let lost = Lost::Body {
            id: BodyId(7),
            queues: vec![QueueId(1), QueueId(2)],
            remains: (*b"the body \xb7").into(),
        };
        assert_eq!(damage.lost, lost);
        let text = damage.to_string();
        assert!(
            text.ends_with(": body 0x7 lost, which was in queue 0x1, 0x2"),
            "{text}"
        );
        let mut repaired = Vec::new();
        repair(disk.clone(), options(), |damage| repaired.push(damage)).unwrap();
        assert_eq!(repaired, found);
        check(disk, |damage| panic!("{damage}")).unwrap();
    }
}

/// Cuts a file to this number of bytes.
fn cut(disk: &SimDisk, name: &str, len: usize) {
    let mut bytes = disk.contents(name).unwrap();
    assert!(len < bytes.len());
    bytes.truncate(len);
    disk.set_contents(name, &bytes);
}

#[test]
fn a_log_file_cut_short_is_named_and_costs_only_what_was_cut_off() {
    for is_closed in [false, true] {
        for which in [0, 1, usize::MAX] {
            for part in [0, 10, 50, 90, 100] {
                let disk = SimDisk::new(5);
                let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
                fill(&mut engine);
                engine.seal().unwrap();
                // A moment of rest comes soon after.
                engine.housekeep(1).unwrap();
                match is_closed {
                    true => engine.close().unwrap(),
                    false => drop(engine),
                }
                let files = log_files(&disk);
                let (name, len) = &files[which.min(files.len() - 1)];
                let used = used(&disk, name);
                let to = match part {
                    100 => (used + len) / 2,
                    part => used * part / 100,
                };
                cut(&disk, name, to as usize);
                assert_cut_is_named(&disk, name, to, used);
            }
        }
    }
}

fn assert_cut_is_named(disk: &SimDisk, name: &str, to: u64, used: u64) {
    let mut found = Vec::new();
    check(disk.clone(), |damage| found.push(damage)).unwrap();
    let needed = to < used;
    let told = found.iter().find(|damage| damage.file == name);
    let told = told.unwrap_or_else(|| panic!("{name} cut to {to} of {used}: {found:?}"));
    assert!(told.offset <= to, "{told}");
    let is_cut = found.iter().any(|d| d.lost == Lost::CutOff { needed });
    assert!(is_cut, "{found:?}");
    let (mut engine, report) = Engine::open(disk.clone(), options()).unwrap();
    assert!(
        report
            .damage
            .iter()
            .any(|d| d.file == name && d.offset == to),
        "{:?}",
        report.damage
    );
    let lost = BODIES - served(&mut engine) as u64;
    // A record of these has 100 bytes and more.
    assert!(lost <= used.saturating_sub(to) / 100 + 1, "{lost}");
    assert!(needed || lost == 0);
    assert!(lost > 0 || used.saturating_sub(to) < 400);
    // It is not told for ever.
    while engine.housekeep(1 << 20).unwrap().more {}
    engine.close().unwrap();
    let (_, report) = Engine::open(disk.clone(), options()).unwrap();
    assert_eq!(report.damage, []);
}

#[test]
fn a_place_that_cannot_be_read_is_named_with_the_error_and_costs_what_lies_there() {
    for is_closed in [false, true] {
        let whole = SimDisk::new(5);
        let (mut engine, _) = Engine::open(whole.clone(), options()).unwrap();
        fill(&mut engine);
        engine.seal().unwrap();
        match is_closed {
            true => engine.close().unwrap(),
            false => drop(engine),
        }
        for (name, len) in whole.list().unwrap() {
            if name == "spare.log" || name == "ballast" {
                continue;
            }
            for place in (0..len).step_by(4096) {
                let disk = whole.duplicate();
                disk.spoil(&name, place, 100);
                assert_unread_is_named(&disk, (&name, place), len);
            }
        }
    }
}

fn assert_unread_is_named(disk: &SimDisk, (name, place): (&str, u64), len: u64) {
    let mut found = Vec::new();
    check(disk.clone(), |damage| found.push(damage)).unwrap();
    let is_used = used_or(disk, name, len) > place;
    let is_named = found.iter().any(|damage| {
        let error = damage.error.as_deref().unwrap_or_default();
        damage.file == *name && error.contains("input/output error")
    });
    assert!(is_named || !is_used, "{name} {place}: {found:?}");
    let (mut engine, report) = Engine::open(disk.clone(), options()).unwrap();
    assert_eq!(report.torn, None, "what cannot be read is not torn");
    let lost = BODIES as usize - served(&mut engine);
    assert!(lost <= 4096 / 100 + 2, "{name} {place}: {lost}");
    assert!(lost == 0 || name.ends_with(".log"));
    assert!(lost == 0 || is_named);
    // It goes on, and nothing is lost that can be read.
    let mut buffer = RecordBuffer::new();
    buffer.record().body(BodyId(9000), Holds::KEPT, &[b"new"]);
    engine.append(&buffer);
    engine.write().unwrap();
    engine.sync().unwrap();
    for _ in 0..100 {
        engine.housekeep(1 << 20).unwrap();
    }
    assert_eq!(BODIES as usize - served(&mut engine), lost);
    drop(engine);
    disk.crash(1);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    assert_eq!(BODIES as usize - served(&mut engine), lost);
    assert_eq!(engine.holds(BodyId(9000)), Holds::KEPT);
}

fn used_or(disk: &SimDisk, name: &str, len: u64) -> u64 {
    match name.ends_with(".log") {
        true => used(disk, name),
        false => len,
    }
}

#[test]
fn the_end_of_the_log_that_cannot_be_read_is_not_taken_for_a_torn_one() {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    drop(engine);
    let (name, _) = log_files(&disk).pop().unwrap();
    let end = used(&disk, &name);
    // All of the last groups: nothing is left that could say whether they were synced.
    disk.spoil(&name, end - 1000, 16_384 - (end - 1000));
    let (mut engine, report) = Engine::open(disk.clone(), options()).unwrap();
    let [damage] = &report.damage[..] else {
        panic!("{:?}", report.damage);
    };
    assert_eq!((&damage.file, &damage.lost), (&name, &Lost::Unknown));
    assert!(
        damage
            .to_string()
            .contains("cannot be read (input/output error)"),
        "{damage}"
    );
    assert_eq!(report.torn, None);
    let lost = BODIES as usize - served(&mut engine);
    assert!((1..60).contains(&lost), "{lost}");
}

#[test]
fn an_opening_that_meets_an_error_reading_says_so_or_has_everything() {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    engine.checkpoint_now().unwrap();
    fill_more(&mut engine);
    drop(engine);
    for is_once in [true, false] {
        for skip in 0.. {
            let disk = disk.duplicate();
            let fault = Fault {
                call: Some(Call::Read),
                skip,
                failure: Failure::Io,
                once: is_once,
            };
            disk.inject(fault);
            let opened = Engine::open(disk.clone(), options());
            disk.lift();
            let Ok((mut engine, report)) = opened else {
                assert!(disk.calls() > 0);
                continue;
            };
            let is_whole = served(&mut engine) == BODIES as usize && engine.stats().states == 80;
            assert!(is_whole || !report.damage.is_empty(), "{skip} {report:?}");
            assert!(is_whole || !is_once, "{skip} {report:?}");
            if report.damage.is_empty() && disk.calls() < skip {
                break;
            }
        }
    }
}

/// States behind the checkpoint.
fn fill_more(engine: &mut Engine<SimDisk>) {
    for id in 1..=40 {
        let mut buffer = RecordBuffer::new();
        let key = StateKey {
            owner: id,
            kind: 1,
            number: 0,
        };
        buffer.record().state(key, &[&bytes_of(id)]);
        engine.append(&buffer);
        engine.write().unwrap();
        engine.sync().unwrap();
    }
}

#[test]
fn a_record_that_lies_where_another_one_should_is_damage() {
    let disk = SimDisk::new(5);
    routed(&disk).close().unwrap();
    let (name, _) = &log_files(&disk)[0];
    let mut bytes = disk.contents(name).unwrap();
    let at = |text: &[u8]| bytes.windows(text.len()).position(|found| found == text);
    let (sixth, seventh) = (at(b"the body 6").unwrap(), at(b"the body 7").unwrap());
    // Header and the beginning of the operation.
    let begin = sixth - 27;
    bytes.copy_within(begin..begin + (seventh - sixth), seventh - 27);
    disk.set_contents(name, &bytes);
    let mut found = Vec::new();
    check(disk.clone(), |damage| found.push(damage)).unwrap();
    let [damage] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(damage.offset as usize, seventh - 27);
    assert!(
        matches!(damage.lost, Lost::Body { id: BodyId(7), .. }),
        "{damage}"
    );
    repair(disk.clone(), options(), |_| {}).unwrap();
    check(disk, |damage| panic!("{damage}")).unwrap();
}

#[test]
fn a_message_of_which_nothing_is_left_is_still_told_once() {
    let disk = SimDisk::new(5);
    drop(routed(&disk));
    let (name, _) = &log_files(&disk)[0];
    let bytes = disk.contents(name).unwrap();
    let text = b"the body 7";
    let at = bytes
        .windows(text.len())
        .position(|found| found == text)
        .unwrap();
    // What kind of operation it is.
    disk.flip(name, at as u64 - 11, 2);
    let mut found = Vec::new();
    check(disk, |damage| found.push(damage)).unwrap();
    let [damage] = &found[..] else {
        panic!("{found:?}");
    };
    let lost = Lost::Body {
        id: BodyId(7),
        queues: vec![QueueId(1), QueueId(2)],
        remains: Box::default(),
    };
    assert_eq!((&damage.file, &damage.lost), (name, &lost));
}
