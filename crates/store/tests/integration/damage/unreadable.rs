//! Places that the disk cannot read.

use martlet_store::{
    BodyId, Call, Disk, Engine, Failure, Fault, Holds, Lost, RecordBuffer, SimDisk, check,
};

use super::stores::{BODIES, fill, fill_more, log_files, options, served, used, used_or};

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
                assert_unread_is_named(&disk, &name, place, len);
            }
        }
    }
}

fn assert_unread_is_named(disk: &SimDisk, name: &str, place: u64, len: u64) {
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
    // The store continues, and no readable data is lost.
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

#[test]
fn the_end_of_the_log_that_cannot_be_read_is_not_taken_for_a_torn_one() {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    drop(engine);
    let (name, _) = log_files(&disk).pop().unwrap();
    let end = used(&disk, &name);
    // All of the last groups: no header is left to show whether they were synced.
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
