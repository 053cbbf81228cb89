//! What is known of a rule that is asked about why it does nothing.

use martlet_broker::EventKind;
use martlet_registry::Visibility;
use martlet_rules::{ActionDefinition, own_webhook};

use super::{Definition, RuleSeen, Rules, webhooks};
use crate::lock::lock;
use crate::text::typed;
use crate::why::facts::{Facts, Integration, RuleAsked};

impl Rules {
    /// Adds it. `team`: the caller sees rules of this team alone. Where the tables cannot be read,
    /// health says so, and the rest is told.
    pub async fn complete(&self, team: Option<&str>, facts: &mut Facts) {
        // Rules have events published that they look at.
        let published = lock(&self.published).clone();
        let published = EventKind::ALL
            .iter()
            .map(|kind| kind.name())
            .filter(|name| published.contains(*name));
        facts.own_topics.events.extend(published);
        let name = &*facts.question.name;
        let Ok(all) = self.seen(Visibility::of(team)).await else {
            return;
        };
        let mut named = all.into_iter().filter(|rule| rule.name == *name);
        let found = named.next();
        if let Some(rule) = found {
            let webhooks = self.webhooks_of(&rule).await;
            facts.rule_asked = Some(RuleAsked {
                webhooks,
                ..self.asked_about(rule)
            });
        }
    }

    /// The webhooks that a rule acts on.
    async fn webhooks_of(&self, rule: &RuleSeen) -> Vec<Integration> {
        let mut found = Vec::new();
        for (at, action) in rule.definition.actions.iter().enumerate() {
            let ActionDefinition::Webhook(webhook) = action else {
                continue;
            };
            let name = match webhook.url {
                Some(_) => format!("{}/{}", webhooks::KIND, own_webhook(&rule.name, at)),
                None => format!("webhook/{}", webhook.name),
            };
            let one = self
                .control
                .integration_asked_about(&self.integrations, &name);
            found.extend(one.await);
        }
        found
    }

    fn asked_about(&self, rule: RuleSeen) -> RuleAsked {
        let command = |action: &str| {
            let of = match &*rule.team {
                "" => String::new(),
                team => format!("--team {} ", typed(team)),
            };
            let words = format!("{of}{}", typed(&rule.name));
            self.control
                .command_with_options(&format!("rule {action}"), &words)
        };
        let counts = rule.counts.clone().unwrap_or_default();
        RuleAsked {
            is_on: rule.definition.is_enabled(),
            is_in_force: rule.counts.is_some(),
            is_configured: rule.stored.is_none(),
            messages: counts.messages,
            matched: counts.matched,
            missing: counts.missing,
            other_device: counts.other_device,
            devices: devices_in_words(&rule.definition),
            errors: counts.errors,
            webhooks: Vec::new(),
            last_error: counts.last_error,
            switch_on: command("on"),
            show: command("show"),
            topics: rule.definition.topics,
            name: rule.name,
        }
    }
}

/// The devices whose messages a rule looks at, in words; none: all of them.
fn devices_in_words(definition: &Definition) -> Option<String> {
    match (&definition.device_type, &definition.device_tag) {
        (None, None) => None,
        (Some(device_type), None) => Some(format!("a device of type {device_type}")),
        (None, Some(tag)) => Some(format!("a device with the tag {tag}")),
        (Some(device_type), Some(tag)) => {
            Some(format!("a device of type {device_type} with the tag {tag}"))
        }
    }
}
