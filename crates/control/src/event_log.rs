//! Events as log lines. Client identifiers and topics are text from outside: they are fields,
//! escaped by the subscriber, never part of the message.

use std::net::IpAddr;

use martlet_broker::{Event, EventInterest, TenantId, Told, UserName};
use tracing::{Level, debug, enabled, info, trace, warn};

use crate::feed::packet_name;
use crate::journal::Way;

/// What the log's level asks for: lines of messages are of `debug`, those of packets of `trace`.
pub(crate) fn interest() -> EventInterest {
    let messages = enabled!(Level::DEBUG);
    EventInterest {
        subscriptions: messages,
        published: messages,
        delivered: messages,
        packets: enabled!(Level::TRACE),
        ..EventInterest::default()
    }
}

/// The target of lines of what is traced, which the filter lets through whatever the level is.
pub(crate) const TRACED: &str = "martlet_control::event_log::traced";

/// Writes one event to the log, with the number of its tenant if it is not the common one. `way`
/// is how a refusal may be mended. What is traced is written whatever the level of the log is.
pub fn write(told: &Told, way: Option<&Way>, is_traced: bool) {
    let Told { tenant, event } = told;
    let tenant = (*tenant != TenantId::default()).then_some(tenant.0);
    macro_rules! line {
        ($level:ident, $($field:tt)*) => {
            match is_traced {
                true => $level!(target: TRACED, $($field)*),
                false => $level!($($field)*),
            }
        };
    }
    // There may be one for each packet: nothing is made for a line that is not written.
    macro_rules! frequent {
        ($level:ident, $($field:tt)*) => {
            match is_traced {
                true => info!(target: TRACED, $($field)*),
                false => $level!($($field)*),
            }
        };
    }
    let mend = way.map(|way| match &way.command {
        Some(command) => format!("{}: {command}", way.text),
        None => way.text.clone(),
    });
    match event {
        Event::Authenticated {
            client_id,
            user,
            proof,
            address,
            ..
        } => frequent!(
            debug,
            client_id = &**client_id,
            user_name = proved(user),
            method = proof.name(),
            address = address_text(*address),
            "client authenticated"
        ),
        Event::Connected(client) => line!(
            info,
            client_id = &*client.client_id,
            tenant,
            user_name = proved(&client.user),
            claimed_user_name = claimed(&client.user),
            version = %client.version,
            address = address_text(client.address),
            session_present = client.session_present,
            "client connected"
        ),
        Event::Refused {
            client_id,
            user,
            will_topic: _,
            address,
            reason,
            why,
        } => line!(
            warn,
            client_id,
            tenant,
            user_name = proved(user),
            claimed_user_name = claimed(user),
            address = address_text(*address),
            reason = reason.name(),
            why = &**why,
            mend,
            "connection refused"
        ),
        Event::ReauthenticationRefused {
            client_id,
            user,
            reason,
            why,
        } => line!(
            warn,
            client_id,
            tenant,
            user_name = proved(user),
            reason = reason.name(),
            why = &**why,
            "re-authentication refused"
        ),
        Event::Disconnected {
            client_id,
            user,
            reason,
            why,
        } => {
            line!(
                info,
                client_id,
                tenant,
                user_name = proved(user),
                claimed_user_name = claimed(user),
                reason = reason.name(),
                why = &**why,
                "client disconnected"
            );
        }
        Event::Dropped {
            client_id,
            user,
            topic,
            stored,
            reason,
        } => {
            let (reason, message_id) = (reason.name(), stored.map(|id| id.to_string()));
            let (user_name, claimed_user_name) = (proved(user), claimed(user));
            line!(
                warn,
                client_id,
                user_name,
                claimed_user_name,
                topic,
                message_id,
                reason,
                "message dropped"
            );
        }
        Event::QueueFull {
            owner,
            messages,
            policy,
        } => line!(
            warn,
            owner,
            messages,
            policy = policy.name(),
            "a queue is full, messages are dropped: see limits.queued_messages, \
             limits.queued_bytes and mqtt.queue_full"
        ),
        Event::RateExceeded {
            client_id,
            user,
            address,
            topic,
            count,
        } => line!(
            warn,
            client_id,
            tenant,
            user_name = proved(user),
            claimed_user_name = claimed(user),
            address = address_text(*address),
            topic = &**topic,
            count,
            "messages dropped: their client publishes faster than limits.publish_rate or \
             limits.publish_bytes_rate"
        ),
        Event::SubscribeRefused {
            client_id,
            user,
            address,
            filter,
            reason,
            why,
        } => {
            line!(
                warn,
                client_id,
                user_name = proved(user),
                claimed_user_name = claimed(user),
                address = address_text(*address),
                filter,
                reason = reason.name(),
                why = &**why,
                mend,
                "subscription refused"
            );
        }
        Event::PublishRefused {
            client_id,
            user,
            address,
            topic,
            reason,
            why,
        } => {
            line!(
                warn,
                client_id,
                user_name = proved(user),
                claimed_user_name = claimed(user),
                address = address_text(*address),
                topic,
                reason = reason.name(),
                why = &**why,
                mend,
                "publish refused"
            );
        }
        Event::TakenOver {
            client_id,
            address,
            by,
        } => frequent!(
            debug,
            client_id = &**client_id,
            address = address_text(*address),
            by = address_text(*by),
            "client taken over"
        ),
        Event::SessionEnded { client_id, why } => {
            frequent!(debug, client_id = &**client_id, why, "session ended");
        }
        Event::Subscribed {
            client_id,
            filter,
            qos,
            ..
        } => frequent!(
            debug,
            client_id = &**client_id,
            filter = &**filter,
            qos = *qos as u8,
            "subscribed"
        ),
        Event::Unsubscribed { client_id, filter } => frequent!(
            debug,
            client_id = &**client_id,
            filter = &**filter,
            "unsubscribed"
        ),
        Event::Published(message) => frequent!(
            debug,
            client_id = &*message.client_id,
            topic = &*message.topic,
            message_id = %message.id,
            qos = message.qos as u8,
            retain = message.retain,
            bytes = message.payload_bytes,
            matched = message.matched,
            "published"
        ),
        Event::Delivered(message) => frequent!(
            debug,
            client_id = &*message.client_id,
            topic = &*message.topic,
            message_id = %message.id,
            qos = message.qos as u8,
            latency_ms = message.latency_ms,
            "delivered"
        ),
        Event::Packet {
            client_id,
            is_out,
            packet_type,
            packet_id,
            remaining_bytes,
            at_ms,
        } => frequent!(
            trace,
            client_id = &**client_id,
            direction = if *is_out { "out" } else { "in" },
            packet = packet_name(*packet_type),
            packet_id,
            remaining_bytes,
            at_ms,
            "packet"
        ),
    }
}

/// The name, where it is proved.
fn proved(user: &Option<UserName>) -> Option<&str> {
    let user = user.as_ref().filter(|user| user.is_proved())?;
    Some(user.as_str())
}

/// The name, where the client only says so.
fn claimed(user: &Option<UserName>) -> Option<&str> {
    let user = user.as_ref().filter(|user| !user.is_proved())?;
    Some(user.as_str())
}

fn address_text(address: Option<(IpAddr, u16)>) -> String {
    match address {
        Some((ip, port)) => std::net::SocketAddr::new(ip, port).to_string(),
        None => "unix".to_owned(),
    }
}
