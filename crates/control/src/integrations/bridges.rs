//! Bridges that are added, changed and removed while the node runs. The tables keep them, for this
//! node alone: two nodes with one Client Identifier would end each other's connections.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::TenantId;
use martlet_integrate::{ConfiguredSink, Host as _, bridge};
use martlet_registry::{Actor, Bridge, RegistryError, Scope};
use serde_json::{Map, Value};
use tracing::{info, warn};

use super::connections::restore;
use super::entry::Entry;
use super::{Integrations, end_queue, tell_ended};
use crate::tables::TablesError;

/// Kind of the integrations that are bridges.
const KIND: &str = bridge::KIND.name;
/// Time that the delivery under way may take when a bridge is changed or removed.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
/// Time for which the one who adds a bridge waits until the node keeps messages for it.
const ATTACHED_WITHIN: Duration = Duration::from_secs(5);
/// Pause after the tables did not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Why settings are no bridge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unusable {
    /// The setting at fault; none: it is none alone.
    pub key: Option<String>,
    /// What is wrong, without values that may be secret.
    pub why: String,
}

/// Makes bridges of their settings. The program implements it: it knows the configuration.
pub trait BridgeMaker: Send + Sync + 'static {
    /// A bridge of this name, for the messages of the team of this id; empty: the common tenant.
    /// `sees_node` says whether who asks for it may have the node read files.
    ///
    /// # Errors
    /// A setting is unknown or unusable.
    fn make(
        &self,
        name: &str,
        team: &str,
        settings: &Map<String, Value>,
        sees_node: bool,
    ) -> Result<ConfiguredSink, Unusable>;
}

/// Why a bridge is not added, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// Its settings are unusable.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The configuration has a bridge of this name.
    #[error("{0}")]
    Configured(String),
    /// There is no bridge of this name.
    #[error("{0}")]
    NotFound(String),
    /// The tables say so, or cannot be used.
    #[error(transparent)]
    Tables(#[from] TablesError),
}

/// A bridge that is to be added or changed.
#[derive(Clone, Debug)]
pub struct BridgeChange {
    /// Name, which no other bridge of the node has.
    pub name: String,
    /// Id of the team whose messages it carries; empty: the common tenant.
    pub team: String,
    /// Its settings: the keys of a table `[[bridges]]` but `name` and `tenant`.
    pub settings: Map<String, Value>,
}

/// A bridge as a caller sees it.
#[derive(Clone, Debug)]
pub struct BridgeSeen {
    /// Name, which no other bridge of the node has.
    pub name: String,
    /// Team whose messages it carries; empty: the common tenant.
    pub team: String,
    /// What the tables have of it; none: it is of the configuration.
    pub added: Option<Bridge>,
    /// What it does now, in a word; none: it does not run.
    pub state: Option<&'static str>,
}

impl Integrations {
    /// Bridges that a caller sees: those of the configuration, and then those that were added.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn bridges(
        &self,
        scope: Scope,
        tenant: Option<TenantId>,
    ) -> Result<Vec<BridgeSeen>, BridgeError> {
        let added = self.added(scope).await?;
        let entries = self.entries();
        let running = entries.iter().filter(|entry| entry.handle.kind() == KIND);
        let word = |entry: &Arc<Entry>| entry.state().activity.word();
        let configured = running
            .clone()
            .filter(|entry| !entry.is_added && self.is_of(entry, tenant))
            .map(|entry| BridgeSeen {
                name: entry.settings.name.to_string(),
                team: entry.settings.tenant.to_string(),
                added: None,
                state: Some(word(entry)),
            });
        let mut all: Vec<BridgeSeen> = configured.collect();
        all.extend(added.into_iter().map(|one| {
            let mut running = running.clone();
            let own = running.find(|entry| entry.is_added && *entry.settings.name == *one.name);
            BridgeSeen {
                name: one.name.clone(),
                team: one.team.clone(),
                state: own.map(word),
                added: Some(one),
            }
        }));
        Ok(all)
    }

    async fn added(&self, scope: Scope) -> Result<Vec<Bridge>, TablesError> {
        let node = self.host.name().to_owned();
        let read = self
            .tables
            .read(move |registry| Box::pin(async move { registry.bridges(&scope, &node).await }));
        read.await
    }

    /// Adds a bridge, or changes the one of this name. Messages that wait in its queue stay.
    /// Returns whether it is new.
    ///
    /// # Errors
    /// Its settings are unusable, its name is taken, or the tables cannot be changed. Nothing has
    /// changed then.
    pub async fn set_bridge(
        &self,
        actor: Actor,
        change: BridgeChange,
    ) -> Result<bool, BridgeError> {
        let _changing = self.changing.lock().await;
        let BridgeChange {
            name,
            team,
            settings,
        } = change;
        let sees_node = actor.scope == Scope::All;
        let sink = self.maker.make(&name, &team, &settings, sees_node)?;
        self.expect_not_configured(&name)?;
        let text = Value::Object(settings).to_string();
        let (node, of, owner) = (self.host.name().to_owned(), name.clone(), team.clone());
        let written = self.tables.note(move |registry| {
            Box::pin(async move {
                let of = (node.as_str(), of.as_str());
                registry.set_bridge(&actor, of, &owner, &text).await
            })
        });
        let is_new = written.await?;
        let saved = self.saved_subscriptions().await;
        self.end(&name).await;
        let entry = self.started(&sink, true);
        match (&entry.connection, saved) {
            (Some(connection), Ok(saved)) => restore(connection, &saved),
            (Some(_), Err(error)) => {
                let bridge = &*name;
                warn!(bridge, %error, "subscriptions cannot be read: it connects after a restart");
            }
            (None, _) => {}
        }
        let mut entries = self.entries().to_vec();
        entries.push(Arc::clone(&entry));
        self.set_entries(entries);
        // One that is not attached in time is in health.
        let _ = tokio::time::timeout(ATTACHED_WITHIN, entry.handle.attached()).await;
        let bridge = &*name;
        info!(bridge, is_new, "a bridge was added or changed by the API");
        Ok(is_new)
    }

    /// Removes a bridge that was added, with the messages in its queue.
    ///
    /// # Errors
    /// There is none, the caller does not see it, or the tables cannot be changed.
    pub async fn remove_bridge(&self, actor: Actor, name: &str) -> Result<(), BridgeError> {
        let _changing = self.changing.lock().await;
        let (node, of) = (self.host.name().to_owned(), name.to_owned());
        let removed = self.tables.note(move |registry| {
            Box::pin(async move { registry.remove_bridge(&actor, &node, &of).await })
        });
        match removed.await {
            Err(TablesError::Registry(RegistryError::NotFound(why))) => {
                // Who does not see the configuration is told nothing of it.
                return Err(BridgeError::NotFound(why));
            }
            done => done?,
        }
        if let Some(entry) = self.end(name).await {
            self.end_queues_of(&entry).await;
        }
        Ok(())
    }

    /// Ends an added bridge, which is there no more then.
    async fn end(&self, name: &str) -> Option<Arc<Entry>> {
        let mut entries = self.entries().to_vec();
        let at = entries
            .iter()
            .position(|entry| entry.is_added && entry.is_called(KIND, name))?;
        let entry = entries.remove(at);
        entry.stop(STOPPED_WITHIN).await;
        self.set_entries(entries);
        Some(entry)
    }

    async fn end_queues_of(&self, entry: &Entry) {
        let integration = entry.settings.client_id();
        let Some(tenant) = self.host.tenant(&entry.settings.tenant) else {
            return;
        };
        let sessions = match self.host.sessions_of_part(tenant, &integration).await {
            Ok(sessions) => sessions,
            Err(error) => {
                warn!(integration, %error, "the queue of a removed bridge stays until a restart");
                return;
            }
        };
        let mut messages = 0;
        for session in sessions {
            messages += end_queue(&self.host, &session).await.unwrap_or_default();
        }
        tell_ended(&integration, "the bridge was removed", messages);
    }

    fn expect_not_configured(&self, name: &str) -> Result<(), BridgeError> {
        let found = self.entry(KIND, name);
        match found.filter(|entry| !entry.is_added) {
            None => Ok(()),
            Some(_) => Err(BridgeError::Configured(format!(
                "the configuration of the node has a bridge {name:?}: choose another name, or \
                 change it there"
            ))),
        }
    }

    /// Starts the bridges of the tables, and gives named connections their subscriptions, once the
    /// tables can be read. Returns whether all of them could be started.
    pub async fn start_saved(&self) -> bool {
        let (added, saved) = loop {
            let read = async {
                let added = self.added(Scope::All).await?;
                Ok::<_, TablesError>((added, self.saved_subscriptions().await?))
            };
            match read.await {
                Ok(read) => break read,
                Err(error) => {
                    warn!(%error, "bridges cannot be read from the tables yet");
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

    /// Starts a bridge of the tables. Returns false if it cannot be made: the log says why.
    fn start_added(&self, one: &Bridge) -> bool {
        let bridge = &*one.name;
        let is_there = self.entry(KIND, bridge);
        if let Some(entry) = is_there {
            if !entry.is_added {
                let what = "a bridge that was added by the API is not started: the configuration \
                            has one of its name";
                warn!(bridge, "{what}");
            }
            return true;
        }
        let settings = match serde_json::from_str(&one.settings) {
            Ok(Value::Object(settings)) => settings,
            _ => {
                warn!(
                    bridge,
                    "the settings of a bridge in the tables are damaged: add it again"
                );
                return false;
            }
        };
        match self.maker.make(bridge, &one.team, &settings, true) {
            Ok(sink) => {
                let entry = self.started(&sink, true);
                let mut entries = self.entries().to_vec();
                entries.push(entry);
                self.set_entries(entries);
                true
            }
            Err(error) => {
                warn!(bridge, %error, "a bridge that was added by the API cannot be started");
                false
            }
        }
    }
}
