//! Creates stores and modifies their files.

use martlet_store::{
    BodyId, Disk, Engine, Holds, Options, QueueId, RecordBuffer, SimDisk, StateKey,
};

use crate::common::Random;

pub(crate) fn options() -> Options {
    Options {
        segment_bytes: 65_536,
        tail_bytes: 1 << 20,
        salt: 99,
        ..Options::default()
    }
}

pub(crate) const BODIES: u64 = 400;

pub(crate) fn bytes_of(id: u64) -> Vec<u8> {
    vec![id as u8; 60 + (id % 90) as usize]
}

/// Bodies 1 to 400 in five queues, one group each, and some states.
pub(crate) fn fill(engine: &mut Engine<SimDisk>) {
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

/// How many bodies can be read, all with the right bytes.
pub(crate) fn served(engine: &mut Engine<SimDisk>) -> usize {
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

/// Files with live data: name, length.
pub(crate) fn log_files(disk: &SimDisk) -> Vec<(String, u64)> {
    let mut files = disk.list().unwrap();
    files.retain(|(name, _)| name.ends_with(".log") && name != "spare.log");
    files
}

/// Offset of the last byte that is not zero.
pub(crate) fn used(disk: &SimDisk, name: &str) -> u64 {
    let bytes = disk.contents(name).unwrap();
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at as u64 + 1)
}

pub(crate) fn flip_somewhere(disk: &SimDisk, random: &mut Random) -> (String, u64) {
    let files = log_files(disk);
    let (name, _) = &files[random.below(files.len() as u64) as usize];
    // The last group is an empty seal.
    let end = used(disk, name) - 64;
    let offset = random.below(end);
    assert!(disk.flip(name, offset, random.below(8) as u8));
    (name.clone(), offset)
}

/// A disk with a store that was filled and closed.
pub(crate) fn filled() -> SimDisk {
    let disk = SimDisk::new(5);
    let (mut engine, _) = Engine::open(disk.clone(), options()).unwrap();
    fill(&mut engine);
    engine.close().unwrap();
    disk
}

/// A closed store whose oldest segments were freed after their live data was copied. Every third
/// body is also in queue 9, by a separate record; every 20th is retained; one state in five is
/// still live.
pub(crate) fn reclaimed() -> SimDisk {
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

/// File and offset at which the bytes of a body begin in the log.
pub(crate) fn place_of(disk: &SimDisk, id: u64) -> (String, u64) {
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

/// Cuts a file to this number of bytes.
pub(crate) fn cut(disk: &SimDisk, name: &str, len: usize) {
    let mut bytes = disk.contents(name).unwrap();
    assert!(len < bytes.len());
    bytes.truncate(len);
    disk.set_contents(name, &bytes);
}

pub(crate) fn used_or(disk: &SimDisk, name: &str, len: u64) -> u64 {
    match name.ends_with(".log") {
        true => used(disk, name),
        false => len,
    }
}

/// States after the checkpoint.
pub(crate) fn fill_more(engine: &mut Engine<SimDisk>) {
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
