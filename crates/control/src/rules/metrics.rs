//! Metrics of rules.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::action_counts::{ActionKind, ActionOutcome};
use super::counts::Counts;
use super::{Rules, lock};
use crate::process::put;

/// Name, meaning and value of a counter of a rule.
type CounterOf = (&'static str, &'static str, fn(&Counts) -> u64);

const COUNTERS: &[CounterOf] = &[
    (
        "rules_messages",
        "Messages, values and events that a rule has looked at",
        |counts| counts.messages,
    ),
    (
        "rules_matched",
        "Of these, those for which the condition was true",
        |counts| counts.matched,
    ),
    (
        "rules_missing",
        "Of these, those in which a member was missing that the condition needs",
        |counts| counts.missing,
    ),
    (
        "rules_errors",
        "Messages and actions for which a rule has failed",
        |counts| counts.errors,
    ),
    (
        "rules_loops",
        "Messages that were not looked at, since rules have passed them on too often",
        |counts| counts.loops,
    ),
];

/// Rules at one moment.
#[derive(Debug)]
pub struct RulesPage {
    /// Counts of the rules by their names among all.
    rules: Vec<(String, Counts)>,
    actions: Vec<(ActionKind, ActionOutcome, u64)>,
    previous_dropped: u64,
}

impl Rules {
    /// Their metrics, as they are now.
    pub fn metrics(&self) -> RulesPage {
        let in_force = self.in_force();
        let counts = lock(&self.counts);
        let names = in_force.places.iter().map(|place| &place.key);
        let rules = names.map(|name| (name.clone(), counts.get(name).cloned().unwrap_or_default()));
        let kinds = ActionKind::ALL.into_iter();
        let actions = kinds.flat_map(|kind| {
            let outcomes = ActionOutcome::ALL.into_iter();
            outcomes.map(move |outcome| (kind, outcome, self.actions.get(kind, outcome)))
        });
        RulesPage {
            rules: rules.collect(),
            actions: actions.collect(),
            previous_dropped: lock(&self.previous).dropped(),
        }
    }
}

impl Collector for RulesPage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let in_force = ConstGauge::new(i64::try_from(self.rules.len()).unwrap_or(i64::MAX));
        put(&mut encoder, "rules", "Rules in force", &in_force)?;
        let dropped = ConstCounter::new(self.previous_dropped);
        let help = "Values that rules remembered for `previous`, dropped to make room for others";
        put(&mut encoder, "rules_previous_dropped", help, &dropped)?;
        let kind = ConstCounter::new(0_u64).metric_type();
        for (name, help, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (rule, counts) in &self.rules {
                let label = [("rule", rule.as_str())];
                ConstCounter::new(value(counts)).encode(family.encode_family(&label)?)?;
            }
        }
        let help = "Time that a rule has taken to look at messages; without its actions";
        let mut family = encoder.encode_descriptor("rules_evaluation_seconds", help, None, kind)?;
        for (rule, counts) in &self.rules {
            let label = [("rule", rule.as_str())];
            let secs = ConstCounter::new(counts.time.as_secs_f64());
            secs.encode(family.encode_family(&label)?)?;
        }
        let help = "Actions of rules, by kind and outcome";
        let mut family = encoder.encode_descriptor("rules_actions", help, None, kind)?;
        for (kind, outcome, count) in &self.actions {
            let labels = [("action", kind.word()), ("outcome", outcome.word())];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
