//! A promised session exists when its client reconnects in time, and none exists after Clean Start
//! [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.2.2-2], [MQTT-3.1.2-23].

use std::collections::BTreeMap;

use crate::agenda::SECOND;
use crate::facts::{ClientIndex, Fact};
use crate::ledger::Ledger;
use crate::observer::Findings;

const CHECK: &str = "sessions as promised";

/// For each client, since when the node may consider its connection closed.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    doubtful_since: BTreeMap<ClientIndex, u64>,
    /// Times of restarts of the node.
    restarted_us: Vec<u64>,
}

impl Sessions {
    pub(super) fn see(
        &mut self,
        at_us: u64,
        fact: &Fact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match *fact {
            // A node that stops closes all connections, whenever their clients notice it.
            Fact::Crashed { .. } | Fact::Stopping => {
                for client in 0..ledger.clients.len() as ClientIndex {
                    self.doubtful_since.entry(client).or_insert(at_us);
                }
            }
            Fact::Restarted => self.restarted_us.push(at_us),
            Fact::Cut { client, .. }
            | Fact::Violated { client }
            | Fact::Reading { client, .. }
            | Fact::Lost { client, .. } => {
                self.doubtful_since.entry(client).or_insert(at_us);
            }
            Fact::Connected {
                client, present, ..
            } => {
                let row = ledger.client(client);
                let since_us = self.doubtful_since.remove(&client).unwrap_or(0);
                let until_us = match row.expiry_secs {
                    u32::MAX => u64::MAX,
                    secs => {
                        let interval_us = u64::from(secs) * SECOND;
                        // A clock set forward ends no session within the first minute after a
                        // start; this applies once.
                        let mut restarts = self.restarted_us.iter();
                        let first = restarts.find(|restarted_us| **restarted_us > since_us);
                        let until_us = since_us + interval_us;
                        match first.filter(|_| ledger.clock_ahead_us > 0) {
                            Some(first_us) => {
                                let minute_us = first_us + interval_us.min(60 * SECOND);
                                let next_us = restarts.next().copied().unwrap_or(u64::MAX);
                                until_us.min(minute_us).min(next_us)
                            }
                            None => until_us,
                        }
                    }
                };
                let name = &row.name;
                if row.clean && present {
                    findings.add(
                        CHECK,
                        format!("{name} began clean, yet a session was there"),
                    );
                } else if row.session && !present && at_us < until_us {
                    findings.add(CHECK, format!("{name} came back in time to no session"));
                }
            }
            _ => {}
        }
    }
}
