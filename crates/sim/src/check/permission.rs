//! A client receives only permitted messages. Data produced for a client after a change was
//! confirmed complies with that change or a later one: live, retained, queued, from a share group
//! or a Will. Publishes that a client may not make have no effect.

use std::collections::{BTreeMap, BTreeSet};

use martlet_broker::{Actions, Record, TenantId};

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;

const CHECK: &str = "nothing without permission";

/// State of the check.
#[derive(Debug, Default)]
pub(super) struct Permission {
    /// The user behind each client that has a session in a tenant, among the users of that name.
    holders: BTreeMap<(ClientIndex, TenantId), u64>,
    /// Wills that were published.
    wills: BTreeSet<MessageIndex>,
}

impl Permission {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        let Some(people) = &ledger.people else {
            return;
        };
        match *fact {
            Fact::Connected {
                client, present, ..
            } => {
                let row = ledger.client(client);
                let Some(login) = people.login(row.link) else {
                    let what = format!("{} was accepted, but not as a user", row.name);
                    return findings.add(CHECK, what);
                };
                let before = self.holders.insert((client, login.tenant), login.holder);
                if present && before.is_some_and(|before| before != login.holder) {
                    let what = format!("{} got the session of another user", row.name);
                    findings.add(CHECK, what);
                }
            }
            Fact::Arrived {
                client,
                message,
                topic,
                ..
            } => {
                let row = ledger.client(client);
                let Some(login) = people.login(row.link) else {
                    return;
                };
                let since = people.in_force_at(row.link, row.packet_at);
                if !people.may_since(since, login, Actions::RECEIVE, topic, &ledger.topics) {
                    let topic = ledger.topics.name(topic);
                    let what = format!("{} got {message:?} on {topic}, which", row.name);
                    let what = format!("{what} it may not have since version {since}");
                    return findings.add(CHECK, what);
                }
                let Some(message) = message else {
                    return;
                };
                let (action, topics) = (Actions::PUBLISH, &ledger.topics);
                let mut sent = people.sent(message);
                if !sent.any(|(login, since)| people.may_since(since, login, action, topic, topics))
                {
                    let what = ledger.describe(message);
                    let what = format!("{} got {what}, which was forbidden", row.name);
                    findings.add(CHECK, what);
                }
            }
            _ => {}
        }
    }

    /// A Will is published when it is recorded, under the rules of that time.
    pub(super) fn recorded(&mut self, record: &Record, ledger: &Ledger, findings: &mut Findings) {
        let (Some(people), Record::Message(record)) = (&ledger.people, record) else {
            return;
        };
        let number = record.message.payload().first_chunk().copied();
        let message = number.map_or(MessageIndex::MAX, MessageIndex::from_be_bytes);
        let Some(row) = ledger.messages.get(message as usize) else {
            return;
        };
        if !row.will || !self.wills.insert(message) {
            return;
        }
        let since = people.in_force();
        let mut sent = people.sent(message);
        if !sent.any(|(login, _)| people.may_leave(since, login, row.topic, &ledger.topics)) {
            let what = ledger.describe(message);
            findings.add(CHECK, format!("the Will {what} was sent, but is forbidden"));
        }
    }
}
