//! How fast a client may publish, and what becomes of what is beyond that.
//!
//! A bucket of tokens, kept as the time at which it would be full again: it holds what one second
//! brings, so that a client that was quiet may send as much at once.

use martlet_codec::{FixedHeader, PacketType, Publish, QoS, ReasonCode};

use crate::decision::Limit;
use crate::event::Event;
use crate::event_interest::Wants;
use crate::id::ConnectionId;
use crate::limits::{Limits, RateExceeded};
use crate::node::{Cx, Node};
use crate::shard::{PacketError, Shard};
use crate::shortened::shortened;
use crate::timer::Timer;

/// What a connection has spent. It lies apart: few nodes limit it, and a connection is kept small.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    /// When all is there again, in microseconds of the monotonic clock: of messages, of bytes.
    full_us: [u64; 2],
    /// A timer will look after what is held.
    is_awaited: bool,
    /// Messages that were dropped and are not yet reported: a timer will do that.
    dropped: u32,
    /// The topic of the first of them.
    topic: Box<str>,
    /// How often a message has waited since that was last told, and when that was, in milliseconds
    /// of the monotonic clock.
    delayed: u32,
    delays_told_ms: Option<u64>,
}

/// Time whose drops are reported as one event, in milliseconds.
const TOLD_MS: u64 = 1_000;

/// Time in which it is told once that messages of a client wait, in milliseconds.
const DELAYS_TOLD_MS: u64 = 60_000;

/// Time that a full bucket covers, in microseconds.
const BURST_US: u64 = 1_000_000;

impl Spent {
    /// Time of the next message, in milliseconds; none: it may come now.
    fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let [messages, bytes] = self.full_us;
        let due_us = messages.max(bytes).saturating_sub(BURST_US);
        (due_us > now_ms * 1000).then(|| due_us.div_ceil(1000))
    }

    /// The narrower of both rates.
    fn limit(&self) -> Limit {
        let [messages, bytes] = self.full_us;
        match messages >= bytes {
            true => Limit::PublishRate,
            false => Limit::PublishBytesRate,
        }
    }

    fn spend(&mut self, now_ms: u64, limits: &Limits, bytes: usize) {
        let rates = [limits.publish_rate, limits.publish_bytes_rate];
        for ((full_us, rate), cost) in self.full_us.iter_mut().zip(rates).zip([1, bytes as u64]) {
            if rate > 0 {
                let cost_us = cost * BURST_US / u64::from(rate);
                *full_us = (*full_us).max(now_ms * 1000) + cost_us;
            }
        }
    }
}

/// Whether a packet is within the rate.
pub(crate) enum Pace {
    /// It is worked off.
    Within,
    /// It waits.
    Later,
}

impl Shard {
    /// Whether a packet of this connection comes too fast; if it has to wait, a timer is set for
    /// it.
    #[inline]
    pub(crate) fn pace_of<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        header: &FixedHeader,
    ) -> Result<Pace, PacketError> {
        if header.packet_type != PacketType::Publish || !self.has_rates {
            return Ok(Pace::Within);
        }
        self.pace_of_publish(cx, id, header)
    }

    #[inline(never)]
    fn pace_of_publish<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        header: &FixedHeader,
    ) -> Result<Pace, PacketError> {
        let exceeded = self.settings.rate_exceeded;
        let connection = self.connections.at(id.index);
        if connection.flags.transport_gone() {
            // What is left is not waited for: what is beyond the rate is dropped.
            return Ok(Pace::Within);
        }
        let spent = self.spent.get_or_default(id.index);
        let Some(due_ms) = spent.due_ms(cx.now.mono_ms) else {
            return Ok(Pace::Within);
        };
        let is_qos0 = header.flags & 0b0110 == 0;
        match exceeded {
            RateExceeded::Disconnect => Err(PacketError::of(
                ReasonCode::MessageRateTooHigh,
                spent.limit(),
            )),
            // Looked at when its topic is known: it may set a Topic Alias.
            RateExceeded::DropQos0 if is_qos0 => Ok(Pace::Within),
            RateExceeded::Delay | RateExceeded::DropQos0 => {
                if !core::mem::replace(&mut spent.is_awaited, true) {
                    self.wheel.arm(due_ms, Timer::RateOver(id));
                    self.tell_delay(cx, id.index);
                }
                Ok(Pace::Later)
            }
        }
    }

    /// A message waits: that is counted, and told once in a while.
    #[cold]
    fn tell_delay<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        self.counters.publishes_delayed += 1;
        let connection = self.connections.at(index);
        let (session, address) = (connection.session(), connection.address());
        let now_ms = cx.now.mono_ms;
        let (Some(session), Some(spent)) = (session, self.spent.get_mut(&index)) else {
            return;
        };
        spent.delayed += 1;
        let told_ms = spent.delays_told_ms;
        if told_ms.is_some_and(|told_ms| now_ms < told_ms + DELAYS_TOLD_MS) {
            return;
        }
        spent.delays_told_ms = Some(now_ms);
        let (count, limit) = (core::mem::take(&mut spent.delayed), spent.limit());
        if self.tells(session, Wants::CONNECTIONS) {
            let event = Event::PublishesDelayed {
                count,
                limit: self.reached(limit, None),
            };
            let head = self.head_with_user(session).with_address(address);
            cx.effects.tell(head, event);
        }
    }

    /// What is held may be worked off.
    pub(crate) fn rate_is_over(&mut self, id: ConnectionId) {
        if self.connections.get(id).is_none() {
            return;
        }
        if let Some(spent) = self.spent.get_mut(&id.index) {
            spent.is_awaited = false;
        }
        self.queue_input(id.index);
    }

    /// Takes a message from what the client may send; false: it is beyond that, and dropped.
    ///
    /// # Errors
    /// What a message of that client may not be at all.
    #[inline(never)]
    pub(crate) fn spend_rate<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        publish: &Publish<'_>,
    ) -> Result<bool, PacketError> {
        let is_leaving = self.connections.at(index).flags.transport_gone();
        let spent = self.spent.get_or_default(index);
        let is_beyond = spent.due_ms(cx.now.mono_ms).is_some();
        if !is_beyond || publish.qos > QoS::AtMostOnce && !is_leaving {
            let (limits, bytes) = (&self.settings.limits, publish.payload.len());
            spent.spend(cx.now.mono_ms, limits, bytes);
            return Ok(true);
        }
        self.check_publish_allowed(index, publish)?;
        // What it says of aliases holds.
        let aliased = self.resolve_alias(index, publish)?;
        self.counters.publishes_received += 1;
        self.counters.publishes_refused += 1;
        self.counters.publishes_dropped += 1;
        if self.wants.any(Wants::CONNECTIONS.and(Wants::CLIENTS)) {
            let id = self.connections.id_of(index);
            let spent = self.spent.get_or_default(index);
            spent.dropped += 1;
            if spent.dropped == 1 {
                let topic = publish.topic.map(|topic| topic.as_str());
                let topic = topic.or(aliased.as_deref()).unwrap_or_default();
                spent.topic = (&*shortened(topic)).into();
                let due_ms = cx.now.mono_ms + TOLD_MS;
                self.wheel.arm(due_ms, Timer::RateDrops(id));
            }
        }
        Ok(false)
    }

    /// Tells how many messages of a connection were dropped since that was last told.
    pub(crate) fn tell_rate_drops<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let Some(spent) = self.spent.get_mut(&index) else {
            return;
        };
        let (count, topic) = (spent.dropped, core::mem::take(&mut spent.topic));
        let limit = spent.limit();
        spent.dropped = 0;
        let connection = self.connections.at(index);
        let (session, address) = (connection.session(), connection.address());
        if let (1.., Some(session)) = (count, session)
            && self.tells(session, Wants::CONNECTIONS)
        {
            cx.effects.tell(
                self.head_with_user(session).with_address(address),
                Event::RateExceeded {
                    topic,
                    count,
                    limit: self.reached(limit, None),
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(messages: u32, bytes: u32) -> Limits {
        Limits {
            publish_rate: messages,
            publish_bytes_rate: bytes,
            ..Limits::default()
        }
    }

    /// Messages that get through in `ms` when one of `bytes` is offered each millisecond.
    fn passed(limits: &Limits, bytes: usize, ms: u64) -> usize {
        let mut spent = Spent::default();
        let offered = 1_000_000..1_000_000 + ms;
        let pass = |now_ms: &u64| {
            let may = spent.due_ms(*now_ms).is_none();
            if may {
                spent.spend(*now_ms, limits, bytes);
            }
            may
        };
        offered.filter(pass).count()
    }

    #[test]
    fn so_many_pass_as_a_second_brings_and_as_many_more_at_the_beginning() {
        let around = |count: usize, expected: usize| {
            assert!(count.abs_diff(expected) <= 2, "{count}, not {expected}");
        };
        around(passed(&limits(100, 0), 10, 10_000), 1100);
        around(passed(&limits(0, 10_000), 100, 10_000), 1100);
        // The narrower of both.
        around(passed(&limits(500, 10_000), 100, 10_000), 1100);
        around(passed(&limits(1, 0), 1, 100_000), 101);
    }

    #[test]
    fn a_message_larger_than_the_bucket_passes_and_is_paid_for() {
        assert_eq!(passed(&limits(0, 1_000), 5_000, 20_000), 5);
    }
}
