//! Imports messages of another program's queue, each once.
//!
//! Responsible for which rows were imported before. A row is identified by a digest of all its
//! fields. So importing a copy of the file, or the file with additional rows, adds only new rows.
//! The caller reads the file.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{Context, SHA256};
use martlet_codec::TopicName;

use crate::agent::open_queue;
use crate::options::ImportOptions;
use crate::queue::StateKind;

/// Number of bytes of a digest that are stored.
const DIGEST_BYTES: usize = 16;
/// Digests per state, and number of states kept: at least the last 100,000 rows are recognized.
const DIGESTS_PER_STATE: usize = 1_000;
const STATES_MAX: usize = 100;

/// A row of a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportedRow {
    /// Number in that queue.
    pub number: i64,
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// When it was queued, in the format of that queue.
    pub time: String,
}

/// Result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Added to the queue.
    pub added: u64,
    /// Number of rows that were imported before.
    pub known: u64,
    /// Numbers of rows with a topic that no broker accepts.
    pub invalid: Vec<i64>,
    /// Number of oldest messages dropped because the queue was full.
    pub dropped: u64,
    /// Number of messages in the queue now.
    pub messages: u64,
}

/// Adds rows in their order to the queue of the options. Their digests are stored with them, so
/// that an interrupted import can be repeated. After a power failure, the last thousand rows may be
/// added twice.
///
/// # Errors
/// The queue is in use or cannot be written. The text is a line for the user.
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
