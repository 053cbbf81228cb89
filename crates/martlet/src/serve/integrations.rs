//! Starts integrations.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_control::Control;
use martlet_control::backup::STORE;
use martlet_control::integrations::{IntegrationSettings, Integrations};
use martlet_control::message_log::MessageLog;
use martlet_control::presence::Alive;
use martlet_control::rules::Rules;
use martlet_control::secrets::SecretStore;
use martlet_control::shared_registry::SharedRegistry;
use martlet_control::telemetry::Telemetry;
use tokio::sync::oneshot;
use tracing::warn;

use crate::config::{self, NodeConfig};

/// Unit of the system for the disk usage of a file.
const BYTES_OF_BLOCK: u64 = 512;

/// Free bytes on the disk of a directory; 10 GB if the system does not report it.
fn free_bytes(directory: &Path) -> u64 {
    let disk = rustix::fs::statvfs(directory);
    disk.map_or(10_000_000_000, |disk| disk.f_bavail * disk.f_frsize)
}

/// Disk usage of the files in a directory, without subdirectories.
pub(super) fn used_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    let files = files.filter(std::fs::Metadata::is_file);
    files.map(|file| file.blocks() * BYTES_OF_BLOCK).sum()
}

/// Default size of an integration's queue: a tenth of the free space, including the space that the
/// message store has taken. So it is the same after a restart with full queues.
pub(super) fn queue_bytes_default(free_bytes: u64, store_bytes: u64) -> u64 {
    free_bytes.saturating_add(store_bytes) / 10
}

/// Longest time that the start waits for the integrations in the tables.
const SAVED_WITHIN: Duration = Duration::from_secs(2);

/// Creates the integrations of a node without starting them.
pub(super) fn make_integrations(
    node: &NodeConfig,
    control: &Arc<Control>,
    tables: &Arc<SharedRegistry>,
    alive: &Alive,
) -> Arc<Integrations> {
    let store_bytes = used_bytes(&node.data_dir.join(STORE));
    let maker = config::MadeIntegrations {
        data_dir: node.data_dir.clone(),
        allowed: node.sinks.allowed.clone(),
        queue_bytes: queue_bytes_default(free_bytes(&node.data_dir), store_bytes),
    };
    let options = &control.info.command_options;
    let secrets = SecretStore::new(Arc::clone(tables), node.key_file.clone(), options);
    let settings = IntegrationSettings {
        node: alive.node().to_owned(),
        dead_letters: node.sinks.dead_letters,
        secrets: Arc::new(secrets),
        maker: Arc::new(maker),
    };
    Arc::new(Integrations::new(control, tables, settings))
}

/// Parts of the node that take messages as integrations do.
#[derive(Clone, Copy)]
pub(super) struct OwnIntegrations<'p> {
    pub(super) message_log: &'p MessageLog,
    pub(super) telemetry: Option<&'p Arc<Telemetry>>,
    pub(super) rules: &'p Arc<Rules>,
}

/// Starts the integrations of the configuration and of the tables. When it returns, they receive
/// published messages.
pub(super) async fn start_integrations(
    node: &NodeConfig,
    integrations: &Arc<Integrations>,
    own: OwnIntegrations<'_>,
    attached_by: Instant,
) {
    let OwnIntegrations {
        message_log,
        telemetry,
        rules,
    } = own;
    let kept = &node.message_log.filters;
    let kept: Vec<Box<str>> = kept.iter().map(|filter| filter.as_str().into()).collect();
    let log = (!kept.is_empty()).then(|| message_log.integration(kept));
    let telemetry = telemetry.map(Telemetry::integration);
    let sinks = node.sinks.sinks.iter().cloned();
    let sinks = sinks.chain(log).chain(telemetry);
    // Rules that could not be read may have webhooks of their own. Their queues are kept.
    let removes_others = node.sinks.removes_others && rules.are_read();
    let sinks = sinks.chain(rules.first_webhooks());
    let sinks = sinks.chain(rules.first_integrations());
    for warning in config::unusable_files_of_sinks(&node.sinks) {
        warn!("{warning}");
    }
    integrations.start(sinks.collect());
    let (is_read, read) = oneshot::channel();
    let all = Arc::clone(integrations);
    tokio::spawn(async move {
        let are_all_there = all.start_saved().await;
        // The start may have stopped waiting.
        let _ = is_read.send(());
        // The queue of an integration that cannot be started now is kept.
        if removes_others && are_all_there {
            all.remove_others().await;
        }
    });
    // A database that does not respond does not delay anything else.
    let _ = tokio::time::timeout(SAVED_WITHIN, read).await;
    // Health reports an integration that is not attached in time.
    let _ = tokio::time::timeout_at(attached_by.into(), integrations.attached()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_bound_of_a_queue_does_not_shrink_by_what_is_queued() {
        let directory = std::env::temp_dir().join(format!("martlet-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("there is room");
        let before = used_bytes(&directory);
        std::fs::write(directory.join("segment"), vec![7; 1 << 20]).expect("there is room");
        let queued = used_bytes(&directory) - before;
        std::fs::remove_dir_all(&directory).expect("it is there");
        assert!(queued >= 1 << 20, "{queued}");
        let free = 50_000_000;
        assert_eq!(
            queue_bytes_default(free, 0),
            queue_bytes_default(free - queued, queued)
        );
        assert_eq!(queue_bytes_default(free, 0), 5_000_000);
    }
}
