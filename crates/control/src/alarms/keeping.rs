//! The task that keeps alarms in the tables, and looks at what is due.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use martlet_registry::AlarmRow;
use martlet_rules::{AlarmKey, AlarmState};
use tracing::{info, warn};

use super::watch::Watch;
use super::{Alarms, lock, row};
use crate::rules::publish::Publisher;
use crate::shared_registry::SharedRegistryError;
use crate::wall_clock::now_signed_ms;

/// Time that the start waits for the tables.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// Time between two looks at what is due.
const TICK: Duration = Duration::from_secs(1);
/// Messages that are kept until they are published, at most.
const MESSAGES_KEPT: i64 = 100_000;
/// Time between two looks for alarms that are not kept any longer.
const TRIM_EVERY_TICKS: u32 = 600;

impl Alarms {
    /// Reads the alarms of earlier runs, if the tables answer soon: what is observed then is about
    /// these.
    pub async fn start(&self) {
        match tokio::time::timeout(READ_WITHIN, self.restore()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "alarms of earlier runs cannot be read yet"),
            Err(_) => warn!("alarms of earlier runs cannot be read yet: the tables do not answer"),
        }
    }

    /// Reads the alarms of earlier runs.
    ///
    /// # Errors
    /// The tables cannot be read.
    async fn restore(&self) -> Result<(), SharedRegistryError> {
        let kept = self.kept_watches().await?;
        let node = self.settings.node.clone();
        let (rows, last_message) = match self.tables.are_there() {
            false => (Vec::new(), 0),
            true => {
                let read = self.tables.read(move |registry| {
                    Box::pin(async move {
                        let rows = registry.open_alarms(&node).await?;
                        Ok((rows, registry.last_of_outbox(&node).await?))
                    })
                });
                read.await?
            }
        };
        let mut machine = lock(&self.machine);
        let mut pending = lock(&self.pending);
        self.outbox.restore(last_message);
        pending.read_again();
        let open: HashSet<AlarmKey> = machine.open().map(|alarm| alarm.key.clone()).collect();
        let mut restored = Vec::new();
        for row in rows {
            match row::to_alarm(&row) {
                Some(alarm) if !open.contains(&alarm.key) => restored.push(alarm),
                // It was raised again before the tables could be read.
                _ => {
                    let cleared = AlarmRow {
                        state: AlarmState::Cleared.word().to_owned(),
                        cleared_ms: now_signed_ms(),
                        ..row
                    };
                    pending.add_alarm(cleared);
                }
            }
        }
        machine.restore(restored);
        machine.restore_watches(kept, now_signed_ms());
        drop((pending, machine));
        self.is_restored.store(true, Ordering::Relaxed);
        self.clear_others();
        Ok(())
    }

    /// Keeps the alarms, for as long as the node runs.
    pub async fn keep(self: Arc<Self>) {
        let mut publisher = Publisher::new(Arc::clone(&self.control));
        let mut watch = Watch::default();
        let mut has_failed = false;
        for number in (0..TRIM_EVERY_TICKS).cycle() {
            let _ = tokio::time::timeout(TICK, self.outbox.wake.notified()).await;
            if self.outbox.take_news() {
                lock(&self.pending).read_again();
            }
            if !self.is_restored.load(Ordering::Relaxed)
                && let Err(error) = self.restore().await
                && !has_failed
            {
                has_failed = true;
                warn!(%error, "alarms of earlier runs cannot be read yet");
            }
            let changes = self.machine_of_now().tick(now_signed_ms());
            self.changed(changes);
            if self.settings.watches_node {
                watch.look(&self).await;
            }
            let saved = match self.save().await {
                Ok(()) => self.keep_watches().await,
                failed => failed,
            };
            let are_written = saved.is_ok();
            match saved {
                Ok(()) => has_failed = false,
                Err(error) if !has_failed => {
                    has_failed = true;
                    warn!(%error, "cannot write alarms to the tables; retrying");
                }
                Err(_) => {}
            }
            self.publish_changes(&mut publisher, are_written).await;
            if number == 0 {
                self.trim().await;
            }
        }
    }

    /// Writes the alarms that have changed with the messages about that, and conditions that have.
    pub(super) async fn save(&self) -> Result<(), SharedRegistryError> {
        let mut unwritten = self.unwritten.lock().await;
        loop {
            let batch = lock(&self.pending).batch();
            if batch.alarms.is_empty() {
                break;
            }
            let written = batch.clone();
            let done = self.tables.note(move |registry| {
                Box::pin(async move {
                    registry
                        .save_alarms(&written.alarms, &written.messages)
                        .await
                })
            });
            done.await?;
            lock(&self.pending).written(&batch);
        }
        self.keep_conditions(&mut unwritten).await?;
        // What was observed meanwhile is owed still.
        let machine = lock(&self.machine);
        if !machine.has_changed_conditions() {
            lock(&self.pending).owes_no_more();
        }
        Ok(())
    }

    async fn trim(&self) {
        if !self.tables.are_there() {
            return;
        }
        let (kept, node) = (self.settings.kept, self.settings.node.clone());
        let done = self.tables.note(move |registry| {
            Box::pin(async move {
                let alarms = registry.trim_alarms(kept, now_signed_ms()).await?;
                let messages = registry.trim_outbox(&node, MESSAGES_KEPT).await?;
                Ok((alarms, messages))
            })
        });
        match done.await {
            Ok((alarms, messages)) => {
                self.notifications.dropped(messages);
                if messages > 0 {
                    warn!(
                        messages,
                        "messages about changes were dropped: they could not be published for long"
                    );
                }
                if alarms > 0 {
                    info!(alarms, "cleared alarms are no longer kept");
                }
            }
            Err(error) => warn!(%error, "cannot remove old alarms"),
        }
    }
}
