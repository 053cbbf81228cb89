//! Bounds of the queues of parts. If the oldest messages make room, lost messages are older than
//! kept ones. Messages dropped for their age are that old, and waiting ones are not too old.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::{DropReason, OnFull, PartQueueLimits};

use crate::agenda::SECOND;
use crate::facts::{ClientIndex, Fact, MessageIndex, PartIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::{PartFact, PartRow};
use crate::topics::{Class, TopicIndex};

const CHECK: &str = "bounds of parts' queues";

/// Maximum number of messages that are dropped for their age in one pass.
const TOO_OLD_AT_ONCE: u64 = 1024;

/// Difference between the wall clock and the time of records, milliseconds, up to which the
/// difference is not recorded.
const CLOCK_APART_MS: u64 = 1_000;
/// Time limit for shards to pass waiting events to their parts after an answer of the store,
/// microseconds.
const TOLD_WITHIN_US: u64 = SECOND / 20;

/// In a delivery's token, bits from this one on are the number of the lane.
const TOKEN_BITS: u32 = 16;

/// Time of a drop, microseconds, and its reason.
type Drop = (u64, DropReason);

/// Lost messages, with times.
#[derive(Debug, Default)]
pub(super) struct PartQueues {
    /// Drops by part and topic; no topic if only the store knew it.
    drops: BTreeMap<(PartIndex, Option<TopicIndex>), Vec<Drop>>,
    /// Earliest time at which each message left the queue of each part, from its first delivery;
    /// and the number of crashes before.
    left: BTreeMap<(PartIndex, MessageIndex), (u64, u32)>,
    /// Possible deliveries in flight of each part.
    in_flight: BTreeMap<PartIndex, InFlight>,
    /// Number of crashes before a message was sent.
    sent: BTreeMap<MessageIndex, u32>,
    /// Times at which the store reported new durable records, microseconds.
    answers: Vec<u64>,
}

/// Deliveries in flight that a part did not see before it is attached again: they come first, and
/// left the queue earlier.
#[derive(Debug, Default)]
struct InFlight {
    /// The highest credit so far.
    credit_max: u16,
    /// Deliveries per lane since the attachment, except those possibly in flight before.
    deliveries: BTreeMap<u32, u16>,
}

impl InFlight {
    /// Whether a delivery by this lane may have been in flight before the attachment.
    fn may_be_of_before(&mut self, lane: u32) -> bool {
        let deliveries = self.deliveries.entry(lane).or_default();
        *deliveries = deliveries.saturating_add(1);
        *deliveries <= self.credit_max
    }
}

impl PartQueues {
    /// Handles a report of the store that more is durable.
    pub(super) fn synced(&mut self, at_us: u64) {
        self.answers.push(at_us);
    }

    /// Earliest time at which a message delivered at this time left the queue of its part. It
    /// leaves when there is credit, and waits until the records that its shard has appended by
    /// then are durable. If it waited, the store reported just before. That report covers records
    /// appended since the report before the last one, because a group has the records that arrived
    /// during the previous sync.
    fn left_queue_us(&self, delivered_us: u64) -> u64 {
        let since_us = delivered_us.saturating_sub(TOLD_WITHIN_US);
        let answer = self.answers.partition_point(|at_us| *at_us < since_us);
        match self.answers.get(answer) {
            Some(at_us) if *at_us <= delivered_us => answer
                .checked_sub(2)
                .map_or(0, |before| self.answers[before]),
            _ => delivered_us,
        }
    }

    pub(super) fn see(
        &mut self,
        at_us: u64,
        fact: &Fact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match *fact {
            Fact::Published { message, .. } => {
                self.sent.entry(message).or_insert(ledger.crashes);
            }
            Fact::Part { part, what } => {
                self.see_part(at_us, part, &what, ledger, findings);
            }
            _ => {}
        }
    }

    fn see_part(
        &mut self,
        at_us: u64,
        part: PartIndex,
        what: &PartFact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let row = ledger.part(part);
        let name = &row.name;
        match *what {
            PartFact::Attaching { credit, .. } => {
                let in_flight = self.in_flight.entry(part).or_default();
                in_flight.credit_max = in_flight.credit_max.max(credit);
                in_flight.deliveries.clear();
            }
            PartFact::Credit(credit) => {
                let in_flight = self.in_flight.entry(part).or_default();
                in_flight.credit_max = in_flight.credit_max.max(credit);
            }
            PartFact::Delivered(deliveries) if deliveries.attachment == row.attachment => {
                let in_flight = self.in_flight.entry(part).or_default();
                let lane = deliveries.token >> TOKEN_BITS;
                let left_us = match deliveries.dup || in_flight.may_be_of_before(lane) {
                    true => 0,
                    false => self.left_queue_us(at_us),
                };
                if let Some(message) = deliveries.message {
                    let left = (left_us, ledger.crashes);
                    self.left.entry((part, message)).or_insert(left);
                }
            }
            PartFact::Dropped { topic, reason } => {
                if reason == DropReason::TooOld && !row.may_age() {
                    findings.add(CHECK, format!("{name} has no bound in age, {reason:?}"));
                }
                let drops = self.drops.entry((part, topic)).or_default();
                drops.push((at_us, reason));
            }
            PartFact::Queue { state, oldest_ms } => {
                let ages = row.queues.iter().map(|queue| queue.age_max_secs);
                let age_max = ages.map(|age| if age == 0 { u32::MAX } else { age }).max();
                let age_max_ms = u64::from(age_max.unwrap_or(u32::MAX)) * 1000;
                // A backlog larger than one pass may be too old for a while.
                if oldest_ms > age_max_ms.saturating_add(CLOCK_APART_MS)
                    && state.messages < TOO_OLD_AT_ONCE
                {
                    findings.add(
                        CHECK,
                        format!("the first message for {name} is {oldest_ms} ms old"),
                    );
                }
            }
            _ => {}
        }
    }

    /// Checks the messages missing at parts: each was dropped at a valid time.
    pub(super) fn settled(
        &self,
        missing: impl Iterator<Item = (PartIndex, MessageIndex)>,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let mut by_topic: BTreeMap<(PartIndex, TopicIndex), Vec<MessageIndex>> = BTreeMap::new();
        for (part, message) in missing {
            let topic = ledger.message(message).topic;
            if ledger.topics.class(topic) == Class::Plain {
                by_topic.entry((part, topic)).or_default().push(message);
            }
        }
        for ((part, topic), missing) in by_topic {
            let row = ledger.part(part);
            // The latest drop that may apply to it.
            let from_age = missing.iter().map(|message| {
                let sent_us = ledger.message(*message).sent_us;
                (*message, sent_us + age_max_us(row))
            });
            // A clock set forward between two runs makes the time between them seem longer.
            if ledger.clock_ahead_us == 0 || ledger.restarted_us == 0 {
                let excess = self.excess(part, topic, from_age, |reason, at_us, from_us| {
                    reason != DropReason::TooOld || at_us >= from_us
                });
                if let Some(message) = excess {
                    let (name, what) = (&row.name, ledger.describe(message));
                    findings.add(CHECK, format!("{name} lost {what} before it was too old"));
                }
            }
            if !drops_oldest(row) {
                continue;
            }
            let older = self.older_delivered(part, &missing, ledger);
            let excess = self.excess(part, topic, older.into_iter(), |reason, at_us, from_us| {
                reason != DropReason::QueueFull || at_us >= from_us
            });
            if let Some(message) = excess {
                let (name, what) = (&row.name, ledger.describe(message));
                findings.add(
                    CHECK,
                    format!("{name} lost {what}, and got older ones later"),
                );
            }
        }
    }

    /// Matches each missing message with a drop after its time; returns one without a match.
    fn excess(
        &self,
        part: PartIndex,
        topic: TopicIndex,
        missing: impl Iterator<Item = (MessageIndex, u64)>,
        counts: impl Fn(DropReason, u64, u64) -> bool,
    ) -> Option<MessageIndex> {
        let mut missing: Vec<(MessageIndex, u64)> = missing.collect();
        missing.sort_unstable_by_key(|(_, from_us)| core::cmp::Reverse(*from_us));
        let of = |topic| {
            self.drops
                .get(&(part, topic))
                .map_or(&[][..], Vec::as_slice)
        };
        let drops = || of(Some(topic)).iter().chain(of(None));
        let found = (1..).zip(missing).find(|(number, (_, from_us))| {
            let counted = drops().filter(|(at_us, reason)| counts(*reason, *at_us, *from_us));
            counted.count() < *number
        });
        found.map(|(_, (message, _))| message)
    }

    /// For each missing message, the earliest time at which an older delivered message of its
    /// publisher left the queue.
    fn older_delivered(
        &self,
        part: PartIndex,
        missing: &[MessageIndex],
        ledger: &Ledger,
    ) -> Vec<(MessageIndex, u64)> {
        let missing_set: BTreeSet<MessageIndex> = missing.iter().copied().collect();
        let mut latest: BTreeMap<(ClientIndex, TopicIndex, u8, u32), u64> = BTreeMap::new();
        let mut found = Vec::new();
        let messages = (0..).zip(&ledger.messages);
        for (message, row) in messages.filter(|(_, row)| row.sends == 1) {
            let Some(crashes) = self.sent.get(&message).copied() else {
                continue;
            };
            let stream = (row.publisher, row.topic, row.qos.bits(), crashes);
            if missing_set.contains(&message) {
                let from_us = latest.get(&stream).copied().unwrap_or(0);
                found.push((message, from_us));
            } else if let Some((left_us, deliveries)) = self.left.get(&(part, message))
                && *deliveries == crashes
            {
                let latest = latest.entry(stream).or_default();
                *latest = (*latest).max(*left_us);
            }
        }
        found
    }
}

/// The lowest age limit of messages for a part, microseconds.
fn age_max_us(row: &PartRow) -> u64 {
    let ages = row.queues_ever.iter().map(|queue| queue.age_max_secs);
    let least = ages.filter(|age| *age > 0).min();
    u64::from(least.unwrap_or(0)) * SECOND
}

/// Whether the oldest messages of a part always make room.
fn drops_oldest(row: &PartRow) -> bool {
    let is_so =
        |queue: &PartQueueLimits| queue.on_full == OnFull::DropOldest && queue.bytes_max > 0;
    row.queues_ever.iter().all(is_so)
}
