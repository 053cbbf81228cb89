//! Steps on a node of one to three shards in virtual time: clients come, send what is right and
//! what is wrong, read or do not read, and go; the store answers late, mailboxes fill up, memory
//! runs out, time passes. In the end everybody leaves, and nothing may be left of them.

use martlet_broker::{
    Answer, ClientQuery, Command, Counters, EventInterest, Limits, ListenerPolicy, NewMessage,
    NewSubscription, QueueFull, RefusalCause, Settings, SysTopic, TenantId, TlsFault, Traced,
    TransportEnd, WebSocketFault,
};
use martlet_codec::{AckKind, ProtocolVersion, QoS, ReasonCode};

use crate::choices::Choices;
use crate::client::Client;
use crate::node::{Link, Node};
use crate::packets;
use crate::who;

/// Steps taken from one input, so that no input takes long.
const STEPS_MAX: usize = 400;
/// Connections at a time.
const LINKS_MAX: usize = 8;
/// Session Expiry ceiling of most runs, seconds.
const EXPIRY_MAX_SECS: u32 = 5000;
/// Time that passes in the end, after everybody has left, seconds.
const PASSED_SECS: u32 = 100_000;
/// Time after which every loss has been told, seconds.
const LOSSES_TOLD_SECS: u64 = 601;

/// Takes the bytes for steps and panics if something is wrong: accounts that do not balance, a
/// packet that the broker may not send, something left in the end.
pub fn shard_steps(data: &[u8]) {
    shard_steps_counted(data);
}

/// Runs the steps, likewise. Answers what the node has counted.
pub fn shard_steps_counted(data: &[u8]) -> Counters {
    let mut choices = Choices::new(data);
    let shards = 1 + choices.below(3) as u16;
    let settings = settings(&mut choices);
    let listener = listener(&mut choices);
    let mut node = Node::new(settings, listener, shards);
    for _ in 0..STEPS_MAX {
        if choices.is_spent() {
            break;
        }
        step(&mut node, &mut choices);
        node.run();
    }
    finish(&mut node);
    node.counters()
}

fn settings(choices: &mut Choices<'_>) -> Settings {
    let mut settings = Settings {
        queue_full: choices.pick(&[
            QueueFull::DropOldest,
            QueueFull::DropNewest,
            QueueFull::Disconnect,
        ]),
        events: EventInterest {
            connections: true,
            drops: true,
            subscriptions: true,
            published: true,
            delivered: true,
            packets: true,
            payload_bytes_max: 8,
            ..EventInterest::default()
        },
        ..Settings::default()
    };
    let limits = &mut settings.limits;
    if choices.one_of(2) {
        *limits = Limits {
            packet_bytes: 600,
            connect_packet_bytes: 200,
            connections: 4,
            client_id_bytes: 41,
            topic_bytes: 20,
            topic_levels: 4,
            topic_alias_maximum: 2,
            topic_alias_bytes: 6,
            topic_alias_outbound: 1,
            user_properties: 2,
            receive_maximum: 2,
            in_flight: 2,
            queued_messages: 3,
            queued_bytes: 800,
            output_bytes: 300,
            output_stalled_secs: 5,
            subscriptions_per_client: 3,
            keep_alive_max_secs: choices.pick(&[0, 20]),
            will_delay_max_secs: 50,
            retained_messages: 2,
            retained_bytes: 500,
            share_credit: 2,
            store_stalled_secs: 3,
            route_cache_entries: 2,
            ..Limits::default()
        };
    }
    if !choices.one_of(6) {
        limits.session_expiry_max_secs = EXPIRY_MAX_SECS;
    }
    if choices.one_of(8) {
        limits.connect_rate = 2;
    }
    settings
}

fn listener(choices: &mut Choices<'_>) -> ListenerPolicy {
    let mut listener = ListenerPolicy {
        authenticate: choices.one_of(4),
        ..ListenerPolicy::default()
    };
    if choices.one_of(4) {
        listener.maximum_qos = choices.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce]);
        listener.retain_available = choices.one_of(2);
        listener.wildcard_subscription_available = choices.one_of(2);
        listener.subscription_ids_available = choices.one_of(2);
        listener.shared_subscription_available = choices.one_of(2);
    }
    listener
}

fn step(node: &mut Node, choices: &mut Choices<'_>) {
    match choices.below(29) {
        0..=2 => connect(node, choices),
        3 => {
            if let Some(shard) = shard_for_one_more(node, choices) {
                node.open(shard, Client::silent());
            }
        }
        4..=7 => send(node, choices, packets::publish),
        8..=10 => send(node, choices, packets::subscribe),
        11 => send(node, choices, packets::unsubscribe),
        12..=14 => acknowledge(node, choices),
        15 => break_rules(node, choices, packets::stray_ack),
        16 => send(node, choices, packets::other),
        17 => break_rules(node, choices, |choices, _| choices.bytes(64).to_vec()),
        18 => break_rules(node, choices, mutated),
        19 => {
            if let Some(link) = choose(node, choices) {
                let end = match choices.pick(&[0, 1, 2, 3]) {
                    0 => TransportEnd::EndOfStream,
                    1 => TransportEnd::Error,
                    2 => {
                        TransportEnd::Violation(RefusalCause::WebSocket(WebSocketFault::TextFrame))
                    }
                    _ => TransportEnd::BadCertificate {
                        fault: TlsFault::CertificateExpired,
                        claims: Some("somebody".into()),
                    },
                };
                node.end(link, end);
            }
        }
        20 | 21 => {
            if let Some(link) = choose(node, choices) {
                node.set_takes(link, choices.pick(&[0, 1, 3, 100, usize::MAX, usize::MAX]));
            }
        }
        22 => {
            let ms = choices.pick(&[1, 999, 1000, 5000, 15_000, 60_000, 200_000, 4_000_000]);
            node.elapse(ms, 40);
        }
        23 => match choices.below(4) {
            0 => node.store_answers = true,
            1 => node.store_answers = false,
            _ => {
                let shard = choices.below(usize::from(node.shard_count())) as u16;
                node.answer(shard, u64::from(choices.byte() % 4));
            }
        },
        26 => send(node, choices, packets::auth),
        27 | 28 => {
            node.answer_who(|asked| who::answer(asked, choices));
        }
        24 => match choices.below(4) {
            0 => node.set_mail_arrives(true),
            1 => node.set_mail_arrives(false),
            _ => (0..node.shard_count()).for_each(|shard| node.deliver(shard)),
        },
        _ => trouble(node, choices),
    }
}

/// Brings on what a node meets apart from its clients.
fn trouble(node: &mut Node, choices: &mut Choices<'_>) {
    let shard = choices.below(usize::from(node.shard_count())) as u16;
    match choices.below(15) {
        0 | 1 => node.set_congested(shard, true),
        2 | 3 => node.set_congested(shard, false),
        4 => node.set_lends(false),
        5 => node.set_lends(true),
        6 => node.command(
            shard,
            Command::PublishSys(vec![SysTopic {
                topic: "$SYS/a".to_owned(),
                payload: "1".to_owned(),
            }]),
        ),
        7 => node.command(
            shard,
            Command::Disconnect {
                request: 0,
                tenant: TenantId(0),
                client_id: choices.pick(&["c0", "c1", "c2"]).to_owned(),
                reason: ReasonCode::AdministrativeAction,
            },
        ),
        8 => node.command(
            shard,
            Command::EndSession {
                request: 0,
                tenant: TenantId(0),
                client_id: choices.pick(&["c0", "c1", "c2"]).into(),
            },
        ),
        9 => node.command(
            shard,
            Command::Subscribe {
                request: 0,
                tenant: TenantId(0),
                client_id: choices.pick(&["c0", "c1", "c2"]).into(),
                subscriptions: [choices.pick(&["a", "#", "$share/g/a", "+/b"]), "$share/h/#"]
                    .map(|filter| NewSubscription::new(filter, QoS::AtLeastOnce))
                    .into(),
            },
        ),
        10 => node.command(
            shard,
            Command::Unsubscribe {
                request: 0,
                tenant: TenantId(0),
                client_id: choices.pick(&["c0", "c1", "c2"]).into(),
                filters: vec![choices.pick(&["a", "#", "$share/g/a", "+/b"]).into()],
            },
        ),
        11 => node.command(
            shard,
            Command::Publish {
                request: 0,
                tenant: TenantId(0),
                publisher: "operator".into(),
                messages: (0..choices.below(100))
                    .map(|number| NewMessage {
                        topic: if number % 7 == 0 { "a" } else { "a/b" }.into(),
                        qos: [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number % 3],
                        retain: number % 5 == 0,
                        ..NewMessage::default()
                    })
                    .collect(),
            },
        ),
        12 => node.command(
            shard,
            Command::DeleteRetained {
                request: 0,
                tenant: TenantId(0),
                filter: choices.pick(&["#", "a", "a/+"]).into(),
            },
        ),
        13 => {
            let traced = Traced {
                clients: vec![(TenantId(0), choices.pick(&["c0", "c1", "c2"]).into())],
                topics: vec![choices.pick(&["a", "#", "+/b"]).into()],
                ..Traced::default()
            };
            let interest = EventInterest {
                delivered: choices.one_of(2),
                packets: choices.one_of(2),
                traced,
                ..EventInterest::default()
            };
            node.command(shard, Command::SetEvents(interest.into()));
        }
        _ if choices.one_of(8) => node.command(shard, Command::Shutdown),
        _ => {}
    }
}

fn shard_for_one_more(node: &Node, choices: &mut Choices<'_>) -> Option<u16> {
    let shard = choices.below(usize::from(node.shard_count())) as u16;
    (node.links().count() < LINKS_MAX).then_some(shard)
}

fn connect(node: &mut Node, choices: &mut Choices<'_>) {
    let Some(shard) = shard_for_one_more(node, choices) else {
        return;
    };
    let (link, bytes) = packets::connect(choices, |connect, bytes| {
        (node.open(shard, Client::new(connect)), bytes)
    });
    // What follows may come along with it, or the packet in two parts.
    let version = version(node, link);
    match choices.below(6) {
        0 => {
            let (first, rest) = bytes.split_at(choices.below(bytes.len().min(256)));
            node.send(link, first);
            node.run();
            node.send(link, rest);
        }
        1 => {
            let next = packets::subscribe(choices, version);
            node.send(link, &[bytes, next].concat());
            if choices.one_of(2) {
                node.end(link, TransportEnd::EndOfStream);
            }
        }
        _ => node.send(link, &bytes),
    }
}

fn choose(node: &Node, choices: &mut Choices<'_>) -> Option<Link> {
    let count = node.links().count();
    let at = choices.below(count.max(1));
    node.links().nth(at)
}

/// The version of a connection, or any if that is not known.
fn version(node: &mut Node, link: Link) -> ProtocolVersion {
    let version = node.client(link).and_then(|client| client.version());
    version.unwrap_or(ProtocolVersion::V5)
}

fn send(
    node: &mut Node,
    choices: &mut Choices<'_>,
    packet: impl Fn(&mut Choices<'_>, ProtocolVersion) -> Vec<u8>,
) {
    if let Some(link) = choose(node, choices) {
        let version = version(node, link);
        let mut bytes = packet(choices, version);
        for _ in 0..choices.below(3) {
            bytes.extend(packet(choices, version));
        }
        node.send(link, &bytes);
    }
}

fn break_rules(
    node: &mut Node,
    choices: &mut Choices<'_>,
    packet: impl FnOnce(&mut Choices<'_>, ProtocolVersion) -> Vec<u8>,
) {
    if let Some(link) = choose(node, choices) {
        if let Some(client) = node.client(link) {
            client.break_rules();
        }
        let version = version(node, link);
        let bytes = packet(choices, version);
        node.send(link, &bytes);
    }
}

/// A packet with something wrong in it, or too long or short.
fn mutated(choices: &mut Choices<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = match choices.below(5) {
        0 => packets::publish(choices, version),
        1 => packets::subscribe(choices, version),
        2 => packets::unsubscribe(choices, version),
        3 => packets::other(choices, version),
        _ => packets::connect(choices, |_, bytes| bytes),
    };
    let at = usize::from(choices.u16()) % bytes.len();
    match choices.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, choices.byte()),
        _ => bytes[at] ^= choices.byte(),
    }
    bytes
}

/// The client sends acknowledgements that are due.
fn acknowledge(node: &mut Node, choices: &mut Choices<'_>) {
    let Some(link) = choose(node, choices) else {
        return;
    };
    for _ in 0..=choices.below(4) {
        let Some(client) = node.client(link) else {
            return;
        };
        let Some((kind, packet_id)) = client.acknowledge() else {
            return;
        };
        let version = client.version().unwrap_or(ProtocolVersion::V5);
        let mut reason = packets::ack_reason(choices, kind);
        if !version.is_v5() {
            reason = ReasonCode::Success;
        }
        if kind == AckKind::PubRec && reason.code() >= 0x80 {
            client.refuse(packet_id);
        }
        let bytes = packets::ack(kind, packet_id, reason, version);
        node.send(link, &bytes);
        node.run();
    }
}

/// Everybody leaves and every interval passes; then nothing may be left.
fn finish(node: &mut Node) {
    node.store_answers = true;
    node.set_mail_arrives(true);
    node.set_lends(true);
    for shard in 0..node.shard_count() {
        node.set_congested(shard, false);
    }
    node.run();
    while node.answer_who(who::accept) {
        node.run();
    }
    end_all(node);
    for _ in 0..3 {
        node.elapse(u64::from(EXPIRY_MAX_SECS) * 1000 + 1, 10);
    }
    node.elapse(u64::from(PASSED_SECS) * 1000, 0);
    if !end_sessions(node) {
        return;
    }
    node.forget_retained();
    // What these sessions lost may still have to be told.
    node.elapse(LOSSES_TOLD_SECS * 1000, 10);
    node.assert_empty();
}

fn end_all(node: &mut Node) {
    let links: Vec<_> = node.links().collect();
    for link in links {
        node.end(link, TransportEnd::EndOfStream);
        node.run();
    }
}

/// Ends sessions that expire later or never, by the client's own hand; false if a node that stops
/// has some.
fn end_sessions(node: &mut Node) -> bool {
    for shard in 0..node.shard_count() {
        node.command(
            shard,
            Command::Clients {
                request: 0,
                query: Box::new(ClientQuery {
                    limit: 1000,
                    ..ClientQuery::default()
                }),
            },
        );
    }
    node.run();
    for report in node.take_reports() {
        let Answer::Clients(page) = report.answer else {
            continue;
        };
        for client in page.clients {
            let expires = client.session_expiry_secs <= PASSED_SECS;
            assert!(!expires, "has not expired: {client:?}");
            if node.is_stopping() {
                return false;
            }
            let link = node.open(0, Client::silent());
            node.send(link, &packets::connect_clean(&client.client_id));
            node.run();
            node.answer_who(who::accept);
            node.run();
            node.end(link, TransportEnd::EndOfStream);
            node.elapse(2000, 10);
        }
    }
    true
}
