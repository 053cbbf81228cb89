//! Presence of clients in the tables.

use std::sync::Arc;

use martlet_registry::Presence;

use super::SharedRegistry;
use crate::presence::{ClientPresence, PresenceStore, Stored, StoredPresence};

/// Rows that are written at once, at most, so that another change does not wait for long.
const ROWS_AT_ONCE: usize = 500;

/// Lines of the audit log that are deleted at once, and number of such deletions at a time: more
/// than are added in that time.
const AUDIT_ROWS_AT_ONCE: u32 = 10_000;
const AUDIT_TIMES: u32 = 100;

/// Clients that are neither devices nor connected and are remembered, at most.
const PASSING_MAX: u32 = 100_000;

/// Writes it into the tables.
#[derive(Debug)]
pub struct PresenceInTables {
    tables: Arc<SharedRegistry>,
    /// Among others with the same tables.
    node: String,
    /// Also where there is no file yet.
    makes_file: bool,
}

impl PresenceInTables {
    /// As this node has it. A missing file is created only if `makes_file`: if the end of
    /// connections has to be known after the node ends.
    pub fn new(tables: Arc<SharedRegistry>, node: &str, makes_file: bool) -> Self {
        Self {
            tables,
            node: node.to_owned(),
            makes_file,
        }
    }
}

impl PresenceStore for PresenceInTables {
    fn is_there(&self) -> bool {
        self.makes_file || self.tables.are_there()
    }

    fn write<'a>(&'a self, clients: &'a [StoredPresence]) -> Stored<'a, ()> {
        Box::pin(async move {
            for some in clients.chunks(ROWS_AT_ONCE) {
                let rows: Vec<Presence> = some.iter().map(row).collect();
                let node = self.node.clone();
                let written = self.tables.note(move |registry| {
                    Box::pin(async move { registry.write_presence(&node, &rows).await })
                });
                written.await.map_err(|error| error.to_string())?;
            }
            Ok(())
        })
    }

    fn all_offline<'a>(&'a self, since_ms: u64, why: &'a str) -> Stored<'a, Vec<ClientPresence>> {
        Box::pin(async move {
            let (node, why) = (self.node.clone(), why.to_owned());
            let ended = self.tables.note(move |registry| {
                Box::pin(async move { registry.all_offline(&node, signed(since_ms), &why).await })
            });
            let ended = ended.await.map_err(|error| error.to_string())?;
            Ok(ended.into_iter().map(ClientPresence::from).collect())
        })
    }

    fn tidy(&self) -> Stored<'_, ()> {
        Box::pin(async move {
            let removed = self
                .tables
                .note(|registry| Box::pin(registry.forget_passing(PASSING_MAX)));
            removed.await.map_err(|error| error.to_string())?;
            let removed = self
                .tables
                .note(|registry| Box::pin(registry.remove_ended_bans()));
            removed.await.map_err(|error| error.to_string())?;
            if let Some(days) = self.tables.settings.deleted_kept_days {
                let purged = self
                    .tables
                    .note(move |registry| Box::pin(registry.purge_deleted(days)));
                purged.await.map_err(|error| error.to_string())?;
            }
            let kept = self.tables.settings.audit;
            for _ in 0..AUDIT_TIMES {
                let removed = self.tables.note(move |registry| {
                    Box::pin(async move { registry.trim_audit(kept, AUDIT_ROWS_AT_ONCE).await })
                });
                let removed = removed.await.map_err(|error| error.to_string())?;
                if removed < u64::from(AUDIT_ROWS_AT_ONCE) {
                    break;
                }
            }
            Ok(())
        })
    }
}

fn row(noted: &StoredPresence) -> Presence {
    let client = &noted.client;
    Presence {
        tenant: client.tenant,
        client_id: client.client_id.clone(),
        online: client.online,
        since_ms: signed(client.since_ms),
        last_seen_ms: signed(client.last_seen_ms),
        why_offline: client.why.clone(),
        sent_disconnect: client.sent_disconnect,
        address: client.address.clone(),
        listener: client.listener_url.clone(),
        is_reported: noted.is_reported,
    }
}

impl From<Presence> for ClientPresence {
    fn from(row: Presence) -> Self {
        Self {
            tenant: row.tenant,
            client_id: row.client_id,
            online: row.online,
            since_ms: u64::try_from(row.since_ms).unwrap_or(0),
            last_seen_ms: u64::try_from(row.last_seen_ms).unwrap_or(0),
            why: row.why_offline,
            sent_disconnect: row.sent_disconnect,
            address: row.address,
            listener: String::new(),
            listener_url: row.listener,
        }
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
