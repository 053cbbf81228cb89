//! Which firmware devices run, from their heartbeats: `{"firmware_version": "2.0"}`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use martlet_broker::TenantId;
use martlet_registry::{FIRMWARE_VERSION, ReportedVersion, reported_version};
use martlet_text_file::without_bom;
use tokio::sync::mpsc;
use tracing::warn;

use crate::remembered::Name;
use crate::shared_registry::SharedRegistry;

/// Devices whose version is remembered, at most, so that it is not written again with each
/// heartbeat.
const KNOWN_MAX: usize = 100_000;
/// Versions that wait for the tables, at most. Later heartbeats bring those that did not fit.
const WAITING_MAX: usize = 1_024;
/// Longest payload that is read.
const PAYLOAD_MAX: usize = 16 * 1024;

/// Takes versions from heartbeats to the tables.
#[derive(Debug)]
pub(super) struct Versions {
    versions: Arc<Mutex<HashMap<Name, String>>>,
    new: mpsc::Sender<ReportedVersion>,
}

impl Versions {
    /// Keeps the versions of these tables. A task of its own writes them: heartbeats do not wait.
    pub(super) fn keep(tables: Arc<SharedRegistry>) -> Self {
        let versions = Arc::default();
        let (new, reported) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(tables, Arc::clone(&versions), reported));
        Self { versions, new }
    }

    /// Looks at the payload of a heartbeat.
    pub(super) fn note(&self, tenant: TenantId, device: &str, payload: &[u8]) {
        let Some(version) = version_of(payload) else {
            return;
        };
        let name = (tenant.0, device.to_owned());
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if versions.get(&name) == Some(&version) {
            return;
        }
        if versions.len() >= KNOWN_MAX {
            versions.clear();
        }
        let reported = ReportedVersion {
            tenant: tenant.0,
            device: device.to_owned(),
            version: version.clone(),
        };
        if self.new.try_send(reported).is_ok() {
            versions.insert(name, version);
        }
    }
}

/// The version in a payload, if it is a JSON object that names one.
fn version_of(payload: &[u8]) -> Option<String> {
    let word = FIRMWARE_VERSION.as_bytes();
    let is_likely =
        payload.len() <= PAYLOAD_MAX && payload.windows(word.len()).any(|part| part == word);
    if !is_likely {
        return None;
    }
    let values: serde_json::Map<_, _> = serde_json::from_slice(without_bom(payload)).ok()?;
    reported_version(&values).map(str::to_owned)
}

/// Writes versions to the tables, as long as heartbeats are looked at.
async fn write(
    tables: Arc<SharedRegistry>,
    versions: Arc<Mutex<HashMap<Name, String>>>,
    mut reported: mpsc::Receiver<ReportedVersion>,
) {
    let mut some = Vec::new();
    while reported.recv_many(&mut some, WAITING_MAX).await > 0 {
        let written = std::mem::take(&mut some);
        let names: Vec<Name> = written
            .iter()
            .map(|one| (one.tenant, one.device.clone()))
            .collect();
        let done = tables.note(move |registry| {
            Box::pin(async move { registry.note_firmware_versions(&written).await })
        });
        if let Err(error) = done.await {
            warn!(%error, "cannot record firmware versions; retrying at the next heartbeats");
            let mut versions = versions.lock().unwrap_or_else(PoisonError::into_inner);
            for name in names {
                versions.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_may_name_the_firmware() {
        let of = |payload: &str| version_of(payload.as_bytes());
        assert_eq!(
            of(r#"{"firmware_version": "2.0", "x": 1}"#),
            Some("2.0".to_owned())
        );
        assert_eq!(of(r#"{"firmware_version": 2}"#), None);
        assert_eq!(of("firmware_version"), None);
        assert_eq!(of(r#"{"x": 1}"#), None);
    }
}
