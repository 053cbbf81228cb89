//! Messages of another program's queue, added to this one once.
//!
//! Responsible for which rows were imported before. A row is known by a digest of all that it has,
//! so a copy of the file, or the file after further rows were written to it, brings only what is
//! new. The caller reads the file.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{Context, SHA256};
use martlet_codec::TopicName;

use crate::agent::open_queue;
use crate::options::ImportOptions;
use crate::queue::StateKind;

/// Bytes of a digest that are kept.
const DIGEST_BYTES: usize = 16;
/// Digests in one state, and states that are kept: the last 100,000 rows are known, at least.
const DIGESTS_PER_STATE: usize = 1_000;
const STATES_MAX: usize = 100;

/// A row of a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportedRow {
    /// Its number in that queue.
    pub number: i64,
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// When it was queued, as it is written there.
    pub time: String,
}

/// Result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Added to the queue.
    pub added: u64,
    /// Imported before.
    pub known: u64,
    /// Numbers of rows whose topic no broker accepts.
    pub invalid: Vec<i64>,
    /// Dropped because the queue was full: the oldest.
    pub dropped: u64,
    /// Messages in the queue now.
    pub messages: u64,
}

/// Adds rows to the queue that the options name, in their order. Which ones were added is written
/// with them, so that an import that is killed can be repeated; after a power cut rows of the last
/// thousand may be added twice.
///
/// # Errors
/// The queue is in use or cannot be written: a line for the user.
pub fn import(options: &ImportOptions, rows: &[ImportedRow]) -> Result<Imported, String> {
    let place = options.queue.place()?;
    let mut queue = open_queue(&place)?;
    let failed = |error| {
        format!(
            "cannot write the queue {}: {error}",
            place.directory.display()
        )
    };
    let mut known = BTreeSet::new();
    let mut states: BTreeSet<u32> = BTreeSet::new();
    for (number, value) in queue.states(StateKind::Imported) {
        states.insert(number);
        known.extend(value.chunks_exact(DIGEST_BYTES).map(<[u8]>::to_vec));
    }
    let mut done = Imported::default();
    let mut next = states.last().map_or(1, |last| last + 1);
    for some in rows.chunks(DIGESTS_PER_STATE) {
        let mut digests = Vec::new();
        for row in some {
            let digest = digest(row);
            if known.contains(&digest) {
                done.known += 1;
            } else if TopicName::new(&row.topic).is_err() {
                done.invalid.push(row.number);
            } else {
                queue.push(&row.topic, &row.payload, None);
                digests.extend_from_slice(&digest);
                known.insert(digest);
                done.added += 1;
            }
        }
        if !digests.is_empty() {
            queue.set_state(StateKind::Imported, next, &digests);
            states.insert(next);
            next += 1;
            if states.len() > STATES_MAX
                && let Some(oldest) = states.pop_first()
            {
                queue.remove_state(StateKind::Imported, oldest);
            }
        }
        queue.commit().map_err(failed)?;
    }
    done.dropped = queue.counts().dropped;
    done.messages = queue.messages();
    queue.close().map_err(failed)?;
    Ok(done)
}

fn digest(row: &ImportedRow) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    context.update(&row.number.to_le_bytes());
    for field in [row.topic.as_bytes(), row.time.as_bytes(), &row.payload] {
        context.update(&(field.len() as u64).to_le_bytes());
        context.update(field);
    }
    context.finish().as_ref()[..DIGEST_BYTES].to_vec()
}
