//! Metrics of integrations, each with the labels `kind` and `name`.

use std::fmt;

use martlet_integrate::{Activity, State};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Integrations;
use super::operate::IntegrationInfo;
use super::trouble::Lag;
use crate::wall_clock::now_ms;

/// Name, meaning and value of a counter.
type CounterOf = (&'static str, &'static str, fn(&State) -> u64);

/// Counters of all integrations: name, meaning, and the field of the counts.
macro_rules! counters {
    ($($name:literal, $help:literal, $field:ident;)*) => {
        const COUNTERS: &[CounterOf] = &[$(($name, $help, |state| state.counts.$field)),*];
    };
}

counters! {
    "integration_delivered", "Messages that the target of the integration has accepted", delivered;
    "integration_repeated", "Delivered messages that may have been delivered before", repeated;
    "integration_skipped", "Delivered messages that were not sent, since they came from the target", skipped;
    "integration_incoming", "Messages of the target that the node has accepted, of a bridge", incoming;
    "integration_incoming_dropped", "Messages of the target that were dropped, of a bridge", incoming_dropped;
    "integration_refused", "Messages that the target has refused", refused;
    "integration_failed_attempts", "Attempts to deliver that failed, each for a batch", failed_attempts;
    "integration_dead_letters", "Dead letters stored since the start", dead_letters;
    "integration_dead_letters_dropped", "Dead letters, of any integration, dropped to make room for those of this one", dead_letters_dropped;
}

/// The integrations at one moment.
#[derive(Debug)]
pub struct IntegrationsPage {
    all: Vec<IntegrationInfo>,
    now_ms: u64,
}

impl Integrations {
    /// Their metrics at this moment.
    pub async fn metrics(&self) -> IntegrationsPage {
        IntegrationsPage {
            all: self.operated_in(None).list().await,
            now_ms: now_ms(),
        }
    }
}

impl IntegrationsPage {
    /// A metric of each integration; of those without a value none.
    fn family<M: EncodeMetric>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        none: M,
        value: impl Fn(&IntegrationInfo) -> Option<M>,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, none.metric_type())?;
        for one in &self.all {
            if let Some(value) = value(one) {
                let label = [("kind", one.handle.kind()), ("name", one.handle.name())];
                value.encode(family.encode_family(&label)?)?;
            }
        }
        Ok(())
    }

    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&IntegrationInfo) -> Option<u64>,
    ) -> fmt::Result {
        let value = |one: &IntegrationInfo| {
            let value = value(one)?;
            Some(ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)))
        };
        self.family(encoder, name, help, ConstGauge::new(0_i64), value)
    }
}

impl Collector for IntegrationsPage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if self.all.is_empty() {
            return Ok(());
        }
        for (name, help, value) in COUNTERS {
            let value = |one: &IntegrationInfo| Some(ConstCounter::new(value(&one.state)));
            let none = ConstCounter::new(0_u64);
            self.family(&mut encoder, name, help, none, value)?;
        }
        let (name, help) = (
            "integration_dead_letters_stored",
            "Dead letters that are stored now",
        );
        self.gauge(&mut encoder, name, help, |one| one.dead_letters_stored)?;
        let (name, help) = (
            "integration_lag_messages",
            "Messages that wait for the integration, in its queue and in hand",
        );
        self.gauge(&mut encoder, name, help, |one| one.state.lag)?;
        let (name, help) = (
            "integration_in_hand_messages",
            "Messages that the integration has taken from its queue and not settled",
        );
        self.gauge(&mut encoder, name, help, |one| {
            Some(one.state.in_hand as u64)
        })?;
        let (name, help) = (
            "integration_oldest_message_age_seconds",
            "Age of the oldest message that is not delivered; 0 if there is none",
        );
        self.family(&mut encoder, name, help, ConstGauge::new(0.0), |one| {
            let lag = Lag::of(&one.state, self.now_ms);
            Some(ConstGauge::new(lag.age_ms as f64 / 1_000.0))
        })?;
        let kind = ConstGauge::new(0_i64).metric_type();
        let help = "1 for the state that the integration is in, 0 for the others";
        let mut family = encoder.encode_descriptor("integration_state", help, None, kind)?;
        for one in &self.all {
            for activity in Activity::ALL {
                let label = [
                    ("kind", one.handle.kind()),
                    ("name", one.handle.name()),
                    ("state", activity.word()),
                ];
                let value = ConstGauge::new(i64::from(one.state.activity == *activity));
                value.encode(family.encode_family(&label)?)?;
            }
        }
        Ok(())
    }
}
