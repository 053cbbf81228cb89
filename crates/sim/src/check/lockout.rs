//! Lockouts: after too many wrong credentials for a name, no login with that name is accepted:
//! from the same address in no case, from others only if the name was right from there before.
//! This also applies to logins that were already waiting for an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::agenda::SECOND;
use crate::facts::Fact;
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::people::{LoginVerdict, People, UserIndex};

const CHECK: &str = "lockouts";

/// Time for which failures count, from the first one.
const WINDOW_US: u64 = 60 * SECOND;

/// A name with failures, from one address or from all.
type Suspect = (UserIndex, u32, Option<IpAddr>);

/// Observed failures.
#[derive(Debug, Default)]
pub(super) struct Lockouts {
    counts: BTreeMap<Suspect, (u64, u32)>,
    locked_until: BTreeMap<Suspect, u64>,
    /// Names and addresses with a successful login.
    at_home: BTreeSet<Suspect>,
}

impl Lockouts {
    pub(super) fn see(
        &mut self,
        at_us: u64,
        fact: &Fact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let Some(people) = &ledger.people else {
            return;
        };
        match *fact {
            Fact::LockoutsLifted => {
                self.counts.clear();
                self.locked_until.clear();
            }
            Fact::Judged {
                client,
                tenant,
                verdict,
                ..
            } => {
                let user = People::user_of(client);
                let own = (user, tenant, Some(People::address(client)));
                let all = (user, tenant, None);
                match verdict {
                    LoginVerdict::Wrong => {
                        for suspect in [own, all] {
                            self.failed(at_us, suspect, people);
                        }
                    }
                    LoginVerdict::Accepted => {
                        let is_locked = |suspect| {
                            let until = self.locked_until.get(suspect);
                            until.is_some_and(|until| at_us < *until)
                        };
                        let is_home = self.at_home.contains(&own);
                        if is_locked(&own) || is_locked(&all) && !is_home {
                            let name = &ledger.client(client).name;
                            let what = format!("{name} was accepted, but is locked out");
                            findings.add(CHECK, what);
                        }
                        self.at_home.insert(own);
                    }
                    LoginVerdict::LockedOut | LoginVerdict::NotNow => {}
                }
            }
            _ => {}
        }
    }

    fn failed(&mut self, at_us: u64, suspect: Suspect, people: &People) {
        let (since_us, count) = self.counts.entry(suspect).or_insert((at_us, 0));
        if at_us > *since_us + WINDOW_US {
            (*since_us, *count) = (at_us, 0);
        }
        *count += 1;
        let lockout = people.lockout;
        if *count >= lockout.failures {
            let lasts_us = lockout.lasts.as_micros() as u64;
            self.locked_until.insert(suspect, at_us + lasts_us);
        }
    }
}
