//! The durable queue: messages in order, on disk, within limits.
//!
//! Responsible for durability: a committed message is kept until [`Queue::end`], or until the queue
//! is full and the message is the oldest. The read position of a file is written in the same record
//! as the line, so no crash separates them. It has no network, clock or thread. It writes through a
//! [`Disk`], so that tests can simulate power failures.

use std::collections::BTreeMap;

use martlet_store::{
    BodyId, Disk, Engine, Holds, OpenError, Options, QueueId, RecordBuffer, Report, StateKey,
    StoreError,
};

use crate::message::{IN_FLIGHT_MAX, Queued, head, read};

/// The only queue of the store.
const QUEUE: QueueId = QueueId(1);
/// Owner of all states.
const OWNER: u64 = 1;
/// Largest segment of the store in bytes: a device has less space than a server.
const SEGMENT_BYTES: u64 = 2 << 20;
/// Most bytes that have to be read again when opening.
const TAIL_BYTES: u64 = 4 << 20;
/// Bytes per slice of housekeeping.
const SLICE_BYTES: usize = 64 * 1024;

/// Kind of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StateKind {
    /// The generated Client Identifier of this queue.
    ClientId = 1,
    /// A file of the folder and its read position.
    File = 2,
    /// Rows imported from other queues.
    Imported = 3,
}

/// Limits of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Messages.
    pub(crate) messages: u64,
    /// Bytes of topics and payloads.
    pub(crate) bytes: u64,
}

/// Counters of messages since the queue was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Written to the queue and synced.
    pub(crate) taken: u64,
    /// Acknowledged by a PUBACK.
    pub(crate) acknowledged: u64,
    /// Dropped because the queue was full.
    pub(crate) dropped: u64,
    /// Removed because the broker refused them permanently.
    pub(crate) refused: u64,
    /// Removed because they were damaged on the disk.
    pub(crate) damaged: u64,
}

/// A message that is handed out, so that it is not handed out again.
#[derive(Clone, Copy, Debug)]
struct HandedOut {
    /// Size of topic and payload in bytes.
    bytes: u64,
    /// Whether it has ended and the record of that is not yet written.
    has_ended: bool,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The broker has acknowledged it.
    Acknowledged,
    /// The broker will never accept it.
    Refused,
}

/// The queue.
pub(crate) struct Queue<D: Disk> {
    engine: Engine<D>,
    /// Changes that are not yet passed to the engine.
    records: RecordBuffer,
    limits: Limits,
    next_id: u64,
    /// Number of the last message that an earlier run may have sent; 0: none.
    sent_until: u64,
    messages: u64,
    bytes: u64,
    handed_out: BTreeMap<u64, HandedOut>,
    /// Number of messages pushed since the last successful commit.
    uncommitted: u64,
    counts: Counts,
}

impl<D: Disk> Queue<D> {
    /// Opens the queue on this disk, or creates one. `salt` is a random number, used only for a new
    /// queue. The report contains the damage found.
    ///
    /// # Errors
    /// The disk failed, or the store on it cannot be opened.
    pub(crate) fn open(disk: D, limits: Limits, salt: u64) -> Result<(Self, Report), OpenError> {
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            tail_bytes: TAIL_BYTES,
            salt,
            disk_bytes_max: 0,
            tenant_of: None,
        };
        let (mut engine, report) = Engine::open(disk, options)?;
        engine.settle().map_err(OpenError::Disk)?;
        let (mut messages, mut bytes) = (0, 0);
        let mut sent_until = 0;
        for entry in engine.entries(QUEUE) {
            // The oldest ones are sent first. What was acknowledged is not in the queue any more.
            if messages < IN_FLIGHT_MAX as u64 {
                sent_until = entry.body.0;
            }
            messages += 1;
            bytes += entry.note[0];
        }
        let seen = engine.highest_body_seen();
        let next_id = seen.iter().map(|id| id.0).max().unwrap_or(0) + 1;
        let queue = Self {
            engine,
            records: RecordBuffer::new(),
            limits,
            next_id,
            sent_until,
            messages,
            bytes,
            handed_out: BTreeMap::new(),
            uncommitted: 0,
            counts: Counts::default(),
        };
        Ok((queue, report))
    }

    /// Appends a message. It is durable when [`Queue::commit`] has returned without an error.
    /// `position` is a read position, stored in the same record.
    pub(crate) fn push(&mut self, topic: &str, payload: &[u8], position: Option<(u32, &[u8])>) {
        let id = BodyId(self.next_id);
        self.next_id += 1;
        let bytes = (topic.len() + payload.len()) as u64;
        let mut record = self.records.record();
        record.body(id, Holds::NONE, &[&head(topic), payload]);
        record.enqueue(QUEUE, id, 0, [bytes, 0], b"");
        if let Some((number, position)) = position {
            record.state(key(StateKind::File, number), &[position]);
        }
        drop(record);
        self.messages += 1;
        self.bytes += bytes;
        self.uncommitted += 1;
    }

    /// Sets a state; durable with the next [`Queue::commit`].
    pub(crate) fn set_state(&mut self, kind: StateKind, number: u32, value: &[u8]) {
        self.records.record().state(key(kind, number), &[value]);
    }

    /// Removes a state; durable with the next [`Queue::commit`].
    pub(crate) fn remove_state(&mut self, kind: StateKind, number: u32) {
        self.records.record().remove_state(key(kind, number));
    }

    /// Numbers and values of all committed states of a kind. Damaged ones are omitted.
    pub(crate) fn states(&self, kind: StateKind) -> Vec<(u32, Vec<u8>)> {
        let mut found = Vec::new();
        let is_wanted = |state: StateKey| state.owner == OWNER && state.kind == kind as u8;
        self.engine.states_of(is_wanted, |state, _, value| {
            if let Ok(value) = value {
                found.push((state.number, value.to_vec()));
            }
        });
        found
    }

    /// Size of the changes that wait for [`Queue::commit`], in bytes.
    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.records.bytes() + self.engine.staged_bytes()
    }

    /// Writes and syncs all changes. If the queue exceeds its limits, the oldest messages that are
    /// not handed out are dropped. After an error, call it again: changes are lost only if a crash
    /// happens before that.
    ///
    /// # Errors
    /// The disk failed or is full.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        self.write()?;
        if self.drop_oldest() {
            self.write()?;
        }
        self.engine.sync()?;
        self.counts.taken += std::mem::take(&mut self.uncommitted);
        Ok(())
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.engine.append(&self.records);
        self.records.clear();
        self.engine.write()?;
        self.handed_out.retain(|_, message| !message.has_ended);
        Ok(())
    }

    /// Drops the oldest messages. Returns whether any were dropped.
    fn drop_oldest(&mut self) -> bool {
        if !self.is_over() {
            return false;
        }
        let (mut messages, mut bytes) = (self.messages, self.bytes);
        let entries = self.engine.entries(QUEUE);
        let droppable = entries.filter(|entry| !self.handed_out.contains_key(&entry.body.0));
        let mut dropped = Vec::new();
        for entry in droppable {
            if messages <= self.limits.messages && bytes <= self.limits.bytes {
                break;
            }
            messages -= 1;
            bytes -= entry.note[0].min(bytes);
            dropped.push((entry.body, entry.note[0]));
        }
        for (body, bytes) in &dropped {
            self.remove(body.0, *bytes);
        }
        self.counts.dropped += dropped.len() as u64;
        !dropped.is_empty()
    }

    fn is_over(&self) -> bool {
        self.messages > self.limits.messages || self.bytes > self.limits.bytes
    }

    /// Hands out the oldest messages that are not handed out, in order: at most `messages_max`,
    /// ending with the one that reaches `bytes_max`. Damaged messages are removed and counted.
    pub(crate) fn take(&mut self, messages_max: usize, bytes_max: u64) -> Vec<Queued> {
        let mut bytes = 0;
        let entries = self.engine.entries(QUEUE);
        let ready = entries.filter(|entry| !self.handed_out.contains_key(&entry.body.0));
        let chosen: Vec<(BodyId, u64)> = ready
            .take(messages_max)
            .take_while(|entry| {
                let is_chosen = bytes < bytes_max;
                bytes += entry.note[0];
                is_chosen
            })
            .map(|entry| (entry.body, entry.note[0]))
            .collect();
        let ids: Vec<BodyId> = chosen.iter().map(|(id, _)| *id).collect();
        let mut found = BTreeMap::new();
        self.engine.read_bodies(&ids, |id, body| {
            let message = body.ok().and_then(read);
            if let Some((topic, payload)) = message {
                found.insert(id.0, (topic.to_owned(), payload.to_vec()));
            }
        });
        let mut taken = Vec::with_capacity(chosen.len());
        for (BodyId(id), bytes) in chosen {
            let Some((topic, payload)) = found.remove(&id) else {
                self.remove(id, bytes);
                self.counts.damaged += 1;
                continue;
            };
            let has_ended = false;
            self.handed_out.insert(id, HandedOut { bytes, has_ended });
            let sent_before = id <= self.sent_until;
            taken.push(Queued {
                id,
                topic,
                payload,
                sent_before,
            });
        }
        taken
    }

    /// Ends a message that was handed out. The next [`Queue::commit`] writes the record; if the
    /// process dies before, the message is sent again.
    pub(crate) fn end(&mut self, id: u64, how: End) {
        let Some(message) = self.handed_out.get(&id).filter(|found| !found.has_ended) else {
            return;
        };
        let bytes = message.bytes;
        self.remove(id, bytes);
        match how {
            End::Acknowledged => self.counts.acknowledged += 1,
            End::Refused => self.counts.refused += 1,
        }
    }

    /// Returns a message that was handed out: it is handed out again first.
    pub(crate) fn give_back(&mut self, id: u64) {
        if self
            .handed_out
            .get(&id)
            .is_some_and(|found| !found.has_ended)
        {
            self.handed_out.remove(&id);
        }
    }

    fn remove(&mut self, id: u64, bytes: u64) {
        self.records.record().end(QUEUE, BodyId(id), 0);
        let has_ended = true;
        self.handed_out.insert(id, HandedOut { bytes, has_ended });
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Number of messages in the queue, handed out or not.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Size of their topics and payloads in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counters since the queue was opened.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the disk has no room for further messages. Messages that end make room.
    pub(crate) fn is_low(&self) -> bool {
        self.engine.is_low()
    }

    /// Does a slice of the store's housekeeping. Returns true if there is more.
    ///
    /// # Errors
    /// The disk failed; the next call retries.
    pub(crate) fn housekeep(&mut self) -> Result<bool, StoreError> {
        Ok(self.engine.housekeep(SLICE_BYTES)?.more)
    }

    /// Begins an idle period: the store releases space that it does not need.
    ///
    /// # Errors
    /// The disk failed; nothing is lost.
    pub(crate) fn rest(&mut self) -> Result<(), StoreError> {
        self.engine.seal()
    }

    /// Commits and closes, so that the next opening is fast.
    ///
    /// # Errors
    /// The disk failed. Earlier commits are kept.
    pub(crate) fn close(mut self) -> Result<(), StoreError> {
        self.commit()?;
        self.engine.close()
    }
}

fn key(kind: StateKind, number: u32) -> StateKey {
    StateKey {
        owner: OWNER,
        kind: kind as u8,
        number,
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
