//! The log of messages that other programs read and confirm, in the tables: messages that were
//! published by the routes of the microservice, and those that `messages.keep` names, which an
//! integration takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use martlet_integrate::{ALL_TENANTS, ConfiguredSink, Outcome, Settings, Sink, SinkMessage};
pub use martlet_registry::{LoggedMessage, MessageLogQuery, MessagesKept};
use tracing::warn;

use crate::shared_registry::{SharedRegistry, SharedRegistryError};
use crate::wall_clock::now_ms;

/// Kind and name of the integration.
const KIND: &str = "log";
const NAME: &str = "messages";
/// Time between two looks for what is beyond what is kept, if messages were stored meanwhile.
const TRIM_EVERY: Duration = Duration::from_secs(10);
/// Time between two looks if no messages were stored: some may have become too old. A number of the
/// former times.
const TRIM_EACH: u32 = 360;

/// The log.
#[derive(Clone, Debug)]
pub struct MessageLog {
    tables: Arc<SharedRegistry>,
    node: Arc<str>,
    kept: MessagesKept,
    /// Number of the last message that has none in this node.
    last: Arc<AtomicU64>,
    /// Messages were stored since what is beyond what is kept was looked for.
    has_grown: Arc<AtomicBool>,
}

impl MessageLog {
    /// In these tables. `node` names the node among those with the same tables.
    pub fn new(tables: Arc<SharedRegistry>, node: &str, kept: MessagesKept) -> Self {
        Self {
            tables,
            node: node.into(),
            kept,
            last: Arc::default(),
            has_grown: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Names a message in the log that has no number in this node, by the time.
    pub fn new_id(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos() as u64);
        let next = |last: u64| Some(now.max(last + 1));
        let before = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let before = before.unwrap_or_default();
        self.id_of(&now.max(before + 1))
    }

    /// Names a message in the log by its number in this node.
    pub fn id_of(&self, message_id: &dyn std::fmt::Display) -> String {
        format!("{message_id}-{}", self.node)
    }

    /// Stores messages; those that are there already are left as they are.
    ///
    /// # Errors
    /// The tables cannot be changed.
    pub async fn put(&self, messages: Vec<LoggedMessage>) -> Result<(), SharedRegistryError> {
        let put = self
            .tables
            .note(move |registry| Box::pin(async move { registry.log_messages(&messages).await }));
        put.await?;
        self.has_grown.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Messages of a tenant, the newest one first.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn list(
        &self,
        tenant: u32,
        query: MessageLogQuery,
    ) -> Result<Vec<LoggedMessage>, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.logged_messages(tenant, query).await })
        });
        read.await
    }

    /// A message of a tenant.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn get(
        &self,
        tenant: u32,
        id: &str,
    ) -> Result<Option<LoggedMessage>, SharedRegistryError> {
        let id = id.to_owned();
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.logged_message(tenant, &id).await })
        });
        read.await
    }

    /// Confirms a message of a tenant. Returns whether it is there.
    ///
    /// # Errors
    /// The tables cannot be changed.
    pub async fn confirm(&self, tenant: u32, id: &str) -> Result<bool, SharedRegistryError> {
        let id = id.to_owned();
        let done = self.tables.note(move |registry| {
            Box::pin(async move { registry.confirm_message(tenant, &id).await })
        });
        done.await
    }

    /// Deletes a message of a tenant. Returns whether it was there.
    ///
    /// # Errors
    /// The tables cannot be changed.
    pub async fn delete(&self, tenant: u32, id: &str) -> Result<bool, SharedRegistryError> {
        let id = id.to_owned();
        let done = self.tables.note(move |registry| {
            Box::pin(async move { registry.delete_message(tenant, &id).await })
        });
        done.await
    }

    /// Deletes the confirmed messages of a tenant. Returns how many there were.
    ///
    /// # Errors
    /// The tables cannot be changed.
    pub async fn delete_confirmed(&self, tenant: u32) -> Result<u64, SharedRegistryError> {
        let done = self.tables.note(move |registry| {
            Box::pin(async move { registry.delete_confirmed_messages(tenant).await })
        });
        done.await
    }

    /// The integration that stores what these Topic Filters match, of all tenants.
    pub fn integration(&self, filters: Vec<Box<str>>) -> ConfiguredSink {
        let settings = Settings {
            tenant: ALL_TENANTS.into(),
            keeps_qos0: true,
            ..Settings::new(KIND, NAME, filters)
        };
        let log = self.clone();
        ConfiguredSink::new(settings, move |_| LogSink(log.clone()))
    }

    /// Drops what is beyond what is kept, for as long as the node runs.
    pub async fn keep(self) {
        let mut ticks = tokio::time::interval(TRIM_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in (0..TRIM_EACH).cycle() {
            ticks.tick().await;
            let has_grown = self.has_grown.load(Ordering::Relaxed);
            if !self.tables.are_there() || (number > 0 && !has_grown) {
                continue;
            }
            self.has_grown.store(false, Ordering::Relaxed);
            if let Err(error) = self.trim().await {
                warn!(%error, "cannot remove old messages from the message log");
            }
        }
    }

    async fn trim(&self) -> Result<u64, SharedRegistryError> {
        let (kept, now_ms) = (self.kept, now_ms());
        let done = self.tables.note(move |registry| {
            Box::pin(async move { registry.trim_message_log(kept, now_ms).await })
        });
        done.await
    }
}

struct LogSink(MessageLog);

impl Sink for LogSink {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        let messages = batch.iter().map(|message| self.logged(message)).collect();
        let done = async {
            self.0.put(messages).await?;
            // A publisher may be faster than the time between two looks allows.
            self.0.trim().await
        };
        let outcome = match done.await {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed(error.caller_text()),
        };
        vec![outcome; batch.len()]
    }

    async fn test(&mut self) -> Result<(), String> {
        let read = self.0.get(0, "").await;
        read.map(|_| ()).map_err(|error| error.caller_text())
    }
}

impl LogSink {
    fn logged(&self, message: &SinkMessage) -> LoggedMessage {
        LoggedMessage {
            id: self.0.id_of(&message.id()),
            tenant: message.tenant().0,
            topic: message.topic().to_owned(),
            payload: message.payload().to_vec(),
            qos: message.qos().bits(),
            retain: message.retain(),
            received_ms: message.received_ms(),
            confirmed: false,
        }
    }
}
