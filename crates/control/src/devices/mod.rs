//! Devices that log in with their secret or register with a provisioning key. What callers do with
//! devices is in [`crate::use_cases`].
//!
//! * `error`: why something is not done
//! * `key`: the device whose secret a caller presents
//! * `name`: what names a device
//! * `not_added`: devices that were not added by a provisioning key, for the journal

mod error;
mod key;
mod not_added;

pub use error::DeviceError;
pub use key::KeyRefusal;

use std::sync::Arc;

use martlet_registry::{
    Activity, Actor, Device, DeviceRef, NewDevice, Provisioned, ProvisioningKeyRef,
    RepeatableRequest, Visibility,
};

use crate::activity::report_active;
use crate::shared_registry::SharedRegistry;

/// Fingerprint and end of the first certificate of a text in PEM: what is kept of the certificate
/// of a device. The end is in milliseconds since the Unix epoch. None: there is no certificate in
/// it.
pub fn certificate_of_pem(text: &str) -> Option<(String, i64)> {
    let facts = martlet_certificates::Facts::of_pem(text)?;
    let ends_ms = facts.not_after_secs.saturating_mul(1_000);
    Some((facts.fingerprint, ends_ms))
}

type Done<T> = Result<T, DeviceError>;

/// The devices of a node. Each call is done as a whole or not at all, and what is changed is in
/// force when the call returns.
#[derive(Clone)]
pub struct Devices {
    tables: Arc<SharedRegistry>,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").finish_non_exhaustive()
    }
}

impl Devices {
    /// Devices of these tables.
    pub fn new(tables: Arc<SharedRegistry>) -> Self {
        Self { tables }
    }

    /// Adds a device by a provisioning key, which has its type, team and groups. With a request
    /// that came before, the device gets another secret as long as it has not used the first one.
    ///
    /// # Errors
    /// The key is not valid, has added all of its devices or does not permit the id, the device
    /// exists, or something about it cannot be.
    pub async fn provision_by_key(
        &self,
        actor: Actor,
        key: ProvisioningKeyRef,
        new: NewDevice,
        request: Option<RepeatableRequest>,
    ) -> Done<Provisioned> {
        if request.is_some() {
            // Whether the device has used what it was given.
            self.tables.write_uses().await?;
        }
        let created = self.tables.change(move |registry| {
            Box::pin(async move {
                let request = request.as_ref();
                registry.provision(&actor, key, new, request).await
            })
        });
        Ok(created.await?)
    }

    /// Checks a provisioning key, and answers its id.
    ///
    /// # Errors
    /// There is no such key, or it has expired or was revoked.
    pub async fn check_provisioning_key(&self, key: String) -> Done<String> {
        let found = self.tables.read(move |registry| {
            Box::pin(async move { registry.provisioning_key_of(&key).await })
        });
        Ok(found.await?.id)
    }

    /// A device.
    ///
    /// # Errors
    /// There is none.
    pub async fn read(&self, visibility: Visibility, name: DeviceName) -> Done<Device> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.device(&visibility, name.of()).await })
        });
        Ok(read.await?)
    }

    /// Notes that a device has sent something now.
    ///
    /// # Errors
    /// The tables cannot be changed.
    pub async fn note_activity(&self, number: i64, activity: Activity, at_ms: i64) -> Done<()> {
        let noted = self.tables.note(move |registry| {
            Box::pin(async move { registry.note_activity(number, activity, at_ms).await })
        });
        if let Some(active) = noted.await? {
            report_active(self.tables.control(), &active);
        }
        Ok(())
    }
}

/// Name of a device: its id or its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// Id of the device, within the team that is asked for or else the common tenant.
    Id(String),
    /// Number of the device.
    Number(i64),
}

impl DeviceName {
    pub(crate) fn of(&self) -> DeviceRef<'_> {
        match self {
            Self::Id(id) => DeviceRef::Id(id),
            Self::Number(number) => DeviceRef::Number(*number),
        }
    }
}

impl From<String> for DeviceName {
    fn from(id: String) -> Self {
        Self::Id(id)
    }
}
