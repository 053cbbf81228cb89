//! Records the tables that the node uses, for its next start and for health.

use std::path::Path;

use martlet_control::Control;
use martlet_registry::Location;
use tracing::warn;

use crate::config::{self, NodeConfig};

/// The identity of the tables that logins are checked against, if any.
pub(super) fn identity_of_tables(node: &NodeConfig) -> Option<String> {
    let tables = node.policy.as_ref()?.tables()?;
    Some(tables.identity())
}

/// Records them for the next start, which must use the same.
pub(super) fn note_tables(data_dir: &Path, location: &Location, identity: Option<String>) {
    if let Err(error) = config::note_tables(data_dir, location, identity.as_deref()) {
        warn!(%error, "cannot note which tables the node uses");
    }
}

/// Reports to health the listeners that do not use the tables.
pub(super) fn tell_ignored(control: &Control, warnings: &[String]) {
    let mut all = warnings.iter();
    let told = all.find(|warning| warning.starts_with(config::IGNORES_TABLES));
    match told {
        Some(warning) => control
            .health
            .warn_as(config::IGNORES_TABLES, format!("{warning}.")),
        None => control.health.withdraw(config::IGNORES_TABLES),
    }
}
