//! Requests in flight and queued messages.

use std::collections::VecDeque;

use martlet_codec::PacketId;

use super::event::{Acknowledgement, Event, RequestId};
use super::in_flight::InFlight;
use crate::message::Message;

/// Requests in flight and queued messages.
#[derive(Debug)]
pub(super) struct Outbound {
    /// The user's limit of messages in flight, at least 1.
    pub(super) send_maximum: u16,
    last_request: u64,
    pub(super) in_flight: InFlight<Request>,
    /// Queued messages without a Packet Identifier, which wait for quota.
    pub(super) queue: VecDeque<(RequestId, Message)>,
    /// How many more QoS 1 and 2 messages may be sent on this connection.
    pub(super) send_quota: u16,
    /// Initial quota; the quota never exceeds it [MQTT-4.9.0-1].
    pub(super) send_quota_max: u16,
    /// Number of requests in flight that have not been sent on this connection.
    pub(super) unsent: usize,
    /// Whether the server had a session at the first connection; `None` before the first
    /// connection.
    pub(super) inherits: Option<bool>,
    /// Identifiers that were released before their first use on this connection, in order. A
    /// PUBCOMP for each may arrive.
    pub(super) released_first: VecDeque<PacketId>,
}

/// A request with a Packet Identifier.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) stage: Stage,
    /// Whether it has been sent on the current connection.
    pub(super) sent: bool,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// PUBLISH sent, not acknowledged.
    Published {
        message: Message,
        sent_before: bool,
        /// The server may hold another message with this identifier.
        releases_first: bool,
    },
    /// PUBREL sent, not completed.
    Released,
    Subscribe,
    Unsubscribe,
}

impl Outbound {
    /// Creates an empty state.
    pub(super) fn new() -> Self {
        Self {
            send_maximum: u16::MAX,
            last_request: 0,
            in_flight: InFlight::new(),
            queue: VecDeque::new(),
            send_quota: 0,
            send_quota_max: 0,
            unsent: 0,
            inherits: None,
            released_first: VecDeque::new(),
        }
    }

    /// Keeps messages for the next connection; completes other requests.
    pub(super) fn connection_lost(&mut self, events: &mut VecDeque<Event>) {
        self.released_first.clear();
        let mut ended = Vec::new();
        for (packet_id, request) in self.in_flight.iter_mut() {
            request.sent = false;
            if matches!(request.stage, Stage::Subscribe | Stage::Unsubscribe) {
                ended.push(packet_id);
            }
        }
        for packet_id in ended {
            if let Some(request) = self.in_flight.remove(packet_id) {
                let acknowledgement = Acknowledgement::ConnectionLost;
                events.push_back(Event::Completed {
                    request: request.id,
                    acknowledgement,
                });
            }
        }
        self.unsent = self.in_flight.len();
    }

    pub(super) fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }
}
