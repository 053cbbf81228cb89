//! Restores the shards from an opened store, to continue where the last run ended (design: idea
//! 5).
//!
//! Before any listener opens, the number of this run is determined and synced. Then groups,
//! sessions with their receipts, and entries are restored. Then come subscriptions and, in the
//! order of their records, messages that were not routed to all receivers, each only to
//! subscriptions made before it. Retained messages come last. Damaged records are listed in the
//! report; each costs only itself. A record of a newer program is an error, so that none of its
//! data is discarded.
//!
//! States are read in passes and handed on one by one. Only names are kept in memory during the
//! restore, and subscriptions younger than the first message that must still be routed.

mod lanes;
mod names;
mod receipts;
mod shards;
mod subscriptions;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use martlet_broker::{
    MessageId, Node, Run, SessionAddress, SessionEpoch, SessionRecord, Shard, ShardId, StoredWill,
    TenantId, owner, start_of,
};
use martlet_codec::PacketId;
use martlet_fault::{self as fault, Fault};
use martlet_store::{Disk, Engine, Holds, Lsn, Missing, QueueId, RecordBuffer, StateKey};

use crate::body::decode_body;
use crate::bytes::DecodeError;
use crate::entry::decode_entry;
use crate::fetch::Publishers;
use crate::state::{
    ClockState, decode_clock, decode_group, decode_retained_owed, decode_session, decode_start,
    decode_will, kind, put_clock, put_start,
};
use names::EpochNames;

pub use shards::Shards;

/// Maximum number of damaged records that a report lists one by one.
const NAMED_MAX: usize = 100;

/// Number of restored sessions and subscriptions after which batches between shards are delivered.
const DELIVER_EVERY: usize = 256;

/// Result of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The number of this run of the node, from 1.
    pub start: u32,
    /// The time of records at this start, milliseconds; it continues from here.
    pub record_ms: u64,
    /// Milliseconds by which the wall clock is behind the time recorded by the last run: the time
    /// since then counts as zero.
    pub clock_behind_ms: u64,
    /// Sessions.
    pub sessions: u64,
    /// Wills that are still due.
    pub wills: u64,
    /// Packet Identifiers of QoS 2 messages that were received but not released.
    pub receipts: u64,
    /// Share groups.
    pub groups: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Messages in queues and in flight.
    pub entries: u64,
    /// Retained messages, and recent clearings of topics.
    pub retained: u64,
    /// Messages routed again, because some receivers may not have had them.
    pub routed_again: u64,
    /// Queues and states of sessions and groups that no longer exist; they were removed.
    pub orphans: u64,
    /// Number of damaged records.
    pub damaged: u64,
    /// The first of them, with their errors.
    pub damage: Vec<Damaged>,
}

/// A record that could not be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Name of the record.
    pub what: String,
    /// The error.
    pub why: String,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// Why shards were not restored. Nothing has been lost by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A newer program has written to the store.
    #[error("{what}: {error}; use that program")]
    Newer {
        /// Name of the record.
        what: String,
        /// The version.
        error: DecodeError,
    },
    /// The disk cannot be read.
    #[error("{what}: {why}")]
    Read {
        /// Name of the record.
        what: String,
        /// The place, and the error of the system.
        why: Missing,
    },
    /// The disk cannot be written.
    #[error("the start of this run cannot be written to the message store")]
    Write(#[from] martlet_store::StoreError),
    /// The number of starts of the node has exceeded its range.
    #[error("the numbers of runs are used up: {0}")]
    Runs(u32),
}

/// Restores everything in the store into newly created shards. Their effects, except records and
/// batches, are left for the caller: events, for example. When this returns, everything is synced,
/// or staged if the disk is full.
pub fn restore<D: Disk, N: Node>(
    engine: &mut Engine<D>,
    shards: Shards<'_, N>,
) -> Result<RestoreReport, RestoreError> {
    let found = RestoreBasis::of(engine)?;
    let mut restoring = Restoring {
        shards,
        report: found.report,
        records: RecordBuffer::new(),
        names: EpochNames::default(),
        publishers: Publishers::default(),
        receipt_requests: HashMap::new(),
        retained_owed: found.retained_owed,
        orphans: Vec::new(),
        error: None,
    };
    restoring.set_clock(found.clock);
    restoring.begin_run(engine, found.start)?;
    restoring.groups(found.groups);
    restoring.sessions(engine, found.wills)?;
    restoring.entries(engine)?;
    restoring.messages_to_be_routed(engine)?;
    restoring.retained(engine)?;
    restoring.finish(engine)
}

/// Data that is needed before anything is restored.
#[derive(Default)]
struct RestoreBasis {
    /// Number of the last run.
    start: u32,
    /// The last recorded time.
    clock: Option<ClockState>,
    groups: Vec<FoundGroup>,
    wills: Vec<(SessionEpoch, StoredWill)>,
    /// Subscriptions that are owed retained messages, by the key of that state, with the topic
    /// after which.
    retained_owed: BTreeMap<StateKey, Option<Box<str>>>,
    report: RestoreReport,
}

/// A recorded share group.
struct FoundGroup {
    epoch: SessionEpoch,
    /// The number of the record that created it.
    since: Lsn,
    tenant: TenantId,
    filter: Box<str>,
}

impl RestoreBasis {
    fn of<D: Disk>(engine: &Engine<D>) -> Result<Self, RestoreError> {
        let mut found = Self::default();
        for id in engine.highest_body_seen() {
            found.start = found.start.max(start_of(id.0));
        }
        for key in engine.state_keys() {
            found.start = found.start.max(start_of(key.owner));
            if key.kind == kind::RETAINED_OWED {
                found.retained_owed.insert(key, None);
            }
        }
        let is_wanted = |key: StateKey| !matches!(key.kind, kind::SESSION | kind::SUBSCRIPTION);
        each_state(engine, &mut found, is_wanted, RestoreBasis::add)?;
        found.one_group_for_each_filter();
        found.wills.sort_by_key(|(epoch, _)| *epoch);
        Ok(found)
    }

    /// Keeps the younger of two groups of the same filter, which only damage can cause.
    fn one_group_for_each_filter(&mut self) {
        let key = |group: &FoundGroup| (group.tenant, group.filter.clone(), group.epoch.age());
        self.groups.sort_by_cached_key(|group| Reverse(key(group)));
        self.groups.dedup_by(|older, younger| {
            (older.tenant, &older.filter) == (younger.tenant, &younger.filter)
        });
        self.groups.sort_by_key(|group| group.epoch);
    }

    fn add(&mut self, key: StateKey, since: Lsn, bytes: &[u8]) -> Result<(), DecodeError> {
        let epoch = SessionEpoch(key.owner);
        match key.kind {
            kind::START => self.start = self.start.max(decode_start(bytes)?),
            kind::CLOCK => self.clock = Some(decode_clock(bytes)?),
            kind::GROUP => {
                let group = decode_group(bytes)?;
                self.groups.push(FoundGroup {
                    epoch,
                    since,
                    tenant: group.tenant,
                    filter: group.filter.into(),
                });
            }
            kind::RETAINED_OWED => {
                let after = decode_retained_owed(bytes)?.map(Into::into);
                self.retained_owed.insert(key, after);
            }
            kind::WILL => self.wills.push((epoch, decode_will(bytes)?)),
            kind::SESSION | kind::SUBSCRIPTION => {}
            _ => return Err(DecodeError::Malformed("kind of state")),
        }
        Ok(())
    }
}

/// Why a record cannot be restored.
enum Unreadable {
    Missing(Missing),
    Malformed(DecodeError),
}

impl RestoreReport {
    /// Notes damage; a record that may be intact is an error.
    fn note(&mut self, what: String, unreadable: Unreadable) -> Result<(), RestoreError> {
        let why = match unreadable {
            Unreadable::Missing(why @ Missing::Disk { .. }) => {
                return Err(RestoreError::Read { what, why });
            }
            Unreadable::Malformed(error @ DecodeError::Newer(_)) => {
                return Err(RestoreError::Newer { what, error });
            }
            Unreadable::Missing(missing) => missing.to_string(),
            Unreadable::Malformed(error) => error.to_string(),
        };
        self.damaged += 1;
        if self.damage.len() < NAMED_MAX {
            self.damage.push(Damaged { what, why });
        }
        Ok(())
    }
}

impl AsMut<RestoreReport> for RestoreBasis {
    fn as_mut(&mut self) -> &mut RestoreReport {
        &mut self.report
    }
}

impl<N: Node> AsMut<RestoreReport> for Restoring<'_, N> {
    fn as_mut(&mut self) -> &mut RestoreReport {
        &mut self.report
    }
}

/// Passes the wanted states to `each`, with the number of the record in which their key first
/// came; notes in the report of `to` those that cannot be read or decoded.
fn each_state<D: Disk, T: AsMut<RestoreReport>>(
    engine: &Engine<D>,
    to: &mut T,
    is_wanted: impl Fn(StateKey) -> bool,
    mut each: impl FnMut(&mut T, StateKey, Lsn, &[u8]) -> Result<(), DecodeError>,
) -> Result<(), RestoreError> {
    let mut result = Ok(());
    engine.states_of(is_wanted, |key, since, bytes| {
        if result.is_err() {
            return;
        }
        let taken = bytes
            .map_err(Unreadable::Missing)
            .and_then(|bytes| each(to, key, since, bytes).map_err(Unreadable::Malformed));
        if let Err(unreadable) = taken {
            result = to.as_mut().note(state_name(key), unreadable);
        }
    });
    result
}

/// The name of a state for reports.
fn state_name(key: StateKey) -> String {
    let owner = key.owner;
    match key.kind {
        kind::START => "the number of runs".to_owned(),
        kind::CLOCK => "the time of records".to_owned(),
        kind::SESSION => format!("session {owner:#x}"),
        kind::WILL => format!("Will of session {owner:#x}"),
        kind::GROUP => format!("share group {owner:#x}"),
        kind::SUBSCRIPTION => format!("subscription {} of session {owner:#x}", key.number),
        kind::RETAINED_OWED => format!(
            "what subscription {} of session {owner:#x} is owed of retained messages",
            key.number
        ),
        kind => format!("state {} of kind {kind} of {owner:#x}", key.number),
    }
}

/// The name of a message for reports.
fn message_name(id: MessageId) -> String {
    format!("message {:#x}", id.0)
}

/// Shards that are being restored.
struct Restoring<'a, N: Node> {
    shards: Shards<'a, N>,
    report: RestoreReport,
    /// Records of the shards during the restore.
    records: RecordBuffer,
    names: EpochNames,
    publishers: Publishers,
    /// Sessions of the parts that have requested receipts of messages.
    receipt_requests: HashMap<MessageId, Option<SessionAddress>>,
    /// As [`RestoreBasis::retained_owed`].
    retained_owed: BTreeMap<StateKey, Option<Box<str>>>,
    /// Owners of queues and states that belong to nothing.
    orphans: Vec<u64>,
    /// An error while the store was being read.
    error: Option<RestoreError>,
}

impl<N: Node> Restoring<'_, N> {
    /// Sets the clock: continues from the last recorded time, plus the progress of the wall clock
    /// since.
    fn set_clock(&mut self, last: Option<ClockState>) {
        let now = &mut self.shards.now;
        let wall_ms = now.wall_ms;
        now.record_ms = last.map_or(now.record_ms, |last| last.record_ms_at(wall_ms));
        self.report.record_ms = now.record_ms;
        self.report.clock_behind_ms = last.map_or(0, |last| last.wall_ms.saturating_sub(wall_ms));
        put_clock(ClockState::of(*now), &mut self.records);
    }

    /// The run number must be on the disk before any record that contains an id of this run. On a
    /// full disk the number waits for room, and all records of this run wait after it.
    fn begin_run<D: Disk>(
        &mut self,
        engine: &mut Engine<D>,
        last: u32,
    ) -> Result<(), RestoreError> {
        let run = match fault::is(Fault::RunNumberUsedAgain) {
            true => Some(Run::plain(last.saturating_sub(1))),
            false => Run::after(
                last,
                self.shards.now.wall_ms,
                self.shards.settings.node_seed,
            ),
        };
        let run = run.ok_or(RestoreError::Runs(last))?;
        put_start(run.number, &mut self.records.record());
        self.append_and_sync(engine)?;
        self.report.start = run.number;
        self.shards.each(|shard, _| shard.begin_run(run));
        Ok(())
    }

    /// On a full disk, records that do not fit stay staged for the next user of the engine: if the
    /// node did not start, it could free no space. The records of a restore follow from the
    /// contents of the disk, so a later restore would append them again.
    fn append_and_sync<D: Disk>(&mut self, engine: &mut Engine<D>) -> Result<(), RestoreError> {
        engine.append(&self.records);
        self.records.clear();
        let written = engine.write().and_then(|()| engine.sync());
        match written {
            Err(error) if !error.is_full() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn groups(&mut self, groups: Vec<FoundGroup>) {
        for group in groups {
            let FoundGroup {
                epoch,
                since,
                tenant,
                filter,
            } = group;
            let count = self.shards.count();
            let shard = owner(self.shards.settings, tenant, &filter, count);
            let group = self.shards.call(shard, |shard, cx| {
                shard.restore_group(cx, tenant, filter, epoch)
            });
            self.names.groups.push((epoch, since, shard, group));
            self.report.groups += 1;
        }
    }

    fn sessions<D: Disk>(
        &mut self,
        engine: &Engine<D>,
        mut wills: Vec<(SessionEpoch, StoredWill)>,
    ) -> Result<(), RestoreError> {
        let is_session = |key: StateKey| key.kind == kind::SESSION;
        each_state(engine, self, is_session, |restoring, key, _, bytes| {
            let epoch = SessionEpoch(key.owner);
            let mut session = decode_session(epoch, bytes)?;
            let will = wills.binary_search_by_key(&epoch, |(epoch, _)| *epoch);
            let will = will.ok().map(|at| take_will(&mut wills[at].1));
            session.will = will.map(Arc::new);
            restoring.session(&session, engine.tokens(QueueId(key.owner)));
            Ok(())
        })?;
        self.names.sort();
        let names = &self.names;
        let alone = wills.iter().map(|(epoch, _)| *epoch);
        let alone = alone.filter(|epoch| names.session(*epoch).is_none());
        self.orphans.extend(alone.map(|epoch| epoch.0));
        Ok(())
    }

    fn session(&mut self, session: &SessionRecord, tokens: &[(u32, u32)]) {
        let receipts = tokens
            .iter()
            .filter_map(|(token, _)| PacketId::new(u16::try_from(*token).ok()?));
        let count = self.shards.count();
        let (tenant, client_id) = (session.tenant, &session.client_id);
        let shard = owner(self.shards.settings, tenant, client_id, count);
        let address = self.shards.call(shard, |shard, cx| {
            shard.restore_session(cx, session, receipts)
        });
        let Some(address) = address else {
            return self.orphans.push(session.epoch.0);
        };
        self.names.sessions.push((session.epoch, address));
        self.report.sessions += 1;
        self.report.receipts += tokens.len() as u64;
        self.report.wills += u64::from(session.will.is_some());
        if (self.report.sessions as usize).is_multiple_of(DELIVER_EVERY) {
            self.shards.deliver(&mut self.records);
        }
    }

    fn entries<D: Disk>(&mut self, engine: &Engine<D>) -> Result<(), RestoreError> {
        for queue in engine.queues() {
            let epoch = SessionEpoch(queue.0);
            let session = self.names.session(epoch);
            let group = self.names.group(epoch);
            if session.is_none() && group.is_none() {
                self.orphans.push(queue.0);
                continue;
            }
            let first = usize::from(fault::is(Fault::QueueFirstNotRestored));
            let end = match fault::is(Fault::QueueLastNotRestored) {
                true => engine.entries(queue).count().saturating_sub(1),
                false => usize::MAX,
            };
            for entry in engine.entries(queue).take(end).skip(first) {
                let message = MessageId(entry.body.0);
                let decoded = decode_entry(epoch, message, entry.lane, entry.note, entry.extra);
                let record = match decoded {
                    Ok(record) => record,
                    Err(error) => {
                        let what = format!("{} in queue {:#x}", message_name(message), queue.0);
                        self.note(what, Unreadable::Malformed(error));
                        continue;
                    }
                };
                self.report.entries += 1;
                let part = self.part_for_receipt(engine, &record);
                if let Some(session) = session {
                    let from = record.group.and_then(|group| self.names.group(group));
                    let from = from.map(|(_, group)| group);
                    self.shards.call(session.shard, |shard, cx| {
                        shard.restore_entry(cx, session, record, from, part);
                    });
                } else if let Some((shard, group)) = group {
                    self.shards.call(shard, |shard, cx| {
                        shard.restore_group_entry(cx, group, record, part);
                    });
                }
            }
        }
        self.go_on()
    }

    fn retained<D: Disk>(&mut self, engine: &Engine<D>) -> Result<(), RestoreError> {
        engine.held(Holds::RETAINED, |id, _, bytes| {
            if self.error.is_some() {
                return;
            }
            let id = MessageId(id.0);
            let body = self.body(id, bytes);
            // Messages found again in the segments may not have been retained.
            let retained = body.and_then(|body| Some((body.retained_revision?, body)));
            let Some((revision, body)) = retained else {
                return crate::encode::put_released(id, Holds::RETAINED, &mut self.records);
            };
            self.report.retained += 1;
            let shard = self.shards.of_message(id);
            let message = self
                .shards
                .message(shard, &body, None, &mut self.publishers);
            let publisher = body.publisher.map(|publisher| publisher.client_id);
            self.shards.call(shard, |shard, cx| {
                shard.restore_retained(cx, message, publisher, revision);
            });
        });
        self.go_on()
    }

    /// The body of a message; notes it if there is none.
    fn body<'b>(
        &mut self,
        id: MessageId,
        bytes: Result<&'b [u8], Missing>,
    ) -> Option<crate::body::StoredBody<'b>> {
        let body = bytes
            .map_err(Unreadable::Missing)
            .and_then(|bytes| decode_body(id, bytes).map_err(Unreadable::Malformed));
        match body {
            Ok(body) => Some(body),
            Err(unreadable) => {
                self.note(message_name(id), unreadable);
                None
            }
        }
    }

    fn finish<D: Disk>(mut self, engine: &mut Engine<D>) -> Result<RestoreReport, RestoreError> {
        self.shards.deliver(&mut self.records);
        self.add_lanes();
        for number in 0..self.shards.count() {
            let groups = self.names.groups_of(ShardId(number));
            self.shards.call(ShardId(number), |shard, cx| {
                shard.restored(cx, &groups);
            });
        }
        self.shards.deliver(&mut self.records);
        self.orphans.sort_unstable();
        self.orphans.dedup();
        self.report.orphans = self.orphans.len() as u64;
        for orphan in &self.orphans {
            self.records.record().forget(*orphan);
        }
        self.append_and_sync(engine)?;
        self.shards.each(|shard: &mut Shard, cx| {
            let last = shard.last_record();
            shard.durable(cx, last);
        });
        Ok(self.report)
    }

    fn note(&mut self, what: String, unreadable: Unreadable) {
        let noted = self.report.note(what, unreadable);
        if let Err(error) = noted
            && self.error.is_none()
        {
            self.error = Some(error);
        }
    }

    /// Returns the error that occurred while the store was being read, if any.
    fn go_on(&mut self) -> Result<(), RestoreError> {
        self.error.take().map_or(Ok(()), Err)
    }
}

fn take_will(will: &mut StoredWill) -> StoredWill {
    let nothing = StoredWill {
        topic: Box::default(),
        payload: Box::default(),
        forwarded: Box::default(),
        qos: will.qos,
        retain: false,
        message_expiry_secs: None,
        delay_secs: 0,
    };
    std::mem::replace(will, nothing)
}
