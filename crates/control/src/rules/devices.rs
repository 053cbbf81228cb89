//! Types and tags of devices, remembered until the tables change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use martlet_rules::DeviceFacts;
use tokio::sync::watch;

use crate::tables::{Tables, TablesError};

/// Devices that are remembered, at most.
const DEVICES_MAX: usize = 100_000;

/// Tenant and id of a device.
pub(super) type Name = (u32, String);

/// Devices by name. A name that no device has is remembered too.
#[derive(Debug)]
pub(super) struct RuleDevices {
    tables: Arc<Tables>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    changes: watch::Receiver<()>,
    by_name: HashMap<Name, Option<DeviceFacts>>,
}

impl RuleDevices {
    pub(super) fn new(tables: Arc<Tables>) -> Self {
        let known = Known {
            changes: tables.changes(),
            by_name: HashMap::new(),
        };
        Self {
            tables,
            known: Mutex::new(known),
        }
    }

    /// The devices of these names that there are.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(super) async fn find(
        &self,
        names: Vec<Name>,
    ) -> Result<HashMap<Name, DeviceFacts>, TablesError> {
        let (mut found, mut unknown) = (HashMap::new(), Vec::new());
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let has_changed = known.changes.has_changed().unwrap_or(false);
            if has_changed || known.by_name.len() >= DEVICES_MAX {
                known.changes.mark_unchanged();
                known.by_name.clear();
            }
            for name in names {
                match known.by_name.get(&name) {
                    Some(Some(device)) => {
                        found.insert(name, device.clone());
                    }
                    Some(None) => {}
                    None => unknown.push(name),
                }
            }
        }
        if unknown.is_empty() || !self.tables.are_there() {
            return Ok(found);
        }
        let wanted = unknown.clone();
        let read = self
            .tables
            .read(move |registry| Box::pin(async move { registry.rule_devices(&wanted).await }));
        let read = read.await?.into_iter().map(|device| {
            let facts = DeviceFacts {
                id: device.id.clone(),
                device_type: device.device_type,
                tags: device.tags,
            };
            ((device.tenant, device.id), facts)
        });
        let read: HashMap<Name, DeviceFacts> = read.collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for name in unknown {
            let device = read.get(&name).cloned();
            known.by_name.insert(name, device);
        }
        drop(known);
        found.extend(read);
        Ok(found)
    }
}
