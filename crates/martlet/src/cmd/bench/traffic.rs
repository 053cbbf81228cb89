//! Messages from publishers to subscribers, counted, checked and timed.
//!
//! Responsible for the scenarios that move messages: who may send when (a window, or a schedule),
//! the QoS handshakes of both sides, and what each subscriber saw of each publisher. It reads and
//! writes no sockets. MQTT 5.0 §3.3, §4.3.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use martlet_codec::{
    Ack, AckKind, OutgoingPublish, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
};

use super::driver::{Driver, Purpose, Receiver};
use super::histogram::Histogram;
use super::options::{BenchOptions, STAMP_BYTES, Scenario};
use super::sequence::{Arrival, Sequence};

/// Messages of one publisher sent and not acknowledged, at most; it keeps Packet Identifiers,
/// which go round, from meeting.
const UNACKNOWLEDGED_MAX: u32 = 10_000;

/// Bytes waiting in one connection above which a schedule is held up.
const OUTPUT_MAX_BYTES: usize = 16 * 1024 * 1024;

/// What was counted.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    /// Messages sent, in all and since the measurement began.
    pub(super) published: u64,
    /// Messages delivered.
    pub(super) delivered: u64,
    /// Deliveries that came again, with DUP, at QoS 1: allowed.
    pub(super) redelivered: u64,
    /// Deliveries that came again and must not.
    pub(super) duplicated: u64,
    /// Deliveries after a later message of the same publisher.
    pub(super) reordered: u64,
    /// Messages that the broker refused with a reason code.
    pub(super) refused: u64,
}

/// Publishers and subscribers. The first connections are the publishers'.
pub(super) struct Traffic {
    version: ProtocolVersion,
    qos: QoS,
    window: u64,
    rate: Option<f64>,
    /// The moment that stamps count from.
    epoch: Instant,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    /// Publishers that may have become able to send.
    credited: Vec<usize>,
    /// Scheduled messages that have come due, of all publishers.
    due_count: u64,
    /// Messages of all publishers that some subscriber still has to get.
    undelivered: u64,
    /// Messages of all publishers that are not at the end of their handshake.
    unacknowledged: u64,
    unacknowledged_max: u32,
    pub(super) counts: Counts,
    pub(super) latencies: Histogram,
    /// Latencies count for messages stamped from here …
    pub(super) measure_from: u64,
    /// … up to here, in nanoseconds since the epoch.
    pub(super) measure_to: u64,
    stopped: bool,
}

struct Publisher {
    /// The packet; identifier, number and stamp are written into a copy.
    template: Vec<u8>,
    packet_id_offset: Option<usize>,
    payload_offset: usize,
    /// The number of the next message.
    next: u64,
    /// Messages that all subscribers have (or will never get).
    delivered: u64,
    /// Messages that have come due (with a schedule).
    due: u64,
    unacknowledged: u32,
    last_packet_id: u16,
    is_credited: bool,
    /// Subscribers that each message from number `delivered` on is still missing at. Used when
    /// there are several subscribers.
    missing_at: VecDeque<u32>,
}

struct Subscriber {
    /// One per publisher that it hears.
    sequences: Vec<Sequence>,
}

impl Traffic {
    /// The connections that a scenario needs, publishers first.
    pub(super) fn purposes(options: &BenchOptions, run: &str) -> Vec<Purpose> {
        let (publisher_count, subscriber_count) = role_counts(options);
        let filter = |index: usize| match options.scenario {
            Scenario::FanIn => format!("bench/{run}/+"),
            Scenario::FanOut => topic(run, 0),
            _ => topic(run, index),
        };
        let publishers = (0..publisher_count).map(|index| Purpose {
            client_id: format!("bench-{run}-p{index}"),
            filter: None,
        });
        let subscribers = (0..subscriber_count).map(|index| Purpose {
            client_id: format!("bench-{run}-s{index}"),
            filter: Some(filter(index)),
        });
        publishers.chain(subscribers).collect()
    }

    /// The state of a scenario that begins at `epoch`.
    pub(super) fn new(
        options: &BenchOptions,
        run: &str,
        receive_maximum: u16,
        epoch: Instant,
    ) -> Self {
        let (publisher_count, subscriber_count) = role_counts(options);
        let heard = if options.scenario == Scenario::FanIn {
            publisher_count
        } else {
            1
        };
        let subscriber = || Subscriber {
            sequences: (0..heard).map(|_| Sequence::default()).collect(),
        };
        Self {
            version: options.version,
            qos: options.qos,
            window: u64::from(options.window),
            rate: options.rate,
            epoch,
            publishers: (0..publisher_count)
                .map(|index| Publisher::new(options, &topic(run, index), index))
                .collect(),
            subscribers: (0..subscriber_count).map(|_| subscriber()).collect(),
            credited: Vec::new(),
            due_count: 0,
            undelivered: 0,
            unacknowledged: 0,
            unacknowledged_max: UNACKNOWLEDGED_MAX.min(receive_maximum.into()),
            counts: Counts::default(),
            latencies: Histogram::new(),
            measure_from: 0,
            measure_to: u64::MAX,
            stopped: false,
        }
    }

    /// Lets every publisher send what it may. Begin with this.
    pub(super) fn credit_all(&mut self) {
        (0..self.publishers.len()).for_each(|index| self.credit(index));
    }

    /// Sends no more.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Sends what may be sent now: within the window, or due.
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

    /// How long nothing becomes due; the loop may wait so long.
    pub(super) fn idle_time(&self, now: Instant) -> Duration {
        let Some(rate) = self.rate.filter(|_| !self.stopped) else {
            return Duration::MAX;
        };
        let due = due_at(self.due_count, rate);
        Duration::from_nanos(due.saturating_sub(self.stamp(now)))
    }

    /// Whether all that was sent has been delivered and acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.undelivered == 0 && self.unacknowledged == 0
    }

    /// Messages that some subscriber did not get.
    pub(super) fn lost(&self) -> u64 {
        let sent = |publisher: usize| self.publishers[publisher].next;
        let lost = |(index, subscriber): (usize, &Subscriber)| -> u64 {
            let sequences = subscriber.sequences.iter().enumerate();
            sequences
                .map(|(heard, sequence)| sequence.lost(sent(self.publisher_of(index, heard))))
                .sum()
        };
        self.subscribers.iter().enumerate().map(lost).sum()
    }

    /// Nanoseconds since the epoch.
    pub(super) fn stamp(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    /// The publisher that a subscriber's sequence `heard` is of.
    fn publisher_of(&self, subscriber: usize, heard: usize) -> usize {
        match (self.publishers.len(), self.subscribers.len()) {
            (_, 1) => heard,
            (1, _) => 0,
            _ => subscriber,
        }
    }

    fn credit(&mut self, index: usize) {
        let publisher = &mut self.publishers[index];
        if !publisher.is_credited {
            publisher.is_credited = true;
            self.credited.push(index);
        }
    }

    /// Deals out to the publishers, in turn, what the schedule says.
    fn make_due(&mut self, now: u64) {
        let Some(rate) = self.rate else { return };
        while due_at(self.due_count, rate) <= now {
            let index = (self.due_count % self.publishers.len() as u64) as usize;
            self.publishers[index].due += 1;
            self.credit(index);
            self.due_count += 1;
        }
    }

    /// Sends from one publisher; `true` when its output is too long to go on.
    fn publish_from(&mut self, index: usize, now: u64, driver: &mut Driver) -> bool {
        let stride = self.publishers.len() as u64;
        let publisher = &mut self.publishers[index];
        let connection = &mut driver.connections[index];
        let subscriber_count = self.subscribers.len();
        let limit = match self.rate {
            Some(_) => publisher.due,
            None => publisher.delivered + self.window,
        };
        let first = publisher.next;
        let mut is_held = false;
        while publisher.next < limit && publisher.unacknowledged < self.unacknowledged_max {
            is_held = connection.output_len() > OUTPUT_MAX_BYTES;
            if is_held {
                break;
            }
            let stamp = match self.rate {
                Some(rate) => due_at(publisher.next * stride + index as u64, rate),
                None => now,
            };
            publisher.encode(stamp, &mut connection.output);
            if self.qos != QoS::AtMostOnce {
                publisher.unacknowledged += 1;
            }
            if subscriber_count > 1 && stride == 1 {
                publisher.missing_at.push_back(subscriber_count as u32);
            }
        }
        let count = publisher.next - first;
        self.count_published(count);
        if count > 0 {
            driver.mark_dirty(index);
        }
        is_held
    }

    fn count_published(&mut self, count: u64) {
        self.counts.published += count;
        self.undelivered += count;
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
        let Some(stamp) = packet.payload.first_chunk::<STAMP_BYTES>() else {
            return Err("a message that is not ours".into());
        };
        let (publisher, number, sent_at) = read_stamp(stamp);
        let heard = if self.subscribers[subscriber].sequences.len() > 1 {
            publisher
        } else {
            0
        };
        if publisher != self.publisher_of(subscriber, heard) || publisher >= self.publishers.len() {
            return Err("a message of another topic".into());
        }
        match self.subscribers[subscriber].sequences[heard].record(number) {
            Arrival::New { skipped } => {
                self.counts.delivered += 1;
                if (self.measure_from..self.measure_to).contains(&sent_at) {
                    self.latencies
                        .record(self.stamp(now).saturating_sub(sent_at));
                }
                self.delivered(publisher, number - skipped, number);
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

    /// One more subscriber has the messages `first` to `last`, or will never get them.
    fn delivered(&mut self, index: usize, first: u64, last: u64) {
        let publisher = &mut self.publishers[index];
        let before = publisher.delivered;
        if publisher.missing_at.is_empty() {
            publisher.delivered += last - first + 1;
        } else {
            for number in first..=last {
                let place = number
                    .checked_sub(publisher.delivered)
                    .map(|place| place as usize);
                if let Some(missing) = place.and_then(|place| publisher.missing_at.get_mut(place)) {
                    *missing = missing.saturating_sub(1);
                }
            }
            while publisher.missing_at.front() == Some(&0) {
                publisher.missing_at.pop_front();
                publisher.delivered += 1;
            }
        }
        self.undelivered = self
            .undelivered
            .saturating_sub(publisher.delivered - before);
        self.credit(index);
    }

    /// A publisher's message is at the end of its handshake.
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
        let subscriber = index.checked_sub(self.publishers.len());
        match (subscriber, packet) {
            (Some(subscriber), Packet::Publish(packet)) => {
                return self.receive_publish(subscriber, &packet, now, output);
            }
            (Some(_), Packet::PubRel(ack)) => {
                let answer = Ack::new(ack.packet_id, ReasonCode::Success);
                answer.encode(AckKind::PubComp, self.version, output);
            }
            (None, Packet::PubAck(ack) | Packet::PubComp(ack)) => {
                self.acknowledged(index, ack.reason);
            }
            (None, Packet::PubRec(ack)) if ack.reason.is_error() => {
                self.acknowledged(index, ack.reason);
            }
            (None, Packet::PubRec(ack)) => {
                let answer = Ack::new(ack.packet_id, ReasonCode::Success);
                answer.encode(AckKind::PubRel, self.version, output);
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
    fn new(options: &BenchOptions, topic: &str, index: usize) -> Self {
        let mut payload = vec![0; options.payload as usize];
        payload[..4].copy_from_slice(&(index as u32).to_le_bytes());
        let packet = OutgoingPublish {
            dup: false,
            qos: options.qos,
            retain: false,
            topic: topic.as_bytes(),
            packet_id: None,
            topic_alias: None,
            message_expiry_secs: None,
            subscription_ids: &[],
            forwarded: &[],
            payload: &payload,
        };
        let mut template = Vec::new();
        let packet_id_offset = packet.encode(options.version, &mut template);
        Self {
            payload_offset: template.len() - payload.len(),
            template,
            packet_id_offset,
            next: 0,
            delivered: 0,
            due: 0,
            unacknowledged: 0,
            last_packet_id: 0,
            is_credited: false,
            missing_at: VecDeque::new(),
        }
    }

    /// Appends the next message.
    fn encode(&mut self, stamp: u64, output: &mut Vec<u8>) {
        let start = output.len();
        output.extend_from_slice(&self.template);
        let packet = &mut output[start..];
        if let Some(offset) = self.packet_id_offset {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            let packet_id = PacketId::new(self.last_packet_id).unwrap_or(PacketId::MIN);
            packet[offset..offset + 2].copy_from_slice(&packet_id.get().to_be_bytes());
        }
        let payload = &mut packet[self.payload_offset..];
        payload[4..12].copy_from_slice(&self.next.to_le_bytes());
        payload[12..20].copy_from_slice(&stamp.to_le_bytes());
        self.next += 1;
    }
}

/// Publisher, number and stamp at the front of a payload.
fn read_stamp(bytes: &[u8; STAMP_BYTES]) -> (usize, u64, u64) {
    let mut publisher = [0; 4];
    let (mut number, mut sent_at) = ([0; 8], [0; 8]);
    publisher.copy_from_slice(&bytes[..4]);
    number.copy_from_slice(&bytes[4..12]);
    sent_at.copy_from_slice(&bytes[12..]);
    let publisher = u32::from_le_bytes(publisher) as usize;
    (
        publisher,
        u64::from_le_bytes(number),
        u64::from_le_bytes(sent_at),
    )
}

/// When the message with this number is due, in nanoseconds since the epoch.
fn due_at(number: u64, rate: f64) -> u64 {
    (number as f64 * 1e9 / rate) as u64
}

fn topic(run: &str, index: usize) -> String {
    format!("bench/{run}/{index}")
}

/// How many publishers and subscribers a scenario has.
fn role_counts(options: &BenchOptions) -> (usize, usize) {
    let clients = options.clients();
    match options.scenario {
        Scenario::FanOut => (1, clients),
        Scenario::FanIn => (clients, 1),
        _ => (clients, clients),
    }
}
