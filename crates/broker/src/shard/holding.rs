//! Holding back: which packets wait, and what is refused, while others do not keep up: the store,
//! another shard, or the gate.
//!
//! What makes the store grow waits for it, a CONNECT with a long Will too. What makes room
//! (acknowledgements, the ends of sessions, and clients that come to take what is queued for them)
//! goes on: it is what the store's reserve is for.

use std::collections::VecDeque;
use std::sync::Arc;

use martlet_codec::{Connect, FixedHeader, PacketType, ProtocolVersion, Subscribe};
use martlet_permission::{Limit, RefusalCause, TenantId};

use crate::connect_request::{ConnectingClient, requested_expiry_secs};
use crate::connection::Since;
use crate::fault::{self, Fault};
use crate::id::ConnectionId;
use crate::node::{Cx, Node};
use crate::part::hold::looked_at;
use crate::shard::Shard;
use crate::shard::store::StoreState;
use crate::work::NODE;

/// Treatment of a packet.
pub(super) enum PacketHandling {
    /// The packet is worked off.
    Now,
    /// The packet waits in its connection's input, with all that follows but acknowledgements and
    /// pings; for the store or for something else.
    Later { for_store: bool },
    /// The packet is as if it had not come: its answer is not waited for any more.
    Never,
}

/// Flags of a PUBLISH that may have to be stored: its QoS and RETAIN.
const PUBLISH_STORED: u8 = 0b0111;

/// Longest Will, in bytes, that may use the reserve of the store and of the memory, if its session
/// exists. While the store is behind, no CONNECT waits that brings less.
pub(crate) const RESERVE_WILL_BYTES: usize = 1024;

/// Part of a turn in which input is queued that was held back, as a divisor.
const RELEASED_PART_OF_TURN: u64 = 8;

impl Shard {
    /// Sets the store's state: in all states but [`StoreState::KeepsUp`] packets that make it grow
    /// are held back; QoS 0 continues. So are those of tenants that have their share of it, which
    /// are listed in order.
    pub fn store_is(&mut self, state: StoreState, at_share: Arc<[TenantId]>) {
        let was = core::mem::replace(&mut self.store.state, state);
        let keeps_up_again = was != state && state == StoreState::KeepsUp;
        // A CONNECT waits for a store that is behind. In a worse state it is refused.
        let is_worse = was == StoreState::Behind && state > was;
        let had_share = core::mem::replace(&mut self.store.at_share, at_share);
        let has_room = |tenant: &TenantId| self.store.at_share.binary_search(tenant).is_err();
        let has_room_again = had_share.iter().any(has_room);
        self.waiting
            .held_back
            .release_if(keeps_up_again || is_worse || has_room_again);
    }

    /// Notes that what a connection has sent waits for the store or another shard.
    pub(super) fn note_held(&mut self, id: ConnectionId) {
        let connection = self.connections.at(id.index);
        if connection.flags.in_held_list() {
            return;
        }
        connection.flags.set_in_held_list(true);
        let connections = &self.connections;
        let is_there = |id: &ConnectionId| connections.get(*id).is_some();
        self.waiting.held_back.note(id, is_there);
    }

    /// Whether a CONNECT waits for the store: while that is behind, one that brings more than a
    /// few bytes to be recorded. Its client may go meanwhile; then it is as if it had not come.
    pub(super) fn holds_connect<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        id: ConnectionId,
        flags: u8,
        body: &[u8],
    ) -> bool {
        let waits = self.store.state == StoreState::Behind
            && body.len() > RESERVE_WILL_BYTES
            && Connect::decode(flags, body)
                .is_ok_and(|connect| recorded_bytes(&connect) > RESERVE_WILL_BYTES);
        let connection = self.connections.at(id.index);
        if !waits {
            connection.held_for_store_since = Since::NONE;
            return false;
        }
        connection.flags.set_input_held(true);
        if connection.held_for_store_since == Since::NONE {
            connection.held_for_store_since = Since::at_ms(cx.now.mono_ms);
            self.watch_stalled(cx, id);
        }
        self.note_held(id);
        true
    }

    /// Connections in the lists of those that are or were held back.
    pub(crate) fn held_count(&self) -> usize {
        let all = self
            .waiting
            .held_back
            .waiting
            .iter()
            .chain(&self.waiting.held_back.released);
        let there = all.filter(|id| self.connections.get(**id).is_some());
        there.count()
    }

    /// Queues the input of connections that need not wait any more, up to their part of this turn.
    pub(super) fn queue_released(&mut self) {
        let began = self.work.done;
        let units = self.settings.work.turn / RELEASED_PART_OF_TURN;
        while let Some(id) = self.waiting.held_back.released.pop_front() {
            self.work.add(NODE);
            if let Some(connection) = self.connections.get_mut(id) {
                connection.flags.set_in_held_list(false);
                if connection.flags.input_held() {
                    self.queue_input(id.index);
                }
            }
            if self.work.done - began >= units {
                return;
            }
        }
        self.waiting.held_back.released = VecDeque::new();
    }

    /// Whether a packet is worked off now.
    pub(super) fn turn_of<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        header: &FixedHeader,
        body: &[u8],
    ) -> PacketHandling {
        if self.work.is_share_over() {
            self.work.share_used = true;
            return PacketHandling::Later { for_store: false };
        }
        let mut for_part = false;
        let waits = match header.packet_type {
            PacketType::Publish => {
                if self.screenings.is_used && self.waits_for_screening(cx, index, header, body) {
                    return PacketHandling::Later { for_store: false };
                }
                for_part = self.parts.holds.any() && self.is_held_topic(index, header, body);
                for_part
                    || self.waiting.held_back.congested
                    || self.work.is_turn_over()
                    || self.router.fan_outs.holds_any() && self.is_held_publisher(index)
            }
            PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::PubRec
            | PacketType::PubRel => false,
            // Nothing answers it, nothing is asked of the store, or the connection ends with it.
            _ => return PacketHandling::Now,
        };
        let takes_all = self.store.takes_all();
        let for_store = !takes_all && self.is_too_much_for_store(cx, index, header, body);
        if self.connections.at(index).flags.transport_closed() {
            // A client that has gone sends no more: what came before the end is worked off. But one
            // client after the other could come and go, and a reserve has an end. So has the queue
            // of a part.
            let for_part = for_part && !fault::is(Fault::HoldSparesLeavers);
            return match for_part || for_store && self.is_store_full_for(index) {
                true => PacketHandling::Never,
                false => PacketHandling::Now,
            };
        }
        if for_part {
            // It waits with the others until there is room.
            self.note_held(self.connections.id_of(index));
        }
        match waits || for_store || self.has_gated_enough(index, header.packet_type) {
            true => PacketHandling::Later { for_store },
            false => PacketHandling::Now,
        }
    }

    /// Whether a packet makes the store grow by what that cannot take from the client now.
    #[cold]
    #[inline(never)]
    fn is_too_much_for_store<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        index: u32,
        header: &FixedHeader,
        body: &[u8],
    ) -> bool {
        let tenant = self.tenant_of(index);
        let store = self.store.state_for(tenant);
        store > StoreState::KeepsUp && self.grows_store(cx, index, store, header, body)
    }

    /// Whether the store has no room but its reserve for what comes from the client.
    #[cold]
    fn is_store_full_for(&mut self, index: u32) -> bool {
        let tenant = self.tenant_of(index);
        self.store.state_for(tenant) >= StoreState::Full
    }

    /// The ending for the client of a connection that has waited too long for the store.
    pub(crate) fn store_limit_for(&mut self, index: u32) -> Limit {
        let tenant = self.tenant_of(index);
        self.store.limit_for(tenant)
    }

    /// Tenant of the client of a connection; the common one before its session is there.
    fn tenant_of(&mut self, index: u32) -> TenantId {
        let session = self.connections.at(index).session();
        session.map_or_else(TenantId::default, |session| {
            self.sessions.at(session).tenant
        })
    }

    /// A message of this client is being fanned out.
    #[cold]
    fn is_held_publisher(&mut self, index: u32) -> bool {
        let session = self.connections.at(index).session();
        session.is_some_and(|session| self.router.fan_outs.holds(self.sessions.id_of(session)))
    }

    /// The one rule for what makes the store grow: a PUBLISH with QoS 1 or 2 or RETAIN, whether or
    /// not it has to be kept, and subscriptions of a session that is recorded, unless all of them
    /// stand already.
    fn grows_store<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        index: u32,
        store: StoreState,
        header: &FixedHeader,
        body: &[u8],
    ) -> bool {
        let connection = self.connections.at(index);
        let (session, version) = (connection.session(), connection.version);
        let session = session.filter(|session| self.sessions.at(*session).durable);
        match (header.packet_type, session) {
            (PacketType::Publish, _) => {
                // What takes a retained message away makes room for its tenant.
                let makes_room =
                    store == StoreState::AtShare && clears_retained(header, body, version);
                header.flags & PUBLISH_STORED != 0 && !makes_room
            }
            (PacketType::Unsubscribe, Some(_)) => true,
            (PacketType::Subscribe, Some(_)) if connection.is_half_done() => true,
            (PacketType::Subscribe, Some(session)) => {
                // A malformed one ends the connection.
                let subscribe = Subscribe::decode(body, version);
                let terms = self.terms_of(index);
                subscribe.is_ok_and(|subscribe| {
                    let id = subscribe.subscription_id.unwrap_or(0);
                    let mut filters = subscribe.filters();
                    // What takes longer to find out than its share waits like what grows.
                    !filters.all(|requested| {
                        self.work.add(NODE);
                        !self.work.is_share_over()
                            && self.stands(cx, &terms, session, &requested, id)
                    })
                })
            }
            _ => false,
        }
    }

    /// Whether the connection has too many answers that wait for the store: then later answers wait
    /// too. A client within the limits of both sides does not reach that number.
    #[inline(always)]
    pub(super) fn has_gated_enough(&mut self, index: u32, packet: PacketType) -> bool {
        self.connections
            .at(index)
            .has_gated_enough(&self.settings.limits, packet)
    }

    /// Reason why a CONNECT finds no room in the store. A client with a session is accepted while
    /// there is a reserve, so that it can take what is queued, or end it with Clean Start: a small
    /// record that replaces another.
    pub(crate) fn has_no_room_for(&self, client: &ConnectingClient) -> Option<RefusalCause> {
        let store = self.store.state_for(client.login.tenant);
        if store < StoreState::Full {
            return None;
        }
        let outlives = client.session_expiry_secs(&self.settings.limits) > 0;
        let request = &client.request;
        let found = self.sessions.find(client.login.tenant, &request.client_id);
        let old = found.and_then(|index| self.sessions.get(self.sessions.id_of(index)));
        let is_recorded = old.is_some_and(|old| old.recorded);
        if !outlives && request.will.is_none() && !is_recorded {
            return None;
        }
        let will_bytes = request.will.as_ref().map_or(0, |will| will.bytes());
        match store {
            StoreState::Full | StoreState::AtLimit | StoreState::AtShare
                if is_recorded && will_bytes <= RESERVE_WILL_BYTES =>
            {
                None
            }
            StoreState::Full => Some(RefusalCause::StoreFull),
            StoreState::AtLimit => Some(Limit::StoreBytes.into()),
            StoreState::AtShare => Some(Limit::TeamStore.into()),
            _ => Some(RefusalCause::StoreFailing),
        }
    }
}

/// Whether a PUBLISH takes a retained message away [MQTT-3.3.1-6].
fn clears_retained(header: &FixedHeader, body: &[u8], version: ProtocolVersion) -> bool {
    let publish = looked_at(header, body, version);
    publish.is_some_and(|publish| publish.retain && publish.payload.is_empty())
}

/// Bytes of a CONNECT that go into the record of its session, if there is one.
fn recorded_bytes(connect: &Connect<'_>) -> usize {
    let will = connect.will.as_ref();
    if will.is_none() && requested_expiry_secs(connect) == 0 {
        return 0;
    }
    let will_bytes = will.map_or(0, |will| will.topic.len() + will.payload.len());
    will_bytes + connect.client_id.len() + connect.user_name.map_or(0, str::len)
}
