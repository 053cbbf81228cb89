//! A directory with changes from outside: files of another store, missing files, invalid files.
//! Existing data is used or rejected with the reason, and never treated as nothing.

use martlet_store::{
    BodyId, Damage, Disk, Engine, Holds, Lost, OpenError, Options, QueueId, RealDisk, RecordBuffer,
    SimDisk, check, files_at_rest, repair,
};

const BODIES: u64 = 100;

fn options(salt: u64) -> Options {
    Options {
        segment_bytes: 65_536,
        tail_bytes: 1 << 20,
        salt,
        ..Options::default()
    }
}

fn bytes_of(id: u64) -> Vec<u8> {
    vec![id as u8; 200 + (id % 90) as usize]
}

fn commit(engine: &mut Engine<SimDisk>, build: impl FnOnce(&mut RecordBuffer)) {
    let mut buffer = RecordBuffer::new();
    build(&mut buffer);
    engine.append(&buffer);
    engine.write().unwrap();
    engine.sync().unwrap();
}

/// Stores these bodies, each in its own group.
fn put(engine: &mut Engine<SimDisk>, ids: impl Iterator<Item = u64>) {
    for id in ids {
        commit(engine, |buffer| {
            let mut record = buffer.record();
            record.body(BodyId(id), Holds::NONE, &[&bytes_of(id)]);
            record.enqueue(QueueId(id % 3), BodyId(id), 0, [id, 0], b"");
        });
    }
}

fn house(engine: &mut Engine<SimDisk>) {
    while engine.housekeep(1 << 20).unwrap().more {}
}

/// State in which a store was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Before there was a mark.
    Newborn,
    /// Before there was a checkpoint.
    Young,
    /// During work after a checkpoint.
    Killed,
    Closed,
}

const LEFT: [Left; 4] = [Left::Newborn, Left::Young, Left::Killed, Left::Closed];

/// A store of [`BODIES`] bodies in several segments, all of which still exist.
fn store(salt: u64, left: Left) -> SimDisk {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options(salt)).unwrap();
    put(&mut engine, 1..=BODIES / 2);
    if left != Left::Newborn {
        house(&mut engine);
    }
    if left == Left::Killed {
        engine.checkpoint_now().unwrap();
    }
    put(&mut engine, BODIES / 2 + 1..=BODIES);
    match left {
        Left::Newborn => drop(engine),
        Left::Young | Left::Killed => {
            engine.housekeep(1).unwrap();
        }
        Left::Closed => engine.close().unwrap(),
    }
    disk
}

fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list().unwrap().into_iter();
    let files = names.map(|(name, _)| (name.clone(), disk.contents(&name).unwrap()));
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

/// The names of checkpoints.
fn checkpoints(disk: &SimDisk) -> Vec<String> {
    let names = disk.list().unwrap().into_iter().map(|(name, _)| name);
    let mut names: Vec<String> = names.filter(|n| n.ends_with(".checkpoint")).collect();
    names.sort();
    names
}

/// The logs, oldest first.
fn logs(disk: &SimDisk) -> Vec<String> {
    let names = disk.list().unwrap().into_iter().map(|(name, _)| name);
    let is_log = |name: &String| name.ends_with(".log") && name != "spare.log";
    let mut names: Vec<String> = names.filter(is_log).collect();
    names.sort();
    names
}

fn assert_serves_all(engine: &Engine<SimDisk>, what: &str) {
    let ids: Vec<BodyId> = (1..=BODIES).map(BodyId).collect();
    let mut count = 0;
    engine.read_bodies(&ids, |id, found| {
        assert_eq!(found.unwrap(), bytes_of(id.0), "{what}");
        count += 1;
    });
    assert_eq!(count, BODIES, "{what}");
    let entries: usize = engine
        .queues()
        .into_iter()
        .map(|queue| engine.entries(queue).count())
        .sum();
    assert_eq!(entries, BODIES as usize, "{what}");
}

fn checked(disk: &SimDisk) -> Vec<Damage> {
    let mut found = Vec::new();
    check(disk.clone(), |damage| found.push(damage)).unwrap();
    found
}

#[test]
fn with_the_store_file_of_another_one_nothing_is_opened_and_nothing_removed() {
    for left in LEFT {
        for with_mark in [false, true] {
            let disk = store(99, left);
            let own = disk.contents("STORE").unwrap();
            let other = store(7, Left::Closed);
            disk.set_contents("STORE", &other.contents("STORE").unwrap());
            if with_mark {
                disk.set_contents("MARK", &other.contents("MARK").unwrap());
            }
            let before = files(&disk);
            let refusals = [
                Engine::open(disk.clone(), options(7)).err(),
                check(disk.clone(), |_| {}).err(),
                repair(disk.clone(), options(7), |_| {}).err(),
            ];
            for refused in refusals {
                let refused = refused.expect("nothing here is of that store");
                assert!(
                    matches!(refused, OpenError::Foreign { .. }),
                    "{left:?}: {refused}"
                );
            }
            assert!(files(&disk) == before, "{left:?}: files were changed");
            disk.set_contents("STORE", &own);
            let (engine, report) = Engine::open(disk, options(7)).unwrap();
            let is_mark = |damage: &Damage| with_mark && damage.file == "MARK";
            assert!(report.damage.iter().all(is_mark), "{:?}", report.damage);
            assert_serves_all(&engine, "with its own file again");
        }
    }
}

#[test]
fn a_mark_of_another_store_where_nothing_else_is_left_is_refused() {
    let disk = store(99, Left::Young);
    logs(&disk)
        .iter()
        .for_each(|name| disk.remove(name).unwrap());
    let other = store(7, Left::Closed);
    disk.set_contents("STORE", &other.contents("STORE").unwrap());
    let refused = Engine::open(disk, options(7)).err();
    let Some(OpenError::Foreign { file }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(file, "MARK");
}

#[test]
fn segments_of_another_store_are_told_and_set_aside() {
    let other = store(7, Left::Closed);
    let foreign = logs(&other);
    for left in [Left::Young, Left::Killed, Left::Closed] {
        let disk = store(99, left);
        disk.set_contents("00000077.log", &other.contents(&foreign[0]).unwrap());
        let found = checked(&disk);
        let [told] = &found[..] else {
            panic!("{left:?}: {found:?}");
        };
        assert_eq!(
            (told.file.as_str(), &told.lost),
            ("00000077.log", &Lost::Foreign)
        );
        let (engine, report) = Engine::open(disk.clone(), options(99)).unwrap();
        assert_eq!(report.damage, found);
        assert_serves_all(&engine, &format!("{left:?}"));
        drop(engine);
        let aside = disk.contents("00000077.log.damaged");
        assert!(aside == other.contents(&foreign[0]), "{left:?}");
        assert_eq!(checked(&disk), [], "{left:?}");
    }
    // All files of another store copied over a store that has more segments.
    let disk = store(99, Left::Young);
    let last = logs(&disk).pop().unwrap();
    let own = disk.contents(&last).unwrap();
    disk.set_contents("00000078.log", &own);
    for (name, contents) in files(&other) {
        disk.set_contents(&name, &contents);
    }
    let (engine, report) = Engine::open(disk.clone(), options(7)).unwrap();
    let told: Vec<&str> = report
        .damage
        .iter()
        .map(|damage| damage.file.as_str())
        .collect();
    assert_eq!(told, ["00000078.log"]);
    assert_serves_all(&engine, "the other one's");
    assert!(disk.contents("00000078.log.damaged") == Some(own));
}

#[test]
fn a_mark_alone_says_that_there_was_a_store() {
    let disk = store(99, Left::Closed);
    for (name, _) in files(&disk) {
        if name != "MARK" {
            disk.remove(&name).unwrap();
        }
    }
    let before = files(&disk);
    let refusals = [
        Engine::open(disk.clone(), options(1)).err(),
        check(disk.clone(), |_| {}).err(),
        repair(disk.clone(), options(1), |_| {}).err(),
    ];
    for refused in refusals {
        let refused = refused.expect("a store was here");
        assert!(matches!(refused, OpenError::Gone { .. }), "{refused}");
        assert!(refused.to_string().contains("remove MARK"), "{refused}");
    }
    assert!(files(&disk) == before, "nothing is made");
    disk.remove("MARK").unwrap();
    let (_, report) = Engine::open(disk, options(1)).unwrap();
    assert_eq!(report.damage, []);
}

/// Checks that a store with this unusable checkpoint opens with all its data, reports it once, and
/// has set the file aside.
fn assert_does_without(disk: &SimDisk, bad: &[String], what: &str) {
    let known = disk.contents("MARK").is_some();
    let is_told = |found: &[Damage]| {
        let names: Vec<&String> = found.iter().map(|damage| &damage.file).collect();
        assert_eq!(names, bad.iter().collect::<Vec<_>>(), "{what}: {found:?}");
        let is_nothing = |damage: &Damage| damage.lost == Lost::Checkpoint { known };
        assert!(found.iter().all(is_nothing), "{what}: {found:?}");
    };
    is_told(&checked(disk));
    let (engine, report) = Engine::open(disk.clone(), options(99)).unwrap();
    is_told(&report.damage);
    assert_serves_all(&engine, what);
    engine.close().unwrap();
    for name in bad {
        assert!(
            disk.contents(&format!("{name}.damaged")).is_some(),
            "{what}"
        );
    }
    assert_eq!(checked(disk), [], "{what}");
    let (engine, _) = Engine::open(disk.clone(), options(99)).unwrap();
    assert_serves_all(&engine, what);
}

#[test]
fn a_newer_checkpoint_that_is_none_is_told_and_the_whole_one_used() {
    let bad = "00000099.a.checkpoint".to_owned();
    for left in LEFT {
        for contents in [&b"garbage"[..], &[0; 100], b"", &[0xa5; 5000]] {
            let disk = store(99, left);
            disk.set_contents(&bad, contents);
            assert_does_without(&disk, std::slice::from_ref(&bad), &format!("{left:?}"));
        }
        // A complete one under another name.
        let disk = store(99, left);
        if let Some(whole) = checkpoints(&disk).first() {
            disk.set_contents(&bad, &disk.contents(whole).unwrap());
            assert_does_without(
                &disk,
                std::slice::from_ref(&bad),
                &format!("{left:?}, copied"),
            );
        }
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_not_needed_while_the_log_has_all() {
    for left in [Left::Killed, Left::Closed] {
        let disk = store(99, left);
        let bad = checkpoints(&disk);
        for name in &bad {
            disk.flip(name, 20, 0);
        }
        assert_does_without(&disk, &bad, &format!("{left:?}"));
        // The whole log, except its last segment.
        let disk = store(99, left);
        checkpoints(&disk).iter().for_each(|name| {
            disk.flip(name, 20, 0);
        });
        disk.remove(logs(&disk).last().unwrap()).unwrap();
        let refused = Engine::open(disk, options(99))
            .err()
            .expect("the end is gone");
        assert!(matches!(refused, OpenError::Checkpoint { .. }), "{refused}");
    }
}

#[test]
fn a_missing_copy_of_the_checkpoint_is_made_good_by_the_next_one() {
    for missing in [0, 1] {
        let disk = store(99, Left::Closed);
        disk.remove(&checkpoints(&disk)[missing]).unwrap();
        let (mut engine, report) = Engine::open(disk.clone(), options(99)).unwrap();
        assert_eq!(report.damage, []);
        assert_serves_all(&engine, "one copy");
        house(&mut engine);
        assert_eq!(checkpoints(&disk).len(), 2);
    }
    let disk = store(99, Left::Closed);
    let whole = checkpoints(&disk);
    let (mut engine, _) = Engine::open(disk.clone(), options(99)).unwrap();
    house(&mut engine);
    assert_eq!(checkpoints(&disk), whole, "there is no need of another one");
}

#[test]
fn an_older_checkpoint_is_used_only_while_its_segments_are_there() {
    for is_reclaimed in [false, true] {
        let disk = SimDisk::new(5);
        let (mut engine, _) = Engine::open(disk.clone(), options(99)).unwrap();
        put(&mut engine, 1_001..=1_100);
        put(&mut engine, 1..=BODIES / 2);
        engine.checkpoint_now().unwrap();
        let older: Vec<(String, Vec<u8>)> = checkpoints(&disk)
            .into_iter()
            .map(|name| (name.clone(), disk.contents(&name).unwrap()))
            .collect();
        put(&mut engine, BODIES / 2 + 1..=BODIES);
        commit(&mut engine, |buffer| {
            for id in 1_001..=1_100 {
                buffer.record().end(QueueId(id % 3), BodyId(id), 0);
            }
        });
        if is_reclaimed {
            engine.seal().unwrap();
            house(&mut engine);
            engine.close().unwrap();
        } else {
            engine.checkpoint_now().unwrap();
            drop(engine);
        }
        let newest = checkpoints(&disk);
        assert!(!older.iter().any(|(name, _)| newest.contains(name)));
        for (name, contents) in &older {
            disk.set_contents(name, contents);
        }
        for name in &newest {
            disk.flip(name, 20, 0);
        }
        if !is_reclaimed {
            assert_does_without(&disk, &newest, "with an older one");
            continue;
        }
        let refused = Engine::open(disk.clone(), options(99)).err();
        let refused = refused.expect("what the older one needs is gone");
        let OpenError::Checkpoint { file } = &refused else {
            panic!("{refused}");
        };
        assert_eq!(*file, newest[0]);
        repair(disk.clone(), options(99), |_| {}).unwrap();
        for (name, contents) in &older {
            // The old contents are outdated.
            let aside = disk.contents(&format!("{name}.damaged"));
            assert!(aside.as_ref() == Some(contents));
        }
        let (_, report) = Engine::open(disk, options(99)).unwrap();
        assert_eq!(report.damage, []);
    }
}

#[test]
fn copies_of_the_store_file_that_do_not_check_are_told_and_written_anew() {
    let disk = store(99, Left::Closed);
    let whole = disk.contents("STORE").unwrap();
    disk.flip("STORE", 9, 0);
    disk.flip("STORE", 4100, 3);
    let found = checked(&disk);
    let places: Vec<(&str, u64)> = found.iter().map(|d| (d.file.as_str(), d.offset)).collect();
    assert_eq!(places, [("STORE", 0), ("STORE", 4096)]);
    assert!(found.iter().all(|damage| damage.lost == Lost::Nothing));
    let (_, report) = Engine::open(disk.clone(), options(99)).unwrap();
    assert_eq!(report.damage, found);
    assert_eq!(disk.contents("STORE").unwrap(), whole);
    assert_eq!(checked(&disk), []);
}

#[test]
fn a_mark_that_does_not_check_is_told_and_set_again() {
    for left in [Left::Young, Left::Killed, Left::Closed] {
        for contents in [&b"garbage"[..], &[0; 28], &[0xa5; 5000]] {
            for is_repaired in [false, true] {
                let disk = store(99, left);
                disk.set_contents("MARK", contents);
                let found = checked(&disk);
                let [told] = &found[..] else {
                    panic!("{left:?}: {found:?}");
                };
                assert_eq!((told.file.as_str(), &told.lost), ("MARK", &Lost::Nothing));
                if is_repaired {
                    repair(disk.clone(), options(99), |_| {}).unwrap();
                } else {
                    drop(Engine::open(disk.clone(), options(99)).unwrap());
                }
                assert_eq!(checked(&disk), [], "{left:?}");
                // It does what it is there for.
                logs(&disk)
                    .iter()
                    .for_each(|name| disk.remove(name).unwrap());
                assert_ne!(checked(&disk), [], "{left:?}");
            }
        }
    }
}

#[test]
fn a_mark_of_what_is_lost_is_told_until_a_checkpoint_and_not_after() {
    let disk = store(99, Left::Young);
    let last = logs(&disk).pop().unwrap();
    disk.remove(&last).unwrap();
    // No header shows that the last record before was synced: it is written again, and later
    // records have the numbers after it, which the mark is far ahead of.
    assert_ne!(checked(&disk), []);
    repair(disk.clone(), options(99), |_| {}).unwrap();
    assert_eq!(checked(&disk), []);
    let (mut engine, report) = Engine::open(disk.clone(), options(99)).unwrap();
    assert_eq!(report.damage, []);
    put(&mut engine, 1_001..=1_003);
    engine.housekeep(1).unwrap();
    drop(engine);
    assert_eq!(checked(&disk), []);
}

#[test]
fn a_crash_while_the_mark_is_set_leaves_the_one_before() {
    let disk = store(99, Left::Young);
    let (mut engine, _) = Engine::open(disk.clone(), options(99)).unwrap();
    for id in 1_001..1_010 {
        put(&mut engine, id..=id);
        let before = disk.contents("MARK").unwrap();
        engine.seal().unwrap();
        engine.housekeep(1 << 16).unwrap();
        let after = disk.contents("MARK").unwrap();
        assert_ne!(before, after);
        // The last write reached the disk partially, at either place.
        let mut torn = after.clone();
        for (at, byte) in torn.iter_mut().enumerate() {
            if before.get(at) != Some(&after[at]) && at % 2 == 0 {
                *byte = before.get(at).copied().unwrap_or_default();
            }
        }
        let crashed = disk.duplicate();
        crashed.set_contents("MARK", &torn);
        assert_eq!(checked(&crashed), []);
        let gone = logs(&crashed).into_iter().chain(checkpoints(&crashed));
        gone.for_each(|name| crashed.remove(&name).unwrap());
        let (_, report) = Engine::open(crashed, options(99)).unwrap();
        let is_rest = |damage: &Damage| matches!(damage.lost, Lost::Rest { .. });
        assert!(
            report.damage.iter().any(is_rest),
            "the mark before still says so"
        );
    }
}

#[test]
fn copies_of_the_files_at_rest_open_as_the_store_and_nothing_is_changed() {
    for left in LEFT {
        for is_torn in [false, true] {
            let disk = store(99, left);
            if is_torn {
                // Written, but never synced.
                let (mut engine, _) = Engine::open(disk.clone(), options(99)).unwrap();
                let mut buffer = RecordBuffer::new();
                let mut record = buffer.record();
                record.body(BodyId(777), Holds::RETAINED, &[&bytes_of(777)]);
                drop(record);
                engine.append(&buffer);
                engine.write().unwrap();
            }
            let before = files(&disk);
            let copy = SimDisk::new(1);
            for (name, bytes) in files_at_rest(disk.clone()).unwrap() {
                let contents = disk.contents(&name).unwrap();
                copy.set_contents(&name, &contents[..bytes as usize]);
            }
            assert!(files(&disk) == before, "{left:?}: files were changed");
            assert_eq!(checked(&copy), [], "{left:?}");
            let (engine, report) = Engine::open(copy, options(1)).unwrap();
            assert_eq!(report.damage, [], "{left:?}");
            assert_serves_all(&engine, &format!("{left:?}"));
            assert_eq!(
                engine.stats().bodies,
                BODIES as usize + usize::from(is_torn)
            );
        }
    }
}

#[test]
fn a_directory_where_the_next_segment_should_be_made_is_named_and_can_be_moved_away() {
    let name = format!("martlet-store-meddled-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let (mut engine, _) = Engine::open(RealDisk::open(&path).unwrap(), options(99)).unwrap();
    let in_the_way = path.join("spare.log");
    std::fs::create_dir(&in_the_way).unwrap();
    let mut buffer = RecordBuffer::new();
    buffer
        .record()
        .body(BodyId(1), Holds::RETAINED, &[&bytes_of(1)]);
    engine.append(&buffer);
    engine.write().unwrap();
    engine.sync().unwrap();
    engine.housekeep(1).unwrap();
    assert!(engine.is_low());
    let why = engine.why_low().unwrap();
    assert!(!why.is_full());
    let why = why.to_string();
    assert!(why.starts_with("creating spare.log: "), "{why}");
    assert!(why.ends_with("move the directory away"), "{why}");
    std::fs::remove_dir(&in_the_way).unwrap();
    // A file for the next segment, then the ballast.
    engine.housekeep(1).unwrap();
    engine.housekeep(1).unwrap();
    assert!(!engine.is_low());
    drop(engine);
    std::fs::remove_dir_all(&path).unwrap();
}
