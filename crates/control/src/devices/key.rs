//! The device whose secret a caller presents, by the digest of the secret. MQTT clients log in by
//! another way, which asks for a name too.

use martlet_registry::{Device, Status};

use super::{DeviceError, Devices};
use crate::wall_clock::now_signed_ms;

/// Why a secret is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum KeyRefusal {
    /// No device has it.
    #[error("the key is not that of a device")]
    Unknown,
    /// The credential of this device has expired or is revoked.
    #[error("the key has expired or is revoked")]
    Ended(Box<Device>),
    /// This device is not active.
    #[error("the device is {}", .0.status)]
    Inactive(Box<Device>),
    /// That cannot be looked up now.
    #[error(transparent)]
    Unavailable(#[from] DeviceError),
}

impl Devices {
    /// The device with this secret.
    ///
    /// # Errors
    /// It is not valid, its device is not active, or the tables cannot be read.
    pub async fn by_secret(&self, secret: &[u8]) -> Result<Device, KeyRefusal> {
        let Ok(secret) = String::from_utf8(secret.to_vec()) else {
            return Err(KeyRefusal::Unknown);
        };
        let found = self.tables.read(move |registry| {
            Box::pin(async move { registry.device_of_secret(&secret).await })
        });
        let found = found.await.map_err(DeviceError::from)?;
        let Some((device, credential)) = found else {
            return Err(KeyRefusal::Unknown);
        };
        if !credential.is_good(now_signed_ms()) {
            return Err(KeyRefusal::Ended(Box::new(device)));
        }
        match device.status {
            Status::Active => Ok(device),
            Status::Inactive | Status::Maintenance => Err(KeyRefusal::Inactive(Box::new(device))),
        }
    }
}
