//! Contents that the store did not write in this form: arbitrary ones, old ones, and imitated
//! records.

use martlet_store::{
    BodyId, Disk, Engine, Holds, Lost, OpenError, Options, RecordBuffer, SimDisk, check, repair,
};

use super::flips::routed;
use super::stores::{BODIES, fill, log_files, options, served};
use crate::common::{Generator, Model, Random, record};

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
    // After a damaged record, recovery searches for the next record: it finds none inside the
    // body.
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
    // Everything dies repeatedly; segments are reused with old records after the new ones.
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
    // A flip in one copy does not matter.
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
fn a_record_that_lies_where_another_one_should_is_damage() {
    let disk = SimDisk::new(5);
    routed(&disk).close().unwrap();
    let (name, _) = &log_files(&disk)[0];
    let mut bytes = disk.contents(name).unwrap();
    let at = |text: &[u8]| bytes.windows(text.len()).position(|found| found == text);
    let (sixth, seventh) = (at(b"the body 6").unwrap(), at(b"the body 7").unwrap());
    // The header and the beginning of the operation.
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
