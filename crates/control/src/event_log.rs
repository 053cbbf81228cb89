//! Events as log lines. Client identifiers and topics are text from outside: they are fields,
//! escaped by the subscriber, never part of the message, and cut if they are long.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use martlet_broker::{Event, EventInterest, Limit, TenantId, Told, UserName};
use tracing::{Level, debug, enabled, info, trace, warn};

use crate::feed::packet_name;
use crate::journal::{Way, why_dropped};
use crate::log_limit::LeftOut;

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
/// `left_out` are lines of the same client and cause that were not written.
pub(crate) fn write(told: &Told, way: Option<&Way>, is_traced: bool, left_out: LeftOut) {
    let Told { tenant, event } = told;
    let event = event.shown();
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
    let left_out = (left_out.count > 0).then(|| left_out.to_string());
    match &*event {
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
            address = &*AddressText::of(*address),
            "client authenticated"
        ),
        Event::Connected(client) => line!(
            info,
            client_id = &*client.client_id,
            tenant,
            user_name = proved(&client.user()),
            claimed_user_name = claimed(&client.user()),
            version = %client.version,
            address = &*AddressText::of(client.address),
            session_present = client.flags.session_present(),
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
            client_id = known(client_id),
            tenant,
            user_name = proved(user),
            claimed_user_name = claimed(user),
            address = &*AddressText::of(*address),
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
            limit,
        } => {
            let why = limit.map(|limit| limit.why().into_text());
            let why = why.as_deref();
            let (reason, message_id) = (reason.name(), stored.map(|id| id.to_string()));
            let (user_name, claimed_user_name) = (proved(user), claimed(user));
            // Of what lay in the store alone it is not known.
            let topic = known(topic);
            line!(
                warn,
                client_id = known(client_id),
                user_name,
                claimed_user_name,
                topic,
                message_id,
                reason,
                why,
                left_out,
                "message dropped"
            );
        }
        Event::QueueFull {
            owner,
            messages,
            policy,
            limit,
        } if limit.limit == Limit::PartQueue => line!(
            warn,
            owner,
            messages,
            policy = policy.name(),
            why = &*limit.why(),
            "the queue of an integration is full, its oldest messages are dropped: see max_bytes"
        ),
        Event::QueueFull {
            owner,
            messages,
            policy,
            limit,
        } => line!(
            warn,
            owner,
            messages,
            policy = policy.name(),
            why = &*limit.why(),
            "a queue is full, messages are dropped: see limits.queued_messages, \
             limits.queued_bytes and mqtt.queue_full"
        ),
        Event::MessagesLost {
            client_id,
            user,
            topic,
            reason,
            count,
            limit,
        } => {
            let why = why_dropped(*reason, *limit);
            let limit = limit.map(|limit| limit.limit.option());
            macro_rules! dropped {
                ($level:ident) => {
                    line!(
                        $level,
                        client_id,
                        tenant,
                        user_name = proved(user),
                        claimed_user_name = claimed(user),
                        count,
                        reason = reason.name(),
                        limit,
                        topic = known(topic),
                        why,
                        mend,
                        "messages lost"
                    )
                };
            }
            match reason.is_expected() {
                true => dropped!(info),
                false => dropped!(warn),
            }
        }
        Event::PublishesDelayed {
            client_id,
            user,
            address,
            count,
            limit,
        } => line!(
            warn,
            client_id,
            tenant,
            user_name = proved(user),
            claimed_user_name = claimed(user),
            address = &*AddressText::of(*address),
            count,
            why = &*limit.why(),
            mend,
            "publishes delayed: their client publishes faster than it may"
        ),
        Event::RateExceeded {
            client_id,
            user,
            address,
            topic,
            count,
            limit,
        } => line!(
            warn,
            client_id,
            tenant,
            user_name = proved(user),
            claimed_user_name = claimed(user),
            address = &*AddressText::of(*address),
            topic = &**topic,
            count,
            why = &*limit.why(),
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
                address = &*AddressText::of(*address),
                filter,
                reason = reason.name(),
                why = &**why,
                mend,
                left_out,
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
                address = &*AddressText::of(*address),
                topic,
                reason = reason.name(),
                why = &**why,
                mend,
                left_out,
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
            address = &*AddressText::of(*address),
            by = &*AddressText::of(*by),
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

/// What is not known has no field.
fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
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

/// An address with its port, as text, without an allocation: each client that comes has one.
struct AddressText {
    bytes: [u8; ADDRESS_BYTES],
    len: usize,
}

/// Longest text of a socket's address.
const ADDRESS_BYTES: usize = 58;

impl AddressText {
    fn of(address: Option<(IpAddr, u16)>) -> Self {
        let mut text = Self {
            bytes: [0; ADDRESS_BYTES],
            len: 0,
        };
        // There is room for every address.
        let _ = match address {
            None => text.write_str("unix"),
            Some((IpAddr::V4(ip), port)) => {
                for (number, after) in ip.octets().into_iter().zip([b'.', b'.', b'.', b':']) {
                    text.put_number(number.into());
                    text.put(&[after]);
                }
                text.put_number(port);
                Ok(())
            }
            Some((ip, port)) => write!(text, "{}", SocketAddr::new(ip, port)),
        };
        text
    }

    fn put_number(&mut self, number: u16) {
        let mut digits = [0; 5];
        let (mut at, mut rest) = (digits.len(), number);
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return self.put(&digits[at..]);
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let room = &mut self.bytes[self.len..];
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.len += count;
    }
}

impl fmt::Write for AddressText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

impl std::ops::Deref for AddressText {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_with_its_port() {
        for address in [
            "127.0.0.1:1",
            "0.10.200.255:65535",
            "[::1]:1883",
            "[1234:5678:9abc:def0:1234:5678:9abc:def0]:65535",
            "[::ffff:255.255.255.255]:10",
        ] {
            let parsed: SocketAddr = address.parse().unwrap();
            let text = AddressText::of(Some((parsed.ip(), parsed.port())));
            assert_eq!(&*text, address);
        }
        assert_eq!(&*AddressText::of(None), "unix");
    }
}
