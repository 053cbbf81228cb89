//! One shard and its clients in memory, in the loop that ships (`martlet_tick`), without sockets.
//!
//! Responsible for clients that acknowledge all they get, with a store that answers at once. What
//! the shard does is measured. What the loop and this program do for it is not. MQTT 5.0 §4.3.

use std::sync::Arc;

use martlet_broker::{
    Authenticated, Cx, Effects, Identity, ListenerPolicy, Now, PartCall, PartEvent, PartId,
    PartOutcome, PartQueueLimits, PartReach, PartSpec, PartSubscription, Record, RecordNumber,
    Rules, Settings, Settlement, Shard, ShardId, TenantId, lane_name,
};
use martlet_codec::{
    Ack, AckKind, Connect, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, RetainHandling,
    Subscribe, SubscribeFilter, SubscriptionOptions, UserProperties, decode_fixed_header,
};
use martlet_tick::local::{Link, Parts, START, World, peer};
use martlet_tick::{Control, LocalNode};

use crate::counting::{allocations, held_bytes};

const VERSION: ProtocolVersion = ProtocolVersion::V311;

/// The part of a node that has one.
const PART: PartId = PartId(1);

/// A client, by its number.
pub(crate) type ClientIndex = usize;

struct Client {
    link: Link,
    /// Bytes that the client sends in the next tick.
    sending: Vec<u8>,
}

/// Parts that the shard shares, and what its calls cost.
struct Measuring {
    node: LocalNode,
    is_measured: bool,
    /// Allocations while it was measured.
    allocations: u64,
    /// Bytes that the shard has come to hold in calls, but those that were measured.
    held_bytes: i64,
}

/// Makes the call that callgrind counts: it is told to collect in here only. The name is part of
/// its command line.
#[inline(never)]
pub(crate) fn measured_call<T>(call: impl FnOnce() -> T) -> T {
    std::hint::black_box(call())
}

impl Parts for Measuring {
    type Node = LocalNode;

    fn node(&self) -> &LocalNode {
        &self.node
    }

    fn call<T>(
        &mut self,
        shard: &mut Shard,
        effects: &mut Effects,
        now: Now,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, LocalNode>) -> T,
    ) -> T {
        let node = &self.node;
        let mut cx = Cx { now, node, effects };
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

    /// The store takes what they say at once, which is not measured.
    fn append(
        &mut self,
        _: ShardId,
        _: &[Record],
        last: RecordNumber,
        _: Now,
    ) -> Option<RecordNumber> {
        Some(last)
    }
}

/// A node of one shard.
pub(crate) struct Node {
    world: World<Measuring>,
    listener: Arc<ListenerPolicy>,
    /// Rules for clients who say who they are; none: nobody has to.
    rules: Option<Arc<Rules>>,
    clients: Vec<Client>,
    /// PUBLISH packets that came to clients, in all.
    pub(crate) delivered: u64,
}

impl Node {
    /// A node that has just started.
    pub(crate) fn new() -> Self {
        let settings = Arc::new(Settings::default());
        let measuring = Measuring {
            node: LocalNode::new(1, settings.limits.memory_bytes),
            is_measured: false,
            allocations: 0,
            held_bytes: 0,
        };
        let shard = Shard::new(settings, ShardId(0), 1, 1);
        Self {
            world: World::new(measuring, vec![shard], START),
            listener: Arc::new(ListenerPolicy::default()),
            rules: None,
            clients: Vec::new(),
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
        let index = self.clients.len();
        let peer = peer(&self.listener, index as u64);
        self.clients.push(Client {
            link: self.world.open(0, peer),
            sending: Vec::new(),
        });
        let connect = Connect {
            clean_start: !lasting,
            ..Connect::new(VERSION, client_id)
        };
        connect.encode(self.sending(index));
        self.run_for(index);
        self.authenticate();
        self.run_for(index);
        index
    }

    /// Tells the shard who those are that it asks for.
    fn authenticate(&mut self) {
        while let (Some(rules), Some((_, asked))) = (&self.rules, self.world.next_asked()) {
            let identity = Identity {
                user_name: Some(Arc::clone(&asked.client_id)),
                rules: Arc::clone(rules),
                ..Identity::anyone()
            };
            let answer = Authenticated::Accepted {
                identity,
                last_revocation: 0,
                data: None,
            };
            let answer = Control::Authenticated(asked.connection, Box::new(answer));
            self.world.control(0, answer);
        }
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
        self.run_for(client);
    }

    /// Attaches a durable part that takes what this Topic Filter matches, as an integration does:
    /// it settles a batch of messages at once. `keeps_qos0`: those of QoS 0 are stored.
    pub(crate) fn attach_part(&mut self, filter: &str, keeps_qos0: bool) {
        let spec = PartSpec {
            id: PART,
            tenant: TenantId::default(),
            client_id: lane_name("$integration/test/all", 0).into(),
            identity: None,
            subscriptions: vec![PartSubscription {
                filter: filter.into(),
                identifier: 0,
                retain_handling: RetainHandling::DoNotSend,
            }],
            credit: 1_000,
            session_expiry_secs: u32::MAX,
            keeps_qos0,
            queue: PartQueueLimits::default(),
            reach: PartReach::Lane,
        };
        let call = PartCall::Attach(Box::new(spec));
        self.world.control(0, Control::Part(call));
        self.run();
    }

    /// The part settles what it was handed.
    fn settle(&mut self) {
        let mut settled = Vec::new();
        while let Some((_, event)) = self.world.next_told() {
            if let PartEvent::Delivery(delivery) = event {
                settled.push(Settlement {
                    token: delivery.token,
                    outcome: PartOutcome::Done,
                });
            }
        }
        self.delivered += settled.len() as u64;
        if !settled.is_empty() {
            let call = PartCall::Settle(PART, settled);
            self.world.control(0, Control::Part(call));
        }
    }

    /// Where the bytes go that a client sends in the next tick.
    pub(crate) fn sending(&mut self, client: ClientIndex) -> &mut Vec<u8> {
        &mut self.clients[client].sending
    }

    /// From now on instructions and allocations count.
    pub(crate) fn measure(&mut self) {
        self.world.parts.is_measured = true;
        self.delivered = 0;
    }

    /// Allocations while it was measured.
    pub(crate) fn allocations(&self) -> u64 {
        self.world.parts.allocations
    }

    /// Bytes that the shard has come to hold in calls, but those that were measured.
    pub(crate) fn held_bytes(&self) -> i64 {
        self.world.parts.held_bytes
    }

    /// Ticks until no client has anything to send.
    pub(crate) fn run(&mut self) {
        self.run_with(0..self.clients.len());
    }

    /// Runs ticks until this client has nothing to send, where no other client sends or gets
    /// anything: there may be very many.
    fn run_for(&mut self, client: ClientIndex) {
        self.run_with(client..client + 1);
    }

    fn run_with(&mut self, clients: std::ops::Range<ClientIndex>) {
        loop {
            for client in &mut self.clients[clients.clone()] {
                self.world.send(client.link, &client.sending);
                client.sending.clear();
            }
            if !self.world.is_due(0) {
                return;
            }
            self.world.tick(0);
            self.settle();
            for client in &mut self.clients[clients.clone()] {
                assert!(
                    !self.world.is_closed(client.link),
                    "the broker closed a connection"
                );
                let sending = &mut client.sending;
                self.world.read(client.link, |received| {
                    self.delivered += answer(received, sending);
                });
            }
        }
    }
}

/// A client works off what it got and acknowledges it. Answers how many messages that was.
fn answer(mut bytes: &[u8], sending: &mut Vec<u8>) -> u64 {
    let mut delivered = 0;
    while let Some(header) = decode_fixed_header(bytes).expect("the broker sends packets") {
        let body = &bytes[usize::from(header.header_len)..header.packet_len()];
        let packet = Packet::decode(header, body, VERSION).expect("the broker sends packets");
        let mut answer = |kind, packet_id| {
            Ack::new(packet_id, ReasonCode::Success).encode(kind, VERSION, sending);
        };
        match packet {
            Packet::Publish(publish) => {
                delivered += 1;
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
    delivered
}
