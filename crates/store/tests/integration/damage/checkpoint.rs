//! Contents of a damaged checkpoint are recovered from the segments.

use martlet_store::{
    BodyId, Damage, Disk, Engine, Holds, Lost, Missing, QueueId, RecordBuffer, SimDisk, check,
    repair,
};

use super::stores::{
    BODIES, bytes_of, fill, filled, log_files, options, place_of, reclaimed, served,
};

/// Flips a bit of the checkpoint's block of bodies, in both copies.
fn lose_block_of_bodies(disk: &SimDisk) {
    for (name, _) in disk.list().unwrap() {
        if name.contains("checkpoint") {
            // The block after the first one, whose length is in its header.
            let bytes = disk.contents(&name).unwrap();
            let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
            let second = (16 + u64::from(length)).next_multiple_of(8);
            disk.flip(&name, second + 20, 0);
        }
    }
}

/// The bodies that are retained and readable.
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
        // While the log is complete, no released body comes back.
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

/// Checks that everything of [`reclaimed`] exists: states, retained bodies, and each entry, in its
/// queue or because its body must be routed again.
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
    // Without the first block, the checkpoint is unusable.
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

/// Offsets of the blocks of a checkpoint.
fn blocks(bytes: &[u8]) -> Vec<u64> {
    let (mut blocks, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        blocks.push(at as u64);
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        at += (16 + length as usize).next_multiple_of(8);
    }
    blocks
}

/// Bits flip in the checkpoint's blocks of bodies and of queues, in both copies, and in the record
/// that added one entry: only the count shows that the queue had one more entry.
#[test]
fn a_queue_that_has_fewer_entries_than_were_counted_says_so() {
    for is_ended in [false, true] {
        let disk = filled();
        if is_ended {
            // Records after the checkpoint show that the entry has ended.
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
