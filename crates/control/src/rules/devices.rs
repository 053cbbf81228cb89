//! Types and tags of devices, remembered until the tables change.

use std::collections::HashMap;
use std::sync::Arc;

use martlet_rules::DeviceFacts;

use crate::remembered::{Name, Remembered};
use crate::shared_registry::{SharedRegistry, SharedRegistryError};

/// Devices that are remembered, at most.
const DEVICES_MAX: usize = 100_000;

/// Devices by name. A name that no device has is remembered too.
#[derive(Debug)]
pub(super) struct RuleDevices {
    tables: Arc<SharedRegistry>,
    known: Remembered<DeviceFacts>,
}

impl RuleDevices {
    pub(super) fn new(tables: Arc<SharedRegistry>) -> Self {
        Self {
            known: Remembered::new(&tables, DEVICES_MAX),
            tables,
        }
    }

    /// The devices of these names that there are.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(super) async fn find(
        &self,
        names: Vec<Name>,
    ) -> Result<HashMap<Name, DeviceFacts>, SharedRegistryError> {
        let (mut found, unknown) = self.known.find(names);
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
        self.known.add(unknown, &read);
        found.extend(read);
        Ok(found)
    }
}
