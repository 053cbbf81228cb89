//! Events as the MQTT Panel takes them: six names, in the order of its sequence diagrams.
//!
//! A shard reports a client, a subscription or a message when it accepts it, before the answer is
//! sent. The panel's diagrams have the packet of the answer first. So if packets are reported,
//! these events wait for their CONNACK, SUBACK, UNSUBACK, PUBACK or PUBREC.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use martlet_broker::{Event, PublishedMessage};
use martlet_codec::{PacketType, QoS};
use serde::Serialize;

use crate::event::{NodeEvent, NodeNotice};
use crate::event_kind::EventKind;
use crate::feed::entry::{FeedEntry, Happened};
use crate::feed::line::{payload, text};
use crate::feed::{Filter, Kinds};

/// The channel of all of them.
const CHANNEL: &str = "mqtt";
/// Events that wait for their answers, at most; above that number none of them waits any longer.
const HELD_MAX: usize = 10_000;
/// Bytes of their frames, likewise.
const HELD_BYTES_MAX: usize = 1 << 20;
/// Bytes to which texts of clients are cut in a frame that would be too long.
const TEXT_MAX: usize = 400;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Position to resume after this frame, without a loss.
    pub after: u64,
    /// Text that is sent.
    pub json: String,
}

/// Puts events into frames.
#[derive(Debug)]
pub struct Panel {
    holds: bool,
    bytes_max: usize,
    clients: HashMap<Box<str>, WaitingPackets>,
    /// Numbers of the events that wait, and bytes of their frames.
    held: BTreeSet<u64>,
    held_bytes: usize,
    /// The number of the last event that was put in.
    last: u64,
}

/// Events of a client that wait, and the packets that they wait for.
#[derive(Debug, Default)]
struct WaitingPackets {
    /// Packet Identifiers of its last packets.
    publish: Option<u16>,
    subscribe: Option<u16>,
    unsubscribe: Option<u16>,
    held: Vec<WaitingEvent>,
}

#[derive(Debug)]
struct WaitingEvent {
    until: AnswerPacket,
    seq: u64,
    json: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerPacket {
    Connect,
    Subscribe(u16),
    Unsubscribe(u16),
    Publish(u16),
}

#[derive(Serialize)]
struct Outer<'a> {
    channel: &'static str,
    event: &'static str,
    data: Data<'a>,
}

/// In the order in which the panel's documentation names the fields.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Packet {
        id: &'a str,
        packet_id: u16,
        packet_type: u8,
        packet_length: u32,
        timestamp: u64,
    },
    Connected {
        id: &'a str,
        protocol_version: u8,
        username: &'a str,
        remote: String,
        qos: u8,
        keep_alive: u16,
        timestamp: u64,
    },
    Disconnected {
        id: &'a str,
        timestamp: u64,
    },
    Subscribed {
        id: &'a str,
        topic_name: &'a str,
        qos: u8,
        timestamp: u64,
    },
    Unsubscribed {
        id: &'a str,
        topic_name: &'a str,
        timestamp: u64,
    },
    Published {
        id: &'a str,
        topic_name: &'a str,
        payload: Cow<'a, str>,
        qos: u8,
        retain: bool,
        timestamp: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload_encoding: Option<&'static str>,
        /// Where the payload is cut: how long it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        payload_bytes: Option<usize>,
    },
}

impl Panel {
    /// The kinds that become frames.
    pub const KINDS: &'static [EventKind] = &[
        EventKind::Packet,
        EventKind::Connected,
        EventKind::Disconnected,
        EventKind::Subscribed,
        EventKind::Unsubscribed,
        EventKind::Published,
    ];

    /// Frames of the events that this filter lets through, at most `bytes_max` bytes each.
    pub fn new(filter: &Filter, bytes_max: usize) -> Self {
        Self {
            holds: filter.has_all_packets(),
            bytes_max,
            clients: HashMap::new(),
            held: BTreeSet::new(),
            held_bytes: 0,
            last: 0,
        }
    }

    /// All kinds that it has names for.
    pub fn kinds() -> Kinds {
        Kinds::of(Self::KINDS)
    }

    /// Takes an event; the frames that may leave now are put into `out`.
    pub fn put(&mut self, entry: &FeedEntry<'_>, payload_max: usize, out: &mut Vec<Frame>) {
        self.last = entry.seq;
        let what = entry.what();
        let event = match what {
            Happened::Connected(_) => None,
            Happened::Event(notice) => notice.event.shard(),
            Happened::Lost => return self.flush(out),
        };
        let client_id = entry.client_id();
        // No client was accepted yet.
        let is_of_nobody = client_id.is_empty();
        if is_of_nobody || !Self::KINDS.contains(&entry.kind) {
            return;
        }
        let json = self.frame(entry, what, payload_max);
        if !self.holds {
            return self.send(json, out);
        }
        let client = self.clients.entry(client_id.into()).or_default();
        let until = match event {
            None => Some(AnswerPacket::Connect),
            Some(Event::Subscribed { .. }) => client.subscribe.map(AnswerPacket::Subscribe),
            Some(Event::Unsubscribed { .. }) => client.unsubscribe.map(AnswerPacket::Unsubscribe),
            Some(Event::Published(message)) if message.qos != QoS::AtMostOnce => {
                client.publish.take().map(AnswerPacket::Publish)
            }
            _ => None,
        };
        if let Some(until) = until {
            let seq = entry.seq;
            self.held_bytes += json.len();
            client.held.push(WaitingEvent { until, seq, json });
            self.held.insert(seq);
            if self.held.len() > HELD_MAX || self.held_bytes > HELD_BYTES_MAX {
                self.flush(out);
            }
            return;
        }
        match event {
            Some(Event::Packet {
                is_out,
                packet_type,
                packet_id,
                ..
            }) => {
                let answered = client.note(*is_out, *packet_type, *packet_id);
                let released = match answered {
                    Some(answered) => client.release(|until| until == answered),
                    None => Vec::new(),
                };
                self.send(json, out);
                self.release(released, out);
            }
            Some(Event::Disconnected { .. }) => {
                let released = client.release(|_| true);
                self.clients.remove(client_id);
                self.release(released, out);
                self.send(json, out);
            }
            _ => self.send(json, out),
        }
    }

    /// Some events were dropped: what waits for answers would wait for ever.
    pub fn flush(&mut self, out: &mut Vec<Frame>) {
        let mut all: Vec<WaitingEvent> = Vec::new();
        for (_, client) in self.clients.drain() {
            all.extend(client.held);
        }
        all.sort_unstable_by_key(|held| held.seq);
        self.release(all, out);
    }

    fn release(&mut self, released: Vec<WaitingEvent>, out: &mut Vec<Frame>) {
        for held in released {
            self.held.remove(&held.seq);
            self.held_bytes -= held.json.len();
            self.send(held.json, out);
        }
    }

    fn send(&self, json: String, out: &mut Vec<Frame>) {
        // A reader that resumes here gets what still waits again.
        let after = self.held.first().map_or(self.last, |first| first - 1);
        out.push(Frame { after, json });
    }

    fn frame(&self, entry: &FeedEntry<'_>, what: Happened<'_>, payload_max: usize) -> String {
        let whole = |payload| frame_of(entry, what, payload, usize::MAX);
        let mut payload_max = match what {
            Happened::Event(NodeNotice {
                event: NodeEvent::Shard(Event::Published(message)),
                ..
            }) => payload_max.min(message.payload.len()),
            _ => 0,
        };
        let mut json = whole(payload_max);
        while json.len() > self.bytes_max && payload_max > 0 {
            // Less than the part that is too much, as letters may take several bytes.
            let fits = payload_max * self.bytes_max / json.len();
            payload_max = fits.saturating_sub(16).min(payload_max - 1);
            json = whole(payload_max);
        }
        match json.len() > self.bytes_max {
            true => frame_of(entry, what, 0, TEXT_MAX),
            false => json,
        }
    }
}

impl WaitingPackets {
    /// Which packet of the client is answered by this one.
    fn note(&mut self, is_out: bool, is: PacketType, id: Option<u16>) -> Option<AnswerPacket> {
        match (is, id) {
            (PacketType::ConnAck, _) => Some(AnswerPacket::Connect),
            (PacketType::Publish, id) if !is_out => {
                self.publish = id;
                None
            }
            (PacketType::Subscribe, id) => {
                self.subscribe = id;
                None
            }
            (PacketType::Unsubscribe, id) => {
                self.unsubscribe = id;
                None
            }
            (PacketType::SubAck, Some(id)) => {
                self.subscribe = self.subscribe.filter(|pending| *pending != id);
                Some(AnswerPacket::Subscribe(id))
            }
            (PacketType::UnsubAck, Some(id)) => {
                self.unsubscribe = self.unsubscribe.filter(|pending| *pending != id);
                Some(AnswerPacket::Unsubscribe(id))
            }
            (PacketType::PubAck | PacketType::PubRec, Some(id)) if is_out => {
                Some(AnswerPacket::Publish(id))
            }
            _ => None,
        }
    }

    fn release(&mut self, which: impl Fn(AnswerPacket) -> bool) -> Vec<WaitingEvent> {
        self.held.extract_if(.., |held| which(held.until)).collect()
    }
}

fn frame_of(
    entry: &FeedEntry<'_>,
    what: Happened<'_>,
    payload_max: usize,
    text_max: usize,
) -> String {
    let (id, timestamp) = (cut(entry.client_id(), text_max), entry.at_ms);
    let event = match what {
        Happened::Event(notice) => notice.event.shard(),
        Happened::Connected(client) => {
            let data = Data::Connected {
                id,
                protocol_version: client.version.level(),
                username: cut(entry.user().map_or("", |user| user.name), text_max),
                remote: entry.address().map(text).unwrap_or_default(),
                // CONNECT has none; the panel asks for one.
                qos: 0,
                keep_alive: client.keep_alive_secs,
                timestamp,
            };
            return framed("MqttClientConnected", data);
        }
        Happened::Lost => return String::new(),
    };
    let (event, data) = match event {
        Some(Event::Packet {
            packet_type,
            packet_id,
            remaining_bytes,
            ..
        }) => (
            "MqttPacketProcessed",
            Data::Packet {
                id,
                packet_id: packet_id.unwrap_or(0),
                packet_type: *packet_type as u8,
                packet_length: *remaining_bytes,
                timestamp,
            },
        ),
        Some(Event::Subscribed { filter, qos, .. }) => (
            "MqttClientSubscribed",
            Data::Subscribed {
                id,
                topic_name: cut(filter, text_max),
                qos: *qos as u8,
                timestamp,
            },
        ),
        Some(Event::Unsubscribed { filter, .. }) => (
            "MqttClientUnsubscribed",
            Data::Unsubscribed {
                id,
                topic_name: cut(filter, text_max),
                timestamp,
            },
        ),
        Some(Event::Published(message)) => (
            "MqttClientPublished",
            published(id, message, timestamp, payload_max, text_max),
        ),
        _ => (
            "MqttClientDisconnected",
            Data::Disconnected { id, timestamp },
        ),
    };
    framed(event, data)
}

fn framed(event: &'static str, data: Data<'_>) -> String {
    let outer = Outer {
        channel: CHANNEL,
        event,
        data,
    };
    // Numbers and texts always become JSON.
    serde_json::to_string(&outer).unwrap_or_default()
}

fn published<'a>(
    id: &'a str,
    message: &'a PublishedMessage,
    timestamp: u64,
    payload_max: usize,
    text_max: usize,
) -> Data<'a> {
    let whole = message.payload_bytes;
    let (text, payload_encoding) = payload(&message.payload, whole, payload_max);
    let is_cut = message.payload.len().min(payload_max) < whole;
    Data::Published {
        id,
        topic_name: cut(&message.topic, text_max),
        payload: text,
        qos: message.qos as u8,
        retain: message.retain,
        timestamp,
        payload_encoding,
        payload_bytes: is_cut.then_some(whole),
    }
}

fn cut(text: &str, max: usize) -> &str {
    let end = { 0..=max.min(text.len()) }
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
