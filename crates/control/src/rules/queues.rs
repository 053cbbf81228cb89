//! The integrations that hand messages to the rules: one for each tenant.
//!
//! So the costly rules and the full queue of one team delay nothing of another one.

use std::sync::Arc;

use martlet_broker::TenantId;
use martlet_integrate::{ConfiguredSink, name_of_team};
use martlet_rules::RuleSource;

use super::{KIND, NAME, Queues, RuleQueue, Rules, lock};
use crate::telemetry::followed;

/// A Topic Filter that matches no message.
const NOTHING: &str = "$events/none";

/// Topic Filters of what the rules of one tenant look at. `telemetry`: those of all telemetry.
fn filters_of(sources: &[&RuleSource], telemetry: Option<Vec<String>>) -> Vec<String> {
    let mut filters = Vec::new();
    let mut has_telemetry = false;
    for source in sources {
        match source {
            RuleSource::Topics(topics) => filters.extend(topics.iter().cloned()),
            RuleSource::Telemetry(_) => has_telemetry = true,
            RuleSource::Events(kinds) => {
                filters.extend(kinds.iter().map(|kind| format!("$events/{kind}")));
            }
        }
    }
    if let Some(telemetry) = telemetry.filter(|_| has_telemetry) {
        filters.extend(telemetry);
        filters.push(followed::topic());
    }
    filters.sort_unstable();
    filters.dedup();
    filters
}

impl Rules {
    /// Name of the team that owns a tenant; empty: the common one.
    pub(super) fn team_name(&self, tenant: TenantId) -> String {
        self.control.name_of_tenant(tenant).unwrap_or_default()
    }

    /// The integrations that the rules in force need.
    fn needed(&self) -> Queues {
        let in_force = self.in_force();
        let telemetry = self.telemetry.as_ref();
        let telemetry = telemetry.map(|all| all.filters().into_iter().map(String::from));
        let telemetry: Option<Vec<String>> = telemetry.map(Iterator::collect);
        let mut queues = Queues::new();
        for (tenant, sources) in in_force.set.sources() {
            let team = self.team_name(TenantId(tenant));
            let filters = filters_of(&sources, telemetry.clone());
            // A rule about telemetry that is off looks at nothing.
            if !filters.is_empty() {
                queues.insert(name_of_team(&team, NAME), RuleQueue { team, filters });
            }
        }
        // Messages of an earlier version, which had one queue for all tenants, are in that of the
        // common tenant.
        if !queues.is_empty() {
            let main = queues.entry(NAME.to_owned()).or_default();
            if main.filters.is_empty() {
                main.filters.push(NOTHING.to_owned());
            }
        }
        queues
    }

    /// The integrations of the start.
    pub fn first_integrations(self: &Arc<Self>) -> Vec<ConfiguredSink> {
        self.follow_values();
        let queues = self.needed();
        let sinks = queues.iter();
        let mut sinks: Vec<ConfiguredSink> = sinks
            .map(|(name, queue)| self.integration(name, queue))
            .collect();
        if sinks.is_empty() && !self.are_read() {
            // Its queue may have messages for rules that are not known yet.
            let queue = RuleQueue {
                filters: vec![NOTHING.to_owned()],
                ..RuleQueue::default()
            };
            sinks.push(self.integration(NAME, &queue));
        }
        *lock(&self.queues) = queues;
        sinks
    }

    /// Has the integrations take what the rules look at now.
    pub(super) async fn attach(self: &Arc<Self>) {
        let needed = self.needed();
        let known = std::mem::replace(&mut *lock(&self.queues), needed.clone());
        for name in known.keys().filter(|name| !needed.contains_key(*name)) {
            self.integrations.remove_own(KIND, name).await;
        }
        for (name, queue) in needed
            .iter()
            .filter(|(name, of)| known.get(*name) != Some(of))
        {
            self.integrations
                .replace_own(self.integration(name, queue))
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_takes_what_its_own_rules_look_at() {
        let topics = RuleSource::Topics(vec!["b".to_owned(), "a/#".to_owned()]);
        let events = RuleSource::Events(vec!["connected".to_owned()]);
        let telemetry = RuleSource::Telemetry("temp".to_owned());
        let all = || Some(vec!["t/+".to_owned()]);
        let found = filters_of(&[&topics, &topics, &events], all());
        assert_eq!(found, ["$events/connected", "a/#", "b"]);
        let found = filters_of(&[&telemetry], all());
        assert_eq!(found, ["$events/telemetry", "t/+"]);
        assert!(filters_of(&[&telemetry], None).is_empty());
    }
}
