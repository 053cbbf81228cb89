//! Flipped bits: each is reported, and costs at most one record.

use martlet_store::{
    BodyId, Disk, Engine, Holds, Lost, Missing, QueueId, RecordBuffer, SimDisk, check,
    read_located, repair,
};

use super::stores::{BODIES, bytes_of, fill, filled, flip_somewhere, log_files, options, served};
use crate::common::Random;

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
        // The next checkpoint is intact again.
        while engine.housekeep(1 << 20).unwrap().more {}
        drop(engine);
        let (_, report) = Engine::open(disk, options()).unwrap();
        assert_eq!(report.damage, []);
    }
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

/// A store whose body 7 is in queues 1 and 2, routed as by a broker: in separate records.
pub(crate) fn routed(disk: &SimDisk) -> Engine<SimDisk> {
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
    // The kind of the operation.
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
