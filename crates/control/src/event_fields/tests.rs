use std::collections::BTreeSet;
use std::sync::Arc;

use martlet_broker::{
    ConnectedClient, DeliveredMessage, DropReason, Event, EventHead, EventInterest, Limit,
    MessageId, Proof, PublishedMessage, QueueFull, ReachedLimit, Refusal, RefusalCause, ShardId,
    SharedClient, TenantId, UserName,
};
use martlet_codec::{PacketType, ProtocolVersion, QoS, ReasonCode};
use serde_json::{Map, Value};

use crate::event::{AlarmNotice, NodeEvent, NodeNotice};
use crate::event_kind::EventKind;
use crate::event_log;
use crate::feed::{Bounds, Feed, Filter, From, Kinds};
use crate::http_cause::HttpCause;
use crate::log_limit::LeftOut;
use crate::log_lines::LogLines;
use crate::log_lines::tests::To;
use crate::presence::Presence;
use crate::rfc3339;

/// Members that readers of events get for fields of the log.
const SAME: &[(&str, &str)] = &[
    ("client_id", "/client_id"),
    ("owner", "/client_id"),
    ("tenant", "/tenant"),
    ("user_name", "/user_name"),
    ("claimed_user_name", "/user_name"),
    ("address", "/address"),
    ("by", "/by"),
    ("method", "/method"),
    ("session_present", "/session_present"),
    ("topic", "/topic"),
    ("filter", "/filter"),
    ("message_id", "/message_id"),
    ("qos", "/qos"),
    ("retain", "/retain"),
    ("bytes", "/payload_bytes"),
    ("matched", "/matched"),
    ("latency_ms", "/latency_ms"),
    ("direction", "/direction"),
    ("packet", "/packet"),
    ("packet_id", "/packet_id"),
    ("remaining_bytes", "/remaining_bytes"),
    ("last_message_ms", "/last_message"),
    ("after_secs", "/inactive_after_secs"),
    ("id", "/alarm/id"),
    ("name", "/alarm/name"),
    ("severity", "/alarm/severity"),
    ("state", "/alarm/state"),
    ("message", "/alarm/message"),
    ("side", "/twin/side"),
    ("count", "/count"),
    ("messages", "/count"),
    ("policy", "/reason"),
    ("reason", "/reason"),
    ("why", "/why"),
];

/// Members that only readers of events get: how they find it again, what the log says of fewer
/// kinds or in the words of its line, and payloads.
const ONLY_IN_FEED: &[&str] = &[
    "id",
    "seq",
    "at",
    "kind",
    "tenant",
    "user_name",
    "claimed",
    "address",
    "listener",
    "keep_alive_secs",
    "clean_start",
    "payload",
    "alarm",
];

fn client() -> SharedClient {
    let mut client = ConnectedClient::new("c", None);
    (client.keep_alive_secs, client.version) = (60, ProtocolVersion::V5);
    client.address = Some(([127, 0, 0, 1].into(), 7));
    SharedClient::new(client)
}

fn reached(limit: Limit) -> ReachedLimit {
    ReachedLimit { limit, value: 7 }
}

fn why() -> Refusal {
    Refusal::operators_only(RefusalCause::Forbidden, "a rule says so")
}

fn lost(reason: DropReason, limit: Option<ReachedLimit>) -> Event {
    Event::MessagesLost {
        topic: "a/b".into(),
        reason,
        count: 3,
        limit,
        ended: None,
    }
}

fn dropped(stored: Option<u64>, refused: Option<ReasonCode>) -> Event {
    Event::Dropped {
        topic: if stored.is_none() { "a/b" } else { "" }.to_owned(),
        stored: stored.map(|number| MessageId::new(ShardId(1), number)),
        reason: DropReason::RefusedByReceiver,
        limit: None,
        refused,
    }
}

fn alarm() -> Box<AlarmNotice> {
    Box::new(AlarmNotice {
        id: 5,
        name: "hot".into(),
        severity: "major",
        state: "active",
        message: "too hot".into(),
        hops: 0,
    })
}

/// Of clients.
fn of_clients() -> Vec<Event> {
    let reason = ReasonCode::NotAuthorized;
    vec![
        Event::Connected(client()),
        Event::Authenticated {
            proof: Proof::Password,
            listener: Arc::default(),
        },
        Event::Refused {
            will_topic: None,
            reason,
            why: why(),
        },
        Event::ReauthenticationRefused { reason, why: why() },
        Event::TakenOver {
            by: Some(([10, 0, 0, 1].into(), 80)),
        },
        Event::TakenOver { by: None },
        Event::Disconnected {
            reason,
            why: why(),
            will: None,
        },
        Event::SessionEnded {
            cause: RefusalCause::SessionExpired,
        },
        Event::Subscribed {
            filter: "a/#".into(),
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            subscription_id: 0,
        },
        Event::Unsubscribed {
            filter: "a/#".into(),
        },
        Event::SubscribeRefused {
            filter: "a/#".to_owned(),
            reason,
            why: why(),
        },
        Event::Packet {
            is_out: true,
            packet_type: PacketType::PubAck,
            packet_id: Some(9),
            remaining_bytes: 2,
            at_ms: 1_000,
        },
    ]
}

/// Of messages.
fn of_messages() -> Vec<Event> {
    vec![
        Event::Published(Box::new(PublishedMessage {
            topic: "a/b".into(),
            id: MessageId::new(ShardId(1), 1),
            qos: QoS::ExactlyOnce,
            retain: true,
            matched: false,
            payload_bytes: 3,
            payload: (*b"abc").into(),
            at_ms: 1_000,
        })),
        Event::Delivered(Box::new(DeliveredMessage {
            topic: "a/b".into(),
            id: MessageId::new(ShardId(1), 1),
            qos: QoS::AtMostOnce,
            latency_ms: Some(4),
            at_ms: 1_000,
        })),
        Event::PublishRefused {
            topic: "a/b".to_owned(),
            reason: ReasonCode::NotAuthorized,
            why: why(),
        },
        dropped(None, None),
        dropped(None, Some(ReasonCode::QuotaExceeded)),
        dropped(Some(1), None),
        Event::RateExceeded {
            topic: "a/b".into(),
            count: 2,
            waited: false,
            limit: reached(Limit::PublishRate),
        },
        Event::PublishesDelayed {
            count: 2,
            limit: reached(Limit::PublishRate),
        },
        Event::QueueFull {
            messages: 8,
            policy: QueueFull::DropOldest,
            limit: reached(Limit::QueuedMessages),
        },
        lost(DropReason::OutputFull, Some(reached(Limit::OutputBytes))),
        lost(DropReason::QueueFull, Some(reached(Limit::QueuedMessages))),
        lost(DropReason::SessionEnded, None),
    ]
}

/// Of the control plane.
fn of_node() -> Vec<NodeEvent> {
    vec![
        NodeEvent::ProvisioningRefused {
            why: why(),
            key: None,
        },
        NodeEvent::RequestRefused {
            why: why().with_cause(HttpCause::RequestInvalid),
            key: None,
        },
        NodeEvent::ConnectionRefused {
            why: why().with_cause(HttpCause::MqttToHttp),
        },
        NodeEvent::DeviceInactive {
            last_message_ms: 1_000,
            after_secs: 60,
        },
        NodeEvent::DeviceActive {
            last_message_ms: 1_000,
        },
        NodeEvent::AlarmRaised(alarm()),
        NodeEvent::AlarmChanged(alarm()),
        NodeEvent::TwinChanged {
            side: "desired",
            version: 3,
            hops: 0,
        },
    ]
}

/// The fields of its line in the log.
fn logged(notice: &NodeNotice) -> Map<String, Value> {
    let lines = LogLines::default();
    tracing::subscriber::with_default(To(lines.clone()), || {
        event_log::write(notice, None, false, LeftOut::default());
    });
    let (mut found, _) = lines.last(1, |_| true);
    found.pop().expect("a line").fields
}

/// As readers of events get it.
fn shown(notice: &NodeNotice) -> Value {
    let interest = EventInterest::default();
    let feed = Arc::new(Feed::new(Box::new(|_| ()), Bounds::default(), interest));
    let kinds: Vec<&str> = kinds().map(EventKind::name).collect();
    let filter = Filter {
        kinds: Kinds::parse(&kinds.join(",")).unwrap(),
        ..Filter::default()
    };
    let mut reader = feed.read(filter, &From::Now).unwrap();
    let mut events = vec![notice.clone()];
    feed.write(&mut events, 0, &Presence::default(), |_, _| ());
    let batch = reader.take();
    let entry = batch.entries().next().expect("an event");
    serde_json::to_value(entry.shown(feed.run(), 100).unwrap()).unwrap()
}

/// The kinds that come to the log as they come to readers.
fn kinds() -> impl Iterator<Item = EventKind> {
    let all = EventKind::ALL.iter().copied();
    all.filter(|kind| !matches!(kind, EventKind::Gone | EventKind::DroppedMessage))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Compares both, and answers which fields of `shown` the log has.
fn compare<'a>(kind: EventKind, log: &'a Map<String, Value>, shown: &Value) -> BTreeSet<&'a str> {
    let mut same = BTreeSet::new();
    for (name, value) in log {
        let place = match (name.as_str(), kind) {
            ("version", EventKind::TwinChanged) => "/twin/version",
            ("version", _) => "/protocol_version",
            // The reason is the limit there.
            ("limit", EventKind::OutputFull) => "/reason",
            ("reason", EventKind::OutputFull) => continue,
            // What the limit or reason means is said in the log alone; and times of packets.
            ("limit" | "at_ms", _) => continue,
            ("why", _) if shown.get("why").is_none() => continue,
            (name, _) => {
                let found = SAME.iter().find(|(own, _)| *own == name);
                found.unwrap_or_else(|| panic!("{kind:?}: {name}")).1
            }
        };
        let expected = match name.as_str() {
            "last_message_ms" => rfc3339::in_answers(value.as_u64().unwrap()),
            "address" | "by" if value == "unix" => {
                assert_eq!(shown.pointer(place), None, "{kind:?}: {name}");
                continue;
            }
            _ => text(value),
        };
        let found = shown.pointer(place).map(text);
        assert_eq!(found, Some(expected), "{kind:?}: {name}");
        same.extend(place.split('/').nth(1));
    }
    same
}

#[test]
fn the_log_and_readers_of_events_are_told_the_same() {
    let mut seen = Vec::new();
    let events = of_clients().into_iter().chain(of_messages());
    let events = events.map(NodeEvent::from).chain(of_node());
    for (number, event) in events.enumerate() {
        if let Some(event) = event.shard() {
            // What shards report is wanted, and counted, by these groups.
            assert_eq!(EventKind::of(event).group(), Some(event.group()));
        }
        let user = match number % 2 {
            0 => UserName::Proved("ann".into()),
            _ => UserName::Claimed("ann".into()),
        };
        let head = match &event {
            NodeEvent::Shard(Event::Connected(client)) => EventHead::of_client(TenantId(3), client),
            _ => EventHead::new(TenantId(3), "c").with_user(Some(user)),
        };
        let head = head.with_address(Some(([127, 0, 0, 1].into(), 7)));
        let notice = NodeNotice { head, event };
        let (kind, log, shown) = (notice.event.kind(), logged(&notice), shown(&notice));
        let same = compare(kind, &log, &shown);
        for name in shown.as_object().unwrap().keys() {
            let is_limit = kind == EventKind::PublishesDelayed && name == "reason";
            let is_in_both = same.contains(name.as_str());
            let is_known = is_in_both || is_limit || ONLY_IN_FEED.contains(&name.as_str());
            assert!(is_known, "{kind:?}: the log has no {name}: {log:?}");
        }
        seen.push(kind);
    }
    for kind in kinds() {
        assert!(seen.contains(&kind), "{kind:?}");
    }
}
