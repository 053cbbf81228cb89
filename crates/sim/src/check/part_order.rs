//! Order for parts: messages of one publisher on one topic at one QoS are delivered in publishing
//! order, both new ones and, in a new attachment, redeliveries. A postponed message, which is
//! delivered twice in one attachment, may come later.
//!
//! A durable part that has the messages of all shards in one queue gets messages of all publishers
//! in order: what is published after another one was acknowledged comes behind that.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::{MessageId, PartId};
use martlet_codec::QoS;

use crate::facts::{ClientIndex, Fact, MessageIndex, PartIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::{PartDelivery, PartFact};
use crate::topics::{Class, TopicIndex};

const CHECK: &str = "order to parts";

/// Key of an ordered stream: receiver, publisher, topic, QoS as published.
type Stream = (PartIndex, ClientIndex, TopicIndex, QoS);

/// Progress of each stream.
#[derive(Debug, Default)]
pub(super) struct PartOrder {
    streams: BTreeMap<Stream, AttachmentProgress>,
    /// Parts for which the node has dropped a message: its publisher may send it again, after
    /// others.
    dropped: BTreeSet<PartIndex>,
    /// When the publisher of a message had its acknowledgement, microseconds.
    acknowledged_us: BTreeMap<MessageIndex, u64>,
    /// Progress of each durable part with one queue.
    queues: BTreeMap<PartIndex, QueueProgress>,
}

#[derive(Debug, Default)]
struct QueueProgress {
    life: u32,
    /// All messages seen in this life.
    seen: BTreeSet<MessageIndex>,
    /// The message that was published last of those, and when, microseconds.
    last_sent: (u64, MessageIndex),
}

#[derive(Debug, Default)]
struct AttachmentProgress {
    life: u32,
    /// All messages seen in this life.
    seen: BTreeSet<MessageIndex>,
    attachment: PartId,
    /// All messages seen in this attachment.
    seen_now: BTreeSet<MessageId>,
    /// The number after the last message seen in this attachment for the first time.
    behind_last: MessageIndex,
}

impl PartOrder {
    pub(super) fn see(
        &mut self,
        at_us: u64,
        fact: &Fact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        if let Fact::Acknowledged {
            message,
            refused: false,
            ..
        } = *fact
        {
            self.acknowledged_us.entry(message).or_insert(at_us);
        }
        let Fact::Part { part, what } = *fact else {
            return;
        };
        match what {
            PartFact::Dropped { .. } => {
                self.dropped.insert(part);
            }
            PartFact::Delivered(delivery)
                if ledger.topics.class(delivery.topic) == Class::Plain =>
            {
                self.check_delivery(part, &delivery, ledger, findings);
                self.check_queue(part, &delivery, ledger, findings);
            }
            _ => {}
        }
    }

    fn check_delivery(
        &mut self,
        part: PartIndex,
        delivery: &PartDelivery,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let Some(message) = delivery.message else {
            return;
        };
        let (row, receiver) = (ledger.message(message), ledger.part(part));
        let stream = (part, row.publisher, row.topic, row.qos);
        let place = self.streams.entry(stream).or_default();
        if place.life != receiver.life {
            *place = AttachmentProgress {
                life: receiver.life,
                ..AttachmentProgress::default()
            };
        }
        let latest = place.seen.last().copied();
        let first_seen = place.seen.insert(message);
        let (name, what) = (&receiver.name, ledger.describe(message));
        if let Some(latest) = latest.filter(|latest| first_seen && message < *latest)
            && row.expires_us == u64::MAX
            && receiver.since_us < row.sent_us
            && !self.dropped.contains(&part)
        {
            let what = format!("{name} got {what} for the first time after m{latest}");
            findings.add(CHECK, what);
        }
        if place.attachment != delivery.attachment {
            place.attachment = delivery.attachment;
            place.seen_now.clear();
            place.behind_last = 0;
        }
        // A QoS 1 message that its publisher sent again is a different message for the broker.
        let is_repeated = !place.seen_now.insert(delivery.id);
        if is_repeated || row.qos == QoS::AtLeastOnce && row.sends > 1 {
            return;
        }
        if message < place.behind_last {
            let last = place.behind_last - 1;
            findings.add(CHECK, format!("{name} got {what} after m{last}"));
        }
        place.behind_last = message + 1;
    }

    /// Checks the order of messages of all publishers, by their first deliveries.
    fn check_queue(
        &mut self,
        part: PartIndex,
        delivery: &PartDelivery,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let receiver = ledger.part(part);
        let Some(message) = delivery.message else {
            return;
        };
        if !receiver.durable || receiver.lanes > 0 || self.dropped.contains(&part) {
            return;
        }
        let queue = self.queues.entry(part).or_default();
        if queue.life != receiver.life {
            *queue = QueueProgress {
                life: receiver.life,
                ..QueueProgress::default()
            };
        }
        let row = ledger.message(message);
        // A message that its publisher sent again is several messages for the broker.
        if !queue.seen.insert(message) || row.sends > 1 {
            return;
        }
        let (sent_us, last) = queue.last_sent;
        let acknowledged_us = self.acknowledged_us.get(&message);
        if acknowledged_us.is_some_and(|at_us| *at_us < sent_us) && receiver.since_us < row.sent_us
        {
            let (name, what) = (&receiver.name, ledger.describe(message));
            let later = ledger.describe(last);
            let what = format!("{name} got {what} behind {later}, sent after its acknowledgement");
            findings.add(CHECK, what);
        }
        queue.last_sent = queue.last_sent.max((row.sent_us, message));
    }
}
