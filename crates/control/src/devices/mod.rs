//! What callers do with devices, their credentials and their configuration. The native API, the
//! routes of other systems and commands ask here and word the outcome each in their way.
//!
//! * `error`: why something is not done
//! * `key`: the device whose secret a caller presents

mod error;
mod key;

pub use error::DeviceError;
pub use key::KeyRefusal;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use martlet_registry::{
    Activity, Actor, Credential, DataType, Device, DeviceChange, DeviceCounts, DeviceFilter,
    DeviceOrder, DeviceRef, KindCount, NewCredential, NewDevice, Owner, Page, PageRequest,
    PartCounts, Provisioned, ProvisioningKeyRef, Registry, RegistryError, RepeatableRequest, Scope,
    Secret, Setting, Status,
};

use crate::activity::tell_active;
use crate::tables::Tables;

/// What names a device: its id or its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// Its id, within the team that is asked for or else the common tenant.
    Id(String),
    /// Its number.
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

/// A credential to be added.
#[derive(Clone, Debug)]
pub struct CredentialToAdd {
    /// For people.
    pub name: String,
    /// What it is.
    pub credential: NewCredential,
    /// When it ends, in milliseconds since the Unix epoch; 0: never.
    pub expires_ms: i64,
}

/// Fingerprint and end of the first certificate of a text in PEM: what is kept of the certificate
/// of a device. The end is in milliseconds since the Unix epoch. None: there is no certificate in
/// it.
pub fn certificate_of_pem(text: &str) -> Option<(String, i64)> {
    let facts = martlet_certificates::Facts::of_pem(text)?;
    let ends_ms = facts.not_after_secs.saturating_mul(1_000);
    Some((facts.fingerprint, ends_ms))
}

/// A key of a device's configuration to be set.
#[derive(Clone, Debug)]
pub struct SettingToSet {
    /// The key.
    pub key: String,
    /// As text.
    pub value: String,
    /// What the text is.
    pub data_type: DataType,
    /// It is active.
    pub is_active: bool,
    /// The revision that it must have; 0: it must not exist.
    pub expected_revision: Option<i64>,
}

/// Numbers about devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceStatistics {
    /// How many devices there are.
    pub counts: DeviceCounts,
    /// How many are connected, or were heard of since the given time; active ones only.
    pub heard: u64,
    /// The number of devices of each kind.
    pub kinds: Vec<KindCount>,
    /// Their credentials and configurations.
    pub parts: PartCounts,
}

type Done<T> = Result<T, DeviceError>;

/// The devices of a node. Each call is one use case: it is done as a whole or not at all, and what
/// is changed is in force when the call returns.
#[derive(Clone)]
pub struct Devices {
    tables: Arc<Tables>,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").finish_non_exhaustive()
    }
}

impl Devices {
    /// Those of these tables.
    pub fn new(tables: Arc<Tables>) -> Self {
        Self { tables }
    }

    /// A page of devices.
    ///
    /// # Errors
    /// The cursor is none, or the tables cannot be read.
    pub async fn list(
        &self,
        scope: Scope,
        filter: DeviceFilter,
        order: DeviceOrder,
        page: PageRequest,
    ) -> Done<Page<Device>> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.list_devices(&scope, &filter, order, &page).await })
        });
        Ok(read.await?)
    }

    /// Devices from a place of the list on, and how many there are in all.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn list_from(
        &self,
        scope: Scope,
        filter: DeviceFilter,
        order: DeviceOrder,
        (offset, limit): (u64, u64),
    ) -> Done<(Vec<Device>, u64)> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let place = (offset, limit);
                registry.devices_from(&scope, &filter, order, place).await
            })
        });
        Ok(read.await?)
    }

    /// How many devices there are.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn count(&self, scope: Scope) -> Done<DeviceCounts> {
        let read = self
            .tables
            .read(move |registry| Box::pin(async move { registry.device_counts(&scope).await }));
        Ok(read.await?)
    }

    /// How many devices there are, how many were heard of since a time (milliseconds since the Unix
    /// epoch), and what belongs to them.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn statistics(&self, scope: Scope, heard_since_ms: i64) -> Done<DeviceStatistics> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let heard = DeviceFilter {
                    status: Some(Status::Active),
                    heard_since_ms: Some(heard_since_ms),
                    ..DeviceFilter::default()
                };
                Ok(DeviceStatistics {
                    counts: registry.device_counts(&scope).await?,
                    heard: registry.count_devices(&scope, &heard).await?,
                    kinds: registry.device_kinds(&scope).await?,
                    parts: registry.device_parts(&scope).await?,
                })
            })
        });
        Ok(read.await?)
    }

    /// Adds a device; its secret, if one was made up, is told this once.
    ///
    /// # Errors
    /// There is a device or a user of that id, or something about it cannot be.
    pub async fn create(&self, actor: Actor, new: NewDevice) -> Done<(Device, Option<Secret>)> {
        let created = self.tables.change(move |registry| {
            Box::pin(async move {
                let added = registry.create_device(&actor, new).await?;
                let device = DeviceRef::Number(added.number);
                let device = registry.device(&actor.scope, device).await?;
                Ok((device, added.secret))
            })
        });
        Ok(created.await?)
    }

    /// Adds a device whose name no other one has, with its number as id and a secret of 32 letters
    /// and digits, which is told this once. With `kind_is_type`, its kind is its type too if there
    /// is such a type.
    ///
    /// # Errors
    /// Another device has the name, or something about the device cannot be.
    pub async fn register(
        &self,
        actor: Actor,
        new: NewDevice,
        kind_is_type: bool,
    ) -> Done<(Device, Option<Secret>)> {
        let registered = self.tables.change(move |registry| {
            Box::pin(async move {
                let new = with_type(registry, new, kind_is_type).await?;
                let added = registry.register_device(&actor, new).await?;
                let device = DeviceRef::Number(added.number);
                let device = registry.device(&actor.scope, device).await?;
                Ok((device, added.secret))
            })
        });
        Ok(registered.await?)
    }

    /// Adds a device with a generated id, as [`Devices::create`]. With `kind_is_type`, its kind is
    /// its type too if there is such a type.
    ///
    /// # Errors
    /// Something about the device cannot be.
    pub async fn provision(
        &self,
        actor: Actor,
        new: NewDevice,
        kind_is_type: bool,
    ) -> Done<(Device, Option<Secret>)> {
        let added = self.tables.change(move |registry| {
            Box::pin(async move {
                let new = with_type(registry, new, kind_is_type).await?;
                let added = registry.create_device(&actor, new).await?;
                let device = DeviceRef::Number(added.number);
                let device = registry.device(&actor.scope, device).await?;
                Ok((device, added.secret))
            })
        });
        Ok(added.await?)
    }

    /// Adds a device by a provisioning key, which says of which type, team and groups it is. With a
    /// request that came before, the device gets another secret as long as it has not used the
    /// first one.
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
        let made = self.tables.change(move |registry| {
            Box::pin(async move {
                let request = request.as_ref();
                registry.provision(&actor, key, new, request).await
            })
        });
        Ok(made.await?)
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
    pub async fn read(&self, scope: Scope, name: DeviceName) -> Done<Device> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.device(&scope, name.of()).await })
        });
        Ok(read.await?)
    }

    /// Changes a device, which is looked for among those that `within` shows; the actor may see
    /// more, as where the device goes to another team. The answer is what it is then.
    ///
    /// # Errors
    /// There is no such device, it has another revision than expected, or something about the
    /// change cannot be.
    pub async fn change(
        &self,
        actor: Actor,
        within: Scope,
        name: DeviceName,
        change: DeviceChange,
        expected_revision: Option<i64>,
    ) -> Done<Device> {
        let changed = self.tables.change(move |registry| {
            Box::pin(async move {
                let number = registry.device(&within, name.of()).await?.number;
                let device = DeviceRef::Number(number);
                registry
                    .change_device(&actor, device, change, expected_revision)
                    .await
            })
        });
        Ok(changed.await?)
    }

    /// Deletes a device; it can be restored.
    ///
    /// # Errors
    /// There is no such device, or it has another revision than expected.
    pub async fn delete(
        &self,
        actor: Actor,
        name: DeviceName,
        expected_revision: Option<i64>,
    ) -> Done<()> {
        let deleted = self.tables.change(move |registry| {
            Box::pin(async move {
                let device = name.of();
                registry
                    .delete_device(&actor, device, expected_revision)
                    .await
            })
        });
        Ok(deleted.await?)
    }

    /// Restores a deleted device.
    ///
    /// # Errors
    /// There is no such device that is deleted, or its owner has too many others.
    pub async fn restore(&self, actor: Actor, name: DeviceName) -> Done<Device> {
        let restored = self.tables.change(move |registry| {
            Box::pin(async move { registry.restore_device(&actor, name.of()).await })
        });
        Ok(restored.await?)
    }

    /// Removes a device for good; its id is free then.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn purge(&self, actor: Actor, name: DeviceName) -> Done<()> {
        let purged = self.tables.change(move |registry| {
            Box::pin(async move { registry.purge_device(&actor, name.of()).await })
        });
        Ok(purged.await?)
    }

    /// The credentials of a device, oldest first.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn credentials(&self, scope: Scope, name: DeviceName) -> Done<Vec<Credential>> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.credentials(&scope, name.of()).await })
        });
        Ok(read.await?)
    }

    /// Adds a credential to those of a device; a secret that is made up is told this once.
    ///
    /// # Errors
    /// There is no such device, it has too many, or this very credential exists already.
    pub async fn add_credential(
        &self,
        actor: Actor,
        name: DeviceName,
        new: CredentialToAdd,
    ) -> Done<(Credential, Option<Secret>)> {
        let added = self.tables.change(move |registry| {
            Box::pin(async move {
                let CredentialToAdd {
                    name: label,
                    credential,
                    expires_ms,
                } = new;
                let device = name.of();
                registry
                    .add_credential(&actor, device, &label, credential, expires_ms)
                    .await
            })
        });
        Ok(added.await?)
    }

    /// Gives a device another secret, which is told this once. The old ones remain valid for
    /// `grace`.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn renew_secret(
        &self,
        actor: Actor,
        name: DeviceName,
        grace: Duration,
    ) -> Done<Secret> {
        let renewed = self.tables.change(move |registry| {
            Box::pin(async move { registry.rotate_secret(&actor, name.of(), grace).await })
        });
        Ok(renewed.await?)
    }

    /// Revokes a credential.
    ///
    /// # Errors
    /// The device has no such credential that is valid.
    pub async fn revoke_credential(
        &self,
        actor: Actor,
        name: DeviceName,
        credential: String,
    ) -> Done<()> {
        let revoked = self.tables.change(move |registry| {
            Box::pin(async move {
                let device = name.of();
                registry
                    .revoke_credential(&actor, device, &credential)
                    .await
            })
        });
        Ok(revoked.await?)
    }

    /// The configuration of a device, by key.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn configuration(&self, scope: Scope, name: DeviceName) -> Done<Vec<Setting>> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.configuration(&scope, name.of()).await })
        });
        Ok(read.await?)
    }

    /// How many active keys the configuration of each of these devices has, by number; devices
    /// without any are left out.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn active_settings(&self, devices: Vec<i64>) -> Done<HashMap<i64, u64>> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.active_settings(&devices).await })
        });
        Ok(read.await?)
    }

    /// Sets a key of a device's configuration.
    ///
    /// # Errors
    /// There is no such device, the value is not of its type, or the key has another revision.
    pub async fn set_configuration(
        &self,
        actor: Actor,
        name: DeviceName,
        new: SettingToSet,
    ) -> Done<Setting> {
        let set = self.tables.change(move |registry| {
            Box::pin(async move {
                let SettingToSet {
                    key,
                    value,
                    data_type,
                    is_active,
                    expected_revision,
                } = new;
                let device = name.of();
                registry
                    .set_configuration(
                        &actor,
                        device,
                        &key,
                        &value,
                        data_type,
                        is_active,
                        expected_revision,
                    )
                    .await
            })
        });
        Ok(set.await?)
    }

    /// Removes a key of a device's configuration.
    ///
    /// # Errors
    /// There is no such device or key.
    pub async fn remove_configuration(
        &self,
        actor: Actor,
        name: DeviceName,
        key: String,
    ) -> Done<()> {
        let removed = self.tables.change(move |registry| {
            Box::pin(async move {
                let device = name.of();
                registry.remove_configuration(&actor, device, &key).await
            })
        });
        Ok(removed.await?)
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
            tell_active(self.tables.control(), &active);
        }
        Ok(())
    }
}

/// A device whose kind is its type too, if that is asked for and there is such a type.
async fn with_type(
    registry: &mut Registry,
    mut new: NewDevice,
    kind_is_type: bool,
) -> Result<NewDevice, RegistryError> {
    if kind_is_type {
        match registry.rule_set(Owner::DeviceType, &new.kind).await {
            Ok(_) => new.device_type.clone_from(&new.kind),
            Err(RegistryError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(new)
}
