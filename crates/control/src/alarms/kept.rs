//! Conditions that alarms that are not raised wait for, in the tables: so `for_secs`, `rate` and
//! `no_data` go on after a restart.

use martlet_registry::AlarmWatchRow;
use martlet_rules::{AlarmKey, WatchState};
use tracing::warn;

use super::NAMES;
use super::pending::UnwrittenRows;
use super::{Alarms, lock};
use crate::shared_registry::SharedRegistryError;

/// Rows of one transaction. Other writers of the tables wait for its end.
const ROWS: usize = 500;
/// Transactions of a round. What is left is written in the next one.
const TIMES: usize = 4;
/// Rows that are read at the start, at most.
const KEPT_MAX: u32 = 200_000;

impl UnwrittenRows {
    fn add(&mut self, changed: Vec<(AlarmKey, Option<WatchState>)>) {
        let rows = changed.into_iter();
        self.0
            .extend(rows.map(|(key, state)| row_of(key, state.as_ref())));
    }
}

fn row_of(key: AlarmKey, state: Option<&WatchState>) -> AlarmWatchRow {
    AlarmWatchRow {
        tenant: key.tenant,
        name: key.name,
        subject: key.subject,
        state: state
            .and_then(|state| serde_json::to_string(state).ok())
            .unwrap_or_default(),
    }
}

impl Alarms {
    /// Writes what has changed.
    pub(super) async fn keep_watches(&self) -> Result<(), SharedRegistryError> {
        let mut kept = self.unwritten.lock().await;
        for _ in 0..TIMES {
            self.write_watches(&mut kept).await?;
            kept.add(lock(&self.machine).take_changed_watches(ROWS));
            if kept.0.is_empty() {
                return Ok(());
            }
        }
        self.write_watches(&mut kept).await
    }

    /// Writes the conditions that have become true, or are true no more.
    pub(super) async fn keep_conditions(
        &self,
        kept: &mut UnwrittenRows,
    ) -> Result<(), SharedRegistryError> {
        kept.add(lock(&self.machine).take_changed_conditions());
        self.write_watches(kept).await
    }

    async fn write_watches(&self, kept: &mut UnwrittenRows) -> Result<(), SharedRegistryError> {
        while !kept.0.is_empty() {
            let some = kept.0.len().min(ROWS);
            let (node, rows) = (self.settings.node.clone(), kept.0[..some].to_vec());
            let done = self.tables.note(move |registry| {
                Box::pin(async move { registry.save_alarm_watches(&node, &rows).await })
            });
            done.await?;
            kept.0.drain(..some);
        }
        Ok(())
    }

    /// Watches that an earlier run has kept.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(super) async fn kept_watches(
        &self,
    ) -> Result<Vec<(AlarmKey, WatchState)>, SharedRegistryError> {
        if !self.tables.are_there() {
            return Ok(Vec::new());
        }
        let node = self.settings.node.clone();
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.alarm_watches(&node, KEPT_MAX).await })
        });
        let kept = read.await?.into_iter().filter_map(|row| {
            // What the node watches itself is looked at anew.
            if NAMES.contains(&row.name.as_str()) {
                return None;
            }
            let name = &*row.name;
            match serde_json::from_str(&row.state) {
                Ok(state) => {
                    let key = AlarmKey {
                        tenant: row.tenant,
                        name: row.name,
                        subject: row.subject,
                    };
                    Some((key, state))
                }
                Err(error) => {
                    warn!(name, %error, "the saved state of an alarm is damaged: its condition is \
                         evaluated from the beginning");
                    None
                }
            }
        });
        Ok(kept.collect())
    }
}
