//! Integrations, with the production runner. A message acknowledged with PUBACK or PUBREC after
//! the integration was first attached has, in the end, been accepted by the target, is a dead
//! letter, or was dropped by the node with a report. Messages of one publisher on one topic are
//! delivered in order, redeliveries are marked as repeated, and a QoS 2 message has one id. A
//! message is settled only after the target or the tables have it. An integration of one tenant
//! gets no message of another. If the node stops cleanly, messages confirmed by the target are
//! settled and do not come again.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::{DropReason, MessageId, PartOutcome};
use martlet_codec::QoS;

use crate::agenda::SECOND;
use crate::facts::{ClientIndex, Fact, MessageIndex, SinkIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::sink::{SinkFact, SinkTenant};
use crate::topics::{Class, TopicIndex};

const CHECK: &str = "nothing lost to integrations";
const CHECK_ORDER: &str = "order to integrations";
const CHECK_REPEATED: &str = "once to integrations, or repeated";
const CHECK_TENANT: &str = "integrations of one tenant";
const CHECK_STOPPED: &str = "integrations after a stop";
const CHECK_DRAINED: &str = "a drain of an integration leaves nothing";
const CHECK_SETTLED: &str = "integrations settle what is safe";

/// Time limit for a message to reach its lane after its acknowledgement, microseconds.
const ROUTED_WITHIN_US: u64 = SECOND;

/// Key of an ordered stream: publisher, topic, QoS as published.
type Stream = (ClientIndex, TopicIndex, QoS);

/// State of each integration.
#[derive(Debug, Default)]
pub(super) struct Sinks(BTreeMap<SinkIndex, OfSink>);

#[derive(Debug, Default)]
struct OfSink {
    was_attached: bool,
    owed: BTreeSet<MessageIndex>,
    /// Messages that the target has accepted.
    taken: BTreeSet<MessageId>,
    /// Broker ids of messages that the target has accepted.
    names: BTreeMap<MessageIndex, BTreeSet<MessageId>>,
    /// Messages that the target has rejected: it may accept them later.
    rejected: BTreeSet<MessageId>,
    /// Messages that the target has confirmed since the start of the node.
    answered: BTreeSet<MessageId>,
    /// Settled messages that must not come again: the node has stopped cleanly since.
    over: BTreeSet<MessageId>,
    /// Messages settled since the start of the node.
    settled: BTreeMap<MessageId, PartOutcome>,
    /// Messages that the tables have stored at some time.
    stored: BTreeSet<MessageId>,
    /// Messages returned as too old: a crash may undo that, and a clock set back makes them
    /// younger.
    too_old: BTreeSet<MessageId>,
    /// Message numbers of these.
    letters: BTreeSet<MessageIndex>,
    /// Messages that the current drain must deliver.
    to_drain: BTreeSet<MessageIndex>,
    /// Dead letters in the tables at the end of the run.
    left: BTreeSet<MessageIndex>,
    /// The number after the last message that was accepted for the first time.
    behind_last: BTreeMap<Stream, MessageIndex>,
    /// Drops reported by the node.
    dropped: BTreeMap<Option<TopicIndex>, usize>,
}

impl Sinks {
    pub(super) fn see(
        &mut self,
        at_us: u64,
        fact: &Fact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match *fact {
            Fact::Published {
                message,
                again: false,
                ..
            } => self.published(message, ledger),
            Fact::Sink { sink, what } => self.see_sink(at_us, sink, &what, ledger, findings),
            Fact::Restarted => {
                for of in self.0.values_mut() {
                    of.answered.clear();
                    of.settled.clear();
                    of.to_drain.clear();
                }
            }
            _ => {}
        }
    }

    fn published(&mut self, message: MessageIndex, ledger: &Ledger) {
        let row = ledger.message(message);
        if row.qos == QoS::AtMostOnce || row.empty {
            return;
        }
        for (sink, known) in (0..).zip(&ledger.sinks) {
            let of = self.0.entry(sink).or_default();
            let mut filters = known.filters.iter();
            let is_wanted = filters.any(|filter| ledger.topics.matches(*filter, row.topic))
                && takes(known.tenant, message, ledger);
            if of.was_attached && is_wanted {
                of.owed.insert(message);
            }
        }
    }

    fn see_sink(
        &mut self,
        at_us: u64,
        sink: SinkIndex,
        what: &SinkFact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let name = &ledger.sinks[usize::from(sink)].name;
        let of = self.0.entry(sink).or_default();
        match *what {
            SinkFact::Attached => of.was_attached = true,
            SinkFact::Took {
                id,
                message,
                repeated,
                tenant,
            } => {
                // It may also be a dead letter: its storage was not confirmed.
                if of.over.contains(&id) && !of.stored.contains(&id) {
                    let what = format!("{name} got {:x} again after a stop", id.0);
                    findings.add(CHECK_STOPPED, what);
                }
                let is_new = of.taken.insert(id);
                let known = message.filter(|known| (*known as usize) < ledger.messages.len());
                let Some(message) = known else { return };
                let what = ledger.describe(message);
                let own = ledger.tenant_of(message);
                if own != tenant || !takes(ledger.sinks[usize::from(sink)].tenant, message, ledger)
                {
                    let what = format!("{name} got {what} of {own:?} as of {tenant:?}");
                    findings.add(CHECK_TENANT, what);
                }
                if !is_new && !repeated {
                    let what = format!("{name} got {what} again and was not told so");
                    findings.add(CHECK_REPEATED, what);
                }
                let names = of.names.entry(message).or_default();
                names.insert(id);
                if names.len() > 1 && ledger.message(message).qos == QoS::ExactlyOnce {
                    findings.add(CHECK_REPEATED, format!("{name} got {what} as two messages"));
                }
                if is_new {
                    of.took_first(id, message, name, ledger, findings);
                }
            }
            SinkFact::Answered(id) => {
                of.answered.insert(id);
            }
            SinkFact::Stopped => of.stopped(name, findings),
            SinkFact::Rejected(id) => {
                of.rejected.insert(id);
            }
            SinkFact::Stored { id, message } => {
                of.stored.insert(id);
                of.letters.extend(message);
            }
            SinkFact::DrainAsked => {
                let was_there = |message: &&MessageIndex| {
                    let acked_us = ledger.message(**message).acked_us;
                    acked_us > 0 && acked_us + ROUTED_WITHIN_US < at_us
                };
                of.to_drain = of.owed.iter().filter(was_there).copied().collect();
            }
            SinkFact::Drained => {
                let to_drain = core::mem::take(&mut of.to_drain);
                for first in of.missing(&to_drain, &of.letters, at_us, ledger) {
                    let first = ledger.describe(first);
                    findings.add(CHECK_DRAINED, format!("{name} has not got {first}"));
                }
            }
            SinkFact::Settled { id, outcome } => {
                let is_safe = match outcome {
                    PartOutcome::Done => of.taken.contains(&id),
                    PartOutcome::Refused(_) => of.stored.contains(&id),
                    PartOutcome::Later(_) | PartOutcome::TooOld => true,
                };
                if outcome == PartOutcome::TooOld {
                    of.too_old.insert(id);
                }
                of.settled.insert(id, outcome);
                if !is_safe {
                    let what = format!("{name} settled {:x} as {outcome:?}", id.0);
                    findings.add(CHECK_SETTLED, what);
                }
            }
            SinkFact::Dropped { topic, reason } if is_excuse(reason) => {
                *of.dropped.entry(topic).or_default() += 1;
            }
            SinkFact::Dropped { .. } => {}
            SinkFact::Left(message) => {
                of.left.extend(message);
            }
        }
    }

    /// Final check.
    pub(super) fn settled(&self, at_us: u64, ledger: &Ledger, findings: &mut Findings) {
        for (sink, of) in &self.0 {
            let name = &ledger.sinks[usize::from(*sink)].name;
            for first in of.missing(&of.owed, &of.left, at_us, ledger) {
                let first = ledger.describe(first);
                findings.add(CHECK, format!("{name} never got {first}"));
            }
        }
    }
}

impl OfSink {
    /// The messages that neither the target nor the tables have, if they are more than the node
    /// reported as dropped: the first on each topic.
    fn missing(
        &self,
        messages: &BTreeSet<MessageIndex>,
        letters: &BTreeSet<MessageIndex>,
        at_us: u64,
        ledger: &Ledger,
    ) -> Vec<MessageIndex> {
        let mut missing: BTreeMap<TopicIndex, Vec<MessageIndex>> = BTreeMap::new();
        for message in messages {
            let is_there = self.names.contains_key(message) || letters.contains(message);
            if !is_there && ledger.is_owed(*message, at_us) {
                let topic = ledger.message(*message).topic;
                missing.entry(topic).or_default().push(*message);
            }
        }
        let reported = |topic| self.dropped.get(&topic).copied().unwrap_or(0);
        let missing = missing.into_iter();
        let found =
            missing.filter(|(topic, all)| all.len() > reported(Some(*topic)) + reported(None));
        found.map(|(_, all)| all[0]).collect()
    }

    /// Handles a clean stop of the node, after the integration.
    fn stopped(&mut self, name: &str, findings: &mut Findings) {
        let mut answered = self.answered.iter();
        let is_left = |id: &MessageId| {
            // A dead letter was settled when it was stored.
            !self.settled.contains_key(id) && !self.stored.contains(id)
        };
        if let Some(id) = answered.find(|id| is_left(id)) {
            let what = format!("{name} stopped and had not settled {:x}", id.0);
            findings.add(CHECK_STOPPED, what);
        }
        let settled = self.settled.iter();
        let done = settled.filter(|(_, outcome)| **outcome == PartOutcome::Done);
        self.over.extend(done.map(|(id, _)| *id));
    }

    /// Whether it may arrive out of order.
    fn is_late(&self, id: MessageId) -> bool {
        let sets = [&self.stored, &self.rejected, &self.too_old];
        sets.iter().any(|set| set.contains(&id))
    }

    fn took_first(
        &mut self,
        id: MessageId,
        message: MessageIndex,
        name: &str,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let row = ledger.message(message);
        // A dead letter arrives when it is sent again, as does a message rejected in an aborted
        // call. A message that a client sends again is a different message.
        let is_sent_again = row.qos == QoS::AtLeastOnce && row.sends > 1;
        let is_plain = ledger.topics.class(row.topic) == Class::Plain;
        if !is_plain || is_sent_again || self.is_late(id) {
            return;
        }
        let behind_last = self
            .behind_last
            .entry((row.publisher, row.topic, row.qos))
            .or_default();
        if message < *behind_last {
            let (what, last) = (ledger.describe(message), *behind_last - 1);
            findings.add(CHECK_ORDER, format!("{name} got {what} after m{last}"));
        }
        *behind_last = message + 1;
    }
}

/// Whether an integration takes messages of this publisher's tenant.
fn takes(tenant: SinkTenant, message: MessageIndex, ledger: &Ledger) -> bool {
    match tenant {
        SinkTenant::All => true,
        SinkTenant::One(tenant) => ledger.tenant_of(message) == tenant,
    }
}

/// Drop reasons that explain a missing message.
fn is_excuse(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::QueueFull
            | DropReason::TooOld
            | DropReason::MemoryFull
            | DropReason::StoreDamaged
    )
}
