//! Failing calls, and power losses.

use martlet_store::{
    BodyId, Call, Disk, Engine, Failure, Fault, Lost, RecordBuffer, SimDisk, check,
};

use super::space::assert_bound;
use super::stores::{commit, count_served, open, options, publish, refuse_syncs, settle};
use crate::common::{Generator, Model, Random, record};

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
        // The same place and the same numbers, if none of the unsynced data is left.
        commit(&mut engine, |buffer| publish(buffer, 9, 700));
        drop(engine);
        let (engine, report) = Engine::open(disk.clone(), options()).unwrap();
        assert_eq!(engine.stats().bodies, known + 1, "seed {seed}");
        assert_eq!((report.torn, report.damage), (None, vec![]), "seed {seed}");
    }
}

/// The name of a new segment may reach the disk before its length.
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
        // Unsynced data fills one more segment, or several.
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
        // The second attempt succeeds, whatever the first one hit.
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
        // The random records have entries of bodies that never existed.
        let is_nowhere = matches!(damage.lost, Lost::Body { .. }) && damage.file.is_empty();
        assert!(is_nowhere, "site {site}: {damage}");
    })
    .unwrap();
    reached
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
        // In some runs the power fails in the meantime.
        let rounds = if seed % 2 == 0 { 1000 } else { 1 + seed * 7 };
        for round in 0..rounds {
            if round % 40 == 0 {
                last += 1;
                let mut buffer = RecordBuffer::new();
                publish(&mut buffer, last, 300);
                engine.append(&buffer);
            }
            // A spare file may not get its name.
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
        // It may open without being able to record anything, or fail to open.
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
