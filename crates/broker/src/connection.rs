//! A Network Connection: its input and output bytes, what its CONNECT negotiated, and nothing of
//! the session.
//!
//! An idle connection holds no buffer: input only what an unfinished packet or a held-back
//! publisher leaves, output only what the peer has not taken; both come from the shard's pool.
//! There may be a million connections, most idle: one is kept small, and what it needs only while
//! it has a buffer lies with that.

pub(crate) mod buffer;
pub(crate) mod rare;
pub(crate) mod topic_aliases;

use std::net::IpAddr;
use std::sync::Arc;

use martlet_codec::{PacketType, ProtocolVersion, Publish};

use crate::arena::Arena;
use crate::connect_request::Peer;
use crate::connected_client::{ConnectedClient, SharedClient};
use crate::connection::buffer::{Buffer, BufferPool, UnreportedDelivery};
use crate::connection::rare::{LobbyState, RareState};
use crate::connection::topic_aliases::TopicAliases;
use crate::effect::ConnectionEffect;
use crate::flags::flags;
use crate::hash::Seed;
use crate::id::{ConnectionId, RecordNumber, SessionId};
use crate::limits::{Limits, ListenerPolicy};
use crate::node::{Cx, Node};
use crate::rate::spent::Spent;
use crate::screen::screenings::PendingScreening;
use crate::timer::TimerKey;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No CONNECT yet.
    Lobby,
    /// The connection waits for the authentication of its client.
    Authenticating,
    /// The connection waits for its client's next step of authentication.
    Challenged,
    /// Accepted: it carries a session.
    Accepted,
    /// The last packet is in the output buffer; input is thrown away.
    Closing,
}

impl Phase {
    /// No CONNACK was sent.
    pub(crate) fn is_lobby(self) -> bool {
        matches!(self, Self::Lobby | Self::Authenticating | Self::Challenged)
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    pub(crate) version: ProtocolVersion,
    pub(crate) flags: Flags,
    /// The client's Maximum Packet Size; `u32::MAX` is none.
    pub(crate) packet_bytes_max: u32,
    /// The client's Receive Maximum, bounded by ours.
    pub(crate) send_quota: u16,
    /// QoS 1 and 2 publishes of this connection whose acknowledgement waits for the store.
    pub(crate) publishes_gated: u16,
    /// Answers that wait for the store; those behind them wait too, to leave in order.
    pub(crate) answers_gated: u32,
    /// The record that the last of them waits for.
    pub(crate) gated_for: RecordNumber,
    /// Bytes not yet written; not there while there are none.
    output: Option<Box<Buffer>>,
    /// Bytes received and not yet worked off; not there while there are none.
    pub(crate) input: Option<Box<Buffer>>,
    /// When a packet came last: the last 32 bits of monotonic milliseconds. They begin anew after
    /// 49 days; no Keep Alive is as long.
    last_received_ms: u32,
    /// Bytes of what lies between its socket and MQTT.
    pub(crate) layer_bytes: u32,
    pub(crate) deadline: Option<TimerKey>,
    pub(crate) stalled: Option<TimerKey>,
    /// The session whose QoS 0 messages lie in the output, once it was accepted.
    session: SessionId,
    /// Since when answers wait for the store.
    pub(crate) gated_since: Since,
    /// Since when its packets wait for a store that does not keep up.
    pub(crate) held_for_store_since: Since,
    /// Buffer bytes charged to the shard.
    pub(crate) charged_bytes: u32,
    /// Address, and the client once that was accepted. Shared with events.
    client: SharedClient,
    rare: Option<Box<RareState>>,
}

/// A moment of monotonic time, to 16 ms, in 4 bytes; it may be none. It is known for two years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Since(u32);

/// See [`Since`].
const SINCE_UNIT_MS: u64 = 16;

impl Since {
    /// None.
    pub(crate) const NONE: Self = Self(0);

    /// This moment, or a little later.
    pub(crate) fn at_ms(mono_ms: u64) -> Self {
        Self((mono_ms.div_ceil(SINCE_UNIT_MS) as u32).max(1))
    }

    /// The moment, milliseconds.
    pub(crate) fn ms(self, now_ms: u64) -> Option<u64> {
        let now = now_ms.div_ceil(SINCE_UNIT_MS);
        let passed = (now as u32).wrapping_sub(self.0);
        // One that is not over yet is at most a unit ahead.
        let passed = u64::from(if passed == u32::MAX { 0 } else { passed });
        (self != Self::NONE).then(|| now.saturating_sub(passed) * SINCE_UNIT_MS)
    }
}

flags! {
    /// Small facts about a connection.
    pub(crate) Flags(u16);
    /// The CONNACK is in the output buffer: the session's packets may follow.
    0 admitted set_admitted;
    /// The transport has ended; what came before is still to be worked off.
    1 transport_closed set_transport_closed;
    /// A Write effect is out and output has not been empty since.
    2 write_pending set_write_pending;
    /// A PauseReading effect is out.
    3 reading_paused set_reading_paused;
    /// Packets are held back in `input`; acknowledgements and pings pass.
    4 input_held set_input_held;
    /// In the shard's list of connections whose input is to be worked off.
    5 input_queued set_input_queued;
    /// Reason Strings and User Properties may be sent [MQTT-3.1.2-29].
    6 problem_information set_problem_information;
    /// The CONNECT's level had the bridge bit: retain flags are kept as published.
    7 bridge set_bridge;
    /// Session expiry was 0 in CONNECT, so DISCONNECT may not raise it.
    8 session_expiry_zero set_session_expiry_zero;
    /// Whether it ends in its turn, and what its client sends until then is not obeyed. `admitted`
    /// is taken from it meanwhile, so that it is sent nothing either.
    9 ending set_ending;
    /// In the shard's list of connections that wait for the store or another shard.
    10 in_held_list set_in_held_list;
    /// Whether it is no Network Connection but a part's place (`part.rs`).
    11 part set_part;
}

/// How long nothing may come, milliseconds, with this Keep Alive; 0 is for ever [MQTT-3.1.2-22].
pub(crate) fn keep_alive_ms(keep_alive_secs: u16) -> u32 {
    u32::from(keep_alive_secs) * 1500
}

impl Connection {
    /// One in the lobby.
    pub(crate) fn new(peer: Peer, now_ms: u64) -> Self {
        let Peer {
            address,
            listener,
            entropy,
        } = peer;
        let rare = RareState {
            lobby: Some(Box::new(LobbyState::new(entropy))),
            ..RareState::default()
        };
        Self {
            generation: 0,
            phase: Phase::Lobby,
            version: ProtocolVersion::V311,
            flags: Flags::default(),
            packet_bytes_max: u32::MAX,
            send_quota: u16::MAX,
            publishes_gated: 0,
            answers_gated: 0,
            gated_for: RecordNumber(0),
            output: None,
            input: None,
            last_received_ms: now_ms as u32,
            layer_bytes: 0,
            deadline: None,
            stalled: None,
            session: SessionId::NONE,
            gated_since: Since::NONE,
            held_for_store_since: Since::NONE,
            charged_bytes: 0,
            client: SharedClient::new(ConnectedClient::unknown(listener, address)),
            rare: Some(Box::new(rare)),
        }
    }

    /// Returns what few connections have, if it has some of it.
    #[inline(always)]
    pub(crate) fn rare(&self) -> Option<&RareState> {
        self.rare.as_deref()
    }

    /// Returns what few connections have, to change it, if it has some of it.
    #[inline(always)]
    pub(crate) fn rare_mut(&mut self) -> Option<&mut RareState> {
        self.rare.as_deref_mut()
    }

    /// Returns what few connections have, to put something into it.
    pub(crate) fn make_rare(&mut self) -> &mut RareState {
        self.rare.get_or_insert_default()
    }

    /// Takes something out of what few connections have. If nothing is left, that takes no memory.
    pub(crate) fn take_rare<T>(
        &mut self,
        take: impl FnOnce(&mut RareState) -> Option<T>,
    ) -> Option<T> {
        let rare = self.rare.as_mut()?;
        let taken = take(rare);
        if rare.is_empty() {
            self.rare = None;
        }
        taken
    }

    /// Returns what it has because it is in the lobby.
    pub(crate) fn lobby(&self) -> Option<&LobbyState> {
        self.rare.as_ref()?.lobby.as_deref()
    }

    /// Returns what it has because it is in the lobby, to change it.
    pub(crate) fn lobby_mut(&mut self) -> Option<&mut LobbyState> {
        self.rare.as_mut()?.lobby.as_deref_mut()
    }

    /// Whether its client may be given Topic Aliases, or has set some.
    #[inline(always)]
    pub(crate) fn has_aliases(&self) -> bool {
        self.rare().is_some_and(|rare| rare.aliases.is_some())
    }

    /// Returns its Topic Aliases, to use them.
    #[inline(always)]
    pub(crate) fn aliases_mut(&mut self) -> Option<&mut TopicAliases> {
        self.rare.as_mut()?.aliases.as_mut()
    }

    /// Returns its Topic Aliases, to use them; they are made if there are none.
    pub(crate) fn make_aliases(&mut self, seed: &Seed) -> &mut TopicAliases {
        let aliases = &mut self.make_rare().aliases;
        aliases.get_or_insert_with(|| TopicAliases::new(0, seed))
    }

    /// A SUBSCRIBE or UNSUBSCRIBE of it has been begun and goes on.
    pub(crate) fn is_half_done(&self) -> bool {
        self.rare().is_some_and(|rare| rare.half_done.is_some())
    }

    /// A message of it that the control plane looks at.
    pub(crate) fn screening(&self) -> Option<&PendingScreening> {
        self.rare()?.screening.as_deref()
    }

    /// Whether it waits until the control plane has looked at a message.
    pub(crate) fn waits_for_screening(&self) -> bool {
        self.screening().is_some_and(PendingScreening::waits)
    }

    /// Returns what its client has published of what it may, if the rate has a limit and it has
    /// published.
    pub(crate) fn spent(&mut self) -> Option<&mut Spent> {
        self.rare_mut()?.spent.as_deref_mut()
    }

    /// Returns what its client has published of what it may; at first it has published nothing.
    pub(crate) fn make_spent(&mut self) -> &mut Spent {
        self.make_rare().spent.get_or_insert_default()
    }

    /// Counts bytes of an answer that waits.
    pub(crate) fn add_answer_bytes(&mut self, bytes: usize) {
        if bytes > 0 {
            self.make_rare().answer_bytes += bytes;
        }
    }

    /// These bytes of an answer do not wait any more.
    pub(crate) fn remove_answer_bytes(&mut self, bytes: usize) {
        self.take_rare(|rare| {
            rare.answer_bytes -= bytes;
            Some(())
        });
    }

    /// Bytes of answers that wait, beside acknowledgements.
    pub(crate) fn answer_bytes(&self) -> usize {
        self.rare().map_or(0, |rare| rare.answer_bytes)
    }

    /// A packet has come.
    #[inline(always)]
    pub(crate) fn received(&mut self, now_ms: u64) {
        self.last_received_ms = now_ms as u32;
    }

    /// For how long no packet has come, milliseconds.
    pub(crate) fn quiet_ms(&self, now_ms: u64) -> u32 {
        (now_ms as u32).wrapping_sub(self.last_received_ms)
    }

    /// The session's place, once accepted.
    pub(crate) fn session(&self) -> Option<u32> {
        (self.phase == Phase::Accepted).then_some(self.session.index)
    }

    /// Accepts the connection, which is of this session from now on.
    pub(crate) fn accept(&mut self, session: SessionId) {
        self.phase = Phase::Accepted;
        self.session = session;
    }

    /// Returns its address, and its client once that was accepted.
    pub(crate) fn client(&self) -> &SharedClient {
        &self.client
    }

    /// Returns the client, to change it. Events that were reported before keep the former one.
    pub(crate) fn client_mut(&mut self) -> &mut ConnectedClient {
        SharedClient::make_mut(&mut self.client)
    }

    /// Returns what its listener permits.
    pub(crate) fn listener(&self) -> &Arc<ListenerPolicy> {
        &self.client.listener
    }

    /// Where it comes from; none on a Unix socket.
    pub(crate) fn address(&self) -> Option<(IpAddr, u16)> {
        self.client.address
    }

    /// Keep Alive in force × 1.5, milliseconds; 0 is none.
    pub(crate) fn keep_alive_ms(&self) -> u32 {
        keep_alive_ms(self.client.keep_alive_secs)
    }

    /// The session whose QoS 0 messages lie in the output.
    pub(crate) fn owner(&self) -> Option<SessionId> {
        (self.session != SessionId::NONE).then_some(self.session)
    }

    /// The topic that an alias of a PUBLISH stands for; none if it has none, or an unknown one.
    pub(crate) fn topic_of_alias(&self, publish: &Publish<'_>) -> Option<Arc<str>> {
        let alias = publish.properties.topic_alias?;
        let aliases = self.rare()?.aliases.as_ref()?;
        aliases.inbound.get(usize::from(alias.get()) - 1)?.clone()
    }

    /// The user of its client, proved or not, once it was accepted; none is anonymous.
    pub(crate) fn user_name(&self) -> Option<&Arc<str>> {
        self.client.user_name.as_ref()
    }

    /// Bytes not yet written.
    pub(crate) fn output(&self) -> &[u8] {
        match &self.output {
            Some(output) => &output.bytes[output.done as usize..],
            None => &[],
        }
    }

    /// Bytes of memory that its buffers take, and what few connections have.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let bytes = |buffer: &Option<Box<Buffer>>| {
            let buffer = buffer.as_ref();
            buffer.map_or(0, |buffer| buffer.bytes.capacity())
        };
        bytes(&self.output) + bytes(&self.input) + self.rare().map_or(0, RareState::bytes)
    }

    /// Bytes of the user name of its client, proved or not.
    pub(crate) fn name_bytes(&self) -> usize {
        self.user_name().map_or(0, |name| name.len())
    }

    pub(crate) fn input_len(&self) -> usize {
        self.input.as_ref().map_or(0, |input| input.bytes.len())
    }

    pub(crate) fn output_len(&self) -> usize {
        let output = self.output.as_ref();
        output.map_or(0, |output| output.bytes.len() - output.done as usize)
    }

    /// Where to append a packet. The caller marks the connection as having output.
    pub(crate) fn output_mut(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        &mut self.output_buffer(pool).bytes
    }

    /// Returns the buffer to append a packet to, with what is known of it.
    #[inline]
    pub(crate) fn output_buffer(&mut self, pool: &mut BufferPool) -> &mut Buffer {
        self.output.get_or_insert_with(|| pool.take())
    }

    /// A packet has been appended to the output of this connection, whose place is `index`: it is
    /// to be written. Answers whether the buffer has grown, so that it is to be charged.
    #[inline]
    pub(crate) fn appended<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) -> bool {
        let Some(output) = &mut self.output else {
            return false;
        };
        if !self.flags.write_pending() {
            self.flags.set_write_pending(true);
            output.last_progress_ms = cx.now.mono_ms;
            let generation = self.generation;
            let id = ConnectionId { index, generation };
            let effect = match cx.effects.is_fanning_out {
                true => ConnectionEffect::WriteInTurn(id),
                false => ConnectionEffect::Write(id),
            };
            cx.effects.connections.push(effect);
        }
        output.bytes.capacity() != output.charged as usize
    }

    /// Charges what its buffers take to the shard. Returns that, and what was charged before.
    pub(crate) fn charge(&mut self) -> (usize, usize) {
        for buffer in [&mut self.output, &mut self.input].into_iter().flatten() {
            buffer.charged = buffer.bytes.capacity() as u32;
        }
        let bytes = self.buffer_bytes();
        let before = core::mem::replace(&mut self.charged_bytes, bytes as u32);
        (bytes, before as usize)
    }

    /// Whether it has too many answers that wait for the store for this packet to be processed.
    #[inline(always)]
    pub(crate) fn has_gated_enough(&self, limits: &Limits, packet: PacketType) -> bool {
        let answers_max = u32::from(limits.receive_maximum) + u32::from(limits.in_flight);
        self.answers_gated >= answers_max
            || packet == PacketType::Publish
                && !self.version.is_v5()
                && self.publishes_gated >= limits.receive_maximum
    }

    /// Keeps bytes that cannot be worked off yet.
    pub(crate) fn keep_input(&mut self, bytes: &[u8], pool: &mut BufferPool) {
        let input = self.input.get_or_insert_with(|| pool.take());
        input.bytes.extend_from_slice(bytes);
    }

    /// The peer has taken some of the output.
    pub(crate) fn progressed(&mut self, now_ms: u64) {
        if let Some(output) = &mut self.output {
            output.last_progress_ms = now_ms;
        }
    }

    /// Since when the peer has taken nothing of what there is for it.
    pub(crate) fn output_waits_since_ms(&self) -> Option<u64> {
        let output = self.output.as_ref()?;
        (output.bytes.len() > output.done as usize).then_some(output.last_progress_ms)
    }

    /// Takes QoS 0 messages out of the output that have not begun to be written; how many.
    pub(crate) fn drop_qos0_output(&mut self) -> u32 {
        // Later packets may stand on a Topic Alias that one of them sets.
        let aliases = self.rare().and_then(|rare| rare.aliases.as_ref());
        let has_aliases = aliases.is_some_and(|aliases| !aliases.outbound.is_empty());
        match &mut self.output {
            Some(output) if !has_aliases => output.drop_qos0(),
            _ => 0,
        }
    }

    /// QoS 0 messages in the output.
    pub(crate) fn qos0_in_output(&self) -> u32 {
        self.output.as_ref().map_or(0, |output| output.qos0)
    }

    /// `count` bytes have been written. Answers how many QoS 0 messages left with them.
    pub(crate) fn wrote(&mut self, count: usize, pool: &mut BufferPool) -> u32 {
        let Some(output) = &mut self.output else {
            self.flags.set_write_pending(false);
            return 0;
        };
        let left = output.bytes.len() - output.done as usize;
        if count < left {
            return output.wrote(count);
        }
        let delivered = output.qos0;
        pool.put(self.output.take());
        self.flags.set_write_pending(false);
        delivered
    }

    /// Takes the deliveries that are to be reported, out of `count` QoS 0 messages that leave now.
    pub(crate) fn take_unreported_deliveries(&mut self, count: u32) -> Vec<UnreportedDelivery> {
        let Some(output) = &mut self.output else {
            return Vec::new();
        };
        let written = output.unreported_deliveries.iter_mut();
        let written = written
            .filter_map(|delivery| delivery.has_left(count).then_some(()))
            .count();
        output.unreported_deliveries.drain(..written).collect()
    }

    /// QoS 0 messages that leave with the next `count` bytes of the output.
    pub(crate) fn qos0_until(&self, count: usize) -> u32 {
        let Some(output) = &self.output else {
            return 0;
        };
        output.packets_written(output.done as usize + count).0
    }

    /// The packets that end with the next `count` bytes of the output: type, Packet Identifier,
    /// Remaining Length.
    pub(crate) fn packets_until(&self, count: usize) -> Vec<(PacketType, Option<u16>, u32)> {
        let mut packets = Vec::new();
        let Some(output) = &self.output else {
            return packets;
        };
        let done = output.done as usize;
        let mut start = 0;
        while let Ok(Some(header)) = martlet_codec::decode_fixed_header(&output.bytes[start..]) {
            let end = start + header.packet_len();
            if end > done + count {
                break;
            }
            if end > done {
                let body = &output.bytes[start + usize::from(header.header_len)..end];
                let id = header.packet_id(body);
                packets.push((header.packet_type, id, body.len() as u32));
            }
            start = end;
        }
        packets
    }

    /// Gives the buffers back. Answers how many QoS 0 messages are lost with them.
    pub(crate) fn release_buffers(&mut self, pool: &mut BufferPool) -> u32 {
        let lost = self.qos0_in_output();
        pool.put(self.output.take());
        pool.put(self.input.take());
        lost
    }
}

/// The shard's connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    arena: Arena<Connection>,
    generation: u32,
    /// Number of connections that have been accepted and have not ended.
    pub(crate) accepted: usize,
}

impl Connections {
    pub(crate) fn insert(&mut self, mut connection: Connection) -> ConnectionId {
        self.generation = self.generation.wrapping_add(1);
        connection.generation = self.generation;
        let index = self.arena.insert(connection);
        ConnectionId {
            index,
            generation: self.generation,
        }
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.arena
            .get(id.index)
            .filter(|found| found.generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.arena
            .get_mut(id.index)
            .filter(|found| found.generation == id.generation)
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get(id)?;
        self.arena.remove(id.index)
    }

    /// The connection at a place that may be free.
    pub(crate) fn look_at(&self, index: u32) -> Option<&Connection> {
        self.arena.get(index)
    }

    /// The connection at a place that is known to be taken.
    #[inline(always)]
    pub(crate) fn at(&mut self, index: u32) -> &mut Connection {
        &mut self.arena[index]
    }

    pub(crate) fn id_of(&self, index: u32) -> ConnectionId {
        ConnectionId {
            index,
            generation: self.arena[index].generation,
        }
    }

    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.arena
            .iter()
            .map(|(index, found)| ConnectionId {
                index,
                generation: found.generation,
            })
            .collect()
    }

    /// Connections are below this place.
    pub(crate) fn places(&self) -> u32 {
        self.arena.places()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.entries().map(|(_, connection)| connection)
    }

    /// All connections, with their places.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, &Connection)> {
        self.arena.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.arena.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_known_to_16_ms_however_long_the_node_has_run() {
        for began_ms in [
            0,
            1,
            16,
            17,
            1_000_000,
            16 << 32,
            (16 << 32) + 15,
            u64::MAX >> 8,
        ] {
            let since = Since::at_ms(began_ms);
            for later_ms in [0, 1, 15, 16, 17, 3_600_000, 30 * 86_400_000] {
                let found_ms = since.ms(began_ms + later_ms).unwrap();
                assert!((began_ms..began_ms + 32).contains(&found_ms), "{began_ms}");
            }
        }
        assert_eq!(Since::NONE.ms(5), None);
    }

    #[test]
    fn an_idle_connection_is_small() {
        // A chunk of them is whole pages.
        assert!(size_of::<Connection>() <= 96);
        assert!(size_of::<RareState>() <= 192);
    }

    fn connection() -> Connection {
        let peer = Peer {
            address: None,
            listener: Arc::default(),
            entropy: [7; 16],
        };
        Connection::new(peer, 0)
    }

    #[test]
    fn what_few_connections_have_takes_no_memory_once_it_is_gone() {
        let mut connection = connection();
        assert!(connection.lobby().is_some());
        connection.add_answer_bytes(5);
        connection.take_rare(|rare| rare.lobby.take());
        assert_eq!(connection.answer_bytes(), 5);
        assert!(connection.buffer_bytes() >= size_of::<RareState>());
        connection.remove_answer_bytes(5);
        assert!(connection.rare().is_none());
        assert_eq!(connection.buffer_bytes(), 0);
    }

    #[test]
    fn how_long_nothing_came_is_known_when_the_count_begins_anew() {
        let mut connection = connection();
        connection.received(u64::from(u32::MAX) - 5);
        assert_eq!(connection.quiet_ms(u64::from(u32::MAX) + 10), 15);
    }
}
