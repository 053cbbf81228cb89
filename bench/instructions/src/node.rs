//! One shard and its clients in memory, driven as a reactor drives it, without sockets.
//!
//! Responsible for calling the shard in ticks, for carrying out what it asks, with a store that
//! answers at once, and for clients that acknowledge all they get. What the shard does is measured,
//! what this program does for it is not. MQTT 5.0 §4.3.

use std::sync::Arc;

use martlet_broker::{
    Authenticated, ConnectionEffect, ConnectionId, Cx, Effects, Guest, Identity, ListenerPolicy,
    Now, Peer, Rules, Settings, Shard, ShardId, TransportEnd,
};
use martlet_codec::{
    Ack, AckKind, Connect, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, Subscribe,
    SubscribeFilter, SubscriptionOptions, UserProperties, decode_fixed_header,
};
use martlet_script::LocalNode;

use crate::counting::{allocations, held_bytes};

const VERSION: ProtocolVersion = ProtocolVersion::V311;

/// A client, by its number.
pub(crate) type ClientIndex = usize;

struct Client {
    connection: ConnectionId,
    /// What the broker has sent and the client not worked off.
    received: Vec<u8>,
    /// What the client sends in the next tick.
    sending: Vec<u8>,
}

/// A node of one shard.
pub(crate) struct Node {
    node: LocalNode,
    shard: Shard,
    effects: Effects,
    spare: Vec<ConnectionEffect>,
    now: Now,
    listener: Arc<ListenerPolicy>,
    /// What clients may do who say who they are; none: nobody has to.
    rules: Option<Arc<Rules>>,
    clients: Vec<Client>,
    /// Clients by the index of their connection.
    by_connection: Vec<Option<ClientIndex>>,
    /// Clients with something to send or to work off.
    busy: Vec<ClientIndex>,
    is_measured: bool,
    /// Allocations while it was measured.
    pub(crate) allocations: u64,
    /// Bytes that the shard has come to hold in calls, but those that were measured.
    pub(crate) held_bytes: i64,
    /// PUBLISH packets that came to clients, in all.
    pub(crate) delivered: u64,
}

/// What callgrind counts: it is told to collect in here only. The name is part of its command line.
#[inline(never)]
pub(crate) fn measured_call<T>(call: impl FnOnce() -> T) -> T {
    std::hint::black_box(call())
}

impl Node {
    /// A node that has just started.
    pub(crate) fn new() -> Self {
        let settings = Arc::new(Settings::default());
        Self {
            node: LocalNode::new(1, settings.limits.memory_bytes),
            shard: Shard::new(settings, ShardId(0), 1, 1),
            effects: Effects::new(1),
            spare: Vec::new(),
            now: Now {
                mono_ms: 1000,
                wall_ms: 1_700_000_000_000,
                record_ms: 1_700_000_000_000,
            },
            listener: Arc::new(ListenerPolicy::default()),
            rules: None,
            clients: Vec::new(),
            by_connection: Vec::new(),
            busy: Vec::new(),
            is_measured: false,
            allocations: 0,
            held_bytes: 0,
            delivered: 0,
        }
    }

    /// A node whose clients have to say who they are, and may do what these rules permit.
    pub(crate) fn with_rules(rules: Arc<Rules>) -> Self {
        let mut node = Self::new();
        node.listener = Arc::new(ListenerPolicy {
            authenticate: true,
            ..ListenerPolicy::default()
        });
        node.rules = Some(rules);
        node
    }

    /// Connects a client, with a session that outlives its connection if `lasting`.
    pub(crate) fn connect(&mut self, client_id: &str, lasting: bool) -> ClientIndex {
        let mut entropy = [0; 16];
        entropy[8..].copy_from_slice(&(self.clients.len() as u64).to_be_bytes());
        let peer = Peer {
            address: Some(([127, 0, 0, 1].into(), 10_000)),
            listener: Arc::clone(&self.listener),
            entropy,
        };
        let connection = self.call(|shard, cx| shard.open(cx, peer));
        let index = self.clients.len();
        self.clients.push(Client {
            connection,
            received: Vec::new(),
            sending: Vec::new(),
        });
        self.place(index, connection);
        let connect = Connect {
            clean_start: !lasting,
            ..Connect::new(VERSION, client_id)
        };
        connect.encode(self.sending(index));
        self.run();
        self.authenticate();
        index
    }

    /// Tells the shard who those are that it asks for.
    fn authenticate(&mut self) {
        let Some(rules) = self.rules.clone() else {
            return;
        };
        for asked in std::mem::take(&mut self.effects.authentications) {
            let identity = Identity {
                user_name: Some(Arc::clone(&asked.client_id)),
                rules: Arc::clone(&rules),
                ..Identity::anyone()
            };
            let answer = Authenticated::Accepted {
                identity,
                known: 0,
                data: None,
            };
            self.call(|shard, cx| shard.authenticated(cx, asked.connection, answer));
        }
        self.run();
    }

    /// Subscribes to a filter.
    pub(crate) fn subscribe(&mut self, client: ClientIndex, filter: &str, qos: QoS) {
        let options = SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        };
        let filters = [SubscribeFilter { filter, options }];
        let none = UserProperties::default();
        let output = self.sending(client);
        Subscribe::encode_parts(VERSION, PacketId::MIN, None, none, &filters, output);
        self.run();
    }

    /// Where the bytes go that a client sends in the next tick.
    pub(crate) fn sending(&mut self, client: ClientIndex) -> &mut Vec<u8> {
        self.busy.push(client);
        &mut self.clients[client].sending
    }

    /// From now on instructions and allocations count.
    pub(crate) fn measure(&mut self) {
        self.is_measured = true;
        self.delivered = 0;
    }

    /// Ticks until no client has anything to send.
    pub(crate) fn run(&mut self) {
        while !self.busy.is_empty() {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.call(|shard, _| shard.begin_turn());
        self.call(|shard, cx| shard.work(cx));
        for index in std::mem::take(&mut self.busy) {
            let client = &mut self.clients[index];
            let bytes = std::mem::take(&mut client.sending);
            let connection = client.connection;
            if !bytes.is_empty() {
                self.call(|shard, cx| shard.receive(cx, connection, &bytes));
            }
            // Its room is used again.
            let sending = &mut self.clients[index].sending;
            *sending = bytes;
            sending.clear();
        }
        let now_ms = self.now.mono_ms;
        if self.shard.next_wakeup().is_some_and(|due| due <= now_ms) {
            self.call(|shard, cx| shard.advance(cx));
        }
        while self.carry_out() {}
        for index in self.busy.clone() {
            self.answer(index);
        }
        self.busy
            .retain(|index| !self.clients[*index].sending.is_empty());
    }

    /// Carries out what the shard asks; `true` if there was anything.
    fn carry_out(&mut self) -> bool {
        let had_records = !self.effects.records.is_empty();
        if had_records {
            // The store has taken what they say, which is not measured; nor is what becomes of
            // them.
            self.shard.take_back(&mut self.effects.records);
            let up_to = self.shard.last_record();
            self.call(|shard, cx| shard.durable(cx, up_to));
        }
        let has_work = self.shard.has_work();
        if has_work {
            self.call(|shard, cx| shard.work(cx));
        }
        let spare = std::mem::take(&mut self.spare);
        let mut effects = std::mem::replace(&mut self.effects.connections, spare);
        let is_done = effects.is_empty() && !had_records && !has_work;
        for effect in effects.drain(..) {
            self.carry_out_connection(effect);
        }
        self.spare = effects;
        !is_done
    }

    fn carry_out_connection(&mut self, effect: ConnectionEffect) {
        match effect {
            ConnectionEffect::Write(id) | ConnectionEffect::WriteInTurn(id) => self.write(id),
            ConnectionEffect::Move { id, guest, .. } => self.adopt(id, guest),
            ConnectionEffect::PauseReading(_) | ConnectionEffect::ResumeReading(_) => {}
            ConnectionEffect::Close(id) | ConnectionEffect::Abort(id) => {
                self.call(|shard, cx| shard.closed(cx, id, TransportEnd::Finished));
                panic!("the broker closed a connection");
            }
        }
    }

    fn write(&mut self, id: ConnectionId) {
        let output = self.shard.output(id);
        let count = output.len();
        if let Some(index) = self.by_connection[id.index as usize] {
            self.clients[index].received.extend_from_slice(output);
            self.busy.push(index);
        }
        self.call(|shard, cx| shard.wrote(cx, id, count));
    }

    fn adopt(&mut self, id: ConnectionId, guest: Box<Guest>) {
        let index = self.by_connection[id.index as usize].take();
        let index = index.expect("every connection is a client's");
        let connection = self.call(|shard, cx| shard.adopt(cx, guest));
        self.clients[index].connection = connection;
        self.place(index, connection);
    }

    fn place(&mut self, index: ClientIndex, connection: ConnectionId) {
        let place = connection.index as usize;
        if self.by_connection.len() <= place {
            self.by_connection.resize(place + 1, None);
        }
        self.by_connection[place] = Some(index);
    }

    /// A client works off what it got and acknowledges it.
    fn answer(&mut self, index: ClientIndex) {
        let Client {
            received, sending, ..
        } = &mut self.clients[index];
        let mut bytes = &received[..];
        while let Some(header) = decode_fixed_header(bytes).expect("the broker sends packets") {
            let body = &bytes[usize::from(header.header_len)..header.packet_len()];
            let packet = Packet::decode(header, body, VERSION).expect("the broker sends packets");
            let mut answer = |kind, packet_id| {
                Ack::new(packet_id, ReasonCode::Success).encode(kind, VERSION, sending);
            };
            match packet {
                Packet::Publish(publish) => {
                    self.delivered += 1;
                    match (publish.qos, publish.packet_id) {
                        (QoS::AtLeastOnce, Some(id)) => answer(AckKind::PubAck, id),
                        (QoS::ExactlyOnce, Some(id)) => answer(AckKind::PubRec, id),
                        _ => {}
                    }
                }
                Packet::PubRec(ack) => answer(AckKind::PubRel, ack.packet_id),
                Packet::PubRel(ack) => answer(AckKind::PubComp, ack.packet_id),
                _ => {}
            }
            bytes = &bytes[header.packet_len()..];
        }
        assert!(bytes.is_empty(), "output ends with a packet");
        received.clear();
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Shard, &mut Cx<'_, LocalNode>) -> T) -> T {
        let mut cx = Cx {
            now: self.now,
            node: &self.node,
            effects: &mut self.effects,
        };
        let shard = &mut self.shard;
        if !self.is_measured {
            let before = held_bytes();
            let result = call(shard, &mut cx);
            self.held_bytes += held_bytes() as i64 - before as i64;
            return result;
        }
        let before = allocations();
        let result = measured_call(|| call(shard, &mut cx));
        self.allocations += allocations() - before;
        result
    }
}
