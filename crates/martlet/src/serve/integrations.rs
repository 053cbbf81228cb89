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
use martlet_control::tables::Tables;
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

/// Starts the integrations of the configuration and of the tables. When it returns they get what is
/// published.
pub(super) async fn start_integrations(
    node: &NodeConfig,
    control: &Arc<Control>,
    tables: &Arc<Tables>,
    alive: &Alive,
    (message_log, telemetry, rules): (&MessageLog, Option<&Arc<Telemetry>>, &Arc<Rules>),
    attached_by: Instant,
) -> Arc<Integrations> {
    let config::SinksConfig {
        sinks,
        dead_letters,
        allowed,
        removes_others,
    } = node.sinks.clone();
    let store_bytes = used_bytes(&node.data_dir.join(STORE));
    let bytes_max = queue_bytes_default(free_bytes(&node.data_dir), store_bytes);
    let maker = config::MadeIntegrations {
        data_dir: node.data_dir.clone(),
        allowed,
        queue_bytes: bytes_max,
    };
    let kept = &node.message_log.filters;
    let kept: Vec<Box<str>> = kept.iter().map(|filter| filter.as_str().into()).collect();
    let log = (!kept.is_empty()).then(|| message_log.integration(kept));
    let telemetry = telemetry.map(Telemetry::integration);
    let sinks = sinks.into_iter().chain(log).chain(telemetry);
    // Rules that could not be read may have webhooks of their own, whose queues stay.
    let removes_others = removes_others && rules.are_read();
    let sinks = sinks.chain(rules.first_webhooks(&maker));
    let sinks = sinks.chain(rules.first_integration());
    let sinks = sinks.map(|sink| sink.bounded(bytes_max));
    let sinks = sinks.collect();
    for warning in config::unusable_files_of_sinks(&node.sinks) {
        warn!("{warning}");
    }
    let options = &control.info.command_options;
    let secrets = SecretStore::new(Arc::clone(tables), node.key_file.clone(), options);
    let secrets = Arc::new(secrets);
    control.set_secrets(Arc::clone(&secrets));
    let settings = IntegrationSettings {
        node: alive.node().to_owned(),
        dead_letters,
        secrets,
        maker: Arc::new(maker),
    };
    let started = Arc::new(Integrations::start(control, tables, sinks, settings));
    let (is_read, read) = oneshot::channel();
    let all = Arc::clone(&started);
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
    let _ = tokio::time::timeout_at(attached_by.into(), started.attached()).await;
    control.set_integrations(Arc::clone(&started));
    started
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
