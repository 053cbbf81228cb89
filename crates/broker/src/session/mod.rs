//! Session State: what the node remembers of a client beyond its Network Connection
//! (MQTT 5 section 4.1).

pub(crate) mod acknowledge;
pub(crate) mod acks_in_a_row;
mod client;
mod deliver;
mod entry_end;
pub(crate) mod in_flight;
pub(crate) mod inbound;
mod leaving;
pub(crate) mod outbound;
pub(crate) mod packet_ids;
pub(crate) mod permit;
mod pump;
pub(crate) mod queue;
mod read_back;
pub(crate) mod receipts;
pub(crate) mod refused_publish;
pub(crate) mod sending;

use core::hash::BuildHasher;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use martlet_codec::ProtocolVersion;
use martlet_permission::TenantId;

use crate::arena::{Arena, Index};
use crate::counters::DROP_REASONS;
use crate::fault::{self, Fault};
use crate::flags::flags;
use crate::hash::{Seed, seeded};
use crate::id::{SessionEpoch, SessionId};
use crate::losses::lost::Losses;
use crate::part::interface::PartTerms;
use crate::place_table::PlaceTable;
use crate::record::{Record, SessionRecord, StoredWill};
use crate::subscribe::subscribers::Subscriptions;
use crate::timer::TimerKey;

/// One session. Most are idle: it is kept small.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) generation: u32,
    pub(crate) tenant: TenantId,
    pub(crate) client_id: Arc<str>,
    pub(crate) epoch: SessionEpoch,
    /// Place of its connection.
    pub(crate) connection: Option<Index>,
    /// Protocol version of the last CONNECT.
    pub(crate) version: ProtocolVersion,
    /// Session Expiry Interval, seconds; 0 ends with the connection, `u32::MAX` never.
    pub(crate) expiry_secs: u32,
    /// Whether it outlived a connection, or was meant to: its subscriptions and messages are
    /// recorded.
    pub(crate) durable: bool,
    /// The store knows of it; because of its Will alone, if it is not durable.
    pub(crate) recorded: bool,
    connected_at_wall: Millis,
    /// When its connection ended, in the time of records; 0 while it has one.
    left_wall: Millis,
    pub(crate) flags: SessionFlags,
    /// The user of its client, and its rights; none where none is asked for, and after a restart
    /// until the client is back.
    pub(crate) permit: Option<Box<permit::Permit>>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) outbound: outbound::Outbound,
    pub(crate) receipts: receipts::Receipts,
    pub(crate) will: Option<Arc<StoredWill>>,
    /// While the client is away.
    pub(crate) expiry_timer: Option<TimerKey>,
    /// While the client is away and its Will is not yet sent.
    pub(crate) will_timer: Option<TimerKey>,
    pub(crate) accounting: SessionAccounting,
}

flags! {
    /// Small facts about a session.
    pub(crate) SessionFlags(u8);
    /// All of its events are reported.
    0 traced set_traced;
    /// In the shard's list of sessions with retained messages to be read.
    1 retained_queued set_retained_queued;
    /// Whether it has ended; only its subscriptions are still to be taken out of the index.
    2 retired set_retired;
    /// Whether its end was put off after a start, which is done once while its client is away.
    3 put_off set_put_off;
    /// Whether its connection has ended. Its Will, and its own end if it ends with the connection,
    /// wait for their turn.
    4 leaving set_leaving;
    /// Whether it is a part's, which may want what it was sent once more.
    5 part set_part;
    /// QoS 0 messages for it are queued and recorded as those of QoS 1.
    6 keeps_qos0 set_keeps_qos0;
    /// Whether it had a connection when the node ended: the record of what it was sent may be
    /// missing.
    7 was_there set_was_there;
}

/// Milliseconds since the Unix epoch, for 8,000 years, in 6 bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Millis([u8; 6]);

impl Millis {
    fn of(ms: u64) -> Self {
        let [bytes @ .., _, _] = ms.to_le_bytes();
        Self(bytes)
    }

    fn get(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

/// [`Accounting`](crate::Accounting) of one session, of which there are many.
#[derive(Debug, Default)]
pub(crate) struct SessionAccounting {
    pub(crate) matched: u64,
    pub(crate) delivered: u64,
    /// Not there while nothing was lost, which is nearly always.
    losses: Option<Box<Losses>>,
}

impl SessionAccounting {
    /// All reasons.
    pub(crate) fn dropped(&self) -> u64 {
        self.drops().into_iter().flatten().sum()
    }

    /// Dropped messages by reason; none while nothing was lost.
    pub(crate) fn drops(&self) -> Option<&[u64; DROP_REASONS]> {
        self.losses().map(Losses::drops)
    }

    /// Returns what was lost, if anything was.
    pub(crate) fn losses(&self) -> Option<&Losses> {
        self.losses.as_deref()
    }

    pub(crate) fn expired(&self) -> u64 {
        self.losses().map_or(0, Losses::expired)
    }
}

impl Session {
    /// A session of a client that is new to the shard.
    pub(crate) fn new(tenant: TenantId, client_id: Arc<str>, epoch: SessionEpoch) -> Self {
        Self {
            generation: 0,
            tenant,
            client_id,
            epoch,
            connection: None,
            version: ProtocolVersion::V311,
            expiry_secs: 0,
            durable: false,
            recorded: false,
            connected_at_wall: Millis::default(),
            left_wall: Millis::default(),
            flags: SessionFlags::default(),
            permit: None,
            subscriptions: Subscriptions::default(),
            outbound: outbound::Outbound::default(),
            receipts: receipts::Receipts::default(),
            will: None,
            expiry_timer: None,
            will_timer: None,
            accounting: SessionAccounting::default(),
        }
    }

    /// Bytes of its names, its own rules and what is counted of its losses.
    fn text_bytes(&self) -> usize {
        let permit = self.permit.as_ref();
        let losses = self.accounting.losses().map_or(0, size_of_val);
        self.client_id.len() + permit.map_or(0, |permit| permit.text_bytes()) + losses
    }

    /// Notes that its client has a connection from now on.
    pub(crate) fn comes(&mut self, connection: u32, wall_ms: u64) {
        self.connection = Some(Index::of(connection));
        self.connected_at_wall = Millis::of(wall_ms);
        self.left_wall = Millis::default();
        self.flags.set_put_off(false);
    }

    /// When it had a connection first that it has, or had last: wall clock.
    pub(crate) fn connected_at_wall_ms(&self) -> u64 {
        self.connected_at_wall.get()
    }

    /// When its connection ended, in the time of records; none while it has one.
    pub(crate) fn left_wall_ms(&self) -> Option<u64> {
        Some(self.left_wall.get()).filter(|ms| *ms > 0)
    }

    pub(crate) fn set_left_wall_ms(&mut self, record_ms: u64) {
        self.left_wall = Millis::of(record_ms);
    }

    /// The connection at this place, while there is one.
    pub(crate) fn connection(&self) -> Option<u32> {
        self.connection.map(Index::get)
    }

    /// As the store is to remember it; `part` are its terms if it is a part's.
    pub(crate) fn record(&self, part: Option<PartTerms>) -> Record {
        Record::Session(Box::new(self.as_recorded(part)))
    }

    /// Returns its record.
    pub(crate) fn as_recorded(&self, part: Option<PartTerms>) -> SessionRecord {
        SessionRecord {
            tenant: self.tenant,
            client_id: Arc::clone(&self.client_id),
            epoch: self.epoch,
            expiry_secs: self.expiry_secs,
            durable: self.durable,
            version: Some(self.version),
            left_wall_ms: self.left_wall_ms(),
            put_off: self.flags.put_off(),
            part,
            owner: self.permit.as_ref().map(|permit| permit.owner()),
            will: self
                .will
                .clone()
                .filter(|_| !fault::is(Fault::WillNotRecorded)),
        }
    }
}

type SessionArena = Arena<Session, 256>;

/// The shard's sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    arena: SessionArena,
    /// Sessions by tenant and Client Identifier.
    by_client: PlaceTable,
    seed: Seed,
    generation: u32,
    /// Sessions that have ended but for their subscriptions, by their places.
    retired: VecDeque<u32>,
    /// Bytes of names, own rules and losses.
    text_bytes: usize,
    /// Sessions of parts among them.
    of_parts: usize,
    /// Sessions whose queues have dropped messages.
    pub(crate) dropping: BTreeSet<SessionId>,
}

impl Sessions {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            arena: Arena::default(),
            by_client: PlaceTable::default(),
            seed: seeded(seed),
            generation: 0,
            retired: VecDeque::new(),
            text_bytes: 0,
            of_parts: 0,
            dropping: BTreeSet::new(),
        }
    }

    pub(crate) fn insert(&mut self, mut session: Session) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        session.generation = self.generation;
        let hash = self.seed.hash_one((session.tenant, &*session.client_id));
        self.text_bytes += session.text_bytes();
        self.of_parts += usize::from(session.flags.part());
        let index = self.arena.insert(session);
        let (arena, seed) = (&self.arena, &self.seed);
        self.by_client
            .insert(hash, index, |other| hash_of_client(arena, seed, other));
        index
    }

    /// The session of a client [MQTT-3.1.3-2].
    pub(crate) fn find(&self, tenant: TenantId, client_id: &str) -> Option<u32> {
        let hash = self.seed.hash_one((tenant, client_id));
        self.by_client.find(hash, |index| {
            let session = &self.arena[index];
            session.tenant == tenant && *session.client_id == *client_id
        })
    }

    /// Client Identifiers that are known.
    pub(crate) fn client_count(&self) -> usize {
        self.by_client.len()
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.arena
            .get(id.index)
            .filter(|found| found.generation == id.generation)
    }

    /// The session at a place that may be free by now.
    pub(crate) fn look_at(&self, index: u32) -> Option<&Session> {
        self.arena
            .get(index)
            .filter(|session| !session.flags.retired())
    }

    /// The session at a place that is known to be taken.
    #[inline(always)]
    pub(crate) fn at(&mut self, index: u32) -> &mut Session {
        &mut self.arena[index]
    }

    pub(crate) fn id_of(&self, index: u32) -> SessionId {
        SessionId {
            index,
            generation: self.arena[index].generation,
        }
    }

    pub(crate) fn remove(&mut self, index: u32) {
        self.forget_client(index);
        self.arena.remove(index);
    }

    /// Ends a session but for its subscriptions: its client and all that look up its name find
    /// nothing any more, and its place stays taken until [`Sessions::remove_retired`].
    pub(crate) fn retire(&mut self, index: u32) {
        self.forget_client(index);
        self.generation = self.generation.wrapping_add(1);
        let session = &mut self.arena[index];
        session.generation = self.generation;
        session.flags.set_retired(true);
        self.retired.push_back(index);
    }

    /// The place of the session that has been retired for longest.
    pub(crate) fn first_retired(&self) -> Option<u32> {
        self.retired.front().copied()
    }

    /// Frees the place of that session.
    pub(crate) fn remove_retired(&mut self) {
        if let Some(index) = self.retired.pop_front() {
            self.arena.remove(index);
        }
    }

    /// A session has this permit from now on; its permit until then.
    pub(crate) fn set_permit(
        &mut self,
        index: u32,
        permit: Option<Box<permit::Permit>>,
    ) -> Option<Box<permit::Permit>> {
        let session = &mut self.arena[index];
        self.text_bytes -= session.text_bytes();
        let before = core::mem::replace(&mut session.permit, permit);
        self.text_bytes += session.text_bytes();
        before
    }

    /// A session is that of a part from now on, or that of a client.
    pub(crate) fn set_part(&mut self, index: u32, is_part: bool) {
        let session = &mut self.arena[index];
        self.of_parts -= usize::from(session.flags.part());
        self.of_parts += usize::from(is_part);
        session.flags.set_part(is_part);
    }

    /// Returns what a session has lost, as far as it is counted.
    pub(crate) fn losses(&mut self, index: u32) -> &mut Losses {
        let losses = &mut self.arena[index].accounting.losses;
        if losses.is_none() {
            self.text_bytes += size_of::<Losses>();
        }
        losses.get_or_insert_default()
    }

    /// Returns what a session has lost, if it has lost anything.
    pub(crate) fn losses_if_any(&mut self, index: u32) -> Option<&mut Losses> {
        self.arena[index].accounting.losses.as_deref_mut()
    }

    /// Bytes of the names, own rules and losses of all sessions.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    fn forget_client(&mut self, index: u32) {
        self.of_parts -= usize::from(self.arena[index].flags.part());
        self.text_bytes -= self.arena[index].text_bytes();
        let (arena, seed) = (&self.arena, &self.seed);
        self.by_client
            .remove(hash_of_client(arena, seed, index), index);
        self.by_client
            .shrink(|other| hash_of_client(arena, seed, other));
    }

    pub(crate) fn len(&self) -> usize {
        self.arena.len() - self.retired.len()
    }

    /// Sessions of parts.
    pub(crate) fn of_parts(&self) -> usize {
        self.of_parts
    }

    /// Sessions are below this place.
    pub(crate) fn places(&self) -> u32 {
        self.arena.places()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.arena
            .iter()
            .filter(|(_, session)| !session.flags.retired())
    }

    /// The session that a stale handle names, if it is still there.
    pub(crate) fn live(&self, id: SessionId) -> Option<u32> {
        self.get(id).map(|_| id.index)
    }
}

/// The hash of the client of the session at this place.
fn hash_of_client(arena: &SessionArena, seed: &Seed, index: u32) -> u64 {
    let session = &arena[index];
    seed.hash_one((session.tenant, &*session.client_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        // A chunk of them is whole pages.
        assert!(size_of::<Session>() <= 176);
    }
}
