//! Subjects that the node watches itself: certificates of listeners and devices that expire,
//! integrations that do not deliver or fall behind, the storage of telemetry, and rollouts that
//! their gates have paused. `activity` reports devices that are silent.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use martlet_broker::TenantId;
use martlet_rules::{Alarm, AlarmKey, Severity};
use tracing::debug;

use super::{Alarms, lock};
use super::{
    CERTIFICATES, DAY_MS, DEVICE_INACTIVE, INTEGRATION, INTEGRATION_LAG, ROLLOUT, TELEMETRY,
};
use crate::integrations::Condition;
use crate::shared_registry::SharedRegistryError;
use crate::wall_clock::now_signed_ms;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Devices with certificates that end soon, at most. Those that end first count.
const DEVICES_MAX: u32 = 10_000;

/// Record of what was looked at.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When, the last time.
    at: Option<Instant>,
    /// Alarms about silent devices are as the tables are.
    is_silence_known: bool,
}

impl Watch {
    pub(super) async fn look(&mut self, alarms: &Alarms) {
        if self.at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.at = Some(Instant::now());
        if !self.is_silence_known && alarms.is_restored.load(Ordering::Relaxed) {
            match alarms.look_at_silent_devices().await {
                Ok(()) => self.is_silence_known = true,
                Err(error) => debug!(%error, "cannot check which devices are silent; retrying"),
            }
        }
        alarms.look_at_certificates();
        if let Err(error) = alarms.look_at_devices().await {
            debug!(%error, "cannot check the certificates of devices: the tables cannot be read");
        }
        alarms.look_at_integrations();
        alarms.look_at_telemetry();
    }
}

fn of_node(name: &str, subject: &str) -> AlarmKey {
    AlarmKey {
        tenant: 0,
        name: name.to_owned(),
        subject: subject.to_owned(),
    }
}

/// The alarms of a certificate with this time left, and whether each is raised: the worst one that
/// applies, in place of the one before.
fn certificate_alarms(left_ms: i64) -> impl Iterator<Item = (&'static str, Severity, bool)> {
    let worst = CERTIFICATES
        .iter()
        .rposition(|(_, days, _)| left_ms <= days * DAY_MS);
    let all = CERTIFICATES.into_iter().enumerate();
    // The worst first: it is raised before the one that it replaces is cleared.
    let all = all.rev();
    all.map(move |(place, (name, _, severity))| (name, severity, Some(place) == worst))
}

/// When a certificate ends, as the end of a sentence.
fn ends(left_ms: i64) -> String {
    match left_ms {
        ..=0 => "has expired: replace it".to_owned(),
        left_ms if left_ms < DAY_MS => "expires in less than a day: replace it".to_owned(),
        left_ms => format!("expires in {} days: replace it", left_ms / DAY_MS),
    }
}

impl Alarms {
    fn look_at_certificates(&self) {
        let facts = self.control.node_facts();
        for certificate in &facts.certificates {
            let left_ms = certificate.not_after_secs.saturating_mul(1_000) - now_signed_ms();
            let (file, subject) = (&certificate.file, &certificate.subject);
            let message = format!("The certificate {subject} in {file} {}", ends(left_ms));
            for (name, severity, is_bad) in certificate_alarms(left_ms) {
                let reported = (severity, message.clone());
                self.observe_node(of_node(name, file), None, reported, is_bad, 0);
            }
        }
        // A listener has another file now.
        let files = facts.certificates.iter();
        let files: HashSet<&str> = files.map(|one| one.file.as_str()).collect();
        let is_over =
            |alarm: &Alarm| alarm.device.is_none() && !files.contains(alarm.key.subject.as_str());
        self.end_certificates(is_over);
    }

    /// Looks at certificates of devices, as far as the tables know when they end.
    async fn look_at_devices(&self) -> Result<(), SharedRegistryError> {
        if !self.tables.are_there() {
            return Ok(());
        }
        let now_ms = now_signed_ms();
        let before_ms = now_ms + CERTIFICATES[0].1 * DAY_MS;
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.certificate_ends(before_ms, DEVICES_MAX).await })
        });
        let found = read.await?;
        let is_cut = found.len() >= DEVICES_MAX as usize;
        for one in &found {
            let left_ms = one.ends_ms - now_ms;
            let message = format!(
                "The certificate of the device {} {}",
                one.device,
                ends(left_ms)
            );
            for (name, severity, is_bad) in certificate_alarms(left_ms) {
                let key = AlarmKey {
                    tenant: one.tenant,
                    ..of_node(name, &one.device)
                };
                let reported = (severity, message.clone());
                self.observe_node(key, Some(one.device.clone()), reported, is_bad, 0);
            }
        }
        if !is_cut {
            let found = found.iter().map(|one| (one.tenant, one.device.as_str()));
            let found: HashSet<(u32, &str)> = found.collect();
            self.end_certificates(|alarm| {
                let device = alarm.device.as_deref();
                device.is_some_and(|device| !found.contains(&(alarm.key.tenant, device)))
            });
        }
        Ok(())
    }

    /// Clears alarms about certificates that were replaced.
    fn end_certificates(&self, is_over: impl Fn(&Alarm) -> bool) {
        self.end_those(|alarm| {
            let is_one = CERTIFICATES
                .iter()
                .any(|(name, ..)| *name == alarm.key.name);
            is_one && is_over(alarm)
        });
    }

    /// Clears alarms about what no longer exists.
    fn end_those(&self, is_over: impl Fn(&Alarm) -> bool) {
        let machine = lock(&self.machine);
        let open = machine.open().filter(|alarm| is_over(alarm));
        let over: Vec<Alarm> = open.cloned().collect();
        drop(machine);
        for alarm in over {
            let reported = (alarm.severity, alarm.message);
            self.observe_node(alarm.key, alarm.device, reported, false, 0);
        }
    }

    fn look_at_integrations(&self) {
        let conditions = self.integrations.conditions();
        let there: HashSet<(u32, &str)> = conditions
            .iter()
            .map(|one| (one.tenant.0, one.name.as_str()))
            .collect();
        // One that was removed.
        self.end_those(|alarm| {
            let of = (alarm.key.tenant, alarm.key.subject.as_str());
            let is_one = [INTEGRATION, INTEGRATION_LAG].contains(&alarm.key.name.as_str());
            is_one && alarm.device.is_none() && !there.contains(&of)
        });
        for integration in &conditions {
            self.look_at_integration(integration);
        }
    }

    fn look_at_integration(&self, integration: &Condition) {
        let (name, lag) = (&integration.name, integration.lag);
        let key = |alarm| AlarmKey {
            tenant: integration.tenant.0,
            ..of_node(alarm, name)
        };
        let why = integration.trouble.as_deref().unwrap_or_default();
        let reported = (Severity::Major, format!("The integration {name} {why}"));
        let is_bad = integration.trouble.is_some();
        let after_ms = self.settings.trouble_ms;
        self.observe_node(key(INTEGRATION), None, reported, is_bad, after_ms);

        let waiting = lag.words().unwrap_or_else(|| "messages wait".to_owned());
        let secs = lag.age_ms / 1_000;
        let message =
            format!("The integration {name} is behind: {waiting}, the oldest for {secs} s");
        // What does not deliver at all is one alarm, not two.
        let is_bad = !is_bad && lag.age_ms > self.settings.lag_ms;
        let reported = (Severity::Warning, message);
        self.observe_node(key(INTEGRATION_LAG), None, reported, is_bad, 0);
    }

    fn look_at_telemetry(&self) {
        let is_bad = self.control.health.says("telemetry");
        let message = "Telemetry cannot be stored: martlet health shows why".to_owned();
        let key = of_node(TELEMETRY, "telemetry");
        self.observe_node(key, None, (Severity::Major, message), is_bad, 0);
    }

    /// A rollout is paused by its gate, with this reason, or goes on. Its alarm, and the event of
    /// that, belong to the tenant of the rollout's team.
    pub fn note_rollout(&self, tenant: u32, id: &str, paused: Option<String>) {
        let key = AlarmKey {
            tenant,
            ..of_node(ROLLOUT, id)
        };
        let is_bad = paused.is_some();
        let reported = (Severity::Major, paused.unwrap_or_default());
        self.observe_node(key, None, reported, is_bad, 0);
    }

    /// Raises and clears the alarms about silent devices that are missing after a crash: it may
    /// have come between a change of the tables and its alarm.
    async fn look_at_silent_devices(&self) -> Result<(), SharedRegistryError> {
        if !self.tables.are_there() {
            return Ok(());
        }
        let open = self.silent_devices();
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let mut over = Vec::new();
                for (tenant, device) in open {
                    if registry.inactive_in(tenant, &device).await?.is_none() {
                        over.push((tenant, device));
                    }
                }
                let silent = registry.silent_without_alarm(DEVICE_INACTIVE, DEVICES_MAX);
                Ok((silent.await?, over))
            })
        });
        let (silent, over) = read.await?;
        for device in silent {
            let tenant = TenantId(device.tenant);
            self.note_inactive(tenant, &device.id, Some(device.after_secs));
        }
        for (tenant, device) in over {
            self.note_inactive(TenantId(tenant), &device, None);
        }
        Ok(())
    }

    /// Devices with an alarm about their silence: tenant and id.
    fn silent_devices(&self) -> Vec<(u32, String)> {
        let machine = lock(&self.machine);
        let open = machine.open();
        let open = open.filter(|alarm| alarm.key.name == DEVICE_INACTIVE);
        open.map(|alarm| (alarm.key.tenant, alarm.key.subject.clone()))
            .collect()
    }

    /// Clears alarms about rollouts, except those that `is_paused` names. Returns false if the
    /// alarms of earlier runs are not known yet.
    pub(crate) fn end_other_rollouts(&self, is_paused: impl Fn(u32, &str) -> bool) -> bool {
        let is_restored = self.is_restored.load(Ordering::Relaxed);
        if is_restored {
            self.end_those(|alarm| {
                alarm.key.name == ROLLOUT && !is_paused(alarm.key.tenant, &alarm.key.subject)
            });
        }
        is_restored
    }

    /// A device has become inactive, or active again.
    pub fn note_inactive(&self, tenant: TenantId, id: &str, inactive_after_secs: Option<u32>) {
        let key = AlarmKey {
            tenant: tenant.0,
            ..of_node(DEVICE_INACTIVE, id)
        };
        let is_bad = inactive_after_secs.is_some();
        let message = match inactive_after_secs {
            Some(secs) => format!("The device {id} has sent nothing for {secs} s"),
            None => String::new(),
        };
        let reported = (Severity::Warning, message);
        self.observe_node(key, Some(id.to_owned()), reported, is_bad, 0);
    }
}
