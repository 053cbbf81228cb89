//! Expiry: an expired message is not sent any more [MQTT-3.3.2-5], and the session of an absent
//! client ends after its Session Expiry Interval [MQTT-3.1.2-23].
//!
//! While the node runs, steps of the wall clock do not change an end. After a restart, a forward
//! step may cause an earlier end. A backward step delays an end by at most the downtime of the
//! node plus the minute before; a session may wait for its interval once more.

use std::collections::BTreeMap;

use martlet_broker::{Answer, Report};
use martlet_codec::QoS;

use crate::agenda::SECOND;
use crate::facts::{ClientIndex, Fact};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::part::PartRow;

const CHECK: &str = "what expires ends";

/// Time limit of a message in buffers and the network.
const UNDER_WAY_US: u64 = 15 * SECOND;
/// Maximum delay of the end of a session.
const LATE_US: u64 = 2 * SECOND;

/// Clients that are not connected, and since when.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// First reported without a connection.
    away: BTreeMap<String, u64>,
    /// Clients that read as fast as data arrives: only for those the time in transit is short.
    prompt: BTreeMap<ClientIndex, bool>,
}

impl Expiry {
    pub(super) fn see(
        &mut self,
        at_us: u64,
        fact: &Fact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match *fact {
            Fact::Crashed { .. } => self.away.clear(),
            Fact::Connecting { client, wide, .. } => {
                self.prompt.insert(client, wide);
                self.away.remove(&ledger.client(client).name);
            }
            // It may have been connected between two reports, even if the client did not notice.
            Fact::Connected { client, .. } | Fact::EndSeen { client, .. } => {
                self.away.remove(&ledger.client(client).name);
            }
            Fact::Reading { client, .. } | Fact::Cut { client, .. } => {
                self.prompt.insert(client, false);
            }
            Fact::Arrived {
                client,
                message: Some(message),
                dup: false,
                known: false,
                qos,
                ..
            } if self.prompt.get(&client) == Some(&true) => {
                let row = ledger.message(message);
                let latest_us = row
                    .expires_us
                    .saturating_add(ledger.put_off_us)
                    .saturating_add(UNDER_WAY_US);
                // A message in flight before a crash is sent again regardless of its age. A
                // message that its publisher sends again late is received late.
                let again = qos > QoS::AtMostOnce && ledger.crashes > 0 || row.sends > 1;
                // Its lifetime begins when it is accepted, after it has waited for a part.
                let waited = ledger.parts.iter().any(PartRow::may_hold);
                if at_us > latest_us && !again && !waited {
                    let late_s = (at_us - row.expires_us) / SECOND;
                    let (name, what) = (&ledger.client(client).name, ledger.describe(message));
                    findings.add(
                        CHECK,
                        format!("{name} got {what} {late_s} s after it expired"),
                    );
                }
            }
            _ => {}
        }
    }

    pub(super) fn reported(&mut self, at_us: u64, reports: &[Report], findings: &mut Findings) {
        let mut away = BTreeMap::new();
        for report in reports {
            let Answer::Clients(page) = &report.answer else {
                continue;
            };
            let ending = page.clients.iter().filter(|info| {
                !info.connected && !matches!(info.session_expiry_secs, 0 | u32::MAX)
            });
            for info in ending {
                let name = &info.client_id;
                let since_us = self.away.get(name).copied().unwrap_or(at_us);
                let interval_us = u64::from(info.session_expiry_secs) * SECOND;
                if at_us > since_us + interval_us + LATE_US {
                    let late_s = (at_us - since_us - interval_us) / SECOND;
                    findings.add(CHECK, format!("{name} still has a session {late_s} s late"));
                }
                away.insert(name.clone(), since_us);
            }
        }
        self.away = away;
    }
}
