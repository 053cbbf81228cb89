//! Integrations that are added, changed and removed while the node runs: bridges and webhooks. The
//! tables keep them, for this node alone: two nodes would deliver twice, and two bridges with one
//! Client Identifier would end each other's connections.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::TenantId;
use martlet_integrate::{ConfiguredSink, Host as _, name_of_team};
use martlet_registry::{Actor, AddedIntegration, RegistryError, Visibility};
use serde_json::{Map, Value};
use tracing::{info, warn};

use super::connections::restore;
use super::entry::RunningIntegration;
use super::maker::{AddedKind, Unusable};
use super::{ATTACHED_WITHIN, Integrations, STOPPED_WITHIN, end_queue, log_ended};
use crate::shared_registry::SharedRegistryError;

/// Pause after the tables did not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The setting whether an added integration runs.
pub const ENABLED: &str = "enabled";

/// Why an integration is not added, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum AddedError {
    /// The settings are unusable.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The configuration has one of this kind and name.
    #[error("{0}")]
    Configured(String),
    /// Nothing has this name.
    #[error("{0}")]
    NotFound(String),
    /// The tables refuse it, or cannot be used.
    #[error(transparent)]
    SharedRegistry(#[from] SharedRegistryError),
}

/// An integration that is to be added or changed.
#[derive(Clone, Debug)]
pub struct AddedChange {
    /// Kind.
    pub kind: AddedKind,
    /// Name, which no other integration of this kind, node and team has.
    pub name: String,
    /// Id of the team whose messages it takes; empty: the common tenant.
    pub team: String,
    /// Settings: the keys of its table in the configuration but `name` and `tenant`.
    pub settings: Map<String, Value>,
}

/// An integration of such a kind as a caller sees it.
#[derive(Clone, Debug)]
pub struct VisibleIntegration {
    /// Name, which no other integration of this kind, node and team has.
    pub name: String,
    /// Team whose messages it takes; empty: the common tenant.
    pub team: String,
    /// Record of the tables; none: it is of the configuration.
    pub added: Option<AddedIntegration>,
    /// State now, in a word; none: it does not run.
    pub state: Option<&'static str>,
}

impl Integrations {
    /// Integrations of a kind that a caller sees: those of the configuration, and then those that
    /// were added.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn seen_of(
        &self,
        kind: AddedKind,
        visibility: Visibility,
        tenant: Option<TenantId>,
    ) -> Result<Vec<VisibleIntegration>, AddedError> {
        let added = self.added(visibility).await?.into_iter();
        let added = added.filter(|one| one.kind == kind.name());
        let entries = self.entries();
        let running = entries
            .iter()
            .filter(|entry| entry.handle.kind() == kind.name());
        let word = |entry: &Arc<RunningIntegration>| entry.state().activity.word();
        let configured = running
            .clone()
            .filter(|entry| !entry.is_added && self.is_of(entry, tenant))
            .map(|entry| VisibleIntegration {
                name: entry.settings.name.to_string(),
                team: entry.settings.tenant.to_string(),
                added: None,
                state: Some(word(entry)),
            });
        let mut all: Vec<VisibleIntegration> = configured.collect();
        all.extend(added.map(|one| {
            let mut running = running.clone();
            let name = full_name(&one);
            let own = running.find(|entry| entry.is_added && *entry.settings.name == *name);
            VisibleIntegration {
                name: one.name.clone(),
                team: one.team.clone(),
                state: own.map(word),
                added: Some(one),
            }
        }));
        Ok(all)
    }

    async fn added(
        &self,
        visibility: Visibility,
    ) -> Result<Vec<AddedIntegration>, SharedRegistryError> {
        let node = self.host.name().to_owned();
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.added_integrations(&visibility, &node).await })
        });
        read.await
    }

    /// Adds an integration, or changes the one of this kind and name. Messages that wait in its
    /// queue stay. Returns whether it is new.
    ///
    /// # Errors
    /// Its settings are unusable, its name is taken, or the tables cannot be changed. Nothing has
    /// changed then.
    pub async fn set_added(&self, actor: Actor, change: AddedChange) -> Result<bool, AddedError> {
        let AddedChange {
            kind,
            name,
            team,
            settings,
        } = change;
        let sees_node = actor.visibility == Visibility::All;
        let full_name = name_of_team(&self.team_name(&team), &name);
        let sink = self
            .maker
            .make(kind, &full_name, &team, &settings, sees_node)?;
        self.maker.check_new(kind, &settings)?;
        // Not while others wait: names may be looked up.
        self.maker.check_names(&settings).await?;
        let _changing = self.changing.lock().await;
        self.expect_not_configured(kind, &team, &name)?;
        let is_enabled = is_enabled(&settings);
        let text = Value::Object(settings).to_string();
        let (node, owner) = (self.host.name().to_owned(), team);
        let written = self.tables.note(move |registry| {
            Box::pin(async move {
                let kind = kind.name();
                let set = registry.set_added_integration(&actor, &node, kind, &name, &owner, &text);
                set.await
            })
        });
        let is_new = written.await?;
        if is_new {
            // Not paused, as an earlier one of this name may have been.
            self.host.forget_state(kind.name(), &full_name).await?;
        }
        let ended_before = self.end(kind, &full_name).await;
        if !is_enabled {
            // What it would not deliver is not kept for it.
            if let Some(ended) = ended_before {
                self.end_queues_of(&ended).await;
            }
            return Ok(is_new);
        }
        let entry = self.start_entry(&sink);
        if let Some(connection) = &entry.connection {
            match self.saved_subscriptions().await {
                Ok(saved) => restore(connection, &saved),
                Err(error) => {
                    let bridge = &*full_name;
                    warn!(
                        bridge,
                        %error,
                        "cannot read the subscriptions of the bridge; it connects after a restart"
                    );
                }
            }
        }
        // One that is not attached in time is in health.
        let _ = tokio::time::timeout(ATTACHED_WITHIN, entry.handle.attached()).await;
        let integration = entry.handle.client_id();
        info!(
            integration,
            is_new, "an integration was added or changed through the API"
        );
        Ok(is_new)
    }

    /// Removes an integration that was added, with the messages in its queue.
    ///
    /// # Errors
    /// There is none, the caller does not see it, or the tables cannot be changed.
    pub async fn remove_added(
        &self,
        actor: Actor,
        kind: AddedKind,
        name: &str,
    ) -> Result<(), AddedError> {
        let _changing = self.changing.lock().await;
        let (node, named) = (self.host.name().to_owned(), name.to_owned());
        let removed = self.tables.note(move |registry| {
            Box::pin(async move {
                registry
                    .remove_added_integration(&actor, &node, kind.name(), &named)
                    .await
            })
        });
        let (_, team) = match removed.await {
            Err(SharedRegistryError::Registry(RegistryError::NotFound(why))) => {
                // The answer has nothing of the configuration, which the caller may not see.
                return Err(AddedError::NotFound(why.to_string()));
            }
            done => done?,
        };
        if let Some(entry) = self.end(kind, &name_of_team(&team, name)).await {
            self.end_queues_of(&entry).await;
        }
        Ok(())
    }

    /// Starts an added integration, which is among the others then.
    fn start_entry(&self, sink: &ConfiguredSink) -> Arc<RunningIntegration> {
        let entry = self.started(sink, true);
        let mut entries = self.entries().to_vec();
        entries.push(Arc::clone(&entry));
        self.set_entries(entries);
        entry
    }

    /// Ends an added integration. It is no longer among the others then.
    async fn end(&self, kind: AddedKind, name: &str) -> Option<Arc<RunningIntegration>> {
        let mut entries = self.entries().to_vec();
        let at = entries
            .iter()
            .position(|entry| entry.is_added && entry.is_called(kind.name(), name))?;
        let entry = entries.remove(at);
        entry.stop(STOPPED_WITHIN).await;
        self.set_entries(entries);
        Some(entry)
    }

    pub(super) async fn end_queues_of(&self, entry: &RunningIntegration) {
        let integration = entry.settings.client_id();
        let Some(tenant) = self.host.tenant(&entry.settings.tenant) else {
            return;
        };
        let sessions = match self.host.sessions_of_part(tenant, &integration).await {
            Ok(sessions) => sessions,
            Err(error) => {
                warn!(integration, %error, "the queue of a removed integration stays until a restart");
                return;
            }
        };
        let mut messages = 0;
        for session in sessions {
            messages += end_queue(&self.host, &session).await.unwrap_or_default();
        }
        log_ended(&integration, "the integration was removed", messages);
    }

    /// Name of a team by its id; empty: the common tenant.
    fn team_name(&self, team: &str) -> String {
        let tenant = Some(team).filter(|team| !team.is_empty());
        let tenant = tenant.and_then(|team| self.host.tenant(team));
        let name = tenant.and_then(|tenant| self.host.team_of(tenant));
        name.map_or_else(|| team.to_owned(), |name| name.to_string())
    }

    /// The names of the configuration are those of the common tenant, and of their own.
    fn expect_not_configured(
        &self,
        kind: AddedKind,
        team: &str,
        name: &str,
    ) -> Result<(), AddedError> {
        let kind = kind.name();
        let found = self.entry(kind, name);
        let is_of_team = |entry: &Arc<RunningIntegration>| {
            team.is_empty() || self.host.tenant(team) == self.host.tenant(&entry.settings.tenant)
        };
        match found.filter(|entry| !entry.is_added && is_of_team(entry)) {
            None => Ok(()),
            Some(_) => Err(AddedError::Configured(format!(
                "the configuration of the node has a {kind} {name:?}: choose another name, or \
                 change it there"
            ))),
        }
    }

    /// Starts the integrations of the tables, and gives named connections their subscriptions, once
    /// the tables can be read. Returns whether all of them could be started.
    pub async fn start_saved(&self) -> bool {
        let (added, saved) = loop {
            let read = async {
                let added = self.added(Visibility::All).await?;
                Ok::<_, SharedRegistryError>((added, self.saved_subscriptions().await?))
            };
            match read.await {
                Ok(read) => break read,
                Err(error) => {
                    warn!(%error, "integrations cannot be read from the tables yet");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        };
        let changing = self.changing.lock().await;
        let mut are_all_there = true;
        for one in added {
            are_all_there &= self.start_added(&one);
        }
        for entry in &*self.entries() {
            if let Some(connection) = &entry.connection {
                restore(connection, &saved);
            }
        }
        drop(changing);
        are_all_there
    }

    /// Starts an integration of the tables. Returns false if it cannot be created: the log has the
    /// reason.
    fn start_added(&self, one: &AddedIntegration) -> bool {
        let (kind, name) = (&*one.kind, &*full_name(one));
        if self.entry(kind, name).is_some_and(|entry| entry.is_added) {
            return true;
        }
        let Some(of_kind) = AddedKind::from_name(kind) else {
            warn!(kind, name, "unknown kind of integrations in this version");
            return false;
        };
        let is_free = self.expect_not_configured(of_kind, &one.team, &one.name);
        if is_free.is_err() {
            let what = "an integration that was added through the API is not started: the \
                        configuration has one of its name";
            warn!(kind, name, "{what}");
            return true;
        }
        let settings = match serde_json::from_str(&one.settings) {
            Ok(Value::Object(settings)) => settings,
            _ => {
                let what = "the settings of an integration in the tables are damaged: add it again";
                warn!(kind, name, "{what}");
                return false;
            }
        };
        if !is_enabled(&settings) {
            return true;
        }
        match self.maker.make(of_kind, name, &one.team, &settings, true) {
            Ok(sink) => {
                self.start_entry(&sink);
                true
            }
            Err(error) => {
                warn!(kind, name, %error, "an integration that was added through the API cannot be \
                                           started");
                false
            }
        }
    }
}

/// The name of an integration among all of the node.
fn full_name(one: &AddedIntegration) -> String {
    name_of_team(&one.team_name, &one.name)
}

/// Whether an integration with these settings runs.
fn is_enabled(settings: &Map<String, Value>) -> bool {
    settings.get(ENABLED) != Some(&Value::Bool(false))
}
