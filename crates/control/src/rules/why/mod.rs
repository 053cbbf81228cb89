//! Rules about messages that do nothing, and alarms.

mod alarm;
mod facts;
mod judge;
mod on_topic;
#[cfg(test)]
mod tests;

use martlet_broker::TenantId;
use martlet_codec::{TopicFilter, TopicName};
use martlet_integrate::name_of_team;
use martlet_registry::{AlarmFilter, PageRequest};
use martlet_rules::{ActionDefinition, AlarmKind, AlarmState, InhibitedAlarm, own_webhook};

use super::{Definition, KIND, NAME, Rules, VisibleRule, webhooks};
use crate::control::{Control, ControlError, OwnTopics};
use crate::event_kind::EventKind;
use crate::lock::lock;
use crate::remedy::form;
use crate::wall_clock::unsigned;
use crate::why::{Asked, Examine, Finding, Findings, nearest_names};
use facts::{InhibitedRuleAlarm, NamedRule, RuleAlarm, RuleFacts};

/// Alarms of a rule that are looked at.
const ALARMS_MAX: usize = 20;

/// The event of an alarm, where it is published.
const ALARM_EVENTS: &str = "$events/alarm_raised";

impl Examine for Rules {
    type Facts = RuleFacts;

    async fn gather(&self, _control: &Control, asked: &Asked) -> Result<RuleFacts, ControlError> {
        let seen = self.seen(asked.visibility()).await;
        let rules = seen.as_deref().unwrap_or_default();
        let alarms = self.alarms_about(asked, rules).await;
        let name = &*asked.question.name;
        let is_named = |rule: &&VisibleRule| rule.name == name || rule.key == name;
        // An alarm that a rule raises may have another name.
        let is_raising = |rule: &&VisibleRule| raised(rule).any(|one| one == name);
        // Several teams may have one of this name.
        let is_of_other =
            |rule: &&VisibleRule| self.tenant_of_alarms(rule) != asked.question.tenant;
        let found = rules.iter().filter(is_named).min_by_key(is_of_other);
        let found = found.or_else(|| rules.iter().filter(is_raising).min_by_key(is_of_other));
        let Some(rule) = found else {
            let names = rules.iter().map(|rule| rule.name.as_str());
            return Ok(RuleFacts {
                alarms,
                named: None,
                near: match asked.is_unseen {
                    true => nearest_names(name, names.filter(|other| *other != name)),
                    false => Vec::new(),
                },
            });
        };
        let tenant = self.tenant_of_alarms(rule);
        let topic = asked.question.topic.as_deref();
        let on_topic = topic.and_then(|topic| {
            let counts = lock(&self.counts);
            counts.get(&rule.key)?.on_topic(topic)
        });
        let command = |form| {
            let values = [&*rule.name];
            self.control.command_of_team(form, &rule.team, &values)
        };
        let named = NamedRule {
            is_in_force: rule.counts.is_some(),
            is_configured: rule.stored.is_none(),
            counts: rule.counts.clone().unwrap_or_default(),
            // Keys of values of its tenant at which no rule has looked.
            other_keys: match rule.definition.telemetry {
                Some(_) => lock(&self.other_keys).of(tenant.0),
                None => Vec::new(),
            },
            webhooks: self.webhooks_of(rule).await,
            alarms: self.alarms_of(rule).await,
            inhibited: self.inhibited(rule),
            takers: self.takers_of(rule).await,
            waiting: self.alarms.waiting(tenant, &rule.name),
            unpublished: raised(rule).find_map(|name| self.alarms.unpublished(tenant, name)),
            on_topic,
            queue: self.queue_of(tenant).await,
            switch_on: command(form::RULE_ON),
            show: command(form::RULE_SHOW),
            definition: rule.definition.clone(),
            name: rule.name.clone(),
        };
        Ok(RuleFacts {
            alarms,
            named: Some(named),
            near: Vec::new(),
        })
    }

    fn judge(facts: &RuleFacts, asked: &Asked, findings: &mut Findings) {
        alarm::about_device(&facts.alarms, findings);
        if let Some(rule) = &facts.named {
            judge::judge(rule, asked, findings);
        }
        findings.add_near("rule", &facts.near);
    }

    fn own_topics(&self, own: &mut OwnTopics) {
        // Rules have events published that they look at.
        let published = lock(&self.published).clone();
        let kinds = EventKind::ALL.iter().map(|kind| kind.name());
        own.events
            .extend(kinds.filter(|name| published.contains(*name)));
    }
}

impl Rules {
    /// The webhooks that a rule acts on.
    async fn webhooks_of(&self, rule: &VisibleRule) -> Vec<Finding> {
        let mut found = Vec::new();
        for (at, action) in rule.definition.actions.iter().enumerate() {
            let ActionDefinition::Webhook(webhook) = action else {
                continue;
            };
            let (kind, name) = match webhook.url {
                Some(_) => (webhooks::KIND, own_webhook(&rule.name, at)),
                None => ("webhook", webhook.name.clone()),
            };
            let tenant = self.tenant_of_alarms(rule);
            let Ok(handle) = self.integrations.called(Some(tenant), kind, &name) else {
                continue;
            };
            let name = format!("{kind}/{}", handle.name());
            let one = self
                .control
                .findings_of_integration(&self.integrations, &name);
            found.extend(one.await);
        }
        found
    }

    /// Why the integration that hands the messages of a tenant to its rules does not; none: it
    /// does.
    async fn queue_of(&self, tenant: TenantId) -> Option<Finding> {
        let name = format!("{KIND}/{}", name_of_team(&self.team_name(tenant), NAME));
        let one = self.control.not_delivered_by(&self.integrations, &name);
        one.await
    }

    /// The alarm that a rule keeps, if it would be raised and another one silences it.
    fn inhibited(&self, rule: &VisibleRule) -> Option<InhibitedRuleAlarm> {
        rule.definition.alarm.as_ref()?;
        let to_fact = |one: InhibitedAlarm<'_>| InhibitedRuleAlarm {
            subject: one.key.subject.clone(),
            since_ms: unsigned(one.since_ms),
            by: one.by.key.name.clone(),
            by_since_ms: unsigned(one.by.raised_ms),
            command: self
                .control
                .command(form::ALARM_CLEAR, &[&one.by.id.to_string()]),
        };
        self.alarms
            .inhibited(self.tenant_of_alarms(rule), &rule.name, to_fact)
    }

    /// The tenant of the alarms of a rule.
    fn tenant_of_alarms(&self, rule: &VisibleRule) -> TenantId {
        // Alarms of the node have another tenant, or name.
        let tables = self.control.tables();
        let of_team = tables.and_then(|tables| tables.tenant_of_team(&rule.team));
        TenantId(of_team.unwrap_or_default())
    }

    /// The alarms that a rule has raised and that are not cleared.
    async fn alarms_of(&self, rule: &VisibleRule) -> Vec<RuleAlarm> {
        let mut found = Vec::new();
        let tenant = self.tenant_of_alarms(rule).0;
        for name in raised(rule) {
            let filter = AlarmFilter {
                tenant: Some(tenant),
                name: Some(name.to_owned()),
                ..AlarmFilter::default()
            };
            found.extend(self.open_alarms(filter, std::slice::from_ref(rule)).await);
        }
        found
    }

    /// The alarms about the device that was asked about that are not cleared. A team sees those of
    /// its own tenant alone.
    async fn alarms_about(&self, asked: &Asked, rules: &[VisibleRule]) -> Vec<RuleAlarm> {
        let tenant = asked.question.tenant;
        let is_seen = asked.team.is_none() || tenant != TenantId::default();
        if !is_seen || !asked.is_device {
            return Vec::new();
        }
        let filter = AlarmFilter {
            tenant: Some(tenant.0),
            device: Some(asked.question.name.clone()),
            ..AlarmFilter::default()
        };
        self.open_alarms(filter, rules).await
    }

    /// The alarms of the filter that are not cleared. One that a rule keeps has its name.
    async fn open_alarms(&self, filter: AlarmFilter, rules: &[VisibleRule]) -> Vec<RuleAlarm> {
        let open = AlarmState::ALL
            .iter()
            .filter(|state| **state != AlarmState::Cleared);
        let filter = AlarmFilter {
            states: open.map(|state| state.word().to_owned()).collect(),
            ..filter
        };
        let page = self
            .alarms
            .list(filter, PageRequest::first(ALARMS_MAX))
            .await;
        let rows = page.map_or_else(|_| Vec::new(), |page| page.items);
        let alarms = rows.into_iter().map(|row| {
            let is_shelved = row.state == AlarmState::Shelved.word();
            let action = match is_shelved {
                true => form::ALARM_UNSHELVE,
                false => form::ALARM_CLEAR,
            };
            let id = row.id.to_string();
            let mut rules = rules.iter();
            let rule = rules
                .find(|rule| rule.name == row.name && self.tenant_of_alarms(rule).0 == row.tenant);
            let last = self.alarms.last_value(row.id);
            RuleAlarm {
                clears_when: rule.and_then(|rule| clears_when(&rule.definition)),
                kept_by: rule.and_then(|rule| kept_by(&rule.definition, last?)),
                command: self.control.command(action, &[&id]),
                shelved_until_ms: is_shelved.then(|| unsigned(row.shelved_until_ms)),
                raised_ms: unsigned(row.raised_ms),
                name: row.name,
                subject: row.subject,
                message: row.message,
                by: row.changed_by,
            }
        });
        alarms.collect()
    }

    /// Returns what is wrong with the integrations that take the alarms of a rule, or the messages
    /// that it publishes, where their topic is the same for each of them.
    async fn takers_of(&self, rule: &VisibleRule) -> Vec<Finding> {
        let mut topics: Vec<String> = Vec::new();
        if raised(rule).next().is_some() {
            topics.push(self.alarms.topic());
            topics.push(ALARM_EVENTS.to_owned());
        }
        for action in &rule.definition.actions {
            if let ActionDefinition::Publish(publish) = action
                && !publish.topic.contains("{{")
            {
                topics.push(publish.topic.clone());
            }
        }
        let takes = |filter: &str| {
            let mut topics = topics.iter();
            let filter = TopicFilter::new(filter);
            filter.is_ok_and(|filter| {
                topics.any(|topic| TopicName::new(topic).is_ok_and(|topic| filter.matches(topic)))
            })
        };
        let tenant = self.tenant_of_alarms(rule);
        let all = self.integrations.examined().into_iter();
        let taking = all
            .filter(|one| one.state.tenant == Some(tenant))
            .filter(|one| one.filters.iter().any(|filter| takes(filter)));
        let mut found = Vec::new();
        for one in taking {
            let name = format!("{}/{}", one.handle.kind(), one.handle.name());
            let one = self
                .control
                .findings_of_integration(&self.integrations, &name);
            found.extend(one.await);
        }
        found
    }
}

/// Names of the alarms that a rule raises: one that it keeps has its name.
fn raised(rule: &VisibleRule) -> impl Iterator<Item = &str> {
    let kept = rule.definition.alarm.iter().map(|_| &*rule.name);
    let actions = rule.definition.actions.iter();
    kept.chain(actions.filter_map(|action| match action {
        ActionDefinition::Alarm(alarm) => alarm.raise.as_deref(),
        _ => None,
    }))
}

/// When the alarm that a rule keeps is cleared by itself, in words.
fn clears_when(definition: &Definition) -> Option<String> {
    let alarm = definition.alarm.as_ref()?;
    if let Some(limit) = &alarm.threshold {
        let (clear, is_above) = clear_value(limit)?;
        let value = value_of(definition, limit);
        return Some(format!("{value} is {} {clear}", side(is_above)));
    }
    if let Some(limit) = &alarm.rate {
        let (clear, is_above) = clear_value(limit)?;
        let (value, secs) = (value_of(definition, limit), limit.per_secs.unwrap_or(60));
        return Some(format!(
            "the change of {value} in {secs} s is {} {clear}",
            side(is_above)
        ));
    }
    if let Some(condition) = &alarm.condition {
        return match (&condition.clear_when, &condition.raise_when) {
            (Some(clear), _) => Some(format!("{clear} is true")),
            (None, raise) => raise.as_ref().map(|raise| format!("{raise} is false")),
        };
    }
    alarm
        .no_data
        .as_ref()
        .map(|_| "a message arrives".to_owned())
}

/// Why its last value keeps the alarm of a rule active, in words.
fn kept_by(definition: &Definition, last: f64) -> Option<String> {
    let limit = definition.alarm.as_ref()?.threshold.as_ref()?;
    let (clear, is_above) = clear_value(limit)?;
    let (is_kept, side) = match is_above {
        true => (last > clear, "above"),
        false => (last < clear, "below"),
    };
    is_kept.then(|| format!("the last value, {last}, is {side} its clear value {clear}"))
}

/// The value at which a limit clears its alarm, and whether values above it are bad.
fn clear_value(limit: &AlarmKind) -> Option<(f64, bool)> {
    let raise = limit.above.or(limit.below)?;
    Some((limit.clear.unwrap_or(raise), limit.above.is_some()))
}

/// The side of that value on which the alarm is cleared.
fn side(is_above: bool) -> &'static str {
    match is_above {
        true => "at most",
        false => "at least",
    }
}

/// The expression of the value of a limit.
fn value_of<'a>(definition: &'a Definition, limit: &'a AlarmKind) -> &'a str {
    let default = match definition.telemetry {
        Some(_) => "value",
        None => "payload",
    };
    limit.value.as_deref().unwrap_or(default)
}
