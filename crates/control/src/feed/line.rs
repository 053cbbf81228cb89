//! An event as its readers get it.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use martlet_broker::{ConnectedClient, MessageId, RefusalCause, UserRef};
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::Object;

use crate::event_fields::EventFields;
use crate::event_kind::EventKind;
use crate::feed::entry::{FeedEntry, Happened};
use crate::rfc3339;
use martlet_registry::one_of;

fn kinds() -> Object {
    let all = EventKind::ALL
        .iter()
        .filter(|kind| **kind != EventKind::Gone);
    one_of("What kind of event it is.", all.map(|kind| kind.name()))
}

/// An alarm in an event.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct FeedAlarm<'a> {
    /// Number of the alarm.
    pub id: String,
    /// Name of the alarm.
    pub name: &'a str,
    /// `info`, `warning`, `minor`, `major` or `critical`.
    pub severity: &'static str,
    /// `active`, `acknowledged`, `shelved` or `cleared`.
    pub state: &'static str,
    /// Text of the alarm.
    pub message: &'a str,
}

/// Values of a twin in an event.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct FeedTwin {
    /// `desired` or `reported`.
    pub side: &'static str,
    /// Their version.
    pub version: i64,
}

/// An event: of its fields those that it has.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct FeedEvent<'a> {
    /// `run-seq`, by which a stream is resumed.
    #[schema(value_type = String)]
    pub id: Id<'a>,
    /// Number of the event in this run of the node.
    pub seq: u64,
    /// When.
    #[serde(rename = "at", serialize_with = "crate::rfc3339::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub at_ms: u64,
    /// `connected`, `refused`, `published`, …
    #[schema(schema_with = kinds)]
    pub kind: &'static str,
    /// The number of the tenant, where it is not the common one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<u32>,
    /// Client Identifier; of a full queue of a share group its Topic Filter.
    pub client_id: &'a str,
    /// User Name, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<&'a str>,
    /// The client only claims this User Name.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub claimed: bool,
    /// Where the client is, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Cow<'a, str>>,
    /// Where the client has come from again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<&'a str>,
    /// How the client has authenticated: `password`, `device_token`, `certificate`, `jwt`, `hook`
    /// or `scram-sha-256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    /// Protocol version: `3.1`, `3.1.1` or `5.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// Keep Alive in force, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive_secs: Option<u16>,
    /// Clean Start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean_start: Option<bool>,
    /// A session was there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_present: Option<bool>,
    /// Topic Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<&'a str>,
    /// Topic Filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<&'a str>,
    /// QoS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<u8>,
    /// Whether it was to be retained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<bool>,
    /// Whether there was a subscriber.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched: Option<bool>,
    /// The message's name in this node, to find other events of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "68719476737")]
    pub message_id: Option<MessageName>,
    /// Length of its payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<usize>,
    /// As much of it as was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Cow<'a, str>>,
    /// `base64` where it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_encoding: Option<&'static str>,
    /// When a device sent its last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_message: Option<String>,
    /// After how many seconds without a message a device is inactive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive_after_secs: Option<u32>,
    /// The alarm that was raised or changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm: Option<FeedAlarm<'a>>,
    /// The values of a twin that have changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<FeedTwin>,
    /// From its arrival to its delivery, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Type of the packet, such as `PUBLISH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<&'static str>,
    /// `in` from the client, or `out` to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<&'static str>,
    /// Packet Identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet_id: Option<u16>,
    /// Remaining Length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_bytes: Option<u32>,
    /// Name of the reason code, or why a message was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Decision, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'a str>,
    /// How many messages, or events, it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// There are more, which were only counted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
}

impl<'a> FeedEvent<'a> {
    /// One with nothing but its name.
    fn new(id: Id<'a>) -> Self {
        Self {
            id,
            seq: 0,
            at_ms: 0,
            kind: "",
            tenant: None,
            client_id: "",
            user_name: None,
            claimed: false,
            address: None,
            by: None,
            listener: None,
            method: None,
            protocol_version: None,
            keep_alive_secs: None,
            clean_start: None,
            session_present: None,
            topic: None,
            filter: None,
            qos: None,
            retain: None,
            matched: None,
            message_id: None,
            payload_bytes: None,
            payload: None,
            payload_encoding: None,
            last_message: None,
            inactive_after_secs: None,
            twin: None,
            alarm: None,
            latency_ms: None,
            packet: None,
            direction: None,
            packet_id: None,
            remaining_bytes: None,
            reason: None,
            why: None,
            count: None,
            at_least: false,
        }
    }
}

/// The name of an event, by which a stream is resumed.
#[derive(Clone, Copy, Debug)]
pub struct Id<'a> {
    run: &'a str,
    seq: u64,
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.run)?;
        f.write_str("-")?;
        self.seq.fmt(f)
    }
}

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The name of a message, as text: readers of JSON may know no numbers that are so large.
#[derive(Clone, Copy, Debug)]
pub struct MessageName(MessageId);

impl Serialize for MessageName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Events that a reader does not get.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Gone)]
pub struct EventGap {
    /// `gone`
    pub kind: &'static str,
    /// How many; unknown of another run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The reason.
    pub why: &'static str,
}

impl EventGap {
    /// The gap of a reader that was too slow for `count` events.
    pub fn too_slow(count: u64) -> Self {
        Self {
            kind: "gone",
            count: Some(count),
            why: "they arrived faster than they were read, or are too old",
        }
    }

    /// The gap of `count` events that were lost between the shards and the feed.
    pub fn lost(count: u64) -> Self {
        Self {
            kind: "gone",
            count: Some(count),
            why: "the node had no room for them",
        }
    }

    /// The end of a stream whose reader does not read: what waits for readers takes too much
    /// memory.
    pub fn ended() -> Self {
        Self {
            kind: "gone",
            count: None,
            why: "the stream was ended: its reader does not read, and events that wait for readers \
                  use too much memory",
        }
    }

    /// The numbers are of another run.
    pub fn new_run() -> Self {
        Self {
            kind: "gone",
            count: None,
            why: "the node was restarted",
        }
    }
}

impl<'a> FeedEntry<'a> {
    /// Client Identifier; empty if that is not known.
    pub(super) fn client_id(&self) -> &'a str {
        match self.what() {
            Happened::Connected(client) => &client.client_id,
            Happened::Event(notice) => &notice.head.client_id,
            Happened::Lost => "",
        }
    }

    /// The user, proved or not.
    pub(super) fn user(&self) -> Option<UserRef<'a>> {
        let own = match self.what() {
            Happened::Connected(client) => UserRef::of(client),
            Happened::Event(notice) => notice.head.user(),
            Happened::Lost => None,
        };
        own.or_else(|| self.who()?.user())
    }

    /// Where its connection is from.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.address().map(|(ip, _)| ip)
    }

    pub(super) fn address(&self) -> Option<(IpAddr, u16)> {
        let own = match self.what() {
            Happened::Connected(client) => client.address,
            Happened::Event(notice) => notice.head.address,
            Happened::Lost => None,
        };
        own.or_else(|| self.who()?.address())
    }

    /// The event in the form for readers, with at most `payload_max` bytes of its payload.
    pub fn shown(&self, run: &'a str, payload_max: usize) -> Result<FeedEvent<'a>, EventGap> {
        if let Some(lost) = self.lost() {
            return Err(EventGap::lost(lost));
        }
        let user = self.user();
        let seq = self.seq;
        let mut shown = FeedEvent {
            seq,
            at_ms: self.at_ms,
            kind: self.kind.name(),
            tenant: Some(self.tenant.0).filter(|tenant| *tenant > 0),
            client_id: self.client_id(),
            user_name: user.map(|user| user.name),
            claimed: user.is_some_and(|user| !user.is_proved),
            address: self.address().map(|address| text(address).into()),
            ..FeedEvent::new(Id { run, seq })
        };
        match self.what() {
            Happened::Connected(client) => fill_connected(&mut shown, client),
            Happened::Event(notice) => fill(&mut shown, &EventFields::of(notice), payload_max),
            Happened::Lost => {}
        }
        if let Some(together) = self.together() {
            (shown.topic, shown.message_id) = (None, None);
            shown.count = Some(together.count);
            shown.at_least = together.is_at_least();
            shown.why = together.why.map(RefusalCause::text);
        }
        Ok(shown)
    }
}

fn fill_connected<'a>(shown: &mut FeedEvent<'a>, client: &'a ConnectedClient) {
    shown.protocol_version = Some(client.version.to_string());
    shown.clean_start = Some(client.flags.clean_start());
    shown.session_present = Some(client.flags.session_present());
    shown.keep_alive_secs = Some(client.keep_alive_secs);
    shown.listener = Some(&client.listener.name);
}

fn fill<'a>(shown: &mut FeedEvent<'a>, fields: &EventFields<'a>, payload_max: usize) {
    if let Some(client) = fields.client {
        fill_connected(shown, client);
    }
    shown.by = fields.by.map(text);
    shown.listener = fields.listener;
    shown.method = fields.method;
    shown.topic = fields.topic;
    shown.filter = fields.filter;
    shown.qos = fields.qos;
    shown.retain = fields.retain;
    shown.matched = fields.matched;
    shown.message_id = fields.message_id.map(MessageName);
    shown.payload_bytes = fields.payload_bytes;
    if let (Some(whole), Some(bytes)) = (fields.payload_bytes, fields.payload)
        && payload_max > 0
    {
        let (text, encoding) = payload(bytes, whole, payload_max);
        shown.payload = Some(text);
        shown.payload_encoding = encoding;
    }
    shown.last_message = fields.last_message_ms.map(rfc3339::in_answers);
    shown.inactive_after_secs = fields.inactive_after_secs;
    shown.alarm = fields.alarm.map(|alarm| FeedAlarm {
        id: alarm.id.to_string(),
        name: &alarm.name,
        severity: alarm.severity,
        state: alarm.state,
        message: &alarm.message,
    });
    shown.twin = fields
        .twin
        .map(|(side, version)| FeedTwin { side, version });
    shown.latency_ms = fields.latency_ms;
    shown.packet = fields.packet;
    shown.direction = fields.direction;
    shown.packet_id = fields.packet_id;
    shown.remaining_bytes = fields.remaining_bytes;
    shown.reason = fields.reason_or_limit;
    shown.why = fields.decision;
    shown.count = fields
        .count
        .or(fields.messages.map(|messages| messages as u64));
}

/// The beginning of a payload of `whole` bytes: as text if it is text, even if the cut is within a
/// character.
pub(super) fn payload(
    bytes: &[u8],
    whole: usize,
    max: usize,
) -> (Cow<'_, str>, Option<&'static str>) {
    let part = &bytes[..bytes.len().min(max)];
    match std::str::from_utf8(part) {
        Ok(text) => (text.into(), None),
        Err(error) if error.error_len().is_none() && part.len() < whole => {
            (String::from_utf8_lossy(&part[..error.valid_up_to()]), None)
        }
        Err(_) => (STANDARD.encode(part).into(), Some("base64")),
    }
}

pub(super) fn text((ip, port): (IpAddr, u16)) -> String {
    crate::text::address((ip, port))
}
