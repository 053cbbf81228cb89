//! Bits that flip on the disk while the node is down. The contents of the store are read before
//! and after: damage must be reported, never returned as data, and cost at most one record.
//!
//! A run continues with a flipped bit if nothing is lost, or only bodies of messages, which are
//! reported to the checks. Any other loss is checked here and undone.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::MessageId;
use martlet_persistence::decode_body;
use martlet_store::{BodyId, Disk, Engine, Holds, Options, Report, SimDisk, StateKey};

use crate::facts::MessageIndex;
use crate::random::Random;

/// Contents of a store.
#[derive(Debug, Default)]
struct Contents {
    bodies: BTreeMap<u64, Vec<u8>>,
    /// Queue, body and lane.
    entries: BTreeSet<(u64, u64, u8)>,
    /// Entries in order, with their notes.
    notes: Vec<(u64, u64, u8, [u64; 2])>,
    tokens: BTreeSet<(u64, u32)>,
    states: BTreeMap<StateKey, Vec<u8>>,
    /// Number of bodies and states that were reported as damaged.
    unreadable: usize,
}

/// Result of a flipped bit.
#[derive(Debug)]
pub enum Rot {
    /// The disk is unchanged: nothing flipped, or the loss was too large for a run to continue.
    Undone,
    /// The bit stays flipped, and these messages are lost.
    Stays(Vec<MessageIndex>),
}

/// Flips one bit on a disk that is not in use.
///
/// # Errors
/// As text: a broken guarantee about damage.
pub fn flip_one(disk: &SimDisk, options: &Options, random: &mut Random) -> Result<Rot, String> {
    let mut files = disk.list().map_err(|error| error.to_string())?;
    // The identity of the store is not a record.
    files.retain(|(name, bytes)| name != "STORE" && *bytes > 0);
    files.sort();
    if files.is_empty() {
        return Ok(Rot::Undone);
    }
    let (name, bytes) = &files[random.below(files.len() as u64) as usize];
    // Written data is usually at the beginning of a file.
    let within = match random.percent(70) {
        true => (*bytes).min(4096),
        false => *bytes,
    };
    let (offset, bit) = (random.below(within), random.below(8) as u8);
    let (before, sound) = contents(disk.duplicate(), options)?;
    if !sound.damage.is_empty() {
        // Damage to both copies exceeds one record.
        return Ok(Rot::Undone);
    }
    let flipped = disk.duplicate();
    flipped.flip(name, offset, bit);
    let place = format!("bit {bit} of byte {offset} of {name}");
    let (after, report) = contents(flipped, options).map_err(|why| format!("{place}: {why}"))?;
    judge(&before, &sound, &after, &report).map_err(|why| format!("{place}: {why}"))?;
    let lost: Vec<u64> = before.bodies.keys().copied().collect();
    let lost = lost.into_iter().filter(|id| !after.bodies.contains_key(id));
    let lost = lost.map(|id| number_of(id, &before.bodies[&id]));
    let only_bodies = before.notes == after.notes
        && before.tokens == after.tokens
        && before.states == after.states
        && after.bodies.len() <= before.bodies.len();
    let lost: Option<Vec<MessageIndex>> = lost.collect();
    match lost.filter(|_| only_bodies) {
        Some(lost) => {
            disk.flip(name, offset, bit);
            Ok(Rot::Stays(lost))
        }
        None => Ok(Rot::Undone),
    }
}

/// Checks that missing items were reported, and are at most one record.
fn judge(
    before: &Contents,
    sound: &Report,
    after: &Contents,
    report: &Report,
) -> Result<(), String> {
    for (id, bytes) in &after.bodies {
        if before.bodies.get(id).is_some_and(|known| known != bytes) {
            return Err(format!("message {id:x} is served with other contents"));
        }
    }
    let bodies = before.bodies.keys();
    let bodies: BTreeSet<u64> = bodies
        .filter(|id| !after.bodies.contains_key(id))
        .copied()
        .collect();
    let entries: BTreeSet<u64> = before
        .entries
        .difference(&after.entries)
        .map(|(_, body, _)| *body)
        .collect();
    let states = before.states.iter();
    let states = states.filter(|(key, bytes)| after.states.get(key) != Some(bytes));
    let states: BTreeSet<u64> = states.map(|(key, _)| key.owner).collect();
    let tokens = before.tokens.difference(&after.tokens).count();
    let is_less = !bodies.is_empty() || !entries.is_empty() || !states.is_empty() || tokens > 0;
    // A group that no header shows as synced looks like a torn one, and ends the log.
    let is_shorter = report.damage.is_empty() && report.replayed < sound.replayed;
    let is_cut = is_shorter || report.torn.is_some() && report.torn != sound.torn;
    let is_named = !report.damage.is_empty() || after.unreadable > before.unreadable;
    if is_less && !is_named && !is_cut {
        return Err(format!(
            "something is missing and not named: bodies {bodies:x?}, entries {entries:x?}, \
             owners of states {states:x?}, {tokens} tokens"
        ));
    }
    if !is_cut && (bodies.len() > 1 || entries.len() > 1 || states.len() > 1 || tokens > 1) {
        return Err(format!(
            "it costs more than a record: bodies {bodies:x?}, entries of {entries:x?}, \
             owners of states {states:x?}, {tokens} tokens; {:?}",
            report.damage
        ));
    }
    Ok(())
}

fn contents(disk: SimDisk, options: &Options) -> Result<(Contents, Report), String> {
    let opened = Engine::open(disk, options.clone());
    let (engine, report) = opened.map_err(|error| error.to_string())?;
    let mut contents = Contents::default();
    let mut ids = BTreeSet::new();
    for queue in engine.queues() {
        for entry in engine.entries(queue) {
            ids.insert(entry.body);
            let key = (queue.0, entry.body.0, entry.lane);
            contents.entries.insert(key);
            let (queue, body, lane) = key;
            contents.notes.push((queue, body, lane, entry.note));
        }
        let tokens = engine.tokens(queue).iter();
        contents
            .tokens
            .extend(tokens.map(|(token, _)| (queue.0, *token)));
    }
    let any = Holds::ROUTING.with(Holds::RETAINED).with(Holds::KEPT);
    engine.held(any, |id, _, _| {
        ids.insert(id);
    });
    let ids: Vec<BodyId> = ids.into_iter().collect();
    engine.read_bodies(&ids, |id, bytes| match bytes {
        Ok(bytes) => drop(contents.bodies.insert(id.0, bytes.to_vec())),
        Err(_) => contents.unreadable += 1,
    });
    engine.states(|key, _, bytes| match bytes {
        Ok(bytes) => drop(contents.states.insert(key, bytes.to_vec())),
        Err(_) => contents.unreadable += 1,
    });
    Ok((contents, report))
}

/// The message of the run for a body; `None` if it has no number.
fn number_of(id: u64, bytes: &[u8]) -> Option<MessageIndex> {
    let body = decode_body(MessageId(id), bytes).ok()?;
    let number = body.message.contents.payload().first_chunk().copied()?;
    Some(MessageIndex::from_be_bytes(number))
}
