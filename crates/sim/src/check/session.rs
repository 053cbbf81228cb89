//! A session that was promised is there when its client comes back in time, and none is there
//! after a clean start [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.2.2-2], [MQTT-3.1.2-23].

use std::collections::BTreeMap;

use crate::agenda::SECOND;
use crate::facts::{ClientIndex, Fact};
use crate::ledger::Ledger;
use crate::observer::Findings;

const CHECK: &str = "sessions as promised";

/// Since when each client's connection may have been over for the node.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    doubtful_since: BTreeMap<ClientIndex, u64>,
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
            Fact::Crashed { .. } => {
                for client in 0..ledger.clients.len() as ClientIndex {
                    self.doubtful_since.entry(client).or_insert(at_us);
                }
            }
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
                        // A clock set forward ends no session within the first minute.
                        match ledger.clock_ahead_us > 0 && ledger.restarted_us > since_us {
                            true => ledger.restarted_us + interval_us.min(60 * SECOND),
                            false => since_us + interval_us,
                        }
                        .min(since_us + interval_us)
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
