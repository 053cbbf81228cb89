//! Receipts: each receiver of a message causes one, and only receivers do. A receiver that
//! acknowledged or refused a message has received it; a part has settled it with that outcome and
//! reason. No receipt reports expiry, because messages of parts do not expire.
//!
//! At the end no receipt is missing at a part that was attached continuously since it published,
//! nor of a client that received the message after the part was last attached. Across a restart of
//! the node a receipt may be sent twice.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::{MessageId, PartOutcome, PartRefusal, ReceiptOutcome};
use martlet_codec::QoS;

use crate::facts::{ClientIndex, Fact, MessageIndex, PartIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::PartFact;

const CHECK: &str = "receipts";

/// Requested and reported receipts.
#[derive(Debug, Default)]
pub(super) struct PartReceipts {
    /// Requests, by the broker's id of the message.
    requests: BTreeMap<MessageId, ReceiptRequest>,
    /// Receipts by message and receiver: the run of the node in which the last was reported.
    receipts: BTreeMap<(MessageId, Option<ClientIndex>), u64>,
    /// Receipts of each message in the latest run of the node.
    counts: BTreeMap<MessageId, (u64, u64)>,
    /// When a client last received a message with QoS 1 or 2.
    arrived: BTreeMap<(MessageIndex, ClientIndex), u64>,
    /// Messages that parts have settled.
    settled: BTreeMap<(MessageId, ClientIndex), PartOutcome>,
    /// Time of the attachment of each part.
    attached: BTreeMap<PartIndex, u64>,
    /// Whether a bit has flipped on the disk.
    is_rotten: bool,
}

#[derive(Debug)]
struct ReceiptRequest {
    part: PartIndex,
    message: MessageIndex,
    at_us: u64,
    /// The life of the part's session.
    life: u32,
    /// The run of the node.
    run: u64,
    receivers: Option<u64>,
}

/// Identifies a run of the node by its start time.
fn run(ledger: &Ledger) -> u64 {
    ledger.restarted_us
}

impl PartReceipts {
    pub(super) fn see(
        &mut self,
        at_us: u64,
        fact: &Fact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match *fact {
            Fact::Rotted { .. } => self.is_rotten = true,
            Fact::Crashed { .. } => self.attached.clear(),
            Fact::Arrived {
                client,
                message: Some(message),
                qos,
                ..
            // A packet that a client reads late may have been sent before a crash, to a session
            // that ended with it.
            } if qos > QoS::AtMostOnce && ledger.client(client).crashes == ledger.crashes => {
                self.arrived.insert((message, client), at_us);
            }
            Fact::Part { part, what } => self.see_part(at_us, part, &what, ledger, findings),
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
        match *what {
            PartFact::Attached { .. } => {
                self.attached.insert(part, at_us);
            }
            PartFact::Attaching { .. } | PartFact::Left { .. } | PartFact::Ended => {
                self.attached.remove(&part);
            }
            PartFact::Settled { outcome, id, .. } => {
                self.settled.insert((id, row.client), outcome);
            }
            PartFact::ReceiptsRequested { message, id } => {
                let request = ReceiptRequest {
                    part,
                    message,
                    at_us,
                    life: row.life,
                    run: run(ledger),
                    receivers: None,
                };
                self.requests.insert(id, request);
            }
            PartFact::Receivers { id, count } => {
                let name = &row.name;
                match self.requests.get_mut(&id) {
                    Some(request) if request.part == part && request.receivers.is_none() => {
                        request.receivers = Some(count);
                    }
                    _ => findings.add(CHECK, format!("{name} was told of receivers of {id:x?}")),
                }
            }
            PartFact::Receipt {
                id,
                receiver,
                outcome,
            } => self.check_receipt(part, id, receiver, outcome, ledger, findings),
            _ => {}
        }
    }

    fn check_receipt(
        &mut self,
        part: PartIndex,
        id: MessageId,
        receiver: Option<ClientIndex>,
        outcome: ReceiptOutcome,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let name = &ledger.part(part).name;
        let (run, request) = (run(ledger), self.requests.get(&id));
        let what = request.map_or_else(
            || format!("{id:x?}"),
            |request| ledger.describe(request.message),
        );
        let Some(client) = receiver else {
            // No share group matches messages of parts.
            let what = format!("{name} got a receipt of nobody for {what}");
            return findings.add(CHECK, what);
        };
        let who = &ledger.client(client).name;
        if request.is_some_and(|request| request.part != part) {
            findings.add(CHECK, format!("{name} got the receipt for {what}"));
        }
        if self.receipts.insert((id, receiver), run) == Some(run) {
            let what = format!("{name} got two receipts of {who} for {what}");
            findings.add(CHECK, what);
        }
        let (of_run, count) = self.counts.entry(id).or_default();
        if *of_run != run {
            (*of_run, *count) = (run, 0);
        }
        *count += 1;
        let has_got = |outcome: PartOutcome| match ledger.is_part(client) {
            true => self.settled.get(&(id, client)) == Some(&outcome),
            // The client may refuse messages it receives.
            false => request.is_none_or(|request| {
                let key = (request.message, client);
                self.arrived.contains_key(&key)
            }),
        };
        let is_true = match outcome {
            ReceiptOutcome::Acknowledged => has_got(PartOutcome::Done),
            ReceiptOutcome::Refused(code) if ledger.is_part(client) => {
                let why = PartRefusal::of(code);
                why.is_some_and(|why| has_got(PartOutcome::Refused(why)))
            }
            ReceiptOutcome::Refused(_) => has_got(PartOutcome::Done),
            ReceiptOutcome::Expired => false,
            ReceiptOutcome::Sent | ReceiptOutcome::Dropped(_) => true,
        };
        if !is_true {
            let what = format!("{name} was told of {who} and {what}: {outcome:?}");
            findings.add(CHECK, what);
        }
    }

    /// Final check, after all answers.
    pub(super) fn settled(&self, ledger: &Ledger, findings: &mut Findings) {
        for (id, request) in &self.requests {
            let row = ledger.part(request.part);
            let Some(since_us) = self.attached.get(&request.part).copied() else {
                continue;
            };
            if !row.session || row.life != request.life || self.is_rotten {
                continue;
            }
            let (name, what) = (&row.name, ledger.describe(request.message));
            if since_us <= request.at_us && request.run == run(ledger) {
                let count = self.counts.get(id).map_or(0, |(_, count)| *count);
                if request.receivers != Some(count) {
                    let of = request.receivers;
                    let what = format!("{name} got {count} receipts of {of:?} for {what}");
                    findings.add(CHECK, what);
                }
            }
            let all = (request.message, 0)..=(request.message, ClientIndex::MAX);
            let answered = self.arrived.range(all);
            let answered = answered.filter(|(_, arrived_us)| **arrived_us > since_us);
            let missing: BTreeSet<&str> = answered
                .filter(|((_, client), _)| !self.receipts.contains_key(&(*id, Some(*client))))
                .map(|((_, client), _)| ledger.client(*client).name.as_str())
                .collect();
            if !missing.is_empty() {
                let what = format!("{name} got no receipt of {missing:?} for {what}");
                findings.add(CHECK, what);
            }
        }
    }
}
