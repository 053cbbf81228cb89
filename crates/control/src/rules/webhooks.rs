//! Webhooks that rules have of their own, for actions with a URL: integrations as others, each with
//! a queue, retries and dead letters, so that a slow server holds up no rule.

use std::collections::BTreeMap;

use martlet_integrate::{ConfiguredSink, own_name};
use martlet_rules::{DefinitionError, MessageRule, own_webhook};
use serde_json::{Map, Value};
use tracing::warn;

use super::{MadeWebhook, Rules, lock};
use crate::integrations::{AddedKind, IntegrationMaker};

/// Kind of these integrations.
pub(crate) const KIND: &str = "rule-webhook";
/// Topics below this carry messages from rules to them.
const TOPICS: &str = "$events/rule-webhook/";

/// The topic of messages for the webhook of this name.
pub(super) fn topic(name: &str) -> String {
    format!("{TOPICS}{name}")
}

/// The webhooks of a rule: the place of the action, name and settings.
fn of_rule(rule: &MessageRule) -> impl Iterator<Item = (usize, String, Map<String, Value>)> {
    rule.own_webhooks().map(|(at, name, webhook)| {
        let mut settings = Map::new();
        settings.insert("url".to_owned(), webhook.url.clone().into());
        if let Some(format) = &webhook.format {
            settings.insert("format".to_owned(), format.clone().into());
        }
        (at, name, settings)
    })
}

/// A webhook of these settings.
///
/// # Errors
/// They are unusable; the reason in words.
fn make(
    maker: &dyn IntegrationMaker,
    name: &str,
    (team, settings): &MadeWebhook,
) -> Result<ConfiguredSink, String> {
    let mut settings = settings.clone();
    settings.insert("filters".to_owned(), vec![topic(own_name(name))].into());
    let created = maker.make(AddedKind::Webhook, name, team, &settings, false);
    let mut sink = created.map_err(|error| error.to_string())?;
    sink.settings.kind = KIND;
    Ok(sink)
}

/// Checks the webhooks of a rule.
///
/// # Errors
/// One is unusable.
pub(super) async fn check(
    maker: &dyn IntegrationMaker,
    rule: &MessageRule,
    team: &str,
) -> Result<(), DefinitionError> {
    for (at, name, settings) in of_rule(rule) {
        let checked = maker.check_new(AddedKind::Webhook, &settings);
        let checked = checked.map_err(|error| error.to_string());
        let names = maker.check_names(&settings).await;
        let checked = checked.and(names.map_err(|error| error.to_string()));
        let created = checked.and_then(|()| make(maker, &name, &(team.to_owned(), settings)));
        created.map_err(|why| DefinitionError {
            key: format!("actions[{at}].webhook.url"),
            why,
        })?;
    }
    Ok(())
}

impl Rules {
    /// Webhooks of the rules in force, by name: `RULE.NUMBER` or `TEAM/RULE.NUMBER`.
    fn configured_webhooks(&self) -> BTreeMap<String, MadeWebhook> {
        let in_force = self.in_force();
        let rules = in_force.set.rules().iter().zip(&in_force.places);
        let acting = rules.filter(|(one, _)| one.rule.definition().is_enabled());
        let webhooks = acting.flat_map(|(one, place)| {
            let of = of_rule(&one.rule);
            of.map(move |(at, _, settings)| {
                let name = own_webhook(&place.key, at);
                (name, (place.team.clone(), settings))
            })
        });
        webhooks.collect()
    }

    /// The webhooks of the rules at the start.
    pub fn first_webhooks(&self) -> Vec<ConfiguredSink> {
        let configured = self.configured_webhooks();
        let created = configured.iter().filter_map(|(name, of)| {
            let created = make(self.integrations.maker(), name, of);
            created
                .inspect_err(|error| warn!(name, error, "the webhook of a rule does not run"))
                .ok()
        });
        let created = created.collect();
        *lock(&self.webhooks) = configured;
        created
    }

    /// Starts and ends webhooks, so that they are those of the rules in force.
    pub(super) async fn attach_webhooks(&self) {
        let configured = self.configured_webhooks();
        let known = std::mem::replace(&mut *lock(&self.webhooks), configured.clone());
        for name in known.keys().filter(|name| !configured.contains_key(*name)) {
            self.integrations.remove_own(KIND, name).await;
        }
        for (name, of) in &configured {
            if known.get(name) == Some(of) {
                continue;
            }
            match make(self.integrations.maker(), name, of) {
                Ok(sink) => self.integrations.replace_own(sink).await,
                Err(error) => warn!(name, error, "the webhook of a rule does not run"),
            }
        }
    }
}
