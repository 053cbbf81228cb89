//! Events as log lines. Client identifiers and topics are text from outside: they are fields,
//! escaped by the subscriber, never part of the message, and cut if they are long.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use martlet_broker::{DropReason, Event, EventInterest, Limit, RefusalCause, TenantId};
use tracing::{Level, debug, enabled, info, trace, warn};

use crate::event::{NodeEvent, NodeNotice};
use crate::event_fields::EventFields;
use crate::event_kind::EventKind;
use crate::event_words::{headline, why};
use crate::journal::WordedRemedy;
use crate::log_limit::LeftOut;

/// Events that the log's level asks for: lines of messages are of `debug`, those of packets of
/// `trace`.
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
pub const TRACED: &str = "martlet_control::event_log::traced";

/// Writes one event to the log, with the number of its tenant if it is not the common one. `way`
/// is how a refusal may be remedied. What is traced is written whatever the level of the log is.
/// `left_out` are lines of the same client and cause that were not written.
// Table: a line for each kind of event.
pub(crate) fn write(
    notice: &NodeNotice,
    worded: Option<&WordedRemedy>,
    is_traced: bool,
    left_out: LeftOut,
) {
    if !is_traced && !is_written(&notice.event) {
        return;
    }
    let notice = &*notice.shown();
    let NodeNotice { head, event } = notice;
    let (text, client_id) = (headline(notice), &*head.client_id);
    let tenant = (head.tenant != TenantId::default()).then_some(head.tenant.0);
    let address = || AddressText::of(head.address);
    let fields = EventFields::of(notice);
    let topic = fields.topic.unwrap_or_default();
    let filter = fields.filter.unwrap_or_default();
    // Lines of what is frequent are of `info` where it is traced.
    macro_rules! line {
        (debug, $($field:tt)*) => { line!(debug or info, $($field)*) };
        (trace, $($field:tt)*) => { line!(trace or info, $($field)*) };
        (info, $($field:tt)*) => { line!(info or info, $($field)*) };
        (warn, $($field:tt)*) => { line!(warn or warn, $($field)*) };
        ($level:ident or $traced:ident, $($field:tt)*) => {
            match is_traced {
                true => $traced!(target: TRACED, $($field)*, "{text}"),
                false => $level!($($field)*, "{text}"),
            }
        };
    }
    let event = match event {
        NodeEvent::Shard(event) => event,
        NodeEvent::DeviceInactive { .. } | NodeEvent::DeviceActive { .. } => {
            return line!(
                info,
                client_id,
                tenant,
                last_message_ms = fields.last_message_ms,
                after_secs = fields.inactive_after_secs
            );
        }
        NodeEvent::AlarmRaised(alarm) | NodeEvent::AlarmChanged(alarm) => {
            return line!(
                info,
                id = alarm.id,
                name = &*alarm.name,
                severity = alarm.severity,
                state = alarm.state,
                client_id,
                tenant,
                message = &*alarm.message
            );
        }
        NodeEvent::TwinChanged { .. } => {
            let (side, version) = fields.twin.unzip();
            return line!(debug, client_id, side, version);
        }
        NodeEvent::ProvisioningRefused { .. }
        | NodeEvent::RequestRefused { .. }
        | NodeEvent::ConnectionRefused { .. } => {
            return write_end(notice, worded, is_traced, left_out);
        }
    };
    match event {
        Event::Authenticated { .. } => line!(
            debug,
            client_id,
            user_name = head.proved(),
            method = fields.method,
            address = &*address()
        ),
        Event::Connected(client) => line!(
            info,
            client_id,
            tenant,
            user_name = head.proved(),
            claimed_user_name = head.claimed(),
            version = %client.version,
            address = &*address(),
            session_present = client.flags.session_present()
        ),
        Event::QueueFull { .. } => line!(
            warn,
            owner = client_id,
            messages = fields.messages,
            policy = fields.policy,
            why = why(notice).as_deref(),
            remedy = worded.map(WordedRemedy::to_string).as_deref()
        ),
        Event::TakenOver { .. } => line!(
            debug,
            client_id,
            address = &*address(),
            by = &*AddressText::of(fields.by)
        ),
        Event::SessionEnded { .. } => line!(debug, client_id, why = fields.decision),
        Event::Subscribed { .. } => line!(debug, client_id, filter, qos = fields.qos),
        Event::Unsubscribed { .. } => line!(debug, client_id, filter),
        Event::Published(_) => line!(
            debug,
            client_id,
            topic,
            message_id = fields.message_id.map(tracing::field::display),
            qos = fields.qos,
            retain = fields.retain,
            bytes = fields.payload_bytes,
            matched = fields.matched
        ),
        Event::Delivered(_) => line!(
            debug,
            client_id,
            topic,
            message_id = fields.message_id.map(tracing::field::display),
            qos = fields.qos,
            latency_ms = fields.latency_ms
        ),
        Event::Packet { .. } => line!(
            trace,
            client_id,
            direction = fields.direction,
            packet = fields.packet,
            packet_id = fields.packet_id,
            remaining_bytes = fields.remaining_bytes,
            at_ms = fields.at_ms
        ),
        Event::Refused { .. }
        | Event::ReauthenticationRefused { .. }
        | Event::Disconnected { .. }
        | Event::Dropped { .. }
        | Event::MessagesLost { .. }
        | Event::PublishesDelayed { .. }
        | Event::RateExceeded { .. }
        | Event::SubscribeRefused { .. }
        | Event::PublishRefused { .. } => write_end(notice, worded, is_traced, left_out),
    }
}

/// The log has a line for such an event: there may be one for each packet, and nothing is made for
/// a line that is not written.
fn is_written(event: &NodeEvent) -> bool {
    let event = match event {
        NodeEvent::Shard(event) => event,
        NodeEvent::TwinChanged { .. } => return enabled!(Level::DEBUG),
        _ => return true,
    };
    match event {
        Event::Packet { .. } => enabled!(Level::TRACE),
        Event::Authenticated { .. }
        | Event::TakenOver { .. }
        | Event::SessionEnded { .. }
        | Event::Subscribed { .. }
        | Event::Unsubscribed { .. }
        | Event::Published(_)
        | Event::Delivered(_) => enabled!(Level::DEBUG),
        Event::MessagesLost { reason, ended, .. } => {
            !is_own_end(*reason, *ended) || enabled!(Level::DEBUG)
        }
        _ => true,
    }
}

/// Writes that something was refused, ended, dropped or delayed.
fn write_end(
    notice: &NodeNotice,
    worded: Option<&WordedRemedy>,
    is_traced: bool,
    left_out: LeftOut,
) {
    let NodeNotice { head, event } = notice;
    let tenant = (head.tenant != TenantId::default()).then_some(head.tenant.0);
    let address = has_address(event).then(|| AddressText::of(head.address));
    let fields = EventFields::of(notice);
    let why = match event.shard() {
        // The reason contains it.
        Some(Event::Dropped {
            limit: None,
            refused: None,
            ..
        }) => None,
        _ => why(notice),
    };
    let remedy = worded
        .filter(|_| has_remedy(event))
        .map(WordedRemedy::to_string);
    let left_out = (left_out.count > 0).then(|| left_out.to_string());
    let text = headline(notice);
    macro_rules! line {
        ($level:ident, $($target:tt)*) => {
            $level!(
                $($target)*
                client_id = nonempty(&head.client_id),
                tenant,
                user_name = head.proved(),
                claimed_user_name = head.claimed(),
                address = address.as_deref(),
                topic = fields.topic,
                filter = fields.filter,
                message_id = fields.message_id.map(|id| id.to_string()),
                count = fields.count,
                reason = fields.reason,
                limit = fields.limit.map(Limit::option),
                why = why.as_deref(),
                remedy,
                left_out,
                "{text}"
            )
        };
    }
    let is_expected = match event.shard() {
        Some(Event::Disconnected { .. }) => true,
        Some(Event::MessagesLost { reason, .. }) => reason.is_expected(),
        _ => false,
    };
    if let Some(Event::MessagesLost { reason, ended, .. }) = event.shard()
        && !is_traced
        && is_own_end(*reason, *ended)
    {
        return line!(debug,);
    }
    match (is_traced, is_expected) {
        (true, true) => line!(info, target: TRACED,),
        (true, false) => line!(warn, target: TRACED,),
        (false, true) => line!(info,),
        (false, false) => line!(warn,),
    }
}

/// The client has ended the session or the connection for which the messages were kept.
fn is_own_end(reason: DropReason, ended: Option<RefusalCause>) -> bool {
    match reason {
        DropReason::ConnectionLost => true,
        DropReason::SessionEnded => matches!(
            ended,
            Some(RefusalCause::CleanStart | RefusalCause::EndsWithConnection)
        ),
        _ => false,
    }
}

/// The event has the address of its client, or that it is on a Unix socket.
fn has_address(event: &NodeEvent) -> bool {
    matches!(
        event.kind(),
        EventKind::Refused
            | EventKind::ProvisioningRefused
            | EventKind::RequestRefused
            | EventKind::PublishesDelayed
            | EventKind::RateExceeded
            | EventKind::SubscribeRefused
            | EventKind::PublishRefused
    )
}

/// The line of the event has its remedy.
fn has_remedy(event: &NodeEvent) -> bool {
    let is_lost = matches!(event.shard(), Some(Event::MessagesLost { .. }));
    has_address(event) || is_lost
}

/// Text of a field; what is not known has no field.
fn nonempty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
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
            Some((IpAddr::V4(ip), port)) if port > 0 => {
                for (number, after) in ip.octets().into_iter().zip([b'.', b'.', b'.', b':']) {
                    text.put_number(number.into());
                    text.put(&[after]);
                }
                text.put_number(port);
                Ok(())
            }
            Some(address) => text.write_str(&crate::text::address(address)),
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
    use std::net::SocketAddr;

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
        // A request has an address without a port.
        for (ip, fields) in [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")] {
            let ip = ip.parse().unwrap();
            assert_eq!(&*AddressText::of(Some((ip, 0))), fields);
        }
    }
}
