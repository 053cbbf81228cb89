//! A Network Connection: its input and output bytes, what its CONNECT negotiated, and nothing of
//! the session.
//!
//! An idle connection holds no buffer: input only what an unfinished packet or a held-back
//! publisher leaves, output only what the peer has not taken; both come from the shard's pool.

use core::num::NonZeroU16;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap as RawMap;
use martlet_codec::ProtocolVersion;

use crate::arena::Arena;
use crate::hash::{HashMap, Seed};
use crate::id::{ConnectionId, RecordNumber, SessionId};
use crate::limits::ListenerPolicy;
use crate::timer::TimerKey;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No CONNECT yet.
    Lobby,
    /// It waits to be known who its client is.
    Authenticating,
    /// Accepted; the session's place.
    Accepted(u32),
    /// The last packet is in the output buffer; input is thrown away.
    Closing,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    pub(crate) version: ProtocolVersion,
    pub(crate) flags: Flags,
    /// Keep Alive in force × 1.5, milliseconds; 0 is none.
    pub(crate) keep_alive_ms: u32,
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
    /// QoS 0 messages in the output buffer, of which this many are held (idea 6).
    pub(crate) qos0_in_output: u32,
    /// Where in `output` the bytes not yet written begin.
    output_start: u32,
    output: Vec<u8>,
    /// Bytes received and not yet worked off.
    pub(crate) input: Vec<u8>,
    pub(crate) last_received_ms: u64,
    /// Last time the peer took output, or output was empty.
    pub(crate) last_progress_ms: u64,
    pub(crate) deadline: Option<TimerKey>,
    pub(crate) stalled: Option<TimerKey>,
    /// Whose QoS 0 messages lie in the output buffer.
    pub(crate) owner: Option<SessionId>,
    /// Since when answers wait for the store.
    pub(crate) gated_since_ms: u64,
    /// Bytes of `input` that are held-back packets, already looked at.
    pub(crate) held_bytes: u32,
    /// Since when its packets wait for a store that does not keep up; 0 is not.
    pub(crate) held_for_store_since_ms: u64,
    /// Buffer bytes charged to the shard.
    pub(crate) charged_bytes: u32,
    pub(crate) listener: Arc<ListenerPolicy>,
    pub(crate) address: Option<(IpAddr, u16)>,
    /// Only until the CONNECT is accepted, and for assigned client identifiers.
    pub(crate) entropy: [u8; 16],
    pub(crate) user_name: Option<Arc<str>>,
    pub(crate) aliases: Option<Box<TopicAliases>>,
}

/// Small facts about a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    /// The CONNACK is in the output buffer: the session's packets may follow.
    pub(crate) admitted: bool,
    /// The transport has ended; what came before is still to be worked off.
    pub(crate) transport_gone: bool,
    /// A Write effect is out and output has not been empty since.
    pub(crate) write_pending: bool,
    /// A PauseReading effect is out.
    pub(crate) reading_paused: bool,
    /// Packets are held back in `input`; acknowledgements and pings pass.
    pub(crate) input_held: bool,
    /// In the shard's list of connections whose input is to be worked off.
    pub(crate) input_queued: bool,
    /// Reason Strings and User Properties may be sent [MQTT-3.1.2-29].
    pub(crate) problem_information: bool,
    /// The CONNECT's level had the bridge bit: retain flags are kept as published.
    pub(crate) bridge: bool,
    /// Session expiry was 0 in CONNECT, so DISCONNECT may not raise it.
    pub(crate) session_expiry_zero: bool,
}

/// Topic Aliases of one connection, both directions.
#[derive(Debug)]
pub(crate) struct TopicAliases {
    /// Set by the client; index is alias - 1.
    pub(crate) inbound: Vec<Option<Arc<str>>>,
    pub(crate) inbound_bytes: usize,
    /// Given by us, first come first served.
    pub(crate) outbound: HashMap<Box<str>, NonZeroU16>,
    /// The client's Topic Alias Maximum, bounded by ours.
    pub(crate) outbound_max: u16,
}

impl TopicAliases {
    pub(crate) fn new(outbound_max: u16, seed: &Seed) -> Self {
        Self {
            inbound: Vec::new(),
            inbound_bytes: 0,
            outbound: RawMap::with_hasher(seed.clone()),
            outbound_max,
        }
    }
}

impl Connection {
    pub(crate) fn new(
        listener: Arc<ListenerPolicy>,
        address: Option<(IpAddr, u16)>,
        entropy: [u8; 16],
        now_ms: u64,
    ) -> Self {
        Self {
            generation: 0,
            phase: Phase::Lobby,
            version: ProtocolVersion::V311,
            flags: Flags::default(),
            keep_alive_ms: 0,
            packet_bytes_max: u32::MAX,
            send_quota: u16::MAX,
            publishes_gated: 0,
            answers_gated: 0,
            gated_for: RecordNumber(0),
            qos0_in_output: 0,
            output_start: 0,
            output: Vec::new(),
            input: Vec::new(),
            last_received_ms: now_ms,
            last_progress_ms: now_ms,
            deadline: None,
            stalled: None,
            owner: None,
            gated_since_ms: 0,
            held_bytes: 0,
            held_for_store_since_ms: 0,
            charged_bytes: 0,
            listener,
            address,
            entropy,
            user_name: None,
            aliases: None,
        }
    }

    /// The session's place, once accepted.
    pub(crate) fn session(&self) -> Option<u32> {
        match self.phase {
            Phase::Accepted(session) => Some(session),
            Phase::Lobby | Phase::Authenticating | Phase::Closing => None,
        }
    }

    /// Bytes not yet written.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output[self.output_start as usize..]
    }

    /// Bytes of memory that its buffers take.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.output.capacity() + self.input.capacity()
    }

    pub(crate) fn output_len(&self) -> usize {
        self.output.len() - self.output_start as usize
    }

    /// Where to append a packet. The caller marks the connection as having output.
    pub(crate) fn output_mut(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.output.capacity() == 0 {
            self.output = pool.take();
        }
        &mut self.output
    }

    /// `count` bytes have been written. Answers how many QoS 0 messages left with them.
    pub(crate) fn wrote(&mut self, count: usize, pool: &mut BufferPool) -> u32 {
        let start = self.output_start as usize;
        let count = count.min(self.output.len() - start);
        if start + count == self.output.len() {
            pool.put(core::mem::take(&mut self.output));
            self.output_start = 0;
            self.flags.write_pending = false;
            return core::mem::take(&mut self.qos0_in_output);
        }
        let (delivered, boundary) = self.packets_written(start + count);
        self.qos0_in_output -= delivered;
        self.output_start = (start + count) as u32;
        // Only whole packets are cut off, so that the buffer always begins with a packet's start.
        if boundary > self.output.len() / 2 {
            self.output.drain(..boundary);
            self.output_start -= boundary as u32;
        }
        delivered
    }

    /// Gives the buffers back.
    pub(crate) fn release_buffers(&mut self, pool: &mut BufferPool) {
        pool.put(core::mem::take(&mut self.output));
        pool.put(core::mem::take(&mut self.input));
        self.output_start = 0;
    }

    /// Of what ends between the bytes written before and `until`: how many QoS 0 PUBLISH packets,
    /// and where the last packet that is written whole ends.
    fn packets_written(&self, until: usize) -> (u32, usize) {
        let (mut delivered, mut boundary) = (0, 0);
        while let Some((length, qos0)) = packet_at(&self.output[boundary..]) {
            let end = boundary + length;
            if end > until {
                break;
            }
            delivered += u32::from(qos0 && end > self.output_start as usize);
            boundary = end;
        }
        (delivered, boundary)
    }
}

/// Length of the packet at the front of our own output and whether it is a QoS 0 PUBLISH.
fn packet_at(bytes: &[u8]) -> Option<(usize, bool)> {
    let header = martlet_codec::decode_fixed_header(bytes).ok().flatten()?;
    let publish = header.packet_type == martlet_codec::PacketType::Publish;
    Some((header.packet_len(), publish && header.flags & 0b0110 == 0))
}

/// The shard's connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    arena: Arena<Connection>,
    generation: u32,
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

    /// The connection at a place that is known to be taken.
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

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.arena.iter().map(|(_, connection)| connection)
    }
}

/// Buffers that connections borrow while they have something in them.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    free: Vec<Vec<u8>>,
}

/// Capacity of a fresh buffer: more than CONNACK needs. Those of busy connections grow, and stay so
/// in the pool.
const BUFFER_BYTES: usize = 512;
/// A buffer that grew beyond this is not kept. It is more than what one read brings, since buffers
/// double: else those of connections with large messages would grow anew each time.
const KEPT_BYTES: usize = 128 * 1024;
/// Buffers kept.
const KEPT: usize = 128;

impl BufferPool {
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.free
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= KEPT_BYTES && self.free.len() < KEPT {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}
