//! Files that were truncated or removed.

use martlet_store::{
    BodyId, Damage, Disk, Engine, Failure, Fault, Holds, Lost, Options, QueueId, RecordBuffer,
    SimDisk, check,
};

use super::stores::{BODIES, bytes_of, cut, fill, filled, log_files, options, served, used};

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

/// A store of one segment with a few messages, killed before its first checkpoint, during work or
/// when idle.
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
            // It is reported only once, and new data is kept.
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
    // The first calls in a store's life: crashes at each of them.
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
    // One more record that no header shows as synced: it is written again, into a new segment.
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
fn a_log_file_cut_short_is_named_and_costs_only_what_was_cut_off() {
    for is_closed in [false, true] {
        for which in [0, 1, usize::MAX] {
            for part in [0, 10, 50, 90, 100] {
                let disk = SimDisk::new(5);
                let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
                fill(&mut engine);
                engine.seal().unwrap();
                // The store becomes idle soon after.
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
    // Such a record has at least 100 bytes.
    assert!(lost <= used.saturating_sub(to) / 100 + 1, "{lost}");
    assert!(needed || lost == 0);
    assert!(lost > 0 || used.saturating_sub(to) < 400);
    // It is reported only once.
    while engine.housekeep(1 << 20).unwrap().more {}
    engine.close().unwrap();
    let (_, report) = Engine::open(disk.clone(), options()).unwrap();
    assert_eq!(report.damage, []);
}
