//! Rules of the tables: read, changed, and followed. Nodes with the same tables have the same
//! rules.

use std::sync::Arc;
use std::time::Duration;

use martlet_registry::{Actor, Expected, RegistryError, RulesStamp, StoredRule, Visibility};
use martlet_rules::{Definition, DefinitionError};
use tracing::{info, warn};

use super::{ConfiguredRule, RuleCounts, RuleOrigin, Rules, check, lock, webhooks};
use crate::shared_registry::SharedRegistryError;

/// Time that the start waits for the tables.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// Time between two looks at whether another node has changed rules.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why a rule is not changed.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The rule has something that is not permitted.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The configuration has a rule of this name.
    #[error("{0}")]
    Configured(String),
    /// Nothing has this name.
    #[error("{0}")]
    NotFound(String),
    /// The rule cannot be tried.
    #[error("{0}")]
    Trial(String),
    /// The rule cannot be tried now.
    #[error("{0}")]
    Busy(String),
    /// The tables refuse it, or cannot be used.
    #[error(transparent)]
    SharedRegistry(#[from] SharedRegistryError),
}

/// A rule that is to be added or changed.
#[derive(Clone, Debug)]
pub struct RuleChange {
    /// Name, which no other rule of its team has.
    pub name: String,
    /// Id of the team whose messages it looks at; empty: the common tenant.
    pub team: String,
    /// Definition of the rule.
    pub definition: Definition,
    /// The revision that it must have; 0: it must not exist.
    pub expected: Expected,
}

/// A rule as a caller sees it.
#[derive(Clone, Debug)]
pub struct VisibleRule {
    /// Name, which no other rule of its team has.
    pub name: String,
    /// Id of the team whose messages it looks at; empty: the common tenant.
    pub team: String,
    /// Definition of the rule.
    pub definition: Definition,
    /// Record of the tables; none: it is of the configuration.
    pub stored: Option<StoredRule>,
    /// Counts of the rule; none: it is not in force.
    pub counts: Option<RuleCounts>,
    /// Name among all rules: `NAME` or `TEAM/NAME`.
    pub key: String,
}

impl Rules {
    async fn stored(&self, visibility: Visibility) -> Result<Vec<StoredRule>, SharedRegistryError> {
        if !self.tables.are_there() {
            return Ok(Vec::new());
        }
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.stored_rules(&visibility).await })
        });
        read.await
    }

    async fn current_stamp(&self) -> Result<RulesStamp, SharedRegistryError> {
        if !self.tables.are_there() {
            return Ok(RulesStamp::default());
        }
        let read = self
            .tables
            .read(|registry| Box::pin(async move { registry.rules_stamp().await }));
        read.await
    }

    /// Puts the rules in force as they are now. Waits until the node keeps messages for them.
    ///
    /// # Errors
    /// The tables cannot be read: the rules of before stay in force.
    pub async fn renew(self: &Arc<Self>) -> Result<(), SharedRegistryError> {
        let _changing = self.changing.lock().await;
        self.read_again().await?;
        // Webhooks first: a message for one that is not there is not sent.
        self.attach_webhooks().await;
        self.attach().await;
        Ok(())
    }

    async fn read_again(&self) -> Result<(), SharedRegistryError> {
        let stamp = self.current_stamp().await?;
        let stored = self.stored(Visibility::All).await?;
        let read = stored.iter().filter_map(|one| {
            let place = self.origin(&one.team, &one.name, false);
            match serde_json::from_str(&one.definition) {
                Ok(definition) => Some((place, definition)),
                Err(error) => {
                    let name = &*one.name;
                    warn!(name, %error, "a rule in the tables is damaged: set it again");
                    None
                }
            }
        });
        let read: Vec<(RuleOrigin, Definition)> = read.collect();
        self.put_in_force(&read);
        self.alarms.set_rules(&self.in_force().set);
        *lock(&self.stamp) = Some(stamp);
        Ok(())
    }

    /// Puts the rules of the configuration into force, and those of the tables if these answer
    /// soon.
    pub async fn start(&self) {
        self.put_in_force(&[]);
        match tokio::time::timeout(READ_WITHIN, self.read_again()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "rules in the tables cannot be read yet"),
            Err(_) => warn!("rules in the tables cannot be read yet: they do not answer"),
        }
    }

    /// Whether the rules of the tables were read. Before that it is not known which webhooks rules
    /// have of their own.
    pub fn are_read(&self) -> bool {
        lock(&self.stamp).is_some()
    }

    /// Follows the rules of the tables, for as long as the node runs.
    pub async fn keep(self: Arc<Self>) {
        let mut has_failed = false;
        loop {
            let known = *lock(&self.stamp);
            let waits_for_team = self.waits_for_team();
            let changed = match self.current_stamp().await {
                Ok(now) if Some(now) == known && !waits_for_team => Ok(false),
                Ok(_) => self.renew().await.map(|()| true),
                Err(error) => Err(error),
            };
            let is_first_failure = changed.is_err() && !has_failed;
            has_failed = changed.is_err();
            match changed {
                Ok(true) => info!("the rules about messages were read again"),
                Err(error) if is_first_failure => {
                    warn!(%error, "rules in the tables cannot be read");
                }
                Ok(false) | Err(_) => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether a rule is not in force since its team has no tenant yet, and has one now.
    fn waits_for_team(&self) -> bool {
        let teams = lock(&self.waiting_teams).clone();
        teams.iter().any(|team| self.tenant_of(team).is_some())
    }

    /// The rules that a caller sees: those of the configuration, and then those of the tables.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn seen(&self, visibility: Visibility) -> Result<Vec<VisibleRule>, RuleError> {
        let sees_team = |team: &str| match team {
            "" => visibility.team().is_none(),
            team => visibility.team().is_none_or(|own| own == team),
        };
        let configured = self.configured.iter().filter(|rule| sees_team(&rule.team));
        let mut all: Vec<VisibleRule> = configured
            .map(|rule| VisibleRule {
                name: rule.name.clone(),
                team: rule.team.clone(),
                definition: rule.definition.clone(),
                stored: None,
                counts: self.counts_of(&rule.name, true),
                key: rule.name.clone(),
            })
            .collect();
        for one in self.stored(visibility.clone()).await? {
            let Ok(definition) = serde_json::from_str(&one.definition) else {
                continue;
            };
            let key = self.key_of(&one.team, &one.name, false);
            all.push(VisibleRule {
                name: one.name.clone(),
                team: one.team.clone(),
                definition,
                counts: self.counts_of(&key, false),
                stored: Some(one),
                key,
            });
        }
        Ok(all)
    }

    fn counts_of(&self, key: &str, is_configured: bool) -> Option<RuleCounts> {
        let in_force = self.in_force();
        let mut places = in_force.places.iter();
        places.find(|place| place.key == key && place.is_configured == is_configured)?;
        let counts = lock(&self.counts);
        Some(
            counts
                .get(key)
                .map_or_else(RuleCounts::default, |one| one.seen()),
        )
    }

    /// Adds or changes a rule. It is in force when this returns. Returns whether it is new.
    ///
    /// # Errors
    /// It says something that it may not, its name is taken, or the tables cannot be changed.
    pub async fn set(
        self: &Arc<Self>,
        actor: Actor,
        change: RuleChange,
    ) -> Result<bool, RuleError> {
        let rule = check(&change.name, &change.definition)?;
        webhooks::check(self.integrations.maker(), &rule, &change.team).await?;
        let name = &change.name;
        // The names of the configuration are also those of the common tenant.
        let is_of_team = |rule: &ConfiguredRule| {
            change.team.is_empty() || self.tenant_of(&rule.team) == self.tenant_of(&change.team)
        };
        let mut configured = self.configured.iter();
        if configured.any(|rule| rule.name == *name && is_of_team(rule)) {
            return Err(RuleError::Configured(format!(
                "the configuration of the node has a rule {name:?}: choose another name, or change \
                 it there"
            )));
        }
        let definition = serde_json::to_string(&change.definition).unwrap_or_default();
        let written = self.tables.note(move |registry| {
            Box::pin(async move {
                let (name, team) = (&change.name, &change.team);
                let set = registry.set_rule(&actor, name, team, &definition, change.expected);
                set.await
            })
        });
        let is_new = written.await?;
        self.renew().await?;
        Ok(is_new)
    }

    /// Removes a rule of the tables.
    ///
    /// # Errors
    /// There is none, the caller does not see it, or the tables cannot be changed.
    pub async fn remove(self: &Arc<Self>, actor: Actor, name: &str) -> Result<(), RuleError> {
        let of = name.to_owned();
        let removed = self
            .tables
            .note(move |registry| Box::pin(async move { registry.remove_rule(&actor, &of).await }));
        match removed.await {
            Err(SharedRegistryError::Registry(RegistryError::NotFound(why))) => {
                return Err(RuleError::NotFound(why.to_string()));
            }
            done => done?,
        }
        self.renew().await?;
        Ok(())
    }
}
