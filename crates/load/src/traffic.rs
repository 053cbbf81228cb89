//! Sends messages from publishers to subscribers; counts, checks and times them.
//!
//! Responsible for when publishers may send (a window, or a schedule), for the QoS handshakes of
//! both sides, and for outstanding messages. Does not access sockets. MQTT 5.0 §3.3, §4.3.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use martlet_codec::{
    Ack, AckKind, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, encode_pingreq,
};

use super::arrivals::Arrivals;
use super::driver::{Driver, Receiver};
use super::histogram::Histogram;
use super::options::Options;
use super::plan::{Audience, Plan};
use super::publishing::{Form, Packets, Stamp, TopicTurns};
use super::schedule::Schedule;
use super::sequence::Arrival;

/// Most unacknowledged messages of one publisher. So Packet Identifiers, which wrap around, never
/// collide.
const UNACKNOWLEDGED_MAX: u32 = 10_000;

/// Most unacknowledged messages, likewise, without a schedule, unless the window is larger. A
/// message may be delivered before its handshake has completed, and in MQTT 3.1.1 a broker cannot
/// limit the number of messages in flight.
const UNACKNOWLEDGED_IN_WINDOW_MAX: u32 = 1000;

/// Bytes waiting in one connection above which the schedule is delayed.
const OUTPUT_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Counters.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    /// Messages sent.
    pub(super) published: u64,
    /// Messages delivered, counted once per subscriber.
    pub(super) delivered: u64,
    /// Repeated deliveries with DUP at QoS 1, which are allowed.
    pub(super) redelivered: u64,
    /// Repeated deliveries that are not allowed.
    pub(super) duplicated: u64,
    /// Deliveries after a later message of the same topic.
    pub(super) reordered: u64,
    /// Messages that the broker rejected with a reason code.
    pub(super) refused: u64,
}

/// Limit of a publisher.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// Number of messages in flight until they are delivered.
    Delivered(u64),
    /// Number of messages in flight until they are acknowledged; nothing is delivered.
    Acknowledged(u64),
    /// A schedule.
    Rate(Schedule),
}

/// Publishers and subscribers.
pub(super) struct Traffic {
    version: ProtocolVersion,
    qos: QoS,
    pace: Pace,
    /// Origin of the time stamps.
    epoch: Instant,
    packets: Packets,
    publishers: Vec<Publisher>,
    /// Number of messages sent to each topic.
    sent: Vec<u64>,
    audience: Audience,
    subscriber_count: usize,
    arrivals: Arrivals,
    /// Index of the connection of the first publisher, and of the first subscriber.
    first_publisher: usize,
    first_subscriber: usize,
    /// Publishers that may be able to send again.
    credited: Vec<usize>,
    /// Number of outstanding deliveries.
    pub(super) undelivered: u64,
    /// Messages of all publishers whose handshake has not completed.
    unacknowledged: u64,
    unacknowledged_max: u32,
    /// Number of unanswered PINGREQs.
    unanswered: usize,
    pub(super) counts: Counts,
    pub(super) latencies: Histogram,
    /// Latencies count for messages with time stamps from here …
    pub(super) measure_from: u64,
    /// … up to here, in nanoseconds since the epoch.
    pub(super) measure_to: u64,
    stopped: bool,
}

struct Publisher {
    turns: TopicTurns,
    /// Number of messages sent.
    next: u64,
    /// Number of messages that are delivered to all their receivers, or never will be.
    delivered: u64,
    /// Number of messages that are due by the schedule.
    due: u64,
    /// Total number of messages to send.
    quota: u64,
    unacknowledged: u32,
    last_packet_id: u16,
    is_credited: bool,
    /// For each message from number `delivered` on, the number of subscribers that have not
    /// received it. Used if every subscriber receives each message.
    missing_at: VecDeque<u32>,
}

impl Traffic {
    /// Creates the state of a scenario that begins at `epoch`. The publishers are the first
    /// connections, followed by the subscribers, unless set otherwise.
    pub(super) fn new(
        options: &Options,
        plan: &Plan,
        receive_maximum: u16,
        epoch: Instant,
    ) -> Self {
        let (topic_count, publisher_count) = (plan.topics.len(), plan.publisher_count);
        let form = Form {
            version: options.version,
            qos: options.qos(),
            retain: false,
            payload_bytes: options.payload as usize,
        };
        let turns = |first| TopicTurns::new(first, publisher_count, topic_count, plan.shuffled);
        let publishers = (0..publisher_count).map(|first| Publisher::new(turns(first)));
        let unacknowledged_max = match options.rate {
            Some(_) => UNACKNOWLEDGED_MAX,
            None => options.window().max(UNACKNOWLEDGED_IN_WINDOW_MAX),
        };
        Self {
            version: options.version,
            qos: options.qos(),
            pace: match options.rate {
                Some(rate) => Pace::Rate(Schedule::new(rate)),
                None => Pace::Delivered(options.window().into()),
            },
            epoch,
            packets: Packets::new(&plan.topics, form),
            publishers: publishers.collect(),
            sent: vec![0; topic_count],
            audience: plan.audience,
            subscriber_count: plan.subscriber_count(),
            arrivals: Arrivals::new(plan),
            first_publisher: 0,
            first_subscriber: publisher_count,
            credited: Vec::new(),
            undelivered: 0,
            unacknowledged: 0,
            unacknowledged_max: unacknowledged_max.min(receive_maximum.into()),
            unanswered: 0,
            counts: Counts::default(),
            latencies: Histogram::new(),
            measure_from: 0,
            measure_to: u64::MAX,
            stopped: false,
        }
    }

    /// Sends `message_count` messages, evenly to all topics, as fast as they are acknowledged.
    /// There are no receivers.
    pub(super) fn fill(&mut self, options: &Options, plan: &Plan, message_count: u64, form: Form) {
        self.pace = Pace::Acknowledged(options.window().into());
        self.packets = Packets::new(&plan.topics, form);
        let topic_count = plan.topics.len() as u64;
        for (index, publisher) in self.publishers.iter_mut().enumerate() {
            // Whole rounds over all topics, and one more message to the first topics.
            let (rounds, rest) = (message_count / topic_count, message_count % topic_count);
            let more = rest
                .saturating_sub(index as u64)
                .div_ceil(plan.publisher_count as u64);
            publisher.quota = publisher.next + publisher.turns.count() * rounds + more;
        }
        self.credit_all();
    }

    /// Sets the first connections of publishers and subscribers.
    pub(super) fn set_connections(&mut self, first_publisher: usize, first_subscriber: usize) {
        self.first_publisher = first_publisher;
        self.first_subscriber = first_subscriber;
    }

    /// Sets the first connection of subscribers; publishers are unchanged.
    pub(super) fn set_first_subscriber(&mut self, index: usize) {
        self.first_subscriber = index;
    }

    /// Index of the first subscriber's connection.
    pub(super) fn first_subscriber(&self) -> usize {
        self.first_subscriber
    }

    /// Lets every publisher send as much as permitted. Call this first.
    pub(super) fn credit_all(&mut self) {
        (0..self.publishers.len()).for_each(|index| self.credit(index));
    }

    /// Stops sending.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Sends a PINGREQ on each publisher's connection. When they are answered, the broker has
    /// received everything sent before.
    pub(super) fn ping(&mut self, driver: &mut Driver) {
        for index in 0..self.publishers.len() {
            let connection = self.first_publisher + index;
            encode_pingreq(&mut driver.connections[connection].output);
            driver.mark_dirty(connection);
            self.unanswered += 1;
        }
    }

    /// Sends the messages that are due or permitted by the window.
    pub(super) fn publish(&mut self, driver: &mut Driver, now: Instant) {
        if self.stopped {
            return self.credited.clear();
        }
        let now = self.stamp(now);
        self.make_due(now);
        let mut held = Vec::new();
        while let Some(index) = self.credited.pop() {
            self.publishers[index].is_credited = false;
            if self.publish_from(index, now, driver) {
                held.push(index);
            }
        }
        held.into_iter().for_each(|index| self.credit(index));
    }

    /// Time until the next message is due, for which the loop may wait.
    pub(super) fn idle_time(&self, now: Instant) -> Duration {
        match &self.pace {
            Pace::Rate(schedule) if !self.stopped => {
                Duration::from_nanos(schedule.idle_nanos(self.stamp(now)))
            }
            _ => Duration::MAX,
        }
    }

    /// Whether all messages have been delivered and acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.undelivered == 0 && self.unacknowledged == 0 && self.unanswered == 0
    }

    /// Whether every publisher has sent its quota.
    pub(super) fn is_all_sent(&self) -> bool {
        let mut publishers = self.publishers.iter();
        publishers.all(|publisher| publisher.next == publisher.quota)
    }

    /// A counter of all activity; only its growth is meaningful.
    pub(super) fn progress(&self) -> u64 {
        self.counts.delivered + self.counts.published - self.unacknowledged
    }

    /// Number of missing deliveries.
    pub(super) fn lost(&self) -> u64 {
        self.arrivals.lost(&self.sent)
    }

    /// Nanoseconds since the epoch.
    pub(super) fn stamp(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    fn credit(&mut self, index: usize) {
        let publisher = &mut self.publishers[index];
        if !publisher.is_credited {
            publisher.is_credited = true;
            self.credited.push(index);
        }
    }

    /// Assigns due messages of the schedule to the publishers in turn.
    fn make_due(&mut self, now: u64) {
        while let Pace::Rate(schedule) = &mut self.pace
            && let Some(number) = schedule.next_due(now)
        {
            let index = (number % self.publishers.len() as u64) as usize;
            self.publishers[index].due += 1;
            self.credit(index);
        }
    }

    /// Sends from one publisher. Returns true if its output is too long to continue.
    fn publish_from(&mut self, index: usize, now: u64, driver: &mut Driver) -> bool {
        let stride = self.publishers.len() as u64;
        let publisher = &mut self.publishers[index];
        let connection_index = self.first_publisher + index;
        let connection = &mut driver.connections[connection_index];
        let first = publisher.next;
        let limit = match self.pace {
            Pace::Rate(_) => publisher.due,
            Pace::Delivered(window) => publisher.delivered + window,
            // At QoS 0 nothing shows when a message is received; the system's buffers limit the
            // rate.
            Pace::Acknowledged(_) if self.qos == QoS::AtMostOnce => u64::MAX,
            Pace::Acknowledged(window) => {
                let unacknowledged = u64::from(publisher.unacknowledged);
                first + window.saturating_sub(unacknowledged)
            }
        };
        let limit = limit.min(publisher.quota);
        let mut is_held = false;
        while publisher.next < limit && publisher.unacknowledged < self.unacknowledged_max {
            is_held = connection.output_len() > OUTPUT_MAX_BYTES;
            if is_held {
                break;
            }
            let at = match &self.pace {
                Pace::Rate(schedule) => schedule.due_at(publisher.next * stride + index as u64),
                _ => now,
            };
            let topic = publisher.turns.next();
            let sent = &mut self.sent[topic as usize];
            let number = *sent;
            *sent += 1;
            let stamp = Stamp { topic, number, at };
            let packet_id = publisher.next_packet_id();
            self.packets
                .encode(packet_id, stamp, &mut connection.output);
            publisher.next += 1;
            if self.qos != QoS::AtMostOnce {
                publisher.unacknowledged += 1;
            }
            if self.audience == Audience::Everyone {
                let missing_at = self.subscriber_count as u32;
                publisher.missing_at.push_back(missing_at);
            }
        }
        let count = publisher.next - first;
        self.count_published(count);
        if count > 0 {
            driver.mark_dirty(connection_index);
        }
        is_held
    }

    fn count_published(&mut self, count: u64) {
        self.counts.published += count;
        if !matches!(self.pace, Pace::Acknowledged(_)) {
            self.undelivered += match self.audience {
                Audience::Everyone => count * self.subscriber_count as u64,
                _ => count,
            };
        }
        if self.qos != QoS::AtMostOnce {
            self.unacknowledged += count;
        }
    }

    fn receive_publish(
        &mut self,
        subscriber: usize,
        packet: &Publish<'_>,
        now: Instant,
        output: &mut Vec<u8>,
    ) -> Result<(), String> {
        let Some(stamp) = Stamp::read(packet.payload) else {
            return Err("a message that is not ours".into());
        };
        let topic = stamp.topic as usize;
        if self
            .sent
            .get(topic)
            .is_none_or(|sent| stamp.number >= *sent)
        {
            return Err("a message that was not sent".into());
        }
        let Some(arrival) = self.arrivals.record(subscriber, topic, stamp.number) else {
            return Err("a message of another topic".into());
        };
        match arrival {
            Arrival::New { skipped } => {
                self.counts.delivered += 1;
                if (self.measure_from..self.measure_to).contains(&stamp.at) {
                    let latency = self.stamp(now).saturating_sub(stamp.at);
                    self.latencies.record(latency);
                }
                self.delivered(topic, stamp.number - skipped, stamp.number);
            }
            Arrival::Overtaken => {
                self.counts.delivered += 1;
                self.counts.reordered += 1;
                self.delivered(topic, stamp.number, stamp.number);
            }
            Arrival::Reordered => {
                self.counts.delivered += 1;
                self.counts.reordered += 1;
            }
            Arrival::Repeated if packet.dup && self.qos == QoS::AtLeastOnce => {
                self.counts.redelivered += 1;
            }
            Arrival::Repeated => self.counts.duplicated += 1,
        }
        if let Some(packet_id) = packet.packet_id {
            let kind = match packet.qos {
                QoS::ExactlyOnce => AckKind::PubRec,
                _ => AckKind::PubAck,
            };
            Ack::new(packet_id, ReasonCode::Success).encode(kind, self.version, output);
        }
        Ok(())
    }

    /// Counts that one more subscriber has received the messages `first` to `last` of a topic, or
    /// never will.
    fn delivered(&mut self, topic: usize, first: u64, last: u64) {
        let count = last - first + 1;
        self.undelivered = self.undelivered.saturating_sub(count);
        let index = topic % self.publishers.len();
        let publisher = &mut self.publishers[index];
        if self.audience != Audience::Everyone {
            publisher.delivered += count;
        } else if publisher.turns.count() == 1 {
            publisher.delivered_once(first, last);
        }
        self.credit(index);
    }

    /// Counts the completed handshake of a publisher's message.
    fn acknowledged(&mut self, publisher: usize, reason: ReasonCode) {
        let unacknowledged = &mut self.publishers[publisher].unacknowledged;
        *unacknowledged = unacknowledged.saturating_sub(1);
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        if reason.is_error() {
            self.counts.refused += 1;
        }
        self.credit(publisher);
    }
}

impl Receiver for Traffic {
    fn receive(
        &mut self,
        index: usize,
        packet: Packet<'_>,
        now: Instant,
        output: &mut Vec<u8>,
    ) -> Result<(), String> {
        let place = index.checked_sub(self.first_publisher);
        let publisher = place.filter(|place| *place < self.publishers.len());
        let subscriber = index.wrapping_sub(self.first_subscriber);
        match (publisher, packet) {
            (None, Packet::Publish(packet)) => {
                return self.receive_publish(subscriber, &packet, now, output);
            }
            (None, Packet::PubRel(ack)) => {
                let answer = Ack::new(ack.packet_id, ReasonCode::Success);
                answer.encode(AckKind::PubComp, self.version, output);
            }
            (Some(publisher), Packet::PubAck(ack) | Packet::PubComp(ack)) => {
                self.acknowledged(publisher, ack.reason);
            }
            (Some(publisher), Packet::PubRec(ack)) if ack.reason.is_error() => {
                self.acknowledged(publisher, ack.reason);
            }
            (Some(_), Packet::PubRec(ack)) => {
                let answer = Ack::new(ack.packet_id, ReasonCode::Success);
                answer.encode(AckKind::PubRel, self.version, output);
            }
            (Some(_), Packet::PingResp) => {
                self.unanswered = self.unanswered.saturating_sub(1);
            }
            (_, Packet::Disconnect(packet)) => {
                return Err(format!(
                    "the broker sent DISCONNECT: {}",
                    packet.reason.name()
                ));
            }
            (_, packet) => return Err(format!("unexpected {:?}", packet.packet_type())),
        }
        Ok(())
    }
}

impl Publisher {
    fn new(turns: TopicTurns) -> Self {
        Self {
            turns,
            next: 0,
            delivered: 0,
            due: 0,
            quota: u64::MAX,
            unacknowledged: 0,
            last_packet_id: 0,
            is_credited: false,
            missing_at: VecDeque::new(),
        }
    }

    #[inline]
    fn next_packet_id(&mut self) -> PacketId {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.last_packet_id).unwrap_or(PacketId::MIN)
    }

    /// Counts that one more of all subscribers has received the messages `first` to `last`.
    fn delivered_once(&mut self, first: u64, last: u64) {
        for number in first..=last {
            let place = number
                .checked_sub(self.delivered)
                .map(|place| place as usize);
            if let Some(missing) = place.and_then(|place| self.missing_at.get_mut(place)) {
                *missing = missing.saturating_sub(1);
            }
        }
        while self.missing_at.front() == Some(&0) {
            self.missing_at.pop_front();
            self.delivered += 1;
        }
    }
}
