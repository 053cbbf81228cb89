//! Devices by the names in topics, remembered until the tables change.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::remembered::{Name, Remembered};
use crate::shared_registry::{SharedRegistry, SharedRegistryError};

/// Names that are remembered, at most.
const NAMES_MAX: usize = 200_000;
/// Bytes that a device takes, with its id and type.
const DEVICE_BYTES: usize = 128;

/// A device that telemetry is stored of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryDevice {
    /// Number of the device in the tables.
    pub number: i64,
    /// Number of its tenant.
    pub tenant: u32,
    /// Id of the device.
    pub id: Arc<str>,
    /// Type of the device.
    pub device_type: Arc<str>,
}

impl TelemetryDevice {
    /// The device as the storage knows it.
    pub(crate) fn in_storage(&self) -> DeviceNumber {
        DeviceNumber {
            number: self.number,
            tenant: self.tenant,
        }
    }
}

/// A device as the storage knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Number of the device in the tables.
    pub number: i64,
    /// Number of its tenant, whose share of the series it uses.
    pub tenant: u32,
}

/// Devices by name. A name that no device has is remembered too.
#[derive(Debug)]
pub(crate) struct DeviceNames {
    tables: Arc<SharedRegistry>,
    known: Remembered<Arc<TelemetryDevice>>,
}

impl DeviceNames {
    pub(crate) fn new(tables: Arc<SharedRegistry>) -> Self {
        Self {
            known: Remembered::new(&tables, NAMES_MAX),
            tables,
        }
    }

    /// Bytes of memory that the names take, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.known.memory_bytes(DEVICE_BYTES)
    }

    /// The devices of these names; names that no device has are left out.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(crate) async fn find(
        &self,
        names: BTreeSet<Name>,
    ) -> Result<HashMap<Name, Arc<TelemetryDevice>>, SharedRegistryError> {
        let (mut found, unknown) = self.known.find(names);
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
        self.known.add(unknown, &read);
        found.extend(read);
        Ok(found)
    }
}
