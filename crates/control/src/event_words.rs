//! An event in words: what happened, and why. The log, the journal and feeds take their texts from
//! here, and `why` reads those of the journal.
//!
//! Names and topics are text from outside: they stand in fields of their own, never in the
//! headline.

use std::borrow::Cow;

use martlet_broker::{DropReason, Event, Limit, PartRefusal, ReachedLimit};
use martlet_codec::ReasonCode;
use martlet_integrate::CLIENT_IDS;

use crate::event::{NodeEvent, NodeNotice};
use crate::event_kind::EventKind;

/// Headline about what happened.
pub(crate) fn headline(notice: &NodeNotice) -> &'static str {
    let event = match &notice.event {
        NodeEvent::Shard(event) => event,
        NodeEvent::ProvisioningRefused { .. } => return "device not added by a provisioning key",
        NodeEvent::ConnectionRefused { .. } => return "connection refused",
        NodeEvent::RequestRefused { .. } => return "HTTP request refused",
        NodeEvent::DeviceInactive { .. } => return "device inactive",
        NodeEvent::DeviceActive { .. } => return "device active again",
        NodeEvent::AlarmRaised(_) => return "alarm raised",
        NodeEvent::AlarmChanged(_) => return "alarm changed",
        NodeEvent::TwinChanged { .. } => return "twin changed",
    };
    match event {
        Event::MessagesLost {
            reason: DropReason::RefusedByReceiver,
            ..
        } if notice.head.client_id.starts_with(CLIENT_IDS) => {
            "messages refused by the target of an integration: they are dead letters"
        }
        Event::Authenticated { .. } => "client authenticated",
        Event::Connected(_) => "client connected",
        Event::Refused { .. } => "connection refused",
        Event::ReauthenticationRefused { .. } => "re-authentication refused",
        Event::Disconnected { .. } => "client disconnected",
        Event::Dropped { .. } => "message dropped",
        Event::QueueFull { limit, .. } if limit.limit == Limit::PartQueue => {
            "the queue of an integration is full, its oldest messages are dropped"
        }
        Event::QueueFull { .. } => "a queue is full, messages are dropped",
        Event::MessagesLost { .. } => "messages lost",
        Event::PublishesDelayed { .. } => {
            "publishes delayed: their client publishes faster than it may"
        }
        Event::RateExceeded { .. } => "messages dropped: their client publishes faster than it may",
        Event::SubscribeRefused { .. } => "subscription refused",
        Event::PublishRefused { .. } => "publish refused",
        Event::TakenOver { .. } => "client taken over",
        Event::SessionEnded { .. } => "session ended",
        Event::Subscribed { .. } => "subscribed",
        Event::Unsubscribed { .. } => "unsubscribed",
        Event::Published(_) => "published",
        Event::Delivered(_) => "delivered",
        Event::Packet { .. } => "packet",
    }
}

/// Why something was refused or ended.
pub(crate) fn decision(notice: &NodeNotice) -> Option<&str> {
    match notice.event.shard() {
        Some(Event::SessionEnded { cause, .. }) => Some(cause.text()),
        Some(Event::Dropped {
            refused: Some(code),
            ..
        }) => Some(why_refused(&notice.head.client_id, *code)),
        _ => notice.event.refusal_text(),
    }
}

/// Reason why something was refused or ended, and why messages were dropped or delayed: the limit
/// with its value, or what the reason of a drop means.
pub(crate) fn why(notice: &NodeNotice) -> Option<Cow<'_, str>> {
    if let Some(why) = decision(notice) {
        return Some(why.into());
    }
    Some(match notice.event.shard()? {
        Event::MessagesLost {
            ended: Some(cause), ..
        } => format!("the session ended: {}", cause.text()).into(),
        Event::Dropped { reason, limit, .. } | Event::MessagesLost { reason, limit, .. } => {
            why_dropped(&notice.head.client_id, *reason, *limit)
        }
        event => event.reached()?.words().into(),
    })
}

/// Reason with the number of messages that it is about, where one sentence has both.
pub(crate) fn sentence(notice: &NodeNotice) -> Option<Cow<'_, str>> {
    let why = why(notice)?;
    Some(match notice.event.shard() {
        Some(Event::QueueFull { messages, .. }) => {
            format!("{messages} messages wait: {why}").into()
        }
        Some(Event::RateExceeded {
            count,
            waited: true,
            ..
        }) => format!("{count} still waited when the client disconnected: {why}").into(),
        Some(Event::RateExceeded { count, .. }) => {
            format!("{count} with QoS 0 in a second: {why}").into()
        }
        _ => why,
    })
}

/// The name of a kind in the journal.
pub(crate) fn name(kind: EventKind) -> &'static str {
    kind.journal_name().unwrap_or_else(|| kind.name())
}

/// Description of what happened to a client, in the words of [`why`](crate::why), with the Topic
/// Name or Topic Filter; none: the reason is enough.
pub(crate) fn of_client(kind: EventKind, topic: Option<&str>) -> Option<String> {
    let notice = match (kind, topic) {
        (EventKind::Refused, _) => return None,
        (EventKind::ReauthenticationRefused, _) => "it was refused when it authenticated again",
        (EventKind::ProvisioningRefused, _) => "it was not added by a provisioning key",
        (EventKind::RequestRefused, _) => "its HTTP request was refused",
        (EventKind::Disconnected, _) => "its connection was ended",
        (EventKind::PublishRefused, Some(topic)) => {
            return Some(format!("its publish to {topic} was refused"));
        }
        (EventKind::SubscribeRefused, Some(topic)) => {
            return Some(format!("its subscription to {topic} was refused"));
        }
        (EventKind::Dropped, Some(topic)) => {
            return Some(format!("a message of {topic} for it was dropped"));
        }
        (EventKind::Dropped, None) => "a message for it was dropped",
        (EventKind::RateExceeded, Some(topic)) => {
            return Some(format!(
                "messages that it published to {topic} were dropped"
            ));
        }
        (EventKind::PublishesDelayed, _) => "the messages that it publishes wait",
        (EventKind::QueueFull, _) => "its queue was full",
        (EventKind::MessagesLost | EventKind::OutputFull, _) => "messages for it were dropped",
        (kind, topic) => {
            let name = name(kind);
            return Some(match topic {
                Some(topic) => format!("{name}, {topic}"),
                None => name.to_owned(),
            });
        }
    };
    Some(notice.to_owned())
}

/// Words for dropped messages; `why` is the reason in words.
pub(crate) fn dropped(count: u64, whose: &str, why: &str, reason: DropReason) -> String {
    format!("{} dropped: {why} ({})", were(count, whose), reason.name())
}

/// Words for expired messages.
pub(crate) fn expired(count: u64, whose: &str) -> String {
    let were = were(count, whose);
    format!("{were} not delivered before the Message Expiry Interval ran out")
}

/// The beginning of a sentence about messages, such as "2 messages for it were".
pub(crate) fn were(count: u64, whose: &str) -> String {
    match count {
        1 => format!("1 message{whose} was"),
        count => format!("{count} messages{whose} were"),
    }
}

/// Why a receiver has refused a message, by the reason code of its answer.
fn why_refused(client_id: &str, code: ReasonCode) -> &'static str {
    match PartRefusal::of(code).filter(|_| client_id.starts_with(CLIENT_IDS)) {
        Some(refusal) => refusal.meaning(),
        None => code.name(),
    }
}

/// Why messages were dropped: the limit, or else what the reason means.
fn why_dropped(
    client_id: &str,
    reason: DropReason,
    limit: Option<ReachedLimit>,
) -> Cow<'static, str> {
    match limit {
        Some(limit) => limit.words().into(),
        // Of a reason with two meanings only one is shown.
        None if reason == DropReason::RefusedByReceiver => {
            match client_id.starts_with(CLIENT_IDS) {
                true => "the target of the integration refused the message".into(),
                false => "the client answered with a reason code of 0x80 or above".into(),
            }
        }
        None => reason.meaning().into(),
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::{EventHead, TenantId};

    use super::*;

    #[test]
    fn who_has_refused_messages_is_told_alone() {
        for (client_id, expected) in [
            (
                "$integration/webhook/crm",
                "the target of the integration refused the message",
            ),
            (
                "pump-7",
                "the client answered with a reason code of 0x80 or above",
            ),
        ] {
            let event = Event::MessagesLost {
                topic: "a/b".into(),
                reason: DropReason::RefusedByReceiver,
                count: 3,
                limit: None,
                ended: None,
            };
            let notice = NodeNotice::new(EventHead::new(TenantId(0), client_id), event);
            assert_eq!(why(&notice).as_deref(), Some(expected));
        }
    }
}
