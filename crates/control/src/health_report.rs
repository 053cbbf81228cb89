//! Report about what operators should know of the node.

use std::time::Duration;

use martlet_broker::{Counters, TenantId};

use crate::authentication::LockedOut;
use crate::control::{Control, sum};
use crate::health::{HealthAudience, HealthReport, READY, STORE_FAILING};
use crate::integrations::Integrations;
use crate::memory;
use crate::remedy::Remedy;
use crate::rfc3339;
use crate::wall_clock::now_signed_ms;

/// Teams at their share that are named, at most.
const TEAMS_NAMED: usize = 10;
/// Time that a health probe waits for the shards.
const HEALTH_TIMEOUT: Duration = Duration::from_millis(200);

impl Control {
    /// Alive, ready, and what operators should know, of the store, the queues and the integrations
    /// too. Shards that do not answer at once are not waited for: the report has nothing about
    /// their queues then.
    pub async fn health_report(
        &self,
        integrations: Option<&Integrations>,
        reader: HealthAudience,
    ) -> HealthReport {
        let counters = self.snapshots_within(HEALTH_TIMEOUT).await;
        let counters = counters.map_or_else(|_| Counters::default(), |all| sum(&all));
        self.health_report_with(&counters, integrations, reader)
    }

    /// Report, likewise, with the node's counters known.
    pub fn health_report_with(
        &self,
        counters: &Counters,
        integrations: Option<&Integrations>,
        reader: HealthAudience,
    ) -> HealthReport {
        let mut report = self.bare_report(counters, integrations, reader);
        if reader == HealthAudience::Operator {
            for warning in &mut report.warnings {
                *warning = self.with_variables(warning).into_owned();
            }
            let node = &self.info.command_options;
            let warnings = report.warnings.iter();
            let remedies = warnings.flat_map(|one| Remedy::of_warning(one, node));
            report.remedies = remedies.collect();
        }
        report
    }

    /// The report without remedies.
    fn bare_report(
        &self,
        counters: &Counters,
        integrations: Option<&Integrations>,
        reader: HealthAudience,
    ) -> HealthReport {
        let mut report = self.health.report();
        if reader == HealthAudience::Operator {
            report.connections_max = Some(self.info.connections_max);
        }
        if self.shards.is_accepting_paused() {
            report.warnings.push(format!(
                "No more clients are accepted: no descriptors are left for more connections (of {} \
                 at most); raise the limit of open files (ulimit -n, LimitNOFILE).",
                self.info.connections_max
            ));
        }
        if reader == HealthAudience::Anybody {
            report.environment_file = None;
        }
        let memory = memory::warning(&self.shards.memory_use());
        report.warnings.extend(memory);
        if let Some(warning) = queues_warning(counters.queues_full) {
            report.warnings.push(warning);
        }
        report.warnings.extend(sessions_warning(
            counters.sessions,
            self.info.limits.sessions,
        ));
        report.warnings.extend(self.certificate_warnings(reader));
        if let Some(integrations) = integrations {
            report.warnings.extend(integrations.warnings(reader));
            if reader == HealthAudience::Operator {
                report.notes = integrations.notes();
            }
        }
        let locked_out = lockouts_warning(&self.all_locked_out(), reader);
        report.warnings.extend(locked_out);
        let at_share = self.health.at_telemetry_share();
        let at_share = self.share_warning(&at_share, reader, OF_TELEMETRY);
        report.warnings.extend(at_share);
        let Some(store) = self.store_state() else {
            return report;
        };
        if let Some((secs, error)) = store.failing {
            let patience_secs = u64::from(self.info.limits.store_patience_secs());
            if report.status == READY && secs >= patience_secs {
                report.status = STORE_FAILING;
            }
            report.warnings.push(format!(
                "The message store has not been able to write for {secs} s: {error}. Messages that \
                 must be stored are not acknowledged; QoS 0 is not affected."
            ));
        } else if let Some(why) = store.low {
            report.warnings.push(format!(
                "No more messages are stored: {why}. QoS 0 is not affected."
            ));
        } else if store.behind {
            let behind = "The disk is too slow: publishers with QoS 1 and 2 are held back.";
            report.warnings.push(behind.to_owned());
        }
        let at_share = self.share_warning(&store.at_share, reader, OF_STORE);
        report.warnings.extend(at_share);
        if store.unreadable > 0 {
            let messages = match store.unreadable {
                1 => "1 message".to_owned(),
                count => format!("{count} messages"),
            };
            report.warnings.push(format!(
                "{messages} could not be read back: the store is damaged; `martlet store check` \
                 shows where."
            ));
        }
        report
    }
}

/// A pool in which a team may reach its share: the consequence, and the remedy.
type ShareWords = (&'static str, &'static str, &'static str);

const OF_STORE: ShareWords = (
    "the message store",
    "messages of these that must be stored wait, and those of others do not",
    "Have the clients connect whose messages are queued, end their sessions, delete retained \
     messages",
);
const OF_TELEMETRY: ShareWords = (
    "the bytes of telemetry",
    "new values of these are rejected (`team_bytes`), and those of others are not",
    "Delete values that are no longer needed",
);

impl Control {
    /// Teams that have their share of a pool.
    fn share_warning(
        &self,
        tenants: &[TenantId],
        reader: HealthAudience,
        (pool, meaning, remedy): ShareWords,
    ) -> Option<String> {
        let names = tenants.iter().map(|tenant| {
            let name = self.name_of_tenant(*tenant);
            name.unwrap_or_else(|| format!("of tenant {}", tenant.0))
        });
        let whose = match (reader, tenants.len()) {
            (_, 0) => return None,
            (HealthAudience::Operator, 1) => format!("Team {} has its", names.collect::<String>()),
            (HealthAudience::Operator, count) => {
                let more = if count > TEAMS_NAMED { ", …" } else { "" };
                let names: Vec<_> = names.take(TEAMS_NAMED).collect();
                format!("{count} teams ({}{more}) have their", names.join(", "))
            }
            (HealthAudience::Anybody, 1) => "A team has its".to_owned(),
            (HealthAudience::Anybody, count) => format!("{count} teams have their"),
        };
        Some(format!(
            "{whose} share of {pool}: {meaning}. {remedy}, or raise limits.team_percent; `martlet \
             team show` has what each team uses."
        ))
    }

    /// Certificates of listeners that have expired.
    fn certificate_warnings(&self, reader: HealthAudience) -> Vec<String> {
        let facts = self.node_facts();
        let now_secs = now_signed_ms() / 1_000;
        let own = facts.certificates.iter();
        let expired = own.filter(|one| one.used_as == "server" && one.not_after_secs <= now_secs);
        match reader {
            HealthAudience::Operator => expired
                .map(|one| {
                    let ends_ms = u64::try_from(one.not_after_secs.saturating_mul(1_000));
                    let at = rfc3339::in_words(ends_ms.unwrap_or(0));
                    format!(
                        "The certificate in {} expired on {at}: clients that check it do not \
                         connect. Replace it, and run `martlet reload`.",
                        one.file
                    )
                })
                .collect(),
            HealthAudience::Anybody if expired.count() > 0 => {
                vec!["The certificate of a listener has expired.".to_owned()]
            }
            HealthAudience::Anybody => Vec::new(),
        }
    }
}

/// Warning about queues that lose messages.
fn queues_warning(full: u64) -> Option<String> {
    let whose = match full {
        0 => return None,
        1 => "The queue of 1 session or share group is full".to_owned(),
        _ => format!("The queues of {full} sessions or share groups are full"),
    };
    Some(format!(
        "{whose}: messages for them are dropped according to mqtt.queue_full; `martlet client ls` \
         shows the queues."
    ))
}

/// Warning about a node that takes no client without a session.
fn sessions_warning(sessions: u64, most: u32) -> Option<String> {
    (sessions >= u64::from(most)).then(|| {
        format!(
            "The node has {sessions} sessions, as many as limits.sessions permits: clients without \
             a session are refused. `martlet session ls` lists them, `martlet session rm` ends \
             one; or raise limits.sessions."
        )
    })
}

/// Warning about guessed passwords.
fn lockouts_warning(locked_out: &LockedOut, reader: HealthAudience) -> Option<String> {
    let who = match locked_out.now {
        0 => return None,
        1 => "1 address or name is".to_owned(),
        now => format!("{now} addresses and names are"),
    };
    let more = match locked_out.now > locked_out.some.len() {
        true => ", …",
        false => "",
    };
    let named = match reader {
        HealthAudience::Anybody => String::new(),
        HealthAudience::Operator => format!(" ({}{more})", locked_out.some.join("; ")),
    };
    Some(format!(
        "{who} locked out for too many wrong credentials{named}: no more passwords are checked \
         there for a while. A client is still accepted while its password is remembered \
         (auth.remember_secs), or at an address where it has logged in before and only other \
         clients sent wrong credentials. `martlet logs -t` shows the attempts, `martlet why NAME` \
         whether a client is locked out. It ends by itself; `martlet lockout rm` ends it now."
    ))
}
