//! Devices that register by a name that no other device has. Their id is their number, and their
//! secret has the length that their programs expect.

use crate::database::Work;
use crate::devices::{AddedDevice, DeviceSecret, NewDevice, insert_one};
use crate::secret::{DigestKey, Secret};
use crate::sql::{Fault, clean};
use crate::{Actor, Registry, RegistryError};

/// Letters and digits of the secret of a device that registers.
const SECRET_LEN: usize = 32;

impl Registry {
    /// Adds a device whose name no other device of its team has. Its id is its number, or where
    /// another device has that id, a generated one. Its secret has 32 letters and digits.
    ///
    /// # Errors
    /// Another device has the name, or something about the device cannot be.
    pub async fn register_device(
        &mut self,
        actor: &Actor,
        device: NewDevice,
    ) -> Result<AddedDevice, RegistryError> {
        let key = self.digest_key().await?;
        let mut work = self.begin(actor).await?;
        let done = register_one(&mut work, &key, device).await;
        work.end(done).await
    }
}

async fn register_one(
    work: &mut Work<'_>,
    key: &DigestKey,
    device: NewDevice,
) -> Result<AddedDevice, Fault> {
    let name = device.name.as_deref().unwrap_or_default();
    if has_name(work, name).await? {
        return Err(RegistryError::NameTaken(name.to_owned()).into());
    }
    let secret = Secret::of_length(SECRET_LEN)?;
    let number = work.next_number().await?;
    let with_id = |id: Option<String>| NewDevice {
        id,
        secret: DeviceSecret::Given(secret.clone()),
        ..device.clone()
    };
    let added = match insert_one(work, key, with_id(Some(number.to_string()))).await {
        // An older device has these digits as its id. Nothing is written of this one.
        Err(Fault::Told(RegistryError::Exists(_))) => insert_one(work, key, with_id(None)).await?,
        added => added?,
    };
    Ok(AddedDevice {
        secret: Some(secret),
        ..added
    })
}

/// Whether a device of the caller's team, or of all teams that own no tenant, has this name.
async fn has_name(work: &mut Work<'_>, name: &str) -> Result<bool, Fault> {
    let mut sql = work.sql("SELECT number FROM devices WHERE name = ");
    sql.bind(clean(name)).push(" AND deleted_ms = 0 AND ");
    match work.actor.visibility.team() {
        Some(team) => sql.push("team = ").bind(team.to_owned()),
        None => sql.push("tenant = 0"),
    };
    sql.push(" LIMIT 1");
    Ok(sql.first(&mut work.all).await?.is_some())
}
