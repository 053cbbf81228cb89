//! Devices by the names in topics, remembered until the tables change.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::tables::{Tables, TablesError};

/// Names that are remembered, at most.
const NAMES_MAX: usize = 200_000;

/// A name in a topic: the tenant and the device's id.
pub(crate) type Name = (u32, String);

/// A device that telemetry is stored of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryDevice {
    /// Its number in the tables.
    pub number: i64,
    /// Number of its tenant.
    pub tenant: u32,
    /// Its id.
    pub id: Arc<str>,
    /// Its type.
    pub device_type: Arc<str>,
}

/// Devices by name. A name that no device has is remembered too.
#[derive(Debug)]
pub(crate) struct DeviceNames {
    tables: Arc<Tables>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    changes: watch::Receiver<()>,
    by_name: HashMap<Name, Option<Arc<TelemetryDevice>>>,
}

impl DeviceNames {
    pub(crate) fn new(tables: Arc<Tables>) -> Self {
        let known = Known {
            changes: tables.changes(),
            by_name: HashMap::new(),
        };
        Self {
            tables,
            known: Mutex::new(known),
        }
    }

    /// The devices of these names; names that no device has are left out.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(crate) async fn find(
        &self,
        names: BTreeSet<Name>,
    ) -> Result<HashMap<Name, Arc<TelemetryDevice>>, TablesError> {
        let (mut found, unknown) = self.remembered(names);
        if unknown.is_empty() {
            return Ok(found);
        }
        let wanted = unknown.clone();
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.numbered_devices(&wanted).await })
        });
        let read = read.await?.into_iter().map(|device| {
            let (tenant, number) = (device.tenant, device.number);
            let id = device.id.as_str().into();
            let known = TelemetryDevice {
                number,
                tenant,
                id,
                device_type: device.device_type.into(),
            };
            ((tenant, device.id), Arc::new(known))
        });
        let read: HashMap<Name, Arc<TelemetryDevice>> = read.collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for name in unknown {
            let device = read.get(&name).cloned();
            known.by_name.insert(name, device);
        }
        drop(known);
        found.extend(read);
        Ok(found)
    }

    /// What is remembered of these names, and the names that are not.
    fn remembered(
        &self,
        names: BTreeSet<Name>,
    ) -> (HashMap<Name, Arc<TelemetryDevice>>, Vec<Name>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it is read: what changes meanwhile is seen the next time.
        let has_changed = known.changes.has_changed().unwrap_or(false);
        if has_changed || known.by_name.len() >= NAMES_MAX {
            known.changes.mark_unchanged();
            known.by_name.clear();
        }
        let (mut found, mut unknown) = (HashMap::new(), Vec::new());
        for name in names {
            match known.by_name.get(&name) {
                Some(Some(device)) => {
                    found.insert(name, Arc::clone(device));
                }
                Some(None) => {}
                None => unknown.push(name),
            }
        }
        (found, unknown)
    }
}
