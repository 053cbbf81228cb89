//! An event in words: what happened, and why. The log, the journal and feeds take their texts from
//! here, and `why` reads those of the journal.
//!
//! Names and topics are text from outside: they stand in fields of their own, never in the
//! headline.

use std::borrow::Cow;

use martlet_broker::{DropReason, Event, Limit, PartRefusal, Reached, Refusal, Told};
use martlet_codec::ReasonCode;
use martlet_integrate::CLIENT_IDS;

/// What happened.
pub(crate) fn headline(told: &Told) -> &'static str {
    match &told.event {
        Event::MessagesLost {
            reason: DropReason::RefusedByReceiver,
            ..
        } if told.head.client_id.starts_with(CLIENT_IDS) => {
            "messages refused by the target of an integration: they are dead letters"
        }
        Event::Authenticated { .. } => "client authenticated",
        Event::Connected(_) => "client connected",
        Event::Refused { .. } => "connection refused",
        Event::ReauthenticationRefused { .. } => "re-authentication refused",
        Event::Disconnected { .. } => "client disconnected",
        Event::Dropped { .. } => "message dropped",
        Event::QueueFull { limit, .. } if limit.limit == Limit::PartQueue => {
            "the queue of an integration is full, its oldest messages are dropped: see max_bytes"
        }
        Event::QueueFull { .. } => {
            "a queue is full, messages are dropped: see limits.queued_messages, \
             limits.queued_bytes and mqtt.queue_full"
        }
        Event::MessagesLost { .. } => "messages lost",
        Event::PublishesDelayed { .. } => {
            "publishes delayed: their client publishes faster than it may"
        }
        Event::RateExceeded { .. } => {
            "messages dropped: their client publishes faster than limits.publish_rate or \
             limits.publish_bytes_rate"
        }
        Event::SubscribeRefused { .. } => "subscription refused",
        Event::PublishRefused { .. } => "publish refused",
        Event::TakenOver { .. } => "client taken over",
        Event::SessionEnded { .. } => "session ended",
        Event::Subscribed { .. } => "subscribed",
        Event::Unsubscribed { .. } => "unsubscribed",
        Event::Published(_) => "published",
        Event::Delivered(_) => "delivered",
        Event::Packet { .. } => "packet",
        Event::DeviceInactive { .. } => "device inactive",
        Event::DeviceActive { .. } => "device active again",
        Event::AlarmRaised(_) => "alarm raised",
        Event::AlarmChanged(_) => "alarm changed",
        Event::TwinChanged { .. } => "twin changed",
    }
}

/// Why something was refused or ended.
pub(crate) fn decision(told: &Told) -> Option<&str> {
    match &told.event {
        Event::SessionEnded { cause, .. } => Some(cause.text()),
        Event::Dropped {
            refused: Some(code),
            ..
        } => Some(why_refused(&told.head.client_id, *code)),
        event => event.refusal().map(Refusal::detail),
    }
}

/// The same, and why messages were dropped or delayed: the limit with its value, or what the reason
/// of a drop means.
pub(crate) fn why(told: &Told) -> Option<Cow<'_, str>> {
    if let Some(why) = decision(told) {
        return Some(why.into());
    }
    Some(match &told.event {
        Event::Dropped { reason, limit, .. } | Event::MessagesLost { reason, limit, .. } => {
            why_dropped(*reason, *limit)
        }
        event => event.reached()?.words().into(),
    })
}

/// The same with how many messages it is about, where a single sentence says both.
pub(crate) fn sentence(told: &Told) -> Option<Cow<'_, str>> {
    let why = why(told)?;
    Some(match &told.event {
        Event::QueueFull { messages, .. } => format!("{messages} messages wait: {why}").into(),
        Event::RateExceeded { count, .. } => {
            format!("{count} with QoS 0 in a second: {why}").into()
        }
        _ => why,
    })
}

/// Why a receiver has refused a message, by the reason code of its answer.
fn why_refused(client_id: &str, code: ReasonCode) -> &'static str {
    match PartRefusal::of(code).filter(|_| client_id.starts_with(CLIENT_IDS)) {
        Some(refusal) => refusal.meaning(),
        None => code.name(),
    }
}

/// Why messages were dropped: the limit, or else what the reason means.
fn why_dropped(reason: DropReason, limit: Option<Reached>) -> Cow<'static, str> {
    match limit {
        Some(limit) => limit.words().into(),
        None => reason.meaning().into(),
    }
}
