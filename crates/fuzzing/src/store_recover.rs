//! A store whose files were changed from outside: it opens or says why not, is checked and
//! repaired, and serves nothing but what was once stored under that name.
//!
//! What a body or a state holds follows from its name, so that whatever is read can be verified.

use martlet_store::{
    BodyId, Disk, Engine, Holds, Options, QueueId, RecordBuffer, SimDisk, StateKey, check, repair,
    stats,
};

use crate::choices::Choices;

/// Commits at most, before the files are changed.
const COMMITS_MAX: usize = 64;
/// Slices of housekeeping that a store of this size never needs.
const SLICES_MAX: usize = 5000;

/// Fills a store, changes its files, and looks at what comes of it; `data` chooses. Panics where
/// something is served that was never stored, where reading upsets the store, and where a repaired
/// one does not open clean.
pub fn store_recover(data: &[u8]) {
    let mut choices = Choices::new(data);
    let options = Options {
        segment_bytes: choices.pick(&[4096, 8192, 65_536]),
        tail_bytes: choices.pick(&[4096, 32_768, 1 << 20]),
        salt: 77,
        ..Options::default()
    };
    let disk = SimDisk::new(u64::from(choices.byte()));
    fill(&disk, &options, &mut choices);
    let mut is_readable = true;
    for _ in 0..1 + choices.below(6) {
        is_readable &= !change(&disk, &mut choices);
    }
    let _ = stats(disk.clone());
    let _ = check(disk.clone(), |damage| drop(damage.to_string()));
    if let Ok((mut engine, _)) = Engine::open(disk.clone(), options.clone()) {
        read_all(&engine);
        go_on(&mut engine);
        read_all(&engine);
        if choices.one_of(2) {
            drop(engine.close());
        }
    }
    if repair(disk.clone(), options.clone(), |damage| {
        drop(damage.to_string())
    })
    .is_ok()
    {
        let (engine, report) = Engine::open(disk.clone(), options).expect("a repaired store opens");
        assert!(
            !is_readable || report.damage.is_empty(),
            "{:?}",
            report.damage
        );
        read_all(&engine);
        drop(engine);
        let checked = check(disk, |damage| {
            assert!(!is_readable, "repaired, and yet: {damage}")
        });
        checked.expect("a repaired store can be checked");
    }
}

fn body_bytes(id: BodyId) -> Vec<u8> {
    let mixed = id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed.to_le_bytes().repeat(1 + (mixed >> 58) as usize)
}

/// Returns what state `key` holds in its version `version`, which is in it.
fn state_bytes(key: StateKey, version: u8) -> Vec<u8> {
    let mut bytes = vec![version];
    bytes.extend(key.owner.to_le_bytes());
    bytes.extend([key.kind; 3]);
    bytes.resize(12 + usize::from(version), version);
    bytes
}

fn fill(disk: &SimDisk, options: &Options, choices: &mut Choices<'_>) {
    let Ok((mut engine, _)) = Engine::open(disk.clone(), options.clone()) else {
        return;
    };
    let mut next = 1;
    for _ in 0..choices.below(COMMITS_MAX) {
        let mut records = RecordBuffer::new();
        for _ in 0..1 + choices.below(4) {
            put_record(&mut records, &mut next, choices);
        }
        engine.append(&records);
        // The disk does not fail while the store is filled.
        engine.write().expect("writes");
        match choices.below(8) {
            0 => {}
            1 => drop(engine.seal()),
            2 => drop(engine.checkpoint_now()),
            3 | 4 => {
                engine.sync().expect("syncs");
                let _ = engine.housekeep(4096);
            }
            _ => drop(engine.sync()),
        }
    }
    let end = choices.below(4);
    match end {
        0 => drop(engine.close()),
        1 => drop(engine),
        _ => {
            drop(engine);
            disk.crash(end as u64);
        }
    }
}

fn put_record(records: &mut RecordBuffer, next: &mut u64, choices: &mut Choices<'_>) {
    let mut record = records.record();
    let shard = u64::from(choices.byte() % 2) << 58;
    let back = choices.below(32) as u64;
    let old = BodyId(shard | next.saturating_sub(back).max(1));
    let queue = QueueId(1 + choices.below(3) as u64);
    let key = StateKey {
        owner: queue.0,
        kind: choices.byte() % 2,
        number: 0,
    };
    match choices.below(10) {
        0..=3 => {
            *next += 1;
            let id = BodyId(shard | *next);
            let holds = Holds::from_bits(choices.byte());
            record.body(id, holds, &[&body_bytes(id)]);
            record.enqueue(queue, id, 0, [back, 0], b"");
        }
        4 => record.enqueue(queue, old, (back % 2) as u8, [0, 0], b"extra"),
        5 => record.end(queue, old, 0),
        6 => record.release(old, Holds::from_bits(choices.byte())),
        7 => {
            let version = choices.byte();
            record.state(key, &[&state_bytes(key, version)]);
        }
        8 => match back {
            0 => record.forget(queue.0),
            1 => record.remove_state(key),
            _ => record.token(queue, back as u32, 1),
        },
        _ => record.amend(queue, old, 0, [back, 1]),
    }
}

/// Changes the files as a broken disk, or a person with an editor, might. True: some of it cannot
/// be read from now on.
fn change(disk: &SimDisk, choices: &mut Choices<'_>) -> bool {
    let Ok(mut names) = disk.list() else {
        return false;
    };
    names.sort();
    let Some((name, len)) = names.get(choices.below(names.len().max(1))) else {
        return false;
    };
    let mut bytes = disk.contents(name).unwrap_or_default();
    // Most of a file is empty: half of the places are where there is something.
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let extent = if choices.one_of(2) { bytes.len() } else { used };
    let place = |choices: &mut Choices<'_>| usize::from(choices.u16()) % extent.max(1);
    let at = place(choices).min(bytes.len());
    let count = (1 + choices.below(256)).min(bytes.len() - at);
    match choices.below(10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << choices.below(8),
        1 => bytes.truncate(at),
        2 => bytes[at..at + count].fill(choices.pick(&[0, 0xFF, 1])),
        3 => {
            let from = place(choices).min(bytes.len() - count);
            bytes.copy_within(from..from + count, at);
        }
        4 => {
            let put = choices.bytes(255);
            let end = (at + put.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&put[..end - at]);
        }
        5 => {
            let (other, _) = &names[choices.below(names.len())];
            bytes = disk.contents(other).unwrap_or_default();
        }
        6 => {
            // A file was removed, or has another name.
            let _ = match choices.one_of(2) {
                true => disk.remove(name),
                false => disk.rename(name, choices.pick(&["00000001.log", "00000009.log", "x"])),
            };
            return false;
        }
        7 => bytes.extend_from_slice(choices.bytes(255)),
        8 => bytes = choices.bytes(255).to_vec(),
        9 => return disk.spoil(name, at as u64, (count as u64).min(*len)),
        _ => {}
    }
    disk.set_contents(name, &bytes);
    false
}

/// Whatever is served is what was stored under that name.
fn read_all<D: Disk>(engine: &Engine<D>) {
    let mut ids = Vec::new();
    for queue in engine.queues() {
        ids.extend(engine.entries(queue).map(|entry| entry.body));
        let _ = engine.tokens(queue);
    }
    let right = |id: BodyId, bytes: &[u8]| {
        assert_eq!(bytes, body_bytes(id), "served, but not what was stored");
    };
    engine.read_bodies(&ids, |id, found| {
        if let Ok(bytes) = found {
            right(id, bytes);
        }
    });
    let located: Vec<_> = ids
        .iter()
        .filter_map(|id| Some((engine.locate(*id)?, *id)))
        .collect();
    let located: Vec<_> = located.iter().map(|(place, id)| (place, *id)).collect();
    martlet_store::read_located(engine.disk(), &located, |id, found| {
        if let Ok(bytes) = found {
            right(id, bytes);
        }
    });
    engine.held(Holds::from_bits(7), |id, _, found| {
        if let Ok(bytes) = found {
            right(id, bytes);
        }
    });
    let _ = engine.pending();
    engine.states(|key, _, found| {
        if let Ok(bytes) = found {
            let version = bytes.first().copied().unwrap_or_default();
            assert_eq!(
                bytes,
                state_bytes(key, version),
                "served, but not what was stored"
            );
        }
    });
}

/// The store is used further.
fn go_on<D: Disk>(engine: &mut Engine<D>) {
    let mut records = RecordBuffer::new();
    let id = BodyId(1 << 40);
    records.record().body(id, Holds::KEPT, &[&body_bytes(id)]);
    records.record().forget(2);
    engine.append(&records);
    let _ = engine.write();
    let _ = engine.sync();
    let _ = engine.seal();
    let mut slices = 0;
    while engine.housekeep(1 << 14).is_ok_and(|work| work.more) {
        slices += 1;
        assert!(
            slices < SLICES_MAX,
            "housekeeping never ends: {:?}",
            engine.stats()
        );
    }
}
