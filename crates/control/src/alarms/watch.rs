//! What the node watches itself: certificates that expire, integrations that do not deliver, the
//! storage of telemetry, and rollouts that their gates have paused. `activity` tells of devices
//! that are silent.

use std::time::{Duration, Instant};

use martlet_broker::TenantId;
use martlet_rules::{AlarmKey, Severity};

use super::Alarms;
use crate::wall_clock::now_signed_ms;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Time for which an integration does not deliver before that is an alarm.
const TROUBLE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Name of the alarm about a device that is silent for longer than its type permits.
pub(crate) const DEVICE_INACTIVE: &str = "device_inactive";
const INTEGRATION: &str = "integration";
const TELEMETRY: &str = "telemetry_storage";
/// Name of the alarm about a rollout that its gate has paused.
const ROLLOUT: &str = "rollout_paused";

/// Alarms about certificates: name, days that are left, severity.
const CERTIFICATES: [(&str, i64, Severity); 3] = [
    ("certificate_30_days", 30, Severity::Warning),
    ("certificate_7_days", 7, Severity::Major),
    ("certificate_1_day", 1, Severity::Critical),
];

/// Names of all alarms about the node itself. Rules may have the same; theirs are apart by what
/// they are about.
pub(super) const NAMES: [&str; 7] = [
    DEVICE_INACTIVE,
    INTEGRATION,
    TELEMETRY,
    ROLLOUT,
    CERTIFICATES[0].0,
    CERTIFICATES[1].0,
    CERTIFICATES[2].0,
];

/// When it was looked at last.
#[derive(Debug, Default)]
pub(super) struct Watch(Option<Instant>);

impl Watch {
    pub(super) fn look(&mut self, alarms: &Alarms) {
        if self.0.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.0 = Some(Instant::now());
        alarms.look_at_certificates();
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

impl Alarms {
    fn look_at_certificates(&self) {
        let facts = self.control.node_facts();
        let now_ms = now_signed_ms();
        for certificate in &facts.certificates {
            let left_ms = certificate.not_after_secs.saturating_mul(1_000) - now_ms;
            for (name, days, severity) in CERTIFICATES {
                let is_bad = left_ms <= days * DAY_MS;
                let (file, subject) = (&certificate.file, &certificate.subject);
                let left = left_ms.max(0) / DAY_MS;
                let message = format!(
                    "The certificate {subject} in {file} expires in {left} days: replace it"
                );
                let key = of_node(name, file);
                self.observe_node(key, None, (severity, message), (is_bad, 0));
            }
        }
    }

    fn look_at_integrations(&self) {
        let Some(integrations) = self.control.integrations() else {
            return;
        };
        for (integration, tenant, trouble) in integrations.troubles() {
            let is_bad = trouble.is_some();
            let why = trouble.unwrap_or_default();
            let message = format!("The integration {integration} {why}");
            let key = AlarmKey {
                tenant: tenant.0,
                ..of_node(INTEGRATION, &integration)
            };
            let told = (Severity::Major, message);
            self.observe_node(key, None, told, (is_bad, TROUBLE_MS));
        }
    }

    fn look_at_telemetry(&self) {
        let is_bad = self.control.health.says("telemetry");
        let message = "Telemetry cannot be stored: martlet health says why".to_owned();
        let key = of_node(TELEMETRY, "telemetry");
        self.observe_node(key, None, (Severity::Major, message), (is_bad, 0));
    }

    /// A rollout is paused by its gate, with this reason, or goes on. Its alarm, and the event of
    /// that, belong to the tenant of the rollout's team.
    pub fn note_rollout(&self, tenant: u32, id: &str, paused: Option<String>) {
        let key = AlarmKey {
            tenant,
            ..of_node(ROLLOUT, id)
        };
        let is_bad = paused.is_some();
        let told = (Severity::Major, paused.unwrap_or_default());
        self.observe_node(key, None, told, (is_bad, 0));
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
        let told = (Severity::Warning, message);
        self.observe_node(key, Some(id.to_owned()), told, (is_bad, 0));
    }
}
