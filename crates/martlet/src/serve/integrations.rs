//! Starting integrations.

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

/// Unit in which the system tells what a file takes on the disk.
const BYTES_OF_BLOCK: u64 = 512;

/// Bytes that are free on the disk of a directory; where the system does not say, 10 GB.
fn free_bytes(directory: &Path) -> u64 {
    let disk = rustix::fs::statvfs(directory);
    disk.map_or(10_000_000_000, |disk| disk.f_bavail * disk.f_frsize)
}

/// Bytes that the files in a directory take on the disk, those in directories below left out.
pub(super) fn used_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    let files = files.filter(std::fs::Metadata::is_file);
    files.map(|file| file.blocks() * BYTES_OF_BLOCK).sum()
}

/// Bytes that the queue of an integration may have unless the configuration says so: a tenth of
/// what is free, with what the message store has taken of that. So it is the same after a restart
/// with full queues.
pub(super) fn queue_bytes_default(free_bytes: u64, store_bytes: u64) -> u64 {
    free_bytes.saturating_add(store_bytes) / 10
}

/// Time for which a start waits for the integrations in the tables.
const SAVED_WITHIN: Duration = Duration::from_secs(2);

/// The integrations of a node, none of which runs yet.
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

/// Starts the integrations of the configuration and of the tables. When it returns they get what is
/// published.
pub(super) async fn start_integrations(
    node: &NodeConfig,
    integrations: &Arc<Integrations>,
    (message_log, telemetry, rules): (&MessageLog, Option<&Arc<Telemetry>>, &Arc<Rules>),
    attached_by: Instant,
) {
    let kept = &node.message_log.filters;
    let kept: Vec<Box<str>> = kept.iter().map(|filter| filter.as_str().into()).collect();
    let log = (!kept.is_empty()).then(|| message_log.integration(kept));
    let telemetry = telemetry.map(Telemetry::integration);
    let sinks = node.sinks.sinks.iter().cloned();
    let sinks = sinks.chain(log).chain(telemetry);
    // Rules that could not be read may have webhooks of their own, whose queues stay.
    let removes_others = node.sinks.removes_others && rules.are_read();
    let sinks = sinks.chain(rules.first_webhooks());
    let sinks = sinks.chain(rules.first_integration());
    for warning in config::unusable_files_of_sinks(&node.sinks) {
        warn!("{warning}");
    }
    integrations.start(sinks.collect());
    let (is_read, read) = oneshot::channel();
    let all = Arc::clone(integrations);
    tokio::spawn(async move {
        let are_all_there = all.start_saved().await;
        // The start may wait no longer.
        let _ = is_read.send(());
        // The queue of an integration that cannot be started now is kept.
        if removes_others && are_all_there {
            all.remove_others().await;
        }
    });
    // Tables that do not answer hold up nothing else.
    let _ = tokio::time::timeout(SAVED_WITHIN, read).await;
    // One that is not attached in time is in health.
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
