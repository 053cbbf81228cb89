//! Metrics of alarms.

use std::collections::BTreeMap;
use std::fmt;

use martlet_rules::{AlarmState, Severity};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{Alarms, lock};
use crate::process::put;

/// Alarms at one moment.
#[derive(Debug)]
pub struct AlarmsPage {
    /// Open alarms by state and severity.
    open: BTreeMap<(&'static str, &'static str), i64>,
    watched: usize,
    unobserved: u64,
    /// Notifications by outcome.
    notification_counts: [(&'static str, u64); 3],
}

impl Alarms {
    /// Their metrics, as they are now.
    pub fn metrics(&self) -> AlarmsPage {
        let states = [
            AlarmState::Active,
            AlarmState::Acknowledged,
            AlarmState::Shelved,
        ];
        let all = states.into_iter().flat_map(|state| {
            let severities = Severity::ALL.into_iter();
            severities.map(move |severity| ((state.word(), severity.word()), 0))
        });
        let mut open: BTreeMap<_, i64> = all.collect();
        let machine = lock(&self.machine);
        for alarm in machine.open() {
            *open
                .entry((alarm.state.word(), alarm.severity.word()))
                .or_default() += 1;
        }
        let (watched, unobserved) = machine.counts();
        AlarmsPage {
            open,
            watched,
            unobserved,
            notification_counts: self.notifications.counts(),
        }
    }
}

impl Alarms {
    /// Maximum number of alarms, and of devices that one may come of; and how many each tenant has.
    pub(crate) fn counts_of_tenants(&self) -> (usize, Vec<(u32, usize)>) {
        let machine = lock(&self.machine);
        let (limit, counts) = machine.of_tenants();
        (limit, counts.collect())
    }
}

impl Collector for AlarmsPage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Alarms that are not cleared, now";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder.encode_descriptor("alarms_open", help, None, kind)?;
        for ((state, severity), count) in &self.open {
            let labels = [("state", *state), ("severity", *severity)];
            ConstGauge::new(*count).encode(family.encode_family(&labels)?)?;
        }
        let watched = ConstGauge::new(i64::try_from(self.watched).unwrap_or(i64::MAX));
        let help = "Alarms and devices that are watched for one, in memory";
        put(&mut encoder, "alarms_watched", help, &watched)?;
        let unobserved = ConstCounter::new(self.unobserved);
        let help = "Observations that were dropped, since too many devices are watched";
        put(
            &mut encoder,
            "alarms_observations_dropped",
            help,
            &unobserved,
        )?;
        let help = "Changes of alarms that were to be published on the alerts topic, by outcome";
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family = encoder.encode_descriptor("alarms_notifications", help, None, kind)?;
        for (outcome, count) in self.notification_counts {
            let label = [("outcome", outcome)];
            ConstCounter::new(count).encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}
