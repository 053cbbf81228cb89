//! How fast a client may publish, and what happens to what is beyond that.
//!
//! A bucket of tokens, kept as the time at which it would be full again: it holds what one second
//! brings, so that a client that was quiet may send as much at once.

pub(crate) mod spent;

use martlet_codec::{FixedHeader, PacketType, Publish, QoS, ReasonCode};

use crate::event::Event;
use crate::event_interest::Wants;
use crate::id::ConnectionId;
use crate::limits::RateExceeded;
use crate::node::{Cx, Node};
use crate::shard::{PacketError, Shard};
use crate::shortened::shortened;
use crate::timer::Timer;

/// Time whose drops are reported as one event, in milliseconds.
const TOLD_MS: u64 = 1_000;

/// Time in which it is reported once that messages of a client wait, in milliseconds.
const DELAY_NOTICE_INTERVAL_MS: u64 = 60_000;

/// Whether a packet is within the rate.
pub(crate) enum Pace {
    /// The packet is worked off.
    Within,
    /// The packet waits.
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
        if header.packet_type != PacketType::Publish || !self.settings.limits.has_publish_rate() {
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
        if connection.flags.transport_closed() {
            // What is left is not waited for: what is beyond the rate is dropped.
            return Ok(Pace::Within);
        }
        let spent = connection.make_spent();
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
                    self.timers.wheel.arm(due_ms, Timer::RateOver(id));
                    self.notify_delay(cx, id.index);
                }
                Ok(Pace::Later)
            }
        }
    }

    /// A message waits: counts that, and reports it once in a while.
    #[cold]
    fn notify_delay<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        self.counters.publishes_delayed += 1;
        let connection = self.connections.at(index);
        let (session, address) = (connection.session(), connection.address());
        let now_ms = cx.now.mono_ms;
        let (Some(session), Some(spent)) = (session, connection.spent()) else {
            return;
        };
        spent.delayed += 1;
        let notified_ms = spent.delays_notified_ms;
        if notified_ms.is_some_and(|notified_ms| now_ms < notified_ms + DELAY_NOTICE_INTERVAL_MS) {
            return;
        }
        spent.delays_notified_ms = Some(now_ms);
        let (count, limit) = (core::mem::take(&mut spent.delayed), spent.limit());
        if self.is_observed(session, Wants::CONNECTIONS) {
            let event = Event::PublishesDelayed {
                count,
                limit: self.reached(limit, None),
            };
            let head = self.head_with_user(session).with_address(address);
            cx.effects.notify(head, event);
        }
    }

    /// Lets what is held be worked off.
    pub(crate) fn rate_is_over(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if let Some(spent) = connection.spent() {
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
        let connection = self.connections.at(index);
        let is_leaving = connection.flags.transport_closed();
        let spent = connection.make_spent();
        let is_beyond = spent.due_ms(cx.now.mono_ms).is_some();
        if !is_beyond || publish.qos > QoS::AtMostOnce && !is_leaving {
            let (limits, bytes) = (&self.settings.limits, publish.payload.len());
            spent.spend(cx.now.mono_ms, limits, bytes);
            return Ok(true);
        }
        self.check_publish_allowed(index, publish)?;
        // Its Topic Alias is applied.
        let aliased = self.resolve_alias(index, publish)?;
        self.counters.publishes_received += 1;
        self.counters.publishes_refused += 1;
        self.counters.publishes_dropped += 1;
        if self
            .observers
            .wants
            .any(Wants::CONNECTIONS.and(Wants::CLIENTS))
        {
            let id = self.connections.id_of(index);
            // Where nothing is dropped in passing, the client has left what waited.
            let in_passing = self.settings.rate_exceeded == RateExceeded::DropQos0
                && publish.qos == QoS::AtMostOnce;
            let spent = self.connections.at(index).make_spent();
            if spent.dropped + spent.waited == 0 {
                let due_ms = cx.now.mono_ms + TOLD_MS;
                self.timers.wheel.arm(due_ms, Timer::RateDrops(id));
            }
            let (count, first) = match in_passing {
                true => (&mut spent.dropped, &mut spent.topic),
                false => (&mut spent.waited, &mut spent.waited_topic),
            };
            *count += 1;
            if *count == 1 {
                let topic = publish.topic.map(|topic| topic.as_str());
                let topic = topic.or(aliased.as_deref()).unwrap_or_default();
                *first = (&*shortened(topic)).into();
            }
        }
        Ok(false)
    }

    /// Reports how many messages of a connection were dropped since the last report.
    pub(crate) fn notify_rate_drops<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let connection = self.connections.at(index);
        let (session, address) = (connection.session(), connection.address());
        let Some(spent) = connection.spent() else {
            return;
        };
        let dropped = (
            core::mem::take(&mut spent.dropped),
            core::mem::take(&mut spent.topic),
        );
        let topic = core::mem::take(&mut spent.waited_topic);
        let waited = (core::mem::take(&mut spent.waited), topic);
        let limit = spent.limit();
        let Some(session) =
            session.filter(|session| self.is_observed(*session, Wants::CONNECTIONS))
        else {
            return;
        };
        for ((count, topic), waited) in [(dropped, false), (waited, true)] {
            if count > 0 {
                let head = self.head_with_user(session).with_address(address);
                let event = Event::RateExceeded {
                    topic,
                    count,
                    waited,
                    limit: self.reached(limit, None),
                };
                cx.effects.notify(head, event);
            }
        }
    }
}
