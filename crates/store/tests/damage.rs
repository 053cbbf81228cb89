//! Flipped bits, cut files, arbitrary contents: what is damaged is named, costs no more than it
//! must, and is never served.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Generator, Model, Random, record};
use martlet_store::{
    BodyId, Disk, Engine, Holds, Lost, Missing, OpenError, Options, QueueId, RecordBuffer, SimDisk,
    StateKey, check, read_located, repair,
};

fn options() -> Options {
    Options {
        segment_bytes: 16_384,
        tail_bytes: 1 << 20,
        salt: 99,
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
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    engine.close().unwrap();
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
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    engine.close().unwrap();
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

#[test]
fn without_any_checkpoint_repair_makes_the_best_of_the_segments() {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    engine.close().unwrap();
    for (name, _) in disk.list().unwrap() {
        if name.contains("checkpoint") {
            disk.flip(&name, 20, 0);
        }
    }
    let refused = Engine::open(disk.clone(), options());
    assert!(matches!(refused, Err(OpenError::Checkpoint { .. })));
    let stats = repair(disk.clone(), options(), |_| {}).unwrap();
    assert_eq!(stats.entries, BODIES as usize);
    let (mut engine, _) = Engine::open(disk, options()).unwrap();
    assert_eq!(served(&mut engine), BODIES as usize);
}

#[test]
fn a_file_that_was_cut_is_named_and_the_rest_is_served() {
    for cut in [1, 10, 100, 400, 5000] {
        let disk = SimDisk::new(5);
        let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
        fill(&mut engine);
        engine.close().unwrap();
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
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    engine.close().unwrap();
    disk.remove(&log_files(&disk)[1].0).unwrap();
    let (mut engine, report) = Engine::open(disk, options()).unwrap();
    let bodies = report
        .damage
        .iter()
        .filter(|d| matches!(d.lost, Lost::Body(_)));
    assert_eq!(bodies.count() + served(&mut engine), BODIES as usize);
    assert_eq!(
        engine.entries(QueueId(1)).count(),
        80,
        "the entries stay and find nothing"
    );
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
    disk.flip("STORE", 521, 0);
    disk.flip("STORE", 4105, 0);
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
