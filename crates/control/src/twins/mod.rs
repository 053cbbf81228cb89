//! Twins of devices: the values that a device is to have (desired), and those that it reports.
//!
//! Both are in the tables. A change of the desired values is published to the device, and so are
//! the desired values whenever the device subscribes, so that a message that was lost is of no
//! consequence. What devices report is taken by a part of the node with a durable session, which
//! settles a message once the tables have it.
//!
//! * `message`: topics and payloads
//! * `why`: what `why` reports of a device
//! * `task`: publishes desired values and takes reports

mod message;
mod task;
mod why;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use martlet_registry::{
    Actor, Device, DeviceRef, Expected, Refused, TableChange, TwinReport, Visibility,
};
pub use martlet_registry::{
    GroupTwin, TWIN_BYTES_MAX, TWIN_DEPTH_MAX, Twin, TwinChange, TwinValues, Values,
};
use tokio::sync::Notify;

use crate::devices::DeviceName;
use crate::event_outbox::notice_of;
use crate::iotflow::Catalogue;
use crate::misread::LastMisread;
use crate::shared_registry::{SharedRegistry, SharedRegistryError};
use crate::wall_clock::now_signed_ms;
pub use task::keep;

/// Devices whose desired values are to be published, at most. Beyond that they are looked for among
/// all that are connected.
const DUE_MAX: usize = 100_000;

/// Names a device: its tenant and id.
type DeviceKey = (u32, String);

/// The twins of a node. Each call is one use case: it is done as a whole or not at all.
#[derive(Debug)]
pub struct Twins {
    tables: Arc<SharedRegistry>,
    catalogue: Arc<Catalogue>,
    due: Mutex<Due>,
    /// There is something to publish.
    changed: Notify,
    /// Reports that were not applied.
    misread: LastMisread,
}

/// Devices whose desired values are to be published.
#[derive(Debug, Default)]
struct Due {
    /// With the hops of their messages: a rule may have asked for them.
    devices: HashMap<DeviceKey, u8>,
    /// All that are connected.
    all: bool,
}

impl Twins {
    /// Twins of these tables. Topics of devices of the type `iotflow` are those of the catalogue.
    pub fn new(tables: Arc<SharedRegistry>, catalogue: Arc<Catalogue>) -> Self {
        Self {
            tables,
            catalogue,
            due: Mutex::default(),
            changed: Notify::new(),
            misread: LastMisread::default(),
        }
    }

    /// The twin of a device.
    ///
    /// # Errors
    /// There is no such device, or the tables cannot be read.
    pub async fn show(
        &self,
        visibility: Visibility,
        device: DeviceName,
    ) -> Result<Twin, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.twin(&visibility, device.of()).await })
        });
        read.await
    }

    /// Changes the desired values of a device, and publishes them to it. `expected`: the version
    /// that they must have.
    ///
    /// # Errors
    /// See [`Registry::change_desired`](martlet_registry::Registry::change_desired).
    pub async fn change_desired(
        &self,
        actor: Actor,
        device: DeviceName,
        change: TwinChange,
        expected: Expected,
    ) -> Result<Twin, SharedRegistryError> {
        let changed = self.tables.note(move |registry| {
            Box::pin(async move {
                let device = device.of();
                registry
                    .change_desired(&actor, device, &change, expected)
                    .await
            })
        });
        let twin = changed.await?;
        let version = twin.desired.version;
        self.report_change(twin.tenant, &twin.device, "desired", version, 0);
        self.make_due([(twin.tenant, twin.device.clone())], 0);
        self.changed.notify_one();
        Ok(twin)
    }

    /// The desired values of a group.
    ///
    /// # Errors
    /// There is no such group, or the tables cannot be read.
    pub async fn of_group(
        &self,
        visibility: Visibility,
        group: String,
    ) -> Result<GroupTwin, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.group_twin(&visibility, &group).await })
        });
        read.await
    }

    /// Changes the desired values of a group, and publishes them to its devices.
    ///
    /// # Errors
    /// See [`Registry::change_group_twin`](martlet_registry::Registry::change_group_twin).
    pub async fn change_of_group(
        &self,
        actor: Actor,
        group: String,
        change: TwinChange,
        expected: Expected,
    ) -> Result<GroupTwin, SharedRegistryError> {
        let changed = self.tables.note(move |registry| {
            Box::pin(async move {
                registry
                    .change_group_twin(&actor, &group, &change, expected)
                    .await
            })
        });
        let (twin, devices) = changed.await?;
        self.make_due(devices, 0);
        self.changed.notify_one();
        Ok(twin)
    }

    /// Notes what a device reports: a merge patch of what it has reported before. Returns its twin.
    ///
    /// # Errors
    /// There is no such device, there would be too much of its values, or the tables cannot be
    /// changed.
    pub async fn report(
        &self,
        device: &Device,
        patch: Values,
    ) -> Result<Twin, SharedRegistryError> {
        let report = TwinReport {
            tenant: device.tenant,
            device: device.id.clone(),
            patch,
            at_ms: now_signed_ms(),
            hops: 0,
        };
        let number = device.number;
        let changed = self.tables.note(move |registry| {
            Box::pin(async move {
                let outcomes = registry.note_reported(&[report]).await?;
                if let Some(Err(why)) = outcomes.into_iter().next() {
                    return Err(Refused::Twin(why).into());
                }
                registry
                    .twin(&Visibility::All, DeviceRef::Number(number))
                    .await
            })
        });
        let twin = changed.await?;
        let version = twin.reported.version;
        self.report_change(twin.tenant, &twin.device, "reported", version, 0);
        Ok(twin)
    }

    /// Reports to readers of events that values have changed, as the consequence of a message with
    /// these hops.
    fn report_change(&self, tenant: u32, device: &str, side: &'static str, version: i64, hops: u8) {
        let change = TableChange::Twin {
            tenant,
            device,
            side,
            version,
            hops,
        };
        self.tables.control().report_event(notice_of(change));
    }

    /// The desired values of these devices are to be published, with these hops.
    fn make_due(&self, devices: impl IntoIterator<Item = DeviceKey>, hops: u8) {
        let mut due = self.due();
        for device in devices {
            if due.devices.len() >= DUE_MAX {
                due.all = true;
                return;
            }
            let known = due.devices.entry(device).or_default();
            *known = hops.max(*known);
        }
    }

    fn make_all_due(&self) {
        self.due().all = true;
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
